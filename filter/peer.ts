// The other end of a call, as its metadata header tells it. Decoded once per distinct header, in a bounded cache.
//
// Istio caches by the peer's id, so a peer whose labels change under the same id stays stale there. Here the header's bytes are
// the key: the content is always the peer's own last word, and the id is never needed to look it up.

import * as arena from "./arena.ts";
import { encodePeerStruct } from "./expression/peer-state.ts";
import { noteColdWork } from "./garbage.ts";
import { countFault } from "./host.ts";
import { Table } from "./table.ts";
import { Fault } from "./vocabulary/metrics.ts";
import { decodeBase64, decodedSize } from "./wire/base64.ts";
import { decodeWorkload, encodePeerState, Workload } from "./workload.ts";

/** Twice Istio's cache, since a peer that is not there costs 45 us more. When it is full the oldest quarter goes. */
const MAX_PEERS = 1000;
const PEERS_KEPT = 750;

/** A longer header is no metadata of ours or Istio's (about 600 bytes, some KiB with many labels): it counts as malformed. */
const MAX_HEADER_BYTES: usize = 16 * 1024;

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

/** The peer that the metadata header (base64, `size` bytes at `ptr`) describes; null, and counted, when it is malformed. */
export function resolvePeer(ptr: usize, size: usize): Peer | null {
  const known = peers.find(ptr, size);
  if (known !== null) return known;
  noteColdWork();
  const peer = decodePeer(ptr, size);
  if (peer === null) {
    countFault(Fault.PeerMalformed);
    return null;
  }
  if (size <= MAX_CACHED_BYTES) {
    if (peers.isFull) {
      countFault(Fault.PeersFull);
      peers.keepNewest(PEERS_KEPT);
    }
    peers.add(ptr, size, peer);
  }
  return peer;
}

function decodePeer(ptr: usize, size: usize): Peer | null {
  if (size > MAX_HEADER_BYTES) return null;
  const bytes = arena.allocate(decodedSize(size));
  const length = decodeBase64(ptr, size, bytes);
  if (length < 0) return null;
  const workload = decodeWorkload(bytes, length);
  if (workload === null) return null;
  return new Peer(nextSerial++, workload, encodePeerState(workload));
}
