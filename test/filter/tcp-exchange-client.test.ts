// The TCP metadata exchange where the connection begins: who is sent our prefix, and what of the server's bytes is its answer.

import { describe, expect, test } from "vitest";
import { PASSTHROUGH_CLUSTER } from "../../filter/vocabulary/values.ts";
import type { ConnectionOptions, TcpConnection } from "../host/connection.ts";
import { readFlatNode } from "../host/flat-node.ts";
import type { Host } from "../host/host.ts";
import { exchangedMetadata, faults, PRODUCTPAGE, REVIEWS, REVIEWS_CLUSTER, withMetadata } from "../host/mesh.ts";
import { encodeAny, frame, PREFIX_MAGIC, prefixOf, readPrefix } from "../host/prefix.ts";
import type { JsonObject } from "../host/struct.ts";
import {
  CONNECTION_TO_REVIEWS,
  exchangeCounts,
  MESH_ENDPOINT,
  startTcpInbound,
  startTcpOutbound,
  tcpCounts,
  tcpLabels,
} from "../host/tcp.ts";

const PREFIX = prefixOf(PRODUCTPAGE);
const ANSWER = prefixOf(REVIEWS);
const BOUND_MS = 1_000;
const STRUCT_URL = "type.googleapis.com/google.protobuf.Struct";
const KNOWN = { destination_workload: "reviews-v2" };
const UNKNOWN = { destination_workload: "unknown" };

function connect(host: Host, options: ConnectionOptions = CONNECTION_TO_REVIEWS): TcpConnection {
  return host.connection(options);
}

function bytes(text: string): Buffer {
  return Buffer.from(text, "latin1");
}

function upstreamPeer(connection: TcpConnection): string | undefined {
  const state = connection.filterState.get("wasm.upstream_peer");
  return state && readFlatNode(state).workloadName;
}

describe("our prefix", () => {
  test("goes before the client's first bytes, once, and not into the counts", () => {
    const host = startTcpOutbound();
    const connection = connect(host);
    expect(connection.toServer.length).toBe(0);
    connection.fromClient("ping").fromClient("again");
    expect(connection.toServer).toEqual(Buffer.concat([PREFIX, bytes("pingagain")]));
    expect(exchangeCounts(host)).toEqual({ AlpnProtocolFound: 1, MetadataAdded: 1 });
    connection.finish();
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 0, received: 9 });
  });

  test("holds the reduced metadata and the node's id", () => {
    const { toServer } = connect(startTcpOutbound()).fromClient("x");
    expect(readPrefix(toServer)).toMatchObject({ metadata: exchangedMetadata(PRODUCTPAGE), id: PRODUCTPAGE.id });
  });

  test("is understood by the server's filter, whose answer is understood here", () => {
    const [client, server] = [startTcpOutbound(), startTcpInbound()];
    const near = connect(client).fromClient("ping");
    const far = server.connection().fromClient(near.toServer).fromServer("pong");
    near.fromServer(far.toClient);
    expect([far.toServer.toString(), near.toClient.toString()]).toEqual(["ping", "pong"]);
    expect(tcpLabels(server)).toMatchObject({ source_workload: "productpage-v1" });
    expect(tcpLabels(client)).toMatchObject(KNOWN);
  });

  test("does not delay what the client says, and holds nothing", () => {
    const connection = connect(startTcpOutbound());
    for (const text of ["a", "b", "c"]) expect(connection.fromClient(text).held.length).toBe(0);
  });

  test("goes before bytes that begin like a prefix themselves: they are the application's", () => {
    const connection = connect(startTcpOutbound()).fromClient(PREFIX_MAGIC).fromClient(PREFIX);
    expect(connection.toServer).toEqual(Buffer.concat([PREFIX, PREFIX_MAGIC, PREFIX]));
  });
});

