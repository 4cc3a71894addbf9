// SeriesTable: the label sets of one shape, and what each process life counted for them; the unification of two readings (store.ts).
//
// Every field is merged alone: a cumulative bucket is itself a count ("requests of at most so many ms"), so the larger of two
// readings is the truer one, is monotone in time and from bucket to bucket, and merging the same reading twice changes nothing.
// `sum` is merged likewise: both readings add up the same bin middles (histogram.ts), so the larger has seen more.
//
// Totals are kept up to date by what each reading gains, never computed anew, so they cannot go down.

import type { LogWay } from "../record/record.ts";
import type { ScrapeResult } from "../self.ts";
import { Admission, type TableLimits } from "./admission.ts";
import { type Cell, countOf, type LifeCells, type Series } from "./cell.ts";
import type { Expiry } from "./expiry.ts";
import { type Life, UNSTAMPED } from "./life.ts";
import { MarkedCells, type Reading } from "./marked.ts";
import { type NativeBuckets, NativeHistogram } from "./native.ts";
import type { LabelSet, SeriesReader } from "./reader.ts";
import type { MetricFields, Shape } from "./shape.ts";
import { Slab } from "./slab.ts";

/** What was counted of one label set of a process life, and what stats and access logs said of it: requests, or connections opened. */
export interface Pair {
  readonly series: LabelSet;
  /** 0 where the proxy's unstamped life counts it (admission.ts). */
  readonly counted: number;
  readonly logged: number;
  readonly reported: number;
}

/** Has the label set that it tells of. */
interface Labelled {
  readonly labelKey: string;
}

export class SeriesTable<Told extends Labelled, Sample extends Labelled> implements SeriesReader {
  /** Fields of a row. */
  readonly width: number;
  readonly rows: Slab;
  readonly admission: Admission;
  private readonly marked: MarkedCells;
  private changed: Series[] = [];

  // Scratch rows, valid within one call.
  private readonly gain: Float64Array;
  private readonly reading: Float64Array;
  /** What is being counted; null while a scrape is. */
  private told: Told | null = null;

  constructor(
    readonly shape: Shape<Told, Sample>,
    limits: TableLimits,
    private readonly expiry: Expiry,
    /** Whether native histograms are kept beside the classic ones. */
    private readonly hasNatives = false,
  ) {
    this.width = shape.width;
    this.rows = new Slab(shape.width);
    this.marked = new MarkedCells(this.rows, shape.width);
    const onAccount = (cell: Cell, account: Cell) => this.takeIn(cell, account);
    this.admission = new Admission({ shape, limits, expiry, rows: this.rows, marked: this.marked, onAccount });
    this.gain = new Float64Array(shape.width);
    this.reading = new Float64Array(shape.width);
  }

  /** Rows of numbers held. */
  get rowCount(): number {
    return this.rows.size;
  }

  /** Label sets of process lives held. */
  get cellCount(): number {
    return this.admission.cellCount;
  }

  /** Requests, or connections opened, counted under the label sets of the overflow. */
  get overflowed(): number {
    return this.admission.overflows.reduce((sum, { total }) => sum + this.rows.at(total, 0), 0);
  }

  get series(): readonly Series[] {
    return this.admission.series;
  }

  get letGoCount(): number {
    return this.admission.letGoCount;
  }

  /** Adds what was logged. Null when it was counted, else why not. */
  observe(life: Life, told: Told, way: LogWay = "als"): "cells_full" | null {
    const cell = this.cellsOf(life).byKey.get(told.labelKey) ?? this.admission.cellFor(life, told.labelKey);
    if (!cell) return "cells_full";
    this.shape.fill(this.gain, told);
    if (way === "als") {
      if (cell.log < 0) cell.log = this.rows.allocate();
      this.add(cell.log, cell.stats, cell.otlpLog);
    } else {
      if (cell.otlpLog < 0) cell.otlpLog = this.rows.allocate();
      this.add(cell.otlpLog, cell.stats, cell.log);
    }
    this.told = told;
    this.settle(cell, way === "als" ? "log" : "otlpLog", false);
    this.told = null;
    return null;
  }

  /** Merges what one scrape says. Late, repeated and reordered scrapes are harmless. */
  report(life: Life, samples: readonly Sample[], isHistory: boolean): ScrapeResult {
    const { byKey } = this.cellsOf(life);
    // Several label sets of the proxy may be kept under one of the overflow. Their stats are cumulative each, so the overflow cell's
    // reading is their sum within this scrape. It is sound because a label set is admitted or not once and for all: the sum is always
    // over the same, growing, set of counters.
    const overflowed = new Map<Cell, Float64Array>();
    let isFull = false;
    for (const sample of samples) {
      const cell = byKey.get(sample.labelKey) ?? this.admission.cellFor(life, sample.labelKey);
      if (!cell) {
        isFull = true;
      } else if (cell.series.isOverflow) {
        const sum = overflowed.get(cell) ?? new Float64Array(this.width);
        this.shape.add(sum, sample);
        overflowed.set(cell, sum);
      } else {
        this.mergeSample(cell, sample, isHistory);
      }
    }
    for (const [cell, sum] of overflowed) this.mergeReading(cell, sum, isHistory);
    return isFull ? "cells_full" : "ok";
  }

