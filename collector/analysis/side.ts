// Side: what one log entry says of one side of a call. Its JSON is public API (docs/api.md), and so are the names of its fields.

/** Who one end of a call is. What is not known is null, and then `reason` says why. */
export interface Party {
  readonly service: string | null;
  readonly namespace: string | null;
  readonly workload: string | null;
  /** Pod, as its metadata names it. */
  readonly instance: string | null;
  /** How it was found. */
  readonly analyzer: AnalyzerName | null;
  readonly reason?: UnknownReason;
}

export const ANALYZERS = [
  /** Node metadata of the proxy itself, or what the metadata exchange says of its peer. */
  "mx-mesh",
  /** No workload answered: the service that was called, as route, cluster or host name it. */
  "route",
] as const;
type AnalyzerName = (typeof ANALYZERS)[number];

export const UNKNOWN_REASONS = [
  /** The proxy's own node metadata names neither service nor workload. */
  "node_not_named",
  /** The entry says nothing of the peer: it is outside the mesh, or its metadata is not exchanged, or not logged. */
  "peer_not_named",
  /** The call reached no server. */
  "upstream_not_reached",
] as const;
export type UnknownReason = (typeof UNKNOWN_REASONS)[number];

export const ROLES = ["sidecar", "router", "waypoint", "none"] as const;
export type Role = (typeof ROLES)[number];

export const DETECT_POINTS = ["client", "server"] as const;
export type DetectPoint = (typeof DETECT_POINTS)[number];

export const PROTOCOLS = ["http", "grpc", "tcp"] as const;
export type Protocol = (typeof PROTOCOLS)[number];

export const TLS_MODES = ["none", "tls", "mutual"] as const;
export type TlsMode = (typeof TLS_MODES)[number];

export interface Side {
  /** When the request or connection began, as its proxy's clock has it: RFC 3339. */
  readonly time: string | null;
  /** Envoy node id. */
  readonly proxy: string;
  readonly role: Role;
  readonly detectPoint: DetectPoint;
  readonly source: Party;
  readonly destination: Party;
  /** `GET:/reviews/{id}`. */
  readonly endpoint: string | null;
  readonly protocol: Protocol;
  readonly tls: TlsMode | null;
  /** Null when there was no answer. */
  readonly code: number | null;
  readonly grpcStatus: number | null;
  /** Short names of Envoy's response flags. */
  readonly flags: readonly string[];
  readonly startMs: number | null;
  readonly latencyMs: number | null;
  readonly success: boolean;
  readonly requestBytes: number | null;
  readonly responseBytes: number | null;
  readonly internalRequestLatencyNs: number | null;
  readonly internalResponseLatencyNs: number | null;
}
