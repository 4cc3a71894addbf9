// The whole Envoy configuration of one workload's proxy, as JSON. Names of listeners, clusters and routes are Istio's.
//
//            caller's sidecar                        callee's sidecar
//   app --> 127.0.x.11:15001 outbound == mTLS ==> 127.0.x.13:15006 inbound --> 127.0.x.13:9080 app
//
// The database and its caller talk TCP; the database's sidecar takes plain text, too:
//
//   app --> 127.0.x.16:6379 outbound == mTLS ==> 127.0.x.17:15006 inbound --> 127.0.x.17:6379 database

import {
  APP_LABEL,
  CANONICAL_NAME_LABEL,
  CANONICAL_REVISION_LABEL,
  CLUSTER_ID as CLUSTER_ID_KEY,
  LABELS_KEY,
  LATEST,
  NAME,
  NAMESPACE,
  OWNER,
  ROUTE_BLOCK_ALL,
  VERSION_LABEL,
  WORKLOAD_NAME,
} from "../collector/vocabulary.ts";
import type { CertificateFiles } from "./certificates.ts";
import {
  accessLogConfig,
  type Config,
  collectorClusterConfig,
  type Direction,
  filterConfig,
  type MetricsSink,
  metricsSinkConfig,
  socketAddress,
  statsConfig,
  tcpAccessLogConfig,
  tcpFilterConfig,
  tcpProxyConfig,
} from "./telemetry-config.ts";
import {
  addressOf,
  CLUSTER_ID,
  DATABASE,
  DATABASE_PORT,
  DATABASE_SERVICE,
  nodeId,
  PORTS,
  podName,
  RATINGS,
  SERVICE_PORT,
  SERVICES,
  type Service,
  serviceHost,
  spiffeId,
  type Workload,
} from "./topology.ts";

/** Header in which a caller names its workload to the called application, so that servers can count by caller. */
export const CALLER_HEADER = "x-demo-caller";

/** Protocols (ALPN) by which proxies agree on metadata exchange over TCP; Istio's names. */
const TCP_PROTOCOLS = ["istio-peer-exchange", "istio"];
const HTTP_PROTOCOLS = ["http/1.1"];

export interface ProxySettings {
  /** First three parts of every address of this run: "127.0.7". */
  readonly subnet: string;
  readonly certificates: CertificateFiles;
  /** The collector's gRPC address, "127.0.0.1:11800"; null for no access log. */
  readonly accessLogTo: string | null;
  /** The same address and how its metrics service is told the stats; null for none. */
  readonly metricsTo: { readonly address: string; readonly sink: MetricsSink } | null;
  /** The filter's file; null for a proxy without it. */
  readonly wasmFile: string | null;
  /** Take plain text beside mTLS on the inbound listener (Istio's PERMISSIVE). */
  readonly plaintext: boolean;
  /** Where the gateway listens for clients. */
  readonly gatewayPort: number;
}

/** What `envoy -c` takes for the proxy of that workload. */
export function proxyConfig(workload: Workload, settings: ProxySettings): Config {
  const address = addressOf(workload, settings.subnet);
  const clusters = SERVICES.map((service) => outboundCluster(service, SERVICE_PORT, address, settings));
  if (workload === RATINGS) clusters.push(outboundCluster(DATABASE_SERVICE, DATABASE_PORT, address, settings));
  if (workload === DATABASE) clusters.push(inboundCluster(DATABASE_SERVICE, DATABASE_PORT, address));
  else if (workload.role === "sidecar") clusters.push(inboundCluster(serviceOf(workload), SERVICE_PORT, address));
  const collector = settings.accessLogTo ?? settings.metricsTo?.address;
  if (collector !== undefined) clusters.push(collectorClusterConfig(collector));
  return {
    node: nodeConfig(workload, address),
    admin: { address: socketAddress(`${address}:${PORTS.admin}`) },
    static_resources: {
      listeners: listenersOf(workload, address, settings),
      clusters,
    },
    stats_flush_interval: "1s",
    stats_config: statsConfig(),
    stats_sinks: settings.metricsTo === null ? [] : [metricsSinkConfig(settings.metricsTo.sink)],
  };
}

function listenersOf(workload: Workload, address: string, settings: ProxySettings): Config[] {
  if (workload.role === "router") return [gatewayListener(workload, address, settings)];
  if (workload === DATABASE) return [outboundListener(address, settings), databaseListener(address, settings)];
  const toDatabase = workload === RATINGS ? [toDatabaseListener(address, settings)] : [];
  return [outboundListener(address, settings), ...toDatabase, inboundListener(address, settings)];
}

