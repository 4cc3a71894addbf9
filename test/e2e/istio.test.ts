// envoy/istio/ on a sidecar as istiod configures it, in a real Envoy: what the manifests add counts each request, under clean names,
// and tells the collector. One application calls itself: outbound, over mutual TLS inbound, then the application.

import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  BUILD_METRIC,
  HTTP_METRICS,
  LABELS,
  MetricKind,
  NODE_METRIC,
  START_TIME_METRIC,
} from "../../collector/vocabulary.ts";
import { writeCertificates } from "../../demo/certificates.ts";
import { httpCall } from "../../demo/http-call.ts";
import { type Config, collectorClusterConfig } from "../../demo/telemetry-config.ts";
import { spiffeId } from "../../demo/topology.ts";
import { filterWasmPath } from "../../envoy/project.ts";
import { readStats } from "../fixtures/stats.ts";
import { istioBootstrap } from "../istio/bootstrap.ts";
import { HELM_VALUES } from "../istio/manifests.ts";
import { DB_HOST, sidecarResources, WEB, WEB_HOST } from "../istio/proxies.ts";
import { EXCHANGING_WAYS, install, WAYS, type Way } from "../istio/ways.ts";
import { freePort } from "../tools/free-port.ts";
import { parseExposition, type Sample } from "./exposition.ts";
import { type LoneProxy, type Places, startLoneProxy } from "./lone-proxy.ts";
import { settled } from "./observed.ts";

const CALLS = 20;
const CALLS_FROM_OUTSIDE = 7;
const CALLS_TO_NOWHERE = 3;
/** Istio's own tags see `cache.default.` in it. */
const NOWHERE = "redis-cache.default.svc.cluster.local";
const TOTAL = 2 * CALLS + CALLS_FROM_OUTSIDE + CALLS_TO_NOWHERE;

const IDENTITY = {
  workload: "web-v1",
  canonical_service: "web",
  canonical_revision: "v1",
  workload_namespace: "default",
  principal: spiffeId(WEB),
  app: "web",
  version: "v1",
  cluster: "Kubernetes",
};
const UNKNOWN = {
  workload: "unknown",
  canonical_service: "unknown",
  canonical_revision: "latest",
  workload_namespace: "unknown",
  principal: "unknown",
  app: "unknown",
  version: "unknown",
  cluster: "unknown",
};
const SERVICE = { service: WEB_HOST, service_name: "web", service_namespace: "default" };
const OK = { request_protocol: "http", response_code: "200", grpc_response_status: "", response_flags: "-" };

function side(prefix: "source" | "destination", values: object): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [`${prefix}_${name}`, value]));
}

/** Of the TCP service that is the same application, in either direction. */
const tcpPorts = { inbound: 0, outbound: 0 };

async function configure(way: Way, places: Places, wasmFile: string): Promise<Config> {
  const { inbound, outbound, server, admin, receiver, folder } = places;
  const certificates = (await writeCertificates([WEB], folder))(WEB);
  tcpPorts.inbound = await freePort();
  tcpPorts.outbound = await freePort();
  const tcp = { inbound: `127.0.0.1:${tcpPorts.inbound}`, outbound: `127.0.0.1:${tcpPorts.outbound}` };
  const resources = install(way, sidecarResources({ inbound, outbound, application: server, certificates, tcp }));
  return istioBootstrap({
    workload: WEB,
    resources: { ...resources, clusters: resources.clusters.map((cluster) => withCollectorAt(receiver, cluster)) },
    proxyConfig: HELM_VALUES.meshConfig.defaultConfig,
    admin,
    folder,
    wasmFile,
  });
}

/** There is no name to look up for it here. */
function withCollectorAt(address: string, cluster: Config): Config {
  const { name, load_assignment } = collectorClusterConfig(address);
  return cluster["name"] === name ? { ...cluster, load_assignment } : cluster;
}

async function stats(proxy: LoneProxy, filter: string): Promise<string> {
  return (await fetch(`${proxy.adminUrl}/stats/prometheus?usedonly&filter=${encodeURIComponent(filter)}`)).text();
}

