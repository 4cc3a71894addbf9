// io.prometheus.client.Histogram: the classic buckets, and the sparse ones of a native histogram.
// https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto
//
//   Histogram { uint64 sample_count 1, double sample_sum 2, Bucket 3 ..., double sample_count_float 4, sint32 schema 5,
//               double zero_threshold 6, uint64 zero_count 7, double zero_count_float 8,
//               BucketSpan negative_span 9 ..., sint64 negative_delta 10 ..., double negative_count 11 ...,
//               BucketSpan positive_span 12 ..., sint64 positive_delta 13 ..., double positive_count 14 ... }
//   Bucket { uint64 cumulative_count 1, double upper_bound 2, double cumulative_count_float 4 }
//   BucketSpan { sint32 offset 1, uint32 length 2 }

import { bytesTag, varintTag, WireReader } from "./wire.ts";

/** The tags of a double that stands alone; a list of them may come packed, as may every list of numbers. */
const doubleTag = (field: number) => field * 8 + 1;

const SAMPLE_COUNT = varintTag(1);
const SAMPLE_SUM = doubleTag(2);
const BUCKET = bytesTag(3);
const SAMPLE_COUNT_FLOAT = doubleTag(4);
const SCHEMA = varintTag(5);
const ZERO_THRESHOLD = doubleTag(6);
const ZERO_COUNT = varintTag(7);
const ZERO_COUNT_FLOAT = doubleTag(8);
const NEGATIVE = { span: 9, delta: 10, count: 11 };
const POSITIVE = { span: 12, delta: 13, count: 14 };
const CUMULATIVE_COUNT = varintTag(1);
const UPPER_BOUND = doubleTag(2);
const CUMULATIVE_COUNT_FLOAT = doubleTag(4);
const OFFSET = varintTag(1);
const LENGTH = varintTag(2);

/** Classic buckets, and numbers in any list of the native ones. Prometheus' own native histograms have 160 buckets at most. */
const MAX_BUCKETS = 4096;

/** One side of a native histogram, its lists as they came: which buckets there are (spans), and what is in them. */
export class SparseBuckets {
  /** Flat: [offset, length, ...]. */
  readonly spans: number[] = [];
  /** Of whole counts: each bucket's, as its difference from the bucket before. */
  readonly deltas: number[] = [];
  /** Of float counts, instead. */
  readonly counts: number[] = [];

  clear(): void {
    // emptied only where there is something: most histograms are classic, and setting a length costs
    if (this.spans.length > 0) this.spans.length = 0;
    if (this.deltas.length > 0) this.deltas.length = 0;
    if (this.counts.length > 0) this.counts.length = 0;
  }
}

/** Reused: `clear` starts over. What occurs more than once is merged, as protobuf demands. */
export class MetricHistogram {
  /** How many samples: the float count where there is one, as native histograms of floats have. */
  count = 0;
  sum = 0;
  /** Classic buckets as they came, `bucketCount` of them: how many samples are at most at the bound. `+Inf` may be left out. */
  readonly upperBounds: number[] = [];
  readonly cumulativeCounts: number[] = [];
  bucketCount = 0;
  /** Whether there are native buckets: a schema was named, or spans, as Prometheus tells them from classic ones alone. */
  isNative = false;
  schema = 0;
  zeroThreshold = 0;
  zeroCount = 0;
  readonly negative = new SparseBuckets();
  readonly positive = new SparseBuckets();

  private wholeCount = 0;
  private floatCount = 0;
  private wholeZeroCount = 0;
  private floatZeroCount = 0;
  private readonly fields = new WireReader();
  private readonly nested = new WireReader();

  clear(): void {
    this.count = this.wholeCount = this.floatCount = 0;
    this.zeroCount = this.wholeZeroCount = this.floatZeroCount = 0;
    this.sum = 0;
    this.bucketCount = 0;
    this.isNative = false;
    this.schema = 0;
    this.zeroThreshold = 0;
    this.negative.clear();
    this.positive.clear();
  }

