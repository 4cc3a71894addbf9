// The traffic series as Prometheus reads them: text format 0.0.4 or OpenMetrics 1.0, in pieces, so that no scrape blocks the rest.
// https://prometheus.io/docs/instrumenting/exposition_formats/  https://prometheus.io/docs/specs/om/open_metrics_spec/

import { METRIC_HELP } from "../help.ts";
import { escapeValue } from "../label-value.ts";
import { COUNTS_WIDTH, HISTOGRAM_COUNT, HISTOGRAM_SUM, histogramField, REQUESTS } from "../series/counts.ts";
import { unpackLabels } from "../series/key.ts";
import type { LabelSet, SeriesTables } from "../series/reader.ts";
import {
  HISTOGRAM_BOUNDS,
  HTTP_METRICS,
  HttpMetric,
  isTcpLabel,
  LABELS,
  type Label,
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

  constructor(private readonly store: SeriesTables) {}

  /** All families that have a series, in pieces that end at line ends. The lines of one histogram are of one moment; the whole is not. */
  *render(format: Format): Generator<string> {
    for (const [index, metric] of HTTP_METRICS.entries()) yield* this.renderHttp(metric, index, format);
    for (const [index, metric] of TCP_METRICS.entries()) yield* this.renderTcp(metric, index, format);
  }

  private *renderHttp(metric: Metric, index: HttpMetric, format: Format): Generator<string> {
    const { http } = this.store;
    const lines = mapped(http.series, (series) => {
      const labels = labelText(this.httpTexts, series, LABEL_INDEXES);
      http.readTotal(series, this.counts);
      if (index === HttpMetric.Requests) return counterLine(metric, labels, this.counts[REQUESTS] as number);
      return this.histogramLines(metric, histogramField(index), labels, format);
    });
    yield* pieces(header(metric, format), lines);
  }

  private *renderTcp(metric: Metric, index: TcpMetric, format: Format): Generator<string> {
    const { tcp } = this.store;
    const lines = mapped(tcp.series, (series) => {
      tcp.readTotal(series, this.counts);
      return counterLine(metric, labelText(this.tcpTexts, series, TCP_LABEL_INDEXES), this.counts[index] as number);
    });
    yield* pieces(header(metric, format), lines);
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
