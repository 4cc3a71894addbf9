// Who the ends of a call are, by its label set and what the entry says of the proxy's peers.

import type { CommonEntry } from "../proto/als-entry.ts";
import { readFlatNodeName } from "../proto/flat-node.ts";
import type { FilterState } from "../proto/map-entry.ts";
import { decodeMetadata } from "../proto/struct.ts";
import type { Sender } from "../resolver/attribution.ts";
import type { Peers, Workload } from "../resolver/workload.ts";
import { Label, REPORTER_DESTINATION, REPORTER_SOURCE, UNKNOWN } from "../vocabulary.ts";
import type { Party, UnknownReason } from "./side.ts";

/** The proxy itself and its two peers; each side of a call joins two of them. */
export interface Parties {
  readonly downstream: Party;
  readonly self: Party;
  readonly upstream: Party;
}

type Names = Pick<Party, "service" | "namespace" | "workload">;

/** `labels`: values in the order of LABELS. `hasUpstream`: whether the call may have reached a server. */
export function readParties(
  bytes: Buffer,
  entry: CommonEntry,
  sender: Sender,
  labels: readonly string[],
  hasUpstream: boolean,
  peers: Peers,
): Parties {
  const reporter = labels[Label.Reporter];
  const own = ownNames(labels, sender);
  const downstream =
    reporter === REPORTER_SOURCE
      ? peerNames(bytes, peers, entry.wasmDownstreamPeer, entry.downstreamPeer)
      : sourceNames(labels);
  const upstream =
    reporter === REPORTER_DESTINATION
      ? peerNames(bytes, peers, entry.wasmUpstreamPeer, entry.upstreamPeer)
      : destinationNames(labels);
  const isCalled = reporter !== REPORTER_DESTINATION; // else the labels' service is the proxy's own
  return {
    downstream: party(downstream, peerName(bytes, entry.wasmDownstreamPeer, entry.downstreamPeer), "peer_not_named"),
    self: party(own, podOf(sender.id, sender.own.namespace), "node_not_named"),
    upstream: called(
      party(
        upstream,
        peerName(bytes, entry.wasmUpstreamPeer, entry.upstreamPeer),
        hasUpstream ? "peer_not_named" : "upstream_not_reached",
      ),
      isCalled ? labels : [],
    ),
  };
}

/** The label set says who the proxy is; a waypoint, whose reports name only its peers, says it in its node metadata. */
function ownNames(labels: readonly string[], { own }: Sender): Names {
  const reporter = labels[Label.Reporter];
  if (reporter === REPORTER_DESTINATION) return destinationNames(labels);
  return reporter === REPORTER_SOURCE ? sourceNames(labels) : workloadNames(own);
}

function sourceNames(labels: readonly string[]): Names {
  return {
    service: known(labels[Label.SourceCanonicalService]) ?? known(labels[Label.SourceApp]),
    namespace: known(labels[Label.SourceWorkloadNamespace]),
    workload: known(labels[Label.SourceWorkload]),
  };
}

function destinationNames(labels: readonly string[]): Names {
  return {
    service: known(labels[Label.DestinationCanonicalService]) ?? known(labels[Label.DestinationApp]),
    namespace: known(labels[Label.DestinationWorkloadNamespace]),
    workload: known(labels[Label.DestinationWorkload]),
  };
}

function workloadNames({ canonicalService, app, namespace, workload }: Workload): Names {
  return { service: known(canonicalService) ?? known(app), namespace: known(namespace), workload: known(workload) };
}

function peerNames(bytes: Buffer, peers: Peers, wasmState: FilterState, istioState: FilterState): Names {
  const peer = peers.resolveState(bytes, wasmState) ?? peers.resolveState(bytes, istioState);
  return peer === null ? { service: null, namespace: null, workload: null } : workloadNames(peer);
}

function party(names: Names, instance: string | null, reason: UnknownReason): Party {
  const isNamed = names.service !== null || names.workload !== null;
  return { ...names, instance, analyzer: isNamed ? "mx-mesh" : null, ...(isNamed ? {} : { reason }) };
}

/** Who did not answer by name is called by the service that was asked for. */
function called(upstream: Party, labels: readonly string[]): Party {
  const service = known(labels[Label.DestinationServiceName]);
  if (upstream.analyzer !== null || service === null) return upstream;
  const namespace = known(labels[Label.DestinationServiceNamespace]) ?? upstream.namespace;
  return { ...upstream, service, namespace, analyzer: "route" };
}

/** `reviews-v1` of `sidecar~127.0.1.4~reviews-v1.default~default.svc.cluster.local`. */
function podOf(nodeId: string, namespace: string): string | null {
  const parts = nodeId.split("~");
  const pod = parts.length === 4 ? (parts[2] as string) : "";
  const suffix = `.${namespace}`;
  return (pod.endsWith(suffix) ? pod.slice(0, -suffix.length) : pod) || null;
}

/** What the peer is called by its metadata. */
function peerName(bytes: Buffer, wasmState: FilterState, istioState: FilterState): string | null {
  return stateName(bytes, wasmState) || stateName(bytes, istioState) || null;
}

function stateName(bytes: Buffer, { kind, start, stop }: FilterState): string {
  if (kind === "none") return "";
  if (kind === "bytes") return readFlatNodeName(bytes, start, stop);
  return decodeMetadata(bytes, start, stop)?.texts.get("name") ?? "";
}

function known(value: string | undefined): string | null {
  return value === undefined || value === "" || value === UNKNOWN ? null : value;
}
