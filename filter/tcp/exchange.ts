// The metadata exchange of TCP (ISTIO's section "TCP metadata exchange"): each end's prefix goes before the first byte of its direction, is
// taken off at the other end, and the applications see none of it. What may be the beginning of a prefix waits for the rest; nothing
// else ever waits.
//
//   downstream --> [guard: the peer's prefix is taken off] --> [ours goes before] --> upstream
//   downstream <-- [the answer goes before] <-- [the peer's prefix is taken off] <-- upstream

import { Cluster, currentCluster } from "../cluster.ts";
import { Config } from "../config/config.ts";
import { EXCHANGE_BY_ROLE, EXCHANGE_DOWNSTREAM, EXCHANGE_UPSTREAM } from "../config/exchange.ts";
import { Send } from "../config/tcp-exchange.ts";
import { noteColdWork, pauseCollection } from "../garbage.ts";
import {
  BufferKind,
  continueDownstream,
  countFault,
  hasProperty,
  prependBuffer,
  readBuffer,
  readProperty,
  stripBuffer,
  utf8,
  valuePtr,
  valueSize,
} from "../host.ts";
import { learnDownstreamPeer, learnUpstreamPeer } from "../peer.ts";
import { DOWNSTREAM_PEER_SAN, PEER_PRINCIPAL, UPSTREAM_PEER_SAN } from "../request.ts";
import { exchangeSides, isDownstreamProofNeeded, isUpstreamProofNeeded, Role } from "../role.ts";
import { Root } from "../root.ts";
import { Exchange, Fault } from "../vocabulary/metrics.ts";
import { encodeBase64 } from "../wire/base64.ts";
import { Connection, Way } from "./connection.ts";
import { dueOf } from "./due.ts";
import { countExchange } from "./exchange-counters.ts";
import { Held } from "./held.ts";
import {
  HEADER_SIZE,
  hasMetadata,
  judge,
  metadataPtr,
  metadataSize,
  openPrefix,
  ownPrefix,
  prefixSize,
  START_SIZE,
  Verdict,
} from "./prefix.ts";

/** In place of a number of bytes: none goes on, and Envoy holds them. */
export const HELD: u32 = u32.MAX_VALUE;

const TLS_MODE = utf8("xds\0upstream_host_metadata\0filter_metadata\0envoy.transport_socket_match\0tlsMode");
const TLS_MODE_ISTIO = utf8("istio");

/** How many bytes from the downstream go on, of the `size` that are in the buffer; HELD, and Envoy is to hold them, while they have to wait. */
export function passDownstream(connection: Connection, config: Config, size: u32, isEnd: bool): u32 {
  decide(connection, config);
  let passing = size;
  if (connection.downstream === Way.Reading) {
    const taken = readDownstream(connection, config, size, isEnd);
    if (taken < 0) return HELD;
    passing -= <u32>taken;
  }
  if (connection.isSending && passing > 0) {
    connection.isSending = false;
    sendPrefix(BufferKind.Downstream, config);
  }
  return passing;
}

/** How many bytes from the upstream go on, of the `size` that are in the buffer. Those that have to wait are taken out until more of them come. */
export function passUpstream(connection: Connection, config: Config, size: u32, isEnd: bool): u32 {
  decide(connection, config);
  let passing = size;
  if (connection.upstream === Way.Reading) passing = readUpstream(connection, config, size, isEnd);
  if (passing === 0) return 0;
  if (connection.isAnswering) {
    connection.isAnswering = false;
    sendPrefix(BufferKind.Upstream, config);
  }
  connection.hasSpoken = true;
  return passing;
}

/** A connection waited long enough for the rest of what may be a prefix: it is none. Called in a tick, on behalf of the connection. */
export function giveUp(connection: Connection): void {
  if (connection.heldDownstream > 0) {
    countFault(Fault.PrefixCut);
    connection.downstream = Way.Open;
    connection.isSending = false; // those bytes went first
    connection.received += connection.heldDownstream;
    connection.heldDownstream = 0;
    pauseCollection(true); // what comes of it may be the end of the connection, within this call
    continueDownstream();
    pauseCollection(false);
  }
  const held = connection.heldUpstream;
  if (held !== null) held.isOverdue = true;
}

