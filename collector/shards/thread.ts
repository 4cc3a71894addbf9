// Thread: the main thread's end of one thread with a shard. Messages go over in batches, in order with everything else.

import { Worker } from "node:worker_threads";
import { CollectorError } from "../error.ts";
import type { Log } from "../log.ts";
import type { LogRecord } from "../logs/record.ts";
import type { Answers, Command, Notice, Question, ThreadData } from "./messages.ts";
import { RingWriter, ringMemory, SLOT_BYTES } from "./ring.ts";

/** Messages are sent together, as many as find room in a slot, or come within so long. */
const BATCH_MS = 2;
/**
 * When all slots are under way, some 10 ms of work, the main thread waits, as if it did the work itself: sockets are not read then, all
 * alike, and clients hold back. (Streams that are paused would still fill their windows, and the first of those that go on would fill the
 * thread again before others have their turn.) A thread that makes no room within so long may be stuck: from then on streams are
 * paused, and the main thread answers.
 */
const WAIT_MS = 200;

export interface ThreadOptions {
  /** From 0. */
  readonly number: number;
  readonly config: ThreadData["config"];
  readonly keepsLogs: boolean;
  readonly state: ThreadData["state"];
  /** Told when it is full, and when there is room again. */
  readonly onFull: () => void;
  readonly onRoom: () => void;
  /** Told of each access-log entry that is kept. */
  readonly onLogRecord: (record: LogRecord) => void;
  /** Told once, if the thread ends by itself. */
  readonly onFailure: (error: CollectorError) => void;
  readonly log: Log;
}

interface Waiting {
  /** Asked when, by a clock that never jumps. */
  readonly askedMs: number;
  readonly resolve: (answer: Answers[keyof Answers]) => void;
  readonly reject: (error: CollectorError) => void;
}

export class Thread {
  /** Resolves when it can take commands; rejects when it cannot be started. */
  readonly ready: Promise<void>;
  private readonly worker: Worker;
  private setReady: () => void = () => {};
  private readonly ring: RingWriter;
  /** Where messages are put together; null when there are none. */
  private batch: { readonly slot: number; readonly bytes: Buffer } | null = null;
  private spans: number[] = [];
  private batchBytes = 0;
  private batchTimer: NodeJS.Timeout | undefined;
  private isFull = false;
  private isStopping = false;
  private nextId = 0;
  private readonly waiting = new Map<number, Waiting>();

  constructor(private readonly options: ThreadOptions) {
    const { number, config, keepsLogs, state } = options;
    const memory = ringMemory();
    this.ring = new RingWriter(memory);
    const data: ThreadData = { config, keepsLogs, memory, state };
    this.worker = new Worker(workerUrl(), { workerData: data, name: `shard ${number}` });
    this.worker.on("message", (notice: Notice) => this.heed(notice));
    this.ready = new Promise((resolve, reject) => {
      this.setReady = resolve;
      this.worker.on("error", (error) => reject(this.failure(error)));
    });
    this.ready.catch(() => {}); // who starts it is told, if anybody waits
    this.worker.on("error", (error) => this.fail(this.failure(error)));
    this.worker.on("exit", (code) => this.fail(this.failure(new Error(`it ended with code ${code}`))));
  }

  message(stream: number, bytes: Buffer): void {
    if (this.batchBytes + bytes.length > SLOT_BYTES) this.flush();
    this.batch ??= this.begin();
    if (this.batch === null || bytes.length > SLOT_BYTES) {
      this.sendAlone(stream, bytes);
      return;
    }
    const start = this.batchBytes;
    this.batchBytes += bytes.copy(this.batch.bytes, start);
    this.spans.push(stream, start, this.batchBytes);
  }

  /** Behind all that was sent before. */
  send(command: Command): void {
    this.flush();
    this.worker.postMessage(command);
  }

  /** Rejects with CollectorError when it dies, or is given up, before it answers. */
  ask<Asked extends Question>(question: Asked): Promise<Answers[Asked["kind"]]> {
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { askedMs: performance.now(), resolve: resolve as Waiting["resolve"], reject });
      this.send({ kind: "ask", id, question });
    });
  }

  /** Nobody waits for an answer any more that was asked for so long ago. */
  giveUp(reason: string, waitedMs = 0): void {
    const askedMs = performance.now() - waitedMs;
    for (const [id, waiting] of this.waiting) {
      if (waiting.askedMs <= askedMs) this.take(id)?.reject(new CollectorError("unavailable", reason));
    }
  }

  /** Whatever it is doing. */
  async terminate(): Promise<void> {
    this.isStopping = true;
    await this.worker.terminate();
    this.giveUp("the collector shuts down");
  }

  /** What is too long for a slot takes its place there all the same. Copied, for with a piece all of its memory would be cloned. */
  private sendAlone(stream: number, message: Buffer): void {
    const bytes = new Uint8Array(message);
    const hasSlot = this.batch !== null;
    this.batch = null;
    clearTimeout(this.batchTimer);
    this.worker.postMessage({ kind: "message", stream, bytes, hasSlot } satisfies Command);
  }

  /** Null when there is no room, and none is to be hoped for soon. */
  private begin() {
    const batch = this.ring.begin() ?? (this.waitForRoom() ? this.ring.begin() : null);
    if (batch !== null) this.batchTimer = setTimeout(() => this.flush(), BATCH_MS);
    return batch;
  }

  private waitForRoom(): boolean {
    if (this.isFull) return false;
    if (this.ring.waitForRoom(WAIT_MS)) return true;
    this.isFull = true;
    this.options.onFull();
    return false;
  }

  private flush(): void {
    const { batch, spans } = this;
    if (batch === null) return;
    clearTimeout(this.batchTimer);
    this.batch = null;
    this.spans = [];
    this.batchBytes = 0;
    this.worker.postMessage({ kind: "batch", slot: batch.slot, spans } satisfies Command);
  }

  private heed(notice: Notice): void {
    switch (notice.kind) {
      case "ready":
        this.setReady();
        break;
      case "room":
        this.isFull = false;
        this.options.onRoom();
        break;
      case "log_record":
        this.options.onLogRecord(notice.record);
        break;
      case "answer":
        this.take(notice.id)?.resolve(notice.answer);
        break;
      case "failed":
        this.take(notice.id)?.reject(new CollectorError("internal", notice.reason));
        break;
      case "log":
        this.options.log[notice.level](notice.fields, notice.message);
        break;
    }
  }

  private take(id: number): Waiting | undefined {
    const waiting = this.waiting.get(id);
    this.waiting.delete(id);
    return waiting;
  }

  private failure(cause: unknown): CollectorError {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const { number } = this.options;
    return new CollectorError("internal", `thread ${number} died, and what it had counted with it: ${reason}`, {
      cause,
    });
  }

  private fail(error: CollectorError): void {
    if (this.isStopping) return;
    this.isStopping = true;
    this.giveUp(error.message);
    this.options.onFailure(error);
  }
}

/** Beside this file, in the same language. */
function workerUrl(): URL {
  const name = import.meta.url.endsWith(".ts") ? "./worker.ts" : "./worker.js";
  return new URL(name, import.meta.url);
}
