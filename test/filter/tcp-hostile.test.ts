// What hostile or careless peers, configurations, clocks and limits do to TCP connections, and must not.

import { describe, expect, test } from "vitest";
import { HTTP_METRICS, MESSAGE_METRICS, TCP_METRICS } from "../../filter/vocabulary/metrics.ts";
import { PEER_METADATA_HEADER } from "../../filter/vocabulary/peer-metadata.ts";
import type { ConnectionOptions, TcpConnection } from "../host/connection.ts";
import type { Host } from "../host/host.ts";
import {
  exchangedMetadata,
  makeNode,
  PRODUCTPAGE,
  REVIEWS,
  startInbound,
  startOutbound,
  withMetadata,
} from "../host/mesh.ts";
import { encodeAny, frame, prefixOf, structPrefix } from "../host/prefix.ts";
import { encodeStruct } from "../host/struct.ts";
import {
  CONNECTION_FROM_PRODUCTPAGE,
  CONNECTION_TO_REVIEWS,
  connectionObservation,
  observedSums,
  startTcpInbound,
  startTcpOutbound,
  statSums,
  tcpCounts,
  tcpSeries,
} from "../host/tcp.ts";

const PREFIX = prefixOf(PRODUCTPAGE);
const ANSWER = prefixOf(REVIEWS);
const MIB = 1_024 * 1_024;
const GATEWAY = { direction: "gateway", metadata_exchange: { tcp: { send: "never" } } };
const STRUCT_URL = "type.googleapis.com/google.protobuf.Struct";

function connect(host: Host, options: ConnectionOptions = CONNECTION_FROM_PRODUCTPAGE): TcpConnection {
  return host.connection(options);
}

describe("no outsider speaks for the mesh through a gateway", () => {
  const sourcesBehind = (toServer: readonly Buffer[]) => {
    const server = startTcpInbound();
    const connection = connect(server);
    for (const bytes of toServer) connection.fromClient(bytes);
    connection.finish();
    return tcpSeries(server, 0).map(({ labels }) => labels["source_workload"]);
  };

  test("by a second prefix behind the first", () => {
    const gateway = connect(startOutbound({ configuration: GATEWAY }), { downstreamTls: {} });
    gateway.fromClient(Buffer.concat([PREFIX, PREFIX, Buffer.from("ping")]));
    expect(sourcesBehind([gateway.toServer])).toEqual(["unknown"]);
  });

  test.each([
    ["where nothing is sent", GATEWAY, {}],
    ["where its own prefix would be sent", { direction: "gateway" }, CONNECTION_TO_REVIEWS],
  ])("by a prefix that pauses until the bound is over: %s", (_, configuration, options) => {
    const host = startOutbound({ configuration });
    for (const paused of [4, 8, 30, 100]) {
      const gateway = connect(host, { ...options, downstreamTls: {} }).fromClient(PREFIX.subarray(0, paused));
      host.advance(1_500);
      expect(gateway.isClosed, `${paused}`).toBe(true);
      expect(gateway.toServer.length).toBe(0);
    }
    expect(tcpCounts(host)).toEqual({ opened: 4, closed: 4, sent: 0, received: 0 });
  });

  test.each([1, 2, 3])("by %d bytes of a prefix, which pass when the bound is over, and the rest", (paused) => {
    const host = startOutbound({ configuration: GATEWAY });
    const gateway = connect(host, { downstreamTls: {} }).fromClient(PREFIX.subarray(0, paused));
    host.advance(1_500);
    expect(gateway.toServer).toEqual(PREFIX.subarray(0, paused));
    gateway.fromClient(PREFIX.subarray(paused));
    expect(gateway.isClosed).toBe(true);
    expect(gateway.toServer).toEqual(PREFIX.subarray(0, paused));
  });

  test("and what begins like a prefix, pauses and is none passes", () => {
    const host = startOutbound({ configuration: GATEWAY });
    const gateway = connect(host, { downstreamTls: {} }).fromClient("=");
    host.advance(1_500);
    gateway.fromClient("#").fromClient("#ping").fromServer("pong!").finish();
    expect(gateway.toServer.toString()).toBe("=##ping");
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 5, received: 7 });
  });
});

