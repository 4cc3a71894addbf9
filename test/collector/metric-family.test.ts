import { describe, expect, test } from "vitest";
import { MetricFamilyReader } from "../../collector/proto/metric-family.ts";
import type { SparseBuckets } from "../../collector/proto/metric-histogram.ts";
import { type Fields, lengthDelimited } from "../fixtures/als.ts";
import { encodeFamily, randomFamily, readFamily } from "../fixtures/metric-family.ts";
import { mutate } from "../fuzz/mutate.ts";
import { random } from "../property/random.ts";

const METRIC = 4;
const LABEL = 1;
const COUNTER = 3;
const HISTOGRAM = 7;

describe("the oracle agrees", () => {
  test("on every field of 2000 random families", () => {
    const draw = random(1);
    const reader = new MetricFamilyReader();
    for (let i = 0; i < 2000; i++) {
      const bytes = encodeFamily(randomFamily(draw));
      expect(read(bytes, reader)).toEqual(expected(readFamily(bytes)));
    }
  });

  test("on a family in the middle of other bytes", () => {
    const draw = random(2);
    const reader = new MetricFamilyReader();
    for (let i = 0; i < 100; i++) {
      const bytes = encodeFamily(randomFamily(draw));
      const around = Buffer.concat([Buffer.from([0xff, 0xff]), bytes, Buffer.from([0xff])]);
      expect(read(around, reader, 2, around.length - 1)).toEqual(expected(readFamily(bytes)));
    }
  });

  test("on families in pieces: their metrics follow each other, and the last name counts", () => {
    const draw = random(3);
    for (let i = 0; i < 200; i++) {
      const bytes = Buffer.concat([0, 1].map(() => encodeFamily(randomFamily(draw))));
      expect(read(bytes)).toEqual(expected(readFamily(bytes)));
    }
  });

  test("on what 20,000 injured families become, as far as it can read them too", () => {
    const draw = random(4);
    const reader = new MetricFamilyReader();
    let both = 0;
    let broken = 0;
    for (let i = 0; i < 20_000; i++) {
      const bytes = mutate(draw, encodeFamily(randomFamily(draw)));
      const found = read(bytes, reader);
      if (found === null) broken++;
      const known = strictly(bytes);
      if (known === null) continue;
      both++;
      expect(found, bytes.toString("hex")).toEqual(expected(known));
    }
    expect(both).toBeGreaterThan(3000);
    expect(broken).toBeGreaterThan(3000);
  });
});

test("labels that follow each other give their bytes as a key, and others do not", () => {
  const label = (name: string) => lengthDelimited(LABEL, lengthDelimited(1, Buffer.from(name)));
  const counter = lengthDelimited(COUNTER, Buffer.alloc(0));
  const keyOf = (...parts: Buffer[]) => {
    const bytes = lengthDelimited(METRIC, Buffer.concat(parts));
    const reader = new MetricFamilyReader();
    expect(reader.open(bytes, 0, bytes.length) && reader.next()).toBe(true);
    return reader.labelsStart < 0 ? null : bytes.subarray(reader.labelsStart, reader.labelsStop);
  };
  expect(keyOf(label("a"), label("b"), counter)).toEqual(Buffer.concat([label("a"), label("b")]));
  expect(keyOf(counter, label("a"))).toEqual(label("a"));
  expect(keyOf(label("a"), counter, label("b"))).toBeNull();
  expect(keyOf(label("a"), counter, label("b"), label("c"))).toBeNull();
  expect(keyOf(counter)).toEqual(Buffer.alloc(0));
});

test.each([
  ["milliseconds", "1700000000123", 1_700_000_000_123],
  ["nanoseconds, as builds of Istio's proxy send", "1700000000123456789", 1_700_000_000_123.4568],
  ["nothing", undefined, 0],
])("a time of %s is read as milliseconds", (_name, timestampMs, milliseconds) => {
  const bytes = encodeFamily({ metric: [{ ...(timestampMs === undefined ? {} : { timestampMs }) }] });
  const reader = new MetricFamilyReader();
  expect(reader.open(bytes, 0, bytes.length) && reader.next()).toBe(true);
  expect(reader.timestampMs).toBeCloseTo(milliseconds, 3);
});

