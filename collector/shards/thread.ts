// Thread: the main thread's end of one thread with a shard. Messages go over in batches, in order with everything else.

import { Worker } from "node:worker_threads";
import { CollectorError } from "../error.ts";
import type { Log } from "../log.ts";
import type { LogRecord } from "../logs/record.ts";
import type { Answers, Command, Notice, Question, ThreadData } from "./messages.ts";

/** A batch is sent when it is so long, or else at the end of the event loop's turn. */
const BATCH_BYTES = 256 * 1024;
/**
 * Bytes of messages under way to one thread: beyond the first no stream is read on, until there are fewer than the second. Some 20 ms of
 * work, so that a thread neither waits for more nor answers late.
 */
const FULL_BYTES = 4 * 1024 * 1024;
const ROOM_BYTES = 2 * 1024 * 1024;

export interface ThreadOptions {
  /** From 0. */
  readonly number: number;
  readonly data: ThreadData;
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
  readonly resolve: (answer: Answers[keyof Answers]) => void;
  readonly reject: (error: CollectorError) => void;
}

export class Thread {
  /** Resolves when it can take commands; rejects when it cannot be started. */
  readonly ready: Promise<void>;
  private readonly worker: Worker;
  private setReady: () => void = () => {};
  private batch: Buffer[] = [];
  private spans: number[] = [];
  private batchBytes = 0;
  private underWay = 0;
  private isFull = false;
  private isStopping = false;
  private nextId = 0;
  private readonly waiting = new Map<number, Waiting>();

  constructor(private readonly options: ThreadOptions) {
    const { number, data } = options;
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

  /** The bytes of a message are kept until they are sent. */
  message(stream: number, bytes: Buffer): void {
    if (this.batch.length === 0) setImmediate(() => this.flush());
    this.batch.push(bytes);
    this.spans.push(stream, this.batchBytes, this.batchBytes + bytes.length);
    this.batchBytes += bytes.length;
    this.underWay += bytes.length;
    if (this.batchBytes >= BATCH_BYTES) this.flush();
    if (this.isFull || this.underWay < FULL_BYTES) return;
    this.isFull = true;
    this.options.onFull();
  }

  /** Behind all that was sent before. */
  send(command: Command, transfer?: ArrayBuffer[]): void {
    this.flush();
    this.worker.postMessage(command, transfer);
  }

  /** Rejects with CollectorError when it dies, or is given up, before it answers. */
  ask<Asked extends Question>(question: Asked): Promise<Answers[Asked["kind"]]> {
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve: resolve as Waiting["resolve"], reject });
      this.send({ kind: "ask", id, question });
    });
  }

  /** Nobody waits for an answer any more. */
  giveUp(reason: string): void {
    for (const { reject } of this.waiting.values()) reject(new CollectorError("unavailable", reason));
    this.waiting.clear();
  }

  /** Whatever it is doing. */
  async terminate(): Promise<void> {
    this.isStopping = true;
    await this.worker.terminate();
    this.giveUp("the collector shuts down");
  }

  private flush(): void {
    const { batch, spans, batchBytes } = this;
    if (batch.length === 0) return;
    const bytes = Buffer.allocUnsafeSlow(batchBytes);
    for (let i = 0; i < batch.length; i++) (batch[i] as Buffer).copy(bytes, spans[i * 3 + 1]);
    this.batch = [];
    this.spans = [];
    this.batchBytes = 0;
    const { buffer } = bytes;
    this.worker.postMessage({ kind: "messages", bytes: buffer, spans } satisfies Command, [buffer]);
  }

  private heed(notice: Notice): void {
    switch (notice.kind) {
      case "ready":
        this.setReady();
        break;
      case "taken":
        this.takenIn(notice.bytes);
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

  private takenIn(bytes: number): void {
    this.underWay -= bytes;
    if (!this.isFull || this.underWay > ROOM_BYTES) return;
    this.isFull = false;
    this.options.onRoom();
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
