// The local mesh: bookinfo's applications and their database, an Envoy beside each, the collector, and a way to stop all of it.

import { existsSync } from "node:fs";
import { mkdtemp, writeFile } from "node:fs/promises";
import { Agent } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { filterWasmPath } from "../envoy/project.ts";
import { startBookinfo } from "./bookinfo.ts";
import { writeCertificates } from "./certificates.ts";
import { type CollectorOptions, type CollectorProcess, restartCollector, startCollector } from "./collector-process.ts";
import { EnvoyProcess } from "./envoy-process.ts";
import { type Answer, httpCall } from "./http-call.ts";
import { backUp, RatingsDb, startBackups, startRatingsDb } from "./ratings-db.ts";
import { type ProxySettings, proxyConfig } from "./sidecar-config.ts";
import { claimSubnet, pickPort } from "./subnet.ts";
import { type EdgeCount, type Exchange, Tally, type TcpEdgeCount } from "./tally.ts";
import type { MetricsSink } from "./telemetry-config.ts";
import { addressOf, DATABASE, GATEWAY, nodeId, PORTS, WORKLOADS, type Workload } from "./topology.ts";
import { startTraffic } from "./traffic.ts";
import { Watchdog } from "./watchdog.ts";

const GATEWAY_PORT = 8080;

export interface MeshOptions {
  /** The Envoy to run (envoy/binary.ts finds one). */
  readonly envoy: string;
  /** The filter in every proxy. Default true. */
  readonly filter?: boolean;
  /** A collector. Default true; without it there is no access log either. */
  readonly collector?: boolean;
  /** Proxies stream access logs to the collector. Default true. */
  readonly als?: boolean;
  /** Proxies stream their stats to the collector's metrics service. Default: they do not. */
  readonly metricsSink?: MetricsSink;
  /** The collector scrapes the proxies. Default true. */
  readonly scrape?: boolean;
  /** Sidecars take plain text beside mTLS, so that a client without a sidecar can call. Default false. */
  readonly plaintext?: boolean;
  /** More of the collector's configuration. Default: none. */
  readonly collectorConfig?: Readonly<Record<string, object>>;
  /** Applications fail and dawdle now and then. Default true. */
  readonly faults?: boolean;
  /** Requests per second that a generator sends through the gateway. Default 0. */
  readonly requestsPerSecond?: number;
  /** Told of each request between applications, by both. Default: ignored. */
  readonly onExchange?: (exchange: Exchange) => void;
  /** Told when a proxy or the collector ends though nobody asked it to. Default: ignored. */
  readonly onCrash?: (name: string, failure: Error) => void;
  /** Abandons the start: what was started is stopped again, and the promise is rejected with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** A workload as it runs. */
interface MeshWorkload extends Workload {
  /** "127.0.7.13" */
  readonly address: string;
  /** Envoy's admin: "http://127.0.7.13:15000". */
  readonly adminUrl: string;
  /** Where others call it; mTLS unless the mesh takes plain text. Not for the gateway. */
  readonly inboundUrl: string;
  /** Where its application calls others. Not for the gateway. */
  readonly outboundUrl: string;
  readonly nodeId: string;
  /** Of its Envoy now; another one after a restart. */
  readonly pid: number;
}

export interface Mesh {
  readonly workloads: readonly MeshWorkload[];
  /** "http://127.0.7.10:8080" */
  readonly gatewayUrl: string;
  readonly collector: { readonly url: string; readonly grpcAddress: string; readonly pid: number } | null;
  /** GETs a path through the gateway. Rejects when the gateway is gone. */
  request(path?: string, headers?: NodeJS.Dict<string>): Promise<Answer>;
  /** What the applications counted so far: per caller, callee and code. */
  counts(): EdgeCount[];
  /** What callers of the database saw of their TCP connections so far. */
  tcpCounts(): TcpEdgeCount[];
  /** Dumps the database from outside the mesh, in plaintext. */
  backUp(): Promise<string>;
  /** How many `x-envoy-peer-metadata*` headers applications saw: none, if the proxies strip them. */
  exchangeHeadersSeen(): number;
  /** Kills the workload's Envoy and waits until it is gone; its application goes on. */
  kill(workload: string, signal?: NodeJS.Signals): Promise<void>;
  /** Starts the workload's Envoy again, stopping it first if it runs, and waits until it is ready. */
  restart(workload: string): Promise<void>;
  /** Ends the collector by the signal and starts it again where it was, on the same configuration. */
  restartCollector(signal: NodeJS.Signals): Promise<void>;
  /** Stops everything; may be called more than once. */
  stop(): Promise<void>;
  /** Kills every process at once, for those who cannot wait; `stop` is still to be called. */
  destroy(): void;
}

/** Starts all of it, or nothing: when a part does not start, the others are stopped and the promise is rejected. */
export async function startMesh(options: MeshOptions): Promise<Mesh> {
  const resources = new Resources();
  try {
    return await start(options, resources);
  } catch (error: unknown) {
    await resources.release();
    options.signal?.throwIfAborted();
    throw error;
  }
}

/** What must be given back, in the reverse order of taking. */
class Resources {
  private readonly releases: (() => unknown)[] = [];
  private released: Promise<void> | null = null;

