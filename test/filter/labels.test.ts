// The 25 labels of a counted request, rule by rule. Missing reads `unknown` unless a rule says otherwise.

import { describe, expect, test } from "vitest";
import { LABELS } from "../../filter/vocabulary/labels.ts";
import { CATCH_ALL_CLUSTERS } from "../../filter/vocabulary/values.ts";
import { type HostOptions, PLAIN_REQUEST, PLAIN_RESPONSE, type StreamOptions } from "../host/host.ts";
import {
  countedLabels,
  exchangedMetadata,
  exchangeHeaders,
  FROM_PRODUCTPAGE,
  observationOf,
  PRODUCTPAGE,
  PRODUCTPAGE_URI,
  REVIEWS,
  REVIEWS_CLUSTER,
  REVIEWS_URI,
  startInbound,
  startOutbound,
  TO_REVIEWS,
  withMetadata,
} from "../host/mesh.ts";
import type { CertificateUris } from "../host/property.ts";
import type { JsonObject } from "../host/struct.ts";

type Labels = Readonly<Record<string, string>>;

/** Labels of one request from productpage, seen by reviews' inbound filter; changed as told. */
function inbound(changes: StreamOptions = {}, options: Partial<HostOptions> = {}): Labels {
  const host = startInbound(options);
  host.request({ ...FROM_PRODUCTPAGE, ...changes });
  return countedLabels(host);
}

/** Labels of one request to reviews, seen by productpage's outbound filter; changed as told. */
function outbound(changes: StreamOptions = {}, options: Partial<HostOptions> = {}): Labels {
  const host = startOutbound(options);
  host.request({ ...TO_REVIEWS, ...changes });
  return countedLabels(host);
}

function sender(metadata: JsonObject): StreamOptions {
  return { requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(PRODUCTPAGE, metadata)] };
}

function answerer(metadata: JsonObject): StreamOptions {
  return { responseHeaders: [...PLAIN_RESPONSE, ...exchangeHeaders(REVIEWS, metadata)] };
}

/** No peer: neither exchange headers nor certificates. */
const STRANGER: StreamOptions = { requestHeaders: PLAIN_REQUEST, downstreamTls: {} };
const SILENT: StreamOptions = { responseHeaders: PLAIN_RESPONSE, upstreamTls: {} };
const NO_FALLBACK = { configuration: { direction: "outbound", disable_host_header_fallback: true } };
const INBOUND_FALLBACK = { configuration: { direction: "inbound", disable_host_header_fallback: false } };

