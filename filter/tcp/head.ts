// The head of a direction: its first bytes, as long as they may be the peer's prefix.
//
//   New --> Reading --> Open          what is no prefix passes, what is one is taken off
//              |
//              `--> Watched --> Open  at a gateway, of bytes that could not wait for the rest (exchange.ts)
//
// What waits from the downstream is held by Envoy, which can be told from a tick to go on; but no more than its buffer is sure to hold. All else
// is taken out of the buffer; from the upstream from the first byte on, since what a filter leaves in that one is not sure to stay. Nobody
// but the next bytes can bring it back: Envoy gives a filter no means of writing on its own.

import { noteColdWork } from "../garbage.ts";
import { BufferKind, prependBuffer, readBuffer, stripBuffer, valuePtr, valueSize } from "../host.ts";
import { Exchange } from "../vocabulary/metrics.ts";
import { Writer } from "../wire/writer.ts";
import { countExchange } from "./exchange-counters.ts";
import { HEADER_SIZE, judge, MAGIC_SIZE, matchesMagic, openPrefix, prefixSize, START_SIZE, Verdict } from "./prefix.ts";

/** Envoy is asked to hold no more: a listener's buffer may be small (`per_connection_buffer_limit_bytes`), and nothing is read beyond it. */
const MAX_WAITING: u32 = 4096;

/** How far the bytes of a direction are. */
export enum Way {
  /** None came yet, and what to do with them is not decided. */
  New,
  /** The first ones may be the peer's prefix. */
  Reading,
  /** They pass, but must not become a prefix. */
  Watched,
  /** They pass. */
  Open,
}

/** What became of the first bytes. `passing` of them go on. */
export enum Outcome {
  /** They may still become a prefix. */
  Waiting,
  /** No prefix. */
  None,
  /** No prefix, although they begin with its magic and length. */
  Broken,
  /** The beginning of a prefix that does not go on. */
  Cut,
  /** A prefix, which was taken off and is open (prefix.ts). */
  Found,
}

/** Bytes that were taken out of the buffer. */
@final
class Held {
  readonly bytes: Writer = new Writer();
  /** Size of the prefix that they are of; 0 while that is not known. */
  wanted: u32 = 0;

  get size(): u32 {
    return <u32>this.bytes.length;
  }
}

@final
export class Head {
  way: Way = Way.New;
  /** How many bytes go on, after `inspect`. */
  passing: u32 = 0;
  /** How many bytes Envoy holds for us. */
  waiting: u32 = 0;
  /** How many bytes of a prefix's magic passed, where the way is Watched. */
  private watched: u32 = 0;
  private held: Held | null = null;
  /** Whether what was taken out waits for no more than the next bytes. */
  private isOverdue: bool = false;

  constructor(private readonly buffer: BufferKind) {}

  clear(): void {
    this.way = Way.New;
    this.waiting = 0;
    this.held = null;
    this.isOverdue = false;
  }

  get isHolding(): bool {
    return this.waiting > 0 || this.held !== null;
  }

  /** Whether bytes wait that say they are a prefix: the magic is whole. */
  get isClaim(): bool {
    return this.waiting >= MAGIC_SIZE || this.held !== null;
  }

  /** From now on what was taken out waits for the next bytes alone. */
  giveUp(): void {
    this.isOverdue = true;
  }

  /** What Envoy held is to go on. Returns how many bytes. */
  letGo(isWatched: bool): u32 {
    const size = this.waiting;
    this.waiting = 0;
    this.watched = size;
    this.way = isWatched ? Way.Watched : Way.Open;
    return size;
  }

  /** Whether the bytes that follow those that were let go make up a prefix's magic. If they do not, the way is open. */
  completesMagic(size: u32): bool {
    if (size === 0) return false;
    const seen = readBuffer(this.buffer, min(size, MAGIC_SIZE - this.watched)) ? <u32>valueSize : 0;
    if (seen === 0 || !matchesMagic(valuePtr, this.watched, seen)) {
      this.way = Way.Open;
      return false;
    }
    this.watched += seen;
    return this.watched === MAGIC_SIZE;
  }

  /**
   * Looks at the bytes: `size` are in the buffer now. `isLoose`: whether magic and length are enough to wait for the rest. After a prefix what follows
   * it may be inspected again.
   */
  inspect(size: u32, isEnd: bool, isLoose: bool): Outcome {
    this.waiting = 0;
    const held = this.held;
    if (held === null) return this.inspectBuffer(size, isEnd, isLoose);
    return held.wanted === 0 ? this.inspectBegun(held, size, isEnd, isLoose) : this.gather(held, size, isEnd);
  }

