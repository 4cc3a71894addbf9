// SeriesTable: the label sets of one shape, and what each process life counted for them; the unification of two readings (store.ts).
//
// Every field is merged alone: a cumulative bucket is itself a count ("requests of at most so many ms"), so the larger of two
// readings is the truer one, is monotone in time and from bucket to bucket, and merging the same reading twice changes nothing.
// `sum` is merged likewise: both readings add up the same bin middles (histogram.ts), so the larger has seen more.
//
// Totals are kept up to date by what each reading gains, never computed anew, so they cannot go down.

import type { LogWay } from "../record/record.ts";
import type { ScrapeResult } from "../self.ts";
import { Cell, type LifeCells, Series } from "./cell.ts";
import type { Expiry } from "./expiry.ts";
import { MARKS, withMark, withoutMark } from "./key.ts";
import { LabelSets } from "./label-sets.ts";
import { type Life, type ProxyLives, UNSTAMPED } from "./life.ts";
import { MarkedCells, type Reading } from "./marked.ts";
import { type NativeBuckets, NativeHistogram } from "./native.ts";
import type { LabelSet, SeriesReader } from "./reader.ts";
import type { MetricFields, Shape } from "./shape.ts";
import { Slab } from "./slab.ts";

/** The share of a limit from which on room is to be made. */
const TIGHT = 0.75;

export interface TableLimits {
  /** Most label sets held, besides those of the overflow, which are few, and those that differ from one that is held in their mark alone. */
  readonly labelSets: number;
  /** Most cells held: label sets of process lives, besides those of the overflow. */
  readonly cells: number;
}

/** What was counted of one label set of a process life, and what stats and access logs said of it: requests, or connections opened. */
export interface Pair {
  readonly series: LabelSet;
  /** 0 where the proxy's unstamped life counts it (`addCell`). */
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
  private readonly labelSets = new LabelSets<Series>();
  readonly rows: Slab;
  private readonly marked: MarkedCells;
  /** Those of the overflow that were counted under. */
  private readonly overflows: Series[] = [];
  /** The values of label sets with a mark. */
  private readonly markedValues = new Set<string>();
  /** Cells held: of overflow label sets, and of all others; with these, what is remembered as kept out (ProxyLives.keptOut). */
  private readonly held = { overflow: 0, others: 0 };
  private changed: Series[] = [];

  // Scratch rows, valid within one call.
  private readonly gain: Float64Array;
  private readonly reading: Float64Array;
  /** What is being counted; null while a scrape is. */
  private told: Told | null = null;

  constructor(
    readonly shape: Shape<Told, Sample>,
    private readonly limits: TableLimits,
    private readonly expiry: Expiry,
    /** Whether native histograms are kept beside the classic ones. */
    private readonly hasNatives = false,
  ) {
    this.width = shape.width;
    this.rows = new Slab(shape.width);
    this.marked = new MarkedCells(this.rows, shape.width);
    this.gain = new Float64Array(shape.width);
    this.reading = new Float64Array(shape.width);
  }

  /** Rows of numbers held. */
  get rowCount(): number {
    return this.rows.size;
  }

  /** Label sets of process lives held. */
  get cellCount(): number {
    return this.held.overflow + this.held.others;
  }

  /** Requests, or connections opened, counted under the label sets of the overflow. */
  get overflowed(): number {
    return this.overflows.reduce((sum, { total }) => sum + this.at(total, 0), 0);
  }

  get series(): readonly Series[] {
    return this.labelSets.list;
  }

  get letGoCount(): number {
    return this.labelSets.letGoCount;
  }

  /** Whether little room is left for label sets, or for cells. */
  get isTight(): boolean {
    const { labelSets, cells } = this.limits;
    return this.series.length > TIGHT * labelSets || this.held.others > TIGHT * cells;
  }

