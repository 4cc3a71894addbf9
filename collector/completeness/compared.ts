// Compared: of the same requests, how many were counted and how many of them each of the two channels told of.

/** Requests. What is counted is the larger of what the two said, label set by label set, so neither is more than that for long. */
export interface Compared {
  readonly counted: number;
  /** What access logs told of. */
  readonly logged: number;
  /** What the proxies' stats told of. */
  readonly reported: number;
}

export const NOTHING: Compared = { counted: 0, logged: 0, reported: 0 };

export function isNothing({ counted, logged, reported }: Compared): boolean {
  return counted === 0 && logged === 0 && reported === 0;
}

export interface ProxyCompared extends Compared {
  /** Node id. */
  readonly proxy: string;
}

interface EdgeCompared extends Compared {
  /** Node ids of the service graph. */
  readonly source: string;
  readonly destination: string;
}

/** What was compared of late; nothing of whom only one channel tells, or nobody called. */
export interface CompletenessReading {
  readonly proxies: readonly ProxyCompared[];
  readonly edges: readonly EdgeCompared[];
}

/** The shares of what was counted, each from 0 to 1. */
export interface Ratios {
  readonly accessLog: number;
  readonly stats: number;
}

/** Null when nothing was counted. A channel that makes up for what it was late with may be ahead for a moment: no share is above 1. */
export function ratiosOf({ counted, logged, reported }: Compared): Ratios | null {
  if (counted <= 0) return null;
  return { accessLog: Math.min(1, logged / counted), stats: Math.min(1, reported / counted) };
}

/** Of several threads. A proxy is in one of them; an edge may be in all. */
export function sumCompleteness(parts: readonly CompletenessReading[]): CompletenessReading {
  const edges = new Map<string, EdgeCompared>();
  for (const edge of parts.flatMap((part) => part.edges)) {
    const key = JSON.stringify([edge.source, edge.destination]);
    const sum = edges.get(key);
    edges.set(key, sum === undefined ? edge : { ...edge, ...added(sum, edge) });
  }
  return { proxies: parts.flatMap(({ proxies }) => proxies), edges: [...edges.values()] };
}

function added(a: Compared, b: Compared): Compared {
  return { counted: a.counted + b.counted, logged: a.logged + b.logged, reported: a.reported + b.reported };
}
