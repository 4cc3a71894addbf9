// This proxy's own workload and what it sends to peers. Read once per VM, when it is first needed.

import { ExchangeConfig } from "./config/exchange.ts";
import { noteColdWork } from "./garbage.ts";
import { countFault, LogLevel, log, readProperty, utf8, valuePtr, valueSize } from "./host.ts";
import { Fault } from "./vocabulary/metrics.ts";
import { encodeBase64 } from "./wire/base64.ts";
import { Reader } from "./wire/protobuf.ts";
import { readText } from "./wire/text.ts";
import { decodeOwnWorkload, encodeWorkload, Workload } from "./workload.ts";

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

/** A longer metadata header of our own is worth a warning: it travels with each request, and Envoy's limit is 60 KiB for all headers. */
const LONG_HEADER_BYTES = 8192;

export class Node {
  constructor(
    readonly id: string,
    readonly workload: Workload,
    /** Value of the exchange's id header: the node id, verbatim. */
    readonly idHeader: ArrayBuffer,
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

/**
 * Value of the exchange's metadata header under this configuration. What would be too long goes without the additional labels; empty
 * when even that is too long, and nothing must be sent.
 */
export function ownMetadata(exchange: ExchangeConfig): ArrayBuffer {
  const known = exchange.ownMetadata;
  if (known !== null) return known;
  const made = makeMetadata(exchange);
  exchange.ownMetadata = made;
  return made;
}

function makeMetadata(exchange: ExchangeConfig): ArrayBuffer {
  noteColdWork();
  const workload = ownNode().workload;
  let header = headerOf(workload, exchange.additionalLabels);
  let size = header.byteLength;
  if (size > exchange.maxHeaderBytes && exchange.additionalLabels.length > 0) {
    complain(size, exchange.maxHeaderBytes, "the additional labels are left out");
    header = headerOf(workload, []);
    size = header.byteLength;
  }
  if (size > exchange.maxHeaderBytes) {
    complain(size, exchange.maxHeaderBytes, "none is sent");
    return new ArrayBuffer(0);
  }
  if (size > LONG_HEADER_BYTES) log(LogLevel.Warn, `meshtally: each request carries ${size} bytes of own metadata`);
  return header;
}

function headerOf(workload: Workload, additionalLabels: readonly string[]): ArrayBuffer {
  const bytes = encodeWorkload(workload, additionalLabels);
  return encodeBase64(changetype<usize>(bytes), bytes.length);
}

function complain(size: i32, most: i32, consequence: string): void {
  log(LogLevel.Warn, `meshtally: own metadata has ${size} bytes, more than max_header_bytes ${most}: ${consequence}`);
  countFault(Fault.OwnMetadataTooLarge);
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
      const decoded = decodeOwnWorkload(fields.ptr, fields.size);
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
  return new Node(id, workload, utf8(id));
}
