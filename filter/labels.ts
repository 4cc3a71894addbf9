// Facts and peers -> the 25 label values, by the rules of Istio's stats filter (docs/metrics.md). Cold path: once per label set.

import { Node } from "./node.ts";
import { contradicts, Peer } from "./peer.ts";
import { NO_STATUS, Request, Route, Security, Slice } from "./request.ts";
import { Role } from "./role.ts";
import { HTTP_LABEL_COUNT, Label } from "./vocabulary/labels.ts";
import { firstSegment, spiffeNamespace } from "./vocabulary/name-rules.ts";
import {
  APP_LABEL,
  CANONICAL_NAME_LABEL,
  CANONICAL_REVISION_LABEL,
  VERSION_LABEL,
} from "./vocabulary/peer-metadata.ts";
import { cleanValue } from "./vocabulary/stat-name.ts";
import {
  BLACK_HOLE_CLUSTER,
  LATEST,
  NO_FLAGS,
  PASSTHROUGH_CLUSTER,
  POLICY_MUTUAL_TLS,
  POLICY_NONE,
  PROTOCOL_GRPC,
  PROTOCOL_HTTP,
  PROTOCOL_TCP,
  REPORTER_DESTINATION,
  REPORTER_SOURCE,
  REPORTER_WAYPOINT,
  RESPONSE_FLAGS,
  UNKNOWN,
} from "./vocabulary/values.ts";
import { readText } from "./wire/text.ts";
import { Workload } from "./workload.ts";

/** Where the labels of one side of a call stand in LABELS. */
class Side {
  constructor(
    readonly workload: Label,
    readonly canonicalService: Label,
    readonly canonicalRevision: Label,
    readonly namespace: Label,
    readonly principal: Label,
    readonly app: Label,
    readonly version: Label,
    readonly cluster: Label,
  ) {}
}

const SOURCE = new Side(
  Label.SourceWorkload,
  Label.SourceCanonicalService,
  Label.SourceCanonicalRevision,
  Label.SourceWorkloadNamespace,
  Label.SourcePrincipal,
  Label.SourceApp,
  Label.SourceVersion,
  Label.SourceCluster,
);
const DESTINATION = new Side(
  Label.DestinationWorkload,
  Label.DestinationCanonicalService,
  Label.DestinationCanonicalRevision,
  Label.DestinationWorkloadNamespace,
  Label.DestinationPrincipal,
  Label.DestinationApp,
  Label.DestinationVersion,
  Label.DestinationCluster,
);

/** All values, in the order of LABELS, clean. */
export function labelValues(request: Request, node: Node): StaticArray<string> {
  const values = new StaticArray<string>(HTTP_LABEL_COUNT).fill(UNKNOWN);
  const own = node.workload;
  const role = request.role;
  values[Label.Reporter] = reporterOf(role);
  if (role === Role.Inbound) {
    callerLabels(values, request);
    ownLabels(values, DESTINATION, own, textOf(request.ownPrincipal));
  } else if (role === Role.Waypoint) {
    callerLabels(values, request);
    calleeLabels(values, request, textOf(request.upstreamPrincipal));
  } else {
    ownLabels(values, SOURCE, own, textOf(request.ownPrincipal));
    calleeLabels(values, request, textOf(request.peerPrincipal));
  }
  serviceLabels(values, request, own);

  values[Label.RequestProtocol] = protocolOf(request);
  values[Label.ResponseCode] = request.code.toString();
  values[Label.GrpcResponseStatus] = request.grpcStatus === NO_STATUS ? "" : request.grpcStatus.toString();
  values[Label.ResponseFlags] = flagNames(request.flags);
  values[Label.ConnectionSecurityPolicy] = policyOf(request.security);
  for (let i = 0; i < values.length; i++) values[i] = cleanValue(values[i]);
  return values;
}

function reporterOf(role: Role): string {
  if (role === Role.Waypoint) return REPORTER_WAYPOINT;
  return role === Role.Inbound ? REPORTER_DESTINATION : REPORTER_SOURCE;
}

function protocolOf(request: Request): string {
  if (request.isTcp) return PROTOCOL_TCP;
  return request.isGrpc ? PROTOCOL_GRPC : PROTOCOL_HTTP;
}

function policyOf(security: Security): string {
  if (security === Security.Unknown) return UNKNOWN;
  return security === Security.MutualTls ? POLICY_MUTUAL_TLS : POLICY_NONE;
}

/** Whether a peer says of itself what its certificate denies. */
export function isContradictory(request: Request): bool {
  const isServer = request.isServer;
  if (denies(request.peerPrincipal, isServer ? request.downstreamPeer : request.upstreamPeer)) return true;
  return isServer && denies(request.upstreamPrincipal, request.upstreamPeer);
}

function denies(principal: Slice, peer: Peer | null): bool {
  return peer !== null && principal.size > 0 && contradicts(peer.workload(), textOf(principal));
}

