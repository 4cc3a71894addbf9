// GET /api/v1/logs: kept access-log records, newest first, with what all matches add up to.

import { formatCursor, parseLogQuery } from "../logs/log-query.ts";
import {
  type LogPage,
  type LogStore,
  type LogStoreStats,
  type LogSummary,
  SearchError,
  type SearchFailure,
  type StoredRecord,
} from "../logs/store.ts";
import { type Answer, failure } from "./api.ts";

const STATUS: Readonly<Record<SearchFailure, readonly [status: number, code: string]>> = {
  busy: [503, "limit_exceeded"],
  too_slow: [503, "limit_exceeded"],
  too_large: [503, "limit_exceeded"],
  unavailable: [503, "unavailable"],
};

/** `store`: null when none is configured. */
export async function readLogs(store: LogStore | null, query: URLSearchParams, nowMs = Date.now()): Promise<Answer> {
  if (store === null) {
    return failure(404, "not_found", "access logs are not kept: the configuration's logs.folder turns it on");
  }
  const logQuery = parseLogQuery(query, nowMs);
  if (typeof logQuery === "string") return failure(400, "bad_request", logQuery);
  try {
    return { status: 200, body: renderPage(await store.search(logQuery), store.stats) };
  } catch (error: unknown) {
    if (!(error instanceof SearchError)) throw error;
    const [status, code] = STATUS[error.failure];
    return failure(status, code, error.message);
  }
}

function renderPage({ records, next, summary }: LogPage, stats: LogStoreStats): object {
  return {
    ...(summary === null ? {} : renderSummary(summary)),
    records: records.map(renderRecord),
    next: next === null ? null : formatCursor(next),
    store: renderStats(stats),
  };
}

function renderSummary({ matches, facets, histogram: { intervalMs, buckets } }: LogSummary): object {
  return {
    matches,
    facets,
    histogram: {
      interval_seconds: intervalMs / 1000,
      buckets: buckets.map(({ timeMs, count }) => ({ time: time(timeMs), count })),
    },
  };
}

/** Named as in the lines of a tap. */
function renderRecord({ id, timeMs, arrivalMs, body, text, ...record }: StoredRecord): object {
  return {
    id: String(id),
    time: time(timeMs),
    arrival: time(arrivalMs),
    ...record,
    text,
    body: JSON.parse(body) as unknown,
  };
}

function renderStats({ fault, records, bytes, queued, oldestMs, unreadable }: LogStoreStats): object {
  return {
    records,
    bytes,
    queued,
    oldest: oldestMs === null ? null : time(oldestMs),
    unreadable_files: unreadable,
    fault: fault === null ? null : { reason: fault.reason, message: fault.message, since: time(fault.sinceMs) },
  };
}

/** RFC 3339; null beyond what a Date can hold. */
function time(ms: number): string | null {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? null : date.toISOString();
}
