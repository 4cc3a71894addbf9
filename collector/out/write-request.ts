// Prometheus remote write 1.0: points -> prometheus.WriteRequest, in snappy's block format.
// https://prometheus.io/docs/specs/prw/remote_write_spec/
//
//   WriteRequest { repeated TimeSeries timeseries = 1 }
//   TimeSeries   { repeated Label labels = 1; repeated Sample samples = 2 }
//   Label        { string name = 1; string value = 2 }
//   Sample       { double value = 1; int64 timestamp = 2 }          timestamp: Unix ms
//
// Most bytes are labels, which are the same each time. So of a label set they are encoded once, in three parts, between which those that
// differ from sample to sample have their place in the order that the specification asks for:
//
//   [ Label "Cluster" ] __name__ [ Label "destination_app" ... ] le [ Label "reporter" ... ]

import type { Batch, Encoder } from "./batch.ts";
import type { Labels, Point, SpreadLabel } from "./point.ts";
import { SNAPPY_BLOCK_BYTES, SnappyBlocks } from "./snappy.ts";
import { bytesField, varintLength, writeVarint } from "./varint.ts";

export const REMOTE_WRITE_HEADERS = {
  "content-type": "application/x-protobuf",
  "content-encoding": "snappy",
  "x-prometheus-remote-write-version": "0.1.0",
} as const;

/** A request is sealed at this length before snappy: far below what receivers refuse. */
const MAX_REQUEST_BYTES = 1024 * 1024;
const NAME_LABEL = "__name__";
const NOTHING = Buffer.alloc(0);
/** Prometheus' staleness marker: a NaN with these bits, high half first. JavaScript keeps no NaN's bits, so they are written as such. */
const STALE_NAN = [0x7ff00000, 0x00000002] as const;

interface EncodedLabels {
  readonly beforeName: Buffer;
  readonly beforeSpread: Buffer;
  readonly rest: Buffer;
  readonly length: number;
}

export interface WriteRequestOptions {
  /** Added to every series that has no label of the name. */
  readonly externalLabels: Readonly<Record<string, string>>;
  readonly maxSamples: number;
}

export class WriteRequestEncoder implements Encoder {
  private buffer = Buffer.allocUnsafe(2 * MAX_REQUEST_BYTES);
  private used = 0;
  /** Of what is in the buffer. */
  private readonly packed = new SnappyBlocks();
  private samples = 0;
  private collectedMs = 0;
  private timestamp = NOTHING;
  private sealed: Batch[] = [];
  private readonly encoded = {
    le: new WeakMap<Labels, EncodedLabels>(),
    quantile: new WeakMap<Labels, EncodedLabels>(),
  };
  /** Encoded labels of names, and of marks of histograms and summaries: few, each in use all the time. */
  private readonly names = new Map<string, Buffer>();
  private readonly marks = { le: new Map<string, Buffer>(), quantile: new Map<string, Buffer>() };

  constructor(private readonly options: WriteRequestOptions) {}

  begin(collectedMs: number): void {
    this.collectedMs = collectedMs;
    this.timestamp = Buffer.alloc(varintLength(collectedMs));
    writeVarint(this.timestamp, collectedMs, 0);
  }

  add(point: Point): void {
    this.write(point, false);
  }

  addGone(point: Point): void {
    this.write(point, true);
  }

  get hasBatches(): boolean {
    return this.sealed.length > 0;
  }

  async take(isLast: boolean): Promise<readonly Batch[]> {
    if (isLast) this.seal();
    const taken = this.sealed;
    this.sealed = [];
    return taken;
  }

  private write({ family, labels, value, spread }: Point, isGone: boolean): void {
    const { name } = family;
    if (spread === null) {
      this.writeSample(this.encodedLabels(labels, "le"), this.name(name), NOTHING, value, isGone);
      return;
    }
    const encoded = this.encodedLabels(labels, spread.label);
    const isHistogram = spread.label === "le";
    const series = this.name(isHistogram ? `${name}_bucket` : name);
    for (const [index, mark] of spread.marks.entries()) {
      this.writeSample(encoded, series, this.mark(spread.label, mark), spread.values[index] as number, isGone);
    }
    if (isHistogram) this.writeSample(encoded, series, this.mark("le", "+Inf"), spread.count, isGone);
    this.writeSample(encoded, this.name(`${name}_sum`), NOTHING, spread.sum, isGone);
    this.writeSample(encoded, this.name(`${name}_count`), NOTHING, spread.count, isGone);
  }

