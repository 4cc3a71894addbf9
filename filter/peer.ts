// The other end of a call, as its metadata header tells it. Decoded once per distinct header, in a bounded cache.
//
// Istio caches by the peer's id, so a peer whose labels change under the same id stays stale there. Here the header's bytes are
// the key: the content is always the peer's own last word, and the id is never needed to look it up.

import * as arena from "./arena.ts";
import { ExchangeConfig } from "./config/exchange.ts";
import { encodePeerStruct } from "./expression/peer-state.ts";
import { noteColdWork } from "./garbage.ts";
import { countFault, readProperty, setFilterState, utf8 } from "./host.ts";
import { Table } from "./table.ts";
import { Fault } from "./vocabulary/metrics.ts";
import { spiffeNamespace } from "./vocabulary/name-rules.ts";
import { DOWNSTREAM_PEER, UPSTREAM_PEER, WASM_STATE_PREFIX } from "./vocabulary/peer-metadata.ts";
import { decodeBase64, decodedSize } from "./wire/base64.ts";
import { copyOf } from "./wire/bytes.ts";
import { decodePeerWorkload, encodePeerState, Workload } from "./workload.ts";

/** As many as Istio's. When it is full the oldest quarter goes; one that is not there costs 45 us more. */
const MAX_PEERS = 500;
const PEERS_KEPT = 375;

/** A longer header is decoded each time instead of being held as a key. */
const MAX_CACHED_BYTES: usize = 4 * 1024;

/** What a peer said of itself: its header, decoded again where its parts are asked for, which is on cold paths alone. */
export class Peer {
  private knownStruct: StaticArray<u8> | null = null;

  constructor(
    /** Different for each Peer of this VM: stands for its content in keys. */
    readonly serial: u32,
    private readonly header: StaticArray<u8>,
    private readonly additionalLabels: readonly string[],
    /** FlatNode for access loggers. */
    readonly state: StaticArray<u8>,
    /** Whether it says who it is: else its labels are those of nobody (collector/series/unified.ts). */
    readonly isNamed: bool,
  ) {}

  workload(): Workload {
    const decoded = decodeHeader(changetype<usize>(this.header), this.header.length, this.additionalLabels);
    return decoded === null ? new Workload() : decoded; // never null: it was decoded before
  }

  /** Struct for expressions, made when one first asks for it. */
  struct(): StaticArray<u8> {
    const known = this.knownStruct;
    if (known !== null) return known;
    noteColdWork();
    const encoded = encodePeerStruct(this.workload());
    this.knownStruct = encoded;
    return encoded;
  }
}

const peers = new Table<Peer>(MAX_PEERS);
let nextSerial: u32 = 1;

const DOWNSTREAM_STATE = utf8(DOWNSTREAM_PEER);
const UPSTREAM_STATE = utf8(UPSTREAM_PEER);
const KNOWN_DOWNSTREAM = utf8("filter_state\0" + WASM_STATE_PREFIX + DOWNSTREAM_PEER);
const KNOWN_UPSTREAM = utf8("filter_state\0" + WASM_STATE_PREFIX + UPSTREAM_PEER);

/** The downstream peer of the current stream, which its metadata header describes; told to access loggers too. */
export function learnDownstreamPeer(ptr: usize, size: usize, exchange: ExchangeConfig): Peer | null {
  return learnPeer(ptr, size, exchange, DOWNSTREAM_STATE, KNOWN_DOWNSTREAM);
}

/** The same of the upstream peer. */
export function learnUpstreamPeer(ptr: usize, size: usize, exchange: ExchangeConfig): Peer | null {
  return learnPeer(ptr, size, exchange, UPSTREAM_STATE, KNOWN_UPSTREAM);
}

/** A peer that another filter left in `state` stays there. */
function learnPeer(
  ptr: usize,
  size: usize,
  exchange: ExchangeConfig,
  state: ArrayBuffer,
  known: ArrayBuffer,
): Peer | null {
  const peer = resolvePeer(ptr, size, exchange);
  if (peer !== null && !readProperty(known)) setFilterState(state, peer.state);
  return peer;
}

/**
 * The peer that the metadata header (base64, `size` bytes at `ptr`) describes; null, and counted, when it is malformed or longer than
 * the configuration allows.
 */
function resolvePeer(ptr: usize, size: usize, exchange: ExchangeConfig): Peer | null {
  if (size > <usize>exchange.maxHeaderBytes) {
    countFault(Fault.PeerTooLarge);
    return null;
  }
  const known = peers.find(ptr, size);
  if (known !== null) return known;
  noteColdWork();
  const workload = decodeHeader(ptr, size, exchange.additionalLabels);
  if (workload === null) {
    countFault(Fault.PeerMalformed);
    return null;
  }
  const header = copyOf(ptr, size);
  const peer = new Peer(nextSerial++, header, exchange.additionalLabels, encodePeerState(workload), workload.isNamed);
  // A peer some of whose labels were left out is not held: another configuration of this VM may keep others.
  if (size <= MAX_CACHED_BYTES && !workload.isCut) keep(header, peer);
  return peer;
}

function keep(header: StaticArray<u8>, peer: Peer): void {
  if (peers.isFull) {
    countFault(Fault.PeersFull);
    peers.keepNewest(PEERS_KEPT);
  }
  peers.addShared(header, 0, peer);
}

/** Null when it is no base64 of a Struct. */
function decodeHeader(ptr: usize, size: usize, additionalLabels: readonly string[]): Workload | null {
  const bytes = arena.allocate(decodedSize(size));
  const length = decodeBase64(ptr, size, bytes);
  return length < 0 ? null : decodePeerWorkload(bytes, length, additionalLabels);
}

/**
 * Whether a peer says of itself what its certificate (`principal`, its URI SAN, "" without one) does not: another namespace than
 * `spiffe://td/ns/NAMESPACE/sa/...`, or another identity.
 */
export function contradicts(workload: Workload, principal: string): bool {
  if (principal.length === 0) return false;
  if (workload.identity.length > 0 && workload.identity !== principal) return true;
  const namespace = spiffeNamespace(principal);
  return namespace.length > 0 && workload.namespace.length > 0 && namespace !== workload.namespace;
}
