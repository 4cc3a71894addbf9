// Exporter: one receiver of metrics, from collection to delivery.
//
//   Readings --Collection--> points --Encoder--> batches --Queue--> Sender --Transport--> receiver
//                                '--> Told: what is gone

import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "../log.ts";
import { LogLimit } from "../receiver/log-limit.ts";
import type { ExportCounts } from "../self.ts";
import type { Encoder } from "./batch.ts";
import type { Transport } from "./delivery.ts";
import type { Point, Step } from "./point.ts";
import type { Queue } from "./queue.ts";
import { Sender } from "./sender.ts";
import type { Told } from "./told.ts";
import type { Turns } from "./turns.ts";

/** Work goes on for so long before others get their turn. */
export const SLICE_MS = 5;

export interface ExporterOptions {
  readonly intervalMs: number;
  /** What there is to tell now. */
  readonly points: (nowMs: number) => Promise<Iterable<Step>>;
  readonly told: Told;
  readonly encoder: Encoder;
  readonly queue: Queue;
  readonly transport: Transport;
  readonly counts: ExportCounts;
  /** Shared with the exporters beside it. */
  readonly turns: Turns;
  readonly log: Log;
}

export class Exporter {
  private readonly sender: Sender;
  private readonly log: LogLimit;
  private readonly stopping = new AbortController();
  /** Null before the start. */
  private running: Promise<void> | null = null;

  constructor(private readonly options: ExporterOptions) {
    this.sender = new Sender(options);
    this.log = new LogLimit(options.log);
    options.counts.watch(options.queue);
  }

  start(): void {
    this.sender.start();
    this.running = this.run();
  }

  /** Collects once more, and sends what waits, for so long at most. */
  async stop(graceMs: number): Promise<void> {
    const beganMs = performance.now();
    this.stopping.abort();
    if (this.running !== null) {
      await this.running;
      await this.collect();
    }
    await this.sender.stop(Math.max(0, graceMs - (performance.now() - beganMs)));
    const { queue, log } = this.options;
    if (queue.samples > 0)
      log.warn({ samples: queue.samples, isKept: queue.isKept }, "not all was sent before the end");
    await queue.close();
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    const { intervalMs } = this.options;
    let nextMs = performance.now(); // Unix time may be set
    while (!signal.aborted) {
      nextMs = Math.max(nextMs + intervalMs, performance.now());
      await sleep(nextMs - performance.now(), undefined, { signal }).catch(() => {}); // aborted: we stop
      if (!signal.aborted) await this.collect();
    }
  }

  /** One round: all that there is, of one time. Nothing of it when not all can be read. */
  private async collect(): Promise<void> {
    const { encoder, told, points, counts, turns } = this.options;
    try {
      await turns.next();
      const nowMs = Date.now();
      const all = await points(nowMs);
      encoder.begin(nowMs);
      told.begin();
      await this.encode(all, (point) => encoder.add(point, told.note(point)));
      await this.encode(told.gone(), (point) => encoder.addGone(point));
      told.end(nowMs);
      await this.push(true);
    } catch (error: unknown) {
      counts.collectionFailed();
      this.log.error("collect", { err: error }, "nothing was collected in this round, or not all");
    }
  }

  private async encode(steps: Iterable<Step>, take: (point: Point) => void): Promise<void> {
    const { encoder, turns } = this.options;
    let untilMs = performance.now() + SLICE_MS;
    for (const point of steps) {
      if (point !== null) take(point);
      if (!encoder.hasBatches && performance.now() < untilMs) continue;
      await this.push(false);
      await turns.next();
      untilMs = performance.now() + SLICE_MS;
    }
  }

  private async push(isLast: boolean): Promise<void> {
    for (const batch of await this.options.encoder.take(isLast)) {
      await this.options.queue.push(batch);
      this.sender.notify();
    }
  }
}
