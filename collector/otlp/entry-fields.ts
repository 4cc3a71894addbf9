// Which attribute of an OTLP access-log record is which field of an access-log entry: the rows that docs/otlp.md lists. Names are those of
// Istio's access logs where they have one, else those of the entry's fields.
// https://github.com/envoyproxy/envoy/blob/main/api/envoy/data/accesslog/v3/accesslog.proto

import { writeAddress } from "../proto/address.ts";
import { METHODS } from "../proto/als-analysis.ts";
import * as als from "../proto/als-fields.ts";
import { writeNanoseconds } from "../proto/duration.ts";
import { bytesTag, varintTag } from "../proto/wire.ts";
import type { WireWriter } from "../proto/wire-writer.ts";
import { RESPONSE_FLAGS } from "../vocabulary.ts";

/** Writes the field of one attribute; false when its text is none of such a field. */
export type WriteField = (writer: WireWriter, text: string) => boolean;

/** By the attribute's name. */
export type FieldTable = ReadonlyMap<string, WriteField>;

const NANOSECONDS_PER_MS = 1_000_000n;
const VERSIONS = new Map([
  ["HTTP/1.0", 1],
  ["HTTP/1.1", 2],
  ["HTTP/2", 3],
  ["HTTP/3", 4],
]);
const TLS_VERSIONS = new Map([
  ["TLSv1", 1],
  ["TLSv1.1", 2],
  ["TLSv1.2", 3],
  ["TLSv1.3", 4],
]);
/** A message, not a bool; it is there where the flag is set. */
const UNAUTHORIZED = "UAEX";
/** ALS has a field for it out of the order of the flags' bits. */
const DOWNSTREAM_REMOTE_RESET = "DR";
const DOWNSTREAM_REMOTE_RESET_FIELD = 28;

export const COMMON_FIELDS: FieldTable = new Map([
  ["downstream_remote_address", address(als.DOWNSTREAM_REMOTE_ADDRESS)],
  ["downstream_local_address", address(als.DOWNSTREAM_LOCAL_ADDRESS)],
  ["downstream_direct_remote_address", address(als.DOWNSTREAM_DIRECT_REMOTE_ADDRESS)],
  ["upstream_host", address(als.UPSTREAM_REMOTE_ADDRESS)],
  ["upstream_local_address", address(bytesTag(14))],
  ["time_to_first_upstream_tx_byte", nanoseconds(als.TIME_TO_FIRST_UPSTREAM_TX)],
  ["time_to_last_upstream_tx_byte", nanoseconds(bytesTag(8))],
  ["time_to_first_upstream_rx_byte", nanoseconds(als.TIME_TO_FIRST_UPSTREAM_RX)],
  ["time_to_last_upstream_rx_byte", nanoseconds(als.TIME_TO_LAST_UPSTREAM_RX)],
  ["time_to_first_downstream_tx_byte", nanoseconds(als.TIME_TO_FIRST_DOWNSTREAM_TX)],
  ["time_to_last_downstream_tx_byte", nanoseconds(als.TIME_TO_LAST_DOWNSTREAM_TX)],
  ["time_to_last_rx_byte", nanoseconds(bytesTag(6))],
  ["duration", milliseconds(als.DURATION)],
  ["upstream_cluster", text(als.UPSTREAM_CLUSTER)],
  ["response_flags", flags],
  ["upstream_transport_failure_reason", text(bytesTag(18))],
  ["downstream_transport_failure_reason", text(bytesTag(28))],
  ["route_name", text(als.ROUTE_NAME)],
  ["upstream_request_attempt_count", count(als.ATTEMPT_COUNT)],
  ["connection_termination_details", text(bytesTag(25))],
  ["stream_id", text(als.STREAM_ID)],
  ["access_log_type", number(als.ACCESS_LOG_TYPE, (name) => als.ACCESS_LOG_TYPES.indexOf(name))],
]);

export const TLS_FIELDS: FieldTable = new Map([
  ["downstream_tls_version", number(als.TLS_VERSION, (name) => TLS_VERSIONS.get(name) ?? 0)],
  ["requested_server_name", text(als.SNI)],
]);

/** Of either certificate of the downstream connection. URIs of one certificate come joined by commas. */
export const CERTIFICATE_FIELDS: readonly [tag: number, table: FieldTable][] = [
  [als.LOCAL_CERTIFICATE, certificate("downstream_local")],
  [als.PEER_CERTIFICATE, certificate("downstream_peer")],
];

