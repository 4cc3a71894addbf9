// Side: what one log entry says of one side of a call. Its JSON is public API (docs/api.md), and so are the names of its fields.

import type { Analyzer } from "../identity/chain.ts";

/** Who one end of a call is. What is not known is null, and then `reason` says why. */
export interface Party {
  /** By `identity.names.service`; a host outside of Kubernetes as it is. */
  readonly service: string | null;
  readonly namespace: string | null;
  readonly workload: string | null;
  /** A pod by `identity.names.instance`, anything else by its address. */
  readonly instance: string | null;
  /** Who named it. */
  readonly analyzer: Analyzer | null;
  readonly reason?: UnknownReason;
}

/** Why nobody is named, what to mend first in front: of several reasons the first is told. */
export const UNKNOWN_REASONS = [
  /** The proxy's own node metadata names neither service nor workload. */
  "node_not_named",
  /** The call reached no server, and neither cluster nor host say whom it was for. */
  "upstream_not_reached",
  /** The entry holds metadata of the peer that cannot be read. */
  "peer_malformed",
  /** The peer's metadata names neither service nor workload. */
  "peer_not_named",
  /** The address is that of a Kubernetes node, and the port is no pod's. */
  "address_shared",
  /** A private address that no Kubernetes object has. */
  "address_not_known",
  /** The peer has a certificate of the mesh, or is a server, and the entry holds no metadata of it. */
  "peer_metadata_missing",
  /** A client without certificate and metadata. */
  "peer_outside_mesh",
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
