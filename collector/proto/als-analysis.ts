// What an analysis needs of a log entry besides what its labels are derived from (als-entry.ts): times, TLS, method and path.
// The same reader for entries of both kinds, whose first field is AccessLogCommon; that of a TCP entry has no request.
// https://github.com/envoyproxy/envoy/blob/main/api/envoy/data/accesslog/v3/accesslog.proto

import {
  ACCESS_LOG_TYPE,
  COMMON_PROPERTIES,
  DURATION,
  LOCAL_CERTIFICATE,
  METHOD,
  PATH,
  PEER_CERTIFICATE,
  REQUEST,
  SAN_URI,
  START_TIME,
  STREAM_ID,
  SUBJECT,
  SUBJECT_ALT_NAME,
  TIME_TO_FIRST_DOWNSTREAM_TX,
  TIME_TO_FIRST_UPSTREAM_RX,
  TIME_TO_FIRST_UPSTREAM_TX,
  TIME_TO_LAST_DOWNSTREAM_TX,
  TIME_TO_LAST_UPSTREAM_RX,
  TLS_PROPERTIES,
  TLS_VERSION,
  UPSTREAM_REMOTE_ADDRESS,
} from "./als-fields.ts";
import { SecondsAndNanos } from "./duration.ts";
import { WireReader } from "./wire.ts";

/** Envoy's stream ids are UUIDs; what is longer is none. */
const MAX_STREAM_ID_BYTES = 128;

/** envoy.config.core.v3.RequestMethod. */
export const METHODS: readonly string[] = [
  "METHOD_UNSPECIFIED",
  "GET",
  "HEAD",
  "POST",
  "PUT",
  "DELETE",
  "CONNECT",
  "OPTIONS",
  "TRACE",
  "PATCH",
];

export function methodName(number: number): string {
  return METHODS[number] ?? (METHODS[0] as string);
}

// The walkers of this file, one per nesting level.
const entryFields = new WireReader();
const sectionFields = new WireReader();
const fields = new WireReader();
const certificateFields = new WireReader();
const sanFields = new WireReader();

/** google.protobuf.Duration or Timestamp. */
export class Span extends SecondsAndNanos {
  /** The whole of it; beyond 104 days to the nearest few. Null when the entry does not say. */
  get nanoseconds(): number | null {
    return this.isPresent ? this.seconds * 1e9 + this.nanos : null;
  }

  /** Whole milliseconds, rounded down. */
  get milliseconds(): number | null {
    return this.isPresent ? this.seconds * 1000 + Math.floor(this.nanos / 1e6) : null;
  }
}

/** Reused: `read` overwrites all of it. Absent text is "". */
export class AnalysisEntry {
  readonly startTime = new Span();
  // Since the start.
  readonly firstUpstreamTx = new Span();
  readonly firstUpstreamRx = new Span();
  readonly lastUpstreamRx = new Span();
  readonly firstDownstreamTx = new Span();
  readonly lastDownstreamTx = new Span();
  readonly duration = new Span();

  accessLogType = 0;
  streamId = "";
  /** Whether an upstream host was chosen. */
  hasUpstream = false;

  // The downstream connection's TLS. A certificate counts as an identity by its subject or a URI among its names.
  hasTlsVersion = false;
  hasLocalIdentity = false;
  hasPeerIdentity = false;

  /** "GET"; METHOD_UNSPECIFIED for one that Envoy's enum does not know. */
  method = "";
  path = "";

  private readonly spans: ReadonlyMap<number, Span> = new Map([
    [START_TIME, this.startTime],
    [TIME_TO_FIRST_UPSTREAM_TX, this.firstUpstreamTx],
    [TIME_TO_FIRST_UPSTREAM_RX, this.firstUpstreamRx],
    [TIME_TO_LAST_UPSTREAM_RX, this.lastUpstreamRx],
    [TIME_TO_FIRST_DOWNSTREAM_TX, this.firstDownstreamTx],
    [TIME_TO_LAST_DOWNSTREAM_TX, this.lastDownstreamTx],
    [DURATION, this.duration],
  ]);

  /** False when the entry is malformed; what was read of it then means nothing. */
  read(bytes: Buffer, start: number, stop: number): boolean {
    this.clear();
    entryFields.open(bytes, start, stop);
    while (entryFields.next()) {
      const { tag, start: at, stop: end } = entryFields;
      if (tag === COMMON_PROPERTIES && !this.readCommonProperties(bytes, at, end)) return false;
      if (tag === REQUEST && !this.readRequest(bytes, at, end)) return false;
    }
    return !entryFields.isMalformed;
  }

  private readCommonProperties(bytes: Buffer, start: number, stop: number): boolean {
    sectionFields.open(bytes, start, stop);
    while (sectionFields.next()) {
      const { tag, start: at, stop: end } = sectionFields;
      const span = this.spans.get(tag);
      if (span !== undefined && !span.read(bytes, at, end)) return false;
      if (tag === TLS_PROPERTIES && !this.readTls(bytes, at, end)) return false;
      if (tag === UPSTREAM_REMOTE_ADDRESS) this.hasUpstream = true;
      if (tag === STREAM_ID) this.streamId = end - at > MAX_STREAM_ID_BYTES ? "" : sectionFields.text();
      if (tag === ACCESS_LOG_TYPE) this.accessLogType = sectionFields.low;
    }
    return !sectionFields.isMalformed;
  }

  private readTls(bytes: Buffer, start: number, stop: number): boolean {
    fields.open(bytes, start, stop);
    while (fields.next()) {
      if (fields.tag === TLS_VERSION) this.hasTlsVersion = fields.low !== 0;
      if (fields.tag !== LOCAL_CERTIFICATE && fields.tag !== PEER_CERTIFICATE) continue;
      const hasIdentity = readIdentity(bytes, fields.start, fields.stop);
      if (hasIdentity === null) return false;
      if (fields.tag === LOCAL_CERTIFICATE) this.hasLocalIdentity ||= hasIdentity;
      else this.hasPeerIdentity ||= hasIdentity;
    }
    return !fields.isMalformed;
  }

  private readRequest(bytes: Buffer, start: number, stop: number): boolean {
    sectionFields.open(bytes, start, stop);
    while (sectionFields.next()) {
      if (sectionFields.tag === METHOD) this.method = methodName(sectionFields.low);
      else if (sectionFields.tag === PATH) this.path = sectionFields.text();
    }
    return !sectionFields.isMalformed;
  }

  private clear(): void {
    for (const span of this.spans.values()) span.clear();
    this.accessLogType = 0;
    this.streamId = "";
    this.hasUpstream = false;
    this.hasTlsVersion = false;
    this.hasLocalIdentity = false;
    this.hasPeerIdentity = false;
    this.method = METHODS[0] as string;
    this.path = "";
  }
}

/** Whether CertificateProperties have a subject or a URI; null when malformed. */
function readIdentity(bytes: Buffer, start: number, stop: number): boolean | null {
  let hasIdentity = false;
  certificateFields.open(bytes, start, stop);
  while (certificateFields.next()) {
    if (certificateFields.tag === SUBJECT) hasIdentity ||= certificateFields.start < certificateFields.stop;
    if (certificateFields.tag !== SUBJECT_ALT_NAME) continue;
    let hasUri = false; // a oneof: the member that stands last counts
    sanFields.open(bytes, certificateFields.start, certificateFields.stop);
    while (sanFields.next()) hasUri = sanFields.tag === SAN_URI && sanFields.start < sanFields.stop;
    if (sanFields.isMalformed) return null;
    hasIdentity ||= hasUri;
  }
  return certificateFields.isMalformed ? null : hasIdentity;
}
