// ServiceGraph: who calls whom, how often and how well, over any window of the last 15 minutes.
//
// All numbers of all edges are columns of one array of 32-bit counts. A snapshot is a copy of it, and what happened in a window is
// the difference of two: right modulo 2^32, and no edge has that many requests in 15 minutes. Columns of one edge:
//
//   +-----------------------------------------------+---------------------+-------------+------------+
//   | reported by the source                        | by the destination  | mutual TLS  | plain text |
//   | requests | errors | durations, le= x 19 | count| (the same 22)       |             |            |
//   +-----------------------------------------------+---------------------+-------------+------------+
// and elsewhere one for each response code and reporter, when it first occurs, and for TCP, once the edge has any:
//
//   +---------------------------------------------------------+----------------------+
//   | reported by the source                                  | by the destination   |
//   | opened | closed | sent low, high | received low, high   | (the same 6)         |
//   +---------------------------------------------------------+----------------------+
// Bytes may be more than 2^32 in a window, so they have two columns: the low half counts up and carries over into the high one.
//
// Cost: a tick copies the array (400 KB at 2,000 edges, well under a millisecond) and walks the label sets that grew since the
// last one, some 0.1 us each per column. Memory: an edge has about 50 columns in about 210 snapshots, some 40 KB; with TCP 50 KB.

import { COUNTS_WIDTH, HISTOGRAM_COUNT, histogramField, REQUESTS } from "../series/counts.ts";
import { BUCKET_COUNT, quantile } from "../series/histogram.ts";
import { unpackLabels } from "../series/key.ts";
import type { LabelSet, SeriesTables } from "../series/reader.ts";
import { HttpMetric, OTHER, TCP_METRICS, TcpMetric } from "../vocabulary.ts";
import { type Node, OTHER_NODE, type Place, placeOf, withKnown } from "./edge.ts";
import { Snapshots } from "./snapshots.ts";

/** Offsets in the block of one reporter. */
const BLOCK = { requests: 0, errors: 1, buckets: 2, count: 2 + BUCKET_COUNT, width: 3 + BUCKET_COUNT } as const;
/** Offsets in an edge. */
const EDGE = {
  source: 0,
  destination: BLOCK.width,
  mutualTls: 2 * BLOCK.width,
  plainText: 2 * BLOCK.width + 1,
} as const;
const EDGE_WIDTH = 2 * BLOCK.width + 2;

/** Offsets in the TCP block of one reporter. */
const TCP = { opened: 0, closed: 1, sent: 2, received: 4, width: 6 } as const;
const TWO_TO_32 = 2 ** 32;

/** Response codes told apart on one edge; there are some forty in use in the world. */
const MAX_CODES = 24;

/** What of a series' counts the graph follows: requests, then the durations' buckets and count. */
const FOLLOWED = 2 + BUCKET_COUNT;
const DURATION = histogramField(HttpMetric.Duration);

interface Edge {
  /** Node ids. */
  readonly source: string;
  readonly destination: string;
  /** First of its columns. */
  readonly column: number;
  /** Response code -> column, by reporter. */
  readonly codes: { readonly source: Map<string, number>; readonly destination: Map<string, number> };
  /** First of its TCP columns; -1 before there was a connection. */
  tcpColumn: number;
}

/** The columns that the requests of one series are added to. */
interface Route {
  /** The ends of the edge as this series knows them. */
  readonly nodes: readonly [Node, Node];
  readonly block: number;
  readonly isError: boolean;
  readonly code: number;
  /** Column of the security policy; -1 for a series that says nothing of it. */
  readonly policy: number;
}

/** The columns that the connections of one series are added to. */
interface TcpRoute {
  readonly nodes: readonly [Node, Node];
  /** First column of the reporter's TCP block. */
  readonly block: number;
  /** As in Route. */
  readonly policy: number;
  /** Indexed by TcpMetric, as they were last added. */
  readonly seen: Float64Array;
}

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

export interface Graph {
  /** How long the window really was: shorter while the collector is young, up to a snapshot's distance longer otherwise. */
  readonly coveredMs: number;
  readonly nodes: readonly Node[];
  readonly edges: readonly GraphEdge[];
}

export class ServiceGraph {
  private readonly edges = new Map<string, Edge>();
  private readonly nodes = new Map<string, Node>();
  /** By the index of the series. */
  private readonly routes: Route[] = [];
  private readonly tcpRoutes: TcpRoute[] = [];
  /** FOLLOWED numbers per series, as they were last added. */
  private seen = new Uint32Array(256 * FOLLOWED);
  private columns = new Uint32Array(1024);
  private usedColumns = 0;
  private readonly snapshots: Snapshots;
  private readonly counts = new Float64Array(COUNTS_WIDTH);

