// ServiceGraph: who calls whom, how often and how well, over any window of the last 15 minutes.
//
// All numbers of all edges are columns of one array (columns.ts), and what happened in a window is the difference of two copies of it
// (window.ts): right modulo 2^32, and no edge has that many requests in 15 minutes.
//
// Cost: a tick copies the array (400 KB at 2,000 edges, well under a millisecond) and walks the label sets that grew since the
// last one, some 0.1 us each per column. Memory: an edge has about 50 columns in about 210 snapshots, some 40 KB; with TCP 50 KB.

import { REQUESTS } from "../series/counts.ts";
import { unpackLabels } from "../series/key.ts";
import { Owners } from "../series/label-sets.ts";
import type { LabelSet, SeriesTables } from "../series/reader.ts";
import { HttpMetric, OTHER, TCP_METRICS, TcpMetric } from "../vocabulary.ts";
import { BLOCK, type Edge, EdgeColumns, TCP, TWO_TO_32 } from "./columns.ts";
import { type Node, OTHER_NODE, type Place, placeOf, withKnown } from "./edge.ts";
import { FreeColumns } from "./free-columns.ts";
import { Snapshots } from "./snapshots.ts";
import { type GraphEdge, hasTraffic, readEdge, Window } from "./window.ts";

/** Response codes told apart on one edge; there are some forty in use in the world. */
const MAX_CODES = 24;

/** Ticks, each a second, between two looks for edges that carry nothing any more. */
const EXPIRY_TICKS = 60;
/** So many without use, and all snapshots that are held were taken after it, even if the process stood still meanwhile. */
const MIN_IDLE_TICKS = 1000;

/** The columns that the requests of one series are added to. */
interface Route {
  readonly edge: Edge;
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
  readonly edge: Edge;
  readonly nodes: readonly [Node, Node];
  /** First column of the reporter's TCP block. */
  readonly block: number;
  /** As in Route. */
  readonly policy: number;
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
  private routes: (Route | undefined)[] = [];
  private tcpRoutes: (TcpRoute | undefined)[] = [];
  /** Whose the indexes are. */
  private readonly owners = new Owners();
  private readonly tcpOwners = new Owners();
  /** By the index of the series: indexed by TcpMetric, as they were last added. */
  private readonly tcpSeen: Float64Array[] = [];
  private readonly freeColumns = new FreeColumns();
  private ticks = 0;
  private readonly edgeColumns: EdgeColumns;
  /** First field of the durations. */
  private readonly duration: number;
  /** What of a series' counts the graph follows: requests, then the durations' buckets and count. */
  private readonly followed: number;
  /** So many numbers per series, as they were last added. */
  private seen: Uint32Array;
  private columns = new Uint32Array(1024);
  private usedColumns = 0;
  private readonly snapshots: Snapshots;
  private readonly counts: Float64Array;

  constructor(
    private readonly store: SeriesTables,
    /** Most edges held; what comes after is shown as one edge from `other` to `other`. */
    private readonly limit: number,
    /** A clock that never jumps, in milliseconds. */
    private readonly now: () => number = () => performance.now(),
    /** How long edges are held that carry nothing, though no less than MIN_IDLE_TICKS; 0: for ever. */
    private readonly expireAfterMs = 0,
  ) {
    const [{ layout }] = store.shapes;
    this.edgeColumns = new EdgeColumns(layout.bounds);
    this.duration = layout.histogramField(HttpMetric.Duration);
    this.followed = 2 + layout.histogramCount;
    this.seen = new Uint32Array(256 * this.followed);
    this.counts = new Float64Array(layout.width);
    this.snapshots = new Snapshots(now());
  }

  get edgeCount(): number {
    return this.edges.size;
  }

  /** Takes a snapshot; to be called once a second. */
  tick(): void {
    this.refresh();
    this.snapshots.take(this.now(), this.columns.subarray(0, this.usedColumns));
    this.ticks++;
    if (this.expireAfterMs > 0 && this.ticks % EXPIRY_TICKS === 0) this.expire();
  }

  /** What happened in the last `windowMs`: edges with requests or TCP traffic, and their nodes. */
  read(windowMs: number): Graph {
    this.refresh();
    const nowMs = this.now();
    const before = this.snapshots.at(nowMs - windowMs);
    const window = new Window(this.columns, before.columns);
    const edges: GraphEdge[] = [];
    for (const edge of this.edges.values()) {
      const read = readEdge(edge, this.edgeColumns, window);
      if (read.requests > 0 || hasTraffic(read.tcp)) edges.push(read);
    }
    const ends = new Set(edges.flatMap(({ source, destination }) => [source, destination]));
    const nodes = [...this.nodes.values()].filter(({ id }) => ends.has(id));
    return { coveredMs: nowMs - before.atMs, nodes, edges };
  }

  /** Adds what the series gained since the last time to the columns of their edges. */
  private refresh(): void {
    for (const series of this.store.tcp.takeChanged()) this.refreshTcp(series);
    const { duration, followed } = this;
    for (const series of this.store.http.takeChanged()) {
      if (this.owners.isNew(series)) this.forget(series.index);
      const known = this.routes[series.index];
      const route = known && !known.edge.isGone ? known : this.addRoute(series.index, series.labelKey);
      this.noteUse(route.edge);
      this.store.http.readRecent(series, this.counts);
      const seen = series.index * followed;
      const requests = this.advance(seen, this.counts[REQUESTS] as number);
      this.add(route.block + BLOCK.requests, requests);
      this.add(route.code, requests);
      if (requests > 0) this.learn(route.nodes);
      if (route.isError) this.add(route.block + BLOCK.errors, requests);
      if (route.policy >= 0) this.add(route.policy, requests);
      for (let field = 0; field < followed - 1; field++) {
        const gained = this.advance(seen + 1 + field, this.counts[duration + field] as number);
        this.add(route.block + BLOCK.buckets + field, gained);
      }
    }
  }