describe("the whole label set", () => {
  test("of a server", () => {
    const labels = inbound();
    expect(Object.keys(labels)).toEqual(LABELS);
    expect(labels).toEqual({
      reporter: "destination",
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

  test("of a client differs in reporter and security policy alone", () => {
    expect(outbound()).toEqual({ ...inbound(), reporter: "source", connection_security_policy: "unknown" });
  });
});

describe("reporter", () => {
  test.each([
    ["inbound", "destination"],
    ["outbound", "source"],
    ["gateway", "source"],
  ])("configured %s is %s, whatever the listener says", (direction, reporter) => {
    for (const listener of ["inbound", "outbound", "unspecified"] as const) {
      expect(inbound({}, { configuration: { direction }, direction: listener })).toMatchObject({ reporter });
    }
  });

  test.each([
    ["inbound", "destination"],
    ["outbound", "source"],
    ["unspecified", "source"],
  ] as const)("auto on an %s listener is %s", (direction, reporter) => {
    expect(inbound({}, { configuration: { direction: "auto" }, direction })).toMatchObject({ reporter });
    expect(inbound({}, { configuration: {}, direction })).toMatchObject({ reporter });
  });
});

describe("the own side", () => {
  test("is node metadata verbatim, empty where it is missing", () => {
    expect(inbound({}, { node: { ...REVIEWS, metadata: {} } })).toMatchObject({
      destination_workload: "",
      destination_workload_namespace: "",
      destination_canonical_service: "",
      destination_canonical_revision: "",
      destination_app: "",
      destination_version: "",
      destination_cluster: "",
    });
  });

  test("uses app and version only, not the app.kubernetes.io names", () => {
    const node = withMetadata(REVIEWS, {
      LABELS: { "app.kubernetes.io/name": "long", "app.kubernetes.io/version": "v9", app: "short", version: "v1" },
    });
    expect(inbound({}, { node })).toMatchObject({ destination_app: "short", destination_version: "v1" });
  });

  test("is the source on a client", () => {
    const node = withMetadata(PRODUCTPAGE, { NAMESPACE: "shop", CLUSTER_ID: "east" });
    expect(outbound({}, { node })).toMatchObject({ source_workload_namespace: "shop", source_cluster: "east" });
  });
});

describe("the peer side", () => {
  test("is unknown without a peer, the canonical revision latest", () => {
    expect(inbound(STRANGER)).toMatchObject({
      source_workload: "unknown",
      source_canonical_service: "unknown",
      source_canonical_revision: "latest",
      source_workload_namespace: "unknown",
      source_principal: "unknown",
      source_app: "unknown",
      source_version: "unknown",
      source_cluster: "unknown",
    });
  });

  test("is unknown for each value that the peer leaves out or sends empty", () => {
    const nothing = inbound(sender({ LABELS: {} }));
    const empty = inbound(
      sender({
        WORKLOAD_NAME: "",
        NAMESPACE: "",
        CLUSTER_ID: "",
        LABELS: {
          app: "",
          version: "",
          "service.istio.io/canonical-name": "",
          "service.istio.io/canonical-revision": "",
        },
      }),
    );
    expect(empty).toEqual(nothing);
    expect(empty).toMatchObject({ source_workload: "unknown", source_canonical_revision: "latest" });
  });

  test("a peer without the canonical-name label has no canonical service", () => {
    const metadata = { WORKLOAD_NAME: "w", LABELS: { app: "a" } };
    expect(inbound(sender(metadata))).toMatchObject({ source_workload: "w", source_canonical_service: "unknown" });
  });

  test("the app.kubernetes.io names come first", () => {
    const labels = { "app.kubernetes.io/name": "long", "app.kubernetes.io/version": "v9", app: "short", version: "v1" };
    expect(inbound(sender({ LABELS: labels }))).toMatchObject({ source_app: "long", source_version: "v9" });
  });

  test("the known labels are found among 200 others", () => {
    const others = Array.from({ length: 200 }, (_, index) => [`label-${index}`, "x"]);
    const labels = Object.fromEntries([...others, ["app", "a"], ["service.istio.io/canonical-name", "c"]]);
    expect(inbound(sender({ WORKLOAD_NAME: "w", LABELS: labels }))).toMatchObject({
      source_workload: "w",
      source_app: "a",
      source_canonical_service: "c",
    });
  });

  test("its namespace is the one of its SPIFFE id", () => {
    const downstreamTls = { peer: "spiffe://cluster.local/ns/elsewhere/sa/x", local: REVIEWS_URI };
    expect(inbound({ downstreamTls })).toMatchObject({ source_workload_namespace: "elsewhere" });
    const upstreamTls = { peer: "spiffe://cluster.local/ns/elsewhere/sa/x", local: PRODUCTPAGE_URI };
    expect(outbound({ upstreamTls })).toMatchObject({ destination_workload_namespace: "elsewhere" });
  });

  test.each([
    ["spiffe://x/sa/y/ns/z/sa/w", "z"],
    ["spiffe://x/ns/a/sa/b/sa/c", "a"],
    ["spiffe://x/ns/a/sa/b/ns/c/sa/d", "a"],
    ["spiffe://x/ns/a/ns/b/sa/c", "a/ns/b"],
    ["spiffe://x/ns/sa/sa/b", "sa"],
  ])("the namespace of %s is %s: from the first /ns/ to the first /sa/ behind it", (peer, namespace) => {
    expect(inbound({ downstreamTls: { peer, local: REVIEWS_URI } })).toMatchObject({
      source_workload_namespace: namespace,
    });
  });

  test("with mTLS but no exchange the namespace is known, the workload is not", () => {
    expect(inbound({ requestHeaders: PLAIN_REQUEST })).toMatchObject({
      source_workload: "unknown",
      source_workload_namespace: "default",
    });
  });

  test.each([
    "spiffe://cluster.local/sa/x",
    "https://example.com",
    "spiffe://cluster.local/ns//sa/x",
    "spiffe://cluster.local/sa/x/ns/n",
    "spiffe://cluster.local/ns/n",
    "x",
  ])("a certificate of %j names no namespace: the peer's own is taken", (peer) => {
    expect(inbound({ downstreamTls: { peer, local: REVIEWS_URI } })).toMatchObject({
      source_workload_namespace: "default",
      source_principal: peer,
    });
  });

  describe("from the endpoint's metadata, when a client got none by exchange", () => {
    const endpoint = (workload: string): StreamOptions => ({
      ...SILENT,
      endpoint: { metadata: { istio: { workload } } },
    });

    test("workload, namespace, canonical name, revision and cluster are read; app and version are unknown", () => {
      expect(outbound(endpoint("reviews-v3;books;reviews;v3;west"))).toMatchObject({
        destination_workload: "reviews-v3",
        destination_workload_namespace: "books",
        destination_canonical_service: "reviews",
        destination_canonical_revision: "v3",
        destination_cluster: "west",
        destination_app: "unknown",
        destination_version: "unknown",
      });
    });

    test("empty parts are missing parts", () => {
      expect(outbound(endpoint(";;;;"))).toMatchObject({
        destination_workload: "unknown",
        destination_workload_namespace: "unknown",
        destination_canonical_service: "unknown",
        destination_canonical_revision: "latest",
        destination_cluster: "unknown",
      });
    });

    test("more than five parts are fine, fewer are ignored", () => {
      expect(outbound(endpoint("w;n;c;r;k;more;parts"))).toMatchObject({
        destination_workload: "w",
        destination_cluster: "k",
      });
      expect(outbound(endpoint("w;n;c;r"))).toMatchObject({
        destination_workload: "unknown",
        destination_workload_namespace: "unknown",
      });
    });

    test("the exchange wins over it", () => {
      const withBoth = { ...endpoint("other;other;other;other;other"), responseHeaders: TO_REVIEWS.responseHeaders };
      expect(outbound(withBoth)).toMatchObject({
        destination_workload: "reviews-v2",
        destination_cluster: "Kubernetes",
      });
    });

    test("a server never reads it", () => {
      expect(inbound({ ...STRANGER, endpoint: { metadata: { istio: { workload: "w;n;c;r;k" } } } })).toMatchObject({
        source_workload: "unknown",
      });
    });
  });
});

describe("principals", () => {
  test("of a server are the URI SANs of the downstream connection", () => {
    const downstreamTls = { peer: "spiffe://td/ns/a/sa/b", local: "spiffe://td/ns/c/sa/d" };
    expect(inbound({ downstreamTls, upstreamTls: { peer: "spiffe://x", local: "spiffe://y" } })).toMatchObject({
      source_principal: downstreamTls.peer,
      destination_principal: downstreamTls.local,
    });
  });

  test("of a client are the URI SANs of the upstream connection", () => {
    const upstreamTls = { peer: "spiffe://td/ns/a/sa/b", local: "spiffe://td/ns/c/sa/d" };
    expect(outbound({ upstreamTls, downstreamTls: { peer: "spiffe://x", local: "spiffe://y" } })).toMatchObject({
      destination_principal: upstreamTls.peer,
      source_principal: upstreamTls.local,
    });
  });

  test("without certificates are unknown", () => {
    expect(inbound({ downstreamTls: {} })).toMatchObject({
      source_principal: "unknown",
      destination_principal: "unknown",
    });
    expect(outbound({ upstreamTls: {} })).toMatchObject({
      source_principal: "unknown",
      destination_principal: "unknown",
    });
  });

  test("a client falls back to the peer's IDENTITY, a certificate wins over it", () => {
    const identity = "spiffe://td/ns/default/sa/told";
    const told = answerer({ ...exchangedMetadata(REVIEWS), IDENTITY: identity });
    expect(outbound({ ...told, upstreamTls: {} })).toMatchObject({ destination_principal: identity });
    expect(outbound(told)).toMatchObject({ destination_principal: REVIEWS_URI });
  });

  test("a server does not believe the peer's IDENTITY", () => {
    const told = sender({ ...exchangedMetadata(PRODUCTPAGE), IDENTITY: "spiffe://td/ns/x/sa/told" });
    expect(inbound({ ...told, downstreamTls: {} })).toMatchObject({ source_principal: "unknown" });
  });
});

describe("destination service", () => {
  const services = (...list: JsonObject[]) => ({ name: "c", metadata: { istio: { services: list } } });
  const service = (labels: Labels) => {
    const { destination_service, destination_service_name, destination_service_namespace } = labels;
    return [destination_service, destination_service_name, destination_service_namespace];
  };

  test("step 1: with the fallback on it is the authority, port included", () => {
    const bare = { cluster: { name: "c" } };
    expect(service(outbound(bare))).toEqual(["reviews:9080", "reviews:9080", "default"]);
    expect(service(inbound(bare, INBOUND_FALLBACK))).toEqual(["reviews:9080", "reviews:9080", "default"]);
  });

  test("step 1: with the fallback off a client says unknown, a server its canonical service", () => {
    const bare = { cluster: { name: "c" } };
    expect(service(outbound(bare, NO_FALLBACK))).toEqual(["unknown", "unknown", "default"]);
    expect(service(inbound(bare))).toEqual(["reviews", "reviews", "default"]);
  });

  test('step 1: disable_host_header_fallback may be the string "true"', () => {
    const configuration = { direction: "outbound", disable_host_header_fallback: "true" };
    expect(service(outbound({ cluster: { name: "c" } }, { configuration }))).toEqual(["unknown", "unknown", "default"]);
  });

  test.each([
    ["block_all", "BlackHoleCluster"],
    ["allow_any", "PassthroughCluster"],
  ])("step 2: route %s names the service %s and stops", (routeName, name) => {
    expect(service(outbound({ routeName }))).toEqual(["reviews:9080", name, "default"]);
    expect(service(outbound({ routeName }, NO_FALLBACK))).toEqual(["unknown", name, "default"]);
  });

  test.each(CATCH_ALL_CLUSTERS)("step 3: cluster %s names the service and stops", (name) => {
    const cluster = { ...REVIEWS_CLUSTER, name };
    expect(service(outbound({ cluster }))).toEqual(["reviews:9080", name, "default"]);
    expect(service(outbound({ cluster }, NO_FALLBACK))).toEqual(["unknown", name, "default"]);
    expect(service(inbound({ cluster }))).toEqual(["reviews", name, "default"]);
  });

  test("step 4: the cluster's first service counts, over the authority", () => {
    const cluster = services(
      { host: "a.b.svc", name: "a", namespace: "b" },
      { host: "x.y", name: "x", namespace: "y" },
    );
    expect(service(outbound({ cluster }))).toEqual(["a.b.svc", "a", "b"]);
    expect(service(outbound({ cluster }, NO_FALLBACK))).toEqual(["a.b.svc", "a", "b"]);
    expect(service(inbound({ cluster }, INBOUND_FALLBACK))).toEqual(["a.b.svc", "a", "default"]);
  });

  test("step 4: without a name it is the host up to the first dot", () => {
    expect(service(outbound({ cluster: services({ host: "a.b.svc", namespace: "b" }) }))).toEqual([
      "a.b.svc",
      "a",
      "b",
    ]);
    expect(service(outbound({ cluster: services({ host: "single", namespace: "b" }) }))).toEqual([
      "single",
      "single",
      "b",
    ]);
  });

  test("step 4: without a host the one of step 1 stays", () => {
    const cluster = services({ name: "a", namespace: "b" });
    expect(service(outbound({ cluster }))).toEqual(["reviews:9080", "a", "b"]);
    expect(service(outbound({ cluster }, NO_FALLBACK))).toEqual(["unknown", "a", "b"]);
  });

  test.each([
    ["no services", { istio: { services: [] } }],
    ["services of another type", { istio: { services: "a" } }],
    ["a service of another type", { istio: { services: ["a"] } }],
    ["no istio metadata", { "envoy.lb": { x: 1 } }],
  ])("step 4: %s leave step 1", (_, metadata) => {
    expect(service(outbound({ cluster: { name: "c", metadata } }))).toEqual([
      "reviews:9080",
      "reviews:9080",
      "default",
    ]);
  });

  test("step 5: the cluster's name is never parsed", () => {
    const cluster = { name: "outbound|9080||ratings.other.svc.cluster.local" };
    expect(service(outbound({ cluster }, NO_FALLBACK))).toEqual(["unknown", "unknown", "default"]);
  });

  test("a client's namespace is the cluster's, else the peer's, else unknown", () => {
    const cluster = services({ host: "a.b.svc", name: "a" });
    expect(service(outbound({ cluster }))).toEqual(["a.b.svc", "a", "default"]);
    expect(service(outbound({ cluster, ...SILENT }))).toEqual(["a.b.svc", "a", "unknown"]);
  });

  test("a server's namespace is its own, always", () => {
    const cluster = services({ host: "a.b.svc", name: "a", namespace: "b" });
    const node = withMetadata(REVIEWS, { NAMESPACE: "mine" });
    expect(service(inbound({ cluster }, { node }))).toEqual(["a.b.svc", "a", "mine"]);
  });

  test("a request without a route has no service but its authority", () => {
    expect(service(outbound({ ...SILENT, routeName: null, responseFlags: 1n << 8n }))).toEqual([
      "reviews:9080",
      "reviews:9080",
      "unknown",
    ]);
  });

  test("clusters and routes alternate on one filter without mixing", () => {
    const host = startOutbound();
    const one = { ...SILENT, cluster: services({ host: "one.a", name: "one", namespace: "a" }) };
    const two = { ...SILENT, cluster: { name: "two", metadata: services({ host: "two.b", namespace: "b" }).metadata } };
    const seen = [one, two, { ...one, routeName: "block_all" }, two, one].map((options) =>
      service(observationOf(host.request(options)).labels).join(" "),
    );
    expect(seen).toEqual([
      "one.a one a",
      "two.b two b",
      "reviews:9080 BlackHoleCluster unknown",
      "two.b two b",
      "one.a one a",
    ]);
  });
});

describe("request_protocol", () => {
  const withType = (type: string): StreamOptions => ({
    requestHeaders: [...FROM_PRODUCTPAGE.requestHeaders, ["content-type", type]],
  });

  test.each(["application/grpc", "application/grpc+proto", "application/grpc+json", "application/grpc+x"])(
    "%s is grpc",
    (type) => expect(inbound(withType(type))).toMatchObject({ request_protocol: "grpc" }),
  );

  test.each(["application/grpc-web", "application/grpcx", "application/grp", "application/json", ""])(
    "%j is http",
    (type) => expect(inbound(withType(type))).toMatchObject({ request_protocol: "http" }),
  );

  test("it is the request's content-type that counts", () => {
    const responseHeaders = [
      [":status", "200"],
      ["content-type", "application/grpc"],
    ] as const;
    expect(inbound({ responseHeaders })).toMatchObject({ request_protocol: "http" });
    const upstream = { ...withType("application/grpc"), responseHeaders: PLAIN_RESPONSE };
    expect(outbound(upstream)).toMatchObject({ request_protocol: "grpc" });
  });
});

describe("response_code", () => {
  test.each([100, 200, 404, 503, 599])("%i is decimal", (code) => {
    expect(inbound({ responseCode: code })).toMatchObject({ response_code: String(code) });
  });

  test("is 0 without an answer", () => {
    expect(inbound({ responseCode: null, responseFlags: 1n << 14n })).toMatchObject({
      response_code: "0",
      response_flags: "DC",
    });
  });
});

describe("grpc_response_status", () => {
  const call: StreamOptions = {
    requestHeaders: [...FROM_PRODUCTPAGE.requestHeaders, ["content-type", "application/grpc"]],
  };
  const plain = [[":status", "200"]] as const;

  test("is the trailers' grpc-status", () => {
    const labels = inbound({ ...call, responseHeaders: plain, responseTrailers: [["grpc-status", "5"]] });
    expect(labels).toMatchObject({ grpc_response_status: "5" });
  });

  test("is the headers' of a trailers-only answer", () => {
    const responseHeaders = [...plain, ["grpc-status", "14"]] as const;
    expect(inbound({ ...call, responseHeaders })).toMatchObject({ grpc_response_status: "14" });
  });

  test("0 is a status", () => {
    const labels = inbound({ ...call, responseHeaders: plain, responseTrailers: [["grpc-status", "0"]] });
    expect(labels).toMatchObject({ grpc_response_status: "0" });
  });

  test("is derived from the HTTP code when the answer is not gRPC", () => {
    expect(inbound({ ...call, responseCode: 503 })).toMatchObject({ grpc_response_status: "14" });
  });

  test("is empty when a gRPC call was never answered", () => {
    expect(inbound({ ...call, responseCode: null })).toMatchObject({ grpc_response_status: "" });
  });

  test("is empty when the answer's grpc-status is no number", () => {
    const labels = inbound({ ...call, responseHeaders: plain, responseTrailers: [["grpc-status", "abc"]] });
    expect(labels).toMatchObject({ grpc_response_status: "" });
  });

  test("is empty for HTTP, though Envoy derives one there, too", () => {
    expect(inbound({ responseCode: 503 })).toMatchObject({ grpc_response_status: "" });
  });
});

describe("response_flags", () => {
  test("are - when none is set", () => {
    expect(inbound({ responseFlags: 0n })).toMatchObject({ response_flags: "-" });
  });

  // Envoy's stream_info/response_flag.h, in the order of its bits; written out here, since the filter's own list is under test.
  const names =
    "LH UH UT LR UR UF UC UO NR DI FI RL UAEX RLSE DC URX SI IH DPE UMSDR RFCF NFCF DT UPE NC OM DF DO DR UDO".split(
      " ",
    );

  test.each([...names.entries()])("bit %i alone is %s", (bit, name) => {
    expect(inbound({ responseFlags: 1n << BigInt(bit) })).toMatchObject({ response_flags: name });
  });

  test("all of them together stand in the order of the bits", () => {
    const responseFlags = (1n << BigInt(names.length)) - 1n;
    expect(inbound({ responseFlags })).toMatchObject({ response_flags: names.join(",") });
  });

  test("several are joined in the order of the bits", () => {
    expect(inbound({ responseFlags: (1n << 15n) | (1n << 5n) })).toMatchObject({ response_flags: "UF,URX" });
    expect(inbound({ responseFlags: (1n << 2n) | (1n << 0n) | (1n << 29n) })).toMatchObject({
      response_flags: "LH,UT,UDO",
    });
  });

  test.each([30, 31, 32, 40, 47, 62, 63])("an unknown bit %i reads as its number", (bit) => {
    expect(inbound({ responseFlags: 1n << BigInt(bit) })).toMatchObject({ response_flags: String(bit) });
  });

  test("known and unknown bits stand together", () => {
    expect(inbound({ responseFlags: (1n << 40n) | (1n << 14n) })).toMatchObject({ response_flags: "DC,40" });
  });
});

describe("connection_security_policy", () => {
  test("of a server is mutual_tls only when both certificates have a URI", () => {
    const policy = (downstreamTls: CertificateUris) => {
      const { connection_security_policy } = inbound({ downstreamTls });
      return connection_security_policy;
    };
    expect(policy({ peer: PRODUCTPAGE_URI, local: REVIEWS_URI })).toBe("mutual_tls");
    expect(policy({ local: REVIEWS_URI })).toBe("none");
    expect(policy({ peer: PRODUCTPAGE_URI })).toBe("none");
    expect(policy({ peer: "", local: REVIEWS_URI })).toBe("none");
    expect(policy({})).toBe("none");
  });

  test("of a client is always unknown", () => {
    expect(outbound()).toMatchObject({ connection_security_policy: "unknown" });
    expect(outbound({ upstreamTls: {} })).toMatchObject({ connection_security_policy: "unknown" });
  });
});

describe("values that could break a stat name", () => {
  test.each([
    ["a;.;b", "a;_;b"],
    ["a=.=b", "a=_=b"],
    ["a;.", "a;"],
    ["a...", "a"],
    ["a\nb\tc\u0000d\u007f", "a_b_c_d_"],
    ['quote " and \\', 'quote " and \\'],
    ["größe-日本-😀", "größe-日本-😀"],
    ["x".repeat(300), "x".repeat(255)],
    ["é".repeat(128), "é".repeat(127)],
  ])("%j reads %j", (app, expected) => {
    expect(inbound(sender({ LABELS: { app } }))).toMatchObject({ source_app: expected });
  });

  test("also in the own labels and in the authority", () => {
    const node = withMetadata(REVIEWS, { WORKLOAD_NAME: "w;.;reporter=.=source" });
    expect(inbound({}, { node })).toMatchObject({ destination_workload: "w;_;reporter=_=source" });
    const requestHeaders = [[":authority", "evil;.;response_code=.=999"]] as const;
    expect(outbound({ requestHeaders, cluster: { name: "c" } })).toMatchObject({
      destination_service: "evil;_;response_code=_=999",
      response_code: "200",
    });
  });

  test("bytes that are no UTF-8 are replaced, not passed on", () => {
    const requestHeaders = [[":authority", "a\xff\xfe\xc3b\x80"]] as const;
    const { destination_service } = outbound({ requestHeaders, cluster: { name: "c" } });
    expect(destination_service).toMatch(/^a.*b.*$/);
    expect(destination_service).not.toContain("\xff");
  });

  test.each([
    ["the first surrogate", "\xed\xa0\x80", "\ufffd\ufffd\ufffd"],
    ["the last surrogate", "\xed\xbf\xbf", "\ufffd\ufffd\ufffd"],
    ["a pair of surrogates", "\xed\xa0\xbd\xed\xb8\x80", "\ufffd".repeat(6)],
    ["a NUL in two bytes", "\xc0\x80", "\ufffd\ufffd"],
    ["an overlong form of three bytes", "\xe0\x9f\xbf", "\ufffd\ufffd\ufffd"],
    ["an overlong form of four bytes", "\xf0\x8f\xbf\xbf", "\ufffd\ufffd\ufffd\ufffd"],
    ["a code point past U+10FFFF", "\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"],
    ["a sequence that is cut short", "\xe2\x82", "\ufffd\ufffd"],
    ["the last code point before the surrogates", "\xed\x9f\xbf", "\ud7ff"],
    ["the first code point after the surrogates", "\xee\x80\x80", "\ue000"],
    ["the first code point of three bytes", "\xe0\xa0\x80", "\u0800"],
    ["the first code point of four bytes", "\xf0\x90\x80\x80", "\u{10000}"],
    ["the last code point", "\xf4\x8f\xbf\xbf", "\u{10ffff}"],
  ])("%s: each byte that is no UTF-8 reads U+FFFD, the rest as it is", (_, bytes, expected) => {
    const requestHeaders = [[":authority", `a${bytes}z`]] as const;
    expect(outbound({ requestHeaders, cluster: { name: "c" } })).toMatchObject({
      destination_service: `a${expected}z`,
    });
  });
});
