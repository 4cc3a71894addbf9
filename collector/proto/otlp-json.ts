// OTLP in JSON, as its own rules have it: names in camel case, 64-bit integers as text, lists and maps of attributes left out as in protobuf.
// https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding

import { type Attributes, type AttributeValue, addAttribute } from "./otlp-common.ts";
import { type LogRecord, MAX_RECORDS, MAX_RESOURCES, type ResourceLogs } from "./otlp-logs.ts";

export type JsonObject = Readonly<Record<string, unknown>>;

/** As decodeLogs. */
export function decodeLogsJson(text: string): ResourceLogs[] | null {
  const root = parseObject(text);
  const resources = listOf(root?.["resourceLogs"]);
  if (root === null || resources === null || resources.length > MAX_RESOURCES) return null;
  const all: ResourceLogs[] = [];
  let records = 0;
  for (const each of resources) {
    const logs = isObject(each) ? resourceLogsOf(each) : null;
    if (logs === null) return null;
    records += logs.records.length + logs.malformed;
    if (records > MAX_RECORDS) return null;
    all.push(logs);
  }
  return all;
}

/** Null when the text is no JSON object. */
export function parseObject(text: string): JsonObject | null {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : null;
  } catch {
    return null; // a sender's text: whether it can be read is all that there is to say
  }
}

function resourceLogsOf({ resource, scopeLogs }: JsonObject): ResourceLogs | null {
  const attributes = readResourceJson(resource);
  const scopes = listOf(scopeLogs);
  if (attributes === null || scopes === null) return null;
  const logs: ResourceLogs = { resource: attributes, records: [], malformed: 0 };
  for (const scope of scopes) {
    const records = isObject(scope) ? listOf(scope["logRecords"]) : null;
    if (records === null) return null;
    for (const each of records) {
      const record = isObject(each) ? recordOf(each) : null;
      if (record === null) logs.malformed++;
      else logs.records.push(record);
    }
  }
  return logs;
}

function recordOf({ timeUnixNano, attributes }: JsonObject): LogRecord | null {
  const timeNs = readUint64Json(timeUnixNano);
  const read = readAttributesJson(attributes);
  return timeNs === null || read === null ? null : { timeNs, attributes: read };
}

export function readResourceJson(resource: unknown): Attributes | null {
  if (resource === undefined || resource === null) return new Map();
  return isObject(resource) ? readAttributesJson(resource["attributes"]) : null;
}

/** Null when it is no list of KeyValues, or has too many. */
export function readAttributesJson(list: unknown): Attributes | null {
  const entries = listOf(list);
  if (entries === null) return null;
  const attributes: Attributes = new Map();
  for (const entry of entries) {
    if (!isObject(entry)) return null;
    const { key = "", value } = entry;
    if (typeof key !== "string") return null;
    const read = anyValueOf(value);
    if (read === undefined || !addAttribute(attributes, key, read)) return null;
  }
  return attributes;
}

/** 0n when it is absent; null when it is no such number. */
export function readUint64Json(value: unknown): bigint | null {
  if (value === undefined || value === null) return 0n;
  if (typeof value === "number") return Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : null;
  return typeof value === "string" && /^\d{1,19}$/.test(value) ? BigInt(value) : null;
}

/** The same of a double, which JSON has as text where it is none of its numbers. */
export function readDoubleJson(value: unknown): number | null {
  if (value === undefined || value === null) return 0;
  if (typeof value === "number") return value;
  if (typeof value !== "string") return null;
  if (value === "NaN" || value === "Infinity" || value === "-Infinity") return Number(value);
  return /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(value) ? Number(value) : null;
}

/** Null for an AnyValue of another kind, undefined for what is none. */
function anyValueOf(value: unknown): AttributeValue | null | undefined {
  if (value === undefined || value === null) return null;
  if (!isObject(value)) return undefined;
  const { stringValue, boolValue, intValue, doubleValue } = value;
  if (typeof stringValue === "string") return stringValue;
  if (typeof boolValue === "boolean") return boolValue;
  if (intValue !== undefined) return /^-?\d{1,19}$/.test(String(intValue)) ? Number(intValue) : undefined;
  if (doubleValue !== undefined) return readDoubleJson(doubleValue) ?? undefined;
  return null;
}

/** Empty when it is absent; null when it is no list. */
export function listOf(value: unknown): readonly unknown[] | null {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : null;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
