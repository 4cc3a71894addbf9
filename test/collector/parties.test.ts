// Who the ends of a call are, by every analyzer and every chain of them: a row for each rule. Where the rule is one of SkyWalking's, or
// mends one of its, the row begins with the number that our specification of it has: 3 addresses, 4 metadata, 5 errors.

import { describe, expect, it, test } from "vitest";
import { Analyser } from "../../collector/analysis/analyse.ts";
import type { Party, Side } from "../../collector/analysis/side.ts";
import { ANALYZERS, type Analyzer } from "../../collector/identity/chain.ts";
import { nameRule } from "../../collector/identity/names.ts";
import { decodeAlsMessage } from "../../collector/proto/als.ts";
import { identifySender, type Sender } from "../../collector/resolver/attribution.ts";
import {
  bytesState,
  encodeEntry,
  encodeMessage,
  encodeTcpEntry,
  type Fields,
  structFields,
  structState,
} from "../fixtures/als.ts";
import { encodeFlatNode } from "../fixtures/flat-node.ts";
import { indexOf, node, pod, RULES, service, serviceEntry, slice } from "./identity/cluster.ts";

const CANONICAL_NAME = "service.istio.io/canonical-name";
const WEB = "10.0.0.1";
const REVIEWS = "10.0.0.2";
const GATEWAY = "10.0.0.3";
const WAYPOINT = "10.0.0.4";
const STRANGER = "10.9.9.9";
const NODE = "192.168.1.10";
const REVIEWS_SERVICE = "10.96.0.2";
const INTERNET = "93.184.216.34";

const LABELS = { [CANONICAL_NAME]: "reviews", app: "short", version: "v3" };
const LOOKUP = indexOf([
  pod("web-1", [WEB, "fd00::1"], { labels: { app: "web" } }),
  pod("reviews-1", [REVIEWS], { labels: LABELS }),
  pod("gateway-1", [GATEWAY], { labels: { app: "gateway" } }),
  pod("waypoint-1", [WAYPOINT], { labels: { app: "waypoint" } }),
  pod("agent-1", [NODE], { labels: { app: "agent" }, spec: { hostNetwork: true, containers: [] }, hostIP: NODE }),
  node(NODE),
  service("reviews", REVIEWS_SERVICE),
  slice("reviews", [REVIEWS]),
  serviceEntry("payments", { addresses: ["198.51.100.0/24"] }),
]);

function identify(id: string, metadata: Fields = {}, logName = ""): Sender {
  const identifier = decodeAlsMessage(
    encodeMessage({ identifier: { node: { id, metadata: structFields(metadata) }, logName } }),
  )?.identifier;
  if (!identifier) throw new Error("the test's own identifier is broken");
  return identifySender(identifier);
}

const at = (address: string, portValue = 80) => ({ socketAddress: { address, portValue } });
const internal = (endpointId: string) => ({ envoyInternalAddress: { serverListenerName: "x", endpointId } });
const uri = (id: string) => ({ subjectAltName: [{ uri: id }] });

interface Options {
  readonly chain?: readonly Analyzer[];
  readonly authority?: string;
  readonly code?: number;
}

type Analyse = (common: Fields, sender: Sender, options?: Options) => Side[];

function analyserOf({ chain = ANALYZERS }: Options): Analyser {
  return new Analyser(Date.now, { analyzers: chain, lookup: LOOKUP, rules: RULES });
}

const http: Analyse = (commonProperties, sender, options = {}) => {
  const { authority = "", code = 200 } = options;
  const request = { requestMethod: 1, path: "/", authority };
  const bytes = encodeEntry({ commonProperties, request, response: { responseCode: { value: code } } });
  return analyserOf(options).analyseHttp(bytes, 0, bytes.length, sender);
};

const tcp: Analyse = (common, sender, options = {}) => {
  const bytes = encodeTcpEntry({ commonProperties: { accessLogType: 3, ...common } });
  return analyserOf(options).analyseTcp(bytes, 0, bytes.length, sender);
};

/** `server: web.default -> reviews.default`, in which `(reason)` stands for who is not known. */
function told(sides: readonly Side[]): string[] {
  const name = ({ service, reason }: Party) => service ?? `(${reason})`;
  return sides.map(({ detectPoint, source, destination }) => `${detectPoint}: ${name(source)} -> ${name(destination)}`);
}

