// google.protobuf.Struct by an independent implementation (protobufjs): the oracle for what the filter writes and reads.

import protobuf from "protobufjs";

export type Json = string | number | boolean | null | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json;
}

const file = protobuf.common.get("google/protobuf/struct.proto");
if (file?.nested === undefined) throw new Error("protobufjs does not know google.protobuf.Struct");
const root = protobuf.Root.fromJSON({ nested: file.nested });
const StructType = root.lookupType("google.protobuf.Struct");

interface StructMessage {
  fields: Record<string, ValueMessage>;
}
interface ValueMessage {
  kind?: string;
  nullValue?: number;
  numberValue?: number;
  stringValue?: string;
  boolValue?: boolean;
  structValue?: StructMessage;
  listValue?: { values: ValueMessage[] };
}

/** Bytes of the Struct, map entries in the order of the object's keys. */
export function encodeStruct(object: JsonObject): Buffer {
  return Buffer.from(StructType.encode(toStruct(object)).finish());
}

/** Throws on bytes that are no Struct. */
export function decodeStruct(bytes: Uint8Array): JsonObject {
  return fromStruct(StructType.decode(bytes) as unknown as StructMessage);
}

/** The same object with the keys of every level in order: the deterministic form of the exchange. */
export function sortKeys(value: JsonObject): JsonObject {
  const sorted: Record<string, Json> = {};
  for (const key of Object.keys(value).sort()) {
    const member = value[key] as Json;
    sorted[key] = isObject(member) ? sortKeys(member) : member;
  }
  return sorted;
}

export function isObject(value: Json): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function toStruct(object: JsonObject): StructMessage {
  return { fields: Object.fromEntries(Object.entries(object).map(([key, value]) => [key, toValue(value)])) };
}

function toValue(value: Json): ValueMessage {
  if (value === null) return { nullValue: 0 };
  if (typeof value === "string") return { stringValue: value };
  if (typeof value === "number") return { numberValue: value };
  if (typeof value === "boolean") return { boolValue: value };
  if (isObject(value)) return { structValue: toStruct(value) };
  return { listValue: { values: value.map(toValue) } };
}

function fromStruct(message: StructMessage): JsonObject {
  return Object.fromEntries(Object.entries(message.fields).map(([key, value]) => [key, fromValue(value)]));
}

function fromValue(message: ValueMessage): Json {
  switch (message.kind) {
    case "stringValue":
      return message.stringValue ?? "";
    case "numberValue":
      return message.numberValue ?? 0;
    case "boolValue":
      return message.boolValue ?? false;
    case "structValue":
      return message.structValue === undefined ? {} : fromStruct(message.structValue);
    case "listValue":
      return message.listValue?.values.map(fromValue) ?? [];
    default:
      return null;
  }
}
