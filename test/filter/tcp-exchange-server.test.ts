// The TCP metadata exchange where the client's prefix arrives: what is recognised, held, stripped, believed and answered.

import { describe, expect, test } from "vitest";
import { PEER_ID_HEADER, PEER_METADATA_HEADER } from "../../filter/vocabulary/peer-metadata.ts";
import type { ConnectionOptions, TcpConnection } from "../host/connection.ts";
import { readFlatNode } from "../host/flat-node.ts";
import type { Host } from "../host/host.ts";
import {
  exchangedMetadata,
  faults,
  PRODUCTPAGE,
  REVIEWS,
  startInbound,
  startOutbound,
  withMetadata,
} from "../host/mesh.ts";
import { encodeAny, frame, PREFIX_MAGIC, prefixOf, readPrefix, structPrefix } from "../host/prefix.ts";
import { encodeStruct, type JsonObject } from "../host/struct.ts";
import { CONNECTION_FROM_PRODUCTPAGE, exchangeCounts, startTcpInbound, tcpCounts, tcpLabels } from "../host/tcp.ts";

const PREFIX = prefixOf(PRODUCTPAGE);
const ANSWER = prefixOf(REVIEWS);
const BOUND_MS = 1_000;
const MAX_LENGTH = 65_536;
const STRUCT_URL = "type.googleapis.com/google.protobuf.Struct";
const KNOWN = { source_workload: "productpage-v1" };
const UNKNOWN = { source_workload: "unknown" };
const PLAINTEXT: ConnectionOptions = { ...CONNECTION_FROM_PRODUCTPAGE, downstreamTls: {} };

function connect(host: Host, options: ConnectionOptions = CONNECTION_FROM_PRODUCTPAGE): TcpConnection {
  return host.connection(options);
}

function bytes(text: string): Buffer {
  return Buffer.from(text, "latin1");
}

function downstreamPeer(connection: TcpConnection): string | undefined {
  const state = connection.filterState.get("wasm.downstream_peer");
  return state && readFlatNode(state).workloadName;
}

