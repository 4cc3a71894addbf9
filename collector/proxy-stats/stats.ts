// Which of Envoy's own stats are shown: those that SkyWalking derives its metrics of proxies and of their clusters from, under the names
// that Envoy gives them itself. docs/metrics.md has a row for each.
// https://www.envoyproxy.io/docs/envoy/latest/configuration/upstream/cluster_manager/cluster_stats

export interface ProxyStat {
  /** `envoy_cluster_upstream_cx_active` */
  readonly name: string;
  readonly scope: "cluster" | "server";
  readonly kind: "gauge" | "counter";
  readonly help: string;
}

type Row = readonly [stat: string, kind: ProxyStat["kind"], help: string];

const CLUSTER: readonly Row[] = [
  ["membership_healthy", "gauge", "Endpoints of the cluster that are healthy."],
  ["membership_total", "gauge", "Endpoints of the cluster."],
  ["upstream_cx_active", "gauge", "Connections to the cluster that are open."],
  ["upstream_rq_active", "gauge", "Requests to the cluster under way."],
  ["upstream_rq_pending_active", "gauge", "Requests to the cluster that wait for a connection."],
  ["upstream_cx_total", "counter", "Connections to the cluster."],
  ["upstream_rq_total", "counter", "Requests to the cluster."],
  ["upstream_cx_connect_fail", "counter", "Connections to the cluster that failed."],
  ["upstream_cx_none_healthy", "counter", "Times that no connection could be opened since no endpoint was healthy."],
  ["lb_healthy_panic", "counter", "Requests that were balanced over all endpoints since too few were healthy."],
];

const SERVER: readonly Row[] = [
  ["memory_allocated", "gauge", "Bytes of heap in use."],
  ["memory_heap_size", "gauge", "Bytes of heap reserved."],
  ["memory_physical_size", "gauge", "Bytes of physical memory, as estimated by the allocator."],
  ["total_connections", "gauge", "Connections of the process, and of the one before it while it restarts hot."],
  ["parent_connections", "gauge", "Connections of the process before it, while it restarts hot."],
  ["concurrency", "gauge", "Worker threads."],
  ["envoy_bug_failures", "counter", "Defects of Envoy's that it noticed."],
];

export const PROXY_STATS: readonly ProxyStat[] = [
  ...CLUSTER.map(([stat, kind, help]) => ({ name: `envoy_cluster_${stat}`, scope: "cluster" as const, kind, help })),
  ...SERVER.map(([stat, kind, help]) => ({ name: `envoy_server_${stat}`, scope: "server" as const, kind, help })),
];

const CLUSTER_INDEX = new Map(CLUSTER.map(([stat], index) => [stat, index]));
const SERVER_INDEX = new Map(SERVER.map(([stat], index) => [stat, CLUSTER.length + index]));

/** Index into PROXY_STATS of `upstream_cx_active` of a cluster, or `memory_allocated` of the server; null of others. */
export function statIndex(scope: ProxyStat["scope"], stat: string): number | null {
  return (scope === "cluster" ? CLUSTER_INDEX : SERVER_INDEX).get(stat) ?? null;
}
