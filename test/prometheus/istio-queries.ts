// What Istio's own dashboards ask Prometheus for: the shapes of their queries, with every value of their variables chosen.
// istio/istio, manifests/addons/dashboards: lib/queries.libsonnet (mesh), istio-service-dashboard.json, istio-workload-dashboard.json.
//
// Not here, since the collector has none of it: istio_build, container_*, envoy_*, pilot_* (docs/dashboards.md).

import type { PanelQuery } from "./panels.ts";

const SOURCE = 'reporter=~"source|waypoint"';
const WORKLOADS = "destination_workload, destination_workload_namespace";
const DURATION = "istio_request_duration_milliseconds_bucket";

function mesh(): string[] {
  const requests = `sum(rate(istio_requests_total{${SOURCE}}[5m]))`;
  const joined = (query: string) =>
    `label_join(${query}, "destination_workload_var", ".", "destination_workload", "destination_workload_namespace")`;
  return [
    `round(${requests}, 0.01)`,
    `sum(rate(istio_requests_total{${SOURCE},response_code!~"5.."}[5m])) / ${requests}`,
    ...["4..", "5.."].map(
      (code) => `round(sum(rate(istio_requests_total{${SOURCE},response_code=~"${code}"}[5m])), 0.01)`,
    ),
    joined(`sum by (${WORKLOADS}, destination_service) (rate(istio_requests_total{${SOURCE}}[5m]))`),
    ...[0.5, 0.9, 0.99].map((q) =>
      joined(`histogram_quantile(${q}, sum by (le, ${WORKLOADS}) (rate(${DURATION}{${SOURCE}}[5m])))`),
    ),
    joined(
      `sum by (${WORKLOADS}) (rate(istio_requests_total{${SOURCE},response_code!~"5.."}[5m])) / sum by (${WORKLOADS}) (rate(istio_requests_total{${SOURCE}}[5m]))`,
    ),
    ...["received", "sent"].map((way) =>
      joined(`sum by (${WORKLOADS}, destination_service) (rate(istio_tcp_${way}_bytes_total{${SOURCE}}[5m]))`),
    ),
  ];
}

/** Requests, success and durations of one side. */
function volume(matchers: string): string[] {
  const seconds = (q: number) =>
    `histogram_quantile(${q}, sum(irate(istio_request_duration_seconds_bucket{${matchers}}[1m])) by (le))`;
  return [
    `round(sum(irate(istio_requests_total{${matchers}}[5m])), 0.001)`,
    `sum(irate(istio_requests_total{${matchers},response_code!~"5.*"}[5m])) / sum(irate(istio_requests_total{${matchers}}[5m]))`,
    ...[0.5, 0.9, 0.99].map(
      (q) => `(histogram_quantile(${q}, sum(irate(${DURATION}{${matchers}}[1m])) by (le)) / 1000) or ${seconds(q)}`,
    ),
  ];
}

/** The same by who is at the other end, over mutual TLS and without. */
function byPeer(matchers: string, policy: string, peer: string): string[] {
  const all = `connection_security_policy${policy}"mutual_tls",${matchers}`;
  const quantiles = (metric: string) =>
    [0.5, 0.9, 0.95, 0.99].map(
      (q) => `histogram_quantile(${q}, sum(irate(${metric}_bucket{${all}}[1m])) by (${peer}, le))`,
    );
  return [
    `round(sum(irate(istio_requests_total{${all}}[5m])) by (${peer}, response_code), 0.001)`,
    `sum(irate(istio_requests_total{${all},response_code!~"5.*"}[5m])) by (${peer}) / sum(irate(istio_requests_total{${all}}[5m])) by (${peer})`,
    ...["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"].flatMap(quantiles),
  ];
}

function tcpByPeer(matchers: string, policy: string, peer: string): string[] {
  const all = `connection_security_policy${policy}"mutual_tls",${matchers}`;
  return ["received", "sent"].map(
    (way) => `round(sum(irate(istio_tcp_${way}_bytes_total{${all}}[1m])) by (${peer}), 0.001)`,
  );
}

function tcpBytes(matchers: string): string {
  return ["sent", "received"].map((way) => `sum(irate(istio_tcp_${way}_bytes_total{${matchers}}[1m]))`).join(" + ");
}

const SERVICE = 'destination_service=~".*"';
const AT_SERVER = `reporter="destination",${SERVICE}`;
const AT_CLIENT = `${SOURCE},${SERVICE},source_workload=~".*",source_workload_namespace=~".*"`;
const CALLER = "source_workload, source_workload_namespace";
const INBOUND = 'reporter="destination",destination_workload=~".*",destination_workload_namespace=~".*"';
const OUTBOUND = 'reporter="source",source_workload=~".*",source_workload_namespace=~".*",destination_service=~".*"';

/** A source's proxy does not say how secure a connection is, in Istio neither: by it only what is not `mutual_tls` has data. */
export const ISTIO_QUERIES: readonly PanelQuery[] = Object.entries({
  mesh: mesh(),
  service: [
    ...volume(`${SOURCE},${SERVICE}`),
    ...volume(AT_SERVER),
    tcpBytes(`${SOURCE},${SERVICE}`),
    tcpBytes(AT_SERVER),
    ...byPeer(AT_CLIENT, "!=", CALLER),
    ...byPeer(AT_SERVER, "=", CALLER),
    ...byPeer(AT_SERVER, "=", WORKLOADS),
    ...tcpByPeer(AT_CLIENT, "!=", CALLER),
    ...tcpByPeer(AT_SERVER, "=", CALLER),
    ...tcpByPeer(AT_SERVER, "!=", CALLER),
    ...tcpByPeer(AT_SERVER, "=", WORKLOADS),
    ...tcpByPeer(AT_SERVER, "!=", WORKLOADS),
    "sum(istio_requests_total{}) by (destination_service) or sum(istio_tcp_sent_bytes_total{}) by (destination_service)",
  ],
  workload: [
    ...volume(INBOUND),
    tcpBytes(INBOUND),
    tcpBytes(OUTBOUND),
    ...byPeer(INBOUND, "=", CALLER),
    ...byPeer(OUTBOUND, "!=", "destination_service"),
    ...tcpByPeer(INBOUND, "=", CALLER),
    ...tcpByPeer(INBOUND, "!=", CALLER),
    ...tcpByPeer(OUTBOUND, "!=", "destination_service"),
    "sum(istio_requests_total) by (destination_workload_namespace) or sum(istio_tcp_sent_bytes_total) by (destination_workload_namespace)",
  ],
}).flatMap(([dashboard, queries]) => queries.map((expr) => ({ place: `Istio's ${dashboard} dashboard`, expr })));
