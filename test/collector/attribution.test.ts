import { describe, expect, test } from "vitest";
import { decodeAlsMessage } from "../../collector/proto/als.ts";
import { HttpEntry, TcpEntry } from "../../collector/proto/als-entry.ts";
import { Attribution, identifySender, type Sender } from "../../collector/resolver/attribution.ts";
import { unpackLabels } from "../../collector/series/key.ts";
import { LABELS } from "../../collector/vocabulary.ts";
import {
  bytesState,
  encodeEntry,
  encodeMessage,
  encodeTcpEntry,
  type Fields,
  structFields,
  structState,
} from "../fixtures/als.ts";
import { randomEntry, randomIdentifier } from "../fixtures/als-random.ts";
import { encodeFlatNode } from "../fixtures/flat-node.ts";
import { random } from "../property/random.ts";

const REVIEWS = {
  NAME: "reviews-v1-abc",
  NAMESPACE: "default",
  WORKLOAD_NAME: "reviews-v1",
  CLUSTER_ID: "Kubernetes",
  LABELS: {
    app: "reviews",
    version: "v1",
    "app.kubernetes.io/name": "not-this",
    "service.istio.io/canonical-name": "reviews",
    "service.istio.io/canonical-revision": "v1",
  },
};
const PRODUCTPAGE_ID = "spiffe://cluster.local/ns/front/sa/productpage";
const REVIEWS_ID = "spiffe://cluster.local/ns/default/sa/reviews";
const RATINGS_ID = "spiffe://cluster.local/ns/back/sa/ratings";

function identify(metadata: Fields, logName: string, id = "sidecar~10.0.0.1~a.b~b.svc.cluster.local"): Sender {
  const bytes = encodeMessage({ identifier: { node: { id, metadata: structFields(metadata) }, logName } });
  const identifier = decodeAlsMessage(bytes)?.identifier;
  if (!identifier) throw new Error("the test's own identifier is broken");
  return identifySender(identifier);
}

const INBOUND = identify(REVIEWS, "inbound");
const OUTBOUND = identify(REVIEWS, "outbound");

function resolve(fields: Fields, sender: Sender, attribution = new Attribution()): string {
  const bytes = encodeEntry(fields);
  const entry = new HttpEntry();
  if (!entry.read(bytes, 0, bytes.length)) throw new Error("the test's own entry is broken");
  return attribution.resolve(bytes, entry, sender);
}

function labelsOf(fields: Fields, sender: Sender): Record<string, string> {
  const values = unpackLabels(resolve(fields, sender)) ?? [];
  return Object.fromEntries(LABELS.map((label, i) => [label, values[i] as string]));
}

function tls(peer: string, local: string): Fields {
  return {
    peerCertificateProperties: { subjectAltName: peer === "" ? [] : [{ uri: peer }] },
    localCertificateProperties: { subjectAltName: local === "" ? [] : [{ uri: local }] },
  };
}

const PRODUCTPAGE = encodeFlatNode({
  namespace: "front",
  workloadName: "productpage-v1",
  clusterId: "west",
  labels: {
    app: "short",
    "app.kubernetes.io/name": "productpage",
    "app.kubernetes.io/version": "2.0",
    "service.istio.io/canonical-name": "productpage",
    "service.istio.io/canonical-revision": "v2",
  },
});

