// What mesh_* call the ends of calls for which Istio's own telemetry has no names: outside the mesh, egress, plaintext TCP, black holes and
// passthrough, other clusters. From access-log entries of any proxy, and from the filter's stats.

import { describe, expect, it } from "vitest";
import { decodeAlsMessage } from "../../collector/proto/als.ts";
import { AlsDecoder } from "../../collector/record/from-als.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import type { DestinationRule } from "../../collector/series/unified.ts";
import { LABELS, START_TIME_METRIC } from "../../collector/vocabulary.ts";
import { TrafficFamilies } from "../../collector/web/exposition/families.ts";
import { TextTraffic } from "../../collector/web/exposition/text.ts";
import { encodeEntry, encodeMessage, encodeTcpEntry, type Fields, structFields, structState } from "../fixtures/als.ts";
import { readStats } from "../fixtures/stats.ts";
import { indexOf, pod, service, serviceEntry, slice } from "./identity/cluster.ts";
import { type LabelValues, values } from "./labels.ts";

const POD_WITHOUT_PROXY = "10.0.0.1";
const DATABASE = "10.0.0.2";
const DATABASE_SERVICE = "10.96.0.2";
const PAYMENTS = "198.51.100.7";

const chain = {
  analyzers: ["mx-mesh", "k8s-mesh", "address"],
  lookup: indexOf([
    pod("job", [POD_WITHOUT_PROXY], { labels: { app: "job", version: "v1" } }),
    pod("db", [DATABASE], { labels: { app: "db" } }),
    service("db", DATABASE_SERVICE),
    slice("db", [DATABASE]),
    serviceEntry("payments", { addresses: ["198.51.100.0/24"] }),
  ]),
} as const;

const ISTIO = { ISTIO_VERSION: "1.29.0", CLUSTER_ID: "east" };
const OWN = {
  WORKLOAD_NAME: "web-v1",
  NAMESPACE: "default",
  LABELS: { app: "web", "service.istio.io/canonical-name": "web" },
};
const EGRESS = { WORKLOAD_NAME: "egress", NAMESPACE: "istio-system", LABELS: { app: "egress" } };
const at = (address: string, portValue = 443) => ({ socketAddress: { address, portValue } });
const tls = (uri: string) => ({
  peerCertificateProperties: { subjectAltName: [{ uri }] },
  localCertificateProperties: { subjectAltName: [{ uri: "spiffe://cluster.local/ns/default/sa/web" }] },
});

interface Case {
  readonly kind?: "tcp";
  readonly from: { readonly log: "inbound" | "outbound" | ""; readonly node?: Fields; readonly id?: string };
  /** Of the entry: common properties, and what was asked for. */
  readonly common?: Fields;
  readonly authority?: string;
  readonly rule?: DestinationRule;
  /** In the one series of mesh_requests_total, or of mesh_tcp_connections_opened_total; null: there is none. */
  readonly expected: LabelValues | null;
}

/** The label sets of a family, as maps; each must count 1. */
function series(families: TrafficFamilies, family: string): LabelValues[] {
  const lines = Array.from(new TextTraffic(families, "text").render(), String)
    .join("")
    .split("\n")
    .filter((line) => line.startsWith(`${family}{`));
  for (const line of lines) expect(line).toMatch(/\} 1$/);
  return lines.map((line) =>
    Object.fromEntries(
      [...line.matchAll(/([a-z_]+)="([^"]*)"/g)].map(([, name, value]) => [name as string, value as string]),
    ),
  );
}

function setUp(rule: DestinationRule) {
  const limits = { proxies: 5, labelSets: 10, cells: 50, connections: 5, retireAfterMs: 1000 };
  const store = new SeriesStore(limits, { wallMs: () => 1000, steadyMs: () => 1000 });
  return { store, families: new TrafficFamilies(store, rule) };
}

