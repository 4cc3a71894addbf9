// SeriesStore: the unification of what proxies say twice (docs/adr/0003-series-store.md).
//
//   count(life, label set)  = max(stats S, access log A)      both only grow within a life, neither counts what did not happen
//   total(label set)        = sum of the counts over all lives of all proxies
//
// Every field is merged alone: a cumulative bucket is itself a count ("requests of at most so many ms"), so the larger of two
// readings is the truer one, is monotone in time and from bucket to bucket, and merging the same reading twice changes nothing.
// `sum` is merged likewise: both readings add up the same bin middles (histogram.ts), so the larger has seen more.
//
// Totals are kept up to date by what each reading gains, never computed anew, so they cannot go down.

import type { AccessRecord, StatsReport, StatsSample } from "../record/record.ts";
import type { DropReason, ScrapeResult } from "../self.ts";
import { LABELS, OTHER } from "../vocabulary.ts";
import { Cell, Series } from "./cell.ts";
import { addFromStats, COUNTS_WIDTH, fillFromRecord, REQUESTS } from "./counts.ts";
import { packLabels } from "./key.ts";
import { type Clock, type Life, Lives, UNSTAMPED } from "./life.ts";
import { Slab } from "./slab.ts";

/** The label set that takes in what the limit keeps out, here and in the filter: every label `other`. */
export const OVERFLOW_KEY = packLabels(LABELS.map(() => OTHER));

/**
 * What the first scrape of a life brings counts as history (and not as traffic of this moment) if the process is older than
 * this. Of a younger one, and of everything after, it is taken to have happened now.
 */
const HISTORY_AGE_MS = 60_000;

const SYSTEM_CLOCK: Clock = { wallMs: Date.now, steadyMs: () => performance.now() };

export interface SeriesLimits {
  /** Most process lives held. */
  readonly proxies: number;
  /** Most label sets held, besides the overflow label set. */
  readonly labelSets: number;
  /** Most cells held: label sets of process lives. */
  readonly cells: number;
  /** How long a superseded life is kept for late entries. */
  readonly retireAfterMs: number;
}

export class SeriesStore {
  /** Every label set, in the order of first sight. Series are never removed, so an index stays valid. */
  readonly series: Series[] = [];
  private readonly byKey = new Map<string, Series>();
  private readonly lives: Lives;
  private readonly rows = new Slab(COUNTS_WIDTH);
  private overflow: Series | null = null;
  /** Cells held: of overflow label sets, and of all others. */
  private readonly held = { overflow: 0, others: 0 };
  private changed: Series[] = [];

  // Scratch rows, valid within one call.
  private readonly gain = new Float64Array(COUNTS_WIDTH);
  private readonly reading = new Float64Array(COUNTS_WIDTH);
  private readonly overflowReading = new Float64Array(COUNTS_WIDTH);

  constructor(
    private readonly limits: SeriesLimits,
    private readonly clock: Clock = SYSTEM_CLOCK,
  ) {
    this.lives = new Lives({
      limit: limits.proxies,
      retireAfterMs: limits.retireAfterMs,
      onRetire: (life) => this.releaseCells(life),
      clock,
    });
  }

  /** Process lives held. */
  get lifeCount(): number {
    return this.lives.size;
  }

  /** Rows of numbers held. */
  get rowCount(): number {
    return this.rows.size;
  }

  /** Label sets of process lives held. */
  get cellCount(): number {
    return this.held.overflow + this.held.others;
  }

  /** Requests counted under the overflow label set. */
  get overflowedRequests(): number {
    return this.overflow
      ? (this.rows.chunk(this.overflow.total)[this.rows.offset(this.overflow.total) + REQUESTS] as number)
      : 0;
  }

  /** Adds one logged request. Null when it was counted, else why not. */
  observe(record: AccessRecord): DropReason | null {
    const life = this.lives.find(record.proxy, record.lifeMs);
    // A start that cannot be one still comes with a request. As an entry that names no life, it merges with whatever tells of it too.
    if (life === "in_future") return this.observe({ ...record, lifeMs: UNSTAMPED });
    if (typeof life === "string") return life;
    const cell = life.cells.get(record.labelKey) ?? this.cellFor(life, record.labelKey);
    if (!cell) return "cells_full";
    fillFromRecord(this.gain, record);
    if (cell.log < 0) cell.log = this.rows.allocate();
    this.add(cell.log, cell.stats);
    this.settle(cell, false);
    return null;
  }

