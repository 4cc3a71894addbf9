// The wasm's exports: the callbacks of proxy-wasm ABI 0.2.1 that are in use, and no other, since Envoy enters the VM for each one
// that is there. https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1

import "./abort.ts";
import * as arena from "./arena.ts";
import { reportBuild } from "./build.ts";
import { Config, parseConfig } from "./config/config.ts";
import { Context, Contexts } from "./context.ts";
import { onRequestHeaders, onResponseHeaders } from "./exchange.ts";
import { collectIfDue, noteColdWork } from "./garbage.ts";
import {
  countFault,
  LogLevel,
  log,
  readPluginConfiguration,
  setEffectiveContext,
  valuePtr,
  valueSize,
} from "./host.ts";
import { reportNode } from "./node-gauge.ts";
import { keepAuthority, onLog, reportInFlight } from "./report.ts";
import { Root } from "./root.ts";
import { startTimeMs } from "./start-time.ts";
import { forgetKeys } from "./stat.ts";
import { MAX_STREAMS, Stream } from "./stream.ts";
import { Connection, MAX_CONNECTIONS } from "./tcp/connection.ts";
import { forgetDue } from "./tcp/due.ts";
import { HELD, passDownstream, passUpstream } from "./tcp/exchange.ts";
import { expect, noteBytes, noteProgress, reportClosed, reportConnections, reportUnknown } from "./tcp/report.ts";
import { Fault } from "./vocabulary/metrics.ts";

const CONTINUE: i32 = 0;
const STOP: i32 = 1;

/** Each new plugin configuration in the VM makes a root. After so many more, those that are gone are forgotten. */
const ROOTS_BETWEEN_CHECKS = 64;

let roots: Root[] = [];
let nextCheck = ROOTS_BETWEEN_CHECKS;
let newestRoot: u32 = 0;
/** The stream that was created last: the next callback may be the one that says what it is. */
let newestStream: u32 = 0;
let newestStreamRoot: Root = new Root(0);

const streams = new Contexts<Stream>(MAX_STREAMS);
const connections = new Contexts<Connection>(MAX_CONNECTIONS);
const strayStream = new Stream();
const strayConnection = new Connection();

/** Tells the host which ABI this is; never called. */
export function proxy_abi_version_0_2_1(): void {}

/** The host asks for room for the bytes that a call of ours returns. */
export function proxy_on_memory_allocate(size: usize): usize {
  return arena.allocate(size);
}

/** A root context (parent 0) or a stream of one begins. Whether a stream is a request or a connection its next callback tells. */
export function proxy_on_context_create(id: u32, parent: u32): void {
  enter();
  if (parent === 0) {
    newestRoot = rootOf(id).id;
    return;
  }
  newestStream = id;
  newestStreamRoot = rootOf(parent);
  streams.open(id, newestStreamRoot);
}

/** A plugin configuration comes into force. Always accepted: a broken part falls back to its default. */
export function proxy_on_configure(rootId: u32, size: u32): i32 {
  enter();
  const root = rootOf(rootId);
  root.configure(readPluginConfiguration(size) ? parseConfig(valuePtr, valueSize) : new Config());
  startTimeMs();
  reportBuild();
  reportNode();
  forgetKeys();
  noteColdWork();
  return 1;
}

/** A root's time has come: the reporting interval has passed, or connections have waited long enough for their peers. */
export function proxy_on_tick(rootId: u32): void {
  enter();
  const root = findRoot(rootId);
  if (root === null) return;
  const isReportDue = root.isReportDue();
  reportConnections(root, connections, isReportDue);
  if (!isReportDue) return;
  for (let i = 0; i < streams.capacity; i++) {
    enter(); // as if each stream were called back alone
    const stream = streams.at(i);
    if (stream !== null && stream.rootId === rootId) reportInFlight(stream, root.config);
  }
}

/** A TCP connection begins. */
export function proxy_on_new_connection(id: u32): i32 {
  enter();
  const stream = streams.find(id);
  if (stream !== null) streams.close(stream);
  const root = newestStream === id ? newestStreamRoot : rootOf(newestRoot);
  root.expectConnections();
  const connection = connections.open(id, root);
  if (connection !== null) expect(connection);
  return CONTINUE;
}

