// SummedSeries: the series of all threads, label set by label set, as the threads told them last. A total is the sum of theirs, taken when
// it is read: each of theirs only grows, so it does, too. What a thread lets go of stays in the sum for as long as another has a part of it,
// or it was shown of late.

import { Expiry } from "../series/expiry.ts";
import { LabelSets } from "../series/label-sets.ts";
import { type NativeBuckets, sumBuckets } from "../series/native.ts";
import type { LabelSet, SeriesReader, SeriesTables } from "../series/reader.ts";
import { DEFAULT_SHAPES, type Shapes } from "../series/shape.ts";
import { Slab } from "../series/slab.ts";
import type { Natives } from "../state/natives.ts";
import type { ShownAs, ShownBefore } from "../state/restore.ts";
import type { SeriesChanges, TableChanges } from "./messages.ts";
import { RestoredNatives } from "./restored-natives.ts";

/** Between two looks for what is over. */
const LET_GO_MS = 10_000;

export class SummedSeries implements SeriesTables {
  readonly http: SummedTable;
  readonly tcp: SummedTable;
  private nextLetGoMs = 0;

  /** `expireAfterMs`: as SeriesLimits'. `now`: a clock that never jumps, in milliseconds. */
  constructor(
    threads: number,
    expireAfterMs = 0,
    readonly shapes: Shapes = DEFAULT_SHAPES,
    private readonly now: () => number = () => performance.now(),
  ) {
    const expiry = new Expiry(expireAfterMs, now);
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
        (table === 0 ? this.http : this.tcp).restore(labelKey, total, what);
      },
      natives: (_table, labelKey, metric, buckets) => this.http.restored?.addBuckets(labelKey, metric, buckets),
    };
  }

  /** Native histograms hold as many as the totals; to be called once all threads have told what they restored. */
  settleRestored(): void {
    this.http.settleRestored();
  }

  /** What no shard saves: floors that are not passed yet, and what is left of what shards let go of. */
  *unsaved(): Generator<Unsaved> {
    yield* this.http.unsaved(0);
    yield* this.tcp.unsaved(1);
  }

  /** The native histograms that no shard saves: of what was restored, and of what is left. */
  *unsavedNatives(): Generator<readonly [table: number, labelKey: string, natives: Natives]> {
    for (const [labelKey, natives] of this.http.unsavedNatives()) yield [0, labelKey, natives];
  }

  /** Lets go of what is over, if it is time to look for that; to be called now and then. */
  letGo(): void {
    if (this.now() < this.nextLetGoMs) return;
    this.nextLetGoMs = this.now() + LET_GO_MS;
    this.http.letGo();
    this.tcp.letGo();
  }

  /** Takes what a thread tells; all it tells, in order. */
  apply(thread: number, changes: SeriesChanges): void {
    this.http.apply(thread, changes.http);
    this.tcp.apply(thread, changes.tcp);
  }
}

class SummedTable implements SeriesReader {
  private readonly labelSets = new LabelSets<SummedLabelSet>();
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

  get series(): readonly SummedLabelSet[] {
    return this.labelSets.list;
  }

  get letGoCount(): number {
    return this.labelSets.letGoCount;
  }

  apply(thread: number, changes: TableChanges): void {
    const { letGo, newKeys, newIndexes, indexes, totals, historyIndexes, histories, natives } = changes;
    const parts = this.known[thread] as Part[];
    for (const index of letGo) this.leave(parts[index] as Part);
    for (const [i, labelKey] of newKeys.entries()) parts[newIndexes[i] as number] = this.addPart(labelKey);
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
    return this.labelSets.find(labelKey);
  }

  /** Lets go of what no thread holds any more, and has not been shown for long. */
  letGo(): void {
    if (!this.expiry.isOn) return;
    const isOver = (labelSet: SummedLabelSet) =>
      labelSet.parts.every((part) => part === labelSet.left) && this.expiry.isOver(labelSet);
    for (const labelSet of this.labelSets.letGo(isOver)) {
      for (const part of labelSet.parts) this.releasePart(part);
      labelSet.parts.length = 0;
      this.restored?.drop(labelSet.labelKey);
      labelSet.left = null; // a state that is being saved may come to it yet
      if (labelSet.floor >= 0) this.rows.release(labelSet.floor);
      labelSet.floor = -1;
    }
  }

