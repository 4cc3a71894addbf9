// The prefix of Istio's TCP metadata exchange, written and read by code of its own, so that the filter is not its own judge.
//
//   3D 23 04 67 | u32 big-endian N | N bytes: google.protobuf.Any of a google.protobuf.Struct

import { PEER_ID_HEADER, PEER_METADATA_HEADER } from "../../collector/vocabulary.ts";
import { decodeStruct, encodeStruct, type JsonObject } from "../host/struct.ts";

export const MAGIC = Buffer.from("3d230467", "hex");
const TYPE_URL = "type.googleapis.com/google.protobuf.Struct";
const HEADER_BYTES = 8;

export interface Told {
  readonly id: string;
  readonly metadata: JsonObject;
}

export function encodePrefix({ id, metadata }: Told): Buffer {
  const struct = encodeStruct({ [PEER_METADATA_HEADER]: metadata, [PEER_ID_HEADER]: id });
  return frame(Buffer.concat([field(1, Buffer.from(TYPE_URL)), field(2, struct)]));
}

/** Magic and length before that. */
export function frame(body: Buffer, length: number = body.length): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(length);
  return Buffer.concat([MAGIC, size, body]);
}

/** What the prefix at the beginning tells, and the bytes after it; null when there is none. Throws when it is broken. */
export function splitPrefix(bytes: Buffer): { told: Told; rest: Buffer } | null {
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) return null;
  const end = HEADER_BYTES + bytes.readUInt32BE(MAGIC.length);
  const typeUrl = readField(bytes.subarray(HEADER_BYTES, end), 1);
  if (typeUrl.value.toString() !== TYPE_URL) throw new Error(`a prefix of ${typeUrl.value}`);
  const struct = decodeStruct(readField(typeUrl.rest, 2).value);
  const told = {
    id: struct[PEER_ID_HEADER] as string,
    metadata: struct[PEER_METADATA_HEADER] as JsonObject,
  };
  return { told, rest: bytes.subarray(end) };
}

function field(number: number, value: Buffer): Buffer {
  return Buffer.concat([Buffer.from([(number << 3) | 2]), varint(value.length), value]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let left = value;
  for (; left > 0x7f; left >>>= 7) bytes.push((left & 0x7f) | 0x80);
  return Buffer.from([...bytes, left]);
}

function readField(bytes: Buffer, number: number): { value: Buffer; rest: Buffer } {
  if (bytes[0] !== ((number << 3) | 2)) throw new Error(`no field ${number}: ${bytes.toString("hex")}`);
  let length = 0;
  let at = 1;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++] as number;
    length |= (byte & 0x7f) << shift;
    if (byte < 0x80) break;
  }
  return { value: bytes.subarray(at, at + length), rest: bytes.subarray(at + length) };
}
