// The whole collector, wired from top to bottom. Read this first.
//
//   files --> KubernetesObjects: who the ends are, for all that takes access-log entries
//
//                       .---> Taps: Analyser --Side-----------------------------------> /api/v1/tap
//                       |---> Calls --CallMeasures--> Indicators ---------------------> /metrics, /api/v1/indicators
//                       |---> LogIntake --LogRecord--> LogStore ----------------------> /api/v1/logs
//                       |
//   Envoy --ALS--> AlsReceiver --AccessRecord, ConnectionRecord--.                  .--> WebServer /metrics
//     '--OTLP--> OtlpReceiver: messages of ALS --^                >-- SeriesStore --<
//   Envoy <--scrape-- Scraper ---------------------StatsReport----|                 |--> ServiceGraph --> /api/v1/graph
//   Envoy --EMS--> MetricsService -----------------StatsReport----'                 '--> Completeness --> /metrics, /api/v1/graph, /api/v1/receivers
//            Scraper, MetricsService: Envoy's own stats --> ProxyStats ------------------> /metrics
//   AI gateway --OTLP--> OtlpReceiver --HistogramMetric--> AiMetrics -------------------> /metrics
//   files, HTTP, KubernetesObjects --> Discovery: which targets the Scraper has
//
//   Readings (SeriesStore, Indicators) --> Receivers: points, batches, queue --> Prometheus remote write, OTLP
//
//   Checkpoints: what is saved every so often. Of SeriesStore and AiMetrics that is what is shown; of Scraper (ResetsBook) and
//   MetricsService (StreamedBook), what later readings are added to
//
//   ProxyAccount of each proxy (AlsReceiver), ScrapeStatus of each target (Scraper), MetricsAccount (MetricsService) --> /api/v1/receivers
//
// AlsReceiver, Indicators, SeriesStore and Completeness are a Shard: one in this thread, or one in each of `threads` others, and Readings
// of all.

import { AiMetrics } from "./ai/metrics.ts";
import { Analyser } from "./analysis/analyse.ts";
import { FreshClientTls } from "./client/client-tls.ts";
import type { Config } from "./config/config.ts";
import { formatAddress } from "./config/formats.ts";
import type { CollectorError } from "./error.ts";
import { KubernetesObjects } from "./identity/kubernetes.ts";
import type { Log } from "./log.ts";
import { DuckdbLogStore } from "./logs/duckdb-store.ts";
import type { LogStore } from "./logs/store.ts";
import { OtlpListeners } from "./otlp/listeners.ts";
import { OtlpReceiver } from "./otlp/receiver.ts";
import type { Receivers, ReceiversOptions } from "./out/receivers.ts";
import { ProxyStats } from "./proxy-stats/proxy-stats.ts";
import { GrpcServer } from "./receiver/grpc.ts";
import { MetricsService } from "./receiver/metrics-service.ts";
import { Discovery } from "./receiver/scrape/discovery.ts";
import { ScrapedStats } from "./receiver/scrape/scraped-stats.ts";
import { Scraper } from "./receiver/scrape.ts";
import { SelfMetrics } from "./self.ts";
import type { Shapes } from "./series/shape.ts";
import { ServiceGraph } from "./service-graph/graph.ts";
import { LocalShard } from "./shards/local.ts";
import { configuredShapes, identitiesOf, nameRulesOf, serviceRulesOf } from "./shards/shard.ts";
import type { Shards } from "./shards/shards.ts";
import type { ThreadsOptions } from "./shards/threads.ts";
import { AiBook } from "./state/ai-book.ts";
import { Checkpoints } from "./state/checkpoints.ts";
import { FrameKind } from "./state/frames.ts";
import { ResetsBook } from "./state/resets-book.ts";
import { StreamedBook } from "./state/streamed-book.ts";
import type { TlsFiles } from "./tls/credentials.ts";
import { ServerTls, type ServerTlsOptions } from "./tls/server-tls.ts";
import { VERSION } from "./version.ts";
import { WebServer } from "./web/server.ts";
import { Taps } from "./web/tap.ts";

const GRAPH_TICK_MS = 1000;

export interface Collector {
  /** Bound addresses: "127.0.0.1:11800". */
  readonly grpcAddress: string;
  readonly httpAddress: string;
  /** Of OTLP's own ports; null where there is none. */
  readonly otlpAddresses: OtlpListeners["addresses"];
  /** Resolves when a thread died, and counts with it: then nothing that is shown can be relied on. */
  readonly failed: Promise<CollectorError>;
  /** Reads every target once more, from now on; for tests. */
  scrapeNow(): Promise<void>;
  /** Not ready any more; then streams, then answers under way come to their end, each for `shutdown.drain` at most. */
  stop(): Promise<void>;
}

/** Their code is loaded only where they are used. */
async function startThreads(options: ThreadsOptions): Promise<Shards> {
  const { Threads } = await import("./shards/threads.ts");
  return Threads.start(options);
}

