// Messages as an Envoy's metrics service sends them -> MetricsService -> SeriesStore: what is counted of them.

import { beforeEach, describe, expect, test } from "vitest";
import { DEFAULT_INSTANCE_RULE, DEFAULT_SERVICE_RULE, nameRule } from "../../collector/identity/names.ts";
import { type Log, silentLog } from "../../collector/log.ts";
import { ProxyStats } from "../../collector/proxy-stats/proxy-stats.ts";
import type { StreamReader } from "../../collector/receiver/client-stream.ts";
import { MetricsService, type MetricsServiceOptions } from "../../collector/receiver/metrics-service.ts";
import type { ScrapeResult } from "../../collector/self.ts";
import { SelfMetrics } from "../../collector/self.ts";
import { unpackLabels } from "../../collector/series/key.ts";
import { DEFAULT_SHAPES } from "../../collector/series/shape.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { HttpMetric, LABELS } from "../../collector/vocabulary.ts";
import { pick } from "../fixtures/als-random.ts";
import { COUNTS_WIDTH, HISTOGRAM_COUNT, HISTOGRAM_SUM, histogramField } from "../fixtures/counts.ts";
import { type SinkOptions, SinkProcess } from "../fixtures/metrics-sink.ts";
import { mutate } from "../fuzz/mutate.ts";
import { random } from "../property/random.ts";

const WEB = "sidecar~10.0.0.1~web-1.default~default.svc.cluster.local";
const START = Date.now() - 5000;
const A = { source_workload: "a", destination_workload: "b" };
const B = { source_workload: "a", destination_workload: "c;x=y é", response_code: "200" };

const rules = {
  service: nameRule(DEFAULT_SERVICE_RULE),
  instance: nameRule(DEFAULT_INSTANCE_RULE),
  domain: "cluster.local",
};

let store: SeriesStore;
let self: SelfMetrics;
let service: MetricsService;
let warned: { fields: object; message: string }[];
let refusal: ScrapeResult | null;
let answer: (report: () => ScrapeResult) => ScrapeResult | Promise<ScrapeResult>;

beforeEach(() => {
  store = new SeriesStore({
    ...{ proxies: 100, labelSets: 100, cells: 1000, connections: 10, retireAfterMs: 600_000 },
  });
  self = new SelfMetrics("test");
  warned = [];
  refusal = null;
  answer = (report) => report();
  service = newService();
});

test("Envoy's own stats are handed on under the proxy's names, of deltas only gauges", () => {
  for (const [header, deltas] of [["", false] as const, ["delta", true] as const]) {
    const stats = new ProxyStats(10);
    service = newService({}, { stats, rules });
    const process = new SinkProcess(WEB, START);
    process.own.set("cluster.b.upstream_rq_total", 5);
    send(open(header), ...process.flush(1000, { deltas }, true), ...process.flush(2000, { deltas }));
    const lines = [...stats.render("text")].join("").match(/^envoy.*/gm) ?? [];
    const labels = 'service="-.default",instance="web-1.default"';
    const counter = `envoy_cluster_upstream_rq_total{${labels},envoy_cluster_name="b"} 5`;
    expect(lines).toEqual([...(deltas ? [] : [counter]), `envoy_server_concurrency{${labels}} 2`]);
  }
});

test("of a process one report is under way, however long it takes, and the next one says all that came meanwhile", async () => {
  const answers: (() => void)[] = [];
  answer = (result) => new Promise((resolve) => answers.push(() => resolve(result())));
  const process = new SinkProcess(WEB, START);
  const stream = open();
  for (let flush = 1; flush <= 5; flush++) {
    process.request(A, 7);
    send(stream, ...process.flush(flush * 1000, {}, flush === 1));
  }
  expect(answers.length).toBe(1);
  for (let round = 0; round < 2; round++) {
    for (const settle of answers.splice(0)) settle();
    await new Promise(setImmediate);
  }
  expect(answers.length).toBe(0);
  expect(counted()).toMatchObject({ http: [["b", 5, 5, 35]] });
});

function newService(
  limits: { maxStreams?: number; maxProxies?: number; maxLabelSets?: number } = {},
  proxyStats: MetricsServiceOptions["proxyStats"] = null,
): MetricsService {
  const log: Log = { ...silentLog, warn: (fields, message) => warned.push({ fields, message }) };
  return new MetricsService({
    messages: { bytes: 1 << 20, key: "grpc.max_metrics_message" },
    ...{ maxStreams: 10, maxProxies: 10, maxLabelSets: 1000, shapes: DEFAULT_SHAPES, ...limits },
    forgetAfterMs: 600_000,
    sink: (report) => refusal ?? answer(() => store.report(report)),
    proxyStats,
    self,
    log,
  });
}

