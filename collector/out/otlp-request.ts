// OTLP metrics: points -> opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest, packed by gzip.
// https://opentelemetry.io/docs/specs/otel/metrics/data-model/
// https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/metrics/v1/metrics.proto
//
//   ExportMetricsServiceRequest { repeated ResourceMetrics = 1 }     ResourceMetrics { Resource = 1; repeated ScopeMetrics = 2 }
//   ScopeMetrics { InstrumentationScope = 1; repeated Metric = 2 }   Metric { name = 1; description = 2; unit = 3;
//                                                                             Gauge = 5 | Sum = 7 | Histogram = 9 | Summary = 11 }
//
// Sums and histograms are cumulative and say since when they count; one that began anew says so by a later start.

import { promisify } from "node:util";
import { gzip, type ZlibOptions } from "node:zlib";
import type { Batch, Encoder } from "./batch.ts";
import type { Family, Labels, Point, Spread } from "./point.ts";
import { bytesField, varintLength, writeVarint } from "./varint.ts";

/** A request is sealed at about this length, before it is packed. */
const MAX_REQUEST_BYTES = 512 * 1024;
const GZIP_LEVEL = 1;
/** In a thread of its own. */
const pack = promisify<Buffer, ZlibOptions, Buffer>(gzip);
const CUMULATIVE = 2;
const NO_RECORDED_VALUE = 1;
const NS_PER_MS = 1_000_000n;
const NOTHING = Buffer.alloc(0);

/** UCUM's, by ours. */
const UNITS: Readonly<Record<string, string>> = { milliseconds: "ms", bytes: "By" };

/** Field numbers, which differ from kind to kind of data point. */
interface Fields {
  /** Of Metric. */
  readonly data: number;
  /** Of the data point. */
  readonly attributes: number;
  readonly flags: number;
}
const FIELDS: Readonly<Record<Family["kind"], Fields>> = {
  gauge: { data: 5, attributes: 7, flags: 8 },
  counter: { data: 7, attributes: 7, flags: 8 },
  histogram: { data: 9, attributes: 9, flags: 10 },
  summary: { data: 11, attributes: 7, flags: 8 },
};

export interface OtlpRequestOptions {
  readonly resourceAttributes: Readonly<Record<string, string>>;
  /** Of the instrumentation scope. */
  readonly version: string;
  /** Most data points in a request. */
  readonly maxSamples: number;
}

export class OtlpRequestEncoder implements Encoder {
  private readonly resource: Buffer;
  private readonly scope: Buffer;
  private readonly families = new Map<string, { readonly family: Family; readonly points: Buffer[] }>();
  private bytes = 0;
  private samples = 0;
  private collectedMs = 0;
  /** Not packed yet. */
  private sealed: Batch[] = [];
  /** By the number of the field that they are. */
  private readonly attributes = { 7: new WeakMap<Labels, Buffer>(), 9: new WeakMap<Labels, Buffer>() };
  private readonly bounds = new WeakMap<readonly string[], Buffer>();

  constructor(private readonly options: OtlpRequestOptions) {
    const attributes = Object.entries(options.resourceAttributes).map((pair) => keyValue(1, pair));
    this.resource = bytesField(1, Buffer.concat(attributes));
    this.scope = bytesField(1, Buffer.concat([bytesField(1, "meshtally"), bytesField(2, options.version)]));
  }

  begin(collectedMs: number): void {
    this.collectedMs = collectedMs;
  }

  add(point: Point, startMs: number): void {
    const { kind } = point.family;
    const parts = [this.attributesOf(point), this.times(kind === "gauge" ? 0 : startMs)];
    if (point.spread === null) parts.push(doubleField(4, point.value));
    else if (kind === "histogram") parts.push(...this.histogram(point.spread));
    else parts.push(...summary(point.spread));
    this.push(point.family, parts);
  }

  addGone(point: Point): void {
    const flags = Buffer.from([FIELDS[point.family.kind].flags << 3, NO_RECORDED_VALUE]);
    this.push(point.family, [this.attributesOf(point), this.times(0), flags]);
  }

  get hasBatches(): boolean {
    return this.sealed.length > 0;
  }

  async take(isLast: boolean): Promise<readonly Batch[]> {
    if (isLast) this.seal();
    const taken = this.sealed;
    this.sealed = [];
    const packed = async (batch: Batch) => ({ ...batch, body: await pack(batch.body, { level: GZIP_LEVEL }) });
    return Promise.all(taken.map(packed));
  }

  private push(family: Family, parts: readonly Buffer[]): void {
    const point = bytesField(1, Buffer.concat(parts));
    if (this.bytes + point.length > MAX_REQUEST_BYTES) this.seal();
    let ofFamily = this.families.get(family.name);
    if (!ofFamily) {
      ofFamily = { family, points: [] };
      this.families.set(family.name, ofFamily);
    }
    ofFamily.points.push(point);
    this.bytes += point.length;
    if (++this.samples >= this.options.maxSamples) this.seal();
  }

