// google.protobuf.Duration and Timestamp, which are alike on the wire: { int64 seconds = 1; int32 nanos = 2; }. What a number means is its
// reader's to say.

import { varintTag, WireReader } from "./wire.ts";
import type { WireWriter } from "./wire-writer.ts";

const SECONDS = varintTag(1);
const NANOS = varintTag(2);

const fields = new WireReader();

export class SecondsAndNanos {
  isPresent = false;
  protected seconds = 0;
  protected nanos = 0;

  clear(): void {
    this.isPresent = false;
    this.seconds = 0;
    this.nanos = 0;
  }

  /** False when it is malformed. */
  read(bytes: Buffer, start: number, stop: number): boolean {
    this.isPresent = true;
    fields.open(bytes, start, stop);
    while (fields.next()) {
      if (fields.tag === SECONDS) this.seconds = fields.int64();
      else if (fields.tag === NANOS) this.nanos = fields.low;
    }
    return !fields.isMalformed;
  }
}

/** google.protobuf.Duration. */
export class Duration extends SecondsAndNanos {
  /** Whole milliseconds, the rest cut off; 0 when it is not positive. */
  get milliseconds(): number {
    return Math.max(0, this.seconds * 1000 + Math.trunc(this.nanos / 1e6));
  }
}

/** Either message, of so many nanoseconds, which are not negative. */
export function writeNanoseconds(writer: WireWriter, tag: number, nanoseconds: bigint): void {
  writer.begin(tag);
  writer.varint(SECONDS, Number(nanoseconds / 1_000_000_000n));
  writer.varint(NANOS, Number(nanoseconds % 1_000_000_000n));
  writer.end();
}
