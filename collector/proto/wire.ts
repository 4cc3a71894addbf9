// Protobuf wire format, read in place: no copies, no recursion, no exceptions.
// https://protobuf.dev/programming-guides/encoding/
//
//   field: varint tag (number << 3 | wire type), then by wire type
//     0 varint   1 eight bytes   2 varint length and that many bytes   5 four bytes
//
// Groups (types 3 and 4) are not part of proto3 and count as malformed.

const VARINT = 0;
const FIXED_64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED_32 = 5;

const MAX_VARINT_BYTES = 10;
const TWO_TO_32 = 2 ** 32;
const NO_BYTES = Buffer.alloc(0);

/** The tag of a field that holds a varint: bool, enum, int32, uint64. */
export function varintTag(field: number): number {
  return field * 8 + VARINT;
}

/** The tag of a field that holds eight bytes: double, fixed64. */
export function fixed64Tag(field: number): number {
  return field * 8 + FIXED_64;
}

/** The tag of a field that holds bytes: string, message, map entry, packed list. */
export function bytesTag(field: number): number {
  return field * 8 + LENGTH_DELIMITED;
}

/**
 * Walks the fields of one message: `while (reader.next()) switch (reader.tag) ...`. A field that nobody asks for is skipped by
 * that; a known number with another wire type has another tag and so is skipped too, as protobuf demands.
 * Broken bytes end the walk and set `isMalformed`; look at it after the loop. One reader per nesting level, reused.
 */
export class WireReader {
  bytes: Buffer = NO_BYTES;
  /** Of the current field: number << 3 | wire type. */
  tag = 0;
  /** Of a varint field: its value in two halves, each a signed 32-bit integer. */
  low = 0;
  high = 0;
  /** Of any other field: where its value lies in `bytes`. */
  start = 0;
  stop = 0;
  isMalformed = false;
  private at = 0;
  private end = 0;

  /** Starts over on bytes[start, end), which must lie within the buffer. The bytes must not change while they are walked. */
  open(bytes: Buffer, start: number, end: number): void {
    this.bytes = bytes;
    this.at = start;
    this.end = end;
    this.isMalformed = false;
  }

  /** Where the next field begins: after `open` and after `next`. */
  get position(): number {
    return this.at;
  }

  /** Moves to the next field; false at the end, and at the first broken byte. */
  next(): boolean {
    if (this.at >= this.end) return false;
    const first = this.bytes[this.at] as number;
    if (first < 0x80) {
      // Fast: fields 1 to 15.
      this.at++;
      this.tag = first;
    } else {
      if (!this.readVarint() || this.high !== 0) return this.fail();
      this.tag = this.low >>> 0;
    }
    if (this.tag < 8) return this.fail(); // there is no field 0
    switch (this.tag & 7) {
      case VARINT:
        return this.readVarint() || this.fail();
      case LENGTH_DELIMITED:
        if (!this.readVarint() || this.high !== 0) return this.fail();
        return this.take(this.low >>> 0);
      case FIXED_64:
        return this.take(8);
      case FIXED_32:
        return this.take(4);
      default:
        return this.fail();
    }
  }

  /** Instead of `next`, where the bytes are a packed list of varints: moves to the next one. */
  nextPacked(): boolean {
    return this.at < this.end && (this.readVarint() || this.fail());
  }

  /** The varint as uint64; beyond 2^53 the nearest number. */
  uint64(): number {
    return (this.high >>> 0) * TWO_TO_32 + (this.low >>> 0);
  }

  /** The varint as int64; beyond 2^53 the nearest number. */
  int64(): number {
    return this.high * TWO_TO_32 + (this.low >>> 0);
  }

  /** The varint as sint32 or sint64, which alternate: 0, -1, 1, -2, ...; beyond 2^53 the nearest number. */
  sint64(): number {
    const half = (this.high >>> 0) * (TWO_TO_32 / 2) + (this.low >>> 1);
    return (this.low & 1) === 0 ? half : -half - 1;
  }

  /** The value of a field of eight bytes as double. */
  double(): number {
    return this.bytes.readDoubleLE(this.start);
  }

  /** The varint as bool. */
  bool(): boolean {
    return (this.low | this.high) !== 0;
  }

  /** The value as text; what is no UTF-8 in it reads U+FFFD. */
  text(): string {
    return this.start === this.stop ? "" : this.bytes.toString("utf8", this.start, this.stop);
  }

  private take(length: number): boolean {
    if (length > this.end - this.at) return this.fail();
    this.start = this.at;
    this.at += length;
    this.stop = this.at;
    return true;
  }

  private readVarint(): boolean {
    const first = this.at < this.end ? (this.bytes[this.at] as number) : 0x80;
    this.high = 0;
    if (first < 0x80) {
      // Fast: one byte.
      this.at++;
      this.low = first;
      return true;
    }
    return this.readLongVarint();
  }

  /** Slow: up to ten bytes of seven bits; bits beyond the 64th are dropped, as protobuf does. */
  private readLongVarint(): boolean {
    const limit = Math.min(this.end, this.at + MAX_VARINT_BYTES);
    let low = 0;
    let high = 0;
    let shift = 0;
    for (let at = this.at; at < limit; at++) {
      const byte = this.bytes[at] as number;
      const bits = byte & 0x7f;
      if (shift < 32) low |= bits << shift;
      if (shift === 28) high |= bits >>> 4;
      else if (shift > 28) high |= bits << (shift - 32);
      shift += 7;
      if (byte < 0x80) {
        this.at = at + 1;
        this.low = low;
        this.high = high;
        return true;
      }
    }
    return false;
  }

  private fail(): boolean {
    this.isMalformed = true;
    this.at = this.end;
    return false;
  }
}
