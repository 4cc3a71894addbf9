// AiBook: what AI gateways told (ai/metrics.ts), kept over a restart of the collector: label sets, each with the streams that it adds up.
//
//   series    1 | metric | labels | sum | cumulative buckets | streams
//   released  2 | stream | start            behind all series

import type { AiMetrics, SavedSeries } from "../ai/metrics.ts";
import type { SavedStream } from "../ai/readings.ts";
import { type ByteReader, ByteWriter, malformed } from "./bytes.ts";

const SERIES = 1;
const RELEASED = 2;
/** Of a 64-bit number the lower half. */
const LOW = 2n ** 32n;

export class AiBook {
  constructor(
    private readonly metrics: Pick<AiMetrics, "save" | "released" | "onSaved" | "restore" | "restoreReleased">,
  ) {}

  *pieces(pieceBytes: number): Generator<Buffer> {
    const writer = new ByteWriter();
    for (const series of this.metrics.save()) {
      writeSeries(writer, series);
      if (writer.length >= pieceBytes) yield writer.take();
    }
    for (const [key, startNs] of [...this.metrics.released]) {
      writer.byte(RELEASED);
      writer.text(key);
      writeNanos(writer, startNs);
      if (writer.length >= pieceBytes) yield writer.take();
    }
    if (writer.length > 0) yield writer.take();
  }

  restore(reader: ByteReader): void {
    while (!reader.isDone) {
      const kind = reader.byte();
      if (kind === SERIES) this.metrics.restore(readSeries(reader));
      else if (kind === RELEASED) this.metrics.restoreReleased(reader.text(), readNanos(reader));
      else throw malformed(`there is no record of kind ${kind}`);
    }
  }

  onSaved(): void {
    this.metrics.onSaved();
  }
}

function writeSeries(writer: ByteWriter, { metric, labels, sum, cumulative, streams }: SavedSeries): void {
  writer.byte(SERIES);
  writer.text(metric);
  writer.text(labels);
  writer.float(sum);
  writer.numbers(cumulative);
  writer.count(streams.length);
  for (const [key, { startNs, timeNs, last }] of streams) {
    writer.text(key);
    writeNanos(writer, startNs);
    writeNanos(writer, timeNs);
    writer.float(last.count);
    writer.float(last.sum);
    writer.numbers(Float64Array.from(last.bucketCounts));
    writer.numbers(Float64Array.from(last.bounds));
  }
}

function readSeries(reader: ByteReader): SavedSeries {
  const metric = reader.text();
  const labels = reader.text();
  const sum = reader.float();
  const cumulative = reader.numbers();
  const streams = Array.from({ length: reader.count() }, () => [reader.text(), readStream(reader)] as const);
  return { metric, labels, sum, cumulative, streams };
}

function readStream(reader: ByteReader): SavedStream {
  const startNs = readNanos(reader);
  const timeNs = readNanos(reader);
  const count = reader.float();
  const sum = reader.float();
  return { startNs, timeNs, last: { count, sum, bucketCounts: [...reader.numbers()], bounds: [...reader.numbers()] } };
}

function writeNanos(writer: ByteWriter, nanos: bigint): void {
  writer.count(Number(nanos / LOW));
  writer.count(Number(nanos % LOW));
}

function readNanos(reader: ByteReader): bigint {
  return BigInt(reader.count()) * LOW + BigInt(reader.count());
}
