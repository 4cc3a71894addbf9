// The protobuf format against two oracles: protobufjs reads the bytes, and the text format says what must be in them.

import { describe, expect, it } from "vitest";
import { SelfMetrics } from "../../collector/self.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { LABELS } from "../../collector/vocabulary.ts";
import { TrafficFamilies } from "../../collector/web/exposition/families.ts";
import { FamiliesFromText } from "../../collector/web/exposition/from-text.ts";
import { encodeHead } from "../../collector/web/exposition/metric-family.ts";
import { PAGE_BYTES } from "../../collector/web/exposition/pages.ts";
import { ProtobufTraffic } from "../../collector/web/exposition/protobuf.ts";
import { TextTraffic } from "../../collector/web/exposition/text.ts";
import { readDelimited } from "../fixtures/metric-family.ts";
import { key } from "./labels.ts";

interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: number;
  readonly unit?: string;
  readonly metric: readonly Metric[];
}

interface Metric {
  readonly label?: readonly { readonly name: string; readonly value: string }[];
  readonly counter?: { readonly value: number };
  readonly gauge?: { readonly value: number };
  readonly untyped?: { readonly value: number };
  readonly summary?: { sampleCount: number; sampleSum: number; quantile?: { quantile: number; value: number }[] };
  readonly histogram?: {
    sampleCount: number;
    sampleSum: number;
    bucket?: { cumulativeCount: number; upperBound: number }[];
  };
}

const COUNTER = 0;
const HISTOGRAM = 4;

function read(bytes: Buffer): Family[] {
  return readDelimited(bytes) as unknown as Family[];
}

function setUp() {
  const store = new SeriesStore({
    proxies: 10,
    labelSets: 10_000,
    cells: 500_000,
    connections: 100,
    retireAfterMs: 1000,
  });
  const observe = (labels: Readonly<Record<string, string>>, durationMs = 7, requestBytes = 0) =>
    store.observe({
      proxy: "p",
      lifeMs: 1,
      labelKey: key(labels),
      requests: 1,
      durationMs,
      requestBytes,
      responseBytes: 300,
    });
  const connect = (labels: Readonly<Record<string, string>>, counts: readonly number[]) =>
    store.observeConnection({
      proxy: "p",
      lifeMs: 1,
      connectionId: 0,
      streamId: "",
      isOver: true,
      parts: [{ labelKey: key(labels), counts }],
    });
  const text = () => Array.from(new TextTraffic(new TrafficFamilies(store), "text").render(), String).join("");
  const pieces = () =>
    Array.from(new ProtobufTraffic(new TrafficFamilies(store)).render(), (piece) => Buffer.from(piece)); // their memory is used again
  const families = () => read(Buffer.concat(pieces()));
  return { store, observe, connect, text, pieces, families };
}

/** The lines that the families would have as text, sorted. */
function linesOf(families: readonly Family[]): string[] {
  return families.flatMap(({ name, metric }) => metric.flatMap((one) => linesOfMetric(name, one))).sort();
}

function linesOfMetric(name: string, { label = [], counter, gauge, untyped, summary, histogram }: Metric): string[] {
  const labels = label.map((pair) => `${pair.name}=${JSON.stringify(pair.value)}`);
  const line = (suffix: string, value: number, ...more: string[]) => {
    const all = [...labels, ...more].join(",");
    return `${name}${suffix}${all === "" ? "" : `{${all}}`} ${value}`;
  };
  const single = counter ?? gauge ?? untyped;
  if (single) return [line("", single.value)];
  const observed = summary ?? histogram;
  if (!observed) return [];
  const ends = [line("_sum", observed.sampleSum), line("_count", observed.sampleCount)];
  if (summary)
    return [...(summary.quantile ?? []).map((each) => line("", each.value, `quantile="${each.quantile}"`)), ...ends];
  const buckets = (histogram?.bucket ?? []).map((each) =>
    line("_bucket", each.cumulativeCount, `le="${each.upperBound}"`),
  );
  return [...buckets, line("_bucket", observed.sampleCount, 'le="+Inf"'), ...ends];
}

function samplesOf(text: string): string[] {
  return text
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.replace(/ Nan$/, " NaN"))
    .sort();
}

