// The four TCP counters: what is counted for a connection, when, and under which labels.

import { describe, expect, test } from "vitest";
import { isTcpLabel, LABELS, TCP_LABEL_COUNT } from "../../filter/vocabulary/labels.ts";
import { MetricKind, TCP_METRICS, TcpMetric } from "../../filter/vocabulary/metrics.ts";
import type { TcpConnection } from "../host/connection.ts";
import type { Host } from "../host/host.ts";
import { countedRequests, faults, PRODUCTPAGE, PRODUCTPAGE_URI, REVIEWS, REVIEWS_URI } from "../host/mesh.ts";
import { prefixOf } from "../host/prefix.ts";
import { StatStore } from "../host/stats.ts";
import {
  CONNECTION_FROM_PRODUCTPAGE,
  CONNECTION_TO_REVIEWS,
  startTcpInbound,
  startTcpOutbound,
  tcpCounts,
  tcpLabels,
  tcpSeries,
} from "../host/tcp.ts";

const FROM_CLIENT = prefixOf(PRODUCTPAGE);
const FROM_SERVER = prefixOf(REVIEWS);
const BOUND_MS = 1_000;
const INTERVAL_MS = 5_000;
const NOTHING = { opened: 0, closed: 0, sent: 0, received: 0 };

function inbound(host: Host): TcpConnection {
  return host.connection(CONNECTION_FROM_PRODUCTPAGE);
}

function outbound(host: Host): TcpConnection {
  return host.connection(CONNECTION_TO_REVIEWS);
}

describe("the series", () => {
  test("are the four counters, each with its 23 labels, also where nothing was carried", () => {
    const host = startTcpInbound();
    inbound(host).finish();
    TCP_METRICS.forEach(({ name }, metric) => {
      const [series, ...more] = host.series(name);
      expect(more, name).toEqual([]);
      expect(series?.kind, name).toBe(MetricKind.Counter);
      expect(series?.value, name).toBe(metric === TcpMetric.Opened || metric === TcpMetric.Closed ? 1n : 0n);
      expect(Object.keys(series?.labels ?? {}), name).toEqual(LABELS.filter((_, label) => isTcpLabel(label)));
    });
    expect(Object.keys(tcpLabels(host))).toHaveLength(TCP_LABEL_COUNT);
  });

  const server = {
    reporter: "destination",
    source_workload: "productpage-v1",
    source_canonical_service: "productpage",
    source_canonical_revision: "v1",
    source_workload_namespace: "default",
    source_principal: PRODUCTPAGE_URI,
    source_app: "productpage",
    source_version: "v1",
    source_cluster: "Kubernetes",
    destination_workload: "reviews-v2",
    destination_workload_namespace: "default",
    destination_principal: REVIEWS_URI,
    destination_app: "reviews",
    destination_version: "v2",
    destination_service: "reviews.default.svc.cluster.local",
    destination_canonical_service: "reviews",
    destination_canonical_revision: "v2",
    destination_service_name: "reviews",
    destination_service_namespace: "default",
    destination_cluster: "Kubernetes",
    request_protocol: "tcp",
    response_flags: "-",
    connection_security_policy: "mutual_tls",
  };

  test("of a server carry both workloads", () => {
    const host = startTcpInbound();
    inbound(host).fromClient(FROM_CLIENT).fromClient("ping").fromServer("pong!").finish();
    for (const metric of TCP_METRICS.keys()) expect(tcpSeries(host, metric).map((one) => one.labels)).toEqual([server]);
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 5, received: 4 });
  });

  test("of a client differ in reporter and security policy alone; sent is what went to the client, too", () => {
    const host = startTcpOutbound();
    outbound(host).fromClient("ping").fromServer(FROM_SERVER).fromServer("pong!").finish();
    expect(tcpLabels(host)).toEqual({ ...server, reporter: "source", connection_security_policy: "unknown" });
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 5, received: 4 });
  });

  test("of connections with the same labels add up, over the VMs of a process, too", () => {
    const stats = new StatStore();
    const hosts = [startTcpInbound({}, { stats }), startTcpInbound({}, { stats })];
    for (const host of hosts) {
      for (let index = 0; index < 3; index++) inbound(host).fromClient(FROM_CLIENT).fromClient("x").finish();
    }
    expect(tcpCounts(hosts[0] as Host)).toEqual({ opened: 6, closed: 6, sent: 0, received: 6 });
    expect(tcpSeries(hosts[0] as Host, TcpMetric.Opened)).toHaveLength(1);
  });

  test("are none of HTTP", () => {
    const host = startTcpInbound();
    inbound(host).fromClient("x").finish();
    expect(countedRequests(host)).toEqual([]);
    expect(faults(host)).toEqual({});
  });
});

