// Native histograms: the histograms of a label set in buckets that grow by a constant factor, beside the classic ones of its total.
// https://prometheus.io/docs/specs/native_histograms/
//
// Bucket i holds values in (b^(i-1), b^i], b = 2^(2^-schema): at schema 3 it is 9 % wide. 0 has a bucket of its own.
//
// A bucket must never go down, and the classic ones are merged from two readings by their maximum (table.ts), so none can be made of
// them anew. Each observation is placed once, when the total gains it: in the lowest classic bucket that has room for it; in there
// at the logged value, if that is in it, else spread evenly, as histogram_quantile takes it to be. So all buckets together always hold as many
// as the total's count, and those up to a classic bound never more than it says.

import { type HistogramBounds, MAX_BOUNDS } from "./histogram.ts";

/** Where a histogram begins. */
const FINEST_SCHEMA = 3;
/**
 * Most buckets of one histogram, from its lowest to its highest. Beyond it, two each become one, and the schema falls by 1: from 1 to
 * 2^20 it stays 3, whatever 64 bits hold it is 1.
 */
export const MAX_NATIVE_BUCKETS = 160;
/** The window of buckets grows by so many at a time. */
const GROWTH = 16;
/** Up to so many observations are spread one by one. */
const ONE_BY_ONE = 8;

/** A histogram's buckets. All of it plain: it goes from thread to thread. */
export interface NativeBuckets {
  schema: number;
  /** Observations of 0. */
  zero: number;
  /** Index of the first of `counts`. */
  offset: number;
  /** Observations of each bucket. */
  counts: Float64Array;
}

/** Number of the first bucket whose upper bound is not below `value`, which is > 0. */
export function nativeIndex(schema: number, value: number): number {
  return Math.ceil(Math.log2(value) * 2 ** schema);
}

function emptyBuckets(): NativeBuckets {
  return { schema: FINEST_SCHEMA, zero: 0, offset: 0, counts: new Float64Array(0) };
}

/** Adds what other buckets hold. The schema becomes the coarser of both. */
function addBuckets(to: NativeBuckets, other: NativeBuckets): void {
  while (to.schema > other.schema) coarsen(to);
  to.zero += other.zero;
  for (const [place, count] of other.counts.entries()) {
    if (count === 0) continue;
    const halvings = other.schema - to.schema; // `to` may become coarser meanwhile
    addTo(to, coarser(other.offset + place, halvings), count);
  }
}

/** The index of a bucket after so many coarsenings. */
function coarser(index: number, halvings: number): number {
  return Math.ceil(index / 2 ** halvings);
}

function addTo(buckets: NativeBuckets, index: number, count: number): void {
  let at = index;
  while (!makeRoom(buckets, at)) {
    coarsen(buckets);
    at = coarser(at, 1);
  }
  const place = at - buckets.offset;
  buckets.counts[place] = (buckets.counts[place] as number) + count;
}

/**
 * False when the window would become too long. What was made room for and holds nothing is no reason: so the schema depends on the
 * observations alone, and not on their order, or on who added them up.
 */
function makeRoom(buckets: NativeBuckets, index: number): boolean {
  const { offset, counts } = buckets;
  const end = offset + counts.length;
  if (index >= offset && index < end) return true; // fast
  const isEmpty = counts.length === 0;
  const from = isEmpty ? index : Math.min(offset, index);
  const used = lengthInUse(counts);
  const to = isEmpty ? index + 1 : Math.max(offset + used, index + 1);
  if (to - from > MAX_NATIVE_BUCKETS) return false;
  const grown = new Float64Array(Math.min(MAX_NATIVE_BUCKETS, Math.ceil((to - from) / GROWTH) * GROWTH));
  grown.set(counts.subarray(0, used), isEmpty ? 0 : offset - from);
  buckets.offset = from;
  buckets.counts = grown;
  return true;
}

/** Up to the last that holds something. */
function lengthInUse(counts: Float64Array): number {
  let length = counts.length;
  while (length > 0 && counts[length - 1] === 0) length--;
  return length;
}

function coarsen(buckets: NativeBuckets): void {
  const { offset, counts } = buckets;
  const from = coarser(offset, 1);
  const halved = new Float64Array(counts.length === 0 ? 0 : coarser(offset + counts.length - 1, 1) - from + 1);
  for (const [place, count] of counts.entries()) {
    const at = coarser(offset + place, 1) - from;
    halved[at] = (halved[at] as number) + count;
  }
  buckets.schema--;
  buckets.offset = from;
  buckets.counts = halved;
}

/** The sum of all; null of none. */
export function sumBuckets(all: readonly (NativeBuckets | null | undefined)[]): NativeBuckets | null {
  const held = all.filter((buckets) => buckets !== null && buckets !== undefined);
  if (held.length < 2) return held[0] ?? null;
  const sum = emptyBuckets();
  for (const buckets of held) addBuckets(sum, buckets);
  return sum;
}

/** How many observations the buckets hold. */
export function observations({ zero, counts }: NativeBuckets): number {
  return counts.reduce((sum, count) => sum + count, zero);
}

/** Scratch of `follow`. */
const room = new Float64Array(MAX_BOUNDS + 1);

