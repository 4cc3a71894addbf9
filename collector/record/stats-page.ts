// One reading of a proxy's stats, in whatever form it comes: what it says of our own series -> StatsReport, and of the proxy itself.

import type { HistogramBounds } from "../series/histogram.ts";
import { emptyHistogram } from "../series/shape.ts";
import {
  BUILD_PREFIX,
  HTTP_METRICS,
  type HttpMetric,
  LABELS,
  MAX_NODE_ID_BYTES,
  MAX_VALUE_BYTES,
  NODE_METRIC,
  START_TIME_METRIC,
  TCP_METRICS,
} from "../vocabulary.ts";
import { type ProxyValue, readScrapedStat } from "./proxy-stats.ts";
import type { HistogramSample, StatsReport, StatsSample, TcpSample } from "./record.ts";
import type { LabelSet } from "./stats-labels.ts";

/** What Envoy's gRPC access loggers count, all of them together. */
const LOGS_WRITTEN = "envoy_access_logs_grpc_access_log_logs_written";
const LOGS_DROPPED = "envoy_access_logs_grpc_access_log_logs_dropped";
/** How often the process took over from one before it, by a hot restart; seen on Envoy 1.40.0. */
const HOT_RESTART_EPOCH = "envoy_server_hot_restart_epoch";
/** What `StatsPage.noteGauge` takes. */
export const GAUGES: ReadonlySet<string> = new Set([START_TIME_METRIC, LOGS_WRITTEN, LOGS_DROPPED, HOT_RESTART_EPOCH]);

/** What Envoy makes of both separators, `=.=` and `;.;`, in a metric's name. */
const SEPARATOR_IN_NAME = "___";
/** How the last label that a name bears is told from the metric. */
export const UNTAGGED_PREFIX = `${SEPARATOR_IN_NAME}istio_`;
/** Untagged labels told of one reading. */
const MAX_UNTAGGED = 32;

/** How the name of NODE_METRIC begins where no expression took the node out of it. */
export const NODE_PREFIX_IN_NAME = BUILD_PREFIX.replaceAll(".", "_");
const NODE_SUFFIX_IN_NAME = `__${NODE_METRIC}`;

/** The count of a bucket that was not read. */
const NOT_TOLD = -1;

const TCP_METRIC_OF = new Map<string, number>(TCP_METRICS.map(({ name }, metric) => [name, metric]));
const HTTP_METRIC_OF = new Map<string, HttpMetric>(HTTP_METRICS.map(({ name }, metric) => [name, metric]));

/** Which of the HTTP or TCP metrics a family is; undefined for any other. */
export function httpMetricOf(family: string): HttpMetric | undefined {
  return HTTP_METRIC_OF.get(family);
}
export function tcpMetricOf(family: string): number | undefined {
  return TCP_METRIC_OF.get(family);
}

/** What one label text of HTTP metrics has. */
export interface Group {
  readonly labelKey: string;
  requests: number;
  /** As in StatsSample, but cumulative counts as they were read: negative where there was none. */
  readonly histograms: (HistogramSample | null)[];
}

export class StatsPage {
  /** What is no sample; each was skipped. */
  malformed = 0;
  /** Label texts in our families that have none of our labels: another writer's. */
  foreignLabelSets = 0;
  /**
   * Labels that stand in the name of a metric of ours, since the proxy's `stats_tags` have no expression that takes them out: all of
   * LABELS that do, and the first of those that a configuration added. Such a metric is not read.
   */
  readonly untagged = new Set<string>();
  /** By HttpMetric, the indexes of the bounds that a histogram of it lacks; known once there is a report. */
  readonly missingBounds: readonly Set<number>[] = HTTP_METRICS.map(() => new Set());
  /** Entries that the proxy's gRPC access loggers took, and that they dropped, by its own count; null for none. */
  logsWritten: number | null = null;
  logsDropped: number | null = null;
  /** Null where it is not shown. */
  restartEpoch: number | null = null;
  /** Node id by NODE_METRIC; null where there is none. */
  nodeId: string | null = null;
  /** START_TIME_METRIC; 0 where there is none. */
  lifeMs = 0;
  /** Whether it has two nodes or start times: then nobody can say whose the counts are. */
  isContradictory = false;

