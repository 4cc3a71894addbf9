// What is known of a target before it is read: where its stats are, and what its source says of it.

export interface TargetSpec {
  /** As it is shown, without a query: "http://127.0.0.1:9901". */
  readonly name: string;
  /** The identity of a target: "http://10.0.0.9:15090/stats/prometheus". */
  readonly statsUrl: string;
  /** Null where there is none to be expected. */
  readonly serverInfoUrl: string | null;
  /** Who is behind it, where neither its stats nor `/server_info` say it; null when its source does not know. */
  readonly nodeId: string | null;
  /** Whether the filter is expected there. */
  readonly hasFilter: boolean;
}

const STATS_PATH = "/stats/prometheus";

/** Of an admin interface by its base URL, without a slash at the end. */
export function adminSpec(baseUrl: string): TargetSpec {
  return specOf(`${baseUrl}${STATS_PATH}`, { name: baseUrl });
}

/** Beside stats at `…/stats/prometheus` there may be a `…/server_info`. */
export function specOf(statsUrl: string, known: Partial<TargetSpec> = {}): TargetSpec {
  const { origin, pathname } = new URL(statsUrl);
  const isAdmin = pathname.endsWith(STATS_PATH);
  return {
    name: `${origin}${pathname}`,
    statsUrl,
    serverInfoUrl: isAdmin ? `${origin}${pathname.slice(0, -STATS_PATH.length)}/server_info` : null,
    nodeId: null,
    hasFilter: true,
    ...known,
  };
}