test("a server's report has all 25 labels as Istio has them", () => {
  const fields = {
    commonProperties: {
      tlsProperties: tls(PRODUCTPAGE_ID, REVIEWS_ID),
      upstreamCluster: "inbound|9080||",
      filterStateObjects: { "wasm.downstream_peer": bytesState(PRODUCTPAGE) },
    },
    request: { authority: "reviews:9080", requestHeaders: { "content-type": "application/grpc" } },
    response: { responseCode: { value: 200 }, responseTrailers: { "grpc-status": "5" } },
  };
  expect(labelsOf(fields, INBOUND)).toEqual({
    reporter: "destination",
    source_workload: "productpage-v1",
    source_canonical_service: "productpage",
    source_canonical_revision: "v2",
    source_workload_namespace: "front",
    source_principal: PRODUCTPAGE_ID,
    source_app: "productpage",
    source_version: "2.0",
    source_cluster: "west",
    destination_workload: "reviews-v1",
    destination_workload_namespace: "default",
    destination_principal: REVIEWS_ID,
    destination_app: "reviews",
    destination_version: "v1",
    destination_service: "reviews",
    destination_canonical_service: "reviews",
    destination_canonical_revision: "v1",
    destination_service_name: "reviews",
    destination_service_namespace: "default",
    destination_cluster: "Kubernetes",
    request_protocol: "grpc",
    response_code: "200",
    grpc_response_status: "5",
    response_flags: "-",
    connection_security_policy: "mutual_tls",
  });
});

test("a client's report has all 25 labels as Istio has them", () => {
  const fields = {
    commonProperties: {
      upstreamCluster: "outbound|9080||ratings.back.svc.cluster.local",
      routeName: "default",
      responseFlags: { upstreamRequestTimeout: true },
      filterStateObjects: {
        upstream_peer: structState({
          workload: "ratings-v1",
          namespace: "elsewhere",
          service: "ratings",
          revision: "v1",
          app: "ratings",
          version: "v1",
          cluster: "east",
          labels: { role: "x" },
        }),
      },
      customTags: {
        upstream_peer_uri_san: RATINGS_ID,
        upstream_local_uri_san: REVIEWS_ID,
        destination_service_host: "ratings.back.svc.cluster.local",
        destination_service_name: "ratings",
        destination_service_namespace: "back",
      },
    },
    request: { authority: "ratings:9080" },
    response: { responseCode: { value: 504 } },
  };
  expect(labelsOf(fields, OUTBOUND)).toEqual({
    reporter: "source",
    source_workload: "reviews-v1",
    source_canonical_service: "reviews",
    source_canonical_revision: "v1",
    source_workload_namespace: "default",
    source_principal: REVIEWS_ID,
    source_app: "reviews",
    source_version: "v1",
    source_cluster: "Kubernetes",
    destination_workload: "ratings-v1",
    destination_workload_namespace: "back",
    destination_principal: RATINGS_ID,
    destination_app: "ratings",
    destination_version: "v1",
    destination_service: "ratings.back.svc.cluster.local",
    destination_canonical_service: "ratings",
    destination_canonical_revision: "v1",
    destination_service_name: "ratings",
    destination_service_namespace: "back",
    destination_cluster: "east",
    request_protocol: "http",
    response_code: "504",
    grpc_response_status: "",
    response_flags: "UT",
    connection_security_policy: "unknown",
  });
});

function tcpLabelsOf(commonProperties: Fields, sender: Sender): Record<string, string> {
  const bytes = encodeTcpEntry({ commonProperties });
  const entry = new TcpEntry();
  if (!entry.read(bytes, 0, bytes.length)) throw new Error("the test's own entry is broken");
  const values = unpackLabels(new Attribution().resolveTcp(bytes, entry, sender)) ?? [];
  return Object.fromEntries(LABELS.map((label, i) => [label, values[i] as string]));
}

