// The edges of a graph as a table for the terminal.

import { UNKNOWN } from "../collector/vocabulary.ts";
import type { Graph, GraphEdge, TcpTraffic } from "./graph.ts";

/** An edge with what of it a table shows, and the graph's window. */
interface Row {
  readonly edge: GraphEdge;
  readonly tcp: TcpTraffic;
  readonly windowSeconds: number;
  /** Name of a node. */
  readonly name: (id: string) => string;
}

interface Column {
  readonly title: string;
  readonly alignRight: boolean;
  readonly cell: (row: Row) => string;
}

const HTTP_COLUMNS: readonly Column[] = [
  { title: "SOURCE", alignRight: false, cell: ({ edge, name }) => name(edge.source) },
  { title: "DESTINATION", alignRight: false, cell: ({ edge, name }) => name(edge.destination) },
  { title: "REQ/S", alignRight: true, cell: ({ edge }) => edge.requests_per_second.toFixed(1) },
  { title: "ERRORS", alignRight: true, cell: ({ edge }) => `${(edge.error_ratio * 100).toFixed(1)} %` },
  { title: "P50 MS", alignRight: true, cell: ({ edge }) => milliseconds(edge.p50_ms) },
  { title: "P99 MS", alignRight: true, cell: ({ edge }) => milliseconds(edge.p99_ms) },
  { title: "MTLS", alignRight: false, cell: ({ edge }) => (edge.mtls === null ? "?" : edge.mtls ? "yes" : "no") },
];

const TCP_COLUMNS: readonly Column[] = [
  { title: "TCP CLIENT", alignRight: false, cell: ({ edge, name }) => name(edge.source) },
  { title: "SERVER", alignRight: false, cell: ({ edge, name }) => name(edge.destination) },
  { title: "OPENED", alignRight: true, cell: ({ tcp }) => String(tcp.connections_opened) },
  { title: "CLOSED", alignRight: true, cell: ({ tcp }) => String(tcp.connections_closed) },
  { title: "TO CLIENT B/S", alignRight: true, cell: ({ tcp, windowSeconds }) => rate(tcp.sent_bytes, windowSeconds) },
  {
    title: "TO SERVER B/S",
    alignRight: true,
    cell: ({ tcp, windowSeconds }) => rate(tcp.received_bytes, windowSeconds),
  },
  {
    title: "BY",
    alignRight: false,
    cell: ({ edge }) => (edge.mtls === null ? "?" : edge.mtls ? "mutual TLS" : "plaintext"),
  },
];

/**
 * One line of titles and one per edge with requests in the window, ordered by source and destination; [] without such edges.
 * No line is wider than `width` characters.
 *
 *     SOURCE           DESTINATION     REQ/S  ERRORS  P50 MS  P99 MS  MTLS
 *     ingress-gateway  productpage-v1   20.0   2.0 %     4.1    73.0  yes
 */
export function renderTable(graph: Graph, width = Number.POSITIVE_INFINITY): string[] {
  return render(
    HTTP_COLUMNS,
    rowsOf(graph).filter(({ edge }) => edge.requests > 0),
    width,
  );
}

/**
 * The same for edges with TCP traffic in the window:
 *
 *     TCP CLIENT  SERVER         OPENED  CLOSED  TO CLIENT B/S  TO SERVER B/S  BY
 *     ratings-v1  ratings-db-v1       2       1            480             90  mutual TLS
 */
export function renderTcpTable(graph: Graph, width = Number.POSITIVE_INFINITY): string[] {
  const hasTraffic = ({ tcp }: Row) => Object.values(tcp).some((count) => count > 0);
  return render(TCP_COLUMNS, rowsOf(graph).filter(hasTraffic), width);
}

function rowsOf({ nodes, edges, window_seconds: windowSeconds }: Graph): Row[] {
  // A service of which no workload answered has an id that says more than its workload: "service/default/reviews".
  const known = nodes.filter(({ workload }) => workload !== UNKNOWN);
  const workloads = new Map(known.map(({ id, workload }) => [id, workload]));
  const name = (id: string) => workloads.get(id) ?? id;
  return edges.map((edge) => ({ edge, tcp: edge.tcp, windowSeconds, name }));
}

function render(columns: readonly Column[], shown: readonly Row[], width: number): string[] {
  const rows = shown
    .map((row) => columns.map((column) => column.cell(row)))
    .sort((a, b) => a.join(" ").localeCompare(b.join(" ")));
  if (rows.length === 0) return [];
  const lines = [columns.map((column) => column.title), ...rows];
  const widths = columns.map((_, index) => Math.max(...lines.map((cells) => cells[index]?.length ?? 0)));
  return lines.map((cells) => {
    const padded = cells.map((cell, index) => {
      const columnWidth = widths[index] ?? 0;
      return columns[index]?.alignRight ? cell.padStart(columnWidth) : cell.padEnd(columnWidth);
    });
    return padded.join("  ").trimEnd().slice(0, width);
  });
}

function rate(bytes: number, seconds: number): string {
  return (bytes / seconds).toFixed(0);
}

function milliseconds(value: number | null): string {
  return value === null ? "-" : value.toFixed(1);
}
