// Workload: one end of a call as its labels call it. The logging proxy's own comes from its node metadata, the peer's from the
// metadata exchange (mx-mesh). Values are clean and final: what is missing already reads as its label will.

import type { Identity } from "../identity/lookup.ts";
import { BytesCache } from "../proto/bytes-cache.ts";
import type { FlatNode } from "../proto/flat-node.ts";
import type { FilterState } from "../proto/map-entry.ts";
import { decodePeerBytes } from "../proto/peer-bytes.ts";
import { decodeMetadata, type Metadata } from "../proto/struct.ts";
import {
  APP_LABEL,
  CANONICAL_NAME_LABEL,
  CANONICAL_REVISION_LABEL,
  CLUSTER_ID,
  cleanValue,
  IDENTITY,
  LATEST,
  NAME,
  NAMESPACE,
  RECOMMENDED_APP_LABEL,
  RECOMMENDED_VERSION_LABEL,
  UNKNOWN,
  VERSION_LABEL,
  WORKLOAD_NAME,
} from "../vocabulary.ts";

export interface Workload {
  /** Different for each Workload: stands for its content in keys. */
  readonly serial: number;
  /** Of the pod, which becomes no label; "" when it is not told. */
  readonly name: string;
  readonly workload: string;
  readonly namespace: string;
  readonly canonicalService: string;
  readonly canonicalRevision: string;
  readonly app: string;
  readonly version: string;
  readonly cluster: string;
  /** SPIFFE id that the peer states of itself; `unknown` for most. */
  readonly identity: string;
}

let nextSerial = 1;

/** The own side: node metadata as it is, "" where it says nothing; of the labels only the short `app` and `version`. */
export function ownWorkload({ texts, labels }: Metadata): Workload {
  return {
    serial: nextSerial++,
    name: held(textOf(texts, NAME)),
    workload: held(textOf(texts, WORKLOAD_NAME)),
    namespace: held(textOf(texts, NAMESPACE)),
    canonicalService: held(labels.get(CANONICAL_NAME_LABEL) ?? ""),
    canonicalRevision: held(labels.get(CANONICAL_REVISION_LABEL) ?? ""),
    app: held(labels.get(APP_LABEL) ?? ""),
    version: held(labels.get(VERSION_LABEL) ?? ""),
    cluster: held(textOf(texts, CLUSTER_ID)),
    identity: held(textOf(texts, IDENTITY)),
  };
}

/** A peer of which nothing is known. */
export const UNKNOWN_PEER = peer({});

/** A peer as a Struct; null when it is malformed. */
function peerFromStruct(bytes: Buffer, start: number, stop: number): Workload | null {
  const metadata = decodeMetadata(bytes, start, stop);
  return metadata === null ? null : peerOfMetadata(metadata);
}

/** A peer as a byte string or as text, in whatever encoding; null when there is none to be read. */
function peerFromBytes(bytes: Buffer, start: number, stop: number): Workload | null {
  const facts = decodePeerBytes(bytes, start, stop);
  if (facts === null) return null;
  return facts.form === "struct" ? peerOfMetadata(facts.metadata) : peerOfFlatNode(facts.node);
}

/**
 * In either spelling, keys in any case: `WORKLOAD_NAME`, `NAMESPACE`, `LABELS{}` as exchanged, or `workload`, `namespace`, `service`,
 * `revision`, `app`, `version` as Istio's native filter leaves it (1.24 and later).
 */
function peerOfMetadata({ texts, labels }: Metadata): Workload {
  return peer({
    name: textOf(texts, NAME),
    workload: texts.get("workload") || textOf(texts, WORKLOAD_NAME),
    namespace: textOf(texts, NAMESPACE),
    canonicalService: texts.get("service") || labelOf(labels, CANONICAL_NAME_LABEL),
    canonicalRevision: texts.get("revision") || labelOf(labels, CANONICAL_REVISION_LABEL),
    app: texts.get("app") || labelOf(labels, RECOMMENDED_APP_LABEL) || labelOf(labels, APP_LABEL),
    version: texts.get("version") || labelOf(labels, RECOMMENDED_VERSION_LABEL) || labelOf(labels, VERSION_LABEL),
    cluster: texts.get("cluster") || textOf(texts, CLUSTER_ID),
    identity: textOf(texts, IDENTITY),
  });
}

function peerOfFlatNode({ name, namespace, workloadName, clusterId, labels }: FlatNode): Workload {
  return peer({
    name,
    workload: workloadName,
    namespace,
    canonicalService: labelOf(labels, CANONICAL_NAME_LABEL),
    canonicalRevision: labelOf(labels, CANONICAL_REVISION_LABEL),
    app: labelOf(labels, RECOMMENDED_APP_LABEL) || labelOf(labels, APP_LABEL),
    version: labelOf(labels, RECOMMENDED_VERSION_LABEL) || labelOf(labels, VERSION_LABEL),
    cluster: clusterId,
  });
}

