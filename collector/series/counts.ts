// Counts: everything that is counted for one label set, as one row of numbers. Every number only ever grows. With the default bounds:
//
//   field  0         1 .......... 19  20     21   22 ......... 40  41     42   43 ......... 61  62     63
//         +---------+----------------+------+----+----------------+------+----+----------------+------+----+
//         | requests| duration, le=  | count| sum| request bytes  | count| sum| response bytes | count| sum|
//         +---------+----------------+------+----+----------------+------+----+----------------+------+----+
// Buckets are cumulative, at the bounds by which the collector counts (`metrics.bounds`).

import type { AccessRecord, HistogramSample, StatsSample } from "../record/record.ts";
import { HTTP_METRICS, HttpMetric } from "../vocabulary.ts";
import { binMiddle, type HistogramBounds, wholeSum } from "./histogram.ts";

export const REQUESTS = 0;

/** Where a row has what, with these bounds. */
export class CountsLayout {
  /** Fields of one histogram: its buckets, then count, then sum. */
  readonly histogramWidth: number;
  /** Offsets in a histogram. */
  readonly histogramCount: number;
  readonly histogramSum: number;
  /** Fields of a row. */
  readonly width: number;

  constructor(readonly bounds: HistogramBounds) {
    this.histogramCount = bounds.count;
    this.histogramSum = bounds.count + 1;
    this.histogramWidth = bounds.count + 2;
    this.width = 1 + (HTTP_METRICS.length - 1) * this.histogramWidth;
  }

  /** First field of a histogram. */
  histogramField(metric: HttpMetric): number {
    return 1 + (metric - 1) * this.histogramWidth;
  }

  /** Writes into `counts` what one request adds. */
  fillFromRecord(counts: Float64Array, record: AccessRecord): void {
    counts.fill(0);
    counts[REQUESTS] = record.requests;
    this.fillValue(counts, this.histogramField(HttpMetric.Duration), record.durationMs);
    this.fillValue(counts, this.histogramField(HttpMetric.RequestBytes), record.requestBytes);
    this.fillValue(counts, this.histogramField(HttpMetric.ResponseBytes), record.responseBytes);
  }

  /** Adds to `counts` what a scrape says of one label set; what it does not say adds nothing. */
  addFromStats(counts: Float64Array, sample: StatsSample): void {
    if (sample.requests > 0) counts[REQUESTS] = (counts[REQUESTS] as number) + sample.requests;
    for (let metric = HttpMetric.Duration; metric < HTTP_METRICS.length; metric++) {
      const histogram = sample.histograms[metric];
      if (histogram) this.addHistogram(counts, this.histogramField(metric), histogram);
    }
  }

  /** A negative value was not measured and is not counted. */
  private fillValue(counts: Float64Array, field: number, value: number): void {
    if (value < 0) return;
    counts.fill(1, field + this.bounds.bucketIndex(value), field + this.histogramSum);
    counts[field + this.histogramSum] = wholeSum(binMiddle(value));
  }

  private addHistogram(counts: Float64Array, field: number, histogram: HistogramSample): void {
    const { histogramCount, histogramSum } = this;
    for (let bucket = 0; bucket < histogramCount; bucket++) {
      counts[field + bucket] = (counts[field + bucket] as number) + (histogram.cumulative[bucket] as number);
    }
    counts[field + histogramCount] = (counts[field + histogramCount] as number) + histogram.count;
    counts[field + histogramSum] = (counts[field + histogramSum] as number) + wholeSum(histogram.sum);
  }
}
