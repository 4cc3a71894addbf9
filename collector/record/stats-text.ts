// A proxy's stats in Prometheus' text form, chunk by chunk -> StatsPage.
// https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
//
//   istio_request_bytes_bucket{reporter="source",...,le="5"} 12
//
// Read as bytes: of a histogram's 22 lines, each with some 800 bytes of labels, text is made of the first one's alone. What the others
// share with the line before them is compared, and only their bound and number are read.

import type { HistogramBounds } from "../series/histogram.ts";
import { HTTP_METRICS, HttpMetric, NODE_METRIC, TCP_METRICS } from "../vocabulary.ts";
import { CLUSTER_LABEL, SHOWN_PREFIXES } from "./proxy-stats.ts";
import { type LabelSet, type LabelTexts, labelValue, splitLe } from "./stats-labels.ts";
import {
  GAUGES,
  isCount,
  isSum,
  NODE_PREFIX_IN_NAME,
  nodeInName,
  noteBucket,
  noteCount,
  StatsPage,
  UNTAGGED_PREFIX,
} from "./stats-page.ts";

/** No line of ours is longer: 25 labels of 255 bytes, each byte escaped. */
const MAX_LINE = 16_384;

const NEWLINE = 0x0a;
const SPACE = 0x20;
const QUOTE = 0x22;
const HASH = 0x23;
const ZERO = 0x30;
const OPEN = 0x7b;
const CLOSE = 0x7d;

/** So many digits are an exact number. */
const MAX_DIGITS = 15;

/** What one line tells. Buckets, sums and counts are of HTTP_METRICS; `tcp` is of TCP_METRICS. */
type Part = "requests" | "bucket" | "sum" | "count" | "tcp" | "node" | "gauge";

interface Name {
  readonly part: Part;
  readonly metric: number;
  readonly bytes: Buffer;
}

const NAMES = new Map<string, Name>();
function addName(name: string, part: Part, metric = 0): void {
  NAMES.set(name, { part, metric, bytes: Buffer.from(name) });
}
for (const [metric, { name }] of HTTP_METRICS.entries()) {
  if (metric === HttpMetric.Requests) addName(name, "requests");
  else for (const part of ["bucket", "sum", "count"] as const) addName(`${name}_${part}`, part, metric);
}
for (const [metric, { name }] of TCP_METRICS.entries()) addName(name, "tcp", metric);
addName(NODE_METRIC, "node");
for (const name of GAUGES) addName(name, "gauge");

/** The first bytes that a name of ours may have. Of all others, a line's end is looked for and no more. */
const INITIALS = new Set([...NAMES.keys()].map((name) => name.charCodeAt(0)));

const LE = Buffer.from(',le="');
const UNTAGGED = Buffer.from(UNTAGGED_PREFIX);
const NODE_IN_NAME = Buffer.from(NODE_PREFIX_IN_NAME);
const SHOWN = SHOWN_PREFIXES.map((prefix) => Buffer.from(prefix));
const NOTHING = Buffer.alloc(0);

export class StatsText {
  readonly page: StatsPage;
  /** Bounds as Envoy writes them, in their order. */
  private readonly bounds: readonly Buffer[];

  /** What came of a line whose end has not come, in its chunks. */
  private rest: Buffer = NOTHING;
  /** The chunk that is read, and where such a name comes next in it. Looked for only at lines of other names. */
  private bytes: Buffer = NOTHING;
  private untaggedAt = -1;

  /** The name of the line before; most have the same. */
  private name: Name | null = null;
  /** The labels of the line of ours before, `le` aside: at labelBytes[labelFrom, labelTo). */
  private labelBytes: Buffer = NOTHING;
  private labelFrom = 0;
  private labelTo = 0;
  private labels: LabelSet | null = null;
  /** The bucket after the one before. */
  private nextBound = 0;

  /** `domain`: as StatsPage's. */
  constructor(
    private readonly texts: LabelTexts,
    bounds: HistogramBounds,
    domain: string | null = null,
  ) {
    this.page = new StatsPage(bounds, domain);
    this.bounds = [...bounds.upper.map(String), "+Inf"].map((text) => Buffer.from(text));
  }

  /** The chunk must not be changed afterwards. */
  write(chunk: Buffer): void {
    if (this.rest.length === 0) {
      this.hold(chunk.subarray(this.readLines(chunk, 0)));
      return;
    }
    const begun = chunk.indexOf(NEWLINE) + 1; // the end of the line that was begun
    this.hold(Buffer.concat([this.rest, begun === 0 ? chunk : chunk.subarray(0, begun)]));
    if (begun === 0) return;
    this.readLines(this.rest, 0);
    this.hold(chunk.subarray(this.readLines(chunk, begun)));
  }

