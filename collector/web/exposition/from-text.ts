// Families in text format 0.0.4, as prom-client and the indicators write them (HELP, TYPE, samples; those of one histogram together),
// as delimited protobuf.

import { unescapeValue } from "../../label-value.ts";
import {
  encodeHead,
  encodeLabel,
  type FamilyType,
  metricFieldLength,
  putHistogram,
  putMetricHead,
  putSingleValue,
  putSummary,
} from "./metric-family.ts";
import { ByteWriter } from "./writer.ts";

const SAMPLE = /^([^{ ]+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)",?/g;
const INITIAL_BYTES = 4096;

/** A histogram or summary of which more lines may come. */
interface Draft {
  /** Encoded. */
  readonly labels: Buffer;
  count: number;
  sum: number;
  /** Bounds or quantiles, and their values. */
  readonly places: number[];
  readonly values: number[];
}

interface Family {
  readonly name: string;
  readonly help: string;
  type: FamilyType;
  /** Its metrics, encoded. */
  readonly metrics: ByteWriter;
  draft: Draft | null;
}

export class FamiliesFromText {
  private family: Family | null = null;

  /** Takes whole lines; gives the families that are complete. */
  *add(text: string): Generator<Buffer> {
    for (const line of text.split("\n")) {
      if (line.startsWith("# HELP ")) {
        yield* this.end();
        const [, , name = "", ...help] = line.split(" ");
        const metrics = new ByteWriter(INITIAL_BYTES);
        this.family = { name, help: unescapeValue(help.join(" ")), type: "untyped", metrics, draft: null };
      } else if (line.startsWith("# TYPE ")) {
        if (this.family) this.family.type = line.split(" ")[3] as FamilyType;
      } else if (this.family && line !== "" && !line.startsWith("#")) {
        addSample(this.family, line);
      }
    }
  }

  /** Gives the last family; none without a metric. */
  *end(): Generator<Buffer> {
    const { family } = this;
    if (!family) return;
    endDraft(family);
    this.family = null;
    if (family.metrics.at === 0) return;
    const head = encodeHead(family);
    const length = new ByteWriter(10);
    length.putVarint(head.length + family.metrics.at);
    yield Buffer.concat([length.written(), head, family.metrics.written()]);
  }
}

function addSample(family: Family, line: string): void {
  const [, name = "", labelText = "", valueText = ""] = SAMPLE.exec(line) ?? [];
  const value = parseNumber(valueText);
  const pairs = [...labelText.matchAll(LABEL)].map(([, key = "", text = ""]) => [key, unescapeValue(text)] as const);
  if (family.type !== "histogram" && family.type !== "summary") {
    const metric = new ByteWriter(64);
    putSingleValue(metric, family.type, value);
    putMetric(family, encodeLabels(pairs), metric.written());
    return;
  }
  const place = family.type === "histogram" ? "le" : "quantile";
  const at = pairs.find(([key]) => key === place)?.[1];
  const draft = draftOf(family, encodeLabels(pairs.filter(([key]) => key !== place)));
  if (name === `${family.name}_sum`) draft.sum = value;
  else if (name === `${family.name}_count`) draft.count = value;
  else if (at !== undefined && at !== "+Inf") {
    draft.places.push(Number(at));
    draft.values.push(value);
  }
}

function draftOf(family: Family, labels: Buffer): Draft {
  if (family.draft?.labels.equals(labels)) return family.draft;
  endDraft(family);
  family.draft = { labels, count: 0, sum: 0, places: [], values: [] };
  return family.draft;
}

function endDraft(family: Family): void {
  const { draft } = family;
  if (!draft) return;
  family.draft = null;
  const value = new ByteWriter(INITIAL_BYTES);
  if (family.type === "histogram") putHistogram(value, draft, draft.places, draft.values, null);
  else putSummary(value, draft, draft.places, draft.values);
  putMetric(family, draft.labels, value.written());
}

function putMetric({ metrics }: Family, labels: Buffer, value: Buffer): void {
  const bytes = labels.length + value.length;
  metrics.ensure(metricFieldLength(bytes));
  putMetricHead(metrics, bytes);
  metrics.put(labels);
  metrics.put(value);
}

function encodeLabels(pairs: readonly (readonly [string, string])[]): Buffer {
  return Buffer.concat(pairs.map(([name, value]) => encodeLabel(name, value)));
}

/** `NaN` and infinities are written in several ways: "Nan", "+Inf". */
function parseNumber(text: string): number {
  if (/^[+-]?inf/i.test(text)) return text.startsWith("-") ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  return Number(text);
}
