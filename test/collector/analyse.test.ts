// One entry -> its sides: a table for each rule, and entries of a real Envoy.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, test } from "vitest";
import { Analyser, defaultRules } from "../../collector/analysis/analyse.ts";
import { Endpoints } from "../../collector/analysis/endpoints.ts";
import { defaultIdentities } from "../../collector/analysis/parties.ts";
import { SuccessPolicies } from "../../collector/analysis/policy.ts";
import type { Side } from "../../collector/analysis/side.ts";
import { decodeAlsMessage } from "../../collector/proto/als.ts";
import { identifySender, type Sender } from "../../collector/resolver/attribution.ts";
import { HttpMetric, TcpMetric } from "../../collector/vocabulary.ts";
import { bytesState, encodeEntry, encodeMessage, encodeTcpEntry, type Fields, structState } from "../fixtures/als.ts";
import { randomMessage } from "../fixtures/als-random.ts";
import { encodeFlatNode } from "../fixtures/flat-node.ts";
import { encodeObservation, encodeSplitObservation, encodeTcpObservation } from "../fixtures/observation.ts";
import { random } from "../property/random.ts";
import { values } from "./labels.ts";

const CANONICAL_NAME = "service.istio.io/canonical-name";
const START = { seconds: 1_767_225_600, nanos: 123_999_999 };
const START_MS = 1_767_225_600_123;
const OBSERVATION = "wasm.meshtally.observation";

function senderOf(nodeId = "sidecar~10.0.0.1~web-7d.ns1~ns1.svc.cluster.local", logName = "log"): Sender {
  const texts = new Map([
    ["namespace", "ns1"],
    ["workload_name", "web-v1"],
  ]);
  return identifySender({ nodeId, logName, metadata: { texts, labels: new Map([[CANONICAL_NAME, "web"]]) } });
}

const WEB = { service: "web.ns1", namespace: "ns1", workload: "web-v1", instance: "web-7d.ns1", analyzer: "mx-mesh" };
const NOBODY = { service: null, namespace: null, workload: null, instance: null, analyzer: null };

/** A finished GET that was answered, over a cluster, changed as a test says. */
function httpEntry(common: Fields = {}, request: Fields = {}, response: Fields = {}): Buffer {
  return encodeEntry({
    commonProperties: {
      startTime: START,
      upstreamCluster: "outbound|80||api.ns2.svc.cluster.local",
      upstreamRemoteAddress: { socketAddress: { address: "10.0.0.2", portValue: 80 } },
      accessLogType: 6,
      ...common,
    },
    request: { requestMethod: 1, path: "/reviews/42?x=1", authority: "api", requestHeadersBytes: 10, ...request },
    response: { responseCode: { value: 200 }, responseHeadersBytes: 5, responseBodyBytes: 7, ...response },
  });
}

function http(bytes: Buffer, sender = senderOf()): Side[] {
  return new Analyser().analyseHttp(bytes, 0, bytes.length, sender);
}

function one(bytes: Buffer, sender = senderOf()): Side {
  const sides = http(bytes, sender);
  expect(sides).toHaveLength(1);
  return sides[0] as Side;
}

const ms = (value: number) => ({ seconds: Math.floor(value / 1000), nanos: (value % 1000) * 1e6 });

const API_PEER = structState({ name: "api-5f", namespace: "ns2", service: "api", workload: "api-v2" });
const API = { service: "api.ns2", namespace: "ns2", workload: "api-v2", instance: "api-5f.ns2", analyzer: "mx-mesh" };
const FLAT_API = bytesState(
  encodeFlatNode({ name: "api-5f", namespace: "ns2", workloadName: "api-v2", labels: { [CANONICAL_NAME]: "api" } }),
);

