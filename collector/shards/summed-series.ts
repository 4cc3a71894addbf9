// SummedSeries: the series of all threads, label set by label set, as the threads told them last. A total is the sum of theirs, taken when
// it is read: each of theirs only grows, so it does, too.

import { Expiry } from "../series/expiry.ts";
import { type NativeBuckets, type NativeHistogram, sumBuckets } from "../series/native.ts";
import type { LabelSet, SeriesReader, SeriesTables } from "../series/reader.ts";
import { DEFAULT_SHAPES, type Shapes } from "../series/shape.ts";
import { Slab } from "../series/slab.ts";
import type { ShownBefore } from "../state/restore.ts";
import type { SeriesChanges, TableChanges } from "./messages.ts";
import { RestoredNatives } from "./restored-natives.ts";

export class SummedSeries implements SeriesTables {
  readonly http: SummedTable;
  readonly tcp: SummedTable;

  /** `expireAfterMs`: as SeriesLimits'. */
  constructor(
    threads: number,
    expireAfterMs = 0,
    readonly shapes: Shapes = DEFAULT_SHAPES,
  ) {
    const expiry = new Expiry(expireAfterMs, () => performance.now());
    this.http = new SummedTable(shapes[0].width, threads, expiry);
    this.tcp = new SummedTable(shapes[1].width, threads, expiry);
  }

  /**
   * What it gives takes what may have been shown before the collector restarted: nothing below is read from then on. `hasNatives`: whether
   * native histograms are kept beside the classic ones.
   */
  restoring(hasNatives: boolean): ShownBefore {
    if (hasNatives) this.http.restored = new RestoredNatives(this.shapes[0]);
    return {
      total: (table, labelKey, total, what) => {
        (table === 0 ? this.http : this.tcp).raiseFloor(labelKey, total, what);
      },
      natives: (_table, labelKey, metric, buckets) => this.http.restored?.addBuckets(labelKey, metric, buckets),
    };
  }

  /** Native histograms hold as many as the totals; to be called once all threads have told what they restored. */
  settleRestored(): void {
    this.http.settleRestored();
  }

  /** To be saved: by the index of the table, the label set. */
  *restoredNatives(): Generator<
    readonly [table: number, labelKey: string, natives: readonly (NativeHistogram | null)[]]
  > {
    for (const [labelKey, natives] of this.http.restored?.saved() ?? []) yield [0, labelKey, natives];
  }

  /** Those that are not passed yet: by the index of the table, the label set. */
  *floors(): Generator<readonly [table: number, labelKey: string, chunk: Float64Array, at: number]> {
    yield* this.http.floors(0);
    yield* this.tcp.floors(1);
  }

  /** Takes what a thread tells; all it tells, in order. */
  apply(thread: number, changes: SeriesChanges): void {
    this.http.apply(thread, changes.http);
    this.tcp.apply(thread, changes.tcp);
  }
}

class SummedTable implements SeriesReader {
  readonly series: SummedLabelSet[] = [];
  private readonly byKey = new Map<string, SummedLabelSet>();
  /** By thread, by the thread's own index. */
  private readonly known: Part[][];
  private readonly rows: Slab;
  private changed: SummedLabelSet[] = [];
  /** Native histograms of what was counted before the threads began; null where nothing was restored, or none are kept. */
  restored: RestoredNatives | null = null;

  constructor(
    private readonly width: number,
    threads: number,
    private readonly expiry: Expiry,
  ) {
    this.rows = new Slab(width);
    this.known = Array.from({ length: threads }, () => []);
  }

  apply(thread: number, { newKeys, indexes, totals, historyIndexes, histories, natives }: TableChanges): void {
    const parts = this.known[thread] as Part[];
    for (const labelKey of newKeys) parts.push(this.addPart(labelKey));
    for (const [i, index] of indexes.entries()) {
      const part = parts[index] as Part;
      if (part.total < 0) part.total = this.rows.allocate();
      this.write(part.total, totals, i);
      part.natives = natives[i] ?? [];
      this.markChanged(part.labelSet);
    }
    for (const [i, index] of historyIndexes.entries()) {
      const part = parts[index] as Part;
      if (part.history < 0) part.history = this.rows.allocate();
      this.write(part.history, histories, i);
    }
  }

  get hasExpiry(): boolean {
    return this.expiry.isOn;
  }

  isExpired(labelSet: SummedLabelSet): boolean {
    return this.expiry.isExpired(labelSet);
  }

  find(labelKey: string): SummedLabelSet | undefined {
    return this.byKey.get(labelKey);
  }

  settleRestored(): void {
    const row = new Float64Array(this.width);
    this.restored?.settle(this.byKey.keys(), (labelKey) => {
      this.sumParts(this.labelSetOf(labelKey), row);
      return row;
    });
  }

