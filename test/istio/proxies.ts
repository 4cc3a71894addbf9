// What istiod sends to a sidecar and to a gateway, before anything is patched: its listeners and clusters by name and shape.
// Differences: addresses are given, since nothing redirects connections here; routes, endpoints and certificates stand in the
// configuration instead of being discovered; filters that only Istio's Envoy has are left out, and so are the matches on the
// protocols (ALPN) that they would negotiate.

import type { CertificateFiles } from "../../demo/certificates.ts";
import { type Config, socketAddress } from "../../demo/telemetry-config.ts";
import type { Workload } from "../../demo/topology.ts";
import { CONNECTION_MANAGER, type Listener, type NetworkFilter, type Resources, TCP_PROXY } from "./resources.ts";

export const WEB: Workload = {
  name: "web-v1",
  app: "web",
  version: "v1",
  namespace: "default",
  serviceAccount: "web",
  role: "sidecar",
  host: 1,
};
export const WEB_HOST = "web.default.svc.cluster.local";
const WEB_OUTBOUND = `outbound|8080||${WEB_HOST}`;
const WEB_INBOUND = "inbound|8080||";
export const DB_HOST = "db.default.svc.cluster.local";
const DB_OUTBOUND = `outbound|6379||${DB_HOST}`;
const DB_INBOUND = "inbound|6379||";
/** What proxies offer each other who would exchange metadata over TCP. */
const EXCHANGE_PROTOCOLS = ["istio-peer-exchange", "istio"];

/** Addresses as "127.0.0.1:15006". */
export interface SidecarPlaces {
  readonly inbound: string;
  readonly outbound: string;
  readonly application: string;
  readonly certificates: CertificateFiles;
  /** Where it takes the same application for a TCP service, `db`, in either direction. Default: nowhere. */
  readonly tcp?: { readonly inbound: string; readonly outbound: string };
}

/** The sidecar of `web`, whose application calls `web` itself: outbound, then over mutual TLS inbound, then the application. */
export function sidecarResources(places: SidecarPlaces): Resources {
  const { tcp, certificates, application } = places;
  return {
    podLabels: { app: "web", version: "v1", "security.istio.io/tlsMode": "istio" },
    listeners: [
      { context: "SIDECAR_OUTBOUND", listener: virtualOutbound() },
      { context: "SIDECAR_OUTBOUND", listener: outboundListener(places.outbound) },
      { context: "SIDECAR_INBOUND", listener: virtualInbound(places) },
      ...(tcp === undefined
        ? []
        : ([
            { context: "SIDECAR_OUTBOUND", listener: tcpListener("OUTBOUND", tcp.outbound, DB_OUTBOUND) },
            { context: "SIDECAR_INBOUND", listener: tcpInbound(tcp.inbound, certificates) },
          ] as const)),
    ],
    clusters: [
      webCluster(places.inbound, certificates),
      cluster(WEB_INBOUND, application, { metadata: WEB_METADATA }),
      ...(tcp === undefined
        ? []
        : [dbCluster(tcp.inbound, certificates), cluster(DB_INBOUND, application, { metadata: DB_METADATA })]),
      ...["PassthroughCluster", "InboundPassthroughCluster"].map((name) => ({
        name,
        type: "ORIGINAL_DST",
        lb_policy: "CLUSTER_PROVIDED",
        connect_timeout: "10s",
      })),
      { name: "BlackHoleCluster", type: "STATIC", connect_timeout: "10s" },
    ],
    extensions: [],
  };
}

/** An ingress gateway, listening on that address and sending everything to the sidecar of `web` at the other. */
export function gatewayResources(listen: string, web: string, certificates: CertificateFiles): Resources {
  const listener = {
    name: "0.0.0.0_8080",
    traffic_direction: "OUTBOUND",
    address: socketAddress(listen),
    filter_chains: [
      {
        filters: [
          connectionManager("outbound_0.0.0.0_8080", {
            route_config: {
              name: "http.8080",
              virtual_hosts: [virtualHost("*:8080", ["*"], { cluster: WEB_OUTBOUND })],
            },
            use_remote_address: true,
            forward_client_cert_details: "SANITIZE_SET",
          }),
        ],
      },
    ],
  };
  return {
    podLabels: { app: "istio-ingressgateway", istio: "ingressgateway" },
    listeners: [
      { context: "GATEWAY", listener },
      { context: "GATEWAY", listener: tcpListener("OUTBOUND", "127.0.0.1:0", DB_OUTBOUND) },
    ],
    clusters: [webCluster(web, certificates), dbCluster(web, certificates)],
    extensions: [],
  };
}

