// Derives the label values of a log entry that carries no observation, by the rules by which filter/labels.ts derives them
// from the request or connection itself (docs/metrics.md): same facts, same values. What an entry has no field for, custom tags may bring.

import { ANALYZERS, type Analyzer } from "../identity/chain.ts";
import type { AddressLookup, Identity } from "../identity/lookup.ts";
import type { Subject } from "../identity/names.ts";
import type { AddressField } from "../proto/address.ts";
import type { AlsIdentifier } from "../proto/als.ts";
import type { CommonEntry, HttpEntry, TcpEntry } from "../proto/als-entry.ts";
import { type Mark, packLabels, withMark } from "../series/key.ts";
import {
  BLACK_HOLE_CLUSTER,
  CATCH_ALL_CLUSTERS,
  cleanValue,
  firstSegment,
  LABELS,
  Label,
  NO_FLAGS,
  PASSTHROUGH_CLUSTER,
  POLICY_MUTUAL_TLS,
  POLICY_NONE,
  PROTOCOL_GRPC,
  PROTOCOL_HTTP,
  PROTOCOL_TCP,
  REPORTER_DESTINATION,
  REPORTER_SOURCE,
  RESPONSE_FLAGS,
  ROUTE_ALLOW_ANY,
  ROUTE_BLOCK_ALL,
  spiffeNamespace,
  UNKNOWN,
} from "../vocabulary.ts";
import { addressesOfNode, subjectOfNode } from "./subject.ts";
import { isNamed, ownWorkload, Peers, UNKNOWN_PEER, type Workload } from "./workload.ts";

/** The proxy that sends a stream of entries. */
export interface Sender {
  /** Envoy node id. */
  readonly id: string;
  /** Of node metadata. */
  readonly own: Workload;
  /** The same whole, for name rules. */
  readonly subject: Subject;
  /** The proxy's own addresses, the likeliest first. */
  readonly addresses: readonly string[];
  /** The proxy's own address, which Istio's node ids have as their second part: `sidecar~10.0.0.1~…`; "" in others. */
  readonly address: string;
  /** Which listener the log belongs to, when its name tells. */
  readonly direction: "inbound" | "outbound" | null;
  /** A gateway's callers choose the authority freely, so it never names a service. */
  readonly isGateway: boolean;
  /** Istio's proxies take part in the metadata exchange. Of others it is not known, unless their filter speaks. */
  readonly exchanges: boolean;
  /** Not beside a workload, but on the way: what its listener's connections say of its own address is the service's. */
  readonly isWaypoint: boolean;
}

const ISTIO_NODE_ID = /^[a-z]+~([^~]+)~/;

/** Key of node metadata, as Metadata holds it. */
const ISTIO_VERSION = "istio_version";

/** A log named `...inbound...` or `...outbound...` says its direction; one named both, or neither, does not. */
export function identifySender({ nodeId, logName, metadata }: AlsIdentifier): Sender {
  const isInbound = logName.includes("inbound");
  const isOutbound = logName.includes("outbound");
  const address = ISTIO_NODE_ID.exec(nodeId)?.[1] ?? "";
  return {
    id: nodeId,
    own: ownWorkload(metadata),
    subject: subjectOfNode(nodeId, metadata),
    addresses: addressesOfNode(address, metadata),
    direction: isInbound === isOutbound ? null : isInbound ? "inbound" : "outbound",
    address,
    isGateway: nodeId.startsWith("router~"),
    exchanges: metadata.texts.has(ISTIO_VERSION),
    isWaypoint: nodeId.startsWith("waypoint~"),
  };
}

/** What decides the labels of an entry: equal facts have equal labels. */
interface Facts {
  readonly isDestination: boolean;
  readonly own: Workload;
  readonly peer: Workload;
  /** First URI SAN of our own and of the peer's certificate on this hop; "" without mTLS. */
  readonly ownPrincipal: string;
  readonly peerPrincipal: string;
  readonly service: Service;
  readonly outcome: Outcome;
  readonly mark: Mark | null;
}

/** What was spoken, and how it ended. */
interface Outcome {
  readonly protocol: string;
  readonly grpcStatus: string;
  readonly responseCode: string;
  readonly responseFlags: string;
}

/** The service that was called, as far as route, cluster and authority name it; "" where they do not. */
interface Service {
  readonly host: string;
  readonly name: string;
  readonly namespace: string;
}

