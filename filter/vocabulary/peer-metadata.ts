// Shared with the collector: keep portable (filter/vocabulary/README.md).
// The words of Istio's metadata exchange and of the peer in filter state. Source: istio/proxy, extensions/metadata_exchange.

/** Header with the sender's Envoy node id, verbatim. */
export const PEER_ID_HEADER = "x-envoy-peer-metadata-id";
/** Header with base64 (standard alphabet, padded) of a deterministically serialized google.protobuf.Struct. */
export const PEER_METADATA_HEADER = "x-envoy-peer-metadata";

/** Filter-state names as the filter sets them; Envoy puts `wasm.` in front (WASM_STATE_PREFIX). */
export const DOWNSTREAM_PEER = "downstream_peer";
export const UPSTREAM_PEER = "upstream_peer";
/** The same peers as a google.protobuf.Struct, for expressions; keys below. */
export const DOWNSTREAM_PEER_STRUCT = "meshtally.downstream_peer";
export const UPSTREAM_PEER_STRUCT = "meshtally.upstream_peer";
/** The observation that the filter counted, for access loggers (observation.ts). */
export const OBSERVATION = "meshtally.observation";
/** Whether an access logger should keep the request: one of the two values, as text. Istio's name. */
export const ACCESS_LOG_POLICY = "istio.access_log_policy";
export const ACCESS_LOG_YES = "yes";
export const ACCESS_LOG_NO = "no";
/** What Envoy puts before the name of a filter state that wasm sets. */
export const WASM_STATE_PREFIX = "wasm.";

// Keys of node metadata and of the exchanged Struct.
export const NAME = "NAME";
export const NAMESPACE = "NAMESPACE";
export const WORKLOAD_NAME = "WORKLOAD_NAME";
export const CLUSTER_ID = "CLUSTER_ID";
export const IDENTITY = "IDENTITY";
export const OWNER = "OWNER";
export const REGION = "REGION";
export const AVAILABILITY_ZONE = "AVAILABILITY_ZONE";
export const LABELS_KEY = "LABELS";

// Keys inside LABELS.
export const CANONICAL_NAME_LABEL = "service.istio.io/canonical-name";
export const CANONICAL_REVISION_LABEL = "service.istio.io/canonical-revision";
export const APP_LABEL = "app";
export const VERSION_LABEL = "version";
export const RECOMMENDED_APP_LABEL = "app.kubernetes.io/name";
export const RECOMMENDED_VERSION_LABEL = "app.kubernetes.io/version";

// Keys of a peer's Struct in filter state, as Istio's proxies write it since 1.24.
export const PEER_TYPE = "type";
export const PEER_WORKLOAD = "workload";
export const PEER_NAME = "name";
export const PEER_CLUSTER = "cluster";
export const PEER_NAMESPACE = "namespace";
export const PEER_SERVICE = "service";
export const PEER_REVISION = "revision";
export const PEER_APP = "app";
export const PEER_VERSION = "version";
export const PEER_IDENTITY = "identity";
export const PEER_REGION = "region";
export const PEER_AVAILABILITY_ZONE = "availability_zone";
export const PEER_LABELS = "labels";
