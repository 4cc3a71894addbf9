// Searching, by every parameter, against a naive reading of the same records; and texts that would like to be SQL.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { DuckdbLogStore } from "../../../collector/logs/duckdb-store.ts";
import { formatCursor, PARAMETERS, parseLogQuery } from "../../../collector/logs/log-query.ts";
import type { LogRecord } from "../../../collector/logs/record.ts";
import type { LogPage, StoredRecord } from "../../../collector/logs/store.ts";
import { LOG_REASONS } from "../../../collector/self.ts";
import { pick, type Random } from "../../fixtures/als-random.ts";
import { random } from "../../property/random.ts";
import { partyOf, recordOf, START_MS, Stores, until } from "./records.ts";

const HOUR_MS = 3_600_000;
const HOSTILE = [
  "'; DROP TABLE logs_v1; --",
  "' OR '1'='1",
  '" OR 1=1 --',
  "$1",
  "?",
  "\\",
  "%",
  "_",
  "a%b_c\\",
  "*",
  "[redacted]",
  "\u0000",
  "é😀",
  "NULL",
  "web' || (SELECT body FROM logs_v1) || '",
];
const SERVICES = [null, "web", "reviews", "reviews.default", "ratings", ...HOSTILE];
const ENDPOINTS = [null, "GET:/reviews/{id}", "POST:/a_b%c", "GET:/", ...HOSTILE];
const FLAGS = [[], ["UF"], ["UF", "URX"], ["DC"], ["U*"], HOSTILE];
const TAGS = [[], ["route=default"], ["route=default", "cluster=outbound|80||a"], HOSTILE.map((text) => `x=${text}`)];

const stores = new Stores();
let store: DuckdbLogStore;
let records: StoredRecord[];

beforeAll(async () => {
  const next = random(3);
  store = await stores.open();
  records = Array.from({ length: 600 }, (_, index) => ({ ...randomRecord(next), id: BigInt(index + 1) }));
  for (const { id: _, ...record } of records) store.add(record);
  await until(() => store.stats.queued === 0);
});
afterAll(() => stores.clean());

function randomRecord(next: Random): LogRecord {
  const text = pick(next, HOSTILE);
  return recordOf({
    timeMs: START_MS + Math.floor(next() * 100) * 60_000, // many at the same instant
    source: { ...partyOf(pick(next, SERVICES)), namespace: pick(next, [null, "default", "ns2"]) },
    destination: { ...partyOf(pick(next, SERVICES)), namespace: pick(next, [null, "default", "ns2"]) },
    endpoint: pick(next, ENDPOINTS),
    method: pick(next, [null, "GET", "POST"]),
    path: pick(next, [null, "/reviews/7", "/a_b%c", ...HOSTILE]),
    proxy: pick(next, ["sidecar~1", "router~2", ...HOSTILE]),
    role: pick(next, ["sidecar", "router"]),
    detectPoint: pick(next, ["client", "server"]),
    protocol: pick(next, ["http", "grpc", "tcp"]),
    code: pick(next, [null, 200, 404, 499, 500, 503, 599, 2 ** 32 - 1]),
    grpcStatus: pick(next, [null, 0, 14]),
    flags: pick(next, FLAGS),
    latencyMs: pick(next, [null, 0, 1, 99, 100, 5000]),
    requestBytes: pick(next, [null, 0, 1000]),
    responseBytes: pick(next, [null, 0, 1000]),
    reason: pick(next, LOG_REASONS),
    requestId: pick(next, [null, "6f1c", ...HOSTILE]),
    traceId: pick(next, [null, "0af7"]),
    tags: pick(next, TAGS),
    text: `[-] ${pick(next, HOSTILE)} Mixed CASE`,
    body: JSON.stringify({ text, more: pick(next, ["Needle", "hay"]) }),
  });
}

async function find(query: string): Promise<LogPage> {
  const parsed = parseLogQuery(new URLSearchParams(query), START_MS + 2 * HOUR_MS);
  if (typeof parsed === "string") throw new Error(parsed);
  return await store.search(parsed);
}

// === the naive reading ===

/** `*` stands for any text. */
function isLike(value: string | null, pattern: string): boolean {
  if (pattern === "null") return value === null;
  if (value === null) return false;
  const escaped = pattern.split("*").map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
  return new RegExp(`^${escaped.join("[^]*")}$`, "u").test(value);
}

