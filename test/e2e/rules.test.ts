// The label rules that a test host cannot vouch for, on real Envoy: what TLS, gRPC, failures, routes and metadata look like there.
// The full list, against the host, is test/filter/labels.test.ts.

import { mkdtempSync } from "node:fs";
import { rename, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { unpackLabels } from "../../collector/series/key.ts";
import { LABELS, Label } from "../../collector/vocabulary.ts";
import { type Config, filterConfig, socketAddress } from "../../demo/telemetry-config.ts";
import { filterWasmPath } from "../../envoy/project.ts";
import { writeCertificates } from "../fixtures/certificates.ts";
import { exchangeHeaders, makeNode } from "../host/mesh.ts";
import { seriesId } from "./exposition.ts";
import { sendRaw } from "./lone-proxy.ts";
import { settled } from "./observed.ts";
import { downstreamTls, get, getOverTls, grpcCall, ROUTER, type Rule, RuleProxy, upstreamTls } from "./rule-proxy.ts";

const CLIENT = "spiffe://cluster.local/ns/shop/sa/client";
const WEB = "spiffe://cluster.local/ns/books/sa/web";

const folder = mkdtempSync(join(tmpdir(), "meshtally-test-"));
const pressureFile = join(folder, "pressure");
const certificates = await writeCertificates(
  {
    web: [{ type: "url", value: WEB }],
    webByDns: [{ type: "dns", value: "web.books" }],
    client: [{ type: "url", value: CLIENT }],
    clientByDns: [{ type: "dns", value: "client.shop" }],
    clientOfMany: [
      { type: "dns", value: "client.shop" },
      { type: "url", value: CLIENT },
      { type: "url", value: "spiffe://cluster.local/ns/other/sa/other" },
    ],
  },
  folder,
);
const { web, webByDns, client, clientByDns, clientOfMany } = certificates;

/** What the peer says of itself: namespace `default`. */
const FROM_PEER = Object.fromEntries(exchangeHeaders(makeNode("cart", "v2", "::1")));

const TLS: Rule[] = [
  {
    rule: "mutual TLS: both principals, and the peer's namespace is that of its SPIFFE id, whatever its metadata says",
    direction: "inbound",
    tls: downstreamTls(web, true),
    send: getOverTls(client, FROM_PEER),
    labels: {
      source_principal: CLIENT,
      destination_principal: WEB,
      connection_security_policy: "mutual_tls",
      source_workload: "cart-v2",
      source_workload_namespace: "shop",
    },
  },
  {
    rule: "a caller without a certificate: no mutual TLS",
    direction: "inbound",
    tls: downstreamTls(web, false),
    send: getOverTls(null),
    labels: { source_principal: "unknown", destination_principal: WEB, connection_security_policy: "none" },
  },
  {
    rule: "a caller's certificate without a URI names nobody",
    direction: "inbound",
    tls: downstreamTls(web, true),
    send: getOverTls(clientByDns, FROM_PEER),
    labels: {
      source_principal: "unknown",
      connection_security_policy: "none",
      source_workload_namespace: "default",
    },
  },
  {
    rule: "of several URIs the first counts",
    direction: "inbound",
    tls: downstreamTls(web, true),
    send: getOverTls(clientOfMany),
    labels: { source_principal: CLIENT, connection_security_policy: "mutual_tls", source_workload_namespace: "shop" },
  },
  {
    rule: "an own certificate without a URI: no mutual TLS",
    direction: "inbound",
    tls: downstreamTls(webByDns, true),
    send: getOverTls(client),
    labels: { source_principal: CLIENT, destination_principal: "unknown", connection_security_policy: "none" },
  },
  {
    rule: "plain text",
    direction: "inbound",
    labels: { source_principal: "unknown", destination_principal: "unknown", connection_security_policy: "none" },
  },
  {
    rule: "a client's principals are those of its upstream, the policy is unknown, the peer's namespace known",
    upstream: "mutualTls",
    cluster: { transport_socket: upstreamTls(web, client) },
    labels: {
      source_principal: CLIENT,
      destination_principal: WEB,
      connection_security_policy: "unknown",
      destination_workload_namespace: "books",
    },
  },
  {
    rule: "a client without a certificate knows its server all the same",
    upstream: "tls",
    cluster: { transport_socket: upstreamTls(web, null) },
    labels: { source_principal: "unknown", destination_principal: WEB },
  },
  {
    rule: "a client's downstream says nothing of its upstream",
    tls: downstreamTls(web, true),
    send: getOverTls(client),
    labels: { source_principal: "unknown", destination_principal: "unknown", connection_security_policy: "unknown" },
  },
];

const GRPC: Rule[] = [
  ["the status of the trailers", "/trailers/5", { grpc_response_status: "5", response_code: "200" }],
  ["status 0", "/trailers/0", { grpc_response_status: "0", response_code: "200" }],
  ["the status of an answer without trailers", "/headers/14", { grpc_response_status: "14", response_code: "200" }],
  ["an answer without a status: derived from its code", "/missing", { grpc_response_status: "2" }],
  [
    "an answer of a proxy on the way: derived from its code",
    "/status/503",
    { grpc_response_status: "14", response_code: "503" },
  ],
  ["a status that is no number", "/trailers/abc", { grpc_response_status: "" }],
  [
    "a stream that the server resets",
    "/reset",
    { grpc_response_status: "14", response_flags: "UR", response_code: "200" }, // Envoy answers gRPC in gRPC's way
  ],
].map(([rule, path, labels]) => ({
  rule: rule as string,
  upstream: "http2",
  send: grpcCall(path as string),
  labels: { request_protocol: "grpc", ...(labels as object) },
}));

GRPC.push(
  {
    rule: "application/grpc+proto is gRPC",
    upstream: "http2",
    send: grpcCall("/trailers/7", "application/grpc+proto"),
    labels: { request_protocol: "grpc", grpc_response_status: "7" },
  },
  {
    rule: "application/grpc-web is not",
    upstream: "http2",
    send: grpcCall("/trailers/7", "application/grpc-web"),
    labels: { request_protocol: "http", grpc_response_status: "" },
  },
  {
    rule: "HTTP/2 alone is not",
    upstream: "http2",
    send: grpcCall("/trailers/7", "application/json"),
    labels: { request_protocol: "http", grpc_response_status: "" },
  },
  {
    rule: "a call that the caller cancels has neither code nor status",
    upstream: "http2",
    send: grpcCall("/hang", "application/grpc", 100),
    labels: { request_protocol: "grpc", grpc_response_status: "", response_code: "0", response_flags: "DR" },
  },
);

function fault(settings: Config): Config {
  return {
    name: "envoy.filters.http.fault",
    typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault", ...settings },
  };
}

function http1Within(max_stream_duration: string): Config {
  return {
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        common_http_protocol_options: { max_stream_duration },
        explicit_http_config: { http_protocol_options: {} },
      },
    },
  };
}