/** Decides, at the first bytes of either direction, whose prefix is looked for and whether ours is sent. */
function decide(connection: Connection, config: Config): void {
  if (connection.downstream !== Way.New) return;
  const role = connection.role(config);
  const sides = tcpSides(role, config);
  // In front of a gateway may be the internet, and what comes from there would be believed in the mesh.
  connection.isListening = (sides & EXCHANGE_DOWNSTREAM) !== 0;
  connection.downstream = connection.isListening || role === Role.Gateway ? Way.Reading : Way.Open;
  connection.upstream = Way.Open;
  if ((sides & EXCHANGE_UPSTREAM) === 0) return;
  const isUnderstood = understandsUs(config) && ownPrefix(config.exchange).length > 0;
  countExchange(isUnderstood ? Exchange.AlpnProtocolFound : Exchange.AlpnProtocolNotFound);
  if (!isUnderstood) return;
  connection.isSending = true;
  connection.upstream = Way.Reading;
}

/** A waypoint speaks TCP for neither end. */
function tcpSides(role: Role, config: Config): i32 {
  if (role === Role.Waypoint && config.exchange.sides === EXCHANGE_BY_ROLE) return 0;
  return exchangeSides(role, config);
}

/** Whether the chosen upstream will take our prefix for what it is. Where nobody knows, it would be garbage to an application. */
function understandsUs(config: Config): bool {
  const exchange = config.exchange;
  const tcp = exchange.tcp;
  if (tcp.send === Send.Never) return false;
  const cluster = currentCluster();
  if (cluster === null || isOutside(cluster, exchange.skipExternalClusters)) return false;
  if (tcp.send === Send.Always || cluster.isTcpExchanger || tcp.namesCluster(cluster.name)) return true;
  return isMeshEndpoint();
}

function isOutside(cluster: Cluster, skipExternal: bool): bool {
  return cluster.isExchangeDisabled || (skipExternal && cluster.isExternal);
}

/** An endpoint that Istio marks as of the mesh understands over mutual TLS. In plain text Istio's own proxies do not. */
function isMeshEndpoint(): bool {
  if (!readProperty(TLS_MODE) || valueSize !== <usize>TLS_MODE_ISTIO.byteLength) return false;
  if (memory.compare(valuePtr, changetype<usize>(TLS_MODE_ISTIO), valueSize) !== 0) return false;
  return hasProperty(UPSTREAM_PEER_SAN);
}

/** Size of the prefix that was taken off the first bytes from the downstream; -1 while they have to wait. */
function readDownstream(connection: Connection, config: Config, size: u32, isEnd: bool): i32 {
  const verdict = judgeBuffer(BufferKind.Downstream, size);
  const isCut = isIncomplete(verdict, size);
  if (isCut && !isEnd) {
    hold(connection, size);
    return -1;
  }
  connection.downstream = Way.Open;
  connection.heldDownstream = 0;
  if (size === 0) return 0;
  if (isCut) countFault(Fault.PrefixCut);
  else if (verdict === Verdict.Begun && takeOff(BufferKind.Downstream)) return heardDownstream(connection, config);
  else if (verdict !== Verdict.None) countHeard(connection, Exchange.HeaderNotFound);
  countHeard(connection, Exchange.AlpnProtocolNotFound);
  return 0;
}

function isIncomplete(verdict: Verdict, size: u32): bool {
  return verdict === Verdict.Partial || (verdict === Verdict.Begun && size < prefixSize);
}

/** A gateway that only guards takes no part in the exchange. */
function countHeard(connection: Connection, what: Exchange): void {
  if (connection.isListening) countExchange(what);
}

/** What the downstream said of itself counts if it need not prove it, or does; and then it is answered. Returns the size of its prefix. */
function heardDownstream(connection: Connection, config: Config): i32 {
  const taken = <i32>prefixSize;
  if (!connection.isListening) return taken;
  countExchange(Exchange.AlpnProtocolFound);
  const isProofNeeded = isDownstreamProofNeeded(connection.role(config), config);
  if (isProofNeeded && !hasProperty(DOWNSTREAM_PEER_SAN) && !hasProperty(PEER_PRINCIPAL)) {
    countFault(Fault.PeerUntrusted);
    return taken;
  }
  if (connection.hasSpoken) countFault(Fault.PeerUnanswered);
  else connection.isAnswering = ownPrefix(config.exchange).length > 0;
  if (hasMetadata) {
    const header = peerHeader();
    connection.downstreamPeer = learnDownstreamPeer(changetype<usize>(header), header.byteLength, config.exchange);
  }
  return taken;
}

