// One entry of a protobuf map, and the google.protobuf.Any that a map of filter state holds.
// https://protobuf.dev/programming-guides/proto3/#maps

import { type Metadata, writeStruct } from "./struct.ts";
import { bytesTag, WireReader } from "./wire.ts";
import type { WireWriter } from "./wire-writer.ts";

const KEY = bytesTag(1);
const VALUE = bytesTag(2);
const TYPE_URL = bytesTag(1);
const ANY_VALUE = bytesTag(2);
/** `value` of BytesValue and of StringValue, which are alike on the wire. */
const WRAPPED_VALUE = bytesTag(1);

const TYPE_PREFIX = "type.googleapis.com";
const BYTES_TYPE = Buffer.from("/google.protobuf.BytesValue");
const STRUCT_TYPE = Buffer.from("/google.protobuf.Struct");
const STRING_TYPE = Buffer.from("/google.protobuf.StringValue");

/** An entry of `map<string, string>` or `map<string, Message>`, read in place. A value given twice reads as the last one. */
export class MapEntryReader {
  bytes: Buffer = Buffer.alloc(0);
  valueStart = 0;
  valueStop = 0;
  private keyStart = 0;
  private keyStop = 0;
  private readonly fields = new WireReader();

  /** False when the entry is malformed. */
  read(bytes: Buffer, start: number, stop: number): boolean {
    const { fields } = this;
    this.bytes = bytes;
    this.keyStart = 0;
    this.keyStop = 0;
    this.valueStart = 0;
    this.valueStop = 0;
    fields.open(bytes, start, stop);
    while (fields.next()) {
      if (fields.tag === KEY) {
        this.keyStart = fields.start;
        this.keyStop = fields.stop;
      } else if (fields.tag === VALUE) {
        this.valueStart = fields.start;
        this.valueStop = fields.stop;
      }
    }
    return !fields.isMalformed;
  }

  hasKey(key: Buffer): boolean {
    return this.keyStop - this.keyStart === key.length && isAt(this.bytes, this.keyStart, key);
  }

  /** The value of a `map<string, string>`. */
  text(): string {
    return this.bytes.toString("utf8", this.valueStart, this.valueStop);
  }
}

/** An entry of `map<string, string>`. */
export function writeMapEntry(writer: WireWriter, tag: number, key: string, value: string): void {
  writer.begin(tag);
  writer.text(KEY, key);
  writer.text(VALUE, value);
  writer.end();
}

/** What an Any of filter state holds. */
export type StateValue = { readonly bytes: Buffer } | { readonly text: string } | { readonly struct: Metadata };

/** An entry of a map of filter states. */
export function writeFilterState(writer: WireWriter, tag: number, key: string, value: StateValue): void {
  writer.begin(tag);
  writer.text(KEY, key);
  writer.begin(VALUE);
  if ("struct" in value) {
    writer.text(TYPE_URL, `${TYPE_PREFIX}${STRUCT_TYPE}`);
    writeStruct(writer, ANY_VALUE, value.struct);
  } else {
    writer.text(TYPE_URL, `${TYPE_PREFIX}${"bytes" in value ? BYTES_TYPE : STRING_TYPE}`);
    writer.begin(ANY_VALUE);
    if ("bytes" in value) writer.bytes(WRAPPED_VALUE, value.bytes);
    else writer.text(WRAPPED_VALUE, value.text);
    writer.end();
  }
  writer.end();
  writer.end();
}

/** What a filter state holds, unpacked. "none": absent, of another type, or broken although its type is known. */
export class FilterState {
  kind: "none" | "bytes" | "text" | "struct" = "none";
  /** The bytes of a BytesValue, the text of a StringValue, or the Struct. */
  start = 0;
  stop = 0;
  private readonly fields = new WireReader();

  clear(): void {
    this.kind = "none";
  }

  /** Unpacks an Any; false when the Any itself is malformed. */
  read(bytes: Buffer, start: number, stop: number): boolean {
    const { fields } = this;
    let typeStart = 0;
    let typeStop = 0;
    this.kind = "none";
    this.start = 0;
    this.stop = 0;
    fields.open(bytes, start, stop);
    while (fields.next()) {
      if (fields.tag === TYPE_URL) {
        typeStart = fields.start;
        typeStop = fields.stop;
      } else if (fields.tag === ANY_VALUE) {
        this.start = fields.start;
        this.stop = fields.stop;
      }
    }
    if (fields.isMalformed) return false;
    if (endsWith(bytes, typeStart, typeStop, BYTES_TYPE)) this.unwrap(bytes, "bytes");
    else if (endsWith(bytes, typeStart, typeStop, STRUCT_TYPE)) this.kind = "struct";
    else if (endsWith(bytes, typeStart, typeStop, STRING_TYPE)) this.unwrap(bytes, "text");
    return true;
  }

  private unwrap(bytes: Buffer, kind: "bytes" | "text"): void {
    const { fields } = this;
    fields.open(bytes, this.start, this.stop);
    this.stop = this.start;
    while (fields.next()) {
      if (fields.tag !== WRAPPED_VALUE) continue;
      this.start = fields.start;
      this.stop = fields.stop;
    }
    if (!fields.isMalformed) this.kind = kind;
  }
}

function endsWith(bytes: Buffer, start: number, stop: number, suffix: Buffer): boolean {
  return stop - start >= suffix.length && isAt(bytes, stop - suffix.length, suffix);
}

/** A loop, not `compare`: for so few bytes the native call costs more. */
function isAt(bytes: Buffer, start: number, expected: Buffer): boolean {
  for (let i = 0; i < expected.length; i++) {
    if (bytes[start + i] !== expected[i]) return false;
  }
  return true;
}
