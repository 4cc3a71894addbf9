// Hexadecimal: two digits for each byte, in small letters.

const DIGITS = "0123456789abcdef";

export function encodeHex(ptr: usize, size: usize): string {
  let text = "";
  for (let i: usize = 0; i < size; i++) {
    const byte = <i32>load<u8>(ptr + i);
    text += DIGITS.charAt(byte >> 4) + DIGITS.charAt(byte & 15);
  }
  return text;
}