describe("who is sent it", () => {
  interface Case {
    readonly tcp?: JsonObject;
    readonly exchange?: JsonObject;
    readonly connection?: ConnectionOptions;
  }
  const { cluster: _cluster, endpoint: _endpoint, upstreamTls: _upstreamTls, ...PLAIN } = CONNECTION_TO_REVIEWS;
  const metadata = (more: JsonObject) => ({ name: "c", metadata: more });
  const NAMED = { ...PLAIN, cluster: REVIEWS_CLUSTER };
  const MARKED = { ...PLAIN, cluster: metadata({ meshtally: { tcp_metadata_exchange: true } }) };
  const external = { ...CONNECTION_TO_REVIEWS, cluster: metadata({ istio: { external: true } }) };
  const passthrough = { ...CONNECTION_TO_REVIEWS, cluster: { name: PASSTHROUGH_CLUSTER } };
  const disabled = { ...CONNECTION_TO_REVIEWS, cluster: metadata({ istio: { disable_mx: true } }) };
  const tlsMode = (mode: string) => ({
    ...CONNECTION_TO_REVIEWS,
    endpoint: { metadata: { "envoy.transport_socket_match": { tlsMode: mode } } },
  });
  const sanless = { ...PLAIN, cluster: REVIEWS_CLUSTER, endpoint: MESH_ENDPOINT };

  test.each<readonly [string, Case]>([
    ["an endpoint with tlsMode istio behind a certificate with a URI", {}],
    ["the same with send known", { tcp: { send: "known" } }],
    ["a cluster whose name matches a pattern", { tcp: { clusters: ["outbound|9080||*"] }, connection: NAMED }],
    ["a cluster whose name is the pattern", { tcp: { clusters: [REVIEWS_CLUSTER.name] }, connection: NAMED }],
    ["a * in the middle", { tcp: { clusters: ["outbound|*|reviews.default.*"] }, connection: NAMED }],
    ["a * for nothing", { tcp: { clusters: [`*${REVIEWS_CLUSTER.name}*`] }, connection: NAMED }],
    ["a * that must look further than its first fit", { tcp: { clusters: ["*default*local"] }, connection: NAMED }],
    ["the second of two patterns", { tcp: { clusters: ["a", "*reviews*"] }, connection: NAMED }],
    ["the pattern * alone", { tcp: { clusters: ["*"] }, connection: NAMED }],
    ["a cluster whose metadata says so", { connection: MARKED }],
    ["anybody with send always", { tcp: { send: "always" }, connection: { ...PLAIN, cluster: { name: "c" } } }],
    ["an endpoint of no cluster metadata with send always", { tcp: { send: "always" }, connection: NAMED }],
    [
      "an external cluster with send always and skip_external_clusters off",
      { tcp: { send: "always" }, exchange: { skip_external_clusters: false }, connection: external },
    ],
    [
      "PassthroughCluster with send always and skip_external_clusters off",
      { tcp: { send: "always" }, exchange: { skip_external_clusters: false }, connection: passthrough },
    ],
  ])("%s: yes", (_, { tcp, exchange, connection }) => {
    const host = startTcpOutbound({ metadata_exchange: { ...exchange, ...(tcp && { tcp }) } });
    const sent = connect(host, connection ?? CONNECTION_TO_REVIEWS).fromClient("ping");
    expect(sent.toServer).toEqual(Buffer.concat([PREFIX, bytes("ping")]));
    expect(exchangeCounts(host)).toEqual({ AlpnProtocolFound: 1, MetadataAdded: 1 });
    expect(faults(host)).toEqual({});
  });

  test.each<readonly [string, Case]>([
    ["a cluster and endpoint that say nothing", { connection: NAMED }],
    ["no cluster at all", { connection: PLAIN }],
    ["tlsMode istio over plaintext: nobody vouches that a proxy is there", { connection: sanless }],
    [
      "tlsMode istio behind a certificate without a URI",
      { connection: { ...CONNECTION_TO_REVIEWS, upstreamTls: { local: "spiffe://td/ns/a/sa/b" } } },
    ],
    ["tlsMode disabled", { connection: tlsMode("disabled") }],
    ["tlsMode istiod", { connection: tlsMode("istiod") }],
    ["a certificate without tlsMode", { connection: { ...CONNECTION_TO_REVIEWS, endpoint: {} } }],
    ["a cluster that matches no pattern", { tcp: { clusters: ["outbound|6379||*"] }, connection: NAMED }],
    ["a pattern that fits the name's beginning alone", { tcp: { clusters: ["outbound|9080"] }, connection: NAMED }],
    ["a pattern that fits the name's end alone", { tcp: { clusters: ["svc.cluster.local"] }, connection: NAMED }],
    ["a pattern in which . is no wildcard", { tcp: { clusters: ["outbound.9080*"] }, connection: NAMED }],
    ["a pattern in which ? is no wildcard", { tcp: { clusters: ["outbound?9080*"] }, connection: NAMED }],
    [
      "a cluster whose metadata says no",
      { connection: { ...PLAIN, cluster: metadata({ meshtally: { tcp_metadata_exchange: false } }) } },
    ],
    ["a cluster with istio.disable_mx", { connection: disabled }],
    ["a cluster with istio.disable_mx and send always", { tcp: { send: "always" }, connection: disabled }],
    ["a cluster with istio.disable_mx and a pattern", { tcp: { clusters: ["*"] }, connection: disabled }],
    ["an external cluster", { connection: external }],
    ["an external cluster with send always", { tcp: { send: "always" }, connection: external }],
    ["PassthroughCluster with send always", { tcp: { send: "always" }, connection: passthrough }],
    ["PassthroughCluster with a pattern", { tcp: { clusters: ["*"] }, connection: passthrough }],
    ["anybody without exchange", { exchange: { directions: [] } }],
    ["anybody with exchange downstream alone", { tcp: { send: "always" }, exchange: { directions: ["downstream"] } }],
  ])("%s: no", (_, { tcp, exchange, connection }) => {
    const host = startTcpOutbound({ metadata_exchange: { ...exchange, ...(tcp && { tcp }) } });
    const sent = connect(host, connection ?? CONNECTION_TO_REVIEWS)
      .fromClient("ping")
      .fromServer(ANSWER)
      .finish();
    expect(sent.toServer.toString()).toBe("ping");
    expect(sent.toClient, "nor is anything taken off").toEqual(ANSWER);
    expect(exchangeCounts(host).MetadataAdded).toBeUndefined();
    expect(upstreamPeer(sent)).toBeUndefined();
    expect(tcpCounts(host, UNKNOWN)).toEqual({ opened: 1, closed: 1, sent: ANSWER.length, received: 4 });
  });

  test.each([
    ["an endpoint of the mesh", {}, CONNECTION_TO_REVIEWS],
    ["a matching cluster", { clusters: ["*"] }, NAMED],
    ["a marked cluster", {}, MARKED],
  ])("%s with send never: no; but what it says unasked is not for the client", (_, tcp, connection) => {
    const host = startTcpOutbound({ metadata_exchange: { tcp: { send: "never", ...tcp } } });
    const sent = connect(host, connection)
      .fromClient("ping")
      .fromServer(Buffer.concat([ANSWER, Buffer.from("pong!")]))
      .finish();
    expect(sent.toServer.toString()).toBe("ping");
    expect(sent.toClient.toString()).toBe("pong!");
    expect(exchangeCounts(host).MetadataAdded).toBeUndefined();
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 5, received: 4 });
  });

  test("that the peer does not understand is counted once, at the first data", () => {
    const host = startTcpOutbound();
    const connection = connect(host, NAMED);
    expect(exchangeCounts(host)).toEqual({});
    connection.fromClient("ping").fromServer("pong").finish();
    expect(exchangeCounts(host)).toEqual({ AlpnProtocolNotFound: 1 });
  });

  test("nobody when our own metadata is too long: counted, and the bytes go as they are", () => {
    const node = withMetadata(PRODUCTPAGE, { WORKLOAD_NAME: "w".repeat(20_000) });
    const host = startTcpOutbound({}, { node });
    const connection = connect(host).fromClient("ping").fromServer("pong").finish();
    expect([connection.toServer.toString(), connection.toClient.toString()]).toEqual(["ping", "pong"]);
    expect(faults(host)).toEqual({ own_metadata_too_large: 1 });
  });

  test("a gateway sends it to those behind it", () => {
    const host = startTcpOutbound({ direction: "gateway", disable_host_header_fallback: true });
    const connection = connect(host).fromClient("ping");
    expect(connection.toServer).toEqual(Buffer.concat([PREFIX, bytes("ping")]));
    connection.fromServer(ANSWER).fromServer("pong");
    expect(connection.toClient.toString()).toBe("pong");
    expect(tcpLabels(host)).toMatchObject(KNOWN);
  });

  test.each([
    ["not of the words", { send: "sometimes" }, 'send: expected one of known, always, never, found "sometimes"'],
    ["no word", { send: true }, "send: expected one of known, always, never, found true"],
    [
      "with patterns that are no texts",
      { clusters: ["a", 1] },
      "clusters: expected a list of nothing but strings, found 1",
    ],
    [
      "with patterns that are no list",
      { clusters: "a" },
      'clusters: expected a list of nothing but strings, found "a"',
    ],
    [
      "with a timeout that is none",
      { timeout: "soon" },
      'timeout: expected a duration like "15s", "250ms" or "12h", found "soon"',
    ],
    [
      "with a timeout that is too short",
      { timeout: "1ms" },
      'timeout: expected a duration from 100ms to 60s, found "1ms"',
    ],
    [
      "with a timeout that is too long",
      { timeout: "61s" },
      'timeout: expected a duration from 100ms to 60s, found "61s"',
    ],
  ])("a configuration %s is complained of, and its default holds", (_, tcp, complaint) => {
    const host = startTcpOutbound({ metadata_exchange: { tcp } });
    expect(faults(host)).toEqual({ configuration: 1 });
    const logged = host.logs.filter(({ level }) => level === "warn" || level === "error");
    expect(logged.map(({ text }) => text)).toEqual([expect.stringContaining(`metadata_exchange.tcp.${complaint};`)]);
    expect(connect(host).fromClient("ping").toServer).toEqual(Buffer.concat([PREFIX, bytes("ping")]));
  });
});