  settleRestored(): void {
    const row = new Float64Array(this.width);
    const labelKeys = this.series.map(({ labelKey }) => labelKey);
    this.restored?.settle(labelKeys, (labelKey) => {
      this.sumParts(this.labelSetOf(labelKey), row);
      return row;
    });
  }

  readTotal(labelSet: SummedLabelSet, counts: Float64Array): void {
    this.sumParts(labelSet, counts);
    if (labelSet.floor >= 0) this.applyFloor(labelSet, counts);
  }

  *unsaved(table: number): Generator<Unsaved> {
    for (const { labelKey, floor, left } of this.series) {
      if (left !== null) yield ["left", table, labelKey, this.rows.chunk(left.total), this.rows.offset(left.total)];
      if (floor >= 0) yield ["least", table, labelKey, this.rows.chunk(floor), this.rows.offset(floor)];
    }
  }

  *unsavedNatives(): Generator<readonly [labelKey: string, natives: Natives]> {
    yield* this.restored?.saved() ?? [];
    for (const { labelKey, left } of this.series) {
      if (left !== null) yield [labelKey, left.natives.map((buckets) => buckets && { buckets })];
    }
  }

  /** What may have been shown of the label set before the collector restarted. */
  restore(labelKey: string, total: Float64Array, what: ShownAs): void {
    if (what !== "least") this.restored?.addTotal(labelKey, total);
    if (what === "left") this.restoreLeft(labelKey, total);
    else this.raiseFloor(labelKey, total, what);
  }

  /** What a thread of the process before this one let go of. As all that is restored, it is history. */
  private restoreLeft(labelKey: string, total: Float64Array): void {
    const part = this.addPart(labelKey);
    part.total = this.rows.allocate();
    part.history = this.rows.allocate();
    this.write(part.total, total, 0);
    this.write(part.history, total, 0);
    this.leave(part);
  }

  /** The floor is the sum of all parts, or the least if that is more. */
  private raiseFloor(labelKey: string, total: Float64Array, what: "part" | "least"): void {
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
    const known = this.labelSets.find(labelKey);
    if (known) return known;
    const grewMs = this.expiry.now();
    return this.labelSets.add((index) => ({
      index,
      labelKey,
      parts: [],
      left: null,
      isChanged: false,
      grewMs,
      floor: -1,
    }));
  }

  private addPart(labelKey: string): Part {
    const labelSet = this.labelSetOf(labelKey);
    const part: Part = { labelSet, total: -1, history: -1, natives: [] };
    labelSet.parts.push(part);
    return part;
  }

  /** A thread lets go of the part: it stays in the sum, with those that were left before. */
  private leave(part: Part): void {
    const { labelSet } = part;
    const { left, parts } = labelSet;
    if (part.total < 0) part.total = this.rows.allocate();
    if (left === null) {
      labelSet.left = part;
      return;
    }
    this.raise(left.total, part.total);
    if (part.history >= 0) {
      if (left.history < 0) left.history = this.rows.allocate();
      this.raise(left.history, part.history);
    }
    left.natives = sumNatives(left.natives, part.natives);
    parts.splice(parts.indexOf(part), 1);
    this.releasePart(part);
  }

  private raise(row: number, by: number): void {
    const at = this.rows.offset(row);
    this.add(by, 1, this.rows.chunk(row).subarray(at, at + this.width));
  }

  private releasePart({ total, history }: Part): void {
    if (total >= 0) this.rows.release(total);
    if (history >= 0) this.rows.release(history);
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
  /** One for each thread that counted it; and what is left. */
  readonly parts: Part[];
  /** That one of the parts that threads counted which have let go of it since; null when there is none. */
  left: Part | null;
  /** Whether its total grew since `takeChanged`. */
  isChanged: boolean;
  /** As Growth (series/expiry.ts) has it. */
  grewMs: number;
  /** Row of the least that is read of it; -1 when there is none. */
  floor: number;
}

/** What is to be saved of a label set, and where it stands. */
export type Unsaved = readonly [
  what: Exclude<ShownAs, "part">,
  table: number,
  labelKey: string,
  chunk: Float64Array,
  at: number,
];

function sumNatives(some: Part["natives"], others: Part["natives"]): Part["natives"] {
  const length = Math.max(some.length, others.length);
  return Array.from({ length }, (_, metric) => sumBuckets([some[metric], others[metric]]));
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
