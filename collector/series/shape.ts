// Shape: what is counted for one label set, as one row of numbers. HTTP metrics have one shape and TCP metrics another; each has its
// own label sets and its own room for them, and all that is done with a row is the same (table.ts).
//
//   HTTP   counts.ts draws it
//   TCP    field  0       1       2           3
//                +-------+-------+-----------+---------------+
//                | opened| closed| sent bytes| received bytes|
//                +-------+-------+-----------+---------------+

import type { AccessRecord, ConnectionPart, HistogramSample, StatsSample, TcpSample } from "../record/record.ts";
import { HTTP_METRICS, HttpMetric, TCP_METRICS } from "../vocabulary.ts";
import { CountsLayout, REQUESTS } from "./counts.ts";
import { DEFAULT_BOUNDS, type HistogramBounds } from "./histogram.ts";
import { MIXED_OVERFLOW_KEY, overflowKeyOf, TCP_MIXED_OVERFLOW_KEY } from "./overflow.ts";

/** Where a row has the numbers of one metric: counts in [from, sum), and the sum of a histogram in [sum, to). */
export interface MetricFields {
  readonly from: number;
  readonly sum: number;
  readonly to: number;
  /** Of its buckets, which the counts begin with; null of a counter. */
  readonly bounds: HistogramBounds | null;
}

export interface Shape<Told, Sample> {
  /** Place of what a life holds of it in `Life.cells`. */
  readonly index: number;
  /** Fields of a row; the first says how many requests, or connections, there were. */
  readonly width: number;
  /** The label set that takes in one which a limit keeps out (overflow.ts). */
  readonly overflowOf: (labelKey: string) => string;
  /** The one that took in all (`ProxyLives.hasMixedOverflow`). */
  readonly mixedOverflowKey: string;
  readonly metrics: readonly MetricFields[];
  /** Writes into a row what was logged. */
  readonly fill: (row: Float64Array, told: Told) => void;
  /** Adds to a row what a scrape says; what it does not say adds nothing. */
  readonly add: (row: Float64Array, sample: Sample) => void;
  /** Whether the scrape had that metric of the label set. */
  readonly has: (sample: Sample, metric: number) => boolean;
  /** What was logged, by metric: whole numbers, negative for what was not measured. Null of a shape without histograms. */
  readonly valuesOf: ((told: Told) => readonly number[]) | null;
  readonly emptySample: (labelKey: string) => Sample;
  /** Makes the sample say what is in the row, of all metrics. */
  readonly write: (sample: Sample, row: Float64Array) => void;
}

interface HttpShape extends Shape<AccessRecord, StatsSample> {
  readonly layout: CountsLayout;
}

function httpShape(bounds: HistogramBounds): HttpShape {
  const layout = new CountsLayout(bounds);
  const { histogramCount, histogramSum, histogramWidth } = layout;
  return {
    index: 0,
    layout,
    width: layout.width,
    overflowOf: (labelKey) => overflowKeyOf(labelKey, false),
    mixedOverflowKey: MIXED_OVERFLOW_KEY,
    metrics: HTTP_METRICS.map((_, metric) => {
      if (metric === HttpMetric.Requests) return counterFields(REQUESTS);
      const from = layout.histogramField(metric);
      return { from, sum: from + histogramSum, to: from + histogramWidth, bounds };
    }),
    fill: (row, told) => layout.fillFromRecord(row, told),
    add: (row, sample) => layout.addFromStats(row, sample),
    valuesOf: ({ durationMs, requestBytes, responseBytes }) => [-1, durationMs, requestBytes, responseBytes],
    has: ({ requests, histograms }, metric) =>
      metric === HttpMetric.Requests ? requests >= 0 : Boolean(histograms[metric]),
    emptySample: (labelKey) => ({ labelKey, requests: -1, histograms: HTTP_METRICS.map(() => null) }),
    write: (sample, row) => {
      sample.requests = row[REQUESTS] as number;
      for (let metric = HttpMetric.Duration; metric < HTTP_METRICS.length; metric++) {
        const histogram = sample.histograms[metric] ?? emptyHistogram(bounds);
        const from = layout.histogramField(metric);
        histogram.cumulative.set(row.subarray(from, from + histogramCount));
        histogram.count = row[from + histogramCount] as number;
        histogram.sum = row[from + histogramSum] as number;
        sample.histograms[metric] = histogram;
      }
    },
  };
}

export const TCP_SHAPE: Shape<ConnectionPart, TcpSample> = {
  index: 1,
  width: TCP_METRICS.length,
  overflowOf: (labelKey) => overflowKeyOf(labelKey, true),
  mixedOverflowKey: TCP_MIXED_OVERFLOW_KEY,
  metrics: TCP_METRICS.map((_, metric) => counterFields(metric)),
  fill: (row, { counts }) => row.set(counts),
  add: (row, { counts }) => {
    for (const [metric, count] of counts.entries()) {
      if (count > 0) row[metric] = (row[metric] as number) + count;
    }
  },
  valuesOf: null,
  has: ({ counts }, metric) => (counts[metric] as number) >= 0,
  emptySample: (labelKey) => ({ labelKey, counts: TCP_METRICS.map(() => -1) }),
  write: ({ counts }, row) => {
    for (const metric of counts.keys()) counts[metric] = row[metric] as number;
  },
};

/** By their index. */
export type Shapes = readonly [http: HttpShape, tcp: typeof TCP_SHAPE];

/** The shapes of a collector that counts by these bounds. */
export function shapesOf(bounds: HistogramBounds): Shapes {
  return [httpShape(bounds), TCP_SHAPE];
}

export const DEFAULT_SHAPES = shapesOf(DEFAULT_BOUNDS);

function counterFields(field: number): MetricFields {
  return { from: field, sum: field + 1, to: field + 1, bounds: null };
}

export function emptyHistogram({ count }: HistogramBounds): HistogramSample {
  return { cumulative: new Float64Array(count), count: 0, sum: 0 };
}