  /** Lets go of what a life holds. What it counted stays in the totals; only the means to merge more into it go. */
  release(life: Life): void {
    const { byKey } = this.cellsOf(life);
    for (const cell of byKey.values()) {
      if (cell.stats >= 0) this.rows.release(cell.stats);
      if (cell.log >= 0) this.rows.release(cell.log);
      if (cell.otlpLog >= 0) this.rows.release(cell.otlpLog);
      if (cell.counted >= 0) this.rows.release(cell.counted);
    }
    this.admission.release(life);
  }

  /**
   * Lets go of label sets that are over, and of which no process life that is held told: nobody can tell of the same requests again. Each is
   * told of before, while it can be read.
   */
  letGo(tell: (series: Series) => void): void {
    for (const series of this.admission.letGo()) {
      tell(series);
      this.rows.release(series.total);
      if (series.history >= 0) this.rows.release(series.history);
      series.total = -1;
      series.history = -1;
      series.natives = null;
    }
  }

  get hasExpiry(): boolean {
    return this.expiry.isOn;
  }

  isExpired(series: Series): boolean {
    return this.expiry.isExpired(series);
  }

  find(labelKey: string): Series | undefined {
    return this.admission.find(labelKey);
  }

  readTotal(series: Series, counts: Float64Array): void {
    if (series.isGone) {
      counts.fill(0, 0, this.width);
      return;
    }
    const at = this.rows.offset(series.total);
    const chunk = this.rows.chunk(series.total);
    for (let field = 0; field < this.width; field++) counts[field] = chunk[at + field] as number;
  }

  readRecent(series: Series, counts: Float64Array): void {
    this.readTotal(series, counts);
    if (series.history < 0) return;
    const at = this.rows.offset(series.history);
    const chunk = this.rows.chunk(series.history);
    for (let field = 0; field < this.width; field++) {
      counts[field] = (counts[field] as number) - (chunk[at + field] as number);
    }
  }

  /** Copies into `counts` what of a total had happened before the collector first saw the proxy; false when there is none. */
  readHistory({ history }: Series, counts: Float64Array): boolean {
    if (history < 0) return false;
    const at = this.rows.offset(history);
    counts.set(this.rows.chunk(history).subarray(at, at + this.width));
    return true;
  }

  /** What stats and access logs say of each label set of a life. */
  *readPairs(life: Life): Generator<Pair> {
    const isAccount = life.startMs === UNSTAMPED; // its first reading repeats what the stamped lives came to
    for (const cell of this.cellsOf(life).byKey.values()) {
      const { series, stats, log, otlpLog, account } = cell;
      const first = this.rows.at(stats, 0);
      const logged = Math.max(this.rows.at(log, 0), this.rows.at(otlpLog, 0));
      const counted = account === null ? countOf(this.rows, cell, 0) : 0;
      yield { series, counted, logged, reported: isAccount ? 0 : first };
    }
  }

  /** Whether the life counted more in one field than in another, under a label set that no account takes in (admission.ts). */
  hasUnaccounted(life: Life, more: number, less: number): boolean {
    for (const cell of this.cellsOf(life).byKey.values()) {
      if (cell.account === null && countOf(this.rows, cell, more) > countOf(this.rows, cell, less)) return true;
    }
    return false;
  }

  readNative({ natives }: Series, metric: number): NativeBuckets | null {
    return natives?.[metric]?.buckets ?? null;
  }

  takeChanged(): readonly Series[] {
    const taken = this.changed;
    for (const series of taken) series.isChanged = false;
    this.changed = [];
    return taken;
  }

  // === restoring ===

  /** To be called once all totals are restored: none of them is traffic of this moment. */
  settleRestored(): void {
    for (const series of this.series) {
      if (series.history < 0) series.history = this.rows.allocate();
      this.readTotal(series, this.gain);
      this.rows.chunk(series.history).set(this.gain, this.rows.offset(series.history));
      if (this.hasNatives) this.markPlaced(series);
      if (!series.isChanged) this.changed.push(series);
      series.isChanged = true;
    }
  }

  /** What the cell counted by itself, `account` counts from now on. */
  private takeIn(cell: Cell, account: Cell): void {
    if (account.stats < 0) account.stats = this.rows.allocate();
    for (let field = 0; field < this.width; field++) this.gain[field] = countOf(this.rows, cell, field);
    this.raise(account.stats);
    if (account.counted >= 0) this.raise(account.counted);
  }