  /**
   * Merges one scrape. Late, repeated and reordered scrapes are harmless. Without a start time it is refused: whether counters
   * that went down mean a restart, or an answer that was overtaken, would be a guess.
   */
  report(report: StatsReport): ScrapeResult {
    if (report.lifeMs === UNSTAMPED) return "no_start_time";
    const life = this.lives.find(report.proxy, report.lifeMs);
    if (life === "in_future") return "restarted";
    if (typeof life === "string") return life;
    const isHistory = !life.isReported && this.clock.wallMs() - life.startMs > HISTORY_AGE_MS;
    life.isReported = true;

    // Several label sets of the proxy may be kept under the one overflow label set. Their stats are cumulative each, so the
    // overflow cell's reading is their sum within this scrape. It is sound because a label set is admitted or not once and for
    // all: the sum is always over the same, growing, set of counters.
    const overflow = this.overflowReading;
    let overflowCell: Cell | null = null;
    let isFull = false;
    overflow.fill(0);
    for (const sample of report.samples) {
      const cell = life.cells.get(sample.labelKey) ?? this.cellFor(life, sample.labelKey);
      if (!cell) {
        isFull = true;
      } else if (cell.series === this.overflow) {
        addFromStats(overflow, sample);
        overflowCell = cell;
      } else {
        this.mergeSample(cell, sample, isHistory);
      }
    }
    if (overflowCell) this.mergeReading(overflowCell, overflow, isHistory);
    return isFull ? "cells_full" : "ok";
  }

  /** Lets go of superseded lives whose grace is over; to be called now and then. */
  retireSuperseded(): void {
    this.lives.retireSuperseded();
  }

  /** Copies a series' total into `counts`: COUNTS_WIDTH fields, as counts.ts draws them. */
  readTotal(series: Series, counts: Float64Array): void {
    const at = this.rows.offset(series.total);
    const chunk = this.rows.chunk(series.total);
    for (let field = 0; field < COUNTS_WIDTH; field++) counts[field] = chunk[at + field] as number;
  }

  /** Like `readTotal`, without what had happened before the collector first saw the proxy. */
  readRecent(series: Series, counts: Float64Array): void {
    this.readTotal(series, counts);
    if (series.history < 0) return;
    const at = this.rows.offset(series.history);
    const chunk = this.rows.chunk(series.history);
    for (let field = 0; field < COUNTS_WIDTH; field++) {
      counts[field] = (counts[field] as number) - (chunk[at + field] as number);
    }
  }

  /** The series whose totals grew since the last call. */
  takeChanged(): readonly Series[] {
    const taken = this.changed;
    for (const series of taken) series.isChanged = false;
    this.changed = [];
    return taken;
  }

  /** The key itself if its label set is held or there is room for it, else OVERFLOW_KEY. */
  private admittedKey(labelKey: string): string {
    if (this.byKey.has(labelKey)) return labelKey;
    const held = this.byKey.size - (this.overflow ? 1 : 0);
    return held < this.limits.labelSets ? labelKey : OVERFLOW_KEY;
  }

  private seriesOf(labelKey: string): Series {
    let series = this.byKey.get(labelKey);
    if (!series) {
      series = new Series(this.series.length, labelKey, this.rows.allocate());
      this.byKey.set(labelKey, series);
      this.series.push(series);
      if (labelKey === OVERFLOW_KEY) this.overflow = series;
    }
    return series;
  }

  /**
   * The cell in which the life counts that label set: its own, or that of the overflow; null when there is room for neither.
   * Which of the two is decided once and for all: a life that is closed takes no label set in any more.
   */
  private cellFor(life: Life, labelKey: string): Cell | null {
    if (isShutOut(life)) return null;
    const key = this.admittedKey(labelKey);
    // Of the room for cells, one each is kept for the overflow of every life.
    const hasRoom = this.held.others + this.lives.size < this.limits.cells;
    if (key !== OVERFLOW_KEY && hasRoom && !life.isClosed) return this.addCell(life, key);
    if (key !== OVERFLOW_KEY && !mayClose(life)) return null;
    let cell = life.cells.get(OVERFLOW_KEY) ?? null;
    if (!cell && this.cellCount < this.limits.cells) cell = this.addCell(life, OVERFLOW_KEY);
    if (cell && key !== OVERFLOW_KEY) life.isClosed = true;
    return cell;
  }

  private addCell(life: Life, labelKey: string): Cell {
    const account = life.startMs === UNSTAMPED ? null : (life.proxy.unstamped?.cells.get(labelKey) ?? null);
    const cell = new Cell(this.seriesOf(labelKey), account);
    life.cells.set(labelKey, cell);
    this.held[kindOf(cell)]++;
    if (life.startMs === UNSTAMPED) this.openAccount(life, labelKey, cell);
    return cell;
  }

