// Metrics as Envoy AI Gateway sends them: names, attributes and bounds of its internal/metrics/genai.go and metrics_impl.go
// (https://github.com/envoyproxy/ai-gateway/tree/main/internal/metrics).

import { beforeEach, describe, expect, test } from "vitest";
import { AI_FAMILIES } from "../../../collector/ai/families.ts";
import { AiMetrics } from "../../../collector/ai/metrics.ts";
import { decodeMetrics, MAX_POINTS } from "../../../collector/proto/otlp-metrics.ts";
import { decodeMetricsJson } from "../../../collector/proto/otlp-metrics-json.ts";
import { AiBook } from "../../../collector/state/ai-book.ts";
import { readerOf } from "../../../collector/state/frames.ts";
import { parseExposition } from "../../e2e/exposition.ts";
import { encodeMetrics, type Fields, keyValues } from "../../fixtures/otlp.ts";
import { random } from "../../property/random.ts";

const DELTA = 1;
const CUMULATIVE = 2;
const DURATION = "gen_ai.server.request.duration";
const TOKENS = "gen_ai.client.token.usage";
const TTFT = "gen_ai.server.time_to_first_token";
const TPOT = "gen_ai.server.time_per_output_token";
const CHAT = {
  "gen_ai.operation.name": "chat",
  "gen_ai.provider.name": "openai",
  "gen_ai.original.model": "gpt-5",
  "gen_ai.request.model": "gpt-5-nano",
  "gen_ai.response.model": "gpt-5-nano-2025-08-07",
  "ai.backend": "default/openai",
};

interface Point {
  readonly metric?: string;
  readonly values: readonly number[];
  readonly startS?: number;
  readonly timeS?: number;
  readonly attributes?: Fields;
  readonly temporality?: number;
  readonly resource?: Fields;
  readonly bounds?: readonly number[];
}

function nanos(seconds: number): string {
  return `${seconds}000000000`;
}

/** A histogram of these values, as an SDK makes it. */
function histogram({
  metric = DURATION,
  values,
  startS = 1000,
  timeS = 2000,
  attributes = CHAT,
  temporality = CUMULATIVE,
  resource = { "service.name": "my-gateway", "service.instance.id": "one" },
  bounds = AI_FAMILIES.find((family) => family.metric === metric)?.bounds ?? [1],
}: Point): Fields {
  const bucketCounts = [...bounds, Number.POSITIVE_INFINITY].map(
    (upper, i) =>
      values.filter((value) => value <= upper && value > (bounds[i - 1] ?? Number.NEGATIVE_INFINITY)).length,
  );
  const point = {
    attributes: keyValues(attributes),
    startTimeUnixNano: nanos(startS),
    timeUnixNano: nanos(timeS),
    count: values.length,
    sum: values.reduce((sum, value) => sum + value, 0),
    bucketCounts,
    explicitBounds: bounds,
  };
  const metrics = [
    { name: metric, unit: "s", histogram: { dataPoints: [point], aggregationTemporality: temporality } },
  ];
  return { resource: { attributes: keyValues(resource) }, scopeMetrics: [{ metrics }] };
}

let ai: AiMetrics;
let nowMs: number;
beforeEach(() => {
  nowMs = 0;
  ai = new AiMetrics(100, () => nowMs);
});

/** Sends a request; how many of its data points were rejected, by why. */
function send(...points: Point[]): Fields {
  const request = decodeMetrics(encodeMetrics({ resourceMetrics: points.map(histogram) }));
  if (request === null) throw new Error("the request cannot be read");
  return Object.fromEntries(ai.take(request));
}

function samples(name: string) {
  return parseExposition([...ai.render()].join("")).filter((sample) => sample.name === name);
}

/** The sum of all series of that name. */
function total(name: string): number {
  return samples(name).reduce((sum, { value }) => sum + value, 0);
}

const requests = () => total("gen_ai_server_request_duration_seconds_count");

