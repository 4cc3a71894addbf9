// LogStore: where kept log records go and are found again. duckdb-store.ts implements it.

import type { LogFaultReason } from "../self.ts";
import type { LogRecord } from "./record.ts";

/** One comparison of a column with values, any of which may hold. */
export type Condition =
  /** The value is one of these; null is one that is not known. */
  | { readonly kind: "is"; readonly columns: readonly TextColumn[]; readonly values: readonly (string | null)[] }
  /** The value is within one of these, ends included. */
  | { readonly kind: "within"; readonly column: NumberColumn; readonly ranges: readonly (Range | null)[] }
  /** Both ends of the call, by name. */
  | { readonly kind: "edge"; readonly edges: readonly Edge[] }
  /** The text occurs in path, line or body, whatever its case. */
  | { readonly kind: "contains"; readonly texts: readonly string[] };

/** In these texts `*` stands for any part. */
export type TextColumn =
  | "source"
  | "destination"
  | "namespace"
  | "endpoint"
  | "proxy"
  | "role"
  | "detectPoint"
  | "method"
  | "path"
  | "protocol"
  | "flag"
  | "reason"
  | "requestId"
  | "traceId"
  | "tag";

export type NumberColumn = "code" | "grpcStatus" | "latencyMs" | "requestBytes" | "responseBytes";

export interface Range {
  readonly least: number;
  readonly most: number;
}

export interface Edge {
  readonly source: string;
  readonly destination: string;
}

/** Where a page ends: the next one begins with what is older. */
export interface Cursor {
  readonly timeMs: number;
  readonly id: bigint;
}

export interface LogQuery {
  /** All of them must hold. */
  readonly conditions: readonly Condition[];
  /** Unix ms; the first is included, the second not. Null: no bound. */
  readonly fromMs: number | null;
  readonly toMs: number | null;
  readonly limit: number;
  readonly after: Cursor | null;
}

export interface StoredRecord extends LogRecord {
  /** Ascending in the order of storing. */
  readonly id: bigint;
}

export interface FacetValue {
  readonly value: string | number | null;
  readonly count: number;
}

export const FACETS = ["service", "code", "flag", "endpoint", "reason"] as const;
type FacetName = (typeof FACETS)[number];

/** What all matches add up to. */
export interface LogSummary {
  readonly matches: number;
  /** Of each the most frequent values. */
  readonly facets: Readonly<Record<FacetName, readonly FacetValue[]>>;
  readonly histogram: { readonly intervalMs: number; readonly buckets: readonly Bucket[] };
}

/** Empty ones are left out. */
export interface Bucket {
  readonly timeMs: number;
  readonly count: number;
}

export interface LogPage {
  /** Newest first. */
  readonly records: readonly StoredRecord[];
  readonly next: Cursor | null;
  /** Null on pages after the first. */
  readonly summary: LogSummary | null;
}

/** What keeps the store from working. */
export interface LogFault {
  readonly reason: LogFaultReason;
  readonly message: string;
  readonly sinceMs: number;
}

export interface LogStoreStats {
  /** Null while all is well. */
  readonly fault: LogFault | null;
  readonly records: number;
  readonly bytes: number;
  /** Taken, and not yet written. */
  readonly queued: number;
  /** When the oldest record came; null when there is none. */
  readonly oldestMs: number | null;
  /** Files that cannot be read: their records are not found, and they go when they are the oldest. */
  readonly unreadable: number;
}

/** Why a search has no answer. */
export type SearchFailure = "busy" | "too_slow" | "too_large" | "unavailable";

export class SearchError extends Error {
  override readonly name = "SearchError";

  constructor(
    readonly failure: SearchFailure,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

export interface LogStore {
  /** Takes it, to be written soon. False when there is no room for it. */
  add(record: LogRecord): boolean;
  /** Rejects with a SearchError. */
  search(query: LogQuery): Promise<LogPage>;
  readonly stats: LogStoreStats;
  /** Writes what was taken, and closes. */
  close(): Promise<void>;
}
