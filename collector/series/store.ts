// SeriesStore: the unification of what proxies say twice (docs/adr/0003-series-store.md).
//
//   count(life, label set)  = max(stats S, access log A)      both only grow within a life, neither counts what did not happen
//                                                             A by each way on which a proxy logs: ALS, OTLP
//   total(label set)        = sum of the counts over all lives of all proxies
//
// HTTP and TCP metrics have a table each (table.ts); the process lives are the same.

import type {
  AccessRecord,
  ConnectionPart,
  ConnectionRecord,
  LogWay,
  StatsReport,
  StatsSample,
  TcpSample,
} from "../record/record.ts";
import type { DropReason, ScrapeResult } from "../self.ts";
import { TcpMetric } from "../vocabulary.ts";
import type { TableLimits } from "./admission.ts";
import type { Series } from "./cell.ts";
import { Connections } from "./connections.ts";
import { Expiry } from "./expiry.ts";
import type { KeptLabels } from "./kept-labels.ts";
import { type Clock, type Life, Lives, type ProxyLives, UNSTAMPED } from "./life.ts";
import type { PodLabels } from "./pod-labels.ts";
import type { SeriesTables } from "./reader.ts";
import { DEFAULT_SHAPES, type Shapes } from "./shape.ts";
import { SeriesTable } from "./table.ts";

/**
 * What the first scrape of a life brings counts as history (and not as traffic of this moment) if the process is older than
 * this. Of a younger one, and of everything after, it is taken to have happened now.
 */
const HISTORY_AGE_MS = 60_000;
/** A proxy is taken for gone that was silent for so long at least, where room is needed. */
const MIN_SILENT_MS = 3_600_000;

const SYSTEM_CLOCK: Clock = { wallMs: Date.now, steadyMs: () => performance.now() };

/** Those of a table hold for each of the two. */
export interface SeriesLimits extends TableLimits {
  /** Most process lives held. */
  readonly proxies: number;
  /** Most TCP connections followed from entry to entry. */
  readonly connections: number;
  /** How long a superseded life is kept for late entries. */
  readonly retireAfterMs: number;
  /** How long a label set is shown that does not grow; as long after that it may be let go of; 0, the default: for ever. */
  readonly expireAfterMs?: number;
}

export interface SeriesStoreOptions {
  /** Null, the default: all labels are kept. */
  readonly kept?: KeptLabels | null;
  /** Whether native histograms are kept beside the classic ones; by default not. */
  readonly hasNatives?: boolean;
  /** By default those of Envoy's own bounds. */
  readonly shapes?: Shapes;
  /** Null, the default: label sets say nothing of pods. */
  readonly pods?: PodLabels | null;
}

export class SeriesStore implements SeriesTables {
  readonly http: SeriesTable<AccessRecord, StatsSample>;
  readonly tcp: SeriesTable<ConnectionPart, TcpSample>;
  readonly lives: Lives;
  readonly connections: Connections;
  readonly shapes: Shapes;
  private readonly kept: KeptLabels | null;
  private readonly pods: PodLabels | null;
  /** Told of each life before what it holds is let go of. */
  onRelease: (life: Life) => void = () => {};
  /** Told of each label set, by the index of its table, before it is let go of. */
  onLetGo: (table: number, series: Series) => void = () => {};
  /** Told of each proxy whose scrape was merged. */
  onReport: (proxy: ProxyLives) => void = () => {};

  constructor(
    private readonly limits: SeriesLimits,
    private readonly clock: Clock = SYSTEM_CLOCK,
    { kept = null, hasNatives = false, shapes = DEFAULT_SHAPES, pods = null }: SeriesStoreOptions = {},
  ) {
    this.kept = kept;
    this.shapes = shapes;
    this.pods = pods;
    this.lives = new Lives({
      limit: limits.proxies,
      retireAfterMs: limits.retireAfterMs,
      onRetire: (life) => this.release(life),
      clock,
    });
    const expiry = new Expiry(limits.expireAfterMs ?? 0, clock.steadyMs);
    this.http = new SeriesTable(shapes[0], limits, expiry, hasNatives);
    this.tcp = new SeriesTable(shapes[1], limits, expiry);
    this.connections = new Connections(limits.connections, this.tcp);
  }

  /** Process lives held. */
  get lifeCount(): number {
    return this.lives.size;
  }

  /** Proxies of which a process life is held. */
  get proxies(): Iterable<ProxyLives> {
    return this.lives.all;
  }

