// Log lines: one JSON object each, on stdout. The only importer of pino.

import { pino } from "pino";

/** The least important lines that are still written. */
type LogLevel = "info" | "warn" | "error" | "silent";

/** Fields first, then one short sentence without values in it, so that equal events read equal. */
export interface Log {
  readonly info: (fields: object, message: string) => void;
  readonly warn: (fields: object, message: string) => void;
  readonly error: (fields: object, message: string) => void;
}

/** Where lines go; stdout unless a test wants to read them. */
interface LogSink {
  write(line: string): void;
}

interface LogOptions {
  readonly level?: LogLevel;
  readonly sink?: LogSink;
}

/**
 * A log whose every line names `component`:
 * `{"level":"info","time":"2026-01-31T12:00:00.000Z","component":"scrape","target":"127.0.0.1:9901","msg":"unreachable"}`.
 * An `Error` under the field `err` is written with its type, message and stack.
 */
export function createLog(component: string, options: LogOptions = {}): Log {
  const settings = {
    level: options.level ?? "info",
    base: { component },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  return options.sink ? pino(settings, options.sink) : pino(settings);
}

/** A log that says nothing, for tests and for parts used alone. */
export const silentLog: Log = { info: () => {}, warn: () => {}, error: () => {} };
