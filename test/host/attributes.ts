// The attributes of a stream as CEL expressions see them: the same facts as property.ts, as one tree of values.
// https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/advanced/attributes

import { WASM_STATE_PREFIX } from "../../filter/vocabulary/peer-metadata.ts";
import { GuestFault } from "./memory.ts";
import {
  findProperty,
  Message,
  type Node,
  type PropertyValue,
  type StreamView,
  type TrafficDirection,
} from "./property.ts";
import { decodeStruct } from "./struct.ts";

/** string, bigint (int), number (double), boolean, Uint8Array (bytes), list, or an object (map or message). */
export type CelValue = unknown;
export type CelObject = { [key: string]: CelValue };

/** What can be selected of each root, besides headers and filter state. */
const MEMBERS: Readonly<Record<string, readonly string[]>> = {
  request: [
    "host",
    "path",
    "url_path",
    "query",
    "method",
    "scheme",
    "referer",
    "useragent",
    "id",
    "size",
    "total_size",
    "duration",
  ],
  response: ["code", "flags", "grpc_status", "size", "total_size"],
  connection: ["id", "mtls", "requested_server_name", "uri_san_peer_certificate", "uri_san_local_certificate"],
  upstream: ["address", "port", "uri_san_peer_certificate", "uri_san_local_certificate"],
  source: ["address", "port"],
  destination: ["address", "port"],
  metadata: [],
  xds: ["node", "listener_direction", "cluster_name", "route_name", "cluster_metadata", "upstream_host_metadata"],
};

/** Every root that answers; without a stream only `xds.node`. `structs`: filter states that `declare_property` made Structs. */
export function attributes(
  node: Node,
  direction: TrafficDirection,
  stream: StreamView | undefined,
  structs: ReadonlySet<string>,
): CelObject {
  const find = (path: readonly string[]) => toCel(findProperty(path, node, direction, stream));
  if (stream === undefined) return { xds: { node: find(["xds", "node"]) } };
  const roots: Record<string, CelObject> = {};
  for (const [root, names] of Object.entries(MEMBERS)) {
    roots[root] = {};
    for (const name of names) setAt(roots, [root, name], find([root, name]));
  }
  for (const root of ["request", "response"]) {
    for (const map of ["headers", "trailers"]) {
      const value = findProperty([root, map], node, direction, stream);
      if (value !== undefined) setAt(roots, [root, map], {});
      for (const name of Object.keys(value ?? {})) setAt(roots, [root, map, name], find([root, map, name]));
    }
  }
  const duration = roots["request"]?.["duration"];
  if (typeof duration === "bigint") setAt(roots, ["request", "duration"], new Nanoseconds(duration));
  roots["filter_state"] = filterState(stream.filterState, structs);
  for (const [path, value] of stream.overrides) setAt(roots, path.split("."), toCel(value));
  return roots;
}

/** A CEL duration, before the evaluator makes its own kind of it. */
export class Nanoseconds {
  constructor(readonly count: bigint) {}
}

/** What wasm sets is bytes, or a Struct when it was declared so; objects of other filters show as their text. */
function filterState(states: ReadonlyMap<string, Buffer>, structs: ReadonlySet<string>): CelObject {
  const values: CelObject = {};
  for (const [name, bytes] of states) {
    if (structs.has(name)) values[name] = structOf(name, bytes);
    else values[name] = name.startsWith(WASM_STATE_PREFIX) ? new Uint8Array(bytes) : bytes.toString("utf8");
  }
  return values;
}

function structOf(name: string, bytes: Buffer): CelValue {
  try {
    return decodeStruct(bytes);
  } catch (error) {
    throw new GuestFault(`filter state ${name} was declared a Struct and is none`, { cause: error });
  }
}

/** Sets a value deep inside; undefined takes it away. */
function setAt(tree: CelObject, path: readonly string[], value: CelValue): void {
  let at = tree;
  for (const part of path.slice(0, -1)) {
    const next = at[part];
    if (typeof next !== "object" || next === null) at[part] = {};
    at = at[part] as CelObject;
  }
  const last = path.at(-1) ?? "";
  if (value === undefined) delete at[last];
  else at[last] = value;
}

function toCel(value: PropertyValue | undefined): CelValue {
  if (value instanceof Message) return toCel(value.fields as PropertyValue);
  if (Buffer.isBuffer(value)) return value.toString("utf8"); // headers are text to CEL
  if (Array.isArray(value)) return value.map(toCel);
  if (typeof value !== "object" || value === null) return value;
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return Object.fromEntries(members.map(([name, member]) => [name, toCel(member as PropertyValue)]));
}
