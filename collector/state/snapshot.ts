// Snapshot: what a shard counted, written in pieces while it goes on counting.
//
// Nothing is copied ahead, so the pieces are of different moments. It is right all the same: totals are not saved but for being shown; they
// are the sums of cells and bases, and what belongs together is written at one moment: the cells of one proxy, each with what it was
// counted for. A life that is let go meanwhile is told of where that happens. (docs/adr/0007-state.md)

import type { ConnectionPart } from "../record/record.ts";
import type { Cell, Series } from "../series/cell.ts";
import { ENDED_AS } from "../series/connections.ts";
import { type ConnectionId, type Life, type Past, type ProxyLives, UNSTAMPED } from "../series/life.ts";
import type { SeriesStore } from "../series/store.ts";
import type { Bases, Table } from "./bases.ts";
import { ByteWriter } from "./bytes.ts";
import { hasObservations, type Natives, writeNatives } from "./natives.ts";
import { HAS_COUNTED, HAS_LOG, HAS_OTLP_LOG, HAS_STATS, IS_CLOSED, IS_UNMIXED, RecordKind } from "./records.ts";

/** How much is written at one moment. */
export interface SnapshotOptions {
  /** A piece is about this long. */
  readonly pieceBytes: number;
  /** Cells and connections of a proxy up to which it is written at one moment. */
  readonly momentCells: number;
  /** Cells, or connections, of one record of a larger one. */
  readonly recordCells: number;
}

/** Some ms of work each. */
export const SNAPSHOT_OPTIONS: SnapshotOptions = { pieceBytes: 128 * 1024, momentCells: 5000, recordCells: 1000 };

/** A label set that was let go of just before: its total, and its native histograms. */
export interface Left {
  readonly table: number;
  readonly labelKey: string;
  readonly total: Float64Array;
  readonly natives: Natives;
}

/** A cell to be written, as that of a life. */
interface LifeCell {
  readonly life: number;
  readonly cell: Cell;
}

export class Snapshot {
  private readonly writer = new ByteWriter();
  private readonly tables: readonly Table[];
  /** A row of any table. */
  private readonly nothing: Float64Array;
  /** Of each table: the indexes of the label sets that were written, which are those at the beginning of its list. */
  private readonly written: readonly Set<number>[];
  private isShownWritten = false;
  /** Serials of the lives that were written. */
  private readonly named = new Set<number>();
  private readonly work: Generator<void>;

  constructor(
    /** Number of the shard. */
    private readonly shard: number,
    private readonly store: SeriesStore,
    private readonly bases: Bases,
    private readonly left: readonly Left[],
    private readonly options: SnapshotOptions,
  ) {
    this.tables = [store.http, store.tcp];
    this.nothing = new Float64Array(Math.max(...this.tables.map(({ width }) => width)));
    this.written = this.tables.map(() => new Set());
    this.work = this.write();
  }

  /** The next piece; null when that was all. */
  next(): Buffer | null {
    let isDone = false;
    while (!isDone && this.writer.length < this.options.pieceBytes) isDone = this.work.next().done === true;
    if (this.writer.length === 0) return null;
    const header = new ByteWriter();
    header.count(this.shard);
    return Buffer.concat([header.take(), this.writer.take()]);
  }

  /** A life is let go: of each label set what it leaves in the base. */
  released(life: Life, left: readonly (readonly [table: number, series: Series, row: Float64Array])[]): void {
    if (life.startMs !== UNSTAMPED && life.proxy.unstamped !== null && this.named.has(life.serial))
      this.rewriteProxy(life.proxy);
    this.writeLeftOpen(life.proxy.id, life.proxy.past);
    this.writer.byte(RecordKind.Gone);
    this.writer.text(life.proxy.id);
    this.writer.float(life.startMs);
    this.writer.float(life.proxy.past.unstampedUntilMs);
    for (const [table, series, row] of left) {
      if (!this.written[table]?.has(series.index)) continue; // its base is to be written yet
      this.writer.byte(RecordKind.Base);
      this.writer.byte(table);
      this.writer.count(series.index);
      this.writeRow(table, row, 0);
    }
  }

  private *write(): Generator<void> {
    for (const [id, past] of this.store.lives.tombstones) {
      this.writePast(id, past);
      yield;
    }
    yield* this.writeLeft();
    for (const table of this.tables.keys()) yield* this.writeSeries(table);
    this.isShownWritten = true;
    for (const proxy of this.store.lives.proxies.values()) {
      yield* this.writeProxy(proxy);
    }
    yield* this.writeEnded();
  }

