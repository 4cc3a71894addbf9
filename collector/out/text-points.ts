// What the collector writes as text (indicators, its own metrics) as points, so that they say what /metrics says.
// Reads the text format 0.0.4 as it is written here: HELP and TYPE before a family's samples, no timestamps.
// https://prometheus.io/docs/instrumenting/exposition_formats/

import { type Family, type Labels, labelsOf, type Point, type SpreadLabel, type Step } from "./point.ts";

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g;
/** That label in a text of labels; a quote inside a value is escaped, so it is found nowhere else. */
const WITHOUT: Readonly<Record<SpreadLabel, RegExp>> = { le: /(^|,)le="[^"]*"/, quantile: /(^|,)quantile="[^"]*"/ };

/** The lines of one histogram or summary, put together. */
interface Parts {
  readonly labels: Labels;
  readonly values: Map<string, number>;
  count: number;
  sum: number;
}

export class TextPoints {
  /** Label sets by their text, so that each is the same object from round to round; those of the last round, and of this one. */
  private known = new Map<string, Labels>();
  private seen = new Map<string, Labels>();
  private readonly marks = new Map<string, readonly string[]>();

  /** `pieces` end at line ends. Only families whose names `isWanted` takes. */
  *points(pieces: Iterable<string>, isWanted: (name: string) => boolean): Generator<Step> {
    let family: Family | null = null;
    let help = "";
    const parts = new Map<string, Parts>();
    for (const piece of pieces) {
      for (const line of piece.split("\n")) {
        if (line.startsWith("# HELP ")) {
          if (family !== null) yield* this.whole(family, parts);
          family = null;
          help = line.slice(line.indexOf(" ", 7) + 1);
        } else if (line.startsWith("# TYPE ")) {
          const [, , name = "", kind = ""] = line.split(" ");
          family = isWanted(name) ? { name, kind: kind as Family["kind"], help, unit: "" } : null;
        } else if (family !== null && line !== "") {
          yield this.read(family, line, parts);
        }
      }
      yield null;
    }
    if (family !== null) yield* this.whole(family, parts);
    this.known = this.seen;
    this.seen = new Map();
  }

  /** The point of a line; null if the line is but a part of one. */
  private read(family: Family, line: string, parts: Map<string, Parts>): Point | null {
    const [, name = "", text = "", digits = ""] = SAMPLE.exec(line) ?? [];
    if (name === "") return null;
    const value = numberOf(digits);
    const spreadLabel = spreadLabelOf(family);
    if (spreadLabel === null) return { family, labels: this.labels(text, null), value, spread: null };
    const labels = this.labels(text, spreadLabel);
    let part = parts.get(labels.key);
    if (!part) {
      part = { labels, values: new Map(), count: 0, sum: 0 };
      parts.set(labels.key, part);
    }
    if (name === `${family.name}_sum`) part.sum = value;
    else if (name === `${family.name}_count`) part.count = value;
    else part.values.set(labelValue(text, spreadLabel), value);
    return null;
  }

  private *whole(family: Family, parts: Map<string, Parts>): Generator<Point> {
    const label = spreadLabelOf(family);
    if (label === null) return;
    for (const { labels, values, count, sum } of parts.values()) {
      const marks = this.marksOf([...values.keys()].filter((mark) => mark !== "+Inf"));
      const all = [...marks.map((mark) => values.get(mark) as number), count];
      yield { family, labels, value: null, spread: { label, marks, values: all, count, sum } };
    }
    parts.clear();
  }

  private labels(text: string, without: SpreadLabel | null): Labels {
    const key = without === null ? text : text.replace(WITHOUT[without], "").replace(/^,/, "");
    const labels = this.seen.get(key) ?? this.known.get(key) ?? labelsOf(key, pairsOf(key));
    this.seen.set(key, labels);
    return labels;
  }

  private marksOf(marks: readonly string[]): readonly string[] {
    const key = marks.join();
    const known = this.marks.get(key) ?? marks;
    this.marks.set(key, known);
    return known;
  }
}

function spreadLabelOf({ kind }: Family): SpreadLabel | null {
  if (kind === "histogram") return "le";
  return kind === "summary" ? "quantile" : null;
}

function* pairsOf(text: string): Generator<readonly [string, string]> {
  for (const [, name = "", value = ""] of text.matchAll(LABEL)) {
    yield [name, value.replace(/\\(.)/g, (_, escaped: string) => (escaped === "n" ? "\n" : escaped))];
  }
}

function labelValue(text: string, label: string): string {
  for (const [name, value] of pairsOf(text)) if (name === label) return value;
  return "";
}

/** Infinity is written "+Inf" or, by JavaScript, "Infinity". */
function numberOf(text: string): number {
  return Number(text.replace(/Inf$/, "Infinity"));
}
