// Shared with the collector: keep portable (filter/vocabulary/README.md).
// The closed sets of label values. Source: Istio's stats filter; Envoy's response flags (stream_info/response_flag).

export const UNKNOWN = "unknown";
/** Canonical revision of a peer that names none. */
export const LATEST = "latest";
/** `response_flags` when no flag is set. */
export const NO_FLAGS = "-";
/** Most labels of the overflow series, where requests go once the cap on label sets is hit (overflow.ts). */
export const OTHER = "other";

export const REPORTER_SOURCE = "source";
export const REPORTER_DESTINATION = "destination";
export const REPORTER_WAYPOINT = "waypoint";

export const PROTOCOL_HTTP = "http";
export const PROTOCOL_GRPC = "grpc";
export const PROTOCOL_TCP = "tcp";

export const POLICY_MUTUAL_TLS = "mutual_tls";
export const POLICY_NONE = "none";

export const BLACK_HOLE_CLUSTER = "BlackHoleCluster";
export const PASSTHROUGH_CLUSTER = "PassthroughCluster";
/** Clusters that stand for "no known service"; their name is the service's name. */
export const CATCH_ALL_CLUSTERS: readonly string[] = [
  "BlackHoleCluster",
  "PassthroughCluster",
  "InboundPassthroughCluster",
  "InboundPassthroughClusterIpv4",
  "InboundPassthroughClusterIpv6",
];
/** Names that Istio gives its catch-all routes. */
export const ROUTE_BLOCK_ALL = "block_all";
export const ROUTE_ALLOW_ANY = "allow_any";

/**
 * Short name of each response flag; the index is the bit in the attribute `response.flags`. The first 27 are fields 1 to 27
 * of ALS's `ResponseFlags`; its field 28 is `DR`. A bit beyond the list reads as its number: `32`.
 */
export const RESPONSE_FLAGS: readonly string[] = [
  "LH",
  "UH",
  "UT",
  "LR",
  "UR",
  "UF",
  "UC",
  "UO",
  "NR",
  "DI",
  "FI",
  "RL",
  "UAEX",
  "RLSE",
  "DC",
  "URX",
  "SI",
  "IH",
  "DPE",
  "UMSDR",
  "RFCF",
  "NFCF",
  "DT",
  "UPE",
  "NC",
  "OM",
  "DF",
  "DO",
  "DR",
  "UDO",
];