describe("a prefix", () => {
  test("is taken off; its sender is the source, and filter state for access loggers", () => {
    const host = startTcpInbound();
    const connection = connect(host).fromClient(Buffer.concat([PREFIX, bytes("ping")]));
    expect(connection.toServer.toString()).toBe("ping");
    expect(downstreamPeer(connection)).toBe("productpage-v1");
    expect(tcpLabels(host)).toMatchObject(KNOWN);
    expect(exchangeCounts(host)).toEqual({ AlpnProtocolFound: 1 });
    expect(faults(host)).toEqual({});
  });

  test("on its own lets nothing through, and no FIN", () => {
    const connection = connect(startTcpInbound()).fromClient(PREFIX);
    expect([connection.toServer.length, connection.held.length, connection.isServerToldEnd]).toEqual([0, 0, false]);
    connection.fromClient("ping");
    expect(connection.toServer.toString()).toBe("ping");
  });

  test("with a FIN right behind it is taken off; the FIN goes on", () => {
    const host = startTcpInbound();
    const connection = connect(host).fromClient(PREFIX, { end: true });
    expect([connection.toServer.length, connection.isServerToldEnd]).toEqual([0, true]);
    connection.finish();
    expect(tcpCounts(host, KNOWN)).toEqual({ opened: 1, closed: 1, sent: 0, received: 0 });
  });

  test("is taken off wherever it is cut in two, and what follows flows on", () => {
    const host = startTcpInbound();
    const all = Buffer.concat([PREFIX, bytes("ping")]);
    for (let cut = 1; cut < all.length; cut++) {
      const connection = connect(host).fromClient(all.subarray(0, cut)).fromClient(all.subarray(cut)).finish();
      expect(connection.toServer.toString(), `cut at ${cut}`).toBe("ping");
      expect(downstreamPeer(connection), `cut at ${cut}`).toBe("productpage-v1");
    }
    const count = all.length - 1;
    expect(tcpCounts(host, KNOWN)).toEqual({ opened: count, closed: count, sent: 0, received: 4 * count });
    expect(tcpCounts(host)).toEqual(tcpCounts(host, KNOWN));
  });

  test.each([1, 2, 3, 7, 50])("is taken off in chunks of %d", (size) => {
    const host = startTcpInbound();
    const all = Buffer.concat([PREFIX, bytes("ping")]);
    const connection = connect(host);
    for (let at = 0; at < all.length; at += size) {
      connection.fromClient(all.subarray(at, at + size));
      if (at + size < PREFIX.length) expect(connection.toServer.length).toBe(0);
    }
    connection.finish();
    expect(connection.toServer.toString()).toBe("ping");
    expect(tcpCounts(host, KNOWN)).toEqual({ opened: 1, closed: 1, sent: 0, received: 4 });
  });

  test("of fewer than eight bytes so far counts initial_header_not_found each time that it is held", () => {
    const host = startTcpInbound();
    const connection = connect(host);
    for (let at = 0; at < 20; at++) connection.fromClient(PREFIX.subarray(at, at + 1));
    expect(exchangeCounts(host)).toEqual({ InitialHeaderNotFound: 7 });
  });

  test("is taken off once: a second one belongs to the application", () => {
    const connection = connect(startTcpInbound())
      .fromClient(Buffer.concat([PREFIX, PREFIX]))
      .fromClient(PREFIX);
    expect(connection.toServer).toEqual(Buffer.concat([PREFIX, PREFIX]));
  });

  test("later than the first bytes belongs to the application", () => {
    const host = startTcpInbound();
    const connection = connect(host).fromClient("x").fromClient(PREFIX).finish();
    expect(connection.toServer).toEqual(Buffer.concat([bytes("x"), PREFIX]));
    expect(tcpCounts(host, UNKNOWN)).toEqual({ opened: 1, closed: 1, sent: 0, received: 1 + PREFIX.length });
  });

  test("without TLS is believed as well: trust is any by default", () => {
    const host = startTcpInbound();
    connect(host, PLAINTEXT).fromClient(PREFIX);
    expect(tcpLabels(host)).toMatchObject({ ...KNOWN, connection_security_policy: "none" });
  });

  test("with no id, or with keys that mean nothing, tells the peer all the same", () => {
    for (const struct of [
      { [PEER_METADATA_HEADER]: exchangedMetadata(PRODUCTPAGE) },
      { a: 1, [PEER_METADATA_HEADER]: exchangedMetadata(PRODUCTPAGE), [PEER_ID_HEADER]: 7, z: { deep: [true, null] } },
    ] satisfies JsonObject[]) {
      const host = startTcpInbound();
      const connection = connect(host).fromClient(structPrefix(struct)).fromClient("ping");
      expect(connection.toServer.toString()).toBe("ping");
      expect(tcpLabels(host)).toMatchObject(KNOWN);
    }
  });
});

describe("anything else passes at once, byte for byte", () => {
  /** The bytes of a prefix of which each value is prescribed: all but the two low ones of its length. */
  const prescribed = Array.from({ length: 8 + 2 + STRUCT_URL.length }, (_, at) => at).filter(
    (at) => at !== 6 && at !== 7,
  );

  test.each([1, Number.POSITIVE_INFINITY])(
    "what begins like a prefix and differs at any byte, in chunks of %d",
    (size) => {
      const host = startTcpInbound();
      for (const at of prescribed) {
        const garbage = Buffer.from(PREFIX.subarray(0, at + 1));
        garbage[at] = (garbage[at] ?? 0) ^ 0xff;
        const connection = connect(host);
        const step = Math.min(size, garbage.length);
        for (let from = 0; from < garbage.length; from += step) {
          expect(connection.toServer.length, `${from} of ${at}`).toBe(0);
          connection.fromClient(garbage.subarray(from, from + step));
        }
        expect(connection.toServer, `differs at ${at}`).toEqual(garbage);
        expect(connection.held.length, `differs at ${at}`).toBe(0);
        connection.fromClient(PREFIX);
        expect(connection.toServer, `differs at ${at}`).toEqual(Buffer.concat([garbage, PREFIX]));
        connection.finish();
      }
      expect(tcpCounts(host)).toEqual(tcpCounts(host, UNKNOWN));
      expect(tcpCounts(host).closed).toBe(prescribed.length);
      expect(exchangeCounts(host)).toMatchObject({ AlpnProtocolNotFound: prescribed.length });
      expect(faults(host)).toEqual({});
    },
  );

  test.each([
    ["a request line", bytes("GET / HTTP/1.1\r\n\r\n")],
    ["one byte", bytes("G")],
    ["a NUL", Buffer.alloc(1)],
    ["a TLS hello", Buffer.from("16030100c8010000c40303", "hex")],
    ["the first byte of the magic and another", Buffer.from("3d3d", "hex")],
    ["the magic before text", Buffer.concat([PREFIX_MAGIC, bytes("GET / HTTP/1.1")])],
    ["the magic backwards", Buffer.from(PREFIX_MAGIC).reverse()],
  ])("%s", (_, first) => {
    const host = startTcpInbound();
    const connection = connect(host).fromClient(first).fromClient("more");
    expect(connection.toServer).toEqual(Buffer.concat([first, bytes("more")]));
    expect(exchangeCounts(host)).toEqual({ AlpnProtocolNotFound: 1 });
    expect(tcpCounts(host).opened).toBe(1);
  });

  test("a client that ends without a byte", () => {
    const host = startTcpInbound();
    const connection = connect(host).fromClient("", { end: true });
    expect([connection.toServer.length, connection.isServerToldEnd]).toEqual([0, true]);
    expect(faults(host)).toEqual({});
  });
});

