// A proxy as its filter sees it: process lives, what they counted, and what of that their stats show.

import type { ConnectionRecord, StatsReport, StatsSample, TcpSample } from "../../collector/record/record.ts";
import type { Stat } from "../../collector/record/stat-names.ts";
import { HistogramBounds } from "../../collector/series/histogram.ts";
import { type Mark, packLabels, withMark } from "../../collector/series/key.ts";
import { type Shape, shapesOf } from "../../collector/series/shape.ts";
import { HTTP_METRICS, HttpMetric, Label } from "../../collector/vocabulary.ts";
import { key, type LabelValues, values } from "../collector/labels.ts";
import { tcpLabels } from "../fixtures/observation.ts";
import type { Names } from "./history.ts";

export type Table = "http" | "tcp";
export const TABLES: readonly Table[] = ["http", "tcp"];
/** By bounds that are not Envoy's own: nothing depends on those. */
export const SHAPES = shapesOf(new HistogramBounds([0.5, 7.5, 33, 110, 123, 250, 777, 5000, 75000]));
export const SHAPE_OF: Readonly<Record<Table, Shape<never, StatsSample | TcpSample>>> = {
  http: SHAPES[0] as Shape<never, StatsSample | TcpSample>,
  tcp: SHAPES[1] as Shape<never, StatsSample | TcpSample>,
};

/**
 * Of either end, and of callers that nobody knows: what limits keep out goes to an overflow of its own kind, and those of which few labels
 * are kept have several verdicts (kept-labels.ts).
 */
const LABEL_SETS: readonly LabelValues[] = [
  { reporter: "source", source_workload: "a" },
  { reporter: "destination", source_workload: "a", destination_workload: "b" },
  { reporter: "destination", destination_workload: "b" },
  { reporter: "source", source_workload: "b", connection_security_policy: "none" },
  { reporter: "destination", destination_workload: "c" },
];
/** What is kept where not all are. */
export const KEPT: readonly Label[] = [Label.ConnectionSecurityPolicy];
export const HTTP_KEYS = LABEL_SETS.map((labels) => key(labels));
const tcpKey = (labels: LabelValues) => packLabels(tcpLabels(values(labels)));
export const TCP_KEYS = LABEL_SETS.slice(0, 4).map(tcpKey);
export const LATE_KEY = tcpKey({ reporter: "source", source_workload: "late" });

/** What happened in one process life under one label set, and what of it somebody was told. */
export class Told {
  /** Never set back. */
  readonly truth: Float64Array;
  /** What the filter's counters say: set back with their VM. */
  readonly counters: Float64Array;
  /** The same, as the last flush of histograms left it. */
  readonly flushed: Float64Array;
  /** Generation of each metric: how often it was set back. */
  readonly generations: number[];
  /** What each metric had come to when its generations ended. */
  readonly ends: Float64Array[][];
  /** How much has happened, and how much of that the last flush shows. */
  version = 0;
  flushedVersion = 0;
  entries = 0;
  /** Flushes that were streamed; and what the last one of them had come to, since it was set back last. */
  flushes = 0;
  readonly streamed: Float64Array;

  constructor(
    readonly table: Table,
    readonly labelKey: string,
  ) {
    const { width, metrics } = SHAPE_OF[table];
    this.truth = new Float64Array(width);
    this.counters = new Float64Array(width);
    this.flushed = new Float64Array(width);
    this.streamed = new Float64Array(width);
    this.generations = metrics.map(() => 0);
    this.ends = metrics.map(() => []);
  }

  count(gained: ArrayLike<number>): void {
    for (let field = 0; field < this.truth.length; field++) {
      this.truth[field] = (this.truth[field] as number) + (gained[field] as number);
      this.counters[field] = (this.counters[field] as number) + (gained[field] as number);
    }
    this.version++;
  }

  flush(): void {
    this.flushed.set(this.counters);
    this.flushedVersion = this.version;
  }

