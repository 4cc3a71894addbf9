// A thread of the collector, with the clock of a history; and what it let go of.

import type { KeptLabels } from "../../collector/series/kept-labels.ts";
import { PodLabels } from "../../collector/series/pod-labels.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { ChangeReader } from "../../collector/shards/changes.ts";
import { SavedStore } from "../../collector/state/saved-store.ts";
import { SNAPSHOT_OPTIONS } from "../../collector/state/snapshot.ts";
import { RETIRE_AFTER_MS, type Room } from "./history.ts";
import { SHAPE_OF, SHAPES, TABLES, type Table } from "./proxy.ts";
import { added, type Totals } from "./totals.ts";

/** By table and label set: what was counted of it, and let go of. */
export class LetGo {
  private readonly totals = { http: new Map<string, Float64Array>(), tcp: new Map<string, Float64Array>() };

  of(table: Table): Totals {
    return this.totals[table];
  }

  add(table: Table, labelKey: string, total: Float64Array): void {
    const before = this.totals[table].get(labelKey);
    this.totals[table].set(labelKey, before ? added(total, before) : total);
  }

  copy(): LetGo {
    const copy = new LetGo();
    for (const table of TABLES) for (const [labelKey, total] of this.of(table)) copy.add(table, labelKey, total);
    return copy;
  }
}

export class SimulatedClock {
  steadyMs = 1_767_000_000_000;
  aheadMs = 0;

  readonly wallMs = () => this.steadyMs + this.aheadMs;
}

export class Shard {
  readonly store: SeriesStore;
  readonly saved: SavedStore;
  readonly changes: ChangeReader;

  /** `onLetGo`: told of each label set before it is let go of. */
  constructor(
    room: Room,
    hasPods: boolean,
    kept: KeptLabels | null,
    clock: SimulatedClock,
    onLetGo: (table: Table, labelKey: string, total: Float64Array) => void,
  ) {
    const ownClock = { wallMs: clock.wallMs, steadyMs: () => clock.steadyMs };
    const pods = hasPods ? new PodLabels((name) => ({ name, namespace: "ns" }), SHAPES) : null;
    const options = { kept, hasNatives: true, shapes: SHAPES, pods };
    this.store = new SeriesStore({ ...room, retireAfterMs: RETIRE_AFTER_MS }, ownClock, options);
    this.saved = new SavedStore(this.store, { ...SNAPSHOT_OPTIONS, pieceBytes: 1 }); // each step a piece
    this.changes = new ChangeReader(this.store);
    const { onLetGo: save } = this.store;
    this.store.onLetGo = (index, series) => {
      const table = TABLES[index] as Table;
      const total = new Float64Array(SHAPE_OF[table].width);
      this.store[table].readTotal(series, total);
      onLetGo(table, series.labelKey, total);
      save(index, series);
    };
  }
}