/** Together at most 64 MiB, and a few MiB with facts as they are: callers choose the length of an authority. */
const MAX_CACHED_KEYS = 16_384;
const MAX_CACHED_KEY_LENGTH = 4096;

/** What names the ends of a call beyond what the entry itself says, and in which order they are asked. */
export interface IdentityChain {
  readonly analyzers: readonly Analyzer[];
  /** Answers for k8s-mesh. */
  readonly lookup: Pick<AddressLookup, "find">;
}

const NO_OBJECTS: IdentityChain = { analyzers: ANALYZERS, lookup: { find: () => null } };

export class Attribution {
  private readonly peers = new Peers();
  private readonly labelKeys = new Map<string, string>();

  constructor(private readonly chain: IdentityChain = NO_OBJECTS) {}

  /** The packed label set of an HTTP entry (series/key.ts). `bytes` are those that `entry` was read from. */
  resolve(bytes: Buffer, entry: HttpEntry, sender: Sender): string {
    return this.labelKeyOf(this.readFacts(bytes, entry, sender, entry.authority, httpOutcome(entry)));
  }

  /** The same of a TCP entry; the two labels that TCP metrics do not carry are empty. */
  resolveTcp(bytes: Buffer, entry: TcpEntry, sender: Sender): string {
    const address = this.chain.analyzers.includes("address") ? entry.downstreamLocalAddress : "";
    return this.labelKeyOf(this.readFacts(bytes, entry, sender, entry.sni || address, tcpOutcome(entry)));
  }

  private labelKeyOf(facts: Facts): string {
    const key = keyOf(facts);
    const known = this.labelKeys.get(key);
    if (known !== undefined) return known; // fast path: packing takes longer than all the rest
    const labelKey = withMark(packLabels(labelValues(facts)), facts.mark);
    if (key.length > MAX_CACHED_KEY_LENGTH) return labelKey;
    if (this.labelKeys.size >= MAX_CACHED_KEYS) this.labelKeys.clear();
    this.labelKeys.set(key, labelKey);
    return labelKey;
  }

  /** `host` is what the downstream asked for. */
  private readFacts(bytes: Buffer, entry: CommonEntry, sender: Sender, host: string, outcome: Outcome): Facts {
    const isDestination = isInbound(entry, sender);
    const peer = this.resolvePeer(bytes, entry, isDestination, sender);
    const peerPrincipal = isDestination ? entry.downstreamPeerUriSan : firstUri(entry.upstreamPeerUriSan);
    return {
      isDestination,
      own: this.resolveOwn(bytes, entry, isDestination, sender),
      peer,
      ownPrincipal: isDestination ? entry.downstreamLocalUriSan : firstUri(entry.upstreamLocalUriSan),
      peerPrincipal,
      mark: isDestination ? markOf(entry, sender, peer, peerPrincipal, outcome) : null,
      // A sidecar's client meant what it asked for, so there the host may name the service.
      service: this.resolveService(bytes, entry, isDestination, sender, host),
      outcome,
    };
  }

  /** What the first of the chain says that names it; what node metadata says if none does. */
  private resolveOwn(bytes: Buffer, entry: CommonEntry, isDestination: boolean, sender: Sender): Workload {
    for (const analyzer of this.chain.analyzers) {
      if (analyzer === "mx-mesh" && isNamed(sender.own)) return sender.own;
      const known = analyzer === "k8s-mesh" ? this.workloadAtOwn(bytes, entry, isDestination, sender) : null;
      if (known !== null) return known;
    }
    return sender.own;
  }

  private workloadAtOwn(bytes: Buffer, entry: CommonEntry, isDestination: boolean, sender: Sender): Workload | null {
    const byId = sender.address === "" ? null : this.chain.lookup.find(sender.address, 0);
    if (byId !== null) return this.peers.resolveIdentity(byId);
    if (sender.isWaypoint) return null;
    const isServer = isDestination || sender.isGateway;
    return isServer ? this.workloadAt(bytes, entry.downstreamLocal) : this.workloadOfClient(bytes, entry);
  }

  /** What the first of the chain says that names it; what the exchange left of one that nobody names. */
  private resolvePeer(bytes: Buffer, entry: CommonEntry, isDestination: boolean, sender: Sender): Workload {
    let unnamed = UNKNOWN_PEER;
    for (const analyzer of this.chain.analyzers) {
      const peer =
        analyzer === "mx-mesh"
          ? this.exchangedPeer(bytes, entry, isDestination)
          : analyzer === "k8s-mesh"
            ? this.workloadAtPeer(bytes, entry, isDestination, sender)
            : null;
      if (peer === null) continue;
      if (isNamed(peer)) return peer;
      unnamed = peer;
    }
    return unnamed;
  }

