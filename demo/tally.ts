// What the applications themselves counted: the truth that the mesh's telemetry is compared with.

import type { Socket } from "node:net";

/** How many answers with that code `destination` gave to `source`. Names are those of workloads. */
export interface EdgeCount {
  readonly source: string;
  readonly destination: string;
  readonly code: number;
  readonly requests: number;
}

/** What a caller saw of its TCP connections to `destination`, in the metrics' words: sent is what came to the caller. */
export interface TcpEdgeCount {
  readonly source: string;
  readonly destination: string;
  readonly opened: number;
  readonly closed: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

/** One request and its answer, as the application at one of its ends measured them. */
export interface Exchange {
  /** Which end: the one that asked, or the one that answered. */
  readonly side: "client" | "server";
  /** The workload that asked. */
  readonly source: string;
  /** The workload that answered; of a client the service that it asked, since it does not know more. */
  readonly destination: string;
  readonly path: string;
  readonly code: number;
  /** Of what came in, the request at a server, the answer at a client: name, value, name, value. */
  readonly headersReceived: readonly string[];
  /** Of the answer. */
  readonly bodyBytes: number;
  /** Server: from the request's headers until the answer is handed over. Client: from before the call until the answer's last byte. */
  readonly latencyNs: number;
}

interface TcpEdge {
  readonly source: string;
  readonly destination: string;
  opened: number;
  /** Of the connections that are closed. */
  sentBytes: number;
  receivedBytes: number;
  readonly open: Set<Socket>;
}

export class Tally {
  private readonly edges = new Map<string, { source: string; destination: string; code: number; requests: number }>();
  private readonly tcpEdges = new Map<string, TcpEdge>();
  private exchangeHeaders = 0;

  /** `onExchange`: told of each request by both its ends; nothing of them is kept here. */
  constructor(private readonly onExchange: (exchange: Exchange) => void = () => {}) {}

  /** Called as the answer is given, before its first byte leaves. */
  count(source: string, destination: string, code: number): void {
    const key = `${source} ${destination} ${code}`;
    const edge = this.edges.get(key);
    if (edge) edge.requests++;
    else this.edges.set(key, { source, destination, code, requests: 1 });
  }

  measure(exchange: Exchange): void {
    this.onExchange(exchange);
  }

  /** Takes note of exchange headers that reached an application: there must be none. */
  inspect(headers: NodeJS.Dict<string | string[]>): void {
    for (const name of Object.keys(headers)) {
      if (name.startsWith("x-envoy-peer-metadata")) this.exchangeHeaders++;
    }
  }

  /** Every edge so far, ordered by source, destination and code. */
  counts(): EdgeCount[] {
    const edges = [...this.edges.values()].map((edge) => ({ ...edge }));
    return edges.sort(
      (a, b) => a.source.localeCompare(b.source) || a.destination.localeCompare(b.destination) || a.code - b.code,
    );
  }

  /** Counts a connection from `source`, whose socket this is, as soon as it is there. */
  follow(socket: Socket, source: string, destination: string): void {
    const key = `${source} ${destination}`;
    const edge = this.tcpEdges.get(key) ?? {
      source,
      destination,
      opened: 0,
      sentBytes: 0,
      receivedBytes: 0,
      open: new Set(),
    };
    this.tcpEdges.set(key, edge);
    socket.once("connect", () => {
      edge.opened++;
      edge.open.add(socket);
    });
    socket.once("close", () => {
      if (!edge.open.delete(socket)) return; // it was never there
      edge.sentBytes += socket.bytesRead;
      edge.receivedBytes += socket.bytesWritten;
    });
  }

  /** Every TCP edge so far, ordered by source and destination. */
  tcpCounts(): TcpEdgeCount[] {
    const counts = [...this.tcpEdges.values()].map(
      ({ source, destination, opened, sentBytes, receivedBytes, open }) => {
        const total = (bytes: "bytesRead" | "bytesWritten") =>
          [...open].reduce((sum, socket) => sum + socket[bytes], 0);
        const closed = opened - open.size;
        return {
          source,
          destination,
          opened,
          closed,
          sentBytes: sentBytes + total("bytesRead"),
          receivedBytes: receivedBytes + total("bytesWritten"),
        };
      },
    );
    return counts.sort((a, b) => a.source.localeCompare(b.source) || a.destination.localeCompare(b.destination));
  }

  /** How many exchange headers applications have seen, in requests and in answers. */
  exchangeHeadersSeen(): number {
    return this.exchangeHeaders;
  }
}
