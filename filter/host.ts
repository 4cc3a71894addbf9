// The door to the host: proxy-wasm ABI 0.2.1 as typed calls. Nothing else touches the SDK's declarations.
// https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1
//
// A call that reads bytes leaves them in `valuePtr`/`valueSize`, in the arena, valid until the callback ends. Reading is what
// costs (about 1 us, the first in a callback 10 us); writing, metrics and the clock are nearly free.

import * as abi from "@solo-io/proxy-runtime/assembly/imports";
import { proxy_set_buffer_bytes } from "./env.ts";
import { FAULT_REASONS, FAULTS_METRIC, Fault, MetricKind, REASON_LABEL } from "./vocabulary/metrics.ts";
import { encodeTag } from "./vocabulary/stat-name.ts";

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;
const SERIALIZATION_FAILURE: u32 = 3;
const INTERNAL_FAILURE: u32 = 10;

export enum HeaderMap {
  Request = 0,
  Response = 2,
}

export enum LogLevel {
  Info = 2,
  Warn = 3,
  Error = 4,
}

const BUFFER_PLUGIN_CONFIGURATION = 7;

/** The bytes of a TCP connection that a data callback is about. */
export enum BufferKind {
  /** From the downstream, on their way up. */
  Downstream = 2,
  /** From the upstream, on their way down. */
  Upstream = 3,
}

const STREAM_DOWNSTREAM = 2;

/** The bytes that the last successful read returned. */
export let valuePtr: usize = 0;
export let valueSize: usize = 0;

/** Where the host writes the pointer, the size or the number that a call returns. */
const OUT: usize = memory.data(16, 8);

/** UTF-8 bytes of `text`, for paths, header names and metric names that are used again. */
export function utf8(text: string): ArrayBuffer {
  return String.UTF8.encode(text);
}

/** Reads a property; false when it is absent. `path` is UTF-8 with NUL between segments. */
export function readProperty(path: ArrayBuffer): bool {
  return took(abi.proxy_get_property(changetype<usize>(path), path.byteLength, OUT, OUT + sizeof<usize>()));
}

/** Whether a property is there and not empty. */
export function hasProperty(path: ArrayBuffer): bool {
  return readProperty(path) && valueSize > 0;
}

/** Reads a property that Envoy serializes in 8 bytes (int, uint, duration in ns, little-endian); `absent` when there is none. */
export function readNumber(path: ArrayBuffer, absent: u64): u64 {
  return readProperty(path) && valueSize === 8 ? load<u64>(valuePtr) : absent;
}

/** Reads a header: the first value when it stands several times; false when it is absent or empty. */
export function readHeader(map: HeaderMap, name: ArrayBuffer): bool {
  const at = changetype<usize>(name);
  return took(abi.proxy_get_header_map_value(map, at, name.byteLength, OUT, OUT + sizeof<usize>())) && valueSize !== 0;
}

/** Reads the plugin configuration in proxy_on_configure; false when there is none. */
export function readPluginConfiguration(size: u32): bool {
  return took(abi.proxy_get_buffer_bytes(BUFFER_PLUGIN_CONFIGURATION, 0, size, OUT, OUT + sizeof<usize>()));
}

/** Reads bytes of a connection in its data callback: at most `size`, from the first on. */
export function readBuffer(buffer: BufferKind, size: usize): bool {
  return took(abi.proxy_get_buffer_bytes(buffer, 0, <u32>size, OUT, OUT + sizeof<usize>()));
}

/** Takes the first `size` bytes of a connection off, in its data callback; whether it was done. */
export function stripBuffer(buffer: BufferKind, size: usize): bool {
  return checked(proxy_set_buffer_bytes(buffer, 0, <u32>size, 0, 0));
}

/** Puts bytes before those of a connection, in its data callback; whether it was done. */
export function prependBuffer(buffer: BufferKind, ptr: usize, size: usize): bool {
  return checked(proxy_set_buffer_bytes(buffer, 0, 0, ptr, size));
}

/** Lets go on what a connection's downstream data callback held back. */
export function continueDownstream(): void {
  checked(abi.proxy_continue_stream(STREAM_DOWNSTREAM));
}

/** Closes the downstream connection, and by that the upstream one. */
export function closeDownstream(): void {
  checked(abi.proxy_close_stream(STREAM_DOWNSTREAM));
}

function took(status: u32): bool {
  if (status !== OK) {
    if (status !== NOT_FOUND) countFault(Fault.HostCall);
    return false;
  }
  valuePtr = load<usize>(OUT);
  valueSize = load<usize>(OUT, sizeof<usize>());
  if (valuePtr === 0) valueSize = 0;
  return true;
}

export function setHeader(map: HeaderMap, name: ArrayBuffer, value: ArrayBuffer): void {
  checked(
    abi.proxy_replace_header_map_value(
      map,
      changetype<usize>(name),
      name.byteLength,
      changetype<usize>(value),
      value.byteLength,
    ),
  );
}

export function removeHeader(map: HeaderMap, name: ArrayBuffer): void {
  const status = abi.proxy_remove_header_map_value(map, changetype<usize>(name), name.byteLength);
  if (status !== NOT_FOUND) checked(status);
}