describe("a gateway's metrics", () => {
  test("come out under their names in Prometheus, by service, provider and models", () => {
    const tokens = (type: string) => ({ ...CHAT, "gen_ai.token.type": type });
    send(
      { values: [0.5, 3] },
      { values: [1], attributes: { ...CHAT, "error.type": "_OTHER" } },
      { metric: TOKENS, values: [100, 20], attributes: tokens("input") },
      { metric: TOKENS, values: [7], attributes: tokens("output") },
      { metric: TTFT, values: [0.02] },
      { metric: TPOT, values: [0.03] },
    );
    const labels = {
      service: "my-gateway",
      gen_ai_operation_name: "chat",
      gen_ai_provider_name: "openai",
      gen_ai_original_model: "gpt-5",
      gen_ai_request_model: "gpt-5-nano",
      gen_ai_response_model: "gpt-5-nano-2025-08-07",
      ai_backend: "default/openai",
    };
    expect(samples("gen_ai_server_request_duration_seconds_count")).toMatchObject([
      { labels, value: 2 },
      { labels: { ...labels, error_type: "_OTHER" }, value: 1 },
    ]);
    expect(samples("gen_ai_client_token_usage_sum")).toMatchObject([
      { labels: { ...labels, gen_ai_token_type: "input" }, value: 120 },
      { labels: { ...labels, gen_ai_token_type: "output" }, value: 7 },
    ]);
    expect(total("gen_ai_server_time_to_first_token_seconds_sum")).toBeCloseTo(0.02);
    expect(total("gen_ai_server_time_per_output_token_seconds_count")).toBe(1);
    const buckets = samples("gen_ai_server_request_duration_seconds_bucket").filter(
      ({ labels: { error_type } }) => !error_type,
    );
    expect(buckets.map(({ labels: { le }, value }) => `${le} ${value}`)).toEqual(
      expect.arrayContaining(["0.32 0", "0.64 1", "2.56 1", "5.12 2", "+Inf 2"]),
    );
  });

  test("are summed over its instances, and over what becomes no label", () => {
    for (const instance of ["one", "two"]) {
      send({ values: [1], resource: { "service.name": "my-gateway", "service.instance.id": instance } });
    }
    send({ values: [1], attributes: { ...CHAT, tenant: "blue" } });
    expect(samples("gen_ai_server_request_duration_seconds_count")).toMatchObject([{ value: 3 }]);
  });

  test("read unknown where they do not say", () => {
    send({ values: [1], attributes: {}, resource: {} });
    const [sample] = samples("gen_ai_server_request_duration_seconds_count");
    expect(sample?.labels).toMatchObject({ service: "unknown", gen_ai_request_model: "unknown" });
    expect(sample?.labels).not.toHaveProperty("error_type");
  });

  test("stay one line each, whatever a model is called", () => {
    send({ values: [1], attributes: { ...CHAT, "gen_ai.request.model": 'a"\n\\'.repeat(100) } });
    const [sample] = samples("gen_ai_server_request_duration_seconds_count");
    expect(sample?.labels["gen_ai_request_model"]?.length).toBe(128);
  });
});

describe("cumulative histograms", () => {
  test("count by what they gained", () => {
    send({ values: [1], timeS: 2000 });
    send({ values: [1, 2, 3], timeS: 2010 });
    expect([requests(), total("gen_ai_server_request_duration_seconds_sum")]).toEqual([3, 6]);
  });

  test("add nothing when they are sent again, or late", () => {
    send({ values: [1, 2], timeS: 2010 });
    expect(send({ values: [1, 2], timeS: 2010 })).toEqual({ repeated: 1 });
    expect(send({ values: [1], timeS: 2000 })).toEqual({ repeated: 1 });
    expect(requests()).toBe(2);
  });

  test("begin anew when their process does, and not when they go down", () => {
    send({ values: [1, 2], timeS: 2010 });
    expect(send({ values: [1], timeS: 2020 })).toEqual({ went_back: 1 });
    expect(requests()).toBe(2);
    send({ values: [5, 5, 5], startS: 3000, timeS: 3010 });
    expect(requests()).toBe(5);
    expect(send({ values: [1, 2, 3], timeS: 2900 })).toEqual({ late: 1 });
    expect(requests()).toBe(5);
  });
});

