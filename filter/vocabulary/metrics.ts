// Shared with the collector: keep portable (filter/vocabulary/README.md).
// The metrics that the filter keeps: one row each. The filter defines them in this order.

/** Metric kinds with the numbers of the proxy-wasm ABI (`proxy_define_metric`). */
export enum MetricKind {
  Counter = 0,
  Gauge = 1,
  Histogram = 2,
}

export class Metric {
  constructor(
    /** Prometheus name, unit last: "istio_requests_total". */
    readonly name: string,
    readonly kind: MetricKind,
    /** "" for a plain count, else "milliseconds" or "bytes". */
    readonly unit: string,
  ) {}
}

/** The standard HTTP metrics, all with the 25 LABELS. */
export const HTTP_METRICS: readonly Metric[] = [
  new Metric("istio_requests_total", MetricKind.Counter, ""),
  new Metric("istio_request_duration_milliseconds", MetricKind.Histogram, "milliseconds"),
  new Metric("istio_request_bytes", MetricKind.Histogram, "bytes"),
  new Metric("istio_response_bytes", MetricKind.Histogram, "bytes"),
];

/** Index of each row of HTTP_METRICS. */
export enum HttpMetric {
  Requests,
  Duration,
  RequestBytes,
  ResponseBytes,
}

/** gRPC message counters, with the first PEER_LABEL_COUNT of LABELS: reported while the stream lives, and at its end. */
export const MESSAGE_METRICS: readonly Metric[] = [
  new Metric("istio_request_messages_total", MetricKind.Counter, ""),
  new Metric("istio_response_messages_total", MetricKind.Counter, ""),
];

/** Index of each row of MESSAGE_METRICS. */
export enum MessageMetric {
  Requests,
  Responses,
}

/** The standard TCP metrics, with LABELS but for those that are HTTP's alone (`isTcpLabel`): reported while a connection lives, and at its end. */
export const TCP_METRICS: readonly Metric[] = [
  new Metric("istio_tcp_connections_opened_total", MetricKind.Counter, ""),
  new Metric("istio_tcp_connections_closed_total", MetricKind.Counter, ""),
  new Metric("istio_tcp_sent_bytes_total", MetricKind.Counter, "bytes"),
  new Metric("istio_tcp_received_bytes_total", MetricKind.Counter, "bytes"),
];

/** Index of each row of TCP_METRICS. */
export enum TcpMetric {
  Opened,
  Closed,
  SentBytes,
  ReceivedBytes,
}

/** Istio's counters of the TCP metadata exchange, without labels; Exchange holds the index. */
export const EXCHANGE_METRICS: readonly string[] = [
  "envoy_metadata_exchange_alpn_protocol_found",
  "envoy_metadata_exchange_alpn_protocol_not_found",
  "envoy_metadata_exchange_initial_header_not_found",
  "envoy_metadata_exchange_header_not_found",
  "envoy_metadata_exchange_metadata_added",
];

export enum Exchange {
  /** The peer takes part: a client's peer is known to understand, a server's sent its prefix. */
  AlpnProtocolFound,
  /** The peer does not take part. */
  AlpnProtocolNotFound,
  /** What came instead of the prefix does not begin like one, or its beginning has not come whole yet. */
  InitialHeaderNotFound,
  /** What began like a prefix is none, or holds no metadata. */
  HeaderNotFound,
  /** Our own prefix was sent. */
  MetadataAdded,
}

/** What the name of each metric of Istio's begins with; its configuration leaves it out. */
export const METRIC_PREFIX = "istio_";

/** Gauge 1 with the labels `component` and `tag`: which Istio version the proxy says it is of. */
export const BUILD_METRIC = "istio_build";

/**
 * Gauge without labels: when this Envoy process first ran the filter, in Unix milliseconds. It names the process life, so a
 * restart is seen as such and never guessed from a counter that went down.
 */
export const START_TIME_METRIC = "meshtally_filter_start_time_milliseconds";

/** Gauge 1 whose label `tag` is the node id in hexadecimal: who this process is, for readers of its stats alone. */
export const NODE_METRIC = "meshtally_filter_node";

/** A node whose id is longer has no NODE_METRIC. */
export const MAX_NODE_ID_BYTES = 512;

/** Counter with the one label `reason`: what the filter could not read, take in or tell apart. */
export const FAULTS_METRIC = "meshtally_filter_faults_total";

/** Label of FAULTS_METRIC. */
export const REASON_LABEL = "reason";

/** The closed list of values of `reason`; Fault holds the index. */
export const FAULT_REASONS: readonly string[] = [
  "peer_malformed",
  "peer_too_large",
  "peer_untrusted",
  "peer_contradicts_identity",
  "own_metadata_too_large",
  "label_sets_full",
  "streams_full",
  "connections_full",
  "peers_full",
  "clusters_full",
  "keys_full",
  "host_call",
  "configuration",
  "expression",
  "peer_late",
  "peer_unanswered",
  "prefix_cut",
];

export enum Fault {
  /** A peer's metadata header that is no base64 of a Struct; the peer is unknown. */
  PeerMalformed,
  /** A peer's metadata header is longer than max_header_bytes; the peer is unknown. */
  PeerTooLarge,
  /** A peer sent metadata without a certificate where one is asked for; the peer is unknown and gets no answer. */
  PeerUntrusted,
  /** A peer's metadata names another namespace or identity than its certificate, which wins. */
  PeerContradictsIdentity,
  /** Our own metadata is longer than max_header_bytes: additional labels are left out, or all of it. */
  OwnMetadataTooLarge,
  /** The cap on label sets was hit: the request went to the overflow series. */
  LabelSetsFull,
  /** The cap on streams in flight was hit: the request was counted without its peer. */
  StreamsFull,
  /** The cap on TCP connections was hit: the connection was counted at its end alone, with what Envoy still knows of it. */
  ConnectionsFull,
  /** The cache of peers was full and lost its oldest quarter: they are decoded again when they come back. */
  PeersFull,
  /** The cache of clusters was full and emptied: their metadata is read again. */
  ClustersFull,
  /** The cache of keys was full and emptied: labels are made again. Neither changes a count. */
  KeysFull,
  /** A host call answered neither OK nor "not found". */
  HostCall,
  /** The plugin configuration was not what was expected; defaults were used for the broken part. */
  Configuration,
  /** A condition could not be evaluated for a request, and so did not hold. */
  Expression,
  /** A TCP peer told who it is only after its connection had been reported without it: its bytes from then on are the peer's. */
  PeerLate,
  /** A TCP client told who it is after the server had spoken: it gets no answer. */
  PeerUnanswered,
  /** A TCP prefix did not come whole in time: its bytes went on as they are. */
  PrefixCut,
}

/** Upper bounds (`le`) of Envoy's default histogram buckets, without +Inf; milliseconds or bytes alike. */
export const HISTOGRAM_BOUNDS: readonly number[] = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
];