describe("the length", () => {
  /** A good prefix of exactly this length: a node with a label that is long enough. */
  function ofLength(length: number): Buffer {
    const metadata = exchangedMetadata(PRODUCTPAGE);
    const padded = (size: number) => prefixOf(PRODUCTPAGE, { ...metadata, PADDING: "x".repeat(size) });
    let size = length - PREFIX.length;
    while (padded(size).length - 8 > length) size--;
    const prefix = padded(size);
    if (prefix.length - 8 !== length) throw new Error(`no prefix of ${length}: ${prefix.length - 8}`);
    return prefix;
  }

  test.each([4_000, 10_000])("of %d is taken", (length) => {
    const host = startTcpInbound();
    const connection = connect(host).fromClient(Buffer.concat([ofLength(length), bytes("ping")]));
    expect(connection.toServer.toString()).toBe("ping");
    expect(tcpLabels(host)).toMatchObject(KNOWN);
  });

  test.each([16_384, MAX_LENGTH - 1, MAX_LENGTH])("of %d is taken off, and too large to be believed", (length) => {
    const host = startTcpInbound();
    const connection = connect(host).fromClient(Buffer.concat([ofLength(length), bytes("ping")]));
    expect(connection.toServer.toString()).toBe("ping");
    expect(tcpLabels(host)).toMatchObject(UNKNOWN);
    expect(faults(host)).toEqual({ peer_too_large: 1 });
  });

  test("of 20,000 is believed where max_header_bytes admits as much in base64", () => {
    const host = startTcpInbound({ metadata_exchange: { max_header_bytes: 32_768 } });
    connect(host).fromClient(ofLength(20_000));
    expect(tcpLabels(host)).toMatchObject(KNOWN);
  });

  test.each([MAX_LENGTH + 1, 2 * MAX_LENGTH])(
    "of %d is none: its eight bytes pass at once, and all behind them",
    (length) => {
      const host = startTcpInbound();
      const prefix = ofLength(length);
      const connection = connect(host).fromClient(prefix.subarray(0, 8));
      expect(connection.toServer).toEqual(prefix.subarray(0, 8));
      connection.fromClient(prefix.subarray(8));
      expect(connection.toServer).toEqual(prefix);
      expect(tcpLabels(host)).toMatchObject(UNKNOWN);
    },
  );

  test.each([0xffff_ffff, 0x8000_0000, 0x7fff_ffff])("of %d is none", (length) => {
    const connection = connect(startTcpInbound());
    const cut = frame(Buffer.alloc(0), length);
    connection.fromClient(cut).fromClient("more");
    expect(connection.toServer).toEqual(Buffer.concat([cut, bytes("more")]));
  });

  test.each([0, 1, 2, 43])("of %d has no room for a Struct: all passes, nothing is stripped", (length) => {
    const host = startTcpInbound();
    const all = Buffer.concat([frame(PREFIX.subarray(8, 8 + length)), bytes("ping")]);
    const connection = connect(host).fromClient(all).finish();
    expect(connection.toServer).toEqual(all);
    expect(tcpLabels(host)).toMatchObject(UNKNOWN);
  });
});

