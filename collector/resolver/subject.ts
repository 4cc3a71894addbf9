// Subject: one end of a call in the words of the name rules (identity/names.ts), as metadata tells it, whole: what a pod's metadata
// says reads as its Kubernetes object does, so that both are called the same.

import { isIP } from "node:net";
import type { ObjectName, Subject } from "../identity/names.ts";
import { decodeFlatNode, readFlatNodeName } from "../proto/flat-node.ts";
import { decodeMetadata, type Metadata } from "../proto/struct.ts";
import {
  APP_LABEL,
  CANONICAL_NAME_LABEL,
  CANONICAL_REVISION_LABEL,
  Label,
  NAME,
  NAMESPACE,
  PEER_APP,
  PEER_REVISION,
  PEER_SERVICE,
  PEER_VERSION,
  PEER_WORKLOAD,
  RECOMMENDED_APP_LABEL,
  spiffeNamespace,
  UNKNOWN,
  VERSION_LABEL,
  WORKLOAD_NAME,
} from "../vocabulary.ts";

/** Bounds on what is kept of metadata: names and labels of Kubernetes are shorter, what is longer reads as absent. */
const MAX_LABELS = 256;
const MAX_TEXT_LENGTH = 512;
const MAX_ADDRESSES = 8;

/** As a proxy says: `10.0.0.1,fd00::1`. */
const INSTANCE_IPS = "instance_ips";

/** As Istio's injection decides the canonical name. */
const CANONICAL_LABELS = [CANONICAL_NAME_LABEL, RECOMMENDED_APP_LABEL, APP_LABEL];

/** Istio's short keys (1.24 and later) stand for labels. */
const SHORT_KEYS: readonly (readonly [key: string, label: string])[] = [
  [PEER_SERVICE, CANONICAL_NAME_LABEL],
  [PEER_REVISION, CANONICAL_REVISION_LABEL],
  [PEER_APP, APP_LABEL],
  [PEER_VERSION, VERSION_LABEL],
];

/** Whether it says of which service it is. A namespace alone does not. */
export function isNamedSubject({ canonicalService, workload }: Subject): boolean {
  return canonicalService !== "" || workload !== "";
}

/** The same end in another namespace. */
export function inNamespace(subject: Subject, namespace: string): Subject {
  return { ...subject, end: { ...subject.end, namespace } };
}

/** Node metadata or a peer's Struct, with long keys (`WORKLOAD_NAME`) or short ones (`workload`). */
function subjectOfMetadata({ texts, labels: told }: Metadata): Subject {
  const labels = new Map<string, string>();
  for (const [key, value] of told) {
    if (labels.size < MAX_LABELS) labels.set(kept(key), kept(value));
  }
  for (const [key, label] of SHORT_KEYS) {
    const value = texts.get(key);
    if (value && !labels.get(label)) labels.set(label, kept(value));
  }
  const workload = kept(texts.get(PEER_WORKLOAD) || textOf(texts, WORKLOAD_NAME));
  return subjectOf(kept(textOf(texts, NAME)), kept(textOf(texts, NAMESPACE)), labels, workload);
}

/** The proxy itself. What its metadata leaves open, Istio's node ids say. */
export function subjectOfNode(nodeId: string, metadata: Metadata): Subject {
  const { end, workload } = subjectOfMetadata(metadata);
  const pod = end.name !== "" && end.namespace !== "" ? null : podOfNodeId(nodeId, end.namespace);
  const name = end.name || kept(pod?.name ?? "");
  return subjectOf(name, end.namespace || kept(pod?.namespace ?? ""), end.labels, workload);
}

/**
 * `reviews-v1-7d` and `default` in `sidecar~10.0.0.1~reviews-v1-7d.default~default.svc.cluster.local`; null of other forms. `namespace`
 * is what is known of it: without that, the id has to say it twice.
 */
export function podOfNodeId(nodeId: string, namespace = ""): Pick<ObjectName, "name" | "namespace"> | null {
  const [, , pod = "", domain] = nodeId.split("~");
  if (domain === undefined) return null;
  const dot = pod.lastIndexOf(".");
  const told = dot < 0 ? "" : pod.substring(dot + 1);
  const isNamespace = told !== "" && told === (namespace || domain.split(".")[0]);
  return isNamespace ? { name: pod.substring(0, dot), namespace: told } : { name: pod, namespace: "" };
}