test("lists of numbers may come packed", () => {
  const deltas = Buffer.from([0x01, 0x80, 0x01, 0x02]); // -1, 64, 1
  const counts = Buffer.alloc(16);
  counts.writeDoubleLE(0.5, 0);
  counts.writeDoubleLE(7, 8);
  const histogram = Buffer.concat([lengthDelimited(13, deltas), lengthDelimited(14, counts)]);
  const reader = new MetricFamilyReader();
  const bytes = lengthDelimited(METRIC, lengthDelimited(HISTOGRAM, histogram));
  expect(reader.open(bytes, 0, bytes.length) && reader.next()).toBe(true);
  expect(reader.histogram.positive).toMatchObject({ deltas: [-1, 64, 1], counts: [0.5, 7] });
});

test.each([
  ["its framing", Buffer.from([0x0a, 5])],
  ["a metric", lengthDelimited(METRIC, Buffer.from([0x0a, 5]))],
  ["a label", lengthDelimited(METRIC, lengthDelimited(LABEL, Buffer.from([0x0a, 5])))],
  ["a counter", lengthDelimited(METRIC, lengthDelimited(COUNTER, Buffer.from([0x09, 5])))],
  ["a summary", lengthDelimited(METRIC, lengthDelimited(4, Buffer.from([0x08])))],
  ["a quantile", lengthDelimited(METRIC, lengthDelimited(4, lengthDelimited(3, Buffer.from([0x09, 1]))))],
  ["a histogram", histogramOf(Buffer.from([0x08]))],
  ["a bucket", histogramOf(lengthDelimited(3, Buffer.from([0x08])))],
  ["a span", histogramOf(lengthDelimited(12, Buffer.from([0x08])))],
  ["a packed list of deltas", histogramOf(lengthDelimited(10, Buffer.from([0x80])))],
  ["a packed list of counts", histogramOf(lengthDelimited(11, Buffer.alloc(9)))],
])("with %s broken the family is malformed", (_name, bytes) => {
  expect(read(bytes)).toBeNull();
});

test.each([
  ["labels", Buffer.concat(Array.from({ length: 257 }, () => lengthDelimited(LABEL, Buffer.alloc(0))))],
  ["quantiles", lengthDelimited(4, repeat(257, lengthDelimited(3, Buffer.alloc(0))))],
  ["buckets", lengthDelimited(HISTOGRAM, repeat(4097, lengthDelimited(3, Buffer.alloc(0))))],
  ["deltas", lengthDelimited(HISTOGRAM, lengthDelimited(13, Buffer.alloc(4097)))],
])("more %s than anybody sends make the family malformed", (_name, metric) => {
  expect(read(lengthDelimited(METRIC, metric))).toBeNull();
});

test("metrics before a broken one are read, and none after it", () => {
  const whole = encodeFamily({ metric: [{ counter: { value: 1 } }] });
  const bytes = Buffer.concat([whole, lengthDelimited(METRIC, Buffer.from([0x0a, 5])), whole]);
  const reader = new MetricFamilyReader();
  expect(reader.open(bytes, 0, bytes.length)).toBe(true);
  expect([reader.next(), reader.counter, reader.next(), reader.next(), reader.isMalformed]).toEqual([
    true,
    1,
    false,
    false,
    true,
  ]);
});

function histogramOf(bytes: Buffer): Buffer {
  return lengthDelimited(METRIC, lengthDelimited(HISTOGRAM, bytes));
}

function repeat(times: number, bytes: Buffer): Buffer {
  return Buffer.concat(Array.from({ length: times }, () => bytes));
}

