// The types of filter states that wasm sets. Undeclared, a state is bytes: no expression finds it equal to a text, or looks into it.

import { declareFilterState } from "./host.ts";
import { Writer } from "./wire/writer.ts";

// DeclarePropertyArguments { string name = 1; bool readonly = 2; WasmType type = 3; string schema = 4; LifeSpan span = 5; }
const NAME_TAG: u8 = 0x0a;
const TYPE_TAG: u8 = 0x18;
const SCHEMA_TAG: u8 = 0x22;
const TYPE_STRING: u8 = 1;
const TYPE_PROTOBUF: u8 = 3;
const STRUCT_SCHEMA = "type.googleapis.com/google.protobuf.Struct";

/** The state is text. Call in proxy_on_configure; again is harmless. */
export function declareText(name: string): void {
  declare(name, TYPE_STRING, "");
}

/** The state is a google.protobuf.Struct. Call in proxy_on_configure; again is harmless. */
export function declareStruct(name: string): void {
  declare(name, TYPE_PROTOBUF, STRUCT_SCHEMA);
}

function declare(name: string, type: u8, schema: string): void {
  const out = new Writer();
  writeText(out, NAME_TAG, name);
  out.u8(TYPE_TAG);
  out.u8(type);
  if (schema.length > 0) writeText(out, SCHEMA_TAG, schema);
  declareFilterState(out.take());
}

function writeText(out: Writer, tag: u8, text: string): void {
  out.u8(tag);
  out.varint(<u32>String.UTF8.byteLength(text));
  out.text(text);
}
