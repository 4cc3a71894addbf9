// io.prometheus.client.Histogram in the very form in which Envoy writes it, for the collector reads a million buckets a second.
//
//   08 COUNT  11 SUM  (1a LENGTH 08 COUNT 11 BOUND) ...      counts are varints, sum and bounds doubles
//
// Whatever has another form is left to MetricHistogram.

const COUNT = 0x08;
const DOUBLE = 0x11;
const BUCKET = 0x1a;

/** A varint of more bytes may be beyond exact numbers. */
const MAX_VARINT_BYTES = 7;

export class EnvoyHistogram {
  count = 0;
  sum = 0;
  /** Cumulative, in the order of the bounds. */
  readonly counts: Float64Array;
  private readonly boundBytes: readonly Buffer[];
  private at = 0;

  /** `bounds`: all that are expected, in order, without +Inf. */
  constructor(bounds: readonly number[]) {
    this.counts = new Float64Array(bounds.length);
    this.boundBytes = bounds.map((bound) => {
      const bytes = Buffer.alloc(8);
      bytes.writeDoubleLE(bound);
      return bytes;
    });
  }

  /** Reads bytes[start, stop); false when it has another form, and then nothing that was read counts. */
  read(bytes: Buffer, start: number, stop: number): boolean {
    this.at = start;
    if (bytes[this.at++] !== COUNT) return false;
    this.count = this.varint(bytes);
    if (this.count < 0 || bytes[this.at] !== DOUBLE || this.at + 9 > stop) return false;
    this.sum = bytes.readDoubleLE(this.at + 1);
    this.at += 9;
    for (let index = 0; index < this.counts.length; index++) {
      if (!this.readBucket(bytes, index)) return false;
    }
    return this.at === stop;
  }

  private readBucket(bytes: Buffer, index: number): boolean {
    if (bytes[this.at] !== BUCKET || bytes[this.at + 2] !== COUNT) return false;
    const end = this.at + 2 + (bytes[this.at + 1] as number);
    this.at += 3;
    const count = this.varint(bytes);
    if (count < 0 || bytes[this.at++] !== DOUBLE) return false;
    this.counts[index] = count;
    const bound = this.boundBytes[index] as Buffer;
    for (let byte = 0; byte < 8; byte++) {
      if (bytes[this.at + byte] !== bound[byte]) return false;
    }
    this.at += 8;
    return this.at === end;
  }

  /** -1 for one that is too long. What lies beyond the buffer's end reads as undefined, and ends it. */
  private varint(bytes: Buffer): number {
    let value = 0;
    let weight = 1;
    for (let length = 0; length < MAX_VARINT_BYTES; length++) {
      const byte = bytes[this.at++] as number;
      value += (byte & 0x7f) * weight;
      if (byte < 0x80) return value;
      weight *= 128;
    }
    return -1;
  }
}