describe("the server's answer", () => {
  test("is taken off; its sender is the destination, and filter state for access loggers", () => {
    const host = startTcpOutbound();
    const connection = connect(host)
      .fromClient("ping")
      .fromServer(Buffer.concat([ANSWER, bytes("pong")]));
    expect(connection.toClient.toString()).toBe("pong");
    expect(tcpLabels(host)).toMatchObject(KNOWN);
    expect(upstreamPeer(connection)).toBe("reviews-v2");
    expect(exchangeCounts(host)).toEqual({ AlpnProtocolFound: 1, MetadataAdded: 1 });
    expect(faults(host)).toEqual({});
  });

  test("is taken off wherever it is cut in two", () => {
    const host = startTcpOutbound();
    const all = Buffer.concat([ANSWER, bytes("pong")]);
    for (let cut = 1; cut < all.length; cut++) {
      const connection = connect(host).fromClient("ping");
      connection.fromServer(all.subarray(0, cut));
      if (cut <= ANSWER.length) expect(connection.toClient.length, `cut at ${cut}`).toBe(0);
      connection.fromServer(all.subarray(cut)).finish();
      expect(connection.toClient.toString(), `cut at ${cut}`).toBe("pong");
      expect(upstreamPeer(connection), `cut at ${cut}`).toBe("reviews-v2");
    }
    const count = all.length - 1;
    expect(tcpCounts(host, KNOWN)).toEqual({ opened: count, closed: count, sent: 4 * count, received: 4 * count });
    expect(tcpCounts(host)).toEqual(tcpCounts(host, KNOWN));
  });

  test.each([1, 2, 3, 7, 50])("is taken off in chunks of %d", (size) => {
    const host = startTcpOutbound();
    const all = Buffer.concat([ANSWER, bytes("pong")]);
    const connection = connect(host).fromClient("ping");
    for (let at = 0; at < all.length; at += size) connection.fromServer(all.subarray(at, at + size));
    connection.finish();
    expect(connection.toClient.toString()).toBe("pong");
    expect(tcpCounts(host, KNOWN)).toEqual({ opened: 1, closed: 1, sent: 4, received: 4 });
  });

  test("is taken off when it comes before the client has spoken; our prefix goes out all the same", () => {
    const host = startTcpOutbound();
    const connection = connect(host).fromServer(ANSWER).fromServer("220 ready").fromClient("HELO").finish();
    expect(connection.toClient.toString()).toBe("220 ready");
    expect(connection.toServer).toEqual(Buffer.concat([PREFIX, bytes("HELO")]));
    expect(exchangeCounts(host)).toEqual({ AlpnProtocolFound: 1, MetadataAdded: 1 });
    expect(tcpCounts(host, KNOWN)).toEqual({ opened: 1, closed: 1, sent: 9, received: 4 });
  });

  test("is taken off once", () => {
    const connection = connect(startTcpOutbound()).fromClient("x").fromServer(ANSWER).fromServer(ANSWER);
    expect(connection.toClient).toEqual(ANSWER);
  });

  test("with a FIN right behind it is taken off", () => {
    const host = startTcpOutbound();
    const connection = connect(host).fromClient("ping").fromServer(ANSWER, { end: true }).finish();
    expect(connection.toClient.length).toBe(0);
    expect(connection.isClientToldEnd).toBe(true);
    expect(tcpCounts(host, KNOWN)).toEqual({ opened: 1, closed: 1, sent: 0, received: 4 });
  });

  test("with trust mutual_tls is taken off a plaintext server's bytes, but not believed", () => {
    const host = startTcpOutbound({ metadata_exchange: { trust: "mutual_tls", tcp: { send: "always" } } });
    const connection = connect(host, { ...CONNECTION_TO_REVIEWS, upstreamTls: {} }).fromClient("ping");
    connection.fromServer(ANSWER).fromServer("pong");
    expect(connection.toClient.toString()).toBe("pong");
    expect(tcpLabels(host)).toMatchObject(UNKNOWN);
    expect(upstreamPeer(connection)).toBeUndefined();
    expect(faults(host)).toEqual({ peer_untrusted: 1 });
  });
});

