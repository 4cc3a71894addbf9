// What /api/v1/receivers says of what was sent: messages -> AlsReceiver, readings -> ScrapeStatus, and the page of both.

import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { CompletenessReading } from "../../collector/completeness/compared.ts";
import { silentLog } from "../../collector/log.ts";
import { AlsReceiver } from "../../collector/receiver/als.ts";
import type { StreamReader } from "../../collector/receiver/client-stream.ts";
import { type MetricsAccount, MetricsAccounts } from "../../collector/receiver/metrics-accounts.ts";
import type { ScrapeStatus } from "../../collector/receiver/scrape.ts";
import { type DropReason, SelfMetrics } from "../../collector/self.ts";
import { OBSERVATION_KIND_OFFSET, TCP_METRICS } from "../../collector/vocabulary.ts";
import { HINTS, readReceivers } from "../../collector/web/receivers.ts";
import { bytesState, encodeMessage, type Fields, lengthDelimited } from "../fixtures/als.ts";
import { encodeObservation, encodeTcpObservation } from "../fixtures/observation.ts";
import { values } from "./labels.ts";

const NOW = "2026-01-02T03:04:05.678Z";
const WEB = "sidecar~10.0.0.1~web-1.default~default.svc.cluster.local";

let receiver: AlsReceiver;
let metrics: MetricsAccounts;
let refusal: DropReason | null;
beforeEach(() => {
  vi.useFakeTimers({ now: new Date(NOW), toFake: ["Date"] });
  refusal = null;
  metrics = new MetricsAccounts(10);
  receiver = newReceiver();
});
afterEach(() => {
  vi.useRealTimers();
});

function newReceiver(options: { maxProxies?: number; maxStreams?: number } = {}): AlsReceiver {
  const sink = () => refusal;
  return new AlsReceiver({ ...options, sink, connectionSink: sink, self: new SelfMetrics("test"), log: silentLog });
}

function open(proxy = WEB): StreamReader {
  const stream = receiver.open();
  if (stream === null) throw new Error("refused");
  if (proxy !== "") stream.message(encodeMessage({ identifier: { node: { id: proxy }, logName: "inbound" } }));
  return stream;
}

function scrape(status: Partial<ScrapeStatus> = {}): ScrapeStatus {
  const atMs = Date.now();
  const unread = {
    result: "ok",
    atMs,
    okAtMs: atMs,
    detail: "",
    logsWritten: null,
    logsDropped: null,
    missingBounds: {},
  } as const;
  return { target: "http://127.0.0.1:15000", proxy: WEB, ...unread, ...status };
}

interface Row {
  proxy: string | null;
  role: string | null;
  access_log: AccessLog | null;
  scrapes: object[];
  completeness: object | null;
  metrics_service: object | null;
  hint: string | null;
}

interface AccessLog {
  streams: number;
  unknown_source: Record<string, number>;
  unknown_destination: Record<string, number>;
  [field: string]: unknown;
}

interface Page {
  proxies: Row[];
  left_out: number;
  unnamed: AccessLog;
  beyond_limit: AccessLog;
}

const NO_OTLP = { accepted: 0, rejected: {}, withUnknownAttributes: 0, unknownAttributes: [] };

function page(
  scrapes: readonly ScrapeStatus[] = [],
  query = "",
  maxRows?: number,
  completeness: CompletenessReading = { proxies: [], edges: [] },
): Page {
  const sources = { accounts: receiver.accounts, scrapes, otlp: NO_OTLP, metrics, completeness };
  const { status, body } = readReceivers(sources, new URLSearchParams(query), maxRows);
  expect(status).toBe(200);
  return JSON.parse(JSON.stringify(body)) as Page;
}

const observed = (labels: Parameters<typeof values>[0] = {}): Fields => ({
  commonProperties: {
    filterStateObjects: {
      "wasm.meshtally.observation": bytesState(
        encodeObservation({ startMs: 5, durationMs: 1, requestBytes: 2, responseBytes: 3, labels: values(labels) }),
      ),
    },
  },
});
const tcpObserved = (...parts: Parameters<typeof values>[0][]): Fields => ({
  commonProperties: {
    accessLogType: 2,
    filterStateObjects: {
      "wasm.meshtally.observation": bytesState(
        encodeTcpObservation({
          startMs: 5,
          connectionId: 3,
          parts: parts.map((labels, part) => {
            const metrics = [...TCP_METRICS.keys()].filter((metric) => metric % parts.length === part);
            return { metrics, sentBytes: 1, receivedBytes: 1, labels: values(labels) };
          }),
        }),
      ),
    },
  },
});
const derived: Fields = { request: { authority: "a" }, response: { responseCode: { value: 200 } } };
const startedAt = ({ commonProperties }: Fields, ms: number): Fields => ({
  commonProperties: { ...(commonProperties as Fields), startTime: { seconds: Math.floor(ms / 1000) } },
});
const http = (...entries: Fields[]): Buffer => encodeMessage({ httpLogs: { logEntry: entries } });
const tcp = (...entries: Fields[]): Buffer => encodeMessage({ tcpLogs: { logEntry: entries } });
const BROKEN = Buffer.from([0x12, 200, 1, 2, 3]);

