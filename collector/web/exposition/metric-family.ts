// io.prometheus.client.MetricFamily, each behind its length: the protobuf format of /metrics. (proto/metric-family.ts reads it.)
// https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto

import { FAMILY, LABEL, METRIC } from "../../proto/metric-fields.ts";
import { bytesTag, fixed64Tag, varintTag } from "../../proto/wire.ts";
import { ByteWriter, varintLength } from "./writer.ts";

/** `value` of Gauge, Counter and Untyped alike. */
const VALUE = fixed64Tag(1);
/** Of Summary and Histogram alike; a bucket's `cumulative_count` and `upper_bound`, too, have these numbers. */
const COUNT = varintTag(1);
const SUM = fixed64Tag(2);
const PART = bytesTag(3);
const QUANTILE = { quantile: fixed64Tag(1), value: fixed64Tag(2) };

/** MetricType by the word of a TYPE line. */
const TYPES = { counter: 0, gauge: 1, summary: 2, untyped: 3, histogram: 4 } as const;
export type FamilyType = keyof typeof TYPES;

/** A tag and a double. */
const DOUBLE_BYTES = 9;
/** A bucket or quantile, with its tag and length. */
const PART_BYTES = 2 + DOUBLE_BYTES + 11;
/** What a value has besides buckets or quantiles, at most: tags, length, count, sum. */
const VALUE_BYTES = 40;

export interface FamilyHead {
  readonly name: string;
  readonly help: string;
  readonly type: FamilyType;
  /** "" for none. A name with a unit ends with it, before `_total`; Prometheus refuses others. */
  readonly unit?: string;
}

export interface Observed {
  readonly count: number;
  readonly sum: number;
}

/** All fields of a family but its metrics. */
export function encodeHead({ name, help, type, unit = "" }: FamilyHead): Buffer {
  const to = new ByteWriter(40 + 3 * (name.length + help.length + unit.length));
  putText(to, FAMILY.name, name);
  putText(to, FAMILY.help, help);
  to.putByte(FAMILY.type);
  to.putByte(TYPES[type]);
  if (unit !== "") putText(to, FAMILY.unit, unit);
  return Buffer.from(to.written());
}

/** The length of a metric's field in its family: tag, length, and so many bytes of labels and value. */
export function metricFieldLength(bytes: number): number {
  return 1 + varintLength(bytes) + bytes;
}

/** What stands before that many bytes of labels and value. */
export function putMetricHead(to: ByteWriter, bytes: number): void {
  to.putByte(FAMILY.metric);
  to.putVarint(bytes);
}

/** A field `Metric.label`. */
export function encodeLabel(name: string, value: string): Buffer {
  const to = new ByteWriter(40 + 3 * (name.length + value.length));
  putText(to, LABEL.name, name);
  putText(to, LABEL.value, value);
  const pair = Buffer.from(to.written());
  to.at = 0;
  to.putByte(METRIC.label);
  to.putVarint(pair.length);
  to.put(pair);
  return Buffer.from(to.written());
}

/** A label's field up to the length of its value, without tag and length: what all its values have in common. */
export function encodeLabelHead(name: string): Buffer {
  const to = new ByteWriter(40 + 3 * name.length);
  putText(to, LABEL.name, name);
  to.putByte(LABEL.value);
  return Buffer.from(to.written());
}

/** What stands before a label head, when head and value have so many bytes. */
export function putLabelHead(to: ByteWriter, bytes: number): void {
  to.putByte(METRIC.label);
  to.putVarint(bytes);
}

/** The field of a counter's, gauge's or untyped metric's value. */
export function putSingleValue(to: ByteWriter, type: "counter" | "gauge" | "untyped", value: number): void {
  to.ensure(2 + DOUBLE_BYTES);
  to.putByte(METRIC[type]);
  to.putByte(DOUBLE_BYTES);
  putDouble(to, VALUE, value);
}

/** The fields in turn, put together where the lengths before them are not known yet. */
const inner = new ByteWriter(4096);

/**
 * The field of a histogram's value, with a cumulative count for each of the bounds, of which `+Inf` is none. `native`: encoded fields of
 * the same message.
 */
export function putHistogram(
  to: ByteWriter,
  { count, sum }: Observed,
  bounds: ArrayLike<number>,
  cumulative: ArrayLike<number>,
  native: Uint8Array | null,
): void {
  begin(count, sum, bounds.length);
  for (let index = 0; index < bounds.length; index++) {
    const upTo = cumulative[index] as number;
    inner.putByte(PART);
    inner.putByte(1 + varintLength(upTo) + DOUBLE_BYTES);
    putCount(inner, upTo);
    putDouble(inner, SUM, bounds[index] as number);
  }
  if (native !== null) {
    inner.ensure(native.length);
    inner.put(native);
  }
  putInner(to, METRIC.histogram);
}

/** The field of a summary's value. */
export function putSummary(
  to: ByteWriter,
  { count, sum }: Observed,
  quantiles: ArrayLike<number>,
  values: ArrayLike<number>,
): void {
  begin(count, sum, quantiles.length);
  for (let index = 0; index < quantiles.length; index++) {
    inner.putByte(PART);
    inner.putByte(2 * DOUBLE_BYTES);
    putDouble(inner, QUANTILE.quantile, quantiles[index] as number);
    putDouble(inner, QUANTILE.value, values[index] as number);
  }
  putInner(to, METRIC.summary);
}

function begin(count: number, sum: number, parts: number): void {
  inner.at = 0;
  inner.ensure(VALUE_BYTES + parts * PART_BYTES);
  putCount(inner, count);
  putDouble(inner, SUM, sum);
}

function putInner(to: ByteWriter, tag: number): void {
  to.ensure(VALUE_BYTES + inner.at);
  to.putByte(tag);
  to.putVarint(inner.at);
  to.put(inner.written());
}

function putCount(to: ByteWriter, count: number): void {
  to.putByte(COUNT);
  to.putVarint(count);
}

function putDouble(to: ByteWriter, tag: number, value: number): void {
  to.putByte(tag);
  to.putDouble(value);
}

function putText(to: ByteWriter, tag: number, text: string): void {
  to.putByte(tag);
  to.putVarint(Buffer.byteLength(text));
  to.putText(text);
}
