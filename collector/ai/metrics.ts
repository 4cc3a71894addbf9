// AiMetrics: what AI gateways tell of requests, tokens and their times, added up over gateways' instances by service, provider and models.

import { escapeValue } from "../label-value.ts";
import type { Attributes, AttributeValue } from "../proto/otlp-common.ts";
import type { HistogramMetric, HistogramPoint, MetricsRequest } from "../proto/otlp-metrics.ts";
import type { OtlpRejection } from "../self.ts";
import { AI_FAMILIES, type AiFamily, SERVICE_LABEL } from "./families.ts";
import { type Gain, Readings } from "./readings.ts";

/** Instead of a value that is not told, and of all values once there is no room. */
const UNKNOWN = "unknown";
const OTHER = "other";
/** Longer values are cut: models are named by who asks. */
const MAX_VALUE_LENGTH = 128;

interface Series {
  readonly labels: string;
  /** Cumulative, of the family's bounds and of the rest. */
  readonly cumulative: Float64Array;
  sum: number;
}

export class AiMetrics {
  private readonly readings: Readings;
  private readonly families = new Map(
    AI_FAMILIES.map((family) => [family.metric, { family, series: new Map<string, Series>() }]),
  );
  private seriesCount = 0;
  private overflowCount = 0;

  /** `limit`: most label sets, and most streams of exporters. */
  constructor(
    private readonly limit: number,
    nowMs: () => number = () => performance.now(),
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
        const taken = this.readings.take(keyOf(histogram, point), histogram.temporality, point);
        if (typeof taken === "string") reject(taken, 1);
        else if (taken !== null) this.add(known, histogram.resource, point.attributes, taken);
      }
    }
    return rejections;
  }

  /** Prometheus' text, family by family. */
  *render(): Generator<string> {
    for (const { family, series } of this.families.values()) {
      if (series.size === 0) continue;
      const { name, help, bounds } = family;
      let text = `# HELP ${name} ${help}\n# TYPE ${name} histogram\n`;
      for (const { labels, cumulative, sum } of series.values()) {
        const count = cumulative[bounds.length] as number;
        for (const [i, bound] of bounds.entries()) text += `${name}_bucket{${labels},le="${bound}"} ${cumulative[i]}\n`;
        text += `${name}_bucket{${labels},le="+Inf"} ${count}\n${name}_sum{${labels}} ${sum}\n${name}_count{${labels}} ${count}\n`;
      }
      yield text;
    }
  }

  private add(
    { family, series }: { readonly family: AiFamily; readonly series: Map<string, Series> },
    resource: Attributes,
    attributes: Attributes,
    gain: Gain,
  ): void {
    const labels = labelsOf(family, (name) => textOf(attributes.get(name)), textOf(resource.get("service.name")));
    const held = series.get(labels) ?? this.admit(family, series, labels);
    const { bounds } = family;
    for (const [i, bound] of bounds.entries()) {
      held.cumulative[i] = (held.cumulative[i] as number) + countUpTo(bound, gain);
    }
    held.cumulative[bounds.length] = (held.cumulative[bounds.length] as number) + gain.count;
    if (Number.isFinite(gain.sum)) held.sum += Math.max(0, gain.sum);
  }

  private admit(family: AiFamily, series: Map<string, Series>, labels: string): Series {
    const hasRoom = this.seriesCount < this.limit;
    if (!hasRoom) this.overflowCount++;
    const key = hasRoom ? labels : labelsOf(family, () => OTHER, OTHER);
    const known = series.get(key);
    if (known !== undefined) return known;
    const added = { labels: key, cumulative: new Float64Array(family.bounds.length + 1), sum: 0 };
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