/** Takes what is redirected and for no known service; nothing is redirected here, so its port is as good as any. */
function virtualOutbound(): Listener {
  return {
    name: "virtualOutbound",
    traffic_direction: "OUTBOUND",
    address: socketAddress("127.0.0.1:0"),
    use_original_dst: true,
    filter_chains: [{ name: "virtualOutbound-catchall-tcp", filters: [tcpProxy("PassthroughCluster")] }],
  };
}

function outboundListener(address: string): Listener {
  const names = ["web", "web.default", "web.default.svc", WEB_HOST].flatMap((name) => [name, `${name}:8080`]);
  return {
    name: "0.0.0.0_8080",
    traffic_direction: "OUTBOUND",
    address: socketAddress(address),
    listener_filters: [
      listenerFilter("tls_inspector", "TlsInspector"),
      listenerFilter("http_inspector", "HttpInspector"),
    ],
    filter_chains: [
      {
        filter_chain_match: { transport_protocol: "raw_buffer", application_protocols: ["http/1.1", "h2c"] },
        filters: [
          connectionManager("outbound_0.0.0.0_8080", {
            route_config: {
              name: "8080",
              virtual_hosts: [
                virtualHost(`${WEB_HOST}:8080`, names, { cluster: WEB_OUTBOUND }),
                // As with outboundTrafficPolicy REGISTRY_ONLY.
                {
                  name: "block_all",
                  domains: ["*"],
                  routes: [{ name: "block_all", match: { prefix: "/" }, direct_response: { status: 502 } }],
                },
              ],
            },
          }),
        ],
      },
    ],
    default_filter_chain: { name: "PassthroughFilterChain", filters: [tcpProxy("PassthroughCluster")] },
  };
}

function virtualInbound({ inbound, certificates }: SidecarPlaces): Listener {
  // A port in each match is the one that the caller called, before any redirection.
  const port = Number(inbound.slice(inbound.lastIndexOf(":") + 1));
  const toApplication = connectionManager("inbound_0.0.0.0_8080", {
    route_config: {
      name: WEB_INBOUND,
      virtual_hosts: [virtualHost("inbound|http|8080", ["*"], { cluster: WEB_INBOUND })],
    },
    forward_client_cert_details: "APPEND_FORWARD",
    set_current_client_cert_details: { subject: true, uri: true, dns: true },
  });
  const toElsewhere = connectionManager("InboundPassthroughCluster", {
    route_config: {
      name: "InboundPassthroughCluster",
      virtual_hosts: [virtualHost("inbound|http|0", ["*"], { cluster: "InboundPassthroughCluster" })],
    },
  });
  return {
    name: "virtualInbound",
    traffic_direction: "INBOUND",
    address: socketAddress(inbound),
    listener_filters: [
      listenerFilter("original_dst", "OriginalDst"),
      listenerFilter("tls_inspector", "TlsInspector"),
      listenerFilter("http_inspector", "HttpInspector"),
    ],
    listener_filters_timeout: "0s",
    continue_on_listener_filters_timeout: true,
    filter_chains: [
      {
        name: "virtualInbound-catchall-http",
        filter_chain_match: { transport_protocol: "raw_buffer", application_protocols: ["http/1.1", "h2c"] },
        filters: [toElsewhere],
      },
      {
        name: "0.0.0.0_8080",
        filter_chain_match: { destination_port: port, transport_protocol: "tls" },
        transport_socket: tlsSocket("Downstream", {
          require_client_certificate: true,
          common_tls_context: tlsContext(certificates, ["h2", "http/1.1"]),
        }),
        filters: [toApplication],
      },
      {
        name: "0.0.0.0_8080",
        filter_chain_match: { destination_port: port, transport_protocol: "raw_buffer" },
        filters: [toApplication],
      },
    ],
    default_filter_chain: { name: "virtualInbound", filters: [tcpProxy("InboundPassthroughCluster")] },
  };
}

function tcpListener(direction: "INBOUND" | "OUTBOUND", address: string, to: string): Listener {
  const name = `${direction.toLowerCase()}_6379`;
  return {
    name,
    traffic_direction: direction,
    address: socketAddress(address),
    filter_chains: [{ filters: [tcpProxy(to)] }],
  };
}

/** A chain of virtualInbound in truth: it is told from others by the port that the caller called before it was redirected. */
function tcpInbound(address: string, certificates: CertificateFiles): Listener {
  const filters = [tcpProxy(DB_INBOUND)];
  const mutualTls = {
    filter_chain_match: { transport_protocol: "tls", application_protocols: EXCHANGE_PROTOCOLS },
    transport_socket: tlsSocket("Downstream", {
      require_client_certificate: true,
      common_tls_context: tlsContext(certificates, ["istio-peer-exchange", "h2", "http/1.1"]),
    }),
    filters,
  };
  return {
    ...tcpListener("INBOUND", address, DB_INBOUND),
    listener_filters: [listenerFilter("tls_inspector", "TlsInspector")],
    filter_chains: [mutualTls, { filter_chain_match: { transport_protocol: "raw_buffer" }, filters }],
  };
}

