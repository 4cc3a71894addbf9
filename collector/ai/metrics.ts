// AiMetrics: what AI gateways tell of requests, tokens and their times, added up over gateways' instances by service, provider and models.

import { escapeValue } from "../label-value.ts";
import type { Attributes, AttributeValue } from "../proto/otlp-common.ts";
import type { HistogramMetric, HistogramPoint, MetricsRequest } from "../proto/otlp-metrics.ts";
import type { OtlpRejection } from "../self.ts";
import { AI_FAMILIES, type AiFamily, SERVICE_LABEL } from "./families.ts";
import { type Gain, Readings, type SavedStream } from "./readings.ts";

/** Instead of a value that is not told, and of all values once there is no room. */
const UNKNOWN = "unknown";
const OTHER = "other";
/** Longer values are cut: models are named by who asks. */
const MAX_VALUE_LENGTH = 128;

interface Counts {
  /** Cumulative, of the family's bounds and of the rest. */
  readonly cumulative: Float64Array;
  readonly sum: number;
}

interface Series {
  readonly labels: string;
  readonly cumulative: Float64Array;
  sum: number;
  /** Keys of the streams that it adds up; those that were let go of, too. */
  readonly streams: Set<string>;
  /** As they were written last, and as they were saved; null before. */
  written: Counts | null;
  saved: Counts | null;
}

/** A label set and the streams that it adds up, to be saved: of one moment, so that none counts twice and nothing is lost. */
export interface SavedSeries extends Counts {
  /** In OTLP. */
  readonly metric: string;
  readonly labels: string;
  readonly streams: readonly (readonly [key: string, stream: SavedStream])[];
}

export class AiMetrics {
  private readonly readings: Readings;
  private readonly families = new Map(
    AI_FAMILIES.map((family) => [family.metric, { family, series: new Map<string, Series>() }]),
  );
  private seriesCount = 0;
  private overflowCount = 0;

  /** `limit`: most label sets, and most streams of exporters. `isSaved`: what is shown is what was saved. */
  constructor(
    private readonly limit: number,
    nowMs: () => number = () => performance.now(),
    private readonly isSaved = false,
  ) {
    this.readings = new Readings(limit, nowMs);
  }

  /** Label sets held, and data points that went to `other` since there was no room for theirs. */
  get holdings(): { readonly series: number; readonly overflowed: number } {
    return { series: this.seriesCount, overflowed: this.overflowCount };
  }

  /** Takes all data points of a request; how many were rejected, by why. */
  take({ histograms, malformed, others }: MetricsRequest): ReadonlyMap<OtlpRejection, number> {
    const rejections = new Map<OtlpRejection, number>();
    const reject = (reason: OtlpRejection, count: number) => {
      if (count > 0) rejections.set(reason, (rejections.get(reason) ?? 0) + count);
    };
    reject("record_malformed", malformed);
    reject("metric_unknown", others);
    for (const histogram of histograms) {
      const known = this.families.get(histogram.name);
      if (known === undefined) {
        reject("metric_unknown", histogram.points.length);
        continue;
      }
      for (const point of histogram.points) {
        const key = keyOf(histogram, point);
        const taken = this.readings.take(key, histogram.temporality, point);
        if (typeof taken === "string") reject(taken, 1);
        else if (taken !== null) this.add(known, histogram.resource, point.attributes, taken).streams.add(key);
      }
    }
    return rejections;
  }

  /** Prometheus' text, family by family. */
  *render(): Generator<string> {
    for (const { family, series } of this.families.values()) {
      const { name, help, bounds } = family;
      let text = "";
      for (const [labels, { cumulative, sum }] of this.shown(series)) {
        const count = cumulative[bounds.length] as number;
        for (const [i, bound] of bounds.entries()) text += `${name}_bucket{${labels},le="${bound}"} ${cumulative[i]}\n`;
        text += `${name}_bucket{${labels},le="+Inf"} ${count}\n${name}_sum{${labels}} ${sum}\n${name}_count{${labels}} ${count}\n`;
      }
      if (text !== "") yield `# HELP ${name} ${help}\n# TYPE ${name} histogram\n${text}`;
    }
  }

  /** Each label set with its streams as they are when it is asked for. */
  *save(): Generator<SavedSeries> {
    for (const { family, series } of this.families.values()) {
      for (const each of series.values()) {
        const { labels, sum } = each;
        const cumulative = each.cumulative.slice();
        each.written = { cumulative, sum };
        yield { metric: family.metric, labels, cumulative, sum, streams: this.streamsOf(each) };
      }
    }
  }