/** A connection's life, and how it begins: with what the peer is known, or known to be absent. */
interface Beginning {
  readonly start: () => Host;
  readonly connect: (host: Host) => TcpConnection;
  readonly decide: (connection: TcpConnection) => void;
}

const NO_PEER_TOLD = () => startTcpOutbound({ metadata_exchange: { tcp: { send: "never" } } });
const BEGINNINGS: readonly (readonly [string, Beginning])[] = [
  [
    "server: with the client's whole prefix",
    { start: startTcpInbound, connect: inbound, decide: (one) => one.fromClient(FROM_CLIENT) },
  ],
  [
    "server: with first bytes that are no prefix",
    { start: startTcpInbound, connect: inbound, decide: (one) => one.fromClient("G") },
  ],
  [
    "server: with a FIN instead of bytes",
    { start: startTcpInbound, connect: inbound, decide: (one) => one.fromClient("", { end: true }) },
  ],
  [
    "client that sends no prefix: with the client's first byte",
    { start: NO_PEER_TOLD, connect: outbound, decide: (one) => one.fromClient("x") },
  ],
  [
    "client that sends no prefix: with the server's first byte",
    { start: NO_PEER_TOLD, connect: outbound, decide: (one) => one.fromServer("x") },
  ],
  [
    "client that sends its prefix: with the whole of the server's",
    { start: startTcpOutbound, connect: outbound, decide: (one) => one.fromClient("x").fromServer(FROM_SERVER) },
  ],
  [
    "client that sends its prefix: with the server's first bytes that are no prefix",
    { start: startTcpOutbound, connect: outbound, decide: (one) => one.fromClient("x").fromServer("x") },
  ],
  [
    "client whose server speaks first",
    { start: startTcpOutbound, connect: outbound, decide: (one) => one.fromServer("220 ready") },
  ],
];

/** What the peer's being known waits for. */
const WAITING: readonly (readonly [string, Beginning])[] = [
  ["server without a byte", { start: startTcpInbound, connect: inbound, decide: () => {} }],
  [
    "server that speaks before its client",
    { start: startTcpInbound, connect: inbound, decide: (one) => one.fromServer("220 ready") },
  ],
  [
    "server with the beginning of a prefix",
    { start: startTcpInbound, connect: inbound, decide: (one) => one.fromClient(FROM_CLIENT.subarray(0, 30)) },
  ],
  ["client without a byte", { start: startTcpOutbound, connect: outbound, decide: () => {} }],
  [
    "client whose server does not answer",
    { start: startTcpOutbound, connect: outbound, decide: (one) => one.fromClient("x") },
  ],
  [
    "client with the beginning of an answer",
    {
      start: startTcpOutbound,
      connect: outbound,
      decide: (one) => one.fromClient("x").fromServer(FROM_SERVER.subarray(0, 30)),
    },
  ],
];

