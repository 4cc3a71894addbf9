// google.protobuf.Struct as node and peer metadata use it: text fields, and one nested Struct of labels.
// https://github.com/protocolbuffers/protobuf/blob/main/src/google/protobuf/struct.proto
//
//   Struct { map<string, Value> fields = 1; }   a map entry: { string key = 1; Value value = 2; }
//   Value  { oneof: null 1, double 2, string 3, bool 4, Struct 5, list 6 }
//
// Two levels are read, by two loops: depth in the bytes is never depth on the stack.

import { LABELS_KEY } from "../vocabulary.ts";
import { bytesTag, WireReader } from "./wire.ts";
import type { WireWriter } from "./wire-writer.ts";

const FIELDS = bytesTag(1);
const ENTRY_KEY = bytesTag(1);
const ENTRY_VALUE = bytesTag(2);
const STRING_VALUE = bytesTag(3);
const STRUCT_VALUE = bytesTag(5);

const LABELS_FIELD = LABELS_KEY.toLowerCase();

export interface Metadata {
  /** Text fields by lower-case key: Istio writes `NAMESPACE` in node metadata and `namespace` in filter state. */
  readonly texts: Map<string, string>;
  /** The nested Struct `LABELS`: its text fields, keys as written. */
  readonly labels: Map<string, string>;
}

/** Fields of other kinds are left out; null when the bytes are no Struct. */
export function decodeMetadata(bytes: Buffer, start: number, stop: number): Metadata | null {
  const metadata: Metadata = { texts: new Map(), labels: new Map() };
  return mergeMetadata(bytes, start, stop, metadata) ? metadata : null;
}

/**
 * Adds the fields of one more occurrence of the message, as protobuf merges them; false when it is malformed.
 * Of a key that stands twice the last value counts, whatever its kind.
 */
export function mergeMetadata(bytes: Buffer, start: number, stop: number, metadata: Metadata): boolean {
  outer.open(bytes, start, stop);
  while (outer.next()) {
    const name = outer.key.toLowerCase();
    if (outer.text === null) metadata.texts.delete(name);
    else metadata.texts.set(name, outer.text);
    if (name !== LABELS_FIELD) continue;
    metadata.labels.clear();
    inner.open(bytes, outer.structStart, outer.structStop);
    while (inner.next()) {
      if (inner.text !== null) metadata.labels.set(inner.key, inner.text);
    }
    if (inner.isMalformed) return false;
  }
  return !outer.isMalformed;
}

/** The same of what JSON has: `{"NAME": "web-1", "LABELS": {"app": "web"}}`. Total. */
export function metadataOfJson(json: unknown): Metadata {
  const metadata: Metadata = { texts: new Map(), labels: new Map() };
  for (const [key, value] of textsOf(json)) metadata.texts.set(key.toLowerCase(), value);
  const { [LABELS_KEY]: labels } = (json ?? {}) as Readonly<Record<string, unknown>>;
  for (const [key, value] of textsOf(labels)) metadata.labels.set(key, value);
  return metadata;
}

function textsOf(json: unknown): [string, string][] {
  if (typeof json !== "object" || json === null) return [];
  return Object.entries(json).filter((entry): entry is [string, string] => typeof entry[1] === "string");
}

/** The Struct that these fields make. */
export function writeStruct(writer: WireWriter, tag: number, { texts, labels }: Metadata): void {
  writer.begin(tag);
  for (const [key, text] of texts) writeField(writer, key, text);
  if (labels.size > 0) {
    writer.begin(FIELDS);
    writer.text(ENTRY_KEY, LABELS_KEY);
    writer.begin(ENTRY_VALUE);
    writer.begin(STRUCT_VALUE);
    for (const [key, text] of labels) writeField(writer, key, text);
    writer.end();
    writer.end();
    writer.end();
  }
  writer.end();
}

function writeField(writer: WireWriter, key: string, text: string): void {
  writer.begin(FIELDS);
  writer.text(ENTRY_KEY, key);
  writer.begin(ENTRY_VALUE);
  writer.text(STRING_VALUE, text);
  writer.end();
  writer.end();
}

/** Reads the fields of one Struct: `while (reader.next()) { reader.key, text, structStart, structStop }`. */
class StructReader {
  key = "";
  /** Of a string value; null for every other kind. */
  text: string | null = null;
  /** Where a nested Struct lies; empty for every other kind. One given in two pieces, as no serializer does, reads as the last. */
  structStart = 0;
  structStop = 0;
  isMalformed = false;
  private readonly fields = new WireReader();
  private readonly nested = new WireReader();

  open(bytes: Buffer, start: number, stop: number): void {
    this.fields.open(bytes, start, stop);
    this.isMalformed = false;
  }

  next(): boolean {
    while (this.fields.next()) {
      if (this.fields.tag === FIELDS) return this.readEntry() || this.fail();
    }
    return this.fields.isMalformed ? this.fail() : false;
  }

  private readEntry(): boolean {
    const { fields, nested } = this;
    let start = 0;
    let stop = 0;
    this.key = "";
    nested.open(fields.bytes, fields.start, fields.stop);
    while (nested.next()) {
      if (nested.tag === ENTRY_KEY) {
        this.key = nested.text();
      } else if (nested.tag === ENTRY_VALUE) {
        start = nested.start;
        stop = nested.stop;
      }
    }
    return !nested.isMalformed && this.readValue(start, stop);
  }

  /** A Value is a oneof: the member that stands last counts. */
  private readValue(start: number, stop: number): boolean {
    const { fields, nested } = this;
    this.text = null;
    this.structStart = 0;
    this.structStop = 0;
    nested.open(fields.bytes, start, stop);
    while (nested.next()) {
      this.text = nested.tag === STRING_VALUE ? nested.text() : null;
      const isStruct = nested.tag === STRUCT_VALUE;
      this.structStart = isStruct ? nested.start : 0;
      this.structStop = isStruct ? nested.stop : 0;
    }
    return !nested.isMalformed;
  }

  private fail(): boolean {
    this.isMalformed = true;
    return false;
  }
}

const outer = new StructReader();
const inner = new StructReader();
