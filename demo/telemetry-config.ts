// The part of an Envoy configuration that makes it report: the filter, the access log and the stats. The same in envoy/*.yaml,
// where it is written out with comments.

import { DOWNSTREAM_PEER, OBSERVATION, UPSTREAM_PEER, WASM_STATE_PREFIX } from "../collector/vocabulary.ts";
import { bucketSettings } from "../envoy/histogram-buckets.ts";
import { labelTag, STATS_TAGS } from "../envoy/stats-tags.ts";

/** A piece of Envoy configuration in its JSON form. */
export type Config = { readonly [field: string]: unknown };

/** Name of the cluster through which a proxy reaches the collector. */
const COLLECTOR_CLUSTER = "meshtally_collector";

export type Direction = "inbound" | "outbound" | "gateway";

/**
 * The filter as an HTTP filter, running the wasm of that file. It must stand first, so that it sees each request whole. `settings`:
 * what its configuration has besides.
 */
export function filterConfig(direction: Direction, wasmFile: string, settings: Config = {}): Config {
  return {
    name: "envoy.filters.http.wasm",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
      config: pluginConfig(direction, wasmFile, settings),
    },
  };
}

/**
 * The same filter as a network filter, before a TCP proxy. It must stand first, so that no other filter sees what it exchanges. It runs in
 * the VM of the HTTP filter of its direction.
 */
export function tcpFilterConfig(direction: Direction, wasmFile: string, settings: Config = {}): Config {
  const { fail_open, ...plugin } = pluginConfig(direction, wasmFile, settings);
  // A server's filter must not be passed by: its clients send ahead what is meant for it alone.
  const onFault = direction === "inbound" ? { failure_policy: "FAIL_RELOAD" } : { fail_open };
  return {
    name: "envoy.filters.network.wasm",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm",
      config: { ...plugin, ...onFault },
    },
  };
}

function pluginConfig(direction: Direction, wasmFile: string, settings: Config): Config {
  const plugin = {
    direction,
    // As Istio does: only a sidecar's own application is trusted to name its destination in the host header.
    disable_host_header_fallback: direction !== "outbound",
    ...settings,
  };
  return {
    name: "meshtally",
    root_id: direction === "inbound" ? "stats_inbound" : "stats_outbound",
    // Deprecated in favour of failure_policy, whose FAIL_OPEN ends the streams that are in flight when the VM dies (docs/filter.md).
    fail_open: true,
    vm_config: {
      vm_id: `meshtally_${direction}`,
      runtime: "envoy.wasm.runtime.v8",
      code: { local: { filename: wasmFile } },
    },
    configuration: {
      "@type": "type.googleapis.com/google.protobuf.StringValue",
      value: JSON.stringify(plugin),
    },
  };
}

/** The access log that streams each finished request to the collector. Its name tells the direction to who derives labels. */
export function accessLogConfig(direction: Direction): Config {
  return {
    name: "envoy.access_loggers.http_grpc",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
      common_config: accessLogCommon(direction),
      additional_request_headers_to_log: ["content-type"],
      additional_response_headers_to_log: ["grpc-status"],
      additional_response_trailers_to_log: ["grpc-status"],
    },
  };
}

/** Its TCP form: an entry for each finished connection, and from time to time for each that is open (`tcpProxyConfig`). */
export function tcpAccessLogConfig(direction: Direction): Config {
  return {
    name: "envoy.access_loggers.tcp_grpc",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig",
      common_config: accessLogCommon(direction),
    },
  };
}

function accessLogCommon(direction: Direction): Config {
  return {
    log_name: `meshtally_${direction}`,
    transport_api_version: "V3",
    grpc_service: { envoy_grpc: { cluster_name: COLLECTOR_CLUSTER } },
    buffer_flush_interval: "1s",
    // What does not fit is dropped, and the default of 16 KiB does not hold twenty entries.
    buffer_size_bytes: 1024 * 1024,
    filter_state_objects_to_log: [UPSTREAM_PEER, DOWNSTREAM_PEER, OBSERVATION].map((name) => WASM_STATE_PREFIX + name),
  };
}

/**
 * The TCP proxy to that cluster, which ends a chain of network filters. Its access logs get an entry of each open connection every
 * `flushInterval`, so that a connection is told of before it ends.
 */
export function tcpProxyConfig(
  cluster: string,
  { accessLogs = [], flushInterval = "5s" }: { accessLogs?: readonly Config[]; flushInterval?: string } = {},
): Config {
  return {
    name: "envoy.filters.network.tcp_proxy",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
      stat_prefix: cluster,
      cluster,
      ...(accessLogs.length === 0
        ? {}
        : { access_log: accessLogs, access_log_options: { access_log_flush_interval: flushInterval } }),
    },
  };
}

/** The cluster of the collector, an address as "127.0.0.1:11800". */
export function collectorClusterConfig(address: string): Config {
  return {
    name: COLLECTOR_CLUSTER,
    type: "STATIC",
    connect_timeout: "1s",
    load_assignment: {
      cluster_name: COLLECTOR_CLUSTER,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(address) } }] }],
    },
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
  };
}

/** How a proxy sends its stats to the collector's metrics service. */
export interface MetricsSink {
  /** `emit_tags_as_labels`. Default: false. */
  readonly tags?: boolean;
  /** `report_counters_as_deltas`. Default: false. */
  readonly deltas?: boolean;
  /** `batch_size`. Default: all in one message. */
  readonly batchSize?: number;
}

/** The sink that streams all stats to the collector at each flush. One that sends deltas has to say so. */
export function metricsSinkConfig({ tags = false, deltas = false, batchSize = 0 }: MetricsSink): Config {
  const header = { key: "x-meshtally-counters", value: deltas ? "delta" : "cumulative" };
  return {
    name: "envoy.stat_sinks.metrics_service",
    typed_config: {
      "@type": "type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig",
      transport_api_version: "V3",
      grpc_service: { envoy_grpc: { cluster_name: COLLECTOR_CLUSTER }, initial_metadata: [header] },
      emit_tags_as_labels: tags,
      report_counters_as_deltas: deltas,
      batch_size: batchSize,
    },
  };
}

/** `stats_config`: one tag for each label, in the order in which Prometheus is to show them. `added`: labels of the user's own. `bounds`: those of histograms; by default Envoy's. */
export function statsConfig(added: readonly string[] = [], bounds: readonly number[] = []): Config {
  const tags = [...STATS_TAGS, ...added.map(labelTag)];
  const buckets = bounds.length === 0 ? {} : { histogram_bucket_settings: bucketSettings(bounds) };
  return { stats_tags: tags.map(({ name, regex }) => ({ tag_name: name, regex })), ...buckets };
}

/** "127.0.0.1:11800" as Envoy's address. */
export function socketAddress(address: string): Config {
  const colon = address.lastIndexOf(":");
  return { socket_address: { address: address.slice(0, colon), port_value: Number(address.slice(colon + 1)) } };
}
