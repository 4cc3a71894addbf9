// opentelemetry.proto.common.v1 and resource.v1: attributes, as far as they hold one value each.
// https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/common/v1/common.proto
//
//   Resource { KeyValue attributes 1 ... }   KeyValue { string key 1, AnyValue value 2 }
//   AnyValue { oneof: string 1, bool 2, int64 3, double 4, ArrayValue 5, KeyValueList 6, bytes 7 }
//
// Lists and maps are not looked into: depth in the bytes is never depth on the stack.

import { bytesTag, varintTag, WireReader } from "./wire.ts";

const ATTRIBUTES = bytesTag(1);
const KEY = bytesTag(1);
const VALUE = bytesTag(2);
const STRING_VALUE = bytesTag(1);
const BOOL_VALUE = varintTag(2);
const INT_VALUE = varintTag(3);
const DOUBLE_VALUE = 4 * 8 + 1;
const ARRAY_VALUE = bytesTag(5);
const MAP_VALUE = bytesTag(6);
const BYTES_VALUE = bytesTag(7);

/** OpenTelemetry's own SDKs stop at 128. */
const MAX_ATTRIBUTES = 512;

/** Beyond 2^53 the nearest number. */
export type AttributeValue = string | number | boolean;

/** By key; of one that stands twice the last counts. Values of other kinds (lists, maps, bytes, none) are left out. */
export type Attributes = Map<string, AttributeValue>;

const resource = new WireReader();
const keyValue = new WireReader();
const anyValue = new WireReader();

/** The attributes of a Resource; false when it is malformed, or has more of them than anybody writes. */
export function readResource(bytes: Buffer, start: number, stop: number, attributes: Attributes): boolean {
  resource.open(bytes, start, stop);
  while (resource.next()) {
    if (resource.tag === ATTRIBUTES && !readKeyValue(bytes, resource.start, resource.stop, attributes)) return false;
  }
  return !resource.isMalformed;
}

/** Adds one KeyValue. False when it is malformed, or one too many. */
export function readKeyValue(bytes: Buffer, start: number, stop: number, attributes: Attributes): boolean {
  let key = "";
  let value: AttributeValue | null = null;
  keyValue.open(bytes, start, stop);
  while (keyValue.next()) {
    if (keyValue.tag === KEY) {
      key = keyValue.text();
    } else if (keyValue.tag === VALUE) {
      value = readAnyValue(bytes, keyValue.start, keyValue.stop);
      if (anyValue.isMalformed) return false;
    }
  }
  if (value !== null) attributes.set(key, value);
  return !keyValue.isMalformed && attributes.size <= MAX_ATTRIBUTES;
}

/** The same, told value by value. */
export function addAttribute(attributes: Attributes, key: string, value: AttributeValue | null): boolean {
  if (value !== null) attributes.set(key, value);
  return attributes.size <= MAX_ATTRIBUTES;
}

/** A oneof: the member that stands last counts. */
function readAnyValue(bytes: Buffer, start: number, stop: number): AttributeValue | null {
  let value: AttributeValue | null = null;
  anyValue.open(bytes, start, stop);
  while (anyValue.next()) {
    switch (anyValue.tag) {
      case STRING_VALUE:
        value = anyValue.text();
        break;
      case BOOL_VALUE:
        value = anyValue.bool();
        break;
      case INT_VALUE:
        value = anyValue.int64();
        break;
      case DOUBLE_VALUE:
        value = bytes.readDoubleLE(anyValue.start);
        break;
      case ARRAY_VALUE:
      case MAP_VALUE:
      case BYTES_VALUE:
        value = null;
        break;
    }
  }
  return value;
}
