// DiskQueue: a queue in a folder, which outlives the process, also one that is killed.
//
//   00000007.remote-write   segments: files of records (segment.ts), oldest first. The last one is appended to
//   00000008.remote-write
//   cursor                  "00000007 0000004096": what stands before that place was delivered
//
// A record is written by one call before `push` resolves: a killed process loses none, a machine that loses power those that the system
// had not written (seconds). Segments are synced when they are full and at the end. A record that was not written whole is cut off.

import { type FileHandle, mkdir, open, readdir, readFile, stat, truncate, unlink } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { CollectorError } from "../error.ts";
import type { Log } from "../log.ts";
import { LogLimit } from "../receiver/log-limit.ts";
import type { Batch } from "./batch.ts";
import type { OnDropped, Queue } from "./queue.ts";
import { decodeRecord, encodeRecord, HEADER_BYTES, recordLength, recordsOf } from "./segment.ts";

const CURSOR = "cursor";
/** A full queue lets go of one segment at a time: a small part of it, in few files. */
const SEGMENTS = 16;
const MAX_SEGMENT_BYTES = 64 * 1024 * 1024;

export interface DiskQueueOptions {
  readonly folder: string;
  readonly maxBytes: number;
  /** What its batches are; those of another format in the folder are left alone. */
  readonly format: string;
  readonly onDropped: OnDropped;
  readonly log: Log;
}

interface Segment {
  readonly number: number;
  readonly file: FileHandle;
  /** Length of the file. */
  bytes: number;
  /** Where the first record is that was not delivered. */
  readAt: number;
  /** Samples from there on. */
  samples: number;
}

interface Peeked {
  readonly batch: Batch;
  readonly length: number;
  /** Null when there was no room for it any more. */
  segment: Segment | null;
}

export class DiskQueue implements Queue {
  readonly isKept = true;
  /** Oldest first; the last one is appended to, if `isOpen`. */
  private readonly segments: Segment[] = [];
  private isOpen = false;
  private nextNumber = 1;
  private peeked: Peeked | null = null;
  /** Ends when all that was begun is done. */
  private turn: Promise<unknown> = Promise.resolve();
  private readonly log: LogLimit;

  private constructor(
    private readonly options: DiskQueueOptions,
    private readonly lock: Server,
    private readonly cursor: FileHandle,
  ) {
    this.log = new LogLimit(options.log);
  }

