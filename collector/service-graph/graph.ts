// ServiceGraph: who calls whom, how often and how well, over any window of the last 15 minutes.
//
// All numbers of all edges are columns of one array of 32-bit counts. A snapshot is a copy of it, and what happened in a window is
// the difference of two: right modulo 2^32, and no edge has that many requests in 15 minutes. Columns of one edge:
//
//   +-----------------------------------------------+---------------------+-------------+------------+
//   | reported by the source                        | by the destination  | mutual TLS  | plain text |
//   | requests | errors | durations, le= x 19 | count| (the same 22)       |             |            |
//   +-----------------------------------------------+---------------------+-------------+------------+
// and elsewhere one for each response code and reporter, when it first occurs.
//
// Cost: a tick copies the array (400 KB at 2,000 edges, well under a millisecond) and walks the label sets that grew since the
// last one, some 0.1 us each per column. Memory: an edge has about 50 columns in about 210 snapshots, some 40 KB.

import { COUNTS_WIDTH, HISTOGRAM_COUNT, histogramField, REQUESTS } from "../series/counts.ts";
import { BUCKET_COUNT, quantile } from "../series/histogram.ts";
import { unpackLabels } from "../series/key.ts";
import type { SeriesStore } from "../series/store.ts";
import { HttpMetric, OTHER } from "../vocabulary.ts";
import { type Node, OTHER_NODE, placeOf, withKnown } from "./edge.ts";
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
  /** FOLLOWED numbers per series, as they were last added. */
  private seen = new Uint32Array(256 * FOLLOWED);
  private columns = new Uint32Array(1024);
  private usedColumns = 0;
  private readonly snapshots: Snapshots;
  private readonly counts = new Float64Array(COUNTS_WIDTH);

  constructor(
    private readonly store: SeriesStore,
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

  /** What happened in the last `windowMs`: edges with requests, and their nodes. */
  read(windowMs: number): Graph {
    this.refresh();
    const nowMs = this.now();
    const before = this.snapshots.at(nowMs - windowMs);
    const gained = (column: number) => ((this.columns[column] as number) - (before.columns[column] ?? 0)) >>> 0;
    const edges: GraphEdge[] = [];
    for (const edge of this.edges.values()) {
      const read = readEdge(edge, gained);
      if (read.requests > 0) edges.push(read);
    }
    const ends = new Set(edges.flatMap(({ source, destination }) => [source, destination]));
    const nodes = [...this.nodes.values()].filter(({ id }) => ends.has(id));
    return { coveredMs: nowMs - before.atMs, nodes, edges };
  }

  /** Adds what the series gained since the last time to the columns of their edges. */
  private refresh(): void {
    for (const series of this.store.takeChanged()) {
      const route = this.routes[series.index] ?? this.addRoute(series.index, series.labelKey);
      this.store.readRecent(series, this.counts);
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

  /** Notes a count (modulo 2^32) and says by how much it grew. */
  private advance(at: number, count: number): number {
    const gained = ((count >>> 0) - (this.seen[at] as number)) >>> 0;
    this.seen[at] = count;
    return gained;
  }

  private add(column: number, count: number): void {
    this.columns[column] = (this.columns[column] as number) + count;
  }

  private addRoute(index: number, labelKey: string): Route {
    const place = placeOf(unpackLabels(labelKey) ?? []);
    const edge = this.edgeOf(place.source, place.destination);
    const reporter = place.isFromDestination ? "destination" : "source";
    const policy = place.isMutualTls ? EDGE.mutualTls : EDGE.plainText;
    const isOverflow = edge.source !== place.source.id || edge.destination !== place.destination.id;
    const route: Route = {
      nodes: isOverflow ? [OTHER_NODE, OTHER_NODE] : [place.source, place.destination],
      block: edge.column + EDGE[reporter],
      isError: place.isError,
      code: this.codeColumn(edge.codes[reporter], place.responseCode),
      policy: place.isFromDestination && place.isMutualTls !== null ? edge.column + policy : -1,
    };
    this.routes[index] = route;
    while (this.seen.length < (index + 1) * FOLLOWED) this.seen = grown(this.seen);
    return route;
  }

  private edgeOf(source: Node, destination: Node): Edge {
    const key = JSON.stringify([source.id, destination.id]); // any text may stand in an id
    let edge = this.edges.get(key);
    if (!edge) {
      const isOther = source === OTHER_NODE && destination === OTHER_NODE;
      if (this.edges.size >= this.limit && !isOther) return this.edgeOf(OTHER_NODE, OTHER_NODE);
      const codes = { source: new Map(), destination: new Map() };
      edge = { source: source.id, destination: destination.id, column: this.allocate(EDGE_WIDTH), codes };
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

function readEdge(edge: Edge, gained: (column: number) => number): GraphEdge {
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
  };
}

function grown(array: Uint32Array): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(array.length * 2);
  larger.set(array);
  return larger;
}
