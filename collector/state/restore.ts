// Restore: what snapshots (snapshot.ts) say, taken into a store; all of it, or of several shards each the part whose proxies are its own.

import type { ConnectionPart } from "../record/record.ts";
import type { Cell, LifeCells } from "../series/cell.ts";
import { ENDED_AS } from "../series/connections.ts";
import type { ConnectionId, Life } from "../series/life.ts";
import type { NativeBuckets } from "../series/native.ts";
import type { Shapes } from "../series/shape.ts";
import { SeriesStore } from "../series/store.ts";
import { TCP_METRICS } from "../vocabulary.ts";
import { Bases, readCell, type Table } from "./bases.ts";
import { type ByteReader, malformed } from "./bytes.ts";
import { readNatives } from "./natives.ts";
import { HAS_COUNTED, HAS_LOG, HAS_OTLP_LOG, HAS_STATS, IS_CLOSED, IS_UNMIXED, RecordKind } from "./records.ts";

/** Which part of a state is a shard's. */
export interface Share {
  /** Number of the shard, and of how many. */
  readonly shard: number;
  readonly shards: number;
  readonly owns: (proxyId: string) => boolean;
}

/** What of one writer's records later ones refer to. */
interface Writer {
  readonly number: number;
  /** By table, by the writer's number of it. */
  readonly labelKeys: readonly Map<number, string>[];
  /** By the writer's serial; null for those of others. */
  readonly lives: Map<number, Life | null>;
}

/** What may have been shown of each label set. */
export interface ShownBefore {
  /** The total: the sum of all parts, or the least if that is more; or what is left of it. */
  total(table: number, labelKey: string, total: Float64Array, what: ShownAs): void;
  /** Native buckets of one metric: their sum. */
  natives(table: number, labelKey: string, metric: number, buckets: NativeBuckets): void;
}

/** What a state says of a label set as it was shown (records.ts). */
export type ShownAs = "part" | "least" | "left";

const NOBODY: ShownBefore = { total: () => {}, natives: () => {} };

export class Restore {
  private readonly tables: readonly Table[];
  private readonly writers = new Map<number, Writer>();
  private readonly rows: readonly Float64Array[];

  constructor(
    private readonly store: SeriesStore,
    private readonly bases: Bases,
    private readonly share: Share,
    private readonly shown: ShownBefore = NOBODY,
  ) {
    this.tables = [store.http, store.tcp];
    this.rows = this.tables.map(({ width }) => new Float64Array(width));
  }

  /** One frame: the number of its writer, and records. */
  take(reader: ByteReader): void {
    const writer = this.writer(reader.count());
    while (!reader.isDone) this.takeRecord(reader, writer);
  }

  /** To be called after the last: makes the totals of what there is. */
  finish(): void {
    for (const { lives } of this.writers.values()) {
      for (const life of lives.values()) if (life !== null) this.store.connections.dropRestored(life);
    }
    for (const [index, table] of this.tables.entries()) {
      for (const labelKey of this.bases.labelKeys(index)) {
        const base = this.bases.find(index, labelKey);
        const { total } = table.admission.seriesOf(labelKey);
        if (base) addTo(table, total, base.chunk.subarray(base.at, base.at + table.width));
      }
      this.addCells(index, table);
      table.settleRestored();
    }
  }

  private addCells(index: number, table: Table): void {
    const row = this.rows[index] as Float64Array;
    for (const { lives, unstamped } of this.store.lives.proxies.values()) {
      if (unstamped !== null) table.admission.restoreMarked(unstamped);
      for (const life of unstamped === null ? lives : [unstamped, ...lives]) {
        for (const cell of life.cells[index]?.byKey.values() ?? []) {
          if (cell.account !== null) continue;
          readCell(table, cell, row);
          addTo(table, cell.series.total, row);
        }
      }
    }
  }

  private takeRecord(reader: ByteReader, writer: Writer): void {
    const kind = reader.byte();
    switch (kind) {
      case RecordKind.Series:
        this.takeSeries(reader, writer);
        break;
      case RecordKind.Past:
        this.takePast(reader);
        break;
      case RecordKind.Proxy:
        this.takeProxy(reader, writer);
        break;
      case RecordKind.Connections:
        this.takeConnections(reader, writer);
        break;
      case RecordKind.Ended:
        this.takeEnded(reader, writer);
        break;
      case RecordKind.Gone:
        this.takeGone(reader);
        break;
      case RecordKind.Base:
        this.takeBase(reader, writer);
        break;
      case RecordKind.Shown:
        this.takeShown(reader, "least");
        break;
      case RecordKind.Left:
        this.takeShown(reader, "left");
        break;
      case RecordKind.Natives:
        this.takeNatives(reader, this.table(reader).table, (table) => this.labelKey(reader, writer, table));
        break;
      case RecordKind.RestoredNatives:
        this.takeNatives(reader, this.table(reader).table, () => reader.labelKey());
        break;
      case RecordKind.LeftOpen:
        this.takeLeftOpen(reader);
        break;
      default:
        throw malformed(`there is no record of kind ${kind}`);
    }
  }