  /** Starts of streams that were let go of, by their keys; to be asked for behind `save`. */
  get released(): ReadonlyMap<string, bigint> {
    return this.readings.released;
  }

  /** What `save` gave is saved, or cannot be: it is shown from now on. */
  onSaved(): void {
    for (const { series } of this.families.values()) {
      for (const each of series.values()) each.saved = each.written ?? each.saved;
    }
  }

  /** Goes on where a collector before this one ended; to be called before anything is taken. */
  restore({ metric, labels, cumulative, sum, streams }: SavedSeries): void {
    const known = this.families.get(metric);
    if (known === undefined || cumulative.length !== known.family.bounds.length + 1) return; // of another version
    const saved = { cumulative: cumulative.slice(), sum };
    const keys = new Set(streams.map(([key]) => key));
    known.series.set(labels, { labels, cumulative, sum, streams: keys, written: null, saved });
    this.seriesCount++;
    for (const [key, stream] of streams) this.readings.restore(key, stream);
  }

  restoreReleased(key: string, startNs: bigint): void {
    this.readings.restoreGone(key, startNs);
  }

  private *shown(series: ReadonlyMap<string, Series>): Generator<readonly [labels: string, counts: Counts]> {
    for (const each of series.values()) {
      const counts = this.isSaved ? each.saved : each;
      if (counts !== null) yield [each.labels, counts];
    }
  }

  private streamsOf({ streams }: Series): (readonly [key: string, stream: SavedStream])[] {
    const held: (readonly [string, SavedStream])[] = [];
    for (const key of streams) {
      const stream = this.readings.find(key);
      if (stream === null) streams.delete(key);
      else held.push([key, stream]);
    }
    return held;
  }

  private add(
    { family, series }: { readonly family: AiFamily; readonly series: Map<string, Series> },
    resource: Attributes,
    attributes: Attributes,
    gain: Gain,
  ): Series {
    const labels = labelsOf(family, (name) => textOf(attributes.get(name)), textOf(resource.get("service.name")));
    const held = series.get(labels) ?? this.admit(family, series, labels);
    const { bounds } = family;
    for (const [i, bound] of bounds.entries()) {
      held.cumulative[i] = (held.cumulative[i] as number) + countUpTo(bound, gain);
    }
    held.cumulative[bounds.length] = (held.cumulative[bounds.length] as number) + gain.count;
    if (Number.isFinite(gain.sum)) held.sum += Math.max(0, gain.sum);
    return held;
  }

  private admit(family: AiFamily, series: Map<string, Series>, labels: string): Series {
    const hasRoom = this.seriesCount < this.limit;
    if (!hasRoom) this.overflowCount++;
    const key = hasRoom ? labels : labelsOf(family, () => OTHER, OTHER);
    const known = series.get(key);
    if (known !== undefined) return known;
    const cumulative = new Float64Array(family.bounds.length + 1);
    const added: Series = { labels: key, cumulative, sum: 0, streams: new Set(), written: null, saved: null };
    series.set(key, added);
    if (hasRoom) this.seriesCount++;
    return added;
  }
}

/** How many were surely no more than `bound`: of buckets with other bounds, those that end there or before. */
function countUpTo(bound: number, { bounds, bucketCounts }: Gain): number {
  let count = 0;
  for (const [i, upper] of bounds.entries()) {
    if (upper > bound) break;
    count += bucketCounts[i] as number;
  }
  return count;
}

function labelsOf({ labels }: AiFamily, read: (attribute: string) => string, service: string): string {
  const pairs = labels.map(({ name, attribute }) => [name, read(attribute)] as const);
  const told = pairs.filter(([name, value]) => name !== "error_type" || value !== UNKNOWN); // told of failures alone
  return [[SERVICE_LABEL, service] as const, ...told]
    .map(([name, value]) => `${name}="${escapeValue(value)}"`)
    .join(",");
}

function textOf(value: AttributeValue | undefined): string {
  const text = value === undefined ? "" : String(value);
  return text === "" ? UNKNOWN : text.slice(0, MAX_VALUE_LENGTH);
}

/** Of the exporter, the metric and all attributes, those that become no label as well. */
function keyOf({ resource, name }: HistogramMetric, { attributes }: HistogramPoint): string {
  return JSON.stringify([name, sorted(resource), sorted(attributes)]);
}

function sorted(attributes: Attributes): [string, unknown][] {
  return [...attributes].sort(([a], [b]) => (a < b ? -1 : 1));
}