  add(release: () => unknown): void {
    this.releases.push(release);
  }

  release(): Promise<void> {
    this.released ??= this.releaseAll();
    return this.released;
  }

  private async releaseAll(): Promise<void> {
    const failures: unknown[] = [];
    for (const release of this.releases.reverse()) {
      // One that cannot be given back must not keep the others.
      await Promise.resolve()
        .then(release)
        .catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }
}

/** What every part of one run shares. */
interface Site {
  readonly folder: string;
  readonly watchdog: Watchdog;
  /** "127.0.7" */
  readonly subnet: string;
}

async function start(options: MeshOptions, resources: Resources): Promise<Mesh> {
  const { signal, requestsPerSecond = 0, faults = true } = options;
  signal?.throwIfAborted();
  const site = await claimSite(resources);
  const { subnet } = site;
  const tally = new Tally(options.onExchange);
  resources.add(await startRatingsDb(subnet));
  const database = new RatingsDb(subnet, tally);
  resources.add(() => database.close());
  for (const workload of WORKLOADS.filter((candidate) => candidate !== GATEWAY && candidate !== DATABASE)) {
    resources.add(await startBookinfo({ workload, subnet, tally, database, faults }));
  }
  // Before the proxies, whose configuration names its port.
  const collector = (options.collector ?? true) ? await launchCollector(options, site, resources) : null;
  const gatewayPort = await pickPort(addressOf(GATEWAY, subnet), GATEWAY_PORT);
  const accessLogTo = collector !== null && (options.als ?? true) ? collector.grpcAddress : null;
  const { metricsSink } = options;
  const metricsTo = collector && metricsSink ? { address: collector.grpcAddress, sink: metricsSink } : null;
  const proxies = await createProxies(options, site, { accessLogTo, metricsTo }, gatewayPort);
  resources.add(() => Promise.all([...proxies.values()].map((proxy) => proxy.close())));
  await startAll([...proxies.values()], signal);

  const gatewayUrl = `http://${addressOf(GATEWAY, subnet)}:${gatewayPort}`;
  if (requestsPerSecond > 0) {
    resources.add(startTraffic(`${gatewayUrl}/productpage`, requestsPerSecond).stop);
    resources.add(startBackups(subnet, tally));
  }
  return new LocalMesh({ subnet, gatewayUrl, tally, collector, proxies }, resources);
}

async function claimSite(resources: Resources): Promise<Site> {
  const folder = await mkdtemp(join(tmpdir(), "meshtally-"));
  const watchdog = new Watchdog(folder);
  resources.add(() => watchdog.close());
  const { prefix, release } = await claimSubnet();
  resources.add(release);
  return { folder, watchdog, subnet: prefix };
}

/** One per workload, by its name; none is started yet. */
async function createProxies(
  options: MeshOptions,
  site: Site,
  telemetry: Pick<ProxySettings, "accessLogTo" | "metricsTo">,
  gatewayPort: number,
): Promise<Map<string, EnvoyProcess>> {
  const { folder, watchdog, subnet } = site;
  const { envoy, plaintext = false } = options;
  const wasmFile = (options.filter ?? true) ? filterWasmPath() : null;
  if (wasmFile !== null && !existsSync(wasmFile)) {
    throw new Error(`${wasmFile} is not there: run \`npm run build\` first`);
  }
  const certificates = await writeCertificates(WORKLOADS, join(folder, "certificates"));
  const proxies = new Map<string, EnvoyProcess>();
  for (const workload of WORKLOADS) {
    const configFile = join(folder, `${workload.name}.json`);
    const own = { certificates: certificates(workload), subnet, ...telemetry, wasmFile, plaintext, gatewayPort };
    await writeFile(configFile, JSON.stringify(proxyConfig(workload, own), null, 2));
    const title = `the proxy of ${workload.name}`;
    const onCrash = (failure: Error) => options.onCrash?.(workload.name, failure);
    const process = { title, envoy, configFile, adminUrl: adminUrl(workload, subnet), watchdog, onCrash };
    proxies.set(workload.name, new EnvoyProcess(process));
  }
  return proxies;
}

async function launchCollector(
  options: MeshOptions,
  { folder, watchdog, subnet }: Site,
  resources: Resources,
): Promise<Collector> {
  const targets = WORKLOADS.map((workload) => `${addressOf(workload, subnet)}:${PORTS.admin}`);
  const { signal, collectorConfig: config } = options;
  const onCrash = (failure: Error) => options.onCrash?.("collector", failure);
  const started = { targets: (options.scrape ?? true) ? targets : [], folder, watchdog, signal, config };
  const collector = new Collector(await startCollector(started), started, onCrash);
  resources.add(() => collector.stop());
  return collector;
}

/** The collector that runs now. */
class Collector {
  private isWanted = true;

