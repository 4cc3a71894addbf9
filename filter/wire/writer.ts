// Writer: bytes that are built up front to back. Cold path only.

import { copyOf } from "./bytes.ts";

export class Writer {
  length: i32 = 0;
  private bytes: StaticArray<u8> = new StaticArray<u8>(256);

  private room(size: i32): usize {
    const wanted = this.length + size;
    if (wanted > this.bytes.length) {
      const grown = new StaticArray<u8>(max(wanted, this.bytes.length * 2));
      memory.copy(changetype<usize>(grown), changetype<usize>(this.bytes), this.length);
      this.bytes = grown;
    }
    const at = changetype<usize>(this.bytes) + this.length;
    this.length = wanted;
    return at;
  }

  u8(value: u8): void {
    store<u8>(this.room(1), value);
  }

  u16(value: u16): void {
    store<u16>(this.room(2), value);
  }

  u32(value: u32): void {
    store<u32>(this.room(4), value);
  }

  /** Writes `value` over the 4 bytes at `at`, which are there already. */
  patchU32(at: i32, value: u32): void {
    store<u32>(changetype<usize>(this.bytes) + at, value);
  }

  copy(ptr: usize, size: i32): void {
    memory.copy(this.room(size), ptr, size);
  }

  zeros(count: i32): void {
    memory.fill(this.room(count), 0, count);
  }

  /** Base-128 varint, as in protobuf. */
  varint(value: u32): void {
    while (value >= 0x80) {
      this.u8(<u8>(value | 0x80));
      value >>= 7;
    }
    this.u8(<u8>value);
  }

  /** UTF-8 of `text`, which must be well formed. */
  text(text: string): void {
    const size = <i32>String.UTF8.byteLength(text);
    String.UTF8.encodeUnsafe(changetype<usize>(text), text.length, this.room(size));
  }

  /** u8 length and UTF-8 of a text of at most 255 bytes. */
  shortText(text: string): void {
    this.u8(<u8>String.UTF8.byteLength(text));
    this.text(text);
  }

  /** Where the bytes are, until the next write. */
  get ptr(): usize {
    return changetype<usize>(this.bytes);
  }

  /** Goes back to when only so much was written. */
  cut(length: i32): void {
    this.length = length;
  }

  /** A copy of what was written, of just that length. */
  take(): StaticArray<u8> {
    return copyOf(this.ptr, this.length);
  }
}