describe("anything else passes", () => {
  const prescribed = Array.from({ length: 8 + 2 + STRUCT_URL.length }, (_, at) => at).filter(
    (at) => at !== 6 && at !== 7,
  );

  test.each([1, Number.POSITIVE_INFINITY])(
    "as soon as it differs from a prefix, at any byte, in chunks of %d",
    (size) => {
      const host = startTcpOutbound();
      for (const at of prescribed) {
        const garbage = Buffer.from(ANSWER.subarray(0, at + 1));
        garbage[at] = (garbage[at] ?? 0) ^ 0xff;
        const connection = connect(host).fromClient("ping");
        const step = Math.min(size, garbage.length);
        for (let from = 0; from < garbage.length; from += step)
          connection.fromServer(garbage.subarray(from, from + step));
        expect(connection.toClient, `differs at ${at}`).toEqual(garbage);
        connection.fromServer(ANSWER).finish();
        expect(connection.toClient, `differs at ${at}`).toEqual(Buffer.concat([garbage, ANSWER]));
      }
      expect(tcpCounts(host)).toEqual(tcpCounts(host, UNKNOWN));
      expect(faults(host)).toEqual({});
    },
  );

  test.each([
    ["a banner", bytes("220 ready\r\n")],
    ["one byte", bytes("x")],
    ["the magic before text", Buffer.concat([PREFIX_MAGIC, bytes("HTTP/1.1 200")])],
    ["a length of 64 KiB and one", frame(Buffer.alloc(0), 65_537)],
  ])("%s: counted initial_header_not_found, and the peer is unknown at once", (_, first) => {
    const host = startTcpOutbound();
    const connection = connect(host).fromClient("ping").fromServer(first);
    expect(connection.toClient).toEqual(first);
    expect(exchangeCounts(host)).toEqual({ AlpnProtocolFound: 1, MetadataAdded: 1, InitialHeaderNotFound: 1 });
    expect(tcpCounts(host, UNKNOWN)).toMatchObject({ opened: 1 });
  });

  test("from a server that speaks first and sends no prefix, without delay", () => {
    const host = startTcpOutbound();
    const connection = connect(host).fromServer("220 ready");
    expect(connection.toClient.toString()).toBe("220 ready");
    connection.fromClient("HELO").fromServer("250").finish();
    expect(connection.toServer).toEqual(Buffer.concat([PREFIX, bytes("HELO")]));
    expect(connection.toClient.toString()).toBe("220 ready250");
    expect(tcpCounts(host, UNKNOWN)).toEqual({ opened: 1, closed: 1, sent: 12, received: 4 });
  });

  test("a prefix that cannot be read, whole: header_not_found", () => {
    const host = startTcpOutbound();
    const broken = Buffer.concat([frame(encodeAny(STRUCT_URL, Buffer.alloc(40, 0xff))), bytes("pong")]);
    const connection = connect(host).fromClient("ping").fromServer(broken).finish();
    expect(connection.toClient).toEqual(broken);
    expect(exchangeCounts(host)).toMatchObject({ HeaderNotFound: 1 });
    expect(tcpCounts(host, UNKNOWN)).toEqual({ opened: 1, closed: 1, sent: broken.length, received: 4 });
  });
});

