// One service, as its clients and its servers see it. By istio_*, which have both reports.

import type { Dashboard, Panel } from "./dashboard.ts";
import { errorRate, quantile, rate, successRatio } from "./promql.ts";

const SERVICE = 'destination_service_name=~"$service",destination_service_namespace=~"$namespace"';
const CLIENT = `reporter=~"source|waypoint",${SERVICE}`;
const SERVER = `reporter="destination",${SERVICE}`;
const DURATION = "istio_request_duration_milliseconds";
const CALLER = "source_workload,source_workload_namespace";
const CALLER_LEGEND = "{{source_workload}}.{{source_workload_namespace}}";
const WORKLOAD = "destination_workload,destination_workload_namespace";
const WORKLOAD_LEGEND = "{{destination_workload}}.{{destination_workload_namespace}}";

/** Of a histogram: three quantiles, as both sides see it. */
function quantiles(title: string, description: string, unit: string, metric: string): Panel {
  const queries = [0.5, 0.9, 0.99].flatMap((q) => [
    { expr: quantile(q, metric, CLIENT), legend: `client p${q * 100}` },
    { expr: quantile(q, metric, SERVER), legend: `server p${q * 100}` },
  ]);
  return { title, description, kind: "timeseries", unit, width: 8, queries };
}

/** The same numbers by both sides. */
function bothSides(title: string, description: string, unit: string, query: (matchers: string) => string): Panel {
  const queries = [
    { expr: query(CLIENT), legend: "clients say" },
    { expr: query(SERVER), legend: "servers say" },
  ];
  return { title, description, kind: "stat", unit, width: 6, queries };
}

export const SERVICE_DASHBOARD: Dashboard = {
  name: "service",
  title: "Meshtally: service",
  description: "One service, as its clients' proxies and its servers' proxies see it, and who calls it.",
  variables: [
    {
      name: "namespace",
      label: "Namespace",
      query: "label_values(istio_requests_total, destination_service_namespace)",
    },
    {
      name: "service",
      label: "Service",
      query:
        'query_result(sum by (destination_service_name) ({__name__=~"istio_requests_total|istio_tcp_sent_bytes_total",destination_service_namespace=~"$namespace"}))',
      regex: '/destination_service_name="([^"]+)"/',
    },
  ],
  rows: [
    {
      title: "General",
      panels: [
        bothSides("Requests", "HTTP and gRPC, a second.", "reqps", (side) => rate("istio_requests_total", side)),
        bothSides("Success", "Share without errors.", "percentunit", (side) =>
          successRatio("istio_requests_total", side),
        ),
        bothSides("p99", "99 of 100 requests took at most that.", "ms", (side) => quantile(0.99, DURATION, side)),
        {
          title: "Apdex",
          description: "At the threshold that the collector has for the service; of the last quarter of a minute.",
          kind: "stat",
          unit: "percentunit",
          width: 6,
          queries: [
            {
              expr: 'min(mesh_service_apdex_ratio{service=~"($service)[.]($namespace)",detect_point="server",window="live"})',
              legend: "Apdex",
            },
          ],
        },
      ],
    },
    {
      title: "Requests",
      panels: [
        {
          title: "By caller and code",
          description: "As the clients' proxies tell it.",
          kind: "timeseries",
          unit: "reqps",
          width: 8,
          queries: [
            {
              expr: rate("istio_requests_total", CLIENT, `${CALLER},response_code`),
              legend: `${CALLER_LEGEND} {{response_code}}`,
            },
          ],
        },
        {
          title: "Errors by caller",
          description: "No answer, 5xx, or a gRPC status but 0, as the clients' proxies tell it.",
          kind: "timeseries",
          unit: "reqps",
          width: 8,
          queries: [{ expr: errorRate("istio_requests_total", CLIENT, CALLER), legend: CALLER_LEGEND }],
        },
        {
          title: "By workload behind it",
          description: "As the servers' proxies tell it.",
          kind: "timeseries",
          unit: "reqps",
          width: 8,
          queries: [{ expr: rate("istio_requests_total", SERVER, WORKLOAD), legend: WORKLOAD_LEGEND }],
        },
        {
          title: "Response flags",
          description: "Why Envoy answered by itself or broke off, by its short names; - for nothing.",
          kind: "timeseries",
          unit: "reqps",
          width: 8,
          queries: [
            { expr: rate("istio_requests_total", CLIENT, "response_flags"), legend: "client {{response_flags}}" },
            { expr: rate("istio_requests_total", SERVER, "response_flags"), legend: "server {{response_flags}}" },
          ],
        },
        {
          title: "Connection security",
          description: "As the servers' proxies tell it.",
          kind: "timeseries",
          unit: "reqps",
          width: 8,
          queries: [
            {
              expr: rate("istio_requests_total", SERVER, "connection_security_policy,source_principal"),
              legend: "{{connection_security_policy}} {{source_principal}}",
            },
          ],
        },
        {
          title: "gRPC status",
          description: "Requests of gRPC by their status; empty without one.",
          kind: "timeseries",
          unit: "reqps",
          width: 8,
          queries: [
            {
              expr: rate("istio_requests_total", `request_protocol="grpc",${CLIENT}`, "grpc_response_status"),
              legend: "status {{grpc_response_status}}",
            },
          ],
        },
      ],
    },
    {
      title: "Latency and size",
      panels: [
        quantiles("Duration", "From the first byte of the request to the last of the answer.", "ms", DURATION),
        quantiles("Request size", "Headers and body.", "bytes", "istio_request_bytes"),
        quantiles("Response size", "Headers and body.", "bytes", "istio_response_bytes"),
        {
          title: "p99 by caller",
          description: "As the clients' proxies tell it.",
          kind: "timeseries",
          unit: "ms",
          width: 12,
          queries: [{ expr: quantile(0.99, DURATION, CLIENT, CALLER), legend: CALLER_LEGEND }],
        },
        {
          title: "p99 by workload behind it",
          description: "As the servers' proxies tell it.",
          kind: "timeseries",
          unit: "ms",
          width: 12,
          queries: [{ expr: quantile(0.99, DURATION, SERVER, WORKLOAD), legend: WORKLOAD_LEGEND }],
        },
      ],
    },
    {
      title: "TCP",
      panels: [
        {
          title: "Bytes by caller",
          description: "To the client's side (sent) and from it (received), as the servers' proxies tell it.",
          kind: "timeseries",
          unit: "Bps",
          width: 12,
          queries: [
            { expr: rate("istio_tcp_sent_bytes_total", SERVER, CALLER), legend: `${CALLER_LEGEND} sent` },
            { expr: rate("istio_tcp_received_bytes_total", SERVER, CALLER), legend: `${CALLER_LEGEND} received` },
          ],
        },
        {
          title: "Connections",
          description: "Opened and closed a second, as the servers' proxies tell it.",
          kind: "timeseries",
          unit: "cps",
          width: 12,
          queries: [
            { expr: rate("istio_tcp_connections_opened_total", SERVER, CALLER), legend: `${CALLER_LEGEND} opened` },
            { expr: rate("istio_tcp_connections_closed_total", SERVER, CALLER), legend: `${CALLER_LEGEND} closed` },
          ],
        },
      ],
    },
  ],
};
