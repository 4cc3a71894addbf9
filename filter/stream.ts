// Streams in flight: what is known of each between its callbacks.
//
//   VM --1:N--> Root (a plugin configuration) --1:N--> Stream (a request)
//
// A stream's state lives from its first callback to its log. Bad requests come to the log alone.

import { declareAccessLogPolicy } from "./access-log-policy.ts";
import { Config } from "./config/config.ts";
import { Ends } from "./ends.ts";
import { declarePeerStates } from "./expression/peer-state.ts";
import { countFault, setTickPeriod } from "./host.ts";
import { LabelSet } from "./label-set.ts";
import { Fault } from "./vocabulary/metrics.ts";

/** A plugin configuration in force. */
@final
export class Root {
  config: Config = new Config();

  constructor(readonly id: u32) {}

  /** Puts a configuration into force, in place of the one before. Called in this root's callback. */
  configure(config: Config): void {
    const before = this.config.custom;
    if (before !== null) before.operands.release();
    this.config = config;
    if (config.custom !== null) declarePeerStates();
    if (config.accessLog !== null) declareAccessLogPolicy();
    setTickPeriod(config.reportingIntervalMs);
  }
}

/** A request in flight. Reused: streams come from a pool. */
@final
export class Stream extends Ends {
  id: u32 = 0;
  root: Root | null = null;
  /** Whether the request carried the peer's headers: then the answer carries ours. */
  hasPeerId: bool = false;
  hasPeerMetadata: bool = false;
  /** Whether Envoy runs us as an access logger: the stream has no context of ours, and nothing can be left for the other loggers. */
  isAccessLog: bool = false;
  /** Whether its response headers came. */
  isAnswered: bool = false;
  /** The label set under which its gRPC messages are counted, once they are, and how many were. */
  messageSet: LabelSet | null = null;
  reportedRequests: u64 = 0;
  reportedResponses: u64 = 0;

  open(id: u32, root: Root): void {
    this.id = id;
    this.root = root;
    this.hasPeerId = false;
    this.hasPeerMetadata = false;
    this.isAccessLog = false;
    this.isAnswered = false;
    this.reportedRequests = 0;
    this.reportedResponses = 0;
  }

  /** Lets go of what the stream held: it may be given out again. */
  clear(): void {
    this.root = null;
    this.messageSet = null;
    this.forgetEnds();
  }

  get rootId(): u32 {
    const root = this.root;
    return root === null ? 0 : root.id;
  }
}

/**
 * More streams in flight than this, on one worker, are counted without their state (their peer is unknown), and that is counted.
 * Each may hold a peer of its own, which at the largest `max_header_bytes` takes some 64 KiB if it means harm: 1 GiB, far from the
 * 4 GiB at which memory would end.
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

  /** For a walk during which no stream begins or ends: the slots as they are, with holes. */
  get capacity(): i32 {
    return this.slots.length;
  }

  at(slot: i32): Stream | null {
    return this.slots[slot];
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
    stream.clear();
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
