// A proxy-wasm host (ABI 0.2.1) in TypeScript: runs a filter as stock Envoy runs an HTTP or a network filter, and shows what it did.
//
//   StatStore 1 ── n Host (VM, a worker thread) 1 ── n plugin (root context) 1 ── n HttpStream, TcpConnection
//
// Only the callbacks that the module exports are called. A trap, a pointer out of bounds, an unknown import or a request
// that is stopped throws here, so that it fails the test; after a trap the VM is dead, as in Envoy.

import { readFileSync } from "node:fs";
import { type ConnectionOptions, TcpConnection } from "./connection.ts";
import { ForeignFunctions } from "./foreign.ts";
import { HeaderMap, type HeaderPairs } from "./headers.ts";
import { type ActiveStream, type Environment, type LogLine, makeImports, READING_CALLS } from "./imports.ts";
import { GuestFault, GuestMemory } from "./memory.ts";
import {
  type CertificateUris,
  findHttpProperty,
  type HttpView,
  type Node,
  type Phase,
  type PropertyValue,
  type TrafficDirection,
} from "./property.ts";
import { readSeries, type Series, StatStore } from "./stats.ts";
import type { JsonObject } from "./struct.ts";
import { Ticks } from "./ticks.ts";

/** The release build of the filter; `npm run build` makes it. */
export const FILTER_WASM = new URL("../../build/filter.wasm", import.meta.url);

const ABI_VERSION = "proxy_abi_version_0_2_1";
const MEMORY = "memory";
const INITIALIZE = "_initialize";
const ALLOCATE = "proxy_on_memory_allocate";
const MALLOC = "malloc";
/** Callbacks of a filter and how many parameters each takes. */
const CALLBACK_PARAMETERS: Readonly<Record<string, number>> = {
  proxy_on_vm_start: 2,
  proxy_on_context_create: 2,
  proxy_on_configure: 2,
  proxy_on_request_headers: 3,
  proxy_on_response_headers: 3,
  proxy_on_response_trailers: 2,
  proxy_on_new_connection: 1,
  proxy_on_downstream_data: 3,
  proxy_on_upstream_data: 3,
  proxy_on_downstream_connection_close: 2,
  proxy_on_upstream_connection_close: 2,
  proxy_on_log: 1,
  proxy_on_done: 1,
  proxy_on_delete: 1,
  proxy_on_tick: 1,
};
const CONTINUE = 0;
export const START_TIME_NS = 1_700_000_000_000_000_000n;

export interface HostOptions {
  readonly node: Node;
  /** Plugin configuration: text as is, an object as JSON, undefined for none. */
  readonly configuration?: string | JsonObject;
  readonly direction?: TrafficDirection;
  /** Stats of the process; given so that a second VM shares them. */
  readonly stats?: StatStore;
  /** Labels that the proxy's `stats_tags` know besides the standard ones. */
  readonly customLabels?: readonly string[];
  /** Unix time when the VM starts. */
  readonly startNs?: bigint;
}

/** What happens to one request, and what Envoy knows of it. Absent parts read as a plain, successful request. */
export interface StreamOptions {
  readonly requestHeaders?: HeaderPairs;
  readonly responseHeaders?: HeaderPairs;
  readonly responseTrailers?: HeaderPairs;
  /** null: no route was found. */
  readonly routeName?: string | null;
  readonly cluster?: { readonly name: string; readonly metadata?: JsonObject };
  readonly endpoint?: { readonly metadata?: JsonObject };
  /** null: there was no answer. Absent: `:status` of the answer. */
  readonly responseCode?: number | null;
  readonly responseFlags?: bigint;
  /** null: the request did not finish. */
  readonly durationNs?: bigint | null;
  readonly requestBytes?: number;
  readonly responseBytes?: number;
  readonly downstreamTls?: CertificateUris;
  readonly upstreamTls?: CertificateUris;
  /** Answers by path, dots between segments; undefined: NotFound. */
  readonly properties?: Readonly<Record<string, PropertyValue | undefined>>;
  /** Filter state that others set, as text: `{ "envoy.filters.http.grpc_stats": "3,5" }`. It may change: `stream.filterState`. */
  readonly filterState?: Readonly<Record<string, string>>;
  readonly rootId?: number;
}

export const PLAIN_REQUEST: HeaderPairs = [
  [":authority", "reviews:9080"],
  [":path", "/reviews/0"],
  [":method", "GET"],
  ["x-request-id", "8f6c2f1e"],
];
export const PLAIN_RESPONSE: HeaderPairs = [
  [":status", "200"],
  ["content-type", "application/json"],
];

