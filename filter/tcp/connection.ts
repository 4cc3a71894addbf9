// A TCP connection: what it carried, how far the exchange is, and what of it was reported. And queues of connections.

import { Context } from "../context.ts";
import { LabelSet } from "../label-set.ts";
import { Root } from "../root.ts";
import { Held } from "./held.ts";

/**
 * More connections than this, on one worker, are counted when they end, and have no exchange. Each takes some 200 bytes; it holds its peer
 * only until it is reported.
 */
export const MAX_CONNECTIONS = 262144;

/** How far the bytes of one direction are. */
export enum Way {
  /** None came yet, and what to do with them is not decided. */
  New,
  /** The first ones may be the peer's prefix. */
  Reading,
  /** They pass. */
  Open,
}

@final
export class Connection extends Context {
  /** Bytes that passed so far, without prefixes: from the downstream, and to it. */
  received: u64 = 0;
  sent: u64 = 0;
  reportedReceived: u64 = 0;
  reportedSent: u64 = 0;

  downstream: Way = Way.New;
  upstream: Way = Way.New;
  /** Whether metadata is exchanged with the downstream. */
  isListening: bool = false;
  /** Whether our prefix is still to be sent to the upstream, and to the downstream as an answer. */
  isSending: bool = false;
  isAnswering: bool = false;
  /** Whether the upstream has spoken: it is too late for an answer. */
  hasSpoken: bool = false;
  /** Bytes from the downstream that Envoy holds for us, and when they must go on. */
  heldDownstream: u32 = 0;
  holdUntilMs: u64 = 0;
  /** Bytes from the upstream that we took out until more of them come; null mostly. */
  heldUpstream: Held | null = null;

  /** When it must be reported. */
  deadlineMs: u64 = 0;
  /** Envoy's id of it. */
  number: u64 = 0;
  /** The label set that it was opened under, once it is reported, and the configuration that said so. */
  set: LabelSet | null = null;
  configSerial: u32 = 0;
  /** The label set of its bytes since its peer became known, if that was later; and how many there had been before. */
  laterSet: LabelSet | null = null;
  receivedBefore: u64 = 0;
  sentBefore: u64 = 0;

  /** The queue that it is in, and its neighbours there. */
  queue: Queue | null = null;
  previous: Connection | null = null;
  next: Connection | null = null;

  open(id: u32, root: Root): void {
    super.open(id, root);
    this.received = 0;
    this.sent = 0;
    this.reportedReceived = 0;
    this.reportedSent = 0;
    this.downstream = Way.New;
    this.upstream = Way.New;
    this.isListening = false;
    this.isSending = false;
    this.isAnswering = false;
    this.hasSpoken = false;
    this.heldDownstream = 0;
    this.deadlineMs = root.deadlineMs();
  }

  clear(): void {
    super.clear();
    this.leaveQueue();
    this.set = null;
    this.laterSet = null;
    this.heldUpstream = null;
  }

  leaveQueue(): void {
    const queue = this.queue;
    if (queue !== null) queue.remove(this);
  }

  /** The label set that its bytes are counted under. */
  get byteSet(): LabelSet | null {
    const later = this.laterSet;
    return later !== null ? later : this.set;
  }

  /** Whether nothing is to be done with further bytes of a direction but to count them. */
  get isDownstreamOpen(): bool {
    return this.downstream === Way.Open && !this.isSending;
  }

  get isUpstreamOpen(): bool {
    return this.upstream === Way.Open && this.hasSpoken;
  }

  get hasNewBytes(): bool {
    return this.sent !== this.reportedSent || this.received !== this.reportedReceived;
  }

  /** Lets go of the peers, once its labels are settled: it may live long, and they may be large. */
  forgetPeers(): void {
    this.downstreamPeer = null;
    this.upstreamPeer = null;
  }
}

/** Connections, linked through themselves: taking one out of the middle is as cheap as from the end, and nothing is allocated. */
@final
export class Queue {
  first: Connection | null = null;
  private last: Connection | null = null;

  /** Puts a connection at the end. It must be in no queue. */
  add(connection: Connection): void {
    const last = this.last;
    connection.queue = this;
    connection.previous = last;
    if (last === null) this.first = connection;
    else last.next = connection;
    this.last = connection;
  }

  /** Takes a connection of this queue out. */
  remove(connection: Connection): void {
    const previous = connection.previous;
    const next = connection.next;
    if (previous === null) this.first = next;
    else previous.next = next;
    if (next === null) this.last = previous;
    else next.previous = previous;
    connection.queue = null;
    connection.previous = null;
    connection.next = null;
  }
}
