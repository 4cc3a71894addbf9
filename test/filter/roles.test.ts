// What depends on which end of a call the proxy is, beside a sidecar's two ends (labels.test.ts): a waypoint, a gateway, a client that
// says what it knows of encryption, and principals that Istio's authentication left.

import { describe, expect, test } from "vitest";
import {
  type Host,
  type HostOptions,
  PLAIN_REQUEST,
  PLAIN_RESPONSE,
  type StreamOptions,
  startFilter,
} from "../host/host.ts";
import {
  countedLabels,
  countedWith,
  exchangedMetadata,
  exchangeHeaderNames,
  exchangeHeaders,
  FROM_PRODUCTPAGE,
  faults,
  makeNode,
  observationOf,
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

type Labels = Readonly<Record<string, string>>;

const WAYPOINT_URI = "spiffe://cluster.local/ns/infra/sa/waypoint";
const WAYPOINT = makeNode("waypoint", "v9", "127.0.1.9");

/** A request from productpage to reviews, as the waypoint between them sees it. */
const THROUGH = {
  requestHeaders: FROM_PRODUCTPAGE.requestHeaders,
  responseHeaders: [
    ...PLAIN_RESPONSE,
    ...exchangeHeaders(REVIEWS, { ...exchangedMetadata(REVIEWS), IDENTITY: REVIEWS_URI }),
  ],
  routeName: "default",
  cluster: REVIEWS_CLUSTER,
  endpoint: {},
  downstreamTls: { peer: PRODUCTPAGE_URI, local: WAYPOINT_URI },
  upstreamTls: { peer: REVIEWS_URI, local: WAYPOINT_URI },
} as const;

function startWaypoint(configuration: JsonObject = {}, options: Partial<HostOptions> = {}): Host {
  return startFilter({
    node: WAYPOINT,
    direction: "inbound",
    configuration: { reporter: "SERVER_GATEWAY", ...configuration },
    ...options,
  });
}

function labelsOf(host: Host, options: StreamOptions): Labels {
  const stream = host.request(options);
  expect(observationOf(stream).labels).toEqual(countedLabels(host));
  return countedLabels(host);
}

function withoutTls<T extends StreamOptions>({ downstreamTls: _, ...rest }: T): Omit<T, "downstreamTls"> {
  return rest;
}

describe("a waypoint", () => {
  test("the whole label set: both ends by what they say of themselves, nothing of its own", () => {
    expect(labelsOf(startWaypoint(), THROUGH)).toEqual({
      reporter: "waypoint",
      source_workload: "productpage-v1",
      source_canonical_service: "productpage",
      source_canonical_revision: "v1",
      source_workload_namespace: "default",
      source_principal: PRODUCTPAGE_URI,
      source_app: "productpage",
      source_version: "v1",
      source_cluster: "Kubernetes",
      destination_workload: "reviews-v2",
      destination_workload_namespace: "default",
      destination_principal: REVIEWS_URI,
      destination_app: "reviews",
      destination_version: "v2",
      destination_service: "reviews.default.svc.cluster.local",
      destination_canonical_service: "reviews",
      destination_canonical_revision: "v2",
      destination_service_name: "reviews",
      destination_service_namespace: "default",
      destination_cluster: "Kubernetes",
      request_protocol: "http",
      response_code: "200",
      grpc_response_status: "",
      response_flags: "-",
      connection_security_policy: "mutual_tls",
    });
  });

  test.each(["inbound", "outbound", "unspecified"] as const)("on an %s listener", (direction) => {
    expect(labelsOf(startWaypoint({}, { direction }), THROUGH)).toMatchObject({
      reporter: "waypoint",
      source_workload: "productpage-v1",
      destination_workload: "reviews-v2",
    });
  });

  test("reporter UNSPECIFIED is no waypoint", () => {
    const host = startWaypoint({ reporter: "UNSPECIFIED" });
    expect(labelsOf(host, FROM_PRODUCTPAGE)).toMatchObject({
      reporter: "destination",
      destination_workload: "waypoint-v9",
    });
    expect(faults(host)).toEqual({});
  });

  test("without peers all of both ends is unknown, the source's revision latest, the destination's unknown", () => {
    const labels = labelsOf(startWaypoint(), {
      ...THROUGH,
      requestHeaders: PLAIN_REQUEST,
      responseHeaders: PLAIN_RESPONSE,
      downstreamTls: { peer: "", local: WAYPOINT_URI },
      upstreamTls: {},
    });
    expect(labels).toMatchObject({
      source_workload: "unknown",
      source_workload_namespace: "unknown",
      source_canonical_revision: "latest",
      source_principal: "unknown",
      destination_workload: "unknown",
      destination_workload_namespace: "unknown",
      destination_canonical_service: "unknown",
      destination_canonical_revision: "unknown",
      destination_app: "unknown",
      destination_version: "unknown",
      destination_cluster: "unknown",
    });
  });

  test("a destination that says nothing of its revision: unknown; a source: latest", () => {
    const { LABELS: _, ...said } = exchangedMetadata(PRODUCTPAGE);
    const requestHeaders = [...PLAIN_REQUEST, ...exchangeHeaders(PRODUCTPAGE, { ...said, LABELS: {} })];
    const responseHeaders = [...PLAIN_RESPONSE, ...exchangeHeaders(REVIEWS, { ...said, LABELS: {} })];
    expect(labelsOf(startWaypoint(), { ...THROUGH, requestHeaders, responseHeaders })).toMatchObject({
      source_canonical_revision: "latest",
      destination_canonical_revision: "unknown",
    });
  });

  test("the destination is the endpoint's metadata when no peer answered", () => {
    const endpoint = { metadata: { istio: { workload: "ratings-v7;books;ratings;v7;east" } } };
    const labels = labelsOf(startWaypoint(), {
      ...THROUGH,
      responseHeaders: PLAIN_RESPONSE,
      upstreamTls: {},
      endpoint,
    });
    expect(labels).toMatchObject({
      source_workload: "productpage-v1",
      destination_workload: "ratings-v7",
      destination_workload_namespace: "books",
      destination_canonical_service: "ratings",
      destination_canonical_revision: "v7",
      destination_cluster: "east",
      destination_app: "unknown",
      destination_version: "unknown",
    });
  });

  test("the endpoint's metadata without a revision, as istiod writes latest: unknown", () => {
    const endpoint = { metadata: { istio: { workload: "ratings-v7;books;ratings;;east" } } };
    const labels = labelsOf(startWaypoint(), {
      ...THROUGH,
      responseHeaders: PLAIN_RESPONSE,
      upstreamTls: {},
      endpoint,
    });
    expect(labels).toMatchObject({ destination_canonical_revision: "unknown", destination_workload: "ratings-v7" });
  });

  test.each<[string, StreamOptions, string]>([
    ["the cluster's", { cluster: { name: "c", metadata: { istio: { services: [{ namespace: "shop" }] } } } }, "shop"],
    ["unknown without it, whatever the destination's namespace", { cluster: { name: "c" } }, "unknown"],
  ])("the service's namespace is %s", (_, options, expected) => {
    expect(labelsOf(startWaypoint(), { ...THROUGH, ...options })).toMatchObject({
      destination_service_namespace: expected,
      destination_workload_namespace: "default",
    });
  });

  test.each<[string, JsonObject, Labels]>([
    ["by the authority", {}, { destination_service: "reviews:9080", destination_service_name: "reviews:9080" }],
    [
      "unknown without the fall-back",
      { disable_host_header_fallback: true },
      { destination_service: "unknown", destination_service_name: "unknown" },
    ],
  ])("the service is named %s where the cluster does not name it", (_, configuration, expected) => {
    expect(labelsOf(startWaypoint(configuration), { ...THROUGH, cluster: { name: "c" } })).toMatchObject(expected);
  });

  test.each<[string, StreamOptions, string]>([
    ["mutual_tls when both ends have a URI", THROUGH, "mutual_tls"],
    ["none when the caller has no certificate", { ...THROUGH, downstreamTls: { local: WAYPOINT_URI } }, "none"],
    ["none without TLS in front, whatever is behind", withoutTls(THROUGH), "none"],
    ["mutual_tls in front, without TLS behind", { ...THROUGH, upstreamTls: {} }, "mutual_tls"],
  ])("the security policy is %s", (_, options, expected) => {
    expect(labelsOf(startWaypoint(), options)).toMatchObject({ connection_security_policy: expected });
  });

  test("the source's namespace is the one of its SPIFFE id", () => {
    const downstreamTls = { peer: "spiffe://cluster.local/ns/front/sa/productpage", local: WAYPOINT_URI };
    expect(labelsOf(startWaypoint(), { ...THROUGH, downstreamTls })).toMatchObject({
      source_workload_namespace: "front",
      destination_workload_namespace: "default",
    });
  });

  test("principals that Istio's authentication left come first", () => {
    const filterState = {
      "io.istio.peer_principal": "spiffe://td/ns/a/sa/b",
      "io.istio.local_principal": "spiffe://td/x",
    };
    expect(labelsOf(startWaypoint(), { ...withoutTls(THROUGH), filterState })).toMatchObject({
      source_principal: "spiffe://td/ns/a/sa/b",
      source_workload_namespace: "a",
      connection_security_policy: "mutual_tls",
    });
  });

  test("a request that reached no upstream keeps what is known of its source and service", () => {
    const { upstreamTls: _, endpoint: __, ...rest } = THROUGH;
    const labels = labelsOf(startWaypoint(), { ...rest, responseHeaders: [[":status", "503"]], responseFlags: 2n });
    expect(labels).toMatchObject({
      source_workload: "productpage-v1",
      destination_workload: "unknown",
      destination_service: "reviews.default.svc.cluster.local",
      response_flags: "UH",
    });
  });
});

describe("a gateway, known by the router~ of its node id", () => {
  const node = {
    ...makeNode("ingress", "v1", "10.0.0.1"),
    id: "router~10.0.0.1~ingress-1.istio-system~x.cluster.local",
  };
  const sidecar = { ...node, id: node.id.replace("router", "sidecar") };
  const both = { metadata_exchange: { directions: ["downstream", "upstream"] } };
  const start = (options: Partial<HostOptions>) => startFilter({ node, direction: "unspecified", ...options });

  test.each(["unspecified", "outbound"] as const)(
    "on an %s listener it reports as the source, and learns who answered",
    (direction) => {
      expect(labelsOf(start({ direction }), TO_REVIEWS)).toMatchObject({
        reporter: "source",
        source_workload: "ingress-v1",
        destination_workload: "reviews-v2",
        connection_security_policy: "unknown",
      });
    },
  );

  test("it does not believe metadata of a caller without a certificate, where a sidecar does", () => {
    const outside = { ...TO_REVIEWS, requestHeaders: FROM_PRODUCTPAGE.requestHeaders };
    const believes = (host: Host) => host.request(outside).filterState.has("wasm.downstream_peer");
    expect(believes(start({ configuration: both }))).toBe(false);
    expect(believes(start({ configuration: { ...both, direction: "auto" } }))).toBe(false);
    expect(believes(start({ node: sidecar, configuration: both }))).toBe(true);
  });

  test("what a caller outside says of itself never reaches the upstream", () => {
    const forged = [...PLAIN_REQUEST, ...exchangeHeaders(makeNode("admin", "v1", "10.9.9.9"))];
    const inside = start({}).request({ ...TO_REVIEWS, requestHeaders: forged });
    expect(inside.requestHeaders.all("x-envoy-peer-metadata-id")).toEqual([node.id]);
    const external = { name: "x", metadata: { istio: { external: true } } };
    const outside = start({}).request({ ...TO_REVIEWS, cluster: external, requestHeaders: forged });
    expect(exchangeHeaderNames(outside, "requestHeaders")).toEqual([]);
  });

  test("direction in the configuration wins over the node id", () => {
    const host = start({ configuration: { direction: "inbound" } });
    expect(labelsOf(host, FROM_PRODUCTPAGE)).toMatchObject({ reporter: "destination" });
  });
});

describe("source_security_policy", () => {
  const start = (value: boolean | string) =>
    startOutbound({ configuration: { direction: "outbound", source_security_policy: value } });
  const { upstreamTls: _, ...chosen } = TO_REVIEWS;
  const { endpoint: __, ...unreached } = chosen;
  const address = { "upstream.address": "10.0.0.1:9080" };
  const plain = { ...chosen, properties: { ...address, "upstream.local_address": "10.0.0.2:40000" } };

  test.each<[string, StreamOptions, string]>([
    ["mutual_tls when both ends of the upstream connection have a URI", TO_REVIEWS, "mutual_tls"],
    ["none when the upstream has none", { ...plain, upstreamTls: { local: PRODUCTPAGE_URI } }, "none"],
    ["none when we have none", { ...plain, upstreamTls: { peer: REVIEWS_URI } }, "none"],
    ["none without TLS", plain, "none"],
    [
      "none without TLS, when the upstream did not answer in time",
      { ...plain, responseCode: 504, responseFlags: 4n },
      "none",
    ],
    [
      "unknown when the connection to the upstream failed",
      { ...chosen, properties: address, responseCode: 503, responseFlags: 1n << 5n },
      "unknown",
    ],
    ["unknown when no upstream was reached", { ...unreached, responseCode: 503, responseFlags: 2n }, "unknown"],
    ["unknown when there was no route", { ...unreached, routeName: null, responseCode: 404 }, "unknown"],
  ])("true: %s", (_, options, expected) => {
    expect(labelsOf(start(true), options)).toMatchObject({ reporter: "source", connection_security_policy: expected });
  });

  test('"true" is true', () => {
    expect(labelsOf(start("true"), TO_REVIEWS)).toMatchObject({ connection_security_policy: "mutual_tls" });
  });

  test.each([[false], ["false"]])("%j: always unknown, as Istio's", (value) => {
    expect(labelsOf(start(value), TO_REVIEWS)).toMatchObject({ connection_security_policy: "unknown" });
  });

  test("requests that differ in it alone are told apart", () => {
    const host = start(true);
    for (const options of [TO_REVIEWS, plain, TO_REVIEWS]) host.request(options);
    expect(countedWith(host, { connection_security_policy: "mutual_tls" })).toBe(2);
    expect(countedWith(host, { connection_security_policy: "none" })).toBe(1);
  });

  test("a server's is the downstream's, as ever", () => {
    const host = startInbound({ configuration: { direction: "inbound", source_security_policy: true } });
    expect(labelsOf(host, { ...FROM_PRODUCTPAGE, upstreamTls: {} })).toMatchObject({
      connection_security_policy: "mutual_tls",
    });
  });
});

describe("principals that Istio's authentication left in filter state", () => {
  const PEER = "spiffe://other.domain/ns/front/sa/caller";
  const LOCAL = "spiffe://other.domain/ns/back/sa/own";
  const left = (peer: string | undefined, local: string | undefined) => ({
    ...(peer === undefined ? {} : { "io.istio.peer_principal": peer }),
    ...(local === undefined ? {} : { "io.istio.local_principal": local }),
  });

  test("come before the certificates' on a server, and name the caller's namespace", () => {
    expect(labelsOf(startInbound(), { ...FROM_PRODUCTPAGE, filterState: left(PEER, LOCAL) })).toMatchObject({
      source_principal: PEER,
      destination_principal: LOCAL,
      source_workload_namespace: "front",
      connection_security_policy: "mutual_tls",
    });
  });

  test("do without TLS of the connection", () => {
    expect(labelsOf(startInbound(), { ...withoutTls(FROM_PRODUCTPAGE), filterState: left(PEER, LOCAL) })).toMatchObject(
      {
        source_principal: PEER,
        connection_security_policy: "mutual_tls",
      },
    );
  });

  test.each<[string, string | undefined, string | undefined, string, string, string]>([
    ["both absent: the certificates'", undefined, undefined, PRODUCTPAGE_URI, REVIEWS_URI, "mutual_tls"],
    ["both empty: the certificates'", "", "", PRODUCTPAGE_URI, REVIEWS_URI, "mutual_tls"],
    ["the caller's alone: our own is unknown, not the certificate's", PEER, undefined, PEER, "unknown", "none"],
    ["our own alone: the caller's is unknown, not the certificate's", undefined, LOCAL, "unknown", LOCAL, "none"],
  ])("%s", (_, peer, local, source, destination, policy) => {
    expect(labelsOf(startInbound(), { ...FROM_PRODUCTPAGE, filterState: left(peer, local) })).toMatchObject({
      source_principal: source,
      destination_principal: destination,
      connection_security_policy: policy,
    });
  });

  test("tell requests apart", () => {
    const host = startInbound();
    for (const peer of [PEER, `${PEER}2`, PEER]) host.request({ ...FROM_PRODUCTPAGE, filterState: left(peer, LOCAL) });
    expect(countedWith(host, { source_principal: PEER })).toBe(2);
    expect(countedWith(host, { source_principal: `${PEER}2` })).toBe(1);
  });

  test("are not a client's: its upstream's certificates are", () => {
    expect(labelsOf(startOutbound(), { ...TO_REVIEWS, filterState: left(PEER, LOCAL) })).toMatchObject({
      source_principal: PRODUCTPAGE_URI,
      destination_principal: REVIEWS_URI,
    });
  });
});

describe("metadata that contradicts the certificate", () => {
  test("is counted for each request, in the same label set", () => {
    const host = startInbound();
    const downstreamTls = { peer: "spiffe://cluster.local/ns/elsewhere/sa/x", local: REVIEWS_URI };
    for (let index = 0; index < 3; index++) host.request({ ...FROM_PRODUCTPAGE, downstreamTls });
    host.request(FROM_PRODUCTPAGE);
    expect(countedWith(host, { source_workload_namespace: "elsewhere" })).toBe(3);
    expect(countedWith(host, { source_workload_namespace: "default" })).toBe(1);
    expect(faults(host)).toEqual({ peer_contradicts_identity: 3 });
  });

  test("of a waypoint's two ends, too", () => {
    const host = startWaypoint();
    const elsewhere = "spiffe://cluster.local/ns/elsewhere/sa/x";
    for (let index = 0; index < 2; index++) {
      host.request({ ...THROUGH, downstreamTls: { peer: elsewhere, local: WAYPOINT_URI } });
    }
    expect(faults(host)).toEqual({ peer_contradicts_identity: 2 });
  });
});
