// The 23 labels of a counted connection, where they differ from a request's or come from elsewhere: the exchange of TCP, the cluster, the
// endpoint, the server name, the addresses. Missing reads `unknown` unless a rule says otherwise.

import { describe, expect, test } from "vitest";
import { TcpMetric } from "../../filter/vocabulary/metrics.ts";
import { CATCH_ALL_CLUSTERS } from "../../filter/vocabulary/values.ts";
import type { ConnectionOptions } from "../host/connection.ts";
import type { Host, HostOptions } from "../host/host.ts";
import {
  exchangedMetadata,
  faults,
  overflowLabels,
  PRODUCTPAGE,
  PRODUCTPAGE_URI,
  REVIEWS,
  REVIEWS_CLUSTER,
  REVIEWS_URI,
  startInbound,
  startOutbound,
} from "../host/mesh.ts";
import { prefixOf } from "../host/prefix.ts";
import type { CertificateUris } from "../host/property.ts";
import type { JsonObject } from "../host/struct.ts";
import {
  CONNECTION_FROM_PRODUCTPAGE,
  CONNECTION_TO_REVIEWS,
  startTcpInbound,
  startTcpOutbound,
  tcpCounts,
  tcpLabels,
  tcpSeries,
} from "../host/tcp.ts";

type Labels = Readonly<Record<string, string>>;

const PREFIX = prefixOf(PRODUCTPAGE);
const ANSWER = prefixOf(REVIEWS);
const BOUND_MS = 1_000;

/** Labels of a connection from productpage that reviews' filter saw; changed as told. */
function inbound(changes: ConnectionOptions = {}, configuration: JsonObject = {}, prefix: Buffer = PREFIX): Labels {
  const host = startTcpInbound(configuration);
  host
    .connection({ ...CONNECTION_FROM_PRODUCTPAGE, ...changes })
    .fromClient(prefix)
    .fromClient("x")
    .finish();
  return tcpLabels(host);
}

/** Labels of a connection to reviews that productpage's filter saw; changed as told. */
function outbound(changes: ConnectionOptions = {}, configuration: JsonObject = {}, answer: Buffer = ANSWER): Labels {
  const host = startTcpOutbound(configuration);
  host
    .connection({ ...CONNECTION_TO_REVIEWS, ...changes })
    .fromClient("x")
    .fromServer(answer)
    .finish();
  return tcpLabels(host);
}

const STRANGER = Buffer.from("GET /");
const NEVER = { metadata_exchange: { tcp: { send: "never" } } };

describe("the role", () => {
  test.each([
    ["inbound", "inbound", "destination"],
    ["outbound", "outbound", "source"],
    ["gateway", "unspecified", "source"],
    ["auto", "inbound", "destination"],
    ["auto", "outbound", "source"],
    ["auto", "unspecified", "source"],
  ] as const)("%s on a listener that is %s reports as %s", (direction, listener, reporter) => {
    const host = startInbound({ configuration: { direction }, direction: listener });
    host.connection(CONNECTION_FROM_PRODUCTPAGE).fromClient("x").finish();
    expect(tcpLabels(host)).toMatchObject({ reporter, request_protocol: "tcp" });
  });

  test("of a node whose id begins with router~ is a gateway's", () => {
    const node = { ...PRODUCTPAGE, id: PRODUCTPAGE.id.replace("sidecar~", "router~") };
    const host = startOutbound({ node, configuration: {}, direction: "outbound" });
    const connection = host.connection(CONNECTION_TO_REVIEWS).fromClient(PREFIX).fromClient("x").fromServer(ANSWER);
    expect(connection.toServer.subarray(-1).toString(), "the outsider's prefix is gone, ours is there").toBe("x");
    expect(tcpLabels(host)).toMatchObject({ source_workload: "productpage-v1", destination_workload: "reviews-v2" });
  });

  test("of a waypoint is reported as its own, with what addresses and endpoints tell", () => {
    const host = startInbound({ configuration: { reporter: "SERVER_GATEWAY" } });
    const endpoint = { metadata: { istio: { workload: "reviews-v3;books;reviews;v3;west" } } };
    host
      .connection({ ...CONNECTION_FROM_PRODUCTPAGE, endpoint })
      .fromClient("x")
      .fromServer("y")
      .finish();
    expect(tcpLabels(host)).toMatchObject({
      reporter: "waypoint",
      source_workload: "unknown",
      source_principal: PRODUCTPAGE_URI,
      destination_workload: "reviews-v3",
      destination_cluster: "west",
    });
  });
});

