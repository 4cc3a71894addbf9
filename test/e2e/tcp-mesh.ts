// Two workloads that talk over TCP, each behind a real Envoy with the filter, and a server application of ours.
//
//   caller --> Envoy of `caller`, outbound == plaintext or mTLS ==> Envoy of `db`, inbound --> db

import { mkdtemp, readFile, rename, writeFile } from "node:fs/promises";
import { Agent } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DOWNSTREAM_PEER, UPSTREAM_PEER, WASM_STATE_PREFIX } from "../../collector/vocabulary.ts";
import { type CertificateFiles, writeCertificates } from "../../demo/certificates.ts";
import { EnvoyProcess } from "../../demo/envoy-process.ts";
import { httpCall } from "../../demo/http-call.ts";
import {
  type Config,
  socketAddress,
  statsConfig,
  tcpFilterConfig,
  tcpProxyConfig,
} from "../../demo/telemetry-config.ts";
import { spiffeId, type Workload } from "../../demo/topology.ts";
import { Watchdog } from "../../demo/watchdog.ts";
import { findEnvoy } from "../../envoy/binary.ts";
import { filterWasmPath } from "../../envoy/project.ts";
import { freePort } from "../tools/free-port.ts";
import { cluster } from "./lone-proxy.ts";
import { App, dial, type Line, type Service } from "./tcp-line.ts";

const LOCALHOST = "127.0.0.1";
/** What peers that exchange metadata negotiate. */
const EXCHANGE_ALPN = "istio-peer-exchange";
const DB_CLUSTER = "outbound|6379||db.default.svc.cluster.local";
const SERVICES_METADATA: Config = {
  filter_metadata: {
    istio: { services: [{ host: "db.default.svc.cluster.local", name: "db", namespace: "default" }] },
  },
};

export const CALLER = workload("caller", "v1");
export const DB = workload("db", "v2");

function workload(app: string, version: string): Workload {
  const name = `${app}-${version}`;
  return { name, app, version, namespace: "default", serviceAccount: app, role: "sidecar", host: 1 };
}

export interface TcpMeshOptions {
  /** Between the proxies; else plaintext. */
  readonly isMutualTls: boolean;
  /** Which proxies have the filter. Default: both. */
  readonly filters?: "both" | "caller" | "db";
  /** The filter's `metadata_exchange`, by proxy. Default: what makes them understand each other, `exchangeSettings(isMutualTls)`. */
  readonly exchange?: Config;
  /** What else the filters' configuration has. */
  readonly settings?: Config;
  /** Whether the caller's proxy is told that the other has a sidecar (`tlsMode: istio`). Default: with mutual TLS. */
  readonly isSidecarAnnounced?: boolean;
  /** The caller's proxy leads straight to the application, past that of `db`. */
  readonly isDirect?: boolean;
  /** Flags of the proxies' command lines. Default: the demo's. */
  readonly flags?: (proxy: TcpProxy) => readonly string[];
  readonly service?: Service;
}

/** Over mutual TLS the default will do: the endpoint says that it has a sidecar, and its certificate that it is one of the mesh. */
export function exchangeSettings(isMutualTls: boolean): Config {
  return isMutualTls ? {} : { tcp: { send: "always" } };
}

export interface TcpMesh {
  readonly caller: TcpProxy;
  readonly db: TcpProxy;
  /** The server application. */
  readonly app: App;
  /** Every connection that `dial` made. */
  readonly dialled: readonly Line[];
  /** Calls the server through both proxies. */
  dial(): Promise<Line>;
  /** The listener of a proxy as it was at first, with these settings of the filter besides. */
  listener(proxy: "caller" | "db", settings?: Config): Config;
  /** Starts a second process of that proxy with these flags, which the first is to make room for. */
  succeed(proxy: "caller" | "db", flags: readonly string[]): Promise<void>;
  stop(): Promise<void>;
}

/** Filter state as the access log has it: a BytesValue, whose bytes are in base64; null for none. */
type LoggedState = { readonly value: string } | null;

/** One entry of a proxy's access log. */
export interface LogEntry {
  readonly type: string;
  readonly downstreamPeer: LoggedState;
  readonly upstreamPeer: LoggedState;
}

const LOG_FORMAT = {
  type: "%ACCESS_LOG_TYPE%",
  downstreamPeer: `%FILTER_STATE(${WASM_STATE_PREFIX}${DOWNSTREAM_PEER}:TYPED)%`,
  upstreamPeer: `%FILTER_STATE(${WASM_STATE_PREFIX}${UPSTREAM_PEER}:TYPED)%`,
} satisfies Record<keyof LogEntry, string>;