/** With what stock Envoy has of istiod's filters, and the access log that a mesh may have already. */
function connectionManager(statPrefix: string, fields: Config): NetworkFilter {
  return {
    name: CONNECTION_MANAGER,
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
      stat_prefix: statPrefix,
      ...fields,
      access_log: [
        {
          name: "envoy.access_loggers.file",
          typed_config: {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path: "/dev/null",
          },
        },
      ],
      http_filters: [
        httpFilter("fault", "fault.v3.HTTPFault"),
        httpFilter("cors", "cors.v3.Cors"),
        httpFilter("router", "router.v3.Router"),
      ],
    },
  };
}

function httpFilter(name: string, type: string): Config {
  return {
    name: `envoy.filters.http.${name}`,
    typed_config: { "@type": `type.googleapis.com/envoy.extensions.filters.http.${type}` },
  };
}

function listenerFilter(name: string, message: string): Config {
  return {
    name: `envoy.filters.listener.${name}`,
    typed_config: { "@type": `type.googleapis.com/envoy.extensions.filters.listener.${name}.v3.${message}` },
  };
}

function tcpProxy(to: string): NetworkFilter {
  return {
    name: TCP_PROXY,
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
      stat_prefix: to,
      cluster: to,
    },
  };
}

function virtualHost(name: string, domains: readonly string[], route: Config): Config {
  return { name, domains, routes: [{ name: "default", match: { prefix: "/" }, route: { ...route, timeout: "0s" } }] };
}

const DB_METADATA: Config = {
  filter_metadata: { istio: { services: [{ host: DB_HOST, name: "db", namespace: "default" }] } },
};
const WEB_METADATA: Config = {
  filter_metadata: { istio: { services: [{ host: WEB_HOST, name: "web", namespace: "default" }] } },
};

function webCluster(sidecar: string, certificates: CertificateFiles): Config {
  return meshCluster(WEB_OUTBOUND, sidecar, {
    sni: `outbound_.8080_._.${WEB_HOST}`,
    metadata: WEB_METADATA,
    certificates,
  });
}

function dbCluster(sidecar: string, certificates: CertificateFiles): Config {
  return meshCluster(DB_OUTBOUND, sidecar, {
    sni: `outbound_.6379_._.${DB_HOST}`,
    metadata: DB_METADATA,
    certificates,
  });
}

function meshCluster(
  name: string,
  sidecar: string,
  { sni, metadata, certificates }: { sni: string; metadata: Config; certificates: CertificateFiles },
): Config {
  const endpointMetadata = {
    filter_metadata: {
      "envoy.transport_socket_match": { tlsMode: "istio" },
      istio: { workload: "web-v1;default;web;v1;Kubernetes" },
    },
  };
  return cluster(name, sidecar, {
    endpointMetadata,
    metadata,
    transport_socket_matches: [
      {
        name: "tlsMode-istio",
        match: { tlsMode: "istio" },
        transport_socket: tlsSocket("Upstream", {
          sni,
          common_tls_context: tlsContext(certificates, EXCHANGE_PROTOCOLS),
        }),
      },
      {
        name: "tlsMode-disabled",
        match: {},
        transport_socket: {
          name: "envoy.transport_sockets.raw_buffer",
          typed_config: {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
          },
        },
      },
    ],
  });
}

function cluster(name: string, address: string, { endpointMetadata, ...fields }: Config): Config {
  const endpoint = { endpoint: { address: socketAddress(address) } };
  return {
    name,
    type: "STATIC",
    connect_timeout: "10s",
    load_assignment: {
      cluster_name: name,
      endpoints: [
        { lb_endpoints: [endpointMetadata === undefined ? endpoint : { ...endpoint, metadata: endpointMetadata }] },
      ],
    },
    ...fields,
  };
}

function tlsSocket(side: "Upstream" | "Downstream", context: Config): Config {
  const type = `type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.${side}TlsContext`;
  return { name: "envoy.transport_sockets.tls", typed_config: { "@type": type, ...context } };
}

function tlsContext(files: CertificateFiles, alpnProtocols: readonly string[]): Config {
  return {
    alpn_protocols: alpnProtocols,
    tls_certificates: [
      { certificate_chain: { filename: files.certificate }, private_key: { filename: files.privateKey } },
    ],
    validation_context: { trusted_ca: { filename: files.authority } },
  };
}
