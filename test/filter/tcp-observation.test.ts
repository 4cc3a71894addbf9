// What the filter leaves for access loggers of TCP: the peers, and the observation, which says of a connection what its stats say.

import { describe, expect, test } from "vitest";
import { LABELS } from "../../filter/vocabulary/labels.ts";
import { TCP_METRICS, TcpMetric } from "../../filter/vocabulary/metrics.ts";
import { OBSERVATION_VERSION } from "../../filter/vocabulary/observation.ts";
import type { TcpConnection } from "../host/connection.ts";
import { readFlatNode } from "../host/flat-node.ts";
import { type Host, START_TIME_NS } from "../host/host.ts";
import { PRODUCTPAGE, REVIEWS } from "../host/mesh.ts";
import { prefixOf } from "../host/prefix.ts";
import type { JsonObject } from "../host/struct.ts";
import {
  CONNECTION_FROM_PRODUCTPAGE,
  CONNECTION_TO_REVIEWS,
  connectionObservation,
  observedSums,
  startTcpInbound,
  startTcpOutbound,
  statSums,
  tcpLabels,
} from "../host/tcp.ts";

const PREFIX = prefixOf(PRODUCTPAGE);
const ANSWER = prefixOf(REVIEWS);
const BOUND_MS = 1_000;
const INTERVAL_MS = 5_000;
const ALL = (1 << TCP_METRICS.length) - 1;
const OPENED = 1 << TcpMetric.Opened;
const CLOSED = 1 << TcpMetric.Closed;
const BYTES = (1 << TcpMetric.SentBytes) | (1 << TcpMetric.ReceivedBytes);

function connect(host: Host): TcpConnection {
  return host.connection(CONNECTION_FROM_PRODUCTPAGE);
}

function observed(connection: TcpConnection) {
  const observation = connectionObservation(connection);
  if (observation === undefined) throw new Error("the connection has no observation");
  return observation;
}

describe("the peer", () => {
  test("of a server's connection is a FlatNode under wasm.downstream_peer, from its prefix on", () => {
    const connection = connect(startTcpInbound()).fromClient(PREFIX);
    expect(readFlatNode(connection.filterState.get("wasm.downstream_peer") ?? Buffer.alloc(0))).toMatchObject({
      name: "productpage-v1-7d4f8c",
      namespace: "default",
      workloadName: "productpage-v1",
      clusterId: "Kubernetes",
    });
  });

  test("of a client's connection is one under wasm.upstream_peer", () => {
    const connection = startTcpOutbound().connection(CONNECTION_TO_REVIEWS).fromClient("x").fromServer(ANSWER);
    expect(readFlatNode(connection.filterState.get("wasm.upstream_peer") ?? Buffer.alloc(0))).toMatchObject({
      name: "reviews-v2-7d4f8c",
      workloadName: "reviews-v2",
    });
  });

  test("that is not known is not there", () => {
    const connection = connect(startTcpInbound()).fromClient("x").finish();
    expect([...connection.filterState.keys()]).toEqual(["wasm.meshtally.observation"]);
  });
});