  /** What it says of Envoy's own stats; null where nobody asks for them. */
  readonly proxyValues: ProxyValue[] | null;

  private readonly groups = new Map<LabelSet, Group | null>();
  /** The same of TCP metrics, added up already. */
  private readonly tcpSamples = new Map<LabelSet, TcpSample | null>();

  /**
   * `bounds`: those of the histograms that are read. `domain`: of the Kubernetes cluster, for the names of Envoy's own clusters; null where
   * nobody asks for its own stats.
   */
  constructor(
    readonly bounds: HistogramBounds,
    private readonly domain: string | null = null,
  ) {
    this.proxyValues = domain === null ? null : [];
  }

  /** A sample of Envoy's own stats. */
  noteProxyStat(name: string, cluster: string, value: number): void {
    if (this.proxyValues === null || this.domain === null) return;
    const told = readScrapedStat(name, cluster, value, this.domain);
    if (told !== null) this.proxyValues.push(told);
  }

  /** Where the counts of that label set go; null for another writer's. */
  groupOf(labels: LabelSet): Group | null {
    let group = this.groups.get(labels);
    if (group === undefined) {
      const labelKey = labels.key;
      if (labelKey === null) this.foreignLabelSets++;
      group = labelKey === null ? null : { labelKey, requests: -1, histograms: HTTP_METRICS.map(() => null) };
      this.groups.set(labels, group);
    }
    return group;
  }

  tcpSampleOf(labels: LabelSet): TcpSample | null {
    let sample = this.tcpSamples.get(labels);
    if (sample === undefined) {
      const labelKey = labels.tcpKey;
      if (labelKey === null) this.foreignLabelSets++;
      sample = labelKey === null ? null : { labelKey, counts: TCP_METRICS.map(() => -1) };
      this.tcpSamples.set(labels, sample);
    }
    return sample;
  }

  histogramOf(group: Group, metric: HttpMetric): HistogramSample {
    let histogram = group.histograms[metric];
    if (!histogram) {
      histogram = emptyHistogram(this.bounds);
      histogram.cumulative.fill(NOT_TOLD);
      group.histograms[metric] = histogram;
    }
    return histogram;
  }

  private noteStartTime(lifeMs: number): void {
    this.isContradictory ||= this.lifeMs !== 0 && this.lifeMs !== lifeMs;
    this.lifeMs = lifeMs;
  }

  /** The node id in hexadecimal; what is none is malformed. */
  noteNode(hex: string): void {
    const isHex = hex.length > 0 && hex.length <= 2 * MAX_NODE_ID_BYTES && /^([0-9a-f]{2})+$/.test(hex);
    if (!isHex) {
      this.malformed++;
      return;
    }
    const nodeId = Buffer.from(hex, "hex").toString("utf8");
    this.isContradictory ||= this.nodeId !== null && this.nodeId !== nodeId;
    this.nodeId = nodeId;
  }

  /** What the proxy says of itself; `name`: one of GAUGES. */
  noteGauge(name: string, value: number): void {
    if (name === LOGS_WRITTEN) this.logsWritten = value > 0 ? value : null;
    else if (name === LOGS_DROPPED) this.logsDropped = value > 0 ? value : null;
    else if (name === HOT_RESTART_EPOCH) this.restartEpoch = value;
    else this.noteStartTime(value);
  }

  /** A sample's name that holds labels: `source_app___web___istio_requests_total`; seen on Envoy 1.40.0. */
  noteUntagged(name: string): void {
    const family = name.slice(name.lastIndexOf(UNTAGGED_PREFIX) + SEPARATOR_IN_NAME.length);
    if (!TCP_METRIC_OF.has(family) && !HTTP_METRIC_OF.has(family.replace(/_count$/, ""))) return; // one sample of a family is enough
    const first = name.indexOf(SEPARATOR_IN_NAME);
    if (first <= 0 || this.untagged.size >= MAX_UNTAGGED) return;
    this.untagged.add(name.slice(0, Math.min(first, MAX_VALUE_BYTES)));
    for (const label of LABELS) {
      if (name.includes(SEPARATOR_IN_NAME + label + SEPARATOR_IN_NAME)) this.untagged.add(label);
    }
  }