test("all that is known of a proxy that is scraped and logs", () => {
  const known = { source_workload: "web", destination_workload: "api" };
  const [stream, other] = [open(), open()];
  stream.message(http(observed(known), observed(known), derived));
  stream.message(tcp(tcpObserved(known)));
  stream.message(BROKEN);
  other.end("completed");
  const completeness = { proxies: [{ proxy: WEB, counted: 8, logged: 6, reported: 8 }], edges: [] };
  expect(page([scrape({ logsWritten: 9, logsDropped: 0 })], "", undefined, completeness)).toEqual({
    proxies: [
      {
        proxy: WEB,
        role: "sidecar",
        access_log: {
          streams: 1,
          connected_since: NOW,
          streams_ended: { completed: 1 },
          last_entry: NOW,
          entry_delay_ms: null,
          entries: { http: { observation: 2, derived: 1 }, tcp: { observation: 1, derived: 0 } },
          entries_not_taken: { message_malformed: 1 },
          unknown_source: { peer_outside_mesh: 1 },
          unknown_destination: {},
          last_error: { text: "access-log entries not taken: message_malformed", time: NOW },
        },
        scrapes: [
          {
            target: "http://127.0.0.1:15000",
            result: "ok",
            time: NOW,
            last_ok: NOW,
            error: null,
            logs_written: 9,
            logs_dropped: 0,
            missing_bounds: {},
          },
        ],
        completeness: { access_log: 0.75, stats: 1 },
        metrics_service: null,
        hint: null,
      },
    ],
    left_out: 0,
    otlp_logs: { accepted: 0, rejected: {}, with_unknown_attributes: 0, unknown_attributes: [] },
    unnamed: expect.objectContaining({ streams: 0, entries_not_taken: {} }),
    beyond_limit: expect.objectContaining({ streams: 0 }),
    metrics_unnamed: expect.objectContaining({ streams: 0 }),
    metrics_beyond_limit: expect.objectContaining({ streams: 0 }),
  });
});

test("all that is known of a proxy that reports to the metrics service, which stands beside its access log", () => {
  const account = metrics.enter(WEB);
  metrics.enter("sidecar~10.0.0.3~db-1.default~default.svc.cluster.local").addNotTaken("no_start_time");
  open();
  account.addReport(7);
  account.addNotTaken("duplicate");
  account.addEnded("aged");
  account.fail("report not taken: cells_full");
  expect(page().proxies).toMatchObject([
    {
      proxy: WEB,
      metrics_service: {
        streams: 1,
        connected_since: NOW,
        streams_ended: { aged: 1 },
        last_report: NOW,
        reports: 1,
        reports_not_taken: { duplicate: 1 },
        label_sets: 7,
        counters: "cumulative",
        missing_bounds: {},
        last_error: { text: "report not taken: cells_full", time: NOW },
      },
      access_log: { streams: 1 },
      scrapes: [],
      hint: HINTS.noEntry,
    },
    { access_log: null, hint: [HINTS.metricsAlone, HINTS.notScraped, HINTS.noReportTaken].join(" ") },
  ]);
});

test.each([
  ["cumulative", HINTS.looksLikeDeltas],
  ["delta", HINTS.looksCumulative],
] as const)("counters that are said to be %s and look otherwise are told of", (counters, hint) => {
  const account = metrics.enter(WEB);
  account.addReport(1);
  Object.assign(account, { counters, isFormDoubted: true } satisfies Partial<MetricsAccount>);
  expect(page().proxies[0]?.hint).toContain(hint);
});

test("docs/api.md has each field of the answer", () => {
  open().message(BROKEN);
  metrics.enter(WEB);
  const api = readFileSync(resolve(import.meta.dirname, "../../docs/api.md"), "utf8");
  const [, section = ""] = /^## The receivers\n(.*?)^### Hints$/ms.exec(api) ?? [];
  const { proxies, ...rest } = page([scrape()]);
  const [{ access_log, ...row } = {} as Row] = proxies;
  const parts = [row, access_log ?? {}, row.scrapes[0] ?? {}, row.metrics_service ?? {}];
  const fields = [{ proxies, access_log, ...rest }, ...parts].flatMap(Object.keys);
  expect(fields.length).toBeGreaterThan(20);
  expect(fields.filter((field) => !section.includes(`\`${field}\``))).toEqual([]);
});