/** How many of the first bytes from the upstream go on: without its prefix, and none while they have to wait. */
function readUpstream(connection: Connection, config: Config, size: u32, isEnd: bool): u32 {
  let held = connection.heldUpstream;
  const verdict = held === null ? judgeBuffer(BufferKind.Upstream, size) : judgeMore(held, size);
  if (held !== null) size = held.size;
  const isCut = isIncomplete(verdict, size);
  if (isCut && !isEnd && (held === null || !held.isOverdue)) {
    if (size === 0 || held !== null || takeOut(connection, size)) return 0;
  }
  connection.upstream = Way.Open;
  held = connection.heldUpstream;
  if (held !== null) putBack(connection, held);
  if (size === 0) return 0;
  if (isCut) countFault(Fault.PrefixCut);
  else if (verdict === Verdict.None) countExchange(Exchange.InitialHeaderNotFound);
  else if (verdict === Verdict.Begun && takeOff(BufferKind.Upstream)) return size - heardUpstream(connection, config);
  else countExchange(Exchange.HeaderNotFound);
  return size;
}

/** What the upstream said of itself counts if it need not prove it, or does. Returns the size of its prefix. */
function heardUpstream(connection: Connection, config: Config): u32 {
  const taken = prefixSize;
  if (isUpstreamProofNeeded(config) && !hasProperty(UPSTREAM_PEER_SAN)) {
    countFault(Fault.PeerUntrusted);
  } else if (hasMetadata) {
    const header = peerHeader();
    connection.upstreamPeer = learnUpstreamPeer(changetype<usize>(header), header.byteLength, config.exchange);
  }
  return taken;
}

/** Judges what a buffer of that size begins with. What cannot be read is no prefix. */
function judgeBuffer(buffer: BufferKind, size: u32): Verdict {
  if (size === 0) return Verdict.Partial;
  if (!readBuffer(buffer, min(size, START_SIZE))) return Verdict.None;
  return judge(valuePtr, <u32>valueSize);
}

/** Takes further bytes out to those that wait, and judges all of them. */
function judgeMore(held: Held, size: u32): Verdict {
  if (takeMore(held, size)) return judge(held.ptr, held.size);
  return Verdict.None;
}

/** Opens the prefix that was judged last and takes it off the buffer; false, and nothing is taken off, when it is none after all. */
function takeOff(buffer: BufferKind): bool {
  const size = prefixSize;
  return readBuffer(buffer, size) && openPrefix(valuePtr, <u32>valueSize) && stripBuffer(buffer, size);
}

/** What the peer's metadata header would be over HTTP: by it peers are told apart, whichever way they came. */
function peerHeader(): ArrayBuffer {
  noteColdWork(1);
  return encodeBase64(metadataPtr, metadataSize);
}

function hold(connection: Connection, size: u32): void {
  if (size === 0) return;
  if (size < HEADER_SIZE) countHeard(connection, Exchange.InitialHeaderNotFound);
  const isFirst = connection.heldDownstream === 0;
  connection.heldDownstream = size;
  if (isFirst) waitForMore(connection);
}

/** Takes all bytes from the upstream out of the buffer, until more of them come. False, and they stay there, when that fails. */
function takeOut(connection: Connection, size: u32): bool {
  noteColdWork();
  const held = new Held();
  if (!takeMore(held, size)) return false;
  connection.heldUpstream = held;
  waitForMore(connection);
  return true;
}

function takeMore(held: Held, size: u32): bool {
  if (size > 0) {
    if (!readBuffer(BufferKind.Upstream, size) || !stripBuffer(BufferKind.Upstream, size)) return false;
    held.add(valuePtr, <i32>size);
  }
  if (held.size < <i32>HEADER_SIZE) countExchange(Exchange.InitialHeaderNotFound);
  return true;
}

function putBack(connection: Connection, held: Held): void {
  prependBuffer(BufferKind.Upstream, held.ptr, held.size);
  connection.heldUpstream = null;
}

function waitForMore(connection: Connection): void {
  connection.holdUntilMs = changetype<Root>(connection.root).deadlineMs();
  dueOf(connection.rootId).holding.push(connection);
}

/** Puts our prefix before the bytes of a direction. */
function sendPrefix(buffer: BufferKind, config: Config): void {
  const prefix = ownPrefix(config.exchange);
  if (prependBuffer(buffer, changetype<usize>(prefix), prefix.length)) countExchange(Exchange.MetadataAdded);
}
