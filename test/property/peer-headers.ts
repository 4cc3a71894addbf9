// What a peer, or who plays one, may write into its metadata header: valid metadata, and every way of breaking it that we know of.
// And who judges what is malformed: protobufjs, which shares nothing with the filter.

import protobuf from "protobufjs";
import { CANONICAL_NAME_LABEL, LABELS_KEY, RECOMMENDED_APP_LABEL } from "../../filter/vocabulary/peer-metadata.ts";
import { encodeMetadata, exchangedMetadata, makeNode } from "../host/mesh.ts";
import { decodeStruct, encodeStruct, type Json, type JsonObject } from "../host/struct.ts";

export type Random = (bound: number) => number;

/** The filter's bound unless it is told another: a longer header is none of ours or Istio's, whatever it holds. */
const MAX_HEADER_BYTES = 16 * 1024;

const KNOWN_KEYS = [
  "NAME",
  "NAMESPACE",
  "WORKLOAD_NAME",
  "CLUSTER_ID",
  "OWNER",
  "IDENTITY",
  LABELS_KEY,
  "MESH_ID",
  "x",
];
const KNOWN_LABELS = ["app", "version", CANONICAL_NAME_LABEL, RECOMMENDED_APP_LABEL, "other", ""];
const TEXTS = [
  "",
  "x",
  "a;.;b",
  ";.;",
  "a=.=b;.;reporter=.=source",
  "ends;.",
  "dots...",
  ".",
  "tab\tnewline\nreturn\r",
  "\u0000",
  "\u007f\u0080\u009f",
  "größe",
  "日本",
  "😀",
  "\ufeffmark",
  '"quoted\\',
  "x".repeat(255),
  "é".repeat(128),
  "x".repeat(300),
];
/** Bytes that are no UTF-8: an overlong NUL, a surrogate, beyond the last code point, cut short, alone. */
const NO_UTF8 = ["c080", "eda080", "f4908080", "e282", "ff", "80", "41c328"].map((hex) => Buffer.from(hex, "hex"));
/** What no encoder writes on purpose, as the bytes of one field or more. */
const ODD_FIELDS = [
  "0b0c", // a group
  "0b", // a group without end
  "0200", // field number 0
  "0a", // a length is missing
  "0aff", // a length is cut short
  "0affffffff0f", // 4 GiB
  "0affffffffffffffffff01", // 2^64 - 1
  "ffffffffffffffffffffff", // a varint without end
  "808080808080808080808000", // a varint of more than ten bytes
  "8a8080800000", // a tag in more bytes than it needs
  "0801", // Struct.fields as a number
  "789601", // an unknown varint, and unknown fields of the other wire types
  "790102030405060708",
  "7d01020304",
  "7a02ffff",
  "7e", // wire type 6
].map((hex) => Buffer.from(hex, "hex"));

