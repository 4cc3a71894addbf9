// LogStore on DuckDB. Records wait in a queue and are written in batches, each in one transaction: what kill -9 takes is what waits, half a
// second's worth at most. Whatever goes wrong is a fault: told, counted, and tried again; records wait meanwhile, as many as there is room for.

import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { CollectorError } from "../error.ts";
import type { Log } from "../log.ts";
import type { LogFaultReason, SelfMetrics } from "../self.ts";
import { Duckdb, type Reader } from "./duckdb.ts";
import { faultReason, lockHolder, messageOf } from "./faults.ts";
import { Gate } from "./gate.ts";
import { LogQueue } from "./log-queue.ts";
import { search } from "./log-search.ts";
import { TABLE, writeRow } from "./log-table.ts";
import { type Bounds, Partitions } from "./partitions.ts";
import type { LogRecord } from "./record.ts";
import { type LogFault, type LogPage, type LogQuery, type LogStore, type LogStoreStats, SearchError } from "./store.ts";

const FLUSH_INTERVAL_MS = 250;
/** Bounds are looked after this often even when nothing is written. */
const ENFORCE_INTERVAL_MS = 5000;
/** Records of one transaction: what DuckDB holds at once, and how long this thread is busy with them (some 10 ms). */
const MAX_BATCH = 500;
const MAX_QUEUED = 16_384;
const MAX_QUEUED_BYTES = 32 * 2 ** 20;
const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 10_000;
/** What part of its size searches may write beside it, when they need more than their memory. */
const TEMP_PARTS = 16;
/** More are slower together than one after the other: DuckDB has one thread of this process. */
const MAX_SEARCHES = 2;
const SEARCH_TIMEOUT_MS = 5000;

export interface DuckdbStoreOptions {
  readonly folder: string;
  readonly bounds: Bounds;
  readonly memoryBytes: number;
  readonly self: SelfMetrics;
  readonly log: Log;
  /** For tests. */
  readonly searchTimeoutMs?: number;
}

interface Opened {
  readonly db: Duckdb;
  readonly partitions: Partitions;
}

export class DuckdbLogStore implements LogStore {
  private readonly queue = new LogQueue(MAX_QUEUED, MAX_QUEUED_BYTES);
  private readonly gate = new Gate();
  private readonly readers = new Set<Reader>();
  private timer: NodeJS.Timeout | undefined;
  /** Whether the records that wait have numbers of the store's: it was open once. */
  private isNumbered = false;
  private opened: Opened | null = null;
  private nextId = 1n;
  private fault: LogFault | null = null;
  private retryAtMs = 0;
  private retryMs = FIRST_RETRY_MS;
  private enforceAtMs = 0;
  private work: Promise<void> | null = null;
  private searches = 0;

  private constructor(private readonly options: DuckdbStoreOptions) {}

  /** Rejects with `unavailable` when the folder cannot be a store's, or is another process's. A disk that is full now may not be later. */
  static async open(options: DuckdbStoreOptions): Promise<DuckdbLogStore> {
    const store = new DuckdbLogStore(options);
    try {
      await store.reopen();
    } catch (error: unknown) {
      if (faultReason(error) !== "disk_full") throw refusal(options.folder, error);
      store.fail(error);
    }
    store.timer = setInterval(() => store.tick(), FLUSH_INTERVAL_MS);
    return store;
  }

  get stats(): LogStoreStats {
    const partitions = this.opened?.partitions;
    return {
      fault: this.fault,
      records: partitions?.records ?? 0,
      bytes: partitions?.bytes ?? 0,
      queued: this.queue.length,
      oldestMs: partitions?.oldestMs ?? null,
      unreadable: partitions?.unreadable ?? 0,
    };
  }

  add(record: LogRecord): boolean {
    if (!this.queue.add(record, this.nextId)) return false;
    this.nextId++;
    return true;
  }

  async search(query: LogQuery): Promise<LogPage> {
    if (this.searches >= MAX_SEARCHES) throw new SearchError("busy", `more than ${MAX_SEARCHES} searches at once`);
    this.searches++;
    try {
      return await this.gate.enter(() => this.searchNow(query));
    } finally {
      this.searches--;
    }
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    for (const reader of this.readers) reader.interrupt();
    await this.work;
    if (this.fault === null) await this.write();
    const { options, queue } = this;
    if (queue.length > 0) options.log.warn({ records: queue.length }, "log store closed before all was written");
    await this.gate.exclude(async () => {
      await this.opened?.partitions.checkpoint().catch(() => {}); // its log is read at the next start
      this.closeFiles();
    });
  }

  // === writing ===

  private tick(): void {
    const nowMs = Date.now();
    const isDue = this.queue.length > 0 || this.fault !== null || nowMs >= this.enforceAtMs;
    if (this.work !== null || !isDue || nowMs < this.retryAtMs) return;
    this.work = this.write().finally(() => {
      this.work = null;
    });
  }

  /** Writes all that waits; never rejects. */
  private async write(): Promise<void> {
    try {
      if (this.opened === null) await this.reopen();
      do {
        await this.writeBatch();
        this.recover();
        this.measure();
      } while (this.queue.length > 0);
    } catch (error: unknown) {
      this.fail(error);
      await this.reopen().catch((again: unknown) => this.fail(again)); // so that what is there can be read
      this.measure();
    }
  }

