// What a proxy's `/stats/prometheus` says of our own series, read back: text -> StatsReport.
// Format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
//
// Text is read as latin1: one character per byte. Label values then are their UTF-8 bytes, which is just how a packed label
// set holds them (series/key.ts), and nothing is decoded.

import {
  HISTOGRAM_BOUNDS,
  HTTP_METRICS,
  HttpMetric,
  isTcpLabel,
  LABELS,
  MAX_VALUE_BYTES,
  START_TIME_METRIC,
  TCP_METRICS,
} from "../vocabulary.ts";
import type { HistogramSample, StatsReport, StatsSample, TcpSample } from "./record.ts";

/** Cumulative counts beyond this are no exact numbers any more, and no counts. */
const MAX_COUNT = Number.MAX_SAFE_INTEGER;
/** No line of ours is longer: 25 labels of 255 bytes, each byte escaped. */
const MAX_LINE = 16_384;

/** What one line of a family tells. */
type Part = "value" | "bucket" | "sum" | "count";

/** Sample name -> which metric, and what of it: "istio_request_bytes_bucket" -> RequestBytes, "bucket". */
const SAMPLES = new Map<string, { metric: HttpMetric; part: Part }>();
for (const [metric, { name }] of HTTP_METRICS.entries()) {
  if (metric === HttpMetric.Requests) SAMPLES.set(name, { metric, part: "value" });
  else for (const part of ["bucket", "sum", "count"] as const) SAMPLES.set(`${name}_${part}`, { metric, part });
}
const FAMILY_PREFIX = "istio_re";

const TCP_METRIC_OF = new Map<string, number>(TCP_METRICS.map(({ name }, metric) => [name, metric]));
const TCP_FAMILY_PREFIX = "istio_tcp_";

/** What Envoy's gRPC access loggers count, all of them together. */
const LOGGER_PREFIX = "envoy_access_logs_grpc_access_log_";
const LOGS_WRITTEN = `${LOGGER_PREFIX}logs_written`;
const LOGS_DROPPED = `${LOGGER_PREFIX}logs_dropped`;

/** What Envoy makes of both separators, `=.=` and `;.;`, in a metric's name. */
const SEPARATOR_IN_NAME = "___";
/** How the last label that a name bears is told from the metric. */
const UNTAGGED_PREFIX = `${SEPARATOR_IN_NAME}istio_`;
/** Untagged labels told of one scrape. */
const MAX_UNTAGGED = 32;

const INFINITE = HISTOGRAM_BOUNDS.length;
const BOUND_INDEX = new Map<number, number>(HISTOGRAM_BOUNDS.map((bound, index) => [bound, index]));
BOUND_INDEX.set(Number.POSITIVE_INFINITY, INFINITE);

const LABEL_INDEX = new Map<string, number>(LABELS.map((label, index) => [label, index]));

/** The lines of one scrape that share a label text (`le` aside). */
interface Group {
  readonly labelKey: string;
  requests: number;
  readonly histograms: (HistogramLines | null)[];
}

interface HistogramLines {
  /** Cumulative by bound, NaN where the scrape has no line; the last is `+Inf`. */
  readonly cumulative: Float64Array;
  count: number;
  sum: number;
}

/**
 * Label text -> packed label set, over scrapes and targets: the same few label texts come every few seconds. Null for a text
 * which has no label of ours. Bounded: when the young half is full, the old half is forgotten.
 */
export class LabelTexts {
  private young = new Map<string, string | null>();
  private old = new Map<string, string | null>();

  constructor(private readonly limit = 20_000) {}

  labelKey(text: string): string | null {
    let key = this.young.get(text);
    if (key !== undefined) return key;
    key = this.old.get(text);
    if (key === undefined) key = parseLabelKey(text);
    if (this.young.size >= this.limit / 2) {
      this.old = this.young;
      this.young = new Map();
    }
    this.young.set(copyOf(text), key);
    return key;
  }
}

/** Reads one scrape, chunk by chunk, so that a large body neither blocks nor is held. */
export class StatsParser {
  /** Lines that are no sample; each was skipped. */
  malformedLines = 0;
  /** Label texts in our families that have none of our labels: another writer's. */
  foreignLabelSets = 0;
  /**
   * Labels that stand in the name of a metric of ours, since the proxy's `stats_tags` have no expression that takes them out: all of
   * LABELS that do, and the first of those that a configuration added. Such a metric is not read.
   */
  readonly untagged = new Set<string>();

