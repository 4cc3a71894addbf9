// Metadata exchange over HTTP headers: what is sent, read, stripped and skipped, per direction.
// Wire form: Istio's (docs/metrics.md names the sources); the oracle for Struct and base64 is not the filter's own code.

import { describe, expect, test, vi } from "vitest";
import { PEER_ID_HEADER, PEER_METADATA_HEADER } from "../../filter/vocabulary/peer-metadata.ts";
import { PASSTHROUGH_CLUSTER } from "../../filter/vocabulary/values.ts";
import type { HeaderPairs } from "../host/headers.ts";
import {
  type Host,
  type HttpStream,
  PLAIN_REQUEST,
  PLAIN_RESPONSE,
  type StreamOptions,
  startFilter,
} from "../host/host.ts";
import {
  countedLabels,
  countedTotal,
  countedValues,
  countedWith,
  decodeMetadata,
  encodeMetadata,
  exchangedMetadata,
  exchangeHeaderNames,
  exchangeHeaders,
  FROM_PRODUCTPAGE,
  faults,
  makeNode,
  observationOf,
  PRODUCTPAGE,
  REVIEWS,
  REVIEWS_CLUSTER,
  startInbound,
  startOutbound,
  TO_REVIEWS,
  withMetadata,
} from "../host/mesh.ts";
import { encodeStruct, type Json, type JsonObject } from "../host/struct.ts";

/** The metadata that a node's outbound proxy puts on a request. */
function sentBy(metadata: Readonly<Record<string, Json | undefined>>): JsonObject {
  const stream = startOutbound({ node: withMetadata(PRODUCTPAGE, metadata) }).request();
  return decodeMetadata(stream.requestHeaders.get(PEER_METADATA_HEADER) ?? "");
}

function startGateway(): ReturnType<typeof startOutbound> {
  return startOutbound({ configuration: { direction: "gateway", disable_host_header_fallback: true } });
}