describe("an answer that does not come whole", () => {
  test.each([1, 8, 54, 100])("goes on with the server's FIN: the first %d bytes", (size) => {
    for (const isOneRead of [true, false]) {
      const host = startTcpOutbound();
      const connection = connect(host).fromClient("ping");
      if (isOneRead) connection.fromServer(ANSWER.subarray(0, size), { end: true });
      else connection.fromServer(ANSWER.subarray(0, size)).fromServer("", { end: true });
      expect(connection.toClient).toEqual(ANSWER.subarray(0, size));
      expect(faults(host)).toEqual({ prefix_cut: 1 });
      connection.finish();
      expect(tcpCounts(host, UNKNOWN)).toEqual({ opened: 1, closed: 1, sent: size, received: 4 });
    }
  });

  test("goes on with the server's next bytes once the bound is over", () => {
    const host = startTcpOutbound();
    host.advance(330);
    const connection = connect(host).fromClient("ping").fromServer(ANSWER.subarray(0, 100));
    host.advance(BOUND_MS);
    expect(tcpCounts(host, UNKNOWN)).toMatchObject({ opened: 1 });
    connection.fromServer(ANSWER.subarray(100, 200));
    expect(connection.toClient).toEqual(ANSWER.subarray(0, 200));
    connection.fromServer(ANSWER.subarray(200)).fromServer("pong").finish();
    expect(connection.toClient).toEqual(Buffer.concat([ANSWER, bytes("pong")]));
    expect(faults(host)).toEqual({ prefix_cut: 1 });
    expect(tcpCounts(host, UNKNOWN)).toEqual({ opened: 1, closed: 1, sent: ANSWER.length + 4, received: 4 });
  });

  test("is taken off all the same when the server's next bytes after the bound complete it: nothing of it went on", () => {
    const host = startTcpOutbound();
    const connection = connect(host).fromClient("ping").fromServer(ANSWER.subarray(0, 100));
    host.advance(2 * BOUND_MS);
    connection.fromServer(Buffer.concat([ANSWER.subarray(100), bytes("pong")]));
    expect(connection.toClient.toString()).toBe("pong");
    expect(upstreamPeer(connection)).toBe("reviews-v2");
    expect(faults(host)).toEqual({ peer_late: 1 });
  });

  test("goes on with the server's FIN after the bound", () => {
    const host = startTcpOutbound();
    const connection = connect(host).fromClient("ping").fromServer(ANSWER.subarray(0, 100));
    host.advance(2 * BOUND_MS);
    connection.fromServer("", { end: true });
    expect(connection.toClient).toEqual(ANSWER.subarray(0, 100));
    expect(faults(host)).toEqual({ prefix_cut: 1 });
    connection.finish();
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 100, received: 4 });
  });

  test("does not hold back what the client says", () => {
    const connection = connect(startTcpOutbound()).fromClient("ping").fromServer(ANSWER.subarray(0, 20));
    expect(connection.fromClient("more").toServer.subarray(PREFIX.length).toString()).toBe("pingmore");
  });

  test("is lost with a client that is gone", () => {
    const host = startTcpOutbound();
    connect(host).fromClient("ping").fromServer(ANSWER.subarray(0, 100)).reset();
    expect(tcpCounts(host, UNKNOWN)).toEqual({ opened: 1, closed: 1, sent: 0, received: 4 });
  });
});