/** All that was read; null when the family is malformed. */
function read(bytes: Buffer, reader = new MetricFamilyReader(), start = 0, stop = bytes.length) {
  if (!reader.open(bytes, start, stop)) return null;
  const text = (from: number, to: number) => bytes.toString("utf8", from, to);
  const metrics = [];
  while (reader.next()) {
    const labels = [];
    for (let i = 0; i < reader.labelCount; i++) {
      const [nameStart = 0, nameStop, valueStart = 0, valueStop] = reader.labelSpans.slice(i * 4, i * 4 + 4);
      labels.push([text(nameStart, nameStop ?? 0), text(valueStart, valueStop ?? 0)]);
    }
    const { kind, gauge, counter, untyped, summaryCount, summarySum, timestampMs, histogram } = reader;
    const { upperBounds, cumulativeCounts, bucketCount, count, sum, schema, zeroThreshold, zeroCount } = histogram;
    metrics.push({
      ...{ labels, kind, gauge, counter, untyped, summaryCount, summarySum, timestampMs },
      quantiles: [...reader.quantiles],
      buckets: Array.from({ length: bucketCount }, (_, i) => [upperBounds[i], cumulativeCounts[i]]),
      ...{ count, sum, schema, zeroThreshold, zeroCount, isNative: histogram.isNative },
      negative: copyOf(histogram.negative),
      positive: copyOf(histogram.positive),
    });
  }
  if (reader.isMalformed) return null;
  const { nameStart, nameStop, helpStart, helpStop, unitStart, unitStop, type } = reader;
  return {
    ...{ name: text(nameStart, nameStop), help: text(helpStart, helpStop), unit: text(unitStart, unitStop) },
    ...{ type, metrics },
  };
}

function copyOf({ spans, deltas, counts }: SparseBuckets) {
  return { spans: [...spans], deltas: [...deltas], counts: [...counts] };
}

/** What the oracle reads of bytes that it would write itself; null otherwise: it takes fields of the wrong wire type for right. */
function strictly(bytes: Buffer): Fields | null {
  try {
    const fields = readFamily(bytes);
    return encodeFamily(fields).equals(bytes) ? fields : null;
  } catch {
    return null;
  }
}

type Metric = Readonly<Record<string, Fields | undefined>>;

/** What the oracle's reading makes ours. */
function expected(family: Fields) {
  const { name = "", help = "", unit = "", type = 0, metric = [] } = family;
  return { name, help, unit, type, metrics: (metric as Metric[]).map(expectedMetric) };
}

const KINDS = ["gauge", "counter", "summary", "untyped", "histogram"];

function expectedMetric(metric: Metric) {
  const { gauge, counter, untyped, summary = {}, histogram = {}, label = [] } = metric;
  return {
    labels: (label as Fields[]).map(({ name = "", value = "" }) => [name, value]),
    kind: KINDS.findLast((kind) => metric[kind] !== undefined) ?? "none",
    ...{ gauge: gauge?.["value"] ?? 0, counter: counter?.["value"] ?? 0, untyped: untyped?.["value"] ?? 0 },
    ...{ summaryCount: summary["sampleCount"] ?? 0, summarySum: summary["sampleSum"] ?? 0 },
    quantiles: list(summary["quantile"]).flatMap(({ quantile = 0, value = 0 }) => [quantile, value]),
    timestampMs: timeOf(metric["timestampMs"]),
    ...expectedHistogram(histogram),
  };
}

function timeOf(time: unknown): number {
  const number = Number(time ?? 0);
  return number > 1e18 ? number / 1e6 : number;
}

function expectedHistogram(histogram: Fields) {
  const side = (name: string) => ({
    spans: list(histogram[`${name}Span`]).flatMap(({ offset = 0, length = 0 }) => [offset, length]),
    deltas: histogram[`${name}Delta`] ?? [],
    counts: histogram[`${name}Count`] ?? [],
  });
  const count = (float: unknown, whole: unknown) => ((float as number) > 0 ? float : (whole ?? 0));
  const { sampleCount, sampleCountFloat, zeroCount, zeroCountFloat, sampleSum = 0, schema = 0 } = histogram;
  return {
    buckets: list(histogram["bucket"]).map(({ upperBound = 0, cumulativeCount, cumulativeCountFloat }) => [
      upperBound,
      count(cumulativeCountFloat, cumulativeCount),
    ]),
    ...{ count: count(sampleCountFloat, sampleCount), sum: sampleSum, schema },
    ...{ zeroThreshold: histogram["zeroThreshold"] ?? 0, zeroCount: count(zeroCountFloat, zeroCount) },
    isNative: "schema" in histogram || "negativeSpan" in histogram || "positiveSpan" in histogram,
    ...{ negative: side("negative"), positive: side("positive") },
  };
}

function list(fields: unknown): Fields[] {
  return (fields ?? []) as Fields[];
}