  /** Rejects with CollectorError `unavailable` when the folder cannot be used, or another process uses it. */
  static async open(options: DiskQueueOptions): Promise<DiskQueue> {
    const { folder } = options;
    let lock: Server | null = null;
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      lock = await lockFolder(folder);
      const cursor = await open(join(folder, CURSOR), "a").then(async (made) => {
        await made.close();
        return open(join(folder, CURSOR), "r+");
      });
      const queue = new DiskQueue(options, lock, cursor);
      await queue.recover();
      return queue;
    } catch (error: unknown) {
      lock?.close();
      const reason = error instanceof Error ? error.message : String(error);
      throw new CollectorError("unavailable", `cannot queue in ${folder}: ${reason}`, { cause: error });
    }
  }

  get bytes(): number {
    return this.segments.reduce((sum, { bytes, readAt }) => sum + bytes - readAt, 0);
  }

  get samples(): number {
    return this.segments.reduce((sum, { samples }) => sum + samples, 0);
  }

  get oldestMs(): number | null {
    return this.peeked?.batch.collectedMs ?? null;
  }

  push(batch: Batch): Promise<void> {
    return this.inTurn(async () => {
      const record = encodeRecord(batch);
      if (record.length > this.options.maxBytes) {
        this.options.onDropped("queue_full", batch.samples);
        return;
      }
      try {
        await this.append(record, batch.samples);
      } catch (error: unknown) {
        this.options.onDropped("queue_fault", batch.samples);
        this.log.error("write", { err: error, folder: this.options.folder }, "the queue cannot be written");
      }
    });
  }

  peek(): Promise<Batch | null> {
    return this.inTurn(async () => {
      this.peeked ??= await this.readOldest();
      return this.peeked?.batch ?? null;
    });
  }

  shift(): Promise<void> {
    return this.inTurn(async () => {
      const { peeked } = this;
      this.peeked = null;
      if (!peeked?.segment) return;
      const { segment } = peeked;
      segment.readAt += peeked.length;
      segment.samples -= peeked.batch.samples;
      await this.writeCursor(segment);
      await this.removeDelivered();
    });
  }

  close(): Promise<void> {
    return this.inTurn(async () => {
      this.isOpen = false;
      await this.removeDelivered();
      for (const { file } of this.segments) {
        await file.sync().catch(() => {}); // what cannot be synced may be there all the same
        await file.close();
      }
      await this.cursor.close();
      this.lock.close();
    });
  }

  private async append(record: Buffer, samples: number): Promise<void> {
    let segment = this.isOpen ? this.segments[this.segments.length - 1] : undefined;
    if (segment && segment.bytes > 0 && segment.bytes + record.length > this.segmentBytes) {
      await segment.file.sync();
      segment = undefined;
      this.isOpen = false;
    }
    await this.makeRoom(record.length);
    segment = this.isOpen ? segment : await this.addSegment();
    if (!segment) return;
    try {
      const { bytesWritten } = await segment.file.write(record, 0, record.length, segment.bytes);
      if (bytesWritten !== record.length) throw new Error(`${bytesWritten} of ${record.length} bytes were written`);
    } catch (error: unknown) {
      await segment.file.truncate(segment.bytes).catch(() => {}); // what is left there is overwritten, or cut off later
      throw error;
    }
    segment.bytes += record.length;
    segment.samples += samples;
  }

  private get segmentBytes(): number {
    return Math.min(MAX_SEGMENT_BYTES, Math.floor(this.options.maxBytes / SEGMENTS));
  }

  private async addSegment(): Promise<Segment> {
    const number = this.nextNumber++;
    const file = await open(this.pathOf(number), "w+", 0o600);
    const segment = { number, file, bytes: 0, readAt: 0, samples: 0 };
    this.segments.push(segment);
    this.isOpen = true;
    return segment;
  }

  /** Lets go of the oldest segments until so many bytes have room. */
  private async makeRoom(bytes: number): Promise<void> {
    const held = () => this.segments.reduce((sum, segment) => sum + segment.bytes, 0);
    while (this.segments.length > 0 && held() + bytes > this.options.maxBytes) {
      const oldest = this.segments[0] as Segment;
      if (this.segments.length === 1) this.isOpen = false;
      let lost = oldest.samples;
      if (this.peeked?.segment === oldest) {
        lost -= this.peeked.batch.samples; // that one is still being sent
        this.peeked.segment = null;
      }
      if (lost > 0) this.options.onDropped("queue_full", lost);
      await this.remove(oldest);
    }
  }

  private async readOldest(): Promise<Peeked | null> {
    await this.removeDelivered();
    for (let segment = this.segments[0]; segment; segment = this.segments[0]) {
      if (segment.readAt >= segment.bytes) return null; // the one that is appended to
      const read = await readRecord(segment).catch(() => null);
      if (read !== null) return { ...read, segment };
      const fields = { file: this.pathOf(segment.number), samples: segment.samples };
      this.log.error("damaged", fields, "a queued batch is damaged, so the rest of its file is dropped");
      this.options.onDropped("queue_corrupt", segment.samples);
      if (this.segments.length === 1) this.isOpen = false;
      await this.remove(segment);
    }
    return null;
  }

  private async removeDelivered(): Promise<void> {
    for (let segment = this.segments[0]; segment; segment = this.segments[0]) {
      const isAppendedTo = this.isOpen && this.segments.length === 1;
      if (isAppendedTo || segment.readAt < segment.bytes) return;
      await this.remove(segment);
    }
  }

  private async remove(segment: Segment): Promise<void> {
    this.segments.splice(this.segments.indexOf(segment), 1);
    await segment.file.close().catch(() => {}); // it is of no use any more
    await unlink(this.pathOf(segment.number)).catch(() => {}); // gone already; else it is found, and sent once more, at the next start
  }

  /** In place and at once, so that a killed process knows where it was. */
  private async writeCursor({ number, readAt }: Segment): Promise<void> {
    const text = `${String(number).padStart(8, "0")} ${String(readAt).padStart(10, "0")}\n`;
    // Without it delivered batches are sent once more at the next start.
    await this.cursor.write(text, 0).catch((error: unknown) => {
      this.log.error("cursor", { err: error, folder: this.options.folder }, "the queue's cursor cannot be written");
    });
  }

  private async recover(): Promise<void> {
    const { folder, format } = this.options;
    const cursor = /^(\d{8}) (\d{10})\n/.exec(await readFile(join(folder, CURSOR), "latin1"));
    const [number, at] = [Number(cursor?.[1] ?? 0), Number(cursor?.[2] ?? 0)];
    const names = (await readdir(folder)).filter((name) => new RegExp(`^\\d{8}\\.${format}$`).test(name)).sort();
    for (const name of names) await this.recoverSegment(Number.parseInt(name, 10), number, at);
    this.nextNumber = Math.max(number, ...this.segments.map((segment) => segment.number)) + 1;
  }

  /** Takes in what a file holds from the cursor on. What is behind its last whole record is cut off. */
  private async recoverSegment(number: number, cursorNumber: number, cursorAt: number): Promise<void> {
    const path = this.pathOf(number);
    const content = await readFile(path);
    let [bytes, readAt, samples] = [0, 0, 0];
    for (const { at, length, batch } of recordsOf(content)) {
      bytes = at + length;
      if (number === cursorNumber && bytes <= cursorAt) readAt = bytes;
      else samples += batch.samples;
    }
    if (bytes < content.length) {
      const fields = { file: path, bytes: content.length - bytes };
      this.options.log.warn(fields, "what was not written whole is cut off the queue");
      this.options.onDropped("queue_corrupt", samplesAt(content.subarray(bytes)));
      await truncate(path, bytes);
    }
    if (number < cursorNumber || readAt === bytes) await unlink(path);
    else this.segments.push({ number, file: await open(path, "r+"), bytes, readAt, samples });
  }

  private pathOf(number: number): string {
    return join(this.options.folder, `${String(number).padStart(8, "0")}.${this.options.format}`);
  }

  private inTurn<Result>(act: () => Promise<Result>): Promise<Result> {
    const result = this.turn.then(act);
    this.turn = result.catch(() => {}); // whoever asked is told
    return result;
  }
}