describe("opened is counted", () => {
  test.each(BEGINNINGS)("at once: %s", (_, { start, connect, decide }) => {
    const host = start();
    const connection = connect(host);
    expect(tcpCounts(host)).toEqual(NOTHING);
    decide(connection);
    expect(tcpCounts(host)).toMatchObject({ opened: 1, closed: 0 });
  });

  test.each(WAITING)(
    "when the bound is over at the latest, not in its first half: %s",
    (_, { start, connect, decide }) => {
      const host = start();
      host.advance(330);
      decide(connect(host));
      host.advance(BOUND_MS / 2);
      expect(tcpCounts(host)).toEqual(NOTHING);
      host.advance(BOUND_MS / 2);
      expect(tcpCounts(host)).toMatchObject({ opened: 1, closed: 0 });
      host.advance(10 * INTERVAL_MS);
      expect(tcpCounts(host)).toMatchObject({ opened: 1, closed: 0 });
    },
  );

  test.each(WAITING)("at the close at the latest: %s", (_, { start, connect, decide }) => {
    const host = start();
    const connection = connect(host);
    decide(connection);
    connection.reset();
    expect(tcpCounts(host)).toMatchObject({ opened: 1, closed: 1 });
    host.advance(10 * INTERVAL_MS);
    expect(tcpCounts(host)).toMatchObject({ opened: 1, closed: 1 });
  });

  test.each(["200ms", "100ms", "30s"])("when a bound of %s is over", (timeout) => {
    const host = startTcpInbound({ metadata_exchange: { tcp: { timeout } } });
    const bound = timeout === "30s" ? 30_000 : Number.parseInt(timeout, 10);
    host.advance(77);
    inbound(host);
    host.advance(bound / 2);
    expect(tcpCounts(host)).toEqual(NOTHING);
    host.advance(bound / 2);
    expect(tcpCounts(host)).toMatchObject({ opened: 1 });
  });

  test("for each of many connections within its own bound, however often another one begins", () => {
    const host = startTcpInbound();
    for (let count = 1; count <= 40; count++) {
      inbound(host);
      host.advance(100);
      const { opened } = tcpCounts(host);
      expect(opened, `after ${count} of 100 ms`).toBeGreaterThanOrEqual(count + 1 - BOUND_MS / 100);
      expect(opened, `after ${count} of 100 ms`).toBeLessThanOrEqual(Math.max(0, count + 1 - BOUND_MS / 200));
    }
  });

  test("with tcp_reporting_duration 0, too", () => {
    const host = startTcpInbound({ tcp_reporting_duration: "0s" });
    inbound(host);
    host.advance(BOUND_MS);
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 0, sent: 0, received: 0 });
  });
});

describe("bytes are counted", () => {
  test("with the first report", () => {
    const host = startTcpInbound();
    inbound(host).fromServer("220 ready").fromClient("HELO");
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 0, sent: 9, received: 4 });
  });

  test("then once per interval, never in between", () => {
    const host = startTcpInbound();
    const connection = inbound(host).fromClient("12345");
    for (let round = 1; round <= 4; round++) {
      const before = tcpCounts(host);
      connection.fromClient("123").fromServer("1234567");
      expect(tcpCounts(host)).toEqual(before);
      host.advance(INTERVAL_MS);
      expect(tcpCounts(host)).toEqual({ opened: 1, closed: 0, sent: 7 * round, received: 5 + 3 * round });
    }
    connection.fromClient("12").finish();
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 28, received: 19 });
  });

  test("every second with tcp_reporting_duration 1s", () => {
    const host = startTcpInbound({ tcp_reporting_duration: "1s" });
    const connection = inbound(host).fromClient("x");
    for (let round = 1; round <= 3; round++) {
      connection.fromServer("12");
      host.advance(1_000);
      expect(tcpCounts(host)).toEqual({ opened: 1, closed: 0, sent: 2 * round, received: 1 });
    }
  });

  test("with tcp_reporting_duration 0 only at the close, after the first report", () => {
    const host = startTcpInbound({ tcp_reporting_duration: "0s" });
    const connection = inbound(host).fromClient("x");
    const first = tcpCounts(host);
    expect(first).toMatchObject({ opened: 1, closed: 0 });
    connection.fromClient("23").fromServer("1234");
    host.advance(100 * INTERVAL_MS);
    expect(tcpCounts(host)).toEqual(first);
    connection.finish();
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 4, received: 3 });
  });

  test("of both sides of the exchange without the prefixes", () => {
    const server = startTcpInbound();
    inbound(server).fromClient(FROM_CLIENT).fromClient("ping").fromServer("pong!").finish();
    expect(tcpCounts(server)).toEqual({ opened: 1, closed: 1, sent: 5, received: 4 });
    const client = startTcpOutbound();
    outbound(client)
      .fromClient("ping")
      .fromServer(Buffer.concat([FROM_SERVER, Buffer.from("pong!")]))
      .finish();
    expect(tcpCounts(client)).toEqual({ opened: 1, closed: 1, sent: 5, received: 4 });
  });

  test("that are held when they pass: not before, and once", () => {
    const host = startTcpInbound();
    const connection = inbound(host);
    const start = FROM_CLIENT.subarray(0, 30);
    for (let at = 0; at < start.length; at++) connection.fromClient(start.subarray(at, at + 1));
    expect(tcpCounts(host)).toEqual(NOTHING);
    connection.fromClient("not a prefix after all");
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 0, sent: 0, received: 52 });
    connection.finish();
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 0, received: 52 });
  });

  test("that are still held when the client is gone are not counted: they never passed", () => {
    const host = startTcpInbound();
    inbound(host).fromClient(FROM_CLIENT.subarray(0, 30)).reset();
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 0, received: 0 });
  });

  test("in chunks of every size, up to a MiB", () => {
    const host = startTcpInbound();
    const connection = inbound(host);
    let received = 0;
    for (const size of [1, 7, 8, 9, 1_460, 16_384, 65_536, 1_048_576]) {
      connection.fromClient(Buffer.alloc(size, "x")).fromServer(Buffer.alloc(2 * size, "y"));
      received += size;
    }
    connection.finish();
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 2 * received, received });
  });
});

