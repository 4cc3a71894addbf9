// `metrics.labels`: label sets that are alike in what is kept are one, whatever brings them, and count in mesh_* as they would have.

import { describe, expect, it } from "vitest";
import { REQUESTS } from "../../collector/series/counts.ts";
import { KeptLabels } from "../../collector/series/kept-labels.ts";
import { withMark } from "../../collector/series/key.ts";
import { MIXED_OVERFLOW_KEY, overflowKeyOf } from "../../collector/series/overflow.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { LABELS, Label } from "../../collector/vocabulary.ts";
import { TrafficFamilies } from "../../collector/web/exposition/families.ts";
import { TextTraffic } from "../../collector/web/exposition/text.ts";
import { COUNTS_WIDTH } from "../fixtures/counts.ts";
import { random } from "../property/random.ts";
import { key, type LabelValues } from "./labels.ts";

const LIMITS = { proxies: 50, labelSets: 20_000, cells: 200_000, connections: 50, retireAfterMs: 1000 };
const CLOCK = { wallMs: () => 1000, steadyMs: () => 1000 };

function setUp(kept: readonly Label[] | null, rule: "certain" | "all" = "certain") {
  const store = new SeriesStore(LIMITS, CLOCK, { kept: kept && new KeptLabels(kept, rule) });
  const families = new TrafficFamilies(store, rule);
  let connectionId = 0;
  return {
    store,
    observe: (labelKey: string, lifeMs = 1, proxy = "p") =>
      store.observe({ proxy, lifeMs, labelKey, requests: 1, durationMs: 7, requestBytes: 3, responseBytes: 300 }),
    connect: (labelKey: string) => {
      const parts = [{ labelKey, counts: [1, 1, 70, 80] }];
      store.observeConnection({
        proxy: "p",
        lifeMs: 1,
        connectionId: ++connectionId,
        streamId: "",
        isOver: true,
        parts,
      });
    },
    report: (requests: Readonly<Record<string, number>>, lifeMs = 1, proxy = "p") => {
      const samples = Object.entries(requests).map(([labelKey, n]) => ({ labelKey, requests: n, histograms: [] }));
      return store.report({ proxy, lifeMs, samples, tcpSamples: [] });
    },
    leftOut: () => families.leftOut(),
    samples: (name: string) =>
      Array.from(new TextTraffic(families, "text").render(), String)
        .join("")
        .split("\n")
        .filter((line) => line.startsWith(`${name}{`)),
  };
}

/** Label text -> value: `istio_requests_total{a="b"} 3`, without labels that are empty. */
function valuesOf(samples: readonly string[]): Record<string, number> {
  const all = samples.map((line) => {
    const [, labels = "", value] = /\{(.*)\} (\S+)$/.exec(line) ?? [];
    return [labels.replace(/[a-z_]+="",?/g, "").replace(/,$/, ""), Number(value)] as const;
  });
  expect(new Set(all.map(([labels]) => labels)).size).toBe(all.length); // no series twice
  return Object.fromEntries(all);
}

const WORKLOADS = [Label.Reporter, Label.SourceWorkload, Label.DestinationWorkload];