  /** The string that is held for a label set that the life counted: its own, or that of the overflow which took it in. */
  heldKey(life: Life, labelKey: string): string {
    const cell = this.cellsOf(life).byKey.get(labelKey);
    return cell?.series.labelKey ?? this.inOverflow(life, this.shape.overflowOf(labelKey));
  }

  /** Adds what was logged. Null when it was counted, else why not. */
  observe(life: Life, told: Told, way: LogWay = "als"): "cells_full" | null {
    const cell = this.cellsOf(life).byKey.get(told.labelKey) ?? this.cellFor(life, told.labelKey);
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
      const cell = byKey.get(sample.labelKey) ?? this.cellFor(life, sample.labelKey);
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
      this.held[this.kindOf(cell)]--;
      cell.series.cells--;
    }
    byKey.clear();
    this.forgetKeptOut(life.proxy);
  }

  /**
   * Lets go of label sets that are over, and of which no process life that is held told: nobody can tell of the same requests again. Each is
   * told of before, while it can be read.
   */
  letGo(tell: (series: Series) => void): void {
    if (!this.expiry.isOn) return;
    const isOver = (series: Series) => series.cells === 0 && !series.isOverflow && this.expiry.isOver(series);
    for (const series of this.labelSets.letGo(isOver)) {
      tell(series);
      this.markedValues.delete(withoutMark(series.labelKey)); // all of its marks go
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
    return this.labelSets.find(labelKey);
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
      const first = this.at(stats, 0);
      const logged = Math.max(this.at(log, 0), this.at(otlpLog, 0));
      const counted = account === null ? this.countedBy(cell, 0) : 0;
      yield { series, counted, logged, reported: isAccount ? 0 : first };
    }
  }

  /** Whether the life counted more in one field than in another, under a label set that no account takes in (`addCell`). */
  hasUnaccounted(life: Life, more: number, less: number): boolean {
    for (const cell of this.cellsOf(life).byKey.values()) {
      if (cell.account === null && this.countedBy(cell, more) > this.countedBy(cell, less)) return true;
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

  restoreSeries(labelKey: string): Series {
    return this.seriesOf(labelKey);
  }

  /** A cell that was held before the collector restarted; limits were heeded then. */
  restoreCell(life: Life, labelKey: string, account: Cell | null): Cell {
    const cells = this.cellsOf(life);
    const cell = cells.byKey.get(labelKey) ?? new Cell(this.seriesOf(labelKey), account);
    cell.account = account; // of a proxy that was told anew
    if (!cells.byKey.has(labelKey)) this.hold(cell);
    cells.byKey.set(labelKey, cell);
    return cell;
  }

  /** To be called once all cells of an unstamped life are restored: lets those that differ in their mark alone count together. */
  restoreMarked(life: Life): void {
    const { byKey } = this.cellsOf(life);
    for (const { alike, series } of byKey.values()) {
      if (alike === null) this.marked.join(sameValues(byKey, series.labelKey));
    }
  }

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

  /**
   * Whether the label set is one of its own to the proxy: it is held, or there is room for it. That is decided once, for as long as anything of
   * the proxy is there. All marks of the same values go the same way: they may tell of the same requests.
   */
  private isAdmitted(proxy: ProxyLives, labelKey: string): boolean {
    const values = withoutMark(labelKey);
    if (this.keptOutOf(proxy).has(values)) return false;
    const held = this.series.length - this.overflows.length;
    if (this.labelSets.find(labelKey) || held < this.limits.labelSets) return true;
    return this.labelSets.find(values) !== undefined || this.markedValues.has(values);
  }

  private seriesOf(labelKey: string): Series {
    const known = this.labelSets.find(labelKey);
    if (known) return known;
    const isOverflow = labelKey === this.shape.overflowOf(labelKey);
    const total = this.rows.allocate();
    const series = this.labelSets.add((index) => new Series(this.expiry.now(), index, labelKey, isOverflow, total));
    if (isOverflow) this.overflows.push(series);
    const values = withoutMark(labelKey);
    if (values !== labelKey) this.markedValues.add(values);
    return series;
  }

  /**
   * The cell in which the life counts that label set: its own, or that of the overflow; null when there is room for neither.
   * Which of the two is decided once and for all: a life that is closed takes no label set in any more.
   */
  private cellFor(life: Life, labelKey: string): Cell | null {
    if (this.isShutOut(life)) return null;
    const cells = this.cellsOf(life);
    const overflowKey = this.shape.overflowOf(labelKey);
    if (labelKey === overflowKey) return this.addCell(life, labelKey); // the filter's own
    if (this.isAdmitted(life.proxy, labelKey)) {
      const needed = 1 + this.missingAccounts(life, labelKey).length;
      const hasRoom = this.held.others + needed <= this.limits.cells;
      if (hasRoom && !cells.isClosed) return this.addCell(life, labelKey);
      // Of the marks of one request's values none is in the overflow where another is not: two access logs may tell of it under either.
      const isAlike = life.startMs === UNSTAMPED && sameValues(cells.byKey, labelKey).length > 0;
      if (isAlike) return hasRoom ? this.addCell(life, labelKey) : null;
      if (!this.mayClose(life)) return null;
      cells.isClosed = true;
    } else if (!this.keepOut(life, labelKey)) {
      if (!this.mayClose(life)) return null;
      cells.isClosed = true;
    }
    cells.hasKeptOut = true;
    const key = this.inOverflow(life, overflowKey);
    return cells.byKey.get(key) ?? this.addCell(life, key);
  }

  private inOverflow({ proxy }: Life, overflowKey: string): string {
    return proxy.hasMixedOverflow ? this.shape.mixedOverflowKey : overflowKey;
  }

  /**
   * Where room may be made later, a label set that found none is remembered of its proxy, and goes to the overflow for as long as anything
   * of the proxy is there: its own label set would count the same requests again. False when there is no room to remember it.
   */
  private keepOut(life: Life, labelKey: string): boolean {
    if (!this.expiry.isOn || this.cellsOf(life).isClosed) return true;
    const keptOut = this.keptOutOf(life.proxy);
    const values = withoutMark(labelKey);
    if (keptOut.has(values)) return true;
    if (this.held.others >= this.limits.cells) return false;
    keptOut.add(values);
    this.held.others++;
    return true;
  }

  private forgetKeptOut(proxy: ProxyLives): void {
    const keptOut = this.keptOutOf(proxy);
    if (keptOut.size === 0) return; // fast: nearly all
    const lives = proxy.unstamped === null ? proxy.lives : [...proxy.lives, proxy.unstamped];
    const cells = lives.flatMap((life) => [...this.cellsOf(life).byKey.values()]);
    if (cells.some(({ series }) => series.isOverflow)) return;
    this.held.others -= keptOut.size;
    keptOut.clear();
  }

  private keptOutOf(proxy: ProxyLives): Set<string> {
    return proxy.keptOut[this.shape.index] as Set<string>;
  }

  /**
   * An entry that names no life may tell of a request which the stats of a stamped life tell of too (a proxy with the filter
   * whose logger leaves the observation out). Adding the two would count it twice. So within a proxy the unstamped entries are a second
   * reading of all its stamped lives together: per label set, and over all marks of its values (marked.ts).
   */
  private addCell(life: Life, labelKey: string): Cell {
    const { lives, unstamped } = life.proxy;
    const accounts = this.missingAccounts(life, labelKey);
    const cell = this.holdCell(life, labelKey);
    if (unstamped === null) return cell;
    for (const account of accounts) this.holdCell(unstamped, account);
    if (life === unstamped) for (const stamped of lives) this.takeIn(stamped, unstamped, labelKey);
    else cell.account = this.cellsOf(unstamped).byKey.get(labelKey) ?? null;
    return cell;
  }

  /** Label sets of which the proxy's unstamped life needs a cell, once `life` has one of `labelKey`. */
  private missingAccounts(life: Life, labelKey: string): string[] {
    const { lives, unstamped } = life.proxy;
    if (unstamped === null) return []; // fast: most proxies
    const { byKey } = this.cellsOf(unstamped);
    const isStamped = life !== unstamped;
    if (isStamped && sameValues(byKey, labelKey).length === 0) return [];
    const told = isStamped ? [labelKey] : lives.flatMap((stamped) => this.keysAlike(stamped, labelKey));
    return [...new Set(told)].filter((key) => !byKey.has(key) && (isStamped || key !== labelKey));
  }

  private keysAlike(life: Life, labelKey: string): string[] {
    return sameValues(this.cellsOf(life).byKey, labelKey).map(({ series }) => series.labelKey);
  }

  private holdCell(life: Life, labelKey: string): Cell {
    const { byKey } = this.cellsOf(life);
    const cell = new Cell(this.seriesOf(labelKey), null);
    byKey.set(labelKey, cell);
    this.hold(cell);
    if (life.startMs === UNSTAMPED) this.marked.join(sameValues(byKey, labelKey));
    return cell;
  }

  /** What the stamped life counted by itself under these values, the unstamped one counts from now on. */
  private takeIn(stamped: Life, unstamped: Life, labelKey: string): void {
    for (const cell of sameValues(this.cellsOf(stamped).byKey, labelKey)) {
      if (cell.account !== null) continue;
      const account = this.cellsOf(unstamped).byKey.get(cell.series.labelKey) as Cell;
      cell.account = account;
      if (account.stats < 0) account.stats = this.rows.allocate();
      for (let field = 0; field < this.width; field++) this.gain[field] = this.countedBy(cell, field);
      this.raise(account.stats);
      if (account.counted >= 0) this.raise(account.counted);
    }
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
      const gained = after - Math.max(before, this.at(cell.log, field), this.at(cell.otlpLog, field));
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
      gain[field] = Math.max(0, after - Math.max(before, this.at(other, field), this.at(another, field)));
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

  private countedBy({ stats, log, otlpLog, counted }: Cell, field: number): number {
    if (counted >= 0) return this.at(counted, field);
    return Math.max(this.at(stats, field), this.at(log, field), this.at(otlpLog, field));
  }

  private at(row: number, field: number): number {
    return row < 0 ? 0 : (this.rows.chunk(row)[this.rows.offset(row) + field] as number);
  }

  private cellsOf(life: Life): LifeCells {
    return life.cells[this.shape.index] as LifeCells;
  }

  private hold(cell: Cell): void {
    this.held[this.kindOf(cell)]++;
    cell.series.cells++;
  }

  private kindOf({ series }: Cell): "overflow" | "others" {
    return series.isOverflow ? "overflow" : "others";
  }

  /**
   * Entries that name no life and the stamped lives of the same proxy tell of the same requests (`addCell`), so they must put
   * them under the same label set. So a life may be closed only where nobody else speaks of its requests.
   */
  private mayClose(life: Life): boolean {
    const others = life.startMs === UNSTAMPED ? life.proxy.lives : [life.proxy.unstamped];
    return others.every((other) => !other || this.cellsOf(other).byKey.size === 0);
  }

  /** Whether another life that speaks of the same requests was closed (`mayClose`): then this one is not counted. */
  private isShutOut(life: Life): boolean {
    const { lives, unstamped } = life.proxy;
    if (life.startMs === UNSTAMPED) return lives.some((other) => this.cellsOf(other).isClosed);
    return unstamped !== null && this.cellsOf(unstamped).isClosed;
  }
}

/** What is held of the label sets that differ from this one in their mark at most. */
function sameValues<Held>(byKey: ReadonlyMap<string, Held>, labelKey: string): Held[] {
  const values = withoutMark(labelKey);
  return [null, ...MARKS].flatMap((mark) => byKey.get(withMark(values, mark)) ?? []);
}
