// Metric families that a proxy's metrics service streams -> what they tell of our own series, flush by flush.
// https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/metrics/v3/metrics_service.proto
//
// All that one flush of Envoy's sends has one time, in one message or in several (`batch_size`), counters before gauges before
// histograms. Gauges say which process life it is of. Histograms tell of the time since the flush before, whatever counters do.

import type { MetricFamilyReader } from "../proto/metric-family.ts";
import type { MetricHistogram } from "../proto/metric-histogram.ts";
import type { HistogramBounds } from "../series/histogram.ts";
import { HTTP_METRICS, HttpMetric } from "../vocabulary.ts";
import { type Stat, StatNames } from "./stat-names.ts";

/** The count of a bucket that was not read. */
const NOT_TOLD = -1;

/** Counts beyond this are no exact numbers any more, and no counts. */
const MAX_COUNT = Number.MAX_SAFE_INTEGER;

/** Numbers of a stat in `Flush.numbers`: of a histogram its cumulative buckets at the bounds, its count and its sum; else one. */
export function widthOf({ metric }: Stat, bounds: HistogramBounds): number {
  return isHistogram(metric) ? bounds.count + 2 : 1;
}

function isHistogram(metric: number): boolean {
  return metric > HttpMetric.Requests && metric < HTTP_METRICS.length;
}

/** What came so far of one flush, and was not taken yet. */
export class Flush {
  /** START_TIME_METRIC; 0 while it has not come. */
  startMs = 0;
  /** Whether the process took over the counters of the one before it (`server.hot_restart_epoch`); null while it has not said. */
  isHotRestarted: boolean | null = null;
  /** Whether some of it was taken, or refused. */
  isTaken = false;
  /** Nothing more of it will be taken. */
  isRefused = false;
  readonly stats: Stat[] = [];
  /** Of each of them, one after the other. */
  readonly numbers: number[] = [];
  /** Families of the wire format's own faults, and with numbers that are none. */
  malformed = 0;
  /** Metrics of our families that have none of our labels: another writer's. */
  foreign = 0;
  /** By HttpMetric, the indexes of the bounds that a histogram of it lacks. */
  readonly missingBounds: readonly Set<number>[] = HTTP_METRICS.map(() => new Set());
  /** Counters of any name, and how many of them read 0. */
  counters = 0;
  zeros = 0;

  /** `timeMs`: the time that all of it has; 0 when it says none. */
  constructor(readonly timeMs: number) {}

  /** Lets go of the stats, which were taken. */
  clear(): void {
    this.stats.length = 0;
    this.numbers.length = 0;
  }
}

/** Takes a metric of which nothing is counted. */
export type OtherMetrics = (family: MetricFamilyReader) => void;

/** Reads families into flushes; remembers names over all proxies. */
export class FamilyParser {
  private readonly names = new StatNames();
  /** Scratch, valid within one call. */
  private readonly buckets: Float64Array;

  constructor(private readonly bounds: HistogramBounds) {
    this.buckets = new Float64Array(bounds.count);
  }

  /** Takes all metrics of an opened family; those before a broken one were taken then. Those of Envoy's own go to `others`. */
  take(family: MetricFamilyReader, flush: Flush, others: OtherMetrics | null = null): void {
    while (family.next()) this.takeMetric(family, flush, others);
    if (family.isMalformed) flush.malformed++;
  }

  private takeMetric(family: MetricFamilyReader, flush: Flush, others: OtherMetrics | null): void {
    const { kind, counter, gauge } = family;
    if (kind === "counter") {
      flush.counters++;
      if (counter === 0) flush.zeros++;
    }
    const name = this.names.resolve(family);
    if (name === null) others?.(family);
    else if (name === "foreign") flush.foreign++;
    else if (typeof name === "object") this.takeStat(name, family, flush);
    else if (name === "start_time" && kind === "gauge") flush.startMs = isCount(gauge) ? gauge : 0;
    else if (name === "epoch" && kind === "gauge") flush.isHotRestarted = gauge > 0;
  }

  /** A summary beside a histogram says nothing that could be added up. */
  private takeStat(stat: Stat, { kind, counter, histogram }: MetricFamilyReader, flush: Flush): void {
    const expected = isHistogram(stat.metric) ? "histogram" : "counter";
    if (kind !== expected) return;
    const isRead =
      kind === "counter" ? pushCount(flush.numbers, counter) : this.pushHistogram(flush, stat.metric, histogram);
    if (isRead) flush.stats.push(stat);
    else flush.malformed++;
  }

  /** A bound that it does not have holds at least what the one below it holds, and no more is claimed; one that we do not have is passed over. */
  private pushHistogram(
    { numbers, missingBounds }: Flush,
    metric: number,
    { upperBounds, cumulativeCounts, bucketCount, count, sum }: MetricHistogram,
  ): boolean {
    if (!isCount(count) || !(sum >= 0 && sum <= Number.MAX_VALUE)) return false;
    const { buckets } = this;
    buckets.fill(NOT_TOLD);
    for (let bucket = 0; bucket < bucketCount; bucket++) {
      const index = this.bounds.indexOf(upperBounds[bucket] as number);
      if (index !== undefined && index < buckets.length)
        buckets[index] = Math.min(cumulativeCounts[bucket] as number, count);
    }
    let below = 0;
    for (let index = 0; index < buckets.length; index++) {
      const cumulative = buckets[index] as number;
      if (cumulative > below) below = cumulative;
      else if (cumulative === NOT_TOLD) missingBounds[metric]?.add(index);
      numbers.push(below);
    }
    numbers.push(count, sum);
    return true;
  }
}

function isCount(value: number): boolean {
  return value >= 0 && value <= MAX_COUNT;
}

function pushCount(numbers: number[], value: number): boolean {
  return isCount(value) && numbers.push(value) > 0;
}