  private mergeSample(cell: Cell, sample: Sample, isHistory: boolean): void {
    this.reading.fill(0);
    this.shape.add(this.reading, sample);
    this.mergeReading(cell, this.reading, isHistory);
  }

  /** Raises the cell's stats to `reading` where that is higher, and settles what the larger of stats and log gained. */
  private mergeReading(cell: Cell, reading: Float64Array, isHistory: boolean): void {
    if (cell.stats < 0) cell.stats = this.rows.allocate();
    const { gain } = this;
    const chunk = this.rows.chunk(cell.stats);
    const at = this.rows.offset(cell.stats);
    let hasGained = false;
    for (let field = 0; field < this.width; field++) {
      const before = chunk[at + field] as number;
      const after = reading[field] as number;
      gain[field] = 0;
      if (!(after > before)) continue;
      chunk[at + field] = after;
      const gained = after - Math.max(before, this.rows.at(cell.log, field), this.rows.at(cell.otlpLog, field));
      if (gained <= 0) continue;
      gain[field] = gained;
      hasGained = true;
    }
    if (hasGained) this.settle(cell, "stats", isHistory); // fast: most label sets of a scrape are as they were
  }

  /** Adds `gain` to the row `own`; leaves in `gain` by how much that raised the largest of `own` and both others. */
  private add(own: number, other: number, another: number): void {
    const { gain } = this;
    const chunk = this.rows.chunk(own);
    const at = this.rows.offset(own);
    for (let field = 0; field < this.width; field++) {
      const added = gain[field] as number;
      if (added === 0) continue;
      const before = chunk[at + field] as number;
      const after = before + added;
      chunk[at + field] = after;
      if (other < 0 && another < 0) continue; // fast: no other reading ever spoke
      gain[field] = Math.max(0, after - Math.max(before, this.rows.at(other, field), this.rows.at(another, field)));
    }
  }

  /** Passes `gain`, by which `reading` raised the cell, on: through its proxy's account if there is one, into totals. */
  private settle(cell: Cell, reading: Reading, isHistory: boolean): void {
    const { account, alike } = cell;
    if (account !== null) {
      if (account.stats < 0) account.stats = this.rows.allocate();
      this.add(account.stats, account.log, account.otlpLog);
      this.settle(account, "stats", isHistory);
    } else if (alike === null) {
      this.grow(cell.series, isHistory); // fast: nearly all
    } else {
      this.marked.gain(cell, reading);
      if (this.marked.give(cell, this.gain)) this.grow(cell.series, isHistory);
      this.told = null; // of another mark than what the others are given
      for (const other of alike) if (this.marked.give(other, this.gain)) this.grow(other.series, isHistory);
    }
  }

  /** Adds `gain` to the total. */
  private grow(series: Series, isHistory: boolean): void {
    this.raise(series.total);
    if (this.hasNatives) this.followTotal(series);
    if (isHistory) {
      if (series.history < 0) series.history = this.rows.allocate();
      this.raise(series.history);
    }
    if (series.isChanged) return;
    series.isChanged = true;
    series.grewMs = this.expiry.now();
    this.changed.push(series);
  }

  /** Places in the native histograms what the total gained. */
  private followTotal(series: Series): void {
    const { shape, told } = this;
    if (shape.valuesOf === null) return;
    const values = told === null ? null : shape.valuesOf(told);
    const chunk = this.rows.chunk(series.total);
    const at = this.rows.offset(series.total);
    for (const [metric, native] of this.nativesOf(series).entries()) {
      native?.follow(chunk, at + (shape.metrics[metric] as MetricFields).from, values?.[metric] ?? -1);
    }
  }

  /** What was restored is in native histograms already, which nobody here has (shards/restored-natives.ts). */
  private markPlaced(series: Series): void {
    if (this.shape.valuesOf === null) return;
    const chunk = this.rows.chunk(series.total);
    const at = this.rows.offset(series.total);
    for (const [metric, native] of this.nativesOf(series).entries()) {
      native?.markPlaced(chunk, at + (this.shape.metrics[metric] as MetricFields).from);
    }
  }

  private nativesOf(series: Series): readonly (NativeHistogram | null)[] {
    series.natives ??= this.shape.metrics.map(({ bounds }) => bounds && new NativeHistogram(bounds));
    return series.natives;
  }

  private raise(row: number): void {
    const { gain } = this;
    const chunk = this.rows.chunk(row);
    const at = this.rows.offset(row);
    for (let field = 0; field < this.width; field++) {
      chunk[at + field] = (chunk[at + field] as number) + (gain[field] as number);
    }
  }

  private cellsOf(life: Life): LifeCells {
    return life.cells[this.shape.index] as LifeCells;
  }
}
