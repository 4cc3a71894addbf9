// Whose metadata counts and who gets ours: mutual TLS asked for or not, gateways before the internet, waypoints between two ends.

import { describe, expect, test } from "vitest";
import { PEER_ID_HEADER, PEER_METADATA_HEADER } from "../../filter/vocabulary/peer-metadata.ts";
import type { HeaderPairs } from "../host/headers.ts";
import { type Host, PLAIN_REQUEST, PLAIN_RESPONSE, type StreamOptions } from "../host/host.ts";
import {
  countedLabels,
  encodeMetadata,
  exchangedMetadata,
  exchangeHeaderNames,
  exchangeHeaders,
  FROM_PRODUCTPAGE,
  faults,
  makeNode,
  PRODUCTPAGE,
  PRODUCTPAGE_URI,
  REVIEWS,
  REVIEWS_CLUSTER,
  REVIEWS_URI,
  startInbound,
  startOutbound,
  TO_REVIEWS,
} from "../host/mesh.ts";
import type { JsonObject } from "../host/struct.ts";

const BOTH_HEADERS = [PEER_METADATA_HEADER, PEER_ID_HEADER].sort();
const FORGED = exchangeHeaders(makeNode("admin", "v1", "10.0.0.1"));
const MUTUAL_TLS = { trust: "mutual_tls" };

/** Certificates that do not say who the peer is, by what is wrong with them. */
const NO_PROOF = [
  ["no TLS", undefined],
  ["no client certificate", { local: REVIEWS_URI }],
  ["a certificate without URI", { peer: "", local: REVIEWS_URI }],
] as const;

describe("trust: mutual_tls, downstream", () => {
  const start = () => startInbound({ configuration: { direction: "inbound", metadata_exchange: MUTUAL_TLS } });
  const { downstreamTls, ...fromNobody } = FROM_PRODUCTPAGE;

  test("a caller with a certificate is learned and answered", () => {
    const host = start();
    const stream = host.request({ ...fromNobody, downstreamTls });
    expect(countedLabels(host)).toMatchObject({ source_workload: "productpage-v1" });
    expect(exchangeHeaderNames(stream, "responseHeaders").sort()).toEqual(BOTH_HEADERS);
    expect(stream.filterState.has("wasm.downstream_peer")).toBe(true);
    expect(faults(host)).toEqual({});
  });

  test.each(NO_PROOF)("with %s it is not learned, gets nothing of us, and is counted", (_, tls) => {
    const host = start();
    const responseHeaders = [...PLAIN_RESPONSE, ...FORGED];
    const stream = host.request({ ...fromNobody, responseHeaders, ...(tls ? { downstreamTls: tls } : {}) });
    expect(countedLabels(host)).toMatchObject({ source_workload: "unknown" });
    expect(stream.requestHeaders.pairs()).toEqual(PLAIN_REQUEST);
    expect(stream.responseHeaders.pairs()).toEqual(PLAIN_RESPONSE);
    expect(stream.filterState.has("wasm.downstream_peer")).toBe(false);
    expect(faults(host)).toEqual({ peer_untrusted: 1 });
  });

  test("a principal that Istio's authentication left, as behind HBONE, is as good as a certificate of this connection's own", () => {
    const host = start();
    host.request({ ...fromNobody, properties: { "filter_state.io.istio.peer_principal": PRODUCTPAGE_URI } });
    expect(countedLabels(host)).toMatchObject({ source_workload: "productpage-v1" });
    expect(faults(host)).toEqual({});
  });

  test("the id alone is refused the same way", () => {
    const host = start();
    const stream = host.request({ requestHeaders: [...PLAIN_REQUEST, [PEER_ID_HEADER, "x"]] });
    expect(stream.requestHeaders.pairs()).toEqual(PLAIN_REQUEST);
    expect(exchangeHeaderNames(stream, "responseHeaders")).toEqual([]);
    expect(faults(host)).toEqual({ peer_untrusted: 1 });
  });

  test("a caller outside the mesh, who sends neither header, is no fault", () => {
    const host = start();
    host.request({ requestHeaders: PLAIN_REQUEST });
    expect(faults(host)).toEqual({});
  });

  test("one caller's certificate is not another's: it is asked for on each request", () => {
    const host = start();
    for (const tls of [downstreamTls, undefined, downstreamTls]) {
      const stream = host.request({ ...fromNobody, ...(tls ? { downstreamTls: tls } : {}) });
      expect(stream.filterState.has("wasm.downstream_peer")).toBe(tls !== undefined);
    }
    expect(faults(host)).toEqual({ peer_untrusted: 1 });
  });
});