  private writePast(id: string, past: Past): void {
    this.writeLeftOpen(id, past);
    this.writer.byte(RecordKind.Past);
    this.writer.text(id);
    this.writer.float(past.unstampedUntilMs);
    this.writer.count(past.starts.length);
    for (const startMs of past.starts) this.writer.float(startMs);
  }

  private writeLeftOpen(id: string, { hasOpen }: Past): void {
    if (!hasOpen) return;
    this.writer.byte(RecordKind.LeftOpen);
    this.writer.text(id);
  }

  /** Another shard may hold a part of it, which is shown with this one. */
  private *writeLeft(): Generator<void> {
    const { writer } = this;
    for (const { table, labelKey, total, natives } of this.left) {
      writer.byte(RecordKind.Left);
      writer.byte(table);
      writer.labelKey(labelKey);
      this.writeRow(table, total, 0);
      if (hasObservations(natives)) {
        writer.byte(RecordKind.RestoredNatives);
        writer.byte(table);
        writer.labelKey(labelKey);
        writeNatives(writer, natives);
      }
      yield;
    }
  }

  /** Those that were not written yet. Meanwhile none is let go of. */
  private *writeSeries(table: number): Generator<void> {
    const { series, rows } = this.tables[table] as Table;
    const written = this.written[table] as Set<number>;
    while (written.size < series.length) {
      const each = series[written.size] as Series;
      const base = this.bases.find(table, each.labelKey);
      this.writer.byte(RecordKind.Series);
      this.writer.byte(table);
      this.writer.count(each.index);
      this.writer.labelKey(each.labelKey);
      this.writer.byte(base === null ? 0 : 1);
      if (base !== null) this.writeRow(table, base.chunk, base.at);
      // Of one that came meanwhile nothing is shown yet, and the cells that counted it may be of a proxy that was written before.
      if (this.isShownWritten) this.writeRow(table, this.nothing, 0);
      else this.writeRow(table, rows.chunk(each.total), rows.offset(each.total));
      if (!this.isShownWritten) this.writeNatives(table, each);
      written.add(each.index);
      yield;
    }
  }

  /** Of the moment of the total that is written with them. */
  private writeNatives(table: number, { index, natives }: Series): void {
    if (natives === null || !hasObservations(natives)) return;
    this.writer.byte(RecordKind.Natives);
    this.writer.byte(table);
    this.writer.count(index);
    writeNatives(this.writer, natives);
  }

  /** An account that was opened since the proxy was written has what a life counted that goes: all of the proxy is told anew, of this moment. */
  private rewriteProxy(proxy: ProxyLives): void {
    const all = livesOf(proxy);
    const cells = this.tables.map((_, table) => cellsOf(all, table));
    this.writeCells(proxy, all, cells, false);
    for (const life of all) for (const _ of this.writeConnections(life));
  }

  /** At one moment, unless it is large and all of its cells stand for themselves. */
  private *writeProxy(proxy: ProxyLives): Generator<void> {
    const isPure = proxy.unstamped === null || proxy.lives.length === 0;
    const all = livesOf(proxy);
    const cells = this.tables.map((_, table) => cellsOf(all, table));
    const size = cells.flat().length + all.reduce((sum, { connections }) => sum + connections.size, 0);
    if (isPure && size > this.options.momentCells) {
      yield* this.writeLargeProxy(proxy, all);
      return;
    }
    this.writeCells(proxy, all, cells, isPure);
    for (const life of all) for (const _ of this.writeConnections(life));
    yield;
  }

  /** What comes of a connection between its cells and itself is lost, if no stats have it. */
  private *writeLargeProxy(proxy: ProxyLives, all: readonly Life[]): Generator<void> {
    for (const table of this.tables.keys()) {
      const cells = cellsOf(all, table);
      for (let at = 0; at === 0 || at < cells.length; at += this.options.recordCells) {
        const part = cells
          .slice(at, at + this.options.recordCells)
          .filter(({ life, cell }) => isHeld(all[life] as Life, table, cell));
        this.writeCells(
          proxy,
          all,
          this.tables.map((_, each) => (each === table ? part : [])),
          true,
        );
        yield;
      }
    }
    for (const life of livesOf(proxy)) if (this.named.has(life.serial)) yield* this.writeConnections(life);
  }

