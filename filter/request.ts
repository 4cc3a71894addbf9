// The facts of one finished request, read from the host in proxy_on_log, or of a TCP connection at its first report; and the key under
// which the label set is found.
//
// Reading host calls are what the filter costs, so each fact is read once, and only when a label needs it.

import { Cluster, currentCluster } from "./cluster.ts";
import { Config } from "./config/config.ts";
import { Ends } from "./ends.ts";
import { noteColdWork } from "./garbage.ts";
import { HeaderMap, readHeader, readNumber, readProperty, utf8, valuePtr, valueSize } from "./host.ts";
import { HostRules } from "./hosts.ts";
import { Peer } from "./peer.ts";
import { Role } from "./role.ts";
import { ROUTE_ALLOW_ANY, ROUTE_BLOCK_ALL } from "./vocabulary/values.ts";
import { copyOf, isText } from "./wire/bytes.ts";

const RESPONSE_CODE = utf8("response\0code");
const RESPONSE_FLAGS = utf8("response\0flags");
const GRPC_STATUS = utf8("response\0grpc_status");
const DURATION = utf8("request\0duration");
const REQUEST_SIZE = utf8("request\0total_size");
const RESPONSE_SIZE = utf8("response\0total_size");
const HOST = utf8("request\0host");
const PROTOCOL = utf8("request\0protocol");
const SERVER_NAME = utf8("connection\0requested_server_name");
const DESTINATION_ADDRESS = utf8("destination\0address");
const ROUTE_NAME = utf8("xds\0route_name");
const ENDPOINT_WORKLOAD = utf8("xds\0upstream_host_metadata\0filter_metadata\0istio\0workload");
export const DOWNSTREAM_PEER_SAN = utf8("connection\0uri_san_peer_certificate");
const DOWNSTREAM_LOCAL_SAN = utf8("connection\0uri_san_local_certificate");
export const UPSTREAM_PEER_SAN = utf8("upstream\0uri_san_peer_certificate");
const UPSTREAM_LOCAL_SAN = utf8("upstream\0uri_san_local_certificate");
/** There once the connection to the upstream is; its `address` is there as soon as an endpoint is chosen. */
const UPSTREAM_LOCAL_ADDRESS = utf8("upstream\0local_address");
/** Where Istio's authentication leaves the principals when the certificates are not this connection's own (HBONE). */
export const PEER_PRINCIPAL = utf8("filter_state\0io.istio.peer_principal");
const LOCAL_PRINCIPAL = utf8("filter_state\0io.istio.local_principal");
const CONTENT_TYPE = utf8("content-type");
const GRPC_CONTENT_TYPE = utf8("application/grpc");
const CONNECT_CONTENT_TYPE = utf8("application/connect");
const BLOCK_ALL = utf8(ROUTE_BLOCK_ALL);
const ALLOW_ANY = utf8(ROUTE_ALLOW_ANY);

/** Duration of a request that did not finish. */
export const NOT_FINISHED: u64 = u64.MAX_VALUE;
/** grpcStatus when it is no gRPC call or has none. */
export const NO_STATUS: u64 = u64.MAX_VALUE;

const ABSENT: u64 = u64.MAX_VALUE;

/** Longer text is cut here: no label value is longer than 255 bytes, and cleaning looks no further than this. */
const MAX_TEXT: usize = 512;

/** What is known of the hop's encryption. */
export enum Security {
  Unknown,
  None,
  MutualTls,
}

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

/** One of these is filled anew for each request, or connection. */
@final
export class Request {
  role: Role = Role.Outbound;
  isTcp: bool = false;
  isGrpc: bool = false;
  /** Whether Envoy may have counted its messages: those of Connect, too, which by its labels is no gRPC. */
  mayHaveMessages: bool = false;
  /** 0 when there was no response. */
  code: u64 = 0;
  /** Bit mask, RESPONSE_FLAGS. */
  flags: u64 = 0;
  grpcStatus: u64 = NO_STATUS;
  durationMs: u64 = NOT_FINISHED;
  requestBytes: u64 = 0;
  responseBytes: u64 = 0;
  route: Route = Route.Ordinary;
  security: Security = Security.Unknown;
  cluster: Cluster | null = null;
  /** What the workloads in front and behind said of themselves; null where it does not matter. */
  downstreamPeer: Peer | null = null;
  upstreamPeer: Peer | null = null;
  /** First URI SAN of the peer's and of our own certificate on the hop that is reported; empty without mTLS. */
  readonly peerPrincipal: Slice = new Slice();
  readonly ownPrincipal: Slice = new Slice();
  /** The same of the peer behind, where the hop in front is the one that is reported: a waypoint. */
  readonly upstreamPrincipal: Slice = new Slice();
  /** Authority, or what a TCP client asked for, only where it may become the service's name. */
  readonly host: Slice = new Slice();
  /** How `host` becomes the service's name; null: as it is. */
  hosts: HostRules | null = null;
  /** Endpoint metadata `istio.workload`, only where the workload behind did not speak for itself. */
  readonly endpoint: Slice = new Slice();
  private configSerial: u32 = 0;

