// io.prometheus.client.MetricFamily, as Envoy's metrics service sends it and delimited-protobuf exposition consists of it.
// https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto
//
//   MetricFamily { string name 1, string help 2, MetricType type 3, Metric 4 ..., string unit 5 }
//   Metric { LabelPair 1 ..., Gauge 2, Counter 3, Summary 4, Untyped 5, int64 timestamp_ms 6, Histogram 7 }
//   LabelPair { string name 1, string value 2 }
//
// Read in place: nothing is allocated per metric. Texts are left in the bytes, where their user finds or caches them.

import { FAMILY, LABEL, METRIC } from "./metric-fields.ts";
import { MetricHistogram } from "./metric-histogram.ts";
import { bytesTag, varintTag, WireReader } from "./wire.ts";

/** `value` of Gauge, Counter and Untyped alike: a double. */
const VALUE = 1 * 8 + 1;
const SUMMARY = { count: varintTag(1), sum: 2 * 8 + 1, quantile: bytesTag(3) };
const QUANTILE = { quantile: 1 * 8 + 1, value: 2 * 8 + 1 };

/** Envoy's metrics have some tens of labels, a summary has ten quantiles. A metric with more than these is malformed. */
const MAX_LABELS = 256;
const MAX_QUANTILES = 256;

/** A time beyond this is no milliseconds (that would be in 31 million years) but nanoseconds, as some builds of Istio's proxy send. */
const NANOSECONDS_FROM = 1e18;

/** Which value a metric has; of several, as no serializer writes, the last. */
export type ValueKind = "none" | "gauge" | "counter" | "summary" | "untyped" | "histogram";

/**
 * Walks one family: `if (family.open(...)) while (family.next()) ...`, then `isMalformed`. Reused: `open` and `next` overwrite all.
 * Absent text is empty, absent numbers are 0.
 */
export class MetricFamilyReader {
  bytes: Buffer = Buffer.alloc(0);
  /** Where the family's texts lie in `bytes`. */
  nameStart = 0;
  nameStop = 0;
  helpStart = 0;
  helpStop = 0;
  unitStart = 0;
  unitStop = 0;
  /** MetricType: 0 counter, 1 gauge, 2 summary, 3 untyped, 4 histogram, 5 gauge histogram; another number is not known here. */
  type = 0;
  isMalformed = false;

  // Of the current metric.

  /** Where each label lies, flat: [name start, name stop, value start, value stop, ...]; the first `labelCount` times 4 of them. */
  readonly labelSpans: number[] = [];
  labelCount = 0;
  /**
   * bytes[labelsStart, labelsStop) are all labels as they came, so the same bytes are the same labels, in order: a key to cache what is
   * made of them. -1 when something else stands between them, as no serializer writes.
   */
  labelsStart = 0;
  labelsStop = 0;
  kind: ValueKind = "none";
  gauge = 0;
  counter = 0;
  untyped = 0;
  /** Of a summary: how many samples, their sum, and the quantiles, flat: [quantile, value, ...]. */
  summaryCount = 0;
  summarySum = 0;
  readonly quantiles: number[] = [];
  readonly histogram = new MetricHistogram();
  /** Unix ms, with a fraction where nanoseconds were sent; 0 when the metric names no time. */
  timestampMs = 0;

  private readonly family = new WireReader();
  private readonly metric = new WireReader();
  private readonly fields = new WireReader();
  private readonly quantile = new WireReader();

  /** Reads what stands beside the metrics, wherever that is; false when the family's framing is broken, and then there is no metric. */
  open(bytes: Buffer, start: number, stop: number): boolean {
    this.clear(bytes);
    const { family } = this;
    family.open(bytes, start, stop);
    while (family.next()) this.readAttribute(family);
    this.isMalformed = family.isMalformed;
    family.open(bytes, start, this.isMalformed ? start : stop);
    return !this.isMalformed;
  }

  /** Moves to the next metric; false after the last, and at the first one that is broken. */
  next(): boolean {
    const { family } = this;
    while (family.next()) {
      if (family.tag !== FAMILY.metric) continue;
      if (this.readMetric(family.start, family.stop)) return true;
      family.open(this.bytes, 0, 0);
      this.isMalformed = true;
      return false;
    }
    return false;
  }

  private clear(bytes: Buffer): void {
    this.bytes = bytes;
    this.nameStart = this.nameStop = 0;
    this.helpStart = this.helpStop = 0;
    this.unitStart = this.unitStop = 0;
    this.type = 0;
    this.clearMetric();
  }

