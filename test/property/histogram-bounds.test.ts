// Random bounds of a collector, and of proxies that tell it of their requests each in another way: as access-log entries, some of which are
// lost, as text, as protobuf, and by the metrics service. No bucket may be above the truth, and each that the proxy has is the truth.

import { describe, expect, it } from "vitest";
import { silentLog } from "../../collector/log.ts";
import { MetricsService } from "../../collector/receiver/metrics-service.ts";
import type { StatsReport } from "../../collector/record/record.ts";
import { LabelTexts, readLabelText } from "../../collector/record/stats-labels.ts";
import type { StatsPage } from "../../collector/record/stats-page.ts";
import { LabelMessages, StatsProtobuf } from "../../collector/record/stats-protobuf.ts";
import { StatsText } from "../../collector/record/stats-text.ts";
import { SelfMetrics } from "../../collector/self.ts";
import { HistogramBounds } from "../../collector/series/histogram.ts";
import { shapesOf } from "../../collector/series/shape.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { HISTOGRAM_BOUNDS, HTTP_METRICS, HttpMetric, LABELS } from "../../collector/vocabulary.ts";
import { key, text, values } from "../collector/labels.ts";
import { encodeDelimited, encodeFamily } from "../fixtures/metric-family.ts";
import { SinkProcess } from "../fixtures/metrics-sink.ts";
import { random } from "./random.ts";

const HISTORIES = 150;
const START = 1_767_000_000_000;
const WAYS = ["log", "text", "protobuf", "metrics_service"] as const;
const HISTOGRAMS = [HttpMetric.Duration, HttpMetric.RequestBytes, HttpMetric.ResponseBytes];
const LABELS_OF = { reporter: "source", source_workload: "web" };
const LIMITS = { proxies: 10, labelSets: 10, cells: 100, connections: 10, retireAfterMs: 600_000 };

type Draw = () => number;

/** Rising, some of them Envoy's own, others anything. */
function drawBounds(draw: Draw): number[] {
  const own = HISTOGRAM_BOUNDS.filter(() => draw() < 0.3);
  const odd = Array.from({ length: 1 + Math.floor(draw() * 20) }, () => {
    const bound = 0.2 * 10 ** (draw() * 6);
    return draw() < 0.5 ? Math.ceil(bound) : Number(bound.toPrecision(1 + Math.floor(draw() * 4)));
  });
  return [...new Set([...own, ...odd])].sort((a, b) => a - b);
}

/** The same, or some fewer and some others. */
function drawProxyBounds(draw: Draw, bounds: readonly number[]): number[] {
  if (draw() < 0.4) return [...bounds];
  const kept = bounds.filter(() => draw() < 0.7);
  return [...new Set([...kept, ...drawBounds(draw).slice(0, 5)])].sort((a, b) => a - b);
}

/** As Envoy writes a bound: 0.1 is 0.100000000000000005551115123126. */
function written(bound: number): string {
  return Number.isInteger(bound) ? String(bound) : bound.toPrecision(30);
}

/** `sample`'s histograms, with the bounds by which they were counted. */
function* histogramsOf({ samples: [sample] }: StatsReport) {
  for (const metric of HISTOGRAMS) {
    const histogram = sample?.histograms[metric];
    if (histogram) yield { name: HTTP_METRICS[metric]?.name ?? "", ...histogram };
  }
}

function textOf(report: StatsReport, bounds: readonly number[]): Buffer {
  const lines = [...histogramsOf(report)].flatMap(({ name, cumulative, count, sum }) => [
    ...bounds.map((bound, index) => `${name}_bucket{${text(LABELS_OF)},le="${written(bound)}"} ${cumulative[index]}`),
    `${name}_bucket{${text(LABELS_OF)},le="+Inf"} ${count}`,
    `${name}_sum{${text(LABELS_OF)}} ${sum}`,
    `${name}_count{${text(LABELS_OF)}} ${count}`,
  ]);
  return Buffer.from(`istio_requests_total{${text(LABELS_OF)}} ${report.samples[0]?.requests}\n${lines.join("\n")}\n`);
}

function protobufOf(report: StatsReport, bounds: readonly number[]): Buffer {
  const label = values(LABELS_OF).map((value, index) => ({ name: LABELS[index], value }));
  const families = [...histogramsOf(report)].map(({ name, cumulative, count, sum }) => {
    const bucket = bounds.map((upperBound, index) => ({ cumulativeCount: cumulative[index], upperBound }));
    return { name, type: 4, metric: [{ label, histogram: { sampleCount: count, sampleSum: sum, bucket } }] };
  });
  return encodeDelimited(families.map(encodeFamily));
}

/** What `metric` of the only label set has come to: its buckets, then its count. */
function shownOf(store: SeriesStore, metric: HttpMetric): number[] {
  const [{ layout }] = store.shapes;
  const row = new Float64Array(layout.width);
  const [series] = store.http.series;
  if (series) store.http.readTotal(series, row);
  const field = layout.histogramField(metric);
  return [...row.subarray(field, field + layout.histogramCount + 1)];
}

interface Told {
  readonly store: SeriesStore;
  /** By the metric's name, which bounds were said to be missing. */
  readonly missing: Readonly<Record<string, readonly number[]>>;
}

