// A proxy that tells of itself in several ways at once, on random histories: by scrape, by the metrics service and by access log, in every
// combination. Whatever is lost, late or comes over two streams: a count is never above the truth, and never goes down; and it is
// the truth once a way has told all.

import { describe, expect, test } from "vitest";
import { silentLog } from "../../collector/log.ts";
import type { StreamReader } from "../../collector/receiver/client-stream.ts";
import { MetricsService } from "../../collector/receiver/metrics-service.ts";
import { SelfMetrics } from "../../collector/self.ts";
import { DEFAULT_SHAPES } from "../../collector/series/shape.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { HttpMetric } from "../../collector/vocabulary.ts";
import { key, type LabelValues } from "../collector/labels.ts";
import { pick } from "../fixtures/als-random.ts";
import { COUNTS_WIDTH, HISTOGRAM_COUNT, histogramField } from "../fixtures/counts.ts";
import { type SinkOptions, SinkProcess } from "../fixtures/metrics-sink.ts";
import { cases } from "./cases.ts";
import { random } from "./random.ts";

const SEED = Number(process.env["SEED"] ?? 20260907);
const HISTORIES = cases(20);
const STEPS = 60;
const WAYS = ["scrape", "metrics", "deltas", "log"] as const;
type Way = (typeof WAYS)[number];

const LABELS: readonly LabelValues[] = ["a", "b", "c"].map((name) => ({ destination_workload: name }));
const DURATIONS = [0, 7, 40, 4_000_000];

/** All non-empty sets of ways; of the metrics service in one form or the other. */
const COMBINATIONS = Array.from({ length: 15 }, (_, i) => WAYS.filter((_way, bit) => ((i + 1) >> bit) & 1)).filter(
  (ways) => !(ways.includes("metrics") && ways.includes("deltas")),
);

/** One history. */
class History {
  private nowMs = 1_800_000_000_000;
  private readonly store = new SeriesStore(
    { proxies: 100, labelSets: 100, cells: 10_000, connections: 10, retireAfterMs: 3_600_000 },
    { wallMs: () => this.nowMs, steadyMs: () => this.nowMs },
  );
  private readonly service = new MetricsService({
    messages: { bytes: 1 << 24, key: "grpc.max_metrics_message" },
    ...{ maxStreams: 1000, maxProxies: 100, maxLabelSets: 10_000, shapes: DEFAULT_SHAPES, forgetAfterMs: 3_600_000 },
    sink: (report) => this.store.report(report),
    self: new SelfMetrics("test"),
    log: silentLog,
  });
  private readonly sink: SinkOptions;
  private process: SinkProcess;
  private stream: StreamReader | null = null;
  /** A stream that the proxy takes for broken and the collector for open. */
  private stale: StreamReader | null = null;
  private isNewStream = false;
  private lives = 0;
  /** By label key: requests that happened. */
  private readonly truth = new Map<string, number>();
  private readonly shown = new Map<string, Float64Array>();
  /** Whether a flush was lost, and with it what only it had told. */
  hasLostFlush = false;

  constructor(
    private readonly draw: () => number,
    private readonly ways: readonly Way[],
  ) {
    this.sink = { tags: draw() < 0.5, deltas: ways.includes("deltas"), batchSize: pick(draw, [0, 1, 4, 20]) };
    this.process = this.newProcess();
    this.connect();
  }

  step(): void {
    this.nowMs += 1000;
    const { draw } = this;
    const chance = draw();
    if (chance < 0.5) this.request();
    else if (chance < 0.7) this.flush(draw() < 0.1);
    else if (chance < 0.85) this.scrape();
    else if (chance < 0.92) this.reconnect();
    else if (chance < 0.95) this.restart();
    this.check();
  }

  /** All that can still be told is told. */
  settle(): void {
    for (let i = 0; i < 3; i++) {
      this.nowMs += 1000;
      this.flush(false);
    }
    this.scrape();
    this.check();
  }

  counts(): Map<string, Float64Array> {
    return new Map(
      this.store.http.series.map((series) => {
        const counts = new Float64Array(COUNTS_WIDTH);
        this.store.http.readTotal(series, counts);
        return [series.labelKey, counts];
      }),
    );
  }

