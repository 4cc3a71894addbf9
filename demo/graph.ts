// The collector's graph as its API gives it, as far as the table needs it.

interface GraphNode {
  readonly id: string;
  readonly workload: string;
  readonly namespace: string;
  readonly service: string;
}

export interface GraphEdge {
  /** Node ids. */
  readonly source: string;
  readonly destination: string;
  readonly requests: number;
  readonly requests_per_second: number;
  /** 0 to 1. */
  readonly error_ratio: number;
  /** null when nothing was measured in the window. */
  readonly p50_ms: number | null;
  readonly p99_ms: number | null;
  /** null when no report said. */
  readonly mtls: boolean | null;
  /** TCP in the window; a collector that tells of HTTP alone leaves it out. */
  readonly tcp: TcpTraffic;
}

/** Sent is what went to the source, in the metrics' words. */
export interface TcpTraffic {
  readonly connections_opened: number;
  readonly connections_closed: number;
  readonly sent_bytes: number;
  readonly received_bytes: number;
}

export interface Graph {
  readonly window_seconds: number;
  readonly nodes: readonly GraphNode[];
  readonly edges: readonly GraphEdge[];
}

/** How long one answer may take. */
const TIMEOUT_MS = 3000;

/** GETs `/api/v1/graph` of the last so many seconds. Throws Error when the collector does not answer with one. */
export async function fetchGraph(collectorUrl: string, windowSeconds: number): Promise<Graph> {
  const answer = await fetch(`${collectorUrl}/api/v1/graph?window=${windowSeconds}s`, {
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (!answer.ok) throw new Error(`the collector answered ${answer.status} for its graph`);
  return (await answer.json()) as Graph;
}
