import { describe, expect, test } from "vitest";
import { type ProxySettings, proxyConfig } from "../../demo/sidecar-config.ts";
import { GATEWAY, WORKLOADS, type Workload } from "../../demo/topology.ts";

interface Manager {
  stat_prefix: string;
  http_filters: { name: string }[];
  access_log?: object[];
}

interface Listener {
  traffic_direction: string;
  address: object;
  filter_chains: {
    filter_chain_match?: { transport_protocol: string };
    transport_socket?: { typed_config: { require_client_certificate: boolean } };
    filters: { typed_config: Manager }[];
  }[];
}

interface Cluster {
  name: string;
  metadata?: { filter_metadata: { istio: { services: object[] } } };
  upstream_bind_config?: { source_address: { address: string } };
  load_assignment: { endpoints: { lb_endpoints: { endpoint: { address: object } }[] }[] };
  transport_socket?: {
    typed_config: { common_tls_context: { validation_context: { match_typed_subject_alt_names: object[] } } };
  };
}

interface Bootstrap {
  node: { id: string; metadata: { [key: string]: unknown } };
  admin: { address: object };
  stats_flush_interval: string;
  static_resources: { listeners: Listener[]; clusters: Cluster[] };
}

const settings: ProxySettings = {
  subnet: "127.0.7",
  certificates: { authority: "/c/authority.pem", certificate: "/c/own.pem", privateKey: "/c/own.key" },
  accessLogTo: "127.0.0.1:11800",
  metricsTo: null,
  wasmFile: "/build/filter.wasm",
  plaintext: false,
  gatewayPort: 8080,
};

function configOf(workload: Workload, changes: Partial<ProxySettings> = {}): Bootstrap {
  return proxyConfig(workload, { ...settings, ...changes }) as unknown as Bootstrap;
}

function workloadNamed(name: string): Workload {
  const workload = WORKLOADS.find((candidate) => candidate.name === name);
  if (workload === undefined) throw new Error(name);
  return workload;
}

function at(address: string, port: number): object {
  return { socket_address: { address, port_value: port } };
}

function managersOf(config: Bootstrap): Manager[] {
  return config.static_resources.listeners.flatMap(({ filter_chains }) =>
    filter_chains.flatMap(({ filters }) => filters.map((filter) => filter.typed_config)),
  );
}

const reviews = workloadNamed("reviews-v2");

describe("a sidecar's configuration", () => {
  test("names the proxy as Istio would", () => {
    const { node } = configOf(reviews);
    expect(node.id).toMatch(
      /^sidecar~127\.0\.7\.14~reviews-v2-[0-9a-f]{10}-[0-9a-f]{5}\.default~default\.svc\.cluster\.local$/,
    );
    expect(node.metadata).toEqual({
      NAME: node.id.split("~")[2]?.replace(".default", ""),
      NAMESPACE: "default",
      WORKLOAD_NAME: "reviews-v2",
      CLUSTER_ID: "local",
      OWNER: "kubernetes://apis/apps/v1/namespaces/default/deployments/reviews-v2",
      LABELS: {
        app: "reviews",
        version: "v2",
        "service.istio.io/canonical-name": "reviews",
        "service.istio.io/canonical-revision": "v2",
      },
    });
  });

  test("listens only on the workload's own address", () => {
    const { admin, static_resources } = configOf(reviews);
    expect(admin.address).toEqual(at("127.0.7.14", 15000));
    expect(static_resources.listeners.map(({ traffic_direction, address }) => [traffic_direction, address])).toEqual([
      ["OUTBOUND", at("127.0.7.14", 15001)],
      ["INBOUND", at("127.0.7.14", 15006)],
    ]);
  });

  test("takes mTLS only, and plain text beside it when told so", () => {
    const chainsOf = (plaintext: boolean) =>
      configOf(reviews, { plaintext }).static_resources.listeners[1]?.filter_chains ?? [];
    const protocols = (plaintext: boolean) =>
      chainsOf(plaintext).map((chain) => chain.filter_chain_match?.transport_protocol);
    expect(protocols(false)).toEqual(["tls"]);
    expect(protocols(true)).toEqual(["tls", "raw_buffer"]);
    expect(chainsOf(true)[0]?.transport_socket?.typed_config.require_client_certificate).toBe(true);
    expect(chainsOf(true)[1]?.transport_socket).toBeUndefined();
  });

  test("has the filter first, in both directions", () => {
    expect(
      managersOf(configOf(reviews)).map(({ stat_prefix, http_filters }) => [stat_prefix, http_filters[0]?.name]),
    ).toEqual([
      ["outbound", "envoy.filters.http.wasm"],
      ["inbound", "envoy.filters.http.wasm"],
    ]);
  });

  test("has no filter and no access log when told so", () => {
    const config = configOf(reviews, { wasmFile: null, accessLogTo: null });
    for (const { http_filters, access_log } of managersOf(config)) {
      expect(http_filters.map(({ name }) => name)).toEqual(["envoy.filters.http.router"]);
      expect(access_log).toBeUndefined();
    }
    expect(config.static_resources.clusters.map(({ name }) => name)).not.toContain("meshtally_collector");
  });

  test("reaches each service through mTLS, from its own address", () => {
    const cluster = configOf(reviews).static_resources.clusters.find(
      ({ name }) => name === "outbound|9080||reviews.default.svc.cluster.local",
    );
    expect(cluster?.metadata?.filter_metadata.istio.services).toEqual([
      { host: "reviews.default.svc.cluster.local", name: "reviews", namespace: "default" },
    ]);
    expect(cluster?.upstream_bind_config?.source_address.address).toBe("127.0.7.14");
    expect(cluster?.load_assignment.endpoints[0]?.lb_endpoints.map(({ endpoint }) => endpoint.address)).toEqual([
      at("127.0.7.13", 15006),
      at("127.0.7.14", 15006),
      at("127.0.7.15", 15006),
    ]);
    expect(
      cluster?.transport_socket?.typed_config.common_tls_context.validation_context.match_typed_subject_alt_names,
    ).toEqual([{ san_type: "URI", matcher: { exact: "spiffe://cluster.local/ns/default/sa/bookinfo-reviews" } }]);
  });

  test("hands requests to its own application", () => {
    const cluster = configOf(reviews).static_resources.clusters.find(({ name }) => name === "inbound|9080||");
    expect(cluster?.load_assignment.endpoints[0]?.lb_endpoints.map(({ endpoint }) => endpoint.address)).toEqual([
      at("127.0.7.14", 9080),
    ]);
  });
});