describe("what is sent", () => {
  test("the id header is the sender's node id verbatim", () => {
    const stream = startOutbound().request();
    expect(stream.requestHeaders.all(PEER_ID_HEADER)).toEqual([PRODUCTPAGE.id]);
  });

  test("the metadata is the reduced object: five strings and the four labels, nothing else of the node", () => {
    expect(sentBy({})).toEqual(exchangedMetadata(PRODUCTPAGE));
  });

  test("the bytes are padded base64 of a deterministic Struct: keys sorted at every level", () => {
    const value = startOutbound().request().requestHeaders.get(PEER_METADATA_HEADER);
    expect(value).toBe(encodeMetadata(exchangedMetadata(PRODUCTPAGE)));
  });

  test.each(["NAME", "NAMESPACE", "WORKLOAD_NAME", "CLUSTER_ID"])("an absent %s is left out", (key) => {
    expect(Object.keys(sentBy({ [key]: undefined }))).not.toContain(key);
  });

  test("a node without metadata sends LABELS alone, and empty", () => {
    const stream = startOutbound({ node: { ...PRODUCTPAGE, metadata: {} } }).request();
    expect(stream.requestHeaders.get(PEER_METADATA_HEADER)).toBe(encodeMetadata({ LABELS: {} }));
  });

  test("LABELS is sent, empty, when the node has none", () => {
    expect(sentBy({ LABELS: undefined })).toHaveProperty("LABELS", {});
  });

  test("IDENTITY is sent when the node has one", () => {
    const identity = "spiffe://cluster.local/ns/default/sa/x";
    expect(sentBy({ IDENTITY: identity })).toMatchObject({ IDENTITY: identity });
  });

  test("region and zone are those of the node's locality, each under its own key", () => {
    const node = { ...PRODUCTPAGE, locality: { region: "eu-west-1", zone: "eu-west-1b" } };
    const stream = startOutbound({ node }).request();
    const sent = decodeMetadata(stream.requestHeaders.get(PEER_METADATA_HEADER) ?? "");
    expect(sent).toEqual({ ...exchangedMetadata(PRODUCTPAGE), REGION: "eu-west-1", AVAILABILITY_ZONE: "eu-west-1b" });
  });

  test.each(["REGION", "AVAILABILITY_ZONE"])("%s of the node's metadata comes before its locality", (key) => {
    const locality = { region: "local", zone: "local" };
    const node = { ...withMetadata(PRODUCTPAGE, { [key]: "told" }), locality };
    const stream = startOutbound({ node }).request();
    const sent = decodeMetadata(stream.requestHeaders.get(PEER_METADATA_HEADER) ?? "");
    expect(sent).toMatchObject({ REGION: "local", AVAILABILITY_ZONE: "local", [key]: "told" });
  });

  test.each([
    ["kubernetes://apis/apps/v1/namespaces/other/deployments/productpage-v1", "deployments"],
    ["kubernetes://apis/batch/v1/namespaces/default/jobs/productpage-v1", "jobs"],
    ["kubernetes://apis/batch/v1/namespaces/default/cronjobs/productpage-v1", "cronjobs"],
    ["kubernetes://apis/v1/namespaces/default/pods/productpage-v1", "pods"],
  ])("OWNER %s is re-made from the node's namespace and workload", (owner, kind) => {
    expect(sentBy({ OWNER: owner })).toMatchObject({
      OWNER: `kubernetes://apis/apps/v1/namespaces/default/${kind}/productpage-v1`,
    });
  });

  test.each([
    "kubernetes://apis/apps/v1/namespaces/default/statefulsets/productpage-v1",
    "kubernetes://apis/apps/v1/namespaces/default/deployments/another",
    "deployment",
    "",
  ])("OWNER %j, of no known kind for this workload, is left out", (owner) => {
    expect(sentBy({ OWNER: owner })).not.toHaveProperty("OWNER");
  });

  test("app and version are sent under the short names, the app.kubernetes.io names first", () => {
    const labels = {
      app: "short",
      version: "short-version",
      "app.kubernetes.io/name": "recommended",
      "app.kubernetes.io/version": "recommended-version",
    };
    expect(sentBy({ LABELS: labels })).toHaveProperty("LABELS", { app: "recommended", version: "recommended-version" });
  });

  test("the same proxy sends the same bytes with every request", () => {
    const host = startOutbound();
    const values = [1, 2, 3].map(() => host.request().requestHeaders.get(PEER_METADATA_HEADER));
    expect(new Set(values).size).toBe(1);
  });
});

describe("outbound requests", () => {
  test("both headers are overwritten, whatever the app sent", () => {
    const requestHeaders: HeaderPairs = [
      ...PLAIN_REQUEST,
      ...exchangeHeaders(REVIEWS),
      [PEER_ID_HEADER, "second"],
      [PEER_METADATA_HEADER, "second"],
    ];
    const stream = startOutbound().request({ requestHeaders });
    expect(stream.requestHeaders.all(PEER_ID_HEADER)).toEqual([PRODUCTPAGE.id]);
    expect(stream.requestHeaders.all(PEER_METADATA_HEADER)).toEqual([encodeMetadata(exchangedMetadata(PRODUCTPAGE))]);
  });

  test("nothing but the two headers changes", () => {
    const stream = startOutbound().request();
    expect(stream.requestHeaders.pairs()).toEqual(
      [...PLAIN_REQUEST, ...exchangeHeaders(PRODUCTPAGE)].sort(byName(stream)),
    );
  });

  test("the headers go out when no cluster is known yet", () => {
    const stream = startOutbound().request({ routeName: null });
    expect(exchangeHeaderNames(stream, "requestHeaders").sort()).toEqual([PEER_METADATA_HEADER, PEER_ID_HEADER]);
  });

  test("a gateway sends them, too", () => {
    const stream = startGateway().request(TO_REVIEWS);
    expect(stream.requestHeaders.get(PEER_METADATA_HEADER)).toBe(encodeMetadata(exchangedMetadata(PRODUCTPAGE)));
  });
});

