// Queue: batches that wait to be sent, first in, first out, within a bound. When it is full the oldest go.

import type { Batch } from "./batch.ts";

export interface Queue {
  /** Whether it outlives the process. */
  readonly isKept: boolean;
  /** Bytes and samples that wait. */
  readonly bytes: number;
  readonly samples: number;
  /** When the batch that is sent next was collected, Unix ms; null when none is known. */
  readonly oldestMs: number | null;
  /** Takes it in, or counts it as dropped. Never rejects. */
  push(batch: Batch): Promise<void>;
  /** The oldest; the same until `shift`. Null when there is none. */
  peek(): Promise<Batch | null>;
  /** Lets go of what `peek` gave. */
  shift(): Promise<void>;
  /** Nothing is pushed or taken any more. */
  close(): Promise<void>;
}

/** Samples that never reach the receiver. */
export type OnDropped = (reason: "queue_full" | "queue_fault" | "queue_corrupt", samples: number) => void;

/** Forgets all with the process. */
export class MemoryQueue implements Queue {
  readonly isKept = false;
  bytes = 0;
  samples = 0;
  private readonly batches: Batch[] = [];
  /** What `peek` gave; there may be no room for it here any more. */
  private peeked: Batch | null = null;

  constructor(
    private readonly maxBytes: number,
    private readonly onDropped: OnDropped,
  ) {}

  get oldestMs(): number | null {
    return (this.peeked ?? this.batches[0])?.collectedMs ?? null;
  }

  async push(batch: Batch): Promise<void> {
    if (batch.body.length > this.maxBytes) {
      this.onDropped("queue_full", batch.samples);
      return;
    }
    this.add(batch, 1);
    this.batches.push(batch);
    while (this.bytes > this.maxBytes) {
      const oldest = this.batches.shift() as Batch;
      this.add(oldest, -1);
      if (oldest !== this.peeked) this.onDropped("queue_full", oldest.samples); // that one is still being sent
    }
  }

  async peek(): Promise<Batch | null> {
    this.peeked ??= this.batches[0] ?? null;
    return this.peeked;
  }

  async shift(): Promise<void> {
    if (this.peeked !== null && this.batches[0] === this.peeked) {
      this.batches.shift();
      this.add(this.peeked, -1);
    }
    this.peeked = null;
  }

  async close(): Promise<void> {}

  private add({ body, samples }: Batch, sign: number): void {
    this.bytes += sign * body.length;
    this.samples += sign * samples;
  }
}