/** Who the proxy says it is: the keys that Istio's injector writes. */
function nodeConfig(workload: Workload, address: string): Config {
  const { name, namespace, app, version } = workload;
  const labels = {
    [APP_LABEL]: app,
    ...(version === "" ? {} : { [VERSION_LABEL]: version }),
    [CANONICAL_NAME_LABEL]: app,
    [CANONICAL_REVISION_LABEL]: version === "" ? LATEST : version,
  };
  return {
    id: nodeId(workload, address),
    cluster: `${app}.${namespace}`,
    metadata: {
      [NAME]: podName(workload),
      [NAMESPACE]: namespace,
      [WORKLOAD_NAME]: name,
      [CLUSTER_ID_KEY]: CLUSTER_ID,
      [OWNER]: `kubernetes://apis/apps/v1/namespaces/${namespace}/deployments/${name}`,
      [LABELS_KEY]: labels,
    },
  };
}

function gatewayListener(workload: Workload, address: string, settings: ProxySettings): Config {
  const product = SERVICES.filter((service) => service.name === "productpage");
  const virtualHosts = product.map((service) => ({
    name: `${serviceHost(service)}:80`,
    domains: ["*"],
    // Only the product page is published; any other path has no route, and Envoy answers 404.
    routes: [{ name: "default", match: { prefix: "/productpage" }, route: routeTo(service) }],
    request_headers_to_add: [
      {
        header: { key: CALLER_HEADER, value: workload.name },
        append_action: "OVERWRITE_IF_EXISTS_OR_ADD",
      },
    ],
  }));
  return {
    name: `${address}_${settings.gatewayPort}`,
    traffic_direction: "OUTBOUND",
    address: socketAddress(`${address}:${settings.gatewayPort}`),
    filter_chains: [
      {
        filters: [
          connectionManager("gateway", settings, {
            route_config: { name: "http.80", virtual_hosts: virtualHosts },
            use_remote_address: true,
            forward_client_cert_details: "SANITIZE_SET",
          }),
        ],
      },
    ],
  };
}

function outboundListener(address: string, settings: ProxySettings): Config {
  const virtualHosts: Config[] = SERVICES.map((service) => ({
    name: `${serviceHost(service)}:${SERVICE_PORT}`,
    domains: hostNames(service),
    routes: [{ name: "default", match: { prefix: "/" }, route: routeTo(service) }],
  }));
  virtualHosts.push({
    name: ROUTE_BLOCK_ALL,
    domains: ["*"],
    routes: [{ name: ROUTE_BLOCK_ALL, match: { prefix: "/" }, direct_response: { status: 502 } }],
  });
  return {
    name: `${address}_${PORTS.outbound}`,
    traffic_direction: "OUTBOUND",
    address: socketAddress(`${address}:${PORTS.outbound}`),
    filter_chains: [
      {
        filters: [
          connectionManager("outbound", settings, {
            route_config: { name: String(SERVICE_PORT), virtual_hosts: virtualHosts },
          }),
        ],
      },
    ],
  };
}

/** Nothing redirects connections here, so the database has its place on its caller's own address. */
function toDatabaseListener(address: string, settings: ProxySettings): Config {
  return {
    name: `${address}_${DATABASE_PORT}`,
    traffic_direction: "OUTBOUND",
    address: socketAddress(`${address}:${DATABASE_PORT}`),
    filter_chains: [{ filters: tcpFilters("outbound", outboundName(DATABASE_SERVICE, DATABASE_PORT), settings) }],
  };
}

function databaseListener(address: string, settings: ProxySettings): Config {
  const filters = tcpFilters("inbound", inboundName(DATABASE_PORT), settings);
  return virtualInbound(address, filters, TCP_PROTOCOLS, { ...settings, plaintext: true });
}

function tcpFilters(direction: Direction, cluster: string, { wasmFile, accessLogTo }: ProxySettings): Config[] {
  const accessLogs = accessLogTo === null ? [] : [tcpAccessLogConfig(direction)];
  return [
    ...(wasmFile === null ? [] : [tcpFilterConfig(direction, wasmFile)]),
    tcpProxyConfig(cluster, { accessLogs, flushInterval: "1s" }),
  ];
}

function inboundListener(address: string, settings: ProxySettings): Config {
  const filters = [
    connectionManager("inbound", settings, {
      route_config: {
        name: inboundName(SERVICE_PORT),
        virtual_hosts: [
          {
            name: `inbound|http|${SERVICE_PORT}`,
            domains: ["*"],
            routes: [
              { name: "default", match: { prefix: "/" }, route: { cluster: inboundName(SERVICE_PORT), timeout: "0s" } },
            ],
          },
        ],
      },
      forward_client_cert_details: "APPEND_FORWARD",
      set_current_client_cert_details: { subject: true, uri: true },
    }),
  ];
  return virtualInbound(address, filters, HTTP_PROTOCOLS, settings);
}