describe("an answer that comes late", () => {
  test("as the server's first bytes is one still: the peer is known from then on", () => {
    const host = startTcpOutbound();
    const connection = connect(host).fromClient("ping");
    host.advance(2 * BOUND_MS);
    expect(tcpCounts(host, UNKNOWN)).toMatchObject({ opened: 1 });
    connection.fromServer(ANSWER).fromServer("pong").finish();
    expect(connection.toClient.toString()).toBe("pong");
    expect(upstreamPeer(connection)).toBe("reviews-v2");
    expect(faults(host)).toEqual({ peer_late: 1 });
    expect(tcpCounts(host, UNKNOWN)).toMatchObject({ opened: 1, closed: 1 });
    expect(tcpCounts(host, KNOWN)).toMatchObject({ opened: 0, closed: 0, sent: 4 });
    expect(tcpCounts(host)).toMatchObject({ sent: 4, received: 4 });
  });

  test("has the bytes right behind it counted as the peer's, too", () => {
    const host = startTcpOutbound();
    const connection = connect(host).fromClient("ping");
    host.advance(2 * BOUND_MS);
    connection.fromServer(Buffer.concat([ANSWER, bytes("pong")])).finish();
    expect(tcpCounts(host, UNKNOWN)).toEqual({ opened: 1, closed: 1, sent: 0, received: 4 });
    expect(tcpCounts(host, KNOWN)).toEqual({ opened: 0, closed: 0, sent: 4, received: 0 });
  });
});