export class TcpProxy {
  readonly adminUrl: string;
  constructor(
    readonly name: "caller" | "db",
    readonly workload: Workload,
    /** Where it takes connections. */
    readonly port: number,
    private readonly adminPort: number,
    private readonly folder: string,
  ) {
    this.adminUrl = `http://${LOCALHOST}:${adminPort}`;
  }

  get address(): string {
    return `${LOCALHOST}:${this.port}`;
  }

  get nodeId(): string {
    return `sidecar~${LOCALHOST}~${this.name}-1.default~default.svc.cluster.local`;
  }

  get configFile(): string {
    return join(this.folder, `${this.name}.json`);
  }

  get logFile(): string {
    return join(this.folder, `${this.name}.log`);
  }

  private get listenersFile(): string {
    return join(this.folder, `${this.name}-listeners.json`);
  }

  /** The one listener that it is to have. Envoy takes the change while it runs. */
  async setListener(listener: Config): Promise<void> {
    const resources = [{ "@type": "type.googleapis.com/envoy.config.listener.v3.Listener", ...listener }];
    await writeFile(`${this.listenersFile}.new`, JSON.stringify({ resources }));
    await rename(`${this.listenersFile}.new`, this.listenersFile); // which is what Envoy watches for
  }

  async writeConfig(clusters: readonly Config[]): Promise<void> {
    const { app, version, namespace, name } = this.workload;
    const config = {
      node: {
        id: this.nodeId,
        cluster: app,
        metadata: {
          NAME: `${app}-1`,
          NAMESPACE: namespace,
          WORKLOAD_NAME: name,
          CLUSTER_ID: "test",
          LABELS: {
            app,
            version,
            "service.istio.io/canonical-name": app,
            "service.istio.io/canonical-revision": version,
          },
        },
      },
      admin: { address: socketAddress(`${LOCALHOST}:${this.adminPort}`) },
      stats_flush_interval: "1s",
      stats_config: statsConfig(),
      dynamic_resources: {
        lds_config: { path_config_source: { path: this.listenersFile }, resource_api_version: "V3" },
      },
      static_resources: { clusters },
    };
    await writeFile(this.configFile, JSON.stringify(config));
  }

  /**
   * What its admin answers. On a connection of its own each time: after a hot restart one that was kept would still lead to the old
   * process.
   */
  async admin(path: string): Promise<string> {
    return (await httpCall(`${this.adminUrl}${path}`, {}, new Agent({ keepAlive: false }))).body;
  }

  /** Finished connections, and from time to time open ones, as its access log has them by now. */
  async log(): Promise<LogEntry[]> {
    const lines = (await readFile(this.logFile, "utf8").catch(() => "")).split("\n");
    return lines.filter((line) => line !== "").map((line) => JSON.parse(line) as LogEntry);
  }
}

export async function startTcpMesh(options: TcpMeshOptions): Promise<TcpMesh> {
  const folder = await mkdtemp(join(tmpdir(), "meshtally-tcp-"));
  const watchdog = new Watchdog(folder);
  const certificateOf = await writeCertificates([CALLER, DB], folder);
  const app = new App(options.service);
  const caller = new TcpProxy("caller", CALLER, await freePort(), await freePort(), folder);
  const db = new TcpProxy("db", DB, await freePort(), await freePort(), folder);
  const appAddress = await app.listen();
  const upstream = options.isDirect === true ? appAddress : db.address;
  await caller.writeConfig([dbCluster(upstream, certificateOf(CALLER), options)]);
  await db.writeConfig([{ ...cluster("inbound|6379||", appAddress), metadata: SERVICES_METADATA }]);
  const listener = (name: "caller" | "db", settings: Config = {}) => {
    const changed = { ...options, settings: { ...options.settings, ...settings } };
    return name === "caller" ? callerListener(caller, changed) : dbListener(db, certificateOf(DB), changed);
  };
  for (const proxy of [caller, db]) await proxy.setListener(listener(proxy.name));

  const processes = await Promise.all([caller, db].map((proxy) => startProxy(proxy, watchdog, options.flags?.(proxy))));
  const dialled: Line[] = [];
  return {
    caller,
    db,
    app,
    dialled,
    listener,
    succeed: async (name, flags) => {
      const proxy = name === "caller" ? caller : db;
      processes.push(await startProxy(proxy, watchdog, flags));
    },
    dial: async () => {
      const line = await dial(caller.port);
      dialled.push(line);
      return line;
    },
    stop: async () => {
      for (const { socket } of dialled) socket.destroy();
      await Promise.all(processes.map((process) => process.stop()));
      app.stop();
      await watchdog.close();
    },
  };
}

