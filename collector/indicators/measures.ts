// What is added up of calls: the fields of an indicator, in the order in which they stand in its sums.

import type { Satisfaction } from "./satisfaction.ts";

/** An index into sums. Sums of calls but for the last three, which are of TCP connections. Times in nanoseconds. */
export enum Field {
  Calls,
  Failures,
  /** Calls whose latency is known, and the sum of it. */
  Timed,
  LatencyNs,
  /** By the service's Apdex threshold. */
  Satisfied,
  Tolerating,
  Frustrated,
  RequestBytes,
  ResponseBytes,
  /** Attempts beyond the first. */
  Retries,
  /** How long the proxy held the request, and how many calls say so; the same of the response. */
  RequestsHeld,
  RequestHeldNs,
  ResponsesHeld,
  ResponseHeldNs,
  Connections,
  ReceivedBytes,
  SentBytes,
}

export const FIELDS = Field.SentBytes + 1;

/** One side of one call, as numbers. Reused: who takes it must not keep it. */
export interface CallMeasures {
  isSuccess: boolean;
  /** Null when the entry does not say; the same below. */
  latencyNs: number | null;
  /** By the service's Apdex threshold; a failed call is frustrated. */
  satisfaction: Satisfaction | null;
  requestBytes: number;
  responseBytes: number;
  retries: number;
  requestHeldNs: number | null;
  responseHeldNs: number | null;
  /** What was spoken and how it was answered: `http 200`, `grpc 14`; `http -` without an answer. */
  code: string;
  /** Short names of Envoy's response flags, of which there are a few sets at most. */
  flags: readonly string[];
}

/** What one entry says more of a TCP connection than the one before. */
export interface ConnectionMeasures {
  readonly isNew: boolean;
  readonly receivedBytes: number;
  readonly sentBytes: number;
  readonly flags: readonly string[];
}