describe("trust: mutual_tls, upstream", () => {
  const start = () => startOutbound({ configuration: { direction: "outbound", metadata_exchange: MUTUAL_TLS } });
  const { upstreamTls, ...toNobody } = TO_REVIEWS;

  test("a server with a certificate is learned", () => {
    const host = start();
    const stream = host.request({ ...toNobody, upstreamTls });
    expect(stream.responseHeaders.pairs()).toEqual(PLAIN_RESPONSE);
    expect(countedLabels(host)).toMatchObject({ destination_workload: "reviews-v2" });
    expect(faults(host)).toEqual({});
  });

  test.each(NO_PROOF)("with %s it is not, its headers are taken off, and it is counted", (_, tls) => {
    const host = start();
    const stream = host.request({ ...toNobody, ...(tls ? { upstreamTls: tls } : {}) });
    expect(stream.responseHeaders.pairs()).toEqual(PLAIN_RESPONSE);
    expect(countedLabels(host)).toMatchObject({ destination_workload: "unknown" });
    expect(stream.filterState.has("wasm.upstream_peer")).toBe(false);
    expect(faults(host)).toEqual({ peer_untrusted: 1 });
  });

  test("a server that answers nothing is no fault", () => {
    const host = start();
    host.request({ ...toNobody, responseHeaders: PLAIN_RESPONSE });
    expect(faults(host)).toEqual({});
  });
});

describe("trust: the default", () => {
  const plaintext = { requestHeaders: FROM_PRODUCTPAGE.requestHeaders };
  const bothSides = ["downstream", "upstream"];
  test.each<[string, JsonObject, string[]]>([
    ["a sidecar believes plaintext", { direction: "inbound" }, BOTH_HEADERS],
    ["a waypoint, too", { reporter: "SERVER_GATEWAY" }, BOTH_HEADERS],
    ["a gateway does not", { direction: "gateway", metadata_exchange: { directions: bothSides } }, []],
    [
      "a gateway that is told to does",
      { direction: "gateway", metadata_exchange: { directions: bothSides, trust: "any" } },
      BOTH_HEADERS,
    ],
  ])("%s", (_, configuration, answered) => {
    const host = startInbound({ configuration });
    const stream = host.request({ ...plaintext, responseHeaders: TO_REVIEWS.responseHeaders });
    expect(exchangeHeaderNames(stream, "responseHeaders").sort()).toEqual(answered);
    expect(stream.filterState.has("wasm.downstream_peer")).toBe(answered.length > 0);
    expect(faults(host)).toEqual(answered.length > 0 ? {} : { peer_untrusted: 1 });
  });

  test("a gateway believes its upstream without a certificate", () => {
    const host = startOutbound({ configuration: { direction: "gateway" } });
    host.request({ responseHeaders: TO_REVIEWS.responseHeaders });
    expect(countedLabels(host)).toMatchObject({ destination_workload: "reviews-v2" });
  });

  test.each(["mtls", "", true, null, ["any"]])("trust %j is a fault, and the default holds", (trust) => {
    const host = startInbound({ configuration: { direction: "inbound", metadata_exchange: { trust } } });
    host.request(plaintext);
    expect(countedLabels(host)).toMatchObject({ source_workload: "productpage-v1" });
    expect(faults(host)).toEqual({ configuration: 1 });
  });

  test("costs nothing: no reading call more than a sidecar has without the setting", () => {
    const readingCalls = (configuration: JsonObject): number => {
      const host = startInbound({ configuration });
      host.request(FROM_PRODUCTPAGE);
      host.calls.clear();
      host.request(FROM_PRODUCTPAGE);
      return host.readingCalls();
    };
    const plain = readingCalls({ direction: "inbound" });
    expect(readingCalls({ direction: "inbound", metadata_exchange: { trust: "any" } })).toBe(plain);
    expect(readingCalls({ direction: "inbound", metadata_exchange: MUTUAL_TLS })).toBe(plain + 1);
  });
});