  private writeSample(labels: EncodedLabels, name: Buffer, mark: Buffer, value: number, isGone: boolean): void {
    const sampleLength = 1 + 8 + 1 + this.timestamp.length;
    const length = labels.length + name.length + mark.length + 2 + sampleLength;
    const whole = 1 + varintLength(length) + length;
    if (this.samples > 0 && this.used + whole > MAX_REQUEST_BYTES) this.seal();
    if (whole > this.buffer.length - this.used) this.buffer = Buffer.allocUnsafe(whole); // only when nothing is in it
    const { buffer } = this;
    let at = this.used;
    buffer[at++] = 0x0a;
    at = writeVarint(buffer, length, at);
    at += labels.beforeName.copy(buffer, at);
    at += name.copy(buffer, at);
    at += labels.beforeSpread.copy(buffer, at);
    at += mark.copy(buffer, at);
    at += labels.rest.copy(buffer, at);
    buffer[at++] = 0x12;
    buffer[at++] = sampleLength;
    buffer[at++] = 0x09;
    if (isGone) {
      buffer.writeUInt32LE(STALE_NAN[1], at);
      buffer.writeUInt32LE(STALE_NAN[0], at + 4);
    } else {
      buffer.writeDoubleLE(value, at);
    }
    at += 8;
    buffer[at++] = 0x10;
    at += this.timestamp.copy(buffer, at);
    this.used = at;
    this.pack(SNAPPY_BLOCK_BYTES);
    if (++this.samples >= this.options.maxSamples) this.seal();
  }

  private seal(): void {
    if (this.samples === 0) return;
    this.pack(1);
    this.sealed.push({ body: this.packed.take(), samples: this.samples, collectedMs: this.collectedMs });
    this.used = 0;
    this.samples = 0;
  }

  /** What is not packed yet, in blocks, the last one if it has so many bytes. */
  private pack(least: number): void {
    const { buffer, packed, used } = this;
    while (used - packed.bytes >= least) {
      packed.add(buffer.subarray(packed.bytes, Math.min(used, packed.bytes + SNAPPY_BLOCK_BYTES)));
    }
  }

  private encodedLabels(labels: Labels, spreadLabel: SpreadLabel): EncodedLabels {
    const known = this.encoded[spreadLabel];
    let encoded = known.get(labels);
    if (!encoded) {
      encoded = this.encodeLabels(labels, spreadLabel);
      known.set(labels, encoded);
    }
    return encoded;
  }

  private encodeLabels({ pairs }: Labels, spreadLabel: SpreadLabel): EncodedLabels {
    const all = new Map([...Object.entries(this.options.externalLabels), ...pairs]);
    const sorted = [...all].filter(([, value]) => value !== "").sort(([a], [b]) => (a < b ? -1 : 1));
    const between = (low: string, high: string | null) =>
      Buffer.concat(sorted.filter(([name]) => low <= name && (high === null || name < high)).map(encodeLabel));
    const beforeName = between("", NAME_LABEL);
    const beforeSpread = between(NAME_LABEL, spreadLabel);
    const rest = between(spreadLabel, null);
    return { beforeName, beforeSpread, rest, length: beforeName.length + beforeSpread.length + rest.length };
  }

  private name(name: string): Buffer {
    let label = this.names.get(name);
    if (!label) {
      label = encodeLabel([NAME_LABEL, name]);
      this.names.set(name, label);
    }
    return label;
  }

  private mark(label: SpreadLabel, mark: string): Buffer {
    let encoded = this.marks[label].get(mark);
    if (!encoded) {
      encoded = encodeLabel([label, mark]);
      this.marks[label].set(mark, encoded);
    }
    return encoded;
  }
}

/** Field 1 of a TimeSeries. */
function encodeLabel([name, value]: readonly [string, string]): Buffer {
  return bytesField(1, Buffer.concat([bytesField(1, name), bytesField(2, value)]));
}