  /** Adds one occurrence of the message; false when it is malformed, or beyond a bound. */
  read(bytes: Buffer, start: number, stop: number): boolean {
    const { fields } = this;
    fields.open(bytes, start, stop);
    while (fields.next()) if (!this.readField(bytes, fields)) return false;
    this.count = this.floatCount > 0 ? this.floatCount : this.wholeCount;
    this.zeroCount = this.floatZeroCount > 0 ? this.floatZeroCount : this.wholeZeroCount;
    return !fields.isMalformed;
  }

  private readField(bytes: Buffer, field: WireReader): boolean {
    switch (field.tag) {
      case BUCKET:
        return this.readBucket(bytes, field.start, field.stop);
      case SAMPLE_COUNT:
        this.wholeCount = field.uint64();
        return true;
      case SAMPLE_SUM:
        this.sum = field.double();
        return true;
      case SAMPLE_COUNT_FLOAT:
        this.floatCount = field.double();
        return true;
      default:
        return this.readNative(bytes, field);
    }
  }

  private readNative(bytes: Buffer, field: WireReader): boolean {
    switch (field.tag) {
      case SCHEMA:
        this.schema = field.sint64();
        this.isNative = true;
        return true;
      case ZERO_THRESHOLD:
        this.zeroThreshold = field.double();
        return true;
      case ZERO_COUNT:
        this.wholeZeroCount = field.uint64();
        return true;
      case ZERO_COUNT_FLOAT:
        this.floatZeroCount = field.double();
        return true;
      default:
        return (
          this.readSide(bytes, field, this.negative, NEGATIVE) && this.readSide(bytes, field, this.positive, POSITIVE)
        );
    }
  }

  private readSide(bytes: Buffer, field: WireReader, side: SparseBuckets, numbers: typeof NEGATIVE): boolean {
    switch (field.tag) {
      case bytesTag(numbers.span):
        this.isNative = true;
        return this.readSpan(bytes, field.start, field.stop, side.spans);
      case varintTag(numbers.delta):
        return push(side.deltas, field.sint64());
      case bytesTag(numbers.delta):
        return this.readPackedDeltas(bytes, field.start, field.stop, side.deltas);
      case doubleTag(numbers.count):
        return push(side.counts, field.double());
      case bytesTag(numbers.count):
        return readPackedDoubles(bytes, field.start, field.stop, side.counts);
      default:
        return true;
    }
  }

  private readBucket(bytes: Buffer, start: number, stop: number): boolean {
    if (this.bucketCount === MAX_BUCKETS) return false;
    const { nested } = this;
    let whole = 0;
    let float = 0;
    let bound = 0;
    nested.open(bytes, start, stop);
    while (nested.next()) {
      if (nested.tag === CUMULATIVE_COUNT) whole = nested.uint64();
      else if (nested.tag === UPPER_BOUND) bound = nested.double();
      else if (nested.tag === CUMULATIVE_COUNT_FLOAT) float = nested.double();
    }
    this.upperBounds[this.bucketCount] = bound;
    this.cumulativeCounts[this.bucketCount] = float > 0 ? float : whole;
    this.bucketCount++;
    return !nested.isMalformed;
  }

  private readSpan(bytes: Buffer, start: number, stop: number, spans: number[]): boolean {
    const { nested } = this;
    let offset = 0;
    let length = 0;
    nested.open(bytes, start, stop);
    while (nested.next()) {
      if (nested.tag === OFFSET) offset = nested.sint64();
      else if (nested.tag === LENGTH) length = nested.low >>> 0;
    }
    return push(spans, offset) && push(spans, length) && !nested.isMalformed;
  }

  private readPackedDeltas(bytes: Buffer, start: number, stop: number, deltas: number[]): boolean {
    const { nested } = this;
    nested.open(bytes, start, stop);
    while (nested.nextPacked()) if (!push(deltas, nested.sint64())) return false;
    return !nested.isMalformed;
  }
}

function readPackedDoubles(bytes: Buffer, start: number, stop: number, counts: number[]): boolean {
  if ((stop - start) % 8 !== 0) return false;
  for (let at = start; at < stop; at += 8) if (!push(counts, bytes.readDoubleLE(at))) return false;
  return true;
}

/** False when the list is as long as it may be. */
function push(list: number[], value: number): boolean {
  return list.length < MAX_BUCKETS && list.push(value) > 0;
}
