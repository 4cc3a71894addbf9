// opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest, as far as it has histograms with explicit bounds.
// https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/metrics/v1/metrics.proto
//
//   ExportMetricsServiceRequest { ResourceMetrics 1 { Resource 1, ScopeMetrics 2 { Metric 2 ... } ... } ... }
//   Metric { string name 1, oneof: Gauge 5, Sum 7, Histogram 9, ExponentialHistogram 10, Summary 11 }, each with its data points 1
//   Histogram { HistogramDataPoint 1 ..., AggregationTemporality 2 }

import { type Attributes, readKeyValue, readResource } from "./otlp-common.ts";
import { bytesTag, varintTag, WireReader } from "./wire.ts";

const RESOURCE_METRICS = bytesTag(1);
const RESOURCE = bytesTag(1);
const SCOPE_METRICS = bytesTag(2);
const METRIC = bytesTag(2);
const NAME = bytesTag(1);
const HISTOGRAM = bytesTag(9);
const OTHER_KINDS = [5, 7, 10, 11].map(bytesTag);
const DATA_POINT = bytesTag(1);
const TEMPORALITY = varintTag(2);
const POINT = {
  start: fixed64Tag(2),
  time: fixed64Tag(3),
  count: fixed64Tag(4),
  sum: fixed64Tag(5),
  bucketCounts: [bytesTag(6), fixed64Tag(6)],
  bounds: [bytesTag(7), fixed64Tag(7)],
  attributes: bytesTag(9),
};

/** Bounds on what one request makes us do. */
export const MAX_POINTS = 65_536;
const MAX_BUCKETS = 1024;

/** Numbers of AggregationTemporality. */
export const DELTA = 1;
export const CUMULATIVE = 2;

export interface HistogramPoint {
  /** Since when it counts, and until when; Unix time, 0n when it does not say. */
  startNs: bigint;
  timeNs: bigint;
  count: number;
  sum: number;
  /** Of each bucket alone; one more than there are bounds, or none. */
  bucketCounts: number[];
  /** Upper ones, ascending; without that of the last bucket. */
  bounds: number[];
  readonly attributes: Attributes;
}

export interface HistogramMetric {
  readonly resource: Attributes;
  name: string;
  /** DELTA, CUMULATIVE or anything else. */
  temporality: number;
  readonly points: HistogramPoint[];
}

export interface MetricsRequest {
  readonly histograms: HistogramMetric[];
  /** Data points of histograms that cannot be read, and of metrics of other kinds. */
  malformed: number;
  others: number;
}

const request = new WireReader();
const resourceMetrics = new WireReader();
const scopeMetrics = new WireReader();
const metric = new WireReader();
const histogram = new WireReader();
const point = new WireReader();

/** Null when it is malformed outside of its data points, or has more of them than one may have: then none of it is taken. */
export function decodeMetrics(bytes: Buffer): MetricsRequest | null {
  const read: MetricsRequest = { histograms: [], malformed: 0, others: 0 };
  request.open(bytes, 0, bytes.length);
  while (request.next()) {
    if (request.tag !== RESOURCE_METRICS) continue;
    if (!readResourceMetrics(bytes, request.start, request.stop, read) || pointsOf(read) > MAX_POINTS) return null;
  }
  return request.isMalformed ? null : read;
}

export function pointsOf({ histograms, malformed, others }: MetricsRequest): number {
  return histograms.reduce((sum, { points }) => sum + points.length, malformed + others);
}

/** Whether its buckets are such: ascending bounds, and counts that add up to its count. */
export function isWhole({ count, bucketCounts, bounds }: HistogramPoint): boolean {
  if (bucketCounts.length > MAX_BUCKETS || !Number.isSafeInteger(count) || count < 0) return false;
  if (bucketCounts.length === 0) return bounds.length === 0;
  const isAscending = bounds.every((bound, i) => i === 0 || bound > (bounds[i - 1] as number));
  const total = bucketCounts.reduce((sum, each) => sum + each, 0);
  return isAscending && bucketCounts.length === bounds.length + 1 && total === count;
}

