// /api/v1/cardinality: what it says against a plain count over all label sets.

import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { unpackLabels, withMark } from "../../collector/series/key.ts";
import { labelCosts } from "../../collector/series/label-costs.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import type { ShardHoldings } from "../../collector/shards/shards.ts";
import { LABELS } from "../../collector/vocabulary.ts";
import { Cardinality } from "../../collector/web/cardinality.ts";
import { TrafficFamilies } from "../../collector/web/exposition/families.ts";
import { TextTraffic } from "../../collector/web/exposition/text.ts";
import { random } from "../property/random.ts";
import { key } from "./labels.ts";

const ALL = [...LABELS.keys()];
const HOLDINGS = { overflowed: { http: 5, tcp: 0 } } as ShardHoldings;

interface Group {
  readonly label_sets: number;
  readonly limit: number;
  readonly overflowed: number;
  readonly series: number;
  readonly families: readonly { readonly family: string; readonly series: number; readonly samples: number }[];
  readonly labels: readonly {
    readonly label: string;
    readonly saved_without: number;
    readonly top: readonly object[];
  }[];
}

function setUp(buckets: readonly (readonly number[])[] = []) {
  const store = new SeriesStore({ proxies: 9, labelSets: 1000, cells: 5000, connections: 9, retireAfterMs: 1000 });
  const cardinality = new Cardinality(store, "certain", 1000, buckets);
  const observe = (labelKey: string, durationMs = 7) =>
    store.observe({ proxy: "p", lifeMs: 0, labelKey, requests: 1, durationMs, requestBytes: 3, responseBytes: 300 });
  const read = async (query = "") => {
    const { status, body } = await cardinality.read(new URLSearchParams(query), HOLDINGS);
    return { status, body, ...(body as { readonly http: Group; readonly tcp: Group }) };
  };
  return { store, observe, read, cardinality };
}

describe("labelCosts", () => {
  it("is what counting them one by one gives", async () => {
    const next = random(7);
    const pick = (count: number) => String(Math.floor(next() * count));
    const series = Array.from({ length: 3000 }, (_, index) => ({
      index,
      labelKey: key({
        source_workload: pick(40),
        destination_app: `ü${pick(3)}`,
        response_code: pick(9),
        reporter: pick(2),
      }),
    }));
    const distinct = [...new Map(series.map((each) => [each.labelKey, each])).values()];
    const costs = await labelCosts(distinct, ALL, 2);
    expect(costs).toHaveLength(25);
    for (const { label, values, saved, top } of costs) {
      const at = LABELS.indexOf(label);
      const all = distinct.map(({ labelKey }) => unpackLabels(labelKey) ?? []);
      const counts = new Map<string, number>();
      for (const each of all) counts.set(each[at] as string, (counts.get(each[at] as string) ?? 0) + 1);
      expect(values).toBe(counts.size);
      expect(distinct.length - saved).toBe(new Set(all.map((each) => each.toSpliced(at, 1).join("\0"))).size);
      expect(top.map((each) => each.series)).toEqual([...counts.values()].sort((a, b) => b - a).slice(0, 2));
      for (const { value, series: count } of top) expect(counts.get(value)).toBe(count);
    }
    expect(costs.map(({ saved }) => saved)).toEqual(costs.map(({ saved }) => saved).sort((a, b) => b - a));
  });

  it("says nothing of nothing", async () => {
    expect((await labelCosts([], ALL, 3))[0]).toEqual({ label: "reporter", values: 0, saved: 0, top: [] });
  });
});

describe("/api/v1/cardinality", () => {
  it.each([
    ["all buckets", []],
    ["some", [[], [5, 10], [0.5], [1, 5, 10]]],
  ])("counts the series and samples that /metrics shows: %s", async (_, buckets) => {
    const { store, observe, read } = setUp(buckets);
    observe(key({ reporter: "source", response_code: "200" }));
    observe(key({ reporter: "source", response_code: "500" }), -1);
    observe(key({ reporter: "destination", source_workload: "web" }));
    observe(withMark(key({ reporter: "destination", source_workload: "web" }), "+"));
    const parts = [
      { labelKey: key({ reporter: "source", response_code: "", grpc_response_status: "" }), counts: [1, 1, 0, 4] },
    ];
    store.observeConnection({ proxy: "p", lifeMs: 0, connectionId: 0, streamId: "s", isOver: true, parts });
    const { http, tcp } = await read();
    expect(http).toMatchObject({ label_sets: 4, limit: 1000, overflowed: 5, series: 3 });
    expect(tcp).toMatchObject({ label_sets: 1, overflowed: 0, series: 1 });
    const lines = Array.from(new TextTraffic(new TrafficFamilies(store, "certain", buckets), "text").render(), String)
      .join("")
      .split("\n");
    for (const { family, samples } of [...http.families, ...tcp.families]) {
      const shown = lines.filter((line) => new RegExp(`^${family}(_bucket|_sum|_count)?\\{`).test(line));
      expect([family, samples]).toEqual([family, shown.length]);
    }
    expect(http.families.find(({ family }) => family === "mesh_requests_total")?.series).toBe(3);
    expect(tcp.labels.map(({ label }) => label)).not.toContain("response_code");
    const code = http.labels.find(({ label }) => label === "response_code");
    expect(code).toMatchObject({ values: 3, saved_without: 1 });
  });

  it("names as many values as it is asked for", async () => {
    const { observe, read } = setUp();
    for (let i = 0; i < 20; i++) observe(key({ source_workload: `w${i}` }));
    expect((await read()).http.labels[0]).toMatchObject({ label: "source_workload", values: 20, saved_without: 19 });
    expect((await read()).http.labels[0]?.top).toHaveLength(10);
    expect((await read("top=3")).http.labels[0]?.top).toHaveLength(3);
    expect((await read("top=0")).http.labels[0]?.top).toHaveLength(0);
  });

  it.each(["top=", "top=-1", "top=1001", "top=1e3", "top=a"])("refuses %s", async (query) => {
    const { status, body } = await setUp().read(query);
    expect(status).toBe(400);
    expect(JSON.stringify(body)).toContain("expected a number from 0 to 1000");
  });

  it("answers one at a time", async () => {
    const { observe, read } = setUp();
    for (let i = 0; i < 990; i++) observe(key({ source_workload: `w${i}` }));
    const [first, second] = await Promise.all([read(), read()]);
    expect([first.status, second.status]).toEqual([200, 503]);
    expect((await read()).status).toBe(200);
  });

  it("is described field by field", async () => {
    const text = readFileSync(join(resolve(import.meta.dirname, "../.."), "docs/api.md"), "utf8");
    const section = /^## Cardinality\n(.*?)^## /ms.exec(text)?.[1] ?? "";
    const example = JSON.parse(/```json\n(.*?)```/s.exec(section)?.[1] ?? "");
    const { observe, read } = setUp();
    observe(key());
    const { body } = await read();
    expect(keysOf(example)).toEqual(keysOf(body));
    for (const field of keysOf(body)) expect(section, field).toContain(`\`${field}\``);
  });
});

/** The different keys in it. */
function keysOf(value: unknown): string[] {
  const keys = (each: unknown): string[] => {
    if (typeof each !== "object" || each === null) return [];
    if (Array.isArray(each)) return each.flatMap(keys);
    return Object.entries(each).flatMap(([name, inner]) => [name, ...keys(inner)]);
  };
  return [...new Set(keys(value))].sort();
}