const ENTRIES: [string, Case][] = [
  [
    "a client outside the mesh, which nobody knows",
    {
      from: { log: "inbound", node: ISTIO },
      common: { downstreamRemoteAddress: at("203.0.113.9") },
      expected: {
        observed_by: "destination",
        source_workload: "unknown",
        destination_workload: "web-v1",
        destination_cluster: "east",
        source_cluster: "unknown",
      },
    },
  ],
  [
    "a pod without a proxy, by the name that Kubernetes gives it",
    {
      from: { log: "inbound", node: ISTIO },
      common: { downstreamRemoteAddress: at(POD_WITHOUT_PROXY) },
      expected: {
        observed_by: "destination",
        source_workload: "job",
        source_workload_namespace: "default",
        source_version: "v1",
      },
    },
  ],
  [
    "a pod with a proxy: its own report counts",
    {
      from: { log: "inbound", node: ISTIO },
      common: {
        downstreamRemoteAddress: at(POD_WITHOUT_PROXY),
        filterStateObjects: { downstream_peer: structState({ workload: "job", namespace: "default" }) },
      },
      expected: null,
    },
  ],
  [
    "a client of a plain Envoy, which may have a proxy",
    { from: { log: "inbound" }, common: { downstreamRemoteAddress: at(POD_WITHOUT_PROXY) }, expected: null },
  ],
  [
    "the same where all have said that it has none",
    {
      from: { log: "inbound" },
      common: { downstreamRemoteAddress: at(POD_WITHOUT_PROXY) },
      rule: "all",
      expected: { observed_by: "destination", source_workload: "job" },
    },
  ],
  [
    "a server outside the mesh, by the name that was asked for",
    {
      from: { log: "outbound" },
      authority: "api.example.org",
      common: { upstreamCluster: "outbound|443||api.example.org" },
      expected: {
        observed_by: "source",
        source_workload: "web-v1",
        destination_service: "api.example.org",
        destination_workload: "unknown",
      },
    },
  ],
  [
    "a server outside the mesh, by its ServiceEntry",
    {
      from: { log: "outbound" },
      common: { downstreamLocalAddress: at(PAYMENTS), upstreamRemoteAddress: at(PAYMENTS) },
      expected: { observed_by: "source", destination_service_name: "payments.example.com" },
    },
  ],
  [
    "what went through by passthrough",
    {
      from: { log: "outbound" },
      authority: "other.example.org",
      common: { upstreamCluster: "PassthroughCluster", routeName: "allow_any" },
      expected: {
        observed_by: "source",
        destination_service_name: "PassthroughCluster",
        destination_service: "other.example.org",
      },
    },
  ],
  [
    "what was blocked",
    {
      from: { log: "outbound" },
      authority: "other.example.org",
      common: { routeName: "block_all", responseFlags: { noRouteFound: true } },
      expected: { observed_by: "source", destination_service_name: "BlackHoleCluster", response_flags: "NR" },
    },
  ],
  [
    "what came in by passthrough",
    {
      from: { log: "inbound", node: ISTIO },
      common: { upstreamCluster: "InboundPassthroughCluster" },
      expected: {
        observed_by: "destination",
        destination_service_name: "InboundPassthroughCluster",
        destination_workload: "web-v1",
      },
    },
  ],
  [
    "an egress gateway's call",
    {
      from: { log: "", id: "router~10.0.0.9~egress.istio-system~c", node: EGRESS },
      common: { upstreamRemoteAddress: at(PAYMENTS) },
      expected: { observed_by: "source", source_workload: "egress", destination_service_name: "payments.example.com" },
    },
  ],
  [
    "a server in another cluster",
    {
      from: { log: "outbound", node: { CLUSTER_ID: "west" } },
      common: { customTags: { upstream_workload: "reviews-v1;back;reviews;v1;east" } },
      expected: {
        observed_by: "source",
        source_cluster: "west",
        destination_cluster: "east",
        destination_workload: "reviews-v1",
      },
    },
  ],
  [
    "a TCP server in plaintext, by Kubernetes",
    {
      kind: "tcp",
      from: { log: "outbound" },
      common: { downstreamLocalAddress: at(DATABASE_SERVICE, 5432), upstreamRemoteAddress: at(DATABASE, 5432) },
      expected: {
        observed_by: "source",
        destination_workload: "db",
        destination_service_name: "db",
        request_protocol: "tcp",
      },
    },
  ],
  [
    "a TCP server outside the mesh, by its address",
    {
      kind: "tcp",
      from: { log: "outbound" },
      common: { downstreamLocalAddress: at("203.0.113.5", 5432) },
      expected: { observed_by: "source", destination_service: "203.0.113.5:5432", destination_workload: "unknown" },
    },
  ],
  [
    "a TCP connection by passthrough",
    {
      kind: "tcp",
      from: { log: "outbound" },
      common: { downstreamLocalAddress: at("203.0.113.5", 5432), upstreamCluster: "PassthroughCluster" },
      expected: { observed_by: "source", destination_service_name: "PassthroughCluster" },
    },
  ],
  [
    "a TCP connection that was blocked",
    {
      kind: "tcp",
      from: { log: "outbound" },
      common: {
        upstreamCluster: "BlackHoleCluster",
        responseFlags: { failedLocalHealthcheck: false, upstreamConnectionFailure: true },
      },
      expected: { observed_by: "source", destination_service_name: "BlackHoleCluster", response_flags: "UF" },
    },
  ],
  [
    "a TCP client in plaintext of one of Istio's proxies, which would have come over mutual TLS with a proxy",
    {
      kind: "tcp",
      from: { log: "inbound", node: ISTIO },
      common: { downstreamRemoteAddress: at(POD_WITHOUT_PROXY) },
      expected: { observed_by: "destination", source_workload: "job", connection_security_policy: "none" },
    },
  ],
  [
    "a TCP client with a certificate and without metadata: its proxy may just not have sent a byte",
    {
      kind: "tcp",
      from: { log: "inbound", node: ISTIO },
      common: { tlsProperties: tls("spiffe://cluster.local/ns/a/sa/b") },
      expected: null,
    },
  ],
  [
    "a TCP client of a plain Envoy",
    {
      kind: "tcp",
      from: { log: "inbound" },
      common: { downstreamRemoteAddress: at(POD_WITHOUT_PROXY) },
      expected: null,
    },
  ],
];

