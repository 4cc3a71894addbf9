// What decides whether a call's log entry is kept, and who decides: the calls know the facts already when they are counted.

import type { Sender } from "../resolver/attribution.ts";
import type { Protocol } from "./side.ts";

/** One object is filled again and again. */
export interface LoggedCall {
  protocol: Protocol;
  /** HTTP status; 0 when there was no answer, and for TCP. */
  code: number;
  /** Null when the entry does not say. */
  grpcStatus: number | null;
  /** Short names: UF. */
  flags: readonly string[];
  /** Null of a connection: that says how long it was of use. */
  latencyMs: number | null;
  /** Into a model and out of it; 0 of all that is no request to one. */
  tokens: number;
  /** On each side that the entry tells of. */
  success: boolean;
  /** Unix ms. */
  nowMs: number;
}

/** Takes the end of a request or connection, at bytes[start, stop) of a message that `sender` sent. The bytes are the caller's. */
export interface EntryLog {
  offer(bytes: Buffer, start: number, stop: number, isHttp: boolean, sender: Sender, call: LoggedCall): void;
}
