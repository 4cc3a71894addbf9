// What is reported of a stream, and when: its gRPC messages every reporting interval, everything at its end.

import { decideAccessLog } from "./access-log-policy.ts";
import { Config } from "./config/config.ts";
import { Custom } from "./custom/custom.ts";
import { Ends } from "./ends.ts";
import { setEffectiveContext, setFilterState, utf8 } from "./host.ts";
import { hasNewMessages, readMessages, reportMessages } from "./messages.ts";
import { leaveObservation } from "./observation.ts";
import { Peer } from "./peer.ts";
import { grpcAuthority, Request } from "./request.ts";
import { Role } from "./role.ts";
import { countRequest, labelSetInFlight } from "./stat.ts";
import { Stream } from "./stream.ts";
import { DOWNSTREAM_PEER_STRUCT, UPSTREAM_PEER_STRUCT } from "./vocabulary/peer-metadata.ts";

const DOWNSTREAM_STRUCT = utf8(DOWNSTREAM_PEER_STRUCT);
const UPSTREAM_STRUCT = utf8(UPSTREAM_PEER_STRUCT);

const request = new Request();

/**
 * Keeps what the messages of a gRPC stream may need to be reported while it lives: the authority, where nothing else names the service.
 * Only where the exchange has read the cluster in this callback anyway, since the first read in one is what costs.
 */
export function keepAuthority(stream: Stream, config: Config): void {
  if (config.disableHostHeaderFallback || config.reportingIntervalMs === 0) return;
  const cluster = stream.cluster;
  if (cluster !== null && cluster.serviceHost.length === 0) stream.authority = grpcAuthority();
}

/** Counts the stream, which is over. A stray one may be a TCP connection: then nothing is counted, and the answer is false. */
export function onLog(stream: Stream, config: Config, isStray: bool): bool {
  if (!request.read(stream, config, isStray)) return false;
  const custom = config.custom;
  if (custom !== null) evaluate(custom, stream);
  const set = countRequest(request, config);
  if (request.mayHaveMessages && readMessages()) reportMessages(stream, set);
  if (stream.isAccessLog) return true; // no filter state is ours to set there
  leaveObservation(set.observation, request);
  const policy = config.accessLog;
  if (policy !== null) decideAccessLog(request, policy);
  return true;
}

/**
 * Counts the messages of a stream in flight that came since the last time. Called in a tick, which belongs to no stream, so the host
 * is told first which one is meant. A client waits for the answer's headers: until then the peer is not known. Where the labels
 * depend on what can be read in the stream's own callbacks only, everything waits for its end.
 */
export function reportInFlight(stream: Stream, config: Config): void {
  if (!setEffectiveContext(stream.id) || !readMessages() || !hasNewMessages(stream)) return;
  if (!stream.isAnswered && stream.role(config) !== Role.Inbound) return;
  let set = stream.messageSet;
  if (set === null && request.readInFlight(stream, config)) set = labelSetInFlight(request, config);
  if (set !== null) reportMessages(stream, set);
}

/** Evaluates all expressions of a configuration for the current stream, whose ends those are. */
export function evaluate(custom: Custom, ends: Ends): void {
  if (custom.operands.needsPeers) {
    leavePeer(DOWNSTREAM_STRUCT, ends.downstreamPeer);
    leavePeer(UPSTREAM_STRUCT, ends.upstreamPeer);
  }
  custom.operands.evaluate();
}

function leavePeer(state: ArrayBuffer, peer: Peer | null): void {
  if (peer !== null) setFilterState(state, peer.struct());
}