export const REQUEST_FIELDS: FieldTable = new Map([
  ["method", number(als.METHOD, (name) => Math.max(0, METHODS.indexOf(name)))],
  ["scheme", text(bytesTag(2))],
  // With `-`, `:` and `x-`: as Envoy Gateway names them.
  [":authority", text(als.AUTHORITY)],
  ["authority", text(als.AUTHORITY)],
  ["x-envoy-origin-path", text(als.PATH)],
  ["path", text(als.PATH)],
  ["user-agent", text(bytesTag(6))],
  ["user_agent", text(bytesTag(6))],
  ["referer", text(bytesTag(7))],
  ["x-forwarded-for", text(bytesTag(8))],
  ["x_forwarded_for", text(bytesTag(8))],
  ["x-request-id", text(bytesTag(9))],
  ["request_id", text(bytesTag(9))],
  ["original_path", text(bytesTag(10))],
  ["request_headers_bytes", count(als.REQUEST_HEADERS_BYTES)],
  ["bytes_received", count(als.REQUEST_BODY_BYTES)],
]);

export const RESPONSE_FIELDS: FieldTable = new Map([
  ["response_code", wrapped(als.RESPONSE_CODE)],
  ["response_headers_bytes", count(als.RESPONSE_HEADERS_BYTES)],
  ["bytes_sent", count(als.RESPONSE_BODY_BYTES)],
  ["response_code_details", text(bytesTag(6))],
]);

export const CONNECTION_FIELDS: FieldTable = new Map([
  ["bytes_received", count(als.RECEIVED_BYTES)],
  ["bytes_sent", count(als.SENT_BYTES)],
]);

/** Of the entry itself. */
export const ENTRY_FIELDS: FieldTable = new Map([
  ["protocol", number(varintTag(2), (name) => VERSIONS.get(name) ?? 0)],
]);

/** A header or trailer is an attribute of that name and its own behind it: OpenTelemetry's names, and one for trailers. */
export const HEADER_FIELDS = {
  request: ["http.request.header.", als.REQUEST_HEADERS],
  response: ["http.response.header.", als.RESPONSE_HEADERS],
  trailer: ["http.response.trailer.", als.RESPONSE_TRAILERS],
} as const;

/** Names that are known and become no field: the OTLP record has its time, the observation its connection, and they say nothing new. */
export const PASSED_OVER: readonly string[] = [
  "start_time",
  "connection_id",
  "upstream_service_time",
  "x-envoy-upstream-service-time",
];

// === kinds of fields ===

function text(tag: number): WriteField {
  return (writer, value) => {
    writer.text(tag, value);
    return true;
  };
}

function count(tag: number): WriteField {
  return (writer, value) => {
    if (!isWhole(value)) return false;
    writer.varint(tag, Number(value));
    return true;
  };
}

/** google.protobuf.UInt32Value. */
function wrapped(tag: number): WriteField {
  return (writer, value) => {
    if (!isWhole(value)) return false;
    writer.begin(tag);
    writer.varint(als.UINT32_VALUE, Number(value));
    writer.end();
    return true;
  };
}

/** A member of an enum; `numberOf` gives a negative number for a text that is none. */
function number(tag: number, numberOf: (name: string) => number): WriteField {
  return (writer, value) => {
    const found = numberOf(value);
    if (found > 0) writer.varint(tag, found);
    return found >= 0;
  };
}

function address(tag: number): WriteField {
  return (writer, value) => {
    writeAddress(writer, tag, value);
    return true;
  };
}

function nanoseconds(tag: number): WriteField {
  return (writer, value) => {
    if (!isWhole(value)) return false;
    writeNanoseconds(writer, tag, BigInt(value));
    return true;
  };
}

function milliseconds(tag: number): WriteField {
  return (writer, value) => {
    if (!isWhole(value)) return false;
    writeNanoseconds(writer, tag, BigInt(value) * NANOSECONDS_PER_MS);
    return true;
  };
}

/** `UF,URX`. A flag that has no name here is one of a newer Envoy; without a field it is left out, as ALS does. */
function flags(writer: WireWriter, value: string): boolean {
  writer.begin(als.RESPONSE_FLAGS);
  for (const flag of value.split(",")) {
    const bit = RESPONSE_FLAGS.indexOf(flag);
    if (flag === UNAUTHORIZED) {
      writer.begin(bytesTag(bit + 1));
      writer.end();
    } else if (flag === DOWNSTREAM_REMOTE_RESET) {
      writer.varint(varintTag(DOWNSTREAM_REMOTE_RESET_FIELD), 1);
    } else if (bit >= 0 && bit < DOWNSTREAM_REMOTE_RESET_FIELD - 1) {
      writer.varint(varintTag(bit + 1), 1);
    }
  }
  writer.end();
  return true;
}

function certificate(end: string): FieldTable {
  return new Map<string, WriteField>([
    [
      `${end}_uri_san`,
      (writer, value) => {
        for (const uri of value.split(",")) {
          writer.begin(als.SUBJECT_ALT_NAME);
          writer.text(als.SAN_URI, uri);
          writer.end();
        }
        return true;
      },
    ],
    [`${end}_subject`, text(als.SUBJECT)],
  ]);
}

/** Up to 2^53. */
function isWhole(value: string): boolean {
  return /^\d{1,16}$/.test(value) && Number(value) <= Number.MAX_SAFE_INTEGER;
}