describe("a prefix that cannot be read", () => {
  const body = PREFIX.subarray(8);
  const truncated = frame(body.subarray(0, body.length - 3));
  const cases: readonly (readonly [string, Buffer])[] = [
    ["a Struct of garbage", frame(encodeAny(STRUCT_URL, Buffer.alloc(40, 0xff)))],
    ["a Struct cut short", truncated],
    ["a value that reaches beyond the end", frame(Buffer.concat([body.subarray(0, 44), Buffer.from("12ff7f", "hex")]))],
  ];

  test.each(cases)("passes as it is: %s", (_, prefix) => {
    const host = startTcpInbound();
    const connection = connect(host).fromClient(Buffer.concat([prefix, bytes("ping")]));
    connection.fromServer("pong").finish();
    expect(connection.toServer).toEqual(Buffer.concat([prefix, bytes("ping")]));
    expect(connection.toClient.toString()).toBe("pong");
    expect(downstreamPeer(connection)).toBeUndefined();
    expect(exchangeCounts(host)).toMatchObject({ HeaderNotFound: 1 });
    expect(tcpCounts(host, UNKNOWN)).toEqual({ opened: 1, closed: 1, sent: 4, received: prefix.length + 4 });
  });
});

describe("a prefix that tells nothing", () => {
  test.each([
    ["metadata that is a text", structPrefix({ [PEER_METADATA_HEADER]: "x", [PEER_ID_HEADER]: PRODUCTPAGE.id })],
    ["an id alone", structPrefix({ [PEER_ID_HEADER]: PRODUCTPAGE.id })],
    ["an empty Struct", frame(encodeAny(STRUCT_URL, Buffer.alloc(0)))],
  ])("is taken off, its sender unknown: %s", (_, prefix) => {
    const host = startTcpInbound();
    const connection = connect(host).fromClient(prefix).fromClient("ping");
    expect(connection.toServer.toString()).toBe("ping");
    expect(tcpLabels(host)).toMatchObject(UNKNOWN);
    expect(downstreamPeer(connection)).toBeUndefined();
  });
});

describe("a prefix that does not come whole", () => {
  const part = PREFIX.subarray(0, 100);

  test.each([1, 4, 7, 8, 9, 54, 100, PREFIX.length - 1])(
    "goes on with the client's FIN: the first %d bytes",
    (size) => {
      for (const isOneRead of [true, false]) {
        const host = startTcpInbound();
        const connection = connect(host);
        if (isOneRead) connection.fromClient(PREFIX.subarray(0, size), { end: true });
        else connection.fromClient(PREFIX.subarray(0, size)).fromClient("", { end: true });
        expect(connection.toServer).toEqual(PREFIX.subarray(0, size));
        expect(connection.isServerToldEnd).toBe(true);
        expect(faults(host)).toEqual({ prefix_cut: 1 });
        connection.finish();
        expect(tcpCounts(host, UNKNOWN)).toEqual({ opened: 1, closed: 1, sent: 0, received: size });
      }
    },
  );

  test.each([1, 8, 100])("goes on when the bound is over: the first %d bytes", (size) => {
    const host = startTcpInbound();
    host.advance(330);
    const connection = connect(host).fromClient(PREFIX.subarray(0, size));
    host.advance(BOUND_MS / 2);
    expect(connection.toServer.length).toBe(0);
    host.advance(BOUND_MS / 2);
    expect(connection.toServer).toEqual(PREFIX.subarray(0, size));
    expect(faults(host)).toEqual({ prefix_cut: 1 });
    expect(tcpCounts(host, UNKNOWN)).toMatchObject({ opened: 1, received: size });
    connection.fromClient(PREFIX.subarray(size)).fromClient("ping").finish();
    expect(connection.toServer).toEqual(Buffer.concat([PREFIX, bytes("ping")]));
    expect(tcpCounts(host, UNKNOWN)).toEqual({ opened: 1, closed: 1, sent: 0, received: PREFIX.length + 4 });
  });

  test("stalls a connection for no longer than the bound, however slowly it trickles in", () => {
    const host = startTcpInbound();
    const connection = connect(host);
    for (let at = 0; at < 20; at++) {
      connection.fromClient(PREFIX.subarray(at, at + 1));
      host.advance(100);
    }
    expect(connection.toServer).toEqual(PREFIX.subarray(0, 20));
    expect(faults(host)).toEqual({ prefix_cut: 1 });
  });

  test("goes on after the configured timeout", () => {
    const host = startTcpInbound({ metadata_exchange: { tcp: { timeout: "100ms" } } });
    const connection = connect(host).fromClient(part);
    host.advance(100);
    expect(connection.toServer).toEqual(part);
  });

  test("goes on after the bound with tcp_reporting_duration 0, too", () => {
    const host = startTcpInbound({ tcp_reporting_duration: "0s" });
    const connection = connect(host).fromClient(part);
    host.advance(BOUND_MS);
    expect(connection.toServer).toEqual(part);
  });

  test("of each of many connections goes on within its own bound", () => {
    const host = startTcpInbound();
    const connections: TcpConnection[] = [];
    for (let index = 0; index < 30; index++) {
      connections.push(connect(host).fromClient(part));
      host.advance(100);
      const passed = connections.filter((one) => one.toServer.length > 0).length;
      expect(passed).toBeGreaterThanOrEqual(index + 1 - BOUND_MS / 100 + 1);
    }
  });

  test("is lost with a client that is gone", () => {
    const host = startTcpInbound();
    const connection = connect(host).fromClient(part).reset();
    expect(connection.toServer.length).toBe(0);
    expect(tcpCounts(host, UNKNOWN)).toEqual({ opened: 1, closed: 1, sent: 0, received: 0 });
  });

  test("does not hold back what the server says", () => {
    const connection = connect(startTcpInbound()).fromClient(part).fromServer("220 ready");
    expect(connection.toClient.toString()).toBe("220 ready");
  });
});