describe("the line as it is documented", () => {
  it("of a sidecar's call", () => {
    const entry = httpEntry({
      timeToFirstUpstreamTxByte: ms(2),
      timeToFirstUpstreamRxByte: ms(30),
      timeToLastUpstreamRxByte: ms(32),
      timeToFirstDownstreamTxByte: ms(31),
      timeToLastDownstreamTxByte: ms(40),
      filterStateObjects: { upstream_peer: API_PEER },
    });
    expect(http(entry)).toEqual([
      {
        time: "2026-01-01T00:00:00.123Z",
        proxy: "sidecar~10.0.0.1~web-7d.ns1~ns1.svc.cluster.local",
        role: "sidecar",
        detectPoint: "client",
        source: WEB,
        destination: API,
        endpoint: "GET:/reviews/{id}",
        protocol: "http",
        tls: null,
        code: 200,
        grpcStatus: null,
        flags: [],
        startMs: START_MS + 2,
        latencyMs: 30,
        success: true,
        requestBytes: 10,
        responseBytes: 12,
        internalRequestLatencyNs: 2e6,
        internalResponseLatencyNs: 1e6,
      },
    ]);
  });
});

describe("role and sides", () => {
  it.each([
    ["sidecar~1~a.b~b", "outbound", "sidecar", ["client"]],
    ["sidecar~1~a.b~b", "inbound", "sidecar", ["server"]],
    ["router~1~a.b~b", "gateway", "router", ["server", "client"]],
    ["waypoint~1~a.b~b", "log", "waypoint", ["server", "client"]],
    ["ingress~1~a.b~b", "gateway", "router", ["server", "client"]],
    ["Sidecar~1~a.b~b", "outbound", "none", ["client"]],
    ["none~1", "outbound", "none", ["client"]],
    ["my-envoy", "outbound", "none", ["client"]],
  ])("%s, log %s: %s", (nodeId, logName, role, points) => {
    const sides = http(httpEntry(), senderOf(nodeId, logName));
    expect(sides.map(({ detectPoint }) => detectPoint)).toEqual(points);
    for (const side of sides) expect([side.role, side.proxy]).toEqual([role, nodeId]);
  });

  it.each([
    ["router~1~a.b~b", 404, { noRouteFound: true }, ["server"]],
    ["waypoint~1~a.b~b", 301, {}, ["server"]],
  ])("%s that answers by itself, %i, is not seen to call", (nodeId, code, responseFlags, points) => {
    const entry = httpEntry(
      { upstreamCluster: "", upstreamRemoteAddress: undefined, responseFlags },
      {},
      { responseCode: { value: code } },
    );
    expect(http(entry, senderOf(nodeId)).map(({ detectPoint }) => detectPoint)).toEqual(points);
  });
});

