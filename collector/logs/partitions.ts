// The files of the log store: each holds the records of one span of time, and goes as a whole. Deleting rows would leave their space in
// the file; removing a file gives it back.
//
//   FOLDER/store.duckdb               no records: who has it open has the folder
//   FOLDER/logs-1767225600000.duckdb  records that came from then on (Unix ms), until the next file's
//   FOLDER/logs-….duckdb.wal          of the youngest, what is not in its file yet

import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Duckdb } from "./duckdb.ts";
import { faultReason } from "./faults.ts";
import { CREATE_COLUMNS, TABLE } from "./log-table.ts";

const FILE = /^logs-(\d{1,15})\.duckdb$/;
/** Into how many files size and age are cut: so much of each is given up at once. */
const AGE_PARTS = 24;
const SIZE_PARTS = 16;
/** What is kept free of the size, for what grows until the next look: a log, a batch, and both once more while they go into their file. */
const FREE_PARTS = 8;
const WAL_PARTS = 32;
const MAX_WAL_BYTES = 4 * 2 ** 20;

export interface Bounds {
  readonly maxBytes: number;
  readonly maxAgeMs: number;
}

interface Partition {
  /** What it is attached as. */
  readonly name: string;
  readonly path: string;
  readonly startMs: number;
  /** Null when the file cannot be read. */
  maxId: bigint | null;
  records: number;
  bytes: number;
}

/** Runs it when nobody reads: what is read must not go away. */
type Alone = (run: () => Promise<void>) => Promise<void>;

export class Partitions {
  /** Oldest first. */
  private readonly all: Partition[] = [];
  /** The youngest, as long as it grows. */
  private active: Partition | null = null;
  private activeInode = 0n;

  private constructor(
    private readonly db: Duckdb,
    private readonly folder: string,
    private readonly bounds: Bounds,
    private readonly alone: Alone,
  ) {}

  /** How long a file's log may become before it is written into it, and how much is added to it at once. */
  static maxWalBytes({ maxBytes }: Bounds): number {
    return Math.min(MAX_WAL_BYTES, Math.floor(maxBytes / WAL_PARTS));
  }

  /** How much may be written after one look at the bounds. */
  get maxBatchBytes(): number {
    return Partitions.maxWalBytes(this.bounds);
  }

  /** All that is in the folder; `onUnreadable` hears of files that cannot be read. */
  static async open(
    db: Duckdb,
    folder: string,
    bounds: Bounds,
    alone: Alone,
    onUnreadable: (path: string, error: unknown) => void,
  ): Promise<Partitions> {
    const partitions = new Partitions(db, folder, bounds, alone);
    const starts = (await readdir(folder)).flatMap((file) => FILE.exec(file)?.[1] ?? []).map(Number);
    for (const startMs of starts.sort((a, b) => a - b)) await partitions.adopt(startMs, onUnreadable);
    return partitions;
  }

  get records(): number {
    return this.all.reduce((sum, { records }) => sum + records, 0);
  }

