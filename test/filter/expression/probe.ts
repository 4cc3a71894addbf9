// AssemblyScript: a small proxy-wasm module around filter/expression, so that its parts can be tested in the host emulator and in a
// real Envoy. start.ts compiles it.
//
// Configuration: `{ "expressions": ["request.host", ...], "tick": true }`. It logs each expression as "index compiled form". At a
// request's end, and for the newest stream in a tick, it evaluates all, logs each as "index failed isTrue number text" and leaves the
// texts, one a line, as filter state `wasm.probe`. Where a peer is needed, the own workload stands for both.

import * as abi from "@solo-io/proxy-runtime/assembly/imports";
import "../../../filter/abort.ts";
import * as arena from "../../../filter/arena.ts";
import { Expressions } from "../../../filter/expression/expressions.ts";
import { declarePeerStates, encodePeerStruct } from "../../../filter/expression/peer-state.ts";
import { textForm } from "../../../filter/expression/text-form.ts";
import { translate } from "../../../filter/expression/translate.ts";
import { collectIfDue } from "../../../filter/garbage.ts";
import {
  LogLevel,
  log,
  readPluginConfiguration,
  readProperty,
  setFilterState,
  utf8,
  valuePtr,
  valueSize,
} from "../../../filter/host.ts";
import { ownNode } from "../../../filter/node.ts";
import { DOWNSTREAM_PEER_STRUCT, UPSTREAM_PEER_STRUCT } from "../../../filter/vocabulary/peer-metadata.ts";
import { JsonReader } from "../../../filter/wire/json.ts";
import { readText } from "../../../filter/wire/text.ts";
import { Writer } from "../../../filter/wire/writer.ts";

const STATE = utf8("probe");
const DOWNSTREAM_STATE = utf8(DOWNSTREAM_PEER_STRUCT);
const UPSTREAM_STATE = utf8(UPSTREAM_PEER_STRUCT);
/** What a tick reads of the newest stream and logs. */
const TICK_PROPERTIES: readonly string[] = [
  "xds\0cluster_name",
  "request\0host",
  "filter_state\0envoy.filters.http.grpc_stats",
];
const CONTINUE: i32 = 0;
const ACCEPTED: i32 = 1;

let expressions = new Expressions();
let indices: i32[] = [];
let newestStream: u32 = 0;

export function proxy_abi_version_0_2_1(): void {}

export function proxy_on_memory_allocate(size: usize): usize {
  return arena.allocate(size);
}

export function proxy_on_context_create(id: u32, parent: u32): void {
  enter();
  if (parent !== 0) newestStream = id;
}

export function proxy_on_configure(_root: u32, size: u32): i32 {
  enter();
  expressions.release();
  expressions = new Expressions();
  indices = [];
  const root = readPluginConfiguration(size) ? new JsonReader().parse(valuePtr, valueSize) : null;
  if (root === null) return ACCEPTED;
  const sources = root.member("expressions");
  for (let i = 0; sources !== null && i < sources.items.length; i++) {
    const source = sources.items[i].text;
    const index = expressions.add(source);
    indices.push(index);
    log(LogLevel.Info, `${index.toString()} ${textForm(translate(source).source)}`);
  }
  if (expressions.needsPeers) declarePeerStates();
  if (root.member("tick") !== null) abi.proxy_set_tick_period_milliseconds(1000);
  return ACCEPTED;
}

export function proxy_on_request_headers(_id: u32, _count: u32, _isEnd: u32): i32 {
  enter();
  return CONTINUE;
}

export function proxy_on_tick(_root: u32): void {
  enter();
  log(LogLevel.Info, `status ${abi.proxy_set_effective_context(newestStream).toString()}`);
  for (let i = 0; i < TICK_PROPERTIES.length; i++) {
    const isThere = readProperty(utf8(TICK_PROPERTIES[i]));
    log(LogLevel.Info, isThere ? readText(valuePtr, valueSize) : "absent");
  }
  evaluate();
}

export function proxy_on_log(_id: u32): void {
  enter();
  evaluate();
}

function evaluate(): void {
  if (expressions.needsPeers) {
    const peer = encodePeerStruct(ownNode().workload);
    setFilterState(DOWNSTREAM_STATE, peer);
    setFilterState(UPSTREAM_STATE, peer);
  }
  expressions.evaluate();
  const texts: string[] = [];
  for (let i = 0; i < indices.length; i++) {
    const index = indices[i];
    if (index < 0) {
      texts.push("refused");
      continue;
    }
    const text = readText(expressions.ptr(index), expressions.size(index));
    const facts = `${expressions.failed(index).toString()} ${expressions.isTrue(index).toString()}`;
    log(LogLevel.Info, `${index.toString()} ${facts} ${expressions.number(index).toString()} ${text}`);
    texts.push(text);
  }
  const out = new Writer();
  const joined = utf8(texts.join("\n"));
  out.copy(changetype<usize>(joined), joined.byteLength);
  setFilterState(STATE, out.take());
}

function enter(): void {
  collectIfDue(0);
  arena.reset();
}
