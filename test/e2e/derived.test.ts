// The promise that unification rests on, on real Envoys: what is derived from an entry's own fields are exactly the labels that the filter
// gave the same request or connection. HTTP, gRPC and TCP, of a sidecar's both directions and of a gateway; each entry holds both.

import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { AlsMessage } from "../../collector/proto/als.ts";
import type { Sender } from "../../collector/record/from-als.ts";
import { httpCall } from "../../demo/http-call.ts";
import {
  accessLogConfig,
  type Config,
  collectorClusterConfig,
  type Direction,
  filterConfig,
  socketAddress,
  statsConfig,
  tcpAccessLogConfig,
  tcpFilterConfig,
  tcpProxyConfig,
} from "../../demo/telemetry-config.ts";
import { filterWasmPath } from "../../envoy/project.ts";
import { writeCertificates } from "../fixtures/certificates.ts";
import { differences, type EntryKind, labelsOf, withoutObservation } from "../fixtures/derived.ts";
import { freePort } from "../tools/free-port.ts";
import { cluster, type LoneProxy, listener, NODE, type Places, ROUTER, startLoneProxy } from "./lone-proxy.ts";
import { settled } from "./observed.ts";
import { downstreamTls, upstreamTls } from "./rule-proxy.ts";

const LOCALHOST = "127.0.0.1";
const GATEWAY: Config = {
  id: "router~10.0.0.8~gateway-1.edge~edge.svc.cluster.local",
  cluster: "gateway",
  metadata: {
    NAME: "gateway-1",
    NAMESPACE: "edge",
    WORKLOAD_NAME: "gateway",
    CLUSTER_ID: "test",
    LABELS: { app: "gateway", version: "v2", "service.istio.io/canonical-name": "gateway" },
  },
};
const SERVICE = "outbound|80||lone.default.svc.cluster.local";
const TCP_SERVICE = "outbound|6379||db.default.svc.cluster.local";
const CLOSED = "outbound|81||closed.default.svc.cluster.local";
const EXCHANGE: Config = { metadata_exchange: { tcp: { send: "always" } } };

const folder = mkdtempSync(join(tmpdir(), "meshtally-test-"));
const certificates = await writeCertificates(
  {
    lone: [{ type: "url", value: "spiffe://cluster.local/ns/default/sa/lone" }],
    gateway: [{ type: "url", value: "spiffe://cluster.local/ns/edge/sa/gateway" }],
  },
  folder,
);

interface Entry {
  readonly kind: EntryKind;
  readonly bytes: Buffer;
  readonly sender: Sender;
}

const entries: Entry[] = [];
const tap = {
  isActive: true,
  take: (bytes: Buffer, { httpEntries, tcpEntries }: AlsMessage, sender: Sender) => {
    const copy = (start: number | undefined, stop: number | undefined) => Buffer.from(bytes.subarray(start, stop));
    for (let i = 0; i < httpEntries.length; i += 2) {
      entries.push({ kind: "http", bytes: copy(httpEntries[i], httpEntries[i + 1]), sender });
    }
    for (let i = 0; i < tcpEntries.length; i += 2) {
      entries.push({ kind: "tcp", bytes: copy(tcpEntries[i], tcpEntries[i + 1]), sender });
    }
  },
};

/** With the tags that bring what an entry has no field for (test/fixtures/envoy-als/README.md). */
function tagged(log: Config): Config {
  const typed = log["typed_config"] as { readonly common_config: Config };
  const metadata = (path: string) => `%CEL(xds.${path})%`;
  const service = (field: string) => metadata(`cluster_metadata.filter_metadata.istio.services[0].${field}`);
  const tags = {
    upstream_peer_uri_san: "%UPSTREAM_PEER_URI_SAN%",
    upstream_local_uri_san: "%UPSTREAM_LOCAL_URI_SAN%",
    destination_service_host: service("host"),
    destination_service_name: service("name"),
    destination_service_namespace: service("namespace"),
    upstream_workload: metadata("upstream_host_metadata.filter_metadata.istio.workload"),
  };
  const custom_tags = Object.entries(tags).map(([tag, value]) => ({ tag, value }));
  return { ...log, typed_config: { ...typed, common_config: { ...typed.common_config, custom_tags } } };
}