  /** Whether the hop in front is the one that is reported: its certificates count. */
  get isServer(): bool {
    return this.role === Role.Inbound || this.role === Role.Waypoint;
  }

  /** Reads everything of the current stream, which is over. False when it `mayBeTcp` and is: such a stream has no protocol of HTTP's. */
  read(ends: Ends, config: Config, mayBeTcp: bool): bool {
    this.code = readNumber(RESPONSE_CODE, 0);
    if (mayBeTcp && this.code === 0 && !readProperty(PROTOCOL)) return false;
    this.flags = readNumber(RESPONSE_FLAGS, 0);
    const durationNs = readNumber(DURATION, ABSENT);
    this.durationMs = durationNs === ABSENT ? NOT_FINISHED : durationNs / 1000000;
    this.requestBytes = readNumber(REQUEST_SIZE, 0);
    this.responseBytes = readNumber(RESPONSE_SIZE, 0);
    const hasContentType = readHeader(HeaderMap.Request, CONTENT_TYPE);
    this.isGrpc = hasContentType && isGrpcContentType();
    this.mayHaveMessages = this.isGrpc || (hasContentType && startsWith(CONNECT_CONTENT_TYPE));
    this.grpcStatus = this.isGrpc ? readNumber(GRPC_STATUS, NO_STATUS) : NO_STATUS;
    this.isTcp = false;
    this.readEnds(ends, config);
    return true;
  }

  /** Reads what is known of the current TCP connection. */
  readConnection(ends: Ends, config: Config): void {
    this.code = 0;
    this.flags = readNumber(RESPONSE_FLAGS, 0);
    this.isGrpc = false;
    this.grpcStatus = NO_STATUS;
    this.isTcp = true;
    this.readEnds(ends, config);
  }

  /**
   * Reads who calls whom in a gRPC stream that is still in flight; the rest is as if it had not ended. False when that cannot be
   * told: the authority would name the service, and is not known.
   */
  readInFlight(ends: Ends, config: Config): bool {
    this.code = 0;
    this.flags = 0;
    this.isGrpc = true;
    this.grpcStatus = NO_STATUS;
    this.isTcp = false;
    this.readEnds(ends, config);
    if (!this.needsHost(config)) return true;
    const authority = ends.authority;
    if (authority === null) return false;
    this.host.ptr = changetype<usize>(authority);
    this.host.size = authority.length;
    return true;
  }

  private readEnds(ends: Ends, config: Config): void {
    const role = ends.role(config);
    this.role = role;
    this.configSerial = config.serial;
    this.hosts = config.hosts;
    this.downstreamPeer = this.isServer ? ends.downstreamPeer : null;
    this.upstreamPeer = role === Role.Inbound ? null : ends.upstreamPeer;
    this.readPrincipals();
    this.security = this.securityOf(config);
    this.cluster = currentCluster();
    this.route = readProperty(ROUTE_NAME) ? routeOf() : Route.Ordinary;
    this.host.take(this.needsHost(config) && (this.isTcp ? this.readDestination() : readProperty(HOST)));
    this.endpoint.take(role !== Role.Inbound && this.upstreamPeer === null && readProperty(ENDPOINT_WORKLOAD));
  }

  private readPrincipals(): void {
    const isServer = this.isServer;
    this.peerPrincipal.take(isServer && readProperty(PEER_PRINCIPAL));
    this.ownPrincipal.take(isServer && readProperty(LOCAL_PRINCIPAL));
    if (this.peerPrincipal.size === 0 && this.ownPrincipal.size === 0) {
      this.peerPrincipal.take(readProperty(isServer ? DOWNSTREAM_PEER_SAN : UPSTREAM_PEER_SAN));
      this.ownPrincipal.take(readProperty(isServer ? DOWNSTREAM_LOCAL_SAN : UPSTREAM_LOCAL_SAN));
    }
    this.upstreamPrincipal.take(this.role === Role.Waypoint && readProperty(UPSTREAM_PEER_SAN));
  }

