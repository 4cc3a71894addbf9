// The peer of an entry in every encoding in which meshes log it: the same workload comes out of each (collector/proto/peer-bytes.ts).

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { HttpEntry } from "../../collector/proto/als-entry.ts";
import type { FilterState } from "../../collector/proto/map-entry.ts";
import { decodePeerBytes } from "../../collector/proto/peer-bytes.ts";
import { Peers, type Workload } from "../../collector/resolver/workload.ts";
import {
  bytesState,
  encodeEntry,
  encodeStruct,
  type Fields,
  lengthDelimited,
  structState,
  textState,
} from "../fixtures/als.ts";
import { encodeFlatNode } from "../fixtures/flat-node.ts";

const LABELS = { app: "reviews", version: "v1", "service.istio.io/canonical-name": "reviews-svc" };

const FLAT_NODE = encodeFlatNode({
  name: "reviews-v1-abc",
  namespace: "default",
  workloadName: "reviews-v1",
  clusterId: "Kubernetes",
  labels: { ...LABELS, "service.istio.io/canonical-revision": "v1" },
});

/** As it is exchanged, and as proxies before 1.24 name the keys. */
const UPPER_CASE = {
  NAME: "reviews-v1-abc",
  NAMESPACE: "default",
  CLUSTER_ID: "Kubernetes",
  WORKLOAD_NAME: "reviews-v1",
  LABELS: { ...LABELS, "service.istio.io/canonical-revision": "v1" },
};

/** As Istio's native filter leaves it, since 1.24. */
const LOWER_CASE = {
  name: "reviews-v1-abc",
  namespace: "default",
  cluster: "Kubernetes",
  workload: "reviews-v1",
  service: "reviews-svc",
  revision: "v1",
  app: "reviews",
  version: "v1",
  type: "deployment",
};

const MIXED_CASE = {
  Name: "reviews-v1-abc",
  Namespace: "default",
  Cluster_Id: "Kubernetes",
  Workload_Name: "reviews-v1",
  Labels: {
    App: "reviews",
    VERSION: "v1",
    "Service.Istio.Io/Canonical-Name": "reviews-svc",
    "service.istio.io/canonical-Revision": "v1",
  },
};

const REVIEWS: Omit<Workload, "serial"> = {
  name: "reviews-v1-abc",
  workload: "reviews-v1",
  namespace: "default",
  canonicalService: "reviews-svc",
  canonicalRevision: "v1",
  app: "reviews",
  version: "v1",
  cluster: "Kubernetes",
  identity: "unknown",
};

function standard(bytes: Buffer): string {
  return bytes.toString("base64");
}

function urlSafe(bytes: Buffer): string {
  return bytes.toString("base64url");
}

/** The peer, as an entry says it that holds these states. */
function read(states: Fields, peers = new Peers(), stateOf = (entry: HttpEntry): FilterState => entry.upstreamPeer) {
  const bytes = encodeEntry({ commonProperties: { filterStateObjects: states } });
  const entry = new HttpEntry();
  expect(entry.read(bytes, 0, bytes.length)).toBe(true);
  return peers.resolveState(bytes, stateOf(entry));
}

const CONTENTS: readonly [string, Buffer][] = [
  ["a FlatNode", FLAT_NODE],
  ["a Struct with keys in upper case", encodeStruct(UPPER_CASE)],
  ["a Struct with keys in lower case", encodeStruct(LOWER_CASE)],
  ["a Struct with keys in mixed case, on both levels", encodeStruct(MIXED_CASE)],
];

const ENCODINGS: readonly [string, (bytes: Buffer) => Fields][] = [
  ["BytesValue", bytesState],
  ["BytesValue of base64", (bytes) => bytesState(Buffer.from(standard(bytes)))],
  ["BytesValue of URL-safe base64", (bytes) => bytesState(Buffer.from(urlSafe(bytes)))],
  ["StringValue of base64", (bytes) => textState(standard(bytes))],
  ["StringValue of base64 without padding", (bytes) => textState(standard(bytes).replaceAll("=", ""))],
  ["StringValue of URL-safe base64", (bytes) => textState(urlSafe(bytes))],
  ["StringValue of URL-safe base64 with padding", (bytes) => textState(padded(urlSafe(bytes)))],
];

function padded(text: string): string {
  return text.padEnd(Math.ceil(text.length / 4) * 4, "=");
}

describe.each(CONTENTS)("%s", (_name, content) => {
  test.each(ENCODINGS)("as %s", (_encoding, stateOf) => {
    expect(read({ upstream_peer: stateOf(content) })).toMatchObject(REVIEWS);
  });

  test("with text that base64 pads by none, one and two characters", () => {
    // What follows a FlatNode means nothing, a field that a Struct does not have is passed over.
    const texts = [0, 1, 2].map((length) => Buffer.concat([content, lengthDelimited(15, Buffer.alloc(length))]));
    expect(new Set(texts.map((bytes) => bytes.length % 3)).size).toBe(3);
    for (const bytes of texts) expect(read({ upstream_peer: textState(standard(bytes)) })).toMatchObject(REVIEWS);
  });
});

