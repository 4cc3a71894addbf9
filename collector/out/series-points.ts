// The traffic families as points: all that a label set counts, of one moment, from one reading of its row.

import { METRIC_HELP } from "../help.ts";
import { COUNTS_WIDTH, HISTOGRAM_COUNT, HISTOGRAM_SUM, histogramField, REQUESTS } from "../series/counts.ts";
import { unpackLabels } from "../series/key.ts";
import type { LabelSet, SeriesTables } from "../series/reader.ts";
import {
  HISTOGRAM_BOUNDS,
  HTTP_METRICS,
  HttpMetric,
  LABELS,
  type Metric,
  MetricKind,
  TCP_METRICS,
} from "../vocabulary.ts";
import { type Family, type Labels, labelsOf, type Point } from "./point.ts";

const HTTP_FAMILIES = HTTP_METRICS.map(familyOf);
const TCP_FAMILIES = TCP_METRICS.map(familyOf);
const MARKS = HISTOGRAM_BOUNDS.map(String);

export class SeriesPoints {
  /** By the index of the label set. */
  private readonly httpLabels: Labels[] = [];
  private readonly tcpLabels: Labels[] = [];
  private readonly counts = new Float64Array(COUNTS_WIDTH);

  constructor(private readonly tables: SeriesTables) {}

  /** Nothing for what was never counted, as on /metrics. Only families whose names `isWanted` takes. */
  *points(isWanted: (name: string) => boolean): Generator<Point> {
    const { http, tcp } = this.tables;
    const wanted = HTTP_FAMILIES.map(({ name }) => isWanted(name));
    if (wanted.includes(true)) {
      for (const series of http.series) {
        http.readTotal(series, this.counts);
        const labels = remembered(this.httpLabels, series);
        for (const [index, family] of HTTP_FAMILIES.entries()) {
          const point = wanted[index] ? this.httpPoint(family, index, labels) : null;
          if (point !== null) yield point;
        }
      }
    }
    const tcpWanted = TCP_FAMILIES.map(({ name }) => isWanted(name));
    if (!tcpWanted.includes(true)) return;
    for (const series of tcp.series) {
      tcp.readTotal(series, this.counts);
      const labels = remembered(this.tcpLabels, series);
      for (const [index, family] of TCP_FAMILIES.entries()) {
        const value = this.counts[index] as number;
        if (tcpWanted[index] && value !== 0) yield { family, labels, value, spread: null };
      }
    }
  }

  private httpPoint(family: Family, index: HttpMetric, labels: Labels): Point | null {
    const { counts } = this;
    if (index === HttpMetric.Requests) {
      const value = counts[REQUESTS] as number;
      return value === 0 ? null : { family, labels, value, spread: null };
    }
    const field = histogramField(index);
    const count = counts[field + HISTOGRAM_COUNT] as number;
    if (count === 0) return null;
    const values = counts.subarray(field, field + HISTOGRAM_COUNT + 1);
    const sum = counts[field + HISTOGRAM_SUM] as number;
    return { family, labels, value: null, spread: { label: "le", marks: MARKS, values, count, sum } };
  }
}

function familyOf({ name, kind, unit }: Metric): Family {
  return { name, kind: kind === MetricKind.Counter ? "counter" : "histogram", help: METRIC_HELP[name] ?? "", unit };
}

function remembered(known: Labels[], { index, labelKey }: LabelSet): Labels {
  let labels = known[index];
  if (labels?.key !== labelKey) {
    const values = unpackLabels(labelKey) ?? [];
    labels = labelsOf(
      labelKey,
      LABELS.map((name, label) => [name, values[label] ?? ""] as const),
    );
    known[index] = labels;
  }
  return labels;
}
