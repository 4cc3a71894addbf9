// Series, Cell and LifeCells: what a table holds per label set, per label set and process life, and per process life.

import type { NativeHistogram } from "./native.ts";
import type { Slab } from "./slab.ts";

/** One label set over all proxies. */
export class Series {
  /** Row of the total that is exposed: the sum over all lives, living and retired; -1 once the label set was let go of. */
  total: number;
  /** Cells of it that are held. */
  cells = 0;
  /** Row of that part of the total which had happened before the collector first saw the proxy; -1 when there is none. */
  history = -1;
  /** Whether the total grew since `takeChanged`. */
  isChanged = false;
  /** Native histograms of the total, by the metric's index in the shape, null of a counter; null where none are kept (native.ts). */
  natives: readonly (NativeHistogram | null)[] | null = null;

  constructor(
    /** As Growth (expiry.ts) has it. */
    public grewMs: number,
    /** As LabelSet (reader.ts) has it. */
    readonly index: number,
    /** Packed label values (key.ts). */
    readonly labelKey: string,
    /** Whether it takes in what limits keep out (overflow.ts). */
    readonly isOverflow: boolean,
    total: number,
  ) {
    this.total = total;
  }

  get isGone(): boolean {
    return this.total < 0;
  }
}

/**
 * Readings of the same requests; what counts is the largest, field by field. In a process life: the proxy's own stats, and its access
 * log by each way on which it may come. In the unstamped life of a proxy: what its stamped lives come to, and the same of the log entries
 * that name no life.
 */
export class Cell {
  /** Row of the first reading, -1 before there is one. */
  stats = -1;
  /** Rows of what access-log services were sent, and of what came by OTLP; -1 before there is any. */
  log = -1;
  otlpLog = -1;
  /** Row of what it counts, where that is its part of what several count together (marked.ts); -1 where it is the largest reading. */
  counted = -1;
  /** In the unstamped life of a proxy: those whose label sets differ in their mark alone, itself among them; null when there is no other. */
  alike: readonly Cell[] | null = null;

  constructor(
    readonly series: Series,
    /** The cell of the proxy's unstamped life that takes in what this one gains; null when it goes straight to the total. */
    public account: Cell | null,
  ) {}
}

/** The cells of one process life in one table. */
export class LifeCells {
  /** By packed label set. */
  readonly byKey = new Map<string, Cell>();
  /** Whether limits.cells sent a label set of it to the overflow: from then on all go there that have no cell yet. */
  isClosed = false;
  /** Whether a label set of it is in the overflow that is not of the filter's own. */
  hasKeptOut = false;
}

/** One number of what a cell counts: the largest of its readings, or its part of what several count together. */
export function countOf(rows: Slab, cell: Cell, field: number): number {
  return cell.counted >= 0 ? rows.at(cell.counted, field) : largestOf(rows, cell, field);
}

/** One number of a cell: the largest of its readings. */
export function largestOf(rows: Slab, { stats, log, otlpLog }: Cell, field: number): number {
  return Math.max(rows.at(stats, field), rows.at(log, field), rows.at(otlpLog, field));
}
