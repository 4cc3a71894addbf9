// Base64, standard alphabet (RFC 4648 section 4). Written with padding, read with or without.

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const PAD: u8 = 0x3d;
const INVALID: u8 = 0xff;

/** Byte -> its six bits, or INVALID. */
const SIX_BITS = buildTable();

function buildTable(): StaticArray<u8> {
  const table = new StaticArray<u8>(256);
  for (let i = 0; i < 256; i++) table[i] = INVALID;
  for (let i = 0; i < 64; i++) table[ALPHABET.charCodeAt(i)] = <u8>i;
  return table;
}

/** Encodes bytes as base64 text in UTF-8, ready to be a header value. */
export function encodeBase64(ptr: usize, size: usize): ArrayBuffer {
  const out = new ArrayBuffer(<i32>(((size + 2) / 3) * 4));
  let to = changetype<usize>(out);
  for (let i: usize = 0; i < size; i += 3) {
    const left = size - i;
    const second = left > 1 ? <u32>load<u8>(ptr + i, 1) : 0;
    const third = left > 2 ? <u32>load<u8>(ptr + i, 2) : 0;
    const bits = ((<u32>load<u8>(ptr + i)) << 16) | (second << 8) | third;
    store<u8>(to, <u8>ALPHABET.charCodeAt(bits >> 18));
    store<u8>(to + 1, <u8>ALPHABET.charCodeAt((bits >> 12) & 63));
    store<u8>(to + 2, left > 1 ? <u8>ALPHABET.charCodeAt((bits >> 6) & 63) : PAD);
    store<u8>(to + 3, left > 2 ? <u8>ALPHABET.charCodeAt(bits & 63) : PAD);
    to += 4;
  }
  return out;
}

/** Most bytes that `size` characters can stand for: the room that decodeBase64 needs. */
export function decodedSize(size: usize): usize {
  return (size >> 2) * 3 + 3;
}

/** Decodes `size` characters at `ptr` to `to`; the number of bytes, or -1 when the text is no base64. */
export function decodeBase64(ptr: usize, size: usize, to: usize): i32 {
  let end = ptr + size;
  if (end > ptr && load<u8>(end - 1) === PAD) end--;
  if (end > ptr && load<u8>(end - 1) === PAD) end--;
  if (((end - ptr) & 3) === 1) return -1;
  const start = to;
  let bits: u32 = 0;
  let held = 0; // bits in hand
  for (; ptr < end; ptr++) {
    const six = SIX_BITS[load<u8>(ptr)];
    if (six === INVALID) return -1;
    bits = (bits << 6) | six;
    held += 6;
    if (held >= 8) {
      held -= 8;
      store<u8>(to++, <u8>(bits >> held));
    }
  }
  return <i32>(to - start);
}
