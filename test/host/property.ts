// The attributes that a wasm filter reads by `proxy_get_property`: which answer in which callback, and in which bytes.
// As stock Envoy 1.40 answers, seen with a filter that asked for all of them in every callback.

import protobuf from "protobufjs";
import type { HeaderMap } from "./headers.ts";
import { encodeStruct, isObject, type Json, type JsonObject } from "./struct.ts";

/** string: raw bytes of UTF-8. number: double. bigint: int64. Object: Envoy's marshalled pairs. null: not serializable. */
export type PropertyValue = Json | bigint | Buffer | Message | { readonly [key: string]: PropertyValue };

/** A protobuf message: fields by name, or the whole of it as bytes. */
export class Message {
  constructor(
    readonly fields: Readonly<Record<string, PropertyValue | undefined>>,
    readonly encode: () => Buffer,
  ) {}
}

/** This proxy, as its bootstrap names it. */
export interface Node {
  readonly id: string;
  readonly cluster?: string;
  readonly metadata: JsonObject;
  readonly locality?: { readonly region?: string; readonly zone?: string };
}

/** Numbers of Envoy's `core.v3.TrafficDirection`. */
const TRAFFIC_DIRECTION = { unspecified: 0, inbound: 1, outbound: 2 } as const;
export type TrafficDirection = keyof typeof TRAFFIC_DIRECTION;

export type Phase = "request" | "response" | "log";

/** URI SANs of the two certificates of one TLS connection. */
export interface CertificateUris {
  readonly peer?: string;
  readonly local?: string;
}

/** What Envoy shows of any stream, a request or a connection, in the callback that is running. */
export interface StreamView {
  /** Seen from a tick: by `proxy_set_effective_context`, while no callback of its own is running. */
  readonly isInTick: boolean;
  readonly filterState: ReadonlyMap<string, Buffer>;
  readonly overrides: ReadonlyMap<string, PropertyValue | undefined>;
  /** The value at a path, as far as it depends on the kind of the stream. */
  find(path: readonly string[]): PropertyValue | undefined;
}

/** What Envoy knows of a request. */
export interface HttpView extends StreamView {
  readonly phase: Phase;
  readonly requestHeaders: HeaderMap;
  readonly responseHeaders: HeaderMap | undefined;
  readonly responseTrailers: HeaderMap | undefined;
  readonly hasRoute: boolean;
  readonly routeName: string;
  readonly cluster: { readonly name: string; readonly metadata?: JsonObject } | undefined;
  readonly endpoint: { readonly metadata?: JsonObject } | undefined;
  readonly responseCode: number | undefined;
  readonly responseFlags: bigint;
  readonly durationNs: bigint | undefined;
  readonly requestBytes: bigint;
  readonly responseBytes: bigint;
  readonly downstreamTls: CertificateUris | undefined;
  readonly upstreamTls: CertificateUris | undefined;
}

/**
 * The value at a path (`["xds", "node", "id"]`), undefined when Envoy answers NotFound. Without a stream (configuration) only
 * `xds.node` answers. The bare roots `node`, `cluster_name` and `listener_direction` never do.
 */
export function findProperty(
  path: readonly string[],
  node: Node,
  direction: TrafficDirection,
  stream: StreamView | undefined,
): PropertyValue | undefined {
  if (stream !== undefined && stream.overrides.size > 0) {
    const key = path.join(".");
    if (stream.overrides.has(key)) return stream.overrides.get(key);
  }
  const [root = "", name = ""] = path;
  if (root === "xds" && path.length === 1) return null;
  if (root === "xds" && name === "node") return descend(nodeMessage(node), path, 2);
  if (stream === undefined) return undefined;
  if (ROOTS_WITHOUT_VALUE.has(root) && path.length === 1) return null;
  if (root === "xds" && name === "listener_direction") return BigInt(TRAFFIC_DIRECTION[direction]);
  if (root === "filter_state") return descend(stream.filterState.get(name), path, 2);
  return stream.find(path) ?? descend(stream.filterState.get(`wasm.${root}`), path, 1);
}

const ROOTS_WITHOUT_VALUE: ReadonlySet<string> = new Set(["request", "response", "filter_state"]);

