// The whole collector, wired from top to bottom. Read this first.
//
//                       |'--------- Taps: Analyser --Side---------------------------> /api/v1/tap
//                       |'--------- Calls --CallMeasures--> Indicators -------------> /metrics, /api/v1/indicators
//                       |'--------- LogIntake --LogRecord--> LogStore ------------> /api/v1/logs
//   files of Kubernetes objects --> KubernetesObjects
//                                       |
//   Envoy --ALS--> AlsReceiver --AccessRecord, ConnectionRecord--.                  .--> WebServer /metrics
//                                                                 >-- SeriesStore --<
//   Envoy <--scrape-- Scraper ---------------------StatsReport----'                 '--> ServiceGraph --> /api/v1/graph
//
//   ProxyAccount of each proxy (AlsReceiver), ScrapeStatus of each target (Scraper) --> /api/v1/receivers

import { Analyser } from "./analysis/analyse.ts";
import { ApdexThresholds } from "./analysis/apdex.ts";
import { Endpoints } from "./analysis/endpoints.ts";
import { SuccessPolicies } from "./analysis/policy.ts";
import { type Config, formatAddress } from "./config.ts";
import { KubernetesObjects } from "./identity/kubernetes.ts";
import { nameRule } from "./identity/names.ts";
import { Indicators } from "./indicators/indicators.ts";
import type { Log } from "./log.ts";
import { DuckdbLogStore } from "./logs/duckdb-store.ts";
import { LogIntake } from "./logs/intake.ts";
import type { LogStore } from "./logs/store.ts";
import { AlsReceiver } from "./receiver/als.ts";
import { GrpcServer } from "./receiver/grpc.ts";
import { Scraper } from "./receiver/scrape.ts";
import { SelfMetrics } from "./self.ts";
import { SeriesStore } from "./series/store.ts";
import { ServiceGraph } from "./service-graph/graph.ts";
import type { TlsFiles } from "./tls/credentials.ts";
import { ServerTls } from "./tls/server-tls.ts";
import { VERSION } from "./version.ts";
import { WebServer } from "./web/server.ts";
import { Taps } from "./web/tap.ts";

const GRAPH_TICK_MS = 1000;
const RETIRE_TICK_MS = 10_000;

export interface Collector {
  /** Bound addresses: "127.0.0.1:11800". */
  readonly grpcAddress: string;
  readonly httpAddress: string;
  /** Reads every target once more, from now on; for tests. */
  scrapeNow(): Promise<void>;
  /** Not ready any more; then streams, then answers under way come to their end, each for `shutdown.drain` at most. */
  stop(): Promise<void>;
}

/** Without objects nobody is asked for an address, so no entry's addresses are decoded. */
function analyzersOf({ identity: { chain, kubernetes } }: Config): Config["identity"]["chain"] {
  return kubernetes.objects.length > 0 ? chain : chain.filter((analyzer) => analyzer !== "k8s-mesh");
}

/** Null when no folder is configured. Rejects when it is another process's. */
async function openLogs({ logs }: Config, self: SelfMetrics, log: Log): Promise<LogStore | null> {
  const { folder, bounds, memoryBytes } = logs;
  return folder === null ? null : DuckdbLogStore.open({ folder, bounds, memoryBytes, self, log });
}

/** Starts all of it. Rejects, with nothing left open, when an address cannot be listened on. */
export async function startCollector(config: Config, logOf: (component: string) => Log): Promise<Collector> {
  const self = new SelfMetrics(VERSION);
  const store = new SeriesStore(config.limits);
  const graph = new ServiceGraph(store, config.limits.edges);

  const logStore = await openLogs(config, self, logOf("logs"));
  const logIntake = logStore === null ? [] : [new LogIntake({ ...config.logs, store: logStore, self })];

  const { kubernetes, names } = config.identity;
  const nameRules = { service: nameRule(names.service), instance: nameRule(names.instance), domain: kubernetes.domain };
  const objects = new KubernetesObjects({
    ...kubernetes,
    paths: kubernetes.objects,
    rules: nameRules,
    self,
    log: logOf("identity"),
  });
  const identities = { analyzers: analyzersOf(config), lookup: objects, rules: nameRules };

  const indicators = new Indicators({
    ...config.indicators,
    limit: config.limits.indicators,
    endpointsPerService: config.endpoints.maxPerService,
  });
  const rules = {
    policies: new SuccessPolicies(config.health.rate),
    endpoints: new Endpoints(config.endpoints),
    apdex: new ApdexThresholds(config.indicators.apdex),
  };
  const taps = new Taps(config.limits.taps, self, new Analyser(Date.now, identities, rules));

  const tlsOf = (listener: "grpc" | "http", files: TlsFiles | null | undefined) =>
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
  const als = new AlsReceiver({
    maxStreams: config.limits.streams,
    maxProxies: config.limits.proxies,
    sink: (record) => store.observe(record),
    connectionSink: (record) => store.observeConnection(record),
    taps: [...logIntake, taps],
    indicators,
    identities,
    rules,
    self,
    log: logOf("als"),
  });
  als.register(grpc);
  const scraper = new Scraper({ ...config.scrape, sink: (report) => store.report(report), self, log: logOf("scrape") });

  let isStopping = false;
  const pending = () => [...(isStopping ? ["shutting down"] : []), ...(scraper.isReady ? [] : ["first scrape round"])];
  const web = new WebServer({
    ...config.http.address,
    tls: tlsOf("http", config.http.tls),
    store,
    graph,
    indicators,
    taps,
    logs: logStore,
    identities: objects,
    accounts: als.accounts,
    scrapeStatuses: () => scraper.statuses,
    self,
    pending,
    version: VERSION,
    log: logOf("web"),
  });

  await objects.start(); // first, so that no entry is named without them
  const grpcPort = await grpc.start().catch(async (error: unknown) => {
    await Promise.all([objects.stop(), logStore?.close()]);
    throw error;
  });
  const httpPort = await web.start().catch(async (error: unknown) => {
    await Promise.all([grpc.stop(0), objects.stop(), logStore?.close()]);
    throw error;
  });
  scraper.start();
  const timers = [
    setInterval(() => graph.tick(), GRAPH_TICK_MS),
    setInterval(() => store.retireSuperseded(), RETIRE_TICK_MS),
    setInterval(() => indicators.retireIdle(Date.now()), RETIRE_TICK_MS),
  ];

  return {
    grpcAddress: formatAddress({ host: config.grpc.address.host, port: grpcPort }),
    httpAddress: formatAddress({ host: config.http.address.host, port: httpPort }),
    scrapeNow: () => scraper.scrapeNow(),
    stop: async () => {
      isStopping = true;
      const { drainMs } = config.shutdown;
      await Promise.all([scraper.stop(), objects.stop(), grpc.stop(drainMs)]);
      for (const timer of timers) clearInterval(timer);
      await web.stop(drainMs); // last, so that what was drained can still be read
      await logStore?.close();
    },
  };
}