function isService(party: LogRecord["source"], pattern: string): boolean {
  return namesOf(party).some((name) => isLike(name, pattern));
}

/** Without the namespace, and with it. */
function namesOf({ service, namespace }: LogRecord["source"]): [string | null, string | null] {
  if (service === null || namespace === null) return [service, service];
  if (service.endsWith(`.${namespace}`)) return [service.slice(0, -namespace.length - 1), service];
  return [service, `${service}.${namespace}`];
}

function isOneOf(values: readonly string[], pattern: string): boolean {
  return pattern === "null" ? values.length === 0 : values.some((value) => isLike(value, pattern));
}

function isWithin(value: number | null, range: string): boolean {
  if (range === "null" || value === null) return range === "null" && value === null;
  const [least = "", most = least] = range.replace(/^(\d)xx$/, "$100..$199").split("..");
  return value >= Number(least || 0) && (most === "" || value <= Number(most));
}

function contains(record: LogRecord, text: string): boolean {
  const { path, text: line, body } = record;
  return [path ?? "", line, body].some((each) => each.toLowerCase().includes(text.toLowerCase()));
}

const NAIVE: Readonly<Record<string, (record: StoredRecord, value: string) => boolean>> = {
  service: ({ source, destination }, value) => isService(source, value) || isService(destination, value),
  source: ({ source }, value) => isService(source, value),
  destination: ({ destination }, value) => isService(destination, value),
  edge: ({ source, destination }, value) => {
    const [from = "", to = ""] = value.split("->");
    return isService(source, from) && isService(destination, to);
  },
  namespace: ({ source, destination }, value) =>
    isLike(source.namespace, value) || isLike(destination.namespace, value),
  endpoint: ({ endpoint }, value) => isLike(endpoint, value),
  proxy: ({ proxy }, value) => isLike(proxy, value),
  role: ({ role }, value) => isLike(role, value),
  detectPoint: ({ detectPoint }, value) => isLike(detectPoint, value),
  protocol: ({ protocol }, value) => isLike(protocol, value),
  method: ({ method }, value) => isLike(method, value),
  path: ({ path }, value) => isLike(path, value),
  code: ({ code }, value) => isWithin(code, value),
  grpcStatus: ({ grpcStatus }, value) => isWithin(grpcStatus, value),
  flag: ({ flags }, value) => isOneOf(flags, value),
  latencyMs: ({ latencyMs }, value) => isWithin(latencyMs, value),
  requestBytes: ({ requestBytes }, value) => isWithin(requestBytes, value),
  responseBytes: ({ responseBytes }, value) => isWithin(responseBytes, value),
  reason: ({ reason }, value) => isLike(reason, value),
  requestId: ({ requestId }, value) => isLike(requestId, value),
  traceId: ({ traceId }, value) => isLike(traceId, value),
  tag: ({ tags }, value) => isOneOf(tags, value),
  text: contains,
  from: ({ timeMs }, value) => timeMs >= Date.parse(value),
  to: ({ timeMs }, value) => timeMs < Date.parse(value),
};

const newestFirst = (a: StoredRecord, b: StoredRecord) => b.timeMs - a.timeMs || Number(b.id - a.id);

function naive(query: string): StoredRecord[] {
  const parameters = [...new URLSearchParams(query)].filter(([name]) => name !== "limit");
  const names = [...new Set(parameters.map(([name]) => name))];
  const all = records.filter((record) =>
    names.every((name) => parameters.some(([own, value]) => own === name && NAIVE[name]?.(record, value))),
  );
  return all.sort(newestFirst);
}

const ids = (found: readonly StoredRecord[]) => found.map(({ id }) => Number(id));

