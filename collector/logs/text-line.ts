// An entry in one line, in Envoy's default format, as its file access logger would have written it.
// https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage#default-format-string

import type { Json, JsonObject } from "./wire-json.ts";

const NONE = "-";
const VERSIONS: Readonly<Record<string, string>> = {
  HTTP10: "HTTP/1.0",
  HTTP11: "HTTP/1.1",
  HTTP2: "HTTP/2",
  HTTP3: "HTTP/3",
};

/** `entry`: as EntryJson reads it, redacted. What is not known reads `-`. */
export function renderTextLine(entry: JsonObject, flags: readonly string[]): string {
  const common = objectAt(entry, "commonProperties");
  const request = objectAt(entry, "request");
  const response = objectAt(entry, "response");
  const connection = objectAt(entry, "connectionProperties");
  const path = textAt(request, "originalPath") || textAt(request, "path");
  const version = VERSIONS[textAt(entry, "protocolVersion")] ?? NONE;
  return [
    `[${textAt(common, "startTime") || NONE}]`,
    `"${plain(textAt(request, "requestMethod"))} ${plain(path)} ${version}"`,
    numberAt(response, "responseCode"),
    flags.length > 0 ? flags.join() : NONE,
    numberAt(request, "requestBodyBytes") + numberAt(connection, "receivedBytes"),
    numberAt(response, "responseBodyBytes") + numberAt(connection, "sentBytes"),
    durationMs(common) ?? NONE,
    plain(textAt(objectAt(response, "responseHeaders"), "x-envoy-upstream-service-time")),
    quoted(textAt(request, "forwardedFor")),
    quoted(textAt(request, "userAgent")),
    quoted(textAt(request, "requestId")),
    quoted(textAt(request, "authority")),
    quoted(addressText(objectAt(common, "upstreamRemoteAddress"))),
  ].join(" ");
}

/** Whole ms of `duration` as Envoy computes it: until the last byte went out, where the entry has no `duration`. */
function durationMs(common: JsonObject): number | null {
  const text = textAt(common, "duration") || textAt(common, "timeToLastDownstreamTxByte");
  return text === "" ? null : Math.floor(Number.parseFloat(text) * 1000);
}

function addressText(address: JsonObject): string {
  const socket = objectAt(address, "socketAddress");
  const host = textAt(socket, "address");
  const path = textAt(objectAt(address, "pipe"), "path");
  if (host === "") return path;
  return `${host.includes(":") ? `[${host}]` : host}:${numberAt(socket, "portValue")}`;
}

/** The object under a name; an empty one where there is none. */
export function objectAt(object: JsonObject, name: string): JsonObject {
  const value = object[name];
  return isObject(value) ? value : {};
}

/** The text under a name; "" where there is none. */
export function textAt(object: JsonObject, name: string): string {
  const value = object[name];
  return typeof value === "string" ? value : "";
}

function numberAt(object: JsonObject, name: string): number {
  const value = object[name];
  return typeof value === "number" ? value : 0;
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function quoted(text: string): string {
  return `"${plain(text)}"`;
}

/** Text that neither ends the line nor the quotes around it. */
function plain(text: string): string {
  if (text === "") return NONE;
  const toHex = (char: string) => `\\x${(char.codePointAt(0) as number).toString(16).padStart(2, "0")}`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is sought
  return text.replace(/[\u0000-\u001f\u007f-\u009f"\\\u2028\u2029]/g, toHex);
}
