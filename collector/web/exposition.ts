// The traffic series as Prometheus reads them: text format 0.0.4 or OpenMetrics 1.0, in pieces, so that no scrape blocks the rest.
// https://prometheus.io/docs/instrumenting/exposition_formats/  https://prometheus.io/docs/specs/om/open_metrics_spec/

import { METRIC_HELP } from "../help.ts";
import { escapeValue } from "../label-value.ts";
import { COUNTS_WIDTH, HISTOGRAM_COUNT, HISTOGRAM_SUM, histogramField, REQUESTS } from "../series/counts.ts";
import { unpackLabels } from "../series/key.ts";
import type { LabelSet, SeriesReader, SeriesTables } from "../series/reader.ts";
import {
  type DestinationRule,
  type LeftOutReason,
  OBSERVED_BY,
  UNIFIED_HTTP_METRICS,
  UNIFIED_TCP_METRICS,
  Verdicts,
} from "../series/unified.ts";
import { VisibleSeries } from "../series/visible.ts";
import {
  HISTOGRAM_BOUNDS,
  HTTP_METRICS,
  HttpMetric,
  isTcpLabel,
  LABELS,
  Label,
  type Metric,
  MetricKind,
  TCP_METRICS,
  type TcpMetric,
} from "../vocabulary.ts";

export type Format = "text" | "openmetrics";

export const CONTENT_TYPES: Readonly<Record<Format, string>> = {
  text: "text/plain; version=0.0.4; charset=utf-8",
  openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
};

/** Pieces are about this long: long enough to be few, short enough that others get their turn between two. */
const PIECE_LENGTH = 64 * 1024;

/**
 * The format that an Accept header asks for. OpenMetrics only if it is named and nothing we have is preferred to it:
 * `application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*\/*;q=0.2` -> "openmetrics".
 */
export function negotiateFormat(accept: string | undefined): Format {
  let openMetrics = 0;
  let text = 0;
  for (const range of (accept ?? "").toLowerCase().split(",")) {
    const [type, ...parameters] = range.split(";").map((part) => part.trim());
    const parameter = (name: string) => parameters.find((each) => each.startsWith(`${name}=`))?.slice(name.length + 1);
    const quality = Number(parameter("q") ?? 1);
    const version = parameter("version")?.replaceAll('"', "") ?? "1.0.0";
    if (type === "application/openmetrics-text" && version === "1.0.0") openMetrics = Math.max(openMetrics, quality);
    if (type === "text/plain") text = Math.max(text, quality);
  }
  return openMetrics > 0 && openMetrics >= text ? "openmetrics" : "text";
}

/** Label values as they stand on the page, by the index of the series: rendered once. */
type LabelTexts = string[];

export class TrafficExposition {
  private readonly httpTexts: LabelTexts = [];
  private readonly tcpTexts: LabelTexts = [];
  private readonly counts = new Float64Array(COUNTS_WIDTH);
  private readonly http: Families;
  private readonly tcp: Families;

  constructor(store: SeriesTables, rule: DestinationRule = "certain") {
    this.http = families(store.http, new Verdicts(store.http, false, rule));
    this.tcp = families(store.tcp, new Verdicts(store.tcp, true, rule));
  }

  /** All families that have a series, in pieces that end at line ends. The lines of one histogram are of one moment; the whole is not. */
  *render(format: Format): Generator<string> {
    for (const [index, metric] of HTTP_METRICS.entries()) {
      const { visible } = this.http;
      yield* this.renderHttp(metric, index, format, visible, (series) => this.httpText(series));
    }
    for (const [index, metric] of TCP_METRICS.entries()) {
      const { visible } = this.tcp;
      yield* this.renderTcp(metric, index, format, visible, (series) => this.tcpText(series));
    }
    for (const [index, metric] of UNIFIED_HTTP_METRICS.entries()) {
      const text = this.unifiedText(this.http, (series) => this.httpText(series));
      yield* this.renderHttp(metric, index, format, this.http.unified, text);
    }
    for (const [index, metric] of UNIFIED_TCP_METRICS.entries()) {
      const text = this.unifiedText(this.tcp, (series) => this.tcpText(series));
      yield* this.renderTcp(metric, index, format, this.tcp.unified, text);
    }
  }

  /** Requests, and connections, that are in no mesh_* family, though nobody is known to report them, too; by reason. */
  leftOut(): Readonly<Record<"http" | "tcp", Readonly<Record<LeftOutReason, number>>>> {
    return { http: this.http.verdicts.leftOut(this.counts), tcp: this.tcp.verdicts.leftOut(this.counts) };
  }

  private *renderHttp(
    metric: Metric,
    index: HttpMetric,
    format: Format,
    source: Source,
    text: TextOf,
  ): Generator<string> {
    const lines = mapped(source.series, (series) => {
      const labels = text(series);
      if (labels === "") return "";
      source.readTotal(series, this.counts);
      if (index === HttpMetric.Requests) return counterLine(metric, labels, this.counts[REQUESTS] as number);
      return this.histogramLines(metric, histogramField(index), labels, format);
    });
    yield* pieces(header(metric, format), lines);
  }

  private *renderTcp(
    metric: Metric,
    index: TcpMetric,
    format: Format,
    source: Source,
    text: TextOf,
  ): Generator<string> {
    const lines = mapped(source.series, (series) => {
      const labels = text(series);
      if (labels === "") return "";
      source.readTotal(series, this.counts);
      return counterLine(metric, labels, this.counts[index] as number);
    });
    yield* pieces(header(metric, format), lines);
  }