describe("requests that leave the mesh", () => {
  const external = { name: "external", metadata: { istio: { external: true } } };
  const passthrough = { name: PASSTHROUGH_CLUSTER };
  const disabled = { name: "quiet", metadata: { istio: { disable_mx: true } } };
  const leakOut = { direction: "outbound", metadata_exchange: { skip_external_clusters: false } };
  const forged: StreamOptions = { requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(REVIEWS)] };

  test.each([
    ["PassthroughCluster", passthrough],
    ["a cluster with istio.external", external],
    ["a cluster with istio.disable_mx", disabled],
  ])("toward %s nothing is injected", (_, cluster) => {
    expect(exchangeHeaderNames(startOutbound().request({ cluster }), "requestHeaders")).toEqual([]);
  });

  test.each([
    ["PassthroughCluster", passthrough],
    ["a cluster with istio.external", external],
  ])("toward %s what the app sent is stripped", (_, cluster) => {
    expect(exchangeHeaderNames(startOutbound().request({ ...forged, cluster }), "requestHeaders")).toEqual([]);
  });

  test.each([
    ["PassthroughCluster", passthrough],
    ["a cluster with istio.external", external],
  ])("with skip_external_clusters off, toward %s the headers go out", (_, cluster) => {
    const stream = startOutbound({ configuration: leakOut }).request({ cluster });
    expect(exchangeHeaderNames(stream, "requestHeaders")).toHaveLength(2);
  });

  test("with skip_external_clusters off, istio.disable_mx still holds", () => {
    const stream = startOutbound({ configuration: leakOut }).request({ cluster: disabled });
    expect(exchangeHeaderNames(stream, "requestHeaders")).toEqual([]);
  });

  test.each([
    ["istio.external: false", { istio: { external: false } }],
    ["istio.disable_mx: false", { istio: { disable_mx: false } }],
    ["metadata of others", { "envoy.lb": { external: true } }],
  ])("a cluster with %s is in the mesh", (_, metadata) => {
    const stream = startOutbound().request({ cluster: { name: "in-mesh", metadata } });
    expect(exchangeHeaderNames(stream, "requestHeaders")).toHaveLength(2);
  });

  test("it is decided per cluster: in-mesh requests before and after a skipped one carry the headers", () => {
    const host = startOutbound();
    const counts = [REVIEWS_CLUSTER, external, REVIEWS_CLUSTER, passthrough, REVIEWS_CLUSTER].map(
      (cluster) => exchangeHeaderNames(host.request({ cluster }), "requestHeaders").length,
    );
    expect(counts).toEqual([2, 0, 2, 0, 2]);
  });

  test("a request that is not injected is still counted", () => {
    const host = startOutbound();
    host.request({ cluster: external });
    expect(countedTotal(host)).toBe(1);
  });
});

