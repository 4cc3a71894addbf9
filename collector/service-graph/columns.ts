// Columns: where the numbers of the graph's edges stand in one array of 32-bit counts.
//
// All numbers of all edges are columns of one array of 32-bit counts. A snapshot is a copy of it, and what happened in a window is
// the difference of two: right modulo 2^32, and no edge has that many requests in 15 minutes. Columns of one edge, with the default bounds:
//
//   +-----------------------------------------------+---------------------+-------------+------------+
//   | reported by the source                        | by the destination  | mutual TLS  | plain text |
//   | requests | errors | durations, le= x 19 | count| (the same 22)       |             |            |
//   +-----------------------------------------------+---------------------+-------------+------------+
// and elsewhere one for each response code and reporter, when it first occurs, and for TCP, once the edge has any:
//
//   +---------------------------------------------------------+----------------------+
//   | reported by the source                                  | by the destination   |
//   | opened | closed | sent low, high | received low, high   | (the same 6)         |
//   +---------------------------------------------------------+----------------------+
// Bytes may be more than 2^32 in a window, so they have two columns: the low half counts up and carries over into the high one.

import type { HistogramBounds } from "../series/histogram.ts";

/** Offsets in the block of one reporter. */
export const BLOCK = { requests: 0, errors: 1, buckets: 2 } as const;

/** Offsets in an edge, with these bounds. */
export class EdgeColumns {
  readonly source = 0;
  readonly destination: number;
  readonly mutualTls: number;
  readonly plainText: number;
  readonly width: number;
  /** In the block of a reporter: behind its buckets. */
  readonly count: number;

  constructor(readonly bounds: HistogramBounds) {
    this.count = BLOCK.buckets + bounds.count;
    this.destination = this.count + 1;
    this.mutualTls = 2 * this.destination;
    this.plainText = this.mutualTls + 1;
    this.width = this.plainText + 1;
  }
}

/** Offsets in the TCP block of one reporter. */
export const TCP = { opened: 0, closed: 1, sent: 2, received: 4, width: 6 } as const;
export const TWO_TO_32 = 2 ** 32;

export interface Edge {
  /** Node ids. */
  readonly source: string;
  readonly destination: string;
  /** First of its columns. */
  readonly column: number;
  /** Response code -> column, by reporter. */
  readonly codes: { readonly source: Map<string, number>; readonly destination: Map<string, number> };
  /** First of its TCP columns; -1 before there was a connection. */
  tcpColumn: number;
  /** When it last carried something, by the clock and in ticks. */
  usedMs: number;
  usedTick: number;
  /** Whether it was let go of: its columns are others'. */
  isGone: boolean;
}
