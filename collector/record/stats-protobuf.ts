// A proxy's stats as delimited protobuf, chunk by chunk -> StatsPage. Envoy offers it beside text; its answer is a twelfth as long, for
// a histogram names its labels once, and not in each of 22 lines.
// https://prometheus.io/docs/instrumenting/exposition_formats/#protobuf-format

import { DelimitedReader } from "../proto/delimited.ts";
import { EnvoyHistogram } from "../proto/envoy-histogram.ts";
import { MetricFamilyReader } from "../proto/metric-family.ts";
import { bytesTag, WireReader } from "../proto/wire.ts";
import type { HistogramBounds } from "../series/histogram.ts";
import { HttpMetric, NODE_METRIC } from "../vocabulary.ts";
import { CLUSTER_LABEL, SHOWN_PREFIXES } from "./proxy-stats.ts";
import { LabelPacker, type LabelSet, LabelTexts } from "./stats-labels.ts";
import {
  GAUGES,
  type Group,
  httpMetricOf,
  isCount,
  isSum,
  nodeInName,
  noteBucket,
  noteCount,
  StatsPage,
  tcpMetricOf,
  UNTAGGED_PREFIX,
} from "./stats-page.ts";

const NO_BYTES = Buffer.alloc(0);

/** Fields: a family's metric, and a metric's value. */
const METRIC = bytesTag(4);
const COUNTER = bytesTag(3);
const HISTOGRAM = bytesTag(7);
/** Of a counter: field 1, eight bytes. */
const DOUBLE = 0x09;

/** A label set, and its labels as they stand in the message. */
export interface LabelMessage extends LabelSet {
  readonly bytes: Buffer;
}

/** Labels as they stand in the message -> label set, over readings and targets. */
export class LabelMessages {
  private family = new MetricFamilyReader();
  private readonly texts = new LabelTexts((text) => ({ ...this.pack(), bytes: Buffer.from(text, "latin1") }));

  /** Of the family's current metric. */
  find(family: MetricFamilyReader): LabelMessage {
    this.family = family;
    const { bytes, labelsStart, labelsStop } = family;
    // slow: labels that do not stand together
    if (labelsStart < 0) return { ...this.pack(), bytes: NO_BYTES };
    return this.texts.find(bytes.toString("latin1", labelsStart, labelsStop));
  }

  private pack(): LabelSet {
    const labels = new LabelPacker();
    for (let label = 0; label < this.family.labelCount; label++) {
      labels.add(textOf(this.family, label, 0), textOf(this.family, label, 2));
    }
    return labels.pack();
  }
}

/** Name (part 0) or value (part 2) of a label. */
function textOf({ bytes, labelSpans }: MetricFamilyReader, label: number, part: 0 | 2): string {
  const at = label * 4 + part;
  return bytes.toString("latin1", labelSpans[at], labelSpans[at + 1]);
}

/**
 * The label sets of one target's metrics by their places within a family, from one reading to the next: Envoy keeps to its order, so
 * mostly the labels need not be read, but compared.
 */
export type Places = LabelMessage[];

export class StatsProtobuf {
  readonly page: StatsPage;
  private readonly family = new MetricFamilyReader();
  private readonly families: DelimitedReader;
  private readonly fields = new WireReader();
  private readonly value = new WireReader();
  private readonly histogram: EnvoyHistogram;

  /** `maxBytes`: of one family, which is held until it is whole. `domain`: as StatsPage's. */
  constructor(
    private readonly labels: LabelMessages,
    private readonly places: Places,
    maxBytes: number,
    bounds: HistogramBounds,
    domain: string | null = null,
  ) {
    this.page = new StatsPage(bounds, domain);
    this.histogram = new EnvoyHistogram(bounds.upper);
    this.families = new DelimitedReader(maxBytes, (bytes, start, stop) => this.readFamily(bytes, start, stop));
  }

  /** The chunk must not be changed afterwards. */
  write(chunk: Buffer): void {
    this.families.write(chunk);
  }

  /** No more will come; false when that was within a family, or what came was no protobuf: then nothing of it can be relied on. */
  end(): boolean {
    return this.families.end();
  }

  private readFamily(bytes: Buffer, start: number, stop: number): void {
    const { family } = this;
    if (!family.open(bytes, start, stop)) {
      this.page.malformed++;
      return;
    }
    const name = bytes.toString("latin1", family.nameStart, family.nameStop);
    const http = httpMetricOf(name);
    const tcp = tcpMetricOf(name);
    if (http !== undefined) {
      this.readHttpFamily(bytes, start, stop, http);
      return;
    }
    if (tcp !== undefined) while (family.next()) this.readTcp(tcp);
    else this.readOther(name);
    if (family.isMalformed) this.page.malformed++;
  }

  private readHttpFamily(bytes: Buffer, start: number, stop: number, metric: HttpMetric): void {
    const { fields, family } = this;
    fields.open(bytes, start, stop);
    let place = 0;
    for (let from = fields.position; fields.next(); from = fields.position) {
      if (fields.tag !== METRIC) continue;
      if (!this.readKnown(metric, bytes, fields.start, fields.stop, this.places[place])) {
        // slow: as a family of this one metric
        family.open(bytes, from, fields.stop);
        while (family.next()) this.readHttp(metric, place);
        if (family.isMalformed) this.page.malformed++;
      }
      place++;
    }
  }

