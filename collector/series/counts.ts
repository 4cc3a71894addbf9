// Counts: everything that is counted for one label set, as one row of numbers. Every number only ever grows.
//
//   field  0         1 .......... 19  20     21   22 ......... 40  41     42   43 ......... 61  62     63
//         +---------+----------------+------+----+----------------+------+----+----------------+------+----+
//         | requests| duration, le=  | count| sum| request bytes  | count| sum| response bytes | count| sum|
//         +---------+----------------+------+----+----------------+------+----+----------------+------+----+
// Buckets are cumulative, at HISTOGRAM_BOUNDS.

import type { AccessRecord, HistogramSample, StatsSample } from "../record/record.ts";
import { HTTP_METRICS, HttpMetric } from "../vocabulary.ts";
import { BUCKET_COUNT, binMiddle, bucketIndex, wholeSum } from "./histogram.ts";

export const REQUESTS = 0;
/** Fields of one histogram: its buckets, then count, then sum. */
export const HISTOGRAM_WIDTH = BUCKET_COUNT + 2;
export const HISTOGRAM_COUNT = BUCKET_COUNT;
export const HISTOGRAM_SUM = BUCKET_COUNT + 1;
/** Fields of a row. */
export const COUNTS_WIDTH = 1 + (HTTP_METRICS.length - 1) * HISTOGRAM_WIDTH;

/** First field of a histogram. */
export function histogramField(metric: HttpMetric): number {
  return 1 + (metric - 1) * HISTOGRAM_WIDTH;
}

/** Writes into `counts` what one request adds. */
export function fillFromRecord(counts: Float64Array, record: AccessRecord): void {
  counts.fill(0);
  counts[REQUESTS] = record.requests;
  fillValue(counts, histogramField(HttpMetric.Duration), record.durationMs);
  fillValue(counts, histogramField(HttpMetric.RequestBytes), record.requestBytes);
  fillValue(counts, histogramField(HttpMetric.ResponseBytes), record.responseBytes);
}

/** A negative value was not measured and is not counted. */
function fillValue(counts: Float64Array, field: number, value: number): void {
  if (value < 0) return;
  counts.fill(1, field + bucketIndex(value), field + HISTOGRAM_SUM);
  counts[field + HISTOGRAM_SUM] = wholeSum(binMiddle(value));
}

/** Adds to `counts` what a scrape says of one label set; what it does not say adds nothing. */
export function addFromStats(counts: Float64Array, sample: StatsSample): void {
  if (sample.requests > 0) counts[REQUESTS] = (counts[REQUESTS] as number) + sample.requests;
  for (let metric = HttpMetric.Duration; metric < HTTP_METRICS.length; metric++) {
    const histogram = sample.histograms[metric];
    if (histogram) addHistogram(counts, histogramField(metric), histogram);
  }
}

function addHistogram(counts: Float64Array, field: number, histogram: HistogramSample): void {
  for (let bucket = 0; bucket < BUCKET_COUNT; bucket++) {
    counts[field + bucket] = (counts[field + bucket] as number) + (histogram.cumulative[bucket] as number);
  }
  counts[field + HISTOGRAM_COUNT] = (counts[field + HISTOGRAM_COUNT] as number) + histogram.count;
  counts[field + HISTOGRAM_SUM] = (counts[field + HISTOGRAM_SUM] as number) + wholeSum(histogram.sum);
}
