// Processes: which proxy processes report by the metrics service, which of a process's streams is heard, and what each has told.

import { Room, StreamedCounts, type StreamedLabelSet } from "../record/streamed-counts.ts";
import type { Shapes } from "../series/shape.ts";

/** A flush so much older than the last one of its process is one of a clock that was set back; a younger one only comes late. */
const CLOCK_STEP_MS = 10_000;

/** A process as it is saved. */
export interface SavedProcess {
  readonly proxy: string;
  readonly startMs: number;
  /** Of the last flush taken. */
  readonly timeMs: number;
  readonly counts: Iterable<StreamedLabelSet>;
}

/** One life of a proxy. */
export class MetricsProcess {
  readonly counts: StreamedCounts;
  /** The stream that is heard; null when it has ended. */
  private speaker: object | null = null;
  /** Of the last flush taken. */
  private timeMs = -1;
  /** Whether a report of it is under way; and what is to be done once it is not. */
  isReporting = false;
  next: (() => void) | null = null;
  /** Without a speaker: since when, by a clock that is not set. */
  idleSinceMs = performance.now();

  constructor(
    readonly proxy: string,
    /** When it started, Unix ms. */
    readonly startMs: number,
    room: Room,
    shapes: Shapes,
  ) {
    this.counts = new StreamedCounts(room, shapes);
  }

  get isIdle(): boolean {
    return this.speaker === null;
  }

  /** All that is known of it but its stream, which ends with the collector. */
  get saved(): SavedProcess {
    const { proxy, startMs, timeMs, counts } = this;
    return { proxy, startMs, timeMs, counts: counts.held() };
  }

  /** Goes on where a collector before this one ended. What finds no room begins at 0, and counts once it exceeds what was counted. */
  restore({ timeMs, counts }: SavedProcess): void {
    this.timeMs = timeMs;
    for (const each of counts) this.counts.restore(each);
  }

  /** Whether a flush of it was taken before. */
  get isKnown(): boolean {
    return this.timeMs >= 0;
  }

  /**
   * Whether a flush of that time, come on that stream, is new. A process has several streams when it has several sinks, which
   * send each flush over all of them, and when one broke and the collector does not know yet: so each flush is taken of the stream
   * which brings it first. Of one stream all are new, in whatever order their times are: a clock may be set back.
   */
  hears(stream: object, timeMs: number): boolean {
    if (stream !== this.speaker && !this.isLater(timeMs)) return false;
    this.speaker = stream;
    this.timeMs = timeMs;
    return true;
  }

  /** That stream has ended, or tells of another process. */
  leave(stream: object): void {
    if (stream !== this.speaker) return;
    this.speaker = null;
    this.idleSinceMs = performance.now();
  }

  private isLater(timeMs: number): boolean {
    if (timeMs > this.timeMs) return true;
    return this.speaker === null && timeMs < this.timeMs - CLOCK_STEP_MS;
  }
}

export interface ProcessLimits {
  /** Most processes held. */
  readonly processes: number;
  /** Most label sets of all of them, HTTP's and TCP's. */
  readonly labelSets: number;
  /** How long a process that has no stream is kept. */
  readonly forgetAfterMs: number;
}

export class MetricsProcesses {
  private readonly processes = new Map<string, MetricsProcess>();
  private readonly room: Room;

  constructor(
    private readonly limits: ProcessLimits,
    private readonly shapes: Shapes,
  ) {
    this.room = new Room(limits.labelSets);
  }

  get size(): number {
    return this.processes.size;
  }

  /** Label sets held. */
  get labelSets(): number {
    return this.room.taken;
  }

  /** The process, held from now on; null when there is no room. */
  find(proxy: string, startMs: number): MetricsProcess | null {
    const key = `${startMs} ${proxy}`;
    const known = this.processes.get(key);
    if (known !== undefined) return known;
    this.forget();
    if (this.processes.size >= this.limits.processes && !this.evictIdlest()) return null;
    const process = new MetricsProcess(proxy, startMs, this.room, this.shapes);
    this.processes.set(key, process);
    return process;
  }

  /** Each process of which a flush was taken, to be saved. */
  *saved(): Generator<SavedProcess> {
    for (const process of this.processes.values()) if (process.isKnown) yield process.saved;
  }

  /** To be called before the first stream; what there is no room for is left out. */
  restore(saved: SavedProcess): void {
    this.find(saved.proxy, saved.startMs)?.restore(saved);
  }

  /** Lets go of those that have had no stream for long. What they counted is in the totals. */
  private forget(): void {
    const sinceMs = performance.now() - this.limits.forgetAfterMs;
    for (const [key, process] of this.processes) {
      if (process.isIdle && process.idleSinceMs <= sinceMs) this.release(key, process);
    }
  }

  private evictIdlest(): boolean {
    let idlest: readonly [string, MetricsProcess] | null = null;
    for (const entry of this.processes) {
      if (entry[1].isIdle && entry[1].idleSinceMs < (idlest?.[1].idleSinceMs ?? Number.POSITIVE_INFINITY))
        idlest = entry;
    }
    if (idlest === null) return false;
    this.release(...idlest);
    return true;
  }

  private release(key: string, process: MetricsProcess): void {
    process.counts.release();
    this.processes.delete(key);
  }
}