describe("inbound requests", () => {
  test("the app never sees the headers, and nothing else changes", () => {
    const stream = startInbound().request(FROM_PRODUCTPAGE);
    expect(stream.requestHeaders.pairs()).toEqual(PLAIN_REQUEST);
  });

  test("headers that are there twice are all removed; the first is read", () => {
    const requestHeaders: HeaderPairs = [
      ...FROM_PRODUCTPAGE.requestHeaders,
      ...exchangeHeaders(makeNode("x", "v9", "::")),
    ];
    const host = startInbound();
    const stream = host.request({ ...FROM_PRODUCTPAGE, requestHeaders });
    expect(exchangeHeaderNames(stream, "requestHeaders")).toEqual([]);
    expect(countedLabels(host)).toMatchObject({ source_workload: "productpage-v1" });
  });

  test("headers with an empty value are removed, too", () => {
    const empty: HeaderPairs = [
      [PEER_ID_HEADER, ""],
      [PEER_METADATA_HEADER, ""],
    ];
    const inbound = startInbound().request({ requestHeaders: [...PLAIN_REQUEST, ...empty] });
    expect(inbound.requestHeaders.pairs()).toEqual(PLAIN_REQUEST);
    const outbound = startOutbound().request({ responseHeaders: [...PLAIN_RESPONSE, ...empty] });
    expect(outbound.responseHeaders.pairs()).toEqual(PLAIN_RESPONSE);
  });

  test("the id alone yields no peer, and is no fault", () => {
    const host = startInbound();
    const stream = host.request({ requestHeaders: [...PLAIN_REQUEST, [PEER_ID_HEADER, PRODUCTPAGE.id]] });
    expect(countedLabels(host)).toMatchObject({ source_workload: "unknown" });
    expect(exchangeHeaderNames(stream, "requestHeaders")).toEqual([]);
    expect(faults(host)).toEqual({});
  });

  test("metadata without an id is read, and is no fault", () => {
    const host = startInbound();
    const requestHeaders: HeaderPairs = [
      ...PLAIN_REQUEST,
      [PEER_METADATA_HEADER, encodeMetadata(exchangedMetadata(PRODUCTPAGE))],
    ];
    host.request({ requestHeaders });
    expect(countedLabels(host)).toMatchObject({ source_workload: "productpage-v1" });
    expect(faults(host)).toEqual({});
  });

  test("metadata without an id: the next peer is not taken for the one before", () => {
    const host = startInbound();
    for (const node of [PRODUCTPAGE, makeNode("ratings", "v1", "127.0.1.9")]) {
      const metadata = encodeMetadata(exchangedMetadata(node));
      const stream = host.request({ requestHeaders: [...PLAIN_REQUEST, [PEER_METADATA_HEADER, metadata]] });
      expect(stream.filterState.has("wasm.downstream_peer")).toBe(true);
    }
    const workloads = countedValues(host, "source_workload");
    expect(workloads.sort()).toEqual(["productpage-v1", "ratings-v1"]);
  });

  test.each(["a", "ab", "abc"])("missing padding is accepted (name %j: each remainder of three)", (name) => {
    const host = startInbound();
    const padded = encodeMetadata({ NAME: name, WORKLOAD_NAME: "peer" });
    for (const value of [padded, padded.replace(/=+$/, "")]) {
      host.request({ requestHeaders: [...PLAIN_REQUEST, [PEER_ID_HEADER, value], [PEER_METADATA_HEADER, value]] });
    }
    expect(countedLabels(host)).toMatchObject({ source_workload: "peer" });
    expect(countedTotal(host)).toBe(2);
    expect(faults(host)).toEqual({});
  });

  test("the old form, with all labels and extra keys, is read as the new one", () => {
    const old: JsonObject = {
      ...PRODUCTPAGE.metadata,
      PLATFORM_METADATA: { gcp_project: "p", nested: { deep: [1, 2, { three: null }] } },
      APP_CONTAINERS: "productpage,istio-proxy",
      EXCHANGE_KEYS: "NAME,NAMESPACE",
    };
    const [oldHost, newHost] = [startInbound(), startInbound()];
    oldHost.request({ ...FROM_PRODUCTPAGE, requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(PRODUCTPAGE, old)] });
    newHost.request(FROM_PRODUCTPAGE);
    expect(countedLabels(oldHost)).toEqual(countedLabels(newHost));
    expect(faults(oldHost)).toEqual({});
  });

  test("keys in any order are read", () => {
    const host = startInbound();
    const reversed = Object.fromEntries(Object.entries(exchangedMetadata(PRODUCTPAGE)).reverse());
    host.request({ requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(PRODUCTPAGE, reversed)] });
    expect(countedLabels(host)).toMatchObject({ source_workload: "productpage-v1", source_app: "productpage" });
  });

  test("values that are no strings are ignored, the others are read", () => {
    const metadata: JsonObject = {
      NAME: 5,
      NAMESPACE: true,
      WORKLOAD_NAME: "w",
      CLUSTER_ID: null,
      LABELS: { app: 7, version: ["v1"], "service.istio.io/canonical-name": "c" },
    };
    const host = startInbound();
    host.request({ requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(PRODUCTPAGE, metadata)] });
    expect(countedLabels(host)).toMatchObject({
      source_workload: "w",
      source_workload_namespace: "unknown",
      source_cluster: "unknown",
      source_app: "unknown",
      source_version: "unknown",
      source_canonical_service: "c",
    });
    expect(faults(host)).toEqual({});
  });

  test.each([
    ["a string", "x"],
    ["a list", [{ app: "x" }]],
    ["a number", 3],
  ])("LABELS that is %s is ignored", (_, labels) => {
    const host = startInbound();
    const metadata = { ...exchangedMetadata(PRODUCTPAGE), LABELS: labels as Json };
    host.request({ requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(PRODUCTPAGE, metadata)] });
    expect(countedLabels(host)).toMatchObject({ source_workload: "productpage-v1", source_app: "unknown" });
  });

  test("a peer that is already in filter state is not replaced", () => {
    const host = startInbound();
    const stream = host.stream(FROM_PRODUCTPAGE);
    const first = Buffer.from("decided by a filter before");
    stream.filterState.set("wasm.downstream_peer", first);
    stream.finish();
    expect(stream.filterState.get("wasm.downstream_peer")?.toString("latin1")).toBe(first.toString("latin1"));
  });
});