/** The router, taking offence at what stands in that header. */
function strictRouter(header: string): Config {
  const { typed_config, ...named } = ROUTER;
  return { ...named, typed_config: { ...(typed_config as Config), strict_check_headers: [header] } };
}

/** Replaces the file: Envoy watches it for moves. */
async function writePressure(pressure: number): Promise<void> {
  await writeFile(`${pressureFile}.next`, String(pressure));
  await rename(`${pressureFile}.next`, pressureFile);
}

const ALWAYS = { numerator: 100, denominator: "HUNDRED" };

/** Sends a request and goes away. */
async function giveUp(port: number): Promise<void> {
  const outgoing = request({ host: "127.0.0.1", port, path: "/hang", headers: { host: "web" } }).on("error", () => {});
  outgoing.end();
  await new Promise((resolve) => setTimeout(resolve, 100));
  outgoing.destroy();
}

const FLAGS: Rule[] = [
  {
    rule: "NR: no route",
    route: { match: { path: "/elsewhere" } },
    labels: { response_flags: "NR", response_code: "404", destination_service: "web:8080" },
  },
  {
    rule: "NC: a route to no cluster",
    route: { route: { cluster: "nowhere" } },
    labels: { response_flags: "NC", response_code: "503" },
  },
  {
    rule: "UH: no healthy upstream",
    cluster: { load_assignment: { cluster_name: "unhealthy", endpoints: [] } },
    labels: { response_flags: "UH", response_code: "503" },
  },
  {
    rule: "UF: connection refused",
    upstream: "closed",
    labels: { response_flags: "UF", response_code: "503" },
  },
  {
    rule: "UF,URX: refused once more: flags in the order of their bits",
    upstream: "closed",
    route: { route: { cluster: "case-refused", retry_policy: { retry_on: "connect-failure", num_retries: 1 } } },
    cluster: { name: "case-refused" },
    labels: { response_flags: "UF,URX", response_code: "503" },
  },
  {
    rule: "UT: the upstream takes too long",
    cluster: { name: "case-slow" },
    route: { route: { cluster: "case-slow", timeout: "0.1s" } },
    send: get("/hang"),
    labels: { response_flags: "UT", response_code: "504" },
  },
  {
    rule: "UC: the upstream hangs up",
    send: get("/reset"),
    labels: { response_flags: "UC", response_code: "503" },
  },
  {
    rule: "UPE: the upstream speaks something else",
    upstream: "garbage",
    labels: { response_flags: "UPE", response_code: "502" },
  },
  {
    rule: "UO: too many requests at once",
    cluster: { circuit_breakers: { thresholds: [{ max_pending_requests: 0, max_connections: 0 }] } },
    labels: { response_flags: "UO", response_code: "503" },
  },
  {
    rule: "UMSDR: the cluster's bound on a stream",
    cluster: http1Within("0.1s"),
    send: get("/hang"),
    labels: { response_flags: "UMSDR", response_code: "504" },
  },
  {
    rule: "DC: the caller goes away; no code is 0",
    send: giveUp,
    labels: { response_flags: "DC", response_code: "0" },
  },
  {
    rule: "DPE: what the caller speaks is no HTTP",
    send: (port) => sendRaw(port, Buffer.from("GET / HTTP/1.1\r\nhost: web\r\nno colon\r\n\r\n")),
    labels: { response_flags: "DPE", response_code: "400" },
  },
  {
    rule: "the listener's bound on a stream sets no flag: DT is for TCP",
    manager: { common_http_protocol_options: { max_stream_duration: "0.1s" } },
    send: get("/hang"),
    labels: { response_flags: "-", response_code: "504" },
  },
  {
    rule: "SI: an idle stream",
    manager: { stream_idle_timeout: "0.1s" },
    send: get("/hang"),
    labels: { response_flags: "SI", response_code: "504" },
  },
  {
    rule: "FI: an injected error",
    filters: [fault({ abort: { http_status: 418, percentage: ALWAYS } })],
    labels: { response_flags: "FI", response_code: "418" },
  },
  {
    rule: "DI: an injected delay",
    filters: [fault({ delay: { fixed_delay: "0.01s", percentage: ALWAYS } })],
    labels: { response_flags: "DI", response_code: "200" },
  },
  {
    rule: "DI,FI: both",
    filters: [
      fault({ delay: { fixed_delay: "0.01s", percentage: ALWAYS }, abort: { http_status: 503, percentage: ALWAYS } }),
    ],
    labels: { response_flags: "DI,FI", response_code: "503" },
  },
  {
    rule: "RL: rate limited",
    filters: [
      {
        name: "envoy.filters.http.local_ratelimit",
        typed_config: {
          "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
          stat_prefix: "rules",
          token_bucket: { max_tokens: 1, tokens_per_fill: 1, fill_interval: "3600s" },
          filter_enabled: { default_value: ALWAYS },
          filter_enforced: { default_value: ALWAYS },
        },
      },
    ],
    times: 2,
    labels: { response_flags: "RL", response_code: "429" },
  },
  {
    rule: "UAEX: the external authorization denies it",
    cluster: { name: "case-denied" },
    filters: [
      {
        name: "envoy.filters.http.ext_authz",
        typed_config: {
          "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
          http_service: {
            server_uri: { uri: "http://authorization", cluster: "case-denied", timeout: "1s" },
            path_prefix: "/status/403",
          },
        },
      },
    ],
    labels: { response_flags: "UAEX", response_code: "403" },
  },
  {
    rule: "IH: a header for Envoy that makes no sense",
    manager: {
      http_filters: [filterConfig("outbound", filterWasmPath()), strictRouter("x-envoy-max-retries")],
      internal_address_config: { cidr_ranges: [{ address_prefix: "10.0.0.0", prefix_len: 8 }] },
    },
    send: get("/", { "x-envoy-max-retries": "many", "x-forwarded-for": "10.0.0.1" }), // heard of callers inside alone
    labels: { response_flags: "IH", response_code: "400" },
  },
  {
    rule: "RLSE: the rate limit service cannot be reached",
    upstream: "closed",
    cluster: { name: "case-limits" },
    route: {
      route: { cluster: "case-limits", rate_limits: [{ actions: [{ generic_key: { descriptor_value: "x" } }] }] },
    },
    filters: [
      {
        name: "envoy.filters.http.ratelimit",
        typed_config: {
          "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
          domain: "rules",
          failure_mode_deny: true,
          rate_limit_service: {
            transport_api_version: "V3",
            grpc_service: { envoy_grpc: { cluster_name: "case-limits" } },
          },
        },
      },
    ],
    labels: { response_flags: "RLSE", response_code: "500" },
  },
  {
    rule: "UDO: the cluster drops everything",
    cluster: {
      load_assignment: {
        cluster_name: "dropping",
        endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress("127.0.0.1:9") } }] }],
        policy: { drop_overloads: [{ category: "all", drop_percentage: ALWAYS }] },
      },
    },
    labels: { response_flags: "UDO", response_code: "503" },
  },
  {
    rule: "URX: an error once more",
    cluster: { name: "case-again" },
    route: { route: { cluster: "case-again", retry_policy: { retry_on: "5xx", num_retries: 1 } } },
    send: get("/status/503"),
    labels: { response_flags: "URX", response_code: "503" },
  },
  {
    rule: "an error of the upstream's own has no flag",
    send: get("/status/503"),
    labels: { response_flags: "-", response_code: "503" },
  },
];

