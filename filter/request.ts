// The facts of one finished request, read from the host in proxy_on_log, and the key under which its label set is found.
//
// Reading host calls are what the filter costs, so each fact is read once, and only when a label needs it.

import { Cluster, currentCluster } from "./cluster.ts";
import { HeaderMap, readHeader, readNumber, readProperty, utf8, valuePtr, valueSize } from "./host.ts";
import { Peer } from "./peer.ts";
import { ROUTE_ALLOW_ANY, ROUTE_BLOCK_ALL } from "./vocabulary/values.ts";

const RESPONSE_CODE = utf8("response\0code");
const RESPONSE_FLAGS = utf8("response\0flags");
const GRPC_STATUS = utf8("response\0grpc_status");
const DURATION = utf8("request\0duration");
const REQUEST_SIZE = utf8("request\0total_size");
const RESPONSE_SIZE = utf8("response\0total_size");
const HOST = utf8("request\0host");
const ROUTE_NAME = utf8("xds\0route_name");
const ENDPOINT_WORKLOAD = utf8("xds\0upstream_host_metadata\0filter_metadata\0istio\0workload");
const DOWNSTREAM_PEER_SAN = utf8("connection\0uri_san_peer_certificate");
const DOWNSTREAM_LOCAL_SAN = utf8("connection\0uri_san_local_certificate");
const UPSTREAM_PEER_SAN = utf8("upstream\0uri_san_peer_certificate");
const UPSTREAM_LOCAL_SAN = utf8("upstream\0uri_san_local_certificate");
const CONTENT_TYPE = utf8("content-type");
const GRPC_CONTENT_TYPE = utf8("application/grpc");
const BLOCK_ALL = utf8(ROUTE_BLOCK_ALL);
const ALLOW_ANY = utf8(ROUTE_ALLOW_ANY);

/** Duration of a request that did not finish. */
export const NOT_FINISHED: u64 = u64.MAX_VALUE;
/** grpcStatus when it is no gRPC call or has none. */
export const NO_STATUS: u64 = u64.MAX_VALUE;

const ABSENT: u64 = u64.MAX_VALUE;

/** Longer text is cut here: no label value is longer than 255 bytes, and cleaning looks no further than this. */
const MAX_TEXT: usize = 512;

export enum Route {
  Ordinary,
  BlockAll,
  AllowAny,
}

/** Text in the arena: valid until the callback ends. */
@final
export class Slice {
  ptr: usize = 0;
  size: usize = 0;

  /** Takes what the last read returned, or nothing. */
  take(isThere: bool): void {
    this.ptr = valuePtr;
    this.size = isThere ? min(valueSize, MAX_TEXT) : 0;
  }
}

/** One of these is filled anew for each request. */
@final
export class Request {
  isInbound: bool = false;
  isGrpc: bool = false;
  /** 0 when there was no response. */
  code: u64 = 0;
  /** Bit mask, RESPONSE_FLAGS. */
  flags: u64 = 0;
  grpcStatus: u64 = NO_STATUS;
  durationMs: u64 = NOT_FINISHED;
  requestBytes: u64 = 0;
  responseBytes: u64 = 0;
  route: Route = Route.Ordinary;
  cluster: Cluster | null = null;
  peer: Peer | null = null;
  /** First URI SAN of the peer's and of our own certificate on this hop; empty without mTLS. */
  readonly peerPrincipal: Slice = new Slice();
  readonly ownPrincipal: Slice = new Slice();
  /** Authority, only where it may become the service's name. */
  readonly host: Slice = new Slice();
  /** Endpoint metadata `istio.workload`, only for a client without a peer. */
  readonly endpoint: Slice = new Slice();

  /** Reads everything for the current stream. `useHost`: the authority may name the service. */
  read(isInbound: bool, peer: Peer | null, useHost: bool): void {
    this.isInbound = isInbound;
    this.peer = peer;
    this.code = readNumber(RESPONSE_CODE, 0);
    this.flags = readNumber(RESPONSE_FLAGS, 0);
    const durationNs = readNumber(DURATION, ABSENT);
    this.durationMs = durationNs === ABSENT ? NOT_FINISHED : durationNs / 1000000;
    this.requestBytes = readNumber(REQUEST_SIZE, 0);
    this.responseBytes = readNumber(RESPONSE_SIZE, 0);
    this.isGrpc = readHeader(HeaderMap.Request, CONTENT_TYPE) && isGrpcContentType();
    this.grpcStatus = this.isGrpc ? readNumber(GRPC_STATUS, NO_STATUS) : NO_STATUS;
    this.peerPrincipal.take(readProperty(isInbound ? DOWNSTREAM_PEER_SAN : UPSTREAM_PEER_SAN));
    this.ownPrincipal.take(readProperty(isInbound ? DOWNSTREAM_LOCAL_SAN : UPSTREAM_LOCAL_SAN));
    this.cluster = currentCluster();
    this.route = readProperty(ROUTE_NAME) ? routeOf() : Route.Ordinary;
    this.host.take(useHost && !this.isServiceKnown() && readProperty(HOST));
    this.endpoint.take(!isInbound && peer === null && readProperty(ENDPOINT_WORKLOAD));
  }

  /** Whether cluster metadata names the host of the service, so that the authority does not matter. */
  private isServiceKnown(): bool {
    const cluster = this.cluster;
    if (cluster === null || this.route !== Route.Ordinary || cluster.isCatchAll) return false;
    return cluster.serviceHost.length > 0;
  }

  /**
   * Writes what decides the labels to KEY and returns its size: equal keys have equal labels.
   *
   *   flags u64 | grpc status u64 | code u32 | peer u32 | cluster u32 | bits u32 | 4 x (u16 size, bytes)
   */
  writeKey(): usize {
    const peer = this.peer;
    const cluster = this.cluster;
    const bits = (this.isInbound ? 1 : 0) | (this.isGrpc ? 2 : 0) | (this.route << 2);
    store<u64>(KEY, this.flags);
    store<u64>(KEY, this.grpcStatus, 8);
    store<u32>(KEY, <u32>this.code, 16);
    store<u32>(KEY, peer === null ? 0 : peer.serial, 20);
    store<u32>(KEY, cluster === null ? 0 : cluster.serial, 24);
    store<u32>(KEY, bits, 28);
    let at = KEY + 32;
    at = appendSlice(at, this.peerPrincipal);
    at = appendSlice(at, this.ownPrincipal);
    at = appendSlice(at, this.host);
    at = appendSlice(at, this.endpoint);
    return at - KEY;
  }
}

/** Where writeKey leaves the key: 32 bytes and 4 texts. */
export const KEY: usize = memory.data(2176, 8);

function appendSlice(at: usize, slice: Slice): usize {
  store<u16>(at, <u16>slice.size);
  memory.copy(at + 2, slice.ptr, slice.size);
  return at + 2 + slice.size;
}

/** `application/grpc`, alone or followed by `+`. */
function isGrpcContentType(): bool {
  const length = <usize>GRPC_CONTENT_TYPE.byteLength;
  if (valueSize < length) return false;
  if (memory.compare(valuePtr, changetype<usize>(GRPC_CONTENT_TYPE), length) !== 0) return false;
  return valueSize === length || load<u8>(valuePtr + length) === 0x2b;
}

function routeOf(): Route {
  if (isValue(BLOCK_ALL)) return Route.BlockAll;
  return isValue(ALLOW_ANY) ? Route.AllowAny : Route.Ordinary;
}

function isValue(text: ArrayBuffer): bool {
  const length = <usize>text.byteLength;
  return valueSize === length && memory.compare(valuePtr, changetype<usize>(text), length) === 0;
}
