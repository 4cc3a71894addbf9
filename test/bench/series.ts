// Our series store beside prom-client, both with Istio's 25 labels and four metrics: what one request costs to count, and what one
// reading of /metrics costs. Numbers are quoted in docs/adr/0003-series-store.md.
//
// Run: npm run build:collector && node --expose-gc build/test/bench/series.js

import { Counter, Histogram, Registry } from "prom-client";
import type { AccessRecord, StatsReport } from "../../collector/record/record.ts";
import { LabelTexts, readLabelText } from "../../collector/record/stats-labels.ts";
import { StatsText } from "../../collector/record/stats-text.ts";
import { DEFAULT_BOUNDS } from "../../collector/series/histogram.ts";
import { packLabels } from "../../collector/series/key.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { HISTOGRAM_BOUNDS, HTTP_METRICS, HttpMetric, LABELS, Label } from "../../collector/vocabulary.ts";
import { TrafficFamilies } from "../../collector/web/exposition/families.ts";
import { TextTraffic } from "../../collector/web/exposition/text.ts";

/** 300 label sets are some 20,000 lines: a counter, and three histograms of 22 lines each. */
const LABEL_SETS = 300;
const ROUNDS = 7;
const REQUESTS = 200_000;
const LIFE_MS = Date.now();

/** As long as real ones: a line of the exposition has some 900 bytes. */
function labelValues(index: number): string[] {
  const values: string[] = LABELS.map((label) =>
    label.endsWith("principal") ? "spiffe://cluster.local/ns/default/sa/web" : "reviews",
  );
  values[Label.SourceWorkload] = `productpage-v${index}`;
  values[Label.DestinationService] = "reviews.default.svc.cluster.local";
  values[Label.ResponseCode] = String(200 + (index % 4) * 100);
  return values;
}

const VALUES = Array.from({ length: LABEL_SETS }, (_, index) => labelValues(index));
const LABEL_OBJECTS = VALUES.map((values) =>
  Object.fromEntries(LABELS.map((label, at) => [label, values[at] as string])),
);
const RECORDS: readonly AccessRecord[] = VALUES.map((values, index) => ({
  proxy: "sidecar~127.0.1.4~reviews-v1.default~default.svc.cluster.local",
  lifeMs: LIFE_MS,
  labelKey: packLabels(values),
  requests: 1,
  durationMs: (index * 37) % 3000,
  requestBytes: 700 + index,
  responseBytes: 2000 + index * 11,
}));

class PromClient {
  readonly registry = new Registry();
  private readonly requests = new Counter({
    name: "istio_requests_total",
    help: "Requests.",
    labelNames: LABELS,
    registers: [this.registry],
  });
  private readonly histograms = HTTP_METRICS.slice(1).map(
    ({ name }) =>
      new Histogram({
        name,
        help: name,
        labelNames: LABELS,
        buckets: [...HISTOGRAM_BOUNDS],
        registers: [this.registry],
      }),
  );

  observe(index: number): void {
    const labels = LABEL_OBJECTS[index] as Record<string, string>;
    const record = RECORDS[index] as AccessRecord;
    this.requests.inc(labels);
    this.histograms[HttpMetric.Duration - 1]?.observe(labels, record.durationMs);
    this.histograms[HttpMetric.RequestBytes - 1]?.observe(labels, record.requestBytes);
    this.histograms[HttpMetric.ResponseBytes - 1]?.observe(labels, record.responseBytes);
  }
}

function newStore(): SeriesStore {
  return new SeriesStore({
    proxies: 5000,
    labelSets: 50_000,
    cells: 500_000,
    connections: 100,
    retireAfterMs: 600_000,
  });
}

/** A scrape of which every count is `requests`. */
function report(requests: number): StatsReport {
  const histogram = () => ({
    cumulative: new Float64Array(HISTOGRAM_BOUNDS.length).fill(requests),
    count: requests,
    sum: requests,
  });
  const samples = RECORDS.map(({ labelKey }) => ({
    labelKey,
    requests,
    histograms: [null, histogram(), histogram(), histogram()],
  }));
  return { proxy: RECORDS[0]?.proxy ?? "", lifeMs: LIFE_MS, samples, tcpSamples: [] };
}

/** Median over the rounds of what `round` says; one round before does not count. */
function median(round: () => number): number {
  round();
  const results = Array.from({ length: ROUNDS }, round).sort((a, b) => a - b);
  return results[Math.floor(ROUNDS / 2)] as number;
}