/** Compiled once per test file. */
let filterModule: WebAssembly.Module | undefined;

/** Starts a VM with the filter of this project. */
export function startFilter(options: HostOptions): Host {
  filterModule ??= new WebAssembly.Module(readFileSync(FILTER_WASM));
  return new Host(filterModule, options);
}

/** A request or a connection. */
type Stream = HttpStream | TcpConnection;

export class Host {
  readonly stats: StatStore;
  readonly logs: LogLine[] = [];
  /** Host calls by name since the start or `calls.clear()`. */
  readonly calls = new Map<string, number>();
  /** Host functions that are to answer this status instead of doing their work. */
  readonly failures = new Map<string, number>();
  readonly foreign = new ForeignFunctions();
  readonly memory: GuestMemory;
  nowNs: bigint;

  private readonly options: HostOptions;
  private readonly exports: WebAssembly.Exports;
  private readonly rootId: number;
  private nextContextId = 1;
  private configuration: Buffer | undefined;
  private active: ActiveStream | undefined;
  /** The context whose callback is running, and the stream that it took instead of its own. */
  private contextId = 0;
  private effective: Stream | undefined;
  private readonly liveStreams = new Map<number, Stream>();
  private readonly ticks = new Ticks();
  private connections = 0n;
  private readonly afterCallback: (() => void)[] = [];
  private readonly rootIds = new Set<number>();
  private trap: unknown;

  constructor(module: WebAssembly.Module, options: HostOptions) {
    this.options = options;
    this.stats = options.stats ?? new StatStore();
    this.nowNs = options.startNs ?? START_TIME_NS;
    const instance = new WebAssembly.Instance(
      module,
      makeImports(module, () => this.environment()),
    );
    this.exports = instance.exports;
    this.checkExports();
    this.memory = new GuestMemory(this.exports[MEMORY] as WebAssembly.Memory, (size) => this.allocate(size));
    if (this.exports[INITIALIZE] !== undefined) this.run(INITIALIZE, []);
    this.rootId = this.addPlugin(options.configuration);
  }

  /** One more plugin (root context) in this VM; returns its id. Throws when the filter refuses the configuration. */
  addPlugin(configuration: string | JsonObject | undefined): number {
    const rootId = this.nextContextId++;
    this.rootIds.add(rootId);
    this.call("proxy_on_context_create", [rootId, 0]);
    if (rootId === 1 && this.call("proxy_on_vm_start", [rootId, 0]) === 0) throw new GuestFault("VM start refused");
    this.configure(rootId, configuration);
    return rootId;
  }

  /** Gives a plugin another configuration. */
  configure(rootId: number, configuration: string | JsonObject | undefined): void {
    const text = typeof configuration === "object" ? JSON.stringify(configuration) : (configuration ?? "");
    this.configuration = Buffer.from(text, "utf8");
    const accepted = this.call("proxy_on_configure", [rootId, this.configuration.length]);
    this.configuration = undefined;
    if (accepted === 0) throw new GuestFault("the filter refused its configuration");
  }

  /** A new stream; nothing is called yet. */
  stream(options: StreamOptions = {}): HttpStream {
    return new HttpStream(this, this.nextContextId++, options.rootId ?? this.rootId, options);
  }

  /** A whole request, from its headers to its log. */
  request(options: StreamOptions = {}): HttpStream {
    return this.stream(options).finish();
  }

  /** A connection whose client is there, and its upstream unless `isConnecting`. */
  connection(options: ConnectionOptions = {}): TcpConnection {
    const rootId = options.rootId ?? this.rootId;
    const number = this.connections;
    this.connections += 2n; // the upstream connection takes a number, too
    return new TcpConnection(this, this.nextContextId++, rootId, number, options).open();
  }

  /** Milliseconds between two ticks of each plugin that asked for them, by root id. */
  get tickPeriodMs(): ReadonlyMap<number, number> {
    return this.ticks.periodMs;
  }

  /** A tick of a plugin, unless it asked for none. */
  tick(rootId = this.rootId): void {
    if ((this.tickPeriodMs.get(rootId) ?? 0) > 0) this.call("proxy_on_tick", [rootId]);
  }

  /** Time passes: the ticks that fall into it come, each at its time. */
  advance(milliseconds: number): void {
    const untilNs = this.nowNs + BigInt(milliseconds) * 1_000_000n;
    for (let next = this.ticks.next(untilNs); next !== undefined; next = this.ticks.next(untilNs)) {
      if (next.atNs > this.nowNs) this.nowNs = next.atNs;
      this.call("proxy_on_tick", [next.rootId]);
      this.ticks.arm(next.rootId, this.nowNs);
    }
    this.nowNs = untilNs;
  }