function open(header = ""): StreamReader {
  const stream = service.open({ text: (name) => (name === "x-meshtally-counters" ? header : "") });
  if (stream === null) throw new Error("refused");
  return stream;
}

function send(stream: StreamReader, ...messages: readonly Buffer[]): void {
  for (const message of messages) stream.message(message);
}

/** Of each label set that was counted: its destination, requests, durations (count, and sum to the millisecond: 7 reads 7.05), and TCP's counts. */
function counted(): object {
  const http = store.http.series.map((series) => {
    const counts = new Float64Array(COUNTS_WIDTH);
    store.http.readTotal(series, counts);
    const at = histogramField(HttpMetric.Duration);
    return [
      destinationOf(series.labelKey),
      counts[0],
      counts[at + HISTOGRAM_COUNT],
      Math.round(counts[at + HISTOGRAM_SUM] ?? 0),
    ];
  });
  const tcp = store.tcp.series.map((series) => {
    const counts = new Float64Array(4);
    store.tcp.readTotal(series, counts);
    return [destinationOf(series.labelKey), ...counts];
  });
  return { http, tcp };
}

function destinationOf(labelKey: string): string | undefined {
  return unpackLabels(labelKey)?.[LABELS.indexOf("destination_workload")];
}

async function results(name = "meshtally_metrics_service_reports_total"): Promise<Record<string, number>> {
  const metric = (await self.registry.getMetricsAsJSON()).find((each) => each.name === name);
  const samples = (metric?.values ?? []) as { value: number; labels: Record<string, string> }[];
  const some = samples.filter(({ value }) => value !== 0);
  return Object.fromEntries(some.map(({ value, labels }) => [Object.values(labels).join() || "all", value]));
}

const account = () => service.accounts.named[0];

describe.each<[string, SinkOptions]>([
  ["tags in names", {}],
  ["tags as labels", { tags: true }],
  ["tags in names, in batches", { batchSize: 7 }],
  ["tags as labels, each metric alone", { tags: true, batchSize: 1 }],
  ["deltas", { deltas: true }],
  ["deltas in batches, tags as labels", { deltas: true, tags: true, batchSize: 5 }],
  ["nanoseconds", { nanoseconds: true, batchSize: 9 }],
  ["a label that a configuration added", { added: { pod: "p" } }],
])("%s", (_name, options) => {
  test("what was counted is what was told, flush by flush", () => {
    const process = new SinkProcess(WEB, START);
    const stream = open(options.deltas ? "delta" : "");
    send(stream, ...process.flush(1_800_000_000_000, options, true));
    for (let flush = 1; flush <= 4; flush++) {
      for (let i = 0; i < flush; i++) process.request(A);
      process.request(B, 100);
      process.connection(A, [1, 0, 50, 60]);
      send(stream, ...process.flush(1_800_000_000_000 + flush * 5000, options));
    }
    stream.end("completed");
    const scraped = new SeriesStore({ proxies: 9, labelSets: 9, cells: 99, connections: 9, retireAfterMs: 1 });
    scraped.report(process.scrape());
    const own = store;
    const seen = counted();
    store = scraped;
    expect(seen).toEqual(counted());
    store = own;
    expect(seen).toMatchObject({
      http: [
        ["b", 10, 10, 70],
        ["c;x=y é", 4, 4, expect.any(Number)],
      ],
    });
    expect(seen).toMatchObject({ tcp: [["b", 4, 0, 200, 240]] });
    expect(account()).toMatchObject({ proxy: WEB, labelSets: 3, counters: options.deltas ? "delta" : "cumulative" });
    expect(account()?.isFormDoubted).toBe(false);
  });
});

test("two stats that differ in a label which is none of ours are one label set: their counts add up", () => {
  const process = new SinkProcess(WEB, START);
  const stream = open();
  process.request(A);
  send(stream, ...process.flush(1000, { added: { pod: "p" } }, true));
  send(stream, ...process.flush(1000, { added: { pod: "q" } }));
  send(stream, ...process.flush(2000, { added: { pod: "p" } }));
  expect(counted()).toMatchObject({ http: [["b", 2, 1, 7]] });
});

test("a counter that falls began anew, alone: what it had counted is kept", async () => {
  const process = new SinkProcess(WEB, START);
  const stream = open();
  for (let i = 0; i < 5; i++) process.request(A);
  process.connection(A, [2, 1, 10, 10]);
  send(stream, ...process.flush(1000, { batchSize: 4 }, true));
  process.replaceVm();
  for (let i = 0; i < 3; i++) process.request(A);
  process.connection(A, [1, 1, 5, 20]);
  send(stream, ...process.flush(2000, { batchSize: 4 }));
  expect(counted()).toMatchObject({ http: [["b", 8, 8, expect.any(Number)]], tcp: [["b", 3, 1, 15, 20]] });
  expect(await results("meshtally_metrics_service_counter_resets_total")).toEqual({ all: 3 });
});