describe("a gateway", () => {
  const own = exchangeHeaders(PRODUCTPAGE);
  const fromOutside: StreamOptions = {
    ...TO_REVIEWS,
    requestHeaders: [...PLAIN_REQUEST, ...FORGED, ...FORGED],
    responseHeaders: [...PLAIN_RESPONSE, ...exchangeHeaders(REVIEWS), ...FORGED],
  };
  const start = (exchange: JsonObject): Host =>
    startOutbound({ configuration: { direction: "gateway", metadata_exchange: exchange } });

  test.each<[JsonObject, HeaderPairs]>([
    [{}, own],
    [{ directions: ["upstream"] }, own],
    [{ directions: ["upstream"], trust: "any" }, own],
    [{ directions: ["downstream", "upstream"] }, own],
    [{ directions: ["downstream", "upstream"], trust: "any" }, own],
    [{ directions: ["downstream"] }, []],
    [{ directions: ["downstream"], trust: "any" }, []],
    [{ directions: [] }, []],
  ])("%j: what comes from outside does not reach the mesh", (exchange, sent) => {
    const stream = start(exchange).request(fromOutside);
    expect(exchangeHeaderNames(stream, "requestHeaders")).toHaveLength(sent.length);
    expect(stream.requestHeaders.pairs()).toEqual(expect.arrayContaining([...sent]));
  });

  test.each<[JsonObject]>([
    [{}],
    [{ directions: ["upstream"] }],
    [{ directions: ["downstream", "upstream"] }],
    [{ directions: ["downstream"] }],
    [{ directions: [] }],
  ])("%j: what upstream or application put on the answer does not reach an outside client", (exchange) => {
    expect(start(exchange).request(fromOutside).responseHeaders.pairs()).toEqual(PLAIN_RESPONSE);
    const fromStranger = start(exchange).request({ ...fromOutside, requestHeaders: PLAIN_REQUEST });
    expect(fromStranger.responseHeaders.pairs()).toEqual(PLAIN_RESPONSE);
  });

  test("known by its node id alone is one", () => {
    const node = { ...PRODUCTPAGE, id: PRODUCTPAGE.id.replace("sidecar~", "router~") };
    const configuration = { metadata_exchange: { directions: [] } };
    const stream = startOutbound({ node, configuration }).request(fromOutside);
    expect(exchangeHeaderNames(stream, "requestHeaders")).toEqual([]);
    expect(stream.responseHeaders.pairs()).toEqual(PLAIN_RESPONSE);
  });

  test("toward a cluster outside the mesh sends nothing on, either", () => {
    const cluster = { name: "external", metadata: { istio: { external: true } } };
    expect(exchangeHeaderNames(start({}).request({ ...fromOutside, cluster }), "requestHeaders")).toEqual([]);
  });

  test("a sidecar's side that is left out is neither read nor taken off", () => {
    for (const direction of ["inbound", "outbound"]) {
      const host = startOutbound({ configuration: { direction, metadata_exchange: { directions: [] } } });
      const stream = host.request(fromOutside);
      expect(stream.requestHeaders.pairs()).toEqual(fromOutside.requestHeaders);
      expect(stream.responseHeaders.pairs()).toEqual(fromOutside.responseHeaders);
    }
  });
});