describe("the answer", () => {
  test("is our own prefix before the server's first bytes, once", () => {
    const host = startTcpInbound();
    const connection = connect(host).fromClient(PREFIX).fromClient("ping");
    expect(connection.toClient.length).toBe(0);
    connection.fromServer("pong").fromServer("again");
    expect(connection.toClient).toEqual(Buffer.concat([ANSWER, bytes("pongagain")]));
    expect(exchangeCounts(host)).toEqual({ AlpnProtocolFound: 1, MetadataAdded: 1 });
    connection.finish();
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 9, received: 4 });
  });

  test("holds the reduced metadata and the node's id", () => {
    const { toClient } = connect(startTcpInbound()).fromClient(PREFIX).fromServer("x");
    expect(readPrefix(toClient)).toMatchObject({ metadata: exchangedMetadata(REVIEWS), id: REVIEWS.id });
  });

  test("leaves the id out when the node has none", () => {
    const node = { ...REVIEWS, id: "" };
    const { toClient } = connect(startTcpInbound({}, { node })).fromClient(PREFIX).fromServer("x");
    const expected = structPrefix({ [PEER_METADATA_HEADER]: exchangedMetadata(REVIEWS) });
    expect(toClient).toEqual(Buffer.concat([expected, bytes("x")]));
  });

  test("goes with the additional labels, as over HTTP", () => {
    const configuration = { metadata_exchange: { additional_labels: ["pod-template-hash"] } };
    const { toClient } = connect(startTcpInbound(configuration)).fromClient(PREFIX).fromServer("x");
    expect(readPrefix(toClient)?.metadata["LABELS"]).toMatchObject({ "pod-template-hash": "7d4f8c" });
  });

  test.each([
    ["sent no prefix", bytes("ping")],
    ["sent one that cannot be read", frame(encodeAny(STRUCT_URL, Buffer.alloc(40, 0xff)))],
    ["sent nothing", Buffer.alloc(0)],
  ])("does not go to a client that %s", (_, first) => {
    const host = startTcpInbound();
    const connection = connect(host);
    if (first.length > 0) connection.fromClient(first);
    connection.fromServer("pong").finish();
    expect(connection.toClient.toString()).toBe("pong");
    expect(exchangeCounts(host).MetadataAdded).toBeUndefined();
  });

  test("does not go out when the server never says a word", () => {
    const host = startTcpInbound();
    const connection = connect(host).fromClient(PREFIX).fromClient("ping").finish();
    expect(connection.toClient.length).toBe(0);
    expect(exchangeCounts(host)).toEqual({ AlpnProtocolFound: 1 });
  });

  test("does not go out when our own metadata is too long; the client's prefix is taken off all the same", () => {
    const node = withMetadata(REVIEWS, { WORKLOAD_NAME: "w".repeat(20_000) });
    const host = startTcpInbound({}, { node });
    const connection = connect(host).fromClient(PREFIX).fromClient("ping").fromServer("pong").finish();
    expect([connection.toServer.toString(), connection.toClient.toString()]).toEqual(["ping", "pong"]);
    expect(faults(host)).toEqual({ own_metadata_too_large: 1 });
    expect(tcpLabels(host)).toMatchObject(KNOWN);
  });

  test("does not go to one whose prefix was cut", () => {
    const host = startTcpInbound();
    const connection = connect(host).fromClient(PREFIX.subarray(0, 40));
    host.advance(BOUND_MS);
    expect(connection.fromServer("pong").toClient.toString()).toBe("pong");
  });
});