async function requests(proxy: LoneProxy): Promise<Sample[]> {
  return parseExposition(await stats(proxy, "istio_requests_total$"));
}

function total(samples: readonly Sample[]): number {
  return samples.reduce((sum, { value }) => sum + value, 0);
}

describe.each(WAYS)("installed by $name", (way) => {
  let proxy: LoneProxy;

  beforeAll(async () => {
    proxy = await startLoneProxy(
      () => ({}),
      (places) => configure(way, places, filterWasmPath()),
    );
    const call = async (port: number, host: string) =>
      (await httpCall(`http://127.0.0.1:${port}/`, { host, connection: "close" })).status;
    for (let i = 0; i < CALLS; i++) expect(await call(proxy.outboundPort, "web:8080")).toBe(200);
    for (let i = 0; i < CALLS_FROM_OUTSIDE; i++) expect(await call(proxy.inboundPort, "web")).toBe(200);
    for (let i = 0; i < CALLS_TO_NOWHERE; i++) expect(await call(proxy.outboundPort, NOWHERE)).toBe(502);
    await settled(
      () => requests(proxy),
      (samples) => total(samples) >= TOTAL,
    );
  });
  afterAll(() => proxy?.stop());

  test("the filter's metrics bear their own names: every label was cut out, and nothing was complained of", async () => {
    const expected = HTTP_METRICS.flatMap(({ name, kind }) =>
      kind === MetricKind.Histogram ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    );
    const read = async () => [...new Set(parseExposition(await stats(proxy, "^wasmcustom")).map(({ name }) => name))];
    // Histograms are there with the next flush.
    const names = await settled(read, ({ length }) => length > expected.length + 1);
    expect(names.sort()).toEqual([...expected, BUILD_METRIC, NODE_METRIC, START_TIME_METRIC].sort());
  });

  test("each request is counted at both ends with all 25 labels, in order", async () => {
    const counted = (await requests(proxy)).filter(({ labels }) => labels["destination_service"] !== NOWHERE);
    for (const { labels } of counted) expect(Object.keys(labels)).toEqual(LABELS);
    const peers = { ...side("source", IDENTITY), ...side("destination", { ...IDENTITY, ...SERVICE }), ...OK };
    const fromOutside = { ...peers, ...side("source", UNKNOWN), destination_principal: "unknown" };
    expect(counted.map(({ labels, value }) => ({ ...labels, value }))).toEqual(
      expect.arrayContaining([
        { reporter: "source", ...peers, connection_security_policy: "unknown", value: CALLS },
        { reporter: "destination", ...peers, connection_security_policy: "mutual_tls", value: CALLS },
        { reporter: "destination", ...fromOutside, connection_security_policy: "none", value: CALLS_FROM_OUTSIDE },
      ]),
    );
    expect(counted).toHaveLength(3);
  });

  test("a tag of Istio's own adds a label to some hosts, and changes none of ours", async () => {
    const [sample, ...more] = (await requests(proxy)).filter(({ labels }) => labels["destination_service"] === NOWHERE);
    expect(more).toEqual([]);
    expect(Object.keys(sample?.labels ?? {})).toEqual([...LABELS, "cache"]);
    expect(sample).toMatchObject({ labels: { response_code: "502" }, value: CALLS_TO_NOWHERE });
  });

  test("the access log brings the collector the same counts under the same label sets as the stats", async () => {
    await settled(
      async () => proxy.records.length,
      (length) => length >= TOTAL,
    );
    const logged: Record<string, number> = {};
    for (const { labelKey } of proxy.records) logged[labelKey] = (logged[labelKey] ?? 0) + 1;
    const { lifeMs, samples } = readStats(await stats(proxy, "")).report("");
    expect(logged).toEqual(Object.fromEntries(samples.map(({ labelKey, requests }) => [labelKey, requests])));
    expect(new Set(proxy.records.map((record) => record.lifeMs))).toEqual(new Set([lifeMs]));
  });

  test("what the sidecars tell each other never reaches the application", () => {
    expect(proxy.received).toHaveLength(CALLS + CALLS_FROM_OUTSIDE);
    const names = proxy.received.flatMap((headers) => Object.keys(headers));
    expect(names.filter((name) => name.startsWith("x-envoy-peer-metadata"))).toEqual([]);
  });
});