/** What only a request knows. */
export function findHttpProperty(path: readonly string[], stream: HttpView): PropertyValue | undefined {
  const [root = "", name = ""] = path;
  switch (root) {
    case "xds":
      return descend(findXds(name, stream), path, 2);
    case "request":
      return descend(findRequest(name, path[2], stream), path, isHeaders(name) ? 3 : 2);
    case "response":
      return descend(findResponse(name, path[2], stream), path, isHeaders(name) ? 3 : 2);
    case "connection":
      if (name === "requested_server_name") return ""; // without TLS
      if (name === "mtls") return stream.downstreamTls?.peer !== undefined;
      return descend(findCertificate(name, stream.downstreamTls), path, 2);
    case "upstream":
      return descend(stream.phase === "request" ? undefined : findCertificate(name, stream.upstreamTls), path, 2);
    default:
      return undefined;
  }
}

/** Bytes as Envoy hands them to wasm; null when it answers SerializationFailure. */
export function serializeProperty(value: PropertyValue): Buffer | null {
  if (value === null) return null;
  if (typeof value === "string") return Buffer.from(value, "utf8");
  if (Buffer.isBuffer(value)) return value;
  if (value instanceof Message) return value.encode();
  if (typeof value === "boolean") return Buffer.from([value ? 1 : 0]);
  if (typeof value === "bigint") {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt.asIntN(64, value));
    return bytes;
  }
  if (typeof value === "number") {
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleLE(value);
    return bytes;
  }
  const pairs: [Buffer, Buffer][] = [];
  for (const [key, member] of Array.isArray(value) ? value.map((one: Json) => [one, ""]) : Object.entries(value)) {
    const keyBytes = serializeProperty(key as PropertyValue);
    const memberBytes = serializeProperty(member as PropertyValue);
    if (keyBytes === null || memberBytes === null) return null;
    pairs.push([keyBytes, memberBytes]);
  }
  return marshalPairs(pairs);
}

/** u32 count, then per pair two u32 sizes, then per pair both values, each followed by NUL; little-endian. */
export function marshalPairs(pairs: readonly (readonly [Buffer, Buffer])[]): Buffer {
  const sizes = Buffer.alloc(4 + 8 * pairs.length);
  sizes.writeUInt32LE(pairs.length, 0);
  const parts: Buffer[] = [sizes];
  const nul = Buffer.alloc(1);
  pairs.forEach(([key, value], index) => {
    sizes.writeUInt32LE(key.length, 4 + 8 * index);
    sizes.writeUInt32LE(value.length, 8 + 8 * index);
    parts.push(key, nul, value, nul);
  });
  return Buffer.concat(parts);
}

/** The value `path[from]...` below `top`. */
export function descend(
  top: PropertyValue | undefined,
  path: readonly string[],
  from: number,
): PropertyValue | undefined {
  let value = top;
  for (let index = from; index < path.length; index++) {
    const part = path[index] as string;
    if (value instanceof Message) value = value.fields[part];
    else if (Array.isArray(value)) value = value[Number(part)];
    else if (typeof value === "object" && value !== null && !Buffer.isBuffer(value)) {
      value = Object.hasOwn(value, part) ? (value as Record<string, PropertyValue>)[part] : undefined;
    } else return undefined;
  }
  return value;
}

function findXds(name: string, stream: HttpView): PropertyValue | undefined {
  switch (name) {
    case "cluster_name":
      return stream.cluster?.name;
    case "route_name":
      return stream.hasRoute ? stream.routeName : undefined;
    case "cluster_metadata":
      return stream.cluster && metadataMessage(stream.cluster.metadata ?? {});
    case "upstream_host_metadata":
      return stream.phase === "request"
        ? undefined
        : stream.endpoint && metadataMessage(stream.endpoint.metadata ?? {});
    default:
      return undefined;
  }
}

