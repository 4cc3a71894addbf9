// The same request in OTLP's JSON.
// https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding

import type { Attributes } from "./otlp-common.ts";
import {
  isObject,
  type JsonObject,
  listOf,
  parseObject,
  readAttributesJson,
  readDoubleJson,
  readResourceJson,
  readUint64Json,
} from "./otlp-json.ts";
import {
  type HistogramMetric,
  type HistogramPoint,
  isWhole,
  MAX_POINTS,
  type MetricsRequest,
  pointsOf,
} from "./otlp-metrics.ts";

const OTHER_KINDS = ["gauge", "sum", "exponentialHistogram", "summary"];

/** As decodeMetrics. */
export function decodeMetricsJson(text: string): MetricsRequest | null {
  const root = parseObject(text);
  const resources = listOf(root?.["resourceMetrics"]);
  if (root === null || resources === null) return null;
  const read: MetricsRequest = { histograms: [], malformed: 0, others: 0 };
  for (const each of resources) {
    if (!isObject(each) || !readResourceMetrics(each, read) || pointsOf(read) > MAX_POINTS) return null;
  }
  return read;
}

function readResourceMetrics({ resource, scopeMetrics }: JsonObject, read: MetricsRequest): boolean {
  const attributes = readResourceJson(resource);
  const scopes = listOf(scopeMetrics);
  if (attributes === null || scopes === null) return false;
  return scopes.every((scope) => {
    const metrics = isObject(scope) ? listOf(scope["metrics"]) : null;
    return metrics?.every((metric) => isObject(metric) && readMetric(metric, attributes, read)) ?? false;
  });
}

function readMetric(metric: JsonObject, resource: Attributes, read: MetricsRequest): boolean {
  const { name = "", histogram } = metric;
  if (typeof name !== "string") return false;
  for (const kind of OTHER_KINDS) {
    const of = metric[kind];
    if (isObject(of)) read.others += listOf(of["dataPoints"])?.length ?? 0;
  }
  if (histogram === undefined) return true;
  const points = isObject(histogram) ? listOf(histogram["dataPoints"]) : null;
  if (points === null || !isObject(histogram)) return false;
  const found: HistogramMetric = {
    resource,
    name,
    temporality: Number(histogram["aggregationTemporality"]),
    points: [],
  };
  for (const each of points) {
    const point = isObject(each) ? pointOf(each) : null;
    if (point === null) read.malformed++;
    else found.points.push(point);
  }
  if (found.points.length > 0) read.histograms.push(found);
  return true;
}

function pointOf(json: JsonObject): HistogramPoint | null {
  const startNs = readUint64Json(json["startTimeUnixNano"]);
  const timeNs = readUint64Json(json["timeUnixNano"]);
  const count = readUint64Json(json["count"]);
  const sum = readDoubleJson(json["sum"]);
  const bucketCounts = numbersOf(json["bucketCounts"], (each) => readUint64Json(each));
  const bounds = numbersOf(json["explicitBounds"], readDoubleJson);
  const attributes = readAttributesJson(json["attributes"]);
  if (startNs === null || timeNs === null || count === null || sum === null) return null;
  if (bucketCounts === null || bounds === null || attributes === null) return null;
  const point = { startNs, timeNs, count: Number(count), sum, bucketCounts, bounds, attributes };
  return isWhole(point) ? point : null;
}

function numbersOf(value: unknown, read: (each: unknown) => number | bigint | null): number[] | null {
  const list = listOf(value)?.map(read) ?? null;
  return list === null || list.includes(null) ? null : list.map(Number);
}
