// A stream of protobuf messages, each behind its length as a varint: what comes in chunks goes out as whole messages.
// https://prometheus.io/docs/instrumenting/exposition_formats/#protobuf-format

const MAX_LENGTH_BYTES = 5;

export type DelimitedFault = "malformed" | "too_large" | "truncated";

/** `for each chunk: if (!reader.write(chunk)) break;` then `reader.end()`; then `fault`, null if all is well. */
export class DelimitedReader {
  /** "malformed": a length that is none. "too_large": beyond `maxBytes`. "truncated": the stream ends within a message. */
  fault: DelimitedFault | null = null;
  /** What of a message has come, in its chunks: joined once, when it is whole. */
  private parts: Buffer[] = [];
  private held = 0;
  /** Of the message that is under way; -1 while its length is. */
  private length = -1;

  /** `take` gets each message as bytes[start, stop), which hold until it returns. */
  constructor(
    private readonly maxBytes: number,
    private readonly take: (bytes: Buffer, start: number, stop: number) => void,
  ) {}

  /** False after a fault: nothing more will be read. */
  write(chunk: Buffer): boolean {
    if (this.fault !== null) return false;
    this.parts.push(chunk);
    this.held += chunk.length;
    // slow only for a message of several chunks: until it is whole, they are not looked at again
    if (this.length < 0 || this.held >= this.length) this.drain(this.join());
    return this.fault === null;
  }

  /** The stream has ended; false when that was too early. */
  end(): boolean {
    if (this.fault === null && (this.held > 0 || this.length >= 0)) this.fault = "truncated";
    this.parts = [];
    return this.fault === null;
  }

  private join(): Buffer {
    return this.parts.length === 1 ? (this.parts[0] as Buffer) : Buffer.concat(this.parts, this.held);
  }

  /** Takes all messages that are whole, and keeps the rest. */
  private drain(bytes: Buffer): void {
    let at = 0;
    for (;;) {
      if (this.length < 0) at = this.readLength(bytes, at);
      if (this.fault !== null || this.length < 0 || bytes.length - at < this.length) break;
      const stop = at + this.length;
      this.length = -1;
      this.take(bytes, at, stop);
      at = stop;
    }
    this.held = this.fault === null ? bytes.length - at : 0;
    this.parts = this.held === 0 ? [] : [at === 0 ? bytes : bytes.subarray(at)];
  }

  /** Where the message begins; `at` itself when its length is not whole yet. */
  private readLength(bytes: Buffer, at: number): number {
    let length = 0;
    for (let i = 0; i < MAX_LENGTH_BYTES; i++) {
      if (at + i === bytes.length) return at;
      const byte = bytes[at + i] as number;
      length += (byte & 0x7f) * 2 ** (7 * i);
      if (byte >= 0x80) continue;
      if (length > this.maxBytes) this.fault = "too_large";
      else this.length = length;
      return at + i + 1;
    }
    this.fault = "malformed";
    return at;
  }
}