  get bytes(): number {
    return this.all.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  get unreadable(): number {
    return this.all.filter(({ maxId }) => maxId === null).length;
  }

  get oldestMs(): number | null {
    return this.all[0]?.startMs ?? null;
  }

  /** The last that is durable; 0 when there is none. */
  get maxId(): bigint {
    return this.all.reduce((max, { maxId }) => (maxId !== null && maxId > max ? maxId : max), 0n);
  }

  /** What to read from: each table once. */
  get tables(): string[] {
    return this.all.filter(({ maxId }) => maxId !== null).map(({ name }) => `${name}.${TABLE}`);
  }

  /** The file to write to, made if there is none; before that all bounds hold. */
  async prepare(nowMs: number): Promise<string> {
    await this.enforce(nowMs);
    this.active ??= await this.create(nowMs);
    return this.active.name;
  }

  /** So many records were written to it, up to this one. */
  wrote(records: number, maxId: bigint): void {
    if (this.active === null) return;
    this.active.records += records;
    this.active.maxId = maxId;
  }

  /** Closes the youngest file if it is large or old enough, and removes the oldest until the rest is within its bounds. */
  async enforce(nowMs: number): Promise<void> {
    const { maxBytes, maxAgeMs } = this.bounds;
    const { active } = this;
    if (active !== null) {
      await this.measureActive(active);
      const isOld = active.records > 0 && nowMs - active.startMs >= maxAgeMs / AGE_PARTS;
      if (isOld || active.bytes >= maxBytes / SIZE_PARTS) await this.seal(active);
    }
    const mostBytes = maxBytes - maxBytes / FREE_PARTS;
    for (let oldest = this.all[0]; oldest !== undefined; oldest = this.all[0]) {
      const isEmpty = oldest === this.active && oldest.records === 0;
      const isOver = this.bytes > mostBytes || (!isEmpty && nowMs - oldest.startMs >= maxAgeMs);
      if (!isOver) return;
      await this.drop(oldest);
    }
  }

  /** Writes into the files what is in their logs. */
  async checkpoint(): Promise<void> {
    if (this.active !== null) await this.db.run(`CHECKPOINT ${this.active.name}`);
  }

  private async adopt(startMs: number, onUnreadable: (path: string, error: unknown) => void): Promise<void> {
    const partition = this.partitionOf(startMs);
    try {
      await this.db.attach(partition.path, partition.name);
      const [row] = await this.db.run(`SELECT count(*) AS records, max(id) AS id FROM ${partition.name}.${TABLE}`);
      partition.records = Number(row?.["records"] ?? 0);
      partition.maxId = (row?.["id"] as bigint | null) ?? 0n;
    } catch (error: unknown) {
      if (faultReason(error) === "disk_full") throw error; // it is as it was, and will be read when there is room
      onUnreadable(partition.path, error);
    }
    partition.bytes = await sizeOf(partition.path);
    this.all.push(partition);
    if (partition.maxId === null) return;
    this.active = partition;
    this.activeInode = await inodeOf(partition.path);
  }

  private async create(nowMs: number): Promise<Partition> {
    const last = this.all.at(-1)?.startMs ?? 0;
    const partition = this.partitionOf(Math.max(nowMs, last + 1));
    try {
      await this.db.attach(partition.path, partition.name);
      await this.db.run(`CREATE TABLE ${partition.name}.${TABLE} ${CREATE_COLUMNS}`);
    } catch (error: unknown) {
      await remove(partition.path); // half a file would count as broken
      throw error;
    }
    partition.maxId = 0n;
    partition.bytes = await sizeOf(partition.path);
    this.all.push(partition);
    this.activeInode = await inodeOf(partition.path);
    return partition;
  }

  private partitionOf(startMs: number): Partition {
    const path = join(this.folder, `logs-${startMs}.duckdb`);
    return { name: `logs_${startMs}`, path, startMs, maxId: null, records: 0, bytes: 0 };
  }

  /** A file that was removed under us would take all that is written to it, and lose it. */
  private async measureActive(active: Partition): Promise<void> {
    if ((await inodeOf(active.path)) !== this.activeInode)
      throw new Error(`the log store's file ${active.path} is gone`);
    active.bytes = await sizeOf(active.path);
  }

  private async seal(active: Partition): Promise<void> {
    await this.db.run(`CHECKPOINT ${active.name}`);
    active.bytes = await sizeOf(active.path);
    this.active = null;
  }

  private async drop(partition: Partition): Promise<void> {
    await this.alone(async () => {
      if (partition.maxId !== null) await this.db.detach(partition.name);
      if (this.active === partition) this.active = null;
      this.all.splice(this.all.indexOf(partition), 1);
    });
    await remove(partition.path);
  }
}

/** A database file and its log. */
async function remove(path: string): Promise<void> {
  for (const each of [path, `${path}.wal`]) await rm(each, { force: true });
}

/** Of a database file and its log. */
async function sizeOf(path: string): Promise<number> {
  const sizes = await Promise.all([path, `${path}.wal`].map((each) => stat(each).catch(() => ({ size: 0 }))));
  return sizes.reduce((sum, { size }) => sum + size, 0);
}

/** 0 when there is none. */
async function inodeOf(path: string): Promise<bigint> {
  const found = await stat(path, { bigint: true }).catch(() => null);
  return found?.ino ?? 0n;
}
