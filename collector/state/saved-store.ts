// SavedStore: a shard's store, as it is saved and restored.

import type { Series } from "../series/cell.ts";
import type { Life } from "../series/life.ts";
import type { SeriesStore } from "../series/store.ts";
import { Bases } from "./bases.ts";
import type { ByteReader } from "./bytes.ts";
import { Restore, type Share } from "./restore.ts";
import { type Left, SNAPSHOT_OPTIONS, Snapshot } from "./snapshot.ts";

export class SavedStore {
  private readonly bases: Bases;
  private snapshot: Snapshot | null = null;
  private left: Left[] = [];

  constructor(
    private readonly store: SeriesStore,
    private readonly options = SNAPSHOT_OPTIONS,
  ) {
    this.bases = new Bases(store.shapes);
    store.onRelease = (life) => this.release(life);
    store.onLetGo = (table, series) => this.leave(table, series);
  }

  /** Takes in the frames of a state, of which `share` is this shard's. The store must be empty. */
  restore(frames: Iterable<ByteReader>, share: Share): void {
    this.store.onRelease = () => {}; // what goes while restoring left its base where that was written
    const restore = new Restore(this.store, this.bases, share);
    for (const frame of frames) restore.take(frame);
    restore.finish();
    this.store.onRelease = (life) => this.release(life);
  }

  /** Lets go of label sets that are over: to be called before the totals are read that are shown once what `begin` begins is saved. */
  letGo(): void {
    this.left = [];
    this.store.letGo();
  }

  /** Begins anew with what `nextPiece` gives; `shard` is this one's number. */
  begin(shard: number): void {
    this.snapshot = new Snapshot(shard, this.store, this.bases, this.left, this.options);
    this.left = [];
  }

  /** Some ms of work; null when all is written, and what happens from then on is no part of it. */
  nextPiece(): Buffer | null {
    const piece = this.snapshot?.next() ?? null;
    if (piece === null) this.snapshot = null;
    return piece;
  }

  private leave(table: number, series: Series): void {
    const from = table === 0 ? this.store.http : this.store.tcp;
    const total = new Float64Array(from.width);
    from.readTotal(series, total);
    this.left.push({ table, labelKey: series.labelKey, total, natives: series.natives ?? [] });
    this.bases.drop(table, series.labelKey);
  }

  private release(life: Life): void {
    const left: [number, Series, Float64Array][] = [];
    const isSaving = this.snapshot !== null;
    this.bases.keep(life, [this.store.http, this.store.tcp], (table, series, row) => {
      if (isSaving) left.push([table, series, row.slice()]);
    });
    this.snapshot?.released(life, left);
  }
}
