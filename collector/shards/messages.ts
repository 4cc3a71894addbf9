// What goes between the main thread and a thread with a shard. All of it is plain, and cloned; messages of streams lie in a Ring.

import type { CompletenessReading } from "../completeness/compared.ts";
import type { SubjectQuery, SubjectSums } from "../indicators/reading.ts";
import type { Span } from "../indicators/slots.ts";
import type { SubjectKind } from "../indicators/subjects.ts";
import type { Log } from "../log.ts";
import type { LogRecord } from "../logs/record.ts";
import type { ProxyCounts } from "../receiver/accounts.ts";
import type { StreamEnd } from "../receiver/client-stream.ts";
import type { LogWay, StatsReport } from "../record/record.ts";
import type { ScrapeResult, SelfCounts } from "../self.ts";
import type { NativeBuckets } from "../series/native.ts";
import type { RingMemory } from "./ring.ts";
import type { ShardConfig } from "./shard.ts";
import type { ShardHoldings } from "./shards.ts";
import type { ShardStateOptions } from "./state.ts";

/** A thread's `workerData`. */
export interface ThreadData {
  readonly config: ShardConfig;
  /** Whether what is kept of the access logs has a store. */
  readonly keepsLogs: boolean;
  readonly memory: RingMemory;
  /** The state that it goes on from; null when none is saved. */
  readonly state: ShardStateOptions | null;
}

/** To the thread; taken in the order in which they were sent. Streams have the main thread's numbers. */
export type Command =
  | { readonly kind: "open"; readonly stream: number; readonly way: LogWay }
  /** `spans`: of each message in the ring's slot its stream, and where it begins and ends. */
  | { readonly kind: "batch"; readonly slot: number; readonly spans: readonly number[] }
  /** One that is longer than a slot; or without a slot, since none was free and it was read already. */
  | { readonly kind: "message"; readonly stream: number; readonly bytes: Uint8Array; readonly hasSlot: boolean }
  /** Another thread reads on. */
  | { readonly kind: "leave"; readonly stream: number }
  | { readonly kind: "end"; readonly stream: number; readonly how: StreamEnd }
  /** A stream was one more than that. */
  | { readonly kind: "refuse"; readonly limit: number }
  /** Objects (identity/objects.ts), as v8.serialize has them: one piece of memory for all threads. */
  | { readonly kind: "objects"; readonly bytes: SharedArrayBuffer }
  | { readonly kind: "ask"; readonly id: number; readonly question: Question };

export type Question =
  | { readonly kind: "report"; readonly report: StatsReport }
  | { readonly kind: "series" }
  | { readonly kind: "metrics"; readonly spans: readonly Span[] }
  | { readonly kind: "subjects"; readonly query: SubjectQuery }
  | { readonly kind: "accounts" }
  | { readonly kind: "completeness" }
  /** Which of these subjects are held. */
  | { readonly kind: "living"; readonly subjects: readonly SubjectName[] }
  /** ShardState.nextPiece, release. */
  | { readonly kind: "state_piece" }
  | { readonly kind: "state_release" }
  /** Asked last: answered when all that was sent before has been taken in. */
  | { readonly kind: "stop" };

/** To each kind of question its answer. */
export interface Answers {
  readonly report: ScrapeResult;
  readonly series: readonly SeriesChanges[];
  readonly metrics: MetricsAnswer;
  readonly subjects: SubjectsAnswer;
  readonly accounts: AccountsAnswer;
  readonly completeness: CompletenessReading;
  readonly living: LivingAnswer;
  readonly state_piece: Uint8Array | null;
  readonly state_release: null;
  readonly stop: null;
}

export interface SubjectName {
  readonly kind: SubjectKind;
  readonly labels: readonly string[];
}

/** What the series of a shard gained since it was told last. */
export interface SeriesChanges {
  readonly http: TableChanges;
  readonly tcp: TableChanges;
}

export interface TableChanges {
  /** Indexes of label sets that were told, and are let go of: from now on they are others'. */
  readonly letGo: Uint32Array;
  /** Of label sets that were not told before; and their indexes. */
  readonly newKeys: readonly string[];
  readonly newIndexes: Uint32Array;
  /** Of label sets whose totals grew, and their totals, row by row. */
  readonly indexes: Uint32Array;
  readonly totals: Float64Array;
  /** Those of them with a history (SeriesTable.readHistory), and that, row by row. */
  readonly historyIndexes: Uint32Array;
  readonly histories: Float64Array;
  /** Of the label sets in `indexes`, native histograms by metric; empty where none are kept. */
  readonly natives: readonly (readonly (NativeBuckets | null)[])[];
}

interface SubjectsAnswer {
  readonly subjects: readonly SubjectSums[];
  /** What was let go of since an answer told so last, with what it had come to; of no window. */
  readonly retired: readonly SubjectSums[];
}

interface LivingAnswer {
  readonly living: readonly SubjectName[];
  /** As in SubjectsAnswer. */
  readonly retired: readonly SubjectSums[];
}

interface MetricsAnswer extends SubjectsAnswer {
  readonly series: readonly SeriesChanges[];
  readonly completeness: CompletenessReading;
  readonly holdings: ShardHoldings;
  readonly self: SelfCounts;
}

export interface AccountsAnswer {
  readonly named: readonly ProxyCounts[];
  readonly unnamed: ProxyCounts;
  readonly beyondLimit: ProxyCounts;
}

/** From the thread. */
export type Notice =
  | { readonly kind: "ready" }
  /** There is room in the ring again, of which the main thread wanted to be told. */
  | { readonly kind: "room" }
  | { readonly kind: "answer"; readonly id: number; readonly answer: Answers[keyof Answers] }
  /** An access-log entry that is kept. */
  | { readonly kind: "log_record"; readonly record: LogRecord }
  | { readonly kind: "failed"; readonly id: number; readonly reason: string }
  | { readonly kind: "log"; readonly level: keyof Log; readonly fields: object; readonly message: string };