describe("a waypoint that exchanges with both sides", () => {
  const configuration = {
    reporter: "SERVER_GATEWAY",
    metadata_exchange: { directions: ["downstream", "upstream"], tcp: { send: "always" } },
  };
  const RATINGS_ANSWER = prefixOf(makeNode("ratings", "v1", "127.0.1.4"));
  const BOTH = { ...CONNECTION_TO_REVIEWS, downstreamTls: CONNECTION_FROM_PRODUCTPAGE.downstreamTls };

  test("knows its client still when the server answers after the bound", () => {
    const host = startInbound({ configuration });
    const connection = connect(host, BOTH).fromClient(Buffer.concat([PREFIX, Buffer.from("ping")]));
    host.advance(1_500);
    connection.fromServer(Buffer.concat([RATINGS_ANSWER, Buffer.from("pong!")])).finish();
    const late = { source_workload: "productpage-v1", destination_workload: "ratings-v1" };
    expect(tcpCounts(host, late).sent).toBe(5);
  });

  test("leaves an observation that says what the stats say when both are late", () => {
    const host = startInbound({ configuration });
    const connection = connect(host, BOTH);
    host.advance(1_500);
    connection.fromClient(Buffer.concat([PREFIX, Buffer.from("ping")]));
    connection.fromServer(Buffer.concat([RATINGS_ANSWER, Buffer.from("pong!")])).finish();
    expect(observedSums([connection])).toEqual(statSums(host));
  });
});

test("a workload that calls itself is known at both ends", () => {
  const host = startTcpOutbound({ metadata_exchange: { tcp: { send: "always" } } });
  const connection = connect(host, CONNECTION_TO_REVIEWS).fromClient("ping");
  connection.fromServer(Buffer.concat([PREFIX, Buffer.from("pong!")])).finish();
  const itself = { source_workload: "productpage-v1", destination_workload: "productpage-v1" };
  expect(tcpCounts(host, itself)).toEqual({ opened: 1, closed: 1, sent: 5, received: 4 });
});

describe("held bytes that go on when the bound is over", () => {
  test.each([
    ["at a server", () => startTcpInbound(), 4_900],
    ["at a gateway", () => startOutbound({ configuration: GATEWAY }), 0],
  ] as const)("are reported with the next interval: %s", (_, start, silentMs) => {
    const host = start();
    const connection = connect(host);
    host.advance(silentMs);
    connection.fromClient("=");
    host.advance(30_000);
    expect(connection.toServer.toString()).toBe("=");
    expect(tcpCounts(host).received).toBe(1);
  });
});

describe("memory is flat", () => {
  test("at a gateway, whatever outsiders' prefixes hold", () => {
    const host = startOutbound({ configuration: GATEWAY });
    const prefix = structPrefix({ ["k".repeat(60_000)]: {} });
    for (let index = 0; index < 100; index++) connect(host).fromClient(prefix).finish();
    const before = host.memory.byteLength;
    for (let index = 0; index < 1_000; index++) connect(host).fromClient(prefix).finish();
    expect((host.memory.byteLength - before) / MIB).toBeLessThan(16);
  });

  test("at a server that believes none of the prefixes", () => {
    const host = startTcpInbound({ metadata_exchange: { trust: "mutual_tls" } });
    const one = () => connect(host, { downstreamTls: {} }).fromClient(PREFIX).fromClient("x").finish();
    for (let index = 0; index < 1_000; index++) one();
    const before = host.memory.byteLength;
    for (let index = 0; index < 50_000; index++) one();
    expect((host.memory.byteLength - before) / MIB).toBeLessThan(4);
  }, 60_000);

  test("at a server with connections in flight, however long the metadata that comes", () => {
    const host = startTcpInbound();
    const inFlight = Array.from({ length: 2_000 }, () => connect(host).fromClient("x"));
    const prefix = structPrefix({ [PEER_METADATA_HEADER]: { NAME: "n".repeat(60_000) } });
    const before = host.memory.byteLength;
    for (let index = 0; index < 3_000; index++) connect(host).fromClient(prefix).finish();
    expect(inFlight.length).toBe(2_000);
    expect((host.memory.byteLength - before) / MIB).toBeLessThan(64);
  }, 60_000);

  test("while connections are held over ticks", () => {
    const host = startTcpInbound();
    const round = () => {
      const held = Array.from({ length: 500 }, () => connect(host).fromClient("="));
      host.advance(700);
      for (const connection of held) connection.reset();
    };
    for (let index = 0; index < 20; index++) round();
    const before = host.memory.byteLength;
    for (let index = 0; index < 100; index++) round();
    expect((host.memory.byteLength - before) / MIB).toBeLessThan(1);
  }, 60_000);
});

/** Drops every standard metric. */
const DEFINITIONS_ALONE = {
  max_label_sets: 1,
  definitions: [{ name: "mine_total", value: "1", type: "COUNTER" }],
  metrics: [
    ...[...HTTP_METRICS, ...MESSAGE_METRICS, ...TCP_METRICS].map(({ name }) => ({ name, drop: true })),
    { name: "mine_total", dimensions: { who: "source.address" } },
  ],
};