  private measure(): void {
    const { stats, options } = this;
    options.self.logStoreBytes.set(stats.bytes);
    options.self.logStoreRecords.set(stats.records);
  }

  private async writeBatch(): Promise<void> {
    const { db, partitions } = this.opened as Opened;
    const nowMs = Date.now();
    this.enforceAtMs = nowMs + ENFORCE_INTERVAL_MS;
    const batch = this.queue.head(MAX_BATCH, partitions.maxBatchBytes);
    const last = batch.at(-1);
    if (last === undefined) {
      await partitions.enforce(nowMs);
      return;
    }
    const endTimer = this.options.self.logStoreFlush.startTimer();
    await db.append(await partitions.prepare(nowMs), TABLE, batch, writeRow);
    endTimer();
    partitions.wrote(batch.length, last.id);
    this.removeStored(last.id);
  }

  private removeStored(id: bigint): void {
    for (const { record } of this.queue.removeThrough(id)) {
      this.options.self.logRecordsStored.inc({ rule: record.reason });
    }
  }

  // === faults ===

  private fail(error: unknown): void {
    const reason = faultReason(error);
    const message = messageOf(error);
    const nowMs = Date.now();
    this.countFault(reason);
    if (this.fault?.reason !== reason) {
      this.options.log.error({ reason, folder: this.options.folder, error: message }, "log store cannot be written");
    }
    this.fault = { reason, message, sinceMs: this.fault?.sinceMs ?? nowMs };
    this.retryAtMs = nowMs + this.retryMs;
    this.retryMs = Math.min(this.retryMs * 2, MAX_RETRY_MS);
  }

  private recover(): void {
    this.retryMs = FIRST_RETRY_MS;
    if (this.fault === null) return;
    this.fault = null;
    this.options.log.info({ folder: this.options.folder }, "log store is written again");
  }

  private countFault(reason: LogFaultReason): void {
    this.options.self.logStoreFaults.inc({ reason });
  }

  /** All files anew: a database that failed may refuse everything from then on. What of the queue turns out to be stored is taken off. */
  private async reopen(): Promise<void> {
    await this.gate.exclude(async () => {
      this.closeFiles();
      const { folder, bounds, log } = this.options;
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const db = await this.openOwner();
      const alone = (run: () => Promise<void>) => this.gate.exclude(run);
      const partitions = await Partitions.open(db, folder, bounds, alone, (path, error) => {
        this.countFault("unreadable");
        log.error({ path, error: messageOf(error) }, "file of the log store cannot be read");
      }).catch((error: unknown) => {
        db.close();
        throw error;
      });
      this.opened = { db, partitions };
      if (this.isNumbered) this.removeStored(partitions.maxId);
      else this.number(partitions.maxId + 1n);
    });
  }

  /** The database by which the folder is ours. It holds nothing: one that was made by half, as the disk was full, is made anew. */
  private async openOwner(): Promise<Duckdb> {
    const { folder, bounds, memoryBytes } = this.options;
    const path = join(folder, "store.duckdb");
    const settings = {
      memoryBytes,
      maxWalBytes: Partitions.maxWalBytes(bounds),
      maxTempBytes: Math.floor(bounds.maxBytes / TEMP_PARTS),
    };
    try {
      return await Duckdb.open(path, settings);
    } catch (error: unknown) {
      if (faultReason(error) !== "unreadable") throw error;
      await rm(path, { force: true });
      return await Duckdb.open(path, settings);
    }
  }

  private number(first: bigint): void {
    this.queue.renumber(first);
    this.nextId = first + BigInt(this.queue.length);
    this.isNumbered = true;
  }

  private closeFiles(): void {
    this.opened?.db.close();
    this.opened = null;
  }

  // === reading ===

  private async searchNow(query: LogQuery): Promise<LogPage> {
    const { opened, fault } = this;
    if (opened === null) throw new SearchError("unavailable", fault?.message ?? "the log store is closed");
    const { tables, oldestMs } = opened.partitions;
    const reader = await opened.db.reader();
    const timeoutMs = this.options.searchTimeoutMs ?? SEARCH_TIMEOUT_MS;
    const timer = setTimeout(() => reader.interrupt(), timeoutMs);
    this.readers.add(reader);
    try {
      return await search(reader, tables, oldestMs ?? Date.now(), query);
    } catch (error: unknown) {
      throw searchError(error, timeoutMs);
    } finally {
      clearTimeout(timer);
      this.readers.delete(reader);
      reader.close();
    }
  }
}

function refusal(folder: string, error: unknown): CollectorError {
  const holder = lockHolder(error);
  const why = holder === null ? `cannot be used: ${messageOf(error)}` : `is in use by another process (PID ${holder})`;
  return new CollectorError("unavailable", `logs.folder: ${folder} ${why}`, { cause: error });
}

function searchError(error: unknown, timeoutMs: number): SearchError {
  const message = messageOf(error);
  if (/interrupt/i.test(message)) {
    return new SearchError("too_slow", `no answer within ${timeoutMs} ms: ask for less time, or a service`, {
      cause: error,
    });
  }
  if (/out of memory|could not allocate|failed to offload|temp.*directory/i.test(message)) {
    return new SearchError("too_large", "more than logs.memory is needed: ask for less time, or a service", {
      cause: error,
    });
  }
  return new SearchError("unavailable", message, { cause: error });
}