/** A drawing of header values, latin1 with one character per byte, many of them drawn more than once. */
export function peerHeaders(random: Random): () => string {
  const pick = <T>(values: readonly T[]): T => values[random(values.length)] as T;
  const text = () => (random(3) === 0 ? `v${random(50)}` : pick(TEXTS));

  function value(depth: number): Json {
    const kind = random(depth > 3 ? 5 : 7);
    if (kind < 3) return text();
    if (kind === 3) return random(1_000) / 7;
    if (kind === 4) return pick([true, false, null]);
    return kind === 5 ? [value(depth + 1), value(depth + 1)] : object(depth + 1, KNOWN_LABELS);
  }

  function object(depth: number, keys: readonly string[]): JsonObject {
    return Object.fromEntries(Array.from({ length: random(keys.length + 1) }, () => [pick(keys), value(depth)]));
  }

  const pool = Array.from({ length: 700 }, (_, i) => encodeMetadata(exchangedMetadata(makeNode(`s${i}`, "v1", "::1"))));
  const randomBytes = (length: number) => Buffer.from(Array.from({ length }, () => random(256)));
  const anyObject = () => Buffer.from(encodeMetadata(object(0, KNOWN_KEYS)), "base64");
  const anyBytes = () => (random(2) === 0 ? Buffer.from(pick(pool), "base64") : anyObject());

  function injured(bytes: Buffer): Buffer {
    const copy = Buffer.from(bytes);
    for (let changes = 1 + random(4); changes > 0 && copy.length > 0; changes--)
      copy[random(copy.length)] = random(256);
    const cut = random(copy.length + 1);
    if (random(3) === 0) return copy.subarray(0, cut);
    return random(4) === 0 ? Buffer.concat([copy.subarray(0, cut), randomBytes(random(6)), copy.subarray(cut)]) : copy;
  }

  /** An odd field beside the others, inside an entry, or inside a value. */
  function odd(): Buffer {
    const strange = pick(ODD_FIELDS);
    const key = delimited(1, Buffer.from(pick(KNOWN_KEYS)));
    const string = delimited(3, Buffer.from(text()));
    const where = random(4);
    if (where === 0) return Buffer.concat([anyObject(), strange]);
    if (where === 1) return Buffer.concat([strange, anyObject()]);
    if (where === 2) return delimited(1, key, strange, delimited(2, string));
    return delimited(1, key, delimited(2, ...(random(2) === 0 ? [strange, string] : [string, strange])));
  }

  function deep(): Buffer {
    let inner = delimited(3, Buffer.from("bottom"));
    for (let depth = random(120); depth > 0; depth--) inner = nested(random(3) === 0 ? "x" : LABELS_KEY, inner);
    return delimited(1, delimited(1, Buffer.from(pick(KNOWN_KEYS))), delimited(2, inner));
  }

  function badlyPadded(header: string): string {
    const bare = header.replace(/=+$/, "");
    const at = random(bare.length + 1);
    return pick([
      bare,
      `${bare}=`,
      `${bare}==`,
      `${bare}===`,
      `=${bare}`,
      `${bare.slice(0, at)}=${bare.slice(at)}`,
      `${bare.slice(0, at)} ${bare.slice(at)}`,
      bare.replaceAll("A", "-").replaceAll("E", "_"),
      `${bare}A`,
      "=",
      "==",
    ]);
  }

  const kinds: (() => string)[] = [
    () => pool[0] as string,
    () => pick(pool),
    () => pick(pool),
    () => anyObject().toString("base64"),
    () => injured(anyBytes()).toString("base64"),
    () => injured(anyBytes()).toString("base64"),
    () => pick(pool).slice(0, random(800)),
    () => badlyPadded(random(2) === 0 ? pick(pool) : anyObject().toString("base64")),
    () => odd().toString("base64"),
    () => deep().toString("base64"),
    () => Buffer.concat([anyBytes(), anyBytes()]).toString("base64"),
    () => entry(pick(KNOWN_KEYS), Buffer.concat([Buffer.from(text()), pick(NO_UTF8)])).toString("base64"),
    () => randomBytes(random(200)).toString("base64"),
    () => randomBytes(random(60)).toString("latin1"),
    () => entry(pick(KNOWN_KEYS), Buffer.alloc(12_000 + random(400), 0x61)).toString("base64"), // near the bound
  ];
  return () => {
    if (random(500) === 0) return "A".repeat(pick([MAX_HEADER_BYTES + 1, 100_000, 1_000_000]));
    return pick(kinds)();
  };
}

/** Bytes of a header, by RFC 4648 with optional padding; null when it is no base64. */
function decodeHeader(header: string): Buffer | null {
  const bare = header.replace(/={1,2}$/, "");
  return /^[A-Za-z0-9+/]*$/.test(bare) && bare.length % 4 !== 1 ? Buffer.from(bare, "base64") : null;
}