describe("a waypoint", () => {
  const WAYPOINT = makeNode("waypoint", "v1", "10.0.0.7");
  const between: StreamOptions = {
    ...FROM_PRODUCTPAGE,
    ...TO_REVIEWS,
    upstreamTls: { peer: REVIEWS_URI, local: "spiffe://cluster.local/ns/default/sa/waypoint" },
  };
  const start = (exchange: JsonObject = {}): Host =>
    startOutbound({
      node: WAYPOINT,
      configuration: { reporter: "SERVER_GATEWAY", metadata_exchange: exchange },
    });

  test("hands on what both ends say, so that each sees the other", () => {
    const stream = start().request(between);
    expect(stream.requestHeaders.pairs()).toEqual(FROM_PRODUCTPAGE.requestHeaders);
    expect(stream.responseHeaders.pairs()).toEqual(TO_REVIEWS.responseHeaders);
  });

  test("leaves both peers for loggers", () => {
    const { filterState } = start().request(between);
    expect(filterState.get("wasm.downstream_peer")?.includes("productpage-v1")).toBe(true);
    expect(filterState.get("wasm.upstream_peer")?.includes("reviews-v2")).toBe(true);
  });

  const own = exchangeHeaders(WAYPOINT);
  const ownRequest = new Map([...PLAIN_REQUEST, ...own]);
  const [id, metadata] = exchangeHeaders(PRODUCTPAGE);

  test("adds nothing of its own for a server that says nothing", () => {
    const stream = start().request({ ...between, responseHeaders: PLAIN_RESPONSE });
    expect(stream.responseHeaders.pairs()).toEqual(PLAIN_RESPONSE);
  });

  test.each<[string, HeaderPairs]>([
    ["nothing", []],
    ["its id alone", [id as HeaderPairs[number]]],
    ["nothing that names it", exchangeHeaders(PRODUCTPAGE, { NAMESPACE: "default", LABELS: {} })],
    ["what is no metadata", [[PEER_METADATA_HEADER, "%%%"]]],
  ])("speaks to the server for itself where the caller says %s, and learns who answers", (_, said) => {
    const host = start();
    const stream = host.request({ ...between, requestHeaders: [...PLAIN_REQUEST, ...said] });
    expect(new Map(stream.requestHeaders.pairs())).toEqual(ownRequest);
    expect(countedLabels(host)).toMatchObject({ source_workload: "unknown", destination_workload: "reviews-v2" });
    const server = startInbound();
    server.request({ ...FROM_PRODUCTPAGE, requestHeaders: stream.requestHeaders.pairs() });
    expect(countedLabels(server)).toMatchObject({ source_workload: "waypoint-v1" });
  });

  test("answers nothing to a caller that says nothing", () => {
    const stream = start().request({ ...between, requestHeaders: PLAIN_REQUEST });
    expect(stream.responseHeaders.pairs()).toEqual(PLAIN_RESPONSE);
  });

  test("says nothing for a caller that says nothing where a cluster must not learn of it", () => {
    for (const istio of [{ external: true }, { disable_mx: true }]) {
      const cluster = { name: "elsewhere", metadata: { istio } };
      const stream = start().request({ ...between, requestHeaders: PLAIN_REQUEST, cluster });
      expect(stream.requestHeaders.pairs()).toEqual(PLAIN_REQUEST);
    }
  });

  test.each([
    ["the id", [id], [PEER_ID_HEADER], [PEER_METADATA_HEADER, PEER_ID_HEADER]],
    ["the metadata", [metadata], [PEER_METADATA_HEADER], [PEER_METADATA_HEADER]],
  ])("answers %s in kind", (_, sent, answered, handedOn) => {
    const stream = start().request({ ...between, requestHeaders: [...PLAIN_REQUEST, ...(sent as HeaderPairs)] });
    expect(exchangeHeaderNames(stream, "requestHeaders").toSorted()).toEqual(handedOn.toSorted());
    expect(exchangeHeaderNames(stream, "responseHeaders")).toEqual(answered);
  });

  test("hands nothing on to a cluster outside the mesh", () => {
    const cluster = { name: "external", metadata: { istio: { external: true } } };
    expect(
      start()
        .request({ ...between, cluster })
        .requestHeaders.pairs(),
    ).toEqual(PLAIN_REQUEST);
  });

  test("that trusts mutual TLS alone hands on only what is proven, either way, and speaks for itself else", () => {
    const host = start(MUTUAL_TLS);
    expect(host.request(between).requestHeaders.pairs()).toEqual(FROM_PRODUCTPAGE.requestHeaders);
    const fromNobody = host.request({ ...between, downstreamTls: {} });
    expect(new Map(fromNobody.requestHeaders.pairs())).toEqual(ownRequest);
    expect(fromNobody.responseHeaders.pairs()).toEqual(PLAIN_RESPONSE);
    const toNobody = host.request({ ...between, upstreamTls: {} });
    expect(toNobody.requestHeaders.pairs()).toEqual(FROM_PRODUCTPAGE.requestHeaders);
    expect(toNobody.responseHeaders.pairs()).toEqual(PLAIN_RESPONSE);
    expect(faults(host)).toEqual({ peer_untrusted: 2 });
  });

  test("told to exchange with one side stands in for the other", () => {
    const asClient = start({ directions: ["upstream"] }).request(between);
    expect(exchangeHeaderNames(asClient, "requestHeaders")).toHaveLength(2);
    expect(asClient.requestHeaders.all(PEER_ID_HEADER)).toEqual([WAYPOINT.id]);
    expect(asClient.responseHeaders.pairs()).toEqual(PLAIN_RESPONSE);
    const asServer = start({ directions: ["downstream"] }).request(between);
    expect(asServer.requestHeaders.pairs()).toEqual(PLAIN_REQUEST);
    expect(new Map(asServer.responseHeaders.pairs())).toEqual(new Map([...PLAIN_RESPONSE, ...own]));
  });
});

