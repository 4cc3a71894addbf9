// Window: what happened on the edges of the graph since a snapshot of their columns.

import { quantile } from "../series/histogram.ts";
import { BLOCK, type Edge, type EdgeColumns, TCP, TWO_TO_32 } from "./columns.ts";

export interface GraphEdge {
  /** Node ids. */
  readonly source: string;
  readonly destination: string;
  /** The larger of what the two reporters counted: each counts the same requests. All that follows is from that reporter. */
  readonly requests: number;
  readonly errors: number;
  /** null when no request finished in the window. */
  readonly p50Ms: number | null;
  readonly p90Ms: number | null;
  readonly p99Ms: number | null;
  readonly responseCodes: Readonly<Record<string, number>>;
  /** Whether all of it was mutual TLS, by the destination's reports; null when it reported nothing. */
  readonly isMutualTls: boolean | null;
  readonly sourceRequests: number;
  readonly destinationRequests: number;
  /** Of each number the larger of what the two reporters counted. */
  readonly tcp: TcpTraffic;
}

/** TCP in the window. */
interface TcpTraffic {
  readonly opened: number;
  readonly closed: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

export function hasTraffic(tcp: TcpTraffic): boolean {
  return Object.values(tcp).some((count) => count > 0);
}

const NO_TCP: TcpTraffic = { opened: 0, closed: 0, sentBytes: 0, receivedBytes: 0 };

function readTcp({ tcpColumn }: Edge, window: Window): TcpTraffic {
  if (tcpColumn < 0) return NO_TCP;
  const source = readTcpBlock(tcpColumn, window);
  const destination = readTcpBlock(tcpColumn + TCP.width, window);
  return {
    opened: Math.max(source.opened, destination.opened),
    closed: Math.max(source.closed, destination.closed),
    sentBytes: Math.max(source.sentBytes, destination.sentBytes),
    receivedBytes: Math.max(source.receivedBytes, destination.receivedBytes),
  };
}

function readTcpBlock(block: number, window: Window): TcpTraffic {
  return {
    opened: window.gained(block + TCP.opened),
    closed: window.gained(block + TCP.closed),
    sentBytes: window.gainedWide(block + TCP.sent),
    receivedBytes: window.gainedWide(block + TCP.received),
  };
}

/** What the columns gained since a snapshot of them. */
export class Window {
  constructor(
    private readonly columns: Uint32Array,
    private readonly before: Uint32Array,
  ) {}

  gained(column: number): number {
    return ((this.columns[column] as number) - (this.before[column] ?? 0)) >>> 0;
  }

  /** Of a count of two columns. */
  gainedWide(column: number): number {
    return wideAt(this.columns, column) - wideAt(this.before, column);
  }
}

function wideAt(columns: Uint32Array, column: number): number {
  return (columns[column + 1] ?? 0) * TWO_TO_32 + (columns[column] ?? 0);
}

export function readEdge(edge: Edge, columns: EdgeColumns, window: Window): GraphEdge {
  const { upper } = columns.bounds;
  const gained = (column: number) => window.gained(column);
  const sourceRequests = gained(edge.column + columns.source);
  const destinationRequests = gained(edge.column + columns.destination);
  const reporter = sourceRequests >= destinationRequests ? "source" : "destination";
  const block = edge.column + columns[reporter];
  const buckets = upper.map((_, bucket) => gained(block + BLOCK.buckets + bucket));
  const finished = gained(block + columns.count);
  const mutualTls = gained(edge.column + columns.mutualTls);
  const plainText = gained(edge.column + columns.plainText);
  const codes = [...edge.codes[reporter]].map(([code, column]) => [code, gained(column)] as const);
  return {
    source: edge.source,
    destination: edge.destination,
    requests: Math.max(sourceRequests, destinationRequests),
    errors: gained(block + BLOCK.errors),
    p50Ms: quantile(0.5, upper, buckets, finished),
    p90Ms: quantile(0.9, upper, buckets, finished),
    p99Ms: quantile(0.99, upper, buckets, finished),
    responseCodes: Object.fromEntries(codes.filter(([, count]) => count > 0)),
    isMutualTls: mutualTls + plainText > 0 ? plainText === 0 : null,
    sourceRequests,
    destinationRequests,
    tcp: readTcp(edge, window),
  };
}