describe("the own side", () => {
  const bare: Partial<HostOptions> = { node: { ...REVIEWS, metadata: {} } };

  test("is node metadata as it is, empty where it is missing", () => {
    const host = startTcpInbound({}, bare);
    host.connection(CONNECTION_FROM_PRODUCTPAGE).fromClient(PREFIX).finish();
    expect(tcpLabels(host)).toMatchObject({
      source_workload: "productpage-v1",
      destination_workload: "",
      destination_workload_namespace: "",
      destination_app: "",
      destination_cluster: "",
    });
  });
});

describe("the peer", () => {
  test("of a server without a prefix is unknown, its revision latest, its namespace that of its certificate", () => {
    expect(inbound({}, {}, STRANGER)).toMatchObject({
      source_workload: "unknown",
      source_canonical_service: "unknown",
      source_canonical_revision: "latest",
      source_workload_namespace: "default",
      source_principal: PRODUCTPAGE_URI,
      source_app: "unknown",
      source_version: "unknown",
      source_cluster: "unknown",
    });
  });

  test("of a server in plain text is unknown altogether; the connection is counted all the same", () => {
    expect(inbound({ downstreamTls: {} }, {}, STRANGER)).toMatchObject({
      source_workload: "unknown",
      source_workload_namespace: "unknown",
      source_principal: "unknown",
      destination_workload: "reviews-v2",
      destination_principal: "unknown",
      connection_security_policy: "none",
    });
  });

  test("that leaves things out, or says them in the recommended labels, is read as over HTTP", () => {
    const metadata = { WORKLOAD_NAME: "w", LABELS: { app: "short", "app.kubernetes.io/name": "long" } };
    expect(inbound({ downstreamTls: {} }, {}, prefixOf(PRODUCTPAGE, metadata))).toMatchObject({
      source_workload: "w",
      source_workload_namespace: "unknown",
      source_app: "long",
      source_version: "unknown",
      source_canonical_service: "unknown",
      source_canonical_revision: "latest",
    });
  });

  test("whose values hold the separators of a stat name cannot forge labels", () => {
    const metadata = { ...exchangedMetadata(PRODUCTPAGE), WORKLOAD_NAME: "a;.;source_app=.=forged;.;", NAME: "\u0000" };
    const labels = inbound({}, {}, prefixOf(PRODUCTPAGE, metadata));
    expect(labels).toMatchObject({ source_app: "productpage", destination_workload: "reviews-v2" });
    expect(labels["source_workload"]).not.toContain(";.;");
  });

  test("of a client is what the server answered", () => {
    expect(outbound()).toMatchObject({
      destination_workload: "reviews-v2",
      destination_app: "reviews",
      destination_version: "v2",
      destination_canonical_service: "reviews",
      destination_canonical_revision: "v2",
      destination_cluster: "Kubernetes",
    });
  });

  test("of a client that names its identity is its principal, where there is no certificate", () => {
    const metadata = { ...exchangedMetadata(REVIEWS), IDENTITY: "spiffe://td/ns/default/sa/told" };
    const plaintext = {
      upstreamTls: {},
      cluster: { name: "c", metadata: { meshtally: { tcp_metadata_exchange: true } } },
    };
    const answer = prefixOf(REVIEWS, metadata);
    expect(outbound(plaintext, {}, answer)).toMatchObject({ destination_principal: "spiffe://td/ns/default/sa/told" });
  });

  describe("of a client that got no answer", () => {
    const endpoint = (workload: string): ConnectionOptions => ({ endpoint: { metadata: { istio: { workload } } } });

    test("is what the endpoint's metadata says", () => {
      for (const configuration of [{}, NEVER]) {
        const labels = outbound(endpoint("reviews-v3;books;reviews;v3;west"), configuration, STRANGER);
        expect(labels).toMatchObject({
          destination_workload: "reviews-v3",
          destination_canonical_service: "reviews",
          destination_canonical_revision: "v3",
          destination_cluster: "west",
          destination_app: "unknown",
        });
      }
    });

    test("is known from the endpoint before any byte has passed, too", () => {
      const host = startTcpOutbound();
      host.connection({ ...CONNECTION_TO_REVIEWS, ...endpoint("reviews-v3;books;reviews;v3;west") });
      host.advance(BOUND_MS);
      expect(tcpLabels(host)).toMatchObject({ destination_workload: "reviews-v3", destination_cluster: "west" });
    });

    test("is unknown when the endpoint says too little", () => {
      expect(outbound(endpoint("w;n;c;r"), {}, STRANGER)).toMatchObject({ destination_workload: "unknown" });
    });

    test("is what the answer says when there is one as well", () => {
      const metadata = { istio: { workload: "o;o;o;o;o" }, "envoy.transport_socket_match": { tlsMode: "istio" } };
      expect(outbound({ endpoint: { metadata } })).toMatchObject({ destination_workload: "reviews-v2" });
    });
  });
});

