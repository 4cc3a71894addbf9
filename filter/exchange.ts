// The metadata exchange (ISTIO's section "HTTP metadata exchange"): who we are goes to the peer, who they are comes back, and the
// applications see none of it.

import { currentCluster } from "./cluster.ts";
import { Config } from "./config/config.ts";
import { EXCHANGE_DOWNSTREAM, EXCHANGE_UPSTREAM, ExchangeConfig } from "./config/exchange.ts";
import {
  countFault,
  HeaderMap,
  hasProperty,
  readHeader,
  removeHeader,
  setHeader,
  utf8,
  valuePtr,
  valueSize,
} from "./host.ts";
import { ownMetadata, ownNode } from "./node.ts";
import { learnDownstreamPeer, learnUpstreamPeer } from "./peer.ts";
import { DOWNSTREAM_PEER_SAN, PEER_PRINCIPAL, UPSTREAM_PEER_SAN } from "./request.ts";
import { exchangeSides, isDownstreamProofNeeded, isRelay, isUpstreamProofNeeded, Role } from "./role.ts";
import { Stream } from "./stream.ts";
import { Fault } from "./vocabulary/metrics.ts";
import { PEER_ID_HEADER, PEER_METADATA_HEADER } from "./vocabulary/peer-metadata.ts";

const ID_HEADER = utf8(PEER_ID_HEADER);
const METADATA_HEADER = utf8(PEER_METADATA_HEADER);

export function onRequestHeaders(stream: Stream, config: Config): void {
  const role = stream.role(config);
  const sides = exchangeSides(role, config);
  if (sides & EXCHANGE_DOWNSTREAM) receiveRequest(stream, role, config);
  if (isRelay(role, sides)) relayRequest(stream, config.exchange);
  else if (sides & EXCHANGE_UPSTREAM) sendRequest(stream, config.exchange);
  else if (isGuarded(role, sides)) stripExchange(HeaderMap.Request);
}

export function onResponseHeaders(stream: Stream, config: Config): void {
  stream.isAnswered = true;
  const role = stream.role(config);
  const sides = exchangeSides(role, config);
  const isBelieved = (sides & EXCHANGE_UPSTREAM) !== 0 && receiveResponse(stream, config);
  if (isRelay(role, sides)) relayResponse(stream, isBelieved);
  else if (sides & EXCHANGE_DOWNSTREAM) sendResponse(stream, config.exchange);
  else if (isGuarded(role, sides)) stripExchange(HeaderMap.Response);
}

/**
 * Whether exchange headers stop here even where none are sent on. At a gateway always: what comes from outside would be believed in the
 * mesh, and what the mesh says of itself is not for outside.
 */
function isGuarded(role: Role, sides: i32): bool {
  return sides !== 0 || role === Role.Gateway;
}

/** Server, request: learn who calls. A caller that does not prove itself where it must is as if it had said nothing. */
function receiveRequest(stream: Stream, role: Role, config: Config): void {
  stream.hasPeerId = readHeader(HeaderMap.Request, ID_HEADER);
  stream.hasPeerMetadata = readHeader(HeaderMap.Request, METADATA_HEADER);
  const ptr = valuePtr;
  const size = valueSize;
  if (!stream.hasPeerId && !stream.hasPeerMetadata) return;
  const isDoubtful =
    isDownstreamProofNeeded(role, config) && !hasProperty(DOWNSTREAM_PEER_SAN) && !hasProperty(PEER_PRINCIPAL);
  if (isDoubtful) {
    countFault(Fault.PeerUntrusted);
    stream.hasPeerId = false;
    stream.hasPeerMetadata = false;
    return;
  }
  if (!stream.hasPeerMetadata || stream.downstreamPeer !== null) return;
  stream.downstreamPeer = learnDownstreamPeer(ptr, size, config.exchange);
}

/** Client, request: say who we are, unless the cluster is outside the mesh; then nothing of the kind may pass. */
function sendRequest(stream: Stream, exchange: ExchangeConfig): void {
  const metadata = ownMetadata(exchange);
  if (metadata.byteLength === 0 || isOutside(stream, exchange)) {
    stripExchange(HeaderMap.Request);
    return;
  }
  setHeader(HeaderMap.Request, METADATA_HEADER, metadata);
  setHeader(HeaderMap.Request, ID_HEADER, ownNode().idHeader);
}

/**
 * Between two ends, request: what the caller said goes on as it is, so that the server sees the caller and not us. Of one who does not say who
 * it is nobody else reports the call, so that we do, and say who we are: else the server would take it for a call that it alone knows of.
 */
function relayRequest(stream: Stream, exchange: ExchangeConfig): void {
  const caller = stream.downstreamPeer;
  if (caller === null || !caller.isNamed) sendRequest(stream, exchange);
  else if (isOutside(stream, exchange)) stripExchange(HeaderMap.Request);
}

/** Whether the request's cluster is one that must not learn who we are. */
function isOutside(stream: Stream, exchange: ExchangeConfig): bool {
  const cluster = currentCluster();
  stream.cluster = cluster;
  return cluster !== null && (cluster.isExchangeDisabled || (exchange.skipExternalClusters && cluster.isExternal));
}

/** Client, response: learn who answered. False when nobody said so, or nobody who has to be believed. */
function receiveResponse(stream: Stream, config: Config): bool {
  if (!readHeader(HeaderMap.Response, METADATA_HEADER)) return false;
  const ptr = valuePtr;
  const size = valueSize;
  if (isUpstreamProofNeeded(config) && !hasProperty(UPSTREAM_PEER_SAN)) {
    countFault(Fault.PeerUntrusted);
    return false;
  }
  if (stream.upstreamPeer === null) {
    stream.upstreamPeer = learnUpstreamPeer(ptr, size, config.exchange);
  }
  return true;
}

/** Server, response: answer in kind. A caller that sent nothing gets nothing, whatever the application put there. */
function sendResponse(stream: Stream, exchange: ExchangeConfig): void {
  const metadata = ownMetadata(exchange);
  const isThere = metadata.byteLength > 0;
  if (isThere && stream.hasPeerMetadata) setHeader(HeaderMap.Response, METADATA_HEADER, metadata);
  else removeHeader(HeaderMap.Response, METADATA_HEADER);
  if (isThere && stream.hasPeerId) setHeader(HeaderMap.Response, ID_HEADER, ownNode().idHeader);
  else removeHeader(HeaderMap.Response, ID_HEADER);
}

/** Between two ends, response: what the server said goes back as it is, in kind. */
function relayResponse(stream: Stream, isBelieved: bool): void {
  if (!isBelieved || !stream.hasPeerMetadata) removeHeader(HeaderMap.Response, METADATA_HEADER);
  if (!isBelieved || !stream.hasPeerId) removeHeader(HeaderMap.Response, ID_HEADER);
}

function stripExchange(map: HeaderMap): void {
  removeHeader(map, METADATA_HEADER);
  removeHeader(map, ID_HEADER);
}
