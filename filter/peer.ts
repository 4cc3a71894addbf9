// The other end of a call, as its metadata header tells it. Decoded once per distinct header, in a bounded cache.
//
// Istio caches by the peer's id, so a peer whose labels change under the same id stays stale there. Here the header's bytes are
// the key: the content is always the peer's own last word, and the id is never needed to look it up.

import * as arena from "./arena.ts";
import { ExchangeConfig } from "./config/exchange.ts";
import { encodePeerStruct } from "./expression/peer-state.ts";
import { noteColdWork } from "./garbage.ts";
import { countFault } from "./host.ts";
import { Table } from "./table.ts";
import { Fault } from "./vocabulary/metrics.ts";
import { spiffeNamespace } from "./vocabulary/name-rules.ts";
import { decodeBase64, decodedSize } from "./wire/base64.ts";
import { decodePeerWorkload, encodePeerState, Workload } from "./workload.ts";

/** Twice Istio's cache, since a peer that is not there costs 45 us more. When it is full the oldest quarter goes. */
const MAX_PEERS = 1000;
const PEERS_KEPT = 750;

/** A longer header is decoded each time instead of being held as a key. */
const MAX_CACHED_BYTES: usize = 4 * 1024;

export class Peer {
  private knownStruct: StaticArray<u8> | null = null;

  constructor(
    /** Different for each Peer of this VM: stands for its content in keys. */
    readonly serial: u32,
    readonly workload: Workload,
    /** FlatNode for access loggers. */
    readonly state: StaticArray<u8>,
  ) {}

  /** Struct for expressions, made when one first asks for it. */
  struct(): StaticArray<u8> {
    const known = this.knownStruct;
    if (known !== null) return known;
    noteColdWork();
    const encoded = encodePeerStruct(this.workload);
    this.knownStruct = encoded;
    return encoded;
  }
}

const peers = new Table<Peer>(MAX_PEERS);
let nextSerial: u32 = 1;

/**
 * The peer that the metadata header (base64, `size` bytes at `ptr`) describes; null, and counted, when it is malformed or longer than
 * the configuration allows.
 */
export function resolvePeer(ptr: usize, size: usize, exchange: ExchangeConfig): Peer | null {
  if (size > <usize>exchange.maxHeaderBytes) {
    countFault(Fault.PeerTooLarge);
    return null;
  }
  const known = peers.find(ptr, size);
  if (known !== null) return known;
  noteColdWork();
  const peer = decodePeer(ptr, size, exchange.additionalLabels);
  if (peer === null) {
    countFault(Fault.PeerMalformed);
    return null;
  }
  // A peer some of whose labels were left out is not held: another configuration of this VM may keep others.
  if (size <= MAX_CACHED_BYTES && !peer.workload.isCut) {
    if (peers.isFull) {
      countFault(Fault.PeersFull);
      peers.keepNewest(PEERS_KEPT);
    }
    peers.add(ptr, size, peer);
  }
  return peer;
}

function decodePeer(ptr: usize, size: usize, additionalLabels: readonly string[]): Peer | null {
  const bytes = arena.allocate(decodedSize(size));
  const length = decodeBase64(ptr, size, bytes);
  if (length < 0) return null;
  const workload = decodePeerWorkload(bytes, length, additionalLabels);
  if (workload === null) return null;
  return new Peer(nextSerial++, workload, encodePeerState(workload));
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