/** Null when no folder is configured. Rejects when it is another process's. */
async function openLogs({ logs }: Config, self: SelfMetrics, log: Log): Promise<LogStore | null> {
  const { folder, bounds, memoryBytes } = logs;
  return folder === null ? null : DuckdbLogStore.open({ folder, bounds, memoryBytes, self, log });
}

/** Null when no folder is configured. Rejects when it is another process's. */
async function openState(config: Config, shapes: Shapes, self: SelfMetrics, log: Log): Promise<Checkpoints | null> {
  const { folder, intervalMs } = config.state;
  if (folder === null) return null;
  // What label sets depend on: of how they are shown, a state knows nothing.
  const { destinations, labels, podLabels } = config.metrics;
  const meaning = JSON.stringify([destinations, labels.toSorted(), ...(podLabels ? ["pod"] : [])]);
  return Checkpoints.open({ folder, intervalMs, meaning, shapes, self, log });
}

/** Null when nobody is to receive metrics: then the code that sends them is not loaded. */
async function openReceivers(options: ReceiversOptions): Promise<Receivers | null> {
  if (options.remoteWrite.length + options.otlpExport.length === 0) return null;
  return (await import("./out/receivers.ts")).Receivers.open(options);
}

/** Closes what was opened; at once, whatever of it is under way. */
type Close = () => unknown;

/** Starts all of it. Rejects, with nothing left open, when some of it cannot be started, as when an address cannot be listened on. */
export async function startCollector(config: Config, logOf: (component: string) => Log): Promise<Collector> {
  const opened: Close[] = [];
  try {
    return await startAll(config, logOf, (close) => opened.push(close));
  } catch (error: unknown) {
    for (const close of opened.reverse()) await close();
    throw error;
  }
}

