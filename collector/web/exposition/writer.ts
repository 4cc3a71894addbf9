// ByteWriter: bytes of an exposition, put one behind the other.

const MAX_INT32 = 2 ** 31 - 1;
const ZERO = 0x30;
const TWO_TO_7 = 2 ** 7;
const TWO_TO_28 = 2 ** 28;

/** Nothing here looks whether there is room: `ensure` it before. */
export class ByteWriter {
  bytes: Buffer;
  at = 0;

  constructor(size: number) {
    this.bytes = Buffer.allocUnsafeSlow(size);
  }

  /** Room for so many bytes more. */
  ensure(room: number): void {
    if (this.at + room <= this.bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(this.at + room, 2 * this.bytes.length));
    this.bytes.copy(grown, 0, 0, this.at);
    this.bytes = grown;
  }

  /** What was written; changed by what is written next after `at` was set back. */
  written(): Buffer {
    return this.bytes.subarray(0, this.at);
  }

  put(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.at);
    this.at += bytes.length;
  }

  putByte(byte: number): void {
    this.bytes[this.at++] = byte;
  }

  /** Once more what stands in [from, to). */
  repeat(from: number, to: number): void {
    this.bytes.copyWithin(this.at, from, to);
    this.at += to - from;
  }

  putText(text: string): void {
    this.at += this.bytes.write(text, this.at, "utf8");
  }

  /** As JavaScript writes it: `7`, `1248.5`, `1e+21`. */
  putNumber(value: number): void {
    if (value <= MAX_INT32 && value >= 0 && (value | 0) === value) {
      this.putDigits(value); // fast: nearly every count
    } else {
      this.at += this.bytes.write(String(value), this.at, "latin1");
    }
  }

  private putDigits(value: number): void {
    let digits = 1;
    for (let limit = 10; value >= limit && digits < 10; limit *= 10) digits++;
    this.at += digits;
    let rest = value;
    for (let at = this.at - 1; at >= this.at - digits; at--) {
      const tenth = (rest / 10) | 0;
      this.bytes[at] = ZERO + rest - tenth * 10;
      rest = tenth;
    }
  }

  /** A varint of protobuf; whole numbers from 0, exact up to 2^53. */
  putVarint(value: number): void {
    let rest = value;
    while (rest >= TWO_TO_28) {
      this.bytes[this.at++] = (rest % TWO_TO_7) | 0x80;
      rest = Math.floor(rest / TWO_TO_7);
    }
    let low = rest | 0; // fast: without division
    while (low > 0x7f) {
      this.bytes[this.at++] = (low & 0x7f) | 0x80;
      low >>>= 7;
    }
    this.bytes[this.at++] = low;
  }

  putDouble(value: number): void {
    this.at = this.bytes.writeDoubleLE(value, this.at);
  }
}

/** Bytes of `putVarint`. */
export function varintLength(value: number): number {
  let length = 1;
  for (let limit = TWO_TO_7; value >= limit; limit *= TWO_TO_7) length++;
  return length;
}
