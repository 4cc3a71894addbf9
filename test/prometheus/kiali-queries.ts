// What Kiali asks Prometheus for, of one namespace: the shapes of its queries.
// kiali/kiali: graph/telemetry/istio/istio.go (graph), graph/telemetry/istio/appender/{response_time,throughput,security_policy}.go,
// prometheus/metrics.go (health, and the charts of services, workloads and applications).

import type { PanelQuery } from "./panels.ts";

const SOURCE_LABELS = [
  "source_cluster",
  "source_workload_namespace",
  "source_workload",
  "source_canonical_service",
  "source_canonical_revision",
];
const DESTINATION_LABELS = [
  "destination_cluster",
  "destination_service_namespace",
  "destination_service",
  "destination_service_name",
  "destination_workload_namespace",
  "destination_workload",
  "destination_canonical_service",
  "destination_canonical_revision",
];
const EDGE = [...SOURCE_LABELS, ...DESTINATION_LABELS].join(",");
/** Kiali leaves out a series that lacks one of them. */
export const KIALI_LABELS: readonly string[] = [...SOURCE_LABELS, ...DESTINATION_LABELS, "response_flags"];

export interface KialiScope {
  readonly namespace: string;
  readonly cluster: string;
  readonly service: string;
  readonly workload: string;
  readonly app: string;
}

const REQUESTS_BY = `${EDGE},request_protocol,response_code,grpc_response_status,response_flags`;
const FROM_DESTINATION = 'reporter=~"destination|waypoint"';
const FROM_SOURCE = 'reporter=~"source|waypoint"';

export function kialiQueries(scope: KialiScope): readonly PanelQuery[] {
  const queries = {
    graph: graph(scope),
    "response times": responseTimes(scope),
    throughput: throughput(scope),
    security: security(scope),
    health: health(scope),
    charts: charts(scope),
  };
  return Object.entries(queries).flatMap(([what, list]) => list.map((expr) => ({ place: `Kiali's ${what}`, expr })));
}

function graph({ namespace }: KialiScope): string[] {
  const incoming = `${FROM_DESTINATION},destination_workload_namespace="${namespace}"`;
  const outgoing = `${FROM_SOURCE},source_workload_namespace="${namespace}"`;
  return [
    ...[incoming, outgoing].map((matchers) => edges("istio_requests_total", matchers, REQUESTS_BY)),
    ...["istio_tcp_sent_bytes_total", "istio_tcp_received_bytes_total"].flatMap((metric) =>
      [incoming, outgoing].map((matchers) => edges(metric, matchers, `app,${EDGE},response_flags`)),
    ),
  ];
}

/** Calls from other namespaces that reached no workload. */
export function kialiUnserved({ namespace }: KialiScope): string {
  const nobody = 'destination_workload_namespace="unknown",destination_workload="unknown"';
  const called = `source_workload_namespace!="${namespace}",destination_service=~"^.+\\\\.${namespace}\\\\..+$"`;
  return edges("istio_requests_total", `${FROM_SOURCE},${called},${nobody}`, REQUESTS_BY);
}

function edges(metric: string, matchers: string, by: string): string {
  return `sum(rate(${metric}{${matchers}} [60s])) by (${by}) > 0`;
}

function responseTimes({ namespace }: KialiScope): string[] {
  const duration = "istio_request_duration_milliseconds";
  const sides = [
    `${FROM_DESTINATION},destination_service_namespace="${namespace}"`,
    `${FROM_SOURCE},source_workload_namespace="${namespace}"`,
  ];
  const by = `${EDGE},request_protocol`;
  return sides.flatMap((matchers) => [
    `sum(rate(${duration}_sum{${matchers}}[60s])) by (${by}) / sum(rate(${duration}_count{${matchers}}[60s])) by (${by}) > 0`,
    ...["0.50", "0.95", "0.99"].map(
      (q) => `histogram_quantile(${q}, sum(rate(${duration}_bucket{${matchers}}[60s])) by (le,${by})) > 0`,
    ),
  ]);
}

function throughput({ namespace }: KialiScope): string[] {
  const reporters = { request: "source", response: "destination" };
  return Object.entries(reporters).flatMap(([what, reporter]) => [
    edges(
      `istio_${what}_bytes_sum`,
      `reporter="${reporter}",source_workload_namespace!="${namespace}",destination_service_namespace="${namespace}"`,
      EDGE,
    ),
    edges(`istio_${what}_bytes_sum`, `reporter="${reporter}",source_workload_namespace="${namespace}"`, EDGE),
  ]);
}

function security({ namespace }: KialiScope): string[] {
  const by = `${EDGE},source_principal,destination_principal,connection_security_policy`;
  const from = [
    `reporter="destination",source_workload_namespace!="${namespace}",destination_service_namespace="${namespace}"`,
    `reporter="destination",source_workload_namespace="${namespace}"`,
  ];
  return from.map(
    (matchers) =>
      `(${edges("istio_requests_total", matchers, by)}) OR (${edges("istio_tcp_sent_bytes_total", matchers, by)})`,
  );
}

function health({ namespace, cluster, service, workload, app }: KialiScope): string[] {
  return [
    `destination_service_namespace="${namespace}",source_workload_namespace!="${namespace}",destination_cluster="${cluster}"`,
    `source_workload_namespace="${namespace}",source_cluster="${cluster}"`,
    `destination_service_namespace="${namespace}",destination_cluster="${cluster}"`,
    `destination_service_name="${service}",destination_service_namespace="${namespace}",destination_cluster=~"${cluster}|unknown"`,
    `destination_workload_namespace="${namespace}",destination_workload="${workload}",destination_cluster="${cluster}"`,
    `source_workload_namespace="${namespace}",source_workload="${workload}",source_cluster="${cluster}"`,
    `destination_workload_namespace="${namespace}",destination_canonical_service="${app}",destination_cluster="${cluster}"`,
    `source_workload_namespace="${namespace}",source_canonical_service="${app}",source_cluster="${cluster}"`,
  ].map((matchers) => `rate(istio_requests_total{${matchers}}[60s]) > 0`);
}

function charts({ namespace, workload }: KialiScope): string[] {
  const own = `reporter="destination",destination_workload_namespace="${namespace}",destination_workload="${workload}"`;
  const errors = [
    'response_code=~"^0$|^[4-5]\\\\d\\\\d$"',
    'grpc_response_status=~"^[1-9]$|^1[0-6]$",response_code!~"^0$|^[4-5]\\\\d\\\\d$"',
  ];
  const histograms = ["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"];
  return [
    `sum(rate(istio_requests_total{${own}}[60s])) by (source_canonical_service)`,
    `(${errors.map((matcher) => `sum(rate(istio_requests_total{${own},${matcher}}[60s]))`).join(" OR ")})`,
    ...histograms.flatMap((metric) => [
      `sum(rate(${metric}_sum{${own}}[60s])) / sum(rate(${metric}_count{${own}}[60s]))`,
      `histogram_quantile(0.95, sum(rate(${metric}_bucket{${own}}[60s])) by (le))`,
    ]),
    ...["opened", "closed"].map(
      (what) => `sum(rate(istio_tcp_connections_${what}_total{destination_workload_namespace="${namespace}"}[60s]))`,
    ),
  ];
}