  /** Istio leaves it unknown for a client. Where it is asked for, a connection that was made tells. */
  private securityOf(config: Config): Security {
    if (!this.isServer && !config.sourceSecurityPolicy) return Security.Unknown;
    if (this.peerPrincipal.size > 0 && this.ownPrincipal.size > 0) return Security.MutualTls;
    return this.isServer || readProperty(UPSTREAM_LOCAL_ADDRESS) ? Security.None : Security.Unknown;
  }

  /** What a TCP client asked for: the name in its TLS, else the address. A server's clients do not name it; a catch-all's are too many. */
  private readDestination(): bool {
    const cluster = this.cluster;
    if (this.role === Role.Inbound || (cluster !== null && cluster.isCatchAll)) return false;
    return (readProperty(SERVER_NAME) && valueSize > 0) || readProperty(DESTINATION_ADDRESS);
  }

  /** Whether the authority may name the service: not where cluster metadata does. */
  private needsHost(config: Config): bool {
    if (config.disableHostHeaderFallback) return false;
    const cluster = this.cluster;
    return cluster === null || this.route !== Route.Ordinary || cluster.isCatchAll || cluster.serviceHost.length === 0;
  }

  /**
   * Writes what decides the labels to KEY and returns its size: equal keys have equal labels.
   *
   *   flags u64 | grpc status u64 | code u32 | downstream u32 | upstream u32 | cluster u32 | config u32 | bits u32 | 5 x text
   *   text: u16 size, bytes
   */
  writeKey(): usize {
    const downstream = this.downstreamPeer;
    const upstream = this.upstreamPeer;
    const cluster = this.cluster;
    const bits = this.role | (this.isGrpc ? 4 : 0) | (this.route << 3) | (this.security << 5) | (this.isTcp ? 128 : 0);
    store<u64>(KEY, this.flags);
    store<u64>(KEY, this.grpcStatus, 8);
    store<u32>(KEY, <u32>this.code, 16);
    store<u32>(KEY, downstream === null ? 0 : downstream.serial, 20);
    store<u32>(KEY, upstream === null ? 0 : upstream.serial, 24);
    store<u32>(KEY, cluster === null ? 0 : cluster.serial, 28);
    store<u32>(KEY, this.configSerial, 32);
    store<u32>(KEY, bits, 36);
    let at = KEY + 40;
    at = appendText(at, this.peerPrincipal.ptr, this.peerPrincipal.size);
    at = appendText(at, this.ownPrincipal.ptr, this.ownPrincipal.size);
    at = appendText(at, this.upstreamPrincipal.ptr, this.upstreamPrincipal.size);
    at = appendText(at, this.host.ptr, this.host.size);
    at = appendText(at, this.endpoint.ptr, this.endpoint.size);
    return at - KEY;
  }
}

/**
 * The authority of the current stream if it is a gRPC call, for as long as it lives; null otherwise. In proxy_on_request_headers only:
 * later callbacks cannot read it before the end.
 */
export function grpcAuthority(): StaticArray<u8> | null {
  if (!readHeader(HeaderMap.Request, CONTENT_TYPE) || !isGrpcContentType() || !readProperty(HOST)) return null;
  noteColdWork(1);
  return copyOf(valuePtr, min(valueSize, MAX_TEXT));
}

/** Where writeKey leaves the key: 40 bytes and 5 texts of 512. Behind them room for a plan's serial and 80 texts of 255 bytes. */
export const KEY: usize = memory.data(23200, 8);

/** Writes a text to a key; returns where the next one goes. */
export function appendText(at: usize, ptr: usize, size: usize): usize {
  store<u16>(at, <u16>size);
  memory.copy(at + 2, ptr, size);
  return at + 2 + size;
}

/** `application/grpc`, alone or followed by `+`. */
function isGrpcContentType(): bool {
  const length = <usize>GRPC_CONTENT_TYPE.byteLength;
  if (!startsWith(GRPC_CONTENT_TYPE)) return false;
  return valueSize === length || load<u8>(valuePtr + length) === 0x2b;
}

/** Whether what was read last begins so. */
function startsWith(text: ArrayBuffer): bool {
  const length = <usize>text.byteLength;
  return valueSize >= length && memory.compare(valuePtr, changetype<usize>(text), length) === 0;
}

function routeOf(): Route {
  if (isText(valuePtr, valueSize, BLOCK_ALL)) return Route.BlockAll;
  return isText(valuePtr, valueSize, ALLOW_ANY) ? Route.AllowAny : Route.Ordinary;
}
