// The traffic families as text: Prometheus' format 0.0.4, or OpenMetrics 1.0.
// https://prometheus.io/docs/instrumenting/exposition_formats/  https://prometheus.io/docs/specs/om/open_metrics_spec/

import { METRIC_HELP } from "../../help.ts";
import { MetricKind } from "../../vocabulary.ts";
import type { Family, HistogramFields, TrafficFamilies } from "./families.ts";
import type { TextFormat } from "./format.ts";
import type { LabelWriter } from "./label-set.ts";
import { withoutTotal } from "./open-metrics.ts";
import { Pages } from "./pages.ts";
import type { ByteWriter } from "./writer.ts";

const NEWLINE = 0x0a;
/** What a line has at most besides name and labels. */
const LINE_END_BYTES = 80;
const LABELS_END = Buffer.from("} ");

/** A family, and what stands in its lines besides labels and numbers. */
interface TextFamily extends Family {
  /** `# HELP` and its like. */
  readonly header: Buffer;
  /** `istio_requests_total{`; of a histogram `istio_request_bytes_bucket{`, and the lines that end it. */
  readonly name: Buffer;
  readonly sumName: Buffer;
  readonly countName: Buffer;
  /** `,le="0.5"} ` for each bound. */
  readonly bounds: readonly Buffer[];
  /** Lines of a label set. */
  readonly lines: number;
}

export class TextTraffic {
  private readonly families: readonly TextFamily[];
  private readonly counts: Float64Array;

  constructor(families: TrafficFamilies, format: TextFormat) {
    this.counts = new Float64Array(families.rowWidth);
    this.families = families.all.map((family) => textFamily(family, format));
  }

  /**
   * All families that have a line, in pieces that end at line ends. A piece is valid until the one after the next is asked for. The
   * lines of one histogram are of one moment; the whole is not.
   */
  *render(): Generator<Buffer> {
    const pages = new Pages();
    for (const family of this.families) yield* this.renderFamily(family, pages);
    if (pages.page.at > 0) yield pages.take();
  }

  private *renderFamily(family: TextFamily, pages: Pages): Generator<Buffer> {
    const { table, labelsOf, header, name, lines } = family;
    let isBegun = false;
    for (const series of table.series) {
      const labels = labelsOf(series);
      if (labels === null) continue;
      const lineBytes = name.length + labels.maxTextBytes(series.labelKey) + LINE_END_BYTES;
      const piece = pages.reserve(header.length + lines * lineBytes);
      if (piece !== null) yield piece;
      table.readTotal(series, this.counts);
      if (this.counts[family.count] === 0) continue;
      if (!isBegun) pages.page.put(header);
      isBegun = true;
      this.putLines(pages.page, family, labels, series.labelKey);
    }
  }

  private putLines(to: ByteWriter, family: TextFamily, labels: LabelWriter, labelKey: string): void {
    to.put(family.name);
    const labelsFrom = to.at;
    labels.putText(to, labelKey);
    if (family.histogram !== null) {
      this.putHistogram(to, family, family.histogram, labelsFrom);
      return;
    }
    to.put(LABELS_END);
    this.putValue(to, family.count);
  }

  /** Name and labels of its first line stand there already. Those of the others are copied from it. */
  private putHistogram(to: ByteWriter, family: TextFamily, fields: HistogramFields, labelsFrom: number): void {
    const { name, bounds, sumName, countName } = family;
    const lineFrom = labelsFrom - name.length;
    const labelsTo = to.at;
    for (let index = 0; index < bounds.length; index++) {
      if (index > 0) to.repeat(lineFrom, labelsTo);
      to.put(bounds[index] as Buffer);
      this.putValue(to, fields.fields[index] as number);
    }
    to.put(sumName);
    to.repeat(labelsFrom, labelsTo);
    to.put(LABELS_END);
    this.putValue(to, fields.sum);
    to.put(countName);
    to.repeat(labelsFrom, labelsTo);
    to.put(LABELS_END);
    this.putValue(to, fields.count);
  }

  private putValue(to: ByteWriter, field: number): void {
    to.putNumber(this.counts[field] as number);
    to.putByte(NEWLINE);
  }
}

function textFamily(family: Family, format: TextFormat): TextFamily {
  const { metric, histogram } = family;
  const { name } = metric;
  const bounds = histogram === null ? [] : [...histogram.bounds.map((bound) => boundText(bound, format)), "+Inf"];
  return {
    ...family,
    header: Buffer.from(header(family, format)),
    name: Buffer.from(histogram === null ? `${name}{` : `${name}_bucket{`),
    sumName: Buffer.from(`${name}_sum{`),
    countName: Buffer.from(`${name}_count{`),
    bounds: bounds.map((bound) => Buffer.from(`,le="${bound}"} `)),
    lines: histogram === null ? 1 : bounds.length + 2,
  };
}

/** `le`: OpenMetrics wants a fraction even for whole numbers. */
function boundText(bound: number, format: TextFormat): string {
  return format === "openmetrics" && Number.isInteger(bound) ? `${bound}.0` : String(bound);
}

function header({ metric: { name, kind, unit } }: Family, format: TextFormat): string {
  const isCounter = kind === MetricKind.Counter;
  const family = isCounter && format === "openmetrics" ? withoutTotal(name) : name;
  const lines = [`# HELP ${family} ${METRIC_HELP[name]}`, `# TYPE ${family} ${isCounter ? "counter" : "histogram"}`];
  if (format === "openmetrics" && unit !== "") lines.push(`# UNIT ${family} ${unit}`);
  return `${lines.join("\n")}\n`;
}
