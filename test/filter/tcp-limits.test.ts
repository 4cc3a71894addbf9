// What connections cost, and what happens at the limits: counted in host calls and memory, never in time.

import { describe, expect, test } from "vitest";
import type { ConnectionOptions, TcpConnection } from "../host/connection.ts";
import type { Host } from "../host/host.ts";
import { faults, makeNode, PRODUCTPAGE, REVIEWS } from "../host/mesh.ts";
import { prefixOf } from "../host/prefix.ts";
import {
  CONNECTION_FROM_PRODUCTPAGE,
  CONNECTION_TO_REVIEWS,
  startTcpInbound,
  startTcpOutbound,
  tcpCounts,
} from "../host/tcp.ts";

const PREFIX = prefixOf(PRODUCTPAGE);
const ANSWER = prefixOf(REVIEWS);
const INTERVAL_MS = 5_000;
const MANY = 10_000;
const MIB = 1_024 * 1_024;
const MAX_CONNECTIONS = 262_144;

function connect(host: Host, options: ConnectionOptions = CONNECTION_FROM_PRODUCTPAGE): TcpConnection {
  return host.connection(options);
}

function totalCalls(host: Host): number {
  return [...host.calls.values()].reduce((sum, count) => sum + count, 0);
}

/** Host calls while the time passes, per tick. */
function callsPerTick(host: Host, milliseconds: number): number {
  const ticks = milliseconds / (host.tickPeriodMs.get(1) ?? milliseconds);
  host.calls.clear();
  host.advance(milliseconds);
  return totalCalls(host) / ticks;
}

describe("a tick", () => {
  test("makes no host call for idle connections, however many there are", () => {
    const host = startTcpInbound();
    for (let index = 0; index < MANY; index++) connect(host).fromClient(PREFIX).fromClient("x").fromServer("y");
    host.advance(2 * INTERVAL_MS);
    expect(tcpCounts(host)).toEqual({ opened: MANY, closed: 0, sent: MANY, received: MANY });
    expect(callsPerTick(host, 4 * INTERVAL_MS)).toBeLessThanOrEqual(5);
  });

  test("makes no host call for connections that never said a word, once they were opened", () => {
    const host = startTcpInbound();
    for (let index = 0; index < MANY; index++) connect(host);
    host.advance(2 * INTERVAL_MS);
    expect(tcpCounts(host)).toMatchObject({ opened: MANY });
    expect(callsPerTick(host, 4 * INTERVAL_MS)).toBeLessThanOrEqual(5);
  });

  test("reads nothing for one connection among many that carries bytes: it counts, and leaves the observation", () => {
    const host = startTcpInbound();
    const connections = Array.from({ length: 1_000 }, () => connect(host).fromClient(PREFIX).fromClient("x"));
    host.advance(2 * INTERVAL_MS);
    connections[500]?.fromServer("yz");
    host.calls.clear();
    host.advance(INTERVAL_MS);
    expect(tcpCounts(host)).toMatchObject({ sent: 2 });
    expect(host.readingCalls()).toBe(0);
    expect(host.calls.get("proxy_set_property")).toBe(1);
  });
});

describe("a connection in steady state", () => {
  test.each([
    ["server with a peer", () => connect(startTcpInboundCounted()).fromClient(PREFIX).fromClient("x").fromServer("y")],
    ["server without one", () => connect(startTcpInboundCounted()).fromClient("x").fromServer("y")],
    [
      "client with a peer",
      () =>
        connect(startTcpOutboundCounted(), CONNECTION_TO_REVIEWS).fromClient("x").fromServer(ANSWER).fromServer("y"),
    ],
    [
      "client without one",
      () => connect(startTcpOutboundCounted(), CONNECTION_TO_REVIEWS).fromClient("x").fromServer("y").fromServer("z"),
    ],
  ])("makes no host call for data, and takes no memory: %s", (_, begin) => {
    const connection = begin();
    const host = counted;
    connection.fromClient("x").fromServer("y");
    host.calls.clear();
    const memory = host.memory.byteLength;
    for (let index = 0; index < 20_000; index++) connection.fromClient("0123456789").fromServer("0123456789");
    expect(Object.fromEntries(host.calls)).toEqual({});
    expect(host.memory.byteLength).toBe(memory);
    connection.finish();
    expect(tcpCounts(host)).toMatchObject({ opened: 1, closed: 1 });
    expect(tcpCounts(host).received).toBeGreaterThanOrEqual(200_000);
  });

  let counted: Host;
  function startTcpInboundCounted(): Host {
    counted = startTcpInbound();
    return counted;
  }
  function startTcpOutboundCounted(): Host {
    counted = startTcpOutbound();
    return counted;
  }
});

