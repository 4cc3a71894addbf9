// Bytes that stay: copies of what is in the arena or in a string. Cold path only.

/** Whether the `size` bytes at `ptr` are that text. */
export function isText(ptr: usize, size: usize, text: ArrayBuffer): bool {
  return size === <usize>text.byteLength && memory.compare(ptr, changetype<usize>(text), size) === 0;
}

/** A copy of the `size` bytes at `ptr`. */
export function copyOf(ptr: usize, size: usize): StaticArray<u8> {
  const copy = new StaticArray<u8>(<i32>size);
  memory.copy(changetype<usize>(copy), ptr, size);
  return copy;
}

/** UTF-8 of `text`. */
export function bytesOf(text: string): StaticArray<u8> {
  const encoded = String.UTF8.encode(text);
  return copyOf(changetype<usize>(encoded), encoded.byteLength);
}