  /** What the peer told, else (for a client) what the endpoint's metadata says. */
  private exchangedPeer(bytes: Buffer, entry: CommonEntry, isDestination: boolean): Workload | null {
    const { peers } = this;
    const wasmState = isDestination ? entry.wasmDownstreamPeer : entry.wasmUpstreamPeer;
    const istioState = isDestination ? entry.downstreamPeer : entry.upstreamPeer;
    const peer = peers.resolveState(bytes, wasmState) ?? peers.resolveState(bytes, istioState);
    if (peer !== null) return peer;
    return isDestination ? null : peers.resolveEndpoint(entry.upstreamWorkload);
  }

  /** A server's client, or the endpoint that a client reached; of one that reached none, what it had connected to. */
  private workloadAtPeer(bytes: Buffer, entry: CommonEntry, isDestination: boolean, sender: Sender): Workload | null {
    if (isDestination) return this.workloadOfClient(bytes, entry);
    const upstream = this.workloadAt(bytes, entry.upstreamRemote);
    if (upstream !== null || sender.isGateway) return upstream; // what a gateway's client connected to is the gateway
    return this.workloadAt(bytes, entry.downstreamLocal);
  }

  private workloadAt(bytes: Buffer, field: AddressField): Workload | null {
    const identity = this.identityAt(bytes, field);
    return identity === null ? null : this.peers.resolveIdentity(identity);
  }

  /** A client's port is any that was free: whatever listens on it elsewhere on the same node is another. */
  private workloadOfClient(bytes: Buffer, entry: CommonEntry): Workload | null {
    const address = downstreamRemote(entry).read(bytes);
    const identity = address === null ? null : this.chain.lookup.find(address.ip, 0);
    return identity === null ? null : this.peers.resolveIdentity(identity);
  }

  private identityAt(bytes: Buffer, field: AddressField): Identity | null {
    const address = field.read(bytes);
    return address === null ? null : this.chain.lookup.find(address.ip, address.port);
  }

  /** By route and cluster; what neither names, by address, which says more than the name by which a client asked. */
  private resolveService(
    bytes: Buffer,
    entry: CommonEntry,
    isDestination: boolean,
    sender: Sender,
    host: string,
  ): Service {
    const asked = isDestination || sender.isGateway ? "" : host;
    const service = serviceOfRoute(entry, asked);
    if (service !== null) return service;
    const called = isDestination ? null : this.calledService(bytes, entry, sender);
    return called ?? { host: asked, name: asked, namespace: "" };
  }

  /** What a client connected to is the service itself, mostly; else its endpoint tells. */
  private calledService(bytes: Buffer, entry: CommonEntry, sender: Sender): Service | null {
    if (!this.chain.analyzers.includes("k8s-mesh")) return null;
    const local = sender.isGateway ? null : this.identityAt(bytes, entry.downstreamLocal);
    return local?.called ?? this.identityAt(bytes, entry.upstreamRemote)?.called ?? null;
  }
}

/** The other end of the downstream connection, and not what an HTTP header names as its client. */
function downstreamRemote({ downstreamDirectRemote, downstreamRemote: named }: CommonEntry): AddressField {
  return downstreamDirectRemote.isPresent ? downstreamDirectRemote : named;
}

function httpOutcome(entry: HttpEntry): Outcome {
  const isGrpc = isGrpcContentType(entry.contentType);
  return {
    protocol: isGrpc ? PROTOCOL_GRPC : PROTOCOL_HTTP,
    grpcStatus: isGrpc ? grpcStatus(entry) : "",
    responseCode: entry.responseCode.toString(),
    responseFlags: flagNames(entry.responseFlags),
  };
}

/**
 * A connection is reported first, and its labels are fixed, when its first bytes pass: without flags. Only one that never reached
 * its upstream is reported at its end, by the flags that say so.
 */
function tcpOutcome({ responseFlags }: TcpEntry): Outcome {
  const isRefused = responseFlags.some((field) => REFUSED_FIELDS.has(field));
  return {
    protocol: PROTOCOL_TCP,
    grpcStatus: "",
    responseCode: "",
    responseFlags: isRefused ? flagNames(responseFlags) : NO_FLAGS,
  };
}

/**
 * How a request came to the destination's proxy, where its labels will not tell (series/key.ts): objects may name a source that has no
 * proxy, and a proxy that takes no part in the exchange knows nobody's.
 */
