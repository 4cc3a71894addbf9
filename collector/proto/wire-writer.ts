// Protobuf wire format, written from front to back into one buffer that is used again and again.
// https://protobuf.dev/programming-guides/encoding/

const MAX_VARINT_BYTES = 10;
const TWO_TO_32 = 2 ** 32;

/** Tags are those of wire.ts: number << 3 | wire type. */
export class WireWriter {
  private buffer = Buffer.allocUnsafe(16 * 1024);
  private at = 0;
  /** Where the contents of the messages begin that are open. */
  private readonly open: number[] = [];

  /** Forgets what was written. */
  reset(): void {
    this.at = 0;
    this.open.length = 0;
  }

  /** So many bytes were written; what `truncate` takes. */
  get length(): number {
    return this.at;
  }

  /** Forgets all that was written since there were `length` bytes, and which messages were opened since. */
  truncate(length: number): void {
    this.at = length;
    while ((this.open.at(-1) ?? 0) > length) this.open.pop();
  }

  /** A varint field: a whole number from 0 to 2^53. What is negative or no number is written as 0. */
  varint(tag: number, value: number): void {
    this.reserve(2 * MAX_VARINT_BYTES);
    this.writeVarint(tag);
    this.writeVarint(value > 0 ? Math.floor(value) : 0);
  }

  text(tag: number, value: string): void {
    this.reserve(2 * MAX_VARINT_BYTES + value.length * 3);
    this.writeVarint(tag);
    const bytes = Buffer.byteLength(value);
    this.writeVarint(bytes);
    this.at += this.buffer.write(value, this.at);
  }

  bytes(tag: number, value: Uint8Array): void {
    this.reserve(2 * MAX_VARINT_BYTES + value.length);
    this.writeVarint(tag);
    this.writeVarint(value.length);
    this.buffer.set(value, this.at);
    this.at += value.length;
  }

  /** Opens a message field: what is written until its `end` is in it. */
  begin(tag: number): void {
    this.reserve(2 * MAX_VARINT_BYTES);
    this.writeVarint(tag);
    this.at++; // its length, which mostly takes one byte
    this.open.push(this.at);
  }

  end(): void {
    const start = this.open.pop() ?? 0;
    const length = this.at - start;
    this.reserve(MAX_VARINT_BYTES);
    const stop = this.at;
    this.at = start - 1;
    if (length >= 0x80) this.buffer.copyWithin(start - 1 + varintBytes(length), start, stop); // slow: make room for it
    this.writeVarint(length);
    this.at += length;
  }

  /** A copy of all that was written, with every message ended. */
  finish(): Buffer {
    return Buffer.from(this.buffer.subarray(0, this.at));
  }

  private writeVarint(value: number): void {
    let rest = value;
    while (rest >= TWO_TO_32) {
      this.buffer[this.at++] = (rest % 128) | 0x80;
      rest = Math.floor(rest / 128);
    }
    let low = rest >>> 0;
    while (low >= 0x80) {
      this.buffer[this.at++] = (low & 0x7f) | 0x80;
      low >>>= 7;
    }
    this.buffer[this.at++] = low;
  }

  private reserve(more: number): void {
    if (this.at + more <= this.buffer.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.at + more));
    this.buffer.copy(grown, 0, 0, this.at);
    this.buffer = grown;
  }
}

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 128)) bytes++;
  return bytes;
}
