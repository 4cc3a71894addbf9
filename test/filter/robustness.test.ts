// Nothing that a peer, an app or the order of events does makes the filter trap, change a request or lose count.

import { describe, expect, test } from "vitest";
import { PEER_ID_HEADER, PEER_METADATA_HEADER } from "../../filter/vocabulary/peer-metadata.ts";
import { readFlatNode } from "../host/flat-node.ts";
import type { HeaderPairs } from "../host/headers.ts";
import { PLAIN_REQUEST, PLAIN_RESPONSE } from "../host/host.ts";
import {
  countedLabels,
  countedTotal,
  countedValues,
  countedWith,
  encodeMetadata,
  exchangedMetadata,
  exchangeHeaders,
  FROM_PRODUCTPAGE,
  faults,
  makeNode,
  observationOf,
  PRODUCTPAGE,
  startInbound,
  startOutbound,
  TO_REVIEWS,
} from "../host/mesh.ts";
import { randomNumbers } from "../host/random.ts";
import { decodeStruct, encodeStruct } from "../host/struct.ts";

/** Fixed, so that a failure comes again. */
const SEED = 20_251_121;

function withPeer(value: string, id = "peer"): HeaderPairs {
  return [...PLAIN_REQUEST, [PEER_ID_HEADER, id], [PEER_METADATA_HEADER, value]];
}

describe("requests that take another way", () => {
  test("a request that was refused before the filter has only a log: it is counted, with an unknown peer", () => {
    const host = startInbound();
    host.stream({ ...FROM_PRODUCTPAGE, responseCode: 400, cluster: { name: "c" } }).log();
    expect(countedLabels(host)).toMatchObject({
      source_workload: "unknown",
      response_code: "400",
      destination_service: "reviews",
    });
    expect(faults(host)).toEqual({});
  });

  test("a request without any header has only a log: it is counted", () => {
    for (const host of [startInbound(), startOutbound()]) {
      host.stream({ requestHeaders: [], responseHeaders: [], routeName: null, responseCode: 400 }).log();
      expect(countedTotal(host)).toBe(1);
      expect(countedLabels(host)).toMatchObject({ request_protocol: "http" });
      expect(faults(host)).toEqual({});
    }
  });

  test("the very first thing that a VM sees may be such a log", () => {
    const host = startOutbound({ configuration: {} });
    host.stream({ requestHeaders: [], routeName: null, responseCode: 400 }).log();
    host.request(TO_REVIEWS);
    expect(countedWith(host, { reporter: "source" })).toBe(2);
    expect(countedWith(host, { destination_workload: "reviews-v2", response_code: "200" })).toBe(1);
  });

  test("a request that was reset before its response is counted with its peer", () => {
    const host = startInbound();
    host
      .stream({ ...FROM_PRODUCTPAGE, responseCode: null })
      .sendRequestHeaders()
      .log();
    expect(countedLabels(host)).toMatchObject({ source_workload: "productpage-v1", response_code: "0" });
  });

  test("a stream's state ends with it: the next one knows nothing of its peer", () => {
    const host = startInbound();
    host.request(FROM_PRODUCTPAGE);
    const next = host.request({ requestHeaders: PLAIN_REQUEST });
    expect(countedValues(host, "source_workload")).toEqual(["productpage-v1", "unknown"]);
    expect(next.responseHeaders.pairs()).toEqual(PLAIN_RESPONSE);
    host.stream({ requestHeaders: [], responseCode: 400 }).log();
    expect(countedWith(host, { source_workload: "unknown" })).toBe(2);
  });
});