describe("a TCP connection's report", () => {
  const LOCAL = { socketAddress: { address: "10.0.0.7", portValue: 5432 } };
  const LOCAL_6 = { socketAddress: { address: "fd00::7", portValue: 1 } };
  const GATEWAY = identify(REVIEWS, "outbound", "router~10.0.0.1~a.b~b.svc.cluster.local");

  test("of a server has the labels that a request's has, and none that says how a request ended", () => {
    const commonProperties = {
      upstreamCluster: "inbound|5432||",
      downstreamLocalAddress: LOCAL,
      tlsProperties: { ...tls(PRODUCTPAGE_ID, REVIEWS_ID), tlsSniHostname: "outbound_.5432_._.db" },
      filterStateObjects: { "wasm.downstream_peer": bytesState(PRODUCTPAGE) },
    };
    const labels = tcpLabelsOf(commonProperties, INBOUND);
    expect(labels).toEqual({
      ...labelsOf({ commonProperties }, INBOUND),
      request_protocol: "tcp",
      response_code: "",
      grpc_response_status: "",
    });
    expect(labels).toMatchObject({
      reporter: "destination",
      source_workload: "productpage-v1",
      destination_service: "reviews",
      connection_security_policy: "mutual_tls",
    });
  });

  test.each<[string, Fields, Sender, string, string]>([
    ["the server name", { tlsProperties: { tlsSniHostname: "db.a" } }, OUTBOUND, "db.a", "db.a"],
    ["else the address", { downstreamLocalAddress: LOCAL }, OUTBOUND, "10.0.0.7:5432", "10.0.0.7:5432"],
    ["an address of version 6", { downstreamLocalAddress: LOCAL_6 }, OUTBOUND, "[fd00::7]:1", "[fd00::7]:1"],
    [
      "a catch-all cluster's name",
      { downstreamLocalAddress: LOCAL, upstreamCluster: "PassthroughCluster" },
      OUTBOUND,
      "10.0.0.7:5432",
      "PassthroughCluster",
    ],
    [
      "the cluster's service",
      { downstreamLocalAddress: LOCAL, customTags: { destination_service_host: "db.back.svc" } },
      OUTBOUND,
      "db.back.svc",
      "db",
    ],
    ["no name at a gateway, whose callers choose", { downstreamLocalAddress: LOCAL }, GATEWAY, "unknown", "unknown"],
    ["the server's own name", { downstreamLocalAddress: LOCAL }, INBOUND, "reviews", "reviews"],
  ])("calls the destination by %s", (_name, common, sender, host, name) => {
    const labels = tcpLabelsOf(common, sender);
    expect([labels["destination_service"], labels["destination_service_name"]]).toEqual([host, name]);
  });

  test.each<[string, Fields, string]>([
    ["never reached its upstream", { upstreamConnectionFailure: true, upstreamRetryLimitExceeded: true }, "UF,URX"],
    ["found none", { noHealthyUpstream: true }, "UH"],
    ["ended for being idle, which it was not when it was reported", { streamIdleTimeout: true }, "-"],
    ["has none", {}, "-"],
  ])("shows the flags of one that %s", (_name, responseFlags, flags) => {
    expect(tcpLabelsOf({ responseFlags }, OUTBOUND)["response_flags"]).toBe(flags);
  });
});

describe("direction", () => {
  test.each([
    ["the log's name says inbound", "als_inbound", "outbound|80||a", "destination"],
    ["the log's name says outbound", "outbound-log", "inbound|80||", "source"],
    ["the name says nothing, the cluster is an inbound one", "als", "inbound|80||", "destination"],
    ["the name says both, the cluster is an inbound one", "inbound_outbound", "inbound|80||", "destination"],
    ["the cluster is the inbound catch-all", "als", "InboundPassthroughClusterIpv4", "destination"],
    ["the cluster is an outbound one", "als", "outbound|80||a", "source"],
    ["nothing says it", "als", "", "source"],
  ])("%s", (_name, logName, upstreamCluster, reporter) => {
    const sender = identify(REVIEWS, logName);
    expect(labelsOf({ commonProperties: { upstreamCluster } }, sender)["reporter"]).toBe(reporter);
  });
});