  /** Of each label set what was counted: requests, and durations; and what happened. */
  readings(): { requests: number; durations: number; truth: number }[] {
    const counts = this.counts();
    const count = histogramField(HttpMetric.Duration) + HISTOGRAM_COUNT;
    return [...this.truth].map(([labelKey, truth]) => {
      const own = counts.get(labelKey);
      return { requests: own?.[0] ?? 0, durations: own?.[count] ?? 0, truth };
    });
  }

  private newProcess(): SinkProcess {
    this.lives++;
    return new SinkProcess("sidecar~10.0.0.1~web-1.default~d", this.nowMs - 100 + this.lives);
  }

  private connect(): void {
    this.stream = this.service.open({ text: () => (this.sink.deltas ? "delta" : "") });
    this.isNewStream = true;
  }

  private request(): void {
    const { draw } = this;
    const labels = pick(draw, LABELS);
    const labelKey = key(labels);
    const durationMs = pick(draw, DURATIONS);
    this.process.request(labels, durationMs);
    this.truth.set(labelKey, (this.truth.get(labelKey) ?? 0) + 1);
    if (!this.ways.includes("log") || (this.ways.length > 1 && draw() < 0.3)) return; // that entry is lost
    const { proxy, startMs } = this.process;
    const sizes = { requestBytes: 100, responseBytes: 2000 };
    this.store.observe({ proxy, lifeMs: startMs ?? 0, labelKey, requests: 1, durationMs, ...sizes });
  }

  private flush(isLost: boolean): void {
    if (!this.ways.includes("metrics") && !this.ways.includes("deltas")) return;
    const messages = this.process.flush(this.nowMs, this.sink, this.isNewStream && !isLost);
    if (isLost) {
      this.hasLostFlush = true;
      return;
    }
    this.isNewStream = false;
    for (const message of messages) this.stream?.message(message);
    if (this.stale === null || this.draw() < 0.5) return;
    for (const message of messages) this.stale.message(message); // another sink, or a proxy in between that repeats
  }

  private scrape(): void {
    if (this.ways.includes("scrape")) this.store.report(this.process.scrape());
  }

  private reconnect(): void {
    this.stale?.end("broken_off");
    this.stale = null;
    if (this.draw() < 0.5) this.stream?.end("broken_off");
    else this.stale = this.stream;
    this.connect();
  }

  private restart(): void {
    this.settle(); // what a process tells nobody before it ends is lost, and no matter of ours
    this.stream?.end("completed");
    this.stale?.end("broken_off");
    this.stale = null;
    this.process = this.newProcess();
    this.connect();
  }

  private check(): void {
    const counts = this.counts();
    for (const [labelKey, own] of counts) {
      const before = this.shown.get(labelKey);
      const truth = this.truth.get(labelKey) ?? 0;
      for (let field = 0; field < COUNTS_WIDTH; field++) {
        if ((own[field] as number) < (before?.[field] ?? 0)) throw new Error(`field ${field} went down`);
      }
      expect(own[0]).toBeLessThanOrEqual(truth);
      expect(own[histogramField(HttpMetric.Duration) + HISTOGRAM_COUNT]).toBeLessThanOrEqual(truth);
      this.shown.set(labelKey, own);
    }
  }
}

describe.each(COMBINATIONS.map((ways) => [ways.join(" and "), ways] as const))("%s", (_name, ways) => {
  test(`${HISTORIES} histories: never above the truth, never down, and true at the end (seed ${SEED})`, () => {
    const draw = random(SEED);
    const tellsAll = ways.includes("scrape") || (ways.includes("log") && ways.length === 1);
    for (let i = 0; i < HISTORIES; i++) {
      const history = new History(draw, ways);
      for (let step = 0; step < STEPS; step++) history.step();
      history.settle();
      const { hasLostFlush } = history;
      for (const { requests, durations, truth } of history.readings()) {
        if (tellsAll || ways.includes("metrics") || !hasLostFlush) expect(requests).toBe(truth);
        if (tellsAll || !hasLostFlush) expect(durations).toBe(truth);
      }
    }
  });
});
