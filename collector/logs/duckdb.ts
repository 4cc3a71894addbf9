// The door to DuckDB: an embedded database in this process, one file for each attached database. The only importer of its package,
// which is loaded when a store is opened: a collector without one pays for none of its 60 MB.
// https://duckdb.org/docs/stable/clients/node_neo/overview

import type { DuckDBAppender, DuckDBConnection, DuckDBInstance } from "@duckdb/node-api";

type Library = typeof import("@duckdb/node-api");
export type Parameter = string | number | bigint;
export type Row = Readonly<Record<string, unknown>>;

export interface DuckdbSettings {
  readonly memoryBytes: number;
  /** A log that is longer is written into its database at the end of a transaction. */
  readonly maxWalBytes: number;
  readonly maxTempBytes: number;
}

/**
 * Small blocks and row groups: what must be held to be written is a megabyte instead of many. Tried with 1 KB records: the defaults (256 KiB,
 * 122880 rows) held 175 MB, and failed for want of memory under a limit of 64 MB. The version is the first that has zstd.
 */
const ATTACH_OPTIONS = "(BLOCK_SIZE 65536, ROW_GROUP_SIZE 2048, STORAGE_VERSION 'v1.2.0')";

export class Duckdb {
  private constructor(
    private readonly library: Library,
    private readonly instance: DuckDBInstance,
    private readonly writer: DuckDBConnection,
  ) {}

  /** Opens the database `path`, which no other process can then open; made if it is not there. */
  static async open(path: string, settings: DuckdbSettings): Promise<Duckdb> {
    const library = await import("@duckdb/node-api");
    const instance = await library.DuckDBInstance.create(path, {
      memory_limit: `${settings.memoryBytes}B`,
      threads: "1",
      temp_directory: `${path}.tmp`,
      max_temp_directory_size: `${settings.maxTempBytes}B`,
      wal_autocheckpoint: `${settings.maxWalBytes}B`,
      autoinstall_known_extensions: "false", // nothing is fetched from anywhere
      autoload_known_extensions: "false",
    });
    return new Duckdb(library, instance, await instance.connect());
  }

  /** One more file, under a name that is ours: names cannot be bound. */
  async attach(path: string, name: string): Promise<void> {
    await this.writer.run(`ATTACH '${path.replaceAll("'", "''")}' AS ${name} ${ATTACH_OPTIONS}`);
  }

  /** Its file is closed, and may be removed. */
  async detach(name: string): Promise<void> {
    await this.writer.run(`DETACH ${name}`);
  }

  /** One statement of ours. */
  async run(sql: string): Promise<Row[]> {
    return (await this.writer.runAndReadAll(sql)).getRowObjectsJS();
  }

  /** Adds rows to a table in one transaction: all of them are there then, and survive this process; or none, and it rejects. */
  async append<T>(
    name: string,
    table: string,
    rows: readonly T[],
    write: (to: RowWriter, row: T) => void,
  ): Promise<void> {
    const { writer } = this;
    await writer.run("BEGIN");
    try {
      const appender = await writer.createAppender(table, null, name);
      const to = new RowWriter(appender, this.library);
      for (const row of rows) {
        write(to, row);
        appender.endRow();
      }
      appender.closeSync();
      await writer.run("COMMIT");
    } catch (error: unknown) {
      await writer.run("ROLLBACK").catch(() => {}); // a commit that failed has done so already
      throw error;
    }
  }

  /** One who reads, apart from who writes. */
  async reader(): Promise<Reader> {
    return new Reader(await this.instance.connect());
  }

  close(): void {
    this.writer.closeSync();
    this.instance.closeSync();
  }
}

/** Takes the values of a row in the order of the table's columns. */
export class RowWriter {
  private readonly listOfTexts;

  constructor(
    private readonly appender: DuckDBAppender,
    private readonly library: Library,
  ) {
    this.listOfTexts = library.LIST(library.VARCHAR);
  }

  text(value: string | null): void {
    if (value === null) this.appender.appendNull();
    else this.appender.appendVarchar(value);
  }

  /** Numbers of the wire may be beyond what is exact, or a column can hold. */
  integer(value: number | bigint | null): void {
    if (value === null) this.appender.appendNull();
    else if (typeof value === "bigint") this.appender.appendBigInt(value);
    else this.appender.appendBigInt(BigInt(Math.min(Math.trunc(value), Number.MAX_SAFE_INTEGER)));
  }

  flag(value: boolean): void {
    this.appender.appendBoolean(value);
  }

  /** Unix ms. */
  time(value: number): void {
    this.appender.appendTimestampMilliseconds(new this.library.DuckDBTimestampMillisecondsValue(BigInt(value)));
  }

  texts(values: readonly string[]): void {
    this.appender.appendList([...values], this.listOfTexts);
  }
}

export class Reader {
  private isInterrupted = false;

  constructor(private readonly connection: DuckDBConnection) {}

  /** All rows of one statement, whose values are bound: `$1`. */
  async read(sql: string, parameters: readonly Parameter[]): Promise<Row[]> {
    if (this.isInterrupted) throw new Error("interrupted");
    return (await this.connection.runAndReadAll(sql, [...parameters])).getRowObjectsJS();
  }

  /** Ends the statement that runs, and lets none run after it: they reject. */
  interrupt(): void {
    this.isInterrupted = true;
    this.connection.interrupt();
  }

  close(): void {
    this.connection.closeSync();
  }
}