describe("a server that speaks first", () => {
  test("is not delayed, and gets its bytes untouched to the client", () => {
    const host = startTcpInbound();
    const connection = connect(host).fromServer("220 ready\r\n");
    expect(connection.toClient.toString()).toBe("220 ready\r\n");
    connection.fromClient("HELO").finish();
    expect(connection.toServer.toString()).toBe("HELO");
    expect(tcpCounts(host, UNKNOWN)).toEqual({ opened: 1, closed: 1, sent: 11, received: 4 });
  });

  test("has the client's prefix taken off and believed, but not answered: peer_unanswered says so", () => {
    const host = startTcpInbound();
    const connection = connect(host).fromServer("220").fromClient(PREFIX).fromClient("HELO").fromServer("250");
    expect(connection.toClient.toString()).toBe("220250");
    expect(connection.toServer.toString()).toBe("HELO");
    expect(tcpLabels(host)).toMatchObject(KNOWN);
    expect(downstreamPeer(connection)).toBe("productpage-v1");
    expect(faults(host)).toEqual({ peer_unanswered: 1 });
    expect(exchangeCounts(host)).toEqual({ AlpnProtocolFound: 1 });
    connection.finish();
    expect(tcpCounts(host, KNOWN)).toEqual({ opened: 1, closed: 1, sent: 6, received: 4 });
  });

  test("while the prefix is on its way gets its bytes through, and no answer after them", () => {
    const host = startTcpInbound();
    const connection = connect(host)
      .fromClient(PREFIX.subarray(0, 60))
      .fromServer("220")
      .fromClient(PREFIX.subarray(60));
    connection.fromServer("250");
    expect(connection.toClient.toString()).toBe("220250");
    expect(faults(host)).toEqual({ peer_unanswered: 1 });
  });
});

