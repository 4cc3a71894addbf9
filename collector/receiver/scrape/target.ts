// One target: reads its stats, finds out whose they are, makes them cumulative and hands them on.

import type { Subject } from "../../identity/names.ts";
import type { Log } from "../../log.ts";
import { CounterResets, type CounterRows } from "../../record/counter-resets.ts";
import type { ProxyValue } from "../../record/proxy-stats.ts";
import type { StatsReport } from "../../record/record.ts";
import type { StatsPage } from "../../record/stats-page.ts";
import type { Places } from "../../record/stats-protobuf.ts";
import { subjectOfNode } from "../../resolver/subject.ts";
import type { ScrapeResult, SelfMetrics } from "../../self.ts";
import { tagRegex } from "../../vocabulary.ts";
import { LogLimit } from "../log-limit.ts";
import { MISSING_BOUNDS, type Missing, type MissingBounds } from "../missing-bounds.ts";
import { ScrapeFault } from "./http-get.ts";
import type { ScrapedStats } from "./scraped-stats.ts";
import { readNodeId, readNodeMetadata, readStats, refuseHotRestarted, type Shared } from "./stats-request.ts";
import type { TargetSpec } from "./target-spec.ts";
import type { UntaggedLabels } from "./untagged-labels.ts";

export interface TargetOptions {
  /** For one reading, all its requests together. */
  readonly timeoutMs: number;
  /** Longest answer, unpacked. */
  readonly maxBodyBytes: number;
  /** Takes what a reading says, or says why it does not. */
  readonly sink: (report: StatsReport) => ScrapeResult | Promise<ScrapeResult>;
  /** What the readings of each target had come to, by the URL of its stats; default: nothing. */
  readonly resets?: { of(target: string): CounterResets; release(target: string): void };
  /** Takes Envoy's own stats; null, the default: nobody does. */
  readonly proxyStats?: ScrapedStats | null;
  readonly self: SelfMetrics;
  readonly log: Log;
}

/** Over all targets. */
export interface TargetShared extends Shared {
  readonly rows: CounterRows;
  readonly untagged: UntaggedLabels;
  readonly missingBounds: MissingBounds;
}

/** What is known of one target, for /api/v1/receivers. */
export interface ScrapeStatus {
  readonly target: string;
  /** Node id of who was behind it last; null when nobody has said. */
  proxy: string | null;
  /** How the last reading ended, and when, Unix ms; null before the first. */
  result: ScrapeResult | null;
  atMs: number;
  /** When the last one that was counted ended, Unix ms; 0 before the first. */
  okAtMs: number;
  /** Why it came to nothing; "" if it did not. */
  detail: string;
  /** Access-log entries that the process took to send, and that it dropped instead, by its own stats; null when they do not say. */
  logsWritten: number | null;
  logsDropped: number | null;
  /** Of the last reading that was handed on. */
  missingBounds: Missing;
}

export class Target {
  readonly status: ScrapeStatus;
  /** Which process was read last, and what it calls itself. */
  private known: { readonly lifeMs: number; readonly nodeId: string } | null = null;
  /** Who the node is, by its metadata, as far as `/server_info` has it. */
  private node: { readonly id: string; readonly subject: Subject } | null = null;
  /** What the last reading had of Envoy's own stats. */
  private own: readonly ProxyValue[] = [];
  private turn: Promise<void> = Promise.resolve();
  /** The untagged labels that the log was told of last. */
  private toldUntagged = "";
  /** The missing bounds that the log was told of last. */
  private toldMissing = "{}";
  /** Whether the log was told that there is no filter. */
  private isToldNoFilter = false;
  private readonly places: Places = [];
  private readonly resets: CounterResets;
  private readonly faults: LogLimit;

  constructor(
    public spec: TargetSpec,
    private readonly shared: TargetShared,
    private readonly options: TargetOptions,
  ) {
    this.resets = options.resets?.of(spec.statsUrl) ?? new CounterResets(shared.rows);
    this.faults = new LogLimit(options.log);
    const unread = { proxy: null, result: null, atMs: 0, okAtMs: 0, detail: "", logsWritten: null, logsDropped: null };
    this.status = { target: spec.name, ...unread, missingBounds: {} };
  }

  inTurn(work: () => Promise<void>): Promise<void> {
    this.turn = this.turn.then(work);
    return this.turn;
  }

  /** Lets go of what is held to recognise counters that begin anew. It must not be read any more. */
  release(): void {
    this.resets.release();
    this.options.resets?.release(this.spec.statsUrl);
  }

