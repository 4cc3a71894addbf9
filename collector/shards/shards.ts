// Shards: where all that is received goes, and what is read of it; whether there is one shard in this thread (local.ts) or one in each
// of several others (threads.ts).

import type { CompletenessReading } from "../completeness/compared.ts";
import type { Objects } from "../identity/objects.ts";
import type { SubjectQuery, SubjectReading } from "../indicators/reading.ts";
import type { Span } from "../indicators/slots.ts";
import type { SubjectKind } from "../indicators/subjects.ts";
import type { Accounts } from "../receiver/accounts.ts";
import type { StreamReader } from "../receiver/client-stream.ts";
import type { GrpcServer } from "../receiver/grpc.ts";
import type { LogWay, StatsReport } from "../record/record.ts";
import type { Holdings, ScrapeResult, SelfCounts } from "../self.ts";
import type { SeriesTables } from "../series/reader.ts";
import type { Saved } from "../state/checkpoints.ts";

export interface Shards {
  readonly readings: Readings;
  /** Takes the streams of access loggers from then on. */
  register(grpc: GrpcServer): void;
  /** Takes one more stream of ALS messages, which came another way; null when there are too many. */
  open(way: LogWay): StreamReader | null;
  /** Merges one scrape, or says why not. */
  report(report: StatsReport): Promise<ScrapeResult>;
  /** What of them is saved; null when nothing is. */
  readonly saved: Saved | null;
  /** Names the ends of calls by these Kubernetes objects from now on. */
  useObjects(objects: Objects): void;
  /** Whatever waits for an answer then, waits no longer. */
  giveUpAfter(ms: number): void;
  /** Takes in what was received, for `drainMs` at most, and ends. */
  stop(drainMs: number): Promise<void>;
}

/**
 * Whatever was received before a call is in what it resolves to. Rejects with CollectorError `unavailable` when a thread does not answer
 * in time: a sum without it would be too low.
 */
export interface Readings {
  /** As they were at the last `refresh` or `metrics`; of a shard in this thread, as they are. */
  readonly series: SeriesTables;
  /** So many minutes of the indicators that have ended are kept whole. */
  readonly keptMinutes: number;
  /** The first `refresh`, which takes as long as it takes to tell all that was restored. Rejects when a thread died. */
  restored(): Promise<void>;
  /** Brings `series` up to date. */
  refresh(): Promise<void>;
  /** The same, and reads the rest of what /metrics shows. */
  metrics(spans: readonly Span[]): Promise<MetricsReading>;
  subjects(query: SubjectQuery): Promise<Iterable<SubjectReading>>;
  accounts(): Promise<Accounts>;
  completeness(): Promise<CompletenessReading>;
}

export interface MetricsReading {
  readonly subjects: (kind: SubjectKind) => Iterable<SubjectReading>;
  readonly completeness: CompletenessReading;
  readonly holdings: ShardHoldings;
  /** What other threads counted of themselves. */
  readonly others: readonly SelfCounts[];
}

/** What the shards hold. */
export type ShardHoldings = Omit<Holdings, "edges" | "leftOut" | "proxyStats">;