const VALUES: Readonly<Record<string, readonly string[]>> = {
  service: ["web", "reviews", "reviews.default", "re*", "*", "null", ...HOSTILE],
  source: ["web", "web.ns2", "*.default", "null", ...HOSTILE],
  destination: ["ratings", "null", ...HOSTILE],
  edge: ["web->reviews", "*->ratings", "web.default->*.ns2"],
  namespace: ["default", "null"],
  endpoint: ["GET:/reviews/{id}", "GET:*", "*a_b%c", "null", ...HOSTILE],
  proxy: ["router~2", "sidecar*", ...HOSTILE],
  role: ["router"],
  detectPoint: ["server"],
  protocol: ["tcp"],
  method: ["POST", "null"],
  path: ["/reviews/*", "/a_b%c", "null", ...HOSTILE],
  code: ["503", "5xx", "400..499", "600..", "..404", "null"],
  grpcStatus: ["0", "14", "null"],
  flag: ["UF", "U*", "URX", "null", ...HOSTILE],
  latencyMs: ["0", "1..100", "100..", "..99", "null"],
  requestBytes: ["1..", "null"],
  responseBytes: ["0"],
  reason: ["slow"],
  requestId: ["6f1c", ...HOSTILE],
  traceId: ["0af7", "null"],
  tag: ["route=default", "cluster=*", "null", ...HOSTILE.map((text) => `x=${text}`)],
  text: ["needle", "mixed case", "/A_B", ...HOSTILE],
  from: [new Date(START_MS + HOUR_MS).toISOString()],
  to: [new Date(START_MS + HOUR_MS).toISOString()],
};

describe("each parameter finds what a naive reading finds", () => {
  it("and each is tried", () => {
    expect(Object.keys(VALUES).sort()).toEqual([...PARAMETERS.keys(), "from", "to"].sort());
  });

  it.each(Object.keys(VALUES))("%s", async (name) => {
    for (const value of VALUES[name] as readonly string[]) {
      const query = new URLSearchParams([[name, value]]).toString();
      const expected = naive(query);
      const { records: found, summary } = await find(`${query}&limit=40`);
      expect([value, ids(found)]).toEqual([value, ids(expected).slice(0, 40)]);
      expect([value, summary?.matches]).toEqual([value, expected.length]);
    }
  });

  it("and all together, and repeated ones by any of their values", async () => {
    const next = random(5);
    let matched = 0;
    for (let i = 0; i < 40; i++) {
      const query = new URLSearchParams();
      for (let parts = 1 + Math.floor(next() * 4); parts > 0; parts--) {
        const name = pick(next, Object.keys(VALUES));
        if (!((name === "from" || name === "to") && query.has(name)))
          query.append(name, pick(next, VALUES[name] ?? []));
      }
      const expected = naive(query.toString());
      const { records: found } = await find(`${query}&limit=40`);
      expect([String(query), ids(found)]).toEqual([String(query), ids(expected).slice(0, 40)]);
      matched += expected.length;
    }
    expect(matched).toBeGreaterThan(500);
  });
});

it("a record comes back as it was, field by field", async () => {
  const { records: found } = await find("limit=1000");
  expect(found).toEqual(naive("").slice(0, 1000));
});

it("pages follow on each other, newest first, each record once, many at the same instant", async () => {
  const expected = ids(naive("code=5xx"));
  const found: number[] = [];
  let cursor = "";
  for (let pages = 0; pages < 100; pages++) {
    const page = await find(`code=5xx&limit=37${cursor}`);
    expect(page.summary === null).toBe(pages > 0);
    found.push(...ids(page.records));
    if (page.next === null) break;
    expect(page.records).toHaveLength(37);
    cursor = `&cursor=${formatCursor(page.next)}`;
  }
  expect(found).toEqual(expected);
});

