// GET /api/v1/indicators: how services, instances, endpoints and edges fare: live, in the last whole minute, or minute by minute.

import { NO_RESPONSE, SuccessPolicies } from "../analysis/policy.ts";
import { DETECT_POINTS } from "../analysis/side.ts";
import { quote } from "../error.ts";
import type { SubjectQuery, SubjectReading } from "../indicators/reading.ts";
import { liveSpan, minuteSpan, SLOT_MS, type Span } from "../indicators/slots.ts";
import { LABEL_NAMES, SUBJECT_KINDS, type SubjectKind } from "../indicators/subjects.ts";
import { QUANTILES, type Summary, summarise } from "../indicators/summary.ts";
import { type Answer, failure, round } from "./api.ts";

const WINDOWS = ["live", "minute", "minutes"] as const;
type WindowName = (typeof WINDOWS)[number];

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1000;

/** What an answer is made of. */
export interface IndicatorSource {
  readonly subjects: (query: SubjectQuery) => Promise<Iterable<SubjectReading>>;
  /** So many minutes that have ended are kept whole. */
  readonly keptMinutes: number;
}

const NO_POLICIES = new SuccessPolicies([]);

/** Those with the most calls first. */
export async function readIndicators(
  source: IndicatorSource,
  query: URLSearchParams,
  nowMs: number,
  policies = NO_POLICIES,
): Promise<Answer> {
  const request = parse(query);
  if (typeof request === "string") return failure(400, "bad_request", request);
  const { kind, window, limit, filter } = request;
  const spans = spansOf(window, nowMs, source.keptMinutes);
  const measured: Measured[] = [];
  for (const subject of await source.subjects({ kind, spans, filter })) {
    const each = measure(subject, spans, policies);
    if (each.traffic > 0) measured.push(each);
  }
  measured.sort((a, b) => b.traffic - a.traffic);
  return {
    status: 200,
    body: {
      kind,
      window,
      total: measured.length,
      [`${kind}s`]: measured.slice(0, limit).map(({ subject, windows }) => ({
        ...labelsOf(subject),
        ...(window === "minutes" ? { minutes: windows } : windows[0]),
      })),
    },
  };
}

interface Request {
  readonly kind: SubjectKind;
  readonly window: WindowName;
  readonly limit: number;
  /** A value for each label of the kind, "" for any. */
  readonly filter: readonly string[];
}

/** The request, or what is wrong with it. */
function parse(query: URLSearchParams): Request | string {
  const kindText = query.get("kind") ?? "service";
  const kind = SUBJECT_KINDS.find((each) => each === kindText);
  if (!kind) return `kind: found ${quote(kindText)}, expected one of ${SUBJECT_KINDS.join(", ")}`;
  const windowText = query.get("window") ?? "live";
  const window = WINDOWS.find((each) => each === windowText);
  if (!window) return `window: found ${quote(windowText)}, expected one of ${WINDOWS.join(", ")}`;
  const limitText = query.get("limit") ?? String(DEFAULT_LIMIT);
  const limit = /^\d{1,4}$/.test(limitText) ? Number(limitText) : 0;
  if (limit < 1 || limit > MAX_LIMIT)
    return `limit: found ${quote(limitText)}, expected a whole number from 1 to ${MAX_LIMIT}`;
  const known = ["kind", "window", "limit", ...LABEL_NAMES[kind]];
  const unknown = [...query.keys()].find((name) => !known.includes(name));
  if (unknown !== undefined)
    return `${quote(unknown)}: an unknown parameter of kind=${kind}, expected one of ${known.join(", ")}`;
  const repeated = known.find((name) => query.getAll(name).length > 1);
  if (repeated !== undefined) return `${repeated}: found ${query.getAll(repeated).length} values, expected one`;
  const point = query.get("detect_point") ?? "";
  if (point !== "" && !DETECT_POINTS.some((each) => each === point))
    return `detect_point: found ${quote(point)}, expected one of ${DETECT_POINTS.join(", ")}`;
  return { kind, window, limit, filter: LABEL_NAMES[kind].map((name) => query.get(name) ?? "") };
}

function spansOf(window: WindowName, nowMs: number, minutes: number): Span[] {
  if (window === "live") return [liveSpan(nowMs)];
  if (window === "minute") return [minuteSpan(nowMs, 1)];
  return Array.from({ length: minutes }, (_, ago) => minuteSpan(nowMs, ago + 1));
}

interface Measured {
  readonly subject: SubjectReading;
  readonly traffic: number;
  /** As they are shown. */
  readonly windows: readonly object[];
}

function measure(subject: SubjectReading, spans: readonly Span[], policies: SuccessPolicies): Measured {
  const summaries = subject.windows.map((window, i) => summarise(window, (spans[i] as Span).seconds));
  const traffic = summaries.reduce((sum, summary) => sum + trafficOf(summary), 0);
  const windows = summaries.map((summary, i) => ({
    ...render(spans[i] as Span, summary),
    ...(subject.kind === "service" ? healthOf(subject, summary, policies) : {}),
  }));
  return { subject, traffic, windows };
}

/** How its calls were answered, and what its policy says of that. */
function healthOf({ labels, namespace }: SubjectReading, { codes }: Summary, policies: SuccessPolicies): object {
  const [service, point] = labels;
  const detectPoint = point === "client" ? "client" : "server";
  const counts = [...codes].map(([text, count]) => {
    const [protocol, code] = text.split(" ");
    return {
      protocol: protocol === "grpc" ? ("grpc" as const) : ("http" as const),
      detectPoint,
      code: code === NO_RESPONSE ? null : Number(code),
      count,
    } as const;
  });
  return {
    response_codes: Object.fromEntries(codes),
    health: policies.of(namespace, service ?? null).healthOf(counts),
  };
}

/** What there is more of is shown first. A connection may only have gone on, and moved bytes. */
function trafficOf({ calls, tcp }: Summary): number {
  return calls + tcp.connections + (tcp.receivedBytes + tcp.sentBytes > 0 ? 1 : 0);
}

function labelsOf({ kind, labels }: SubjectReading): Record<string, string | undefined> {
  return Object.fromEntries(LABEL_NAMES[kind].map((name, i) => [name, labels[i]]));
}

function render({ first, seconds }: Span, summary: Summary): object {
  const { quantileSeconds, tcp } = summary;
  return {
    start: new Date(first * SLOT_MS).toISOString(),
    seconds: round(seconds),
    requests: summary.calls,
    requests_per_second: round(summary.callsPerSecond),
    success_ratio: rounded(summary.successRatio),
    apdex_ratio: rounded(summary.apdex),
    latency_seconds: {
      mean: rounded(summary.meanSeconds),
      ...Object.fromEntries(QUANTILES.map((q, i) => [`p${q * 100}`, rounded(quantileSeconds?.[i] ?? null)])),
    },
    request_bytes: summary.requestBytes,
    response_bytes: summary.responseBytes,
    retries: summary.retries,
    sidecar_request_latency_seconds: rounded(summary.requestHeldSeconds),
    sidecar_response_latency_seconds: rounded(summary.responseHeldSeconds),
    tcp: { connections: tcp.connections, received_bytes: tcp.receivedBytes, sent_bytes: tcp.sentBytes },
  };
}

function rounded(value: number | null): number | null {
  return value === null ? null : round(value);
}
