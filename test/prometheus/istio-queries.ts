// What Istio's own dashboards ask Prometheus for: the shapes of their queries, with every value of their variables chosen.
// istio/istio, manifests/addons/dashboards: lib/queries.libsonnet (mesh), istio-service-dashboard.json, istio-workload-dashboard.json,
// istio-performance-dashboard.json; and what the values of their variables are looked up by.
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

/** The values of a variable. */
function choices(matchers: string, label: string): string {
  const of = (metric: string) => `sum(${metric}{${matchers}}) by (${label})`;
  return `${of("istio_requests_total")} or ${of("istio_tcp_sent_bytes_total")}`;
}

/** What its gateway and its proxies transfer, and how many requests the cost of its parts is divided by. */
function performance(): string[] {
  const bytes = (way: "request" | "response", matchers: string) =>
    `sum(irate(istio_${way}_bytes_sum{${matchers}}[1m]))`;
  const source = 'source_workload_namespace!="istio-system", reporter="source"';
  const destination = 'destination_workload_namespace!="istio-system", reporter="destination"';
  const gateway = 'source_workload=~".*", reporter="source"';
  return [
    `round(sum(irate(istio_requests_total{${gateway}}[1m])), 0.001)/1000`,
    'round(sum(irate(istio_requests_total[1m])), 0.001)/1000 / (sum(irate(istio_requests_total{source_workload=~".*"}[1m])) >bool 10)',
    bytes("response", gateway),
    [
      bytes("response", source),
      bytes("response", destination),
      bytes("request", source),
      bytes("request", destination),
    ].join(" + "),
  ];
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
    choices("", "destination_service"),
    ...["source_cluster", "source_workload_namespace", "source_workload"].map((label) => choices(AT_CLIENT, label)),
    ...["destination_cluster", "destination_workload_namespace", "destination_workload"].map((label) =>
      choices(AT_SERVER, label),
    ),
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
    choices("", "destination_workload_namespace"),
    ...["source_workload_namespace", "source_workload", "destination_workload"].map((label) => choices(INBOUND, label)),
    ...["source_workload", "destination_service"].map((label) => choices(OUTBOUND, label)),
  ],
  performance: performance(),
}).flatMap(([dashboard, queries]) => queries.map((expr) => ({ place: `Istio's ${dashboard} dashboard`, expr })));
