import { readFileSync } from "node:fs";
import { join } from "node:path";
import protobuf from "protobufjs";
import { describe, expect, it } from "vitest";
import type { Places } from "../../collector/record/stats-protobuf.ts";
import { HISTOGRAM_BOUNDS, HttpMetric, LABELS } from "../../collector/vocabulary.ts";
import { readProtobufStats, readStats } from "../fixtures/stats.ts";
import { key, values } from "./labels.ts";

const RECORDED = join(import.meta.dirname, "../fixtures/stats/envoy-1.40.0");
const RECORDED_BYTES = readFileSync(`${RECORDED}.pb`);

const PROTO = join(import.meta.dirname, "../fixtures/proto/io/prometheus/client/metrics.proto");
const Family = protobuf.loadSync(PROTO).lookupType("io.prometheus.client.MetricFamily");

interface Metric {
  readonly label?: readonly { readonly name: string; readonly value: string }[];
  readonly [value: string]: unknown;
}

/** Each family behind its length. */
function delimited(...families: readonly { name: string; type?: number; metric: readonly Metric[] }[]): Buffer {
  return Buffer.concat(families.map((family) => Family.encodeDelimited(Family.fromObject(family)).finish()));
}

function labels(some: Readonly<Record<string, string>> = {}): { name: string; value: string }[] {
  return values(some).map((value, index) => ({ name: LABELS[index] as string, value }));
}

const WEB = { source_workload: "wéb" };
const WEB_KEY = key(WEB);

