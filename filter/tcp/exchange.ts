// The metadata exchange of TCP (ISTIO's section "TCP metadata exchange"): each end's prefix goes before the first byte of its direction, is
// taken off at the other end, and the applications see none of it. What may be the beginning of a prefix waits for the rest; nothing
// else ever waits.
//
//   downstream --> [the peer's prefix is taken off] --> [ours goes before] --> upstream
//   downstream <-- [the answer goes before] <-- [the peer's prefix is taken off] <-- upstream

import { Cluster, currentCluster } from "../cluster.ts";
import { Config } from "../config/config.ts";
import { EXCHANGE_BY_ROLE, EXCHANGE_DOWNSTREAM, EXCHANGE_UPSTREAM, ExchangeConfig } from "../config/exchange.ts";
import { Send } from "../config/tcp-exchange.ts";
import { noteColdWork, pauseCollection } from "../garbage.ts";
import {
  BufferKind,
  closeDownstream,
  continueDownstream,
  countFault,
  hasProperty,
  prependBuffer,
  readProperty,
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
import { isText } from "../wire/bytes.ts";
import { Connection } from "./connection.ts";
import { dueOf } from "./due.ts";
import { countExchange } from "./exchange-counters.ts";
import { Outcome, Way } from "./head.ts";
import { HEADER_SIZE, hasMetadata, MAGIC_SIZE, metadataPtr, metadataSize, ownPrefix } from "./prefix.ts";

/** In place of a number of bytes: none goes on, and Envoy holds them. */
export const HELD: u32 = u32.MAX_VALUE;

const TLS_MODE = utf8("xds\0upstream_host_metadata\0filter_metadata\0envoy.transport_socket_match\0tlsMode");
const TLS_MODE_ISTIO = utf8("istio");

/** How many bytes from the downstream go on, of the `size` that are in the buffer; HELD, and Envoy is to hold them, while they have to wait. */
export function passDownstream(connection: Connection, config: Config, size: u32, isEnd: bool): u32 {
  decide(connection, config);
  let passing = size;
  const way = connection.downstream.way;
  if (way === Way.Reading) passing = readDownstream(connection, config, size, isEnd);
  else if (way === Way.Watched && connection.downstream.completesMagic(size)) return refuse();
  if (passing === HELD || passing === 0) return passing;
  if (connection.isSending) {
    connection.isSending = false;
    sendPrefix(BufferKind.Downstream, config);
  }
  connection.hasAsked = true;
  return passing;
}

/** How many bytes from the upstream go on, of the `size` that are in the buffer. Those that have to wait are taken out until more of them come. */
export function passUpstream(connection: Connection, config: Config, size: u32, isEnd: bool): u32 {
  decide(connection, config);
  let passing = size;
  if (connection.upstream.way === Way.Reading) passing = readUpstream(connection, config, size, isEnd);
  if (passing === 0) return 0;
  if (connection.isAnswering) {
    connection.isAnswering = false;
    sendPrefix(BufferKind.Upstream, config);
  }
  connection.hasSpoken = true;
  return passing;
}

/**
 * The first bytes of a connection waited long enough for the rest of what may be a prefix. Called in a tick, on behalf of the connection.
 * It may be over when this returns.
 */
export function giveUp(connection: Connection): void {
  connection.upstream.giveUp();
  const head = connection.downstream;
  head.giveUp();
  if (connection.isGuarded && head.isClaim) {
    refuse();
  } else if (head.waiting > 0) {
    countFault(Fault.PrefixCut);
    countHeard(connection, Exchange.AlpnProtocolNotFound);
    connection.isSending = false; // those bytes went first
    connection.hasAsked = true;
    connection.received += head.letGo(connection.isGuarded);
    pauseCollection(true); // what comes of it may be the end of the connection, within this call
    continueDownstream();
    pauseCollection(false);
  }
}

/** Ends a connection of which a gateway would not know what it passes on. */
function refuse(): u32 {
  countFault(Fault.PeerUntrusted);
  pauseCollection(true); // this, too, may call us back
  closeDownstream();
  pauseCollection(false);
  return HELD;
}

/** Decides, at the first bytes of either direction, whose prefix is looked for and whether ours is sent. */
function decide(connection: Connection, config: Config): void {
  if (connection.downstream.way !== Way.New) return;
  const role = connection.role(config);
  const sides = tcpSides(role, config);
  connection.isListening = (sides & EXCHANGE_DOWNSTREAM) !== 0;
  // In front of a gateway may be the internet, and what comes from there would be believed in the mesh.
  connection.isGuarded = role === Role.Gateway;
  connection.downstream.way = connection.isListening || connection.isGuarded ? Way.Reading : Way.Open;
  connection.upstream.way = Way.Open;
  if ((sides & EXCHANGE_UPSTREAM) === 0) return;
  const exchange = config.exchange;
  const isUnderstood = understandsUs(exchange);
  if (isUnderstood) connection.upstream.way = Way.Reading;
  connection.isSending = isUnderstood && exchange.tcp.send !== Send.Never && ownPrefix(exchange).length > 0;
  connection.isAsking = connection.isSending;
  countExchange(connection.isSending ? Exchange.AlpnProtocolFound : Exchange.AlpnProtocolNotFound);
}

/** A waypoint speaks TCP for neither end. */
function tcpSides(role: Role, config: Config): i32 {
  if (role === Role.Waypoint && config.exchange.sides === EXCHANGE_BY_ROLE) return 0;
  return exchangeSides(role, config);
}

/** Whether the chosen upstream will take our prefix for what it is. Where nobody knows, it would be garbage to an application. */
function understandsUs(exchange: ExchangeConfig): bool {
  const tcp = exchange.tcp;
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
  return readProperty(TLS_MODE) && isText(valuePtr, valueSize, TLS_MODE_ISTIO) && hasProperty(UPSTREAM_PEER_SAN);
}

/** How many of the first bytes from the downstream go on: without its prefix, behind which a gateway looks for another. */
function readDownstream(connection: Connection, config: Config, size: u32, isEnd: bool): u32 {
  const head = connection.downstream;
  const wasHolding = head.isHolding;
  let outcome = head.inspect(size, isEnd, connection.isGuarded);
  while (outcome === Outcome.Found) {
    heardDownstream(connection, config);
    if (!connection.isGuarded) break;
    if (head.passing === 0 && !isEnd) return 0;
    outcome = head.inspect(head.passing, isEnd, true);
  }
  if (outcome === Outcome.Waiting) {
    if (!wasHolding && head.isHolding) waitForMore(connection);
    return head.waiting > 0 ? HELD : 0;
  }
  waitNoMore(connection);
  head.way = Way.Open;
  if (outcome === Outcome.Found || head.passing === 0) return head.passing;
  countHeard(connection, Exchange.AlpnProtocolNotFound);
  if (outcome === Outcome.Broken) countHeard(connection, Exchange.HeaderNotFound);
  if (outcome !== Outcome.Cut) return head.passing;
  countFault(Fault.PrefixCut);
  if (connection.isGuarded && head.passing >= MAGIC_SIZE) head.drop();
  return head.passing;
}

/** A gateway that only guards takes no part in the exchange, nor does a connection whose peer has told who it is. */
function countHeard(connection: Connection, what: Exchange): void {
  if (connection.isListening && !connection.isHeard) countExchange(what);
}

/** What the downstream said of itself counts, once, if it need not prove it, or does; and then it is answered. */
function heardDownstream(connection: Connection, config: Config): void {
  if (!connection.isListening || connection.isHeard) {
    countFault(Fault.PeerUntrusted);
    return;
  }
  connection.isHeard = true;
  countExchange(Exchange.AlpnProtocolFound);
  const isProofNeeded = isDownstreamProofNeeded(connection.role(config), config);
  if (isProofNeeded && !hasProperty(DOWNSTREAM_PEER_SAN) && !hasProperty(PEER_PRINCIPAL)) {
    countFault(Fault.PeerUntrusted);
    return;
  }
  if (connection.hasSpoken) countFault(Fault.PeerUnanswered);
  else connection.isAnswering = ownPrefix(config.exchange).length > 0;
  const header = peerHeader(config.exchange);
  if (header === null) return;
  connection.downstreamPeer = learnDownstreamPeer(changetype<usize>(header), header.byteLength, config.exchange);
}

/** How many of the first bytes from the upstream go on: without its prefix, and none while they have to wait. */
function readUpstream(connection: Connection, config: Config, size: u32, isEnd: bool): u32 {
  const head = connection.upstream;
  // A server that was asked nothing yet, and begins with a few bytes, begins with no prefix: those come in one piece.
  const isTooShort = !connection.hasAsked && size < HEADER_SIZE && !head.isHolding;
  const wasHolding = head.isHolding;
  const outcome = head.inspect(size, isEnd || isTooShort, false);
  if (outcome === Outcome.Waiting) {
    if (!wasHolding && head.isHolding) waitForMore(connection);
    return 0;
  }
  if (size === 0 && isTooShort && !isEnd) return 0;
  waitNoMore(connection);
  head.way = Way.Open;
  if (outcome === Outcome.Found) heardUpstream(connection, config);
  else if (outcome === Outcome.Broken) countExchange(Exchange.HeaderNotFound);
  else if (head.passing > 0) countExchange(Exchange.InitialHeaderNotFound);
  if (outcome === Outcome.Cut && connection.hasAsked) countFault(Fault.PrefixCut);
  return head.passing;
}

/** What the upstream said of itself counts if it need not prove it, or does. */
function heardUpstream(connection: Connection, config: Config): void {
  if (isUpstreamProofNeeded(config) && !hasProperty(UPSTREAM_PEER_SAN)) {
    countFault(Fault.PeerUntrusted);
    return;
  }
  const header = peerHeader(config.exchange);
  if (header === null) return;
  connection.upstreamPeer = learnUpstreamPeer(changetype<usize>(header), header.byteLength, config.exchange);
}

/**
 * What the metadata header of the prefix that was opened last would be over HTTP: by it peers are told apart, whichever way they came. Null when it has
 * none, or it would be too long.
 */
function peerHeader(exchange: ExchangeConfig): ArrayBuffer | null {
  if (!hasMetadata) return null;
  if ((metadataSize / 3) * 4 > <usize>exchange.maxHeaderBytes) {
    countFault(Fault.PeerTooLarge);
    return null;
  }
  noteColdWork(1 + <u32>(metadataSize >> 9));
  return encodeBase64(metadataPtr, metadataSize);
}

function waitForMore(connection: Connection): void {
  if (connection.hold.isWaiting) return; // for the other direction, since sooner
  const root = changetype<Root>(connection.root);
  dueOf(root.id).holding.add(connection.hold, root.deadlineMs());
}

function waitNoMore(connection: Connection): void {
  if (!connection.downstream.isHolding && !connection.upstream.isHolding) connection.hold.leave();
}

/** Puts our prefix before the bytes of a direction. */
function sendPrefix(buffer: BufferKind, config: Config): void {
  const prefix = ownPrefix(config.exchange);
  if (prependBuffer(buffer, changetype<usize>(prefix), prefix.length)) countExchange(Exchange.MetadataAdded);
}
