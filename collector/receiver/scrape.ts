// Scraper: reads the proxies' own stats from their admin interfaces, every few seconds, each target on its own clock.
// https://www.envoyproxy.io/docs/envoy/latest/operations/admin

import http from "node:http";
import https from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { createGunzip } from "node:zlib";
import type { Log } from "../log.ts";
import { CounterResets, CounterRows } from "../record/counter-resets.ts";
import type { StatsReport } from "../record/record.ts";
import { LabelTexts } from "../record/stats-labels.ts";
import type { StatsPage } from "../record/stats-page.ts";
import { StatsText } from "../record/stats-text.ts";
import type { ScrapeResult, SelfMetrics } from "../self.ts";
import { FIELD_SEPARATOR, HTTP_METRICS, OTHER, START_TIME_METRIC, TCP_METRICS, tagRegex } from "../vocabulary.ts";
import { LogLimit } from "./log-limit.ts";

const READ_METRICS = [...HTTP_METRICS, ...TCP_METRICS].map(({ name }) => name);

/**
 * Envoy matches `filter` against the whole stat name, before it cuts the tags out (seen on 1.40.0):
 * `wasmcustom.reporter=.=source;.;...;.;istio_requests_total`, `wasmcustom.meshtally_filter_start_time_milliseconds`,
 * `access_logs.grpc_access_log.logs_written`.
 */
const NAME_FILTER =
  `${FIELD_SEPARATOR.replaceAll(".", "\\.")}(${READ_METRICS.join("|")})$` +
  `|^wasmcustom\\.${START_TIME_METRIC}$` +
  "|^access_logs\\.grpc_access_log\\.logs_(written|dropped)$";
const STATS_PATH = `/stats/prometheus?usedonly&filter=${encodeURIComponent(NAME_FILTER)}`;
const SERVER_INFO_PATH = "/server_info";

/** What is read of `/server_info` (envoy.admin.v3.ServerInfo). */
interface ServerInfo {
  readonly node?: { readonly id?: unknown };
  readonly command_line_options?: { readonly restart_epoch?: unknown };
}
const SERVER_INFO_MAX_BYTES = 4 * 1024 * 1024;

/** Scrapes of one target begin so much earlier or later than the interval says, so that targets do not fall into step. */
const JITTER = 0.1;

/** Untagged labels told apart by the collector's own metric. Their names are the proxies', so anything. */
const MAX_UNTAGGED_LABELS = 100;

export interface ScraperOptions {
  /** Base URLs of admin interfaces: "http://127.0.0.1:9901". */
  readonly targets: readonly string[];
  readonly intervalMs: number;
  /** For one reading of one target, all its requests together. */
  readonly timeoutMs: number;
  /** Longest answer, unpacked. */
  readonly maxBodyBytes: number;
  /** Targets read at the same moment. */
  readonly concurrency: number;
  /** Takes what a scrape says, or says why it does not. */
  readonly sink: (report: StatsReport) => ScrapeResult | Promise<ScrapeResult>;
  readonly self: SelfMetrics;
  readonly log: Log;
}

/** What is known of one target, for /api/v1/receivers. */
export interface ScrapeStatus {
  readonly target: string;
  /** Node id of who was behind it last; null when nobody has said. */
  proxy: string | null;
  /** How the last reading ended, and when, Unix ms; null before the first. */
  result: ScrapeResult | null;
  atMs: number;
  /** Why it came to nothing; "" if it did not. */
  detail: string;
  /** Access-log entries that the process took to send, and that it dropped instead, by its own stats; null when they do not say. */
  logsWritten: number | null;
  logsDropped: number | null;
}

export class Scraper {
  private readonly targets: readonly Target[];
  private readonly slots: Slots;
  private readonly stopping = new AbortController();
  private readonly agents = {
    "http:": new http.Agent({ keepAlive: true, maxFreeSockets: 1 }),
    "https:": new https.Agent({ keepAlive: true, maxFreeSockets: 1 }),
  };
  private loops: Promise<void>[] = [];
  private isRoundTried = false;

  constructor(private readonly options: ScraperOptions) {
    const texts = new LabelTexts();
    const rows = new CounterRows();
    const untagged = new UntaggedLabels(options.self);
    this.slots = new Slots(options.concurrency);
    this.targets = options.targets.map((url) => {
      const agent = url.startsWith("https:") ? this.agents["https:"] : this.agents["http:"];
      return new Target(url, agent, texts, untagged, new CounterResets(rows), options);
    });
  }

  /** Whether every target was read, or tried to be, at least once. True when there is none. */
  get isReady(): boolean {
    return this.isRoundTried;
  }

  /** One for each target. */
  get statuses(): readonly ScrapeStatus[] {
    return this.targets.map(({ status }) => status);
  }

  start(): void {
    const firstTries: Promise<void>[] = [];
    this.loops = this.targets.map((target) => {
      const firstTry = this.scrape(target);
      firstTries.push(firstTry);
      return this.repeat(target, firstTry);
    });
    Promise.all(firstTries).then(() => {
      this.isRoundTried = true;
    });
  }