describe("the observation", () => {
  test("has no parts before the first report, and then says what it said", () => {
    const host = startTcpInbound();
    const connection = connect(host).fromServer("220");
    expect(observed(connection)).toMatchObject({ labelCount: LABELS.length, startMs: START_TIME_NS / 1_000_000n });
    expect(observed(connection)).toMatchObject({ closed: 0, parts: [] });
    connection.fromClient(PREFIX).fromClient("HELO");
    expect(observed(connection)).toMatchObject({
      version: OBSERVATION_VERSION,
      labelCount: LABELS.length,
      omitted: 0,
      closed: 0,
      startMs: START_TIME_NS / 1_000_000n,
      connectionId: 0n,
    });
    expect(observed(connection).reserved.every((byte) => byte === 0)).toBe(true);
  });

  test("of an undisturbed connection has one part with all four metrics and the labels of its series", () => {
    const host = startTcpInbound();
    const connection = connect(host).fromClient(PREFIX).fromClient("ping").fromServer("pong!").finish();
    const labels = { ...tcpLabels(host), response_code: "", grpc_response_status: "" };
    expect(observed(connection).closed).toBe(1);
    expect(observed(connection).parts).toEqual([{ metrics: ALL, sentBytes: 5n, receivedBytes: 4n, labels }]);
    expect(observedSums([connection])).toEqual(statSums(host));
  });

  test("bears the connection's id, the first one's 0 included", () => {
    const host = startTcpInbound();
    const connections = [1, 2, 3].map(() => connect(host).fromClient("x").finish());
    expect(connections.map((one) => observed(one).connectionId)).toEqual([0n, 2n, 4n]);
  });

  test("is left anew at each report, with all that was carried so far", () => {
    const host = startTcpInbound();
    const connection = connect(host).fromClient("1");
    for (let round = 1; round <= 3; round++) {
      connection.fromClient("23").fromServer("1234");
      expect(observed(connection).parts[0]?.sentBytes).toBe(BigInt(4 * (round - 1)));
      host.advance(INTERVAL_MS);
      expect(observed(connection)).toMatchObject({ closed: 0 });
      expect(observed(connection).parts).toMatchObject([
        { sentBytes: BigInt(4 * round), receivedBytes: BigInt(1 + 2 * round) },
      ]);
      expect(observedSums([connection])).toEqual(statSums(host));
    }
    connection.finish();
    expect(observed(connection).closed).toBe(1);
    expect(observedSums([connection])).toEqual(statSums(host));
  });

  test("is there from the tick that ended the waiting, and for a connection without a byte", () => {
    const host = startTcpInbound();
    const connection = connect(host);
    host.advance(BOUND_MS);
    expect(observed(connection)).toMatchObject({
      closed: 0,
      parts: [{ metrics: ALL, sentBytes: 0n, receivedBytes: 0n }],
    });
    connection.reset();
    expect(observed(connection)).toMatchObject({
      closed: 1,
      parts: [{ metrics: ALL, sentBytes: 0n, receivedBytes: 0n }],
    });
  });

  test("of a refused connection carries its flags", () => {
    const host = startTcpOutbound();
    const connection = host.connection({ ...CONNECTION_TO_REVIEWS, isConnecting: true }).refuse();
    expect(observed(connection).parts[0]?.labels).toMatchObject({ response_flags: "UF,URX" });
    expect(observedSums([connection])).toEqual(statSums(host));
  });

  test("of a late peer has two parts, of which the first keeps its labels: bytes in both, opened and closed in the first", () => {
    const host = startTcpInbound();
    const connection = connect(host).fromServer("220");
    host.advance(BOUND_MS);
    const [first] = observed(connection).parts;
    connection.fromClient(PREFIX).fromClient("HELO").fromServer("250 ok").finish();
    const { parts, closed } = observed(connection);
    expect(closed).toBe(1);
    expect(parts).toMatchObject([
      { labels: first?.labels, sentBytes: 3n, receivedBytes: 0n },
      { metrics: BYTES, sentBytes: 6n, receivedBytes: 4n, labels: { source_workload: "productpage-v1" } },
    ]);
    expect((parts[0]?.metrics ?? 0) & (OPENED | CLOSED)).toBe(OPENED | CLOSED);
    expect(observedSums([connection])).toEqual(statSums(host));
  });

  test("of connections of every kind adds up to the stats", () => {
    const host = startTcpInbound();
    const peers = [1, 2, 3].map((index) => prefixOf(PRODUCTPAGE, { WORKLOAD_NAME: `w${index}` }));
    const firsts = [...peers, Buffer.from("x"), Buffer.alloc(0)];
    const connections = Array.from({ length: 25 }, (_, index) => {
      const connection = connect(host);
      if (index % 3 === 0) connection.fromServer("banner");
      if (index % 4 === 0) host.advance(BOUND_MS);
      const first = firsts[index % firsts.length] ?? Buffer.alloc(0);
      if (first.length > 0) connection.fromClient(first).fromClient("12345");
      return index % 2 === 0 ? connection.finish() : connection.reset();
    });
    expect(observedSums(connections)).toEqual(statSums(host));
  });
});

describe("the observation under a configuration that changes the metrics", () => {
  const closed = "tcp_connections_closed_total";

  function run(configuration: JsonObject): { readonly host: Host; readonly connection: TcpConnection } {
    const host = startTcpInbound(configuration);
    const connection = connect(host).fromClient(PREFIX).fromClient("ping").fromServer("pong!").finish();
    return { host, connection };
  }

  test.each(TCP_METRICS.map(({ name }, metric) => [name, metric] as const))(
    "names %s as omitted when it is dropped",
    (name, metric) => {
      const { host, connection } = run({ metrics: [{ name: name.slice("istio_".length), drop: true }] });
      expect(observed(connection).omitted).toBe(1 << metric);
      expect(observed(connection).parts).toMatchObject([
        { metrics: ALL & ~(1 << metric), sentBytes: 5n, receivedBytes: 4n },
      ]);
      expect(observedSums([connection])).toEqual(statSums(host));
    },
  );

  test("has a part for each label set where metrics differ in their labels", () => {
    const { host, connection } = run({ metrics: [{ name: closed, tags_to_remove: ["source_app"] }] });
    const { parts } = observed(connection);
    expect(parts.map(({ metrics }) => metrics).sort()).toEqual([CLOSED, ALL & ~CLOSED].sort());
    expect(parts.find(({ metrics }) => metrics === CLOSED)?.labels).toMatchObject({ source_app: "" });
    expect(observedSums([connection])).toEqual(statSums(host));
  });

  test("says what the stats say when the peer is late, too", () => {
    const host = startTcpInbound({ metrics: [{ name: closed, tags_to_remove: ["source_app"] }] });
    const connection = connect(host).fromServer("220");
    host.advance(BOUND_MS);
    connection.fromClient(PREFIX).fromClient("HELO").finish();
    expect(observedSums([connection])).toEqual(statSums(host));
  });
});
