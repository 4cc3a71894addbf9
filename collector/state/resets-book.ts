// ResetsBook: of every target what its readings had come to (record/counter-resets.ts), kept over a restart of the collector.

import { CounterResets, CounterRows, type SavedCounter } from "../record/counter-resets.ts";
import { DEFAULT_SHAPES, type Shapes } from "../series/shape.ts";
import { type ByteReader, ByteWriter, malformed } from "./bytes.ts";

export class ResetsBook {
  private readonly rows: CounterRows;
  private readonly targets = new Map<string, CounterResets>();
  /** Of those that were restored, who was not asked for yet. */
  private readonly unclaimed = new Set<string>();
  /** Since when all sources have named their targets; null while one has not. */
  private namedSinceMs: number | null = null;

  constructor(
    private readonly shapes: Shapes = DEFAULT_SHAPES,
    /** For so long after that it is waited for targets that were read before. */
    private readonly graceMs = 0,
    /** A clock that never jumps. */
    private readonly nowMs = () => performance.now(),
  ) {
    this.rows = new CounterRows(shapes);
  }

  /** The target's, begun or restored. */
  of(target: string): CounterResets {
    this.unclaimed.delete(target);
    let resets = this.targets.get(target);
    if (!resets) {
      resets = new CounterResets(this.rows);
      this.targets.set(target, resets);
    }
    return resets;
  }

  /** Forgets a target that is read no more. */
  release(target: string): void {
    this.targets.get(target)?.release();
    this.targets.delete(target);
  }

  /**
   * To be called now and then: forgets what was restored of targets that nobody reads, a while after all sources have named theirs. A target
   * that comes later counts anew: short by what earlier generations of its counters had counted, until it exceeds that, and never over.
   */
  releaseLost(areAllNamed: boolean): void {
    if (this.unclaimed.size === 0 || !areAllNamed) return;
    this.namedSinceMs ??= this.nowMs();
    if (this.nowMs() - this.namedSinceMs < this.graceMs) return;
    for (const target of this.unclaimed) this.release(target);
    this.unclaimed.clear();
  }

  /** In pieces, each of some targets. */
  *pieces(pieceBytes: number): Generator<Buffer> {
    const writer = new ByteWriter();
    for (const [target, resets] of this.targets) {
      writeTarget(writer, this.shapes, target, resets);
      if (writer.length >= pieceBytes) yield writer.take();
    }
    if (writer.length > 0) yield writer.take();
  }

  /** Takes in one piece. */
  restore(reader: ByteReader): void {
    while (!reader.isDone) {
      const target = reader.text();
      const lifeMs = reader.float();
      const proxy = reader.text();
      const counters = Array.from({ length: reader.count() }, () => readCounter(reader, this.shapes));
      this.of(target).restore(lifeMs, proxy, counters);
      this.unclaimed.add(target);
    }
  }
}

function writeTarget(writer: ByteWriter, shapes: Shapes, target: string, resets: CounterResets): void {
  const counters = [...resets.held()];
  writer.text(target);
  writer.float(resets.life.lifeMs);
  writer.text(resets.life.proxy);
  writer.count(counters.length);
  for (const { table, labelKey, falls, last, base } of counters) {
    const { metrics } = shapeOf(shapes, table);
    writer.byte(table);
    writer.labelKey(labelKey);
    for (const fell of falls) writer.count(fell);
    writer.row(last.chunk, last.at, metrics);
    writer.byte(base === null ? 0 : 1);
    if (base !== null) writer.row(base.chunk, base.at, metrics);
  }
}

function readCounter(reader: ByteReader, shapes: Shapes): SavedCounter {
  const table = reader.byte();
  const { metrics, width } = shapeOf(shapes, table);
  const labelKey = reader.labelKey();
  const falls = metrics.map(() => reader.count());
  const last = new Float64Array(width);
  reader.row(last, metrics);
  const base = reader.byte() === 0 ? null : new Float64Array(width);
  if (base !== null) reader.row(base, metrics);
  return { table, labelKey, falls, last, base };
}

function shapeOf(shapes: Shapes, table: number): Shapes[number] {
  const shape = shapes[table];
  if (!shape) throw malformed(`there is no table ${table}`);
  return shape;
}