/** Bytes from the downstream, and with `isEnd` its end. */
export function proxy_on_downstream_data(id: u32, size: u32, isEnd: u32): i32 {
  enter();
  const connection = connections.find(id);
  if (connection === null) return CONTINUE;
  if (connection.isDownstreamOpen) {
    connection.received += size; // fast path
    noteBytes(connection);
    return CONTINUE;
  }
  const config = configOf(connection);
  const passing = passDownstream(connection, config, size, isEnd !== 0);
  if (connection.root === null) return STOP; // it was refused, and is over
  noteProgress(connection, config, passing === HELD ? 0 : passing, 0);
  return passing === HELD ? STOP : CONTINUE;
}

/** Bytes from the upstream, and with `isEnd` its end. */
export function proxy_on_upstream_data(id: u32, size: u32, isEnd: u32): i32 {
  enter();
  const connection = connections.find(id);
  if (connection === null) return CONTINUE;
  if (connection.isUpstreamOpen) {
    connection.sent += size; // fast path
    noteBytes(connection);
    return CONTINUE;
  }
  const config = configOf(connection);
  noteProgress(connection, config, 0, passUpstream(connection, config, size, isEnd !== 0));
  return CONTINUE;
}

export function proxy_on_request_headers(id: u32, _count: u32, _isEnd: u32): i32 {
  enter();
  const stream = streamOf(id);
  onRequestHeaders(stream, configOf(stream));
  keepAuthority(stream, configOf(stream));
  return CONTINUE;
}

export function proxy_on_response_headers(id: u32, _count: u32, _isEnd: u32): i32 {
  enter();
  const stream = streamOf(id);
  onResponseHeaders(stream, configOf(stream));
  return CONTINUE;
}

/** The stream is over and all its facts are final. Comes once; its filter states reach the access loggers. */
export function proxy_on_log(id: u32): void {
  enter();
  const connection = connections.find(id);
  if (connection !== null) {
    reportClosed(connection, configOf(connection));
    connections.close(connection);
    return;
  }
  const stream = streamOf(id);
  const isStray = stream === strayStream;
  const isRequest = onLog(stream, configOf(stream), isStray);
  if (!isStray) streams.close(stream);
  else if (!stream.isAccessLog) countFault(isRequest ? Fault.StreamsFull : Fault.ConnectionsFull);
  if (isRequest) return;
  if (stream.isAccessLog) sayNoTcpLogger();
  else reportStray(id);
}

/** A connection beyond the cap: it was let through as it came, and is counted now that it is over. */
function reportStray(id: u32): void {
  const root = rootOf(newestRoot);
  strayConnection.open(id, root);
  reportUnknown(strayConnection, root.config);
  strayConnection.clear();
}

/**
 * The stream, or one of which nothing is known yet. That is a root's own id where Envoy runs us as an access logger; else it is beyond
 * the cap on streams: the newest configuration holds for it, no header passes that should not, and it is counted without its peer.
 */
function streamOf(id: u32): Stream {
  const known = streams.find(id);
  if (known !== null) return known; // fast path
  const root = findRoot(id);
  strayStream.clear();
  strayStream.open(id, root === null ? rootOf(newestRoot) : root);
  strayStream.isAccessLog = root !== null;
  return strayStream;
}

let isTcpLoggerTold = false;

function sayNoTcpLogger(): void {
  if (!isTcpLoggerTold) log(LogLevel.Warn, "meshtally: as an access logger it counts requests, and no TCP connections");
  isTcpLoggerTold = true;
}

function enter(): void {
  collectIfDue(streams.inFlight + connections.inFlight);
  arena.reset();
}

/** Newest first: old ones stay behind when a configuration is replaced. */
function findRoot(id: u32): Root | null {
  for (let i = roots.length - 1; i >= 0; i--) {
    if (roots[i].id === id) return roots[i];
  }
  return null;
}

/** The root context with this id, made on first sight. */
function rootOf(id: u32): Root {
  const known = findRoot(id);
  if (known !== null) return known;
  const root = new Root(id);
  if (roots.length >= nextCheck) {
    forgetGoneRoots(id);
    nextCheck = roots.length + ROOTS_BETWEEN_CHECKS;
  }
  roots.push(root);
  return root;
}

/** Envoy says of a root only that it is no context any more. `current`: the context whose callback is running. */
function forgetGoneRoots(current: u32): void {
  const live: Root[] = [];
  for (let i = 0; i < roots.length; i++) {
    if (setEffectiveContext(roots[i].id)) live.push(roots[i]);
    else forgetDue(roots[i]);
  }
  setEffectiveContext(current);
  roots = live;
}

function configOf(context: Context): Config {
  return changetype<Root>(context.root).config; // set by open(), cleared by close() only
}
