// Which label sets count in mesh_*: the rule of docs/metrics.md ("Counted once"), case by case, and what /metrics shows of it.

import { describe, expect, it, test } from "vitest";
import { KeptLabels } from "../../collector/series/kept-labels.ts";
import { MARKS, type Mark, markOf, unpackLabels, withMark, withoutMark } from "../../collector/series/key.ts";
import { MIXED_OVERFLOW_KEY, overflowKeyOf, TCP_MIXED_OVERFLOW_KEY } from "../../collector/series/overflow.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { type DestinationRule, judge, type Verdict } from "../../collector/series/unified.ts";
import { LABELS, Label } from "../../collector/vocabulary.ts";
import { TrafficFamilies } from "../../collector/web/exposition/families.ts";
import { TextTraffic } from "../../collector/web/exposition/text.ts";
import { key, type LabelValues, values } from "./labels.ts";

const SOURCE = { reporter: "source", source_workload: "web", source_canonical_revision: "v1" };
const DESTINATION = { reporter: "destination", source_canonical_revision: "latest", destination_workload: "db" };
const WAYPOINT = { reporter: "waypoint", source_canonical_revision: "latest", destination_workload: "db" };
const empty = (...labels: readonly string[]) => Object.fromEntries(labels.map((label) => [label, ""]));
const ends = (side: string) =>
  ["workload", "canonical_service", "app", "version", "cluster"].map((l) => `${side}_${l}`);
const NO_SOURCE = empty(...ends("source"));
const NO_DESTINATION = empty(...ends("destination"));

