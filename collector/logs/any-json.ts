// What stands in filter state and dynamic metadata, as JSON: google.protobuf.Struct, peers of the metadata exchange, plain values.
// An Any of another type is named, not opened: it may be anything.

import { decodeFlatNode, readFlatNodeName } from "../proto/flat-node.ts";
import { bytesTag, varintTag } from "../proto/wire.ts";
import { DOWNSTREAM_PEER, UPSTREAM_PEER, WASM_STATE_PREFIX } from "../vocabulary.ts";
import { REDACTED } from "./redact.ts";
import { emptyObject, type Json, type JsonObject, type Walk } from "./wire-json.ts";

const TYPE_URL = bytesTag(1);
const ANY_VALUE = bytesTag(2);
const WRAPPED_TEXT = bytesTag(1);
const WRAPPED_NUMBER = varintTag(1);

// Struct, its map entries, Value, ListValue
const STRUCT_FIELDS = bytesTag(1);
const KEY = bytesTag(1);
const VALUE = bytesTag(2);
const NULL_VALUE = varintTag(1);
const NUMBER_VALUE = 2 * 8 + 1;
const STRING_VALUE = bytesTag(3);
const BOOL_VALUE = varintTag(4);
const STRUCT_VALUE = bytesTag(5);
const LIST_VALUE = bytesTag(6);
const LIST_VALUES = bytesTag(1);

const FLAT_NODES: readonly string[] = [WASM_STATE_PREFIX + UPSTREAM_PEER, WASM_STATE_PREFIX + DOWNSTREAM_PEER];
const MAX_TYPE_LENGTH = 200;

/** The Any under the name of a filter state. */
export function readAny(walk: Walk, name: string, start: number, stop: number): Json | undefined {
  let type = "";
  let bytes: Buffer | null = null;
  let valueStart = 0;
  let valueStop = 0;
  walk.each(start, stop, (field) => {
    bytes = field.bytes;
    if (field.tag === TYPE_URL) {
      type = field.bytes.toString("utf8", field.start, Math.min(field.stop, field.start + MAX_TYPE_LENGTH));
    } else if (field.tag === ANY_VALUE) {
      valueStart = field.start;
      valueStop = field.stop;
    }
  });
  const value = bytes === null ? undefined : openAny(walk, name, type, bytes, valueStart, valueStop);
  if (value !== undefined) return value;
  return walk.takes(type.length) ? { "@type": type, bytes: valueStop - valueStart } : undefined;
}

/** Undefined for what is not opened. */
function openAny(walk: Walk, name: string, type: string, bytes: Buffer, start: number, stop: number): Json | undefined {
  switch (type.slice(type.lastIndexOf("/") + 1)) {
    case "google.protobuf.Struct":
      return readStruct(walk, name, start, stop);
    case "google.protobuf.StringValue":
      return readWrapped(walk, name, start, stop);
    case "google.protobuf.BoolValue":
      return readWrappedNumber(walk, start, stop) !== 0;
    case "google.protobuf.UInt32Value":
    case "google.protobuf.UInt64Value":
      return readWrappedNumber(walk, start, stop);
    case "google.protobuf.BytesValue":
      return FLAT_NODES.includes(name) ? readFlatNode(walk, bytes, start, stop) : undefined;
    default:
      return undefined;
  }
}

function readWrapped(walk: Walk, name: string, start: number, stop: number): Json | undefined {
  let text: string | undefined = "";
  walk.each(start, stop, (field) => {
    if (field.tag === WRAPPED_TEXT) text = walk.text(field.start, field.stop);
  });
  return text === undefined ? undefined : walk.redaction.value(name, text);
}

function readWrappedNumber(walk: Walk, start: number, stop: number): number {
  let value = 0;
  walk.each(start, stop, (field) => {
    if (field.tag === WRAPPED_NUMBER) value = field.uint64();
  });
  return value;
}

/** A peer as wasm filters leave it: a FlatBuffer in a BytesValue. */
function readFlatNode(walk: Walk, bytes: Buffer, start: number, stop: number): Json | undefined {
  let at = 0;
  let end = 0;
  walk.each(start, stop, (field) => {
    if (field.tag !== WRAPPED_TEXT) return;
    at = field.start;
    end = field.stop;
  });
  const node = decodeFlatNode(bytes, at, end);
  if (node === null) return undefined;
  const { namespace, workloadName, clusterId } = node;
  const peer: JsonObject = { name: readFlatNodeName(bytes, at, end), namespace, workloadName, clusterId };
  const labels = emptyObject();
  for (const [key, label] of node.labels) {
    if (walk.takes(key.length + label.length)) labels[key] = walk.redaction.value(key, label);
  }
  return { ...peer, labels };
}

/** A google.protobuf.Struct. */
export function readStruct(walk: Walk, _name: string, start: number, stop: number): JsonObject | undefined {
  const struct = emptyObject();
  const isRead = walk.each(start, stop, (field) => {
    if (field.tag === STRUCT_FIELDS) addEntry(walk, struct, field.start, field.stop);
  });
  return isRead ? struct : undefined;
}

function addEntry(walk: Walk, struct: JsonObject, start: number, stop: number): void {
  let name: string | undefined = "";
  let valueStart = 0;
  let valueStop = 0;
  walk.each(start, stop, (field) => {
    if (field.tag === KEY) {
      name = walk.text(field.start, field.stop);
    } else if (field.tag === VALUE) {
      valueStart = field.start;
      valueStop = field.stop;
    }
  });
  if (name === undefined) return;
  const value = walk.redaction.isSecret(name) ? REDACTED : readValue(walk, name, valueStart, valueStop);
  if (value !== undefined) struct[name] = value;
}

/** A google.protobuf.Value: of its members the one that stands last. */
function readValue(walk: Walk, name: string, start: number, stop: number): Json | undefined {
  let value: Json | undefined;
  walk.each(start, stop, (field) => {
    switch (field.tag) {
      case NULL_VALUE:
        value = null;
        break;
      case NUMBER_VALUE:
        value = field.bytes.readDoubleLE(field.start); // NaN reads null in JSON
        break;
      case STRING_VALUE:
        value = namedText(walk, name, field.start, field.stop);
        break;
      case BOOL_VALUE:
        value = field.bool();
        break;
      case STRUCT_VALUE:
        value = readStruct(walk, name, field.start, field.stop);
        break;
      case LIST_VALUE:
        value = readList(walk, name, field.start, field.stop);
        break;
    }
  });
  return value;
}

function namedText(walk: Walk, name: string, start: number, stop: number): string | undefined {
  const text = walk.text(start, stop);
  return text === undefined ? undefined : walk.redaction.value(name, text);
}

function readList(walk: Walk, name: string, start: number, stop: number): Json {
  const values: Json[] = [];
  walk.each(start, stop, (field) => {
    if (field.tag !== LIST_VALUES || !walk.takes(0)) return;
    const value = readValue(walk, name, field.start, field.stop);
    if (value !== undefined) values.push(value);
  });
  return values;
}
