// Snappy's block format, packed piece by piece: what is packed from 64 KiB refers to nothing before them, so pieces can stand behind each other.
// https://github.com/google/snappy/blob/main/format_description.txt

import snappy from "snappyjs";
import { varintLength, writeVarint } from "./varint.ts";

/** What is packed at once: less than a millisecond of work. */
export const SNAPPY_BLOCK_BYTES = 64 * 1024;

export class SnappyBlocks {
  private readonly packed: Buffer[] = [];
  private length = 0;

  /** Bytes that were added. */
  get bytes(): number {
    return this.length;
  }

  /** So many at most, and less only the last time. */
  add(block: Buffer): void {
    // Before a block's content stands its length, but only the whole's belongs there.
    this.packed.push(snappy.compress(block).subarray(varintLength(block.length)));
    this.length += block.length;
  }

  /** All that was added, as one; nothing is left. */
  take(): Buffer {
    const head = Buffer.alloc(varintLength(this.length));
    writeVarint(head, this.length, 0);
    const whole = Buffer.concat([head, ...this.packed]);
    this.packed.length = 0;
    this.length = 0;
    return whole;
  }
}
