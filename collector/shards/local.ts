// LocalShard: the one shard of a collector without threads. What is read of it is read in place.

import type { CompletenessReading } from "../completeness/compared.ts";
import { keptMinutes } from "../indicators/indicators.ts";
import { readSubjects, type SubjectQuery, type SubjectReading } from "../indicators/reading.ts";
import type { Span } from "../indicators/slots.ts";
import type { Accounts } from "../receiver/accounts.ts";
import type { GrpcServer } from "../receiver/grpc.ts";
import type { StatsReport } from "../record/record.ts";
import type { ScrapeResult } from "../self.ts";
import type { SeriesTables } from "../series/reader.ts";
import { Shard, type ShardOptions } from "./shard.ts";
import type { MetricsReading, Readings, Shards } from "./shards.ts";

export class LocalShard implements Shards {
  readonly readings: Readings;
  private readonly shard: Shard;

  constructor(options: ShardOptions) {
    this.shard = new Shard(options);
    this.readings = new LocalReadings(this.shard, options.config.indicators.lateAfterMs);
    this.shard.start();
  }

  register(grpc: GrpcServer): void {
    this.shard.als.register(grpc);
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
    lateAfterMs: number,
  ) {
    this.series = shard.store;
    this.keptMinutes = keptMinutes(lateAfterMs);
  }

  async refresh(): Promise<void> {}

  async metrics(spans: readonly Span[]): Promise<MetricsReading> {
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