describe("the own side", () => {
  test("is node metadata as it is, and empty where that says nothing", () => {
    expect(labelsOf({}, identify({}, "outbound"))).toMatchObject({
      source_workload: "",
      source_canonical_service: "",
      source_canonical_revision: "",
      source_workload_namespace: "",
      source_app: "",
      source_version: "",
      source_cluster: "",
      source_principal: "unknown",
    });
  });

  test("stands in, on a server, for a service that nothing names: even when it is empty itself", () => {
    expect(labelsOf({}, identify({}, "inbound"))).toMatchObject({
      destination_service: "",
      destination_service_name: "",
      destination_service_namespace: "",
    });
  });
});

describe("the peer's side", () => {
  test("that nobody describes is unknown, its revision latest", () => {
    expect(labelsOf({}, INBOUND)).toMatchObject({
      source_workload: "unknown",
      source_canonical_service: "unknown",
      source_canonical_revision: "latest",
      source_workload_namespace: "unknown",
      source_principal: "unknown",
      source_app: "unknown",
      source_version: "unknown",
      source_cluster: "unknown",
    });
    expect(labelsOf({}, OUTBOUND)).toMatchObject({
      destination_workload: "unknown",
      destination_canonical_revision: "latest",
      destination_service: "unknown",
      destination_service_name: "unknown",
      destination_service_namespace: "unknown",
    });
  });

  test("is read from the metadata exchange's Struct in its own spelling too", () => {
    const state = structState({ ...REVIEWS, IDENTITY: RATINGS_ID });
    expect(
      labelsOf({ commonProperties: { filterStateObjects: { "wasm.upstream_peer": state } } }, OUTBOUND),
    ).toMatchObject({
      destination_workload: "reviews-v1",
      destination_workload_namespace: "default",
      destination_canonical_service: "reviews",
      destination_canonical_revision: "v1",
      destination_app: "not-this",
      destination_version: "v1",
      destination_cluster: "Kubernetes",
      destination_principal: RATINGS_ID,
    });
  });

  test("comes from the wasm state first, from Istio's when that is unreadable, and never from the other end's", () => {
    const istio = structState({ workload: "from-istio" });
    const source = (states: Fields) =>
      labelsOf({ commonProperties: { filterStateObjects: states } }, INBOUND)["source_workload"];
    expect(source({ "wasm.downstream_peer": bytesState(PRODUCTPAGE), downstream_peer: istio })).toBe("productpage-v1");
    expect(source({ "wasm.downstream_peer": bytesState(Buffer.from("?")), downstream_peer: istio })).toBe("from-istio");
    expect(source({ "wasm.upstream_peer": bytesState(PRODUCTPAGE), upstream_peer: istio })).toBe("unknown");
  });

  test("takes its namespace from its SPIFFE id first", () => {
    const namespace = (uri: string) =>
      labelsOf(
        {
          commonProperties: {
            tlsProperties: tls(uri, REVIEWS_ID),
            filterStateObjects: { "wasm.downstream_peer": bytesState(PRODUCTPAGE) },
          },
        },
        INBOUND,
      )["source_workload_namespace"];
    expect(namespace("spiffe://td/ns/other/sa/a")).toBe("other");
    expect(namespace("spiffe://td/ns/other")).toBe("front");
    expect(namespace("spiffe://td/workload")).toBe("front");
    expect(namespace("spiffe://td/ns//sa/a")).toBe("front");
    expect(namespace("")).toBe("front");
  });

  test("with mTLS and no exchange still has a namespace", () => {
    const fields = { commonProperties: { tlsProperties: tls(PRODUCTPAGE_ID, REVIEWS_ID) } };
    expect(labelsOf(fields, INBOUND)).toMatchObject({ source_workload: "unknown", source_workload_namespace: "front" });
  });

  test("is for a client, without an exchange, what the endpoint's metadata says", () => {
    const upstream = (tag: string) =>
      labelsOf({ commonProperties: { customTags: { upstream_workload: tag } } }, OUTBOUND);
    expect(upstream("ratings-v1;back;ratings;;east")).toMatchObject({
      destination_workload: "ratings-v1",
      destination_workload_namespace: "back",
      destination_canonical_service: "ratings",
      destination_canonical_revision: "latest",
      destination_cluster: "east",
      destination_app: "unknown",
      destination_service_namespace: "back",
    });
    expect(upstream("ratings-v1;back;ratings;v1")).toMatchObject({ destination_workload: "unknown" });
    const inbound = labelsOf({ commonProperties: { customTags: { upstream_workload: "a;b;c;d;e" } } }, INBOUND);
    expect(inbound["source_workload"]).toBe("unknown");
  });
});

