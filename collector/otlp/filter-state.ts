// Filter state as Envoy's OpenTelemetry logger writes it, in JSON: by `filter_state_objects_to_log`, or `%FILTER_STATE(name:TYPED)%`.
// https://protobuf.dev/programming-guides/json/
//
//   what wasm has set   {"@type": "type.googleapis.com/google.protobuf.BytesValue", "value": "AQAZ..."}     base64
//   Istio's own filter  {"workload": "reviews-v1", "namespace": "default", ...}                             a Struct
//
// (`%FILTER_STATE(name:PLAIN)%` puts the bytes themselves into a field for text, which makes the whole request malformed.)

import type { StateValue } from "../proto/map-entry.ts";
import type { Metadata } from "../proto/struct.ts";

const BASE64 = /^[A-Za-z0-9+/_-]*={0,2}$/;

/** Null when the text is none of these. */
export function parseFilterState(json: string): StateValue | null {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    return null; // text of a sender's: whether it can be read is all that there is to say
  }
  if (typeof value === "string") return bytesOf(value);
  if (!isObject(value)) return null;
  const type = value["@type"];
  if (type === undefined) return { struct: metadataOf(value) };
  const inner = value["value"];
  if (typeof type !== "string") return null;
  if (type.endsWith("/google.protobuf.Struct")) return isObject(inner) ? { struct: metadataOf(inner) } : null;
  if (typeof inner !== "string") return null;
  if (type.endsWith("/google.protobuf.BytesValue")) return bytesOf(inner);
  return type.endsWith("/google.protobuf.StringValue") ? { text: inner } : null;
}

function bytesOf(text: string): StateValue | null {
  return BASE64.test(text) ? { bytes: Buffer.from(text, "base64") } : null;
}

/** The texts of a Struct, and of the one in it that holds labels; other values are left out. */
function metadataOf(value: Readonly<Record<string, unknown>>): Metadata {
  const metadata: Metadata = { texts: new Map(), labels: new Map() };
  for (const [key, field] of Object.entries(value)) {
    if (typeof field === "string") metadata.texts.set(key, field);
    else if (key.toLowerCase() === "labels" && isObject(field)) {
      for (const [label, text] of Object.entries(field)) if (typeof text === "string") metadata.labels.set(label, text);
    }
  }
  return metadata;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