describe("all matches add up to", () => {
  const top = (values: readonly (string | number | null)[]) => {
    const counts = new Map<string | number | null, number>();
    for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
    return [...counts]
      .map(([value, count]) => ({ value, count }))
      .sort((a, b) => b.count - a.count || (String(a.value) < String(b.value) ? -1 : 1))
      .slice(0, 20);
  };
  const named = (party: LogRecord["source"]) => namesOf(party)[1];

  it.each(["", "code=5xx", "service=web&flag=UF", "text=needle"])("facets: %s", async (query) => {
    const all = naive(query);
    const { summary } = await find(query);
    expect(summary?.facets).toEqual({
      service: top(all.flatMap(({ source, destination }) => [...new Set([named(source), named(destination)])])),
      code: top(all.map(({ code }) => code)),
      flag: top(all.flatMap(({ flags }) => flags)),
      endpoint: top(all.map(({ endpoint }) => endpoint)),
      reason: top(all.map(({ reason }) => reason)),
    });
  });

  it.each([
    ["from=2026-01-01T00:00:00Z&to=2026-01-01T01:00:00Z", 60_000],
    ["from=2026-01-01T00:00:00Z&to=2026-01-01T02:00:00Z&code=5xx", 120_000],
    ["from=2h&to=1h", 60_000],
  ])("a histogram: %s", async (query, intervalMs) => {
    const relative = query.replace("from=2h&to=1h", "from=2026-01-01T00:00:00Z&to=2026-01-01T01:00:00Z");
    const counts = new Map<number, number>();
    for (const { timeMs } of naive(relative)) {
      const bucketMs = Math.floor(timeMs / intervalMs) * intervalMs;
      counts.set(bucketMs, (counts.get(bucketMs) ?? 0) + 1);
    }
    const buckets = [...counts].map(([timeMs, count]) => ({ timeMs, count })).sort((a, b) => a.timeMs - b.timeMs);
    expect((await find(query)).summary?.histogram).toEqual({ intervalMs, buckets });
  });

  it("nothing, where there is nothing", async () => {
    const empty = await stores.open();
    const query = parseLogQuery(new URLSearchParams("service=web"), Date.now());
    if (typeof query === "string") throw new Error(query);
    const nothing = { service: [], code: [], flag: [], endpoint: [], reason: [] };
    const page = await empty.search(query);
    expect(page).toMatchObject({ records: [], next: null, summary: { matches: 0, facets: nothing } });
  });
});

describe("a search that takes too much", () => {
  it("of time is ended, and the store goes on", async () => {
    const slow = await stores.open({ searchTimeoutMs: 0 });
    for (let i = 0; i < 5000; i++) slow.add(recordOf({ body: "x".repeat(500) }));
    await until(() => slow.stats.queued === 0);
    const query = parseLogQuery(new URLSearchParams({ text: "y" }), Date.now());
    if (typeof query === "string") throw new Error(query);
    await expect(slow.search(query)).rejects.toMatchObject({ failure: "too_slow" });
    slow.add(recordOf());
    await until(() => slow.stats.records === 5001);
  });

  it("of places is told so", async () => {
    const all = await Promise.allSettled(Array.from({ length: 5 }, () => find("text=needle")));
    const refused = all.filter(({ status }) => status === "rejected") as PromiseRejectedResult[];
    expect(refused.map(({ reason }) => (reason as { failure: string }).failure)).toEqual(["busy", "busy", "busy"]);
  });
});

describe("parameters that are wrong are named", () => {
  it.each([
    ["kode=5", 'there is no parameter "kode", expected one of service, source, destination, edge, '],
    [
      "code=5yy",
      'code: found "5yy", expected a whole number, a range such as 500..599, 100.. or ..99, a class such as 5xx, or null',
    ],
    ["code=503&code=x", 'code: found "x", expected a whole number'],
    ["latencyMs=9..1", 'latencyMs: found "9..1", expected a whole number, a range'],
    ["latencyMs=-1", 'latencyMs: found "-1", expected'],
    ["service=", 'service: found "", expected text of 1 to 256 characters, with * for any part of it, or null'],
    [`text=${"x".repeat(257)}`, "text: found "],
    ["edge=web", 'edge: found "web", expected two services such as web->reviews, with * for any part of them'],
    ["edge=a->b->c", "edge: found "],
    ["from=1h&to=2h", 'from: found "1h", expected a time before `to`, "2h"'],
    ["reason=fast", 'reason: found "fast", expected one of error, flagged, tokens, slow, sample'],
    ["protocol=http2", 'protocol: found "http2", expected one of http, grpc, tcp'],
    [
      "from=yesterday",
      'from: found "yesterday", expected a time such as 2026-01-31T12:00:00Z, Unix milliseconds, or how long ago',
    ],
    ["to=2026-13-01", 'to: found "2026-13-01", expected a time'],
    ["from=1h&from=2h", "from: found it 2 times, expected it once"],
    ["limit=0", 'limit: found "0", expected a whole number from 1 to 1000'],
    ["limit=1001", 'limit: found "1001", expected a whole number from 1 to 1000'],
    ["cursor=1'--", 'cursor: found "1\'--", expected the `next` of the page before'],
    [Array.from({ length: 65 }, () => "flag=a").join("&"), "more than 64 values to search by"],
  ])("%s", (query, message) => {
    expect(parseLogQuery(new URLSearchParams(query), 0)).toEqual(expect.stringContaining(message));
  });
});
