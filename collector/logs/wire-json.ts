// Protobuf messages -> JSON as proto3 has it, by tables of their fields. Bounded in depth and size, total: what is malformed ends its message.
// https://protobuf.dev/programming-guides/json/
//
// Two things differ from proto3's JSON: 64-bit numbers are numbers, and values are redacted on the way.

import { WireReader } from "../proto/wire.ts";
import type { Redaction } from "./redact.ts";

export type Json = string | number | boolean | null | readonly Json[] | JsonObject;
export interface JsonObject {
  [name: string]: Json;
}

/** Reads the value of the walk's current field; undefined when there is no room for it, or it is broken. */
export type Read = (walk: Walk, field: WireReader) => Json | undefined;

interface Field {
  readonly name: string;
  readonly read: Read;
  /** A field that stands several times: the last one counts, all of them make a list, or each is an entry of a map. */
  readonly kind: "one" | "list" | "map";
}

/** By tag: number << 3 | wire type. */
export type Fields = ReadonlyMap<number, Field>;

/** Nesting of messages; a value of google.protobuf.Struct takes three for each level of its own. */
const MAX_DEPTH = 24;
/** Of one text; what is longer is cut. */
const MAX_TEXT_BYTES = 4096;
/** What a value counts besides its text. */
const VALUE_COST = 8;
const CUT = "…";

export class Walk {
  /** Whether something was left out for want of room. */
  isCut = false;
  private readonly readers = Array.from({ length: MAX_DEPTH }, () => new WireReader());
  private depth = 0;
  private room = 0;
  private bytes: Buffer = Buffer.alloc(0);

  constructor(readonly redaction: Redaction) {}

  /** The message at bytes[start, stop), in at most some `maxLength` characters. */
  start(bytes: Buffer, start: number, stop: number, fields: Fields, maxLength: number): JsonObject {
    this.bytes = bytes;
    this.depth = 0;
    this.room = maxLength;
    this.isCut = false;
    return this.message(start, stop, fields) ?? emptyObject();
  }

  /** One nested message; undefined where it is too deep. */
  message(start: number, stop: number, fields: Fields): JsonObject | undefined {
    const object = emptyObject();
    const isRead = this.each(start, stop, (reader) => {
      const field = fields.get(reader.tag);
      if (field !== undefined && this.takes(field.name.length)) this.add(object, field, reader);
    });
    return isRead ? object : undefined;
  }

  /** Calls for each field of a nested message, until its end or its first broken byte. False where it is too deep. */
  each(start: number, stop: number, visit: (reader: WireReader) => void): boolean {
    const reader = this.readers[this.depth];
    if (reader === undefined) {
      this.isCut = true;
      return false;
    }
    this.depth++;
    reader.open(this.bytes, start, stop);
    while (this.room > 0 && reader.next()) visit(reader);
    this.depth--;
    return true;
  }

  /** The text there, its end cut off where it is too long; undefined when there is no room for it. */
  text(start: number, stop: number): string | undefined {
    const end = Math.min(stop, start + MAX_TEXT_BYTES);
    if (!this.takes(end - start)) return undefined;
    const text = this.bytes.toString("utf8", start, end);
    return end < stop ? text + CUT : text;
  }

  /** Whether there is room for as many characters more; if so, it is less by them. */
  takes(length: number): boolean {
    const cost = length + VALUE_COST;
    if (cost > this.room) {
      this.isCut = true;
      return false;
    }
    this.room -= cost;
    return true;
  }

  private add(object: JsonObject, { name, read, kind }: Field, reader: WireReader): void {
    const value = read(this, reader);
    if (value === undefined) return;
    if (kind === "one") object[name] = value;
    else if (kind === "list") object[name] = [...((object[name] as readonly Json[] | undefined) ?? []), value];
    else object[name] = Object.assign((object[name] as JsonObject | undefined) ?? emptyObject(), value);
  }
}

/** Names in it are the sender's: `__proto__` is one like any other. */
export function emptyObject(): JsonObject {
  return Object.create(null) as JsonObject;
}