describe("metadata against the certificate", () => {
  const claims = exchangeHeaders(PRODUCTPAGE, { ...exchangedMetadata(PRODUCTPAGE), NAMESPACE: "payments" });

  test("the namespace of the certificate is the label, of a caller and of a server", () => {
    const server = startInbound();
    server.request({ ...FROM_PRODUCTPAGE, requestHeaders: [...PLAIN_REQUEST, ...claims] });
    expect(countedLabels(server)).toMatchObject({
      source_workload_namespace: "default",
      source_principal: PRODUCTPAGE_URI,
    });
    const client = startOutbound();
    client.request({
      ...TO_REVIEWS,
      cluster: { ...REVIEWS_CLUSTER, metadata: {} },
      responseHeaders: [...PLAIN_RESPONSE, ...claims],
    });
    expect(countedLabels(client)).toMatchObject({ destination_workload_namespace: "default" });
  });

  const OTHER_URI = "spiffe://cluster.local/ns/default/sa/other";
  test.each<[string, JsonObject, string | undefined, number]>([
    ["another namespace", { NAMESPACE: "payments" }, PRODUCTPAGE_URI, 1],
    ["the same namespace", { NAMESPACE: "default" }, PRODUCTPAGE_URI, 0],
    ["no namespace", { WORKLOAD_NAME: "w" }, PRODUCTPAGE_URI, 0],
    ["another identity", { NAMESPACE: "default", IDENTITY: OTHER_URI }, PRODUCTPAGE_URI, 1],
    ["the same identity", { NAMESPACE: "default", IDENTITY: PRODUCTPAGE_URI }, PRODUCTPAGE_URI, 0],
    ["a namespace, where the certificate names none", { NAMESPACE: "payments" }, "spiffe://example.org/web", 0],
    ["an identity, where the certificate names no namespace", { IDENTITY: OTHER_URI }, "spiffe://example.org/web", 1],
    ["another namespace, without a certificate", { NAMESPACE: "payments", IDENTITY: OTHER_URI }, undefined, 0],
  ])("a peer that names %s: counted or not, for each request, at either end", (_, metadata, uri, contradicted) => {
    const said = exchangeHeaders(PRODUCTPAGE, metadata);
    const tls = uri === undefined ? {} : { peer: uri, local: REVIEWS_URI };
    const server = startInbound();
    const client = startOutbound();
    for (let round = 0; round < 3; round++) {
      server.request({ requestHeaders: [...PLAIN_REQUEST, ...said], downstreamTls: tls });
      client.request({ ...TO_REVIEWS, responseHeaders: [...PLAIN_RESPONSE, ...said], upstreamTls: tls });
    }
    const expected = contradicted === 0 ? {} : { peer_contradicts_identity: 3 };
    expect(faults(server)).toEqual(expected);
    expect(faults(client)).toEqual(expected);
  });

  test("without a certificate it is the metadata's", () => {
    const host = startInbound();
    host.request({ requestHeaders: [...PLAIN_REQUEST, ...claims] });
    expect(countedLabels(host)).toMatchObject({ source_workload_namespace: "payments", source_principal: "unknown" });
  });
});

describe("headers that are there twice", () => {
  const twice = (first: HeaderPairs): HeaderPairs => [...first, ...FORGED, [PEER_METADATA_HEADER, "x"]];

  test("the first is read and none is left, on a request and on an answer", () => {
    const server = startInbound();
    const inbound = server.request({ requestHeaders: twice(FROM_PRODUCTPAGE.requestHeaders) });
    expect(inbound.requestHeaders.pairs()).toEqual(PLAIN_REQUEST);
    expect(countedLabels(server)).toMatchObject({ source_workload: "productpage-v1" });
    const client = startOutbound();
    const outbound = client.request({ ...TO_REVIEWS, responseHeaders: twice(TO_REVIEWS.responseHeaders) });
    expect(outbound.responseHeaders.pairs()).toEqual(PLAIN_RESPONSE);
    expect(countedLabels(client)).toMatchObject({ destination_workload: "reviews-v2" });
  });

  test("ours takes the place of all of them, on a request and in an answer", () => {
    const outbound = startOutbound().request({ requestHeaders: twice(PLAIN_REQUEST) });
    expect(outbound.requestHeaders.all(PEER_METADATA_HEADER)).toEqual([encodeMetadata(exchangedMetadata(PRODUCTPAGE))]);
    const inbound = startInbound().request({ ...FROM_PRODUCTPAGE, responseHeaders: twice(PLAIN_RESPONSE) });
    expect(inbound.responseHeaders.all(PEER_METADATA_HEADER)).toEqual([encodeMetadata(exchangedMetadata(REVIEWS))]);
    expect(inbound.responseHeaders.all(PEER_ID_HEADER)).toEqual([REVIEWS.id]);
  });
});
