// Sender: takes batches from a queue and sends them, in order: the next one goes when the one before was taken or refused.

import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "../log.ts";
import { LogLimit } from "../receiver/log-limit.ts";
import type { ExportCounts } from "../self.ts";
import type { Batch } from "./batch.ts";
import type { Delivery, Transport } from "./delivery.ts";
import type { Queue } from "./queue.ts";

/** The pause after the n-th failure in a row is a random one up to 2^n times the first, and never above the last: all of it is jitter. */
const FIRST_PAUSE_MS = 500;
const LAST_PAUSE_MS = 30_000;

export interface SenderOptions {
  readonly queue: Queue;
  readonly transport: Transport;
  readonly counts: ExportCounts;
  readonly log: Log;
  /** From 0 to 1; for tests. */
  readonly random?: () => number;
}

export class Sender {
  private readonly stopping = new AbortController();
  private readonly log: LogLimit;
  private wake: () => void = () => {};
  private isDraining = false;
  private failures = 0;
  private running: Promise<void> = Promise.resolve();

  constructor(private readonly options: SenderOptions) {
    this.log = new LogLimit(options.log);
  }

  start(): void {
    this.running = this.run();
  }

  /** There may be a batch. */
  notify(): void {
    this.wake();
  }

  /** Sends what waits, for so long at most and as long as it is taken; what is left stays in the queue. */
  async stop(graceMs: number): Promise<void> {
    this.isDraining = true;
    this.wake();
    const timer = setTimeout(() => this.stopping.abort(), graceMs);
    if (this.failures > 0) this.stopping.abort();
    await this.running;
    clearTimeout(timer);
    this.options.transport.close();
  }

  private async run(): Promise<void> {
    const { queue, transport } = this.options;
    const { signal } = this.stopping;
    while (!signal.aborted) {
      const awake = new Promise<void>((resolve) => {
        this.wake = resolve;
      });
      const batch = await queue.peek();
      if (batch === null) {
        if (this.isDraining) return;
        await awake;
        continue;
      }
      const delivery = await transport.send(batch.body, signal);
      if (signal.aborted && delivery.kind === "retry") return;
      await this.settle(batch, delivery);
      if (delivery.kind !== "retry") continue;
      if (this.isDraining) return;
      await sleep(this.pauseMs(delivery.afterMs), undefined, { signal }).catch(() => {}); // aborted: we stop
    }
  }

  private async settle(batch: Batch, delivery: Delivery): Promise<void> {
    const { queue, counts } = this.options;
    const { detail } = delivery;
    if (delivery.kind === "retry") {
      this.failures++;
      counts.retried(delivery.reason);
      this.log.warn(delivery.reason, { reason: delivery.reason, detail }, "not taken, to be tried again");
      return;
    }
    this.failures = 0;
    await queue.shift();
    if (delivery.kind === "delivered") {
      counts.sent(batch.samples - delivery.rejected, Date.now());
      if (delivery.rejected > 0) counts.dropped("rejected", delivery.rejected);
      if (detail !== "") this.log.warn("partial", { rejected: delivery.rejected, detail }, "taken in part");
    } else {
      counts.dropped(delivery.reason, batch.samples);
      this.log.error(
        delivery.reason,
        { reason: delivery.reason, samples: batch.samples, detail },
        "refused and dropped",
      );
    }
  }

  private pauseMs(afterMs: number): number {
    const bound = Math.min(LAST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(this.failures - 1, 16));
    return afterMs + (this.options.random ?? Math.random)() * bound;
  }
}
