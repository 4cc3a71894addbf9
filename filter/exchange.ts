// The metadata exchange (ISTIO's section "HTTP metadata exchange"): who we are goes to the peer, who they are comes back, and the
// applications see none of it.

import { currentCluster } from "./cluster.ts";
import { Config } from "./config/config.ts";
import { EXCHANGE_DOWNSTREAM, EXCHANGE_UPSTREAM } from "./config/exchange.ts";
import {
  HeaderMap,
  readHeader,
  readProperty,
  removeHeader,
  setFilterState,
  setHeader,
  utf8,
  valuePtr,
  valueSize,
} from "./host.ts";
import { ownNode } from "./node.ts";
import { Peer, resolvePeer } from "./peer.ts";
import { exchangeSides } from "./role.ts";
import { Stream } from "./stream.ts";
import {
  DOWNSTREAM_PEER,
  PEER_ID_HEADER,
  PEER_METADATA_HEADER,
  UPSTREAM_PEER,
  WASM_STATE_PREFIX,
} from "./vocabulary/peer-metadata.ts";

const ID_HEADER = utf8(PEER_ID_HEADER);
const METADATA_HEADER = utf8(PEER_METADATA_HEADER);
const DOWNSTREAM_STATE = utf8(DOWNSTREAM_PEER);
const UPSTREAM_STATE = utf8(UPSTREAM_PEER);
const KNOWN_DOWNSTREAM = utf8("filter_state\0" + WASM_STATE_PREFIX + DOWNSTREAM_PEER);
const KNOWN_UPSTREAM = utf8("filter_state\0" + WASM_STATE_PREFIX + UPSTREAM_PEER);

export function onRequestHeaders(stream: Stream, config: Config): void {
  const sides = exchangeSides(stream.role(config), config);
  if (sides & EXCHANGE_DOWNSTREAM) receiveRequest(stream);
  if (sides & EXCHANGE_UPSTREAM) sendRequest(config);
}

export function onResponseHeaders(stream: Stream, config: Config): void {
  stream.isAnswered = true;
  const sides = exchangeSides(stream.role(config), config);
  if (sides & EXCHANGE_UPSTREAM) receiveResponse(stream);
  if (sides & EXCHANGE_DOWNSTREAM) sendResponse(stream);
}

/** Server, request: learn who calls, and keep the headers from the application. */
function receiveRequest(stream: Stream): void {
  stream.hasPeerId = readHeader(HeaderMap.Request, ID_HEADER);
  stream.hasPeerMetadata = readHeader(HeaderMap.Request, METADATA_HEADER);
  const isNew = stream.hasPeerMetadata && stream.downstreamPeer === null;
  if (isNew) stream.downstreamPeer = learnPeer(DOWNSTREAM_STATE, KNOWN_DOWNSTREAM);
  stripExchange(HeaderMap.Request);
}

/** Client, request: say who we are, unless the cluster is outside the mesh; then nothing of the kind may pass. */
function sendRequest(config: Config): void {
  const cluster = currentCluster();
  const isOutside =
    cluster !== null && (cluster.isExchangeDisabled || (config.exchange.skipExternalClusters && cluster.isExternal));
  if (isOutside) {
    stripExchange(HeaderMap.Request);
    return;
  }
  const node = ownNode();
  setHeader(HeaderMap.Request, METADATA_HEADER, node.metadataHeader);
  setHeader(HeaderMap.Request, ID_HEADER, node.idHeader);
}

/** Server, response: answer in kind. A caller that sent nothing gets nothing, whatever the application put there. */
function sendResponse(stream: Stream): void {
  if (stream.hasPeerMetadata) setHeader(HeaderMap.Response, METADATA_HEADER, ownNode().metadataHeader);
  else removeHeader(HeaderMap.Response, METADATA_HEADER);
  if (stream.hasPeerId) setHeader(HeaderMap.Response, ID_HEADER, ownNode().idHeader);
  else removeHeader(HeaderMap.Response, ID_HEADER);
}

/** Client, response: learn who answered, and keep the headers from the application. */
function receiveResponse(stream: Stream): void {
  const isThere = readHeader(HeaderMap.Response, METADATA_HEADER);
  if (isThere && stream.upstreamPeer === null) stream.upstreamPeer = learnPeer(UPSTREAM_STATE, KNOWN_UPSTREAM);
  stripExchange(HeaderMap.Response);
}

function stripExchange(map: HeaderMap): void {
  removeHeader(map, METADATA_HEADER);
  removeHeader(map, ID_HEADER);
}

/** The peer that the header just read describes, told to access loggers too. A peer that another filter left in `state` stays there. */
function learnPeer(state: ArrayBuffer, known: ArrayBuffer): Peer | null {
  const peer = resolvePeer(valuePtr, valueSize);
  if (peer !== null && !readProperty(known)) setFilterState(state, peer.state);
  return peer;
}