async function startProxy(
  { name, configFile, adminUrl }: TcpProxy,
  watchdog: Watchdog,
  flags: readonly string[] | undefined,
): Promise<EnvoyProcess> {
  const process = new EnvoyProcess({
    title: `the proxy of ${name}`,
    envoy: await findEnvoy(),
    configFile,
    adminUrl,
    watchdog,
    ...(flags === undefined ? {} : { flags }),
    onCrash: (failure) => {
      // After a hot restart the old process ends by itself.
      if (!failure.message.includes("exit code 0")) throw failure;
    },
  });
  await process.start();
  return process;
}

/** Where the caller's application calls the server. */
function callerListener(proxy: TcpProxy, options: TcpMeshOptions): Config {
  return {
    name: "outbound",
    traffic_direction: "OUTBOUND",
    address: socketAddress(proxy.address),
    filter_chains: [{ filters: filters(proxy, "outbound", DB_CLUSTER, options) }],
  };
}

/** As Istio has it: what negotiates the exchange in one chain, plaintext in another. */
function dbListener(proxy: TcpProxy, certificates: CertificateFiles, options: TcpMeshOptions): Config {
  const chain = { filters: filters(proxy, "inbound", "inbound|6379||", options) };
  const mutualTls = {
    ...chain,
    filter_chain_match: { transport_protocol: "tls", application_protocols: [EXCHANGE_ALPN, "istio"] },
    transport_socket: tlsSocket("Downstream", {
      require_client_certificate: true,
      common_tls_context: tlsContext(certificates, [EXCHANGE_ALPN, "h2", "http/1.1"]),
    }),
  };
  const plaintext = { ...chain, filter_chain_match: { transport_protocol: "raw_buffer" } };
  const common = { name: "inbound", traffic_direction: "INBOUND", address: socketAddress(proxy.address) };
  // The inspector waits for the client's first bytes, so where the server is to speak first there is none.
  if (!options.isMutualTls) return { ...common, filter_chains: [chain] };
  return { ...common, listener_filters: [TLS_INSPECTOR], filter_chains: [mutualTls, plaintext] };
}

const TLS_INSPECTOR: Config = {
  name: "envoy.filters.listener.tls_inspector",
  typed_config: {
    "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
  },
};

function filters(
  proxy: TcpProxy,
  direction: "inbound" | "outbound",
  to: string,
  { filters: having = "both", isMutualTls, exchange = exchangeSettings(isMutualTls), settings = {} }: TcpMeshOptions,
): Config[] {
  const log = {
    name: "envoy.access_loggers.file",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
      path: proxy.logFile,
      log_format: { json_format: LOG_FORMAT },
    },
  };
  const filter = tcpFilterConfig(direction, filterWasmPath(), { metadata_exchange: exchange, ...settings });
  const isFiltered = having === "both" || having === proxy.name;
  return [...(isFiltered ? [filter] : []), tcpProxyConfig(to, { accessLogs: [log], flushInterval: "1s" })];
}

function dbCluster(address: string, certificates: CertificateFiles, options: TcpMeshOptions): Config {
  const { isMutualTls, isSidecarAnnounced = isMutualTls } = options;
  const endpoint = {
    endpoint: { address: socketAddress(address) },
    // Nothing of who is there: that is for the exchange to tell.
    metadata: { filter_metadata: isSidecarAnnounced ? { "envoy.transport_socket_match": { tlsMode: "istio" } } : {} },
  };
  const socket = tlsSocket("Upstream", {
    sni: "outbound_.6379_._.db.default.svc.cluster.local",
    common_tls_context: tlsContext(certificates, [EXCHANGE_ALPN, "istio"], {
      match_typed_subject_alt_names: [{ san_type: "URI", matcher: { exact: spiffeId(DB) } }],
    }),
  });
  return {
    ...cluster(DB_CLUSTER, address),
    metadata: SERVICES_METADATA,
    load_assignment: { cluster_name: DB_CLUSTER, endpoints: [{ lb_endpoints: [endpoint] }] },
    ...(isMutualTls ? { transport_socket: socket } : {}),
  };
}

function tlsSocket(side: "Upstream" | "Downstream", context: Config): Config {
  const type = `type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.${side}TlsContext`;
  return { name: "envoy.transport_sockets.tls", typed_config: { "@type": type, ...context } };
}

function tlsContext(files: CertificateFiles, alpnProtocols: readonly string[], validation: Config = {}): Config {
  return {
    alpn_protocols: alpnProtocols,
    tls_certificates: [
      { certificate_chain: { filename: files.certificate }, private_key: { filename: files.privateKey } },
    ],
    validation_context: { trusted_ca: { filename: files.authority }, ...validation },
  };
}