test.each([
  [WEB, "sidecar"],
  ["router~1~gw.x~d", "router"],
  ["waypoint~1~w.x~d", "waypoint"],
  ["Sidecar~1~w.x~d", "none"],
  ["ingress~1~w.x~d", "router"],
  ["ztunnel~1~w.x~d", "none"],
  ["sidecar", "none"],
  [" sidecar~1", "none"],
  ["~sidecar", "none"],
  ["__proto__~1", "none"],
])("the role that %j names is %s", (proxy, role) => {
  open(proxy);
  expect(page().proxies).toMatchObject([{ proxy, role }]);
});

describe("an end that stays unknown is counted once for each entry", () => {
  const known = { source_workload: "web", destination_workload: "api" };
  const unknown = { source_workload: "unknown", destination_workload: "unknown" };
  const sum = (reasons: object = {}) => Object.values(reasons).reduce((total, count) => total + count, 0);
  test.each<[string, Buffer, number, number]>([
    ["of a request, at either end", http(observed({ ...known, source_workload: "unknown" })), 1, 0],
    ["of a request, at the other", http(observed({ ...known, destination_workload: "unknown" })), 0, 1],
    ["of neither", http(observed(known), observed(known)), 0, 0],
    ["of both, time and again", http(observed(unknown), observed(unknown), observed(known)), 2, 2],
    ["of a connection with two label sets", tcp(tcpObserved(unknown, { ...unknown, reporter: "source" })), 1, 1],
    ["but not where a configuration removed the label", http(observed({ ...known, source_workload: "" })), 0, 0],
  ])("%s", (_name, message, source, destination) => {
    open().message(message);
    const [row] = page().proxies;
    const { unknown_source, unknown_destination } = row?.access_log ?? {};
    expect([sum(unknown_source), sum(unknown_destination)]).toEqual([source, destination]);
  });

  test("by why", () => {
    open().message(
      http(
        observed({ ...unknown, reporter: "destination" }),
        observed({ ...unknown, reporter: "source", response_flags: "UH" }),
      ),
    );
    expect(page().proxies[0]?.access_log).toMatchObject({
      unknown_source: { peer_outside_mesh: 1, node_not_named: 1 },
      unknown_destination: { node_not_named: 1, upstream_not_reached: 1 },
    });
  });

  test("and not when it was not taken", () => {
    refusal = "cells_full";
    open().message(http(observed(unknown)));
    expect(page().proxies[0]?.access_log).toMatchObject({ unknown_source: {}, entries_not_taken: { cells_full: 1 } });
  });
});