describe("StatsProtobuf", () => {
  it("says of a real Envoy's answer what its text says", () => {
    const text = readStats(readFileSync(`${RECORDED}.txt`));
    const page = readProtobufStats(RECORDED_BYTES);
    const report = page?.report("p");
    expect(report).toEqual(text.report("p"));
    expect(report?.samples).toHaveLength(2);
    expect(report?.samples.map(({ requests, histograms }) => [requests, histograms[1]?.count])).toEqual([
      [5, 5],
      [5, 5],
    ]);
    for (const each of [page, text]) {
      expect(each).toMatchObject({ malformed: 0, foreignLabelSets: 0, isContradictory: false, logsWritten: 10 });
      expect(each?.nodeId).toBe("sidecar~10.0.0.9~lone-1.default~default.svc.cluster.local");
      expect(each?.lifeMs).toBeGreaterThan(1.7e12);
    }
  });

  it.each([1, 7, 1000])("gives the same however the answer is cut: chunks of %i bytes", (chunkBytes) => {
    const whole = readProtobufStats(RECORDED_BYTES)?.report("p");
    expect(readProtobufStats(RECORDED_BYTES, chunkBytes)?.report("p")).toEqual(whole);
  });

  describe("with what is known of the target's reading before", () => {
    const counter = (labelsOf: object, value: number) => ({
      name: "istio_requests_total",
      metric: [{ label: labels(labelsOf as Record<string, string>), counter: { value } }],
    });
    const histogramOf = (labelsOf: Record<string, string>, sampleCount: number, bounds: readonly number[]) => ({
      name: "istio_request_bytes",
      type: 4,
      metric: [
        {
          label: labels(labelsOf),
          histogram: {
            sampleCount,
            sampleSum: 1.5,
            bucket: bounds.map((upperBound, index) => ({ upperBound, cumulativeCount: Math.min(index, sampleCount) })),
          },
        },
      ],
    });

    it("says the same, of a real Envoy's answer and wherever it is cut", () => {
      const places: Places = [];
      const first = readProtobufStats(RECORDED_BYTES, undefined, places)?.report("p");
      for (const chunkBytes of [undefined, 1, 999]) {
        expect(readProtobufStats(RECORDED_BYTES, chunkBytes, places)?.report("p")).toEqual(first);
      }
    });

    it("sees label sets that came in between, changed places, or are there no more", () => {
      const places: Places = [];
      const [a, b, c] = ["a", "b", "c"].map((name) => ({ source_workload: name })) as [object, object, object];
      const read = (...sets: object[]) => {
        const metric = sets.flatMap((set, index) => counter(set, 10 + index).metric);
        const page = readProtobufStats(delimited({ name: "istio_requests_total", metric }), undefined, places);
        return page?.report("p").samples.map(({ labelKey, requests }) => [labelKey, requests]);
      };
      const expected = (...sets: object[]) =>
        sets.map((set, index) => [key(set as Record<string, string>), 10 + index]);
      for (const sets of [[a, b], [a, c, b], [b, a], [c], [a, b, c], []])
        expect(read(...sets)).toEqual(expected(...sets));
    });

    it.each<[string, readonly number[], number]>([
      ["as Envoy writes it", HISTOGRAM_BOUNDS, 5_000_000_000],
      ["with fewer buckets", [5, 10], 3],
      ["with other bounds", HISTOGRAM_BOUNDS.map((bound) => bound + 0.25), 3],
      ["with one more, +Inf", [...HISTOGRAM_BOUNDS, Number.POSITIVE_INFINITY], 40],
      ["without any", [], 7],
    ])("reads a histogram %s as without it", (_, bounds, count) => {
      const places: Places = [];
      const body = delimited(counter(WEB, 1), histogramOf(WEB, count, bounds));
      const plain = readProtobufStats(body)?.report("p");
      expect(plain?.samples[0]?.histograms[HttpMetric.RequestBytes]?.count).toBe(count);
      expect(readProtobufStats(body, undefined, places)?.report("p")).toEqual(plain);
      expect(readProtobufStats(body, undefined, places)?.report("p")).toEqual(plain);
      expect(places).toHaveLength(1);
    });

    it("never throws and never differs from reading without it, whatever bytes come", () => {
      let state = 20260102;
      const random = (below: number): number => {
        state = (Math.imul(state, 1103515245) + 12345) >>> 0;
        return Math.floor((state / 2 ** 32) * below);
      };
      const places: Places = [];
      readProtobufStats(RECORDED_BYTES, undefined, places);
      let read = 0;
      for (let round = 0; round < 2000; round++) {
        const bytes = Buffer.from(RECORDED_BYTES);
        for (let flips = random(4); flips > 0; flips--) bytes[random(bytes.length)] = random(256);
        const known = readProtobufStats(bytes, undefined, [...places]);
        const plain = readProtobufStats(bytes);
        expect([round, known?.report("p"), known?.malformed]).toEqual([round, plain?.report("p"), plain?.malformed]);
        read += Number(plain !== null);
      }
      expect(read).toBeGreaterThan(500);
    });
  });

  it("is nothing to rely on when it breaks off, wherever that is within a family", () => {
    for (let length = 1; length < 300; length++) {
      const isWhole = length === 72 || length === 136; // the ends of the first two families
      expect([length, readProtobufStats(RECORDED_BYTES.subarray(0, length)) !== null]).toEqual([length, isWhole]);
    }
  });

  it("reads counters and histograms of one label set, gauges, and TCP", () => {
    const bucket = HISTOGRAM_BOUNDS.map((upperBound, index) => ({ upperBound, cumulativeCount: index }));
    const body = delimited(
      { name: "istio_requests_total", metric: [{ label: labels(WEB), counter: { value: 9 } }] },
      {
        name: "istio_request_bytes",
        type: 4,
        metric: [{ label: labels(WEB), histogram: { sampleCount: 30, sampleSum: 70.5, bucket } }],
      },
      { name: "istio_tcp_sent_bytes_total", metric: [{ label: labels(WEB), counter: { value: 7 } }] },
      { name: "meshtally_filter_start_time_milliseconds", type: 1, metric: [{ gauge: { value: 1785000000123 } }] },
      { name: "envoy_server_hot_restart_epoch", type: 1, metric: [{ gauge: { value: 0 } }] },
    );
    const page = readProtobufStats(body);
    expect(page).toMatchObject({ malformed: 0, lifeMs: 1785000000123, restartEpoch: 0, nodeId: null });
    const { samples = [], tcpSamples } = page?.report("p") ?? {};
    expect(samples).toMatchObject([{ labelKey: WEB_KEY, requests: 9 }]);
    expect(samples[0]?.histograms[HttpMetric.RequestBytes]).toEqual({
      cumulative: Float64Array.from(HISTOGRAM_BOUNDS, (_, index) => index),
      count: 30,
      sum: 70.5,
    });
    expect(tcpSamples).toMatchObject([{ counts: [-1, -1, 7, -1] }]);
  });

  it.each([
    ["a counter without a value of its kind", { label: labels(), histogram: { sampleCount: 1 } }],
    ["a negative counter", { label: labels(), counter: { value: -1 } }],
    ["a counter that is no number", { label: labels(), counter: { value: Number.NaN } }],
    ["a counter beyond exact counts", { label: labels(), counter: { value: 1e300 } }],
  ])("skips and counts %s, and reads on", (_, broken) => {
    const good = { label: labels(WEB), counter: { value: 7 } };
    const page = readProtobufStats(delimited({ name: "istio_requests_total", metric: [broken, good] }));
    expect(page).toMatchObject({ malformed: 1 });
    const requests = page?.report("p").samples.map((sample) => sample.requests);
    expect(requests?.filter((count) => count >= 0)).toEqual([7]);
  });

  it("passes over label sets of another writer, and sees labels that stats_tags lack", () => {
    const pod = [{ name: "pod", value: "x" }];
    const page = readProtobufStats(
      delimited(
        { name: "istio_requests_total", metric: [{ label: pod, counter: { value: 1 } }] },
        { name: "source_app___web___istio_request_bytes", type: 4, metric: [{ histogram: { sampleCount: 1 } }] },
        { name: "source_app___web___istio_request_duration", type: 4, metric: [{ histogram: { sampleCount: 1 } }] },
      ),
    );
    expect(page?.report("p").samples).toEqual([]);
    expect(page).toMatchObject({ foreignLabelSets: 1, malformed: 0, untagged: new Set(["source_app"]) });
  });

  it("never throws and never invents, whatever bytes come", () => {
    let state = 20260101;
    const random = (below: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    let read = 0;
    for (let round = 0; round < 2000; round++) {
      const bytes = Buffer.from(RECORDED_BYTES.subarray(0, RECORDED_BYTES.length - random(2)));
      for (let flips = random(4); flips > 0; flips--) bytes[random(bytes.length)] = random(256);
      const page = readProtobufStats(bytes, 1 + random(9000));
      for (const { requests, histograms } of page?.report("p").samples ?? []) {
        read++;
        expect([round, Number.isSafeInteger(requests)]).toEqual([round, true]);
        for (const histogram of histograms) {
          const counts = [0, ...(histogram?.cumulative ?? []), histogram?.count ?? 0];
          expect(counts).toEqual(counts.toSorted((a, b) => a - b));
        }
      }
    }
    expect(read).toBeGreaterThan(500);
  });
});

describe("who a page is of", () => {
  const node = (id: string) => Buffer.from(id).toString("hex");
  const TWO = [
    `meshtally_filter_node{component="proxy",tag="${node("a")}"} 1`,
    `meshtally_filter_node{component="proxy",tag="${node("b")}"} 1`,
  ];

  it.each([
    ["by its label", [TWO[0] as string], "a", 0],
    [
      "by its name, where no expression took it out",
      [`component_proxy_tag_${node("ü~")}__meshtally_filter_node{} 1`],
      "ü~",
      0,
    ],
    ["not by a label that is no hexadecimal number", ['meshtally_filter_node{tag="xy"} 1'], null, 1],
    ["not by half a byte", ['meshtally_filter_node{tag="616"} 1'], null, 1],
    ["not by no label", ["meshtally_filter_node{} 1"], null, 1],
    ["not by more than a node may have", [`meshtally_filter_node{tag="${"61".repeat(513)}"} 1`], null, 1],
    ["not by another's name", ["component_proxy_tag_61__meshtally_filter_nodes{} 1"], null, 0],
  ])("is told %s", (_, lines, nodeId, malformed) => {
    expect(readStats(lines.join("\n"))).toMatchObject({ nodeId, malformed, isContradictory: false });
  });

  it.each([
    ["two nodes", TWO, true],
    ["one node twice", [TWO[0] as string, TWO[0] as string], false],
    [
      "two start times",
      ["meshtally_filter_start_time_milliseconds{} 1", "meshtally_filter_start_time_milliseconds{} 2"],
      true,
    ],
  ])("is contradictory, or not, with %s", (_, lines, isContradictory) => {
    expect(readStats(lines.join("\n"))).toMatchObject({ isContradictory });
  });
});
