// SeriesReader: what is read of the label sets of one shape, whether they were counted here or are sums over threads.

import type { NativeBuckets } from "./native.ts";
import type { Shapes } from "./shape.ts";

/** One label set. */
export interface LabelSet {
  /** Its number: below how many are held at once; once it was let go of, another's (label-sets.ts). */
  readonly index: number;
  /** Packed label values (key.ts). */
  readonly labelKey: string;
}

export interface SeriesReader {
  /** Every label set, in the order of first sight. Another list once some were let go of; what is let go of reads as 0. */
  readonly series: readonly LabelSet[];
  /** How many were let go of so far. */
  readonly letGoCount: number;
  /** Whether its total has not grown for so long that it is not shown any more (`metrics.expire_after`). Once it grows, it is again. */
  isExpired(labelSet: LabelSet): boolean;
  /** Whether there is such a time at all. */
  readonly hasExpiry: boolean;
  /** The label set of this key, if it is held. */
  find(labelKey: string): LabelSet | undefined;
  /** Copies a total into `counts`: a row as shape.ts draws it. */
  readTotal(series: LabelSet, counts: Float64Array): void;
  /** Like `readTotal`, without what had happened before the collector first saw the proxy. */
  readRecent(series: LabelSet, counts: Float64Array): void;
  /**
   * The native histogram beside a classic one of the total, by the metric's index in its shape; not to be changed, and valid until more is
   * counted. Null where none is kept.
   */
  readNative(series: LabelSet, metric: number): NativeBuckets | null;
  /** Those whose totals grew since the last call. */
  takeChanged(): readonly LabelSet[];
}

/** The label sets of both shapes. */
export interface SeriesTables {
  /** How the rows of both are laid out. */
  readonly shapes: Shapes;
  readonly http: SeriesReader;
  readonly tcp: SeriesReader;
}