  /** Sets counters back to 0; histograms, too, if it is not `counters` alone. */
  setBack(what: "all" | "counters"): void {
    for (const [metric, { from, to }] of SHAPE_OF[this.table].metrics.entries()) {
      const isCounter = this.table === "tcp" || metric === HttpMetric.Requests;
      if (what === "counters" && !isCounter) continue;
      this.ends[metric]?.push(this.counters.slice(from, to));
      this.generations[metric] = (this.generations[metric] as number) + 1;
      this.counters.fill(0, from, to);
      this.flushed.fill(0, from, to);
      this.streamed.fill(0, from, to);
    }
  }

  /**
   * Of a flush that was done the stats of each metric that was counted: counters as they stand, or what they grew by; histograms as what they grew by. None
   * of a label set that was never counted.
   */
  stream(areDeltas: boolean): { readonly stat: Stat; readonly numbers: readonly number[] }[] {
    const { table, labelKey } = this;
    this.flushes++;
    return SHAPE_OF[table].metrics.map(({ from, to }, metric) => {
      const isDelta = areDeltas || to - from > 1;
      const now = to - from > 1 ? this.flushed : this.counters;
      const numbers = Array.from(
        now.subarray(from, to),
        (count, at) => count - (isDelta ? (this.streamed[from + at] as number) : 0),
      );
      this.streamed.set(now.subarray(from, to), from);
      const index = table === "tcp" ? HTTP_METRICS.length + metric : metric;
      return { stat: { metric: index, labelKey, id: labelKey }, numbers };
    });
  }

  /** What stats show of the label set; null when they do not show it. */
  sample(): StatsSample | TcpSample | null {
    const { table, counters, flushed } = this;
    if (counters[0] === 0 && flushed.every((count) => count === 0)) return null;
    const sample = SHAPE_OF[table].emptySample(this.labelKey);
    const shown = table === "tcp" ? counters : flushed.slice();
    shown[0] = counters[0] as number;
    SHAPE_OF[table].write(sample as never, shown);
    if ("histograms" in sample && flushed.every((count) => count === 0)) sample.histograms.fill(null);
    return sample;
  }
}

export class Connection {
  readonly parts: { readonly labelKey: string; readonly counts: number[] }[];
  isOver = false;
  version = 0;

  constructor(
    readonly id: number,
    labelKey: string,
  ) {
    this.parts = [{ labelKey, counts: [0, 0, 0, 0] }];
  }

  record(proxy: string, startMs: number, stampMs: number, names: Names, mark: Mark | null): ConnectionRecord {
    return {
      proxy,
      lifeMs: names === "life" ? stampMs : 0,
      connectionId: names === "life" ? this.id : 0,
      streamId: names === "nothing" ? "" : `${proxy}/${startMs}/${this.id}`,
      isOver: this.isOver,
      parts: this.parts.map(({ labelKey, counts }) => ({
        labelKey: names === "life" ? labelKey : withMark(labelKey, mark),
        counts: [...counts],
      })),
    };
  }
}

export class ProcessLife {
  readonly told = { http: new Map<string, Told>(), tcp: new Map<string, Told>() };
  readonly open: Connection[] = [];
  readonly connections: Connection[] = [];

  constructor(
    readonly proxy: string,
    readonly startMs: number,
  ) {}

  of(table: Table, labelKey: string): Told {
    let told = this.told[table].get(labelKey);
    if (!told) {
      told = new Told(table, labelKey);
      this.told[table].set(labelKey, told);
    }
    return told;
  }

  all(): Told[] {
    return TABLES.flatMap((table) => [...this.told[table].values()]);
  }

  report(): StatsReport {
    const samples = (table: Table) =>
      [...this.told[table].values()].map((told) => told.sample()).filter((sample) => sample !== null);
    return {
      proxy: this.proxy,
      lifeMs: this.startMs,
      samples: samples("http") as StatsSample[],
      tcpSamples: samples("tcp") as TcpSample[],
    };
  }
}
