// The kinds of fields that access-log entries are made of: what tables of messages (entry-json.ts) are written with.

import { SecondsAndNanos } from "../proto/duration.ts";
import { bytesTag, varintTag, type WireReader } from "../proto/wire.ts";
import { REDACTED } from "./redact.ts";
import { emptyObject, type Fields, type Json, type JsonObject, type Read, type Walk } from "./wire-json.ts";

/** Last instant that a Date can hold, Unix ms. */
const MAX_TIME_MS = 8.64e15;
const VALUE = 1;
const VARINT_VALUE = varintTag(VALUE);
const MAP_KEY = bytesTag(1);
const MAP_VALUE = bytesTag(2);

type Row = readonly [tag: number, name: string, read: Read, kind?: "list" | "map"];

/** A message's table, a row for each of its fields. */
export function table(...rows: readonly Row[]): Fields {
  return new Map(rows.map(([tag, name, read, kind]) => [tag, { name, read, kind: kind ?? "one" }]));
}

// === rows ===

export const text = (number: number, name: string): Row => [bytesTag(number), name, readText];
/** A path or URL. */
export const url = (number: number, name: string): Row => [bytesTag(number), name, readUrl];
export const uint = (number: number, name: string): Row => [varintTag(number), name, (_, field) => field.uint64()];
export const flag = (number: number, name: string): Row => [varintTag(number), name, (_, field) => field.bool()];
/** google.protobuf.UInt32Value. */
export const wrapped = (number: number, name: string): Row => [bytesTag(number), name, readWrapped];
export const time = (number: number, name: string): Row => [bytesTag(number), name, readTime];
/** `0.005s`. */
export const duration = (number: number, name: string): Row => [bytesTag(number), name, readDuration];
/** The name of a member; the number of one that is not known. */
export const choice = (number: number, name: string, names: readonly string[]): Row => [
  varintTag(number),
  name,
  (_, field) => names[field.uint64()] ?? field.uint64(),
];
/** A float64. */
export const double = (number: number, name: string): Row => [
  number * 8 + 1,
  name,
  (_, field) => finite(field.bytes.readDoubleLE(field.start)),
];
export const message = (number: number, name: string, fields: Fields): Row => [
  bytesTag(number),
  name,
  (walk, field) => walk.message(field.start, field.stop, fields),
];
export const list = (number: number, name: string, fields: Fields): Row => [
  ...(message(number, name, fields).slice(0, 3) as [number, string, Read]),
  "list",
];
/** A map from names to texts: headers, tags. */
export const texts = (number: number, name: string): Row => [bytesTag(number), name, mapOf(namedText), "map"];
/** A map from names to messages. */
export const map = (number: number, name: string, read: ReadNamed): Row => [bytesTag(number), name, mapOf(read), "map"];

/** Reads what stands under a name, which may say how. */
export type ReadNamed = (walk: Walk, name: string, start: number, stop: number) => Json | undefined;

// === readers ===

function readText(walk: Walk, { start, stop }: WireReader): Json | undefined {
  return walk.text(start, stop);
}

function readUrl(walk: Walk, { start, stop }: WireReader): Json | undefined {
  const value = walk.text(start, stop);
  return value === undefined ? undefined : walk.redaction.url(value);
}

function readWrapped(walk: Walk, { start, stop }: WireReader): Json {
  let value = 0;
  walk.each(start, stop, (field) => {
    if (field.tag === VARINT_VALUE) value = field.uint64();
  });
  return value;
}

class Instant extends SecondsAndNanos {
  /** RFC 3339 with all that is known; undefined beyond what a Date can hold. */
  get time(): string | undefined {
    const milliseconds = this.seconds * 1000;
    if (Math.abs(milliseconds) > MAX_TIME_MS) return undefined;
    const fraction = this.nanos > 0 ? `.${String(this.nanos).padStart(9, "0").slice(0, 9)}` : "";
    return `${new Date(milliseconds).toISOString().slice(0, -5)}${fraction}Z`;
  }

  get duration(): string {
    const sign = this.seconds < 0 || this.nanos < 0 ? "-" : "";
    const fraction = this.nanos === 0 ? "" : `.${String(Math.abs(this.nanos)).padStart(9, "0")}`.replace(/0+$/, "");
    return `${sign}${Math.abs(this.seconds)}${fraction}s`;
  }
}

const instant = new Instant();

function readTime(_: Walk, { bytes, start, stop }: WireReader): Json | undefined {
  instant.clear();
  return instant.read(bytes, start, stop) ? instant.time : undefined;
}

function readDuration(_: Walk, { bytes, start, stop }: WireReader): Json | undefined {
  instant.clear();
  return instant.read(bytes, start, stop) ? instant.duration : undefined;
}

/** JSON has no word for the others. */
function finite(value: number): number | undefined {
  return Number.isFinite(value) ? value : undefined;
}

// === maps ===

function namedText(walk: Walk, name: string, start: number, stop: number): Json | undefined {
  const value = walk.text(start, stop);
  return value === undefined ? undefined : walk.redaction.value(name, value);
}

/** One entry of a map, as an object of one name. What a secret's name stands for is not looked into. */
function mapOf(read: ReadNamed): Read {
  return (walk, { start, stop }) => {
    const entry: JsonObject = emptyObject();
    let name: string | undefined = "";
    let valueStart = 0;
    let valueStop = 0;
    walk.each(start, stop, (field) => {
      if (field.tag === MAP_KEY) {
        name = walk.text(field.start, field.stop);
      } else if (field.tag === MAP_VALUE) {
        valueStart = field.start;
        valueStop = field.stop;
      }
    });
    if (name === undefined) return undefined;
    const value = walk.redaction.isSecret(name) ? REDACTED : read(walk, name, valueStart, valueStop);
    if (value !== undefined) entry[name] = value;
    return entry;
  };
}