  /** No more will come. True: what breaks off, or is no text, cannot be told from lines that are no samples. */
  end(): boolean {
    if (this.rest.length > 0) this.readLines(Buffer.concat([this.rest, Buffer.from("\n")]), 0);
    this.rest = NOTHING;
    return true;
  }

  private hold(rest: Buffer): void {
    this.rest = rest;
    if (rest.length <= MAX_LINE) return;
    // No line of ours, and not worth holding. What is left of it will not look like one of ours either.
    this.page.malformed++;
    this.rest = NOTHING;
  }

  /** Reads all whole lines from `at` on; where the first begins that is not whole. */
  private readLines(bytes: Buffer, at: number): number {
    this.bytes = bytes;
    this.untaggedAt = -1;
    let from = at;
    for (let end = bytes.indexOf(NEWLINE, from); end >= 0; end = bytes.indexOf(NEWLINE, from)) {
      this.readLine(from, end);
      from = end + 1;
    }
    return from;
  }

  private readLine(at: number, end: number): void {
    const { bytes } = this;
    let { name } = this;
    // fast: the name of the line before
    if (name === null || bytes[at + name.bytes.length] !== OPEN || !hasAt(bytes, at, name.bytes)) {
      const first = bytes[at] as number;
      if (first === HASH || at === end) return;
      name = INITIALS.has(first) ? this.findName(at, end) : null;
      if (name === null) {
        this.readOther(at, end);
        return;
      }
      this.name = name;
    }
    const nameEnd = at + name.bytes.length;
    const isLabelled = bytes[nameEnd] === OPEN;
    const close = isLabelled ? lastOf(bytes, CLOSE, nameEnd, end) : nameEnd - 1;
    const value = close < nameEnd && isLabelled ? null : readValue(bytes, close + 1, end, name.part === "sum");
    if (value === null || (!isLabelled && name.part !== "gauge")) this.page.malformed++;
    else this.note(name, isLabelled ? nameEnd + 1 : nameEnd, Math.max(close, nameEnd), value);
  }

  /** `at` is where the name of a line begins. */
  private findName(at: number, end: number): Name | null {
    const { bytes } = this;
    let stop = at;
    while (stop < end && bytes[stop] !== OPEN && bytes[stop] !== SPACE) stop++;
    return NAMES.get(bytes.toString("latin1", at, stop)) ?? null;
  }

  /** The labels are bytes[from, to). */
  private note({ part, metric, bytes: name }: Name, from: number, to: number, value: number): void {
    const { page, bytes } = this;
    if (part === "bucket") this.noteBucket(metric, from, to, value);
    else if (part === "tcp") this.noteTcp(metric, from, to, value);
    else if (part === "node") page.noteNode(labelValue(bytes.toString("latin1", from, to), "tag") ?? "");
    else if (part === "gauge") page.noteGauge(name.toString("latin1"), value);
    else this.noteHttp(part, metric, from, to, value);
  }

  private noteHttp(
    part: "requests" | "sum" | "count",
    metric: HttpMetric,
    from: number,
    to: number,
    value: number,
  ): void {
    const { page } = this;
    const group = page.groupOf(this.labelsAt(from, to));
    if (!group) return;
    if (part === "requests") group.requests = value;
    else if (part === "sum") page.histogramOf(group, metric).sum = value;
    else noteCount(page.histogramOf(group, metric), value);
  }

  private noteTcp(metric: number, from: number, to: number, value: number): void {
    const sample = this.page.tcpSampleOf(this.labelsAt(from, to));
    if (sample) sample.counts[metric] = value;
  }

  private noteBucket(metric: HttpMetric, from: number, to: number, value: number): void {
    const { bytes } = this;
    // fast: `le` is the last label, as Envoy writes it. An unescaped quote cannot stand inside a value.
    const quote = lastOf(bytes, QUOTE, from, to - 1);
    const cut = quote + 1 - LE.length;
    if (bytes[to - 1] === QUOTE && cut >= from && hasAt(bytes, cut, LE)) {
      const group = this.page.groupOf(this.labelsAt(from, cut));
      const bound = this.boundAt(quote + 1, to - 1);
      if (group && bound !== undefined) noteBucket(this.page.histogramOf(group, metric), bound, value);
      return;
    }
    const split = splitLe(bytes.toString("latin1", from, to));
    if (split === null) {
      this.page.malformed++;
      return;
    }
    const group = this.page.groupOf(this.texts.find(split.rest));
    const bound = this.page.bounds.indexOf(Number(split.le));
    if (group && bound !== undefined) noteBucket(this.page.histogramOf(group, metric), bound, value);
  }

