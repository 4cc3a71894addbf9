// The host functions of proxy-wasm ABI 0.2.1 (module `env`) that a filter of stats and headers needs, as Envoy 1.40 answers.
// Every other import is a stub that fails the test when it is called.

import { MetricKind } from "../../filter/vocabulary/metrics.ts";
import { attributes } from "./attributes.ts";
import { type DataBuffer, readBuffer, writeBuffer } from "./buffer.ts";
import type { ForeignFunctions } from "./foreign.ts";
import type { HeaderMap } from "./headers.ts";
import { GuestFault, type GuestMemory } from "./memory.ts";
import {
  findProperty,
  marshalPairs,
  type Node,
  type Phase,
  type StreamView,
  serializeProperty,
  type TrafficDirection,
} from "./property.ts";
import type { Stat, StatStore } from "./stats.ts";
import { STATUS } from "./status.ts";

/** Calls that bring bytes into the guest: the ones whose number counts (they re-enter it to allocate). */
export const READING_CALLS: readonly string[] = [
  "proxy_get_property",
  "proxy_get_header_map_value",
  "proxy_get_header_map_pairs",
  "proxy_get_buffer_bytes",
  "proxy_get_shared_data",
  "proxy_call_foreign_function",
];

const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "critical"] as const;

export interface LogLine {
  readonly level: (typeof LOG_LEVELS)[number];
  readonly text: string;
}

/** The stream whose callback is running: a request, or a connection, which has no headers. */
export interface ActiveStream extends StreamView {
  readonly filterState: Map<string, Buffer>;
  /** Shown to an access logger, which has no filter state to write to. */
  readonly isAccessLogger: boolean;
  readonly http?: HttpMaps;
  /** The network buffer that can be seen now. */
  buffer(type: number): DataBuffer | undefined;
  /** Passes on what the client has sent and the filter held back. */
  continueDownstream(): void;
  closeDownstream(): void;
}

/** The headers of a request. */
interface HttpMaps {
  readonly phase: Phase;
  readonly requestHeaders: HeaderMap;
  readonly responseHeaders: HeaderMap | undefined;
  readonly responseTrailers: HeaderMap | undefined;
}

/** What the host functions act on. */
export interface Environment {
  readonly memory: GuestMemory;
  readonly node: Node;
  readonly direction: TrafficDirection;
  readonly stats: StatStore;
  readonly logs: LogLine[];
  readonly calls: Map<string, number>;
  /** Statuses that a test forces upon a host function, by its name. */
  readonly failures: Map<string, number>;
  readonly nowNs: () => bigint;
  /** Of the plugin, while it is being configured. */
  readonly configuration: Buffer | undefined;
  readonly stream: ActiveStream | undefined;
  /** The running callback's own: expressions see this one, whatever the effective context is. */
  readonly ownStream: ActiveStream | undefined;
  readonly foreign: ForeignFunctions;
  /** Plugin of the running callback. */
  readonly rootId: number;
  /** Asks for a tick of the running plugin; 0 ends it. */
  readonly setTickPeriod: (milliseconds: number) => void;
  /** Lets the running callback act on another context; false when there is none with this id. */
  readonly setEffectiveContext: (id: number) => boolean;
  /** Does something once the guest has returned. */
  readonly afterCallback: (action: () => void) => void;
}

type HostFunction = (...parameters: number[]) => number;
// i64 parameters arrive as bigint: only proxy_increment_metric and proxy_record_metric have one.
type HostFunctions = Record<string, HostFunction | ((id: number, value: bigint) => number)>;

const REQUEST_HEADERS = 0;
const RESPONSE_HEADERS = 2;
const RESPONSE_TRAILERS = 3;
const HEADER_MAP_TYPES = 8;
const PLUGIN_CONFIGURATION = 7;
const BUFFER_TYPES = 9;
const STREAM_DOWNSTREAM = 2;
const STREAM_UPSTREAM = 3;

/** Imports for the module, given what `environment` returns at the time of each call. */
export function makeImports(module: WebAssembly.Module, environment: () => Environment): WebAssembly.Imports {
  const known: HostFunctions = {
    ...logAndClock(environment),
    ...buffers(environment),
    ...properties(environment),
    ...headerMaps(environment),
    ...metrics(environment),
    ...contexts(environment),
  };
  const imports: Record<string, Record<string, WebAssembly.ImportValue>> = {};
  for (const { module: from, name, kind } of WebAssembly.Module.imports(module)) {
    if (kind !== "function") throw new GuestFault(`the module imports the ${kind} ${from}.${name}`);
    const call = from === "env" && Object.hasOwn(known, name) ? known[name] : undefined;
    imports[from] ??= {};
    imports[from][name] = call === undefined ? refuse(from, name) : counted(name, call as HostFunction, environment);
  }
  return imports;
}

