// The wasm's exports: the callbacks of proxy-wasm ABI 0.2.1 that are in use, and no other, since Envoy enters the VM for each one
// that is there. https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1

import "./abort.ts";
import * as arena from "./arena.ts";
import { reportBuild } from "./build.ts";
import { Config, parseConfig } from "./config/config.ts";
import { onRequestHeaders, onResponseHeaders } from "./exchange.ts";
import { collectIfDue, noteColdWork } from "./garbage.ts";
import { readPluginConfiguration, setEffectiveContext, valuePtr, valueSize } from "./host.ts";
import { keepAuthority, onLog, reportInFlight } from "./report.ts";
import { startTimeMs } from "./start-time.ts";
import { forgetKeys } from "./stat.ts";
import { Root, Stream, Streams } from "./stream.ts";

const CONTINUE: i32 = 0;

/** Each new plugin configuration in the VM makes a root. After so many more, those that are gone are forgotten. */
const ROOTS_BETWEEN_CHECKS = 64;

let roots: Root[] = [];
let nextCheck = ROOTS_BETWEEN_CHECKS;
const streams = new Streams();
const stray = new Stream();
let newestRoot: u32 = 0;

/** Tells the host which ABI this is; never called. */
export function proxy_abi_version_0_2_1(): void {}

/** The host asks for room for the bytes that a call of ours returns. */
export function proxy_on_memory_allocate(size: usize): usize {
  return arena.allocate(size);
}

/** A root context (parent 0) or a stream of one begins. */
export function proxy_on_context_create(id: u32, parent: u32): void {
  enter();
  if (parent === 0) newestRoot = rootOf(id).id;
  else streams.open(id, rootOf(parent));
}

/** A plugin configuration comes into force. Always accepted: a broken part falls back to its default. */
export function proxy_on_configure(rootId: u32, size: u32): i32 {
  enter();
  const root = rootOf(rootId);
  root.configure(readPluginConfiguration(size) ? parseConfig(valuePtr, valueSize) : new Config());
  startTimeMs();
  reportBuild();
  forgetKeys();
  noteColdWork();
  return 1;
}

/** The reporting interval of a root has passed. */
export function proxy_on_tick(rootId: u32): void {
  for (let i = 0; i < streams.capacity; i++) {
    enter(); // as if each stream were called back alone
    const stream = streams.at(i);
    if (stream !== null && stream.rootId === rootId) reportInFlight(stream, configOf(stream));
  }
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
  const stream = streamOf(id);
  onLog(stream, configOf(stream));
  if (stream !== stray) streams.close(stream);
}

/**
 * The stream, or one of which nothing is known yet. That is a root's own id where Envoy runs us as an access logger; else it is beyond
 * the cap on streams: the newest configuration holds for it, no header passes that should not, and it is counted without its peer.
 */
function streamOf(id: u32): Stream {
  const known = streams.find(id);
  if (known !== null) return known; // fast path
  const root = findRoot(id);
  stray.clear();
  stray.open(id, root === null ? rootOf(newestRoot) : root);
  stray.isAccessLog = root !== null;
  return stray;
}

function enter(): void {
  collectIfDue(streams.inFlight);
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
  }
  setEffectiveContext(current);
  roots = live;
}

function configOf(stream: Stream): Config {
  return changetype<Root>(stream.root).config; // set by open(), cleared by close() only
}