  constructor(
    private readonly store: SeriesTables,
    /** Most edges held; what comes after is shown as one edge from `other` to `other`. */
    private readonly limit: number,
    /** A clock that never jumps, in milliseconds. */
    private readonly now: () => number = () => performance.now(),
  ) {
    this.snapshots = new Snapshots(now());
  }

  get edgeCount(): number {
    return this.edges.size;
  }

  /** Takes a snapshot; to be called once a second. */
  tick(): void {
    this.refresh();
    this.snapshots.take(this.now(), this.columns.subarray(0, this.usedColumns));
  }

  /** What happened in the last `windowMs`: edges with requests or TCP traffic, and their nodes. */
  read(windowMs: number): Graph {
    this.refresh();
    const nowMs = this.now();
    const before = this.snapshots.at(nowMs - windowMs);
    const window = new Window(this.columns, before.columns);
    const edges: GraphEdge[] = [];
    for (const edge of this.edges.values()) {
      const read = readEdge(edge, window);
      if (read.requests > 0 || hasTraffic(read.tcp)) edges.push(read);
    }
    const ends = new Set(edges.flatMap(({ source, destination }) => [source, destination]));
    const nodes = [...this.nodes.values()].filter(({ id }) => ends.has(id));
    return { coveredMs: nowMs - before.atMs, nodes, edges };
  }

  /** Adds what the series gained since the last time to the columns of their edges. */
  private refresh(): void {
    for (const series of this.store.tcp.takeChanged()) this.refreshTcp(series);
    for (const series of this.store.http.takeChanged()) {
      const route = this.routes[series.index] ?? this.addRoute(series.index, series.labelKey);
      this.store.http.readRecent(series, this.counts);
      const seen = series.index * FOLLOWED;
      const requests = this.advance(seen, this.counts[REQUESTS] as number);
      this.add(route.block + BLOCK.requests, requests);
      this.add(route.code, requests);
      if (requests > 0) this.learn(route.nodes);
      if (route.isError) this.add(route.block + BLOCK.errors, requests);
      if (route.policy >= 0) this.add(route.policy, requests);
      for (let field = 0; field <= HISTOGRAM_COUNT; field++) {
        const gained = this.advance(seen + 1 + field, this.counts[DURATION + field] as number);
        this.add(route.block + BLOCK.buckets + field, gained);
      }
    }
  }

  private refreshTcp(series: LabelSet): void {
    const { nodes, block, policy, seen } = this.tcpRoutes[series.index] ?? this.addTcpRoute(series);
    const { counts } = this;
    this.store.tcp.readRecent(series, counts);
    const gained = (metric: TcpMetric) => (counts[metric] as number) - (seen[metric] as number);
    const opened = gained(TcpMetric.Opened);
    this.add(block + TCP.opened, opened);
    this.add(block + TCP.closed, gained(TcpMetric.Closed));
    this.addWide(block + TCP.sent, gained(TcpMetric.SentBytes));
    this.addWide(block + TCP.received, gained(TcpMetric.ReceivedBytes));
    if (policy >= 0) this.add(policy, opened);
    if (TCP_METRICS.some((_, metric) => gained(metric) > 0)) this.learn(nodes);
    seen.set(counts.subarray(0, seen.length));
  }

  /** Notes a count (modulo 2^32) and says by how much it grew. */
  private advance(at: number, count: number): number {
    const gained = ((count >>> 0) - (this.seen[at] as number)) >>> 0;
    this.seen[at] = count;
    return gained;
  }

  private add(column: number, count: number): void {
    this.columns[column] = (this.columns[column] as number) + count;
  }

  /** Adds to a count of two columns. */
  private addWide(column: number, count: number): void {
    const low = (this.columns[column] as number) + (count % TWO_TO_32);
    this.columns[column] = low;
    this.add(column + 1, Math.floor(count / TWO_TO_32) + (low >= TWO_TO_32 ? 1 : 0));
  }

  private addRoute(index: number, labelKey: string): Route {
    const place = placeOf(unpackLabels(labelKey) ?? []);
    const edge = this.edgeOf(place.source, place.destination);
    const reporter = place.isFromDestination ? "destination" : "source";
    const route: Route = {
      nodes: nodesOf(edge, place),
      block: edge.column + EDGE[reporter],
      isError: place.isError,
      code: this.codeColumn(edge.codes[reporter], place.responseCode),
      policy: policyColumn(edge, place),
    };
    this.routes[index] = route;
    while (this.seen.length < (index + 1) * FOLLOWED) this.seen = grown(this.seen);
    return route;
  }