describe("the end of a connection", () => {
  test("without a byte: opened, closed and zeros", () => {
    for (const [host, connection] of [startTcpInbound(), startTcpOutbound()].map(
      (one) => [one, one.connection()] as const,
    )) {
      connection.reset();
      expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 0, received: 0 });
    }
  });

  test("half-closed by the client: what the server still sends is counted", () => {
    const host = startTcpInbound();
    const connection = inbound(host).fromClient("ping", { end: true });
    connection.fromServer("pong");
    host.advance(INTERVAL_MS);
    connection.fromServer("pong");
    expect(tcpCounts(host)).toMatchObject({ closed: 0, sent: 4, received: 4 });
    connection.finish();
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 8, received: 4 });
    expect(connection.isServerToldEnd).toBe(true);
  });

  test("half-closed by the server: what the client still sends is counted", () => {
    const host = startTcpOutbound();
    const connection = outbound(host).fromClient("ping").fromServer("pong", { end: true });
    connection.fromClient("more");
    expect(tcpCounts(host)).toMatchObject({ closed: 0 });
    connection.finish();
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 4, received: 8 });
  });

  test("reset by the client in the middle: what passed is counted", () => {
    const host = startTcpInbound();
    inbound(host).fromClient("ping").fromServer("pong!").fromClient("again").reset();
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 5, received: 9 });
  });

  test("of an upstream that refused: counted, with the flags UF,URX and the service that was meant", () => {
    const host = startTcpOutbound();
    const { cluster, destinationAddress } = CONNECTION_TO_REVIEWS;
    host.connection({ cluster, destinationAddress, isConnecting: true }).refuse();
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 0, received: 0 });
    expect(tcpLabels(host)).toMatchObject({
      response_flags: "UF,URX",
      destination_service: "reviews.default.svc.cluster.local",
      destination_service_name: "reviews",
      destination_workload: "unknown",
    });
  });

  test("of an upstream that refused a server's proxy", () => {
    const host = startTcpInbound();
    host.connection({ ...CONNECTION_FROM_PRODUCTPAGE, isConnecting: true }).refuse();
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 0, received: 0 });
    expect(tcpLabels(host)).toMatchObject({ response_flags: "UF,URX", destination_workload: "reviews-v2" });
  });

  test("whose upstream never stood: opened within the bound, and once", () => {
    const host = startTcpOutbound();
    const connection = host.connection({ ...CONNECTION_TO_REVIEWS, isConnecting: true });
    host.advance(BOUND_MS);
    expect(tcpCounts(host)).toMatchObject({ opened: 1, closed: 0 });
    host.advance(INTERVAL_MS);
    connection.refuse();
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 0, received: 0 });
  });

  test("after flags came up late: the ones of the first report stay", () => {
    const host = startTcpInbound();
    const connection = inbound(host).fromClient("x");
    connection.refuse(1n << 6n);
    expect(tcpCounts(host, { response_flags: "-" })).toEqual({ opened: 1, closed: 1, sent: 0, received: 1 });
    expect(tcpSeries(host, TcpMetric.Closed)).toHaveLength(1);
  });

  test("of a connection that began under another configuration is counted once", () => {
    const host = startTcpInbound();
    const connection = inbound(host).fromClient("x");
    host.configure(1, { direction: "inbound", disable_host_header_fallback: true, tcp_reporting_duration: "1s" });
    connection.fromClient("y");
    host.advance(1_000);
    connection.finish();
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 0, received: 2 });
  });
});