function refuse(from: string, name: string): () => never {
  return () => {
    throw new GuestFault(`the guest called ${from}.${name}, which this host does not emulate`);
  };
}

function counted(name: string, call: HostFunction, environment: () => Environment): HostFunction {
  return (...parameters) => {
    const { calls, failures } = environment();
    calls.set(name, (calls.get(name) ?? 0) + 1);
    if (failures.size > 0) {
      const status = failures.get(name);
      if (status !== undefined) return status;
    }
    return call(...parameters);
  };
}

function logAndClock(environment: () => Environment): HostFunctions {
  return {
    proxy_log(level = 0, text = 0, size = 0) {
      const { memory, logs } = environment();
      const name = LOG_LEVELS[level];
      if (name === undefined) return STATUS.badArgument;
      logs.push({ level: name, text: memory.bytes(text, size).toString("utf8") });
      return STATUS.ok;
    },
    proxy_get_log_level(out = 0) {
      environment().memory.writeU32(out, LOG_LEVELS.indexOf("info"));
      return STATUS.ok;
    },
    proxy_get_current_time_nanoseconds(out = 0) {
      const { memory, nowNs } = environment();
      memory.writeU64(out, nowNs());
      return STATUS.ok;
    },
    proxy_call_foreign_function(name = 0, nameSize = 0, parameters = 0, size = 0, out = 0, sizeOut = 0) {
      const { memory, foreign, rootId, node, direction, ownStream } = environment();
      const bytes = Buffer.from(memory.bytes(parameters, size));
      const variables = () => attributes(node, direction, ownStream, foreign.structs(rootId));
      const result = foreign.call(rootId, memory.latin1(name, nameSize), bytes, variables);
      if (typeof result === "number") return result;
      memory.give(result, out, sizeOut);
      return STATUS.ok;
    },
  };
}

function buffers(environment: () => Environment): HostFunctions {
  return {
    proxy_get_buffer_bytes(type = 0, start = 0, length = 0, out = 0, sizeOut = 0) {
      const { memory, configuration, stream } = environment();
      if (type >>> 0 >= BUFFER_TYPES) return STATUS.badArgument;
      const buffer = type === PLUGIN_CONFIGURATION ? configuration && { bytes: configuration } : stream?.buffer(type);
      memory.give(readBuffer(buffer, start >>> 0, length >>> 0), out, sizeOut);
      return STATUS.ok;
    },
    proxy_set_buffer_bytes(type = 0, start = 0, length = 0, from = 0, size = 0) {
      const { memory, stream } = environment();
      return writeBuffer(stream?.buffer(type), start >>> 0, length >>> 0, Buffer.from(memory.bytes(from, size)));
    },
    proxy_continue_stream(type = 0) {
      const { stream, afterCallback } = environment();
      if (type === STREAM_UPSTREAM) return STATUS.unimplemented;
      if (type !== STREAM_DOWNSTREAM) throw new GuestFault(`the guest continued a stream of type ${type}`);
      afterCallback(() => stream?.continueDownstream());
      return STATUS.ok;
    },
    proxy_close_stream(type = 0) {
      if (type !== STREAM_DOWNSTREAM) throw new GuestFault(`the guest closed a stream of type ${type}`);
      environment().stream?.closeDownstream(); // at once: the guest is called back within this call
      return STATUS.ok;
    },
  };
}

function contexts(environment: () => Environment): HostFunctions {
  return {
    proxy_set_tick_period_milliseconds(milliseconds = 0) {
      environment().setTickPeriod(milliseconds >>> 0);
      return STATUS.ok;
    },
    proxy_set_effective_context(id = 0) {
      return environment().setEffectiveContext(id >>> 0) ? STATUS.ok : STATUS.badArgument;
    },
  };
}

function properties(environment: () => Environment): HostFunctions {
  return {
    proxy_get_property(path = 0, pathSize = 0, out = 0, sizeOut = 0) {
      const { memory, node, direction, stream } = environment();
      const value = findProperty(splitPath(memory.latin1(path, pathSize)), node, direction, stream);
      if (value === undefined) return STATUS.notFound;
      const bytes = serializeProperty(value);
      if (bytes === null) return STATUS.serializationFailure;
      memory.give(bytes, out, sizeOut);
      return STATUS.ok;
    },
    proxy_set_property(path = 0, pathSize = 0, value = 0, size = 0) {
      const { memory, stream } = environment();
      if (stream === undefined || stream.isAccessLogger) return STATUS.notFound;
      stream.filterState.set(`wasm.${memory.latin1(path, pathSize)}`, Buffer.from(memory.bytes(value, size)));
      return STATUS.ok;
    },
  };
}

const splitPaths = new Map<string, string[]>();

/** Segments of a NUL-separated path; a trailing NUL ends it. */
function splitPath(path: string): string[] {
  let parts = splitPaths.get(path);
  if (parts === undefined) {
    parts = path.replace(/\0$/, "").split("\0");
    if (splitPaths.size < 1_000) splitPaths.set(path, parts);
  }
  return parts;
}

