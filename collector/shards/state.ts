// ShardState: a shard's part of the saved state. What is told of its series is what was saved before, so that it never goes down.

import type { SeriesStore } from "../series/store.ts";
import { SavedStore } from "../state/saved-store.ts";
import { readStores, type StateFile } from "../state/state-file.ts";
import { ChangeReader } from "./changes.ts";
import { hash } from "./hash.ts";
import type { SeriesChanges } from "./messages.ts";

export interface ShardStateOptions {
  /** What the last process saved of its stores; null when there is none. */
  readonly restored: StateFile | null;
  /** Number of this shard, and of how many. */
  readonly shard: number;
  readonly shards: number;
}

export class ShardState {
  private readonly saved: SavedStore;
  private readonly changes: ChangeReader;
  private readonly shard: number;
  /** What the state under way has, and what was saved and not told yet. */
  private pending: SeriesChanges[] = [];
  private ready: SeriesChanges[] = [];
  private work: Generator<Buffer> | null = null;

  constructor(store: SeriesStore, options: ShardStateOptions) {
    const { restored, shard, shards } = options;
    this.saved = new SavedStore(store);
    this.changes = new ChangeReader(store);
    const owns = (proxyId: string) => hash(proxyId) % shards === shard;
    if (restored !== null) this.saved.restore(readStores(restored), { shard, shards, owns });
    this.shard = shard;
    this.ready.push(...this.changes.pieces());
  }

  /** The next piece of the state, a new one's if none is under way; null when it has all of them. Some ms of work. */
  nextPiece(): Uint8Array | null {
    this.work ??= this.pieces();
    const { value, done } = this.work.next();
    if (done !== true) return value;
    this.work = null;
    return null;
  }

  /** The state is saved: from now on what it has is told. */
  release(): void {
    this.work = null; // it may have been given up
    for (const changes of this.pending) this.ready.push(changes);
    this.pending = [];
  }

  /** What was saved since this was asked last. */
  takeChanges(): readonly SeriesChanges[] {
    const taken = this.ready;
    this.ready = [];
    return taken;
  }

  /** Totals first: what is counted after them is in the state, but need not be. What is over goes before: meanwhile all stays that is held. */
  private *pieces(): Generator<Buffer> {
    this.saved.letGo();
    for (const changes of this.changes.pieces()) {
      this.pending.push(changes);
      yield NOTHING;
    }
    this.saved.begin(this.shard);
    for (let piece = this.saved.nextPiece(); piece !== null; piece = this.saved.nextPiece()) yield piece;
  }
}

/** Of a piece of work that says nothing. */
const NOTHING = Buffer.alloc(0);
