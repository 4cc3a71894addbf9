import { describe, expect, it } from "vitest";
import { type Labels, labelsOf, type Point } from "../../../collector/out/point.ts";
import { WriteRequestEncoder } from "../../../collector/out/write-request.ts";
import { decodeWriteRequest, samplesByText } from "./write-request.ts";

const AT_MS = 1_767_000_000_123;
const COUNTER = { name: "requests_total", kind: "counter", help: "", unit: "" } as const;
const HISTOGRAM = { name: "duration_ms", kind: "histogram", help: "", unit: "" } as const;

const labels = (of: Record<string, string>): Labels => labelsOf(JSON.stringify(of), Object.entries(of));
const counter = (of: Record<string, string>, value: number): Point => ({
  family: COUNTER,
  labels: labels(of),
  value,
  spread: null,
});
const histogram = (of: Record<string, string>): Point => ({
  family: HISTOGRAM,
  labels: labels(of),
  value: null,
  spread: { label: "le", marks: ["0.5", "10"], values: [1, 3, 4], count: 4, sum: 33.5 },
});

function encode(points: readonly Point[], externalLabels: Record<string, string> = {}, maxSamples = 1000) {
  const encoder = new WriteRequestEncoder({ externalLabels, maxSamples });
  encoder.begin(AT_MS);
  for (const point of points) encoder.add(point);
  return encoder.take(true);
}

describe("WriteRequestEncoder", () => {
  it("writes a series for each sample, with its labels, value and time", async () => {
    const [batch, ...others] = await encode([
      counter({ app: "web", zone: "ä" }, 2 ** 53),
      counter({ app: "db" }, 0.25),
    ]);
    expect(others).toEqual([]);
    expect(batch).toMatchObject({ samples: 2, collectedMs: AT_MS });
    expect(decodeWriteRequest(batch!.body)).toEqual([
      {
        labels: [
          ["__name__", "requests_total"],
          ["app", "web"],
          ["zone", "ä"],
        ],
        samples: [{ value: 2 ** 53, timestamp: AT_MS }],
      },
      {
        labels: [
          ["__name__", "requests_total"],
          ["app", "db"],
        ],
        samples: [{ value: 0.25, timestamp: AT_MS }],
      },
    ]);
  });

  it("writes a histogram as Prometheus keeps it: buckets up to +Inf, sum, count", async () => {
    const [batch] = await encode([histogram({ app: "web" })]);
    expect(Object.fromEntries(samplesByText(decodeWriteRequest(batch!.body)))).toEqual({
      'duration_ms_bucket{app="web",le="0.5"}': 1,
      'duration_ms_bucket{app="web",le="10"}': 3,
      'duration_ms_bucket{app="web",le="+Inf"}': 4,
      'duration_ms_sum{app="web"}': 33.5,
      'duration_ms_count{app="web"}': 4,
    });
  });

  it("writes a summary by its quantiles", async () => {
    const family = { name: "gc_seconds", kind: "summary", help: "", unit: "" } as const;
    const spread = { label: "quantile", marks: ["0.5", "0.99"], values: [0.1, 0.2], count: 7, sum: 1 } as const;
    const [batch] = await encode([{ family, labels: labels({ kind: "minor", z: "1" }), value: null, spread }]);
    expect([...samplesByText(decodeWriteRequest(batch!.body))]).toEqual([
      ['gc_seconds{kind="minor",quantile="0.5",z="1"}', 0.1],
      ['gc_seconds{kind="minor",quantile="0.99",z="1"}', 0.2],
      ['gc_seconds_sum{kind="minor",z="1"}', 1],
      ['gc_seconds_count{kind="minor",z="1"}', 7],
    ]);
  });

  it("sorts all labels, whatever stands among them, and leaves out those without a value", async () => {
    const external = { Zone: "a", cluster: "east", app: "ours wins not", nothing: "" };
    const [batch] = await encode([histogram({ app: "web", empty: "", z: "1", le_: "x", m: "2" })], external);
    for (const { labels } of decodeWriteRequest(batch!.body)) {
      const names = labels.map(([name]) => name);
      expect(names).toEqual([...names].sort());
      expect(names).toEqual(expect.arrayContaining(["Zone", "__name__", "app", "cluster", "le_", "m", "z"]));
      expect(Object.fromEntries(labels)).toMatchObject({ app: "web", cluster: "east" });
      expect(names).not.toContain("empty");
      expect(names).not.toContain("nothing");
    }
  });

  it("marks what is gone with Prometheus' own NaN", async () => {
    const encoder = new WriteRequestEncoder({ externalLabels: {}, maxSamples: 10 });
    encoder.begin(AT_MS);
    encoder.addGone(histogram({ app: "web" }));
    const [batch] = await encoder.take(true);
    expect(batch!.samples).toBe(5);
    const { default: snappy } = await import("snappyjs");
    // value.StaleNaN = 0x7ff0000000000002, behind the tag of a double.
    const marker = Buffer.from("09" + "020000000000f07f", "hex");
    const raw = snappy.uncompress(batch!.body);
    let found = 0;
    for (let at = raw.indexOf(marker); at >= 0; at = raw.indexOf(marker, at + 1)) found++;
    expect(found).toBe(5);
    expect(decodeWriteRequest(batch!.body).every(({ samples }) => Number.isNaN(samples[0]!.value))).toBe(true);
  });

  it("seals a request at its samples, in order, none lost", async () => {
    const points = Array.from({ length: 25 }, (_, i) => counter({ i: String(i) }, i));
    const batches = await encode([...points, histogram({})], {}, 10);
    expect(batches.map(({ samples }) => samples)).toEqual([10, 10, 10]);
    const values = batches.flatMap(({ body }) => decodeWriteRequest(body)).map(({ samples }) => samples[0]!.value);
    expect(values).toEqual([...Array.from({ length: 25 }, (_, i) => i), 1, 3, 4, 33.5, 4]);
  });

  it("seals a request at its bytes, also where one series alone is longer", async () => {
    const long = "x".repeat(600_000);
    const batches = await encode([counter({ a: long }, 1), counter({ b: long }, 2), counter({ c: long.repeat(5) }, 3)]);
    expect(batches.map(({ body }) => decodeWriteRequest(body).map(({ samples }) => samples[0]!.value))).toEqual([
      [1],
      [2],
      [3],
    ]);
  });

  it("has nothing to send when there was nothing", async () => {
    expect(await encode([])).toEqual([]);
  });
});