describe("principals", () => {
  test("of several upstream URI SANs the first counts", () => {
    const fields = { commonProperties: { customTags: { upstream_peer_uri_san: `${RATINGS_ID},spiffe://other/x` } } };
    expect(labelsOf(fields, OUTBOUND)["destination_principal"]).toBe(RATINGS_ID);
  });

  test("a client does not take its server's identity from the downstream connection", () => {
    const fields = { commonProperties: { tlsProperties: tls(PRODUCTPAGE_ID, REVIEWS_ID) } };
    expect(labelsOf(fields, OUTBOUND)).toMatchObject({
      source_principal: "unknown",
      destination_principal: "unknown",
      connection_security_policy: "unknown",
    });
  });

  test.each([
    [PRODUCTPAGE_ID, REVIEWS_ID, "mutual_tls"],
    [PRODUCTPAGE_ID, "", "none"],
    ["", REVIEWS_ID, "none"],
    ["", "", "none"],
  ])("a server's connection with peer %s and local %s is %s", (peer, local, policy) => {
    const fields = { commonProperties: { tlsProperties: tls(peer, local) } };
    expect(labelsOf(fields, INBOUND)["connection_security_policy"]).toBe(policy);
  });
});

describe("the destination service", () => {
  const TAGS = {
    destination_service_host: "b.ns.svc",
    destination_service_name: "b",
    destination_service_namespace: "ns",
  };

  test.each([
    ["the authority without anything better", {}, ["b:80", "b:80", "unknown"]],
    ["the cluster's service", { customTags: TAGS }, ["b.ns.svc", "b", "ns"]],
    [
      "the host's first part, without a name",
      { customTags: { ...TAGS, destination_service_name: "" } },
      ["b.ns.svc", "b", "ns"],
    ],
    [
      "the authority, with a namespace alone",
      { customTags: { destination_service_namespace: "ns" } },
      ["b:80", "b:80", "ns"],
    ],
    ["not the cluster's name", { upstreamCluster: "outbound|80||x.y" }, ["b:80", "b:80", "unknown"]],
    ["the black hole, by route", { routeName: "block_all", customTags: TAGS }, ["b:80", "BlackHoleCluster", "unknown"]],
    ["the pass-through, by route", { routeName: "allow_any" }, ["b:80", "PassthroughCluster", "unknown"]],
    [
      "the catch-all cluster",
      { upstreamCluster: "PassthroughCluster", customTags: TAGS },
      ["b:80", "PassthroughCluster", "unknown"],
    ],
  ])("is for a client %s", (_name, commonProperties, expected) => {
    const labels = labelsOf({ commonProperties, request: { authority: "b:80" } }, OUTBOUND);
    expect([
      labels["destination_service"],
      labels["destination_service_name"],
      labels["destination_service_namespace"],
    ]).toEqual(expected);
  });

  test("is never the authority for a server or a gateway: outsiders choose it", () => {
    const fields = { request: { authority: "scanner.example" } };
    expect(labelsOf(fields, INBOUND)["destination_service"]).toBe("reviews");
    expect(labelsOf(fields, identify(REVIEWS, "als", "router~10.0.0.1~a.b~b"))).toMatchObject({
      destination_service: "unknown",
      destination_service_name: "unknown",
    });
  });

  test("of a server is the cluster's, in the server's own namespace", () => {
    expect(labelsOf({ commonProperties: { customTags: TAGS } }, INBOUND)).toMatchObject({
      destination_service: "b.ns.svc",
      destination_service_name: "b",
      destination_service_namespace: "default",
    });
  });
});