  private takeSeries(reader: ByteReader, writer: Writer): void {
    const { table, row } = this.table(reader);
    const index = reader.count();
    const labelKey = reader.labelKey();
    writer.labelKeys[table]?.set(index, labelKey);
    if (reader.byte() === 1) {
      this.row(reader, table);
      this.addBase(writer, table, labelKey);
    }
    this.row(reader, table);
    this.shown.total(table, labelKey, row, "part");
  }

  private takeBase(reader: ByteReader, writer: Writer): void {
    const { table } = this.table(reader);
    const labelKey = this.labelKey(reader, writer, table);
    this.row(reader, table);
    this.addBase(writer, table, labelKey);
  }

  private takeShown(reader: ByteReader, what: "least" | "left"): void {
    const { table, row } = this.table(reader);
    const labelKey = reader.labelKey();
    this.row(reader, table);
    this.shown.total(table, labelKey, row, what);
  }

  private takeNatives(reader: ByteReader, table: number, readLabelKey: (table: number) => string): void {
    const labelKey = readLabelKey(table);
    for (const [metric, buckets] of readNatives(reader)) this.shown.natives(table, labelKey, metric, buckets);
  }

  /** What belongs to no proxy any more goes to any one shard. */
  private addBase(writer: Writer, table: number, labelKey: string): void {
    if (writer.number % this.share.shards !== this.share.shard) return;
    this.bases.add(table, labelKey, this.rows[table] as Float64Array);
  }

  private takePast(reader: ByteReader): void {
    const id = reader.text();
    const untilMs = reader.float();
    const starts = Array.from({ length: reader.count() }, () => reader.float());
    if (!this.share.owns(id) || (starts.length === 0 && untilMs === 0)) return;
    const past = this.store.lives.pastOf(id);
    past.unstampedUntilMs = Math.max(past.unstampedUntilMs, untilMs);
    for (const startMs of starts) if (!past.starts.includes(startMs)) past.add(startMs);
  }

  private takeLeftOpen(reader: ByteReader): void {
    const id = reader.text();
    if (this.share.owns(id)) this.store.lives.pastOf(id).hasOpen = true;
  }

  private takeGone(reader: ByteReader): void {
    const id = reader.text();
    const startMs = reader.float();
    const untilMs = reader.float();
    if (!this.share.owns(id)) return;
    const past = this.store.lives.pastOf(id);
    past.unstampedUntilMs = Math.max(past.unstampedUntilMs, untilMs);
    if (startMs > 0 && !past.starts.includes(startMs)) past.add(startMs);
    this.store.lives.dropRestored(id, startMs);
  }

  private takeProxy(reader: ByteReader, writer: Writer): void {
    const id = reader.text();
    const isOwn = this.share.owns(id);
    const lives = Array.from({ length: reader.count() }, () => {
      const startMs = reader.float();
      const serial = reader.count();
      const spoke = reader.count();
      const flags = this.tables.map(() => reader.byte());
      const life = isOwn ? this.store.lives.restore(id, startMs, spoke) : null;
      for (const [table, cells] of life?.cells.entries() ?? []) {
        if ((flags[table] as number) & IS_CLOSED) cells.isClosed = true;
      }
      writer.lives.set(serial, life);
      return { life, mayMix: flags.some((flag) => (flag & IS_UNMIXED) === 0) };
    });
    for (const table of this.tables.keys()) {
      const cells: (Cell | null)[] = [];
      for (let left = reader.count(); left > 0; left--) {
        const owner = lives[reader.count()];
        const account = reader.count();
        if (owner === undefined || account > cells.length) throw malformed("a cell refers to what is not there");
        const labelKey = this.labelKey(reader, writer, table);
        const { life, mayMix } = owner;
        const cell = life ? this.cell(life, table, labelKey, cells[account - 1] ?? null) : null;
        if (life && mayMix && cell?.series.isOverflow) this.restoreMixed(life, table, labelKey);
        this.takeReadings(reader, table, cell);
        cells.push(cell);
      }
    }
  }

  private cell(life: Life, table: number, labelKey: string, account: Cell | null): Cell {
    return (this.tables[table] as Table).admission.restoreCell(life, labelKey, account);
  }

