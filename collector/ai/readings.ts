// Readings: what each stream of an exporter's histogram gained since it was read last. Cumulative streams say all since their start again
// and again, delta streams what came since the last time; a stream is one metric of one exporter with one set of attributes.

import { CUMULATIVE, DELTA, type HistogramPoint } from "../proto/otlp-metrics.ts";
import type { OtlpRejection } from "../self.ts";

/** So long a stream must be silent to make room for another: a live exporter tells all of its streams every minute. */
const IDLE_MS = 3_600_000;

/** What a point adds. */
export type Gain = Pick<HistogramPoint, "count" | "sum" | "bucketCounts" | "bounds">;

/** What is known of a stream, to be saved. */
export interface SavedStream {
  readonly startNs: bigint;
  readonly timeNs: bigint;
  readonly last: Gain;
}

interface Stream extends SavedStream {
  readonly touchedMs: number;
}

export class Readings {
  private readonly streams = new Map<string, Stream>();
  /** Starts of streams that made room: should one come back, it must not count again. */
  private readonly gone = new Map<string, bigint>();

  constructor(
    private readonly limit: number,
    /** A clock that never jumps. */
    private readonly nowMs: () => number,
  ) {}

  get size(): number {
    return this.streams.size;
  }

  /** Null when it is not followed. */
  find(key: string): SavedStream | null {
    return this.streams.get(key) ?? null;
  }

  /** Goes on where a collector before this one ended. One for which there is no room must not count again. */
  restore(key: string, { startNs, timeNs, last }: SavedStream): void {
    if (this.streams.size < this.limit) this.streams.set(key, { startNs, timeNs, last, touchedMs: this.nowMs() });
    else this.restoreGone(key, startNs);
  }

  /** Starts of streams that made room, by their keys. */
  get released(): ReadonlyMap<string, bigint> {
    return this.gone;
  }

  restoreGone(key: string, startNs: bigint): void {
    if (this.gone.size < this.limit) this.gone.set(key, startNs);
  }

  /** What the point adds; null when that is nothing; or why it is not taken. */
  take(key: string, temporality: number, point: HistogramPoint): Gain | null | OtlpRejection {
    if (temporality === DELTA) return this.takeDelta(key, point);
    return temporality === CUMULATIVE ? this.takeCumulative(key, point) : "temporality_unknown";
  }

  /** One that is sent again ends when the one before did. */
  private takeDelta(key: string, point: HistogramPoint): Gain | null | OtlpRejection {
    const stream = this.streams.get(key);
    if (stream !== undefined && point.timeNs <= stream.timeNs) return "repeated";
    if (stream === undefined && !this.admit(key)) return "streams_full";
    this.touch(key, point);
    return point.count === 0 ? null : point;
  }

  /** A restart is told by the start, never guessed from a count that went down. */
  private takeCumulative(key: string, point: HistogramPoint): Gain | null | OtlpRejection {
    const stream = this.streams.get(key);
    if (stream === undefined) {
      const wasCounted = this.gone.get(key) === point.startNs;
      if (!this.admit(key)) return "streams_full";
      this.touch(key, point);
      return wasCounted || point.count === 0 ? null : point;
    }
    if (point.startNs < stream.startNs) return "late";
    if (point.startNs > stream.startNs) {
      this.touch(key, point);
      return point.count === 0 ? null : point;
    }
    if (point.timeNs <= stream.timeNs) return "repeated";
    const gain = gainOf(stream.last, point);
    if (gain === null) return "went_back";
    this.touch(key, point);
    return gain.count === 0 ? null : gain;
  }

  private touch(key: string, point: HistogramPoint): void {
    const { startNs, timeNs, count, sum, bucketCounts, bounds } = point;
    this.streams.set(key, { startNs, timeNs, last: { count, sum, bucketCounts, bounds }, touchedMs: this.nowMs() });
  }

  private admit(key: string): boolean {
    if (this.streams.size >= this.limit && !this.evictIdlest()) return false;
    this.gone.delete(key);
    return true;
  }

  private evictIdlest(): boolean {
    let idlest: string | null = null;
    let touchedMs = this.nowMs() - IDLE_MS;
    for (const [key, stream] of this.streams) {
      if (stream.touchedMs > touchedMs) continue;
      idlest = key;
      touchedMs = stream.touchedMs;
    }
    const stream = idlest === null ? undefined : this.streams.get(idlest);
    if (idlest === null || stream === undefined) return false;
    this.streams.delete(idlest);
    if (this.gone.size >= this.limit) {
      const [oldest] = this.gone.keys();
      if (oldest !== undefined) this.gone.delete(oldest);
    }
    this.gone.set(idlest, stream.startNs);
    return true;
  }
}

/** Null when any of it went down, or the buckets are others. */
function gainOf(before: Gain, now: Gain): Gain | null {
  const { bounds } = now;
  if (bounds.length !== before.bounds.length || bounds.some((bound, i) => bound !== before.bounds[i])) return null;
  if (now.bucketCounts.length !== before.bucketCounts.length) return null;
  const bucketCounts = now.bucketCounts.map((count, i) => count - (before.bucketCounts[i] as number));
  const count = now.count - before.count;
  if (count < 0 || bucketCounts.some((each) => each < 0)) return null;
  return { count, sum: Math.max(0, now.sum - before.sum), bucketCounts, bounds };
}