  private addTcpRoute({ index, labelKey }: LabelSet): TcpRoute {
    const place = placeOf(unpackLabels(labelKey) ?? []);
    const edge = this.edgeOf(place.source, place.destination);
    if (edge.tcpColumn < 0) edge.tcpColumn = this.allocate(2 * TCP.width);
    const route: TcpRoute = {
      nodes: nodesOf(edge, place),
      block: edge.tcpColumn + (place.isFromDestination ? TCP.width : 0),
      policy: policyColumn(edge, place),
      seen: new Float64Array(TCP_METRICS.length),
    };
    this.tcpRoutes[index] = route;
    return route;
  }

  private edgeOf(source: Node, destination: Node): Edge {
    const key = JSON.stringify([source.id, destination.id]); // any text may stand in an id
    let edge = this.edges.get(key);
    if (!edge) {
      const isOther = source === OTHER_NODE && destination === OTHER_NODE;
      if (this.edges.size >= this.limit && !isOther) return this.edgeOf(OTHER_NODE, OTHER_NODE);
      const codes = { source: new Map(), destination: new Map() };
      const column = this.allocate(EDGE_WIDTH);
      edge = { source: source.id, destination: destination.id, column, codes, tcpColumn: -1 };
      this.edges.set(key, edge);
    }
    return edge;
  }

  private learn(nodes: readonly Node[]): void {
    for (const node of nodes) this.nodes.set(node.id, withKnown(this.nodes.get(node.id), node));
  }

  private codeColumn(codes: Map<string, number>, responseCode: string): number {
    const code = codes.has(responseCode) || codes.size < MAX_CODES ? responseCode : OTHER;
    let column = codes.get(code);
    if (column === undefined) {
      column = this.allocate(1);
      codes.set(code, column);
    }
    return column;
  }

  private allocate(width: number): number {
    const column = this.usedColumns;
    this.usedColumns += width;
    while (this.columns.length < this.usedColumns) this.columns = grown(this.columns);
    return column;
  }
}

/** The ends of the edge as a series knows them; those of the overflow if its own edge found no room. */
function nodesOf(edge: Edge, { source, destination }: Place): readonly [Node, Node] {
  const isOwn = edge.source === source.id && edge.destination === destination.id;
  return isOwn ? [source, destination] : [OTHER_NODE, OTHER_NODE];
}

/** -1 where the report does not say. */
function policyColumn({ column }: Edge, { isFromDestination, isMutualTls }: Place): number {
  if (!isFromDestination || isMutualTls === null) return -1;
  return column + (isMutualTls ? EDGE.mutualTls : EDGE.plainText);
}

function hasTraffic(tcp: TcpTraffic): boolean {
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
class Window {
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

function readEdge(edge: Edge, window: Window): GraphEdge {
  const gained = (column: number) => window.gained(column);
  const sourceRequests = gained(edge.column + EDGE.source);
  const destinationRequests = gained(edge.column + EDGE.destination);
  const reporter = sourceRequests >= destinationRequests ? "source" : "destination";
  const block = edge.column + EDGE[reporter];
  const buckets = Array.from({ length: BUCKET_COUNT }, (_, bucket) => gained(block + BLOCK.buckets + bucket));
  const finished = gained(block + BLOCK.count);
  const mutualTls = gained(edge.column + EDGE.mutualTls);
  const plainText = gained(edge.column + EDGE.plainText);
  const codes = [...edge.codes[reporter]].map(([code, column]) => [code, gained(column)] as const);
  return {
    source: edge.source,
    destination: edge.destination,
    requests: Math.max(sourceRequests, destinationRequests),
    errors: gained(block + BLOCK.errors),
    p50Ms: quantile(0.5, buckets, finished),
    p90Ms: quantile(0.9, buckets, finished),
    p99Ms: quantile(0.99, buckets, finished),
    responseCodes: Object.fromEntries(codes.filter(([, count]) => count > 0)),
    isMutualTls: mutualTls + plainText > 0 ? plainText === 0 : null,
    sourceRequests,
    destinationRequests,
    tcp: readTcp(edge, window),
  };
}

function grown(array: Uint32Array): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(array.length * 2);
  larger.set(array);
  return larger;
}