describe("the database", () => {
  const listenerOf = (workload: string, direction: string, port: number) =>
    configOf(workloadNamed(workload)).static_resources.listeners.find(
      ({ traffic_direction, address }) =>
        traffic_direction === direction && JSON.stringify(address).includes(`"port_value":${port}`),
    );
  const filtersOf = (listener: Listener | undefined) =>
    listener?.filter_chains.map(({ filters }) => filters.map((filter) => (filter as { name?: string }).name));
  const TCP = ["envoy.filters.network.wasm", "envoy.filters.network.tcp_proxy"];

  test("is called on its caller's own address, the filter first", () => {
    const listener = listenerOf("ratings-v1", "OUTBOUND", 6379);
    expect(listener?.address).toEqual(at("127.0.7.16", 6379));
    expect(filtersOf(listener)).toEqual([TCP]);
    expect(listenerOf("reviews-v1", "OUTBOUND", 6379)).toBeUndefined();
  });

  test("takes mTLS and plain text, the filter first in either chain", () => {
    const listener = listenerOf("ratings-db-v1", "INBOUND", 15006);
    expect(listener?.filter_chains.map((chain) => chain.filter_chain_match?.transport_protocol)).toEqual([
      "tls",
      "raw_buffer",
    ]);
    expect(filtersOf(listener)).toEqual([TCP, TCP]);
  });

  test("is reached by the protocols of Istio's exchange", () => {
    const cluster = configOf(workloadNamed("ratings-v1")).static_resources.clusters.find(
      ({ name }) => name === "outbound|6379||ratings-db.default.svc.cluster.local",
    );
    const context = cluster?.transport_socket?.typed_config.common_tls_context;
    expect(context).toMatchObject({ alpn_protocols: ["istio-peer-exchange", "istio"] });
  });
});

describe("the gateway's configuration", () => {
  test("has one listener, at the port picked for it", () => {
    const { node, static_resources } = configOf(GATEWAY, { gatewayPort: 40123 });
    expect(node.id).toMatch(/^router~127\.0\.7\.10~ingress-gateway-.*~ingress\.svc\.cluster\.local$/);
    expect(static_resources.listeners.map(({ address }) => address)).toEqual([at("127.0.7.10", 40123)]);
  });

  test("runs the filter as a gateway", () => {
    const [manager] = managersOf(configOf(GATEWAY));
    expect(JSON.stringify(manager?.http_filters[0])).toContain("meshtally_gateway");
  });
});
