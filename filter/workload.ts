// Workload: the identity of one end of a call, as it is exchanged between proxies and as it becomes labels.

import {
  APP_LABEL,
  AVAILABILITY_ZONE,
  CANONICAL_NAME_LABEL,
  CANONICAL_REVISION_LABEL,
  CLUSTER_ID,
  IDENTITY,
  LABELS_KEY,
  NAME,
  NAMESPACE,
  OWNER,
  RECOMMENDED_APP_LABEL,
  RECOMMENDED_VERSION_LABEL,
  REGION,
  VERSION_LABEL,
  WORKLOAD_NAME,
} from "./vocabulary/peer-metadata.ts";
import { encodeFlatNode, FlatSlot, SLOTS } from "./wire/flat-node.ts";
import { StructReader, StructWriter, ValueKind } from "./wire/struct.ts";
import { readText } from "./wire/text.ts";

/** More labels of a peer than this are not kept, save the meaningful: a bound on what a hostile peer can make us hold. */
const MAX_LABELS = 64;

/** The labels that name a workload's service, revision, app and version. */
const MEANINGFUL_LABELS: readonly string[] = [
  APP_LABEL,
  VERSION_LABEL,
  RECOMMENDED_APP_LABEL,
  RECOMMENDED_VERSION_LABEL,
  CANONICAL_NAME_LABEL,
  CANONICAL_REVISION_LABEL,
];

/** Absent text is "". */
export class Workload {
  name: string = "";
  namespace: string = "";
  workloadName: string = "";
  clusterId: string = "";
  identity: string = "";
  owner: string = "";
  region: string = "";
  availabilityZone: string = "";
  /** Label names and values, in parallel. */
  labelKeys: string[] = [];
  labelValues: string[] = [];

  label(key: string): string {
    const at = this.labelKeys.indexOf(key);
    return at < 0 ? "" : this.labelValues[at];
  }

  get canonicalName(): string {
    return this.label(CANONICAL_NAME_LABEL);
  }

  get canonicalRevision(): string {
    return this.label(CANONICAL_REVISION_LABEL);
  }

  /** `app.kubernetes.io/name`, else `app`: what is sent, and what a peer's app is. */
  get recommendedApp(): string {
    const recommended = this.label(RECOMMENDED_APP_LABEL);
    return recommended.length > 0 ? recommended : this.label(APP_LABEL);
  }

  /** `app.kubernetes.io/version`, else `version`. */
  get recommendedVersion(): string {
    const recommended = this.label(RECOMMENDED_VERSION_LABEL);
    return recommended.length > 0 ? recommended : this.label(VERSION_LABEL);
  }

  /** Sets the field that node metadata and the exchanged Struct call `key`; other keys are ignored. */
  set(key: string, value: string): void {
    if (key === NAME) this.name = value;
    else if (key === NAMESPACE) this.namespace = value;
    else if (key === WORKLOAD_NAME) this.workloadName = value;
    else if (key === CLUSTER_ID) this.clusterId = value;
    else if (key === IDENTITY) this.identity = value;
    else if (key === OWNER) this.owner = value;
    else if (key === REGION) this.region = value;
    else if (key === AVAILABILITY_ZONE) this.availabilityZone = value;
  }

  setLabel(key: string, value: string): void {
    const at = this.labelKeys.indexOf(key);
    if (at >= 0) {
      this.labelValues[at] = value;
    } else if (this.labelKeys.length < MAX_LABELS || MEANINGFUL_LABELS.includes(key)) {
      this.labelKeys.push(key);
      this.labelValues.push(value);
    }
  }
}

/** The reduced Struct that Istio's proxies send each other; keys in ascending order, absent values left out, LABELS always. */
export function encodeWorkload(own: Workload): StaticArray<u8> {
  const labels = new StructWriter();
  labels.text(APP_LABEL, own.recommendedApp);
  labels.text(CANONICAL_NAME_LABEL, own.canonicalName);
  labels.text(CANONICAL_REVISION_LABEL, own.canonicalRevision);
  labels.text(VERSION_LABEL, own.recommendedVersion);
  const out = new StructWriter();
  out.text(AVAILABILITY_ZONE, own.availabilityZone);
  out.text(CLUSTER_ID, own.clusterId);
  out.text(IDENTITY, own.identity);
  out.struct(LABELS_KEY, labels);
  out.text(NAME, own.name);
  out.text(NAMESPACE, own.namespace);
  out.text(OWNER, ownerReference(own));
  out.text(REGION, own.region);
  out.text(WORKLOAD_NAME, own.workloadName);
  return out.take();
}

/**
 * OWNER as it is sent: made again from the workload's type, so `.../replicasets/x` or free text is never passed on.
 * `kubernetes://apis/apps/v1/namespaces/ns/deployments/reviews-v1`, or "" for a type that is not exchanged.
 */
function ownerReference(own: Workload): string {
  const type = workloadType(own);
  if (type.length === 0) return "";
  return "kubernetes://apis/apps/v1/namespaces/" + own.namespace + "/" + type + "s/" + own.workloadName;
}

/** `deployment`, `pod`, `job` or `cronjob`, as OWNER names it; "" for another owner. */
export function workloadType(workload: Workload): string {
  if (workload.workloadName.length === 0) return "";
  const suffix = workload.owner.lastIndexOf("s/" + workload.workloadName);
  if (suffix < 0) return "";
  const type = workload.owner.substring(workload.owner.lastIndexOf("/", suffix) + 1, suffix);
  return type === "pod" || type === "deployment" || type === "job" || type === "cronjob" ? type : "";
}

/** Reads a Struct as sent by any generation of Istio; null when it is no Struct. Unknown keys and kinds of values are skipped. */
export function decodeWorkload(ptr: usize, size: usize): Workload | null {
  const workload = new Workload();
  const reader = new StructReader();
  const labels = new StructReader();
  reader.open(ptr, size);
  while (reader.next()) {
    if (reader.kind === ValueKind.Other) continue;
    const key = readText(reader.keyPtr, reader.keySize);
    if (reader.kind === ValueKind.Text) {
      workload.set(key, readText(reader.valuePtr, reader.valueSize));
    } else if (key === LABELS_KEY) {
      labels.open(reader.valuePtr, reader.valueSize);
      while (labels.next()) {
        if (labels.kind !== ValueKind.Text) continue;
        workload.setLabel(readText(labels.keyPtr, labels.keySize), readText(labels.valuePtr, labels.valueSize));
      }
      if (labels.isMalformed) return null;
    }
  }
  return reader.isMalformed ? null : workload;
}

/** The workload as a FlatNode, for access loggers. */
export function encodePeerState(workload: Workload): StaticArray<u8> {
  const slots = new StaticArray<string>(SLOTS).fill("");
  slots[FlatSlot.Name] = workload.name;
  slots[FlatSlot.Namespace] = workload.namespace;
  slots[FlatSlot.Owner] = workload.owner;
  slots[FlatSlot.WorkloadName] = workload.workloadName;
  slots[FlatSlot.ClusterId] = workload.clusterId;
  const keys = workload.labelKeys.slice(0).sort();
  const values: string[] = [];
  for (let i = 0; i < keys.length; i++) values.push(workload.label(keys[i]));
  return encodeFlatNode(slots, keys, values);
}
