// Keeps a log readable while something goes wrong again and again: per kind of event one line at once, then one per interval.

import type { Log } from "../log.ts";

const INTERVAL_MS = 10_000;

interface Kind {
  silentUntilMs: number;
  suppressed: number;
}

/** Kinds must be a closed set. Each line says under `suppressed` how many of its kind were left out since the one before. */
export class LogLimit {
  private readonly log: Log;
  private readonly nowMs: () => number;
  private readonly kinds = new Map<string, Kind>();

  constructor(log: Log, nowMs: () => number = () => performance.now()) {
    this.log = log;
    this.nowMs = nowMs;
  }

  /** Whether the line was written. */
  warn(kind: string, fields: object, message: string): boolean {
    const suppressed = this.suppressed(kind);
    if (suppressed !== null) this.log.warn({ ...fields, suppressed }, message);
    return suppressed !== null;
  }

  error(kind: string, fields: object, message: string): void {
    const suppressed = this.suppressed(kind);
    if (suppressed !== null) this.log.error({ ...fields, suppressed }, message);
  }

  /** Null when the event is to be left out. */
  private suppressed(kind: string): number | null {
    const nowMs = this.nowMs();
    const known = this.kinds.get(kind);
    if (known !== undefined && nowMs < known.silentUntilMs) {
      known.suppressed++;
      return null;
    }
    this.kinds.set(kind, { silentUntilMs: nowMs + INTERVAL_MS, suppressed: 0 });
    return known?.suppressed ?? 0;
  }
}
