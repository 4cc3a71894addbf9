// envoy.data.accesslog.v3.HTTPAccessLogEntry and TCPAccessLogEntry as JSON: what is kept of an entry, and searched.
// https://github.com/envoyproxy/envoy/blob/main/api/envoy/data/accesslog/v3/accesslog.proto

import { ACCESS_LOG_TYPES } from "../proto/als-fields.ts";
import { readAny, readStruct } from "./any-json.ts";
import type { Redaction } from "./redact.ts";
import {
  choice,
  double,
  duration,
  flag,
  list,
  map,
  message,
  table,
  text,
  texts,
  time,
  uint,
  url,
  wrapped,
} from "./wire-fields.ts";
import { type JsonObject, Walk } from "./wire-json.ts";

/** What is kept of an entry, in characters. */
export const MAX_ENTRY_LENGTH = 16_384;

const METHODS = ["METHOD_UNSPECIFIED", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
const HTTP_VERSIONS = ["PROTOCOL_UNSPECIFIED", "HTTP10", "HTTP11", "HTTP2", "HTTP3"];
const TLS_VERSIONS = ["VERSION_UNSPECIFIED", "TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"];
const SOCKET_PROTOCOLS = ["TCP", "UDP"];
/** Members of ResponseFlags; the index is the field's number less one. */
const RESPONSE_FLAGS = [
  "failedLocalHealthcheck",
  "noHealthyUpstream",
  "upstreamRequestTimeout",
  "localReset",
  "upstreamRemoteReset",
  "upstreamConnectionFailure",
  "upstreamConnectionTermination",
  "upstreamOverflow",
  "noRouteFound",
  "delayInjected",
  "faultInjected",
  "rateLimited",
  "unauthorizedDetails",
  "rateLimitServiceError",
  "downstreamConnectionTermination",
  "upstreamRetryLimitExceeded",
  "streamIdleTimeout",
  "invalidEnvoyRequestHeaders",
  "downstreamProtocolError",
  "upstreamMaxStreamDurationReached",
  "responseFromCacheFilter",
  "noFilterConfigFound",
  "durationTimeout",
  "upstreamProtocolError",
  "noClusterFound",
  "overloadManager",
  "dnsResolutionFailure",
  "downstreamRemoteReset",
];
const UNAUTHORIZED_REASONS = ["REASON_UNSPECIFIED", "EXTERNAL_SERVICE"];

const ADDRESS = table(
  message(
    1,
    "socketAddress",
    table(choice(1, "protocol", SOCKET_PROTOCOLS), text(2, "address"), uint(3, "portValue"), text(4, "namedPort")),
  ),
  message(2, "pipe", table(text(1, "path"))),
  message(3, "envoyInternalAddress", table(text(1, "serverListenerName"), text(2, "endpointId"))),
);

const CERTIFICATE = table(
  list(1, "subjectAltName", table(text(1, "uri"), text(2, "dns"))),
  text(2, "subject"),
  text(3, "issuer"),
);

const TLS = table(
  choice(1, "tlsVersion", TLS_VERSIONS),
  wrapped(2, "tlsCipherSuite"),
  text(3, "tlsSniHostname"),
  message(4, "localCertificateProperties", CERTIFICATE),
  message(5, "peerCertificateProperties", CERTIFICATE),
  text(7, "ja3Fingerprint"),
);

const FLAGS = table(
  ...RESPONSE_FLAGS.map((name, index) =>
    name === "unauthorizedDetails"
      ? message(index + 1, name, table(choice(1, "reason", UNAUTHORIZED_REASONS)))
      : flag(index + 1, name),
  ),
);

const COMMON = table(
  double(1, "sampleRate"),
  message(2, "downstreamRemoteAddress", ADDRESS),
  message(3, "downstreamLocalAddress", ADDRESS),
  message(4, "tlsProperties", TLS),
  time(5, "startTime"),
  duration(6, "timeToLastRxByte"),
  duration(7, "timeToFirstUpstreamTxByte"),
  duration(8, "timeToLastUpstreamTxByte"),
  duration(9, "timeToFirstUpstreamRxByte"),
  duration(10, "timeToLastUpstreamRxByte"),
  duration(11, "timeToFirstDownstreamTxByte"),
  duration(12, "timeToLastDownstreamTxByte"),
  message(13, "upstreamRemoteAddress", ADDRESS),
  message(14, "upstreamLocalAddress", ADDRESS),
  text(15, "upstreamCluster"),
  message(16, "responseFlags", FLAGS),
  message(17, "metadata", table(map(1, "filterMetadata", readStruct), map(2, "typedFilterMetadata", readAny))),
  text(18, "upstreamTransportFailureReason"),
  text(19, "routeName"),
  message(20, "downstreamDirectRemoteAddress", ADDRESS),
  map(21, "filterStateObjects", readAny),
  texts(22, "customTags"),
  duration(23, "duration"),
  uint(24, "upstreamRequestAttemptCount"),
  text(25, "connectionTerminationDetails"),
  text(26, "streamId"),
  flag(27, "intermediateLogEntry"),
  text(28, "downstreamTransportFailureReason"),
  uint(29, "downstreamWireBytesSent"),
  uint(30, "downstreamWireBytesReceived"),
  uint(31, "upstreamWireBytesSent"),
  uint(32, "upstreamWireBytesReceived"),
  choice(33, "accessLogType", ACCESS_LOG_TYPES),
);

const REQUEST = table(
  choice(1, "requestMethod", METHODS),
  text(2, "scheme"),
  text(3, "authority"),
  wrapped(4, "port"),
  url(5, "path"),
  text(6, "userAgent"),
  url(7, "referer"),
  text(8, "forwardedFor"),
  text(9, "requestId"),
  url(10, "originalPath"),
  uint(11, "requestHeadersBytes"),
  uint(12, "requestBodyBytes"),
  texts(13, "requestHeaders"),
  uint(14, "upstreamHeaderBytesSent"),
  uint(15, "downstreamHeaderBytesReceived"),
);

const RESPONSE = table(
  wrapped(1, "responseCode"),
  uint(2, "responseHeadersBytes"),
  uint(3, "responseBodyBytes"),
  texts(4, "responseHeaders"),
  texts(5, "responseTrailers"),
  text(6, "responseCodeDetails"),
  uint(7, "upstreamHeaderBytesReceived"),
  uint(8, "downstreamHeaderBytesSent"),
);

const HTTP_ENTRY = table(
  message(1, "commonProperties", COMMON),
  choice(2, "protocolVersion", HTTP_VERSIONS),
  message(3, "request", REQUEST),
  message(4, "response", RESPONSE),
);

const TCP_ENTRY = table(
  message(1, "commonProperties", COMMON),
  message(2, "connectionProperties", table(uint(1, "receivedBytes"), uint(2, "sentBytes"))),
);

export class EntryJson {
  private readonly walk: Walk;

  constructor(redaction: Redaction) {
    this.walk = new Walk(redaction);
  }

  /** The entry at bytes[start, stop), redacted. What there was no room for is missing, and `cut` says so. */
  read(bytes: Buffer, start: number, stop: number, isHttp: boolean): JsonObject {
    const entry = this.walk.start(bytes, start, stop, isHttp ? HTTP_ENTRY : TCP_ENTRY, MAX_ENTRY_LENGTH);
    if (this.walk.isCut) entry["cut"] = true;
    return entry;
  }
}