describe("the service", () => {
  const service = (host: string, name: string, namespace: string) => ({
    destination_service: host,
    destination_service_name: name,
    destination_service_namespace: namespace,
  });
  const nameless = { cluster: { name: "c" } };
  const noFallback = { disable_host_header_fallback: true };

  test("of a client is what the cluster's metadata says", () => {
    const expected = service("reviews.default.svc.cluster.local", "reviews", "default");
    expect(outbound({ requestedServerName: "other" })).toMatchObject(expected);
    expect(outbound({}, noFallback)).toMatchObject(expected);
  });

  test("of a client without that is the server name that was asked for", () => {
    const requestedServerName = "outbound_.9080_._.reviews.example.com";
    expect(outbound({ ...nameless, requestedServerName })).toMatchObject({
      destination_service: requestedServerName,
      destination_service_name: requestedServerName,
    });
  });

  test("of a client without either is the address", () => {
    expect(outbound({ ...nameless, destinationAddress: "10.9.8.7:6379" })).toMatchObject({
      destination_service: "10.9.8.7:6379",
      destination_service_name: "10.9.8.7:6379",
    });
    expect(outbound({ ...nameless, destinationAddress: "[2001:db8::1]:6379" })).toMatchObject({
      destination_service: "[2001:db8::1]:6379",
    });
  });

  test("of a client without either is unknown with the fallback off", () => {
    const labels = outbound({ ...nameless, requestedServerName: "other" }, noFallback);
    expect(labels).toMatchObject({ destination_service: "unknown", destination_service_name: "unknown" });
  });

  test("of a client whose cluster names no host but a service keeps that name", () => {
    const cluster = { name: "c", metadata: { istio: { services: [{ name: "mine", namespace: "ours" }] } } };
    expect(outbound({ cluster }, noFallback)).toMatchObject(service("unknown", "mine", "ours"));
  });

  test.each([...CATCH_ALL_CLUSTERS])("of %s is that name", (name) => {
    for (const labels of [outbound({ cluster: { name } }), outbound({ cluster: { name } }, noFallback)]) {
      expect(labels).toMatchObject({ destination_service_name: name });
    }
    expect(inbound({ cluster: { name } })).toMatchObject({ destination_service_name: name });
  });

  test("of a server without cluster metadata is its own", () => {
    const expected = service("reviews", "reviews", "default");
    for (const fallback of [true, false]) {
      const configuration = { disable_host_header_fallback: fallback };
      const labels = inbound({ cluster: { name: "inbound|9080||" }, requestedServerName: "other" }, configuration);
      expect(labels).toMatchObject(expected);
    }
  });

  test("of a client names the namespace of the peer where the cluster says none", () => {
    expect(outbound(nameless)).toMatchObject({ destination_service_namespace: "default" });
  });
});

describe("principals and security policy", () => {
  const both = { peer: "spiffe://td/ns/a/sa/b", local: "spiffe://td/ns/c/sa/d" };

  test.each<[string, CertificateUris, string]>([
    ["both certificates have a URI", both, "mutual_tls"],
    ["the peer's has none", { local: both.local }, "none"],
    ["our own has none", { peer: both.peer }, "none"],
    ["there is no TLS", {}, "none"],
  ])("of a server when %s", (_, downstreamTls, policy) => {
    expect(inbound({ downstreamTls }, {}, STRANGER)).toMatchObject({
      source_principal: downstreamTls.peer ?? "unknown",
      destination_principal: downstreamTls.local ?? "unknown",
      connection_security_policy: policy,
    });
  });

  test("of a server that was silent until the bound are known, once the client is", () => {
    const host = startTcpInbound();
    const connection = host.connection(CONNECTION_FROM_PRODUCTPAGE).fromServer("220");
    host.advance(BOUND_MS);
    expect(tcpLabels(host)).toMatchObject({
      source_principal: PRODUCTPAGE_URI,
      connection_security_policy: "mutual_tls",
    });
    connection.finish();
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 3, received: 0 });
  });

  test("of a client are those of the upstream connection; the policy is unknown, as Istio's", () => {
    expect(outbound({ downstreamTls: { peer: "spiffe://x", local: "spiffe://y" } })).toMatchObject({
      source_principal: PRODUCTPAGE_URI,
      destination_principal: REVIEWS_URI,
      connection_security_policy: "unknown",
    });
  });

  test.each([
    ["mutual_tls", both],
    ["none", {}],
  ])("of a client with source_security_policy is %s", (policy, upstreamTls) => {
    const labels = outbound({ upstreamTls }, { source_security_policy: true }, STRANGER);
    expect(labels).toMatchObject({ connection_security_policy: policy });
  });
});