  private writeCells(
    proxy: ProxyLives,
    all: readonly Life[],
    cells: readonly (readonly LifeCell[])[],
    isPure: boolean,
  ): void {
    for (const table of this.tables.keys()) for (const _ of this.writeSeries(table)); // those that came meanwhile
    const { writer } = this;
    this.writePast(proxy.id, proxy.past);
    writer.byte(RecordKind.Proxy);
    writer.text(proxy.id);
    const held = all.map((life) => livesOf(proxy).includes(life));
    writer.count(held.filter(Boolean).length);
    const numbers = new Map<number, number>();
    for (const [number, life] of all.entries()) {
      if (!held[number]) continue;
      numbers.set(number, numbers.size);
      writer.float(life.startMs);
      writer.count(life.serial);
      this.named.add(life.serial);
      writer.count(life.spoke);
      const mixing = proxy.hasMixedOverflow ? 0 : IS_UNMIXED;
      // What was kept out may find room of its own once it is restored, and would count twice.
      for (const { isClosed, hasKeptOut } of life.cells) writer.byte((isClosed || hasKeptOut ? IS_CLOSED : 0) | mixing);
    }
    for (const [table, ofTable] of cells.entries()) {
      const written = ofTable.filter(({ life }) => numbers.has(life));
      const places = new Map(written.map(({ cell }, place) => [cell, place + 1]));
      writer.count(written.length);
      for (const { life, cell } of written) {
        writer.count(numbers.get(life) as number);
        // 0: it stands for itself, also where its account opened only since the proxy's first cells were written.
        writer.count(cell.account === null ? 0 : (places.get(cell.account) ?? 0));
        this.writeCell(table, cell, isPure && all[life]?.startMs === UNSTAMPED);
      }
    }
  }

  /** Of an account alone, what its entries said: a life that began since the proxy's first cells were written tells the rest again. */
  private writeCell(table: number, cell: Cell, isAlone: boolean): void {
    const { rows } = this.tables[table] as Table;
    const stats = isAlone ? -1 : cell.stats;
    this.writer.count(cell.series.index);
    const { log, otlpLog, counted } = cell;
    const readings = (stats >= 0 ? HAS_STATS : 0) | (log >= 0 ? HAS_LOG : 0) | (otlpLog >= 0 ? HAS_OTLP_LOG : 0);
    this.writer.byte(readings | (counted >= 0 ? HAS_COUNTED : 0));
    for (const row of [stats, log, otlpLog, counted]) {
      if (row >= 0) this.writeRow(table, rows.chunk(row), rows.offset(row));
    }
  }

  private *writeConnections(life: Life): Generator<void> {
    const ids = [...life.connections.keys()];
    for (let at = 0; at < ids.length; at += this.options.recordCells) {
      const held = ids.slice(at, at + this.options.recordCells).flatMap((id) => {
        const counted = life.connections.get(id);
        return counted ? [[id, counted] as const] : [];
      });
      for (const _ of this.writeSeries(1));
      this.writer.byte(RecordKind.Connections);
      this.writer.count(life.serial);
      this.writer.count(held.length);
      for (const [id, counted] of held) this.writeConnection(id, counted);
      yield;
    }
  }

  /** A part that found no room is written under the label set of another, without any count. */
  private writeConnection(id: ConnectionId, counted: readonly (ConnectionPart | undefined)[]): void {
    const { writer } = this;
    writer.byte(typeof id === "number" ? 0 : 1);
    if (typeof id === "number") writer.float(id);
    else writer.text(id);
    writer.count(counted.length);
    const some = counted.find((part) => part !== undefined) as ConnectionPart;
    for (const part of counted) {
      const { labelKey, counts } = part ?? { labelKey: some.labelKey, counts: some.counts.map(() => 0) };
      writer.count(this.store.tcp.admission.seriesOf(labelKey).index);
      for (const count of counts) writer.float(count);
    }
  }

  private *writeEnded(): Generator<void> {
    for (const [key, refusal] of this.store.connections.ended()) {
      this.writer.byte(RecordKind.Ended);
      this.writer.text(key);
      this.writer.byte(ENDED_AS.indexOf(refusal));
      yield;
    }
  }

  private writeRow(table: number, chunk: Float64Array, at: number): void {
    this.writer.row(chunk, at, (this.tables[table] as Table).shape.metrics);
  }
}

/** The one that names no life comes first. */
function livesOf(proxy: ProxyLives): Life[] {
  return proxy.unstamped === null ? [...proxy.lives] : [proxy.unstamped, ...proxy.lives];
}

function cellsOf(lives: readonly Life[], table: number): LifeCell[] {
  return lives.flatMap(({ cells }, life) => [...(cells[table]?.byKey.values() ?? [])].map((cell) => ({ life, cell })));
}

function isHeld(life: Life, table: number, cell: Cell): boolean {
  return life.cells[table]?.byKey.get(cell.series.labelKey) === cell;
}
