// Latencies as counts in buckets whose bounds grow by 2 %: any quantile within 1 % of a value that was really measured, from a microsecond
// to an hour, and sketches add up. The idea is DDSketch's (https://arxiv.org/abs/1908.10693), without its collapsing of buckets.

/** Of a quantile, at most. */
export const RELATIVE_ERROR = 0.01;

const GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR);
const INVERSE_LOG = 1 / Math.log(GROWTH);
/** Of a bucket ]GROWTH^(i-1), GROWTH^i]: what is as far from both its ends, by ratio of the difference. */
const MIDDLE = 2 / (1 + GROWTH);

/** An hour; what took longer counts as an hour. */
const MAX_US = 3_600_000_000;
const BUCKETS = Math.ceil(Math.log(MAX_US) * INVERSE_LOG) + 1;
/** Buckets come by so many: neighbouring latencies mostly fall into the same few. */
const STEP = 32;

const EMPTY = new Uint32Array(0);

/** What a sketch holds; plain, so that it can go from thread to thread. */
export interface SketchCounts {
  /** Of latencies. */
  readonly count: number;
  /** Of the buckets from `first` on. */
  readonly counts: Uint32Array;
  readonly first: number;
}

export class LatencySketch implements SketchCounts {
  count = 0;
  counts = EMPTY;
  first = 0;

  /** Microseconds; below one it counts as one. */
  add(us: number): void {
    const bucket = bucketOf(us);
    const at = bucket - this.first;
    this.count++;
    if (at >= 0 && at < this.counts.length) (this.counts[at] as number)++;
    else this.widen(bucket);
  }

  merge({ count, counts, first }: SketchCounts): void {
    if (count === 0) return;
    this.cover(first, first + counts.length);
    const shift = first - this.first;
    for (let i = 0; i < counts.length; i++) (this.counts[i + shift] as number) += counts[i] as number;
    this.count += count;
  }

  /** Microseconds that a share `q` of the latencies (0 to 1) does not exceed; null without any. */
  quantile(q: number): number | null {
    if (this.count === 0) return null;
    const rank = Math.max(1, Math.ceil(q * this.count));
    let seen = 0;
    let at = 0;
    while (at < this.counts.length - 1) {
      seen += this.counts[at] as number;
      if (seen >= rank) break;
      at++;
    }
    return MIDDLE * GROWTH ** (this.first + at);
  }

  /** Empty again; what it held room for it keeps. */
  clear(): void {
    if (this.count > 0) this.counts.fill(0);
    this.count = 0;
  }

  private widen(bucket: number): void {
    this.cover(bucket, bucket + 1);
    (this.counts[bucket - this.first] as number)++;
  }

  /** Makes room for the buckets [low, high[. */
  private cover(low: number, high: number): void {
    const isNew = this.counts.length === 0;
    const first = isNew ? low : Math.min(low, this.first);
    const stop = isNew ? high : Math.max(high, this.first + this.counts.length);
    if (!isNew && first === this.first && stop === this.first + this.counts.length) return;
    const roundedFirst = Math.floor(first / STEP) * STEP;
    const grown = new Uint32Array(Math.min(BUCKETS, Math.ceil(stop / STEP) * STEP) - roundedFirst);
    grown.set(this.counts, isNew ? 0 : this.first - roundedFirst);
    this.counts = grown;
    this.first = roundedFirst;
  }
}

function bucketOf(us: number): number {
  if (!(us > 1)) return 0;
  return Math.ceil(Math.log(Math.min(us, MAX_US)) * INVERSE_LOG);
}