describe("what was not taken", () => {
  const entry = (common: Fields): Fields => ({ ...derived, commonProperties: common });
  const observation = (bytes: Buffer) => ({ filterStateObjects: { "wasm.meshtally.observation": bytesState(bytes) } });
  /** `common_properties` whose bytes end too early. */
  const brokenEntry = lengthDelimited(2, lengthDelimited(1, lengthDelimited(1, Buffer.from([0x0a, 9]))));
  const brokenTcpEntry = lengthDelimited(3, lengthDelimited(1, lengthDelimited(1, Buffer.from([0x0a, 9]))));
  const brokenIdentifier = lengthDelimited(1, lengthDelimited(1, Buffer.from([0x0a, 9])));
  const unknownKind = Buffer.from(
    encodeObservation({ startMs: 5, durationMs: 1, requestBytes: 2, responseBytes: 3, labels: values({}) }),
  );
  unknownKind[OBSERVATION_KIND_OFFSET] = 99;

  const CASES: readonly [string, Buffer, Partial<Record<DropReason, number>>][] = [
    ["a broken message counts as one, whatever it held", BROKEN, { message_malformed: 1 }],
    [
      "a message whose node is broken",
      Buffer.concat([brokenIdentifier, http(derived, derived)]),
      { message_malformed: 1 },
    ],
    [
      "a broken entry alone, not those beside it",
      Buffer.concat([http(derived), brokenEntry, brokenEntry]),
      { entry_malformed: 2 },
    ],
    ["a broken TCP entry", brokenTcpEntry, { entry_malformed: 1 }],
    ["an observation that is cut short", http(entry(observation(Buffer.from([1, 0])))), { entry_malformed: 1 }],
    ["an observation of a kind that is not known", http(entry(observation(unknownKind))), { kind_unknown: 1 }],
    ["what is not the end of a request", http(entry({ accessLogType: 5 })), { not_final: 1 }],
    ["an entry without a request", http({}), { no_request: 1 }],
  ];

  test.each(CASES)("%s: by reason, of its proxy alone", (_name, message, notTaken) => {
    const [stream, other] = [open(), open("sidecar~10.0.0.2~api-1.default~default.svc.cluster.local")];
    other.message(http(derived));
    stream.message(message);
    const [api, web] = page()
      .proxies.sort((a, b) => String(a.proxy).localeCompare(String(b.proxy)))
      .reverse();
    expect(web).toMatchObject({ proxy: WEB, access_log: { entries_not_taken: notTaken } });
    expect(api).toMatchObject({ access_log: { entries_not_taken: {}, last_error: null } });
    expect(page()).toMatchObject({ unnamed: { entries_not_taken: {} }, beyond_limit: { entries_not_taken: {} } });
  });

  test("adds up with what was taken, reason by reason, over messages of all kinds", () => {
    const stream = open();
    const expected: Partial<Record<DropReason, number>> = {};
    for (const [, message, notTaken] of CASES) {
      stream.message(message);
      for (const [reason, count] of Object.entries(notTaken)) {
        expected[reason as DropReason] = (expected[reason as DropReason] ?? 0) + count;
      }
    }
    const account = page().proxies[0]?.access_log;
    expect(account).toMatchObject({ entries_not_taken: expected, entries: { http: { observation: 0, derived: 1 } } });
    expect(account).not.toHaveProperty("entries_not_taken.internal");
  });

  test("a fault of ours is counted, and the entries after it are taken", () => {
    const log = { ...silentLog, error: vi.fn() };
    let calls = 0;
    const sink = () => {
      if (calls++ === 0) throw new Error("a defect");
      return null;
    };
    receiver = new AlsReceiver({ sink, connectionSink: sink, self: new SelfMetrics("test"), log });
    open().message(http(derived, derived));
    expect(page().proxies[0]?.access_log).toMatchObject({
      entries_not_taken: { internal: 1 },
      entries: { http: { derived: 1 } },
    });
    expect(log.error).toHaveBeenCalledOnce();
  });
});

describe("streams", () => {
  test("belong to the proxy that they named last", () => {
    const stream = open("a");
    stream.message(encodeMessage({ identifier: { node: { id: "b" } }, httpLogs: { logEntry: [derived] } }));
    stream.end("broken_off");
    expect(page().proxies.map(({ proxy, access_log }) => [proxy, access_log])).toEqual([
      ["a", expect.objectContaining({ streams: 0, connected_since: null, streams_ended: {}, last_entry: null })],
      ["b", expect.objectContaining({ streams: 0, streams_ended: { broken_off: 1 }, last_entry: NOW })],
    ]);
  });

  test("that named no node, or were refused, are told of apart", () => {
    receiver = newReceiver({ maxStreams: 1 });
    open("").message(http(derived, derived));
    expect(receiver.open()).toBeNull();
    expect(page()).toMatchObject({
      proxies: [],
      unnamed: {
        streams: 1,
        streams_ended: { refused: 1 },
        entries_not_taken: { node_missing: 2 },
        last_error: { text: "stream refused: more than limits.streams" },
      },
    });
  });

  test("that are connected without a break keep their beginning", () => {
    const first = open();
    vi.setSystemTime(new Date(NOW).getTime() + 1000);
    open();
    first.end("aged");
    expect(page().proxies[0]?.access_log).toMatchObject({ connected_since: NOW, streams: 1 });
  });
});

describe("beyond limits.proxies", () => {
  test("the proxy whose last stream ended first makes room", () => {
    receiver = newReceiver({ maxProxies: 3 });
    const [a, b] = [open("a"), open("b")];
    open("c");
    b.end("completed");
    a.end("completed");
    open("d");
    expect(page().proxies.map(({ proxy }) => proxy)).toEqual(["a", "c", "d"]);
  });

  test("proxies share an account when none makes room", () => {
    receiver = newReceiver({ maxProxies: 1 });
    open("a");
    const [b, c] = [open("b"), open("c")];
    b.message(http(derived));
    c.end("completed");
    expect(page()).toMatchObject({
      proxies: [{ proxy: "a" }],
      beyond_limit: { streams: 1, streams_ended: { completed: 1 }, entries: { http: { derived: 1 } } },
    });
  });

  test("a stream that names one proxy after another holds no more than the limit", () => {
    receiver = newReceiver({ maxProxies: 10 });
    const stream = open("first");
    for (let i = 0; i < 1000; i++) stream.message(encodeMessage({ identifier: { node: { id: `node-${i}` } } }));
    const { proxies } = page();
    expect(proxies).toHaveLength(10);
    expect(proxies.reduce((sum, { access_log }) => sum + (access_log?.streams ?? 0), 0)).toBe(1);
  });
});