function findRequest(name: string, header: string | undefined, stream: HttpView): PropertyValue | undefined {
  // Envoy lets go of the request headers after their callback and shows them again to the log callback.
  const headers = stream.phase === "response" || stream.isInTick ? undefined : stream.requestHeaders;
  switch (name) {
    case "headers":
      return findHeaders(headers, header) ?? (header === undefined ? {} : undefined);
    case "host":
      return findRequest("headers", ":authority", stream);
    case "path":
      return findRequest("headers", ":path", stream);
    case "url_path":
      return headers?.get(":path")?.split(/[?#]/)[0];
    case "query":
      return headers?.get(":path")?.match(/\?([^#]*)/)?.[1];
    case "method":
      return findRequest("headers", ":method", stream);
    case "scheme":
      return findRequest("headers", ":scheme", stream);
    case "referer":
      return findRequest("headers", "referer", stream);
    case "useragent":
      return findRequest("headers", "user-agent", stream);
    case "id":
      return findRequest("headers", "x-request-id", stream);
    case "protocol":
      return "HTTP/1.1";
    case "total_size":
      return headers === undefined ? 0n : stream.requestBytes;
    case "duration":
      return stream.phase === "log" ? stream.durationNs : undefined;
    default:
      return undefined;
  }
}

/** All headers, or those of one name joined by commas; undefined when there are none. */
function findHeaders(headers: HeaderMap | undefined, name: string | undefined): PropertyValue | undefined {
  if (name === undefined) return headers && Object.fromEntries(headers.pairs());
  const values = headers?.all(name) ?? [];
  return values.length === 0 ? undefined : Buffer.from(values.join(","), "latin1");
}

function isHeaders(name: string): boolean {
  return name === "headers" || name === "trailers";
}

function findResponse(name: string, header: string | undefined, stream: HttpView): PropertyValue | undefined {
  switch (name) {
    case "headers":
      return findHeaders(stream.responseCode === undefined ? undefined : stream.responseHeaders, header);
    case "trailers":
      return findHeaders(stream.phase === "log" ? stream.responseTrailers : undefined, header);
    case "code":
      return stream.responseCode === undefined ? undefined : BigInt(stream.responseCode);
    case "flags":
      return stream.responseFlags;
    case "grpc_status":
      return findGrpcStatus(stream);
    case "total_size":
      return stream.responseBytes;
    default:
      return undefined;
  }
}

/** From the trailers, else the headers, else derived from the HTTP code: of a plain HTTP answer, too. */
function findGrpcStatus(stream: HttpView): bigint | undefined {
  const text = stream.responseTrailers?.get("grpc-status") ?? stream.responseHeaders?.get("grpc-status");
  if (text !== undefined) return /^\d+$/.test(text) ? BigInt(text) : -1n;
  switch (stream.responseCode) {
    case undefined:
      return undefined;
    case 400:
      return 13n;
    case 401:
      return 16n;
    case 403:
      return 7n;
    case 404:
      return 12n;
    case 429:
    case 502:
    case 503:
    case 504:
      return 14n;
    default:
      return 2n;
  }
}

export function findCertificate(name: string, uris: CertificateUris | undefined): PropertyValue | undefined {
  if (name === "uri_san_peer_certificate") return uris?.peer;
  if (name === "uri_san_local_certificate") return uris?.local;
  return undefined;
}

const proto = protobuf.parse(`
  syntax = "proto3";
  message Locality { string region = 1; string zone = 2; }
  message Node { string id = 1; string cluster = 2; bytes metadata = 3; Locality locality = 4; }
  message Metadata { map<string, bytes> filter_metadata = 1; }
`).root;
const NodeType = proto.lookupType("Node");
const MetadataType = proto.lookupType("Metadata");

function nodeMessage(node: Node): Message {
  const { id, cluster = "", metadata, locality = {} } = node;
  return new Message({ id, cluster, metadata, locality }, () =>
    Buffer.from(NodeType.encode({ id, cluster, metadata: encodeStruct(metadata), locality }).finish()),
  );
}

/** `core.v3.Metadata`: an object per filter name. */
export function metadataMessage(metadata: JsonObject): Message {
  return new Message({ filter_metadata: metadata }, () => {
    const filterMetadata: Record<string, Buffer> = {};
    for (const [name, value] of Object.entries(metadata)) {
      if (isObject(value)) filterMetadata[name] = encodeStruct(value);
    }
    return Buffer.from(MetadataType.encode({ filterMetadata }).finish());
  });
}
