// `metrics.expire_after`: what does not grow is not shown, and is not counted anew when it comes back.

import { describe, expect, it } from "vitest";
import { withMark } from "../../collector/series/key.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { ChangeReader } from "../../collector/shards/changes.ts";
import { SummedSeries } from "../../collector/shards/summed-series.ts";
import { TrafficFamilies } from "../../collector/web/exposition/families.ts";
import { TextTraffic } from "../../collector/web/exposition/text.ts";
import { COUNTS_WIDTH } from "../fixtures/counts.ts";
import { cases } from "../property/cases.ts";
import { random } from "../property/random.ts";
import { key } from "./labels.ts";

const HOUR_MS = 3_600_000;
const WEB = key({ reporter: "source", source_workload: "web" });
const JOB = key({ reporter: "source", source_workload: "job" });

function setUp(expireAfterMs = HOUR_MS, retireAfterMs = 60_000) {
  const clock = { nowMs: 1000 };
  const store = new SeriesStore(
    { proxies: 10, labelSets: 100, cells: 500, connections: 10, retireAfterMs, expireAfterMs },
    { wallMs: () => clock.nowMs, steadyMs: () => clock.nowMs },
  );
  const exposition = new TextTraffic(new TrafficFamilies(store), "text");
  const shown = (name = "istio_requests_total") => {
    const lines = Array.from(exposition.render(), String)
      .join("")
      .split("\n")
      .filter((line) => line.startsWith(`${name}{`));
    return Object.fromEntries(
      lines.map((line) => [/source_workload="(.*?)"/.exec(line)?.[1], Number(line.split(" ").at(-1))]),
    );
  };
  const report = (requests: Readonly<Record<string, number>>, lifeMs = 1000, proxy = "p") =>
    store.report({
      proxy,
      lifeMs,
      samples: Object.entries(requests).map(([labelKey, n]) => ({ labelKey, requests: n, histograms: [] })),
      tcpSamples: [],
    });
  const observe = (labelKey: string, lifeMs = 1000) =>
    store.observe({ proxy: "p", lifeMs, labelKey, requests: 1, durationMs: 7, requestBytes: 3, responseBytes: 300 });
  const pass = (ms: number) => {
    clock.nowMs += ms;
    store.http.takeChanged(); // as the graph does each second
    store.tcp.takeChanged();
    store.retireSuperseded();
  };
  return { clock, store, shown, report, observe, pass };
}

describe("a series that does not grow", () => {
  it("is shown for so long, and no longer; others are", () => {
    const { report, pass, shown } = setUp();
    report({ [WEB]: 5, [JOB]: 1 });
    pass(0);
    pass(HOUR_MS);
    expect(shown()).toEqual({ web: 5, job: 1 });
    report({ [WEB]: 5, [JOB]: 2 });
    pass(1);
    expect(shown()).toEqual({ job: 2 });
    expect(shown("mesh_requests_total")).toEqual({ job: 2 });
    expect(shown("istio_request_bytes_count")).toEqual({});
  });

  it("is shown for ever by default", () => {
    const { report, pass, shown } = setUp(0);
    report({ [WEB]: 5 });
    pass(1000 * HOUR_MS);
    expect(shown()).toEqual({ web: 5 });
  });

  it("does not come back by a scrape that shows it as it was, and goes on from where it was once it grows", () => {
    const { report, observe, pass, shown } = setUp();
    observe(WEB);
    report({ [WEB]: 5 });
    pass(0);
    pass(HOUR_MS + 1);
    for (let i = 0; i < 3; i++) report({ [WEB]: 5 });
    expect(shown()).toEqual({});
    report({ [WEB]: 7 });
    expect(shown()).toEqual({ web: 7 });
    pass(0);
    pass(HOUR_MS + 1);
    expect(shown()).toEqual({});
  });

  it("goes on from where it was in a new process life, too", () => {
    const { report, pass, shown } = setUp();
    report({ [WEB]: 5 });
    pass(0);
    pass(2 * HOUR_MS);
    report({ [JOB]: 1 }, 2 * HOUR_MS);
    pass(2 * HOUR_MS); // the first life is let go of
    expect(shown()).toEqual({});
    report({ [WEB]: 2 }, 2 * HOUR_MS);
    expect(shown()).toEqual({ web: 7 });
    expect(report({ [WEB]: 6 }, 1000)).toBe("life_retired");
  });

  it("is shown while one of those does that are shown as one with it", () => {
    const { observe, pass, shown } = setUp();
    const labels = { reporter: "destination", source_workload: "web" };
    observe(key(labels), 0);
    observe(withMark(key(labels), "+"), 0);
    pass(0);
    pass(HOUR_MS);
    observe(withMark(key(labels), "+"), 0);
    pass(HOUR_MS / 2);
    expect(shown()).toEqual({ web: 3 });
    pass(HOUR_MS);
    expect(shown()).toEqual({});
  });

  it("is not taken for idle where nobody asks what changed", () => {
    const { clock, report, shown } = setUp();
    report({ [WEB]: 5 });
    clock.nowMs += 2 * HOUR_MS;
    expect(shown()).toEqual({ web: 5 });
  });

  it("is left out of what several threads have, when it grew in none", () => {
    const { store, report, clock } = setUp();
    const sums = new SummedSeries(2, 50);
    const reader = new ChangeReader(store);
    report({ [WEB]: 5 });
    sums.apply(1, reader.read());
    const [web] = sums.http.series;
    if (!web) throw new Error("no label set");
    sums.http.takeChanged();
    expect(sums.http.isExpired(web)).toBe(false);
    const beginMs = performance.now();
    while (performance.now() - beginMs < 60) clock.nowMs++;
    expect(sums.http.isExpired(web)).toBe(true);
    report({ [WEB]: 6 });
    sums.apply(1, reader.read());
    expect(sums.http.isExpired(web)).toBe(false);
    const row = new Float64Array(COUNTS_WIDTH);
    sums.http.readTotal(web, row);
    expect(row[0]).toBe(6);
  });
});

it("whatever is hidden when, what is shown is what would be shown without expiry", () => {
  for (let seed = 1; seed <= cases(15); seed++) {
    const next = random(seed);
    const all = setUp(0);
    const some = setUp(2 * HOUR_MS);
    const truth = new Map<string, number>();
    let lifeMs = 1000;
    for (let step = 0; step < 150; step++) {
      const labelKey = key({ reporter: "source", source_workload: `w${Math.floor(next() * 6)}` });
      const action = next();
      if (action < 0.4) {
        for (const each of [all, some]) each.observe(labelKey, lifeMs);
        truth.set(labelKey, (truth.get(labelKey) ?? 0) + 1);
      } else if (action < 0.7) {
        for (const each of [all, some]) each.report(Object.fromEntries(truth), lifeMs);
      } else if (action < 0.97) {
        const ms = Math.floor(next() * 3 * HOUR_MS);
        for (const each of [all, some]) each.pass(ms);
      } else {
        lifeMs = all.clock.nowMs;
        truth.clear();
      }
      expect(all.shown(), `seed ${seed}`).toMatchObject(some.shown());
    }
  }
});
