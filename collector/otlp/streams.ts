// OTLP has no streams: each request stands for itself. So that all that follows is the same as with ALS, each proxy has one here, from its
// first record until it has been silent for a while.

import type { StreamReader } from "../receiver/client-stream.ts";

/** Access loggers flush every second, mostly. */
const IDLE_MS = 60_000;
const TICK_MS = 10_000;

interface Stream {
  readonly reader: StreamReader;
  usedMs: number;
}

export class OtlpStreams {
  /** By node id. */
  private readonly streams = new Map<string, Stream>();
  private timer: NodeJS.Timeout | undefined;

  constructor(
    /** Null when there are too many. */
    private readonly open: () => StreamReader | null,
    /** A clock that never jumps. */
    private readonly nowMs: () => number = () => performance.now(),
  ) {}

  /** Ends, now and then, those that have been silent. */
  start(): void {
    this.timer = setInterval(() => this.endIdle(), TICK_MS).unref();
  }

  /** Hands on a message that names the node; false when there are too many streams. */
  take(nodeId: string, message: Buffer): boolean {
    const stream = this.streams.get(nodeId) ?? this.add(nodeId);
    if (stream === null) return false;
    stream.usedMs = this.nowMs();
    stream.reader.message(message);
    return true;
  }

  endIdle(): void {
    const idleSinceMs = this.nowMs() - IDLE_MS;
    for (const [nodeId, { reader, usedMs }] of this.streams) {
      if (usedMs > idleSinceMs) continue;
      this.streams.delete(nodeId);
      reader.end("completed");
    }
  }

  stop(): void {
    clearInterval(this.timer);
    for (const { reader } of this.streams.values()) reader.end("completed");
    this.streams.clear();
  }

  private add(nodeId: string): Stream | null {
    const reader = this.open();
    if (reader === null) return null;
    const stream = { reader, usedMs: 0 };
    this.streams.set(nodeId, stream);
    return stream;
  }
}
