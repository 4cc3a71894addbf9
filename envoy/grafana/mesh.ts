// The whole mesh: how much, how well, who calls whom. By mesh_*, which have each request once.

import type { Dashboard } from "./dashboard.ts";
import { errorRate, quantile, rate, successRatio } from "./promql.ts";

const NAMESPACE = 'destination_service_namespace=~"$namespace"';
const SERVICE = "destination_service_name,destination_service_namespace";
const SERVICE_LEGEND = "{{destination_service_name}}.{{destination_service_namespace}}";
const EDGE =
  "source_workload,source_workload_namespace,destination_workload,destination_workload_namespace,destination_service_name";
const DURATION = "mesh_request_duration_milliseconds";

export const MESH: Dashboard = {
  name: "mesh",
  title: "Meshtally: mesh",
  description: "Every request of the mesh, counted once: throughput, success, latency, and who calls whom.",
  variables: [
    {
      name: "namespace",
      label: "Namespace",
      query: "label_values(mesh_requests_total, destination_service_namespace)",
    },
  ],
  rows: [
    {
      title: "All of it",
      panels: [
        {
          title: "Requests",
          description: "HTTP and gRPC, a second.",
          kind: "stat",
          unit: "reqps",
          width: 5,
          queries: [{ expr: rate("mesh_requests_total", NAMESPACE), legend: "requests" }],
        },
        {
          title: "Success",
          description: "Share of the requests that got an answer, no 5xx, and of gRPC status 0.",
          kind: "stat",
          unit: "percentunit",
          width: 5,
          queries: [{ expr: successRatio("mesh_requests_total", NAMESPACE), legend: "success" }],
        },
        {
          title: "p99",
          description: "99 of 100 requests took at most that.",
          kind: "stat",
          unit: "ms",
          width: 5,
          queries: [{ expr: quantile(0.99, DURATION, NAMESPACE), legend: "p99" }],
        },
        {
          title: "TCP",
          description: "Bytes of TCP connections, both ways.",
          kind: "stat",
          unit: "Bps",
          width: 5,
          queries: [
            {
              expr: `${rate("mesh_tcp_sent_bytes_total", NAMESPACE)} + ${rate("mesh_tcp_received_bytes_total", NAMESPACE)}`,
              legend: "bytes",
            },
          ],
        },
        {
          title: "Completeness",
          description:
            "Of the proxy whose access logs tell least: the share of its requests that they told of in the last minutes.",
          kind: "stat",
          unit: "percentunit",
          width: 4,
          queries: [
            { expr: 'min(mesh_completeness_ratio{of="proxy",channel="access_log"})', legend: "access logs" },
            { expr: 'min(mesh_completeness_ratio{of="proxy",channel="stats"})', legend: "stats" },
          ],
        },
      ],
    },
    {
      title: "Services",
      panels: [
        {
          title: "Requests by service",
          description: "A second, by the service that was called.",
          kind: "timeseries",
          unit: "reqps",
          width: 12,
          queries: [{ expr: rate("mesh_requests_total", NAMESPACE, SERVICE), legend: SERVICE_LEGEND }],
        },
        {
          title: "Errors by service",
          description: "No answer, 5xx, or a gRPC status but 0.",
          kind: "timeseries",
          unit: "reqps",
          width: 12,
          queries: [{ expr: errorRate("mesh_requests_total", NAMESPACE, SERVICE), legend: SERVICE_LEGEND }],
        },
        {
          title: "Latency by service (p99)",
          description: "99 of 100 requests took at most that.",
          kind: "timeseries",
          unit: "ms",
          width: 12,
          queries: [{ expr: quantile(0.99, DURATION, NAMESPACE, SERVICE), legend: SERVICE_LEGEND }],
        },
        {
          title: "Codes",
          description: "A second, by HTTP status; 0 is no answer.",
          kind: "timeseries",
          unit: "reqps",
          width: 12,
          queries: [{ expr: rate("mesh_requests_total", NAMESPACE, "response_code"), legend: "{{response_code}}" }],
        },
        {
          title: "Protocols",
          description: "A second, by protocol.",
          kind: "timeseries",
          unit: "reqps",
          width: 8,
          queries: [
            { expr: rate("mesh_requests_total", NAMESPACE, "request_protocol"), legend: "{{request_protocol}}" },
          ],
        },
        {
          title: "Observed by",
          description:
            "Whose report of a request counts: the source's, or the destination's where its client has no proxy.",
          kind: "timeseries",
          unit: "reqps",
          width: 8,
          queries: [{ expr: rate("mesh_requests_total", NAMESPACE, "observed_by"), legend: "{{observed_by}}" }],
        },
        {
          title: "Connection security",
          description: "A second, by what the server's proxy says of the connection.",
          kind: "timeseries",
          unit: "reqps",
          width: 8,
          queries: [
            {
              expr: rate("istio_requests_total", `reporter="destination",${NAMESPACE}`, "connection_security_policy"),
              legend: "{{connection_security_policy}}",
            },
          ],
        },
      ],
    },
    {
      title: "Who calls whom",
      panels: [
        {
          title: "Edges",
          description: "Requests, success and p99 of each.",
          kind: "table",
          unit: "reqps",
          width: 24,
          queries: [
            { expr: rate("mesh_requests_total", NAMESPACE, EDGE), legend: "Requests" },
            { expr: successRatio("mesh_requests_total", NAMESPACE, EDGE), legend: "Success", unit: "percentunit" },
            { expr: quantile(0.99, DURATION, NAMESPACE, EDGE), legend: "p99", unit: "ms" },
          ],
        },
        {
          title: "TCP edges",
          description: "Bytes a second to the client's side (sent) and from it (received).",
          kind: "table",
          unit: "Bps",
          width: 24,
          queries: [
            { expr: rate("mesh_tcp_sent_bytes_total", NAMESPACE, EDGE), legend: "Sent" },
            { expr: rate("mesh_tcp_received_bytes_total", NAMESPACE, EDGE), legend: "Received" },
            { expr: rate("mesh_tcp_connections_opened_total", NAMESPACE, EDGE), legend: "Opened", unit: "cps" },
          ],
        },
      ],
    },
  ],
};