describe("streams in flight", () => {
  test(`1,000 streams of 100 peers, mixed step by step (seed ${SEED}), each keep their own peer`, () => {
    const random = randomNumbers(SEED);
    const host = startInbound();
    const steps = Array.from({ length: 1_000 }, (_, index) => {
      const requestHeaders = [...PLAIN_REQUEST, ...exchangeHeaders(makeNode(`s${index % 100}`, "v1", "::1"))];
      const stream = host.stream({ ...FROM_PRODUCTPAGE, requestHeaders });
      const expected = `s${index % 100}-v1`;
      const check = () => expect(observationOf(stream.log()).labels).toMatchObject({ source_workload: expected });
      return [() => stream.sendRequestHeaders(), () => stream.sendResponseHeaders(), check];
    });
    while (steps.length > 0) {
      const chosen = random(Math.min(steps.length, 300));
      steps[chosen]?.shift()?.();
      if (steps[chosen]?.length === 0) steps.splice(chosen, 1);
    }
    expect(countedTotal(host)).toBe(1_000);
    for (let index = 0; index < 100; index++) expect(countedWith(host, { source_workload: `s${index}-v1` })).toBe(10);
    expect(faults(host)).toEqual({});
  });

  test("peers beyond the cache's 500 stay with their streams while these are in flight", () => {
    const host = startInbound();
    const streams = Array.from({ length: 900 }, (_, index) =>
      host
        .stream({ requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(makeNode(`s${index}`, "v1", "::1"))] })
        .sendRequestHeaders(),
    );
    streams.reverse().forEach((stream, index) => {
      stream.sendResponseHeaders().log();
      const name = `s${899 - index}`;
      expect(observationOf(stream).labels).toMatchObject({ source_workload: `${name}-v1`, source_app: name });
      const peer = stream.filterState.get("wasm.downstream_peer");
      expect(peer && readFlatNode(peer).workloadName).toBe(`${name}-v1`);
    });
    expect(faults(host)).toEqual({ peers_full: 4 });
  });

  test("one peer evicted by 2,000 others is still its stream's peer at the end", () => {
    const host = startInbound({ configuration: { direction: "inbound", max_label_sets: 5_000 } });
    const slow = host.stream(FROM_PRODUCTPAGE).sendRequestHeaders();
    for (let index = 0; index < 2_000; index++) {
      host.request({ requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(makeNode(`s${index}`, "v1", "::1"))] });
    }
    slow.sendResponseHeaders().log();
    expect(observationOf(slow).labels).toMatchObject({ source_workload: "productpage-v1" });
  });

  test("a client's peers keep apart, too, when answers come out of order", () => {
    const host = startOutbound();
    const streams = Array.from({ length: 600 }, (_, index) =>
      host
        .stream({
          ...TO_REVIEWS,
          responseHeaders: [...PLAIN_RESPONSE, ...exchangeHeaders(makeNode(`s${index}`, "v1", "::1"))],
        })
        .sendRequestHeaders(),
    );
    for (const stream of [...streams].reverse()) stream.sendResponseHeaders();
    streams.forEach((stream, index) => {
      expect(observationOf(stream.log()).labels).toMatchObject({ destination_workload: `s${index}-v1` });
    });
  });

  test("beyond the filter's cap requests are counted, without their peers, and each counts as streams_full", () => {
    const host = startInbound();
    const options = { requestHeaders: exchangeHeaders(PRODUCTPAGE), responseHeaders: [], responseCode: null };
    const streams = Array.from({ length: 17_000 }, () => host.stream(options).sendRequestHeaders());
    for (const stream of streams) stream.log();
    const { streams_full: beyond = 0 } = faults(host);
    expect(beyond).toBe(streams.length - 16_384);
    expect(countedTotal(host)).toBe(streams.length);
    expect(countedWith(host, { source_workload: "unknown" })).toBe(beyond);
    expect(faults(host)).toEqual({ streams_full: beyond });
    host.request(FROM_PRODUCTPAGE);
    expect(countedWith(host, { source_workload: "productpage-v1" })).toBe(streams.length - beyond + 1);
  });
});

