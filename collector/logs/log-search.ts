// A LogQuery -> SQL, and its rows -> a page. Texts that came from outside are bound, never written into a statement.

import type { Parameter, Reader, Row } from "./duckdb.ts";
import { readRow, SELECT_COLUMNS } from "./log-table.ts";
import type {
  Bucket,
  Condition,
  FacetValue,
  LogPage,
  LogQuery,
  LogSummary,
  NumberColumn,
  StoredRecord,
  TextColumn,
} from "./store.ts";

/** Values of a facet that are shown. */
const MAX_FACET_VALUES = 20;
/** Rows of each facet that are read: sets of flags, bars. */
const MAX_GROUPS = 1000;
const MAX_BUCKETS = 60;
const SECOND_MS = 1000;
/** What a bar of a histogram may stand for, in seconds. */
const STEPS_SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400];

/** `tables`: to be read as one. `oldestMs`: since when they have records. */
export async function search(
  reader: Reader,
  tables: readonly string[],
  oldestMs: number,
  query: LogQuery,
): Promise<LogPage> {
  const records = await readPage(reader, tables, query);
  const next = records.length > query.limit ? (records[query.limit - 1] ?? null) : null;
  return {
    records: records.slice(0, query.limit),
    next: next === null ? null : { timeMs: next.timeMs, id: next.id },
    summary: query.after === null ? await readSummary(reader, tables, oldestMs, query) : null,
  };
}

/** One record more than the limit, if there is one. */
async function readPage(reader: Reader, tables: readonly string[], query: LogQuery): Promise<StoredRecord[]> {
  if (tables.length === 0) return [];
  const where = new Where(query);
  if (query.after !== null) where.addAfter(query.after.timeMs, query.after.id);
  // First which, then the whole of them: long columns are read for one page alone.
  const ids = await reader.read(
    `SELECT id FROM ${union(tables)} WHERE ${where.sql} ORDER BY time DESC, id DESC LIMIT ${query.limit + 1}`,
    where.parameters,
  );
  if (ids.length === 0) return [];
  const list = ids.map((_, index) => `$${index + 1}`).join(", ");
  const rows = await reader.read(
    `SELECT ${SELECT_COLUMNS} FROM ${union(tables)} WHERE id IN (${list}) ORDER BY time DESC, id DESC`,
    ids.map(({ id }) => id as bigint),
  );
  return rows.map(readRow);
}

function union(tables: readonly string[]): string {
  return `(${tables.map((table) => `SELECT * FROM ${table}`).join(" UNION ALL ")})`;
}

// === what all matches add up to ===

/** All facets and the histogram in one pass over the records. */
async function readSummary(
  reader: Reader,
  tables: readonly string[],
  oldestMs: number,
  query: LogQuery,
): Promise<LogSummary> {
  const intervalMs = intervalOf((query.toMs ?? Date.now()) - (query.fromMs ?? oldestMs));
  const rows = tables.length === 0 ? [] : await readGroups(reader, tables, query, intervalMs);
  const groups = new Map<string, Row[]>();
  for (const row of rows) groups.set(String(row["kind"]), [...(groups.get(String(row["kind"])) ?? []), row]);
  const of = (kind: string) => groups.get(kind) ?? [];
  return {
    matches: countOf(of("all")[0]),
    facets: {
      service: topOf([...of("source"), ...of("destination").filter((row) => row["is_loop"] === false)], (row) => [
        row["kind"] === "source" ? row["source"] : row["destination"], // who called itself is counted as a source
      ]),
      code: topOf(of("code"), (row) => [row["code"] === null ? null : Number(row["code"])]),
      flag: topOf(of("flags"), (row) => row["flags"] as string[]),
      endpoint: topOf(of("endpoint"), (row) => [row["endpoint"]]),
      reason: topOf(of("reason"), (row) => [row["reason"]]),
    },
    histogram: {
      intervalMs,
      buckets: of("bucket")
        .map((row) => bucketOf(row, intervalMs))
        .sort(byTime),
    },
  };
}