/** Sets filter state `wasm.<name>`. Where there can be none (as an access logger) it does nothing. */
export function setFilterState(name: ArrayBuffer, value: StaticArray<u8>): void {
  const at = changetype<usize>(name);
  const status = abi.proxy_set_property(at, name.byteLength, changetype<usize>(value), value.length);
  if (status !== NOT_FOUND) checked(status);
}

// Foreign functions of Envoy: CEL expressions, and the type of a filter state.
// https://github.com/envoyproxy/envoy/blob/main/source/extensions/common/wasm/foreign.cc

const EXPR_CREATE = utf8("expr_create");
const EXPR_EVALUATE = utf8("expr_evaluate");
const EXPR_DELETE = utf8("expr_delete");
const DECLARE_PROPERTY = utf8("declare_property");

/** No token of an expression: Envoy counts them up from 0. */
export const NO_EXPRESSION: u32 = u32.MAX_VALUE;

/** Where a token is handed to the host. */
const TOKEN: usize = memory.data(4, 4);

/** Compiles a CEL expression for the plugin whose callback is running; NO_EXPRESSION when it does not parse or calls an unknown function. */
export function createExpression(source: ArrayBuffer): u32 {
  const status = callForeign(EXPR_CREATE, changetype<usize>(source), source.byteLength);
  return took(status === OK ? OK : NOT_FOUND) && valueSize === 4 ? load<u32>(valuePtr) : NO_EXPRESSION;
}

/** Evaluates an expression for the stream whose callback is running; false when it fails, as it does when an attribute in it is absent. */
export function evaluateExpression(token: u32): bool {
  store<u32>(TOKEN, token);
  const status = callForeign(EXPR_EVALUATE, TOKEN, 4);
  const isOwnFailure = status === INTERNAL_FAILURE || status === SERIALIZATION_FAILURE;
  return took(isOwnFailure ? NOT_FOUND : status);
}

export function deleteExpression(token: u32): void {
  store<u32>(TOKEN, token);
  checked(callForeign(EXPR_DELETE, TOKEN, 4));
}

/** Gives a filter state of ours a type. `declaration`: the protobuf arguments of `declare_property`. Again is harmless. */
export function declareFilterState(declaration: StaticArray<u8>): void {
  const status = callForeign(DECLARE_PROPERTY, changetype<usize>(declaration), declaration.length);
  if (status !== BAD_ARGUMENT) checked(status); // declared already
}

function callForeign(name: ArrayBuffer, ptr: usize, size: usize): u32 {
  const at = changetype<usize>(name);
  return abi.proxy_call_foreign_function(at, name.byteLength, ptr, size, OUT, OUT + sizeof<usize>());
}

/** Asks for proxy_on_tick of the current root every so many milliseconds; 0 for never. */
export function setTickPeriod(milliseconds: u64): void {
  checked(abi.proxy_set_tick_period_milliseconds(<u32>min(milliseconds, u32.MAX_VALUE)));
}

/** Makes the calls of a callback that belongs to no stream speak of that context; false when there is none of that id. */
export function setEffectiveContext(context: u32): bool {
  return abi.proxy_set_effective_context(context) === OK;
}

/** The id of a metric; 0 when the host refuses (ids start at 1), which increment and record then ignore. */
export function defineMetric(kind: MetricKind, name: usize, size: usize): u32 {
  const metric = tryDefine(kind, name, size);
  if (metric === 0) countFault(Fault.HostCall);
  return metric;
}

/** As defineMetric, but counts no fault: the counter of faults is defined by it, too. */
function tryDefine(kind: MetricKind, name: usize, size: usize): u32 {
  store<u32>(OUT, 0);
  abi.proxy_define_metric(kind, name, size, OUT);
  return load<u32>(OUT);
}

export function increment(metric: u32, by: i64): void {
  if (metric !== 0) abi.proxy_increment_metric(metric, by);
}

export function record(metric: u32, value: u64): void {
  if (metric !== 0) abi.proxy_record_metric(metric, value);
}

/** The value of a counter or gauge; 0 when it cannot be read. */
export function readMetric(metric: u32): u64 {
  store<u64>(OUT, 0);
  if (metric !== 0) abi.proxy_get_metric(metric, OUT);
  return load<u64>(OUT);
}

/** Unix time in milliseconds. */
export function nowMs(): u64 {
  abi.proxy_get_current_time_nanoseconds(OUT);
  return load<u64>(OUT) / 1000000;
}

export function log(level: LogLevel, message: string): void {
  const bytes = utf8(message);
  abi.proxy_log(level, changetype<usize>(bytes), bytes.byteLength);
}

/** One metric id per Fault, 0 until its first use. */
const faultMetrics = new StaticArray<u32>(FAULT_REASONS.length);

/** Counts what was lost or could not be read; never fails the request. */
export function countFault(fault: Fault): void {
  let metric = faultMetrics[fault];
  if (metric === 0) {
    const name = utf8(encodeTag(REASON_LABEL, FAULT_REASONS[fault]) + FAULTS_METRIC);
    metric = tryDefine(MetricKind.Counter, changetype<usize>(name), name.byteLength);
    faultMetrics[fault] = metric;
  }
  increment(metric, 1);
}

function checked(status: u32): bool {
  if (status === OK) return true;
  countFault(Fault.HostCall);
  return false;
}