  /** Reads once; the result is counted, and logged if it is not "ok". */
  async scrape(stopping: AbortSignal): Promise<void> {
    if (stopping.aborted) return;
    const abort = new AbortController();
    const breakOff = () => abort.abort();
    stopping.addEventListener("abort", breakOff);
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      breakOff();
    }, this.options.timeoutMs);
    try {
      const result = await this.read(abort.signal);
      await this.showOwn(abort.signal);
      this.report(result, {});
    } catch (error: unknown) {
      if (stopping.aborted) return;
      if (!(error instanceof ScrapeFault)) this.report("internal", { err: error, detail: String(error) });
      else this.report(isLate ? "timeout" : error.result, { detail: error.message });
    } finally {
      clearTimeout(timer);
      stopping.removeEventListener("abort", breakOff);
    }
  }

  private report(result: ScrapeResult, fields: { readonly detail?: string; readonly err?: unknown }): void {
    this.status.result = result;
    this.status.atMs = Date.now();
    if (result === "ok") this.status.okAtMs = this.status.atMs;
    this.status.detail = fields.detail ?? "";
    this.options.self.scrapes.inc({ result });
    if (result === "ok") this.isToldNoFilter = false;
    if (result === "ok" || result === "no_filter") return;
    if (result === "no_start_time") this.tellNoFilter();
    else this.faults.warn(result, { target: this.spec.name, result, ...fields }, "proxy could not be scraped");
  }

  /** Stats name the process life; whose it is they name, too, unless the filter there is an older one. */
  private async read(signal: AbortSignal): Promise<ScrapeResult> {
    const page = await this.readPage(signal);
    const { lifeMs, restartEpoch } = page;
    if (lifeMs === 0) {
      await this.learnName(page, signal);
      return this.spec.hasFilter ? "no_start_time" : "no_filter";
    }
    refuseHotRestarted(restartEpoch);
    const nodeId = page.nodeId ?? this.spec.nodeId;
    if (nodeId !== null && restartEpoch !== null) return this.handOn(page, nodeId);
    return this.readNamed(page, signal);
  }

  /**
   * slow: `/server_info` names the node, and it must be of the same process as the stats. So for a life that is new here the node is
   * asked for between two readings of the stats that name the same life. After that the life stands for the node.
   */
  private async readNamed(page: StatsPage, signal: AbortSignal): Promise<ScrapeResult> {
    const { lifeMs } = page;
    if (this.known?.lifeMs === lifeMs) return this.handOn(page, this.known.nodeId);
    const nodeId = await readNodeId(this.spec, this.shared.agents, signal);
    const again = await this.readPage(signal);
    if (again.lifeMs !== lifeMs) return "restarted";
    this.known = { lifeMs, nodeId };
    return this.handOn(again, nodeId);
  }

  /** The readings of a target come in turn, so what fell since the one before began anew. */
  private async handOn(page: StatsPage, proxy: string): Promise<ScrapeResult> {
    this.status.proxy = proxy;
    this.tellUntagged([...page.untagged], proxy);
    const before = this.resets.count;
    const cumulative = this.resets.accumulate(page.report(proxy));
    this.tellMissingBounds(this.shared.missingBounds.count(page.missingBounds), proxy);
    this.options.self.scrapeCounterResets.inc(this.resets.count - before);
    return this.options.sink(cumulative);
  }

  private async readPage(signal: AbortSignal): Promise<StatsPage> {
    const page = await readStats(this.spec, this.shared, this.places, this.options.maxBodyBytes, signal);
    this.readLosses(page);
    this.own = page.proxyValues ?? [];
    const { scrapeSkipped } = this.options.self;
    if (page.malformed > 0) scrapeSkipped.inc({ reason: "malformed" }, page.malformed);
    if (page.foreignLabelSets > 0) scrapeSkipped.inc({ reason: "foreign" }, page.foreignLabelSets);
    return page;
  }

  /** Whatever became of the counts: of a proxy without the filter there are none. */
  private async showOwn(signal: AbortSignal): Promise<void> {
    const { proxyStats = null } = this.options;
    const { proxy } = this.status;
    if (proxyStats === null || proxy === null || this.own.length === 0) return;
    try {
      if (this.node?.id !== proxy) {
        const metadata = await readNodeMetadata(proxy, this.spec, this.shared.agents, signal);
        this.node = { id: proxy, subject: subjectOfNode(proxy, metadata) };
      }
      proxyStats.take(proxy, this.node.subject, this.own);
    } catch (error: unknown) {
      if (!(error instanceof ScrapeFault)) throw error; // else the next reading asks again
    }
  }

  /** Beside the other one, a counter that was never raised reads 0. */
  private readLosses({ logsWritten, logsDropped }: StatsPage): void {
    const hasLogger = logsWritten !== null || logsDropped !== null;
    this.status.logsWritten = hasLogger ? (logsWritten ?? 0) : null;
    this.status.logsDropped = hasLogger ? (logsDropped ?? 0) : null;
  }

  /** Of a process that nothing is counted of: only so that the page can say which. If it does not say, another scrape asks again. */
  private async learnName({ nodeId }: StatsPage, signal: AbortSignal): Promise<void> {
    if (this.status.proxy !== null) return;
    this.status.proxy = nodeId ?? this.spec.nodeId;
    if (this.status.proxy !== null || this.spec.serverInfoUrl === null) return;
    this.status.proxy = await readNodeId(this.spec, this.shared.agents, signal).catch((error: unknown) => {
      if (error instanceof ScrapeFault) return null;
      throw error;
    });
  }

  /** Counted each time, logged once, until it has one. */
  private tellNoFilter(): void {
    if (this.isToldNoFilter) return;
    this.isToldNoFilter = true;
    this.options.log.warn(
      { target: this.spec.name, result: "no_start_time" },
      "stats without the filter's start time: no filter there, or none that ran yet; nothing is counted from them",
    );
  }

  /** As `tellUntagged`. */
  private tellMissingBounds(missing: Missing, proxy: string): void {
    this.status.missingBounds = missing;
    const told = JSON.stringify(missing);
    if (told === this.toldMissing) return;
    const isTold =
      told === "{}" || this.faults.warn("bounds", { target: this.spec.name, proxy, missing }, MISSING_BOUNDS);
    if (isTold) this.toldMissing = told;
  }

  /** Counted each time, logged once: it lasts until somebody changes the proxy's bootstrap and starts it anew. */
  private tellUntagged(labels: readonly string[], proxy: string): void {
    for (const label of labels) this.shared.untagged.count(label);
    const told = labels.join();
    if (told === this.toldUntagged) return;
    const missing = labels.map((label) => ({ tag_name: label, regex: tagRegex(label) }));
    const isTold =
      labels.length === 0 ||
      this.faults.warn(
        "untagged",
        { target: this.spec.name, proxy, missing },
        "stats_tags of proxy lack labels: its metrics bear them in their names and are not read; add the missing expressions to its bootstrap",
      );
    if (isTold) this.toldUntagged = told;
  }
}