function markOf(
  entry: CommonEntry,
  sender: Sender,
  peer: Workload,
  peerPrincipal: string,
  outcome: Outcome,
): Mark | null {
  const hasMetadata = entry.wasmDownstreamPeer.kind !== "none" || entry.downstreamPeer.kind !== "none";
  if (hasMetadata) return null;
  if (!sender.exchanges) return "?";
  if (outcome.protocol !== PROTOCOL_TCP) return isNamed(peer) ? "+" : null;
  return peerPrincipal === "" ? "+" : "?"; // Istio's proxies exchange over mutual TLS, with the first bytes; there may have been none
}

/** Lengths before texts, so that no two facts make one key. */
function keyOf(facts: Facts): string {
  const { own, peer, ownPrincipal, peerPrincipal, service, isDestination } = facts;
  const { protocol, responseCode, grpcStatus, responseFlags } = facts.outcome;
  const outcome = `${protocol},${responseCode},${grpcStatus},${responseFlags},${facts.mark ?? ""}`;
  const numbers = `${own.serial},${peer.serial},${isDestination ? 1 : 0},${outcome}`;
  const lengths = `${ownPrincipal.length},${peerPrincipal.length},${service.host.length},${service.name.length}`;
  return `${numbers};${lengths};${ownPrincipal}${peerPrincipal}${service.host}${service.name}${service.namespace}`;
}

/** All values, in the order of LABELS, clean. */
function labelValues(facts: Facts): string[] {
  const { own, peer, ownPrincipal, peerPrincipal, isDestination } = facts;
  const values = new Array<string>(LABELS.length).fill(UNKNOWN);
  values[Label.Reporter] = isDestination ? REPORTER_DESTINATION : REPORTER_SOURCE;
  workloadLabels(values, isDestination ? DESTINATION : SOURCE, own, own.namespace, ownPrincipal || UNKNOWN);
  workloadLabels(
    values,
    isDestination ? SOURCE : DESTINATION,
    peer,
    spiffeNamespace(peerPrincipal) || peer.namespace,
    peerPrincipal || (isDestination ? UNKNOWN : peer.identity),
  );
  serviceLabels(values, facts);
  values[Label.RequestProtocol] = facts.outcome.protocol;
  values[Label.ResponseCode] = facts.outcome.responseCode;
  values[Label.GrpcResponseStatus] = facts.outcome.grpcStatus;
  values[Label.ResponseFlags] = facts.outcome.responseFlags;
  if (isDestination) {
    const isMutual = peerPrincipal !== "" && ownPrincipal !== "";
    values[Label.ConnectionSecurityPolicy] = isMutual ? POLICY_MUTUAL_TLS : POLICY_NONE;
  }
  return values;
}

/** Where the labels of one side of a call stand in LABELS. */
interface Side {
  readonly workload: Label;
  readonly canonicalService: Label;
  readonly canonicalRevision: Label;
  readonly namespace: Label;
  readonly principal: Label;
  readonly app: Label;
  readonly version: Label;
  readonly cluster: Label;
}

const SOURCE: Side = {
  workload: Label.SourceWorkload,
  canonicalService: Label.SourceCanonicalService,
  canonicalRevision: Label.SourceCanonicalRevision,
  namespace: Label.SourceWorkloadNamespace,
  principal: Label.SourcePrincipal,
  app: Label.SourceApp,
  version: Label.SourceVersion,
  cluster: Label.SourceCluster,
};

const DESTINATION: Side = {
  workload: Label.DestinationWorkload,
  canonicalService: Label.DestinationCanonicalService,
  canonicalRevision: Label.DestinationCanonicalRevision,
  namespace: Label.DestinationWorkloadNamespace,
  principal: Label.DestinationPrincipal,
  app: Label.DestinationApp,
  version: Label.DestinationVersion,
  cluster: Label.DestinationCluster,
};

/** The log's name says it, else the cluster: Istio names those of its inbound listener so. */
function isInbound({ upstreamCluster }: CommonEntry, { direction }: Sender): boolean {
  if (direction !== null) return direction === "inbound";
  return upstreamCluster.startsWith("inbound|") || upstreamCluster.startsWith("InboundPassthrough");
}

