// A TCP connection: what it carried, how far the exchange is, and what of it was reported.

import { Context } from "../context.ts";
import { BufferKind } from "../host.ts";
import { LabelSet } from "../label-set.ts";
import { Root } from "../root.ts";
import { Head, Way } from "./head.ts";
import { Link } from "./queue.ts";

/**
 * More connections than this, on one worker, are counted when they end, and have no exchange. Each takes some 400 bytes; it holds its peer
 * only until it is reported.
 */
export const MAX_CONNECTIONS = 262144;

@final
export class Connection extends Context {
  /** Bytes that passed so far, without prefixes: from the downstream, and to it. */
  received: u64 = 0;
  sent: u64 = 0;
  reportedReceived: u64 = 0;
  reportedSent: u64 = 0;

  readonly downstream: Head = new Head(BufferKind.Downstream);
  readonly upstream: Head = new Head(BufferKind.Upstream);
  /** Whether metadata is exchanged with the downstream, and whether it has told who it is. */
  isListening: bool = false;
  isHeard: bool = false;
  /** Whether no prefix from the downstream may pass. */
  isGuarded: bool = false;
  /** Whether our prefix is still to be sent to the upstream, and to the downstream as an answer. */
  isSending: bool = false;
  isAnswering: bool = false;
  /** Whether it is, or was, to be sent to the upstream: then that may answer. */
  isAsking: bool = false;
  /** Whether the downstream has spoken, and whether the upstream has: then it is too late for an answer. */
  hasAsked: bool = false;
  hasSpoken: bool = false;

  /** Envoy's id of it. */
  number: u64 = 0;
  /** The label set that it was opened under, once it is reported, and the configuration that said so. */
  set: LabelSet | null = null;
  configSerial: u32 = 0;
  /** Which peers were known then: bits. */
  reportedPeers: i32 = 0;
  /** The label set of its bytes since its peer became known, if that was later; and how many there had been before. */
  laterSet: LabelSet | null = null;
  receivedBefore: u64 = 0;
  sentBefore: u64 = 0;

  /** Its places among those that are to be reported, and among those whose first bytes wait. */
  readonly report: Link = new Link();
  readonly hold: Link = new Link();

  open(id: u32, root: Root): void {
    super.open(id, root);
    this.received = 0;
    this.sent = 0;
    this.reportedReceived = 0;
    this.reportedSent = 0;
    this.isListening = false;
    this.isHeard = false;
    this.isGuarded = false;
    this.isSending = false;
    this.isAsking = false;
    this.isAnswering = false;
    this.hasAsked = false;
    this.hasSpoken = false;
    this.report.owner = id;
    this.hold.owner = id;
  }

  clear(): void {
    super.clear();
    this.report.leave();
    this.hold.leave();
    this.downstream.clear();
    this.upstream.clear();
    this.set = null;
    this.laterSet = null;
  }

  /** The label set that its bytes are counted under. */
  get byteSet(): LabelSet | null {
    const later = this.laterSet;
    return later !== null ? later : this.set;
  }

  /** Whether nothing is to be done with further bytes of a direction but to count them. */
  get isDownstreamOpen(): bool {
    return this.downstream.way === Way.Open && this.hasAsked;
  }

  get isUpstreamOpen(): bool {
    return this.upstream.way === Way.Open && this.hasSpoken;
  }

  get hasNewBytes(): bool {
    return this.sent !== this.reportedSent || this.received !== this.reportedReceived;
  }

  /** Bits of the peers that are known. */
  get peers(): i32 {
    return (this.downstreamPeer !== null ? 1 : 0) | (this.upstreamPeer !== null ? 2 : 0);
  }

  /** Lets go of the peers once they are told: the connection may live long, and they may be large. */
  forgetPeers(): void {
    if (this.downstream.way !== Way.Open || this.upstream.way !== Way.Open) return;
    this.downstreamPeer = null;
    this.upstreamPeer = null;
  }
}