/** `onFailure` takes how to close what is open from then on; in reverse. */
async function startAll(
  config: Config,
  logOf: (component: string) => Log,
  onFailure: (close: Close) => void,
): Promise<Collector> {
  const self = new SelfMetrics(VERSION);
  const shapes = configuredShapes(config);
  const logStore = await openLogs(config, self, logOf("logs"));
  onFailure(() => logStore?.close());
  const state = await openState(config, shapes, self, logOf("state"));
  onFailure(() => state?.abandon());
  const { kubernetes } = config.identity;
  const objects = new KubernetesObjects({
    ...kubernetes,
    paths: kubernetes.objects,
    rules: nameRulesOf(config),
    onRead: (read) => {
      shards.useObjects(read);
      discovery.useObjects(read);
    },
    self,
    log: logOf("identity"),
  });
  const rules = serviceRulesOf(config);
  const taps = new Taps(config.limits.taps, self, new Analyser(Date.now, identitiesOf(config, objects), rules));

  const tlsOf = (listener: ServerTlsOptions["listener"], files: TlsFiles | null | undefined) =>
    files ? new ServerTls({ listener, files, self, log: logOf("tls") }) : null;
  const { maxMessageBytes, maxStreamAgeMs } = config.grpc;
  const grpc = new GrpcServer({
    address: formatAddress(config.grpc.address),
    maxMessageBytes,
    maxStreamAgeMs,
    isReady: () => pending().length === 0,
    tls: tlsOf("grpc", config.grpc.tls),
    onPaused: (seconds) => self.backpressureSeconds.inc(seconds),
    log: logOf("grpc"),
  });
  let fail: (error: CollectorError) => void = () => {};
  const failed = new Promise<CollectorError>((resolve) => {
    fail = resolve;
  });
  const common = { config, tap: taps, logs: logStore, self, log: logOf("als") };
  const setPaused = (how: "pause" | "resume") => {
    grpc[how]();
    otlpListeners[how]();
  };
  const shards =
    config.threads === 0
      ? new LocalShard({ ...common, lookup: objects }, state)
      : await startThreads({
          ...common,
          grpc: { pause: () => setPaused("pause"), resume: () => setPaused("resume") },
          saving: state,
          onFailure: fail,
        });
  onFailure(() => shards.stop(0));
  shards.register(grpc);
  const { maxSeries } = config.proxyStats;
  const proxyStats = maxSeries === 0 ? null : new ProxyStats(maxSeries);
  const nameRules = nameRulesOf(config);
  const metricsService = new MetricsService({
    messages: { bytes: config.grpc.maxMetricsMessageBytes, key: "grpc.max_metrics_message" },
    maxStreams: config.limits.streams,
    maxProxies: config.limits.proxies,
    maxLabelSets: config.limits.cells,
    shapes,
    buckets: config.metrics.buckets,
    forgetAfterMs: config.limits.retireAfterMs,
    sink: (report) => shards.report(report),
    proxyStats: proxyStats && { stats: proxyStats, rules: nameRules },
    self,
    log: logOf("metrics_service"),
  });
  state?.keep(FrameKind.Streamed, new StreamedBook(metricsService.processes, shapes));
  metricsService.register(grpc);
  const ai = new AiMetrics(config.limits.aiSeries, undefined, state !== null);
  state?.keep(FrameKind.Ai, new AiBook(ai));
  const otlp = new OtlpReceiver({ open: () => shards.open("otlp"), ai, self, log: logOf("otlp") });
  otlp.register(grpc);
  const otlpListeners = new OtlpListeners({
    config,
    otlp,
    tlsOf,
    isReady: () => pending().length === 0,
    log: logOf("otlp"),
  });
  const { readings } = shards;
  const graph = new ServiceGraph(readings.series, config.limits.edges, undefined, config.metrics.expireAfterMs);
  const resets = new ResetsBook(shapes, config.limits.retireAfterMs);
  state?.keep(FrameKind.Resets, resets);
  const tls = FreshClientTls.of(config.scrape.tls, logOf("scrape"));
  const scraper = new Scraper({
    ...config.scrape,
    tls,
    targets: [],
    sink: (report) => shards.report(report),
    shapes,
    buckets: config.metrics.buckets,
    resets,
    proxyStats: proxyStats && new ScrapedStats({ stats: proxyStats, rules: nameRules, lookup: objects }),
    self,
    log: logOf("scrape"),
  });
  const discovery = new Discovery({
    ...config.scrape,
    tls,
    use: (specs) => scraper.use(specs),
    self,
    log: logOf("scrape"),
  });

  let isStopping = false;
  const pending = () => [...(isStopping ? ["shutting down"] : []), ...(scraper.isReady ? [] : ["first scrape round"])];
  const web = new WebServer({
    ...config.http.address,
    tls: tlsOf("http", config.http.tls),
    readings,
    destinationRule: config.metrics.destinations,
    hasPods: config.metrics.podLabels,
    labelSets: config.limits.labelSets,
    buckets: config.metrics.buckets,
    policies: rules.policies,
    graph,
    taps,
    logs: logStore,
    identities: objects,
    scrapeStatuses: () => scraper.statuses,
    metricsAccounts: metricsService.accounts,
    proxyStats,
    otlpLogs: () => otlp.logCounts,
    ai,
    self,
    pending,
    version: VERSION,
    log: logOf("web"),
  });

  const receivers = await openReceivers({
    remoteWrite: config.remoteWrite,
    otlpExport: config.otlpExport,
    readings,
    isContinued: (state?.restored ?? null) !== null,
    destinationRule: config.metrics.destinations,
    hasPods: config.metrics.podLabels,
    buckets: config.metrics.buckets,
    scrapeStatuses: () => scraper.statuses,
    renderSelf: (holdings, others) =>
      self.render(
        { ...holdings, edges: graph.edgeCount, leftOut: web.leftOut, proxyStats: web.proxyStatsHeld },
        others,
      ),
    self,
    version: VERSION,
    log: logOf("out"),
  });
  onFailure(() => receivers?.stop(0));

  await readings.restored(); // what was saved is shown from the first answer on
  onFailure(() => objects.stop());
  await objects.start(); // first, so that no entry is named without them
  // One after the other: one that is still about to listen would not be closed.
  onFailure(() => grpc.stop(0));
  const grpcPort = await grpc.start();
  onFailure(() => web.stop(0));
  const httpPort = await web.start();
  onFailure(() => otlpListeners.stop(0));
  await otlpListeners.start();
  otlp.start();
  const scraping = discovery.start().then(() => scraper.start());
  receivers?.start();
  if (shards.saved !== null) state?.start(shards.saved);
  const ticks = setInterval(() => {
    resets.releaseLost(discovery.isComplete);
    // What a busy thread did not tell in time comes with the next tick: the threads' own log line says so.
    readings.refresh().then(
      () => graph.tick(),
      () => {},
    );
  }, GRAPH_TICK_MS);

  return {
    grpcAddress: formatAddress({ host: config.grpc.address.host, port: grpcPort }),
    httpAddress: formatAddress({ host: config.http.address.host, port: httpPort }),
    otlpAddresses: otlpListeners.addresses,
    failed,
    scrapeNow: () => scraping.then(() => scraper.scrapeNow()),
    stop: async () => {
      isStopping = true;
      const { drainMs } = config.shutdown;
      shards.giveUpAfter(drainMs);
      const stopScraping = async () => {
        await discovery.stop();
        await scraping;
        await scraper.stop();
      };
      await Promise.all([stopScraping(), objects.stop(), grpc.stop(drainMs), otlpListeners.stop(drainMs)]);
      otlp.stop();
      clearInterval(ticks);
      if (shards.saved !== null) await state?.stop(shards.saved); // before them, so that all of it is shown
      await Promise.all([web.stop(drainMs), receivers?.stop(drainMs)]); // last, so that what was drained can still be read
      await shards.stop(drainMs);
      await logStore?.close();
    },
  };
}
