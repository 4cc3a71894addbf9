// Role: which end of a call this proxy is for a stream. It decides who reports, whose peer counts and with whom metadata is exchanged.

import { Config, Direction } from "./config/config.ts";
import { EXCHANGE_BY_ROLE, EXCHANGE_DOWNSTREAM, EXCHANGE_UPSTREAM, Trust } from "./config/exchange.ts";
import { readNumber, utf8 } from "./host.ts";
import { ownNode } from "./node.ts";

const LISTENER_DIRECTION = utf8("xds\0listener_direction");
const LISTENER_INBOUND: u64 = 1;
/** How the node id of a gateway begins, as Istio makes them. */
const GATEWAY_NODE = "router~";

export enum Role {
  /** Server's sidecar: the peer is the downstream. */
  Inbound,
  /** Client's sidecar: the peer is the upstream. */
  Outbound,
  /** Client of what is behind it, like Outbound; in front of it may be the internet. */
  Gateway,
  /** Between two workloads, neither of which is its own: both peers count. */
  Waypoint,
}

/** The role for the current stream. */
export function resolveRole(config: Config): Role {
  if (config.isWaypoint) return Role.Waypoint;
  if (config.direction === Direction.Inbound) return Role.Inbound;
  if (config.direction === Direction.Outbound) return Role.Outbound;
  if (config.direction === Direction.Gateway) return Role.Gateway;
  if (readNumber(LISTENER_DIRECTION, 0) === LISTENER_INBOUND) return Role.Inbound;
  return ownNode().id.startsWith(GATEWAY_NODE) ? Role.Gateway : Role.Outbound;
}

/** Bits of the sides with which metadata is exchanged. */
export function exchangeSides(role: Role, config: Config): i32 {
  if (config.exchange.sides !== EXCHANGE_BY_ROLE) return config.exchange.sides;
  if (role === Role.Waypoint) return EXCHANGE_DOWNSTREAM | EXCHANGE_UPSTREAM;
  return role === Role.Inbound ? EXCHANGE_DOWNSTREAM : EXCHANGE_UPSTREAM;
}

/** Whether metadata from the downstream counts only over mutual TLS. In front of a gateway may be the internet. */
export function isDownstreamProofNeeded(role: Role, config: Config): bool {
  if (config.exchange.trust === Trust.ByRole) return role === Role.Gateway;
  return config.exchange.trust === Trust.MutualTls;
}

/** Whether metadata from the upstream counts only over mutual TLS. */
export function isUpstreamProofNeeded(config: Config): bool {
  return config.exchange.trust === Trust.MutualTls;
}

/** A waypoint that exchanges with both sides is neither end of the call: it hands on what the two ends say of themselves. */
export function isRelay(role: Role, sides: i32): bool {
  return role === Role.Waypoint && sides === (EXCHANGE_DOWNSTREAM | EXCHANGE_UPSTREAM);
}