describe("protocol and status", () => {
  test.each([
    ["application/grpc", "grpc"],
    ["application/grpc+json", "grpc"],
    ["application/grpc-web", "http"],
    ["application/grpcx", "http"],
    ["text/html", "http"],
    ["", "http"],
  ])("content type %j is %s", (contentType, protocol) => {
    const fields = { request: { requestHeaders: { "content-type": contentType } } };
    expect(labelsOf(fields, INBOUND)["request_protocol"]).toBe(protocol);
  });

  test.each([
    ["the trailers'", { responseTrailers: { "grpc-status": "5" }, responseHeaders: { "grpc-status": "3" } }, "5"],
    ["the headers'", { responseHeaders: { "grpc-status": "3" } }, "3"],
    ["decimal without leading zeros", { responseHeaders: { "grpc-status": "07" } }, "7"],
    ["none when it is no number", { responseHeaders: { "grpc-status": "x" } }, ""],
    ["none when it is out of range", { responseHeaders: { "grpc-status": "17" } }, ""],
    ["derived from an HTTP error", { responseCode: { value: 503 } }, "14"],
    ["unknown for any other HTTP error", { responseCode: { value: 418 } }, "2"],
    ["none for a 200 of which it is not logged", { responseCode: { value: 200 } }, ""],
    ["none without a response", {}, ""],
  ])("a gRPC status is %s", (_name, response, status) => {
    const request = { requestHeaders: { "content-type": "application/grpc" } };
    expect(labelsOf({ request, response }, INBOUND)["grpc_response_status"]).toBe(status);
    expect(labelsOf({ response }, INBOUND)["grpc_response_status"]).toBe("");
  });

  test("without a response the code is 0", () => {
    expect(labelsOf({}, INBOUND)["response_code"]).toBe("0");
  });
});

describe("response flags", () => {
  test.each([
    [{}, "-"],
    [{ failedLocalHealthcheck: true }, "LH"],
    [{ upstreamRetryLimitExceeded: true, upstreamConnectionFailure: true }, "UF,URX"],
    [{ unauthorizedDetails: {} }, "UAEX"],
    [{ dnsResolutionFailure: true }, "DF"],
    [{ downstreamRemoteReset: true }, "DR"],
  ])("%j read %s", (responseFlags, expected) => {
    expect(labelsOf({ commonProperties: { responseFlags } }, INBOUND)["response_flags"]).toBe(expected);
  });
});

test("values are clean: no separator of a stat name and no control character survives", () => {
  const labels = labelsOf({ request: { authority: "a;.;b\n." } }, OUTBOUND);
  expect(labels["destination_service"]).toBe("a;_;b_");
});

test("a warm attribution gives what a fresh one gives: the cache mixes up no two entries", () => {
  const draw = random(6);
  const warm = new Attribution();
  const senders = Array.from({ length: 8 }, () => {
    const bytes = encodeMessage({ identifier: randomIdentifier(draw) });
    const identifier = decodeAlsMessage(bytes)?.identifier;
    if (!identifier) throw new Error("the test's own identifier is broken");
    return identifySender(identifier);
  });
  for (let i = 0; i < 2000; i++) {
    const sender = senders[i % senders.length] as Sender;
    const fields = randomEntry(draw);
    expect(resolve(fields, sender, warm)).toBe(resolve(fields, sender));
  }
});

test("texts that together read the same, but are cut elsewhere, are different facts", () => {
  const warm = new Attribution();
  const service = (host: string, name: string) =>
    resolve(
      { commonProperties: { customTags: { destination_service_host: host, destination_service_name: name } } },
      OUTBOUND,
      warm,
    );
  expect(service("ab", "c")).not.toBe(service("a", "bc"));
});
