// VisibleSeries: the label sets as a family shows them. Those that differ in their mark alone (key.ts) are one series, whose count is their
// sum; in mesh_*, if the same reports count.

import { withoutMark } from "./key.ts";
import { type NativeBuckets, sumBuckets } from "./native.ts";
import type { LabelSet, SeriesReader } from "./reader.ts";

export class VisibleSeries {
  private shown: LabelSet[] = [];
  private taken = 0;
  private letGoCount = 0;
  /** Of label sets with a mark, by what is shown of them and as what: the one that stands for all that are alike. */
  private readonly first = new Map<string, LabelSet>();
  /** By the one that stands for them: the others. */
  private readonly others = new Map<LabelSet, LabelSet[]>();
  /** By their index: those that were taken. */
  private readonly byIndex: LabelSet[] = [];
  private scratch = new Float64Array(0);

  constructor(
    private readonly reader: Pick<
      SeriesReader,
      "series" | "letGoCount" | "find" | "hasExpiry" | "isExpired" | "readTotal" | "readNative"
    >,
    /** As what a label set is shown; null if it is not. */
    private readonly kindOf: (labelSet: LabelSet) => string | null = () => "",
  ) {}

  /** One label set for each series that is shown now, in the order of first sight. */
  get series(): readonly LabelSet[] {
    this.takeNew(Number.POSITIVE_INFINITY);
    if (!this.reader.hasExpiry) return this.shown;
    return this.shown.filter((labelSet) => !this.isExpired(labelSet));
  }

  /** Looks at so many of those that are new; `series` does at all. Returns whether there are more. */
  takeNew(most: number): boolean {
    const { series, letGoCount } = this.reader;
    if (letGoCount !== this.letGoCount) this.beginAnew(letGoCount);
    const end = Math.min(series.length, this.taken + most);
    for (; this.taken < end; this.taken++) this.take(series[this.taken] as LabelSet);
    return end < series.length;
  }

  /** As SeriesReader's. */
  readTotal(labelSet: LabelSet, counts: Float64Array): void {
    this.reader.readTotal(labelSet, counts);
    for (const other of this.others.get(labelSet) ?? []) this.add(other, counts);
  }

  /** If all are that are shown as one. */
  private isExpired(labelSet: LabelSet): boolean {
    if (!this.reader.isExpired(labelSet)) return false; // fast: nearly all
    return (this.others.get(labelSet) ?? []).every((other) => this.reader.isExpired(other));
  }

  /** As SeriesReader's. */
  readNative(labelSet: LabelSet, metric: number): NativeBuckets | null {
    const others = this.others.get(labelSet) ?? [];
    return sumBuckets([labelSet, ...others].map((each) => this.reader.readNative(each, metric)));
  }

  private beginAnew(letGoCount: number): void {
    this.letGoCount = letGoCount;
    this.shown = [];
    this.taken = 0;
    this.first.clear();
    this.others.clear();
    this.byIndex.length = 0;
  }

  private take(labelSet: LabelSet): void {
    this.byIndex[labelSet.index] = labelSet;
    const kind = this.kindOf(labelSet);
    if (kind === null) return;
    const visible = withoutMark(labelSet.labelKey);
    const isMarked = visible !== labelSet.labelKey;
    const first = this.first.get(kind + visible) ?? (isMarked ? this.unmarked(visible, kind) : undefined);
    if (isMarked) this.first.set(kind + visible, first ?? labelSet);
    if (!first) {
      this.shown.push(labelSet);
      return;
    }
    const others = this.others.get(first);
    if (others) others.push(labelSet);
    else this.others.set(first, [labelSet]);
  }

  /** Of those that were taken already. */
  private unmarked(visible: string, kind: string): LabelSet | undefined {
    const found = this.reader.find(visible);
    return found && this.byIndex[found.index] === found && this.kindOf(found) === kind ? found : undefined;
  }

  private add(labelSet: LabelSet, counts: Float64Array): void {
    if (this.scratch.length !== counts.length) this.scratch = new Float64Array(counts.length);
    this.scratch.fill(0);
    this.reader.readTotal(labelSet, this.scratch);
    for (const [field, count] of this.scratch.entries()) counts[field] = (counts[field] as number) + count;
  }
}