describe("delta histograms", () => {
  test("add up, each once", () => {
    const temporality = DELTA;
    send({ values: [1], startS: 1000, timeS: 1010, temporality });
    send({ values: [1, 1], startS: 1010, timeS: 1020, temporality });
    expect(send({ values: [1, 1], startS: 1010, timeS: 1020, temporality })).toEqual({ repeated: 1 });
    expect(requests()).toBe(3);
  });
});

test("in any order, with losses and repetitions, what is counted never goes down nor exceeds what happened", () => {
  for (let seed = 1; seed <= 100; seed++) {
    const next = random(seed);
    ai = new AiMetrics(100, () => nowMs);
    let [truth, shown, startS] = [0, 0, 1000];
    const values: number[] = [];
    const sent: Point[] = [];
    for (let step = 1; step <= 60; step++) {
      if (next() < 0.05) {
        startS = 1000 + step; // it restarts
        values.length = 0;
      } else {
        values.push(next() * 100);
        truth++;
      }
      const point = { values: [...values], startS, timeS: 2000 + step };
      sent.push(point);
      if (next() < 0.3) continue; // lost
      send(next() < 0.2 ? (sent[Math.floor(next() * sent.length)] as Point) : point);
      expect(requests()).toBeGreaterThanOrEqual(shown);
      expect(requests(), `seed ${seed}`).toBeLessThanOrEqual(truth);
      shown = requests();
    }
    const before = requests();
    send({ values: [...values], startS, timeS: 9000 });
    expect(requests()).toBeGreaterThanOrEqual(before);
  }
});

describe("limits", () => {
  test("beyond them label sets go to other, and the sum stays whole", () => {
    ai = new AiMetrics(3, () => nowMs);
    const rejected = Array.from({ length: 3 }, (_, i) =>
      send({ values: [1], attributes: { ...CHAT, "gen_ai.request.model": `m${i}` } }),
    );
    expect(rejected).toEqual([{}, {}, {}]);
    expect(ai.holdings).toEqual({ series: 3, overflowed: 0 });
    nowMs = 3_600_001; // all are silent long enough to make room
    send({ values: [1], attributes: { ...CHAT, "gen_ai.request.model": "m3" } });
    expect(ai.holdings).toEqual({ series: 3, overflowed: 1 });
    expect(
      samples("gen_ai_server_request_duration_seconds_count").map(({ labels }) => labels["gen_ai_request_model"]),
    ).toEqual(["m0", "m1", "m2", "other"]);
    expect(requests()).toBe(4);
  });

  test("one exporter's histogram too many is rejected, and one that comes back after it made room does not count again", () => {
    ai = new AiMetrics(1, () => nowMs);
    const of = (model: string) => ({ ...CHAT, "gen_ai.request.model": model });
    send({ values: [1, 1], attributes: of("a") });
    expect(send({ values: [1], attributes: of("b") })).toEqual({ streams_full: 1 });
    nowMs = 3_600_001;
    send({ values: [1], attributes: of("b") });
    nowMs = 7_200_002;
    send({ values: [1, 1], attributes: of("a"), timeS: 2010 });
    expect(requests()).toBe(3);
    send({ values: [1, 1, 1], attributes: of("a"), timeS: 2020 });
    expect(requests()).toBe(4);
  });
});