describe("hostile metadata", () => {
  const valid = encodeMetadata(exchangedMetadata(PRODUCTPAGE));

  test("cut at any length it is read or counted, never a trap", () => {
    const host = startInbound();
    for (let length = 0; length <= valid.length; length++)
      host.request({ requestHeaders: withPeer(valid.slice(0, length)) });
    expect(countedTotal(host)).toBe(valid.length + 1);
    expect(countedWith(host, { source_workload: "productpage-v1" })).toBeGreaterThanOrEqual(1);
  });

  test("with any byte of it replaced it is read or counted, never a trap", () => {
    const bytes = Buffer.from(valid, "base64");
    const host = startInbound();
    for (let at = 0; at < bytes.length; at++) {
      for (const value of [0x00, 0x0a, 0x7f, 0x80, 0xff]) {
        const changed = Buffer.from(bytes);
        changed[at] = value;
        host.request({ requestHeaders: withPeer(changed.toString("base64"), `${at} ${value}`) });
      }
    }
    expect(countedTotal(host)).toBe(5 * bytes.length);
  });

  test.each([
    ["1 MB of garbage", "\x01".repeat(1_000_000)],
    ["1 MB of base64 of nothing", "AAAA".repeat(250_000)],
    ["a name of 700 KB", encodeMetadata({ NAME: "n".repeat(700_000), WORKLOAD_NAME: "w".repeat(10_000) })],
    [
      "20,000 labels",
      encodeMetadata({ LABELS: Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`k${i}`, "v"])) }),
    ],
  ])("%s: the request goes on and is counted, and so is the next", (_, value) => {
    const host = startInbound();
    for (let round = 0; round < 5; round++) {
      const stream = host.request({ requestHeaders: withPeer(value, `${round}`) });
      expect(stream.requestHeaders.pairs()).toEqual(PLAIN_REQUEST);
    }
    host.request(FROM_PRODUCTPAGE);
    expect(countedTotal(host)).toBe(6);
    expect(countedWith(host, { source_workload: "productpage-v1" })).toBe(1);
  });

  test("1 MB headers again and again do not grow the memory", () => {
    const host = startInbound();
    const send = (index: number) => {
      const value = encodeMetadata({ NAME: `${index}`.padEnd(700_000, "n"), WORKLOAD_NAME: "w" });
      host.request({ requestHeaders: withPeer(value, `${index % 3 === 0 ? "same" : index}`) });
    };
    for (let index = 0; index < 5; index++) send(index);
    const before = host.memory.byteLength;
    for (let index = 5; index < 40; index++) send(index);
    expect(host.memory.byteLength).toBe(before);
  });

  test.each([10, 1_000, 50_000])("nested %i deep: read or refused, and the request goes on", (depth) => {
    const host = startInbound();
    const deep = encodeDeep(depth);
    const stream = host.request({ requestHeaders: withPeer(deep) });
    expect(stream.requestHeaders.pairs()).toEqual(PLAIN_REQUEST);
    expect(countedTotal(host)).toBe(1);
    host.request(FROM_PRODUCTPAGE);
    expect(countedWith(host, { source_workload: "productpage-v1" })).toBe(1);
  });

  test("nesting beside the known keys does not hide these", () => {
    const host = startInbound();
    host.request({ requestHeaders: withPeer(encodeDeep(50)) });
    expect(countedLabels(host)).toMatchObject({ source_workload: "shallow" });
  });

  test("strings that are no UTF-8 leave well-formed labels", () => {
    const text = Buffer.from(valid, "base64")
      .toString("latin1")
      .replaceAll("productpage", "prod\xff\xc3\x28page".slice(0, 11));
    const host = startInbound();
    host.request({ requestHeaders: withPeer(Buffer.from(text, "latin1").toString("base64")) });
    expect(countedTotal(host)).toBe(1);
  });

  test("one key twice: the last one counts, as in any protobuf map", () => {
    const bytes = Buffer.concat([encodeStruct({ WORKLOAD_NAME: "first" }), encodeStruct({ WORKLOAD_NAME: "second" })]);
    const host = startInbound();
    host.request({ requestHeaders: withPeer(bytes.toString("base64")) });
    expect(countedLabels(host)).toMatchObject({ source_workload: "second" });
  });

  test("LABELS twice: the last one counts, as in any protobuf map", () => {
    const labelled = (labels: Record<string, string>) => encodeStruct({ LABELS: labels });
    const bytes = Buffer.concat([labelled({ app: "first", version: "v1" }), labelled({ app: "second" })]);
    const host = startInbound();
    host.request({ requestHeaders: withPeer(bytes.toString("base64")) });
    expect(countedLabels(host)).toMatchObject({ source_app: "second", source_version: "unknown" });
  });

  test("an unknown field of a value leaves its text", () => {
    const bytes = Buffer.concat([Buffer.from([0x0a, 0x17, 0x0a, 0x0d]), Buffer.from("WORKLOAD_NAME")]);
    const value = Buffer.from([0x12, 0x06, 0x1a, 0x01, 0x77, 0x7a, 0x01, 0xff]); // string_value "w", field 15
    const host = startInbound();
    host.request({ requestHeaders: withPeer(Buffer.concat([bytes, value]).toString("base64")) });
    expect(faults(host)).toEqual({});
    expect(countedLabels(host)).toMatchObject({ source_workload: "w" });
  });

  test("unknown fields of every wire type are skipped", () => {
    const unknown = Buffer.from([
      0x78, 0x96, 0x01, 0x79, 1, 2, 3, 4, 5, 6, 7, 8, 0x7d, 1, 2, 3, 4, 0x7a, 2, 0xff, 0xff,
    ]);
    const bytes = Buffer.concat([unknown, encodeStruct({ WORKLOAD_NAME: "w" }), unknown]);
    const host = startInbound();
    host.request({ requestHeaders: withPeer(bytes.toString("base64")) });
    expect(countedLabels(host)).toMatchObject({ source_workload: "w" });
    expect(faults(host)).toEqual({});
  });

  test.each([
    ["a varint without end", Buffer.alloc(12, 0xff)],
    ["a length of 4 GiB", Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f])],
    ["a length that wraps around", Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01])],
    ["a group", Buffer.from([0x0b, 0x0b, 0x0b])],
    ["field number 0", Buffer.from([0x02, 0x00])],
  ])("%s is malformed", (_, bytes) => {
    const host = startInbound();
    host.request({ requestHeaders: withPeer(bytes.toString("base64")) });
    expect(faults(host)).toEqual({ peer_malformed: 1 });
    expect(countedTotal(host)).toBe(1);
  });

  test("an id of 60 KB is no harm", () => {
    const host = startInbound();
    for (let round = 0; round < 20; round++)
      host.request({ requestHeaders: withPeer(valid, `${round}`.padEnd(60_000, "i")) });
    expect(countedWith(host, { source_workload: "productpage-v1" })).toBe(20);
  });
});