  /**
   * An entry that names no life may tell of a request which the stats of a stamped life tell of too (a proxy with the filter
   * whose logger leaves the observation out). Adding the two would count it twice. So within a proxy, per label set, the
   * unstamped entries are a second reading of all its stamped lives together: what counts is the larger.
   */
  private openAccount(life: Life, labelKey: string, account: Cell): void {
    for (const stamped of life.proxy.lives) {
      const cell = stamped.cells.get(labelKey);
      if (!cell) continue;
      cell.account = account;
      if (account.stats < 0) account.stats = this.rows.allocate();
      for (let field = 0; field < COUNTS_WIDTH; field++) {
        this.gain[field] = Math.max(this.at(cell.stats, field), this.at(cell.log, field));
      }
      this.raise(account.stats);
    }
  }

  private mergeSample(cell: Cell, sample: StatsSample, isHistory: boolean): void {
    this.reading.fill(0);
    addFromStats(this.reading, sample);
    this.mergeReading(cell, this.reading, isHistory);
  }

  /** Raises the cell's stats to `reading` where that is higher, and settles what the larger of stats and log gained. */
  private mergeReading(cell: Cell, reading: Float64Array, isHistory: boolean): void {
    if (cell.stats < 0) cell.stats = this.rows.allocate();
    const { gain } = this;
    const chunk = this.rows.chunk(cell.stats);
    const at = this.rows.offset(cell.stats);
    let hasGained = false;
    for (let field = 0; field < COUNTS_WIDTH; field++) {
      const before = chunk[at + field] as number;
      const after = reading[field] as number;
      gain[field] = 0;
      if (!(after > before)) continue;
      chunk[at + field] = after;
      const gained = after - Math.max(before, this.at(cell.log, field));
      if (gained <= 0) continue;
      gain[field] = gained;
      hasGained = true;
    }
    if (hasGained) this.settle(cell, isHistory); // fast: most label sets of a scrape are as they were
  }

  /** Adds `gain` to the row `own`; leaves in `gain` by how much that raised the larger of `own` and `other`. */
  private add(own: number, other: number): void {
    const { gain } = this;
    const chunk = this.rows.chunk(own);
    const at = this.rows.offset(own);
    for (let field = 0; field < COUNTS_WIDTH; field++) {
      const added = gain[field] as number;
      if (added === 0) continue;
      const before = chunk[at + field] as number;
      const after = before + added;
      chunk[at + field] = after;
      if (other < 0) continue; // fast: the other reading never spoke
      gain[field] = Math.max(0, after - Math.max(before, this.at(other, field)));
    }
  }

  /** Passes `gain` on from the cell: through its proxy's account if there is one, into the total. */
  private settle(cell: Cell, isHistory: boolean): void {
    const { account, series } = cell;
    if (account) {
      if (account.stats < 0) account.stats = this.rows.allocate();
      this.add(account.stats, account.log);
    }
    this.raise(series.total);
    if (isHistory) {
      if (series.history < 0) series.history = this.rows.allocate();
      this.raise(series.history);
    }
    if (series.isChanged) return;
    series.isChanged = true;
    this.changed.push(series);
  }

  private raise(row: number): void {
    const { gain } = this;
    const chunk = this.rows.chunk(row);
    const at = this.rows.offset(row);
    for (let field = 0; field < COUNTS_WIDTH; field++) {
      chunk[at + field] = (chunk[at + field] as number) + (gain[field] as number);
    }
  }

  private at(row: number, field: number): number {
    return row < 0 ? 0 : (this.rows.chunk(row)[this.rows.offset(row) + field] as number);
  }

  /** What the life counted stays in the totals; only the means to merge more into it go. */
  private releaseCells(life: Life): void {
    for (const cell of life.cells.values()) {
      if (cell.stats >= 0) this.rows.release(cell.stats);
      if (cell.log >= 0) this.rows.release(cell.log);
      this.held[kindOf(cell)]--;
    }
    life.cells.clear();
  }
}

function kindOf({ series }: Cell): "overflow" | "others" {
  return series.labelKey === OVERFLOW_KEY ? "overflow" : "others";
}

/**
 * Entries that name no life and the stamped lives of the same proxy tell of the same requests (`openAccount`), so they must put
 * them under the same label set. So a life may be closed only where nobody else speaks of its requests.
 */
function mayClose(life: Life): boolean {
  const others = life.startMs === UNSTAMPED ? life.proxy.lives : [life.proxy.unstamped];
  return others.every((other) => !other || other.cells.size === 0);
}

/** Whether another life that speaks of the same requests was closed (`mayClose`): then this one is not counted. */
function isShutOut(life: Life): boolean {
  const { lives, unstamped } = life.proxy;
  return life.startMs === UNSTAMPED ? lives.some((other) => other.isClosed) : (unstamped?.isClosed ?? false);
}