describe("what is rejected", () => {
  test.each<[string, Point, Fields]>([
    ["another metric", { metric: "go.memory.used", values: [1] }, { metric_unknown: 1 }],
    ["no temporality", { values: [1], temporality: 0 }, { temporality_unknown: 1 }],
  ])("%s", (_, point, rejected) => {
    expect(send(point)).toEqual(rejected);
    expect([...ai.render()]).toEqual([]);
  });

  test("metrics of other kinds, point by point", () => {
    const sum = { name: DURATION, sum: { dataPoints: [{ asInt: 1 }, { asInt: 2 }] } };
    const exponential = { name: DURATION, exponentialHistogram: { dataPoints: [{ count: 1 }] } };
    const request = { resourceMetrics: [{ scopeMetrics: [{ metrics: [sum, exponential] }] }] };
    expect(decodeMetrics(encodeMetrics(request))).toMatchObject({ others: 3, histograms: [] });
    expect(decodeMetricsJson(JSON.stringify(request))).toMatchObject({ others: 3, histograms: [] });
  });

  test.each<[string, Fields]>([
    ["buckets that do not add up", { count: 3, bucketCounts: [1, 1], explicitBounds: [1] }],
    ["a bucket too few", { count: 1, bucketCounts: [1], explicitBounds: [1] }],
    ["bounds that do not ascend", { count: 0, bucketCounts: [0, 0, 0], explicitBounds: [2, 1] }],
  ])("a histogram with %s", (_, point) => {
    const metrics = [{ name: DURATION, histogram: { dataPoints: [point], aggregationTemporality: CUMULATIVE } }];
    const request = { resourceMetrics: [{ scopeMetrics: [{ metrics }] }] };
    expect(decodeMetrics(encodeMetrics(request))).toMatchObject({ malformed: 1, histograms: [] });
    expect(decodeMetricsJson(JSON.stringify(request))).toMatchObject({ malformed: 1, histograms: [] });
  });

  test("a request that is cut off, or has more points than one may have", () => {
    const bytes = encodeMetrics({ resourceMetrics: [histogram({ values: [1] })] });
    for (let length = 1; length < bytes.length; length++) {
      const read = decodeMetrics(bytes.subarray(0, length));
      expect(read, `of ${length} bytes`).toBeNull();
    }
    const dataPoints = Array.from({ length: MAX_POINTS + 1 }, () => ({}));
    const gauge = { resourceMetrics: [{ scopeMetrics: [{ metrics: [{ gauge: { dataPoints } }] }] }] };
    expect(decodeMetrics(encodeMetrics(gauge))).toBeNull();
    expect(decodeMetricsJson(JSON.stringify(gauge))).toBeNull();
  });

  test("nothing throws, whatever the bytes", () => {
    for (let seed = 1; seed <= 300; seed++) {
      const next = random(seed);
      const bytes = encodeMetrics({
        resourceMetrics: [histogram({ values: [1, 2] }), histogram({ metric: TTFT, values: [] })],
      });
      for (let i = 0; i < 4; i++) bytes[Math.floor(next() * bytes.length)] = next() * 256;
      const read = decodeMetrics(bytes);
      if (read !== null) ai.take(read);
    }
    for (const text of [
      "",
      "{",
      "[]",
      '{"resourceMetrics":3}',
      '{"resourceMetrics":[{"scopeMetrics":[{"metrics":[3]}]}]}',
    ]) {
      expect(decodeMetricsJson(text)).toBeNull();
    }
  });
});

test("histograms with other bounds add to those buckets that surely hold them", () => {
  send({ values: [0.005, 0.5, 50], bounds: [0.01, 1, 30] });
  const cumulative = Object.fromEntries(
    samples("gen_ai_server_request_duration_seconds_bucket").map(({ labels: { le }, value }) => [le, value]),
  );
  expect(cumulative).toMatchObject({ "0.01": 1, "0.64": 1, "1.28": 2, "20.48": 2, "81.92": 2, "+Inf": 3 });
});

test("JSON says the same as protobuf", () => {
  const request = { resourceMetrics: [histogram({ values: [1, 2] }), histogram({ metric: TTFT, values: [0.1] })] };
  expect(decodeMetricsJson(JSON.stringify(request))).toEqual(decodeMetrics(encodeMetrics(request)));
});

