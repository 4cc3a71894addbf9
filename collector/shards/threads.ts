// Threads: shards in threads of their own (docs/adr/0006-threads.md). Network and HTTP stay in the main thread.
//
//   Envoy --ALS--> GrpcServer --bytes--> StreamOfThreads --by node id--> Thread ==> worker.ts: ThreadShard
//   Envoy <--scrape-- Scraper --StatsReport---------------by node id---> Thread ==> ...
//                                          SummedReadings <--answers---- Thread <==

import { serialize } from "node:v8";
import type { Config } from "../config/config.ts";
import type { CollectorError } from "../error.ts";
import type { Objects } from "../identity/objects.ts";
import type { Log } from "../log.ts";
import type { LogRecord } from "../logs/record.ts";
import type { LogStore } from "../logs/store.ts";
import { type MessageTap, registerAls } from "../receiver/als.ts";
import type { StreamReader } from "../receiver/client-stream.ts";
import type { GrpcServer } from "../receiver/grpc.ts";
import type { LogWay, StatsReport } from "../record/record.ts";
import type { ScrapeResult, SelfMetrics } from "../self.ts";
import type { Saved } from "../state/checkpoints.ts";
import { hash } from "./hash.ts";
import { patiently } from "./patience.ts";
import { restoreShown, type SavedShard, SavedShards } from "./saved-shards.ts";
import { configuredShapes } from "./shard.ts";
import type { Readings, Shards } from "./shards.ts";
import type { ShardStateOptions } from "./state.ts";
import { StreamOfThreads } from "./stream.ts";
import { SummedReadings } from "./summed-readings.ts";
import { Thread } from "./thread.ts";

const PRUNE_TICK_MS = 10_000;
/** At the end: a thread that does not answer for so long is stuck, as far as anybody waits for it. */
const STUCK_MS = 5000;
const STUCK_TICK_MS = 500;

export interface ThreadsOptions {
  readonly config: Config;
  /** Reads each message along in the main thread, while it is active. */
  readonly tap: MessageTap;
  /** Takes what is kept of the access logs; null when nothing is. */
  readonly logs: Pick<LogStore, "add"> | null;
  /** What the process before this one saved; null when no state is saved. */
  readonly saving: Pick<ShardStateOptions, "restored"> | null;
  readonly self: SelfMetrics;
  /** Is paused while a thread is full, and makes no room. */
  readonly grpc: Pick<GrpcServer, "pause" | "resume">;
  /** Told once a thread died. */
  readonly onFailure: (error: CollectorError) => void;
  readonly log: Log;
}

export class Threads implements Shards {
  readonly readings: Readings;
  readonly saved: Saved | null;
  private readonly threads: readonly Thread[];
  private readonly summed: SummedReadings;
  private readonly pruning: NodeJS.Timeout;
  private streams = 0;
  private nextStream = 0;
  private full = 0;
  private givingUp: NodeJS.Timeout | undefined;

  private constructor(private readonly options: ThreadsOptions) {
    const { config, log, onFailure, saving } = options;
    const { endpoints, health, identity, indicators, limits, logs, metrics, otlp } = config;
    this.threads = Array.from({ length: config.threads }, (_, number) => {
      return new Thread({
        number,
        config: { endpoints, health, identity, indicators, limits, logs, metrics, otlp },
        keepsLogs: options.logs !== null,
        state: saving && { restored: saving.restored, shard: number, shards: config.threads },
        onFull: () => this.onFull(),
        onRoom: () => this.onRoom(),
        onLogRecord: (record) => this.keep(record),
        onFailure,
        log,
      });
    });
    this.summed = new SummedReadings(this.threads, { ...indicators, ...metrics }, configuredShapes(config), log);
    this.readings = this.summed;
    if (saving?.restored) restoreShown(this.summed.series, saving.restored, metrics.nativeHistograms);
    this.saved =
      saving && new SavedShards(this.threads.map(savedThread), this.summed.series, () => this.summed.takeTold());
    this.pruning = setInterval(() => this.summed.prune(), PRUNE_TICK_MS);
  }

  /** Rejects, with nothing left running, when a thread cannot be started. */
  static async start(options: ThreadsOptions): Promise<Threads> {
    const threads = new Threads(options);
    try {
      const ready = Promise.all(threads.threads.map((thread) => thread.ready));
      await patiently(ready, options.log, "waiting for threads to restore the state");
    } catch (error: unknown) {
      await threads.stop(0);
      throw error;
    }
    return threads;
  }

  register(grpc: GrpcServer): void {
    registerAls(grpc, () => this.open("als"));
  }

  report(report: StatsReport): Promise<ScrapeResult> {
    return this.threadOf(report.proxy).ask({ kind: "report", report });
  }

  useObjects(objects: Objects): void {
    const packed = serialize(objects);
    const bytes = new SharedArrayBuffer(packed.length);
    packed.copy(Buffer.from(bytes));
    for (const thread of this.threads) thread.send({ kind: "objects", bytes });
  }

  /** And from then on after a time of its own, since the state is yet to be saved: but a thread that is stuck keeps nobody. */
  giveUpAfter(ms: number): void {
    const giveUp = (waitedMs: number) => {
      for (const thread of this.threads) thread.giveUp("the collector shuts down", waitedMs);
      this.givingUp = setTimeout(giveUp, STUCK_TICK_MS, Math.max(ms, STUCK_MS)).unref();
    };
    this.givingUp = setTimeout(giveUp, ms, 0).unref();
  }

  async stop(drainMs: number): Promise<void> {
    clearInterval(this.pruning);
    clearTimeout(this.givingUp); // what is asked from now on has a time of its own
    let timer: NodeJS.Timeout | undefined;
    const expired = new Promise<"expired">((resolve) => {
      timer = setTimeout(resolve, drainMs, "expired");
    });
    const drained = Promise.allSettled(this.threads.map((thread) => thread.ask({ kind: "stop" })));
    const outcome = await Promise.race([drained, expired]);
    clearTimeout(timer);
    if (outcome === "expired" && drainMs > 0) {
      this.options.log.error({ drain_ms: drainMs }, "threads did not take in all that was received");
    }
    await Promise.all(this.threads.map((thread) => thread.terminate()));
  }

  /** The reader of one more stream; null when there are too many. Of a stream that names no node the first thread keeps the account. */
  open(way: LogWay): StreamReader | null {
    const [first] = this.threads as [Thread];
    const limit = this.options.config.limits.streams;
    if (this.streams >= limit) {
      first.send({ kind: "refuse", limit });
      return null;
    }
    this.streams++;
    return new StreamOfThreads(this.nextStream++, first, {
      threadOf: (nodeId) => this.threadOf(nodeId),
      tap: this.options.tap,
      way,
      onEnd: () => this.streams--,
    });
  }

  private keep(record: LogRecord): void {
    const { logs, self } = this.options;
    if (logs?.add(record)) return;
    self.logRecordsDropped.inc({ rule: record.reason, reason: "queue_full" });
  }

  private threadOf(nodeId: string): Thread {
    return this.threads[hash(nodeId) % this.threads.length] as Thread;
  }

  private onFull(): void {
    if (this.full++ === 0) this.options.grpc.pause();
  }

  private onRoom(): void {
    if (--this.full === 0) this.options.grpc.resume();
  }
}

function savedThread(thread: Thread): SavedShard {
  return {
    nextPiece: () => thread.ask({ kind: "state_piece" }),
    release: () => thread.ask({ kind: "state_release" }),
  };
}