/** Hands on what a page says; the bounds that it lacks. */
function take(store: SeriesStore, page: StatsPage): Record<string, readonly number[]> {
  store.report({ ...page.report("p"), lifeMs: START });
  const lacks = page.missingBounds.map((indexes, metric) => {
    const bounds = page.bounds.upper.filter((_, index) => indexes.has(index));
    return [HTTP_METRICS[metric]?.name ?? "", bounds] as const;
  });
  return Object.fromEntries(lacks.filter(([, bounds]) => bounds.length > 0));
}

function tell(
  way: (typeof WAYS)[number],
  process: SinkProcess,
  proxyBounds: readonly number[],
  told: SeriesStore,
): Told {
  const { bounds } = told.shapes[0].layout;
  const report = process.scrape();
  if (way === "text") {
    const reader = new StatsText(new LabelTexts(readLabelText), bounds);
    reader.write(textOf(report, proxyBounds));
    reader.end();
    return { store: told, missing: take(told, reader.page) };
  }
  if (way === "protobuf") {
    const reader = new StatsProtobuf(new LabelMessages(), [], 1 << 24, bounds);
    reader.write(protobufOf(report, proxyBounds));
    expect(reader.end()).toBe(true);
    return { store: told, missing: take(told, reader.page) };
  }
  const limits = { maxStreams: 9, maxProxies: 9, maxLabelSets: 99, forgetAfterMs: 600_000 };
  const messages = { bytes: 1 << 24, key: "" };
  const sink = (each: StatsReport) => told.report(each);
  const service = new MetricsService({
    ...limits,
    messages,
    shapes: told.shapes,
    sink,
    self: new SelfMetrics(null),
    log: silentLog,
  });
  const stream = service.open({ text: () => "" });
  for (const message of process.flush(1000, {}, true)) stream?.message(message);
  stream?.end("completed");
  return { store: told, missing: [...service.accounts.named][0]?.missingBounds ?? {} };
}

describe("histograms with bounds of any kind", () => {
  it.each(WAYS)("are the truth wherever the proxy has the bound, and never above it (%s)", (way) => {
    let exact = 0;
    let lacking = 0;
    for (let seed = 1; seed <= HISTORIES; seed++) {
      const draw = random(seed);
      const bounds = drawBounds(draw);
      const proxyBounds = drawProxyBounds(draw, bounds);
      const shapes = shapesOf(new HistogramBounds(bounds));
      const store = new SeriesStore(LIMITS, undefined, { hasNatives: true, shapes });
      const process = new SinkProcess("p", START, shapesOf(new HistogramBounds(proxyBounds)));
      const truth = new Float64Array(shapes[0].width);
      const one = truth.slice();
      const lost = draw() < 0.5 ? 0 : draw();
      let isLost = false;
      for (let left = 1 + Math.floor(draw() * 40); left > 0; left--) {
        const [durationMs, requestBytes, responseBytes] = [6, 5, 7].map((digits) =>
          Math.floor(10 ** (draw() * digits) - 1),
        );
        const sizes = { requestBytes: requestBytes as number, responseBytes: responseBytes as number };
        const record = {
          proxy: "p",
          lifeMs: START,
          labelKey: key(LABELS_OF),
          requests: 1,
          durationMs: durationMs as number,
          ...sizes,
        };
        process.request(LABELS_OF, record.durationMs, sizes);
        shapes[0].fill(one, record);
        for (const [field, count] of one.entries()) truth[field] = (truth[field] as number) + count;
        if (draw() >= lost) store.observe(record);
        else isLost = true;
      }
      const { missing } = way === "log" ? { missing: {} } : tell(way, process, proxyBounds, store);
      const lacks = bounds.filter((bound) => !proxyBounds.includes(bound));
      const names = HISTOGRAMS.map((metric) => HTTP_METRICS[metric]?.name ?? "");
      const expected = way === "log" || lacks.length === 0 ? [] : names.map((name) => [name, lacks] as const);
      expect(missing, `seed ${seed}`).toEqual(Object.fromEntries(expected));
      for (const metric of HISTOGRAMS) {
        const field = shapes[0].layout.histogramField(metric);
        for (const [index, shown] of shownOf(store, metric).entries()) {
          const real = truth[field + index] as number;
          const isKnown =
            !isLost || (way !== "log" && (index === bounds.length || !lacks.includes(bounds[index] as number)));
          const what = `seed ${seed}, ${HTTP_METRICS[metric]?.name} le ${bounds[index]}`;
          if (isKnown) expect(shown, what).toBe(real);
          else expect(shown, what).toBeLessThanOrEqual(real);
          if (isKnown) exact++;
          else lacking++;
        }
        const native = store.http.series[0] ? store.http.readNative(store.http.series[0], metric) : null;
        const placed = (native?.zero ?? 0) + (native?.counts.reduce((sum, count) => sum + count, 0) ?? 0);
        expect(placed, `seed ${seed}`).toBe(shownOf(store, metric).at(-1));
      }
    }
    expect(exact).toBeGreaterThan(1000);
    expect(lacking).toBeGreaterThan(300);
  });
});