async function readRecord({ file, readAt, bytes }: Segment): Promise<Omit<Peeked, "segment"> | null> {
  const header = Buffer.alloc(HEADER_BYTES);
  await file.read(header, 0, HEADER_BYTES, readAt);
  const length = recordLength(header);
  if (length === null || readAt + length > bytes) return null;
  const record = Buffer.allocUnsafe(length);
  await file.read(record, 0, length, readAt);
  const batch = decodeRecord(record);
  return batch === null ? null : { batch, length };
}

/** What the header of a record that is cut off says; 1 when not even that is there. */
function samplesAt(rest: Buffer): number {
  return rest.length >= HEADER_BYTES && recordLength(rest) !== null ? rest.readUInt32LE(8) : 1;
}

/** Held until it is closed or the process ends, however that ends. Rejects when another one holds it. */
async function lockFolder(folder: string): Promise<Server> {
  const { dev, ino } = await stat(folder, { bigint: true });
  const lock = createServer().unref();
  await new Promise<void>((resolve, reject) => {
    lock.once("error", (error: NodeJS.ErrnoException) => {
      reject(error.code === "EADDRINUSE" ? new Error("another process, or another receiver, uses it") : error);
    });
    lock.listen(`\0meshtally-queue-${dev}-${ino}`, resolve); // Linux: a name, not a file, so nothing is left behind
  });
  return lock;
}