  /** fast: a metric with the labels of its place, in the form in which Envoy writes it; false for any other. */
  private readKnown(metric: HttpMetric, bytes: Buffer, start: number, stop: number, known?: LabelMessage): boolean {
    if (known === undefined || known.bytes === NO_BYTES) return false;
    const { value } = this;
    const at = start + known.bytes.length;
    if (at >= stop || bytes[at] !== (metric === HttpMetric.Requests ? COUNTER : HISTOGRAM)) return false;
    if (bytes.compare(known.bytes, 0, known.bytes.length, start, at) !== 0) return false;
    value.open(bytes, at, stop);
    if (!value.next() || value.position !== stop) return false;
    if (metric === HttpMetric.Requests) return this.takeCounter(known, bytes, value.start, stop);
    return this.takeHistogram(known, metric, bytes, value.start, stop);
  }

  private takeCounter(labels: LabelSet, bytes: Buffer, start: number, stop: number): boolean {
    if (stop - start !== 9 || bytes[start] !== DOUBLE) return false;
    const count = bytes.readDoubleLE(start + 1);
    if (!isCount(count)) return false;
    const group = this.page.groupOf(labels);
    if (group) group.requests = count;
    return true;
  }

  private takeHistogram(labels: LabelSet, metric: HttpMetric, bytes: Buffer, start: number, stop: number): boolean {
    const { histogram } = this;
    if (!histogram.read(bytes, start, stop) || !isCount(histogram.count) || !isSum(histogram.sum)) return false;
    if (!histogram.counts.every(isCount)) return false;
    const group = this.page.groupOf(labels);
    if (!group) return true;
    const into = this.page.histogramOf(group, metric);
    into.sum = histogram.sum;
    noteCount(into, histogram.count);
    into.cumulative.set(histogram.counts);
    return true;
  }

  private readHttp(metric: HttpMetric, place: number): void {
    const labels = this.labels.find(this.family);
    this.places[place] = labels;
    const group = this.page.groupOf(labels);
    if (group === null) return;
    if (this.family.kind === "histogram") this.readHistogram(group, metric);
    else if (metric === HttpMetric.Requests && isCount(this.number())) group.requests = this.number();
    else this.page.malformed++;
  }

  private readHistogram(group: Group, metric: HttpMetric): void {
    const { histogram } = this.family;
    const isWhole = isCount(histogram.count) && isSum(histogram.sum);
    if (!isWhole || metric === HttpMetric.Requests) {
      this.page.malformed++;
      return;
    }
    const into = this.page.histogramOf(group, metric);
    into.sum = histogram.sum;
    noteCount(into, histogram.count);
    for (let index = 0; index < histogram.bucketCount; index++) {
      const bound = this.page.bounds.indexOf(histogram.upperBounds[index] as number);
      const count = histogram.cumulativeCounts[index] as number;
      if (!isCount(count)) this.page.malformed++;
      else if (bound !== undefined) noteBucket(into, bound, count);
    }
  }

  private readTcp(metric: number): void {
    const sample = this.page.tcpSampleOf(this.labels.find(this.family));
    if (sample === null) return;
    if (isCount(this.number())) sample.counts[metric] = this.number();
    else this.page.malformed++;
  }

  /** What is not counted by label sets. */
  private readOther(name: string): void {
    const { family, page } = this;
    const hex = nodeInName(name);
    if (hex !== null) page.noteNode(hex);
    else if (name.includes(UNTAGGED_PREFIX)) page.noteUntagged(name);
    else if (name === NODE_METRIC) while (family.next()) page.noteNode(this.labelOf("tag"));
    else if (GAUGES.has(name)) while (family.next()) this.readGauge(name);
    else if (page.proxyValues !== null && SHOWN_PREFIXES.some((prefix) => name.startsWith(prefix))) {
      while (family.next()) page.noteProxyStat(name, utf8Of(this.labelOf(CLUSTER_LABEL)), this.number());
    }
  }

  private readGauge(name: string): void {
    if (isCount(this.number())) this.page.noteGauge(name, this.number());
    else this.page.malformed++;
  }

  /** NaN of a metric that is none with a value alone. */
  private number(): number {
    const { family } = this;
    switch (family.kind) {
      case "counter":
        return family.counter;
      case "gauge":
        return family.gauge;
      case "untyped":
        return family.untyped;
      default:
        return Number.NaN;
    }
  }

  /** "" where there is none of that name. */
  private labelOf(name: string): string {
    for (let label = 0; label < this.family.labelCount; label++) {
      if (textOf(this.family, label, 0) === name) return textOf(this.family, label, 2);
    }
    return "";
  }
}

/** Texts are read as latin1, one character for each byte. */
function utf8Of(text: string): string {
  return Buffer.from(text, "latin1").toString("utf8");
}
