// StreamedBook: of every process that reports by the metrics service what it has told in all (record/streamed-counts.ts), kept over a restart of
// the collector. Of histograms nobody else has it: they come as what was added since the flush before.
//
// What is saved of a process is of one moment, after its cells: a flush that came between is in both, or here alone, and the merge by the
// maximum takes it once. What was flushed since is lost of histograms, and of counters that come as deltas.

import type { SavedProcess } from "../receiver/metrics-processes.ts";
import type { StreamedLabelSet } from "../record/streamed-counts.ts";
import type { Shapes } from "../series/shape.ts";
import { type ByteReader, ByteWriter, malformed } from "./bytes.ts";

/** Who counts them. */
export interface Processes {
  saved(): Iterable<SavedProcess>;
  restore(process: SavedProcess): void;
}

export class StreamedBook {
  /** Of the pieces that were taken in: label sets by number. */
  private readonly names: string[] = [];

  constructor(
    private readonly processes: Processes,
    private readonly shapes: Shapes,
  ) {}

  /** Each of some processes. A label set is named once, and then by the number of its name. */
  *pieces(pieceBytes: number): Generator<Buffer> {
    const writer = new ByteWriter();
    const numbers = new Map<string, number>();
    for (const process of this.processes.saved()) {
      writeProcess(writer, process, numbers, this.shapes);
      if (writer.length >= pieceBytes) yield writer.take();
    }
    if (writer.length > 0) yield writer.take();
  }

  /** Takes in one piece, in their order. */
  restore(reader: ByteReader): void {
    while (!reader.isDone) this.processes.restore(readProcess(reader, this.names, this.shapes));
  }
}

function writeProcess(writer: ByteWriter, process: SavedProcess, numbers: Map<string, number>, shapes: Shapes): void {
  writer.text(process.proxy);
  writer.float(process.startMs);
  writer.float(process.timeMs);
  for (const { table, id, labelKey, row, last } of process.counts) {
    writer.byte(1);
    writer.byte(table);
    writeName(writer, id, numbers);
    writeName(writer, labelKey, numbers);
    writer.row(row, 0, shapeOf(shapes, table).metrics);
    writer.count(last.length);
    for (const count of last) writer.float(count);
  }
  writer.byte(0);
}

function readProcess(reader: ByteReader, names: string[], shapes: Shapes): SavedProcess {
  const proxy = reader.text();
  const startMs = reader.float();
  const timeMs = reader.float();
  const counts: StreamedLabelSet[] = [];
  while (reader.byte() !== 0) counts.push(readLabelSet(reader, names, shapes));
  return { proxy, startMs, timeMs, counts };
}

function readLabelSet(reader: ByteReader, names: string[], shapes: Shapes): StreamedLabelSet {
  const table = reader.byte();
  const { metrics, width } = shapeOf(shapes, table);
  const id = readName(reader, names);
  const labelKey = readName(reader, names);
  const row = new Float64Array(width);
  reader.row(row, metrics);
  const last = Array.from({ length: reader.count() }, () => reader.float());
  return { table, id, labelKey, row, last };
}

function writeName(writer: ByteWriter, name: string, numbers: Map<string, number>): void {
  const number = numbers.get(name) ?? numbers.size;
  writer.count(number);
  if (numbers.has(name)) return;
  numbers.set(name, number);
  writer.labelKey(name);
}

function readName(reader: ByteReader, names: string[]): string {
  const number = reader.count();
  if (number === names.length) names.push(reader.labelKey());
  const name = names[number];
  if (name === undefined) throw malformed("a label set has no name");
  return name;
}

function shapeOf(shapes: Shapes, table: number): Shapes[number] {
  const shape = shapes[table];
  if (!shape) throw malformed(`there is no table ${table}`);
  return shape;
}