const services = (service: Config): Config => ({ metadata: { filter_metadata: { istio: { services: [service] } } } });

const DESTINATIONS: Rule[] = [
  {
    rule: "the authority names the service, with its port",
    labels: {
      destination_service: "web:8080",
      destination_service_name: "web:8080",
      destination_service_namespace: "unknown",
    },
  },
  {
    rule: "not where the fallback is disabled: a gateway's is unknown",
    direction: "gateway",
    labels: { reporter: "source", destination_service: "unknown", destination_service_name: "unknown" },
  },
  {
    rule: "a server's is its own canonical service",
    direction: "inbound",
    labels: {
      reporter: "destination",
      destination_service: "lone",
      destination_service_name: "lone",
      destination_service_namespace: "default",
    },
  },
  {
    rule: "route block_all is BlackHoleCluster",
    route: { name: "block_all", direct_response: { status: 502 } },
    labels: { destination_service: "web:8080", destination_service_name: "BlackHoleCluster", response_code: "502" },
  },
  {
    rule: "route allow_any is PassthroughCluster",
    route: { name: "allow_any" },
    labels: { destination_service: "web:8080", destination_service_name: "PassthroughCluster" },
  },
  {
    rule: "cluster BlackHoleCluster",
    cluster: { name: "BlackHoleCluster", ...services({ host: "a.b", name: "a", namespace: "b" }) },
    labels: { destination_service: "web:8080", destination_service_name: "BlackHoleCluster" },
  },
  {
    rule: "cluster PassthroughCluster",
    cluster: { name: "PassthroughCluster" },
    labels: { destination_service: "web:8080", destination_service_name: "PassthroughCluster" },
  },
  {
    rule: "cluster InboundPassthroughCluster",
    direction: "inbound",
    cluster: { name: "InboundPassthroughCluster" },
    labels: { destination_service: "lone", destination_service_name: "InboundPassthroughCluster" },
  },
  {
    rule: "the cluster's metadata names host, name and namespace",
    cluster: services({ host: "a.b.svc", name: "other", namespace: "books" }),
    labels: {
      destination_service: "a.b.svc",
      destination_service_name: "other",
      destination_service_namespace: "books",
    },
  },
  {
    rule: "a host alone names the service by its first part",
    cluster: services({ host: "a.b.svc" }),
    labels: { destination_service: "a.b.svc", destination_service_name: "a", destination_service_namespace: "unknown" },
  },
  {
    rule: "metadata without a host and a name: the authority, and its first part",
    cluster: services({ namespace: "books" }),
    send: get("/", { host: "web.shop:8080" }),
    labels: {
      destination_service: "web.shop:8080",
      destination_service_name: "web",
      destination_service_namespace: "books",
    },
  },
  {
    rule: "the endpoint's metadata names the workload",
    endpointMetadata: { workload: "cart-v2;shop;cart;v2;west" },
    labels: {
      destination_workload: "cart-v2",
      destination_workload_namespace: "shop",
      destination_canonical_service: "cart",
      destination_canonical_revision: "v2",
      destination_cluster: "west",
      destination_service_namespace: "shop",
    },
  },
  {
    rule: "with an empty revision it is the latest",
    endpointMetadata: { workload: "cart-v2;shop;cart;;west" },
    labels: { destination_workload: "cart-v2", destination_canonical_revision: "latest" },
  },
  {
    rule: "with four parts it is ignored",
    endpointMetadata: { workload: "cart-v2;shop;cart;v2" },
    labels: { destination_workload: "unknown", destination_canonical_revision: "latest" },
  },
];

