// The peer as expressions read it: filter state `wasm.meshtally.upstream_peer`, a Struct with the keys of Istio's own.
//
// Access loggers get the peer as a FlatNode under `wasm.upstream_peer` (workload.ts), which CEL cannot look into; so this is a
// second state, made only when an expression asks for a peer.

import { declareStruct } from "../state-type.ts";
import {
  DOWNSTREAM_PEER_STRUCT,
  PEER_APP,
  PEER_AVAILABILITY_ZONE,
  PEER_CLUSTER,
  PEER_IDENTITY,
  PEER_LABELS,
  PEER_NAME,
  PEER_NAMESPACE,
  PEER_REGION,
  PEER_REVISION,
  PEER_SERVICE,
  PEER_TYPE,
  PEER_VERSION,
  PEER_WORKLOAD,
  UPSTREAM_PEER_STRUCT,
} from "../vocabulary/peer-metadata.ts";
import { StructWriter } from "../wire/struct.ts";
import { Workload, workloadType } from "../workload.ts";

/** Tells Envoy that the two states are Structs, living as long as their request. Call before one is set; again is harmless. */
export function declarePeerStates(): void {
  declareStruct(DOWNSTREAM_PEER_STRUCT);
  declareStruct(UPSTREAM_PEER_STRUCT);
}

/** Keys in ascending order, absent values left out, `labels` always: equal workloads give equal bytes. */
export function encodePeerStruct(workload: Workload): StaticArray<u8> {
  const labels = new StructWriter();
  const keys = workload.labelKeys.slice(0).sort();
  for (let i = 0; i < keys.length; i++) labels.text(keys[i], workload.label(keys[i]));
  const out = new StructWriter();
  out.text(PEER_APP, workload.recommendedApp);
  out.text(PEER_AVAILABILITY_ZONE, workload.availabilityZone);
  out.text(PEER_CLUSTER, workload.clusterId);
  out.text(PEER_IDENTITY, workload.identity);
  out.struct(PEER_LABELS, labels);
  out.text(PEER_NAME, workload.name);
  out.text(PEER_NAMESPACE, workload.namespace);
  out.text(PEER_REGION, workload.region);
  out.text(PEER_REVISION, workload.canonicalRevision);
  out.text(PEER_SERVICE, workload.canonicalName);
  out.text(PEER_TYPE, workloadType(workload));
  out.text(PEER_VERSION, workload.recommendedVersion);
  out.text(PEER_WORKLOAD, workload.workloadName);
  return out.take();
}
