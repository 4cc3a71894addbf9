// Records that wait to be written, in the order of their ids; bounded by number and size, for a store may stand still.

import type { LogRecord } from "./record.ts";

/** A record and the number under which it is stored. */
export interface Numbered {
  readonly id: bigint;
  readonly record: LogRecord;
}

/** What a record takes besides its long texts. */
const RECORD_BYTES = 1000;

export class LogQueue {
  private records: Numbered[] = [];
  private bytes = 0;

  constructor(
    private readonly maxRecords: number,
    private readonly maxBytes: number,
  ) {}

  get length(): number {
    return this.records.length;
  }

  /** False when there is no room for it. */
  add(record: LogRecord, id: bigint): boolean {
    const bytes = sizeOf(record);
    if (this.records.length >= this.maxRecords || this.bytes + bytes > this.maxBytes) return false;
    this.bytes += bytes;
    this.records.push({ id, record });
    return true;
  }

  /** Gives all of them new numbers, from this one on. */
  renumber(first: bigint): void {
    this.records = this.records.map(({ record }, index) => ({ id: first + BigInt(index), record }));
  }

  /** Those that wait longest: one at least, if there is one; no more than these bounds hold. */
  head(maxRecords: number, maxBytes: number): readonly Numbered[] {
    const most = Math.min(maxRecords, this.records.length);
    let count = 0;
    for (let bytes = 0; count < most; count++) {
      bytes += sizeOf((this.records[count] as Numbered).record);
      if (bytes > maxBytes && count > 0) break;
    }
    return this.records.slice(0, count);
  }

  /** Takes away all up to this one; they are returned. */
  removeThrough(id: bigint): readonly Numbered[] {
    const first = this.records.findIndex((record) => record.id > id);
    const removed = this.records.splice(0, first < 0 ? this.records.length : first);
    for (const { record } of removed) this.bytes -= sizeOf(record);
    return removed;
  }
}

function sizeOf({ body, text }: LogRecord): number {
  return RECORD_BYTES + body.length + text.length;
}
