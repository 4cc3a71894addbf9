// The JSON API: query -> answer. Names in JSON are snake_case, units last.

import { type CompletenessReading, type Ratios, ratiosOf } from "../completeness/compared.ts";
import { quote } from "../error.ts";
import type { ServiceGraph } from "../service-graph/graph.ts";
import { RETENTION_MS } from "../service-graph/snapshots.ts";
import type { GraphEdge } from "../service-graph/window.ts";
import { UNKNOWN } from "../vocabulary.ts";

const DEFAULT_WINDOW = "60s";

export interface Answer {
  readonly status: number;
  readonly body: object;
}

/** `{"error":{"code":"bad_request","message":"..."}}` */
export function failure(status: number, code: string, message: string): Answer {
  return { status, body: { error: { code, message } } };
}

/** GET /api/v1/graph?window=60s */
export function readGraph(graph: ServiceGraph, completeness: CompletenessReading, query: URLSearchParams): Answer {
  const text = query.get("window") ?? DEFAULT_WINDOW;
  const windowMs = parseWindow(text);
  if (windowMs === null) {
    const expected = `a duration from 1s to ${RETENTION_MS / 60_000}m such as 60s or 5m`;
    return failure(400, "bad_request", `window: found ${quote(text)}, expected ${expected}`);
  }
  const { coveredMs, nodes, edges } = graph.read(windowMs);
  const ratios = new Map(completeness.edges.map((edge) => [edgeKey(edge), ratiosOf(edge)]));
  const coveredSeconds = Math.max(coveredMs, 1) / 1000;
  const body = {
    window_seconds: windowMs / 1000,
    covered_seconds: round(coveredSeconds),
    nodes: nodes.map(({ id, workload, namespace, service, version, cluster }) => ({
      id,
      workload,
      namespace,
      service,
      ...(version !== UNKNOWN && { version }),
      ...(cluster !== UNKNOWN && { cluster }),
    })),
    edges: edges.map((edge) => renderEdge(edge, ratios.get(edgeKey(edge)) ?? null, coveredSeconds)),
  };
  return { status: 200, body };
}

function edgeKey({ source, destination }: { readonly source: string; readonly destination: string }): string {
  return JSON.stringify([source, destination]);
}

/** Null where only one channel tells of it. */
export function renderRatios(ratios: Ratios | null): object | null {
  return ratios === null ? null : { access_log: round(ratios.accessLog), stats: round(ratios.stats) };
}

function renderEdge(edge: GraphEdge, ratios: Ratios | null, coveredSeconds: number): object {
  return {
    source: edge.source,
    destination: edge.destination,
    requests: edge.requests,
    requests_per_second: round(edge.requests / coveredSeconds),
    errors: edge.errors,
    error_ratio: edge.requests === 0 ? 0 : round(edge.errors / edge.requests),
    p50_ms: edge.p50Ms === null ? null : round(edge.p50Ms),
    p90_ms: edge.p90Ms === null ? null : round(edge.p90Ms),
    p99_ms: edge.p99Ms === null ? null : round(edge.p99Ms),
    mtls: edge.isMutualTls,
    reporters: { source: { requests: edge.sourceRequests }, destination: { requests: edge.destinationRequests } },
    completeness: renderRatios(ratios),
    response_codes: edge.responseCodes,
    tcp: {
      connections_opened: edge.tcp.opened,
      connections_closed: edge.tcp.closed,
      sent_bytes: edge.tcp.sentBytes,
      received_bytes: edge.tcp.receivedBytes,
    },
  };
}

/** Milliseconds of `60s` or `5m`; null for another text, or a window that is not kept. */
function parseWindow(text: string): number | null {
  const [, digits, unit] = /^(\d{1,4})(s|m)$/.exec(text) ?? [];
  const windowMs = Number(digits) * (unit === "m" ? 60_000 : 1000);
  return windowMs >= 1000 && windowMs <= RETENTION_MS ? windowMs : null;
}

/** Six decimals are more than is known. */
export function round(value: number): number {
  return Math.round(value * 1e6) / 1e6;
}