  /** Entries that the proxy's gRPC access loggers took, and that they dropped, by its own count; null where it shows none. */
  logsWritten: number | null = null;
  logsDropped: number | null = null;

  private rest = "";
  /** Where in the text that is read such a name comes next. Looked for only at lines of other names. */
  private untaggedAt = -1;
  private startMs = 0;
  private readonly groups = new Map<string, Group | null>();
  /** The same for lines of TCP metrics, added up already; null for another writer's. */
  private readonly tcpSamples = new Map<string, TcpSample | null>();
  private lastText: string | null = null;
  private lastGroup: Group | null = null;

  constructor(private readonly texts: LabelTexts) {}

  write(chunk: Buffer): void {
    const text = this.rest + chunk.toString("latin1");
    this.untaggedAt = -1;
    let at = 0;
    for (let end = text.indexOf("\n", at); end >= 0; end = text.indexOf("\n", at)) {
      this.readLine(text, at, end);
      at = end + 1;
    }
    this.rest = text.slice(at);
    if (this.rest.length > MAX_LINE) {
      // No line of ours, and not worth holding. What is left of it will not look like one of ours either.
      this.malformedLines++;
      this.rest = "";
    }
  }

  /** The report; the parser is used up. */
  end(proxy: string): StatsReport {
    this.untaggedAt = -1;
    if (this.rest !== "") this.readLine(this.rest, 0, this.rest.length);
    const samples = new Map<string, StatsSample>();
    for (const group of this.groups.values()) {
      if (group) addGroup(samples, group);
    }
    return { proxy, lifeMs: this.startMs, samples: [...samples.values()], tcpSamples: this.sumOfTcp() };
  }

  /** `istio_request_bytes_bucket{reporter="source",...,le="5"} 12`, at text[at, end). */
  private readLine(text: string, at: number, end: number): void {
    if (!text.startsWith(FAMILY_PREFIX, at)) {
      if (text.startsWith(TCP_FAMILY_PREFIX, at)) this.readTcpLine(text, at, end);
      else if (text.startsWith(START_TIME_METRIC, at)) this.readStartTime(text, at, end);
      else if (text.startsWith(LOGGER_PREFIX, at)) this.readLoggerLine(text, at, end);
      else if (!text.startsWith("#", at)) this.noteUntagged(text, at, end);
      return;
    }
    const open = text.indexOf("{", at);
    const close = text.lastIndexOf("}", end);
    if (open < 0 || close < open) {
      this.malformedLines++;
      return;
    }
    const sample = SAMPLES.get(text.slice(at, open));
    if (!sample) return;
    const value = parseValue(text, close + 1, end);
    if (value === null) {
      this.malformedLines++;
    } else if (sample.part === "bucket") {
      this.readBucket(sample.metric, text, open + 1, close, value);
    } else {
      const group = this.groupOf(text.slice(open + 1, close));
      if (!group) return;
      if (sample.part === "value") group.requests = value;
      else histogramOf(group, sample.metric)[sample.part] = value;
    }
  }

  /** `istio_tcp_sent_bytes_total{reporter="source",...} 12`, at text[at, end). */
  private readTcpLine(text: string, at: number, end: number): void {
    const open = text.indexOf("{", at);
    const close = text.lastIndexOf("}", end);
    const isSample = open >= 0 && close > open;
    const metric = isSample ? TCP_METRIC_OF.get(text.slice(at, open)) : undefined;
    const value = isSample ? parseValue(text, close + 1, end) : null;
    if (!isSample || (metric !== undefined && value === null)) this.malformedLines++;
    if (metric === undefined || value === null) return;
    const sample = this.tcpSampleOf(text.slice(open + 1, close));
    if (sample) sample.counts[metric] = value;
  }

