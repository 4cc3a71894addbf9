// Access logs as OTLP, from real Envoys with the loggers of envoy/otlp/access-log.yaml: what they come to is what ALS comes to for the same
// requests, and a proxy that logs both ways is counted once. Outbound and TCP over gRPC, inbound over HTTP.

import { readFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { loadConfig } from "../../collector/config/load.ts";
import { silentLog } from "../../collector/log.ts";
import { type Collector, startCollector } from "../../collector/pipeline.ts";
import { httpCall } from "../../demo/http-call.ts";
import {
  accessLogConfig,
  type Config,
  collectorClusterConfig,
  filterConfig,
  socketAddress,
  statsConfig,
  tcpAccessLogConfig,
  tcpFilterConfig,
  tcpProxyConfig,
} from "../../demo/telemetry-config.ts";
import { filterWasmPath, projectRoot } from "../../envoy/project.ts";
import { freePort } from "../tools/free-port.ts";
import { parseExposition, type Sample } from "./exposition.ts";
import { cluster, type LoneProxy, listener, NODE, type Places, ROUTER, startLoneProxy } from "./lone-proxy.ts";
import { settled } from "./observed.ts";

const LOCALHOST = "127.0.0.1";
const SERVICE = "outbound|80||server.default.svc.cluster.local";
const CLOSED = "outbound|81||closed.default.svc.cluster.local";
const TCP_SERVICE = "outbound|6379||db.default.svc.cluster.local";
const INBOUND = "inbound|80||";

interface Snippet {
  readonly http: Config;
  readonly tcp: Config;
  readonly clusters: readonly Config[];
}
const snippet = parse(readFileSync(join(projectRoot(), "envoy/otlp/access-log.yaml"), "utf8")) as Snippet;

/** How a proxy logs, and its workload's name: of one length, for it is in requests, whose sizes are compared. */
interface Way {
  readonly by: "als" | "otlp" | "both";
  readonly hasFilter: boolean;
  readonly workload: string;
}
const WAYS: readonly Way[] = [
  { by: "als", hasFilter: true, workload: "alsf" },
  { by: "otlp", hasFilter: true, workload: "otlf" },
  { by: "both", hasFilter: true, workload: "botf" },
  { by: "als", hasFilter: false, workload: "alsn" },
  { by: "otlp", hasFilter: false, workload: "otln" },
  { by: "both", hasFilter: false, workload: "botn" },
];
const METADATA = NODE["metadata"] as Config;

const PATHS = [
  ...Array<string>(20).fill("/"),
  ...Array<string>(7).fill("/grpc"),
  ...Array<string>(5).fill("/closed"),
  ...Array<string>(3).fill("/path?with=query"),
];
const CONNECTIONS = 4;

interface Proxy extends LoneProxy {
  readonly tcpAddress: string;
}

let collector: Collector;
let echo: Server;
const proxies = new Map<Way, Proxy>();

function otlpLogger({ hasFilter, workload }: Way, of: Config, direction: string, over: "grpc" | "http"): Config {
  const { grpc_service, ...settings } = of["typed_config"] as Config;
  const uri = { uri: "http://meshtally/v1/logs", cluster: "meshtally_otlp_http", timeout: "5s" };
  const service = over === "grpc" ? { grpc_service } : { http_service: { http_uri: uri } };
  // Who a proxy is, the filter tells; without it the resource has to.
  const own = { ...METADATA, ...(METADATA["LABELS"] as Config), WORKLOAD_NAME: workload, LABELS: "" };
  const values = Object.entries(own).map(([key, value]) => ({ key, value: { string_value: value } }));
  const resource = hasFilter ? {} : { resource_attributes: { values } };
  return { ...of, typed_config: { ...settings, ...service, ...resource, log_name: `meshtally_${direction}` } };
}

function loggers(way: Way, direction: "inbound" | "outbound", kind: "http" | "tcp"): Config[] {
  const als = kind === "http" ? accessLogConfig(direction) : tcpAccessLogConfig(direction);
  const otlp = otlpLogger(way, snippet[kind], direction, direction === "inbound" ? "http" : "grpc");
  return way.by === "als" ? [als] : way.by === "otlp" ? [otlp] : [als, otlp];
}

function proxyConfig(way: Way, places: Places, tcpAddress: string, echoAddress: string, closed: string): Config {
  const manager = (direction: "inbound" | "outbound") => ({
    access_log: loggers(way, direction, "http"),
    http_filters: [...(way.hasFilter ? [filterConfig(direction, filterWasmPath())] : []), ROUTER],
  });
  const routes = [
    { name: "closed", match: { prefix: "/closed" }, route: { cluster: CLOSED } },
    { name: "default", match: { prefix: "/" }, route: { cluster: SERVICE } },
  ];
  const route_config = { name: "all", virtual_hosts: [{ name: "all", domains: ["*"], routes }] };
  const tcp = [
    ...(way.hasFilter ? [tcpFilterConfig("outbound", filterWasmPath())] : []),
    tcpProxyConfig(TCP_SERVICE, { accessLogs: loggers(way, "outbound", "tcp"), flushInterval: "1s" }),
  ];
  const own = (name: string, address: string | null) => {
    const found = snippet.clusters.find((each) => each["name"] === name) as Config;
    return { ...found, type: "STATIC", load_assignment: cluster(name, address ?? "")["load_assignment"] };
  };
  return {
    node: {
      ...NODE,
      id: `sidecar~10.0.0.9~${way.workload}-1.default~default.svc.cluster.local`,
      metadata: { ...METADATA, WORKLOAD_NAME: way.workload },
    },
    admin: { address: socketAddress(places.admin) },
    stats_config: statsConfig(),
    static_resources: {
      listeners: [
        listener("inbound", places.inbound, INBOUND, manager("inbound")),
        listener("outbound", places.outbound, SERVICE, { ...manager("outbound"), route_config }),
        {
          name: "tcp",
          traffic_direction: "OUTBOUND",
          address: socketAddress(tcpAddress),
          filter_chains: [{ filters: tcp }],
        },
      ],
      clusters: [
        cluster(INBOUND, places.server),
        cluster(SERVICE, places.server),
        cluster(CLOSED, closed),
        cluster(TCP_SERVICE, echoAddress),
        collectorClusterConfig(collector.grpcAddress),
        own("meshtally_otlp", collector.otlpAddresses.grpc),
        own("meshtally_otlp_http", collector.otlpAddresses.http),
      ],
    },
  };
}

async function sendAll(proxy: Proxy): Promise<void> {
  for (const path of PATHS) {
    const headers = path === "/grpc" ? { "content-type": "application/grpc" } : {};
    for (const port of [proxy.outboundPort, ...(path === "/closed" ? [] : [proxy.inboundPort])]) {
      await httpCall(`http://${LOCALHOST}:${port}${path}`, { host: "server", connection: "close", ...headers });
    }
  }
  for (let i = 0; i < CONNECTIONS; i++) await talk(proxy.tcpAddress);
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

/** What the collector shows of one proxy, without what differs from run to run: how long requests took. */
async function seriesOf(way: Way): Promise<Record<string, number>> {
  const text = await (await fetch(`http://${collector.httpAddress}/metrics`)).text();
  const samples = parseExposition((text.match(/^istio_.*/gm) ?? []).join("\n"));
  const own = samples.filter(({ name, labels }) => isOf(way, labels) && !/milliseconds_(bucket|sum)$/.test(name));
  const counts = own.map(({ name, labels, value }) => [`${name} ${anonymous(way, labels)}`, value] as const);
  return Object.fromEntries(counts.filter(([, value]) => value !== 0).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function proxyOf(way: Way): Proxy {
  return proxies.get(way) as Proxy;
}

function isOf(way: Way, labels: Sample["labels"]): boolean {
  return [labels["source_workload"], labels["destination_workload"]].includes(way.workload);
}

function anonymous(way: Way, labels: Sample["labels"]): string {
  const values = Object.entries(labels).map(([label, value]) => `${label}=${value}`);
  return values.join(" ").replaceAll(`=${way.workload} `, "=PROXY ").replaceAll(proxyOf(way).tcpAddress, "TCP");
}

function total(series: Readonly<Record<string, number>>, pattern: RegExp): number {
  return Object.entries(series).reduce((sum, [name, value]) => sum + (pattern.test(name) ? value : 0), 0);
}

/** Each path went outbound and, but for those that nobody serves, inbound. */
const REQUESTS = 2 * PATHS.length - PATHS.filter((path) => path === "/closed").length;
const isWhole = (series: Readonly<Record<string, number>>) =>
  total(series, /^istio_requests_total /) >= REQUESTS &&
  total(series, /^istio_tcp_connections_closed_total /) >= CONNECTIONS;

beforeAll(async () => {
  const address = { host: LOCALHOST, port: 0 };
  const defaults = loadConfig({ path: null, env: {} });
  const config = { ...defaults, grpc: { ...defaults.grpc, address }, http: { address } };
  collector = await startCollector({ ...config, otlp: { grpc: { address }, http: { address } } }, () => silentLog);
  echo = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (bytes) => socket.end(bytes));
  });
  const echoPort = await freePort();
  await new Promise<void>((resolve) => echo.listen(echoPort, LOCALHOST, resolve));
  const closed = `${LOCALHOST}:${await freePort()}`;
  const start = async (way: Way) => {
    const tcpAddress = `${LOCALHOST}:${await freePort()}`;
    const answers = (path: string): Record<string, string> =>
      path === "/grpc" ? { "content-type": "application/grpc", "grpc-status": "5" } : {};
    const proxy = await startLoneProxy(answers, (places) =>
      proxyConfig(way, places, tcpAddress, `${LOCALHOST}:${echoPort}`, closed),
    );
    proxies.set(way, { ...proxy, tcpAddress });
  };
  await Promise.all(WAYS.map(start));
  await Promise.all([...proxies.values()].map(sendAll));
});
afterAll(async () => {
  await Promise.all([...proxies.values()].map((proxy) => proxy.stop()));
  await collector?.stop();
  echo?.close();
});

describe.each(WAYS)("a proxy that logs by $by, with the filter: $hasFilter", (way) => {
  let series: Record<string, number>;
  beforeAll(async () => {
    series = await settled(() => seriesOf(way), isWhole);
  });

  test("is counted request by request, connection by connection", () => {
    expect(total(series, /^istio_requests_total /)).toBe(REQUESTS);
    expect(total(series, /^istio_requests_total .*response_flags=UF/)).toBe(5);
    expect(total(series, /^istio_requests_total .*grpc_response_status=5/)).toBe(14);
    expect(total(series, /^istio_request_duration_milliseconds_count /)).toBe(REQUESTS);
    expect(total(series, /^istio_tcp_connections_opened_total /)).toBe(CONNECTIONS);
    expect(total(series, /^istio_tcp_connections_closed_total /)).toBe(CONNECTIONS);
    expect(total(series, /^istio_tcp_received_bytes_total /)).toBe(CONNECTIONS * "ping".length);
  });

  test("has the series of one that logs by ALS, label by label and bucket by bucket", async () => {
    const same = WAYS.find(({ by, hasFilter }) => by === "als" && hasFilter === way.hasFilter) as Way;
    expect(series).toEqual(await settled(() => seriesOf(same), isWhole));
  });
});

test("indicators have each request once, and the bytes of each connection", async () => {
  const read = async () => {
    const text = await (await fetch(`http://${collector.httpAddress}/metrics`)).text();
    const samples = parseExposition((text.match(/^mesh_service_.*/gm) ?? []).join("\n"));
    const sum = (name: string) =>
      samples.filter((sample) => sample.name === name).reduce((all, { value }) => all + value, 0);
    return { requests: sum("mesh_service_requests_total"), tcpBytes: sum("mesh_service_tcp_sent_bytes_total") };
  };
  const expected = { requests: WAYS.length * REQUESTS, tcpBytes: WAYS.length * CONNECTIONS * "ping".length };
  expect(await settled(read, ({ requests }) => requests >= expected.requests)).toEqual(expected);
});

test("the collector took every record, and knows every attribute", async () => {
  const body = (await (await fetch(`http://${collector.httpAddress}/api/v1/receivers`)).json()) as {
    readonly otlp_logs: Readonly<Record<string, unknown>>;
    readonly proxies: readonly { readonly entries_not_taken?: object }[];
  };
  expect(body.otlp_logs).toMatchObject({ rejected: {}, with_unknown_attributes: 0, unknown_attributes: [] });
  expect(Number(body.otlp_logs["accepted"])).toBeGreaterThanOrEqual(4 * (REQUESTS + CONNECTIONS));
});