  constructor(
    private process: CollectorProcess,
    private readonly options: CollectorOptions,
    private readonly onCrash: (failure: Error) => void,
  ) {
    this.watch();
  }

  get url(): string {
    return this.process.url;
  }

  get grpcAddress(): string {
    return this.process.grpcAddress;
  }

  get pid(): number {
    return this.process.child.pid;
  }

  async restart(signal: NodeJS.Signals): Promise<void> {
    this.isWanted = false;
    await this.process.child.kill(signal);
    this.process = await restartCollector(this.process, this.options);
    this.isWanted = true;
    this.watch();
  }

  async stop(): Promise<void> {
    this.isWanted = false;
    await this.process.child.stop();
  }

  destroy(): void {
    this.process.child.destroy();
  }

  private watch(): void {
    const { child } = this.process;
    void child.ended.then(() => {
      if (this.isWanted) this.onCrash(child.failure());
    });
  }
}

interface Parts {
  readonly subnet: string;
  readonly gatewayUrl: string;
  readonly tally: Tally;
  readonly collector: Collector | null;
  readonly proxies: ReadonlyMap<string, EnvoyProcess>;
}

class LocalMesh implements Mesh {
  readonly workloads: readonly MeshWorkload[];
  readonly gatewayUrl: string;
  readonly collector: Mesh["collector"];
  private readonly parts: Parts;
  private readonly resources: Resources;
  private readonly agent = new Agent({ keepAlive: true });

  constructor(parts: Parts, resources: Resources) {
    this.parts = parts;
    this.resources = resources;
    this.gatewayUrl = parts.gatewayUrl;
    const { collector, subnet } = parts;
    this.collector = collector;
    this.workloads = WORKLOADS.map((workload) => runningWorkload(workload, subnet, this.proxyOf(workload.name)));
    resources.add(() => this.agent.destroy());
  }

  request(path = "/productpage", headers: NodeJS.Dict<string> = {}): Promise<Answer> {
    return httpCall(this.gatewayUrl + path, headers, this.agent);
  }

  counts(): EdgeCount[] {
    return this.parts.tally.counts();
  }

  tcpCounts(): TcpEdgeCount[] {
    return this.parts.tally.tcpCounts();
  }

  backUp(): Promise<string> {
    return backUp(this.parts.subnet, this.parts.tally);
  }

  exchangeHeadersSeen(): number {
    return this.parts.tally.exchangeHeadersSeen();
  }

  kill(workload: string, signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    return this.proxyOf(workload).kill(signal);
  }

  async restart(workload: string): Promise<void> {
    const proxy = this.proxyOf(workload);
    await proxy.stop();
    await proxy.start();
  }

  async restartCollector(signal: NodeJS.Signals): Promise<void> {
    if (this.parts.collector === null) throw new Error("the mesh has no collector");
    await this.parts.collector.restart(signal);
  }

  stop(): Promise<void> {
    return this.resources.release();
  }

  destroy(): void {
    for (const proxy of this.parts.proxies.values()) proxy.destroy();
    this.parts.collector?.destroy();
  }

  private proxyOf(workload: string): EnvoyProcess {
    const { proxies } = this.parts;
    const proxy = proxies.get(workload);
    if (proxy === undefined) throw new Error(`no workload ${workload}; there are ${[...proxies.keys()].join(", ")}`);
    return proxy;
  }
}

function runningWorkload(workload: Workload, subnet: string, proxy: EnvoyProcess): MeshWorkload {
  const address = addressOf(workload, subnet);
  return {
    ...workload,
    address,
    adminUrl: adminUrl(workload, subnet),
    inboundUrl: `http://${address}:${PORTS.inbound}`,
    outboundUrl: `http://${address}:${PORTS.outbound}`,
    nodeId: nodeId(workload, address),
    get pid() {
      return proxy.pid;
    },
  };
}

function adminUrl(workload: Workload, subnet: string): string {
  return `http://${addressOf(workload, subnet)}:${PORTS.admin}`;
}

/** All at once. The first that fails ends the waiting for the others, and is the one that is told. */
async function startAll(proxies: readonly EnvoyProcess[], signal: AbortSignal | undefined): Promise<void> {
  const failure = new AbortController();
  const either = signal ? AbortSignal.any([signal, failure.signal]) : failure.signal;
  const starts = proxies.map((proxy) =>
    proxy.start(either).catch((error: unknown) => {
      failure.abort(error);
    }),
  );
  await Promise.all(starts);
  if (!failure.signal.aborted) return;
  for (const proxy of proxies) proxy.destroy(); // none has done anything yet that it should finish
  throw failure.signal.reason;
}