const K8S: Options = { chain: ["k8s-mesh"] };
const MX: Options = { chain: ["mx-mesh"] };
const ADDRESS: Options = { chain: ["address"] };
const SIDECAR = identify("sidecar~10.7.7.7~x.y~y.svc.cluster.local");
const ROUTER = identify("router~10.7.7.7~x.y~y.svc.cluster.local");
const PLAIN = identify("envoy");

describe.each<[string, Analyse]>([
  ["HTTP", http],
  ["TCP", tcp],
])("k8s-mesh, %s", (_protocol, analyse) => {
  const inbound = { upstreamCluster: "inbound|9080||" };
  const outbound = { upstreamCluster: "outbound|9080||reviews.default.svc.cluster.local" };
  const web = { downstreamRemoteAddress: at(WEB) };
  const reviews = { upstreamRemoteAddress: at(REVIEWS) };

  it.each<[string, Sender, Fields, string[]]>([
    [
      "3.1 sidecar, inbound|: one server side, from the remote to the local address",
      SIDECAR,
      { ...inbound, ...web, downstreamLocalAddress: at(REVIEWS), upstreamRemoteAddress: at("127.0.0.1") },
      ["server: web.default -> reviews.default"],
    ],
    [
      "3.1 sidecar, inbound| with protocol and host",
      SIDECAR,
      {
        upstreamCluster: "inbound|9080|http|reviews.default.svc.cluster.local",
        ...web,
        downstreamLocalAddress: at(REVIEWS),
      },
      ["server: web.default -> reviews.default"],
    ],
    [
      "3.1 sidecar, inbound|: the direct remote address, not what X-Forwarded-For names",
      SIDECAR,
      {
        ...inbound,
        downstreamRemoteAddress: at(REVIEWS),
        downstreamDirectRemoteAddress: at(WEB),
        downstreamLocalAddress: at(REVIEWS),
      },
      ["server: web.default -> reviews.default"],
    ],
    [
      "3.1 sidecar, inbound|: an unknown remote has a reason",
      SIDECAR,
      { ...inbound, downstreamRemoteAddress: at(STRANGER), downstreamLocalAddress: at(REVIEWS) },
      ["server: (address_not_known) -> reviews.default"],
    ],
    [
      "3.1 sidecar, outbound|: one client side, from the local app to the upstream",
      SIDECAR,
      { ...outbound, ...web, ...reviews, downstreamLocalAddress: at(REVIEWS_SERVICE) },
      ["client: web.default -> reviews.default"],
    ],
    [
      "3.1 sidecar, outbound| without an upstream address: whom the cluster names",
      SIDECAR,
      { ...outbound, ...web, responseFlags: { noHealthyUpstream: true } },
      ["client: web.default -> reviews.default"],
    ],
    [
      "3.1 sidecar, PassthroughCluster: by the address that it was asked for",
      SIDECAR,
      { upstreamCluster: "PassthroughCluster", ...web, downstreamLocalAddress: at(REVIEWS_SERVICE) },
      ["client: web.default -> reviews.default"],
    ],
    [
      "3.1 sidecar, BlackHoleCluster: nobody is behind the address",
      SIDECAR,
      { upstreamCluster: "BlackHoleCluster", ...web, downstreamLocalAddress: at(INTERNET) },
      ["client: web.default -> (upstream_not_reached)"],
    ],
    [
      "3.1 sidecar, InboundPassthroughCluster",
      SIDECAR,
      { upstreamCluster: "InboundPassthroughCluster", ...web, downstreamLocalAddress: at(REVIEWS) },
      ["server: web.default -> reviews.default"],
    ],
    [
      "3.1 sidecar, a cluster of its own name",
      SIDECAR,
      { upstreamCluster: "my-filter", ...web, ...reviews },
      ["client: web.default -> reviews.default"],
    ],
    [
      "3.1 sidecar, no cluster",
      SIDECAR,
      { ...web, downstreamLocalAddress: at(REVIEWS_SERVICE) },
      ["client: web.default -> reviews.default"],
    ],
    [
      "3.1 sidecar without any address is no failure",
      SIDECAR,
      inbound,
      ["server: (peer_outside_mesh) -> (node_not_named)"],
    ],
    [
      "3.1 router: a server and a client side, itself between",
      ROUTER,
      { ...outbound, downstreamRemoteAddress: at(INTERNET), downstreamLocalAddress: at(GATEWAY), ...reviews },
      ["server: (peer_outside_mesh) -> gateway.default", "client: gateway.default -> reviews.default"],
    ],
    [
      "3.1 ingress~ is a router",
      identify("ingress~10.7.7.7~x.y~y"),
      { ...outbound, ...web, downstreamLocalAddress: at(GATEWAY), ...reviews },
      ["server: web.default -> gateway.default", "client: gateway.default -> reviews.default"],
    ],
    [
      "3.1 router without an upstream: 404 NR and redirects are its own answers",
      ROUTER,
      { ...web, downstreamLocalAddress: at(GATEWAY), responseFlags: { noRouteFound: true } },
      ["server: web.default -> gateway.default"],
    ],
    [
      "3.1 router without an upstream: 503 UH is a failed call, too, of whom the cluster names",
      ROUTER,
      { ...outbound, ...web, downstreamLocalAddress: at(GATEWAY), responseFlags: { noHealthyUpstream: true } },
      ["server: web.default -> gateway.default", "client: gateway.default -> reviews.default"],
    ],
    [
      "3.1 waypoint: as a router, by its own address instead of the local one",
      identify(`waypoint~${WAYPOINT}~x.y~y`),
      { ...web, downstreamLocalAddress: at(REVIEWS_SERVICE), ...reviews },
      ["server: web.default -> waypoint.default", "client: waypoint.default -> reviews.default"],
    ],
    [
      "3.1 waypoint: its own address from INSTANCE_IPS, a list of both families",
      identify("waypoint~10.7.7.7~x.y~y", { INSTANCE_IPS: `fd00::9, ${WAYPOINT}` }),
      { ...web, ...reviews },
      ["server: web.default -> waypoint.default", "client: waypoint.default -> reviews.default"],
    ],
    [
      "3.1 waypoint that has only IPv6",
      identify("waypoint~10.7.7.7~x.y~y", { INSTANCE_IPS: "fd00:0::1" }),
      reviews,
      ["server: (peer_outside_mesh) -> web.default", "client: web.default -> reviews.default"],
    ],
    [
      "3.1 waypoint: an internal address is valid by its endpoint id",
      identify(`waypoint~${WAYPOINT}~x.y~y`),
      { downstreamDirectRemoteAddress: internal(`${WEB}:80`), upstreamRemoteAddress: internal(`${REVIEWS}:9080`) },
      ["server: web.default -> waypoint.default", "client: waypoint.default -> reviews.default"],
    ],
    [
      "3.1 waypoint: a direct address that is none is not made up for by X-Forwarded-For",
      identify(`waypoint~${WAYPOINT}~x.y~y`),
      { ...web, downstreamDirectRemoteAddress: internal("listener"), ...reviews },
      ["server: (peer_outside_mesh) -> waypoint.default", "client: waypoint.default -> reviews.default"],
    ],
    [
      "3.1 none: by direction, as a sidecar",
      PLAIN,
      { ...web, ...reviews, upstreamCluster: "reviews" },
      ["client: web.default -> reviews.default"],
    ],
    [
      "3.1 a pipe is no address",
      SIDECAR,
      { ...inbound, downstreamRemoteAddress: { pipe: { path: "/x" } }, downstreamLocalAddress: at(REVIEWS) },
      ["server: (peer_outside_mesh) -> reviews.default"],
    ],
    [
      "3.2 a ServiceEntry's block",
      SIDECAR,
      { upstreamCluster: "x", ...web, upstreamRemoteAddress: at("198.51.100.7") },
      ["client: web.default -> payments.mesh"],
    ],
    [
      "3.2 a ServiceEntry by its host, though no DNS was asked",
      SIDECAR,
      { upstreamCluster: "outbound|443||payments.example.com", ...web, upstreamRemoteAddress: at(INTERNET) },
      ["client: web.default -> payments.mesh"],
    ],
    [
      "3.2 a node's address",
      SIDECAR,
      { ...inbound, downstreamRemoteAddress: at(NODE, 40_000), downstreamLocalAddress: at(REVIEWS) },
      ["server: (address_shared) -> reviews.default"],
    ],
    [
      "3.2 a host-network pod is known by its node id",
      identify(`sidecar~${NODE}~agent-1.default~default.svc.cluster.local`),
      { ...outbound, ...reviews },
      ["client: agent.default -> reviews.default"],
    ],
    [
      "3.2 a pod's second address",
      SIDECAR,
      { ...inbound, downstreamRemoteAddress: at("fd00::1"), downstreamLocalAddress: at(REVIEWS) },
      ["server: web.default -> reviews.default"],
    ],
    [
      "3.2 a pod that no Service selects",
      SIDECAR,
      { ...outbound, ...web, ...reviews },
      ["client: web.default -> reviews.default"],
    ],
  ])("%s", (_rule, sender, common, expected) => {
    expect(told(analyse(common, sender, K8S))).toEqual(expected);
  });

  it("3.2 names all of a pod", () => {
    expect(analyse({ ...outbound, ...web, ...reviews }, SIDECAR, K8S)[0]).toMatchObject({
      source: {
        service: "web.default",
        namespace: "default",
        workload: "web-1",
        instance: "web-1.default",
        analyzer: "k8s-mesh",
      },
      destination: { service: "reviews.default", instance: "reviews-1.default", analyzer: "k8s-mesh" },
    });
  });

  it("3.2 of a ServiceEntry the instance is the address; a Service has none", () => {
    const destination = (address: string) =>
      analyse({ upstreamCluster: "x", upstreamRemoteAddress: at(address) }, SIDECAR, K8S)[0]?.destination;
    expect(destination("198.51.100.7")).toMatchObject({ instance: "198.51.100.7", workload: null });
    expect(destination(REVIEWS_SERVICE)).toMatchObject({ service: "reviews.default", instance: null, workload: null });
  });

  it("3.1 an address in front of a gateway's is not whom it called", () => {
    const common = { upstreamCluster: "x", downstreamLocalAddress: at(GATEWAY), upstreamRemoteAddress: at(INTERNET) };
    expect(told(analyse(common, ROUTER, K8S))[1]).toBe("client: gateway.default -> (peer_metadata_missing)");
  });
});