describe("by access-log entries without an observation", () => {
  it.each(ENTRIES)("%s", (_what, { kind, from, common = {}, authority = "", rule = "certain", expected }) => {
    const { store, families } = setUp(rule);
    const decoder = new AlsDecoder(chain);
    const node = { id: from.id ?? "sidecar~10.9.9.9~a.b~c", metadata: structFields({ ...OWN, ...from.node }) };
    const identifier = decodeAlsMessage(encodeMessage({ identifier: { node, logName: from.log } }))?.identifier;
    if (!identifier) throw new Error("the test's own identifier is broken");
    const sender = decoder.identify(identifier);
    if (kind === "tcp") {
      const bytes = encodeTcpEntry({ commonProperties: { ...common, streamId: "s" } });
      const origin = decoder.decodeTcp(bytes, 0, bytes.length, sender, (record) => store.observeConnection(record));
      expect(origin).toBe("derived");
    } else {
      const bytes = encodeEntry({ commonProperties: common, request: { authority, requestHeadersBytes: 10 } });
      expect(decoder.decode(bytes, 0, bytes.length, sender, (record) => store.observe(record))).toBe("derived");
    }
    const family = kind === "tcp" ? "tcp_connections_opened_total" : "requests_total";
    expect(series(families, `istio_${family}`)).toHaveLength(1);
    expect(series(families, `mesh_${family}`)).toEqual(expected === null ? [] : [expect.objectContaining(expected)]);
  });
});

const SERVER = { reporter: "destination", destination_workload: "web-v1", source_canonical_revision: "latest" };
const CLIENT = { reporter: "source", source_workload: "web-v1" };

const STATS: [string, "http" | "tcp", LabelValues, DestinationRule, LabelValues | null][] = [
  ["a client outside the mesh", "http", SERVER, "certain", { observed_by: "destination", source_workload: "unknown" }],
  [
    "a client outside the mesh with a certificate",
    "http",
    { ...SERVER, source_principal: "spiffe://a/ns/b/sa/c", source_workload_namespace: "b" },
    "certain",
    { observed_by: "destination", source_principal: "spiffe://a/ns/b/sa/c", source_workload_namespace: "b" },
  ],
  ["a client with a proxy", "http", { ...SERVER, source_workload: "job" }, "certain", null],
  [
    "a server outside the mesh",
    "http",
    { ...CLIENT, destination_service: "api.example.org" },
    "certain",
    { observed_by: "source", destination_service: "api.example.org" },
  ],
  [
    "passthrough",
    "http",
    { ...CLIENT, destination_service_name: "PassthroughCluster" },
    "certain",
    { observed_by: "source", destination_service_name: "PassthroughCluster" },
  ],
  [
    "a black hole",
    "http",
    { ...CLIENT, destination_service_name: "BlackHoleCluster" },
    "certain",
    { observed_by: "source", destination_service_name: "BlackHoleCluster" },
  ],
  [
    "a server in another cluster",
    "http",
    { ...CLIENT, source_cluster: "west", destination_cluster: "east" },
    "certain",
    { observed_by: "source", source_cluster: "west", destination_cluster: "east" },
  ],
  [
    "an egress gateway",
    "http",
    { ...CLIENT, source_workload: "egress", destination_service_name: "payments" },
    "certain",
    { observed_by: "source", source_workload: "egress", destination_service_name: "payments" },
  ],
  [
    "a waypoint's client without a proxy",
    "http",
    { ...SERVER, reporter: "waypoint" },
    "certain",
    { observed_by: "waypoint", source_workload: "unknown" },
  ],
  ["a TCP server in plaintext", "tcp", CLIENT, "certain", { observed_by: "source", destination_workload: "unknown" }],
  [
    "TCP passthrough",
    "tcp",
    { ...CLIENT, destination_service_name: "PassthroughCluster" },
    "certain",
    { observed_by: "source", destination_service_name: "PassthroughCluster" },
  ],
  ["a TCP client that sent no metadata", "tcp", SERVER, "certain", null],
  ["the same where all exchange it", "tcp", SERVER, "all", { observed_by: "destination", source_workload: "unknown" }],
  ["a TCP client that sent metadata", "tcp", { ...SERVER, source_workload: "job" }, "all", null],
];

describe("by the filter's stats", () => {
  it.each(STATS)("%s (%s)", (_what, kind, labels, rule, expected) => {
    const { store, families } = setUp(rule);
    const family = kind === "tcp" ? "tcp_connections_opened_total" : "requests_total";
    const http = kind === "tcp" ? ["response_code", "grpc_response_status"] : [];
    const text = values(labels)
      .map((value, i) => [LABELS[i] as string, value] as const)
      .filter(([label]) => !http.includes(label))
      .map(([label, value]) => `${label}="${value}"`);
    const page = readStats(`istio_${family}{${text.join(",")}} 1\n${START_TIME_METRIC}{} 900\n`);
    expect(store.report(page.report("p"))).toBe("ok");
    expect(series(families, `mesh_${family}`)).toEqual(expected === null ? [] : [expect.objectContaining(expected)]);
  });
});
