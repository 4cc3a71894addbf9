// The bytes that two proxies exchange at the head of a TCP connection, by an independent implementation (protobufjs): the oracle for
// what the filter writes and reads. Source: istio/proxy, extensions/metadata_exchange.
//
//   offset  0             4                      8
//          +-------------+----------------------+------------------------------------------------------------+
//          | 3D 23 04 67 | N, u32 big-endian    | N bytes: Any of a Struct with the sender's metadata and id |
//          +-------------+----------------------+------------------------------------------------------------+

import protobuf from "protobufjs";
import { PEER_ID_HEADER, PEER_METADATA_HEADER } from "../../filter/vocabulary/peer-metadata.ts";
import { exchangedMetadata } from "./mesh.ts";
import type { Node } from "./property.ts";
import { decodeStruct, encodeStruct, isObject, type JsonObject } from "./struct.ts";

export const PREFIX_MAGIC = Buffer.from([0x3d, 0x23, 0x04, 0x67]);
const HEADER_BYTES = 8;
const STRUCT_URL = "type.googleapis.com/google.protobuf.Struct";
const AnyType = protobuf
  .parse(`syntax = "proto3"; message Any { string type_url = 1; bytes value = 2; }`)
  .root.lookupType("Any");

/** Magic, length and these bytes, whatever they are. `length`: what the header says instead of the truth. */
export function frame(body: Uint8Array, length = body.length): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  PREFIX_MAGIC.copy(header);
  header.writeUInt32BE(length, PREFIX_MAGIC.length);
  return Buffer.concat([header, body]);
}

/** The bytes of an Any. */
export function encodeAny(typeUrl: string, value: Uint8Array): Buffer {
  return Buffer.from(AnyType.encode({ typeUrl, value }).finish());
}

/** A prefix that holds this Struct. */
export function structPrefix(struct: JsonObject): Buffer {
  return frame(encodeAny(STRUCT_URL, encodeStruct(struct)));
}

/** The prefix that a node's proxy sends. */
export function prefixOf(node: Node, metadata: JsonObject = exchangedMetadata(node)): Buffer {
  return structPrefix({ [PEER_METADATA_HEADER]: metadata, [PEER_ID_HEADER]: node.id });
}

export interface Prefix {
  readonly metadata: JsonObject;
  readonly id: string;
  /** Bytes of the prefix, its header included. */
  readonly size: number;
}

/** The prefix at the head of some bytes; undefined when they do not begin with the magic. Throws on one that is cut or is no Any of a Struct. */
export function readPrefix(bytes: Buffer): Prefix | undefined {
  if (!bytes.subarray(0, PREFIX_MAGIC.length).equals(PREFIX_MAGIC)) return undefined;
  const size = HEADER_BYTES + bytes.readUInt32BE(PREFIX_MAGIC.length);
  if (size > bytes.length) throw new RangeError(`a prefix of ${size} bytes in ${bytes.length}`);
  const any = AnyType.decode(bytes.subarray(HEADER_BYTES, size)) as unknown as { typeUrl: string; value: Uint8Array };
  if (any.typeUrl !== STRUCT_URL) throw new RangeError(`an Any of ${any.typeUrl}`);
  const struct = decodeStruct(any.value);
  const metadata = struct[PEER_METADATA_HEADER] ?? null;
  if (!isObject(metadata)) throw new RangeError("no metadata in the prefix");
  return { metadata, id: String(struct[PEER_ID_HEADER] ?? ""), size };
}