test.each([
  ["upper case", UPPER_CASE],
  ["lower case", LOWER_CASE],
  ["mixed case", MIXED_CASE],
])("a Struct in an Any, keys in %s", (_name, fields) => {
  expect(read({ upstream_peer: structState(fields) })).toMatchObject(REVIEWS);
});

test("of labels that differ in case alone, the one as Kubernetes spells it counts", () => {
  const labels = { APP: "loud", app: "plain", App: "other" };
  expect(read({ upstream_peer: structState({ LABELS: labels }) })?.app).toBe("plain");
});

test("every captured peer of a real Envoy reads alike in all encodings", () => {
  for (const name of ["inbound-200", "outbound-200", "inbound-connection-lost", "outbound-grpc-status-5"]) {
    const bytes = readFileSync(join(import.meta.dirname, "../fixtures/envoy-als", `${name}.bin`));
    const entry = new HttpEntry();
    expect(entry.read(bytes, 0, bytes.length)).toBe(true);
    const state = name.startsWith("inbound") ? entry.wasmDownstreamPeer : entry.wasmUpstreamPeer;
    expect(state.kind).toBe("bytes");
    const { serial: _serial, ...captured } = new Peers().resolveState(bytes, state) as Workload;
    expect(captured.workload).not.toBe("unknown");
    const flatNode = Buffer.from(bytes.subarray(state.start, state.stop));
    for (const [, stateOf] of ENCODINGS) expect(read({ upstream_peer: stateOf(flatNode) })).toMatchObject(captured);
  }
});

test("each peer state of an entry is read in each encoding, on its side", () => {
  const states = {
    "wasm.upstream_peer": textState(standard(FLAT_NODE)),
    "wasm.downstream_peer": bytesState(encodeStruct({ ...UPPER_CASE, NAME: "b" })),
    upstream_peer: structState({ ...LOWER_CASE, name: "c" }),
    downstream_peer: textState(urlSafe(encodeStruct({ ...LOWER_CASE, name: "d" }))),
  };
  const peers = new Peers();
  const names = [
    read(states, peers, (entry) => entry.wasmUpstreamPeer),
    read(states, peers, (entry) => entry.wasmDownstreamPeer),
    read(states, peers, (entry) => entry.upstreamPeer),
    read(states, peers, (entry) => entry.downstreamPeer),
  ].map((peer) => peer?.name);
  expect(names).toEqual(["reviews-v1-abc", "b", "c", "d"]);
});

test("the same bytes are decoded once, whatever encoding they are in", () => {
  const peers = new Peers();
  for (const [, stateOf] of ENCODINGS) {
    const state = { upstream_peer: stateOf(FLAT_NODE) };
    expect(read(state, peers)).toBe(read(state, peers));
  }
});

describe("what is no peer", () => {
  const NONE: readonly [string, Fields][] = [
    ["text that is no base64", textState("reviews-v1.default")],
    ["JSON", textState(JSON.stringify(LOWER_CASE))],
    ["base64 of nothing that we know", textState(standard(Buffer.from("no peer at all")))],
    ["base64 of base64", textState(standard(Buffer.from(standard(FLAT_NODE))))],
    ["base64 of one character too many", textState(`${urlSafe(Buffer.alloc(3))}A`)],
    ["base64 with a line break", textState(`${standard(FLAT_NODE).slice(0, 40)}\n${standard(FLAT_NODE).slice(40)}`)],
    ["base64 that is padded thrice", textState("QQ===")],
    ["padding alone", textState("==")],
    ["an empty text", textState("")],
    ["empty bytes", bytesState(Buffer.alloc(0))],
    ["a FlatNode that is cut short", bytesState(FLAT_NODE.subarray(0, 30))],
    ["base64 of it", textState(standard(FLAT_NODE.subarray(0, 30)))],
    ["a Struct that is cut short", bytesState(encodeStruct(UPPER_CASE).subarray(0, -1))],
    ["a StringValue whose bytes are broken", { ...textState(""), value: Buffer.from([0x0a, 9]) }],
  ];

  test.each(NONE)("%s", (_name, state) => {
    expect(read({ upstream_peer: state })).toBeNull();
  });
});

test("an empty FlatNode is a peer of whom nothing is known", () => {
  expect(read({ upstream_peer: bytesState(encodeFlatNode({})) })).toMatchObject({ name: "", workload: "unknown" });
});

test("no base64 text is a FlatNode or says anything as a Struct: the rule is the same in any order", () => {
  for (const [, content] of CONTENTS) {
    expect(decodePeerBytes(content, 0, content.length)?.form).toBe(content === FLAT_NODE ? "flat_node" : "struct");
    for (const text of [standard(content), urlSafe(content)]) {
      const bytes = Buffer.from(text);
      const form = decodePeerBytes(bytes, 0, bytes.length)?.form;
      expect(form).toBe(content === FLAT_NODE ? "flat_node" : "struct");
    }
  }
});
