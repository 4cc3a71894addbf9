// LocalShard: the one shard of a collector without threads. What is read of it is read in place.

import type { CompletenessReading } from "../completeness/compared.ts";
import { keptMinutes } from "../indicators/indicators.ts";
import { readSubjects, type SubjectQuery, type SubjectReading } from "../indicators/reading.ts";
import type { Span } from "../indicators/slots.ts";
import type { Accounts } from "../receiver/accounts.ts";
import type { StreamReader } from "../receiver/client-stream.ts";
import type { GrpcServer } from "../receiver/grpc.ts";
import type { LogWay, StatsReport } from "../record/record.ts";
import type { ScrapeResult } from "../self.ts";
import type { SeriesTables } from "../series/reader.ts";
import type { Saved } from "../state/checkpoints.ts";
import { restoreShown, SavedShards } from "./saved-shards.ts";
import { configuredShapes, Shard, type ShardOptions } from "./shard.ts";
import type { MetricsReading, Readings, Shards } from "./shards.ts";
import type { ShardStateOptions } from "./state.ts";
import { SummedSeries } from "./summed-series.ts";

export class LocalShard implements Shards {
  readonly readings: Readings;
  readonly saved: Saved | null = null;
  private readonly shard: Shard;

  /** `saving`: what the process before this one saved; null when no state is saved. */
  constructor(options: Omit<ShardOptions, "state">, saving: Pick<ShardStateOptions, "restored"> | null) {
    const { config } = options;
    const { expireAfterMs, nativeHistograms } = config.metrics;
    const shown = saving && new SummedSeries(1, expireAfterMs, configuredShapes(config));
    if (shown !== null && saving?.restored) restoreShown(shown, saving.restored, nativeHistograms);
    this.shard = new Shard({ ...options, state: saving && { restored: saving.restored, shard: 0, shards: 1 } });
    const { state } = this.shard;
    const readings = new LocalReadings(this.shard, shown, config.indicators.lateAfterMs);
    this.readings = readings;
    if (state !== null && shown !== null) this.saved = new SavedShards([state], shown, () => readings.takeTold());
    this.shard.start();
  }

  register(grpc: GrpcServer): void {
    this.shard.als.register(grpc);
  }

  open(way: LogWay): StreamReader | null {
    return this.shard.als.open(way);
  }

  async report(report: StatsReport): Promise<ScrapeResult> {
    return this.shard.store.report(report);
  }

  /** It has the index that is replaced. */
  useObjects(): void {}

  /** Nobody waits. */
  giveUpAfter(): void {}

  async stop(): Promise<void> {
    this.shard.stop();
  }
}

class LocalReadings implements Readings {
  readonly series: SeriesTables;
  readonly keptMinutes: number;

  constructor(
    private readonly shard: Shard,
    /** What is read of its series where they are saved: no more than that. */
    private readonly shown: SummedSeries | null,
    lateAfterMs: number,
  ) {
    this.series = shown ?? shard.store;
    this.keptMinutes = keptMinutes(lateAfterMs);
  }

  async restored(): Promise<void> {
    await this.refresh();
    this.shown?.settleRestored();
  }

  takeTold(): void {
    for (const changes of this.shard.state?.takeChanges() ?? []) this.shown?.apply(0, changes);
  }

  async refresh(): Promise<void> {
    this.takeTold();
    this.shown?.letGo();
  }

  async metrics(spans: readonly Span[]): Promise<MetricsReading> {
    await this.refresh();
    const { indicators, holdings, completeness } = this.shard;
    const subjects: MetricsReading["subjects"] = (kind) =>
      readSubjects(indicators.subjects, { kind, spans, filter: [] });
    return { subjects, completeness: completeness.read(), holdings, others: [] };
  }

  async subjects(query: SubjectQuery): Promise<Iterable<SubjectReading>> {
    return readSubjects(this.shard.indicators.subjects, query);
  }

  async accounts(): Promise<Accounts> {
    return this.shard.als.accounts;
  }

  async completeness(): Promise<CompletenessReading> {
    return this.shard.completeness.read();
  }
}