/** One histogram of one label set. */
export class NativeHistogram {
  readonly buckets = emptyBuckets();
  /** Observations placed in each classic bucket, here or elsewhere, `+Inf` included; not cumulative. */
  private readonly placed: Float64Array;
  private placedCount = 0;

  /** `bounds`: of the classic buckets. */
  constructor(private readonly bounds: HistogramBounds) {
    this.placed = new Float64Array(bounds.count + 1);
  }

  /** Observations placed, here or elsewhere. */
  get count(): number {
    return this.placedCount;
  }

  /**
   * What `total` has, was placed elsewhere, or is added by `addBuckets`. A total that shares its counts with others (marked.ts) may have more
   * in a bucket than further up for a while: that was not placed.
   */
  markPlaced(total: Float64Array, at: number): void {
    const { count } = this.bounds;
    const all = total[at + count] as number; // behind the buckets
    let upTo = all;
    for (let bucket = count; bucket >= 0; bucket--) {
      const below = bucket === 0 ? 0 : Math.min(upTo, total[at + bucket - 1] as number);
      this.placed[bucket] = (this.placed[bucket] as number) + upTo - below;
      upTo = below;
    }
    this.placedCount += all;
  }

  /** What was placed elsewhere. */
  addBuckets(buckets: NativeBuckets): void {
    addBuckets(this.buckets, buckets);
  }

  /**
   * Places what the total has more than was placed. `total` has, from `at` on, the histogram's classic buckets and its count, after the gain.
   * `value`: what was logged, a whole number >= 0; negative when it is not known.
   */
  follow(total: Float64Array, at: number, value: number): void {
    const gained = (total[at + this.bounds.count] as number) - this.placedCount;
    if (!(gained > 0)) return;
    this.placedCount += gained;
    this.findRoom(total, at, gained);
    let placed = 0;
    for (let bucket = 0; bucket <= this.bounds.count && placed < gained; bucket++) {
      const upTo = room[bucket] as number;
      if (upTo > placed) this.place(bucket, upTo - placed, value);
      placed = Math.max(placed, upTo);
    }
  }

  /**
   * Leaves in `room` how many may be placed up to each classic bucket, so that neither there nor further up there are more than the total
   * says. Further up there may be less room: what once was in a high bucket was since told, by the other reading, to be in a low one.
   */
  private findRoom(total: Float64Array, at: number, gained: number): void {
    const { count } = this.bounds;
    let upTo = 0;
    for (let bucket = 0; bucket < count; bucket++) {
      upTo += this.placed[bucket] as number;
      room[bucket] = (total[at + bucket] as number) - upTo;
    }
    room[count] = gained;
    for (let bucket = count - 1; bucket >= 0; bucket--) {
      room[bucket] = Math.min(room[bucket] as number, room[bucket + 1] as number);
    }
  }

  private place(bucket: number, count: number, value: number): void {
    if (value >= 0 && this.bounds.bucketIndex(value) === bucket) this.add(value, count);
    else if (count <= ONE_BY_ONE) this.spreadOneByOne(bucket, count);
    else this.spread(bucket, count);
    this.placed[bucket] = (this.placed[bucket] as number) + count;
  }

  private add(value: number, count: number): void {
    if (value === 0) this.buckets.zero += count;
    else addTo(this.buckets, nativeIndex(this.buckets.schema, value), count);
  }

  /** By what was placed there before, so that many single ones are spread as evenly as many at once. */
  private spreadOneByOne(bucket: number, count: number): void {
    const [lowest, highest] = valuesOf(this.bounds, bucket);
    const before = this.placed[bucket] as number;
    for (let nth = before; nth < before + count; nth++) {
      this.add(lowest + Math.floor(evenFraction(nth) * (highest - lowest + 1)), Math.min(1, before + count - nth));
    }
  }

  private spread(bucket: number, count: number): void {
    const [lowest, highest] = valuesOf(this.bounds, bucket);
    const values = highest - lowest + 1;
    let spread = 0;
    for (let from = lowest; from <= highest; ) {
      const to = Math.min(highest, this.lastValueBeside(from));
      const upTo = to === highest ? count : Math.round((count * (to - lowest + 1)) / values);
      if (upTo > spread) this.add(from, upTo - spread);
      spread = upTo;
      from = to + 1;
    }
  }

  /** The largest whole number in the same bucket. */
  private lastValueBeside(value: number): number {
    if (value === 0) return 0;
    const { schema } = this.buckets;
    const bound = Math.floor(2 ** (nativeIndex(schema, value) / 2 ** schema));
    return Math.max(value, bound);
  }
}

/** The whole numbers that a classic bucket counts. Of those beyond the last bound nothing is known: they are taken for the next. */
function valuesOf({ lastValues }: HistogramBounds, bucket: number): readonly [lowest: number, highest: number] {
  const lowest = bucket === 0 ? 0 : (lastValues[bucket - 1] as number) + 1;
  return [lowest, lastValues[bucket] ?? lowest];
}

/** Fractions in [0, 1) of which each beginning of their row is spread evenly: multiples of the golden ratio. */
function evenFraction(nth: number): number {
  return ((nth + 0.5) * 0.618033988749895) % 1;
}
