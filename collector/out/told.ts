// Told: which label sets of which families were told of, so that those which are no more can be said to be gone.

import type { Family, Labels, Point, Spread, Step } from "./point.ts";

type Marks = Pick<Spread, "label" | "marks">;

/** A label set of a family that was told of. */
class Series {
  round = 0;
  isGone = false;
  /** The last number, or the last count of a histogram or summary. */
  last = 0;

  constructor(
    readonly family: Family,
    readonly labels: Labels,
    readonly marks: Marks | null,
    /** Since when it counts, Unix ms. */
    public startMs: number,
  ) {}

  /** As a point without values. */
  get emptied(): Point {
    const { family, labels, marks } = this;
    if (marks === null) return { family, labels, value: 0, spread: null };
    return { family, labels, value: null, spread: { ...marks, values: [], count: 0, sum: 0 } };
  }
}

export class Told {
  private readonly byFamily = new Map<string, Map<string, Series>>();
  private round = 0;
  private lastMs: number;

  /** `startMs`: since when what is told of first counts, Unix ms; 0 when that is not known. */
  constructor(private readonly startMs: number) {
    this.lastMs = startMs;
  }

  /** What follows is told in a new round. */
  begin(): void {
    this.round++;
  }

  /**
   * Remembers that the point is told. Returns since when it counts, Unix ms, 0 for not known: one that was gone meanwhile and does not go
   * on, or whose count went down, began anew after the round before.
   */
  note({ family, labels, value, spread }: Point): number {
    let ofFamily = this.byFamily.get(family.name);
    if (!ofFamily) {
      ofFamily = new Map();
      this.byFamily.set(family.name, ofFamily);
    }
    let series = ofFamily.get(labels.key);
    if (!series || (series.isGone && series.labels !== labels)) {
      const isFirstRound = this.round === 1;
      const marks = spread === null ? null : { label: spread.label, marks: spread.marks };
      series = new Series(family, labels, marks, isFirstRound ? this.startMs : this.lastMs);
      ofFamily.set(labels.key, series);
    }
    const now = spread === null ? value : spread.count;
    if (now < series.last) series.startMs = this.lastMs;
    series.last = now;
    series.round = this.round;
    series.isGone = false;
    return series.startMs;
  }

  /**
   * Those told of in the round before and not in this one, which are forgotten unless, and until, they cannot go on. To be taken at the end
   * of a round.
   */
  *gone(): Generator<Step> {
    for (const ofFamily of this.byFamily.values()) {
      for (const [key, series] of ofFamily) {
        const isGone = series.round !== this.round;
        const isNews = isGone && !series.isGone;
        series.isGone = isGone;
        if (isGone && !series.family.goesOn?.(series.labels)) ofFamily.delete(key);
        yield isNews ? series.emptied : null;
      }
    }
  }

  /** The round was whole. `atMs`: when it was collected. */
  end(atMs: number): void {
    this.lastMs = atMs;
  }
}
