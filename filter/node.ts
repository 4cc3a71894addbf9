// This proxy's own workload and what it sends to peers. Read once per VM, when it is first needed.

import { readProperty, utf8, valuePtr, valueSize } from "./host.ts";
import { encodeBase64 } from "./wire/base64.ts";
import { Reader } from "./wire/protobuf.ts";
import { readText } from "./wire/text.ts";
import { decodeWorkload, encodeWorkload, Workload } from "./workload.ts";

/**
 * The whole `envoy.config.core.v3.Node` as protobuf: `{ string id = 1; Struct metadata = 3; Locality locality = 4; ... }`. The single
 * values could be read by path, but then a number or bool could not be told from a text of 8 bytes or 1.
 */
const NODE = utf8("xds\0node");
const ID = 1;
const METADATA = 3;
const LOCALITY = 4;
const REGION = 1;
const ZONE = 2;

export class Node {
  constructor(
    readonly id: string,
    readonly workload: Workload,
    /** Value of the exchange's id header: the node id, verbatim. */
    readonly idHeader: ArrayBuffer,
    /** Value of the exchange's metadata header. */
    readonly metadataHeader: ArrayBuffer,
  ) {}
}

let own: Node | null = null;

/** The own node; reads it from the host on the first call. */
export function ownNode(): Node {
  const known = own;
  if (known !== null) return known;
  const read = readNode();
  own = read;
  return read;
}

function readNode(): Node {
  let id = "";
  let workload = new Workload();
  let region = "";
  let zone = "";
  const fields = new Reader();
  const isThere = readProperty(NODE);
  fields.open(valuePtr, isThere ? valueSize : 0);
  while (fields.next()) {
    if (fields.field === ID) {
      id = readText(fields.ptr, fields.size);
    } else if (fields.field === METADATA) {
      const decoded = decodeWorkload(fields.ptr, fields.size);
      if (decoded !== null) workload = decoded;
    } else if (fields.field === LOCALITY) {
      const locality = new Reader();
      locality.open(fields.ptr, fields.size);
      while (locality.next()) {
        if (locality.field === REGION) region = readText(locality.ptr, locality.size);
        else if (locality.field === ZONE) zone = readText(locality.ptr, locality.size);
      }
    }
  }
  if (workload.region.length === 0) workload.region = region;
  if (workload.availabilityZone.length === 0) workload.availabilityZone = zone;
  return new Node(id, workload, utf8(id), encodeBase64(encodeWorkload(workload)));
}
