// Snapshots: copies of the graph's columns over time, each second for two minutes and each ten seconds for fifteen.

export const RETENTION_MS = 900_000;

const FINE_MS = 1000;
const FINE_COUNT = 121;
const COARSE_MS = 10_000;
const COARSE_COUNT = 91;
/** A timer that comes so much early is still in time. */
const SLACK_MS = 500;

export interface Snapshot {
  readonly atMs: number;
  /** Columns that did not exist yet are missing at the end: they were 0. */
  readonly columns: Uint32Array;
}

export class Snapshots {
  private readonly fine: Ring;
  private readonly coarse: Ring;
  private readonly empty: Snapshot;

  constructor(startMs: number) {
    this.empty = { atMs: startMs, columns: new Uint32Array(0) };
    this.fine = new Ring(FINE_COUNT, FINE_MS, startMs);
    this.coarse = new Ring(COARSE_COUNT, COARSE_MS, startMs);
  }

  take(nowMs: number, columns: Uint32Array): void {
    this.fine.take(nowMs, columns);
    this.coarse.take(nowMs, columns);
  }

  /** The latest snapshot that is no later than that; the oldest one there is if all are later. */
  at(timeMs: number): Snapshot {
    return this.fine.latest(timeMs) ?? this.coarse.latest(timeMs) ?? this.coarse.oldest() ?? this.empty;
  }
}

/** The last `count` snapshots, at least `intervalMs` apart. */
class Ring {
  private readonly held: { atMs: number; columns: Uint32Array; used: number }[] = [];
  private next = 0;
  private lastMs: number;

  constructor(
    private readonly count: number,
    private readonly intervalMs: number,
    startMs: number,
  ) {
    this.lastMs = startMs;
  }

  take(nowMs: number, columns: Uint32Array): void {
    if (nowMs - this.lastMs < this.intervalMs - SLACK_MS) return;
    this.lastMs = nowMs;
    const old = this.held[this.next];
    const room = old && old.columns.length >= columns.length ? old.columns : new Uint32Array(columns.length);
    room.set(columns);
    this.held[this.next] = { atMs: nowMs, columns: room, used: columns.length };
    this.next = (this.next + 1) % this.count;
  }

  latest(timeMs: number): Snapshot | null {
    for (let back = 1; back <= this.held.length; back++) {
      const snapshot = this.at(back);
      if (snapshot && snapshot.atMs <= timeMs) return snapshot;
    }
    return null;
  }

  oldest(): Snapshot | null {
    return this.held.length < this.count ? null : this.at(this.held.length);
  }

  private at(back: number): Snapshot | null {
    const held = this.held[(this.next - back + this.held.length) % this.held.length];
    return held ? { atMs: held.atMs, columns: held.columns.subarray(0, held.used) } : null;
  }
}
