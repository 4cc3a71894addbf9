// The traffic series as Prometheus reads them: text format 0.0.4 or OpenMetrics 1.0, in pieces, so that no scrape blocks the rest.
// https://prometheus.io/docs/instrumenting/exposition_formats/  https://prometheus.io/docs/specs/om/open_metrics_spec/

import { METRIC_HELP } from "../help.ts";
import type { Series } from "../series/cell.ts";
import { COUNTS_WIDTH, HISTOGRAM_COUNT, HISTOGRAM_SUM, histogramField, REQUESTS } from "../series/counts.ts";
import { unpackLabels } from "../series/key.ts";
import type { SeriesStore } from "../series/store.ts";
import { HISTOGRAM_BOUNDS, HTTP_METRICS, HttpMetric, LABELS, type Metric } from "../vocabulary.ts";

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

export class TrafficExposition {
  /** `reporter="source",source_workload="web",...` by the index of the series: rendered once. */
  private readonly labelTexts: string[] = [];
  private readonly counts = new Float64Array(COUNTS_WIDTH);

  constructor(private readonly store: SeriesStore) {}

  /** All families, in pieces that end at line ends. The lines of one histogram are of one moment; the whole is not. */
  *render(format: Format): Generator<string> {
    for (const metric of HTTP_METRICS.keys()) yield* this.renderFamily(metric, format);
  }

  private *renderFamily(metric: HttpMetric, format: Format): Generator<string> {
    let piece = header(metric, format);
    for (const series of this.store.series) {
      const labels = this.labelText(series);
      this.store.readTotal(series, this.counts);
      piece += metric === HttpMetric.Requests ? this.counterLine(labels) : this.histogramLines(metric, labels, format);
      if (piece.length < PIECE_LENGTH) continue;
      yield piece;
      piece = "";
    }
    if (piece !== "") yield piece;
  }

  private labelText({ index, labelKey }: Series): string {
    let text = this.labelTexts[index];
    if (text === undefined) {
      text = renderLabels(labelKey);
      this.labelTexts[index] = text;
    }
    return text;
  }

  private counterLine(labels: string): string {
    const requests = this.counts[REQUESTS] as number;
    return requests === 0 ? "" : `${nameOf(HttpMetric.Requests)}{${labels}} ${requests}\n`;
  }

  /** Nothing for a histogram without observations: Envoy shows no unused stats either. */
  private histogramLines(metric: HttpMetric, labels: string, format: Format): string {
    const { counts } = this;
    const name = nameOf(metric);
    const field = histogramField(metric);
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

/** `le` values: OpenMetrics wants a fraction even for whole numbers. */
const BOUND_TEXTS: Readonly<Record<Format, readonly string[]>> = {
  text: HISTOGRAM_BOUNDS.map(String),
  openmetrics: HISTOGRAM_BOUNDS.map((bound) => (Number.isInteger(bound) ? `${bound}.0` : String(bound))),
};

function nameOf(metric: HttpMetric): string {
  return (HTTP_METRICS[metric] as Metric).name;
}

function header(metric: HttpMetric, format: Format): string {
  const { name, unit } = HTTP_METRICS[metric] as Metric;
  const isCounter = metric === HttpMetric.Requests;
  const family = isCounter && format === "openmetrics" ? withoutTotal(name) : name;
  const lines = [`# HELP ${family} ${METRIC_HELP[name]}`, `# TYPE ${family} ${isCounter ? "counter" : "histogram"}`];
  if (format === "openmetrics" && unit !== "") lines.push(`# UNIT ${family} ${unit}`);
  return `${lines.join("\n")}\n`;
}

function renderLabels(labelKey: string): string {
  const values = unpackLabels(labelKey) ?? [];
  return LABELS.map((label, index) => `${label}="${escapeValue(values[index] ?? "")}"`).join(",");
}

function escapeValue(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
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
