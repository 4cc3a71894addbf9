// HTTP streams: the order of callbacks and the metadata exchange (ISTIO's section "HTTP"), nothing else.
//
//   VM --1:N--> Root (a plugin configuration) --1:N--> Stream (a request)
//   request headers --> response headers --> log
//
// A stream's state lives from its request headers to its log. Bad requests come to the log alone.

import { currentCluster } from "./cluster.ts";
import { Config, Direction, EXCHANGE_BY_DIRECTION, EXCHANGE_DOWNSTREAM, EXCHANGE_UPSTREAM } from "./config.ts";
import {
  countFault,
  HeaderMap,
  readHeader,
  readNumber,
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
import { Request } from "./request.ts";
import { countRequest } from "./stat.ts";
import { Fault } from "./vocabulary/metrics.ts";
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
const LISTENER_DIRECTION = utf8("xds\0listener_direction");
const LISTENER_INBOUND: u64 = 1;

/** A plugin configuration in force. */
@final
export class Root {
  config: Config = new Config();

  constructor(readonly id: u32) {}
}

/** A request in flight. Reused: streams come from a pool. */
@final
export class Stream {
  id: u32 = 0;
  root: Root | null = null;
  peer: Peer | null = null;
  isInbound: bool = false;
  isDirectionKnown: bool = false;
  /** Whether the request carried the peer's headers: then the answer carries ours. */
  hasPeerId: bool = false;
  hasPeerMetadata: bool = false;

  open(id: u32, root: Root): void {
    this.id = id;
    this.root = root;
    this.peer = null;
    this.isDirectionKnown = false;
    this.hasPeerId = false;
    this.hasPeerMetadata = false;
  }
}

const request = new Request();

export function onRequestHeaders(stream: Stream, config: Config): void {
  const sides = exchangeSides(stream, config);
  if (sides & EXCHANGE_DOWNSTREAM) receiveRequest(stream, config);
  if (sides & EXCHANGE_UPSTREAM) sendRequest(config);
}

export function onResponseHeaders(stream: Stream, config: Config): void {
  const sides = exchangeSides(stream, config);
  if (sides & EXCHANGE_UPSTREAM) receiveResponse(stream, config);
  if (sides & EXCHANGE_DOWNSTREAM) sendResponse(stream);
}

export function onLog(stream: Stream, config: Config): void {
  const isDestination = isInbound(stream, config);
  request.read(isDestination, stream.peer, !config.disableHostHeaderFallback);
  countRequest(request, ownNode(), config.maxLabelSets);
}

function isInbound(stream: Stream, config: Config): bool {
  if (stream.isDirectionKnown) return stream.isInbound;
  stream.isDirectionKnown = true;
  stream.isInbound =
    config.direction === Direction.Auto
      ? readNumber(LISTENER_DIRECTION, 0) === LISTENER_INBOUND
      : config.direction === Direction.Inbound;
  return stream.isInbound;
}

function exchangeSides(stream: Stream, config: Config): i32 {
  const isDestination = isInbound(stream, config);
  if (config.exchange !== EXCHANGE_BY_DIRECTION) return config.exchange;
  return isDestination ? EXCHANGE_DOWNSTREAM : EXCHANGE_UPSTREAM;
}

/** Server, request: learn who calls, and keep the headers from the application. */
function receiveRequest(stream: Stream, config: Config): void {
  stream.hasPeerId = readHeader(HeaderMap.Request, ID_HEADER);
  stream.hasPeerMetadata = readHeader(HeaderMap.Request, METADATA_HEADER);
  if (stream.hasPeerMetadata) learnPeer(stream, isInbound(stream, config), DOWNSTREAM_STATE, KNOWN_DOWNSTREAM);
  stripExchange(HeaderMap.Request);
}

/** Client, request: say who we are, unless the cluster is outside the mesh; then nothing of the kind may pass. */
function sendRequest(config: Config): void {
  const cluster = currentCluster();
  const isOutside =
    cluster !== null && (cluster.isExchangeDisabled || (config.skipExternalClusters && cluster.isExternal));
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
function receiveResponse(stream: Stream, config: Config): void {
  if (readHeader(HeaderMap.Response, METADATA_HEADER)) {
    learnPeer(stream, !isInbound(stream, config), UPSTREAM_STATE, KNOWN_UPSTREAM);
  }
  stripExchange(HeaderMap.Response);
}

function stripExchange(map: HeaderMap): void {
  removeHeader(map, METADATA_HEADER);
  removeHeader(map, ID_HEADER);
}

/**
 * Takes the peer from the header just read. It becomes the labels' peer if it is `theOther`, the other end of this proxy's hop: a
 * gateway that also exchanges with its downstream tells access loggers of that one alone. The first peer of a stream stays, also
 * one that another filter left in `state`.
 */
function learnPeer(stream: Stream, theOther: bool, state: ArrayBuffer, known: ArrayBuffer): void {
  const peer = resolvePeer(valuePtr, valueSize);
  if (peer === null) return;
  if (theOther && stream.peer === null) stream.peer = peer;
  if (!readProperty(known)) setFilterState(state, peer.state);
}

/**
 * More streams in flight than this, on one worker, are counted without their state (their peer is unknown), and that is counted.
 * Each may hold a peer of its own, of some 16 KiB if it means harm: 256 MiB, far from what would trap.
 */
const MAX_STREAMS = 16384;

/** The streams in flight: open addressing by context id, and a pool of those that are free. */
@final
export class Streams {
  private slots: StaticArray<Stream | null> = new StaticArray<Stream | null>(256);
  private pool: Stream[] = [];
  private count: i32 = 0;

  get inFlight(): i32 {
    return this.count;
  }

  /** Begins a stream. When there are too many it is not kept, and that is counted. */
  open(id: u32, root: Root): void {
    if (this.count >= MAX_STREAMS) {
      countFault(Fault.StreamsFull);
      return;
    }
    if (this.count * 2 >= this.slots.length) this.grow();
    const stream = this.pool.length > 0 ? this.pool.pop() : new Stream();
    stream.open(id, root);
    this.put(stream);
  }

  find(id: u32): Stream | null {
    const mask = this.slots.length - 1;
    let at = home(id, mask);
    let stream = this.slots[at];
    while (stream !== null && stream.id !== id) {
      at = (at + 1) & mask;
      stream = this.slots[at];
    }
    return stream;
  }

  /** Ends a stream: it may be given out again at once. */
  close(stream: Stream): void {
    const mask = this.slots.length - 1;
    let hole = home(stream.id, mask);
    while (this.slots[hole] !== stream) hole = (hole + 1) & mask;
    // Entries behind the hole move up, unless that would put them before their home: no tombstones.
    let at = (hole + 1) & mask;
    let next = this.slots[at];
    while (next !== null) {
      if (((at - home(next.id, mask)) & mask) >= ((at - hole) & mask)) {
        this.slots[hole] = next;
        hole = at;
      }
      at = (at + 1) & mask;
      next = this.slots[at];
    }
    this.slots[hole] = null;
    this.count--;
    stream.root = null;
    stream.peer = null;
    this.pool.push(stream);
  }

  private put(stream: Stream): void {
    const mask = this.slots.length - 1;
    let at = home(stream.id, mask);
    while (this.slots[at] !== null) at = (at + 1) & mask;
    this.slots[at] = stream;
    this.count++;
  }

  private grow(): void {
    const before = this.slots;
    this.slots = new StaticArray<Stream | null>(before.length * 2);
    this.count = 0;
    for (let i = 0; i < before.length; i++) {
      const stream = before[i];
      if (stream !== null) this.put(stream);
    }
  }
}

/** Context ids come in sequence; left as they are they would form one long run, which closing a stream would have to walk. */
function home(id: u32, mask: i32): i32 {
  return <i32>((id * 0x9e3779b1) >> 8) & mask;
}
