// The fields of access-log entries that somebody here reads: tags as they stand on the wire (wire.ts), and keys of the maps in them.
// https://github.com/envoyproxy/envoy/blob/main/api/envoy/data/accesslog/v3/accesslog.proto
//
// Custom tags are those by which an access logger hands on what an entry has no field for (as YAML: test/fixtures/envoy-als/README.md).

import { DOWNSTREAM_PEER, OBSERVATION, UPSTREAM_PEER, WASM_STATE_PREFIX } from "../vocabulary.ts";
import { bytesTag, varintTag } from "./wire.ts";

// HTTPAccessLogEntry, TCPAccessLogEntry
export const COMMON_PROPERTIES = bytesTag(1);
export const CONNECTION = bytesTag(2);
export const REQUEST = bytesTag(3);
export const RESPONSE = bytesTag(4);

// AccessLogCommon
export const DOWNSTREAM_REMOTE_ADDRESS = bytesTag(2);
export const DOWNSTREAM_LOCAL_ADDRESS = bytesTag(3);
export const TLS_PROPERTIES = bytesTag(4);
export const START_TIME = bytesTag(5);
export const TIME_TO_FIRST_UPSTREAM_TX = bytesTag(7);
export const TIME_TO_FIRST_UPSTREAM_RX = bytesTag(9);
export const TIME_TO_LAST_UPSTREAM_RX = bytesTag(10);
export const TIME_TO_FIRST_DOWNSTREAM_TX = bytesTag(11);
export const TIME_TO_LAST_DOWNSTREAM_TX = bytesTag(12);
export const UPSTREAM_REMOTE_ADDRESS = bytesTag(13);
export const UPSTREAM_CLUSTER = bytesTag(15);
export const RESPONSE_FLAGS = bytesTag(16);
export const ROUTE_NAME = bytesTag(19);
export const DOWNSTREAM_DIRECT_REMOTE_ADDRESS = bytesTag(20);
export const FILTER_STATE_OBJECTS = bytesTag(21);
export const CUSTOM_TAGS = bytesTag(22);
export const DURATION = bytesTag(23);
export const ATTEMPT_COUNT = varintTag(24);
export const STREAM_ID = bytesTag(26);
export const ACCESS_LOG_TYPE = varintTag(33);

// TLSProperties, CertificateProperties, SubjectAltName
export const TLS_VERSION = varintTag(1);
export const SNI = bytesTag(3);
export const LOCAL_CERTIFICATE = bytesTag(4);
export const PEER_CERTIFICATE = bytesTag(5);
export const SUBJECT_ALT_NAME = bytesTag(1);
export const SAN_URI = bytesTag(1);
export const SAN_DNS = bytesTag(2);
export const SUBJECT = bytesTag(2);

// Address, SocketAddress
export const SOCKET_ADDRESS = bytesTag(1);
export const SOCKET_IP = bytesTag(2);

// ConnectionProperties
export const RECEIVED_BYTES = varintTag(1);
export const SENT_BYTES = varintTag(2);

// HTTPRequestProperties
export const METHOD = varintTag(1);
export const AUTHORITY = bytesTag(3);
export const PATH = bytesTag(5);
export const REQUEST_HEADERS_BYTES = varintTag(11);
export const REQUEST_BODY_BYTES = varintTag(12);
export const REQUEST_HEADERS = bytesTag(13);

// HTTPResponseProperties
export const RESPONSE_CODE = bytesTag(1);
export const RESPONSE_HEADERS_BYTES = varintTag(2);
export const RESPONSE_BODY_BYTES = varintTag(3);
export const RESPONSE_HEADERS = bytesTag(4);
export const RESPONSE_TRAILERS = bytesTag(5);

// google.protobuf.UInt32Value
export const UINT32_VALUE = varintTag(1);

// Keys of headers, of filter_state_objects and of custom_tags
export const CONTENT_TYPE = Buffer.from("content-type");
export const GRPC_STATUS = Buffer.from("grpc-status");
export const OBSERVATION_STATE = Buffer.from(WASM_STATE_PREFIX + OBSERVATION);
export const WASM_UPSTREAM_PEER = Buffer.from(WASM_STATE_PREFIX + UPSTREAM_PEER);
export const WASM_DOWNSTREAM_PEER = Buffer.from(WASM_STATE_PREFIX + DOWNSTREAM_PEER);
export const ISTIO_UPSTREAM_PEER = Buffer.from(UPSTREAM_PEER);
export const ISTIO_DOWNSTREAM_PEER = Buffer.from(DOWNSTREAM_PEER);
// What a request to a model used, by OpenTelemetry's names
export const INPUT_TOKENS = Buffer.from("gen_ai.usage.input_tokens");
export const OUTPUT_TOKENS = Buffer.from("gen_ai.usage.output_tokens");
export const UPSTREAM_PEER_URI_SAN = Buffer.from("upstream_peer_uri_san");
export const UPSTREAM_LOCAL_URI_SAN = Buffer.from("upstream_local_uri_san");
export const UPSTREAM_WORKLOAD = Buffer.from("upstream_workload");
export const DESTINATION_SERVICE_HOST = Buffer.from("destination_service_host");
export const DESTINATION_SERVICE_NAME = Buffer.from("destination_service_name");
export const DESTINATION_SERVICE_NAMESPACE = Buffer.from("destination_service_namespace");

/** Names of envoy.data.accesslog.v3.AccessLogType; the index is the number. */
export const ACCESS_LOG_TYPES: readonly string[] = [
  "NotSet",
  "TcpUpstreamConnected",
  "TcpPeriodic",
  "TcpConnectionEnd",
  "DownstreamStart",
  "DownstreamPeriodic",
  "DownstreamEnd",
  "UpstreamPoolReady",
  "UpstreamPeriodic",
  "UpstreamEnd",
  "DownstreamTunnelSuccessfullyEstablished",
  "UdpTunnelUpstreamConnected",
  "UdpPeriodic",
  "UdpSessionEnd",
];
