// The traffic families as points: all that a label set counts, of one moment, from one reading of its row. The label sets are those that
// /metrics shows: istio_* as the proxies report them, mesh_* each request once.

import { METRIC_HELP } from "../help.ts";
import { type CountsLayout, REQUESTS } from "../series/counts.ts";
import { labelNames, unpackLabels, withSomePod } from "../series/key.ts";
import { Owners } from "../series/label-sets.ts";
import type { LabelSet, SeriesReader, SeriesTables } from "../series/reader.ts";
import {
  type DestinationRule,
  OBSERVED_BY,
  UNIFIED_HTTP_METRICS,
  UNIFIED_TCP_METRICS,
  Verdicts,
} from "../series/unified.ts";
import { VisibleSeries } from "../series/visible.ts";
import { HTTP_METRICS, HttpMetric, Label, type Metric, MetricKind, TCP_METRICS } from "../vocabulary.ts";
import { type Family, type Labels, labelsOf, type Point, type Step } from "./point.ts";

/** So many label sets, seen for the first time, are looked at in one step. */
const NEW_AT_ONCE = 100;

/** The families that share label sets. */
interface Group {
  readonly reader: SeriesReader;
  readonly isTcp: boolean;
  readonly families: readonly Family[];
  readonly shown: VisibleSeries;
  /** Whose report a label set of mesh_* is; null where it says so itself. */
  readonly observer: ((series: LabelSet) => string | null) | null;
  readonly hasPods: boolean;
  readonly known: KnownLabels;
}

/** The labels of label sets, for as long as they are held. */
class KnownLabels {
  private readonly byIndex: Labels[] = [];
  private readonly owners = new Owners();

  constructor(private readonly reader: SeriesReader) {}

  of(series: LabelSet, make: () => Labels): Labels {
    if (this.owners.isNew(series)) this.byIndex[series.index] = make();
    return this.byIndex[series.index] as Labels;
  }

  has(labels: Labels): boolean {
    const series = this.reader.find(labels.key);
    return series !== undefined && this.byIndex[series.index] === labels;
  }
}

export class SeriesPoints {
  private readonly groups: readonly Group[];
  private readonly layout: CountsLayout;
  private readonly counts: Float64Array;
  /** By HttpMetric, how the points of its histogram are spread. */
  private readonly spreads: readonly HistogramSpread[];

  /** `rule`, `buckets`: as TrafficFamilies has them. `hasPods`: whether label sets have pods. */
  constructor(
    { http, tcp, shapes }: SeriesTables,
    rule: DestinationRule,
    buckets: readonly (readonly number[])[] = [],
    hasPods = false,
  ) {
    this.layout = shapes[0].layout;
    this.counts = new Float64Array(this.layout.width);
    const { upper } = this.layout.bounds;
    this.spreads = HTTP_METRICS.map((_, metric) => new HistogramSpread(upper, buckets[metric] ?? upper));
    this.groups = [
      { ...reported(http, false, HTTP_METRICS), hasPods },
      { ...reported(tcp, true, TCP_METRICS), hasPods },
      { ...unified(http, false, UNIFIED_HTTP_METRICS, rule), hasPods },
      { ...unified(tcp, true, UNIFIED_TCP_METRICS, rule), hasPods },
    ];
  }

  /** Nothing for what was never counted, as on /metrics. Only families whose names `isWanted` takes. */
  *points(isWanted: (name: string) => boolean): Generator<Step> {
    for (const group of this.groups) {
      const wanted = group.families.map(({ name }) => isWanted(name));
      if (!wanted.includes(true)) continue;
      while (group.shown.takeNew(NEW_AT_ONCE)) yield null;
      for (const series of group.shown.series) {
        if (group.reader.find(series.labelKey) !== series) continue; // let go of since this round began
        group.shown.readTotal(series, this.counts);
        const labels = remembered(group, series);
        for (const [index, family] of group.families.entries()) {
          if (!wanted[index]) continue;
          yield group.isTcp ? this.counter(family, index, labels) : this.httpPoint(family, index, labels);
        }
      }
    }
  }

  private counter(family: Family, field: number, labels: Labels): Point | null {
    const value = this.counts[field] as number;
    return value === 0 ? null : { family, labels, value, spread: null };
  }

  private httpPoint(family: Family, index: HttpMetric, labels: Labels): Point | null {
    if (index === HttpMetric.Requests) return this.counter(family, REQUESTS, labels);
    const { counts, layout } = this;
    const field = layout.histogramField(index);
    const count = counts[field + layout.histogramCount] as number;
    if (count === 0) return null;
    const spread = this.spreads[index] as HistogramSpread;
    const values = spread.read(counts, field);
    const sum = counts[field + layout.histogramSum] as number;
    return { family, labels, value: null, spread: { label: "le", marks: spread.marks, values, count, sum } };
  }
}

/** The bounds that are shown of a histogram, and their counts. */
class HistogramSpread {
  readonly marks: readonly string[];
  /** Of each bound, then of +Inf: its place in the histogram. */
  private readonly places: readonly number[];
  private readonly values: Float64Array;

  constructor(bounds: readonly number[], shown: readonly number[]) {
    this.marks = shown.map(String);
    this.places = [...shown.map((bound) => bounds.indexOf(bound)), bounds.length];
    this.values = new Float64Array(this.places.length);
  }

  /** Valid until the next. `field`: where the histogram begins. */
  read(counts: Float64Array, field: number): Float64Array {
    for (const [index, place] of this.places.entries()) this.values[index] = counts[field + place] as number;
    return this.values;
  }
}

type Shown = Omit<Group, "hasPods">;

function reported(reader: SeriesReader, isTcp: boolean, metrics: readonly Metric[]): Shown {
  return { ...groupOf(reader, isTcp, metrics), shown: new VisibleSeries(reader), observer: null };
}

function unified(reader: SeriesReader, isTcp: boolean, metrics: readonly Metric[], rule: DestinationRule): Shown {
  const verdicts = new Verdicts(reader, isTcp, rule);
  const observer = (series: LabelSet) => verdicts.observer(series);
  return { ...groupOf(reader, isTcp, metrics), shown: new VisibleSeries(reader, observer), observer };
}

function groupOf(reader: SeriesReader, isTcp: boolean, metrics: readonly Metric[]) {
  const known = new KnownLabels(reader);
  const families = metrics.map((metric) => familyOf(metric, known));
  return { reader, isTcp, families, known };
}

/** What expired goes on for as long as it is held (series/expiry.ts). */
function familyOf({ name, kind, unit }: Metric, known: KnownLabels): Family {
  const type = kind === MetricKind.Counter ? "counter" : "histogram";
  return { name, kind: type, help: METRIC_HELP[name] ?? "", unit, goesOn: (labels) => known.has(labels) };
}

function remembered({ known, observer, hasPods }: Group, series: LabelSet): Labels {
  const { labelKey } = series;
  return known.of(series, () => {
    return labelsOf(labelKey, pairsOf(labelKey, observer === null ? null : observer(series), hasPods));
  });
}

/** With who observed it in the reporter's place, if that is told. */
function pairsOf(
  labelKey: string,
  observer: string | null,
  hasPods: boolean,
): (readonly [name: string, value: string])[] {
  const values = unpackLabels(hasPods ? withSomePod(labelKey) : labelKey) ?? [];
  const pairs = labelNames(hasPods).map((name, label) => [name, values[label] ?? ""] as const);
  return observer === null ? pairs : [...pairs.toSpliced(Label.Reporter, 1), [OBSERVED_BY, observer]];
}
