// The formats of /metrics, and which of them a reader asks for.
// https://prometheus.io/docs/instrumenting/content_negotiation/

const PROTOBUF_MESSAGE = "io.prometheus.client.MetricFamily";

export type TextFormat = "text" | "openmetrics";
export type Format = TextFormat | "protobuf";

export const CONTENT_TYPES: Readonly<Record<Format, string>> = {
  text: "text/plain; version=0.0.4; charset=utf-8",
  openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
  protobuf: `application/vnd.google.protobuf; proto=${PROTOBUF_MESSAGE}; encoding=delimited`,
};

/** Of the same quality the first is taken. */
const PREFERENCE: readonly Format[] = ["protobuf", "openmetrics", "text"];

interface Choice {
  /** Lower case. */
  readonly name: string;
  /** By name in lower case, without the quotes. */
  readonly parameters: ReadonlyMap<string, string>;
  /** 0 refuses it. */
  readonly quality: number;
}

/**
 * The format that an Accept header asks for. Others than text only if they are named, and nothing we have is preferred to them:
 * `application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*\/*;q=0.2` -> "openmetrics".
 */
export function negotiateFormat(accept: string | undefined): Format {
  let best: Format = "text";
  let quality = 0;
  for (const choice of parseChoices(accept ?? "")) {
    const format = formatOf(choice);
    if (format === null || choice.quality < quality || choice.quality === 0) continue;
    if (choice.quality === quality && PREFERENCE.indexOf(format) > PREFERENCE.indexOf(best)) continue;
    best = format;
    quality = choice.quality;
  }
  return best;
}

function formatOf({ name, parameters }: Choice): Format | null {
  switch (name) {
    case "application/vnd.google.protobuf":
      // Without parameters it could be any message of anybody's.
      return parameters.get("proto") === PROTOBUF_MESSAGE && parameters.get("encoding") === "delimited"
        ? "protobuf"
        : null;
    case "application/openmetrics-text":
      return (parameters.get("version") ?? "1.0.0") === "1.0.0" ? "openmetrics" : null;
    case "text/plain":
      return "text";
    default:
      return null;
  }
}

/** `gzip;q=0` and `*;q=0` refuse it; gzip's own word goes before the star's. */
export function acceptsGzip(header: string): boolean {
  const qualities = new Map(parseChoices(header).map(({ name, quality }) => [name, quality]));
  return (qualities.get("gzip") ?? qualities.get("*") ?? 0) > 0;
}

/** `text/plain;version=0.0.4;q=0.3, *\/*` and the like: Accept and Accept-Encoding. A quality that is no number refuses. */
function parseChoices(header: string): Choice[] {
  return header.split(",").map((text) => {
    const [name = "", ...rest] = text.split(";").map((part) => part.trim());
    const parameters = new Map(
      rest.map((part) => {
        const [key = "", value = ""] = part.split("=", 2);
        return [key.trim().toLowerCase(), value.trim().replaceAll('"', "")];
      }),
    );
    const quality = Math.max(0, Number(parameters.get("q") ?? 1) || 0);
    return { name: name.toLowerCase(), parameters, quality };
  });
}