function milliseconds(work: () => void): number {
  const began = performance.now();
  work();
  return performance.now() - began;
}

/** Microseconds for each of REQUESTS calls. */
function perRequest(observe: (index: number) => void): number {
  const took = milliseconds(() => {
    for (let request = 0; request < REQUESTS; request++) observe(request % LABEL_SETS);
  });
  return (took * 1000) / REQUESTS;
}

function print(what: string, ...columns: string[]): void {
  console.log(`${what.padEnd(58)}${columns.map((column) => column.padStart(16)).join("")}`);
}

const kept: object[] = [];

/** Bytes that stay in use after `fill`, whose result is kept. */
function retained(fill: () => object): number {
  const used = () => {
    for (let time = 0; time < 4; time++) globalThis.gc?.();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const before = used();
  kept.push(fill());
  return used() - before;
}

async function measure(): Promise<void> {
  const promClient = new PromClient();
  const store = newStore();
  const merging = newStore();
  merging.report(report(1e9)); // the stats are ahead, so every entry is compared
  const observeOurs = (to: SeriesStore) => (index: number) => {
    to.observe(RECORDS[index] as AccessRecord);
  };

  print(`${LABEL_SETS} label sets of ${LABELS.length} labels`, "prom-client", "ours");
  const theirs = median(() => perRequest((index) => promClient.observe(index)));
  const ours = median(() => perRequest(observeOurs(store)));
  print("count one request in all four metrics, us", theirs.toFixed(2), ours.toFixed(2));
  print("the same beside stats, us", "-", median(() => perRequest(observeOurs(merging))).toFixed(2));

  let scraped = 1e9;
  const reports = Array.from({ length: ROUNDS + 1 }, () => report(++scraped));
  const merge = median(() => milliseconds(() => merging.report(reports.shift() ?? report(++scraped))));
  print("merge one scrape in which every count grew, ms", "-", merge.toFixed(2));
  const same = report(scraped);
  print("merge it again, ms", "-", median(() => milliseconds(() => merging.report(same))).toFixed(2));

  const theirTimes: number[] = [];
  let theirText = "";
  for (let round = 0; round <= ROUNDS; round++) {
    const began = performance.now();
    theirText = await promClient.registry.metrics();
    theirTimes.push(performance.now() - began);
  }
  theirTimes.sort((a, b) => a - b);
  const exposition = new TextTraffic(new TrafficFamilies(store), "text");
  let longest = 0;
  let ourText = 0;
  const ourTime = median(() => {
    longest = 0;
    ourText = 0;
    let began = performance.now();
    let total = 0;
    for (const piece of exposition.render()) {
      ourText += piece.length;
      const took = performance.now() - began;
      total += took;
      longest = Math.max(longest, took);
      began = performance.now();
    }
    return total;
  });
  print("lines of one exposition", String(theirText.split("\n").length), String(LABEL_SETS * 67));
  print("bytes of one exposition", String(Buffer.byteLength(theirText)), String(ourText));
  print("one exposition, ms", (theirTimes[Math.floor(ROUNDS / 2)] as number).toFixed(1), ourTime.toFixed(1));
  print("longest piece in which nothing else runs, ms", "all of it", longest.toFixed(2));

  const body = Buffer.from(Array.from(exposition.render(), String).join(""));
  const texts = new LabelTexts(readLabelText);
  const parse = median(() =>
    milliseconds(() => {
      const parser = new StatsText(texts, DEFAULT_BOUNDS);
      for (let at = 0; at < body.length; at += 65_536) parser.write(body.subarray(at, at + 65_536));
      parser.end();
      parser.page.report("");
    }),
  );
  print("parse the same as a scrape, ms", "-", parse.toFixed(1));

  if (!globalThis.gc) return;
  const fill = (observe: (index: number) => void) => {
    for (let index = 0; index < LABEL_SETS; index++) observe(index);
  };
  const theirBytes = retained(() => {
    const filled = new PromClient();
    fill((index) => filled.observe(index));
    return filled;
  });
  const ourBytes = retained(() => {
    const filled = newStore();
    fill(observeOurs(filled));
    return filled;
  });
  print("memory per label set, bytes", (theirBytes / LABEL_SETS).toFixed(0), (ourBytes / LABEL_SETS).toFixed(0));
}

await measure();