const FACTS = { NAME: "reviews-1", NAMESPACE: "default", WORKLOAD_NAME: "reviews-1", LABELS, CLUSTER_ID: "east" };
const SHORT = {
  name: "reviews-1",
  namespace: "default",
  service: "reviews",
  app: "short",
  version: "v3",
  workload: "reviews-1",
  cluster: "east",
};
const FLAT = bytesState(
  encodeFlatNode({ name: "reviews-1", namespace: "default", workloadName: "reviews-1", labels: LABELS }),
);
const BY_METADATA = {
  service: "reviews.default",
  namespace: "default",
  workload: "reviews-1",
  instance: "reviews-1.default",
  analyzer: "mx-mesh",
};

describe.each<[string, Analyse]>([
  ["HTTP", http],
  ["TCP", tcp],
])("mx-mesh, %s", (_protocol, analyse) => {
  const own = { NAME: "web-1", NAMESPACE: "default", WORKLOAD_NAME: "web", LABELS: { app: "web" } };
  const sidecar = (logName: string) =>
    identify("sidecar~10.7.7.7~web-1.default~default.svc.cluster.local", own, logName);

  it.each<[string, string, Fields]>([
    ["4 wasm.upstream_peer, a FlatNode", "wasm.upstream_peer", FLAT],
    ["4 upstream_peer, a Struct with short keys", "upstream_peer", structState(SHORT)],
    ["4 upstream_peer, a Struct with long keys", "upstream_peer", structState(FACTS)],
    [
      "4 keys in any case",
      "upstream_peer",
      structState({ Name: "reviews-1", Namespace: "default", Workload: "reviews-1", SERVICE: "reviews" }),
    ],
  ])("%s: a client side from the proxy to it", (_rule, key, state) => {
    const common = { upstreamCluster: "outbound|80||x.y.svc.cluster.local", upstreamRemoteAddress: at(STRANGER) };
    const sides = analyse({ ...common, filterStateObjects: { [key]: state } }, sidecar("outbound"), MX);
    expect(sides).toMatchObject([
      { detectPoint: "client", source: { service: "web.default" }, destination: BY_METADATA },
    ]);
  });

  it.each<[string, string, Fields]>([
    ["4 wasm.downstream_peer, a FlatNode", "wasm.downstream_peer", FLAT],
    ["4 downstream_peer, a Struct with short keys", "downstream_peer", structState(SHORT)],
  ])("%s: a server side from it to the proxy", (_rule, key, state) => {
    const sides = analyse({ filterStateObjects: { [key]: state } }, sidecar("inbound"), MX);
    expect(sides).toMatchObject([
      { detectPoint: "server", source: BY_METADATA, destination: { service: "web.default" } },
    ]);
  });

  it.each<[string, Sender, Fields, string[]]>([
    [
      "4 keys of both generations are one peer",
      sidecar("outbound"),
      {
        filterStateObjects: { "wasm.upstream_peer": FLAT, upstream_peer: structState({ ...SHORT, service: "other" }) },
      },
      ["client: web.default -> reviews.default"],
    ],
    [
      "4 of both generations the one that has a name",
      sidecar("outbound"),
      {
        filterStateObjects: {
          "wasm.upstream_peer": bytesState(encodeFlatNode({ clusterId: "east" })),
          upstream_peer: structState(SHORT),
        },
      },
      ["client: web.default -> reviews.default"],
    ],
    [
      "4 router with both peers: two sides",
      identify("router~10.7.7.7~gateway-1.default~x", { ...own, LABELS: { app: "gateway" } }),
      {
        upstreamCluster: "outbound|80||x.y",
        filterStateObjects: {
          downstream_peer: structState({ ...SHORT, service: "caller" }),
          upstream_peer: structState(SHORT),
        },
      },
      ["server: caller.default -> gateway.default", "client: gateway.default -> reviews.default"],
    ],
    [
      "4 router without a downstream peer, whatever else is in the filter state",
      identify("router~10.7.7.7~gateway-1.default~x", own),
      { upstreamCluster: "outbound|80||x.y", filterStateObjects: { upstream_peer: structState(SHORT) } },
      ["server: (peer_outside_mesh) -> web.default", "client: web.default -> reviews.default"],
    ],
    [
      "4 an undecodable peer is no one, and the entry goes on",
      sidecar("outbound"),
      {
        upstreamRemoteAddress: at(REVIEWS),
        filterStateObjects: { "wasm.upstream_peer": bytesState(Buffer.from([255, 255, 255, 255])) },
      },
      ["client: web.default -> (peer_malformed)"],
    ],
    [
      "4 a peer without a name",
      sidecar("inbound"),
      { filterStateObjects: { downstream_peer: structState({ NAMESPACE: "default", CLUSTER_ID: "east" }) } },
      ["server: (peer_not_named) -> web.default"],
    ],
    [
      "4 peer ids, and peers that were not found, say nothing",
      sidecar("inbound"),
      { filterStateObjects: { "wasm.downstream_peer_id": FLAT, peer_not_found: FLAT } },
      ["server: (peer_outside_mesh) -> web.default"],
    ],
    [
      "4 - is no name",
      sidecar("inbound"),
      { filterStateObjects: { downstream_peer: structState({ ...SHORT, service: "-" }) } },
      ["server: short.default -> web.default"],
    ],
    [
      "a server that only the control plane describes",
      sidecar("outbound"),
      { upstreamRemoteAddress: at(REVIEWS), customTags: { upstream_workload: "reviews-v1;default;reviews;v1;east" } },
      ["client: web.default -> reviews.default"],
    ],
    [
      "a client with a certificate of the mesh",
      sidecar("inbound"),
      { tlsProperties: { peerCertificateProperties: uri("spiffe://td/ns/default/sa/default") } },
      ["server: (peer_metadata_missing) -> web.default"],
    ],
  ])("%s", (_rule, sender, common, expected) => {
    const tags = (common["customTags"] ?? {}) as Fields;
    const customTags = Object.entries(tags).map(([tag, value]) => ({ tag, value }));
    expect(customTags.length).toBeLessThan(2);
    expect(told(analyse({ ...common, customTags: tags }, sender, MX))).toEqual(expected);
  });
});