describe("a peer that is known only after the first report", () => {
  const KNOWN = { source_workload: "productpage-v1" };
  const UNKNOWN = { source_workload: "unknown" };

  /** A server that spoke first, and whose client said nothing until the bound. */
  function late(host: Host) {
    const connection = host.connection(CONNECTION_FROM_PRODUCTPAGE).fromServer("220");
    host.advance(BOUND_MS);
    return connection;
  }

  test("has the bytes from then on; what was opened without it is closed without it", () => {
    const host = startTcpInbound();
    const connection = late(host);
    expect(tcpCounts(host, UNKNOWN)).toEqual({ opened: 1, closed: 0, sent: 3, received: 0 });
    connection.fromClient(PREFIX).fromClient("HELO").fromServer("250 ok");
    host.advance(5_000);
    expect(tcpCounts(host, KNOWN)).toEqual({ opened: 0, closed: 0, sent: 6, received: 4 });
    connection.fromClient("QUIT").finish();
    expect(tcpCounts(host, UNKNOWN)).toEqual({ opened: 1, closed: 1, sent: 3, received: 0 });
    expect(tcpCounts(host, KNOWN)).toEqual({ opened: 0, closed: 0, sent: 6, received: 8 });
    expect(faults(host)).toEqual({ peer_late: 1, peer_unanswered: 1 });
  });

  test("leaves the bytes that were not reported yet where they were carried: without it", () => {
    const host = startTcpInbound();
    const connection = late(host).fromServer("more");
    connection.fromClient(PREFIX).fromClient("HELO").finish();
    expect(tcpCounts(host, UNKNOWN)).toEqual({ opened: 1, closed: 1, sent: 7, received: 0 });
    expect(tcpCounts(host, KNOWN)).toMatchObject({ sent: 0, received: 4 });
  });

  test("is counted late once, though its prefix comes in pieces", () => {
    const host = startTcpInbound();
    const connection = late(host).fromClient(PREFIX.subarray(0, 20)).fromClient(PREFIX.subarray(20));
    connection.fromClient("HELO").finish();
    expect(faults(host)).toEqual({ peer_late: 1, peer_unanswered: 1 });
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 3, received: 4 });
  });

  test("that turns out to be none is not late: there is one label set", () => {
    const host = startTcpInbound();
    late(host).fromClient("HELO").finish();
    expect(tcpSeries(host, TcpMetric.SentBytes)).toHaveLength(1);
    expect(faults(host)).toEqual({});
  });
});

test("labels are fixed at the first report: metadata of a cluster that changes later changes nothing", () => {
  const host = startTcpOutbound();
  const services = [{ host: "a.example", name: "a", namespace: "n" }];
  const cluster = { name: REVIEWS_CLUSTER.name, metadata: { istio: { services } } };
  const connection = host
    .connection({ ...CONNECTION_TO_REVIEWS, cluster })
    .fromClient("x")
    .fromServer("y");
  services[0] = { host: "b.example", name: "b", namespace: "n" };
  host.advance(60_000);
  connection.fromClient("z");
  host.advance(60_000);
  connection.finish();
  for (const metric of [TcpMetric.Opened, TcpMetric.Closed, TcpMetric.ReceivedBytes]) {
    expect(tcpSeries(host, metric).map((one) => one.labels["destination_service"])).toEqual(["a.example"]);
  }
});

test("label sets beyond the cap go to one series of the overflow, and each connection is counted there", () => {
  const host = startTcpInbound({ max_label_sets: 2 });
  for (const name of ["a", "b", "c", "d", "c"]) {
    const prefix = prefixOf({ ...PRODUCTPAGE, id: name }, { WORKLOAD_NAME: name });
    host.connection(CONNECTION_FROM_PRODUCTPAGE).fromClient(prefix).fromClient("x").finish();
  }
  const { response_code: _, grpc_response_status: __, ...other } = overflowLabels("destination");
  expect(tcpCounts(host, { source_workload: "other" })).toEqual({ opened: 3, closed: 3, sent: 0, received: 3 });
  expect(tcpSeries(host, TcpMetric.Closed).at(-1)?.labels).toEqual(other);
  expect(tcpCounts(host)).toEqual({ opened: 5, closed: 5, sent: 0, received: 5 });
  expect(faults(host)).toHaveProperty("label_sets_full");
});
