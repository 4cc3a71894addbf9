// UTF-8 bytes -> string. Total: what is no UTF-8 becomes U+FFFD, one per offending byte, never a trap or a read past the end.

const REPLACEMENT: u16 = 0xfffd;
const INVALID: u32 = 0xffffffff;

/** Decodes `size` bytes at `ptr`; overlong forms, surrogates and code points past U+10FFFF are not UTF-8. */
export function readText(ptr: usize, size: usize): string {
  const end = ptr + size;
  const units = new StaticArray<u16>(<i32>size); // never more code units than bytes
  let count = 0;
  while (ptr < end) {
    const length = sequenceLength(load<u8>(ptr));
    const point = readSequence(ptr, length, end);
    if (point === INVALID) {
      units[count++] = REPLACEMENT;
      ptr++;
      continue;
    }
    if (point >= 0x10000) {
      units[count++] = <u16>(0xd800 + ((point - 0x10000) >> 10));
      units[count++] = <u16>(0xdc00 + ((point - 0x10000) & 0x3ff));
    } else {
      units[count++] = <u16>point;
    }
    ptr += length;
  }
  return String.UTF16.decodeUnsafe(changetype<usize>(units), count << 1);
}

/** How many bytes a sequence has by its first byte; 0 when none starts so. */
function sequenceLength(first: u32): u32 {
  if (first < 0x80) return 1;
  if (first < 0xc2) return 0;
  if (first < 0xe0) return 2;
  if (first < 0xf0) return 3;
  return first < 0xf5 ? 4 : 0;
}

/** The code point of the sequence of `length` bytes at `ptr`; INVALID when it is cut short or not well formed. */
function readSequence(ptr: usize, length: u32, end: usize): u32 {
  if (length === 0 || <usize>length > end - ptr) return INVALID;
  const first = <u32>load<u8>(ptr);
  if (length === 1) return first;
  let point = first & (0x7f >> length);
  for (let i: u32 = 1; i < length; i++) {
    const next = <u32>load<u8>(ptr + i);
    if ((next & 0xc0) !== 0x80) return INVALID;
    point = (point << 6) | (next & 0x3f);
  }
  const isOverlong = (length === 3 && point < 0x800) || (length === 4 && point < 0x10000);
  const isSurrogate = point >= 0xd800 && point < 0xe000;
  return isOverlong || isSurrogate || point > 0x10ffff ? INVALID : point;
}
