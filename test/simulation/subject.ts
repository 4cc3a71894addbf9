// What is tested: the collector's counting, from records and readings to totals, with the clock of a history; saved and restored.

import { MetricsProcesses } from "../../collector/receiver/metrics-processes.ts";
import type { Flush } from "../../collector/record/from-families.ts";
import type { AccessRecord, ConnectionRecord, LogWay, StatsReport } from "../../collector/record/record.ts";
import type { ScrapeResult } from "../../collector/self.ts";
import { KeptLabels } from "../../collector/series/kept-labels.ts";
import { packLabels, unpackLabels, withoutMark } from "../../collector/series/key.ts";
import type { NativeBuckets } from "../../collector/series/native.ts";
import type { LabelSet } from "../../collector/series/reader.ts";
import type { SeriesStore } from "../../collector/series/store.ts";
import type { DestinationRule } from "../../collector/series/unified.ts";
import type { SeriesChanges } from "../../collector/shards/messages.ts";
import { SummedSeries } from "../../collector/shards/summed-series.ts";
import { ByteReader } from "../../collector/state/bytes.ts";
import { ResetsBook } from "../../collector/state/resets-book.ts";
import { readShown } from "../../collector/state/restore.ts";
import { shownPieces } from "../../collector/state/shown.ts";
import { StreamedBook } from "../../collector/state/streamed-book.ts";
import { LABELS } from "../../collector/vocabulary.ts";
import type { Conditions, Room } from "./history.ts";
import type { Oracle } from "./oracle.ts";
import { KEPT, type ProcessLife, SHAPES, TABLES, type Table } from "./proxy.ts";
import { LetGo, Shard, SimulatedClock } from "./shard.ts";
import { added, type Totals, totalsOf } from "./totals.ts";

const AMPLE_PROCESSES = { processes: 100_000, labelSets: 100_000, forgetAfterMs: Number.POSITIVE_INFINITY };

/** As mesh_* are to be read. */
export const RULE: DestinationRule = "certain";

/** What a file would hold. */
interface State {
  readonly frames: readonly Buffer[];
  readonly resets: readonly Buffer[];
  readonly processes: readonly Buffer[];
  readonly letGo: LetGo;
  /** Brings back what the collector had been told by then. */
  readonly remember: () => void;
}

interface Saving {
  readonly letGo: LetGo;
  readonly told: readonly (readonly SeriesChanges[])[];
  readonly frames: Buffer[];
  readonly remember: () => void;
  /** The shard that is next to say a piece. */
  shard: number;
}

export class Subject {
  readonly clock = new SimulatedClock();
  private processes = new MetricsProcesses(AMPLE_PROCESSES, SHAPES);
  private shards: readonly Shard[];
  private series: SummedSeries;
  private letGo = new LetGo();
  private resets = new ResetsBook(SHAPES);
  private saving: Saving | null = null;
  private state: State | null = null;
  private hasRestarted = false;
  private readonly kept: KeptLabels | null;
  /** By table, what `visible` came to. */
  private readonly known = { http: new Map<string, string>(), tcp: new Map<string, string>() };

  constructor(
    private readonly room: Room,
    readonly conditions: Conditions,
  ) {
    this.kept = conditions.keepsSome ? new KeptLabels(KEPT, RULE, SHAPES) : null;
    this.shards = [this.begin()];
    this.series = this.sums(1);
  }

  /**
   * As what a label set is shown, of a proxy or of the collector: with the labels that are kept, and without a mark; of all pods together,
   * for which what a proxy told is known.
   */
  visible(table: Table, labelKey: string): string {
    const known = this.known[table].get(labelKey);
    if (known !== undefined) return known;
    const values = packLabels((unpackLabels(labelKey) ?? []).slice(0, LABELS.length));
    const visible = this.kept === null ? values : withoutMark(keptOf(this.kept, table, values));
    this.known[table].set(labelKey, visible);
    return visible;
  }

  /** Whether process lives may find no room for a label set that others have. (With pods each proxy has its own.) */
  get mayClose(): boolean {
    const { cells, labelSets, expireAfterMs } = this.room;
    const isOverflowForGood = expireAfterMs === 0 && !this.hasRestarted && !this.conditions.hasPods;
    return cells < 1000 || (labelSets < 10 && !isOverflowForGood);
  }

  /** Whether anything may find no room of its own. */
  get mayOverflow(): boolean {
    return this.room.cells < 1000 || this.room.labelSets < 10;
  }

  /** Looks for what is over; time has passed. */
  tick(): void {
    for (const table of TABLES) this.series[table].takeChanged(); // as the graph does
    this.series.letGo();
  }

  /** Label sets of which some of what was counted was let go of. */
  labelKeysLetGo(table: Table): Iterable<string> {
    return this.letGo.of(table).keys();
  }

  /** The label set that is shown under that key: the same until it is let go of. */
  shownAs(table: Table, labelKey: string): LabelSet | undefined {
    return this.series[table].find(labelKey);
  }

  /** What would be read of it. */
  readonly shown = (table: Table): Totals => totalsOf(this.series[table], table);

  /** What would be read of a native histogram, by the index of its metric; null when there is none. */
  shownNative(labelKey: string, metric: number): NativeBuckets | null {
    const { http } = this.series;
    const series = http.find(labelKey);
    return series === undefined ? null : http.readNative(series, metric);
  }

  /** What it counted, and holds. */
  readonly held = (table: Table): Totals => this.sum(table, new Map());

  /** What it counted. */
  readonly counted = (table: Table): Totals => this.sum(table, new Map(this.letGo.of(table)));

  /** Whether it was counted. */
  observe(record: AccessRecord, way: LogWay): boolean {
    return this.storeOf(record).observe(record, way) === null;
  }