test("a new process life of a proxy is counted besides the one before", () => {
  const first = new SinkProcess(WEB, START);
  first.request(A);
  const [before, after] = [open(), open()];
  send(before, ...first.flush(1000, {}, true));
  before.end("broken_off");
  const second = new SinkProcess(WEB, START + 1000);
  second.request(A);
  send(after, ...second.flush(2000, {}, true));
  expect(counted()).toMatchObject({ http: [["b", 2, 2, 14]] });
});

test("a filter that begins a new life within a stream, its batches before the gauge included", () => {
  const process = new SinkProcess(WEB, START);
  const stream = open();
  for (let i = 0; i < 5; i++) process.request(A);
  send(stream, ...process.flush(1000, { batchSize: 3 }, true));
  process.replaceVm();
  process.startMs = START + 1000;
  for (let i = 0; i < 2; i++) process.request(A);
  send(stream, ...process.flush(2000, { batchSize: 3 }));
  process.request(A);
  send(stream, ...process.flush(3000, { batchSize: 3 }));
  expect(counted()).toMatchObject({ http: [["b", 8, 8, expect.any(Number)]] });
});

describe("several streams of one process", () => {
  test.each([false, true])("which all bring each flush: it is taken once (deltas: %s)", async (deltas) => {
    const process = new SinkProcess(WEB, START);
    const [one, other] = [open(deltas ? "delta" : ""), open(deltas ? "delta" : "")];
    for (let flush = 1; flush < 6; flush++) {
      process.request(A);
      const messages = process.flush(flush * 5000, { deltas, batchSize: 6 }, flush === 1);
      const streams = flush % 2 === 0 ? [one, other] : [other, one];
      for (const message of messages) for (const stream of streams) send(stream, message);
    }
    expect(counted()).toMatchObject({ http: [["b", 5, 5, 35]] });
    expect((await results())["duplicate"]).toBe(5);
  });

  test("a flush that came late over another stream is not taken for a fall", async () => {
    const process = new SinkProcess(WEB, START);
    const [one, other] = [open(), open()];
    process.request(A);
    const late = process.flush(1000, {}, true);
    process.request(A);
    send(other, ...process.flush(2000, {}, true));
    send(one, ...late);
    expect(counted()).toMatchObject({ http: [["b", 2, 1, 7]] }); // of histograms only what the one that was taken tells
    other.end("broken_off");
    send(one, ...process.flush(3000));
    expect(counted()).toMatchObject({ http: [["b", 2, 1, 7]] });
    expect(await results()).toMatchObject({ ok: 2, duplicate: 1 });
  });

  test("the one after a break goes on from what the one before told, also where the clock was set back", () => {
    const process = new SinkProcess(WEB, START);
    const [one, other] = [open("delta"), open("delta")];
    process.request(A);
    send(one, ...process.flush(100_000, { deltas: true }, true));
    process.request(A);
    send(one, ...process.flush(50_000, { deltas: true })); // of one stream all are new
    one.end("broken_off");
    process.request(A);
    send(other, ...process.flush(20_000, { deltas: true }, true));
    expect(counted()).toMatchObject({ http: [["b", 3, 3, expect.any(Number)]] });
  });
});

