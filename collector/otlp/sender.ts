// The resource of OTLP records -> the identifier with which an ALS stream begins: which proxy they are of.
// https://github.com/envoyproxy/envoy/blob/main/api/envoy/extensions/access_loggers/open_telemetry/v3/logs_service.proto
//
// Envoy writes `node_name` (its node id), `log_name`, `cluster_name` and `zone_name`. Node metadata it does not write; what labels need of
// that, where the filter's observation is missing, a resource may have by the keys of node metadata or by OpenTelemetry's names.

import { IDENTIFIER, LOG_NAME, NODE } from "../proto/als.ts";
import { MAX_NODE_ID_BYTES, NODE_ID, NODE_METADATA } from "../proto/node.ts";
import type { Attributes } from "../proto/otlp-common.ts";
import { type Metadata, writeStruct } from "../proto/struct.ts";
import type { WireWriter } from "../proto/wire-writer.ts";
import {
  APP_LABEL,
  CANONICAL_NAME_LABEL,
  CANONICAL_REVISION_LABEL,
  CLUSTER_ID,
  NAME,
  NAMESPACE,
  VERSION_LABEL,
  WORKLOAD_NAME,
} from "../vocabulary.ts";

const NODE_NAME_ATTRIBUTE = "node_name";
const LOG_NAME_ATTRIBUTE = "log_name";

/** Node metadata by the attributes that say it; the first that is there counts. */
export const METADATA_ATTRIBUTES: ReadonlyMap<string, readonly string[]> = new Map([
  [NAME, [NAME, "k8s.pod.name"]],
  [NAMESPACE, [NAMESPACE, "k8s.namespace.name", "service.namespace"]],
  [
    WORKLOAD_NAME,
    [
      WORKLOAD_NAME,
      "k8s.deployment.name",
      "k8s.statefulset.name",
      "k8s.daemonset.name",
      "k8s.cronjob.name",
      "k8s.job.name",
    ],
  ],
  [CLUSTER_ID, [CLUSTER_ID, "k8s.cluster.name"]],
]);
/** The same of the labels in it. */
export const LABEL_ATTRIBUTES: ReadonlyMap<string, readonly string[]> = new Map([
  [CANONICAL_NAME_LABEL, [CANONICAL_NAME_LABEL, "service.name"]],
  [CANONICAL_REVISION_LABEL, [CANONICAL_REVISION_LABEL, "service.version"]],
  [APP_LABEL, [APP_LABEL]],
  [VERSION_LABEL, [VERSION_LABEL]],
]);

/** The node id; null when the resource names none, or one too long to be one. */
export function nodeIdOf(resource: Attributes): string | null {
  const id = resource.get(NODE_NAME_ATTRIBUTE);
  return typeof id === "string" && id !== "" && Buffer.byteLength(id) <= MAX_NODE_ID_BYTES ? id : null;
}

/** Adds the identifier to a StreamAccessLogsMessage. */
export function writeIdentifier(writer: WireWriter, nodeId: string, resource: Attributes): void {
  writer.begin(IDENTIFIER);
  writer.begin(NODE);
  writer.text(NODE_ID, nodeId);
  writeStruct(writer, NODE_METADATA, metadataOf(resource));
  writer.end();
  writer.text(LOG_NAME, String(resource.get(LOG_NAME_ATTRIBUTE) ?? ""));
  writer.end();
}

function metadataOf(resource: Attributes): Metadata {
  return { texts: pick(resource, METADATA_ATTRIBUTES), labels: pick(resource, LABEL_ATTRIBUTES) };
}

function pick(resource: Attributes, names: ReadonlyMap<string, readonly string[]>): Map<string, string> {
  const found = new Map<string, string>();
  for (const [key, candidates] of names) {
    const value = candidates.map((name) => resource.get(name)).find((each) => each !== undefined && each !== "");
    if (value !== undefined) found.set(key, String(value));
  }
  return found;
}