function headerMaps(environment: () => Environment): HostFunctions {
  const name = (pointer: number, size: number) => environment().memory.latin1(pointer, size);
  return {
    proxy_get_header_map_value(type = 0, key = 0, keySize = 0, out = 0, sizeOut = 0) {
      const headers = readableMap(type, environment().stream);
      if (headers === undefined) return STATUS.badArgument;
      const value = headers?.get(name(key, keySize));
      if (value === undefined) return STATUS.notFound;
      environment().memory.give(Buffer.from(value, "latin1"), out, sizeOut);
      return STATUS.ok;
    },
    proxy_get_header_map_pairs(type = 0, out = 0, sizeOut = 0) {
      const pairs = readableMap(type, environment().stream)?.pairs() ?? [];
      const bytes = pairs.map(([key, value]) => [Buffer.from(key, "latin1"), Buffer.from(value, "latin1")] as const);
      environment().memory.give(marshalPairs(bytes), out, sizeOut);
      return STATUS.ok;
    },
    proxy_replace_header_map_value(type = 0, key = 0, keySize = 0, value = 0, size = 0) {
      const headers = writableMap(type, environment().stream);
      if (headers === undefined) return STATUS.badArgument;
      headers.replace(name(key, keySize), name(value, size));
      return STATUS.ok;
    },
    proxy_add_header_map_value(type = 0, key = 0, keySize = 0, value = 0, size = 0) {
      const headers = writableMap(type, environment().stream);
      if (headers === undefined) return STATUS.badArgument;
      headers.add(name(key, keySize), name(value, size));
      return STATUS.ok;
    },
    proxy_remove_header_map_value(type = 0, key = 0, keySize = 0) {
      const headers = writableMap(type, environment().stream);
      if (headers === undefined) return STATUS.badArgument;
      headers.remove(name(key, keySize));
      return STATUS.ok;
    },
  };
}

/** undefined: not in this callback, or of a connection (BadArgument). null: readable, but nothing was there (NotFound). */
function readableMap(type: number, stream: ActiveStream | undefined): HeaderMap | null | undefined {
  const http = stream?.http;
  if (http?.phase !== "log") return writableMap(type, stream);
  if (type === REQUEST_HEADERS) return http.requestHeaders;
  if (type === RESPONSE_HEADERS) return http.responseHeaders ?? null;
  if (type === RESPONSE_TRAILERS) return http.responseTrailers ?? null;
  return type < HEADER_MAP_TYPES ? null : undefined;
}

/** Only the map whose callback is running can be changed; in the log callback none. */
function writableMap(type: number, stream: ActiveStream | undefined): HeaderMap | undefined {
  const http = stream?.http;
  if (http === undefined || stream?.isInTick) return undefined;
  if (http.phase === "request" && type === REQUEST_HEADERS) return http.requestHeaders;
  if (http.phase === "response" && type === RESPONSE_HEADERS) return http.responseHeaders;
  return undefined;
}

/** A metric id holds the kind in its two lowest bits; each definition, also of a known name, gives a new id. */
function metrics(environment: () => Environment): HostFunctions {
  const byId = new Map<number, Stat>();
  const nextOfKind = [4, 4, 4];
  return {
    proxy_define_metric(kind = 0, name = 0, size = 0, out = 0) {
      const { memory, stats } = environment();
      const next = nextOfKind[kind];
      if (next === undefined) return STATUS.badArgument;
      nextOfKind[kind] = next + 4;
      byId.set(next | kind, stats.define(kind, memory.latin1(name, size)));
      memory.writeU32(out, next | kind);
      return STATUS.ok;
    },
    proxy_increment_metric(id: number, offset: bigint) {
      if ((id & 3) === MetricKind.Histogram) return STATUS.badArgument;
      const stat = byId.get(id);
      if (stat === undefined) return STATUS.notFound;
      if (stat.kind === MetricKind.Counter && offset < 0n) return STATUS.badArgument;
      stat.value += offset;
      return STATUS.ok;
    },
    proxy_record_metric(id: number, value: bigint) {
      const stat = byId.get(id);
      if (stat === undefined) return STATUS.notFound;
      const recorded = BigInt.asUintN(64, value);
      if (stat.kind === MetricKind.Counter) stat.value += recorded;
      else if (stat.kind === MetricKind.Gauge) stat.value = recorded;
      else stat.samples.push(recorded);
      return STATUS.ok;
    },
    proxy_get_metric(id = 0, out = 0) {
      const stat = byId.get(id);
      if ((id & 3) === MetricKind.Histogram) return STATUS.badArgument;
      if (stat === undefined) return STATUS.notFound;
      environment().memory.writeU64(out, stat.value);
      return STATUS.ok;
    },
  };
}