describe("the page", () => {
  test("has at most so many rows, by node id, and says how many it left out", () => {
    for (const proxy of ["c", "a", "b"]) open(proxy);
    const { proxies, left_out } = page([scrape({ proxy: null, result: "unreachable" })], "", 2);
    expect([proxies.map(({ proxy }) => proxy), left_out]).toEqual([["a", "b"], 2]);
  });

  test("shows the proxies that were asked for", () => {
    for (const proxy of ["sidecar~1~web.x~y", "sidecar~2~api.x~y"]) open(proxy);
    const { proxies } = page([scrape({ proxy: null })], "proxy=~web.");
    expect(proxies.map(({ proxy }) => proxy)).toEqual(["sidecar~1~web.x~y"]);
  });

  test.each([
    "<script>alert(1)</script>",
    '"},"x":{"',
    "__proto__",
    "constructor",
    "a\u0000b\nc",
    "\u202egnp",
    "\ufffd",
  ])("shows the node id %j as the text that it is", (proxy) => {
    open(proxy).message(http(derived));
    expect(page([scrape({ proxy })]).proxies).toMatchObject([
      { proxy, role: "none", access_log: { streams: 1 }, scrapes: [{ result: "ok" }] },
    ]);
  });
});

describe("the hint", () => {
  const known = { source_workload: "web", destination_workload: "api" };
  const nothing = () => {};
  const logs = () => open().message(http(observed(known)));
  test.each<[string, () => void, Partial<ScrapeStatus>[], (keyof typeof HINTS)[]]>([
    ["of one of which all comes is none", logs, [{}], []],
    ["of a target without access log", nothing, [{}], ["noAccessLog", "noLogger"]],
    ["of one that logs elsewhere", nothing, [{ logsWritten: 7, logsDropped: 0 }], ["noAccessLog", "logsElsewhere"]],
    [
      "of one whose logger reaches nobody",
      nothing,
      [{ logsWritten: 7, logsDropped: 2 }],
      ["noAccessLog", "logsElsewhere", "dropped"],
    ],
    ["of a target before its first scrape", nothing, [{ proxy: null, result: null }], ["noAccessLog", "notScrapedYet"]],
    [
      "of one that cannot be reached",
      nothing,
      [{ proxy: null, result: "unreachable" }],
      ["noAccessLog", "scrapeFailed"],
    ],
    ["of one without filter", nothing, [{ result: "no_start_time" }], ["noAccessLog", "noLogger", "noFilter"]],
    ["of one that is not scraped", logs, [], ["notScraped"]],
    ["of one whose name is not its own", logs, [{}, { target: "http://127.0.0.2:15000" }], ["sameName"]],
    ["of one that dropped entries", logs, [{ logsWritten: 7, logsDropped: 2 }], ["dropped"]],
    ["of one that sent nothing yet", () => open(), [{}], ["noEntry"]],
    [
      "of one of which nothing can be read",
      () => open().message(http({ commonProperties: { accessLogType: 5 } })),
      [{}],
      ["noneTaken"],
    ],
    [
      "of one without observations",
      () => open().message(http(derived)),
      [{ result: "no_start_time" }],
      ["noObservation", "noFilter"],
    ],
    [
      "of one whose clock is ahead",
      () => open().message(http(startedAt(observed(known), Date.now() + 5000))),
      [{}],
      ["clockAhead"],
    ],
    [
      "of one whose entries come late",
      () => open().message(http(startedAt(observed(known), Date.now() - 60_000))),
      [{}],
      ["clockBehind"],
    ],
    [
      "of one that was cut off",
      () => {
        const stream = open();
        stream.message(http(observed(known)));
        stream.end("broken_off");
      },
      [{}],
      ["brokenOff"],
    ],
    [
      "of one whose stream was ended for its age is none",
      () => {
        const stream = open();
        stream.message(http(observed(known)));
        stream.end("aged");
      },
      [{}],
      [],
    ],
  ])("%s", (_name, send, statuses, hints) => {
    send();
    const { proxies } = page(statuses.map(scrape));
    expect(proxies.map(({ hint }) => hint)).toEqual([
      hints.length === 0 ? null : hints.map((hint) => HINTS[hint]).join(" "),
    ]);
  });
});