test("the overflow of requests and that of connections are two, also where nothing but definitions is kept", () => {
  const host = startTcpInbound(DEFINITIONS_ALONE);
  for (let index = 0; index < 3; index++) {
    host.request({ requestBytes: 255, properties: { "source.address": `10.0.0.${index}:1` } });
  }
  const connections = [1, 2, 3].map((index) =>
    connect(host, { ...CONNECTION_FROM_PRODUCTPAGE, sourceAddress: `10.1.0.${index}:1` })
      .fromClient("x")
      .finish(),
  );
  for (const connection of connections) expect(connectionObservation(connection)).toMatchObject({ closed: 1 });
});

test("a connection belongs to its own plugin also while there are as many requests as there may be", () => {
  const host = startTcpInbound();
  const outbound = host.addPlugin({ direction: "outbound", metadata_exchange: { tcp: { send: "always" } } });
  expect(outbound).toBe(2);
  for (let index = 0; index < 16_384; index++) host.stream().sendRequestHeaders();
  const connection = connect(host).fromClient("ping");
  expect(connection.toServer.toString()).toBe("ping");
  expect(tcpSeries(host, 0).map(({ labels }) => labels["reporter"])).toEqual(["destination"]);
});

test("a trap is not what becomes of connections whose label sets are too many, where nothing but definitions is kept", () => {
  const host = startTcpInbound(DEFINITIONS_ALONE);
  for (let round = 0; round < 200; round++) {
    host.request({ requestBytes: 255, properties: { "source.address": `10.0.0.${round}:1` } });
    const told = prefixOf(PRODUCTPAGE, { NAME: `n${round}` });
    const sourceAddress = `10.1.0.${round}:1`;
    connect(host, { ...CONNECTION_FROM_PRODUCTPAGE, sourceAddress })
      .fromClient(told)
      .fromClient("x")
      .finish();
  }
  expect(host.logs.filter(({ level }) => level === "error")).toEqual([]);
});

test("a server's prefix is taken off also where our own metadata is too long to be sent", () => {
  const configuration = { metadata_exchange: { max_header_bytes: 512, additional_labels: ["pod-template-hash"] } };
  const node = withMetadata(PRODUCTPAGE, { WORKLOAD_NAME: "w".repeat(600) });
  const host = startTcpOutbound(configuration, { node });
  const connection = connect(host, CONNECTION_TO_REVIEWS).fromServer(Buffer.concat([ANSWER, Buffer.from("pong")]));
  expect(connection.toClient.toString()).toBe("pong");
});

test("reports go on when the clock is set back", () => {
  const host = startTcpInbound();
  const connection = connect(host).fromClient("x");
  host.advance(6_000);
  host.nowNs -= 3_600_000_000_000n;
  connection.fromClient("y");
  for (let index = 0; index < 120; index++) {
    host.nowNs += 250_000_000n;
    host.tick();
  }
  expect(tcpCounts(host).received).toBe(2);
});

test("held bytes go on within the bound when the clock is set back", () => {
  const host = startTcpInbound();
  const connection = connect(host).fromClient("=");
  host.nowNs -= 3_600_000_000_000n;
  for (let index = 0; index < 120; index++) {
    host.nowNs += 250_000_000n;
    host.tick();
  }
  expect(connection.toServer.toString()).toBe("=");
});

test("a server that is not known to understand has no byte of its first words held back: it was told nothing", () => {
  const connection = connect(startTcpOutbound(), CONNECTION_TO_REVIEWS).fromServer("=");
  expect(connection.toClient.toString()).toBe("=");
});

test("a prefix that is cut by the bound counts as one that did not come, as with a FIN", () => {
  const host = startTcpInbound();
  connect(host).fromClient("=", { end: true });
  const byFin = { ...Object.fromEntries(host.series().map((one) => [one.name, Number(one.value)])) };
  const other = startTcpInbound();
  connect(other).fromClient("=");
  other.advance(1_500);
  const byBound = { ...Object.fromEntries(other.series().map((one) => [one.name, Number(one.value)])) };
  const name = "envoy_metadata_exchange_alpn_protocol_not_found";
  expect(byBound[name] ?? 0).toBe(byFin[name]);
});

test("a gateway takes off a prefix whatever the order of the fields in its Any", () => {
  const value = encodeStruct({ [PEER_METADATA_HEADER]: exchangedMetadata(PRODUCTPAGE) });
  const any = encodeAny(STRUCT_URL, value);
  const url = any.subarray(0, 44);
  const turned = frame(Buffer.concat([any.subarray(44), url]));
  const connection = connect(startOutbound({ configuration: GATEWAY }), { downstreamTls: {} });
  connection.fromClient(Buffer.concat([turned, Buffer.from("ping")]));
  expect(connection.toServer.toString()).toBe("ping");
});