function httpListener(direction: Direction, address: string, to: string, tls?: Config): Config {
  const log = tagged(accessLogConfig(direction));
  const routes = [
    { name: "closed", match: { prefix: "/closed" }, route: { cluster: CLOSED } },
    { name: "default", match: { prefix: "/" }, route: { cluster: to } },
  ];
  const plain = listener(direction === "inbound" ? "inbound" : "outbound", address, to, {
    access_log: [log],
    http_filters: [filterConfig(direction, filterWasmPath()), ROUTER],
    route_config: { name: "all", virtual_hosts: [{ name: "all", domains: ["*"], routes }], validate_clusters: false },
  });
  const [chain] = plain["filter_chains"] as [Config];
  return { ...plain, filter_chains: [tls === undefined ? chain : { ...chain, transport_socket: tls }] };
}

function tcpListener(direction: Direction, address: string, to: string, tls?: Config): Config {
  const log = tagged(tcpAccessLogConfig(direction));
  const filters = [
    tcpFilterConfig(direction, filterWasmPath(), EXCHANGE),
    tcpProxyConfig(to, { accessLogs: [log], flushInterval: "1s" }),
  ];
  return {
    name: `tcp_${direction}`,
    traffic_direction: direction === "inbound" ? "INBOUND" : "OUTBOUND",
    address: socketAddress(address),
    filter_chains: [{ filters, ...(tls === undefined ? {} : { transport_socket: tls }) }],
  };
}

function serviceCluster(name: string, address: string, tls: Config): Config {
  const [, port, , host = ""] = name.split("|");
  const [short] = host.split(".");
  const services = [{ host, name: short, namespace: "default", port }];
  return { ...cluster(name, address), transport_socket: tls, metadata: { filter_metadata: { istio: { services } } } };
}

function config(node: Config, { admin, receiver }: Places, listeners: Config[], clusters: Config[]): Config {
  return {
    node,
    admin: { address: socketAddress(admin) },
    stats_flush_interval: "1s",
    stats_config: statsConfig(),
    static_resources: { listeners, clusters: [...clusters, collectorClusterConfig(receiver)] },
  };
}

const echo = createServer((socket) => {
  socket.on("error", () => {});
  socket.on("data", (bytes) => socket.end(bytes));
});
let tcpInbound = "";
let tcpOutbound = "";
let tcpGateway = "";
let lone: LoneProxy;
let gateway: LoneProxy;

beforeAll(async () => {
  await new Promise<void>((resolve) => echo.listen(0, LOCALHOST, resolve));
  const echoAddress = `${LOCALHOST}:${(echo.address() as AddressInfo).port}`;
  const address = async () => `${LOCALHOST}:${await freePort()}`;
  [tcpInbound, tcpOutbound, tcpGateway] = [await address(), await address(), await address()];
  const closed = await address();
  const server = downstreamTls(certificates.lone, true);
  const answers = (path: string): Record<string, string> =>
    path === "/grpc" ? { "content-type": "application/grpc", "grpc-status": "5" } : {};
  const clusters = (tls: Config, inbound: string) => [
    serviceCluster(SERVICE, inbound, tls),
    serviceCluster(TCP_SERVICE, tcpInbound, tls),
    serviceCluster(CLOSED, closed, tls),
  ];
  lone = await startLoneProxy(
    answers,
    (places) => {
      const tls = upstreamTls(certificates.lone, certificates.lone);
      const listeners = [
        httpListener("inbound", places.inbound, "inbound|80||", server),
        httpListener("outbound", places.outbound, SERVICE),
        tcpListener("inbound", tcpInbound, "inbound|6379||", server),
        tcpListener("outbound", tcpOutbound, TCP_SERVICE),
      ];
      const locals = [cluster("inbound|80||", places.server), cluster("inbound|6379||", echoAddress)];
      return config(NODE, places, listeners, [...clusters(tls, places.inbound), ...locals]);
    },
    tap,
  );
  gateway = await startLoneProxy(
    answers,
    (places) => {
      const tls = upstreamTls(certificates.lone, certificates.gateway);
      const listeners = [
        httpListener("gateway", places.outbound, SERVICE),
        tcpListener("gateway", tcpGateway, TCP_SERVICE),
      ];
      return config(GATEWAY, places, listeners, clusters(tls, `${LOCALHOST}:${lone.inboundPort}`));
    },
    tap,
  );
});

