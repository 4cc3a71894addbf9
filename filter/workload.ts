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

/** More labels of a peer than this are not kept, save the meaningful and those asked for: it bounds what a hostile peer makes us hold. */
const MAX_LABELS = 64;
/** Of our own labels all are kept. */
const ALL_LABELS = i32.MAX_VALUE;

/** The labels that name a workload's service, revision, app and version. */
const MEANINGFUL_LABELS: readonly string[] = [
  APP_LABEL,
  VERSION_LABEL,
  RECOMMENDED_APP_LABEL,
  RECOMMENDED_VERSION_LABEL,
  CANONICAL_NAME_LABEL,
  CANONICAL_REVISION_LABEL,
];

/** The labels that every proxy sends of its workload. */
const SENT_LABELS: string[] = [APP_LABEL, CANONICAL_NAME_LABEL, CANONICAL_REVISION_LABEL, VERSION_LABEL];

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
  /** Whether there were more labels than are kept. */
  isCut: bool = false;

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

  /** Whether it has any of the names that labels show of an end. */
  get isNamed(): bool {
    const names =
      this.workloadName + this.canonicalName + this.recommendedApp + this.recommendedVersion + this.clusterId;
    return names.length > 0;
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

  /** A key that stands twice: the last one counts. */
  clearLabels(): void {
    this.labelKeys = [];
    this.labelValues = [];
    this.isCut = false;
  }

  setLabel(key: string, value: string): void {
    const at = this.labelKeys.indexOf(key);
    if (at < 0) {
      this.labelKeys.push(key);
      this.labelValues.push(value);
    } else {
      this.labelValues[at] = value;
    }
  }
}

/**
 * The reduced Struct that Istio's proxies send each other; keys in ascending order, absent values left out, LABELS always: the four
 * of SENT_LABELS and the `additional` ones.
 */
export function encodeWorkload(own: Workload, additional: readonly string[]): StaticArray<u8> {
  const names = SENT_LABELS.slice(0);
  for (let i = 0; i < additional.length; i++) {
    if (!names.includes(additional[i])) names.push(additional[i]);
  }
  names.sort();
  const labels = new StructWriter();
  for (let i = 0; i < names.length; i++) labels.text(names[i], sentLabel(own, names[i]));
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

/** App and version go out under their short names, whichever name they have here. */
function sentLabel(own: Workload, name: string): string {
  if (name === APP_LABEL) return own.recommendedApp;
  return name === VERSION_LABEL ? own.recommendedVersion : own.label(name);
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

/** This proxy's own workload, from its node metadata. */
export function decodeOwnWorkload(ptr: usize, size: usize): Workload | null {
  return decodeWorkload(ptr, size, [], ALL_LABELS);
}

/** A peer's workload. Of its labels 64 are kept, those that mean something to us, and the `additional` ones. */
export function decodePeerWorkload(ptr: usize, size: usize, additional: readonly string[]): Workload | null {
  return decodeWorkload(ptr, size, additional, MAX_LABELS);
}

/** Reads a Struct as sent by any generation of Istio; null when it is no Struct. Unknown keys and kinds of values are skipped. */
function decodeWorkload(ptr: usize, size: usize, additional: readonly string[], maxLabels: i32): Workload | null {
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
      workload.clearLabels();
      labels.open(reader.valuePtr, reader.valueSize);
      while (labels.next()) {
        if (labels.kind !== ValueKind.Text) continue;
        const name = readText(labels.keyPtr, labels.keySize);
        const isKept =
          workload.labelKeys.length < maxLabels ||
          workload.labelKeys.includes(name) ||
          MEANINGFUL_LABELS.includes(name) ||
          additional.includes(name);
        if (isKept) workload.setLabel(name, readText(labels.valuePtr, labels.valueSize));
        else workload.isCut = true;
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