describe("who called whom", () => {
  const LABELS = {
    source_canonical_service: "s",
    source_workload: "s-v1",
    source_workload_namespace: "sns",
    destination_canonical_service: "d",
    destination_workload: "d-v1",
    destination_workload_namespace: "dns",
    destination_service_name: "d.host",
  };
  const S = { service: "s.sns", namespace: "sns", workload: "s-v1", instance: null, analyzer: "mx-mesh" };
  const D = { service: "d.dns", namespace: "dns", workload: "d-v1", instance: null, analyzer: "mx-mesh" };
  const observed = (labels: Record<string, string>, states: Fields = {}) => {
    const observation = encodeObservation({
      startMs: 1,
      durationMs: 5,
      requestBytes: 1,
      responseBytes: 1,
      labels: values({ ...LABELS, ...labels }),
    });
    return httpEntry({ filterStateObjects: { [OBSERVATION]: bytesState(observation), ...states } });
  };

  it("a sidecar's observation says both ends; itself it knows from its node", () => {
    expect(one(observed({ reporter: "source" }))).toMatchObject({ detectPoint: "client", source: WEB, destination: D });
    const server = one(observed({ reporter: "destination" }));
    expect(server).toMatchObject({ detectPoint: "server", source: S, destination: WEB });
  });

  it.each([
    ["source", "source", S],
    ["destination", "destination", D],
  ] as const)(
    "of a proxy whose node says nothing, the observation by the %s says who it is",
    (reporter, end, names) => {
      const sender = identifySender({ nodeId: "e", logName: "", metadata: { texts: new Map(), labels: new Map() } });
      expect(one(observed({ reporter }), sender)[end]).toEqual(names);
    },
  );

  it("what metadata says counts more than what was counted by it: a configuration may have changed labels", () => {
    expect(one(observed({ reporter: "source" }, { upstream_peer: API_PEER })).destination).toEqual(API);
  });

  it("but a certificate counts more than metadata", () => {
    const destination_principal = "spiffe://td/ns/certified/sa/api";
    const side = one(observed({ reporter: "source", destination_principal }, { upstream_peer: API_PEER }));
    expect(side.destination).toEqual({
      ...API,
      service: "api.certified",
      namespace: "certified",
      instance: "api-5f.certified",
    });
  });

  it("a gateway's has its caller from the filter state, where there is one", () => {
    const sender = senderOf("router~1~gw-1.ns1~x");
    const self = { ...WEB, instance: "gw-1.ns1" };
    const [server, client] = http(observed({ reporter: "source" }, { "wasm.downstream_peer": FLAT_API }), sender);
    expect([server?.source, server?.destination]).toEqual([API, self]);
    expect([client?.source, client?.destination]).toEqual([self, D]);
    expect(http(observed({ reporter: "source" }), sender)[0]?.source).toEqual({
      ...NOBODY,
      reason: "peer_outside_mesh",
    });
  });

  it("a gateway's that reports what comes in says nothing of whom it called, not by its own name either", () => {
    const [server, client] = http(observed({ reporter: "destination" }), senderOf("router~1~gw-1.ns1~x", "inbound"));
    const self = { ...WEB, instance: "gw-1.ns1" };
    expect([server?.source, server?.destination]).toEqual([S, self]);
    expect(client?.destination).toMatchObject({ service: "api.ns2", analyzer: "address" }); // as the cluster says
  });

  it("a waypoint's names both peers; itself it knows from its node", () => {
    const [server, client] = http(observed({ reporter: "waypoint" }), senderOf("waypoint~1~wp-1.ns1~x"));
    const self = { ...WEB, instance: "wp-1.ns1" };
    expect([server?.source, server?.destination]).toEqual([S, self]);
    expect([client?.source, client?.destination]).toEqual([self, D]);
  });

  it("a reporter that a configuration overrode is told by the entry", () => {
    expect(one(observed({ reporter: "mine" }), senderOf(undefined, "inbound")).detectPoint).toBe("server");
    expect(one(observed({ reporter: "" }), senderOf(undefined, "outbound")).detectPoint).toBe("client");
  });

  it("label sets that differ by metric: that of the requests counts", () => {
    const numbers = { startMs: 1, durationMs: 5, requestBytes: 1, responseBytes: 1 };
    const observation = encodeSplitObservation(numbers, [
      { metrics: [HttpMetric.Duration, HttpMetric.RequestBytes, HttpMetric.ResponseBytes], labels: values() },
      { metrics: [HttpMetric.Requests], labels: values({ ...LABELS, reporter: "source" }) },
    ]);
    const entry = httpEntry({ filterStateObjects: { [OBSERVATION]: bytesState(observation) } });
    expect(one(entry).destination).toMatchObject(D);
  });

  it.each([
    ["a Struct", { upstream_peer: API_PEER }],
    ["a FlatNode", { "wasm.upstream_peer": FLAT_API }],
  ])("without an observation the peer is who its metadata says: %s", (_, filterStateObjects) => {
    expect(one(httpEntry({ filterStateObjects }))).toMatchObject({ source: WEB, destination: API });
  });
});