function readGroups(reader: Reader, tables: readonly string[], query: LogQuery, intervalMs: number): Promise<Row[]> {
  const where = new Where(query);
  const interval = where.bind(BigInt(intervalMs));
  const sql = `
    SELECT
      CASE grouping(bucket, code, endpoint, reason, flags, source, destination)
        WHEN 63 THEN 'bucket' WHEN 95 THEN 'code' WHEN 111 THEN 'endpoint' WHEN 119 THEN 'reason' WHEN 123 THEN 'flags'
        WHEN 125 THEN 'source' WHEN 126 THEN 'destination' ELSE 'all'
      END AS kind,
      bucket, code, endpoint, reason, flags, source, destination, is_loop, count(*) AS records
    FROM (
      SELECT *, source IS NOT DISTINCT FROM destination AS is_loop FROM (
      SELECT
        CAST(floor(epoch_ms(time) / ${interval}) AS BIGINT) AS bucket, code, endpoint, reason, flags,
        ${namesOf("source").long} AS source, ${namesOf("destination").long} AS destination
      FROM ${union(tables)} WHERE ${where.sql}
    ))
    GROUP BY GROUPING SETS
      ((), (bucket), (code), (endpoint), (reason), (flags), (source, is_loop), (destination, is_loop))
    QUALIFY row_number() OVER (PARTITION BY kind ORDER BY records DESC) <= ${MAX_GROUPS}`;
  return reader.read(sql, where.parameters);
}

function countOf(row: Row | undefined): number {
  return Number(row?.["records"] ?? 0);
}

/** The values that most records have; a record counts once for each of its own. */
function topOf(rows: readonly Row[], valuesOf: (row: Row) => readonly unknown[]): FacetValue[] {
  const counts = new Map<string | number | null, number>();
  for (const row of rows) {
    for (const value of valuesOf(row) as (string | number | null)[]) {
      counts.set(value, (counts.get(value) ?? 0) + countOf(row));
    }
  }
  const values = [...counts].map(([value, count]) => ({ value, count }));
  values.sort((a, b) => b.count - a.count || (String(a.value) < String(b.value) ? -1 : 1));
  return values.slice(0, MAX_FACET_VALUES);
}

function bucketOf(row: Row, intervalMs: number): Bucket {
  return { timeMs: Number(row["bucket"]) * intervalMs, count: countOf(row) };
}

function byTime(a: Bucket, b: Bucket): number {
  return a.timeMs - b.timeMs;
}

/** The shortest step of which few enough fill the span. */
function intervalOf(spanMs: number): number {
  const step = STEPS_SECONDS.find((seconds) => seconds * SECOND_MS * MAX_BUCKETS >= spanMs);
  return (step ?? (STEPS_SECONDS.at(-1) as number)) * SECOND_MS;
}

// === conditions ===

const TEXTS: Readonly<Record<TextColumn, (bound: Bound) => string>> = {
  source: service("source"),
  destination: service("destination"),
  namespace: ({ compare }) => `(${compare("source_namespace")} OR ${compare("destination_namespace")})`,
  endpoint: column("endpoint"),
  proxy: column("proxy"),
  role: column("role"),
  detectPoint: column("detect_point"),
  method: column("method"),
  path: column("path"),
  protocol: column("protocol"),
  flag: anyOf("flags"),
  reason: column("reason"),
  requestId: column("request_id"),
  traceId: column("trace_id"),
  tag: anyOf("tags"),
};

const NUMBERS: Readonly<Record<NumberColumn, string>> = {
  code: "code",
  grpcStatus: "grpc_status",
  latencyMs: "latency_ms",
  requestBytes: "request_bytes",
  responseBytes: "response_bytes",
};

/** One value of a condition, to be compared with a column. */
interface Bound {
  readonly isNull: boolean;
  readonly compare: (column: string) => string;
}

function column(name: string): (bound: Bound) => string {
  return ({ compare }) => compare(name);
}

