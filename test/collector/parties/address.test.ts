// Who the ends of a call are by what stands in its entry.
// Where a rule is one of SkyWalking's, or mends one of its, its row begins with the number that our specification of it has: 3 addresses,
// 4 metadata, 5 errors.

import { describe, expect, it } from "vitest";
import type { Sender } from "../../../collector/resolver/attribution.ts";
import type { Fields } from "../../fixtures/als.ts";
import { ADDRESS, at, http, identify, ROUTER, tcp, told, uri, WEB } from "./entries.ts";

describe("address", () => {
  const OWN = identify("sidecar~10.7.7.7~web-1.ns~ns.svc.cluster.local", {}, "outbound");
  const WAY = identify("waypoint~10.7.7.7~w-1.ns~ns.svc.cluster.local", {}, "outbound");
  const of = (name: string, namespace: string | null) => ({ service: name, namespace, analyzer: "address" });

  it.each<[string, Sender, Fields, string, object]>([
    ["the cluster", OWN, { upstreamCluster: "outbound|80||a.b.svc.cluster.local" }, "x", of("a.b", "b")],
    ["the cluster of a subset", OWN, { upstreamCluster: "outbound|80|v1|a.b.svc.cluster.local" }, "", of("a.b", "b")],
    [
      "the cluster of a ServiceEntry",
      OWN,
      { upstreamCluster: "outbound|443||api.example.com" },
      "",
      of("api.example.com", null),
    ],
    [
      "the cluster between networks",
      ROUTER,
      { upstreamCluster: "outbound_.80_._.a.b.svc.cluster.local" },
      "",
      of("a.b", "b"),
    ],
    ["a waypoint's cluster", WAY, { upstreamCluster: "inbound-vip|80|http|a.b.svc.cluster.local" }, "", of("a.b", "b")],
    [
      "another domain is none of Kubernetes",
      OWN,
      { upstreamCluster: "outbound|80||a.b.svc.evil.com" },
      "",
      of("a.b.svc.evil.com", null),
    ],
    ["all clusters' domain", OWN, { upstreamCluster: "outbound|80||a.b.svc.clusterset.local" }, "", of("a.b", "b")],
    [
      "the cluster's metadata",
      OWN,
      { upstreamCluster: "x", customTags: { destination_service_host: "a", destination_service_namespace: "b" } },
      "z",
      of("a.b", "b"),
    ],
    [
      "the cluster's metadata, name and namespace",
      ROUTER,
      {
        upstreamCluster: "x",
        customTags: {
          destination_service_host: "a.com",
          destination_service_name: "a",
          destination_service_namespace: "b",
        },
      },
      "z",
      of("a.b", "b"),
    ],
    ["the authority", OWN, {}, "a.b.svc.cluster.local:80", of("a.b", "b")],
    ["the authority of a pod of a headless service", OWN, {}, "a-0.a.b.svc.cluster.local", of("a.b", "b")],
    ["the authority's short host, in the own namespace", OWN, {}, "A:80", of("a.ns", "ns")],
    ["the authority's host with its last dot", OWN, {}, "a.b.svc.cluster.local.:80", of("a.b", "b")],
    ["the authority's host of two parts", OWN, {}, "a.b", of("a.b", null)],
    [
      "the authority's host",
      OWN,
      { upstreamCluster: "PassthroughCluster" },
      "API.example.com:443",
      of("api.example.com", null),
    ],
    ["the authority's address", OWN, {}, "10.0.0.7:8080", of("10.0.0.7:8080", null)],
    ["the authority's IPv6 address", OWN, {}, "[FD00::7]:8080", of("[fd00::7]:8080", null)],
    [
      "the authority before a plain cluster",
      OWN,
      { upstreamCluster: "egress" },
      "api.example.com",
      of("api.example.com", null),
    ],
    ["a plain cluster", ROUTER, { upstreamCluster: "reviews-v1" }, "scanner.example", of("reviews-v1", null)],
    ["the SNI", OWN, { tlsProperties: { tlsSniHostname: "api.example.com" } }, "", of("api.example.com", null)],
    [
      "Istio's SNI",
      OWN,
      { tlsProperties: { tlsSniHostname: "outbound_.80_._.a.b.svc.cluster.local" } },
      "",
      of("a.b", "b"),
    ],
    [
      "the server's SPIFFE id",
      ROUTER,
      { upstreamRemoteAddress: at(WEB), customTags: { upstream_peer_uri_san: "spiffe://td/ns/b/sa/a,spiffe://x" } },
      "",
      of("a.b", "b"),
    ],
  ])("5 a client's server by %s", (_rule, sender, common, authority, expected) => {
    const side = http(common, sender, { ...ADDRESS, authority }).at(-1);
    expect(side?.destination).toEqual({ ...expected, workload: null, instance: null });
  });

  it.each<[string, Sender, Fields, string]>([
    ["what a gateway's caller asks for", ROUTER, { upstreamRemoteAddress: at(WEB) }, "api.example.com"],
    ["no host", OWN, {}, "../etc/passwd"],
    ["a host that is too long", OWN, {}, `${"a.".repeat(200)}com`],
    ["the machine itself", OWN, {}, "localhost:80"],
    ["the machine's own address", OWN, {}, "127.0.0.1:80"],
    ["the machine's own address of the other family", OWN, {}, "[::1]:80"],
    ["an address of a catch-all", OWN, { upstreamCluster: "PassthroughCluster" }, "93.184.216.34"],
    ["a catch-all cluster", ROUTER, { upstreamCluster: "PassthroughCluster" }, ""],
    ["the account of everybody", OWN, { customTags: { upstream_peer_uri_san: "spiffe://td/ns/b/sa/default" } }, ""],
    ["another kind of SPIFFE id", OWN, { customTags: { upstream_peer_uri_san: "spiffe://td/vm/1" } }, ""],
  ])("names nobody by %s", (_rule, sender, common, authority) => {
    expect(http(common, sender, { ...ADDRESS, authority }).at(-1)?.destination).toMatchObject({
      service: null,
      analyzer: null,
    });
  });

  it.each<[string, Sender, Fields, string[]]>([
    [
      "a caller by its certificate",
      identify("sidecar~10.7.7.7~x.y~z", {}, "inbound"),
      { tlsProperties: { peerCertificateProperties: uri("spiffe://td/ns/b/sa/a") } },
      ["server: a.b -> (node_not_named)"],
    ],
    [
      "a gateway's caller by its certificate, too",
      ROUTER,
      { tlsProperties: { peerCertificateProperties: uri("spiffe://td/ns/b/sa/a"), tlsSniHostname: "x.com" } },
      ["server: a.b -> (node_not_named)"],
    ],
    [
      "a server by its cluster",
      identify("sidecar~10.7.7.7~x.y~z", {}, "inbound"),
      { upstreamCluster: "inbound|80|http|a.b.svc.cluster.local" },
      ["server: (peer_outside_mesh) -> a.b"],
    ],
    [
      "a server by its own certificate",
      identify("sidecar~10.7.7.7~x.y~z", {}, "inbound"),
      { tlsProperties: { localCertificateProperties: uri("spiffe://td/ns/b/sa/a") } },
      ["server: (peer_outside_mesh) -> a.b"],
    ],
    [
      "a client by its own certificate",
      OWN,
      { customTags: { upstream_local_uri_san: "spiffe://td/ns/b/sa/a" }, upstreamCluster: "outbound|1||c.d" },
      ["client: a.b -> c.d"],
    ],
  ])("names %s", (_rule, sender, common, expected) => {
    expect(told(http(common, sender, ADDRESS))).toEqual(expected);
    expect(told(tcp(common, sender, ADDRESS))).toEqual(expected);
  });

  it.each<[string, Fields, string]>([
    ["by the SNI", { tlsProperties: { tlsSniHostname: "db.example.com" } }, "db.example.com"],
    ["by the address that was connected to", {}, "10.0.0.7:5432"],
    ["by the cluster before either", { upstreamCluster: "outbound|5432||db.ns2.svc.cluster.local" }, "db.ns2"],
  ])("names a TCP client's server %s", (_rule, common, expected) => {
    const [side] = tcp({ downstreamLocalAddress: at("10.0.0.7", 5432), ...common }, OWN, ADDRESS);
    expect(side?.destination.service).toBe(expected);
  });

  it.each([
    ["NR", { noRouteFound: true }, 404],
    ["UH", { noHealthyUpstream: true }, 503],
    ["UF", { upstreamConnectionFailure: true }, 503],
    ["UO", { upstreamOverflow: true }, 503],
    ["RL", { rateLimited: true }, 429],
    ["UAEX", { unauthorizedDetails: {} }, 403],
    ["FI", { faultInjected: true }, 503],
    ["NC", { noClusterFound: true }, 503],
    ["DPE", { downstreamProtocolError: true }, 400],
    ["UT", { upstreamRequestTimeout: true }, 504],
    ["DC", { downstreamConnectionTermination: true }, 0],
  ])("5 %s: a failed call of whom the cluster, else the authority names", (flag, responseFlags, code) => {
    const options = { ...ADDRESS, authority: "a.b.svc", code };
    for (const upstreamCluster of ["", "outbound|80||a.b.svc.cluster.local"]) {
      const sides = http({ upstreamCluster, responseFlags }, OWN, options);
      expect(sides).toMatchObject([{ detectPoint: "client", flags: [flag], success: false }]);
      expect(sides[0]?.destination.service).toBe("a.b");
    }
  });
});