  /** TCP connections of which more is to come. */
  get connectionCount(): number {
    return this.connections.size;
  }

  /** Adds one logged request. Null when it was counted, else why not. */
  observe(record: AccessRecord, way: LogWay = "als"): DropReason | null {
    const life = this.lives.find(record.proxy, record.lifeMs);
    // A start that cannot be one still comes with a request. As an entry that names no life, it merges with whatever tells of it too.
    if (life === "in_future") return this.observe({ ...record, lifeMs: UNSTAMPED }, way);
    if (typeof life === "string") return life;
    const kept = this.kept === null ? record : this.kept.record(record);
    return this.http.observe(life, this.pods === null ? kept : this.pods.record(life, kept), way);
  }

  /** Adds what one entry of a TCP connection says more than those before it. Null when that was done, else why not. */
  observeConnection(record: ConnectionRecord, way: LogWay = "als"): DropReason | null {
    // Of a proxy with the filter, an entry that names no life came before the filter's first word on the connection: its labels
    // may not be those that the filter will give it.
    const isTooEarly = record.streamId === "" || this.lives.knowsStamped(record.proxy);
    if (record.lifeMs === UNSTAMPED && !record.isOver && isTooEarly) return "not_final";
    if (this.isOfLost(record)) return "life_retired";
    const life = this.lives.find(record.proxy, record.lifeMs);
    if (life === "in_future") {
      // Whose it is, nobody knows: a life that was let go of may have counted it.
      if (this.lives.hasRetired(record.proxy)) return "life_retired";
      return this.observeConnection({ ...record, lifeMs: UNSTAMPED }, way);
    }
    if (typeof life === "string") return life;
    if (this.isOfLost(record)) return "life_retired"; // it was this very proxy that made room
    const kept = this.kept === null ? record : this.kept.connection(record);
    return this.connections.observe(life, this.pods === null ? kept : this.pods.connection(life, kept), way);
  }

  /** Whether nobody knows any more what was counted of the connection. */
  private isOfLost({ proxy, lifeMs, streamId }: ConnectionRecord): boolean {
    if (lifeMs !== UNSTAMPED) return false;
    // What another access log told of it by its stream's id went with the life, and this entry has no id to compare.
    return this.lives.hasLostStamped(proxy) || (streamId === "" && this.lives.hasLostUnstamped(proxy));
  }

  /**
   * Merges one scrape. Late, repeated and reordered scrapes are harmless. Without a start time it is refused: whether counters
   * that went down mean a restart, or an answer that was overtaken, would be a guess.
   */
  report(report: StatsReport): ScrapeResult {
    if (report.lifeMs === UNSTAMPED) return "no_start_time";
    const life = this.lives.find(report.proxy, report.lifeMs);
    if (life === "in_future") return "restarted";
    if (typeof life === "string") return life;
    const isHistory = !life.isReported && this.clock.wallMs() - life.startMs > HISTORY_AGE_MS;
    life.isReported = true;
    const kept = this.kept === null ? report : this.kept.report(report);
    const { samples, tcpSamples } = this.pods === null ? kept : this.pods.report(life, kept);
    const result = this.http.report(life, samples, isHistory);
    const tcpResult = this.tcp.report(life, tcpSamples, isHistory);
    this.onReport(life.proxy);
    return result === "ok" ? tcpResult : result;
  }

  /** Lets go of superseded lives whose grace is over; to be called now and then. */
  retireSuperseded(): void {
    this.lives.retireSuperseded();
  }

  /** Lets go of label sets that are over (expiry.ts); and if little room is left, of proxies that are gone; to be called now and then. */
  letGo(): void {
    const { expireAfterMs = 0, retireAfterMs } = this.limits;
    if (expireAfterMs === 0) return;
    const tables = [this.http, this.tcp];
    if (tables.some(({ admission }) => admission.isTight)) {
      this.lives.retireSilent(Math.max(2 * expireAfterMs, retireAfterMs, MIN_SILENT_MS));
    }
    for (const [index, table] of tables.entries()) table.letGo((series) => this.onLetGo(index, series));
  }

  private release(life: Life): void {
    const { past } = life.proxy;
    if (life.startMs !== UNSTAMPED && this.tcp.hasUnaccounted(life, TcpMetric.Opened, TcpMetric.Closed))
      past.hasOpen = true;
    this.onRelease(life);
    this.http.release(life);
    this.tcp.release(life);
    this.connections.release(life);
  }
}