describe("a collector that restarts", () => {
  const shown = (metrics: AiMetrics) => [...metrics.render()].join("");
  /** What was saved of it, taken in by the next one. */
  const restart = (pieces: readonly Buffer[], limit = 100) => {
    ai = new AiMetrics(limit, () => nowMs, true);
    const book = new AiBook(ai);
    for (const piece of pieces) book.restore(readerOf(piece));
    return book;
  };

  test("shows what was saved, and goes on from there, of cumulative and delta streams", () => {
    let book = restart([]);
    send({ values: [0.5, 3] }, { metric: TTFT, values: [0.02], temporality: DELTA });
    expect(shown(ai)).toBe("");
    let pieces = [...book.pieces(1)];
    book.onSaved();
    expect(requests()).toBe(2);
    const before = shown(ai);
    send({ values: [0.5, 3, 7], timeS: 2060 }); // of which nobody is shown
    expect(shown(ai)).toBe(before);
    book = restart(pieces);
    expect(shown(ai)).toBe(before);
    send({ values: [0.5, 3, 7, 9], timeS: 2120 }, { metric: TTFT, values: [0.3], temporality: DELTA, timeS: 2060 });
    expect(send({ values: [0.5, 3, 7, 9], timeS: 2120 })).toEqual({ repeated: 1 });
    pieces = [...book.pieces(1)];
    book.onSaved();
    expect(requests()).toBe(4);
    expect(total("gen_ai_server_request_duration_seconds_sum")).toBe(19.5);
    expect(total("gen_ai_server_time_to_first_token_seconds_count")).toBe(2);
    restart(pieces);
    expect(requests()).toBe(4);
  });

  test("counts no stream twice that it had let go of", () => {
    let book = restart([], 1);
    send({ values: [0.5] });
    nowMs += 4_000_000;
    const two = { "service.name": "my-gateway", "service.instance.id": "two" };
    send({ values: [1, 2], resource: two });
    const pieces = [...book.pieces(1)];
    book = restart(pieces, 1);
    nowMs += 4_000_000;
    send({ values: [0.5], timeS: 3000 });
    expect([...book.pieces(1)]).not.toHaveLength(0);
    book.onSaved();
    expect(requests()).toBe(3);
  });

  test("loses and doubles nothing, whenever between two pieces points come, and whenever it is killed", () => {
    const draw = random(5);
    const values = new Map<string, number[]>();
    const gateways = ["one", "two", "three"];
    const models = ["a", "b"];
    let book = restart([]);
    let pieces: Buffer[] = [];
    let timeS = 2000;
    const tell = () => {
      const gateway = gateways[Math.floor(draw() * gateways.length)] as string;
      const model = models[Math.floor(draw() * models.length)] as string;
      const all = values.get(gateway + model) ?? [];
      values.set(gateway + model, all);
      if (draw() < 0.8) all.push(1);
      timeS++;
      const resource = { "service.name": "my-gateway", "service.instance.id": gateway };
      send({ values: all, timeS, resource, attributes: { ...CHAT, "gen_ai.request.model": model } });
    };
    let least = 0;
    for (let round = 0; round < 200; round++) {
      for (let i = 0; i < 5; i++) tell();
      const written: Buffer[] = [];
      for (const piece of book.pieces(1)) {
        written.push(piece);
        if (draw() < 0.5) tell();
      }
      if (draw() < 0.7) {
        pieces = written;
        book.onSaved();
      }
      const truth = [...values.values()].flat().length;
      if (draw() < 0.3) book = restart(pieces);
      expect(requests()).toBeGreaterThanOrEqual(least);
      expect(requests()).toBeLessThanOrEqual(truth);
      least = requests();
    }
    for (const [name, all] of values) {
      const resource = { "service.name": "my-gateway", "service.instance.id": name.slice(0, -1) };
      const attributes = { ...CHAT, "gen_ai.request.model": name.slice(-1) };
      send({ values: all, timeS: timeS + 1, resource, attributes });
    }
    expect([...book.pieces(1)].length).toBeGreaterThan(0);
    book.onSaved();
    expect(requests()).toBe([...values.values()].flat().length);
  });
});
