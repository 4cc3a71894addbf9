// Envoy's metrics service: StreamMetrics, v3 and its v2 alias. Stream -> messages -> flushes -> a report of each process -> sink.
// https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/metrics/v3/metrics_service.proto

import type { NameRules } from "../identity/lookup.ts";
import type { Subject } from "../identity/names.ts";
import type { Log } from "../log.ts";
import { MetricFamilyReader } from "../proto/metric-family.ts";
import { MetricsMessageReader } from "../proto/metrics-message.ts";
import type { NodeFields } from "../proto/node.ts";
import { type ProxyStats, proxyLabels } from "../proxy-stats/proxy-stats.ts";
import { FamilyParser, Flush, type OtherMetrics } from "../record/from-families.ts";
import { readProxyStat } from "../record/proxy-stats.ts";
import type { StatsReport } from "../record/record.ts";
import { subjectOfNode } from "../resolver/subject.ts";
import type { MetricsResult, ScrapeResult, SelfMetrics } from "../self.ts";
import type { Shapes } from "../series/shape.ts";
import type { StreamEnd, StreamReader } from "./client-stream.ts";
import type { GrpcServer, MessageLimit, StreamHeaders } from "./grpc.ts";
import { LogLimit } from "./log-limit.ts";
import { type CounterForm, type MetricsAccount, MetricsAccounts } from "./metrics-accounts.ts";
import { type MetricsProcess, MetricsProcesses } from "./metrics-processes.ts";
import { MISSING_BOUNDS, MissingBounds } from "./missing-bounds.ts";

const SERVICES = ["envoy.service.metrics.v3.MetricsService", "envoy.service.metrics.v2.MetricsService"];
const METHOD = "StreamMetrics";

/** Header of the stream by which a sender says that its counters come as deltas: nothing in a report tells that for sure. */
const COUNTERS_HEADER = "x-meshtally-counters";

/** Stats of one flush that wait for the gauge that says whose they are. A proxy has a tenth of that. */
const MAX_WAITING = 100_000;

/** With fewer counters in a flush, nothing follows from how many of them read 0. */
const TELLING_COUNTERS = 20;

export interface MetricsServiceOptions {
  /** Of its messages: a proxy may send all of its stats in one. */
  readonly messages: MessageLimit;
  /** Most streams open at once. */
  readonly maxStreams: number;
  /** Most proxies that have an account of their own, and most processes. */
  readonly maxProxies: number;
  /** Most label sets of all processes. */
  readonly maxLabelSets: number;
  /** By which the collector counts. */
  readonly shapes: Shapes;
  /** By HttpMetric, the bounds that are shown of it; default: all. */
  readonly buckets?: readonly (readonly number[])[];
  /** How long the counts of a process without a stream are kept, to go on from. */
  readonly forgetAfterMs: number;
  /** Takes what a process has reported in all, or says why it does not. What it is given goes on growing. */
  readonly sink: (report: StatsReport) => ScrapeResult | Promise<ScrapeResult>;
  /** Takes what proxies tell of Envoy's own stats; null: nobody does. */
  readonly proxyStats?: { readonly stats: ProxyStats; readonly rules: NameRules } | null;
  readonly self: SelfMetrics;
  readonly log: Log;
}

/** What all streams share. */
interface Shared {
  readonly options: MetricsServiceOptions;
  readonly accounts: MetricsAccounts;
  readonly processes: MetricsProcesses;
  readonly parser: FamilyParser;
  readonly missingBounds: MissingBounds;
  readonly faults: LogLimit;
}

// The walkers of a message. Messages come one after the other, so all streams share them.
const message = new MetricsMessageReader();
const family = new MetricFamilyReader();

export class MetricsService {
  /** What each proxy sent. */
  readonly accounts: MetricsAccounts;
  /** What each process has told in all. */
  readonly processes: MetricsProcesses;
  private readonly shared: Shared;
  private streams = 0;

  constructor(options: MetricsServiceOptions) {
    const { maxProxies, maxLabelSets, shapes, forgetAfterMs, log } = options;
    const { bounds } = shapes[0].layout;
    this.accounts = new MetricsAccounts(maxProxies);
    this.processes = new MetricsProcesses({ processes: maxProxies, labelSets: maxLabelSets, forgetAfterMs }, shapes);
    this.shared = {
      options,
      accounts: this.accounts,
      processes: this.processes,
      parser: new FamilyParser(bounds),
      missingBounds: new MissingBounds("metrics_service", bounds, options.buckets ?? [], options.self),
      faults: new LogLimit(log),
    };
  }

  register(server: GrpcServer): void {
    const { messages } = this.shared.options;
    for (const service of SERVICES) server.addClientStream(service, METHOD, (headers) => this.open(headers), messages);
  }