  readTotal(labelSet: SummedLabelSet, counts: Float64Array): void {
    this.sumParts(labelSet, counts);
    if (labelSet.floor >= 0) this.applyFloor(labelSet, counts);
  }

  *floors(table: number): Generator<readonly [table: number, labelKey: string, chunk: Float64Array, at: number]> {
    for (const { labelKey, floor } of this.series) {
      if (floor >= 0) yield [table, labelKey, this.rows.chunk(floor), this.rows.offset(floor)];
    }
  }

  /** The floor is the sum of all parts, or the least if that is more. */
  raiseFloor(labelKey: string, total: Float64Array, what: "part" | "least"): void {
    if (what === "part") this.restored?.addTotal(labelKey, total);
    const labelSet = this.labelSetOf(labelKey);
    if (labelSet.floor < 0) labelSet.floor = this.rows.allocate();
    const chunk = this.rows.chunk(labelSet.floor);
    const at = this.rows.offset(labelSet.floor);
    for (let field = 0; field < this.width; field++) {
      const before = chunk[at + field] as number;
      const now = total[field] as number;
      chunk[at + field] = what === "part" ? before + now : Math.max(before, now);
    }
  }

  readRecent(labelSet: SummedLabelSet, counts: Float64Array): void {
    this.readTotal(labelSet, counts);
    for (const { history } of labelSet.parts) this.add(history, -1, counts);
  }

  readNative({ labelKey, parts }: SummedLabelSet, metric: number): NativeBuckets | null {
    return sumBuckets([this.restored?.find(labelKey, metric), ...parts.map(({ natives }) => natives[metric])]);
  }

  takeChanged(): readonly SummedLabelSet[] {
    const taken = this.changed;
    for (const labelSet of taken) labelSet.isChanged = false;
    this.changed = [];
    return taken;
  }

  /** The floor goes once it is passed. */
  private applyFloor(labelSet: SummedLabelSet, counts: Float64Array): void {
    const chunk = this.rows.chunk(labelSet.floor);
    const at = this.rows.offset(labelSet.floor);
    let isPassed = true;
    for (let field = 0; field < this.width; field++) {
      const floor = chunk[at + field] as number;
      if ((counts[field] as number) >= floor) continue;
      counts[field] = floor;
      isPassed = false;
    }
    if (!isPassed) return;
    this.rows.release(labelSet.floor);
    labelSet.floor = -1;
  }

  private sumParts({ parts }: SummedLabelSet, counts: Float64Array): void {
    counts.fill(0, 0, this.width);
    for (const { total } of parts) this.add(total, 1, counts);
  }

  private labelSetOf(labelKey: string): SummedLabelSet {
    let labelSet = this.byKey.get(labelKey);
    if (!labelSet) {
      labelSet = {
        index: this.series.length,
        labelKey,
        parts: [],
        isChanged: false,
        grewMs: this.expiry.now(),
        floor: -1,
      };
      this.byKey.set(labelKey, labelSet);
      this.series.push(labelSet);
    }
    return labelSet;
  }

  private addPart(labelKey: string): Part {
    const labelSet = this.labelSetOf(labelKey);
    const part: Part = { labelSet, total: -1, history: -1, natives: [] };
    labelSet.parts.push(part);
    return part;
  }

  private markChanged(labelSet: SummedLabelSet): void {
    if (labelSet.isChanged) return;
    labelSet.isChanged = true;
    labelSet.grewMs = this.expiry.now();
    this.changed.push(labelSet);
  }

  private write(row: number, from: Float64Array, at: number): void {
    this.rows.chunk(row).set(from.subarray(at * this.width, (at + 1) * this.width), this.rows.offset(row));
  }

  private add(row: number, sign: number, counts: Float64Array): void {
    if (row < 0) return;
    const chunk = this.rows.chunk(row);
    const at = this.rows.offset(row);
    for (let field = 0; field < this.width; field++) {
      counts[field] = (counts[field] as number) + sign * (chunk[at + field] as number);
    }
  }
}

interface SummedLabelSet extends LabelSet {
  /** One for each thread that counted it. */
  readonly parts: Part[];
  /** Whether its total grew since `takeChanged`. */
  isChanged: boolean;
  /** As Growth (series/expiry.ts) has it. */
  grewMs: number;
  /** Row of the least that is read of it; -1 when there is none. */
  floor: number;
}

/** What one thread counted of a label set. */
interface Part {
  readonly labelSet: SummedLabelSet;
  /** Row of its total; -1 before there is one. */
  total: number;
  /** Row of what of it is history; -1 when there is none. */
  history: number;
  /** Native histograms by metric; empty where none are kept. */
  natives: readonly (NativeBuckets | null)[];
}
