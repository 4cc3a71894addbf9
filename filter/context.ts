// Contexts: what is known of each request and each connection between its callbacks, found by the id that the host gave it.

import { Ends } from "./ends.ts";
import { Root } from "./root.ts";

/** A request or a connection. Reused: contexts come from a pool. */
export abstract class Context extends Ends {
  id: u32 = 0;
  root: Root | null = null;

  /** Begins; everything else is as `clear` left it. */
  open(id: u32, root: Root): void {
    this.id = id;
    this.root = root;
  }

  /** Lets go of what it held: it may be given out again. */
  clear(): void {
    this.root = null;
    this.forgetEnds();
  }

  get rootId(): u32 {
    const root = this.root;
    return root === null ? 0 : root.id;
  }
}

/** Contexts of one kind: open addressing by id, and a pool of those that are free. */
@final
export class Contexts<T extends Context> {
  private slots: StaticArray<T | null> = new StaticArray<T | null>(256);
  private pool: T[] = [];
  private count: i32 = 0;

  /** `limit`: how many there are at most. */
  constructor(private readonly limit: i32) {}

  get inFlight(): i32 {
    return this.count;
  }

  /** Begins one; null when there are too many. */
  open(id: u32, root: Root): T | null {
    if (this.count >= this.limit) return null;
    if (this.count * 2 >= this.slots.length) this.grow();
    const context = this.pool.length > 0 ? this.pool.pop() : instantiate<T>();
    context.open(id, root);
    this.put(context);
    return context;
  }

  /** For a walk during which none begins or ends: the slots as they are, with holes. */
  get capacity(): i32 {
    return this.slots.length;
  }

  at(slot: i32): T | null {
    return this.slots[slot];
  }

  find(id: u32): T | null {
    const mask = this.slots.length - 1;
    let at = home(id, mask);
    let context = this.slots[at];
    while (context !== null && context.id !== id) {
      at = (at + 1) & mask;
      context = this.slots[at];
    }
    return context;
  }

  /** Ends one: it may be given out again at once. */
  close(context: T): void {
    const mask = this.slots.length - 1;
    let hole = home(context.id, mask);
    while (this.slots[hole] !== context) hole = (hole + 1) & mask;
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
    context.clear();
    this.pool.push(context);
  }

  private put(context: T): void {
    const mask = this.slots.length - 1;
    let at = home(context.id, mask);
    while (this.slots[at] !== null) at = (at + 1) & mask;
    this.slots[at] = context;
    this.count++;
  }

  private grow(): void {
    const before = this.slots;
    this.slots = new StaticArray<T | null>(before.length * 2);
    this.count = 0;
    for (let i = 0; i < before.length; i++) {
      const context = before[i];
      if (context !== null) this.put(context);
    }
  }
}

/** Context ids come in sequence; left as they are they would form one long run, which closing a context would have to walk. */
function home(id: u32, mask: i32): i32 {
  return <i32>((id * 0x9e3779b1) >> 8) & mask;
}