  /** The reader of one more stream; null when there are too many. */
  open(headers: StreamHeaders): StreamReader | null {
    const { options, accounts, faults } = this.shared;
    if (this.streams >= options.maxStreams) {
      options.self.metricsStreamsEnded.inc({ how: "refused" });
      accounts.unnamed.addEnded("refused");
      accounts.unnamed.fail("stream refused: more than limits.streams");
      faults.warn("refused", { limit: options.maxStreams }, "metrics stream refused");
      return null;
    }
    this.streams++;
    return new MetricsStream(this.shared, this.formOf(headers), () => this.streams--);
  }

  /** A sender that says nothing of use is taken for one whose counters come as they stand: if they do not, that is short, never over. */
  private formOf(headers: StreamHeaders): CounterForm {
    const text = headers.text(COUNTERS_HEADER).toLowerCase();
    if (text === "delta") return "delta";
    if (text !== "" && text !== "cumulative") {
      const found = { header: COUNTERS_HEADER, found: text.slice(0, 100), expected: "cumulative or delta" };
      this.shared.faults.warn(
        "counters_header",
        found,
        "metrics stream says of its counters what is not known; taken as cumulative",
      );
    }
    return "cumulative";
  }
}

class MetricsStream implements StreamReader {
  /** Node id; "" before the stream's first message named it. */
  private proxy = "";
  private account: MetricsAccount;
  private flush: Flush | null = null;
  /** Whose flush came last. */
  private process: MetricsProcess | null = null;
  private others: OtherMetrics | null = null;
  /** Whether all gauges of a process were seen: one that is not shown then is not shown at all. */
  private hasSeenFlush = false;

  constructor(
    private readonly shared: Shared,
    private readonly form: CounterForm,
    private readonly onEnd: () => void,
  ) {
    this.account = shared.accounts.enter("");
    shared.options.self.metricsStreams.inc();
  }

  message(bytes: Buffer): void {
    this.shared.options.self.metricsMessages.inc();
    try {
      this.take(bytes);
    } catch (error: unknown) {
      this.refuse("internal");
      this.shared.faults.error("message", { err: error, proxy: this.proxy }, "metrics message could not be taken in");
    }
  }

  private take(bytes: Buffer): void {
    if (!message.open(bytes)) {
      this.refuse("message_malformed");
      return;
    }
    if (message.node !== null) this.identify(message.node);
    const flush = this.flushOf(bytes);
    while (message.nextFamily()) {
      if (family.open(bytes, message.start, message.stop)) this.shared.parser.take(family, flush, this.others);
      else flush.malformed++;
    }
    this.countSkipped(flush);
    if (this.isReady(flush)) this.takeFlush(flush);
    else if (flush.stats.length > MAX_WAITING) this.drop(flush, "too_large");
  }

  end(how: StreamEnd): void {
    const { options, accounts, faults } = this.shared;
    this.closeFlush();
    this.process?.leave(this);
    this.onEnd();
    accounts.leave(this.account);
    this.account.addEnded(how);
    options.self.metricsStreams.dec();
    options.self.metricsStreamsEnded.inc({ how });
    if (how !== "broken_off") return;
    this.account.fail("stream broken off");
    faults.warn(how, { proxy: this.proxy }, "metrics stream broken off");
  }

  private identify({ nodeId: proxy, metadata }: NodeFields): void {
    if (proxy === this.proxy) return;
    const { accounts, options } = this.shared;
    this.proxy = proxy;
    if (options.proxyStats) this.others = this.otherMetrics(options.proxyStats, subjectOfNode(proxy, metadata));
    accounts.leave(this.account);
    this.account = accounts.enter(proxy);
    this.account.counters = this.form;
  }

  /** Counters that come as deltas would have to be added up, and of Envoy's own nothing says whose life they are of: they are passed over. */
  private otherMetrics({ stats, rules }: { stats: ProxyStats; rules: NameRules }, subject: Subject): OtherMetrics {
    const { proxy, form } = this;
    const instance = subject.end.name === "" ? proxy : rules.instance.render(subject); // nothing else tells it from others
    const labels = proxyLabels({ service: rules.service.render(subject), instance });
    return (metric) => {
      if (form === "delta" && metric.kind === "counter") return;
      const told = readProxyStat(metric);
      if (told !== null && stats.hears(proxy, labels, "stream"))
        stats.take(labels, told.stat, told.cluster, told.value);
    };
  }

  /** The flush that the message is of: all messages of one have its time. */
  private flushOf(bytes: Buffer): Flush {
    const timeMs = timeOf(bytes);
    if (this.flush !== null && timeMs === this.flush.timeMs && timeMs !== 0) return this.flush;
    this.closeFlush();
    this.flush = new Flush(timeMs);
    return this.flush;
  }

  /** Whether it is known of which process the flush tells, and that its counters are that process's alone. */
  private isReady({ startMs, isHotRestarted }: Flush): boolean {
    return startMs > 0 && (isHotRestarted !== null || this.hasSeenFlush);
  }