  private restoreMixed(life: Life, table: number, labelKey: string): void {
    (life.cells[table] as LifeCells).isClosed = true;
    if (labelKey === this.tables[table]?.shape.mixedOverflowKey) life.proxy.hasMixedOverflow = true;
  }

  private takeReadings(reader: ByteReader, table: number, cell: Cell | null): void {
    const readings = reader.byte();
    const { rows } = this.tables[table] as Table;
    const read = (held: number) => {
      const row = this.row(reader, table);
      const place = held >= 0 || cell === null ? held : rows.allocate();
      if (place >= 0) rows.chunk(place).set(row, rows.offset(place));
      return place;
    };
    if (readings & HAS_STATS) {
      const stats = read(cell?.stats ?? -1);
      if (cell) cell.stats = stats;
    }
    if (readings & HAS_LOG) {
      const log = read(cell?.log ?? -1);
      if (cell) cell.log = log;
    }
    if (readings & HAS_OTLP_LOG) {
      const otlpLog = read(cell?.otlpLog ?? -1);
      if (cell) cell.otlpLog = otlpLog;
    }
    if (readings & HAS_COUNTED) {
      const counted = read(cell?.counted ?? -1);
      if (cell) cell.counted = counted;
    }
  }

  private takeConnections(reader: ByteReader, writer: Writer): void {
    const life = writer.lives.get(reader.count());
    if (life === undefined) throw malformed("connections of a life that is not there");
    for (let left = reader.count(); left > 0; left--) {
      const id: ConnectionId = reader.byte() === 0 ? reader.float() : reader.text();
      const counted: ConnectionPart[] = [];
      const parts = reader.count();
      for (let index = 0; index < parts; index++) {
        const labelKey = this.labelKey(reader, writer, 1);
        const counts = readCounts(reader);
        if (counts.every((count) => count === 0)) continue; // it had found no room
        counted[index] = { labelKey: life ? this.store.tcp.admission.seriesOf(labelKey).labelKey : labelKey, counts };
      }
      // A life that was let go while this was written has none any more.
      if (life && life.proxy.find(life.startMs) === life) this.store.connections.restore(life, id, counted);
    }
  }

  /** Of the connections of a stream alone nobody knows whose they are. */
  private takeEnded(reader: ByteReader, writer: Writer): void {
    const key = reader.text();
    const refusal = ENDED_AS[reader.byte()];
    if (refusal === undefined) throw malformed("a connection ended as nobody knows");
    const [, serial, id] = /^(\d+)\/(.*)$/.exec(key) ?? [];
    if (serial === undefined) {
      this.store.connections.restoreEnded(key, refusal);
      return;
    }
    const life = writer.lives.get(Number(serial));
    if (life) this.store.connections.restoreEnded(`${life.serial}/${id}`, refusal);
  }

  private writer(number: number): Writer {
    let writer = this.writers.get(number);
    if (!writer) {
      writer = { number, labelKeys: this.tables.map(() => new Map()), lives: new Map() };
      this.writers.set(number, writer);
    }
    return writer;
  }

  private table(reader: ByteReader): { readonly table: number; readonly row: Float64Array } {
    const table = reader.byte();
    const row = this.rows[table];
    if (!row) throw malformed(`there is no table ${table}`);
    return { table, row };
  }

  private labelKey(reader: ByteReader, writer: Writer, table: number): string {
    const labelKey = writer.labelKeys[table]?.get(reader.count());
    if (labelKey === undefined) throw malformed("a label set has no name");
    return labelKey;
  }

  private row(reader: ByteReader, table: number): Float64Array {
    const row = this.rows[table] as Float64Array;
    reader.row(row, (this.tables[table] as Table).shape.metrics);
    return row;
  }
}

function addTo({ rows, width }: Table, into: number, row: Float64Array): void {
  const chunk = rows.chunk(into);
  const at = rows.offset(into);
  for (let field = 0; field < width; field++)
    chunk[at + field] = (chunk[at + field] as number) + (row[field] as number);
}

/** Reads all of a state and takes in nothing, but tells of each label set what may have been shown. Throws as ByteReader does. */
export function readShown(frames: Iterable<ByteReader>, shapes: Shapes, shown: ShownBefore = NOBODY): void {
  const limits = { proxies: 0, labelSets: 0, cells: 0, connections: 0, retireAfterMs: 0 };
  const nobodys = { shard: -1, shards: 1, owns: () => false };
  const store = new SeriesStore(limits, undefined, { shapes });
  const restore = new Restore(store, new Bases(shapes), nobodys, shown);
  for (const frame of frames) restore.take(frame);
}

function readCounts(reader: ByteReader): number[] {
  return TCP_METRICS.map(() => reader.float());
}
