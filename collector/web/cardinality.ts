// GET /api/v1/cardinality?top=10: how many series there are of each family, and which labels make them many.

import { quote } from "../error.ts";
import { type CountsLayout, REQUESTS } from "../series/counts.ts";
import { labelNames } from "../series/key.ts";
import { type LabelCost, labelCosts, Pace } from "../series/label-costs.ts";
import type { LabelSet, SeriesReader, SeriesTables } from "../series/reader.ts";
import { type DestinationRule, UNIFIED_HTTP_METRICS, UNIFIED_TCP_METRICS, Verdicts } from "../series/unified.ts";
import { VisibleSeries } from "../series/visible.ts";
import type { ShardHoldings } from "../shards/shards.ts";
import { HTTP_METRICS, HttpMetric, isTcpLabel, type Metric, TCP_METRICS } from "../vocabulary.ts";
import { type Answer, failure } from "./api.ts";

const DEFAULT_TOP = 10;
const MAX_TOP = 1000;
/** Of one shape: its families, and where a row says whether a series has any of theirs. */
interface Group {
  readonly reader: SeriesReader;
  readonly isTcp: boolean;
  readonly families: readonly { readonly standard: Metric; readonly unified: Metric; readonly field: number }[];
}

function httpFamilies(layout: CountsLayout): Group["families"] {
  return HTTP_METRICS.map((standard, metric) => ({
    standard,
    unified: UNIFIED_HTTP_METRICS[metric] as Metric,
    field: metric === HttpMetric.Requests ? REQUESTS : layout.histogramField(metric) + layout.histogramCount,
  }));
}

const TCP_FAMILIES = TCP_METRICS.map((standard, field) => ({
  standard,
  unified: UNIFIED_TCP_METRICS[field] as Metric,
  field,
}));

export class Cardinality {
  private isBusy = false;
  private readonly layout: CountsLayout;

  constructor(
    private readonly tables: SeriesTables,
    private readonly rule: DestinationRule,
    /** `limits.label_sets`. */
    private readonly limit: number,
    /** By HttpMetric, the bounds that are shown of it; default: all. */
    private readonly buckets: readonly (readonly number[])[] = [],
    /** Whether label sets have pods. */
    private readonly hasPods = false,
  ) {
    this.layout = tables.shapes[0].layout;
  }

  /** One at a time: all label sets are gone through. */
  async read(query: URLSearchParams, holdings: ShardHoldings): Promise<Answer> {
    const text = query.get("top") ?? String(DEFAULT_TOP);
    const top = Number(text);
    if (!/^\d{1,4}$/.test(text) || top > MAX_TOP) {
      return failure(400, "bad_request", `top: found ${quote(text)}, expected a number from 0 to ${MAX_TOP}`);
    }
    if (this.isBusy) return failure(503, "limit_exceeded", "somebody asks for the cardinality already; ask again");
    this.isBusy = true;
    try {
      const { http, tcp } = this.tables;
      const body = {
        http: await this.group({ reader: http, isTcp: false, families: httpFamilies(this.layout) }, holdings, top),
        tcp: await this.group({ reader: tcp, isTcp: true, families: TCP_FAMILIES }, holdings, top),
      };
      return { status: 200, body };
    } finally {
      this.isBusy = false;
    }
  }

  /** Of a histogram: each bucket, that of +Inf, sum and count. */
  private linesOf(metric: HttpMetric): number {
    return (this.buckets[metric] ?? this.layout.bounds.upper).length + 3;
  }

  private async group(group: Group, { overflowed }: ShardHoldings, top: number): Promise<object> {
    const { reader, isTcp } = group;
    const verdicts = new Verdicts(reader, isTcp, this.rule);
    const visible = new VisibleSeries(reader);
    const unified = new VisibleSeries(reader, (series) => verdicts.observer(series));
    const series = visible.series.slice();
    const labels = [...labelNames(this.hasPods).keys()].filter((label) => !isTcp || isTcpLabel(label));
    const shown = await counted(group, this.layout, visible, series);
    const once = await counted(group, this.layout, unified, unified.series.slice());
    return {
      label_sets: reader.series.length,
      limit: this.limit,
      overflowed: overflowed[isTcp ? "tcp" : "http"],
      expired: reader.series.filter((labelSet) => reader.isExpired(labelSet)).length,
      series: series.length,
      families: group.families.flatMap(({ standard, unified: mesh, field }, index) => [
        familyOf(standard, shown[index] as number, isTcp || field === REQUESTS ? 1 : this.linesOf(index)),
        familyOf(mesh, once[index] as number, isTcp || field === REQUESTS ? 1 : this.linesOf(index)),
      ]),
      labels: (await labelCosts(series, labels, top, this.hasPods)).map(labelOf),
    };
  }
}

/** By family, how many of the series it has. */
async function counted(
  { families }: Group,
  { width }: CountsLayout,
  shown: VisibleSeries,
  all: readonly LabelSet[],
): Promise<number[]> {
  const row = new Float64Array(width);
  const pace = new Pace();
  const sums = families.map(() => 0);
  for (const series of all) {
    shown.readTotal(series, row);
    for (const [index, { field }] of families.entries()) {
      if ((row[field] as number) > 0) sums[index] = (sums[index] as number) + 1;
    }
    if (pace.isDue(families.length)) await pace.rest();
  }
  return sums;
}

function familyOf({ name }: Metric, series: number, lines: number): object {
  return { family: name, series, samples: series * lines };
}

function labelOf({ label, values, saved, top }: LabelCost): object {
  return { label, values, saved_without: saved, top };
}