function readResourceMetrics(bytes: Buffer, start: number, stop: number, read: MetricsRequest): boolean {
  const resource: Attributes = new Map(); // one that stands after its metrics is theirs all the same
  resourceMetrics.open(bytes, start, stop);
  while (resourceMetrics.next()) {
    const { tag, start: at, stop: end } = resourceMetrics;
    if (tag === RESOURCE && !readResource(bytes, at, end, resource)) return false;
    if (tag !== SCOPE_METRICS) continue;
    scopeMetrics.open(bytes, at, end);
    while (scopeMetrics.next()) {
      if (scopeMetrics.tag !== METRIC) continue;
      if (!readMetric(bytes, scopeMetrics.start, scopeMetrics.stop, resource, read)) return false;
    }
    if (scopeMetrics.isMalformed) return false;
  }
  return !resourceMetrics.isMalformed;
}

function readMetric(bytes: Buffer, start: number, stop: number, resource: Attributes, read: MetricsRequest): boolean {
  const found: HistogramMetric = { resource, name: "", temporality: 0, points: [] };
  metric.open(bytes, start, stop);
  while (metric.next()) {
    if (metric.tag === NAME) found.name = metric.text();
    else if (metric.tag === HISTOGRAM && !readHistogram(bytes, metric.start, metric.stop, found, read)) return false;
    else if (OTHER_KINDS.includes(metric.tag) && !countPoints(bytes, metric.start, metric.stop, read)) return false;
  }
  if (found.points.length > 0) read.histograms.push(found);
  return !metric.isMalformed;
}

function readHistogram(
  bytes: Buffer,
  start: number,
  stop: number,
  found: HistogramMetric,
  read: MetricsRequest,
): boolean {
  histogram.open(bytes, start, stop);
  while (histogram.next()) {
    if (histogram.tag === TEMPORALITY) found.temporality = histogram.low;
    if (histogram.tag !== DATA_POINT) continue;
    if (found.points.length > MAX_POINTS) return false;
    const one = readPoint(bytes, histogram.start, histogram.stop);
    if (one === null) read.malformed++;
    else found.points.push(one);
  }
  return !histogram.isMalformed;
}

function countPoints(bytes: Buffer, start: number, stop: number, read: MetricsRequest): boolean {
  histogram.open(bytes, start, stop);
  while (histogram.next()) if (histogram.tag === DATA_POINT) read.others++;
  return !histogram.isMalformed;
}

function readPoint(bytes: Buffer, start: number, stop: number): HistogramPoint | null {
  const found: HistogramPoint = newPoint();
  point.open(bytes, start, stop);
  while (point.next()) {
    const { tag, start: at, stop: end } = point;
    if (tag === POINT.start) found.startNs = bytes.readBigUInt64LE(at);
    else if (tag === POINT.time) found.timeNs = bytes.readBigUInt64LE(at);
    else if (tag === POINT.count) found.count = Number(bytes.readBigUInt64LE(at));
    else if (tag === POINT.sum) found.sum = bytes.readDoubleLE(at);
    else if (tag === POINT.attributes) {
      if (!readKeyValue(bytes, at, end, found.attributes)) return null;
    } else if (POINT.bucketCounts.includes(tag)) {
      if (!readEights(at, end, found.bucketCounts, (from) => Number(bytes.readBigUInt64LE(from)))) return null;
    } else if (POINT.bounds.includes(tag)) {
      if (!readEights(at, end, found.bounds, (from) => bytes.readDoubleLE(from))) return null;
    }
  }
  return point.isMalformed || !isWhole(found) ? null : found;
}

function newPoint(): HistogramPoint {
  return { startNs: 0n, timeNs: 0n, count: 0, sum: 0, bucketCounts: [], bounds: [], attributes: new Map() };
}

/** Values of eight bytes, packed or one of them. */
function readEights(start: number, stop: number, into: number[], read: (at: number) => number): boolean {
  if ((stop - start) % 8 !== 0 || into.length + (stop - start) / 8 > MAX_BUCKETS) return false;
  for (let at = start; at < stop; at += 8) into.push(read(at));
  return true;
}

function fixed64Tag(field: number): number {
  return field * 8 + 1;
}