  observeConnection(record: ConnectionRecord, way: LogWay): boolean {
    return this.storeOf(record).observeConnection(record, way) === null;
  }

  accumulate(target: number, report: StatsReport): StatsReport {
    return structuredClone(this.resets.of(String(target)).accumulate(report));
  }

  report(report: StatsReport): ScrapeResult {
    return this.storeOf(report).report(report);
  }

  /** Takes what came of a flush over that sink; whether it did, all of it. */
  stream(sink: object, { proxy, startMs }: ProcessLife, flush: Flush, areDeltas: boolean): boolean {
    const process = this.processes.find(proxy, startMs);
    if (process === null || !process.hears(sink, flush.timeMs)) return false;
    const isAllTaken = process.counts.take(flush, areDeltas);
    return this.report(process.counts.report(proxy, startMs)) === "ok" && isAllTaken;
  }

  /** The sink's stream ends with the process. */
  leave(sink: object, { proxy, startMs }: ProcessLife): void {
    this.processes.find(proxy, startMs)?.leave(sink);
  }

  /** A scrape whose start time reads far too large. */
  reportFuture(report: StatsReport): void {
    const result = this.report({ ...report, lifeMs: report.lifeMs * 2 });
    if (result !== "restarted") throw new Error(`a start in the future was taken as ${result}`);
  }

  retireSuperseded(): void {
    for (const { store } of this.shards) store.retireSuperseded();
  }

  /** So many pieces of a state, which is one with the last of them; only then its totals are shown. */
  save(pieces: number, oracle: Oracle): void {
    this.saving ??= this.beginSave(oracle);
    const { saving } = this;
    for (let left = pieces; left > 0; left--) {
      const shard = this.shards[saving.shard];
      if (!shard) {
        this.endSave(saving);
        return;
      }
      const piece = shard.saved.nextPiece();
      if (piece === null) saving.shard++;
      else saving.frames.push(piece);
    }
  }

  /** All of what there is now. */
  finishSave(oracle: Oracle): void {
    if (this.saving) this.save(Number.POSITIVE_INFINITY, oracle);
    this.save(Number.POSITIVE_INFINITY, oracle);
  }

  /** Ends at once, and begins anew with what was saved. */
  restart(shards: number): void {
    const { state } = this;
    this.saving = null;
    this.hasRestarted = true;
    this.shards = Array.from({ length: shards }, () => this.begin());
    this.series = this.sums(shards);
    this.resets = new ResetsBook(SHAPES);
    if (state === null) throw new Error("nothing was saved");
    state.remember();
    this.letGo = state.letGo.copy();
    for (const piece of state.resets) this.resets.restore(readerOf(piece));
    this.processes = new MetricsProcesses(AMPLE_PROCESSES, SHAPES);
    const book = new StreamedBook(this.processes, SHAPES);
    for (const piece of state.processes) book.restore(readerOf(piece));
    for (const [shard, { saved, changes }] of this.shards.entries()) {
      const owns = (id: string) => shardOf(id, shards) === shard;
      saved.restore(state.frames.map(readerOf), { shard, shards, owns });
      this.series.apply(shard, changes.read());
    }
    readShown(state.frames.map(readerOf), this.series.shapes, this.series.restoring(true));
    this.series.settleRestored();
  }

  private begin(): Shard {
    return new Shard(this.room, this.conditions.hasPods, this.kept, this.clock, (...gone) => this.letGo.add(...gone));
  }

  private sums(shards: number): SummedSeries {
    return new SummedSeries(shards, this.room.expireAfterMs, SHAPES, () => this.clock.steadyMs);
  }

  private sum(table: Table, sums: Map<string, Float64Array>): Totals {
    for (const { store } of this.shards) {
      for (const [labelKey, row] of totalsOf(store[table], table)) {
        const sum = sums.get(labelKey);
        sums.set(labelKey, sum ? added(row, sum) : row);
      }
    }
    return sums;
  }

  private beginSave(oracle: Oracle): Saving {
    for (const { saved } of this.shards) saved.letGo();
    const letGo = this.letGo.copy();
    const told = this.shards.map(({ changes }) => [...changes.pieces()]);
    for (const [shard, { saved }] of this.shards.entries()) saved.begin(shard);
    return { letGo, told, frames: [], remember: oracle.snapshot(), shard: 0 };
  }

  private endSave({ letGo, told, frames, remember }: Saving): void {
    frames.push(...shownPieces(this.series.unsaved(), this.series.unsavedNatives(), this.series.shapes, 1));
    this.state = {
      frames,
      remember,
      letGo,
      resets: [...this.resets.pieces(1)],
      processes: [...new StreamedBook(this.processes, SHAPES).pieces(1)],
    };
    for (const [shard, all] of told.entries()) for (const changes of all) this.series.apply(shard, changes);
    this.saving = null;
  }

  private storeOf({ proxy }: { readonly proxy: string }): SeriesStore {
    return (this.shards[shardOf(proxy, this.shards.length)] as Shard).store;
  }
}

function keptOf(kept: KeptLabels, table: Table, labelKey: string): string {
  const record = { proxy: "", lifeMs: 0, labelKey, requests: 0, durationMs: 0, requestBytes: 0, responseBytes: 0 };
  if (table === "http") return kept.record(record).labelKey;
  const connection = { proxy: "", lifeMs: 0, connectionId: 0, streamId: "", isOver: true };
  const [part] = kept.connection({ ...connection, parts: [{ labelKey, counts: [] }] }).parts;
  return part?.labelKey ?? "";
}

function shardOf(proxy: string, shards: number): number {
  return Number(proxy.slice("proxy-".length)) % shards;
}

function readerOf(piece: Buffer): ByteReader {
  return new ByteReader(piece, 0, piece.length);
}