describe("inbound responses", () => {
  const [idHeader, metadataHeader] = exchangeHeaders(PRODUCTPAGE);
  const cases: [string, HeaderPairs, string[]][] = [
    ["both headers get both", [idHeader, metadataHeader] as HeaderPairs, [PEER_ID_HEADER, PEER_METADATA_HEADER]],
    ["only the id get only the id", [idHeader] as HeaderPairs, [PEER_ID_HEADER]],
    ["only the metadata get only the metadata", [metadataHeader] as HeaderPairs, [PEER_METADATA_HEADER]],
    ["neither get nothing", [], []],
  ];

  test.each(cases)("requests with %s", (_, sent, expected) => {
    const stream = startInbound().request({ requestHeaders: [...PLAIN_REQUEST, ...sent] });
    expect(exchangeHeaderNames(stream, "responseHeaders").sort()).toEqual([...expected].sort());
  });

  test("the answer carries our own id and metadata", () => {
    const stream = startInbound().request(FROM_PRODUCTPAGE);
    expect(stream.responseHeaders.all(PEER_ID_HEADER)).toEqual([REVIEWS.id]);
    expect(stream.responseHeaders.all(PEER_METADATA_HEADER)).toEqual([encodeMetadata(exchangedMetadata(REVIEWS))]);
  });

  test("what the app puts on its answer is replaced for a peer and removed for an outside client", () => {
    const responseHeaders: HeaderPairs = [...PLAIN_RESPONSE, ...exchangeHeaders(PRODUCTPAGE)];
    const toPeer = startInbound().request({ ...FROM_PRODUCTPAGE, responseHeaders });
    expect(toPeer.responseHeaders.all(PEER_ID_HEADER)).toEqual([REVIEWS.id]);
    const toOutside = startInbound().request({ responseHeaders });
    expect(toOutside.responseHeaders.pairs()).toEqual(PLAIN_RESPONSE);
  });

  test("a malformed header still counts as a header that was there", () => {
    const stream = startInbound().request({ requestHeaders: [...PLAIN_REQUEST, [PEER_METADATA_HEADER, "?"]] });
    expect(exchangeHeaderNames(stream, "responseHeaders")).toEqual([PEER_METADATA_HEADER]);
  });
});