/** Addresses of the proxy itself, the likeliest first: IPv4 before IPv6, metadata before the node id. */
export function addressesOfNode(addressInId: string, { texts }: Metadata): string[] {
  const told = kept(texts.get(INSTANCE_IPS) ?? "")
    .split(",", MAX_ADDRESSES)
    .map((text) => text.trim());
  const addresses = [...told, addressInId].filter((text) => isIP(text) !== 0);
  return [...new Set(addresses)].sort((a, b) => isIP(a) - isIP(b));
}

/** A peer as a Struct in filter state; null when it is malformed. */
export function subjectOfStruct(bytes: Buffer, start: number, stop: number): Subject | null {
  const metadata = decodeMetadata(bytes, start, stop);
  return metadata === null ? null : subjectOfMetadata(metadata);
}

/** A peer as a FlatNode in filter state; null when it is malformed. */
export function subjectOfFlatNode(bytes: Buffer, start: number, stop: number): Subject | null {
  const node = decodeFlatNode(bytes, start, stop);
  if (node === null) return null;
  return subjectOf(readFlatNodeName(bytes, start, stop), node.namespace, node.labels, node.workloadName);
}

/** Endpoint metadata `istio.workload`: `reviews-v1;default;reviews;v1;Kubernetes`. Null of fewer parts. */
export function subjectOfEndpoint(text: string): Subject | null {
  const parts = text.split(";");
  if (parts.length < 5) return null;
  const [workload = "", namespace = "", canonicalName = "", revision = ""] = parts.map(kept);
  const labels = new Map([
    [CANONICAL_NAME_LABEL, canonicalName],
    [CANONICAL_REVISION_LABEL, revision],
  ]);
  return subjectOf("", namespace, labels, workload);
}

/** One end of a label set that the filter counted: it knew the metadata, and left out the name. */
export function subjectOfSourceLabels(values: readonly string[]): Subject {
  const labels = new Map([
    [CANONICAL_NAME_LABEL, known(values[Label.SourceCanonicalService])],
    [CANONICAL_REVISION_LABEL, known(values[Label.SourceCanonicalRevision])],
    [APP_LABEL, known(values[Label.SourceApp])],
    [VERSION_LABEL, known(values[Label.SourceVersion])],
  ]);
  return subjectOf("", known(values[Label.SourceWorkloadNamespace]), labels, known(values[Label.SourceWorkload]));
}

export function subjectOfDestinationLabels(values: readonly string[]): Subject {
  const labels = new Map([
    [CANONICAL_NAME_LABEL, known(values[Label.DestinationCanonicalService])],
    [CANONICAL_REVISION_LABEL, known(values[Label.DestinationCanonicalRevision])],
    [APP_LABEL, known(values[Label.DestinationApp])],
    [VERSION_LABEL, known(values[Label.DestinationVersion])],
  ]);
  const namespace = known(values[Label.DestinationWorkloadNamespace]);
  return subjectOf("", namespace, labels, known(values[Label.DestinationWorkload]));
}

const SPIFFE_ACCOUNT = /\/sa\/([^/]+)$/;

/** Whom Istio lets run under the account of every workload that has none of its own. */
const SHARED_ACCOUNT = "default";

/** `bookinfo-reviews` of namespace `default` in `spiffe://cluster.local/ns/default/sa/bookinfo-reviews`. Null of other forms. */
export function subjectOfSpiffeId(id: string): Subject | null {
  const namespace = spiffeNamespace(id);
  const [, account = ""] = SPIFFE_ACCOUNT.exec(id) ?? [];
  if (namespace === "" || account === "" || account === SHARED_ACCOUNT || id.length > MAX_TEXT_LENGTH) return null;
  return { ...subjectOf("", namespace, NO_LABELS, ""), canonicalService: account };
}

const NO_LABELS: ReadonlyMap<string, string> = new Map();

function subjectOf(name: string, namespace: string, labels: ReadonlyMap<string, string>, workload: string): Subject {
  const label = CANONICAL_LABELS.find((key) => labels.get(key));
  const canonicalService = (label === undefined ? "" : labels.get(label)) || workload;
  return { end: { name, namespace, labels }, workload, canonicalService, service: null, serviceEntry: null };
}

/** Metadata holds its texts by lower-case key. */
function textOf(texts: ReadonlyMap<string, string>, key: string): string {
  return texts.get(key.toLowerCase()) ?? "";
}

function kept(text: string): string {
  return text.length > MAX_TEXT_LENGTH ? "" : text;
}

function known(value: string | undefined): string {
  return value === undefined || value === UNKNOWN ? "" : value;
}