  private clearMetric(): void {
    this.labelCount = 0;
    this.labelsStart = this.labelsStop = 0;
    this.kind = "none";
    this.gauge = this.counter = this.untyped = 0;
    this.summaryCount = this.summarySum = 0;
    this.quantiles.length = 0;
    this.histogram.clear();
    this.timestampMs = 0;
  }

  private readAttribute(field: WireReader): void {
    switch (field.tag) {
      case FAMILY.name:
        this.nameStart = field.start;
        this.nameStop = field.stop;
        break;
      case FAMILY.help:
        this.helpStart = field.start;
        this.helpStop = field.stop;
        break;
      case FAMILY.unit:
        this.unitStart = field.start;
        this.unitStop = field.stop;
        break;
      case FAMILY.type:
        this.type = field.low;
        break;
    }
  }

  private readMetric(start: number, stop: number): boolean {
    const { metric } = this;
    this.clearMetric();
    metric.open(this.bytes, start, stop);
    let fieldStart = metric.position;
    while (metric.next()) {
      if (!this.readField(metric, fieldStart)) return false;
      fieldStart = metric.position;
    }
    return !metric.isMalformed;
  }

  private readField(field: WireReader, fieldStart: number): boolean {
    switch (field.tag) {
      case METRIC.label:
        this.spanLabel(fieldStart, field.stop);
        return this.readLabel(field.start, field.stop);
      case METRIC.gauge:
        return this.readValue("gauge", field.start, field.stop);
      case METRIC.counter:
        return this.readValue("counter", field.start, field.stop);
      case METRIC.untyped:
        return this.readValue("untyped", field.start, field.stop);
      case METRIC.summary:
        return this.readSummary(field.start, field.stop);
      case METRIC.histogram:
        this.kind = "histogram";
        return this.histogram.read(this.bytes, field.start, field.stop);
      case METRIC.timestampMs:
        this.timestampMs = readTime(field.int64());
        return true;
      default:
        return true;
    }
  }

  private spanLabel(start: number, stop: number): void {
    if (this.labelCount === 0) this.labelsStart = start;
    else if (start !== this.labelsStop) this.labelsStart = -1;
    this.labelsStop = this.labelsStart < 0 ? -1 : stop;
  }

  private readLabel(start: number, stop: number): boolean {
    if (this.labelCount === MAX_LABELS) return false;
    const { fields, labelSpans } = this;
    const at = this.labelCount++ * 4;
    labelSpans[at] = labelSpans[at + 1] = start;
    labelSpans[at + 2] = labelSpans[at + 3] = start;
    fields.open(this.bytes, start, stop);
    while (fields.next()) {
      if (fields.tag !== LABEL.name && fields.tag !== LABEL.value) continue;
      const part = fields.tag === LABEL.name ? at : at + 2;
      labelSpans[part] = fields.start;
      labelSpans[part + 1] = fields.stop;
    }
    return !fields.isMalformed;
  }

  private readValue(kind: "gauge" | "counter" | "untyped", start: number, stop: number): boolean {
    const { fields } = this;
    this.kind = kind;
    fields.open(this.bytes, start, stop);
    while (fields.next()) if (fields.tag === VALUE) this[kind] = fields.double();
    return !fields.isMalformed;
  }

  private readSummary(start: number, stop: number): boolean {
    const { fields } = this;
    this.kind = "summary";
    fields.open(this.bytes, start, stop);
    while (fields.next()) {
      if (fields.tag === SUMMARY.count) this.summaryCount = fields.uint64();
      else if (fields.tag === SUMMARY.sum) this.summarySum = fields.double();
      else if (fields.tag === SUMMARY.quantile && !this.readQuantile(fields.start, fields.stop)) return false;
    }
    return !fields.isMalformed;
  }

  private readQuantile(start: number, stop: number): boolean {
    const { quantile, quantiles } = this;
    if (quantiles.length === MAX_QUANTILES * 2) return false;
    let at = 0;
    let value = 0;
    quantile.open(this.bytes, start, stop);
    while (quantile.next()) {
      if (quantile.tag === QUANTILE.quantile) at = quantile.double();
      else if (quantile.tag === QUANTILE.value) value = quantile.double();
    }
    quantiles.push(at, value);
    return !quantile.isMalformed;
  }
}

function readTime(time: number): number {
  return time > NANOSECONDS_FROM ? time / 1e6 : time;
}