  /** A finished request as the plugin sees it as an access logger: it is shown the facts, and has no stream of its own. */
  logAsAccessLogger(options: StreamOptions = {}): HttpStream {
    return new HttpStream(this, this.nextContextId++, options.rootId ?? this.rootId, options).logAsAccessLogger();
  }

  /** Runs a callback with a stream in view; undefined when it is not exported. `parameters[0]` is the context. */
  call(name: string, parameters: number[], stream?: Stream): number | undefined {
    if (this.exports[name] === undefined) return undefined;
    const [outer, outerId, outerEffective] = [this.active, this.contextId, this.effective];
    this.active = stream;
    this.contextId = parameters[0] ?? 0;
    this.effective = undefined;
    try {
      return this.run(name, parameters);
    } finally {
      this.takeEffective(outerEffective);
      this.active = outer;
      this.contextId = outerId;
      for (const action of this.afterCallback.splice(0)) action();
    }
  }

  /** Streams that exist for the guest: from their creation to their deletion. */
  setLive(stream: Stream, isLive: boolean): void {
    if (isLive) this.liveStreams.set(stream.id, stream);
    else this.liveStreams.delete(stream.id);
  }

  /** Every series of one metric, or all. */
  series(metric?: string): Series[] {
    const all = this.stats.all().map((stat) => readSeries(stat, this.options.customLabels));
    return metric === undefined ? all : all.filter((one) => one.name === metric);
  }

  /** How many calls that bring bytes into the guest there were since `calls.clear()`. */
  readingCalls(): number {
    return READING_CALLS.reduce((sum, name) => sum + (this.calls.get(name) ?? 0), 0);
  }

  private environment(): Environment {
    return {
      memory: this.memory,
      node: this.options.node,
      direction: this.options.direction ?? "unspecified",
      stats: this.stats,
      logs: this.logs,
      calls: this.calls,
      failures: this.failures,
      nowNs: () => this.nowNs,
      configuration: this.configuration,
      stream: this.effective ?? this.active,
      ownStream: this.active,
      foreign: this.foreign,
      rootId: this.runningRootId(),
      setTickPeriod: (milliseconds) => this.ticks.set(this.tickRootId(), milliseconds, this.nowNs),
      setEffectiveContext: (id) => this.setEffectiveContext(id),
      afterCallback: (action) => this.afterCallback.push(action),
    };
  }

  private runningRootId(): number {
    return this.liveStreams.get(this.contextId)?.rootId ?? this.contextId;
  }

  /** A stream's timer is its root's. */
  private tickRootId(): number {
    return this.effective?.rootId ?? this.runningRootId();
  }

  private setEffectiveContext(id: number): boolean {
    const stream = this.liveStreams.get(id);
    if (stream === undefined && !this.rootIds.has(id)) return false;
    this.takeEffective(id === this.contextId ? undefined : stream);
    return true;
  }

  private takeEffective(stream: Stream | undefined): void {
    if (this.effective !== undefined) this.effective.isInTick = false;
    if (stream !== undefined) stream.isInTick = true;
    this.effective = stream;
  }

  private checkExports(): void {
    if (this.exports[ABI_VERSION] === undefined) throw new GuestFault(`the module does not export ${ABI_VERSION}`);
    for (const [name, parameters] of Object.entries(CALLBACK_PARAMETERS)) {
      const callback = this.exports[name];
      if (typeof callback === "function" && callback.length !== parameters) {
        throw new GuestFault(`${name} takes ${callback.length} parameters, not ${parameters}`);
      }
    }
  }

  private allocate(size: number): number {
    return this.run(this.exports[ALLOCATE] === undefined ? MALLOC : ALLOCATE, [size]) ?? 0;
  }

  private run(name: string, parameters: number[]): number | undefined {
    if (this.trap !== undefined) throw new GuestFault(`${name}: the VM is dead`, { cause: this.trap });
    const callback = this.exports[name];
    if (typeof callback !== "function") throw new GuestFault(`the module does not export ${name}`);
    try {
      return callback(...parameters) as number | undefined;
    } catch (error) {
      this.trap = error;
      if (error instanceof GuestFault) throw error;
      throw new GuestFault(`${name}(${parameters.join(", ")}): ${error instanceof Error ? error.stack : error}`, {
        cause: error,
      });
    }
  }
}