describe("whose prefix counts", () => {
  test("with trust mutual_tls a plaintext client's is taken off, but neither believed nor answered", () => {
    const host = startTcpInbound({ metadata_exchange: { trust: "mutual_tls" } });
    const connection = connect(host, PLAINTEXT).fromClient(PREFIX).fromClient("ping").fromServer("pong");
    expect(connection.toServer.toString()).toBe("ping");
    expect(connection.toClient.toString()).toBe("pong");
    expect(tcpLabels(host)).toMatchObject(UNKNOWN);
    expect(downstreamPeer(connection)).toBeUndefined();
    expect(faults(host)).toEqual({ peer_untrusted: 1 });
  });

  test("with trust mutual_tls a client's with a certificate is believed and answered", () => {
    const host = startTcpInbound({ metadata_exchange: { trust: "mutual_tls" } });
    const connection = connect(host).fromClient(PREFIX).fromServer("pong");
    expect(tcpLabels(host)).toMatchObject(KNOWN);
    expect(connection.toClient).toEqual(Buffer.concat([ANSWER, bytes("pong")]));
  });

  test("one that contradicts the certificate counts peer_contradicts_identity; the certificate's namespace wins", () => {
    const host = startTcpInbound();
    const metadata = { ...exchangedMetadata(PRODUCTPAGE), NAMESPACE: "elsewhere" };
    connect(host).fromClient(prefixOf(PRODUCTPAGE, metadata));
    expect(tcpLabels(host)).toMatchObject({ ...KNOWN, source_workload_namespace: "default" });
    expect(faults(host)).toEqual({ peer_contradicts_identity: 1 });
  });

  test("a gateway's is taken off, and neither believed nor answered: outsiders do not speak for the mesh", () => {
    const configuration = { direction: "gateway", metadata_exchange: { tcp: { send: "never" } } };
    const host = startOutbound({ configuration });
    const connection = connect(host, PLAINTEXT).fromClient(PREFIX).fromClient("ping").fromServer("pong").finish();
    expect(connection.toServer.toString()).toBe("ping");
    expect(connection.toClient.toString()).toBe("pong");
    expect(downstreamPeer(connection)).toBeUndefined();
    expect(tcpCounts(host, { reporter: "source" })).toEqual({ opened: 1, closed: 1, sent: 4, received: 4 });
  });

  test("a gateway's is taken off wherever it is cut, and what is none passes at once", () => {
    const host = startOutbound({
      configuration: { direction: "gateway", metadata_exchange: { tcp: { send: "never" } } },
    });
    for (let cut = 1; cut < PREFIX.length; cut += 13) {
      const connection = connect(host, PLAINTEXT).fromClient(PREFIX.subarray(0, cut)).fromClient(PREFIX.subarray(cut));
      expect(connection.fromClient("ping").toServer.toString()).toBe("ping");
    }
    expect(connect(host, PLAINTEXT).fromClient("=#").toServer.toString()).toBe("");
    expect(connect(host, PLAINTEXT).fromClient("=x").toServer.toString()).toBe("=x");
  });

  test.each([
    ["no exchange at all", { metadata_exchange: { directions: [] } }],
    ["exchange with the upstream alone", { metadata_exchange: { directions: ["upstream"] } }],
    ["a waypoint", { reporter: "SERVER_GATEWAY" }],
  ])("under a configuration of %s the bytes are the application's", (_, configuration) => {
    const host = startTcpInbound(configuration);
    const connection = connect(host).fromClient(PREFIX.subarray(0, 20));
    expect(connection.toServer).toEqual(PREFIX.subarray(0, 20));
    connection.fromClient(PREFIX.subarray(20)).fromServer("pong").finish();
    expect(connection.toServer).toEqual(PREFIX);
    expect(connection.toClient.toString()).toBe("pong");
    expect(tcpCounts(host, UNKNOWN)).toEqual({ opened: 1, closed: 1, sent: 4, received: PREFIX.length });
  });

  test("a waypoint's is taken off and answered when its directions say so", () => {
    const configuration = { reporter: "SERVER_GATEWAY", metadata_exchange: { directions: ["downstream"] } };
    const host = startInbound({ configuration });
    const connection = connect(host).fromClient(PREFIX).fromClient("ping").fromServer("pong");
    expect(connection.toServer.toString()).toBe("ping");
    expect(readPrefix(connection.toClient)?.id).toBe(REVIEWS.id);
    expect(tcpLabels(host)).toMatchObject({ ...KNOWN, reporter: "waypoint" });
  });

  test("a waypoint's is waited for, too, when it comes in pieces", () => {
    const configuration = { reporter: "SERVER_GATEWAY", metadata_exchange: { directions: ["downstream"] } };
    const host = startInbound({ configuration });
    connect(host).fromClient(PREFIX.subarray(0, 100)).fromClient(PREFIX.subarray(100)).fromClient("ping").finish();
    expect(tcpCounts(host, KNOWN)).toEqual({ opened: 1, closed: 1, sent: 0, received: 4 });
    expect(faults(host)).toEqual({});
  });
});

test("a Struct whose keys are in another order is read as well", () => {
  const struct = encodeStruct({
    [PEER_ID_HEADER]: PRODUCTPAGE.id,
    [PEER_METADATA_HEADER]: exchangedMetadata(PRODUCTPAGE),
  });
  const host = startTcpInbound();
  const connection = connect(host)
    .fromClient(frame(encodeAny(STRUCT_URL, struct)))
    .fromClient("ping");
  expect(connection.toServer.toString()).toBe("ping");
  expect(tcpLabels(host)).toMatchObject(KNOWN);
});
