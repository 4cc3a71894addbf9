// VisibleSeries: the label sets as they are shown. Those that differ in their mark alone (key.ts) are one series, whose count is their sum.

import { withoutMark } from "./key.ts";
import type { LabelSet, SeriesReader } from "./reader.ts";

export class VisibleSeries {
  private readonly shown: LabelSet[] = [];
  private taken = 0;
  /** Of label sets with a mark, by what is shown of them: the one that stands for all that are alike. */
  private readonly first = new Map<string, LabelSet>();
  /** By the index of the one that stands for them: the others. */
  private readonly others = new Map<number, LabelSet[]>();
  private scratch = new Float64Array(0);

  constructor(private readonly reader: Pick<SeriesReader, "series" | "find" | "readTotal">) {}

  /** One label set for each series that is shown, in the order of first sight. */
  get series(): readonly LabelSet[] {
    const { series } = this.reader;
    for (; this.taken < series.length; this.taken++) this.take(series[this.taken] as LabelSet);
    return this.shown;
  }

  /** As SeriesReader's. */
  readTotal(labelSet: LabelSet, counts: Float64Array): void {
    this.reader.readTotal(labelSet, counts);
    for (const other of this.others.get(labelSet.index) ?? []) this.add(other, counts);
  }

  private take(labelSet: LabelSet): void {
    const visible = withoutMark(labelSet.labelKey);
    const isMarked = visible !== labelSet.labelKey;
    const first = this.first.get(visible) ?? (isMarked ? this.unmarked(visible) : undefined);
    if (isMarked) this.first.set(visible, first ?? labelSet);
    if (!first) {
      this.shown.push(labelSet);
      return;
    }
    const others = this.others.get(first.index);
    if (others) others.push(labelSet);
    else this.others.set(first.index, [labelSet]);
  }

  /** Of those that were taken already. */
  private unmarked(visible: string): LabelSet | undefined {
    const found = this.reader.find(visible);
    return found && found.index < this.taken ? found : undefined;
  }

  private add(labelSet: LabelSet, counts: Float64Array): void {
    if (this.scratch.length !== counts.length) this.scratch = new Float64Array(counts.length);
    this.scratch.fill(0);
    this.reader.readTotal(labelSet, this.scratch);
    for (const [field, count] of this.scratch.entries()) counts[field] = (counts[field] as number) + count;
  }
}