/** An end's service without its namespace and with it, whichever of both `identity.names.service` makes: `reviews`, `reviews.default`. */
function namesOf(end: "source" | "destination"): { readonly short: string; readonly long: string } {
  const [name, namespace] = [`${end}_service`, `${end}_namespace`];
  const either = (long: string, short: string) =>
    `CASE WHEN ends_with(${name}, '.' || ${namespace}) THEN ${long} ELSE ${short} END`;
  return {
    short: either(`left(${name}, length(${name}) - length(${namespace}) - 1)`, name),
    long: either(name, `${name} || coalesce('.' || ${namespace}, '')`),
  };
}

/** By either of its names. */
function service(end: "source" | "destination"): (bound: Bound) => string {
  const { short, long } = namesOf(end);
  return ({ isNull, compare }) => (isNull ? compare(`${end}_service`) : `(${compare(short)} OR ${compare(long)})`);
}

/** Any element of a list; null for an empty one. */
function anyOf(name: string): (bound: Bound) => string {
  return ({ isNull, compare }) =>
    isNull ? `len(${name}) = 0` : `len(list_filter(${name}, lambda each: ${compare("each")})) > 0`;
}

class Where {
  readonly parameters: Parameter[] = [];
  private readonly parts: string[] = [];

  constructor({ conditions, fromMs, toMs }: LogQuery) {
    for (const condition of conditions) this.parts.push(this.render(condition));
    if (fromMs !== null) this.parts.push(`time >= ${this.time(fromMs)}`);
    if (toMs !== null) this.parts.push(`time < ${this.time(toMs)}`);
  }

  get sql(): string {
    return this.parts.length === 0 ? "true" : this.parts.join(" AND ");
  }

  /** The place of a value in the statement. */
  bind(value: Parameter): string {
    this.parameters.push(value);
    return `$${this.parameters.length}`;
  }

  /** What is older than that record, or as old and stored before it. */
  addAfter(timeMs: number, id: bigint): void {
    const time = this.time(timeMs);
    this.parts.push(`(time < ${time} OR (time = ${time} AND id < ${this.bind(id)}))`);
  }

  private time(timeMs: number): string {
    return `make_timestamp_ms(CAST(${this.bind(BigInt(timeMs))} AS BIGINT))`;
  }

  private render(condition: Condition): string {
    switch (condition.kind) {
      case "is":
        return any(
          condition.values.flatMap((value) => {
            const bound = this.bound(value);
            return condition.columns.map((each) => TEXTS[each](bound));
          }),
        );
      case "within": {
        const name = NUMBERS[condition.column];
        return any(
          condition.ranges.map((range) => {
            if (range === null) return `${name} IS NULL`;
            const most = Math.min(range.most, Number.MAX_SAFE_INTEGER);
            return `${name} BETWEEN ${this.bind(BigInt(range.least))} AND ${this.bind(BigInt(most))}`;
          }),
        );
      }
      case "edge":
        return any(
          condition.edges.map(({ source, destination }) => {
            const [from, to] = [this.bound(source), this.bound(destination)];
            return `(${TEXTS.source(from)} AND ${TEXTS.destination(to)})`;
          }),
        );
      case "contains":
        return any(
          condition.texts.map((text) => {
            const bound = `lower(${this.bind(text)})`;
            return any(["path", "line", "body"].map((name) => `contains(lower(${name}), ${bound})`));
          }),
        );
    }
  }

  private bound(value: string | null): Bound {
    if (value === null) return { isNull: true, compare: (name) => `${name} IS NULL` };
    if (!value.includes("*")) {
      const place = this.bind(value);
      return { isNull: false, compare: (name) => `${name} = ${place}` };
    }
    const place = this.bind(value.replace(/[\\%_]/g, "\\$&").replaceAll("*", "%"));
    return { isNull: false, compare: (name) => `${name} LIKE ${place} ESCAPE '\\'` };
  }
}

function any(parts: readonly string[]): string {
  return parts.length === 1 ? (parts[0] as string) : `(${parts.join(" OR ")})`;
}