describe("judge", () => {
  it.each<[string, LabelValues, Verdict]>([
    ["a source's report", SOURCE, "source"],
    ["a gateway's, to a server outside the mesh", { ...SOURCE, destination_service: "example.org" }, "source"],
    [
      "a source's that names itself by its cluster alone",
      { reporter: "source", ...NO_SOURCE, source_cluster: "c" },
      "source",
    ],
    ["a source's that says nothing of itself, to an unknown server", { reporter: "source", ...NO_SOURCE }, "source"],
    [
      "a source's that says nothing of itself, to a known server",
      { reporter: "source", ...NO_SOURCE, destination_workload: "db" },
      "proxy_unnamed",
    ],
    ["a destination's, of a known source", { ...DESTINATION, source_workload: "web" }, "reported_by_source"],
    [
      "a destination's, of a source known by its service",
      { ...DESTINATION, source_canonical_service: "w" },
      "reported_by_source",
    ],
    ["a destination's, of a source known by its app", { ...DESTINATION, source_app: "w" }, "reported_by_source"],
    [
      "a destination's, of a source known by its version",
      { ...DESTINATION, source_version: "1" },
      "reported_by_source",
    ],
    [
      "a destination's, of a source known by its cluster",
      { ...DESTINATION, source_cluster: "c" },
      "reported_by_source",
    ],
    ["a destination's, of nobody known", DESTINATION, "destination"],
    [
      "a destination's, of one who is known by certificate alone",
      { ...DESTINATION, source_principal: "spiffe://a/ns/b/sa/c", source_workload_namespace: "b" },
      "destination",
    ],
    ["a destination's whose workload label was removed", { ...DESTINATION, source_workload: "" }, "destination"],
    ["a destination's whose source labels were removed", { ...DESTINATION, ...NO_SOURCE }, "labels_changed"],
    [
      "a destination's of which only what few have is left of the source",
      { ...DESTINATION, source_workload: "", source_canonical_service: "" },
      "labels_changed",
    ],
    ["a destination's that says nothing of itself", { ...DESTINATION, ...NO_DESTINATION }, "proxy_unnamed"],
    ["a waypoint's, of a known source", { ...WAYPOINT, source_workload: "web" }, "reported_by_source"],
    ["a waypoint's, of nobody known", WAYPOINT, "waypoint"],
    ["a report without reporter", { ...SOURCE, reporter: "" }, "labels_changed"],
    ["a report whose reporter was overridden", { ...SOURCE, reporter: "sidecar" }, "labels_changed"],
    [
      "a report whose labels were all removed",
      Object.fromEntries(LABELS.map((label) => [label, ""])),
      "labels_changed",
    ],
  ])("says of %s", (_case, labels, verdict) => {
    expect(judge(key(labels), false, "certain")).toBe(verdict);
    expect(judge(key(labels), false, "all")).toBe(verdict);
  });

  it.each<[string, LabelValues, Record<DestinationRule, Verdict>]>([
    ["a source's", SOURCE, { certain: "source", all: "source" }],
    ["a destination's, of nobody known", DESTINATION, { certain: "exchange_unknown", all: "destination" }],
    ["a waypoint's, of nobody known", WAYPOINT, { certain: "exchange_unknown", all: "waypoint" }],
    [
      "a destination's, of a known source",
      { ...DESTINATION, source_workload: "web" },
      { certain: "reported_by_source", all: "reported_by_source" },
    ],
  ])("says of %s report of TCP", (_case, labels, verdicts) => {
    const tcp = key({ ...labels, response_code: "", grpc_response_status: "" });
    for (const rule of ["certain", "all"] as const) expect(judge(tcp, true, rule)).toBe(verdicts[rule]);
  });

  it.each<[Mark, LabelValues, Record<DestinationRule, Verdict>]>([
    ["+", { ...DESTINATION, source_workload: "web" }, { certain: "destination", all: "destination" }],
    ["?", { ...DESTINATION, source_workload: "web" }, { certain: "exchange_unknown", all: "destination" }],
    ["?", DESTINATION, { certain: "exchange_unknown", all: "destination" }],
    ["?", SOURCE, { certain: "source", all: "source" }],
  ])("goes by the mark %s where labels do not tell", (mark, labels, verdicts) => {
    for (const isTcp of [false, true]) {
      for (const rule of ["certain", "all"] as const) {
        expect(judge(withMark(key(labels), mark), isTcp, rule)).toBe(verdicts[rule]);
      }
    }
  });

  it("leaves the overflow of old filters and saved states out", () => {
    expect(judge(MIXED_OVERFLOW_KEY, false, "all")).toBe("overflow");
    expect(judge(TCP_MIXED_OVERFLOW_KEY, true, "all")).toBe("overflow");
  });

  it("says of each label set's overflow what it says of the label set; 11 of them take in all, but for marks", () => {
    const some = ["", "unknown", "a"];
    const pick = (place: number, from: readonly string[]) => (choice: number) =>
      from[Math.floor(choice / place) % from.length] as string;
    const reporter = pick(1, ["source", "destination", "waypoint", "", "other", "sidecar"]);
    const names = [
      "source_workload",
      "source_canonical_service",
      "source_cluster",
      "destination_workload",
      "destination_app",
    ];
    const overflows = new Set<string>();
    for (let choice = 0; choice < 6 * 3 ** names.length; choice++) {
      const chosen = names.map((name, i) => [name, pick(6 * 3 ** i, some)(choice)]);
      const rest = [...ends("source"), ...ends("destination")].map((name) => [name, ""]);
      const plain = key({ ...Object.fromEntries([...rest, ...chosen]), reporter: reporter(choice) });
      for (const mark of [null, ...MARKS]) {
        for (const isTcp of [false, true]) {
          const overflow = overflowKeyOf(withMark(plain, mark), isTcp);
          expect(overflowKeyOf(overflow, isTcp)).toBe(overflow);
          expect(markOf(overflow)).toBe(mark);
          if (!isTcp) overflows.add(withoutMark(overflow));
          for (const rule of ["certain", "all"] as const) {
            const verdict = judge(withMark(plain, mark), isTcp, rule);
            if (judge(overflow, isTcp, rule) !== verdict) expect(judge(overflow, isTcp, rule), plain).toBe(verdict);
          }
        }
      }
    }
    overflows.add(overflowKeyOf(MIXED_OVERFLOW_KEY, false));
    expect(overflows.size).toBe(11);
    expect(overflows).toContain(MIXED_OVERFLOW_KEY);
    expect(overflowKeyOf(TCP_MIXED_OVERFLOW_KEY, true)).toBe(TCP_MIXED_OVERFLOW_KEY);
  });

  it("leaves out what is no label set", () => {
    for (const broken of ["", "\x05ab", `${key(SOURCE)}y`, `${key(SOURCE)}++`]) {
      expect(judge(broken, false, "all")).toBe("labels_changed");
    }
  });
});