describe("hostile surroundings", () => {
  test("attributes of other types or absent: counted, never a trap", () => {
    const paths = [
      "response.code",
      "response.flags",
      "response.total_size",
      "request.total_size",
      "request.duration",
      "response.grpc_status",
      "xds.route_name",
      "xds.cluster_name",
      "xds.listener_direction",
      "xds.node.id",
      "xds.node.metadata.LABELS",
      "connection.uri_san_peer_certificate",
      "request.host",
    ];
    for (const path of paths) {
      for (const value of [undefined, "", "text", Buffer.alloc(3), Buffer.alloc(100, 0xff), null, { a: "b" }]) {
        for (const host of [startInbound({ configuration: {} }), startOutbound({ configuration: {} })]) {
          for (let round = 0; round < 2; round++) host.request({ ...FROM_PRODUCTPAGE, properties: { [path]: value } });
          expect(countedTotal(host), path).toBe(2);
        }
      }
    }
  });

  test("a node with metadata of every kind of value", () => {
    const metadata = { NAME: 1, LABELS: [1], NAMESPACE: { a: "b" }, CLUSTER_ID: null, OWNER: true, WORKLOAD_NAME: "w" };
    const host = startOutbound({ node: { ...PRODUCTPAGE, metadata } });
    host.request(TO_REVIEWS);
    expect(countedTotal(host)).toBe(1);
    expect(countedLabels(host)).toMatchObject({
      source_workload: "w",
      source_workload_namespace: "",
      source_cluster: "",
      source_app: "",
    });
  });

  test("a number or bool of the own node is no text: neither a label nor sent to peers", () => {
    const metadata = { WORKLOAD_NAME: "w", CLUSTER_ID: true, IDENTITY: { a: 1 }, LABELS: { app: "a", version: 2 } };
    const host = startOutbound({ node: { ...PRODUCTPAGE, metadata } });
    const stream = host.request(TO_REVIEWS);
    expect(countedLabels(host)).toMatchObject({ source_version: "", source_cluster: "", source_app: "a" });
    const sent = stream.requestHeaders.get("x-envoy-peer-metadata") ?? "";
    expect(decodeStruct(Buffer.from(sent, "base64"))).toEqual({ WORKLOAD_NAME: "w", LABELS: { app: "a" } });
  });
});

/** Base64 of a Struct with one more Struct inside, `depth` times, beside a workload name. Built from the inside out. */
function encodeDeep(depth: number): string {
  const parts: Buffer[] = [Buffer.from([0x20, 0x01])]; // Value.bool_value: true
  let length = 2;
  const wrap = (tag: number) => {
    const header = lengthHeader(tag, length);
    parts.push(header);
    length += header.length;
  };
  const wrapEntry = () => {
    wrap(0x12); // the entry's value
    parts.push(Buffer.from([0x0a, 0x01, 0x61])); // its key: "a"
    length += 3;
    wrap(0x0a); // Struct.fields
  };
  for (let level = 0; level < depth; level++) {
    wrapEntry();
    wrap(0x2a); // Value.struct_value
  }
  wrapEntry();
  return Buffer.concat([encodeStruct({ WORKLOAD_NAME: "shallow" }), ...parts.reverse()]).toString("base64");
}

function lengthHeader(tag: number, length: number): Buffer {
  const header = [tag];
  let rest = length;
  for (; rest > 0x7f; rest >>>= 7) header.push((rest & 0x7f) | 0x80);
  header.push(rest);
  return Buffer.from(header);
}