/**
 * A server as istiod describes it in endpoint metadata `istio.workload`: `reviews-v1;default;reviews;v1;Kubernetes`
 * (workload, namespace, canonical name, canonical revision, cluster). Fewer parts say nothing.
 */
function peerFromEndpoint(text: string): Workload {
  const parts = text.split(";");
  if (parts.length < 5) return UNKNOWN_PEER;
  const [workload, namespace, canonicalService, canonicalRevision, cluster] = parts;
  return peer({ workload, namespace, canonicalService, canonicalRevision, cluster });
}

/** One end as Kubernetes describes it; null for a service, behind which anyone of its workloads may be. */
function workloadOf({ kind, workload, namespace, canonicalService, labels }: Identity): Workload | null {
  if (kind === "service") return null;
  const app = labels.get(RECOMMENDED_APP_LABEL) || labels.get(APP_LABEL);
  const version = labels.get(RECOMMENDED_VERSION_LABEL) || labels.get(VERSION_LABEL);
  const canonicalRevision = labels.get(CANONICAL_REVISION_LABEL) || version;
  return peer({ workload, namespace, canonicalService, canonicalRevision, app, version });
}

/** Whether it says who it is. Metadata may be there and hold nothing of that. */
export function isNamed({ workload, namespace, canonicalService }: Workload): boolean {
  return [workload, namespace, canonicalService].some((name) => name !== "" && name !== UNKNOWN);
}

/** Missing and empty facts read `unknown`, the canonical revision `latest`. */
function peer(facts: { readonly [fact in Exclude<keyof Workload, "serial">]?: string | undefined }): Workload {
  return {
    serial: nextSerial++,
    name: held(facts.name ?? ""),
    workload: held(facts.workload || UNKNOWN),
    namespace: held(facts.namespace || UNKNOWN),
    canonicalService: held(facts.canonicalService || UNKNOWN),
    canonicalRevision: held(facts.canonicalRevision || LATEST),
    app: held(facts.app || UNKNOWN),
    version: held(facts.version || UNKNOWN),
    cluster: held(facts.cluster || UNKNOWN),
    identity: held(facts.identity || UNKNOWN),
  };
}

/** Clean, and a text of its own: one cut out of another would keep all of that, megabytes that a proxy may send, as long as itself. */
function held(value: string): string {
  const clean = cleanValue(value);
  return clean.length < value.length ? Buffer.from(clean).toString() : clean;
}

/** Metadata holds its texts by lower-case key. */
function textOf(texts: ReadonlyMap<string, string>, key: string): string {
  return texts.get(key.toLowerCase()) ?? "";
}

/** The label of this key, which is in lower case; else the first whose key differs from it in case alone; "" when there is none. */
function labelOf(labels: ReadonlyMap<string, string>, key: string): string {
  const exact = labels.get(key);
  if (exact !== undefined) return exact;
  for (const [other, value] of labels) {
    if (other.length === key.length && other.toLowerCase() === key) return value;
  }
  return "";
}

/** Together at most 16 MiB of keys. */
const MAX_CACHED_PEERS = 4096;
const MAX_CACHED_BYTES = 4096;

/** Peers by what describes them, so that each distinct description is decoded once. */
export class Peers {
  private readonly byteStrings = new BytesCache<Workload | null>(MAX_CACHED_PEERS, MAX_CACHED_BYTES);
  private readonly structs = new BytesCache<Workload | null>(MAX_CACHED_PEERS, MAX_CACHED_BYTES);
  private readonly endpoints = new Map<string, Workload>();
  private readonly identities = new WeakMap<Identity, { readonly workload: Workload | null }>();

  /** The peer that a filter state describes; null when there is none or it cannot be read. */
  resolveState(bytes: Buffer, { kind, start, stop }: FilterState): Workload | null {
    if (kind === "none") return null;
    if (kind === "struct") return this.structs.resolve(bytes, start, stop, peerFromStruct);
    return this.byteStrings.resolve(bytes, start, stop, peerFromBytes);
  }

  /** What Kubernetes says; null when it names no workload. */
  resolveIdentity(identity: Identity): Workload | null {
    const known = this.identities.get(identity);
    if (known !== undefined) return known.workload;
    const workload = workloadOf(identity);
    this.identities.set(identity, { workload });
    return workload;
  }

  /** The server that endpoint metadata `istio.workload` describes. */
  resolveEndpoint(text: string): Workload {
    if (text === "") return UNKNOWN_PEER;
    const known = this.endpoints.get(text);
    if (known !== undefined) return known;
    const peer = peerFromEndpoint(text);
    if (text.length > MAX_CACHED_BYTES) return peer;
    if (this.endpoints.size >= MAX_CACHED_PEERS) this.endpoints.clear();
    this.endpoints.set(text, peer);
    return peer;
  }
}
