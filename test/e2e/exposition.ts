// Reads Prometheus text as plainly as possible: an oracle of its own, sharing nothing with the collector's parser.

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([^ ]+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPE = /\\(.)/g;

export function parseExposition(text: string): Sample[] {
  return text
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => {
      const match = SAMPLE.exec(line);
      if (match === null) throw new Error(`no sample: ${line}`);
      const labels: Record<string, string> = {};
      for (const [, name, value] of (match[2] ?? "").matchAll(LABEL))
        labels[name as string] = withoutEscapes(value as string);
      return { name: match[1] as string, labels, value: Number(match[3]) };
    });
}

function withoutEscapes(value: string): string {
  return value.replace(ESCAPE, (_, letter: string) => (letter === "n" ? "\n" : letter));
}

/** Identity of a series: name and labels, in the order of the labels' names. */
export function seriesId({ name, labels }: Sample): string {
  const pairs = Object.keys(labels)
    .sort()
    .map((label) => `${label}=${JSON.stringify(labels[label])}`);
  return `${name}{${pairs.join(",")}}`;
}

/** Sum of the values of each series, over any number of expositions. */
export function sumBySeries(samples: readonly Sample[]): Map<string, number> {
  const sums = new Map<string, number>();
  for (const sample of samples) {
    const id = seriesId(sample);
    sums.set(id, (sums.get(id) ?? 0) + sample.value);
  }
  return sums;
}
