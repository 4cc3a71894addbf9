// An OTLP record of Envoy's access log -> the same entry as ALS would have sent it, byte for byte a message of its own: what an entry
// means is known in one place, and every reader of ALS reads these as well.

import { HTTP_LOGS, LOG_ENTRY, TCP_LOGS } from "../proto/als.ts";
import * as als from "../proto/als-fields.ts";
import { writeNanoseconds } from "../proto/duration.ts";
import { writeFilterState, writeMapEntry } from "../proto/map-entry.ts";
import type { Attributes, AttributeValue } from "../proto/otlp-common.ts";
import type { LogRecord } from "../proto/otlp-logs.ts";
import type { WireWriter } from "../proto/wire-writer.ts";
import {
  CERTIFICATE_FIELDS,
  COMMON_FIELDS,
  CONNECTION_FIELDS,
  ENTRY_FIELDS,
  type FieldTable,
  HEADER_FIELDS,
  PASSED_OVER,
  REQUEST_FIELDS,
  RESPONSE_FIELDS,
  TLS_FIELDS,
} from "./entry-fields.ts";
import { parseFilterState } from "./filter-state.ts";

/** What Envoy's formatters write for what is not there. */
export const ABSENT = "-";

const FILTER_STATES: ReadonlySet<string> = new Set(
  [
    als.OBSERVATION_STATE,
    als.WASM_UPSTREAM_PEER,
    als.WASM_DOWNSTREAM_PEER,
    als.ISTIO_UPSTREAM_PEER,
    als.ISTIO_DOWNSTREAM_PEER,
  ].map(String),
);
/** Attributes that are custom tags of ALS, too. */
const TAGS: ReadonlySet<string> = new Set(
  [
    als.UPSTREAM_PEER_URI_SAN,
    als.UPSTREAM_LOCAL_URI_SAN,
    als.UPSTREAM_WORKLOAD,
    als.DESTINATION_SERVICE_HOST,
    als.DESTINATION_SERVICE_NAME,
    als.DESTINATION_SERVICE_NAMESPACE,
  ].map(String),
);
/** OpenTelemetry's names of what a request to a model was: they become tags, too. */
const TAG_PREFIXES = ["gen_ai.", "mcp."];
const FIELDS: ReadonlySet<string> = new Set(
  [
    COMMON_FIELDS,
    TLS_FIELDS,
    ...CERTIFICATE_FIELDS.map(([, table]) => table),
    REQUEST_FIELDS,
    RESPONSE_FIELDS,
    CONNECTION_FIELDS,
    ENTRY_FIELDS,
  ].flatMap((table) => [...table.keys()]),
);
/** One of these, and it is of a request; of a connection with none of them. */
const HTTP_MARKS = ["method", "path", "response_code", "authority", ":authority", "x-envoy-origin-path"];
const TCP_MARKS = ["bytes_received", "bytes_sent"];

/** Why a record becomes no entry. */
export type RecordFault =
  /** None of the attributes by which a request or connection is told. */
  | "not_access_log"
  /** An attribute whose text is none of its field: a response code that is no number. */
  | "attribute_malformed";

/** Where an attribute goes; `unknown` ones become tags as well. */
type Place = "field" | "state" | "tag" | "unknown" | keyof typeof HEADER_FIELDS;

/** By name: of a mesh's records few names differ, and to find out costs more than all the rest. */
const places = new Map<string, Place>();
const MAX_PLACES = 10_000;

/** Whether the attribute of that name has a place of its own in an entry. */
export function isKnownAttribute(name: string): boolean {
  return placeOf(name) !== "unknown";
}

function placeOf(name: string): Place {
  const known = places.get(name);
  if (known !== undefined) return known;
  if (places.size >= MAX_PLACES) places.clear();
  const place = findPlace(name);
  places.set(name, place);
  return place;
}

function findPlace(name: string): Place {
  if (FIELDS.has(name) || PASSED_OVER.includes(name)) return "field";
  if (FILTER_STATES.has(name)) return "state";
  if (TAGS.has(name) || TAG_PREFIXES.some((prefix) => name.startsWith(prefix))) return "tag";
  const kinds = Object.keys(HEADER_FIELDS) as (keyof typeof HEADER_FIELDS)[];
  return kinds.find((kind) => name.startsWith(HEADER_FIELDS[kind][0])) ?? "unknown";
}

