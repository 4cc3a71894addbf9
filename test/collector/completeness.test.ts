// What share of the counted requests access logs and stats told of, from histories whose truth is known.

import { expect, it } from "vitest";
import { ratiosOf, sumCompleteness } from "../../collector/completeness/compared.ts";
import { Completeness } from "../../collector/completeness/completeness.ts";
import { renderCompleteness } from "../../collector/completeness/exposition.ts";
import { type SeriesLimits, SeriesStore } from "../../collector/series/store.ts";
import { key } from "./labels.ts";

const MINUTE_MS = 60_000;
const LIFE = 1000;

const WORKLOADS = { source_workload: "web", source_workload_namespace: "ns", destination_workload_namespace: "ns" };
const keyTo = (workload: string, code = "200") =>
  key({ ...WORKLOADS, destination_workload: workload, response_code: code });

function setUp(edges = 100, limits: Partial<SeriesLimits> = {}) {
  const clock = { nowMs: LIFE };
  const store = new SeriesStore(
    { proxies: 100, labelSets: 100, cells: 1000, connections: 10, retireAfterMs: 10 * MINUTE_MS, ...limits },
    { wallMs: () => clock.nowMs, steadyMs: () => clock.nowMs },
  );
  const completeness = new Completeness(store, edges, () => clock.nowMs);
  store.onReport = (proxy) => completeness.compare(proxy);
  const log = (count: number, labelKey = keyTo("api"), lifeMs = LIFE, proxy = "p") => {
    const numbers = { requests: 1, durationMs: 7, requestBytes: 0, responseBytes: 0 };
    for (let i = 0; i < count; i++) expect(store.observe({ proxy, lifeMs, labelKey, ...numbers })).toBeNull();
  };
  /** What the proxy counted since its start. */
  const scrapeOnce = (requests: number | Record<string, number>, lifeMs = LIFE, proxy = "p") => {
    const all = typeof requests === "number" ? { [keyTo("api")]: requests } : requests;
    const samples = Object.entries(all).map(([labelKey, count]) => ({ labelKey, requests: count, histograms: [] }));
    expect(store.report({ proxy, lifeMs, samples, tcpSamples: [] })).toBe("ok");
  };
  /** And again, when what was counted by then is compared. */
  const scrape: typeof scrapeOnce = (...args) => {
    scrapeOnce(...args);
    scrapeOnce(...args);
  };
  /** [access log, stats] of a proxy; null when there is nothing to say. */
  const of = (proxy = "p") => {
    const found = completeness.read().proxies.find((each) => each.proxy === proxy);
    const ratios = found === undefined ? null : ratiosOf(found);
    return ratios === null ? null : [ratios.accessLog, ratios.stats];
  };
  return { clock, store, completeness, log, scrapeOnce, scrape, of };
}

/** Both channels have told of one request, and are compared from here on. */
function begun(...args: Parameters<typeof setUp>) {
  const all = setUp(...args);
  all.log(1);
  all.scrape(1);
  return all;
}

it("both told of all: both are 1", () => {
  const { log, scrape, of } = begun();
  log(10);
  scrape(11);
  expect(of()).toEqual([1, 1]);
});

it("what access logs lost is their share's loss, and never more than all", () => {
  const { log, scrape, of } = begun();
  log(6);
  scrape(11);
  expect(of()).toEqual([0.6, 1]);
  scrape(21);
  expect(of()).toEqual([0.3, 1]);
});

it("a label set of which access logs told nothing counts as lost", () => {
  const { log, scrape, of } = begun();
  log(5);
  scrape({ [keyTo("api")]: 6, [keyTo("api", "503")]: 5 });
  expect(of()).toEqual([0.5, 1]);
});

it("what a process did after its last scrape is the stats' loss", () => {
  const { log, scrape, of } = begun();
  log(5); // the process ends, and was not scraped again
  log(5, keyTo("api"), LIFE + 1);
  scrape(5, LIFE + 1);
  expect(of()).toEqual([1, 0.5]);
});

it("label sets that differ between the channels count twice, and both shares say so", () => {
  const { log, scrape, of } = begun();
  log(4, keyTo("elsewhere"));
  scrape(5);
  expect(of()).toEqual([0.5, 0.5]);
});

it.each([
  ["access logs alone", (all: ReturnType<typeof setUp>) => all.log(5)],
  ["stats alone", (all: ReturnType<typeof setUp>) => [5, 9].map((count) => all.scrape(count))],
  ["nobody since both told", () => {}],
])("%s: nothing is said", (_case, tell) => {
  const all = _case.startsWith("nobody") ? begun() : setUp();
  tell(all);
  expect(all.of()).toBeNull();
  expect(all.completeness.read()).toEqual({ proxies: [], edges: [] });
});

it("what the proxy had counted before its first entry came is not compared", () => {
  const { log, scrape, of } = setUp();
  scrape(1000);
  log(1);
  scrape(1001);
  log(4);
  scrape(1005);
  expect(of()).toEqual([1, 1]);
});

it("entries that name no life and stats that do are of the same requests", () => {
  const { log, scrape, of } = setUp();
  log(1, keyTo("api"), 0);
  scrape(1);
  log(9, keyTo("api"), 0);
  scrape(10);
  expect(of()).toEqual([1, 1]);
});

it("entries that come late make up for it", () => {
  const { log, scrape, of } = begun();
  scrape(11);
  expect(of()).toEqual([0, 1]);
  log(10);
  scrape(11);
  expect(of()).toEqual([1, 1]);
  log(5); // ahead for a moment
  expect(of()).toEqual([1, 1]);
});