describe("success", () => {
  const GRPC = { requestHeaders: { "content-type": "application/grpc" } };
  it.each<[string, string, number, Fields, Fields, Fields, Partial<Side>]>([
    ["200", "outbound", 200, {}, {}, {}, { success: true, flags: [] }],
    ["a caller's fault, by the server", "inbound", 404, {}, {}, {}, { success: true }],
    ["a caller's fault, by the caller", "outbound", 404, {}, {}, {}, { success: false }],
    ["5xx, by the server", "inbound", 500, {}, {}, {}, { success: false }],
    ["499, by the server", "inbound", 499, {}, {}, {}, { success: true }],
    ["399, by the caller", "outbound", 399, {}, {}, {}, { success: true }],
    ["no answer", "inbound", 0, {}, {}, {}, { success: false, code: null }],
    [
      "no answer, the caller left",
      "inbound",
      0,
      { downstreamConnectionTermination: true },
      {},
      {},
      { success: false, code: null, flags: ["DC"] },
    ],
    ["an answer that broke off", "inbound", 200, { upstreamConnectionTermination: true }, {}, {}, { success: false }],
    ["a caller that left in the middle", "inbound", 200, { downstreamRemoteReset: true }, {}, {}, { success: false }],
    ["a delay was injected", "outbound", 200, { delayInjected: true }, {}, {}, { success: true, flags: ["DI"] }],
    ["from a cache", "outbound", 200, { responseFromCacheFilter: true }, {}, {}, { success: true }],
    ["limited, by the server", "inbound", 429, { rateLimited: true }, {}, {}, { success: true, flags: ["RL"] }],
    ["limited, by the caller", "outbound", 429, { rateLimited: true }, {}, {}, { success: false }],
    ["limited, without a code", "inbound", 0, { rateLimited: true }, {}, {}, { success: false }],
    ["refused", "inbound", 403, { unauthorizedDetails: {} }, {}, {}, { success: true, flags: ["UAEX"] }],
    [
      "not reached",
      "outbound",
      503,
      { upstreamConnectionFailure: true, upstreamRetryLimitExceeded: true },
      {},
      {},
      { success: false, flags: ["UF", "URX"] },
    ],
    [
      "gRPC, OK",
      "inbound",
      200,
      {},
      GRPC,
      { responseTrailers: { "grpc-status": "0" } },
      { success: true, grpcStatus: 0, protocol: "grpc" },
    ],
    [
      "gRPC, not OK",
      "inbound",
      200,
      {},
      GRPC,
      { responseTrailers: { "grpc-status": "5" } },
      { success: false, grpcStatus: 5 },
    ],
    [
      "gRPC, told in the headers",
      "outbound",
      200,
      {},
      GRPC,
      { responseHeaders: { "grpc-status": "14" } },
      { success: false, grpcStatus: 14 },
    ],
    ["gRPC, by an HTTP code", "outbound", 503, {}, GRPC, {}, { success: false, grpcStatus: 14 }],
    ["gRPC, status not logged", "outbound", 200, {}, GRPC, {}, { success: true, grpcStatus: null, protocol: "grpc" }],
    [
      "a grpc-status without gRPC is a header like any",
      "outbound",
      200,
      {},
      { requestHeaders: { "content-type": "text/html" } },
      { responseHeaders: { "grpc-status": "5" } },
      { success: true, grpcStatus: null, protocol: "http" },
    ],
  ])("%s (%s, %i)", (_, log, code, responseFlags, request, response, expected) => {
    const entry = httpEntry({ responseFlags }, request, { ...response, responseCode: { value: code } });
    expect(one(entry, senderOf(undefined, log))).toMatchObject({ code: code || null, ...expected });
  });
});

