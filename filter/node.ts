// This proxy's own workload and what it sends to peers. Read once per VM, when it is first needed.

import { readProperty, utf8, valuePtr, valueSize } from "./host.ts";
import {
  AVAILABILITY_ZONE,
  CLUSTER_ID,
  IDENTITY,
  LABELS_KEY,
  NAME,
  NAMESPACE,
  OWNER,
  REGION,
  WORKLOAD_NAME,
} from "./vocabulary/peer-metadata.ts";
import { encodeBase64 } from "./wire/base64.ts";
import { readText } from "./wire/text.ts";
import { encodeWorkload, MEANINGFUL_LABELS, Workload } from "./workload.ts";

const METADATA_KEYS: readonly string[] = [
  NAME,
  NAMESPACE,
  WORKLOAD_NAME,
  CLUSTER_ID,
  IDENTITY,
  OWNER,
  REGION,
  AVAILABILITY_ZONE,
];

export class Node {
  constructor(
    readonly workload: Workload,
    /** Value of the exchange's id header: the node id, verbatim. */
    readonly idHeader: ArrayBuffer,
    /** Value of the exchange's metadata header. */
    readonly metadataHeader: ArrayBuffer,
  ) {}
}

let own: Node | null = null;

/** The own node; reads it from the host on the first call. Call inside a stream only. */
export function ownNode(): Node {
  const known = own;
  if (known !== null) return known;
  const read = readNode();
  own = read;
  return read;
}

function readNode(): Node {
  const workload = new Workload();
  for (let i = 0; i < METADATA_KEYS.length; i++) {
    workload.set(METADATA_KEYS[i], readNodeText("metadata\0" + METADATA_KEYS[i]));
  }
  for (let i = 0; i < MEANINGFUL_LABELS.length; i++) {
    const value = readNodeText("metadata\0" + LABELS_KEY + "\0" + MEANINGFUL_LABELS[i]);
    if (value.length > 0) workload.setLabel(MEANINGFUL_LABELS[i], value);
  }
  if (workload.region.length === 0) workload.region = readNodeText("locality\0region");
  if (workload.availabilityZone.length === 0) workload.availabilityZone = readNodeText("locality\0zone");
  return new Node(workload, utf8(readNodeText("id")), encodeBase64(encodeWorkload(workload)));
}

function readNodeText(path: string): string {
  return readProperty(utf8("xds\0node\0" + path)) ? readText(valuePtr, valueSize) : "";
}