it("entries that a proxy holds back while it is scraped are not missing", () => {
  const { log, scrapeOnce, of } = begun();
  for (let seconds = 1; seconds < 10; seconds++) {
    scrapeOnce(1 + 10 * seconds);
    if (seconds > 1) expect(of()).toEqual([1, 1]);
    log(10);
  }
});

it("what happened over ten minutes ago is forgotten", () => {
  const { clock, log, scrape, of } = begun();
  scrape(11);
  clock.nowMs += 4 * MINUTE_MS;
  expect(of()).toEqual([0, 1]);
  clock.nowMs += 3 * MINUTE_MS;
  log(10);
  scrape(21);
  expect(of()).toEqual([0.5, 1]);
  clock.nowMs += 5 * MINUTE_MS;
  expect(of()).toEqual([1, 1]);
  clock.nowMs += 100 * MINUTE_MS;
  expect(of()).toBeNull();
});

it("a process life that is let go of is no loss", () => {
  const { clock, store, log, scrape, of } = begun();
  log(100);
  scrape(101);
  log(1, keyTo("api"), LIFE + 1);
  scrape(1, LIFE + 1);
  clock.nowMs += 11 * MINUTE_MS;
  store.retireSuperseded();
  scrape(1, LIFE + 1);
  log(2, keyTo("api"), LIFE + 1);
  scrape(5, LIFE + 1);
  expect(of()).toEqual([0.5, 1]);
});

it("edges add up what all proxies tell of them, threads' too", () => {
  const { completeness, log, scrape } = begun();
  log(1, keyTo("api"), LIFE, "q");
  scrape(1, LIFE, "q");
  log(4, keyTo("api"), LIFE, "q");
  log(2, keyTo("db"), LIFE, "q");
  scrape({ [keyTo("api")]: 5, [keyTo("db")]: 2 }, LIFE, "q");
  scrape(5);
  const toApi = { source: "ns/web", destination: "ns/api" };
  const toDb = { source: "ns/web", destination: "ns/db" };
  const reading = completeness.read();
  expect(reading.edges).toEqual([
    { ...toApi, counted: 8, logged: 4, reported: 8 },
    { ...toDb, counted: 2, logged: 2, reported: 2 },
  ]);
  const other = { proxies: [], edges: [{ ...toApi, counted: 2, logged: 2, reported: 1 }] };
  expect(sumCompleteness([reading, other])).toEqual({
    proxies: reading.proxies,
    edges: [
      { ...toApi, counted: 10, logged: 6, reported: 9 },
      { ...toDb, counted: 2, logged: 2, reported: 2 },
    ],
  });
});

it("edges beyond the limit are one", () => {
  const { completeness, log, scrape } = begun(2);
  const keys = ["api", "a", "b", "c"].map((workload) => keyTo(workload));
  for (const labelKey of keys) log(1, labelKey);
  scrape({ ...Object.fromEntries(keys.map((labelKey) => [labelKey, 2])), [keys[0] as string]: 2 });
  const ends = completeness.read().edges.map(({ source, destination, counted }) => [source, destination, counted]);
  expect(ends).toEqual([
    ["ns/web", "ns/api", 1],
    ["ns/web", "ns/a", 2],
    ["other", "other", 4],
  ]);
});

it("edges that gained nothing for ten minutes make room, and go on from where they were", () => {
  const { clock, completeness, log, scrape } = begun(1);
  scrape({ [keyTo("api")]: 5, [keyTo("db")]: 3 });
  const counted = () => completeness.read().edges.map(({ destination, counted }) => [destination, counted]);
  expect(counted()).toEqual([
    ["ns/api", 4],
    ["other", 3],
  ]);
  clock.nowMs += 11 * MINUTE_MS;
  completeness.letGoIdle();
  scrape({ [keyTo("api")]: 5, [keyTo("db")]: 4 });
  expect(counted()).toEqual([["ns/db", 1]]);
  clock.nowMs += 11 * MINUTE_MS;
  completeness.letGoIdle();
  log(2);
  scrape({ [keyTo("api")]: 7, [keyTo("db")]: 4 });
  expect(counted()).toEqual([["ns/api", 2]]);
});

it("is a gauge, whatever is in a name", () => {
  const compared = { counted: 4, logged: 1, reported: 4 };
  const reading = {
    proxies: [{ proxy: 'a"\\\n{}', ...compared }],
    edges: [{ source: "ns/web", destination: "ns/api", counted: 2, logged: 3, reported: 1 }],
  };
  expect([...renderCompleteness(reading)].join("").split("\n").slice(1)).toEqual([
    "# TYPE mesh_completeness_ratio gauge",
    'mesh_completeness_ratio{of="proxy",proxy="a\\"\\\\\\n{}",channel="access_log"} 0.25',
    'mesh_completeness_ratio{of="proxy",proxy="a\\"\\\\\\n{}",channel="stats"} 1',
    'mesh_completeness_ratio{of="edge",source="ns/web",destination="ns/api",channel="access_log"} 1',
    'mesh_completeness_ratio{of="edge",source="ns/web",destination="ns/api",channel="stats"} 0.5',
    "",
  ]);
  expect([...renderCompleteness({ proxies: [], edges: [] })]).toEqual([]);
});

it("in pieces, under one header", () => {
  const proxies = Array.from({ length: 3000 }, (_, i) => ({ proxy: `p${i}`, counted: 1, logged: 1, reported: 1 }));
  const pieces = [...renderCompleteness({ proxies, edges: [] })];
  expect(pieces.length).toBeGreaterThan(2);
  expect(pieces.every((piece) => piece.endsWith("\n"))).toBe(true);
  expect(pieces.join("").match(/# TYPE/g)).toHaveLength(1);
  expect(pieces.join("").match(/channel="stats"} 1\n/g)).toHaveLength(3000);
});