describe("KeptLabels", () => {
  it("adds up what differs in the other labels alone", () => {
    const { observe, samples } = setUp(WORKLOADS);
    observe(key({ reporter: "source", source_workload: "web", response_code: "200" }));
    observe(key({ reporter: "source", source_workload: "web", response_code: "500" }));
    observe(key({ reporter: "source", source_workload: "job", response_code: "500" }));
    expect(valuesOf(samples("istio_requests_total"))).toEqual({
      'reporter="source",source_workload="web",destination_workload="unknown"': 2,
      'reporter="source",source_workload="job",destination_workload="unknown"': 1,
    });
  });

  it("takes the larger of stats and access log, of the sums", () => {
    const { observe, report, samples } = setUp([Label.SourceWorkload]);
    const of = (code: string) => key({ reporter: "source", source_workload: "web", response_code: code });
    const total = () => valuesOf(samples("istio_requests_total"))['source_workload="web"'];
    for (const code of ["200", "200", "500"]) observe(of(code));
    expect(total()).toBe(3);
    report({ [of("200")]: 2, [of("500")]: 2 });
    expect(total()).toBe(4);
    report({ [of("200")]: 2, [of("500")]: 2 });
    expect(total()).toBe(4);
    observe(of("503"));
    expect(total()).toBe(4);
    observe(of("503"));
    expect(total()).toBe(5);
  });

  it.each([
    ["a mark that tells what the labels no longer do", "web", null],
    ["another mark than the stats, which know what the entry does not", "unknown", "?"],
  ] as const)("counts once what an entry without a process life tells, too, with %s", (_, source_workload, mark) => {
    const labelKey = key({ reporter: "destination", source_workload, destination_workload: "api" });
    for (const isEntryFirst of [true, false]) {
      const { report, observe, samples } = setUp([Label.Reporter, Label.DestinationWorkload]);
      const log = () => {
        for (let i = 0; i < 3; i++) observe(withMark(labelKey, mark), 0);
      };
      if (isEntryFirst) log();
      report({ [labelKey]: 3 });
      if (!isEntryFirst) log();
      report({ [labelKey]: 4 });
      expect(Object.values(valuesOf(samples("istio_requests_total"))), `entry first: ${isEntryFirst}`).toEqual([4]);
    }
  });

  it("leaves the overflow as it is", () => {
    const { observe, samples } = setUp([Label.SourceWorkload]);
    observe(MIXED_OVERFLOW_KEY);
    observe(overflowKeyOf(key({ reporter: "source", source_workload: "web" }), false));
    const lines = samples("istio_requests_total");
    expect(lines.map((line) => /reporter="(\w+)"/.exec(line)?.[1])).toEqual(["other", "source"]);
    for (const line of lines) expect(line).toContain('response_flags="other"');
  });

  it("is the same of TCP", () => {
    const { connect, samples } = setUp([Label.SourceWorkload], "all");
    const tcp = (labels: LabelValues) => key({ ...labels, response_code: "", grpc_response_status: "" });
    connect(tcp({ reporter: "source", source_workload: "web", source_app: "a" }));
    connect(tcp({ reporter: "source", source_workload: "web", source_app: "b" }));
    connect(tcp({ reporter: "destination", source_workload: "web" }));
    connect(tcp({ reporter: "destination", destination_workload: "db" }));
    expect(valuesOf(samples("istio_tcp_sent_bytes_total"))).toEqual({
      'source_workload="web"': 210,
      'source_workload="unknown"': 70,
    });
    expect(valuesOf(samples("mesh_tcp_sent_bytes_total"))).toEqual({
      'source_workload="web",observed_by="source"': 140,
      'source_workload="unknown",observed_by="destination"': 70,
    });
  });

  it.each<["certain" | "all", readonly Label[]]>([
    ["certain", [Label.ResponseCode]],
    ["all", [Label.ResponseCode]],
    ["certain", [Label.Reporter]],
    ["all", [Label.Reporter, Label.SourceApp]],
    ["certain", WORKLOADS],
    ["certain", [Label.SourceCanonicalService, Label.DestinationApp]],
  ])("leaves every total as it was, whoever reports and by whichever way (%s, %j)", (rule, kept) => {
    const next = random(20251122);
    const pick = <T>(all: readonly T[]): T => all[Math.floor(next() * all.length)] as T;
    const all = setUp(null, rule);
    const some = setUp(kept, rule);
    const stats = new Map<string, Record<string, number>>();
    for (let i = 0; i < 800; i++) {
      const plain = key({
        reporter: pick(["source", "destination", "waypoint", ""]),
        source_workload: pick(["web", "unknown", "unknown", ""]),
        source_canonical_service: pick(["unknown", "web", ""]),
        source_app: pick(["unknown", "a", ""]),
        source_version: pick(["unknown", ""]),
        source_cluster: pick(["unknown", ""]),
        destination_workload: pick(["db", ""]),
        response_code: pick(["200", "500"]),
      });
      const proxy = pick(["p", "q", "r"]);
      if (next() < 0.5) {
        // Each proxy by one way alone: that the two ways merge is the table's business.
        const counts = { ...stats.get(proxy), [plain]: (stats.get(proxy)?.[plain] ?? 0) + 1 };
        stats.set(proxy, counts);
        for (const each of [all, some]) each.report(counts, 1, `stats of ${proxy}`);
      } else {
        const labelKey = withMark(plain, pick([null, null, "+", "?"]));
        for (const each of [all, some]) each.observe(labelKey, 0, proxy);
      }
    }
    const sumOf = (samples: readonly string[], what: RegExp) =>
      Object.entries(valuesOf(samples))
        .filter(([labels]) => what.test(labels))
        .reduce((sum, [, value]) => sum + value, 0);
    for (const what of [/^/, /observed_by="source"/, /observed_by="destination"/, /observed_by="waypoint"/]) {
      const expected = sumOf(all.samples("mesh_requests_total"), what);
      expect(expected).toBeGreaterThan(10);
      expect(sumOf(some.samples("mesh_requests_total"), what)).toBe(expected);
    }
    expect(sumOf(some.samples("istio_requests_total"), /^/)).toBe(800);
    expect(some.leftOut()).toEqual(all.leftOut());
    expect(some.store.http.series.length).toBeLessThan(all.store.http.series.length / 2);
    expect(some.store.http.width).toBe(COUNTS_WIDTH);
    const row = new Float64Array(COUNTS_WIDTH);
    for (const series of some.store.http.series) {
      some.store.http.readTotal(series, row);
      expect(row[REQUESTS]).toBeGreaterThan(0);
    }
    expect(LABELS.length).toBe(25);
  });
});
