// One real Envoy for a table of rules: each case has a listener, a route and a cluster of its own, so that it may change any of them,
// and is told by the one series that its request adds to.

import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { connect, createServer as createHttp2Server, type Http2Server } from "node:http2";
import { request as httpsRequest } from "node:https";
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { CertificateFiles } from "../../demo/certificates.ts";
import { httpCall } from "../../demo/http-call.ts";
import {
  accessLogConfig,
  type Config,
  collectorClusterConfig,
  type Direction,
  filterConfig,
  socketAddress,
  statsConfig,
} from "../../demo/telemetry-config.ts";
import { filterWasmPath } from "../../envoy/project.ts";
import { freePort } from "../tools/free-port.ts";
import { parseExposition, seriesId } from "./exposition.ts";
import { type LoneProxy, NODE, startLoneProxy } from "./lone-proxy.ts";

export type Labels = Readonly<Record<string, string>>;

/** What the servers behind the proxy are reached by. */
interface Upstreams {
  /** HTTP/1.1, obeys the path: `/status/503`, `/hang`, `/reset`, any other is 200. */
  readonly http: string;
  /** HTTP/2, for gRPC: `/trailers/5`, `/headers/14`, `/missing`, `/status/503`, `/reset`. */
  readonly http2: string;
  /** Answers with what is no HTTP. */
  readonly garbage: string;
  /** Nobody listens there. */
  readonly closed: string;
  /** TLS that wants a client's certificate, and TLS that does not. */
  readonly mutualTls: string;
  readonly tls: string;
}

/** One rule and how to see it. What is left out is a plain request that is answered with 200. */
export interface Rule {
  readonly rule: string;
  /** Of the filter; default outbound. */
  readonly direction?: Direction;
  /** Of the only route, beside or instead of a route to the case's cluster. */
  readonly route?: Config;
  readonly cluster?: Config;
  /** Default `http`. */
  readonly upstream?: keyof Upstreams;
  readonly endpointMetadata?: Config;
  /** Between our filter and the router. */
  readonly filters?: readonly Config[];
  readonly manager?: Config;
  /** The listener's certificate and what it asks of callers. */
  readonly tls?: Config;
  readonly send?: (port: number) => Promise<unknown>;
  /** How often it is sent; the last time counts. Default 1. */
  readonly times?: number;
  readonly labels: Labels;
}

const LOCALHOST = "127.0.0.1";
const CONNECTION_MANAGER =
  "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
export const ROUTER: Config = {
  name: "envoy.filters.http.router",
  typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
};

export class RuleProxy {
  private readonly proxy: LoneProxy;
  private readonly ports: ReadonlyMap<Rule, number>;
  private readonly servers: readonly Closable[];

  private constructor(proxy: LoneProxy, ports: ReadonlyMap<Rule, number>, servers: readonly Closable[]) {
    this.proxy = proxy;
    this.ports = ports;
    this.servers = servers;
  }

  /**
   * `server`: the certificate of the upstreams that speak TLS. `pressureFile`: while it holds 1 instead of 0, Envoy takes itself to be
   * overloaded and refuses requests.
   */
  static async start(rules: readonly Rule[], server: CertificateFiles, pressureFile: string): Promise<RuleProxy> {
    const servers = [httpServer(), http2Server(), garbageServer()];
    const [http, http2, garbage] = (await Promise.all(servers.map(listen))) as [string, string, string];
    const [closed, mutualTls, tls] = [await freeAddress(), await freeAddress(), await freeAddress()];
    const upstreams: Upstreams = { http, http2, garbage, closed, mutualTls, tls };
    const ports = new Map<Rule, number>();
    for (const rule of rules) ports.set(rule, await freePort());
    const proxy = await startLoneProxy(
      () => ({}),
      ({ admin, receiver }) => ({
        node: NODE,
        admin: { address: socketAddress(admin) },
        stats_config: statsConfig(),
        overload_manager: overloadManager(pressureFile),
        static_resources: {
          listeners: [
            ...rules.map((rule, i) => ruleListener(rule, i, ports.get(rule) as number)),
            answerer(mutualTls, downstreamTls(server, true)),
            answerer(tls, downstreamTls(server, false)),
          ],
          clusters: [...rules.map((rule, i) => ruleCluster(rule, i, upstreams)), collectorClusterConfig(receiver)],
        },
      }),
    );
    return new RuleProxy(proxy, ports, servers);
  }

  /** Sends the case's request; the labels of the one series that it is counted in. Throws when it is more or other than one. */
  async labelsOf(rule: Rule): Promise<Labels> {
    for (let time = 1; time < (rule.times ?? 1); time++) await this.sendAndFind(rule);
    return this.sendAndFind(rule);
  }