  /** Undefined for a bound that we do not have. */
  private boundAt(from: number, to: number): number | undefined {
    const { bytes, bounds } = this;
    const next = bounds[this.nextBound] as Buffer;
    if (to - from === next.length && hasAt(bytes, from, next)) {
      const bound = this.nextBound; // fast
      this.nextBound = (bound + 1) % bounds.length;
      return bound;
    }
    const bound = this.page.bounds.indexOf(Number(bytes.toString("latin1", from, to)));
    this.nextBound = ((bound ?? 0) + 1) % bounds.length;
    return bound;
  }

  private labelsAt(from: number, to: number): LabelSet {
    const { bytes, labelBytes, labelFrom, labelTo } = this;
    const isSame =
      this.labels !== null &&
      to - from === labelTo - labelFrom &&
      bytes.compare(labelBytes, labelFrom, labelTo, from, to) === 0;
    const labels = isSame && this.labels ? this.labels : this.texts.find(bytes.toString("latin1", from, to));
    this.labelBytes = bytes;
    this.labelFrom = from;
    this.labelTo = to;
    this.labels = labels;
    return labels;
  }

  /** A line with a name that is none of ours, or has more in it. */
  private readOther(at: number, end: number): void {
    const { bytes } = this;
    if (hasAt(bytes, at, NODE_IN_NAME)) this.readNodeInName(at, end);
    else if (this.page.proxyValues !== null && SHOWN.some((prefix) => hasAt(bytes, at, prefix)))
      this.readProxyStat(at, end);
    else this.readUntagged(at, end);
  }

  private readNodeInName(at: number, end: number): void {
    const hex = nodeInName(this.nameAt(at, end));
    if (hex !== null) this.page.noteNode(hex);
  }

  private readProxyStat(at: number, end: number): void {
    const { bytes } = this;
    const name = this.nameAt(at, end);
    const close = lastOf(bytes, CLOSE, at, end);
    const value = readValue(bytes, Math.max(close + 1, at + name.length), end, true);
    const labels = close < 0 ? "" : bytes.toString("utf8", at + name.length + 1, close);
    if (value === null) this.page.malformed++;
    else this.page.noteProxyStat(name, labelValue(labels, CLUSTER_LABEL) ?? "", value);
  }

  private readUntagged(at: number, end: number): void {
    if (this.untaggedAt < at) {
      const found = this.bytes.indexOf(UNTAGGED, at);
      this.untaggedAt = found < 0 ? this.bytes.length : found;
    }
    if (this.untaggedAt < end) this.page.noteUntagged(this.nameAt(at, end)); // slow: hardly any line
  }

  private nameAt(at: number, end: number): string {
    const [name = ""] = this.bytes.toString("latin1", at, end).split(/[{ ]/, 1);
    return name;
  }
}

function hasAt(bytes: Buffer, at: number, part: Buffer): boolean {
  for (let index = 0; index < part.length; index++) {
    if (bytes[at + index] !== part[index]) return false;
  }
  return true;
}

/** Where the byte is last in bytes[from, to); -1 where it is not. */
function lastOf(bytes: Buffer, byte: number, from: number, to: number): number {
  for (let at = to - 1; at >= from; at--) {
    if (bytes[at] === byte) return at;
  }
  return -1;
}

/** The number at bytes[from, end), a timestamp after it ignored; null when it is no count, or sum, from 0 to 2^53. */
function readValue(bytes: Buffer, from: number, end: number, isOfSum: boolean): number | null {
  let at = bytes[from] === SPACE ? from + 1 : from;
  const first = at;
  let value = 0;
  for (; at < end; at++) {
    const digit = (bytes[at] as number) - ZERO;
    if (digit < 0 || digit > 9) break;
    value = value * 10 + digit;
  }
  if (at === end && at > first && at - first <= MAX_DIGITS) return value; // fast: a whole number and nothing else
  const [token = ""] = bytes.toString("latin1", from, end).trim().split(" ", 1);
  const number = token === "" ? Number.NaN : Number(token);
  return (isOfSum ? isSum(number) : isCount(number)) ? number : null;
}