describe("memory", () => {
  test("is flat over 100,000 connections one after the other, on either side", () => {
    const [server, client] = [startTcpInbound(), startTcpOutbound()];
    const drive = (count: number) => {
      for (let index = 0; index < count; index++) {
        connect(server).fromClient(PREFIX).fromClient("x").fromServer("y").finish();
        connect(client, CONNECTION_TO_REVIEWS).fromClient("x").fromServer(ANSWER).fromServer("y").finish();
        if (index % 100 === 0) for (const host of [server, client]) host.advance(60);
      }
    };
    drive(5_000);
    const before = [server.memory.byteLength, client.memory.byteLength];
    drive(45_000);
    expect([server.memory.byteLength, client.memory.byteLength]).toEqual(before);
    for (const host of [server, client]) {
      expect(tcpCounts(host)).toEqual({ opened: 50_000, closed: 50_000, sent: 50_000, received: 50_000 });
    }
  }, 120_000);

  test("is flat under churn: new peers, clusters and cut answers", () => {
    const [server, client] = [startTcpInbound(), startTcpOutbound()];
    const drive = (from: number, to: number) => {
      for (let index = from; index < to; index++) {
        const peer = prefixOf(makeNode(`s${index}`, "v1", "::1"));
        const cluster = { ...CONNECTION_TO_REVIEWS.cluster, name: `cluster-${index}` };
        connect(server).fromClient(peer.subarray(0, 300)).fromClient(peer.subarray(300)).finish();
        connect(client, { ...CONNECTION_TO_REVIEWS, cluster })
          .fromClient("x")
          .fromServer(peer)
          .finish();
        connect(client, { ...CONNECTION_TO_REVIEWS, cluster })
          .fromClient("x")
          .fromServer(peer.subarray(0, 300))
          .reset();
        if (index % 100 === 0) for (const host of [server, client]) host.advance(2_000);
      }
    };
    drive(0, 5_000);
    const before = [server.memory.byteLength, client.memory.byteLength];
    drive(5_000, 10_000);
    expect([server.memory.byteLength, client.memory.byteLength]).toEqual(before);
    expect(tcpCounts(server)).toMatchObject({ opened: 10_000, closed: 10_000 });
    expect(tcpCounts(client)).toMatchObject({ opened: 20_000, closed: 20_000 });
  }, 120_000);

  test("that cut answers of 60 KB took on 500 connections is given back", () => {
    const host = startTcpOutbound();
    const cut = Buffer.concat([ANSWER.subarray(0, 4), Buffer.from([0, 0, 0xff, 0xff]), ANSWER.subarray(8, 52)]);
    const round = () => {
      const connections = Array.from({ length: 500 }, () => connect(host, CONNECTION_TO_REVIEWS).fromClient("x"));
      for (const connection of connections) connection.fromServer(Buffer.concat([cut, Buffer.alloc(60_000)]));
      for (const connection of connections) connection.reset();
    };
    for (let index = 0; index < 3; index++) round();
    const before = host.memory.byteLength;
    for (let index = 0; index < 10; index++) round();
    expect(host.memory.byteLength).toBeLessThanOrEqual(before * 1.5);
    expect(before).toBeLessThan(256 * MIB);
  }, 120_000);

  test("of an idle connection is less than 2 KiB", () => {
    const host = startTcpInbound();
    connect(host).fromClient(PREFIX).fromClient("x");
    const before = host.memory.byteLength;
    for (let index = 0; index < MANY; index++) connect(host).fromClient(PREFIX).fromClient("x");
    expect((host.memory.byteLength - before) / MANY).toBeLessThan(2_048);
  }, 60_000);
});

describe("connections beyond the cap", () => {
  test("pass untouched and are counted at their end from what Envoy counted, each with the fault connections_full", () => {
    const host = startTcpInbound();
    const kept = Array.from({ length: MAX_CONNECTIONS }, () => connect(host));
    const beyond = connect(host).fromClient(PREFIX).fromClient("ping").fromServer("pong!");
    expect(beyond.toServer).toEqual(Buffer.concat([PREFIX, Buffer.from("ping")]));
    expect(beyond.toClient.toString()).toBe("pong!");
    beyond.finish();
    expect(faults(host)).toEqual({ connections_full: 1 });
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 5, received: PREFIX.length + 4 });
    kept[7]?.finish();
    connect(host).fromClient(PREFIX).fromClient("ping").finish();
    expect(tcpCounts(host, { source_workload: "productpage-v1" })).toEqual({
      opened: 1,
      closed: 1,
      sent: 0,
      received: 4,
    });
    expect(faults(host)).toEqual({ connections_full: 1 });
  }, 120_000);
});

describe("calls that bring bytes into the guest", () => {
  const readings = (host: Host, run: () => void): number => {
    for (let index = 0; index < 100; index++) run();
    host.calls.clear();
    for (let index = 0; index < 100; index++) run();
    return host.readingCalls() / 100;
  };

  test("per connection of a server with a peer: 20 at most", () => {
    const host = startTcpInbound();
    const run = () => connect(host).fromClient(PREFIX).fromClient("x").fromServer("y").finish();
    expect(readings(host, run)).toBeLessThanOrEqual(20);
  });

  test("per connection of a client with a peer: 20 at most", () => {
    const host = startTcpOutbound();
    const run = () => connect(host, CONNECTION_TO_REVIEWS).fromClient("x").fromServer(ANSWER).fromServer("y").finish();
    expect(readings(host, run)).toBeLessThanOrEqual(20);
  });
});