/** What protobufjs finds in it, nested values and all; null when it finds anything wrong, or more than one way to write it. */
export function plainMetadata(header: string): JsonObject | null {
  const bytes = decodeHeader(header);
  if (bytes === null) return null;
  try {
    const object = decodeStruct(bytes);
    return encodeStruct(object).length === bytes.length ? object : null;
  } catch (_malformed: unknown) {
    return null;
  }
}

// Struct as the filter reads it: what it needs no word of stays bytes, and so do texts, in which broken UTF-8 is replaced.
const Shallow = protobuf.parse(`
  syntax = "proto3";
  message Struct { repeated Entry fields = 1; }
  message Entry { bytes key = 1; bytes value = 2; }
  message Value { oneof kind { int32 null = 1; double number = 2; bytes text = 3; bool bool = 4; bytes struct = 5; bytes list = 6; } }
`).root;
const StructType = Shallow.lookupType("Struct");
const ValueType = Shallow.lookupType("Value");

interface ShallowStruct {
  readonly fields: readonly { readonly key: Buffer; readonly value: Buffer }[];
  readonly $unknowns?: readonly Buffer[];
}

/** Why a header names no peer; null when it names one. */
export type Refusal = "peer_too_large" | "peer_malformed" | null;

/**
 * What the filter has to make of a header. It differs from protobufjs, strict on the whole of a Struct, so: too long a header is
 * refused unread, and groups are, and `fields` of another wire type; while in values beside those that name a workload nothing
 * is checked, nor is UTF-8, and a tag may take up to ten bytes.
 */
export function refusalOf(header: string): Refusal {
  if (header.length > MAX_HEADER_BYTES) return "peer_too_large";
  const bytes = decodeHeader(header);
  if (bytes === null) return "peer_malformed";
  try {
    for (const { key, struct } of readShallow(bytes)) if (key === LABELS_KEY && struct !== null) readShallow(struct);
    return null;
  } catch (_malformed: unknown) {
    return "peer_malformed";
  }
}

/** The entries of a Struct, with the bytes of those values that are Structs. Throws on broken bytes. */
function readShallow(bytes: Buffer): { key: string; struct: Buffer | null }[] {
  const { fields, $unknowns = [] } = StructType.decode(new FilterReader(bytes)) as unknown as ShallowStruct;
  for (const raw of $unknowns) if (new FilterReader(raw).tag() >>> 3 === 1) throw new Error("fields is no message");
  return fields.map(({ key, value }) => {
    const { kind, struct } = ValueType.decode(new FilterReader(value)) as unknown as { kind?: string; struct: Buffer };
    return { key: Buffer.from(key).toString("latin1"), struct: kind === "struct" ? Buffer.from(struct) : null };
  });
}

const LARGEST_FIELD = 0x1fffffff;

/** protobufjs's reader, refusing groups and taking tags of up to ten bytes. */
class FilterReader extends protobuf.BufferReader {
  override discardUnknown = false;

  override skipType(wireType: number, ...rest: number[]): protobuf.BufferReader {
    if (wireType === 3) throw new Error("a group");
    return (super.skipType as (...parameters: number[]) => protobuf.BufferReader).call(this, wireType, ...rest);
  }

  override tag(): number {
    const tag = BigInt(this.uint64().toString());
    const field = BigInt.asUintN(32, tag >> 3n);
    return ((Math.min(Number(field), LARGEST_FIELD) << 3) | Number(tag & 7n)) >>> 0;
  }
}

function delimited(field: number, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const length = protobuf.Writer.create().uint32(body.length).finish();
  return Buffer.concat([Buffer.from([(field << 3) | 2]), length, body]);
}

/** `Struct.fields`: one entry with a text. */
function entry(key: string, text: Buffer): Buffer {
  return delimited(1, delimited(1, Buffer.from(key)), delimited(2, delimited(3, text)));
}

/** `Value.struct_value`: one entry with that value. */
function nested(key: string, value: Buffer): Buffer {
  return delimited(5, delimited(1, delimited(1, Buffer.from(key)), delimited(2, value)));
}