function virtualInbound(
  address: string,
  filters: readonly Config[],
  protocols: readonly string[],
  settings: ProxySettings,
): Config {
  const mutualTls = {
    filter_chain_match: { transport_protocol: "tls" },
    transport_socket: transportSocket("Downstream", {
      require_client_certificate: true,
      common_tls_context: tlsContext(settings.certificates, protocols, {}),
    }),
    filters,
  };
  const plaintext = { filter_chain_match: { transport_protocol: "raw_buffer" }, filters };
  return {
    name: "virtualInbound",
    traffic_direction: "INBOUND",
    address: socketAddress(`${address}:${PORTS.inbound}`),
    listener_filters: [
      {
        name: "envoy.filters.listener.tls_inspector",
        typed_config: {
          "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        },
      },
    ],
    filter_chains: settings.plaintext ? [mutualTls, plaintext] : [mutualTls],
  };
}

function connectionManager(direction: Direction, settings: ProxySettings, fields: Config): Config {
  const { wasmFile } = settings;
  return {
    name: "envoy.filters.network.http_connection_manager",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
      stat_prefix: direction,
      ...fields,
      http_filters: [
        ...(wasmFile === null ? [] : [filterConfig(direction, wasmFile)]),
        {
          name: "envoy.filters.http.router",
          typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        },
      ],
      ...(settings.accessLogTo === null ? {} : { access_log: [accessLogConfig(direction)] }),
    },
  };
}

/** No retries and no timeout: a request is one request, which keeps what servers count equal to what callers count. */
function routeTo(service: Service): Config {
  return { cluster: outboundName(service, SERVICE_PORT), timeout: "0s" };
}

/** The service's endpoints behind mTLS. Connections leave from the workload's own address, so that it names the caller. */
function outboundCluster(service: Service, port: number, ownAddress: string, settings: ProxySettings): Config {
  const name = outboundName(service, port);
  return {
    name,
    type: "STATIC",
    connect_timeout: "1s",
    lb_policy: "ROUND_ROBIN",
    metadata: servicesMetadata(service),
    upstream_bind_config: { source_address: { address: ownAddress, port_value: 0 } },
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: service.workloads.map((workload) => endpoint(workload, settings.subnet)) }],
    },
    transport_socket: transportSocket("Upstream", {
      sni: `outbound_.${port}_._.${serviceHost(service)}`,
      common_tls_context: tlsContext(settings.certificates, port === DATABASE_PORT ? TCP_PROTOCOLS : HTTP_PROTOCOLS, {
        match_typed_subject_alt_names: [...new Set(service.workloads.map(spiffeId))].map((exact) => ({
          san_type: "URI",
          matcher: { exact },
        })),
      }),
    }),
  };
}

function endpoint(workload: Workload, subnet: string): Config {
  const { name, namespace, app, version } = workload;
  return {
    endpoint: { address: socketAddress(`${addressOf(workload, subnet)}:${PORTS.inbound}`) },
    metadata: {
      filter_metadata: {
        "envoy.transport_socket_match": { tlsMode: "istio" },
        istio: { workload: [name, namespace, app, version, CLUSTER_ID].join(";") },
      },
    },
  };
}

function inboundCluster(service: Service | undefined, port: number, address: string): Config {
  const name = inboundName(port);
  return {
    name,
    type: "STATIC",
    connect_timeout: "1s",
    ...(service === undefined ? {} : { metadata: servicesMetadata(service) }),
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(`${address}:${port}`) } }] }],
    },
  };
}

function serviceOf(workload: Workload): Service | undefined {
  return SERVICES.find(({ workloads }) => workloads.includes(workload));
}

function servicesMetadata(service: Service): Config {
  const { name, namespace } = service;
  return { filter_metadata: { istio: { services: [{ host: serviceHost(service), name, namespace }] } } };
}

function transportSocket(side: "Upstream" | "Downstream", context: Config): Config {
  const type = `type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.${side}TlsContext`;
  return { name: "envoy.transport_sockets.tls", typed_config: { "@type": type, ...context } };
}

function tlsContext(files: CertificateFiles, protocols: readonly string[], validation: Config): Config {
  return {
    tls_params: { tls_minimum_protocol_version: "TLSv1_2" },
    tls_certificates: [
      { certificate_chain: { filename: files.certificate }, private_key: { filename: files.privateKey } },
    ],
    validation_context: { trusted_ca: { filename: files.authority }, ...validation },
    alpn_protocols: protocols,
  };
}

function hostNames(service: Service): string[] {
  const host = serviceHost(service);
  const names = [
    service.name,
    `${service.name}.${service.namespace}`,
    `${service.name}.${service.namespace}.svc`,
    host,
  ];
  return names.flatMap((name) => [name, `${name}:${SERVICE_PORT}`]);
}

function outboundName(service: Service, port: number): string {
  return `outbound|${port}||${serviceHost(service)}`;
}

function inboundName(port: number): string {
  return `inbound|${port}||`;
}