  /** Reads every target once more, from now on; for tests. */
  async scrapeNow(): Promise<void> {
    await Promise.all(this.targets.map((target) => this.scrape(target)));
  }

  /** Breaks off what is under way. */
  async stop(): Promise<void> {
    this.stopping.abort();
    await Promise.all(this.loops);
    for (const agent of Object.values(this.agents)) agent.destroy();
  }

  private async repeat(target: Target, firstTry: Promise<void>): Promise<void> {
    let beganMs = performance.now(); // Unix time may be set
    await firstTry;
    while (!this.stopping.signal.aborted) {
      const nextMs = beganMs + this.options.intervalMs * (1 + JITTER * (2 * Math.random() - 1));
      await pause(nextMs - performance.now(), this.stopping.signal);
      if (this.stopping.signal.aborted) return;
      beganMs = performance.now();
      await this.scrape(target);
    }
  }

  /** One reading of one target, after the one that is under way. Never rejects. */
  private scrape(target: Target): Promise<void> {
    return target.inTurn(() => this.slots.run(() => target.scrape(this.stopping.signal)));
  }
}

/** A few places for many: `run` waits for one. */
class Slots {
  private readonly waiting: (() => void)[] = [];

  constructor(private free: number) {}

  async run(work: () => Promise<void>): Promise<void> {
    if (this.free > 0) this.free--;
    else await new Promise<void>((resolve) => this.waiting.push(resolve));
    try {
      await work();
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.free++;
    }
  }
}

/** Counts the labels that `stats_tags` lack, over all targets, within a bound. */
class UntaggedLabels {
  private readonly known = new Set<string>();

  constructor(private readonly self: SelfMetrics) {}

  count(label: string): void {
    if (this.known.size < MAX_UNTAGGED_LABELS) this.known.add(label);
    this.self.scrapeUntaggedLabels.inc({ label: this.known.has(label) ? label : OTHER });
  }
}

