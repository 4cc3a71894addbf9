// Who the ends of a call are by what proxies tell of themselves.
// Where a rule is one of SkyWalking's, or mends one of its, its row begins with the number that our specification of it has: 3 addresses,
// 4 metadata, 5 errors.

import { describe, expect, it } from "vitest";
import { Analyser } from "../../../collector/analysis/analyse.ts";
import type { Analyzer } from "../../../collector/identity/chain.ts";
import { nameRule } from "../../../collector/identity/names.ts";
import type { Sender } from "../../../collector/resolver/attribution.ts";
import { bytesState, encodeEntry, type Fields, structState } from "../../fixtures/als.ts";
import { encodeFlatNode } from "../../fixtures/flat-node.ts";
import { indexOf, pod, RULES } from "../identity/cluster.ts";
import {
  type Analyse,
  at,
  BY_METADATA,
  FACTS,
  FLAT,
  http,
  identify,
  LABELS,
  MX,
  REVIEWS,
  SHORT,
  SIDECAR,
  STRANGER,
  tcp,
  told,
  uri,
} from "./entries.ts";

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
      "a caller whose certificate is of another namespace than it says",
      sidecar("inbound"),
      {
        filterStateObjects: { downstream_peer: structState(SHORT) },
        tlsProperties: { peerCertificateProperties: uri("spiffe://td/ns/certified/sa/reviews") },
      },
      ["server: reviews.certified -> web.default"],
    ],
    [
      "a gateway's caller whose certificate is of another namespace, too",
      identify("router~10.7.7.7~gateway-1.default~x", own),
      {
        filterStateObjects: { "wasm.downstream_peer": FLAT },
        tlsProperties: { peerCertificateProperties: uri("spiffe://td/ns/certified/sa/reviews") },
      },
      ["server: reviews.certified -> web.default"],
    ],
    [
      "a client with a certificate of the mesh",
      sidecar("inbound"),
      { tlsProperties: { peerCertificateProperties: uri("spiffe://td/ns/default/sa/default") } },
      ["server: (peer_metadata_missing) -> web.default"],
    ],
  ])("%s", (_rule, sender, common, expected) => {
    expect(told(analyse(common, sender, MX))).toEqual(expected);
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