  /** No more comes of it. */
  private closeFlush(): void {
    const { flush } = this;
    if (flush === null) return;
    this.flush = null;
    if (!flush.isTaken && flush.startMs > 0) this.takeFlush(flush);
    else if (!flush.isTaken) this.drop(flush, "no_start_time");
    if (!flush.isRefused) this.tellMissingBounds(flush);
    if (flush.counters >= TELLING_COUNTERS && this.hasSeenFlush) {
      const looksLike = flush.zeros > flush.counters / 2 ? "delta" : "cumulative";
      this.account.isFormDoubted = looksLike !== this.form && (this.form === "cumulative" || flush.zeros === 0);
    }
    this.hasSeenFlush = true;
  }

  /** Takes what of the flush has come and was not taken yet. */
  private takeFlush(flush: Flush): void {
    const isFirst = !flush.isTaken;
    flush.isTaken = true;
    const process = flush.isRefused ? null : this.speakFor(flush, isFirst);
    if (process === null || typeof process === "string") {
      if (process !== null) this.refuse(process);
      flush.isRefused = true;
      flush.clear();
      return;
    }
    if (flush.stats.length === 0 && !isFirst) return;
    const { counts } = process;
    const resets = counts.resets;
    const isAllTaken = counts.take(flush, this.form === "delta");
    flush.clear();
    this.shared.options.self.metricsCounterResets.inc(counts.resets - resets);
    this.report(process, isAllTaken);
  }

  /** The process that the flush tells of, or why it is not taken. */
  private speakFor(flush: Flush, isFirst: boolean): MetricsProcess | MetricsResult {
    if (this.proxy === "") return "node_missing";
    if (flush.isHotRestarted) return "hot_restarted";
    const process = this.shared.processes.find(this.proxy, flush.startMs);
    if (process === null) return "proxies_full";
    if (process !== this.process) this.process?.leave(this);
    this.process = process;
    // Counters that are said to be deltas, and of which none rests, stand as they are: to add them up would count all again and again.
    const isDoubted = this.form === "delta" && flush.counters >= TELLING_COUNTERS && flush.zeros === 0;
    const { isKnown } = process;
    if (!process.hears(this, flush.timeMs)) return "duplicate";
    return isFirst && isDoubted && isKnown ? "not_deltas" : process;
  }

  /** One after the other: each says all again, so while one waits for a thread that is slow, the next ones would be as many copies. */
  private report(process: MetricsProcess, isAllTaken: boolean): void {
    if (process.isReporting) {
      process.next = () => this.report(process, isAllTaken);
      return;
    }
    const { account } = this;
    const { counts, proxy, startMs } = process;
    const { sink } = this.shared.options;
    const done = (result: ScrapeResult) => {
      if (result === "ok" && isAllTaken) {
        account.addReport(counts.size);
        this.shared.options.self.metricsReports.inc({ result });
      } else {
        this.refuse(result === "ok" ? "cells_full" : (result as MetricsResult), account);
      }
    };
    const fail = (error: unknown) => {
      this.refuse("internal", account);
      this.shared.faults.error("exception", { err: error, proxy }, "report of a proxy's metrics could not be taken in");
    };
    try {
      const result = sink(counts.report(proxy, startMs));
      if (typeof result === "string") done(result);
      else this.whileReporting(process, result.then(done, fail));
    } catch (error: unknown) {
      fail(error);
    }
  }

  private async whileReporting(process: MetricsProcess, settled: Promise<void>): Promise<void> {
    process.isReporting = true;
    await settled;
    process.isReporting = false;
    const { next } = process;
    process.next = null;
    next?.();
  }

  /** Counted each time, logged when it changes. */
  private tellMissingBounds(flush: Flush): void {
    const { missingBounds, faults } = this.shared;
    const missing = missingBounds.count(flush.missingBounds);
    const isNews = JSON.stringify(missing) !== JSON.stringify(this.account.missingBounds);
    this.account.missingBounds = missing;
    if (isNews && Object.keys(missing).length > 0)
      faults.warn("bounds", { proxy: this.proxy, missing }, MISSING_BOUNDS);
  }

  private drop(flush: Flush, result: MetricsResult): void {
    flush.isTaken = flush.isRefused = true;
    flush.clear();
    this.refuse(result);
  }

  private refuse(result: MetricsResult, account = this.account): void {
    account.addNotTaken(result);
    this.shared.options.self.metricsReports.inc({ result });
    if (result === "duplicate") return; // as it should be, where a process has several sinks
    account.fail(`report not taken: ${result}`);
    this.shared.faults.warn(result, { result, proxy: this.proxy }, "report of a proxy's metrics not taken");
  }

  private countSkipped(flush: Flush): void {
    const { metricsSkipped } = this.shared.options.self;
    if (flush.malformed > 0) metricsSkipped.inc({ reason: "malformed" }, flush.malformed);
    if (flush.foreign > 0) metricsSkipped.inc({ reason: "foreign" }, flush.foreign);
    flush.malformed = flush.foreign = 0;
  }
}

/** The time of the opened message's first metric; 0 when there is none. */
function timeOf(bytes: Buffer): number {
  let timeMs = 0;
  if (message.nextFamily() && family.open(bytes, message.start, message.stop) && family.next())
    timeMs = family.timestampMs;
  message.rewind();
  return timeMs;
}
