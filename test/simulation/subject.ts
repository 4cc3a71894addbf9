// What is tested: the collector's counting, from records and readings to totals, with the clock of a history.

import { CounterResets, CounterRows } from "../../collector/record/counter-resets.ts";
import type { AccessRecord, ConnectionRecord, StatsReport } from "../../collector/record/record.ts";
import type { ScrapeResult } from "../../collector/self.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { RETIRE_AFTER_MS, type Room } from "./history.ts";

class SimulatedClock {
  steadyMs = 1_767_000_000_000;
  aheadMs = 0;

  readonly wallMs = () => this.steadyMs + this.aheadMs;
}

export class Subject {
  readonly clock = new SimulatedClock();
  readonly store: SeriesStore;
  private readonly rows = new CounterRows();
  private readonly resets = new Map<number, CounterResets>();

  constructor(private readonly room: Room) {
    const { clock } = this;
    this.store = new SeriesStore(
      { ...room, retireAfterMs: RETIRE_AFTER_MS },
      { wallMs: clock.wallMs, steadyMs: () => clock.steadyMs },
    );
  }

  /** Whether process lives may find no room for a label set that others have. */
  get mayClose(): boolean {
    return this.room.cells < 1000;
  }

  /** Whether it was counted. */
  observe(record: AccessRecord): boolean {
    return this.store.observe(record) === null;
  }

  observeConnection(record: ConnectionRecord): boolean {
    return this.store.observeConnection(record) === null;
  }

  accumulate(target: number, report: StatsReport): StatsReport {
    let resets = this.resets.get(target);
    if (!resets) {
      resets = new CounterResets(this.rows);
      this.resets.set(target, resets);
    }
    return structuredClone(resets.accumulate(report));
  }

  report(report: StatsReport): ScrapeResult {
    return this.store.report(report);
  }

  /** A scrape whose start time reads far too large. */
  reportFuture(report: StatsReport): void {
    const result = this.store.report({ ...report, lifeMs: report.lifeMs * 2 });
    if (result !== "restarted") throw new Error(`a start in the future was taken as ${result}`);
  }
}
