// LogRecord: one side of one kept access-log entry, redacted, as it is stored and searched.

import type { Party, Side } from "../analysis/side.ts";
import type { LogReason } from "../self.ts";
import { EntryJson } from "./entry-json.ts";
import type { Redaction } from "./redact.ts";
import { objectAt, renderTextLine, textAt } from "./text-line.ts";
import type { JsonObject } from "./wire-json.ts";

export type LogParty = Pick<Party, "service" | "namespace" | "workload" | "instance">;

/** Unknown is null. */
export interface LogRecord {
  /** When the request or connection began, by its proxy's clock; when it arrived, if the entry does not say. Unix ms. */
  readonly timeMs: number;
  /** When the entry came here. */
  readonly arrivalMs: number;
  /** Why it was kept. */
  readonly reason: LogReason;
  readonly proxy: string;
  readonly role: string;
  readonly detectPoint: string;
  readonly source: LogParty;
  readonly destination: LogParty;
  readonly endpoint: string | null;
  readonly method: string | null;
  /** Without the query. */
  readonly path: string | null;
  readonly protocol: string;
  readonly code: number | null;
  readonly grpcStatus: number | null;
  readonly flags: readonly string[];
  readonly latencyMs: number | null;
  readonly success: boolean;
  readonly requestBytes: number | null;
  readonly responseBytes: number | null;
  readonly requestId: string | null;
  /** Of the W3C header `traceparent`, if it is logged. */
  readonly traceId: string | null;
  /** `name=value`: cluster, route, host, details, and the entry's custom tags. */
  readonly tags: readonly string[];
  /** In Envoy's default format. */
  readonly text: string;
  /** The entry as JSON. */
  readonly body: string;
}

const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}/;
/** Longer ones are in the body alone. */
const MAX_TAG_LENGTH = 256;
const MAX_TAGS = 64;

export class LogRecords {
  private readonly json: EntryJson;

  constructor(redaction: Redaction) {
    this.json = new EntryJson(redaction);
  }

  /** The records of the entry at bytes[start, stop): one of each of its sides. */
  of(
    bytes: Buffer,
    start: number,
    stop: number,
    isHttp: boolean,
    sides: readonly Side[],
    reason: LogReason,
    arrivalMs: number,
  ): LogRecord[] {
    const entry = this.json.read(bytes, start, stop, isHttp);
    const body = JSON.stringify(entry);
    const request = objectAt(entry, "request");
    const headers = objectAt(request, "requestHeaders");
    const method = textAt(request, "requestMethod") || null;
    const path = textAt(request, "path").split(/[?#]/, 1)[0] || null;
    const requestId = textAt(request, "requestId") || null;
    const traceId = TRACEPARENT.exec(textAt(headers, "traceparent"))?.[1] ?? null;
    const tags = tagsOf(entry);
    // Every field by its name: spreading objects of so many fields takes five times as long as all else here.
    return sides.map((side) => ({
      timeMs: side.time === null ? arrivalMs : Date.parse(side.time),
      arrivalMs,
      reason,
      proxy: side.proxy,
      role: side.role,
      detectPoint: side.detectPoint,
      source: side.source,
      destination: side.destination,
      endpoint: side.endpoint,
      method,
      path,
      protocol: side.protocol,
      code: side.code,
      grpcStatus: side.grpcStatus,
      flags: side.flags,
      latencyMs: side.latencyMs,
      success: side.success,
      requestBytes: side.requestBytes,
      responseBytes: side.responseBytes,
      requestId,
      traceId,
      tags,
      text: renderTextLine(entry, side.flags),
      body,
    }));
  }
}

function tagsOf(entry: JsonObject): string[] {
  const common = objectAt(entry, "commonProperties");
  const all: [string, string][] = [
    ["cluster", textAt(common, "upstreamCluster")],
    ["route", textAt(common, "routeName")],
    ["host", textAt(objectAt(entry, "request"), "authority")],
    ["details", textAt(objectAt(entry, "response"), "responseCodeDetails")],
  ];
  const custom = objectAt(common, "customTags");
  for (const name of Object.keys(custom)) all.push([name, textAt(custom, name)]);
  const tags = all.filter(([, value]) => value !== "").map(([name, value]) => `${name}=${value}`);
  return tags.filter((tag) => tag.length <= MAX_TAG_LENGTH).slice(0, MAX_TAGS);
}