describe("outbound responses", () => {
  test("both headers are read and removed", () => {
    const host = startOutbound();
    const stream = host.request(TO_REVIEWS);
    expect(stream.responseHeaders.pairs()).toEqual(PLAIN_RESPONSE);
    expect(countedLabels(host)).toMatchObject({ destination_workload: "reviews-v2" });
  });

  test("an outside client of a gateway gets neither header", () => {
    const stream = startGateway().request({
      ...TO_REVIEWS,
      requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(makeNode("outsider", "v1", "10.0.0.1"))],
    });
    expect(stream.responseHeaders.pairs()).toEqual(PLAIN_RESPONSE);
  });

  test("a gateway does not take its client's headers for the source", () => {
    const host = startGateway();
    host.request({
      ...TO_REVIEWS,
      requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(makeNode("outsider", "v1", "10.0.0.1"))],
    });
    expect(countedLabels(host)).toMatchObject({
      source_workload: "productpage-v1",
      destination_workload: "reviews-v2",
    });
  });

  test("malformed headers are removed, too", () => {
    const host = startOutbound();
    const stream = host.request({
      responseHeaders: [...PLAIN_RESPONSE, [PEER_ID_HEADER, "x"], [PEER_METADATA_HEADER, "?"]],
    });
    expect(stream.responseHeaders.pairs()).toEqual(PLAIN_RESPONSE);
    expect(faults(host)).toEqual({ peer_malformed: 1 });
  });
});

describe("malformed metadata", () => {
  const valid = encodeMetadata(exchangedMetadata(PRODUCTPAGE));
  test.each([
    ["no base64", "this is not base64!"],
    ["base64url", Buffer.from([0xfb, 0xff, 0xfe]).toString("base64url")],
    ["base64 of no Struct", Buffer.from([0xff, 0xff, 0xff, 0xff]).toString("base64")],
    ["one character", "A"],
    ["cut in the middle", valid.slice(0, valid.length / 2)],
    ["a length beyond the end", Buffer.from([0x0a, 0x7f, 0x0a]).toString("base64")],
    ["a padding in the middle", `${valid.slice(0, 8)}==${valid.slice(8)}`],
  ])("%s: the peer is unknown, the request goes on, and it is counted", (_, value) => {
    const host = startInbound();
    const stream = host.request({
      requestHeaders: [...PLAIN_REQUEST, [PEER_ID_HEADER, PRODUCTPAGE.id], [PEER_METADATA_HEADER, value]],
    });
    expect(stream.requestHeaders.pairs()).toEqual(PLAIN_REQUEST);
    expect(countedTotal(host)).toBe(1);
    expect(countedLabels(host)).toMatchObject({ source_workload: "unknown" });
    expect(faults(host)).toEqual({ peer_malformed: 1 });
    expect(stream.filterState.has("wasm.downstream_peer")).toBe(false);
  });

  test("a malformed header does not spoil the cache for the same id", () => {
    const host = startInbound();
    const send = (value: string) =>
      host.request({ requestHeaders: [...PLAIN_REQUEST, [PEER_ID_HEADER, "p"], [PEER_METADATA_HEADER, value]] });
    send("?");
    send(valid);
    const workloads = countedValues(host, "source_workload");
    expect(workloads).toEqual(["unknown", "productpage-v1"]);
  });
});

describe("a peer that a stream already has", () => {
  const other = encodeMetadata({ WORKLOAD_NAME: "other" });

  test("stays when request headers come once more with another", () => {
    const stream = startInbound().stream(FROM_PRODUCTPAGE).sendRequestHeaders();
    const state = stream.filterState.get("wasm.downstream_peer");
    stream.requestHeaders.replace(PEER_METADATA_HEADER, other);
    stream.sendRequestHeaders().sendResponseHeaders().log();
    expect(observationOf(stream).labels).toMatchObject({ source_workload: "productpage-v1" });
    expect(stream.filterState.get("wasm.downstream_peer")).toEqual(state);
  });

  test("stays when response headers come once more with another", () => {
    const stream = startOutbound().stream(TO_REVIEWS).sendRequestHeaders().sendResponseHeaders();
    const state = stream.filterState.get("wasm.upstream_peer");
    stream.responseHeaders.replace(PEER_METADATA_HEADER, other);
    stream.sendResponseHeaders().log();
    expect(observationOf(stream).labels).toMatchObject({ destination_workload: "reviews-v2" });
    expect(stream.filterState.get("wasm.upstream_peer")).toEqual(state);
  });
});