/** One request on its way. Each step runs the callback of that name; steps of several streams may be mixed. */
export class HttpStream implements ActiveStream, HttpView {
  /** Itself: a connection has no headers. */
  readonly http = this;
  readonly requestHeaders: HeaderMap;
  readonly responseHeaders: HeaderMap;
  readonly responseTrailers: HeaderMap | undefined;
  readonly filterState = new Map<string, Buffer>();
  readonly overrides: ReadonlyMap<string, PropertyValue | undefined>;
  phase: Phase = "request";
  hasRoute = false;
  isInTick = false;
  isAccessLogger = false;

  private isCreated = false;

  constructor(
    private readonly host: Host,
    readonly id: number,
    readonly rootId: number,
    private readonly options: StreamOptions,
  ) {
    this.requestHeaders = new HeaderMap(options.requestHeaders ?? PLAIN_REQUEST);
    this.responseHeaders = new HeaderMap(options.responseHeaders ?? PLAIN_RESPONSE);
    this.responseTrailers = options.responseTrailers && new HeaderMap(options.responseTrailers);
    this.overrides = new Map(Object.entries(options.properties ?? {}));
    for (const [name, text] of Object.entries(options.filterState ?? {})) this.filterState.set(name, Buffer.from(text));
  }

  get routeName(): string {
    return this.options.routeName ?? "";
  }

  get cluster(): { readonly name: string; readonly metadata?: JsonObject } | undefined {
    return this.hasRoute ? this.options.cluster : undefined;
  }

  get endpoint(): { readonly metadata?: JsonObject } | undefined {
    return this.hasRoute ? this.options.endpoint : undefined;
  }

  get responseCode(): number | undefined {
    if (this.phase === "request" || this.options.responseCode === null) return undefined;
    return this.options.responseCode ?? Number(this.responseHeaders.get(":status"));
  }

  get responseFlags(): bigint {
    return this.phase === "request" ? 0n : (this.options.responseFlags ?? 0n);
  }

  get durationNs(): bigint | undefined {
    return this.options.durationNs === null ? undefined : (this.options.durationNs ?? 12_345_678n);
  }

  get requestBytes(): bigint {
    return BigInt(this.options.requestBytes ?? 250);
  }

  get responseBytes(): bigint {
    return BigInt(this.options.responseBytes ?? 500);
  }

  get downstreamTls(): CertificateUris | undefined {
    return this.options.downstreamTls;
  }

  get upstreamTls(): CertificateUris | undefined {
    return this.hasRoute ? this.options.upstreamTls : undefined;
  }

  find(path: readonly string[]): PropertyValue | undefined {
    return findHttpProperty(path, this);
  }

  /** A request's bodies are not emulated. */
  buffer(): undefined {
    return undefined;
  }

  continueDownstream(): void {} // there is no connection to continue
  closeDownstream(): void {}

  /** The request's headers have come and its route is chosen. */
  sendRequestHeaders(): this {
    this.phase = "request";
    this.hasRoute = this.options.routeName !== null;
    this.create();
    const { size } = this.requestHeaders;
    this.mustContinue("proxy_on_request_headers", [this.id, size, 1]);
    return this;
  }

  sendResponseHeaders(): this {
    this.phase = "response";
    this.mustContinue("proxy_on_response_headers", [this.id, this.responseHeaders.size, 0]);
    return this;
  }

  sendResponseTrailers(): this {
    if (this.responseTrailers === undefined) return this;
    this.mustContinue("proxy_on_response_trailers", [this.id, this.responseTrailers.size]);
    return this;
  }

  /** The end of the stream: log, done, delete. Alone, it is what a filter sees of a request that was refused before it. */
  log(): this {
    this.phase = "log";
    this.create();
    for (const name of ["proxy_on_log", "proxy_on_done", "proxy_on_delete"]) this.host.call(name, [this.id], this);
    this.host.setLive(this, false);
    return this;
  }

  /** Only the log callback, of the root context. */
  logAsAccessLogger(): this {
    this.phase = "log";
    this.hasRoute = this.options.routeName !== null;
    this.isAccessLogger = true;
    this.host.call("proxy_on_log", [this.rootId], this);
    return this;
  }

  /** All steps in order. */
  finish(): this {
    this.sendRequestHeaders();
    if (this.options.responseCode !== null) this.sendResponseHeaders().sendResponseTrailers();
    return this.log();
  }

  private create(): void {
    if (this.isCreated) return;
    this.isCreated = true;
    this.host.setLive(this, true);
    this.host.call("proxy_on_context_create", [this.id, this.rootId], this);
  }

  private mustContinue(name: string, parameters: number[]): void {
    const action = this.host.call(name, parameters, this);
    if (action !== undefined && action !== CONTINUE) throw new GuestFault(`${name} stopped the request: ${action}`);
  }
}