describe("one pod has one name", () => {
  const RULE_PAIRS: [string, string][] = [
    ['${LABELS."service.istio.io/canonical-name",SERVICE}.${NAMESPACE}', "${NAME}.${NAMESPACE}"],
    ["a-${pod.metadata.labels.(service.istio.io/canonical-name)}-b", "i-${pod.metadata.name}-j"],
    ["${WORKLOAD_NAME}", "${pod.metadata.namespace}/${pod.metadata.name}"],
    ["${LABELS.version}.${SERVICE}", "${NAME}"],
    ["${LABELS.nothing}.${NAMESPACE}", "${NAME}"],
  ];
  const common = { upstreamRemoteAddress: at(REVIEWS) };
  const states: [string, Fields][] = [
    ["a FlatNode", { "wasm.upstream_peer": FLAT }],
    ["a Struct with long keys", { upstream_peer: structState(FACTS) }],
    ["a Struct with short keys", { upstream_peer: structState(SHORT) }],
  ];
  const cases = [["", ""] as [string, string], ...RULE_PAIRS].flatMap(([service, instance]) =>
    states.map(([name, filterStateObjects]) => ({ service, instance, name, filterStateObjects })),
  );

  it.each(cases)("4, 3.2 by $name and by its object, rules $service and $instance", (row) => {
    const rules =
      row.service === "" ? RULES : { ...RULES, service: nameRule(row.service), instance: nameRule(row.instance) };
    const lookup = indexOf([pod("reviews-1", [REVIEWS], { labels: LABELS })], rules);
    const destination = (analyzer: Analyzer) => {
      const bytes = encodeEntry({
        commonProperties: { ...common, filterStateObjects: row.filterStateObjects },
        request: { authority: "x" },
      });
      const analyser = new Analyser(Date.now, { analyzers: [analyzer], lookup, rules });
      const party = analyser.analyseHttp(bytes, 0, bytes.length, SIDECAR)[0]?.destination;
      expect(party?.analyzer).toBe(analyzer);
      return { ...party, analyzer: null };
    };
    expect(destination("mx-mesh")).toEqual(destination("k8s-mesh"));
  });

  it("4, 3.2 as the proxy itself and as a peer", () => {
    const entry = { filterStateObjects: { upstream_peer: structState(SHORT) } };
    const [side] = http(entry, identify("sidecar~10.7.7.7~x.y~z", FACTS), MX);
    expect(side?.source).toEqual(BY_METADATA);
    expect(side?.destination).toEqual(BY_METADATA);
  });

  it("without labels it is called after its workload", () => {
    const [side] = http({}, identify("envoy", { WORKLOAD_NAME: "web", NAMESPACE: "ns" }), MX);
    expect(side?.source).toMatchObject({ service: "web.ns", workload: "web", instance: null });
  });

  it.each([
    ["sidecar~10.0.0.1~web-1.ns~ns.svc.cluster.local", "web-1.ns", "ns"],
    ["sidecar~10.0.0.1~web.v1-1.ns~ns.svc.cluster.local", "web.v1-1.ns", "ns"],
    ["sidecar~10.0.0.1~vm~svc.cluster.local", "vm.-", null],
    ["sidecar", null, null],
  ])("what metadata leaves open the node id says: %s", (id, instance, namespace) => {
    expect(http({}, identify(id), MX)[0]?.source).toMatchObject({ instance, namespace, reason: "node_not_named" });
  });
});

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
    ["the authority's host of two parts", OWN, {}, "a.b", of("a.b", null)],
    [
      "the authority's host",
      OWN,
      { upstreamCluster: "PassthroughCluster" },
      "API.example.com:443",
      of("api.example.com", null),
    ],
    ["the authority's address", OWN, {}, "10.0.0.7:8080", of("10.0.0.7:8080", null)],
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
    const whole = common["upstreamCluster"] === undefined && sender === ROUTER ? side : side;
    expect(whole?.destination).toEqual({ ...expected, workload: null, instance: null });
  });
});