/** Our own side: node metadata as it is, "" where it says nothing. */
function ownLabels(values: StaticArray<string>, side: Side, own: Workload, principal: string): void {
  values[side.workload] = own.workloadName;
  values[side.canonicalService] = own.canonicalName;
  values[side.canonicalRevision] = own.canonicalRevision;
  values[side.namespace] = own.namespace;
  values[side.principal] = orUnknown(principal);
  values[side.app] = own.label(APP_LABEL);
  values[side.version] = own.label(VERSION_LABEL);
  values[side.cluster] = own.clusterId;
}

/** Who called, as a server's proxy knows it. */
function callerLabels(values: StaticArray<string>, request: Request): void {
  const peer = request.downstreamPeer;
  const workload = peer !== null ? peer.workload() : new Workload();
  const principal = textOf(request.peerPrincipal);
  peerLabels(values, SOURCE, workload, principal, LATEST);
  values[Label.SourcePrincipal] = orUnknown(principal);
}

/** Who was called: what it told us, else what the endpoint's metadata says. */
function calleeLabels(values: StaticArray<string>, request: Request, principal: string): void {
  const peer = request.upstreamPeer;
  const workload = peer !== null ? peer.workload() : endpointWorkload(textOf(request.endpoint));
  const noRevision = request.role === Role.Waypoint ? UNKNOWN : LATEST;
  peerLabels(values, DESTINATION, workload, principal, noRevision);
  values[Label.DestinationPrincipal] = orUnknown(principal.length > 0 ? principal : workload.identity);
}

/** The peer's side, its principal aside; what it does not say is `unknown`. The namespace in its SPIFFE id goes before the one that it claims. */
function peerLabels(
  values: StaticArray<string>,
  side: Side,
  workload: Workload,
  principal: string,
  noRevision: string,
): void {
  const revision = workload.canonicalRevision;
  const namespace = spiffeNamespace(principal);
  values[side.workload] = orUnknown(workload.workloadName);
  values[side.canonicalService] = orUnknown(workload.canonicalName);
  values[side.canonicalRevision] = revision.length > 0 ? revision : noRevision;
  values[side.namespace] = orUnknown(namespace.length > 0 ? namespace : workload.namespace);
  values[side.app] = orUnknown(workload.recommendedApp);
  values[side.version] = orUnknown(workload.recommendedVersion);
  values[side.cluster] = orUnknown(workload.clusterId);
}

/** destination_service, _name and _namespace: route, then cluster metadata, with the authority as fall-back. */
function serviceLabels(values: StaticArray<string>, request: Request, own: Workload): void {
  let host = hostName(request);
  let name = host;
  let namespace = "";
  const cluster = request.cluster;
  if (request.route === Route.BlockAll) {
    name = BLACK_HOLE_CLUSTER;
  } else if (request.route === Route.AllowAny) {
    name = PASSTHROUGH_CLUSTER;
  } else if (cluster !== null && cluster.isCatchAll) {
    name = cluster.name;
  } else if (cluster !== null && cluster.hasService) {
    if (cluster.serviceHost.length > 0) host = cluster.serviceHost;
    namespace = cluster.serviceNamespace;
    name = cluster.serviceName.length > 0 ? cluster.serviceName : firstSegment(host);
  }
  if (request.role === Role.Inbound) {
    values[Label.DestinationService] = host.length > 0 ? host : own.canonicalName;
    values[Label.DestinationServiceName] = name.length > 0 ? name : own.canonicalName;
    values[Label.DestinationServiceNamespace] = own.namespace;
    return;
  }
  values[Label.DestinationService] = orUnknown(host);
  values[Label.DestinationServiceName] = orUnknown(name);
  const fallback = request.role === Role.Waypoint ? UNKNOWN : values[Label.DestinationWorkloadNamespace];
  values[Label.DestinationServiceNamespace] = namespace.length > 0 ? namespace : fallback;
}

/** What the authority says the service is called; "" for nothing. */
function hostName(request: Request): string {
  const authority = textOf(request.host);
  const rules = request.hosts;
  return rules === null ? authority : rules.nameOf(authority);
}

/** `workload;namespace;canonical-name;canonical-revision;cluster`, which istiod puts on endpoints; nothing for fewer parts. */
function endpointWorkload(text: string): Workload {
  const workload = new Workload();
  const parts = text.split(";");
  if (parts.length < 5) return workload;
  workload.workloadName = parts[0];
  workload.namespace = parts[1];
  workload.setLabel(CANONICAL_NAME_LABEL, parts[2]);
  workload.setLabel(CANONICAL_REVISION_LABEL, parts[3]);
  workload.clusterId = parts[4];
  return workload;
}

/** Short names joined by commas in the order of the bits; `-` for none. A bit that has no name yet reads as its number. */
function flagNames(flags: u64): string {
  if (flags === 0) return NO_FLAGS;
  let names = "";
  for (let bit = 0; bit < 64; bit++) {
    if (((flags >> bit) & 1) === 0) continue;
    if (names.length > 0) names += ",";
    names += bit < RESPONSE_FLAGS.length ? RESPONSE_FLAGS[bit] : bit.toString();
  }
  return names;
}

function orUnknown(text: string): string {
  return text.length > 0 ? text : UNKNOWN;
}

function textOf(slice: Slice): string {
  return readText(slice.ptr, slice.size);
}