  private refreshTcp(series: LabelSet): void {
    if (this.tcpOwners.isNew(series)) this.forgetTcp(series.index);
    const known = this.tcpRoutes[series.index];
    const { edge, nodes, block, policy } = known && !known.edge.isGone ? known : this.addTcpRoute(series);
    const seen = this.tcpSeen[series.index] ?? new Float64Array(TCP_METRICS.length);
    this.tcpSeen[series.index] = seen;
    this.noteUse(edge);
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

  /** What was followed under that index, a label set that was let go of, is another from now on. */
  private forget(index: number): void {
    this.routes[index] = undefined;
    this.seen.fill(0, index * this.followed, (index + 1) * this.followed);
  }

  private forgetTcp(index: number): void {
    this.tcpRoutes[index] = undefined;
    this.tcpSeen[index]?.fill(0);
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
      edge,
      nodes: nodesOf(edge, place),
      block: edge.column + this.edgeColumns[reporter],
      isError: place.isError,
      code: this.codeColumn(edge.codes[reporter], place.responseCode),
      policy: policyColumn(edge, this.edgeColumns, place),
    };
    this.routes[index] = route;
    while (this.seen.length < (index + 1) * this.followed) this.seen = grown(this.seen);
    return route;
  }

  private addTcpRoute({ index, labelKey }: LabelSet): TcpRoute {
    const place = placeOf(unpackLabels(labelKey) ?? []);
    const edge = this.edgeOf(place.source, place.destination);
    if (edge.tcpColumn < 0) edge.tcpColumn = this.allocate(2 * TCP.width);
    const route: TcpRoute = {
      edge,
      nodes: nodesOf(edge, place),
      block: edge.tcpColumn + (place.isFromDestination ? TCP.width : 0),
      policy: policyColumn(edge, this.edgeColumns, place),
    };
    this.tcpRoutes[index] = route;
    return route;
  }

  private edgeOf(source: Node, destination: Node): Edge {
    const key = keyOf(source, destination);
    let edge = this.edges.get(key);
    if (!edge) {
      const isOther = source === OTHER_NODE && destination === OTHER_NODE;
      const held = this.edges.size - (this.edges.has(OTHER_KEY) ? 1 : 0);
      if (held >= this.limit && !isOther) return this.edgeOf(OTHER_NODE, OTHER_NODE);
      const codes = { source: new Map(), destination: new Map() };
      const column = this.allocate(this.edgeColumns.width);
      const use = { usedMs: this.now(), usedTick: this.ticks, isGone: false };
      edge = { source: source.id, destination: destination.id, column, codes, tcpColumn: -1, ...use };
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

  private noteUse(edge: Edge): void {
    edge.usedMs = this.now();
    edge.usedTick = this.ticks;
  }

  /** Lets go of edges that carried nothing for long, and of the nodes that no other has. */
  private expire(): void {
    const nowMs = this.now();
    const isIdle = ({ usedMs, usedTick }: Edge) =>
      nowMs - usedMs > this.expireAfterMs && this.ticks - usedTick > MIN_IDLE_TICKS;
    const idle = [...this.edges].filter(([, edge]) => isIdle(edge));
    if (idle.length === 0) return;
    for (const [key, edge] of idle) {
      this.edges.delete(key);
      this.release(edge);
    }
    const ends = new Set([...this.edges.values()].flatMap(({ source, destination }) => [source, destination]));
    for (const id of this.nodes.keys()) if (!ends.has(id)) this.nodes.delete(id);
    // What found no room finds some now.
    this.routes = this.routes.map((route) => (route?.nodes[0] === OTHER_NODE ? undefined : route));
    this.tcpRoutes = this.tcpRoutes.map((route) => (route?.nodes[0] === OTHER_NODE ? undefined : route));
  }

  private release(edge: Edge): void {
    edge.isGone = true;
    this.freeColumns.give(edge.column, this.edgeColumns.width);
    if (edge.tcpColumn >= 0) this.freeColumns.give(edge.tcpColumn, 2 * TCP.width);
    for (const column of [...edge.codes.source.values(), ...edge.codes.destination.values()]) {
      this.freeColumns.give(column, 1);
    }
  }

  private allocate(width: number): number {
    const free = this.freeColumns.take(width);
    if (free !== undefined) return free;
    const column = this.usedColumns;
    this.usedColumns += width;
    while (this.columns.length < this.usedColumns) this.columns = grown(this.columns);
    return column;
  }
}

/** Any text may stand in an id. */
function keyOf(source: Node, destination: Node): string {
  return JSON.stringify([source.id, destination.id]);
}

/** Of the edge that takes in what the limit keeps out, besides which so many are held. */
const OTHER_KEY = keyOf(OTHER_NODE, OTHER_NODE);

/** The ends of the edge as a series knows them; those of the overflow if its own edge found no room. */
function nodesOf(edge: Edge, { source, destination }: Place): readonly [Node, Node] {
  const isOwn = edge.source === source.id && edge.destination === destination.id;
  return isOwn ? [source, destination] : [OTHER_NODE, OTHER_NODE];
}

/** -1 where the report does not say. */
function policyColumn(
  { column }: Edge,
  { mutualTls, plainText }: EdgeColumns,
  { isFromDestination, isMutualTls }: Place,
): number {
  if (!isFromDestination || isMutualTls === null) return -1;
  return column + (isMutualTls ? mutualTls : plainText);
}

function grown(array: Uint32Array): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(array.length * 2);
  larger.set(array);
  return larger;
}
