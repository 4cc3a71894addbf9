// Indicators as Prometheus families: mesh_service_*, mesh_instance_*, mesh_endpoint_*, mesh_edge_*.

import { escapeValue } from "../label-value.ts";
import { Field } from "./measures.ts";
import type { SubjectReading } from "./reading.ts";
import { liveSpan, minuteSpan, type Span } from "./slots.ts";
import { LABEL_NAMES, SUBJECT_KINDS, type SubjectKind } from "./subjects.ts";
import { QUANTILES, type Summary, summarise } from "./summary.ts";

/** How long a piece of text gets before it is handed on. */
const PIECE_LENGTH = 64 * 1024;
/** How many subjects are read before others get their turn: a millisecond or two. */
const SUBJECTS_A_TURN = 100;

type Kind = "counter" | "gauge" | "summary";

/** Everything of one subject that its lines need. */
interface Reading {
  /** `service="reviews",detect_point="server"` */
  readonly labels: string;
  readonly totals: Float64Array;
  readonly flags: ReadonlyMap<string, number>;
  readonly windows: readonly (readonly [name: string, summary: Summary])[];
}

interface Family {
  /** Behind `mesh_service_`. */
  readonly name: string;
  readonly kind: Kind;
  readonly help: string;
  readonly lines: (name: string, reading: Reading) => string;
}

export const FAMILIES: readonly Family[] = [
  {
    name: "requests_total",
    kind: "counter",
    help: "Requests, by whether they succeeded.",
    lines: (name, { labels, totals }) => {
      const calls = totals[Field.Calls] as number;
      const failures = totals[Field.Failures] as number;
      if (calls === 0) return "";
      // Both from the start, so that the first failure is an increase and not a new series.
      return `${name}{${labels},success="true"} ${calls - failures}\n${name}{${labels},success="false"} ${failures}\n`;
    },
  },
  {
    name: "latency_seconds",
    kind: "summary",
    help: "Latency of requests.",
    lines: (name, { labels, totals }) => sumAndCount(name, labels, totals, Field.LatencyNs, Field.Timed),
  },
  {
    name: "response_flags_total",
    kind: "counter",
    help: "Requests and connections by Envoy's response flags; one with several counts under each.",
    lines: (name, { labels, flags }) =>
      [...flags].map(([flag, count]) => line(name, `${labels},flag="${escapeValue(flag)}"`, count)).join(""),
  },
  total("request_bytes_total", "Bytes of requests, headers included.", Field.RequestBytes),
  total("response_bytes_total", "Bytes of responses, headers included.", Field.ResponseBytes),
  total("retries_total", "Attempts of requests beyond the first.", Field.Retries),
  {
    name: "sidecar_request_latency_seconds",
    kind: "summary",
    help: "How long the proxy held requests before it passed them on.",
    lines: (name, { labels, totals }) => sumAndCount(name, labels, totals, Field.RequestHeldNs, Field.RequestsHeld),
  },
  {
    name: "sidecar_response_latency_seconds",
    kind: "summary",
    help: "How long the proxy held responses before it passed them on.",
    lines: (name, { labels, totals }) => sumAndCount(name, labels, totals, Field.ResponseHeldNs, Field.ResponsesHeld),
  },
  total("tcp_connections_total", "TCP connections.", Field.Connections),
  total("tcp_received_bytes_total", "Bytes that TCP clients sent.", Field.ReceivedBytes),
  total("tcp_sent_bytes_total", "Bytes that TCP clients received.", Field.SentBytes),
  gauge("requests_per_second", "Requests a second.", ({ callsPerSecond, calls }) =>
    calls === 0 ? null : callsPerSecond,
  ),
  gauge("success_ratio", "Share of requests that succeeded.", ({ successRatio }) => successRatio),
  gauge(
    "apdex_ratio",
    "Apdex: satisfied requests and half of the tolerated ones, as a share of all.",
    ({ apdex }) => apdex,
  ),
  gauge("latency_mean_seconds", "Mean latency.", ({ meanSeconds }) => meanSeconds),
  {
    name: "latency_quantile_seconds",
    kind: "gauge",
    help: "Quantiles of latency, within 1 %.",
    lines: (name, { labels, windows }) =>
      windows
        .map(([window, { quantileSeconds }]) =>
          (quantileSeconds ?? [])
            .map((value, i) => line(name, `${labels},window="${window}",quantile="${QUANTILES[i]}"`, value))
            .join(""),
        )
        .join(""),
  },
];

const WINDOW_NAMES = ["live", "minute"] as const;

/** What `renderIndicators` needs a reading of. */
export function expositionSpans(nowMs: number): readonly Span[] {
  return [liveSpan(nowMs), minuteSpan(nowMs, 1)];
}

/**
 * All families that have a line, in pieces that end at line ends: Prometheus' text format 0.0.4. `readingsOf` gives all subjects of a
 * kind, read for those spans. A piece without text only says that others may have their turn.
 */
export function* renderIndicators(
  readingsOf: (kind: SubjectKind) => Iterable<SubjectReading>,
  spans: readonly Span[],
): Generator<string> {
  for (const kind of SUBJECT_KINDS) {
    const readings: Reading[] = [];
    for (const subject of readingsOf(kind)) {
      readings.push(read(subject, spans));
      if (readings.length % SUBJECTS_A_TURN === 0) yield "";
    }
    for (const family of FAMILIES) yield* renderFamily(kind, family, readings);
  }
}

function* renderFamily(kind: SubjectKind, family: Family, readings: readonly Reading[]): Generator<string> {
  const name = `mesh_${kind}_${family.name}`;
  let piece = "";
  let isBegun = false;
  for (const reading of readings) {
    const lines = family.lines(name, reading);
    if (lines === "") continue;
    if (!isBegun) piece = `# HELP ${name} ${family.help}\n# TYPE ${name} ${family.kind}\n`;
    isBegun = true;
    piece += lines;
    if (piece.length < PIECE_LENGTH) continue;
    yield piece;
    piece = "";
  }
  if (piece !== "") yield piece;
}

function read({ kind, labels, totals, flags, windows }: SubjectReading, spans: readonly Span[]): Reading {
  return {
    labels: LABEL_NAMES[kind].map((name, i) => `${name}="${escapeValue(labels[i] as string)}"`).join(","),
    totals,
    flags,
    windows: windows.map((window, i) => [WINDOW_NAMES[i] as string, summarise(window, (spans[i] as Span).seconds)]),
  };
}

function total(name: string, help: string, field: Field): Family {
  return {
    name,
    kind: "counter",
    help,
    lines: (full, { labels, totals }) => line(full, labels, totals[field] as number),
  };
}

function gauge(name: string, help: string, measureOf: (summary: Summary) => number | null): Family {
  const lines = (full: string, { labels, windows }: Reading) => {
    let text = "";
    for (const [window, summary] of windows) {
      const value = measureOf(summary);
      if (value !== null) text += `${full}{${labels},window="${window}"} ${value}\n`;
    }
    return text;
  };
  return { name, kind: "gauge", help, lines };
}

/** Nothing for 0: what never happened has no series. */
function line(name: string, labels: string, value: number): string {
  return value === 0 ? "" : `${name}{${labels}} ${value}\n`;
}

function sumAndCount(name: string, labels: string, totals: Float64Array, sumNs: Field, count: Field): string {
  if (totals[count] === 0) return "";
  return `${name}_sum{${labels}} ${(totals[sumNs] as number) / 1e9}\n${name}_count{${labels}} ${totals[count]}\n`;
}