  /** Sends a plain request; the code of the answer. */
  async send(rule: Rule): Promise<number> {
    return (await get()(this.ports.get(rule) as number)).status;
  }

  private async sendAndFind(rule: Rule): Promise<Labels> {
    const before = await this.counts();
    const send = rule.send ?? get();
    await send(this.ports.get(rule) as number);
    for (let tries = 0; tries < 2000; tries++) {
      const added = [...(await this.counts())].filter(([id, { value }]) => value !== (before.get(id)?.value ?? 0));
      const [[id, sample] = [], ...more] = added;
      if (sample === undefined) {
        await sleep(20);
        continue;
      }
      const increase = sample.value - (before.get(id as string)?.value ?? 0);
      if (more.length > 0 || increase !== 1) throw new Error(`${added.length} series, the first by ${increase}`);
      return sample.labels;
    }
    throw new Error("the request was not counted");
  }

  /** istio_requests_total by series. */
  async counts() {
    const url = `${this.proxy.adminUrl}/stats/prometheus?usedonly&filter=istio_requests_total$`;
    const samples = parseExposition(await (await fetch(url)).text());
    return new Map(samples.map((sample) => [seriesId(sample), sample]));
  }

  /** What the access log brought so far. */
  get records(): LoneProxy["records"] {
    return this.proxy.records;
  }

  async stop(): Promise<void> {
    for (const server of this.servers) {
      if ("closeAllConnections" in server) server.closeAllConnections();
      server.close();
    }
    await this.proxy.stop();
  }
}

function overloadManager(pressureFile: string): Config {
  return {
    refresh_interval: "0.1s",
    resource_monitors: [
      {
        name: "envoy.resource_monitors.injected_resource",
        typed_config: {
          "@type": "type.googleapis.com/envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig",
          filename: pressureFile,
        },
      },
    ],
    actions: [
      {
        name: "envoy.overload_actions.stop_accepting_requests",
        triggers: [{ name: "envoy.resource_monitors.injected_resource", threshold: { value: 1 } }],
      },
    ],
  };
}

function ruleListener(rule: Rule, index: number, port: number): Config {
  const { direction = "outbound", route = {}, filters = [], manager = {}, tls } = rule;
  const to = { name: "default", match: { prefix: "/" }, route: { cluster: clusterName(rule, index) } };
  // An action of the case's own takes the place of the route to its cluster.
  const { route: _, ...withoutAction } = to;
  const hasAction = "direct_response" in route || "redirect" in route;
  const virtualHost = { name: "all", domains: ["*"], routes: [{ ...(hasAction ? withoutAction : to), ...route }] };
  const typed_config = {
    "@type": CONNECTION_MANAGER,
    stat_prefix: "rules",
    access_log: [accessLogConfig(direction)],
    route_config: { name: "rules", virtual_hosts: [virtualHost], validate_clusters: false },
    http_filters: [filterConfig(direction, filterWasmPath()), ...filters, ROUTER],
    ...manager,
  };
  return {
    name: `case-${index}`,
    traffic_direction: direction === "inbound" ? "INBOUND" : "OUTBOUND",
    address: socketAddress(`${LOCALHOST}:${port}`),
    filter_chains: [
      {
        filters: [{ name: "envoy.filters.network.http_connection_manager", typed_config }],
        ...(tls === undefined ? {} : { transport_socket: tls }),
      },
    ],
  };
}

function clusterName(rule: Rule, index: number): string {
  return (rule.cluster?.["name"] as string | undefined) ?? `case-${index}`;
}

function ruleCluster(rule: Rule, index: number, upstreams: Upstreams): Config {
  const { upstream = "http", endpointMetadata, cluster = {} } = rule;
  const endpoint = {
    endpoint: { address: socketAddress(upstreams[upstream]) },
    ...(endpointMetadata === undefined ? {} : { metadata: { filter_metadata: { istio: endpointMetadata } } }),
  };
  const name = clusterName(rule, index);
  return {
    name,
    type: "STATIC",
    connect_timeout: "1s",
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [endpoint] }] },
    ...(upstream === "http2" ? HTTP2 : {}),
    ...cluster,
  };
}