describe("ProtobufTraffic", () => {
  it("says of each family what the text says", () => {
    const { observe, connect, families, text } = setUp();
    for (let index = 0; index < 50; index++) {
      for (let request = 0; request < 30; request++)
        observe({ source_workload: `w${index}` }, request * index, request ** 4);
    }
    observe({ source_workload: "no duration" }, -1);
    observe({ source_workload: 'say "hi" \\ ü\n', source_app: "", source_version: "x".repeat(255) });
    connect({ source_workload: "tcp", response_code: "", grpc_response_status: "" }, [1, 1, 2 ** 40 + 1, 0]);
    const all = families();
    expect(linesOf(all)).toEqual(samplesOf(text()));
    expect(all.map(({ name, type, unit }) => [name, type, unit])).toEqual([
      ["istio_requests_total", COUNTER, undefined],
      ["istio_request_duration_milliseconds", HISTOGRAM, "milliseconds"],
      ["istio_request_bytes", HISTOGRAM, "bytes"],
      ["istio_response_bytes", HISTOGRAM, "bytes"],
      ["istio_tcp_connections_opened_total", COUNTER, undefined],
      ["istio_tcp_connections_closed_total", COUNTER, undefined],
      ["istio_tcp_sent_bytes_total", COUNTER, "bytes"],
    ]);
    for (const { help } of all) expect(help).not.toBe("");
    expect(all[0]?.metric[0]?.label).toHaveLength(25);
    expect(all[4]?.metric[0]?.label).toHaveLength(23);
  });

  it("shows nothing where nothing was counted", () => {
    expect(setUp().pieces()).toEqual([]);
  });

  it.each([1, 127, 128, 2 ** 21, 2 ** 28 - 1, 2 ** 28, 2 ** 31, 2 ** 32 + 7, 2 ** 53 - 1])("counts to %d", (count) => {
    const { store, families } = setUp();
    const histogram = { cumulative: new Float64Array(19).fill(count), count, sum: 0.5 };
    const samples = [{ labelKey: key({}), requests: count, histograms: [null, histogram, null, null] }];
    store.report({ proxy: "p", lifeMs: Date.now(), samples, tcpSamples: [] });
    const [requests, durations] = families();
    expect(requests?.metric[0]?.counter?.value).toBe(count);
    expect(durations?.metric[0]?.histogram?.sampleCount).toBe(count);
    expect(durations?.metric[0]?.histogram?.bucket?.[3]?.cumulativeCount).toBe(count);
  });

  it("comes in pieces of a page at most, however long a family is, with turns for others", () => {
    const { observe, pieces, text } = setUp();
    for (let index = 0; index < 1100; index++) observe({ source_workload: `w${index}`, source_app: "x".repeat(200) });
    const all = pieces();
    for (const piece of all) expect(piece.length).toBeLessThanOrEqual(PAGE_BYTES);
    expect(all.filter((piece) => piece.length === 0).length).toBeGreaterThan(7);
    expect(linesOf(read(Buffer.concat(all)))).toEqual(samplesOf(text()));
  });

  it("has room for the longest label set there can be", () => {
    const { observe, families } = setUp();
    const hostile = Object.fromEntries(LABELS.map((name) => [name, '"'.repeat(255)]));
    observe(hostile);
    const label = families()[0]?.metric[0]?.label ?? [];
    expect(Object.fromEntries(label.map(({ name, value }) => [name, value]))).toEqual(hostile);
  });
});

describe("FamiliesFromText", () => {
  const convert = (...pieces: string[]) => {
    const families = new FamiliesFromText();
    const encoded = [...pieces.flatMap((piece) => [...families.add(piece)]), ...families.end()];
    return read(Buffer.concat(encoded));
  };

  it("says what the collector's own text says", async () => {
    const self = new SelfMetrics("1.2.3");
    self.accessLogDropped.inc({ reason: "node_missing" }, 3);
    const text = await self.registry.metrics();
    const families = convert(text);
    const names = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name);
    expect(families.length).toBeGreaterThan(30);
    expect(names).toEqual(expect.arrayContaining(families.map(({ name }) => name)));
    expect(linesOf(families)).toEqual(samplesOf(text));
    expect(families.find(({ name }) => name === "nodejs_gc_duration_seconds")?.type ?? HISTOGRAM).toBe(HISTOGRAM);
  });

  it("reads every type, and families that go on in the next piece", () => {
    const text = [
      "# HELP a_total A \\\\ and\\nmore.",
      "# TYPE a_total counter",
      'a_total{x="1\\n\\"\\\\",y=""} 1',
      "# A comment.",
      "",
    ].join("\n");
    const more = [
      'a_total{x="2, {}="} 2',
      "# HELP s S.",
      "# TYPE s summary",
      's{quantile="0.5",x="1"} 3',
      's{quantile="0.9",x="1"} Nan',
      's_sum{x="1"} 7',
      's_count{x="1"} 2',
      's_sum{x="2"} 1.5',
      's_count{x="2"} 1',
      "# HELP h H.",
      "# TYPE h histogram",
      'h_bucket{le="0.5"} 1',
      'h_bucket{le="+Inf"} 3',
      "h_sum 9",
      "h_count 3",
      "# HELP empty No sample.",
      "# TYPE empty gauge",
      "# HELP g G.",
      "# TYPE g gauge",
      "g -Inf",
      "",
    ].join("\n");
    expect(convert(text, "", more)).toEqual([
      {
        name: "a_total",
        help: "A \\ and\nmore.",
        type: 0,
        metric: [
          {
            label: [
              { name: "x", value: '1\n"\\' },
              { name: "y", value: "" },
            ],
            counter: { value: 1 },
          },
          { label: [{ name: "x", value: "2, {}=" }], counter: { value: 2 } },
        ],
      },
      {
        name: "s",
        help: "S.",
        type: 2,
        metric: [
          {
            label: [{ name: "x", value: "1" }],
            summary: {
              sampleCount: 2,
              sampleSum: 7,
              quantile: [
                { quantile: 0.5, value: 3 },
                { quantile: 0.9, value: Number.NaN },
              ],
            },
          },
          { label: [{ name: "x", value: "2" }], summary: { sampleCount: 1, sampleSum: 1.5 } },
        ],
      },
      {
        name: "h",
        help: "H.",
        type: 4,
        metric: [{ histogram: { sampleCount: 3, sampleSum: 9, bucket: [{ cumulativeCount: 1, upperBound: 0.5 }] } }],
      },
      { name: "g", help: "G.", type: 1, metric: [{ gauge: { value: Number.NEGATIVE_INFINITY } }] },
    ]);
  });

  it("counts the bytes of texts, not their letters", () => {
    const head = encodeHead({ name: "n", help: "é日😀", type: "gauge" });
    expect(head.includes(Buffer.from("é日😀"))).toBe(true);
    expect(head[head.indexOf(Buffer.from("é")) - 1]).toBe(Buffer.byteLength("é日😀"));
  });
});
