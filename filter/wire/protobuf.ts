// Protobuf wire format, read in place: a cursor over bytes that never reads past its end.
// https://protobuf.dev/programming-guides/encoding/

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
export const LENGTH_DELIMITED: u32 = 2;
const FIXED32: u32 = 5;

/**
 * Reads fields one after the other: `while (reader.next()) { reader.field, reader.wireType, reader.ptr, reader.size }`.
 * After the loop `isMalformed` says whether it stopped at broken bytes instead of the end.
 */
export class Reader {
  field: u32 = 0;
  wireType: u32 = 0;
  /** The payload of a length-delimited field, in place; for other wire types the bytes of the number. */
  ptr: usize = 0;
  size: usize = 0;
  isMalformed: bool = false;
  private at: usize = 0;
  private end: usize = 0;

  open(ptr: usize, size: usize): void {
    this.at = ptr;
    this.end = ptr + size;
    this.isMalformed = false;
  }

  next(): bool {
    if (this.at >= this.end || this.isMalformed) return false;
    const tag = this.varint();
    this.field = <u32>(tag >> 3);
    this.wireType = <u32>tag & 7;
    this.ptr = this.at;
    if (this.wireType === VARINT) {
      this.varint();
      this.size = this.at - this.ptr;
    } else if (this.wireType === LENGTH_DELIMITED) {
      const size = this.varint();
      this.ptr = this.at;
      this.take(size);
    } else if (this.wireType === FIXED64) {
      this.take(8);
    } else if (this.wireType === FIXED32) {
      this.take(4);
    } else {
      this.isMalformed = true; // groups are not used by any message read here
    }
    if (this.field === 0) this.isMalformed = true;
    return !this.isMalformed;
  }

  private take(size: u64): void {
    if (this.isMalformed || size > <u64>(this.end - this.at)) {
      this.isMalformed = true;
      return;
    }
    this.size = <usize>size;
    this.at += <usize>size;
  }

  private varint(): u64 {
    let value: u64 = 0;
    for (let shift = 0; shift < 64 && this.at < this.end; shift += 7) {
      const byte = <u64>load<u8>(this.at++);
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    this.isMalformed = true;
    return 0;
  }
}