const HTTP2: Config = {
  typed_extension_protocol_options: {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
      "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
};

/** A listener without our filter that answers everything with 200. */
function answerer(address: string, tls: Config): Config {
  const typed_config = {
    "@type": CONNECTION_MANAGER,
    stat_prefix: "answerer",
    route_config: {
      virtual_hosts: [
        { name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, direct_response: { status: 200 } }] },
      ],
    },
    http_filters: [ROUTER],
  };
  return {
    name: address,
    address: socketAddress(address),
    filter_chains: [
      { filters: [{ name: "envoy.filters.network.http_connection_manager", typed_config }], transport_socket: tls },
    ],
  };
}

/** A server's end of TLS. */
export function downstreamTls(own: CertificateFiles, isMutual: boolean): Config {
  return transportSocket("Downstream", {
    require_client_certificate: isMutual,
    common_tls_context: tlsContext(own, own),
  });
}

/** A client's end of TLS; without a certificate of its own when `own` is null. */
export function upstreamTls(authority: CertificateFiles, own: CertificateFiles | null): Config {
  return transportSocket("Upstream", { common_tls_context: tlsContext(authority, own) });
}

function tlsContext({ authority }: CertificateFiles, own: CertificateFiles | null): Config {
  return {
    validation_context: { trusted_ca: { filename: authority } },
    ...(own === null
      ? {}
      : {
          tls_certificates: [
            { certificate_chain: { filename: own.certificate }, private_key: { filename: own.privateKey } },
          ],
        }),
  };
}

function transportSocket(side: "Upstream" | "Downstream", context: Config): Config {
  const type = `type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.${side}TlsContext`;
  return { name: "envoy.transport_sockets.tls", typed_config: { "@type": type, ...context } };
}

// How a case may send its request.

const HEADERS = { host: "web:8080", connection: "close" };

export function get(path = "/", headers: NodeJS.Dict<string> = {}) {
  return (port: number) => httpCall(`http://${LOCALHOST}:${port}${path}`, { ...HEADERS, ...headers });
}

/** Over TLS, with a certificate or without one. */
export function getOverTls(own: CertificateFiles | null, headers: NodeJS.Dict<string> = {}) {
  return (port: number) =>
    new Promise<void>((resolve, reject) => {
      const certificate =
        own === null ? {} : { cert: readFileSync(own.certificate, "utf8"), key: readFileSync(own.privateKey, "utf8") };
      const options = { host: LOCALHOST, port, headers: { ...HEADERS, ...headers }, rejectUnauthorized: false };
      httpsRequest({ ...options, ...certificate }, (answer) => answer.resume().on("end", resolve).on("error", reject))
        .on("error", reject)
        .end();
    });
}

/** A gRPC call over HTTP/2, with an empty message. `resetAfterMs`: the caller gives up. */
export function grpcCall(path: string, contentType = "application/grpc", resetAfterMs = 0) {
  return (port: number) =>
    new Promise<void>((resolve, reject) => {
      const session = connect(`http://${LOCALHOST}:${port}`).on("error", reject);
      const stream = session.request({ ":method": "POST", ":path": path, "content-type": contentType, te: "trailers" });
      stream.resume().on("error", () => {}); // a reset is an answer, too
      stream.on("close", () => {
        session.destroy();
        resolve();
      });
      stream.end(Buffer.alloc(5));
      if (resetAfterMs > 0) setTimeout(() => stream.close(8), resetAfterMs);
    });
}

// The servers behind the proxy.

type Closable = Server | Http2Server | TcpServer;

function httpServer(): Server {
  return createServer((request, response) => {
    const [, what, status] = (request.url ?? "/").split("/");
    if (what === "reset") request.socket.destroy();
    else if (what !== "hang") response.writeHead(what === "status" ? Number(status) : 200).end("ok");
  });
}

function http2Server(): Http2Server {
  const server = createHttp2Server();
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    const [, what, status = ""] = (headers[":path"] ?? "/").split("/");
    const type = { "content-type": "application/grpc" };
    if (what === "reset") stream.close(2);
    else if (what === "headers")
      stream.respond({ ":status": 200, ...type, "grpc-status": status }, { endStream: true });
    else if (what === "status") stream.respond({ ":status": Number(status) }, { endStream: true });
    else if (what === "missing") stream.respond({ ":status": 200, ...type }, { endStream: true });
    else if (what === "trailers") {
      stream.respond({ ":status": 200, ...type }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": status }));
      stream.end(Buffer.alloc(5));
    }
  });
  return server;
}

function garbageServer(): TcpServer {
  return createTcpServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", () => socket.end("no such protocol\r\n\r\n"));
  });
}

async function listen(server: Closable): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, LOCALHOST, resolve));
  return `${LOCALHOST}:${(server.address() as AddressInfo).port}`;
}

async function freeAddress(): Promise<string> {
  return `${LOCALHOST}:${await freePort()}`;
}