  private tcpSampleOf(labelText: string): TcpSample | null {
    let sample = this.tcpSamples.get(labelText);
    if (sample === undefined) {
      const labelKey = this.texts.labelKey(labelText);
      if (labelKey === null) this.foreignLabelSets++;
      sample = labelKey === null ? null : { labelKey: tcpLabelKey(labelKey), counts: TCP_METRICS.map(() => -1) };
      this.tcpSamples.set(copyOf(labelText), sample);
    }
    return sample;
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

  /** The labels are text[from, to). */
  private readBucket(metric: HttpMetric, text: string, from: number, to: number, value: number): void {
    const cut = text.lastIndexOf(',le="', to);
    // fast: `le` is the last label, as Envoy writes it. An unescaped quote cannot stand inside a value.
    if (cut >= from && text.indexOf('"', cut + 5) === to - 1) {
      this.noteBucket(metric, text.slice(cut + 5, to - 1), this.groupOf(text.slice(from, cut)), value);
      return;
    }
    const split = splitLe(text.slice(from, to));
    if (split) this.noteBucket(metric, split.le, this.groupOf(split.rest), value);
    else this.malformedLines++;
  }

  /** A bound that we do not have is passed over. */
  private noteBucket(metric: HttpMetric, le: string, group: Group | null, value: number): void {
    const index = BOUND_INDEX.get(Number(le));
    if (index !== undefined && group) histogramOf(group, metric).cumulative[index] = value;
  }

  private groupOf(labelText: string): Group | null {
    // fast: the lines of one histogram follow each other, and comparing two texts is cheaper than hashing one
    if (labelText === this.lastText) return this.lastGroup;
    let group = this.groups.get(labelText);
    if (group === undefined) {
      const labelKey = this.texts.labelKey(labelText);
      if (labelKey === null) this.foreignLabelSets++;
      group = labelKey === null ? null : { labelKey, requests: -1, histograms: HTTP_METRICS.map(() => null) };
      this.groups.set(copyOf(labelText), group);
    }
    this.lastText = labelText;
    this.lastGroup = group;
    return group;
  }

  /** `source_app___web___istio_requests_total{reporter="source",...} 12`, at text[at, end); seen on Envoy 1.40.0. */
  private noteUntagged(text: string, at: number, end: number): void {
    if (this.untaggedAt < at) {
      const found = text.indexOf(UNTAGGED_PREFIX, at);
      this.untaggedAt = found < 0 ? text.length : found;
    }
    if (this.untaggedAt >= end) return; // fast: nothing like that in this line
    const [name = ""] = text.slice(at, end).split("{", 1);
    const family = name.slice(name.lastIndexOf(UNTAGGED_PREFIX) + SEPARATOR_IN_NAME.length);
    const part = TCP_METRIC_OF.has(family) ? "value" : SAMPLES.get(family)?.part;
    if (part !== "value" && part !== "count") return; // one line of a family is enough
    const first = name.indexOf(SEPARATOR_IN_NAME);
    if (first <= 0 || this.untagged.size >= MAX_UNTAGGED) return;
    this.untagged.add(name.slice(0, Math.min(first, MAX_VALUE_BYTES)));
    for (const label of LABELS) {
      if (name.includes(SEPARATOR_IN_NAME + label + SEPARATOR_IN_NAME)) this.untagged.add(label);
    }
  }

  /** `envoy_access_logs_grpc_access_log_logs_written{} 12`, at text[at, end); seen on Envoy 1.40.0. */
  private readLoggerLine(text: string, at: number, end: number): void {
    const open = text.indexOf("{", at);
    const close = text.lastIndexOf("}", end);
    const value = open >= 0 && close > open ? parseValue(text, close + 1, end) : null;
    const name = text.slice(at, open);
    if (value === null) this.malformedLines++;
    else if (name === LOGS_WRITTEN) this.logsWritten = value;
    else if (name === LOGS_DROPPED) this.logsDropped = value;
  }

  /** `meshtally_filter_start_time_milliseconds{} 1785000000123` */
  private readStartTime(text: string, at: number, end: number): void {
    const nameEnd = at + START_TIME_METRIC.length;
    const close = text.lastIndexOf("}", end);
    const value = parseValue(text, Math.max(nameEnd, close + 1), end);
    if (value === null) this.malformedLines++;
    else this.startMs = value;
  }
}

/** The text without the chunk of the body that it is a slice of, which would stay in memory with it. */
function copyOf(text: string): string {
  return Buffer.from(text, "latin1").toString("latin1");
}

/** The number at text[from, end), a timestamp after it ignored; null when it is no finite number from 0 to 2^53. */
function parseValue(text: string, from: number, end: number): number | null {
  const token = text.slice(from, end).trim();
  const space = token.indexOf(" ");
  const value = token === "" ? Number.NaN : Number(space < 0 ? token : token.slice(0, space));
  return value >= 0 && value <= MAX_COUNT ? value : null;
}

function histogramOf(group: Group, metric: HttpMetric): HistogramLines {
  let histogram = group.histograms[metric];
  if (!histogram) {
    histogram = { cumulative: new Float64Array(INFINITE + 1).fill(Number.NaN), count: 0, sum: 0 };
    group.histograms[metric] = histogram;
  }
  return histogram;
}

/** -1 stands for a count that there is not. */
function addCounts(sum: number[], counts: readonly number[]): void {
  for (const [metric, count] of counts.entries()) {
    if (count >= 0) sum[metric] = Math.max(sum[metric] as number, 0) + count;
  }
}

/** The label set without the values of labels that TCP metrics do not carry: a configuration may add labels of those names. */
function tcpLabelKey(labelKey: string): string {
  let key = "";
  let at = 0;
  for (const label of LABELS.keys()) {
    const end = at + 1 + labelKey.charCodeAt(at);
    key += isTcpLabel(label) ? labelKey.slice(at, end) : "\0";
    at = end;
  }
  return key;
}

/** Label texts that differ only in labels which are not ours name the same label set: their counts add up. */
function addGroup(samples: Map<string, StatsSample>, group: Group): void {
  let sample = samples.get(group.labelKey);
  if (!sample) {
    sample = { labelKey: group.labelKey, requests: -1, histograms: HTTP_METRICS.map(() => null) };
    samples.set(group.labelKey, sample);
  }
  if (group.requests >= 0) sample.requests = Math.max(sample.requests, 0) + group.requests;
  for (const [metric, lines] of group.histograms.entries()) {
    if (!lines) continue;
    const histogram = sample.histograms[metric] ?? { cumulative: new Float64Array(INFINITE), count: 0, sum: 0 };
    addHistogram(histogram, lines);
    sample.histograms[metric] = histogram;
  }
}

/** A bound for which the scrape has no line holds at least what the one below it holds, and no more is claimed. */
function addHistogram(histogram: HistogramSample, lines: HistogramLines): void {
  let below = 0;
  for (let index = 0; index < INFINITE; index++) {
    const seen = lines.cumulative[index] as number;
    if (seen > below) below = seen;
    histogram.cumulative[index] = (histogram.cumulative[index] as number) + below;
  }
  const infinite = lines.cumulative[INFINITE] as number;
  histogram.count += Math.max(below, lines.count, Number.isNaN(infinite) ? 0 : infinite);
  histogram.sum += lines.sum;
}

/** Each label of `a="1",b="2"`: its name, its value with the escapes resolved, and where it starts and ends. */
function* eachLabel(text: string): Generator<{ name: string; value: string; from: number; to: number } | null> {
  let at = 0;
  while (at < text.length) {
    const from = at;
    const equals = text.indexOf('="', at);
    if (equals < 0) return yield null;
    const name = text.slice(at, equals);
    at = equals + 2;
    let value = "";
    let copied = at;
    for (; text[at] !== '"'; at++) {
      if (at >= text.length) return yield null;
      if (text[at] !== "\\") continue;
      value += text.slice(copied, at) + (text[at + 1] === "n" ? "\n" : (text[at + 1] ?? ""));
      at++;
      copied = at + 1;
    }
    value += text.slice(copied, at);
    at++;
    yield { name, value, from, to: at };
    if (at < text.length && text[at] !== ",") return yield null;
    at++;
  }
}

/**
 * Packed label set of `reporter="source",source_workload="web",...`. A label of ours that is missing was removed by the configuration:
 * its value is empty. Null when all are missing, or one is too long.
 */
function parseLabelKey(text: string): string | null {
  const values: string[] = new Array(LABELS.length).fill("");
  let isOurs = false;
  for (const label of eachLabel(text)) {
    if (!label) return null;
    const index = LABEL_INDEX.get(label.name);
    if (index === undefined) continue;
    values[index] = label.value;
    isOurs = true;
  }
  if (!isOurs) return null;
  let key = "";
  for (const value of values) {
    if (value.length > MAX_VALUE_BYTES) return null;
    key += String.fromCharCode(value.length) + value;
  }
  return key;
}

/** slow: `le` somewhere else than at the end. Its value, and the text without it. */
function splitLe(text: string): { le: string; rest: string } | null {
  for (const label of eachLabel(text)) {
    if (!label) return null;
    if (label.name !== "le") continue;
    const before = text.slice(0, label.from);
    const after = text.slice(label.to + 1); // past the comma
    return { le: label.value, rest: after === "" ? before.replace(/,$/, "") : before + after };
  }
  return null;
}