afterAll(async () => {
  await Promise.all([lone?.stop(), gateway?.stop()]);
  echo.close();
  await rm(folder, { recursive: true });
});

function call(port: number, path: string, headers: Record<string, string> = {}): Promise<unknown> {
  return httpCall(`http://${LOCALHOST}:${port}${path}`, { host: "lone", connection: "close", ...headers });
}

/** Sends some bytes and reads until they came back and the connection is closed. */
function talk(address: string): Promise<void> {
  const [host, port] = address.split(":") as [string, string];
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), host, () => socket.write("ping"));
    socket.on("error", reject).on("close", () => resolve());
    socket.resume();
  });
}

/** What tells the kinds of entries apart that there must be. */
function title({ kind, bytes, sender }: Entry): string {
  const { labels } = labelsOf(kind, bytes, sender);
  const proxy = sender.isGateway ? "gateway" : "sidecar";
  return `${proxy} ${labels["reporter"]} ${labels["request_protocol"]} ${labels["response_code"]} ${labels["response_flags"]}`;
}

const EXPECTED = [
  "gateway source grpc 200 -",
  "gateway source http 200 -",
  "gateway source http 503 UF",
  "gateway source tcp  -",
  "sidecar destination grpc 200 -",
  "sidecar destination http 200 -",
  "sidecar destination tcp  -",
  "sidecar source grpc 200 -",
  "sidecar source http 200 -",
  "sidecar source http 503 UF",
  "sidecar source tcp  -",
];

test("derived is observed, label by label", async () => {
  for (const { outboundPort } of [lone, gateway]) {
    await call(outboundPort, "/");
    await call(outboundPort, "/grpc", { "content-type": "application/grpc" });
    await call(outboundPort, "/closed");
  }
  for (const address of [tcpOutbound, tcpGateway]) await talk(address);
  const titles = () => [...new Set(entries.map(title))].sort();
  expect(
    await settled(
      async () => titles(),
      ({ length }) => length >= EXPECTED.length,
    ),
  ).toEqual(EXPECTED);
  for (const entry of entries) {
    const { kind, bytes, sender } = entry;
    const observed = labelsOf(kind, bytes, sender);
    const derived = labelsOf(kind, withoutObservation(kind, bytes), sender);
    expect([observed.origin, derived.origin]).toEqual(["observation", "derived"]);
    expect(differences(observed.labels, derived.labels), title(entry)).toEqual({});
  }
});

test("both ends know each other, so that there is something to be the same", () => {
  const ends = new Set(
    entries.map(({ kind, bytes, sender }) => {
      const { labels } = labelsOf(kind, bytes, sender);
      const { reporter, source_workload, destination_workload, source_principal } = labels;
      return `${reporter} ${labels["request_protocol"]}: ${source_workload} (${source_principal}) -> ${destination_workload}`;
    }),
  );
  expect([...ends].sort()).toMatchInlineSnapshot(`
    [
      "destination grpc: gateway (spiffe://cluster.local/ns/edge/sa/gateway) -> lone",
      "destination grpc: lone (spiffe://cluster.local/ns/default/sa/lone) -> lone",
      "destination http: gateway (spiffe://cluster.local/ns/edge/sa/gateway) -> lone",
      "destination http: lone (spiffe://cluster.local/ns/default/sa/lone) -> lone",
      "destination tcp: gateway (spiffe://cluster.local/ns/edge/sa/gateway) -> lone",
      "destination tcp: lone (spiffe://cluster.local/ns/default/sa/lone) -> lone",
      "source grpc: gateway (spiffe://cluster.local/ns/edge/sa/gateway) -> lone",
      "source grpc: lone (spiffe://cluster.local/ns/default/sa/lone) -> lone",
      "source http: gateway (spiffe://cluster.local/ns/edge/sa/gateway) -> lone",
      "source http: gateway (unknown) -> unknown",
      "source http: lone (spiffe://cluster.local/ns/default/sa/lone) -> lone",
      "source http: lone (unknown) -> unknown",
      "source tcp: gateway (spiffe://cluster.local/ns/edge/sa/gateway) -> lone",
      "source tcp: lone (spiffe://cluster.local/ns/default/sa/lone) -> lone",
    ]
  `);
});