/** Why a reading came to nothing. */
class ScrapeFault extends Error {
  constructor(
    readonly result: ScrapeResult,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** What one answer said. */
interface Reading {
  readonly report: StatsReport;
  /** Labels that the proxy's `stats_tags` lack. */
  readonly untagged: readonly string[];
}

class Target {
  readonly status: ScrapeStatus;
  /** Which process was read last, and what it calls itself. */
  private known: { readonly lifeMs: number; readonly nodeId: string } | null = null;
  private turn: Promise<void> = Promise.resolve();
  /** The untagged labels that the log was told of last. */
  private toldUntagged = "";
  private readonly faults: LogLimit;

  constructor(
    private readonly url: string,
    private readonly agent: http.Agent,
    private readonly texts: LabelTexts,
    private readonly untagged: UntaggedLabels,
    private readonly resets: CounterResets,
    private readonly options: ScraperOptions,
  ) {
    this.faults = new LogLimit(options.log);
    this.status = { target: url, proxy: null, result: null, atMs: 0, detail: "", logsWritten: null, logsDropped: null };
  }

  inTurn(work: () => Promise<void>): Promise<void> {
    this.turn = this.turn.then(work);
    return this.turn;
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
      this.report(await this.read(abort.signal), {});
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
    this.status.detail = fields.detail ?? "";
    this.options.self.scrapes.inc({ result });
    if (result === "ok") return;
    this.faults.warn(result, { target: this.url, result, ...fields }, "proxy could not be scraped");
  }

  /**
   * Stats name the process life, /server_info names the node; both must be of one process. So for a life that is new here the
   * node is asked for between two readings of the stats that name the same life. After that the life stands for the node.
   */
  private async read(signal: AbortSignal): Promise<ScrapeResult> {
    const reading = await this.readStats(signal);
    const { lifeMs } = reading.report;
    if (lifeMs === 0) {
      await this.learnName(signal);
      return "no_start_time";
    }
    if (this.known?.lifeMs === lifeMs) return this.handOn(reading, this.known.nodeId);
    const nodeId = await this.readNodeId(signal);
    const again = await this.readStats(signal);
    if (again.report.lifeMs !== lifeMs) return "restarted";
    this.known = { lifeMs, nodeId };
    return this.handOn(again, nodeId);
  }

  /** The readings of a target come in turn, so what fell since the one before began anew. */
  private async handOn({ report, untagged }: Reading, proxy: string): Promise<ScrapeResult> {
    this.status.proxy = proxy;
    this.tellUntagged(untagged, proxy);
    const before = this.resets.count;
    const cumulative = this.resets.accumulate(report);
    this.options.self.scrapeCounterResets.inc(this.resets.count - before);
    return this.options.sink({ ...cumulative, proxy });
  }

  private async readStats(signal: AbortSignal): Promise<Reading> {
    const parser = new StatsText(this.texts);
    await this.get(STATS_PATH, this.options.maxBodyBytes, signal, (chunk) => parser.write(chunk));
    parser.end();
    const { page } = parser;
    const report = page.report("");
    this.readLosses(page);
    const { scrapeSkipped } = this.options.self;
    if (page.malformed > 0) scrapeSkipped.inc({ reason: "malformed" }, page.malformed);
    if (page.foreignLabelSets > 0) scrapeSkipped.inc({ reason: "foreign" }, page.foreignLabelSets);
    return { report, untagged: [...page.untagged] };
  }

  /** A counter that was never raised is not on the page, for that has used stats alone: beside the other one it reads 0. */
  private readLosses({ logsWritten, logsDropped }: StatsPage): void {
    const hasLogger = logsWritten !== null || logsDropped !== null;
    this.status.logsWritten = hasLogger ? (logsWritten ?? 0) : null;
    this.status.logsDropped = hasLogger ? (logsDropped ?? 0) : null;
  }

  /** Of a process that nothing is counted of: only so that the page can say which. If it does not say, another scrape asks again. */
  private async learnName(signal: AbortSignal): Promise<void> {
    if (this.status.proxy !== null) return;
    this.status.proxy = await this.readNodeId(signal).catch((error: unknown) => {
      if (error instanceof ScrapeFault) return null;
      throw error;
    });
  }

  /** Counted each time, logged once: it lasts until somebody changes the proxy's bootstrap and starts it anew. */
  private tellUntagged(labels: readonly string[], proxy: string): void {
    for (const label of labels) this.untagged.count(label);
    const told = labels.join();
    if (told === this.toldUntagged) return;
    const missing = labels.map((label) => ({ tag_name: label, regex: tagRegex(label) }));
    const isTold =
      labels.length === 0 ||
      this.faults.warn(
        "untagged",
        { target: this.url, proxy, missing },
        "stats_tags of proxy lack labels: its metrics bear them in their names and are not read; add the missing expressions to its bootstrap",
      );
    if (isTold) this.toldUntagged = told;
  }

  private async readNodeId(signal: AbortSignal): Promise<string> {
    const chunks: Buffer[] = [];
    await this.get(SERVER_INFO_PATH, SERVER_INFO_MAX_BYTES, signal, (chunk) => chunks.push(chunk));
    let info: unknown;
    try {
      info = JSON.parse(Buffer.concat(chunks).toString("utf8"));
    } catch (error: unknown) {
      throw new ScrapeFault("malformed", "/server_info is no JSON", { cause: error });
    }
    const { node, command_line_options: options } = (info ?? {}) as ServerInfo;
    // After a hot restart the counters go on from the old process's, under a new start time: its requests would count twice.
    if (Number(options?.restart_epoch ?? 0) > 0) {
      throw new ScrapeFault("hot_restarted", "the process took over the counters of the one before it (hot restart)");
    }
    const id = node?.id;
    if (typeof id !== "string" || id === "") throw new ScrapeFault("node_missing", "/server_info names no node");
    return id;
  }

  /** GETs a path and hands on the unpacked body as it comes. Rejects with ScrapeFault. */
  private async get(
    path: string,
    maxBytes: number,
    signal: AbortSignal,
    onChunk: (chunk: Buffer) => void,
  ): Promise<void> {
    const response = await this.request(path, signal);
    if (response.statusCode !== 200) {
      response.destroy(); // not read to its end: it may have none
      throw new ScrapeFault("http_status", `${path.split("?")[0]} answered ${response.statusCode}`);
    }
    const isPacked = response.headers["content-encoding"] === "gzip";
    const body = isPacked ? response.pipe(createGunzip()) : response;
    if (isPacked) response.on("error", (error) => body.destroy(error));
    let bytes = 0;
    try {
      for await (const chunk of body as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > maxBytes)
          throw new ScrapeFault("too_large", `${path.split("?")[0]} is longer than ${maxBytes} bytes`);
        onChunk(chunk);
      }
    } catch (error: unknown) {
      response.destroy();
      throw error instanceof ScrapeFault ? error : bodyFault(error);
    }
  }

  private request(path: string, signal: AbortSignal): Promise<http.IncomingMessage> {
    const client = this.url.startsWith("https:") ? https : http;
    return new Promise((resolve, reject) => {
      const headers = { accept: "text/plain, application/json", "accept-encoding": "gzip", "user-agent": "meshtally" };
      const request = client.get(this.url + path, { agent: this.agent, headers, signal }, resolve);
      request.on("error", (error) => reject(new ScrapeFault("unreachable", error.message, { cause: error })));
    });
  }
}

/** zlib's errors have codes such as Z_DATA_ERROR; every other one is the connection's. */
function bodyFault(error: unknown): ScrapeFault {
  const { code = "", message = String(error) } = error as NodeJS.ErrnoException;
  return new ScrapeFault(code.startsWith("Z_") ? "malformed" : "unreachable", message, { cause: error });
}

/** Waits, or until the signal. Never rejects. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(Math.max(0, ms), undefined, { signal });
  } catch (error: unknown) {
    if (!signal.aborted) throw error;
  }
}