describe("what is configured per service", () => {
  const rules = {
    ...defaultRules(),
    policies: new SuccessPolicies([
      { name: "api", tolerance: [{ code: "5XX", direction: "inbound" }] },
      { name: "web", tolerance: [{ code: "40X", direction: "inbound" }] },
    ]),
    endpoints: new Endpoints({
      rules: [
        { service: "api", path: "/reviews/{reviewId}" },
        { service: "web", path: "/reviews/**", endpoint: "web reviews" },
      ],
      openapi: [],
    }),
  };
  const missing = httpEntry({ filterStateObjects: { upstream_peer: API_PEER } }, {}, { responseCode: { value: 404 } });
  const of = (log: string, nodeId?: string) =>
    new Analyser(Date.now, defaultIdentities(), rules).analyseHttp(missing, 0, missing.length, senderOf(nodeId, log));

  it("a caller's side goes by the policy and the endpoints of whom it called", () => {
    expect(of("outbound")).toMatchObject([{ success: true, endpoint: "GET:/reviews/{reviewId}" }]);
  });

  it("a server's side by its own", () => {
    expect(of("inbound")).toMatchObject([{ success: false, endpoint: "web reviews" }]);
  });

  it("a gateway's each by its own", () => {
    expect(of("gateway", "router~1~gw-1.ns1~x")).toMatchObject([
      { detectPoint: "server", success: false, endpoint: "web reviews" },
      { detectPoint: "client", success: true, endpoint: "GET:/reviews/{reviewId}" },
    ]);
  });
});

describe("times", () => {
  const seconds = (value: number, nanos = 0) => ({ seconds: value, nanos });
  const ALL = {
    timeToFirstUpstreamTxByte: seconds(1, 900_000_000),
    timeToFirstUpstreamRxByte: seconds(2, 800_000_000),
    timeToLastUpstreamRxByte: seconds(3, 100_900_000),
    timeToFirstDownstreamTxByte: seconds(3, 100_000_000),
    timeToLastDownstreamTxByte: seconds(4, 999_999),
  };
  it.each([
    [
      "the server's, across seconds",
      "inbound",
      ALL,
      { startMs: START_MS, latencyMs: 4000, internalRequestLatencyNs: 1.9e9, internalResponseLatencyNs: 0.3e9 },
    ],
    ["the client's", "outbound", ALL, { startMs: START_MS + 1900, latencyMs: 1200 }],
    [
      "nothing came back: until the caller's end",
      "outbound",
      { timeToFirstUpstreamTxByte: ms(10), duration: ms(1010) },
      { latencyMs: 1000, internalResponseLatencyNs: null },
    ],
    ["nothing was sent either", "outbound", { duration: ms(250) }, { startMs: START_MS, latencyMs: 250 }],
    ["an Envoy that tells only the duration", "inbound", { duration: ms(7) }, { latencyMs: 7 }],
    [
      "none is told",
      "outbound",
      {},
      { latencyMs: null, internalRequestLatencyNs: null, internalResponseLatencyNs: null },
    ],
    [
      "an end before its beginning",
      "outbound",
      {
        timeToFirstUpstreamTxByte: ms(9),
        timeToFirstUpstreamRxByte: ms(8),
        timeToLastUpstreamRxByte: ms(5),
        timeToFirstDownstreamTxByte: ms(3),
      },
      { latencyMs: 0, internalResponseLatencyNs: 0 },
    ],
    [
      "negative ones",
      "inbound",
      { timeToLastDownstreamTxByte: seconds(-1), timeToFirstUpstreamTxByte: { nanos: -5 } },
      { latencyMs: 0, internalRequestLatencyNs: 0 },
    ],
    ["no start", "outbound", { ...ALL, startTime: undefined }, { time: null, startMs: null, latencyMs: 1200 }],
    ["a start beyond all calendars", "inbound", { startTime: seconds(2 ** 50) }, { time: null }],
  ])("%s", (_, log, common, expected) => {
    expect(one(httpEntry(common), senderOf(undefined, log))).toMatchObject(expected);
  });
});