  /** All that was read, under the name of who it is of. The page is used up. */
  report(proxy: string): StatsReport {
    const samples = new Map<string, StatsSample>();
    for (const group of this.groups.values()) {
      if (group) this.addGroup(samples, group);
    }
    return { proxy, lifeMs: this.lifeMs, samples: [...samples.values()], tcpSamples: this.sumOfTcp() };
  }

  /** Label texts that differ only in labels which are not ours name the same label set: their counts add up. */
  private addGroup(samples: Map<string, StatsSample>, group: Group): void {
    for (const [metric, histogram] of group.histograms.entries()) {
      if (histogram) complete(histogram, this.missingBounds[metric] as Set<number>);
    }
    const sample = samples.get(group.labelKey);
    if (sample === undefined) {
      samples.set(group.labelKey, group); // fast: all of it
      return;
    }
    if (group.requests >= 0) sample.requests = Math.max(sample.requests, 0) + group.requests;
    for (const [metric, histogram] of group.histograms.entries()) {
      const sum = sample.histograms[metric];
      if (!histogram) continue;
      if (sum) addHistogram(sum, histogram);
      else sample.histograms[metric] = histogram;
    }
  }

  /** Label texts that differ only in labels which TCP metrics do not carry name the same label set: their counts add up. */
  private sumOfTcp(): TcpSample[] {
    const sums = new Map<string, TcpSample>();
    for (const sample of this.tcpSamples.values()) {
      if (!sample) continue;
      const sum = sums.get(sample.labelKey);
      if (!sum) sums.set(sample.labelKey, sample);
      else addCounts(sum.counts, sample.counts);
    }
    return [...sums.values()];
  }
}

/** The node in hexadecimal of `component_proxy_tag_73…__meshtally_filter_node`; null for any other name. */
export function nodeInName(name: string): string | null {
  if (!name.startsWith(NODE_PREFIX_IN_NAME) || !name.endsWith(NODE_SUFFIX_IN_NAME)) return null;
  return name.slice(NODE_PREFIX_IN_NAME.length, -NODE_SUFFIX_IN_NAME.length);
}

/** Whether it is a whole number from 0 to 2^53: beyond, counts are not exact any more. */
export function isCount(value: number): boolean {
  return value >= 0 && Number.isSafeInteger(value);
}

/** Whether it is a sum of what is never negative. */
export function isSum(value: number): boolean {
  return value >= 0 && value <= Number.MAX_SAFE_INTEGER;
}

/** `bound`: its index. What `+Inf` holds is the count. */
export function noteBucket(histogram: HistogramSample, bound: number, value: number): void {
  if (bound === histogram.cumulative.length) noteCount(histogram, value);
  else histogram.cumulative[bound] = value;
}

export function noteCount(histogram: HistogramSample, count: number): void {
  histogram.count = Math.max(histogram.count, count);
}

/** -1 stands for a count that there is not. */
function addCounts(sum: number[], counts: readonly number[]): void {
  for (const [metric, count] of counts.entries()) {
    if (count >= 0) sum[metric] = Math.max(sum[metric] as number, 0) + count;
  }
}

/** A bound that was not told of holds at least what the one below it holds, and no more is claimed; its index goes to `missing`. */
function complete(histogram: HistogramSample, missing: Set<number>): void {
  const { cumulative } = histogram;
  let below = 0;
  for (let index = 0; index < cumulative.length; index++) {
    const seen = cumulative[index] as number;
    if (seen > below) below = seen;
    else if (seen < 0) missing.add(index);
    cumulative[index] = below;
  }
  noteCount(histogram, below);
}

function addHistogram(sum: HistogramSample, { cumulative, count, sum: added }: HistogramSample): void {
  for (let index = 0; index < cumulative.length; index++) {
    sum.cumulative[index] = (sum.cumulative[index] as number) + (cumulative[index] as number);
  }
  sum.count += count;
  sum.sum += added;
}
