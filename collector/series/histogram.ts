// Histogram buckets as Envoy counts them, so that the access log and the proxy's own stats put one value into one bucket.
//
// Envoy keeps a value by libcircllhist in a bin of two significant decimal digits: 1234 is in [1200, 1300), 7 in [7.0, 7.1).
// Bucket `le=B` holds the bins whose LOWER end is <= B; so all of 100..109 are in le="100", and 110 is not. That depends on B alone, so any
// bound is exact. The lower end is computed in floating point, as digits / 10 * 10^exponent: 110 comes out a little above 110, and is
// not in le="110", while 1100 is in le="1100".
// Seen with single values that were recorded, on Envoy 1.39.3 and 1.40.0 (test/collector/histogram.test.ts has the tables).
// Envoy 1.36.2 still held a bin only if all of it is below B (a value equal to a bound fell into the next bucket:
// envoyproxy/envoy#36549, openhistogram/libcircllhist#72). From such a proxy the merged bucket is the larger, newer reading.
// `sum` is approximate in Envoy too: each value counts as the harmonic middle of its bin, at most 5 % off. We do the same,
// since the larger of an exact and an approximate sum would be neither.

import { HISTOGRAM_BOUNDS } from "../vocabulary.ts";

/** Most bounds of a histogram. */
export const MAX_BOUNDS = 64;

/** The bounds (`le`) that histograms are counted by, `+Inf` aside, and which bucket a value is in. */
export class HistogramBounds {
  /** How many there are: the index of what only `+Inf` holds. */
  readonly count: number;
  /** For each bound the largest integer that Envoy counts under it: 0 for le=0.5, 5 for le=5, 109 for le=100, 2599 for le=2500. */
  readonly lastValues: readonly number[];
  private readonly indexes: ReadonlyMap<number, number>;

  /** `upper`: rising. */
  constructor(readonly upper: readonly number[]) {
    this.count = upper.length;
    this.lastValues = upper.map(lastValueOf);
    this.indexes = new Map([...upper, Number.POSITIVE_INFINITY].map((bound, index) => [bound, index]));
  }

  /** Index of the first bucket that holds `value`, a whole number >= 0; `count` when only `+Inf` does. */
  bucketIndex(value: number): number {
    const { count, lastValues } = this;
    let index = 0;
    while (index < count && value > (lastValues[index] as number)) index++;
    return index;
  }

  /** Index of a bound, `count` of Infinity; undefined for one that is not among them. */
  indexOf(bound: number): number | undefined {
    return this.indexes.get(bound);
  }
}

/** Envoy's own. */
export const DEFAULT_BOUNDS = new HistogramBounds(HISTOGRAM_BOUNDS);

/** The largest whole number that Envoy counts under a bound: it ends the last bin that begins there, or below. */
function lastValueOf(bound: number): number {
  if (bound < 10) return Math.floor(bound);
  const width = binWidth(bound);
  let digits = Math.floor(bound / width);
  while ((digits / 10) * (10 * width) > bound) digits--;
  return (digits + 1) * width - 1;
}

/** What Envoy adds to a histogram's sum for `value`, a whole number >= 0: 0 for 0, 5.0495 for 5, 1248 for 1234. */
export function binMiddle(value: number): number {
  if (value === 0) return 0;
  const width = binWidth(value);
  const lower = value < 10 ? value : Math.floor(value / width) * width;
  const upper = lower + width;
  return (2 * lower * upper) / (lower + upper);
}

/** Parts of one in which sums are counted. */
const SUM_PARTS = 64;

/**
 * The nearest number of whole parts: sums of such are exact up to 2^47, whoever adds what to what first. So a total does not go down in
 * its last digit where it is added up anew: over threads, after a restart, of two collectors.
 */
export function wholeSum(sum: number): number {
  return Math.round(sum * SUM_PARTS) / SUM_PARTS;
}

/** Width of the two-digit bin of a value: 0.1 for 5, 1 for 42, 10 for 250. */
function binWidth(value: number): number {
  if (value < 10) return 0.1;
  let width = 1;
  while (value >= width * 100) width *= 10;
  return width;
}

/**
 * The q-quantile (0 < q < 1) from cumulative bucket counts and the count of `+Inf`, by linear interpolation inside the bucket, as
 * Prometheus' histogram_quantile does: what lies beyond the last bound reads as the last bound. Null for an empty histogram.
 */
export function quantile(
  q: number,
  bounds: readonly number[],
  cumulative: ArrayLike<number>,
  count: number,
): number | null {
  if (count <= 0) return null;
  const rank = q * count;
  let lowerBound = 0;
  let below = 0;
  for (const [index, bound] of bounds.entries()) {
    const upTo = cumulative[index] as number;
    if (upTo >= rank && upTo > below) return lowerBound + ((bound - lowerBound) * (rank - below)) / (upTo - below);
    lowerBound = bound;
    below = upTo;
  }
  return lowerBound;
}