describe("endpoint", () => {
  it.each([
    ["a template without the query", { requestMethod: 1, path: "/a/7?b=8" }, "GET:/a/{id}"],
    ["another method", { requestMethod: 9, path: "/a" }, "PATCH:/a"],
    ["a method that Envoy has no number for", { requestMethod: 0, path: "/a" }, "METHOD_UNSPECIFIED:/a"],
    ["a method of a later Envoy", { requestMethod: 99, path: "/a" }, "METHOD_UNSPECIFIED:/a"],
    ["no path", { requestMethod: 6, path: "" }, null],
  ])("%s", (_, request, endpoint) => {
    expect(one(httpEntry({}, request)).endpoint).toBe(endpoint);
  });
});

describe("TLS", () => {
  const uri = { subjectAltName: [{ uri: "spiffe://a" }] };
  it.each([
    ["no TLS", undefined, "none"],
    ["empty properties", {}, "none"],
    ["our certificate has neither subject nor URI", { localCertificateProperties: { subjectAltName: [] } }, "none"],
    ["names of DNS do not count", { localCertificateProperties: { subjectAltName: [{ dns: "a" }] } }, "none"],
    ["a subject does", { localCertificateProperties: { subject: "CN=a" } }, "tls"],
    ["a URI does", { localCertificateProperties: uri }, "tls"],
    ["the version tells of TLS too", { tlsVersion: 4 }, "tls"],
    ["both ends", { localCertificateProperties: uri, peerCertificateProperties: { subject: "CN=b" } }, "mutual"],
    [
      "the peer's names of DNS",
      { localCertificateProperties: uri, peerCertificateProperties: { subjectAltName: [{ dns: "b" }] } },
      "tls",
    ],
    ["the peer's alone", { peerCertificateProperties: uri }, "none"],
  ])("of the server side: %s", (_, tlsProperties, mode) => {
    expect(one(httpEntry({ tlsProperties }), senderOf(undefined, "inbound")).tls).toBe(mode);
  });

  it.each([
    ["nothing is told", {}, null],
    ["the server's certificate", { upstream_peer_uri_san: "spiffe://b" }, "tls"],
    ["both", { upstream_peer_uri_san: "spiffe://b", upstream_local_uri_san: "spiffe://a" }, "mutual"],
  ])("of the client side: %s", (_, customTags, mode) => {
    expect(one(httpEntry({ customTags, tlsProperties: { localCertificateProperties: uri } })).tls).toBe(mode);
  });
});

describe("what is no end of a request has no sides", () => {
  it.each([
    ["a periodic entry", httpEntry({ accessLogType: 5 })],
    ["an upstream's", httpEntry({ accessLogType: 9 })],
    ["a stream without a request", encodeEntry({ commonProperties: { startTime: START } })],
    ["broken bytes", httpEntry().subarray(0, 40)],
    ["an empty entry", Buffer.alloc(0)],
  ])("%s", (_, bytes) => expect(http(bytes)).toEqual([]));
});