describe.each(EXCHANGING_WAYS)("TCP, installed by $name, once every proxy has the filter", (way) => {
  let proxy: LoneProxy;

  beforeAll(async () => {
    proxy = await startLoneProxy(
      () => ({}),
      (places) => configure(way, places, filterWasmPath()),
    );
  });
  afterAll(() => proxy?.stop());

  test("each connection is counted at both ends, who calls and who is called known by the exchange", async () => {
    const call = (port: number) => httpCall(`http://127.0.0.1:${port}/`, { connection: "close" });
    for (let i = 0; i < CALLS; i++) expect((await call(tcpPorts.outbound)).body).toBe("ok");
    for (let i = 0; i < CALLS_FROM_OUTSIDE; i++) expect((await call(tcpPorts.inbound)).body).toBe("ok");
    const read = async () => parseExposition(await stats(proxy, "istio_tcp_connections_closed_total$"));
    const counted = await settled(read, (samples) => total(samples) >= 2 * CALLS + CALLS_FROM_OUTSIDE);
    const service = { service: DB_HOST, service_name: "db", service_namespace: "default" };
    const common = { request_protocol: "tcp", response_flags: "-" };
    const peers = { ...side("source", IDENTITY), ...side("destination", { ...IDENTITY, ...service }), ...common };
    const fromOutside = { ...peers, ...side("source", UNKNOWN), destination_principal: "unknown" };
    expect(counted.map(({ labels, value }) => ({ ...labels, value }))).toEqual(
      expect.arrayContaining([
        { reporter: "source", ...peers, connection_security_policy: "unknown", value: CALLS },
        { reporter: "destination", ...peers, connection_security_policy: "mutual_tls", value: CALLS },
        { reporter: "destination", ...fromOutside, connection_security_policy: "none", value: CALLS_FROM_OUTSIDE },
      ]),
    );
    expect(counted).toHaveLength(3);
    const http = parseExposition(await stats(proxy, "istio_requests_total"));
    expect(http).toEqual([]);
  });
});

test("as it is installed first, TCP is counted and no client says who it is", async () => {
  const way = WAYS.find(({ name }) => name === "EnvoyFilter") as Way;
  const proxy = await startLoneProxy(
    () => ({}),
    (places) => configure(way, places, filterWasmPath()),
  );
  try {
    for (let i = 0; i < CALLS; i++) {
      const { body } = await httpCall(`http://127.0.0.1:${tcpPorts.outbound}/`, { connection: "close" });
      expect(body).toBe("ok");
    }
    const read = async () => parseExposition(await stats(proxy, "istio_tcp_connections_closed_total$"));
    const counted = await settled(read, (samples) => total(samples) >= 2 * CALLS);
    const callers = counted.map(({ labels, value }) => [labels["reporter"], labels["source_workload"], value]);
    expect(callers.sort()).toEqual([
      ["destination", "unknown", CALLS],
      ["source", IDENTITY.workload, CALLS],
    ]);
    expect(await stats(proxy, "envoy_metadata_exchange_metadata_added")).toBe("");
  } finally {
    await proxy.stop();
  }
});

test("with the EnvoyFilter, a proxy that gets no wasm serves all the same", async () => {
  const way = WAYS.find(({ name }) => name === "EnvoyFilter") as Way;
  const proxy = await startLoneProxy(
    () => ({}),
    (places) => configure(way, places, join(places.folder, "never-fetched.wasm")),
  );
  try {
    expect((await httpCall(`http://127.0.0.1:${proxy.outboundPort}/`, { host: "web:8080" })).status).toBe(200);
    expect((await httpCall(`http://127.0.0.1:${tcpPorts.outbound}/`, {})).status).toBe(200);
    expect(await requests(proxy)).toEqual([]);
  } finally {
    await proxy.stop();
  }
});