describe("the peer cache", () => {
  test("holds the newest: of 3,000 peers each is still there when 50 others have come after it", () => {
    const host = startInbound();
    const places = Array.from({ length: 3_000 }, (_, index) => {
      const place = placeOf(host, index);
      const recent = Math.max(0, index - 50);
      return [place, placeOf(host, recent), recent] as const;
    });
    const decodedAgain = places.filter(([, again, recent]) => again !== places[recent]?.[0]);
    expect(decodedAgain).toEqual([]);
  }, 60_000);

  test("a peer is known again after 2,000 others have passed", () => {
    const host = startInbound({ configuration: { direction: "inbound", max_label_sets: 5000 } });
    host.request(FROM_PRODUCTPAGE);
    for (let index = 0; index < 2_000; index++) {
      host.request({ requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(makeNode(`s${index}`, "v1", `${index}`))] });
    }
    host.request(FROM_PRODUCTPAGE);
    expect(countedWith(host, { source_workload: "productpage-v1" })).toBe(2);
  });

  test("a peer whose labels change under the same id is seen anew at once", () => {
    const host = startInbound();
    for (const version of ["v1", "v2", "v1"]) {
      const metadata = { WORKLOAD_NAME: "w", LABELS: { version } };
      host.request({ requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(PRODUCTPAGE, metadata)] });
    }
    expect(countedWith(host, { source_version: "v1" })).toBe(2);
    expect(countedWith(host, { source_version: "v2" })).toBe(1);
  });

  test("an empty Struct is a peer of which nothing is known, not a fault", () => {
    const host = startInbound();
    host.request({
      requestHeaders: [
        ...PLAIN_REQUEST,
        [PEER_ID_HEADER, "p"],
        [PEER_METADATA_HEADER, encodeStruct({}).toString("base64")],
      ],
    });
    expect(countedLabels(host)).toMatchObject({ source_workload: "unknown" });
    expect(faults(host)).toEqual({});
  });
});

test("two VMs of one process exchange independently", () => {
  const first = startFilter({ node: PRODUCTPAGE, configuration: { direction: "outbound" } });
  const second = startFilter({ node: REVIEWS, configuration: { direction: "outbound" }, stats: first.stats });
  expect(first.request().requestHeaders.get(PEER_ID_HEADER)).toBe(PRODUCTPAGE.id);
  expect(second.request().requestHeaders.get(PEER_ID_HEADER)).toBe(REVIEWS.id);
});

/** Where in the guest's memory the peer with this number stands: what is decoded anew, stands elsewhere. */
function placeOf(host: Host, peer: number): number {
  const bytes = vi.spyOn(host.memory, "bytes");
  const requestHeaders = [...PLAIN_REQUEST, ...exchangeHeaders(makeNode(`s${peer}`, "v1", "::1"))];
  const stream = host.stream({ requestHeaders }).sendRequestHeaders();
  const read = bytes.mock.calls;
  bytes.mockRestore();
  const state = stream.filterState.get("wasm.downstream_peer");
  const found = read.find(([place, size]) => state !== undefined && host.memory.bytes(place, size).equals(state));
  stream.sendResponseHeaders().log();
  if (found === undefined) throw new Error(`peer ${peer} has no state`);
  return found[0];
}

/** The order in which the filter added its two headers is its own affair. */
function byName(stream: HttpStream): (left: readonly [string, string], right: readonly [string, string]) => number {
  const order = stream.requestHeaders.pairs().map(([name]) => name);
  return (left, right) => order.indexOf(left[0]) - order.indexOf(right[0]);
}