describe("TCP", () => {
  const OPENED_MS = START_MS;
  const tcpEntry = (accessLogType: number, received: number, sent: number, common: Fields = {}) =>
    encodeTcpEntry({
      commonProperties: {
        startTime: START,
        accessLogType,
        streamId: "s1",
        upstreamCluster: "outbound|6379||db.ns2.svc.cluster.local",
        upstreamRemoteAddress: { socketAddress: { address: "10.0.0.2", portValue: 6379 } },
        downstreamLocalAddress: { socketAddress: { address: "10.0.0.9", portValue: 6379 } },
        filterStateObjects: { upstream_peer: API_PEER },
        timeToFirstUpstreamTxByte: ms(1),
        timeToFirstUpstreamRxByte: ms(2),
        timeToLastDownstreamTxByte: ms(2002),
        duration: ms(3000),
        ...common,
      },
      connectionProperties: { receivedBytes: received, sentBytes: sent },
    });
  const follow = (analyser: Analyser, entries: readonly Buffer[], sender = senderOf()) =>
    entries.map((bytes) =>
      analyser.analyseTcp(bytes, 0, bytes.length, sender).map((side) => [side.requestBytes, side.responseBytes]),
    );

  it("has neither endpoint, code nor latency; its response's time is the last byte's", () => {
    const bytes = tcpEntry(3, 10, 20);
    expect(new Analyser(() => OPENED_MS).analyseTcp(bytes, 0, bytes.length, senderOf())).toEqual([
      expect.objectContaining({
        detectPoint: "client",
        source: WEB,
        destination: API,
        protocol: "tcp",
        endpoint: null,
        code: null,
        grpcStatus: null,
        latencyMs: null,
        success: true,
        startMs: START_MS + 1,
        requestBytes: 10,
        responseBytes: 20,
        internalRequestLatencyNs: 1e6,
        internalResponseLatencyNs: 2e9,
      }),
    ]);
  });

  it("says of each entry what it has more than the one before", () => {
    const entries = [tcpEntry(2, 10, 20), tcpEntry(2, 10, 25), tcpEntry(2, 9, 30), tcpEntry(3, 40, 31)];
    const bytes = [
      [10, 20],
      [0, 5],
      [0, 5], // 9 is an older word than 10
      [30, 1],
    ];
    expect(follow(new Analyser(() => OPENED_MS), entries)).toEqual(bytes.map((each) => [each]));
  });

  it("does not know what a connection had before it was first seen", () => {
    const analyser = new Analyser(() => OPENED_MS + 1);
    expect(follow(analyser, [tcpEntry(2, 10, 20), tcpEntry(3, 11, 22)])).toEqual([[[null, null]], [[1, 2]]]);
    expect(follow(analyser, [tcpEntry(3, 10, 20, { streamId: "" })])).toEqual([[[null, null]]]);
  });

  it("forgets connections whose entries it did not see", () => {
    let now = OPENED_MS;
    const analyser = new Analyser(() => now);
    expect(follow(analyser, [tcpEntry(2, 10, 20)])).toEqual([[[10, 20]]]);
    now++;
    analyser.restart();
    expect(follow(analyser, [tcpEntry(2, 15, 25)])).toEqual([[[null, null]]]);
  });

  it("of a gateway has two sides with the same bytes", () => {
    const sender = senderOf("router~1~gw.ns1~x");
    expect(follow(new Analyser(() => OPENED_MS), [tcpEntry(3, 1, 2)], sender)).toEqual([
      [
        [1, 2],
        [1, 2],
      ],
    ]);
  });

  it.each([
    ["no flag", {}, true],
    ["not reached", { upstreamConnectionFailure: true, upstreamRetryLimitExceeded: true }, false],
    ["refused by a rule", { unauthorizedDetails: {} }, false],
    ["a delay", { delayInjected: true }, true],
  ])("succeeds by its flags: %s", (_, responseFlags, success) => {
    const bytes = tcpEntry(3, 0, 0, { responseFlags });
    const [side] = new Analyser().analyseTcp(bytes, 0, bytes.length, senderOf());
    expect(side?.success).toBe(success);
  });

  const observed = values({ reporter: "destination", source_workload: "s-v1", destination_workload: "d-v1" });
  const closed = { startMs: 1, connectionId: 1, isClosed: true };

  it("an observation says who it was, and how many bytes it had but for what proxies exchanged", () => {
    const parts = [{ sentBytes: 12, receivedBytes: 3, labels: observed }];
    const observation = encodeTcpObservation({ ...closed, parts });
    const bytes = tcpEntry(3, 10, 20, { filterStateObjects: { [OBSERVATION]: bytesState(observation) } });
    expect(new Analyser(() => OPENED_MS).analyseTcp(bytes, 0, bytes.length, senderOf())).toEqual([
      expect.objectContaining({
        detectPoint: "server",
        source: expect.objectContaining({ workload: "s-v1", analyzer: "mx-mesh" }),
        destination: WEB,
        requestBytes: 3,
        responseBytes: 12,
      }),
    ]);
  });

  it("an observation that leaves out bytes says nothing of them", () => {
    const parts = [
      { sentBytes: 12, receivedBytes: 0, metrics: [TcpMetric.Opened, TcpMetric.SentBytes], labels: observed },
    ];
    const observation = encodeTcpObservation({ ...closed, parts, omitted: [TcpMetric.ReceivedBytes] });
    const filterStateObjects = { [OBSERVATION]: bytesState(observation) };
    expect(follow(new Analyser(() => OPENED_MS), [tcpEntry(3, 10, 20, { filterStateObjects })])).toEqual([[[10, 20]]]);
  });

  it("that only begins has no sides", () => {
    const bytes = tcpEntry(1, 0, 0);
    expect(new Analyser().analyseTcp(bytes, 0, bytes.length, senderOf())).toEqual([]);
  });
});