describe("what is not taken, and why:", () => {
  const flushed = (change: (process: SinkProcess) => void = () => {}) => {
    const process = new SinkProcess(WEB, START);
    process.request(A);
    change(process);
    return process;
  };

  test("bytes that are no message", async () => {
    send(open(), Buffer.from([0x12, 200, 1, 2]));
    expect(await results()).toEqual({ message_malformed: 1 });
  });

  test("a stream that names no node", async () => {
    send(open(), ...flushed().flush(1000));
    expect(await results()).toEqual({ node_missing: 1 });
    expect(service.accounts.unnamed.notTaken).toEqual({ node_missing: 1 });
  });

  test("a process without filter: told with the next flush, or the stream's end", async () => {
    const stream = open();
    const process = flushed((each) => {
      each.startMs = null;
    });
    send(stream, ...process.flush(1000, { batchSize: 3 }, true));
    expect(await results()).toEqual({});
    send(stream, ...process.flush(2000, { batchSize: 3 }));
    stream.end("completed");
    expect(await results()).toEqual({ no_start_time: 2 });
    expect(counted()).toMatchObject({ http: [] });
  });

  test.each([0, 1, 4])(
    "a process after a hot restart, wherever its gauges stand (batches of %d)",
    async (batchSize) => {
      const stream = open();
      const process = flushed((each) => {
        each.epoch = 1;
      });
      send(stream, ...process.flush(1000, { batchSize }, true), ...process.flush(2000, { batchSize }));
      expect(await results()).toEqual({ hot_restarted: 2 });
      expect(counted()).toMatchObject({ http: [] });
    },
  );

  test("nothing for want of the epoch: where it is not shown, the first flush waits for the next", () => {
    const stream = open();
    const process = flushed((each) => {
      each.epoch = null;
    });
    send(stream, ...process.flush(1000, {}, true));
    expect(counted()).toMatchObject({ http: [] });
    send(stream, ...process.flush(2000));
    expect(counted()).toMatchObject({ http: [["b", 1, 1, 7]] });
  });

  test("counters that are said to be deltas and stand as they are: never counted again and again", async () => {
    const process = flushed();
    for (let flush = 1; flush < 5; flush++) {
      const stream = open("delta"); // each flush the first of its stream
      send(stream, ...process.flush(flush * 5000, {}, true), ...process.flush(flush * 5000 + 1000));
      stream.end("completed");
    }
    expect(counted()).toMatchObject({ http: [["b", 1, 1, 7]] });
    expect(await results()).toEqual({ ok: 1, not_deltas: 7 });
    expect(account()).toMatchObject({ counters: "delta", isFormDoubted: true });
  });

  test("of deltas that nobody told of, what goes beyond the largest: too little, and it is told", () => {
    const process = flushed();
    const stream = open();
    for (let flush = 1; flush < 5; flush++) send(stream, ...process.flush(flush * 5000, { deltas: true }, flush === 1));
    expect(counted()).toMatchObject({ http: [["b", 1, 1, 7]] });
    expect(account()?.isFormDoubted).toBe(true);
  });

  test("what the store refuses", async () => {
    refusal = "life_retired";
    send(open(), ...flushed().flush(1000, {}, true));
    expect(await results()).toEqual({ life_retired: 1 });
  });

  test("label sets for which there is no room; the others are", async () => {
    service = newService({ maxLabelSets: 1 });
    const process = flushed((each) => each.request(B));
    send(open(), ...process.flush(1000, {}, true));
    expect(counted()).toMatchObject({ http: [["b", 1, 1, 7]] });
    expect(await results()).toEqual({ cells_full: 1 });
  });

  test("more processes than the limit; one whose stream ended makes room", async () => {
    service = newService({ maxProxies: 1 });
    const [one, other] = [open(), open()];
    send(one, ...flushed().flush(1000, {}, true));
    const second = new SinkProcess("sidecar~10.0.0.2~api-1.default~x", START);
    second.request(B);
    send(other, ...second.flush(1000, {}, true));
    expect(await results()).toEqual({ ok: 1, proxies_full: 1 });
    one.end("completed");
    send(other, ...second.flush(2000));
    expect(await results()).toMatchObject({ ok: 2 });
  });

  test("streams beyond the limit", async () => {
    service = newService({ maxStreams: 1 });
    const stream = open();
    expect(service.open({ text: () => "" })).toBeNull();
    stream.end("completed");
    open();
    expect(await results("meshtally_metrics_service_streams_ended_total")).toEqual({ refused: 1, completed: 1 });
  });
});

test("injured messages are no fault of ours: each is taken or counted, and the streams beside them go on", async () => {
  const draw = random(7);
  const process = new SinkProcess(WEB, START);
  process.request(A);
  process.connection(B, [1, 0, 5, 6]);
  const whole = [...process.flush(1000, {}, true), ...process.flush(2000, { tags: true, batchSize: 9 }, true)];
  for (let i = 0; i < 1500; i++) {
    const stream = open(draw() < 0.5 ? "delta" : "");
    for (let j = 0; j < 3; j++) stream.message(mutate(draw, pick(draw, whole), whole));
    stream.end(draw() < 0.5 ? "completed" : "broken_off");
  }
  const found = await results();
  expect(found).not.toHaveProperty("internal");
  expect(found["message_malformed"]).toBeGreaterThan(100);
  expect(service.accounts.named.length).toBeLessThanOrEqual(10);
  const other = new SinkProcess("sidecar~10.0.0.9~other-1.default~x", START);
  other.request({ destination_workload: "z" });
  const before = found["ok"] ?? 0;
  const stream = open();
  send(stream, ...other.flush(1000, {}, true));
  expect((await results())["ok"]).toBe(before + 1);
});

test("a header that says what is not known is told of, and counters are taken as they stand", () => {
  open("sometimes");
  expect(warned).toEqual([
    {
      fields: expect.objectContaining({ found: "sometimes" }),
      message: expect.stringContaining("taken as cumulative"),
    },
  ]);
});

test("a first message of another node moves the stream to that one's account", () => {
  const stream = open();
  send(
    stream,
    ...new SinkProcess("a", START).flush(1000, {}, true),
    ...new SinkProcess("b", START).flush(2000, {}, true),
  );
  expect(service.accounts.named.map(({ proxy, openStreams }) => [proxy, openStreams])).toEqual([
    ["b", 1],
    ["a", 0],
  ]);
});