test("a mark stands behind the values, and is none of them", () => {
  const plain = key({ source_workload: "ü+?" });
  expect(markOf(plain)).toBeNull();
  expect(withoutMark(plain)).toBe(plain);
  for (const mark of ["+", "?"] as const) {
    const marked = withMark(plain, mark);
    expect(markOf(marked)).toBe(mark);
    expect(withoutMark(marked)).toBe(plain);
    expect(unpackLabels(marked)).toEqual(values({ source_workload: "ü+?" }));
  }
});

describe("/metrics", () => {
  const setUp = (rule: DestinationRule = "certain", labelSets = 10, kept: readonly Label[] | null = null) => {
    const limits = { proxies: 10, labelSets, cells: 500, connections: 10, retireAfterMs: 1000 };
    const store = new SeriesStore(limits, undefined, { kept: kept && new KeptLabels(kept, rule) });
    const families = new TrafficFamilies(store, rule);
    const observe = (labelKey: string, lifeMs = 1) =>
      store.observe({ proxy: "p", lifeMs, labelKey, requests: 1, durationMs: 7, requestBytes: 3, responseBytes: 300 });
    const lines = () => Array.from(new TextTraffic(families, "text").render(), String).join("").split("\n");
    const samples = (name: string) => lines().filter((line) => line.startsWith(`${name}{`));
    return { store, families, observe, lines, samples };
  };
  const labelText = (labels: LabelValues, observedBy: string) =>
    [
      ...values(labels)
        .map((value, i) => `${LABELS[i]}="${value}"`)
        .slice(1),
      `observed_by="${observedBy}"`,
    ].join(",");

  it("has mesh_* with the standard labels, observed_by in the reporter's place", () => {
    const { observe, samples, lines } = setUp();
    observe(key(SOURCE));
    observe(key({ ...DESTINATION, source_workload: "web" }));
    observe(key(DESTINATION));
    expect(samples("istio_requests_total")).toHaveLength(3);
    expect(samples("mesh_requests_total")).toEqual([
      `mesh_requests_total{${labelText(SOURCE, "source")}} 1`,
      `mesh_requests_total{${labelText(DESTINATION, "destination")}} 1`,
    ]);
    expect(samples("mesh_request_bytes_count")).toHaveLength(2);
    expect(lines()).toContain("# TYPE mesh_request_duration_milliseconds histogram");
  });

  it("has mesh_tcp_*", () => {
    const { store, samples } = setUp("all");
    let connectionId = 0;
    const connect = (labels: LabelValues) => {
      const labelKey = key({ ...labels, response_code: "", grpc_response_status: "" });
      const parts = [{ labelKey, counts: [1, 1, 70, 80] }];
      store.observeConnection({
        proxy: "p",
        lifeMs: 1,
        connectionId: ++connectionId,
        streamId: "",
        isOver: true,
        parts,
      });
    };
    connect(SOURCE);
    connect(DESTINATION);
    connect({ ...DESTINATION, source_workload: "web" });
    for (const name of ["connections_opened", "connections_closed", "sent_bytes", "received_bytes"]) {
      expect(samples(`mesh_tcp_${name}_total`)).toHaveLength(2);
    }
    expect(samples("mesh_tcp_sent_bytes_total")[1]).toMatch(/,observed_by="destination"} 70$/);
    expect(samples("mesh_tcp_sent_bytes_total")[1]).not.toContain("response_code");
  });

  it("shows label sets that differ in their mark alone as one series of istio_*, in whichever order they came", () => {
    const labels = { ...DESTINATION, source_workload: "web" };
    const keys = [key(labels), withMark(key(labels), "+"), withMark(key(labels), "?")];
    for (const order of [keys, keys.toReversed(), [keys[1], keys[0], keys[2]], [keys[2], keys[0]]]) {
      const { observe, samples, families } = setUp();
      observe(key(SOURCE));
      for (const labelKey of order) {
        observe(labelKey as string, 0);
        samples("istio_requests_total"); // also if it is read in between
      }
      const [, line, ...more] = samples("istio_requests_total");
      expect(more).toEqual([]);
      expect(line).toMatch(new RegExp(`source_workload="web",.*} ${order.length}$`));
      const counted = samples("mesh_requests_total").filter((each) => each.includes('"destination"'));
      expect(counted).toHaveLength(order.includes(keys[1]) ? 1 : 0);
      expect(families.leftOut().http.exchange_unknown).toBe(order.includes(keys[2]) ? 1 : 0);
    }
  });

  it("shows what counts the same way as one series of mesh_*, whatever its mark", () => {
    for (const marks of [
      [null, "?", "+"],
      ["?", null],
      ["+", "?", null],
    ] as const) {
      const { observe, samples } = setUp("all");
      for (const mark of marks) {
        observe(withMark(key(DESTINATION), mark), 0);
        samples("mesh_requests_total");
      }
      expect(samples("mesh_requests_total")).toEqual([
        `mesh_requests_total{${labelText(DESTINATION, "destination")}} ${marks.length}`,
      ]);
    }
  });

  it("tells how many requests it leaves out, and why", () => {
    const { observe, families, samples } = setUp("certain", 3);
    observe(key({ ...SOURCE, reporter: "" }));
    observe(key({ ...DESTINATION, ...NO_DESTINATION }));
    observe(withMark(key(DESTINATION), "?"));
    observe(MIXED_OVERFLOW_KEY);
    expect(samples("mesh_requests_total")).toEqual([]);
    expect(families.leftOut().http).toEqual({
      exchange_unknown: 1,
      proxy_unnamed: 1,
      labels_changed: 1,
      overflow: 1,
    });
  });

  it("counts beyond the limit what it would count without it, by reporter and in mesh_*, of label sets that lack some labels, too", () => {
    const sumOf = (lines: readonly string[], what: RegExp) =>
      lines.filter((line) => what.test(line)).reduce((sum, line) => sum + Number(/ (\d+)$/.exec(line)?.[1]), 0);
    const marks = [null, "+", "?"] as const;
    for (const kept of [null, [Label.SourceWorkload, Label.ResponseCode], [Label.Reporter]]) {
      for (const rule of ["certain", "all"] as const) {
        const all = setUp(rule, 10_000, kept);
        const few = setUp(rule, 1, kept);
        for (const [i, reporter] of ["destination", "source", "waypoint", "destination", "source"].entries()) {
          for (const [j, source] of [{}, NO_SOURCE, { source_workload: "web" }, { source_app: "a" }].entries()) {
            for (const destination of [{}, NO_DESTINATION, { destination_workload: "db" }]) {
              const labelKey = key({ ...source, ...destination, reporter, response_code: String(200 + i) });
              for (let count = 0; count <= i + j; count++) {
                for (const each of [all, few]) each.observe(withMark(labelKey, marks[(i + j) % 3] as Mark | null), 0);
              }
            }
          }
        }
        for (const by of ["source", "destination", "waypoint"]) {
          const [reported, counted] = [new RegExp(`reporter="${by}"`), new RegExp(`observed_by="${by}"`)];
          expect(sumOf(few.samples("istio_requests_total"), reported)).toBe(
            sumOf(all.samples("istio_requests_total"), reported),
          );
          const expected = sumOf(all.samples("mesh_requests_total"), counted);
          expect(expected).toBeGreaterThan(5);
          expect(sumOf(few.samples("mesh_requests_total"), counted)).toBe(expected);
        }
        expect(few.families.leftOut()).toEqual(all.families.leftOut());
        expect(few.store.http.overflowed).toBeGreaterThan(100);
      }
    }
  });

  it("counts an entry without observation and the stats of the same request once, whatever its mark", () => {
    for (const isLogFirst of [true, false]) {
      const { store, observe, samples } = setUp();
      const report = () =>
        store.report({
          proxy: "p",
          lifeMs: 1,
          samples: [{ labelKey: key(DESTINATION), requests: 2, histograms: [] }],
          tcpSamples: [],
        });
      if (!isLogFirst) report();
      for (let i = 0; i < 3; i++) observe(withMark(key(DESTINATION), "?"), 0);
      if (isLogFirst) report();
      expect(samples("istio_requests_total")).toHaveLength(1);
      expect(samples("istio_requests_total")[0]).toMatch(/} 3$/);
    }
  });
});