  private httpText(series: LabelSet): string {
    return labelText(this.httpTexts, series, LABEL_INDEXES);
  }

  private tcpText(series: LabelSet): string {
    return labelText(this.tcpTexts, series, TCP_LABEL_INDEXES);
  }

  /** The standard labels, whose first is the reporter, with who observed it in the reporter's place; "" where it does not count. */
  private unifiedText({ verdicts }: Families, text: TextOf): TextOf {
    return (series) => {
      const observer = verdicts.observer(series);
      if (observer === null) return "";
      const reporter = series.labelKey.charCodeAt(0); // length of one of three words, or of none where it is not kept
      return `${text(series).slice(REPORTER_START.length + reporter + 2)},${OBSERVED_BY}="${observer}"`;
    };
  }

  /** Nothing for a histogram without observations: Envoy shows no unused stats either. */
  private histogramLines({ name }: Metric, field: number, labels: string, format: Format): string {
    const { counts } = this;
    const count = counts[field + HISTOGRAM_COUNT] as number;
    if (count === 0) return "";
    const bucket = `${name}_bucket{${labels},le="`;
    let lines = "";
    for (const [index, bound] of BOUND_TEXTS[format].entries())
      lines += `${bucket}${bound}"} ${counts[field + index]}\n`;
    lines += `${bucket}+Inf"} ${count}\n`;
    lines += `${name}_sum{${labels}} ${counts[field + HISTOGRAM_SUM]}\n`;
    return `${lines}${name}_count{${labels}} ${count}\n`;
  }
}

/** Of one shape: its label sets as istio_* and as mesh_* show them. */
interface Families {
  readonly visible: VisibleSeries;
  readonly unified: VisibleSeries;
  readonly verdicts: Verdicts;
}

function families(reader: SeriesReader, verdicts: Verdicts): Families {
  const unified = new VisibleSeries(reader, (series) => verdicts.observer(series));
  return { visible: new VisibleSeries(reader), unified, verdicts };
}

type Source = Pick<SeriesReader, "series" | "readTotal">;

/** The labels of a series as they stand on the page; "" when it is not shown. */
type TextOf = (series: LabelSet) => string;

/** What the labels of a series begin with, up to the reporter's value. */
const REPORTER_START = `${LABELS[Label.Reporter]}="`;

function* mapped(all: readonly LabelSet[], render: (series: LabelSet) => string): Generator<string> {
  for (const series of all) yield render(series);
}

/** The lines put together to pieces, behind the header; nothing if all are empty. */
function* pieces(head: string, lines: Iterable<string>): Generator<string> {
  let piece = "";
  let isBegun = false;
  for (const each of lines) {
    if (each === "") continue;
    piece += isBegun ? each : head + each;
    isBegun = true;
    if (piece.length < PIECE_LENGTH) continue;
    yield piece;
    piece = "";
  }
  if (piece !== "") yield piece;
}

function counterLine({ name }: Metric, labels: string, count: number): string {
  return count === 0 ? "" : `${name}{${labels}} ${count}\n`;
}

/** `le` values: OpenMetrics wants a fraction even for whole numbers. */
const BOUND_TEXTS: Readonly<Record<Format, readonly string[]>> = {
  text: HISTOGRAM_BOUNDS.map(String),
  openmetrics: HISTOGRAM_BOUNDS.map((bound) => (Number.isInteger(bound) ? `${bound}.0` : String(bound))),
};

function header({ name, kind, unit }: Metric, format: Format): string {
  const isCounter = kind === MetricKind.Counter;
  const family = isCounter && format === "openmetrics" ? withoutTotal(name) : name;
  const lines = [`# HELP ${family} ${METRIC_HELP[name]}`, `# TYPE ${family} ${isCounter ? "counter" : "histogram"}`];
  if (format === "openmetrics" && unit !== "") lines.push(`# UNIT ${family} ${unit}`);
  return `${lines.join("\n")}\n`;
}

const LABEL_INDEXES: readonly Label[] = [...LABELS.keys()];
const TCP_LABEL_INDEXES: readonly Label[] = LABEL_INDEXES.filter(isTcpLabel);

/** `reporter="source",source_workload="web",...` */
function labelText(known: LabelTexts, { index, labelKey }: LabelSet, labels: readonly Label[]): string {
  let text = known[index];
  if (text === undefined) {
    const values = unpackLabels(labelKey) ?? [];
    text = labels.map((label) => `${LABELS[label]}="${escapeValue(values[label] ?? "")}"`).join(",");
    known[index] = text;
  }
  return text;
}

function withoutTotal(name: string): string {
  return name.replace(/_total$/, "");
}

/**
 * Text format 0.0.4 as OpenMetrics 1.0, without the `# EOF`: counter families lose their `_total`, whole numbers in `le` get a
 * fraction, quotes in help are escaped, empty lines go. Expects families as prom-client writes them: HELP, TYPE, samples.
 */
export function toOpenMetrics(text: string): string {
  const counters = new Set([...text.matchAll(/^# TYPE (\S+) counter$/gm)].map((match) => match[1] as string));
  const lines = text.split("\n").filter((line) => line !== "");
  const converted = lines.map((line) => {
    if (!line.startsWith("# ")) return line.replace(/le="(\d+)"/, 'le="$1.0"');
    const [hash, keyword = "", name = "", ...rest] = line.split(" ");
    const family = counters.has(name) ? withoutTotal(name) : name;
    const words = rest.join(" ");
    return [hash, keyword, family, keyword === "HELP" ? words.replaceAll('"', '\\"') : words].join(" ");
  });
  return `${converted.join("\n")}\n`;
}