  /** Drops what was to pass. */
  drop(): void {
    if (stripBuffer(this.buffer, this.passing)) this.passing = 0;
  }

  /** Nothing was taken out so far. */
  private inspectBuffer(size: u32, isEnd: bool, isLoose: bool): Outcome {
    this.passing = size;
    if (size === 0) return isEnd ? Outcome.None : Outcome.Waiting;
    const verdict = readBuffer(this.buffer, min(size, START_SIZE))
      ? judge(valuePtr, <u32>valueSize, isLoose)
      : Verdict.None;
    if (verdict === Verdict.None) return Outcome.None;
    if (verdict === Verdict.Broken) return Outcome.Broken;
    if (verdict === Verdict.Begun && size >= prefixSize) return this.takeOff();
    if (isEnd) return Outcome.Cut;
    if (size < HEADER_SIZE) countExchange(Exchange.InitialHeaderNotFound);
    if (this.buffer === BufferKind.Downstream && size < MAX_WAITING) {
      this.waiting = size;
      return Outcome.Waiting;
    }
    return this.takeOut(size, verdict === Verdict.Begun ? prefixSize : 0);
  }

  /** The whole prefix is in the buffer. */
  private takeOff(): Outcome {
    const size = prefixSize;
    const isPrefix = readBuffer(this.buffer, size) && openPrefix(valuePtr, <u32>valueSize);
    if (!isPrefix || !stripBuffer(this.buffer, size)) return Outcome.Broken;
    this.passing -= size;
    return Outcome.Found;
  }

  private takeOut(size: u32, wanted: u32): Outcome {
    noteColdWork(1);
    const held = new Held();
    if (!this.move(held, size)) return Outcome.Broken; // they pass as they are
    held.wanted = wanted;
    this.held = held;
    this.isOverdue = false;
    this.passing = 0;
    return Outcome.Waiting;
  }

  /** Less than a prefix's beginning was taken out so far. */
  private inspectBegun(held: Held, size: u32, isEnd: bool, isLoose: bool): Outcome {
    if (!this.move(held, size)) return this.putBack(held, size, Outcome.Broken);
    const verdict = judge(held.bytes.ptr, held.size, isLoose);
    if (verdict === Verdict.None) return this.putBack(held, 0, Outcome.None);
    if (verdict === Verdict.Broken) return this.putBack(held, 0, Outcome.Broken);
    if (verdict === Verdict.Begun) held.wanted = prefixSize;
    if (verdict === Verdict.Begun && held.size >= prefixSize) return this.openHeld(held, 0);
    if (isEnd || this.isOverdue) return this.putBack(held, 0, Outcome.Cut);
    if (held.size < HEADER_SIZE) countExchange(Exchange.InitialHeaderNotFound);
    this.passing = 0;
    return Outcome.Waiting;
  }

  /** More of a prefix whose size is known. */
  private gather(held: Held, size: u32, isEnd: bool): Outcome {
    const more = min(size, held.wanted - held.size);
    if (!this.move(held, more)) return this.putBack(held, size, Outcome.Broken);
    if (held.size >= held.wanted) return this.openHeld(held, size - more);
    if (isEnd || this.isOverdue) return this.putBack(held, 0, Outcome.Cut);
    this.passing = 0;
    return Outcome.Waiting;
  }

  /** The whole prefix was taken out, and perhaps more; `rest` bytes are in the buffer. */
  private openHeld(held: Held, rest: u32): Outcome {
    if (!openPrefix(held.bytes.ptr, held.wanted)) return this.putBack(held, rest, Outcome.Broken);
    const beyond = held.size - held.wanted;
    if (beyond > 0) prependBuffer(this.buffer, held.bytes.ptr + held.wanted, beyond);
    this.held = null;
    this.passing = beyond + rest;
    return Outcome.Found;
  }

  /** Puts what was taken out before the `rest` bytes that are in the buffer. */
  private putBack(held: Held, rest: u32, outcome: Outcome): Outcome {
    prependBuffer(this.buffer, held.bytes.ptr, held.size);
    this.held = null;
    this.passing = held.size + rest;
    return outcome;
  }

  /** Moves the first bytes of the buffer to those that were taken out; false when that fails. */
  private move(held: Held, size: u32): bool {
    if (size === 0) return true;
    if (!readBuffer(this.buffer, size) || !stripBuffer(this.buffer, size)) return false;
    noteColdWork(1 + (size >> 9)); // the room for it is doubled as it grows
    held.bytes.copy(valuePtr, <i32>size);
    return true;
  }
}
