// One workload: what comes in, as its own proxy tells it, and what goes out. By istio_*.

import type { Dashboard, Panel, Row } from "./dashboard.ts";
import { errorRate, quantile, rate, successRatio } from "./promql.ts";

const DURATION = "istio_request_duration_milliseconds";

interface Direction {
  readonly title: string;
  /** The workload's own reports of it. */
  readonly matchers: string;
  /** Who is at the other end. */
  readonly peer: string;
  readonly legend: string;
}

const IN: Direction = {
  title: "What comes in",
  matchers: 'reporter="destination",destination_workload=~"$workload",destination_workload_namespace=~"$namespace"',
  peer: "source_workload,source_workload_namespace",
  legend: "{{source_workload}}.{{source_workload_namespace}}",
};

const OUT: Direction = {
  title: "What goes out",
  matchers: 'reporter=~"source|waypoint",source_workload=~"$workload",source_workload_namespace=~"$namespace"',
  peer: "destination_service_name,destination_service_namespace",
  legend: "{{destination_service_name}}.{{destination_service_namespace}}",
};

function panelOf(title: string, description: string, unit: string, expr: string, legend: string): Panel {
  return { title, description, kind: "timeseries", unit, width: 8, queries: [{ expr, legend }] };
}

function rowOf({ title, matchers, peer, legend }: Direction): Row {
  const withCode = rate("istio_requests_total", matchers, `${peer},response_code`);
  const sizes = [
    { expr: quantile(0.99, "istio_request_bytes", matchers, peer), legend: `${legend} request` },
    { expr: quantile(0.99, "istio_response_bytes", matchers, peer), legend: `${legend} response` },
  ];
  const bytes = [
    { expr: rate("istio_tcp_sent_bytes_total", matchers, peer), legend: `${legend} sent` },
    { expr: rate("istio_tcp_received_bytes_total", matchers, peer), legend: `${legend} received` },
  ];
  return {
    title,
    panels: [
      panelOf("Requests", "A second, by peer and code.", "reqps", withCode, `${legend} {{response_code}}`),
      panelOf("Errors", "A second, by peer.", "reqps", errorRate("istio_requests_total", matchers, peer), legend),
      panelOf("p99", "Of durations, by peer.", "ms", quantile(0.99, DURATION, matchers, peer), legend),
      panelOf("p50", "Of durations, by peer.", "ms", quantile(0.5, DURATION, matchers, peer), legend),
      { ...panelOf("Sizes (p99)", "Headers and body, by peer.", "bytes", "", ""), queries: sizes },
      { ...panelOf("TCP bytes", "To the client's side (sent) and from it, by peer.", "Bps", "", ""), queries: bytes },
    ],
  };
}

function statOf(title: string, description: string, unit: string, query: (matchers: string) => string): Panel {
  const queries = [
    { expr: query(IN.matchers), legend: "in" },
    { expr: query(OUT.matchers), legend: "out" },
  ];
  return { title, description, kind: "stat", unit, width: 8, queries };
}

export const WORKLOAD: Dashboard = {
  name: "workload",
  title: "Meshtally: workload",
  description: "One workload: who calls it, and whom it calls.",
  variables: [
    {
      name: "namespace",
      label: "Namespace",
      query: "label_values(istio_requests_total, destination_workload_namespace)",
    },
    {
      name: "workload",
      label: "Workload",
      query:
        'query_result(sum by (destination_workload) ({__name__=~"istio_requests_total|istio_tcp_sent_bytes_total",destination_workload_namespace=~"$namespace"}))',
      regex: '/destination_workload="([^"]+)"/',
    },
  ],
  rows: [
    {
      title: "General",
      panels: [
        statOf("Requests", "HTTP and gRPC, a second.", "reqps", (side) => rate("istio_requests_total", side)),
        statOf("Success", "Share without errors.", "percentunit", (side) => successRatio("istio_requests_total", side)),
        statOf("p99", "99 of 100 requests took at most that.", "ms", (side) => quantile(0.99, DURATION, side)),
      ],
    },
    rowOf(IN),
    rowOf(OUT),
  ],
};
