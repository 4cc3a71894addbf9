// The families of traffic: which numbers of which label sets each shows, and under which labels. Every format writes them in this order.
//
//   istio_*   every label set, by whom it reports
//   mesh_*    those that count each request once (series/unified.ts), with `observed_by` in the reporter's place

import { type CountsLayout, REQUESTS } from "../../series/counts.ts";
import type { LabelSet, SeriesReader, SeriesTables } from "../../series/reader.ts";
import {
  type DestinationRule,
  type LeftOutReason,
  OBSERVED_BY,
  OBSERVERS,
  type Observer,
  UNIFIED_HTTP_METRICS,
  UNIFIED_TCP_METRICS,
  Verdicts,
} from "../../series/unified.ts";
import { VisibleSeries } from "../../series/visible.ts";
import {
  HTTP_METRICS,
  type HttpMetric,
  isTcpLabel,
  Label,
  type Metric,
  MetricKind,
  TCP_METRICS,
} from "../../vocabulary.ts";
import { LabelWriter } from "./label-set.ts";

/** Where a histogram stands in a row of its table. */
export interface HistogramFields {
  /** In rising order, without `+Inf`. */
  readonly bounds: readonly number[];
  /** Of each bound, and last of `+Inf`. */
  readonly fields: readonly number[];
  readonly count: number;
  readonly sum: number;
}

export interface Family {
  readonly metric: Metric;
  readonly table: Pick<SeriesReader, "series" | "readTotal" | "readNative">;
  /** Null for a label set that the family does not show. */
  readonly labelsOf: (series: LabelSet) => LabelWriter | null;
  /** Its place in the shape of the table (series/shape.ts). */
  readonly index: number;
  /** Null for a counter. */
  readonly histogram: HistogramFields | null;
  /** Where a row says how much was observed. A label set with 0 there is not shown: nor does Envoy show unused stats. */
  readonly count: number;
}

type IsShown = (label: Label) => boolean;

export class TrafficFamilies {
  readonly all: readonly Family[];
  /** Fields of the longest row. */
  readonly rowWidth: number;
  private readonly verdicts: { readonly http: Verdicts; readonly tcp: Verdicts };

  /**
   * `rule`: which reports of destinations count in mesh_*. `buckets`: by HttpMetric, the bounds that are shown; default: all. `hasPods`:
   * whether label sets have pods.
   */
  constructor(
    tables: SeriesTables,
    rule: DestinationRule = "certain",
    buckets: readonly (readonly number[])[] = [],
    hasPods = false,
  ) {
    const { http, tcp } = tables;
    const [{ layout }] = tables.shapes;
    this.rowWidth = layout.width;
    this.verdicts = { http: new Verdicts(http, false, rule), tcp: new Verdicts(tcp, true, rule) };
    const httpFields = (index: number) => httpFieldsOf(layout, index, buckets[index]);
    this.all = [
      ...familiesOf(HTTP_METRICS, httpFields, reported(http, isHttpLabel, hasPods)),
      ...familiesOf(TCP_METRICS, tcpFields, reported(tcp, isTcpLabel, hasPods)),
      ...familiesOf(UNIFIED_HTTP_METRICS, httpFields, unified(http, isHttpLabel, this.verdicts.http, hasPods)),
      ...familiesOf(UNIFIED_TCP_METRICS, tcpFields, unified(tcp, isTcpLabel, this.verdicts.tcp, hasPods)),
    ];
  }

  /** Requests, and connections, that are in no mesh_* family, though nobody is known to report them, too; by reason. */
  leftOut(): Readonly<Record<"http" | "tcp", Readonly<Record<LeftOutReason, number>>>> {
    const row = new Float64Array(this.rowWidth);
    return { http: this.verdicts.http.leftOut(row), tcp: this.verdicts.tcp.leftOut(row) };
  }
}

function isHttpLabel(): boolean {
  return true;
}

/** As the proxies report it. */
function reported(reader: SeriesReader, isShown: IsShown, hasPods: boolean): Pick<Family, "table" | "labelsOf"> {
  const labels = new LabelWriter(isShown, null, hasPods);
  return { table: new VisibleSeries(reader), labelsOf: () => labels };
}

/** Each request once. */
function unified(
  reader: SeriesReader,
  isShown: IsShown,
  verdicts: Verdicts,
  hasPods: boolean,
): Pick<Family, "table" | "labelsOf"> {
  const isWritten = (label: Label) => label !== Label.Reporter && isShown(label);
  const writers = new Map<Observer | null, LabelWriter>(
    OBSERVERS.map((observer) => {
      return [observer, new LabelWriter(isWritten, [OBSERVED_BY, observer], hasPods)];
    }),
  );
  const table = new VisibleSeries(reader, (series) => verdicts.observer(series));
  return { table, labelsOf: (series) => writers.get(verdicts.observer(series)) ?? null };
}

function familiesOf(
  metrics: readonly Metric[],
  fieldsOf: (index: number) => Pick<Family, "histogram" | "count">,
  shown: Pick<Family, "table" | "labelsOf">,
): Family[] {
  return metrics.map((metric, index) => ({ metric, index, ...fieldsOf(index), ...shown }));
}

function tcpFields(index: number): Pick<Family, "histogram" | "count"> {
  return { histogram: null, count: index };
}

function httpFieldsOf(
  layout: CountsLayout,
  index: HttpMetric,
  shown = layout.bounds.upper,
): Pick<Family, "histogram" | "count"> {
  if (HTTP_METRICS[index]?.kind !== MetricKind.Histogram) return { histogram: null, count: REQUESTS };
  const first = layout.histogramField(index);
  const count = first + layout.histogramCount;
  const fields = shown.map((bound) => first + layout.bounds.upper.indexOf(bound));
  return {
    histogram: { bounds: shown, fields: [...fields, count], count, sum: first + layout.histogramSum },
    count,
  };
}