test.each([
  ["outbound-200", "client", 200, [], true, null],
  ["inbound-200", "server", 200, [], true, null],
  ["outbound-direct-response", "client", 418, [], false, null],
  ["outbound-no-cluster", "client", 503, ["NC"], false, null],
  ["outbound-connection-refused", "client", 503, ["UF", "URX"], false, null],
  ["outbound-timeout", "client", 504, ["UT"], false, null],
  ["inbound-caller-gone", "server", null, ["DC"], false, null],
  ["inbound-connection-lost", "server", 503, ["UC"], false, null],
  ["outbound-grpc-status-5", "client", 200, [], false, 5],
  ["outbound-grpc-without-status", "client", 200, [], false, 2],
  ["outbound-dropped", "client", 503, ["UDO"], false, null],
  ["outbound-reset-by-caller", "client", null, ["DR"], false, null],
])("an entry of a real Envoy: %s", (name, detectPoint, code, flags, success, grpcStatus) => {
  const bytes = readFileSync(join(import.meta.dirname, "../fixtures/envoy-als", `${name}.bin`));
  const side = one(bytes, senderOf(undefined, name));
  expect(side).toMatchObject({ detectPoint, code, flags, success, grpcStatus });
  expect(side.time).toMatch(/^20\d\d-/);
  expect(side.endpoint).toMatch(/^[A-Z]+:\//);
  expect(side.latencyMs).toBeGreaterThanOrEqual(0);
  if (detectPoint === "server") expect(side.tls).toBe("mutual");
});

test("random entries, whole and broken, are analysed without a throw, and no number of theirs is below 0", () => {
  const draw = random(20_261_121);
  const analyser = new Analyser();
  let lines = 0;
  for (let i = 0; i < 3000; i++) {
    const bytes = encodeMessage(randomMessage(draw));
    const isBroken = draw() < 0.3;
    if (isBroken) bytes[Math.floor(draw() * bytes.length)] = Math.floor(draw() * 256);
    const message = decodeAlsMessage(bytes);
    if (message === null) continue;
    const sender = message.identifier === null ? senderOf() : identifySender(message.identifier);
    const analysed = (entries: readonly number[], isTcp: boolean) => {
      for (let at = 0; at < entries.length; at += 2) {
        const [start, stop] = [entries[at] as number, entries[at + 1] as number];
        const sides = isTcp
          ? analyser.analyseTcp(bytes, start, stop, sender)
          : analyser.analyseHttp(bytes, start, stop, sender);
        lines += sides.length;
        for (const side of sides) {
          for (const value of [side.latencyMs, side.internalRequestLatencyNs, side.internalResponseLatencyNs]) {
            expect(value ?? 0).toBeGreaterThanOrEqual(0);
          }
          expect(JSON.parse(JSON.stringify(side))).toEqual(side);
        }
      }
    };
    analysed(message.httpEntries, false);
    analysed(message.tcpEntries, true);
  }
  expect(lines).toBeGreaterThan(2000);
});