/** The eight labels of one side; of either side, by either reporter. */
function workloadLabels(values: string[], side: Side, of: Workload, namespace: string, principal: string): void {
  values[side.workload] = of.workload;
  values[side.canonicalService] = of.canonicalService;
  values[side.canonicalRevision] = of.canonicalRevision;
  values[side.namespace] = cleanValue(namespace);
  values[side.principal] = cleanValue(principal);
  values[side.app] = of.app;
  values[side.version] = of.version;
  values[side.cluster] = of.cluster;
}

/** A server knows what it is: its own name stands in for a service that nothing names. */
function serviceLabels(values: string[], { isDestination, own, service }: Facts): void {
  const fallback = isDestination ? own.canonicalService : UNKNOWN;
  const peerNamespace = values[Label.DestinationWorkloadNamespace] as string;
  values[Label.DestinationService] = cleanValue(service.host || fallback);
  values[Label.DestinationServiceName] = cleanValue(service.name || fallback);
  values[Label.DestinationServiceNamespace] = isDestination
    ? own.namespace
    : cleanValue(service.namespace || peerNamespace);
}

/** Route, then cluster, then the cluster's first service (custom tags); `asked` stands in for what they leave open. Null for none of them. */
function serviceOfRoute(entry: CommonEntry, asked: string): Service | null {
  const { routeName, upstreamCluster, destinationServiceHost, destinationServiceName, destinationServiceNamespace } =
    entry;
  if (routeName === ROUTE_BLOCK_ALL) return { host: asked, name: BLACK_HOLE_CLUSTER, namespace: "" };
  if (routeName === ROUTE_ALLOW_ANY) return { host: asked, name: PASSTHROUGH_CLUSTER, namespace: "" };
  if (CATCH_ALL_CLUSTERS.includes(upstreamCluster)) return { host: asked, name: upstreamCluster, namespace: "" };
  if (destinationServiceHost === "" && destinationServiceName === "" && destinationServiceNamespace === "") {
    return null;
  }
  const host = destinationServiceHost || asked;
  return { host, name: destinationServiceName || firstSegment(host), namespace: destinationServiceNamespace };
}

/** `%UPSTREAM_PEER_URI_SAN%` joins several by commas, which no SPIFFE id contains. */
function firstUri(sans: string): string {
  const comma = sans.indexOf(",");
  return comma < 0 ? sans : sans.substring(0, comma);
}

/** `application/grpc`, alone or followed by `+`. */
function isGrpcContentType(contentType: string): boolean {
  return contentType === "application/grpc" || contentType.startsWith("application/grpc+");
}

const MAX_GRPC_STATUS = 16;
const GRPC_UNKNOWN = 2;
/** What a gRPC client makes of an HTTP status. https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md */
const GRPC_STATUS_OF_CODE = new Map([
  [400, 13],
  [401, 16],
  [403, 7],
  [404, 12],
  [429, 14],
  [502, 14],
  [503, 14],
  [504, 14],
]);

/**
 * From the trailers, else the headers, else from an HTTP status that is an error. A 200 without any status is left open: the
 * logger may just not be told to log `grpc-status`.
 */
function grpcStatus({ trailerGrpcStatus, headerGrpcStatus, responseCode }: HttpEntry): string {
  const text = trailerGrpcStatus || headerGrpcStatus;
  if (text !== "") {
    const status = /^\d+$/.test(text) ? Number(text) : MAX_GRPC_STATUS + 1;
    return status > MAX_GRPC_STATUS ? "" : status.toString();
  }
  if (responseCode === 0 || responseCode === 200) return "";
  return (GRPC_STATUS_OF_CODE.get(responseCode) ?? GRPC_UNKNOWN).toString();
}

/** Flags of ALS that say that a connection never reached its upstream: UH, UF, UO, NR, RL, UAEX, URX, NC, DF. */
const REFUSED_FIELDS: ReadonlySet<number> = new Set([2, 6, 8, 9, 12, 13, 16, 25, 27]);

/** ALS numbers its flags from 1 in the order of RESPONSE_FLAGS, but it has none for the 28th, `DO`: its 28 is `DR`. */
const FIRST_SHIFTED_FIELD = 28;

/** Short names joined by commas in the order of RESPONSE_FLAGS; `-` for none. A flag that has no name yet reads as its number. */
export function flagNames(fields: readonly number[]): string {
  if (fields.length === 0) return NO_FLAGS;
  return fields.map((field) => (field > FIRST_SHIFTED_FIELD ? field : flagName(field))).join(",");
}

function flagName(field: number): string | undefined {
  return RESPONSE_FLAGS[field < FIRST_SHIFTED_FIELD ? field - 1 : field];
}