  private seal(): void {
    if (this.samples === 0) return;
    const metrics = Array.from(this.families.values(), ({ family, points }) =>
      bytesField(2, encodeMetric(family, points)),
    );
    const scopeMetrics = bytesField(2, Buffer.concat([this.scope, ...metrics]));
    const request = bytesField(1, Buffer.concat([this.resource, scopeMetrics]));
    this.sealed.push({ body: request, samples: this.samples, collectedMs: this.collectedMs });
    this.families.clear();
    this.bytes = 0;
    this.samples = 0;
  }

  private attributesOf({ family, labels }: Point): Buffer {
    const field = FIELDS[family.kind].attributes as 7 | 9;
    let encoded = this.attributes[field].get(labels);
    if (!encoded) {
      encoded = Buffer.concat(labels.pairs.map((pair) => keyValue(field, pair)));
      this.attributes[field].set(labels, encoded);
    }
    return encoded;
  }

  /** start_time_unix_nano = 2, left out for 0, and time_unix_nano = 3, the same in all data points. */
  private times(startMs: number): Buffer {
    const time = fixed64Field(3, BigInt(this.collectedMs) * NS_PER_MS);
    // A start after the time of collection would be one in the future: what is told was there at the collection.
    return startMs === 0
      ? time
      : Buffer.concat([fixed64Field(2, BigInt(Math.min(startMs, this.collectedMs)) * NS_PER_MS), time]);
  }

  /** count = 4, sum = 5, bucket_counts = 6 (of each bucket alone), explicit_bounds = 7 (upper, inclusive: Prometheus' `le`). */
  private histogram({ marks, values, count, sum }: Spread): Buffer[] {
    let bounds = this.bounds.get(marks);
    if (!bounds) {
      bounds = packed(7, marks.map(Number), (buffer, value, at) => buffer.writeDoubleLE(value, at));
      this.bounds.set(marks, bounds);
    }
    let below = 0;
    const buckets = Array.from({ length: marks.length + 1 }, (_, i) => {
      const upTo = i === marks.length ? count : Math.min(count, Math.max(below, values[i] as number));
      const own = upTo - below;
      below = upTo;
      return own;
    });
    const counts = packed(6, buckets, (buffer, value, at) => buffer.writeBigUInt64LE(whole(value), at));
    return [fixed64Field(4, whole(count)), doubleField(5, sum), counts, bounds];
  }
}

/** count = 4, sum = 5, quantile_values = 6 { quantile = 1; value = 2 }. */
function summary({ marks, values, count, sum }: Spread): Buffer[] {
  const quantiles = marks.map((mark, i) =>
    bytesField(6, Buffer.concat([doubleField(1, Number(mark)), doubleField(2, values[i] as number)])),
  );
  return [fixed64Field(4, whole(count)), doubleField(5, sum), ...quantiles];
}

/** Sum and Histogram: aggregation_temporality = 2; Sum: is_monotonic = 3. */
function encodeMetric({ name, kind, help, unit }: Family, points: readonly Buffer[]): Buffer {
  const isCumulative = kind === "counter" || kind === "histogram";
  const temporality = isCumulative ? Buffer.from([2 << 3, CUMULATIVE]) : NOTHING;
  const monotonic = kind === "counter" ? Buffer.from([3 << 3, 1]) : NOTHING;
  const data = bytesField(FIELDS[kind].data, Buffer.concat([...points, temporality, monotonic]));
  return Buffer.concat([bytesField(1, name), bytesField(2, help), bytesField(3, UNITS[unit] ?? unit), data]);
}

/** KeyValue { key = 1; AnyValue { string_value = 1 } value = 2 } */
function keyValue(field: number, [key, value]: readonly [string, string]): Buffer {
  return bytesField(field, Buffer.concat([bytesField(1, key), bytesField(2, bytesField(1, value))]));
}

/** A count as the wire has it; a count is whole already, so what is no number at all is none. */
function whole(count: number): bigint {
  return BigInt(Number.isFinite(count) ? Math.max(0, Math.round(count)) : 0);
}

function doubleField(field: number, value: number): Buffer {
  const encoded = Buffer.allocUnsafe(9);
  encoded[0] = (field << 3) | 1;
  encoded.writeDoubleLE(value, 1);
  return encoded;
}

function fixed64Field(field: number, value: bigint): Buffer {
  const encoded = Buffer.allocUnsafe(9);
  encoded[0] = (field << 3) | 1;
  encoded.writeBigUInt64LE(value, 1);
  return encoded;
}

/** Eight bytes for each. */
function packed(
  field: number,
  values: readonly number[],
  write: (to: Buffer, value: number, at: number) => void,
): Buffer {
  const length = 8 * values.length;
  const encoded = Buffer.allocUnsafe(1 + varintLength(length) + length);
  encoded[0] = (field << 3) | 2;
  const from = writeVarint(encoded, length, 1);
  for (const [i, value] of values.entries()) write(encoded, value, from + 8 * i);
  return encoded;
}