const ONE_MORE: Rule = { rule: "what the overload manager refuses", labels: {} };

const GROUPS: Record<string, Rule[]> = { TLS, gRPC: GRPC, "response flags": FLAGS, "the destination": DESTINATIONS };

let proxy: RuleProxy;
beforeAll(async () => {
  await writePressure(0);
  proxy = await RuleProxy.start([...Object.values(GROUPS).flat(), ONE_MORE], web, pressureFile);
});
afterAll(async () => {
  await proxy?.stop();
  await rm(folder, { recursive: true });
});

describe.each(Object.entries(GROUPS))("%s", (_group, rules) => {
  test.each(rules.map((rule) => [rule.rule, rule] as const))("%s", async (_title, rule) => {
    const labels = await proxy.labelsOf(rule);
    expect(Object.keys(labels)).toEqual(LABELS);
    expect(labels).toMatchObject(rule.labels);
  });
});

test("the access log brings every one of them under the same labels", async () => {
  const stats = Object.fromEntries([...(await proxy.counts())].map(([id, { value }]) => [id, value]));
  const total = Object.values(stats).reduce((sum, value) => sum + value, 0);
  const logged = await settled(
    async () => proxy.records,
    ({ length }) => length >= total,
  );
  const counts: Record<string, number> = {};
  for (const { labelKey } of logged) {
    const values = unpackLabels(labelKey) ?? [];
    const labels = Object.fromEntries(LABELS.map((name, i) => [name, values[i] ?? "absent"]));
    const id = seriesId({ name: "istio_requests_total", labels, value: 1 });
    counts[id] = (counts[id] ?? 0) + 1;
  }
  expect(counts).toEqual(stats);
});

// Envoy makes no filter chain for it, and sets no flag (OM) either.
test("what the overload manager refuses no filter sees: only the access log tells of it", async () => {
  const stats = await proxy.counts();
  const { length } = proxy.records;
  await writePressure(1);
  const refused = async () => (await proxy.send(ONE_MORE)) === 503;
  while (!(await refused())) await sleep(50);
  await writePressure(0);
  // Those before it were let through: their entries may come first.
  const codes = await settled(
    async () => proxy.records.slice(length).map(({ labelKey }) => unpackLabels(labelKey)?.[Label.ResponseCode]),
    (added) => added.includes("503"),
  );
  const counted = [...(await proxy.counts())].filter(([id, { value }]) => value !== (stats.get(id)?.value ?? 0));
  expect(codes.at(-1)).toBe("503");
  expect(counted.map(([, { labels }]) => labels["response_code"])).not.toContain("503");
});