/**
 * Adds the record's entry to a StreamAccessLogsMessage. Null when that was done; else why not, and the message is as it was. Attributes
 * that are not known become custom tags, so that kept logs have them.
 */
export function writeEntry(writer: WireWriter, record: LogRecord): RecordFault | null {
  const { attributes } = record;
  const kind = kindOf(attributes);
  if (kind === null) return "not_access_log";
  const begun = writer.length;
  writer.begin(kind === "tcp" ? TCP_LOGS : HTTP_LOGS);
  writer.begin(LOG_ENTRY);
  if (!writeCommon(writer, record) || !(kind === "tcp" ? writeTcp : writeHttp)(writer, attributes)) {
    writer.truncate(begun);
    return "attribute_malformed";
  }
  writer.end();
  writer.end();
  return null;
}

function kindOf(attributes: Attributes): "http" | "tcp" | null {
  const type = textOf(attributes.get("access_log_type"));
  if (type.startsWith("Tcp")) return "tcp";
  if (type !== "" || HTTP_MARKS.some((name) => textOf(attributes.get(name)) !== "")) return "http";
  return TCP_MARKS.some((name) => attributes.has(name)) ? "tcp" : null;
}

function writeCommon(writer: WireWriter, { timeNs, attributes }: LogRecord): boolean {
  writer.begin(als.COMMON_PROPERTIES);
  if (timeNs > 0n) writeNanoseconds(writer, als.START_TIME, timeNs);
  if (!writeFields(writer, attributes, COMMON_FIELDS) || !writeTls(writer, attributes)) return false;
  for (const [name, value] of attributes) {
    const place = placeOf(name);
    if (place !== "state" && place !== "tag" && place !== "unknown") continue;
    const text = textOf(value);
    if (text === "") continue;
    if (place !== "state") {
      writeMapEntry(writer, als.CUSTOM_TAGS, name, text);
      continue;
    }
    const state = parseFilterState(text);
    if (state === null) return false;
    writeFilterState(writer, als.FILTER_STATE_OBJECTS, name, state);
  }
  writer.end();
  return true;
}

/** An empty message says nothing and is left out: that there was TLS is read from what is in it. */
function writeTls(writer: WireWriter, attributes: Attributes): boolean {
  const begun = writer.length;
  writer.begin(als.TLS_PROPERTIES);
  const empty = writer.length;
  if (!writeFields(writer, attributes, TLS_FIELDS)) return false;
  for (const [tag, table] of CERTIFICATE_FIELDS) {
    if (![...table.keys()].some((name) => textOf(attributes.get(name)) !== "")) continue;
    writer.begin(tag);
    if (!writeFields(writer, attributes, table)) return false;
    writer.end();
  }
  if (writer.length === empty) writer.truncate(begun);
  else writer.end();
  return true;
}

function writeHttp(writer: WireWriter, attributes: Attributes): boolean {
  if (!writeFields(writer, attributes, ENTRY_FIELDS)) return false;
  writer.begin(als.REQUEST);
  if (!writeFields(writer, attributes, REQUEST_FIELDS)) return false;
  writeHeaders(writer, attributes, "request");
  writer.end();
  writer.begin(als.RESPONSE);
  if (!writeFields(writer, attributes, RESPONSE_FIELDS)) return false;
  writeHeaders(writer, attributes, "response");
  writeHeaders(writer, attributes, "trailer");
  writer.end();
  return true;
}

function writeTcp(writer: WireWriter, attributes: Attributes): boolean {
  writer.begin(als.CONNECTION);
  if (!writeFields(writer, attributes, CONNECTION_FIELDS)) return false;
  writer.end();
  return true;
}

function writeFields(writer: WireWriter, attributes: Attributes, table: FieldTable): boolean {
  for (const [name, write] of table) {
    const text = textOf(attributes.get(name));
    if (text !== "" && !write(writer, text)) return false;
  }
  return true;
}

function writeHeaders(writer: WireWriter, attributes: Attributes, kind: keyof typeof HEADER_FIELDS): void {
  const [prefix, tag] = HEADER_FIELDS[kind];
  for (const [name, value] of attributes) {
    if (placeOf(name) !== kind) continue;
    const text = textOf(value);
    if (text !== "") writeMapEntry(writer, tag, name.slice(prefix.length), text);
  }
}

/** "" for what is not there. */
function textOf(value: AttributeValue | undefined): string {
  if (value === undefined || value === ABSENT) return "";
  return String(value);
}
