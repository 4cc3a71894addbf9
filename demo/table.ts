// The edges of a graph as a table for the terminal.

import { UNKNOWN } from "../collector/vocabulary.ts";
import type { Graph, GraphEdge } from "./graph.ts";

interface Column {
  readonly title: string;
  readonly alignRight: boolean;
  readonly cell: (edge: GraphEdge, name: (id: string) => string) => string;
}

const COLUMNS: readonly Column[] = [
  { title: "SOURCE", alignRight: false, cell: (edge, name) => name(edge.source) },
  { title: "DESTINATION", alignRight: false, cell: (edge, name) => name(edge.destination) },
  { title: "REQ/S", alignRight: true, cell: (edge) => edge.requests_per_second.toFixed(1) },
  { title: "ERRORS", alignRight: true, cell: (edge) => `${(edge.error_ratio * 100).toFixed(1)} %` },
  { title: "P50 MS", alignRight: true, cell: (edge) => milliseconds(edge.p50_ms) },
  { title: "P99 MS", alignRight: true, cell: (edge) => milliseconds(edge.p99_ms) },
  { title: "MTLS", alignRight: false, cell: (edge) => (edge.mtls === null ? "?" : edge.mtls ? "yes" : "no") },
];

/**
 * One line of titles and one per edge with requests in the window, ordered by source and destination; [] without such edges.
 * No line is wider than `width` characters.
 *
 *     SOURCE           DESTINATION     REQ/S  ERRORS  P50 MS  P99 MS  MTLS
 *     ingress-gateway  productpage-v1   20.0   2.0 %     4.1    73.0  yes
 */
export function renderTable(graph: Graph, width = Number.POSITIVE_INFINITY): string[] {
  // A service of which no workload answered has an id that says more than its workload: "service/default/reviews".
  const known = graph.nodes.filter(({ workload }) => workload !== UNKNOWN);
  const workloads = new Map(known.map(({ id, workload }) => [id, workload]));
  const name = (id: string) => workloads.get(id) ?? id;
  const rows = graph.edges
    .filter((edge) => edge.requests > 0)
    .map((edge) => COLUMNS.map((column) => column.cell(edge, name)))
    .sort((a, b) => a.join(" ").localeCompare(b.join(" ")));
  if (rows.length === 0) return [];
  const lines = [COLUMNS.map((column) => column.title), ...rows];
  const widths = COLUMNS.map((_, index) => Math.max(...lines.map((cells) => cells[index]?.length ?? 0)));
  return lines.map((cells) => {
    const padded = cells.map((cell, index) => {
      const columnWidth = widths[index] ?? 0;
      return COLUMNS[index]?.alignRight ? cell.padStart(columnWidth) : cell.padEnd(columnWidth);
    });
    return padded.join("  ").trimEnd().slice(0, width);
  });
}

function milliseconds(value: number | null): string {
  return value === null ? "-" : value.toFixed(1);
}
