// envoy.data.accesslog.v3.HTTPAccessLogEntry and TCPAccessLogEntry, as far as they become records.
// https://github.com/envoyproxy/envoy/blob/main/api/envoy/data/accesslog/v3/accesslog.proto
//
//   HTTPAccessLogEntry { AccessLogCommon common_properties 1, HTTPRequestProperties request 3, HTTPResponseProperties response 4 }
//   TCPAccessLogEntry { AccessLogCommon common_properties 1, ConnectionProperties connection_properties 2 }
//
// Fast: EntryScan looks for what the filter itself counted, and for nothing else.
// Slow: HttpEntry and TcpEntry read every field from which labels are derived.
// Repeated occurrences of a message are merged, as protobuf demands, except in a map's value, where the last one counts.

import { AddressField, readAddressText } from "./address.ts";
import {
  ACCESS_LOG_TYPE,
  AUTHORITY,
  COMMON_PROPERTIES,
  CONNECTION,
  CONTENT_TYPE,
  CUSTOM_TAGS,
  DESTINATION_SERVICE_HOST,
  DESTINATION_SERVICE_NAME,
  DESTINATION_SERVICE_NAMESPACE,
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS,
  DOWNSTREAM_LOCAL_ADDRESS,
  DOWNSTREAM_REMOTE_ADDRESS,
  DURATION,
  FILTER_STATE_OBJECTS,
  GRPC_STATUS,
  ISTIO_DOWNSTREAM_PEER,
  ISTIO_UPSTREAM_PEER,
  LOCAL_CERTIFICATE,
  OBSERVATION_STATE,
  PATH,
  PEER_CERTIFICATE,
  RECEIVED_BYTES,
  REQUEST,
  REQUEST_BODY_BYTES,
  REQUEST_HEADERS,
  REQUEST_HEADERS_BYTES,
  RESPONSE,
  RESPONSE_BODY_BYTES,
  RESPONSE_CODE,
  RESPONSE_FLAGS,
  RESPONSE_HEADERS,
  RESPONSE_HEADERS_BYTES,
  RESPONSE_TRAILERS,
  ROUTE_NAME,
  SAN_DNS,
  SAN_URI,
  SENT_BYTES,
  SNI,
  STREAM_ID,
  SUBJECT_ALT_NAME,
  TIME_TO_LAST_DOWNSTREAM_TX,
  TLS_PROPERTIES,
  UINT32_VALUE,
  UPSTREAM_CLUSTER,
  UPSTREAM_LOCAL_URI_SAN,
  UPSTREAM_PEER_URI_SAN,
  UPSTREAM_REMOTE_ADDRESS,
  UPSTREAM_WORKLOAD,
  WASM_DOWNSTREAM_PEER,
  WASM_UPSTREAM_PEER,
} from "./als-fields.ts";
import { Duration } from "./duration.ts";
import { FilterState, MapEntryReader } from "./map-entry.ts";
import { WireReader } from "./wire.ts";

/** As many flags as Envoy has bits for; it has named 30. */
const MAX_RESPONSE_FLAG = 64;

/** `access_log_type` of an entry whose logger says nothing (Envoy before 1.27), and of a request's end. */
export const NOT_SET = 0;
export const DOWNSTREAM_END = 6;
/** Of a TCP connection that goes on, and of its end. */
export const TCP_PERIODIC = 2;
export const TCP_CONNECTION_END = 3;

/** Envoy's stream ids of connections are UUIDs; what is longer is none. */
const MAX_STREAM_ID_BYTES = 128;

// The walkers of this file, one per nesting level. Nothing here is re-entered, so all entries share them.
const entryFields = new WireReader();
const sectionFields = new WireReader();
const fields = new WireReader();
const certificateFields = new WireReader();
const sanFields = new WireReader();
const mapEntry = new MapEntryReader();

/** Fast path: the kind of an entry, and the observation in it. */
export class EntryScan {
  accessLogType = NOT_SET;
  readonly observation = new FilterState();
  private streamIdStart = 0;
  private streamIdStop = 0;

  /** False when what was walked is malformed; request and response are not looked into. */
  read(bytes: Buffer, start: number, stop: number): boolean {
    this.accessLogType = NOT_SET;
    this.observation.clear();
    this.streamIdStart = 0;
    this.streamIdStop = 0;
    entryFields.open(bytes, start, stop);
    while (entryFields.next()) {
      if (entryFields.tag !== COMMON_PROPERTIES) continue;
      if (!this.readCommonProperties(bytes, entryFields.start, entryFields.stop)) return false;
    }
    return !entryFields.isMalformed;
  }

  private readCommonProperties(bytes: Buffer, start: number, stop: number): boolean {
    sectionFields.open(bytes, start, stop);
    while (sectionFields.next()) {
      if (sectionFields.tag === ACCESS_LOG_TYPE) {
        this.accessLogType = sectionFields.low;
      } else if (sectionFields.tag === FILTER_STATE_OBJECTS) {
        if (!mapEntry.read(bytes, sectionFields.start, sectionFields.stop)) return false;
        if (!mapEntry.hasKey(OBSERVATION_STATE)) continue;
        if (!this.observation.read(bytes, mapEntry.valueStart, mapEntry.valueStop)) return false;
        if (this.observation.kind !== "bytes") return false;
      } else if (sectionFields.tag === STREAM_ID) {
        this.streamIdStart = sectionFields.start;
        this.streamIdStop = sectionFields.stop;
      }
    }
    return !sectionFields.isMalformed;
  }

  /** Of the entry that was read from `bytes`; "" when it has none. */
  streamId(bytes: Buffer): string {
    const { streamIdStart, streamIdStop } = this;
    return streamIdStop - streamIdStart > MAX_STREAM_ID_BYTES
      ? ""
      : bytes.toString("latin1", streamIdStart, streamIdStop);
  }
}

/** Slow path: the fields that entries of both kinds have. Reused: `read` overwrites all of them. Absent text is "", absent numbers are 0. */
export abstract class CommonEntry {
  /** First URI SAN of either certificate of the downstream connection. */
  downstreamPeerUriSan = "";
  downstreamLocalUriSan = "";
  /** Server name that the downstream asked for in its TLS handshake. */
  sni = "";
  upstreamCluster = "";
  routeName = "";
  /** The client's, which an HTTP header may have named; and that of the connection's other end, if it differs. */
  readonly downstreamRemote = new AddressField();
  readonly downstreamDirectRemote = new AddressField();
  readonly downstreamLocal = new AddressField();
  readonly upstreamRemote = new AddressField();
  /** Field numbers of the members of ResponseFlags that are set, ascending. */
  readonly responseFlags: number[] = [];

  /** Peers as a wasm filter leaves them and as Istio's native filter does (1.24 and later). */
  readonly wasmUpstreamPeer = new FilterState();
  readonly wasmDownstreamPeer = new FilterState();
  readonly upstreamPeer = new FilterState();
  readonly downstreamPeer = new FilterState();

  // Custom tags.
  upstreamPeerUriSan = "";
  upstreamLocalUriSan = "";
  upstreamWorkload = "";
  destinationServiceHost = "";
  destinationServiceName = "";
  destinationServiceNamespace = "";

  /** False when the entry is malformed; what was read of it then means nothing. */
  read(bytes: Buffer, start: number, stop: number): boolean {
    this.clear();
    entryFields.open(bytes, start, stop);
    while (entryFields.next()) {
      if (!this.readSection(bytes, entryFields.tag, entryFields.start, entryFields.stop)) return false;
    }
    return !entryFields.isMalformed;
  }

  /** One field of the entry; one that is not known is passed over. */
  protected abstract readSection(bytes: Buffer, tag: number, start: number, stop: number): boolean;

  protected readCommonProperties(bytes: Buffer, start: number, stop: number): boolean {
    sectionFields.open(bytes, start, stop);
    while (sectionFields.next()) {
      if (!this.readCommonProperty(bytes, sectionFields)) return false;
    }
    return !sectionFields.isMalformed;
  }

  protected readCommonProperty(bytes: Buffer, field: WireReader): boolean {
    switch (field.tag) {
      case TLS_PROPERTIES:
        return this.readTls(bytes, field.start, field.stop);
      case DOWNSTREAM_REMOTE_ADDRESS:
        this.downstreamRemote.set(field.start, field.stop);
        return true;
      case DOWNSTREAM_DIRECT_REMOTE_ADDRESS:
        this.downstreamDirectRemote.set(field.start, field.stop);
        return true;
      case DOWNSTREAM_LOCAL_ADDRESS:
        this.downstreamLocal.set(field.start, field.stop);
        return true;
      case UPSTREAM_REMOTE_ADDRESS:
        this.upstreamRemote.set(field.start, field.stop);
        return true;
      case UPSTREAM_CLUSTER:
        this.upstreamCluster = field.text();
        return true;
      case RESPONSE_FLAGS:
        return this.readResponseFlags(bytes, field.start, field.stop);
      case ROUTE_NAME:
        this.routeName = field.text();
        return true;
      case FILTER_STATE_OBJECTS:
        return mapEntry.read(bytes, field.start, field.stop) && this.readFilterState(bytes);
      case CUSTOM_TAGS:
        if (!mapEntry.read(bytes, field.start, field.stop)) return false;
        this.readCustomTag();
        return true;
      default:
        return true;
    }
  }

  private readTls(bytes: Buffer, start: number, stop: number): boolean {
    fields.open(bytes, start, stop);
    while (fields.next()) {
      if (fields.tag === LOCAL_CERTIFICATE) {
        const uri = readUriSan(bytes, fields.start, fields.stop);
        if (uri === null) return false;
        this.downstreamLocalUriSan ||= uri;
      } else if (fields.tag === PEER_CERTIFICATE) {
        const uri = readUriSan(bytes, fields.start, fields.stop);
        if (uri === null) return false;
        this.downstreamPeerUriSan ||= uri;
      } else if (fields.tag === SNI) {
        this.sni = fields.text();
      }
    }
    return !fields.isMalformed;
  }

  /** All members are bools but one, `unauthorized_details`, a message: there, to be present is to be set. */
  private readResponseFlags(bytes: Buffer, start: number, stop: number): boolean {
    fields.open(bytes, start, stop);
    while (fields.next()) {
      const isMessage = (fields.tag & 7) !== 0;
      const field = fields.tag >>> 3;
      if (field <= MAX_RESPONSE_FLAG) this.setResponseFlag(field, isMessage || fields.bool());
    }
    return !fields.isMalformed;
  }

  private setResponseFlag(field: number, isSet: boolean): void {
    const { responseFlags } = this;
    const at = responseFlags.indexOf(field);
    if (at >= 0) responseFlags.splice(at, 1);
    if (!isSet) return;
    responseFlags.push(field);
    responseFlags.sort((a, b) => a - b);
  }

  private readFilterState(bytes: Buffer): boolean {
    const state = this.peerState();
    return state === null || state.read(bytes, mapEntry.valueStart, mapEntry.valueStop);
  }

  private peerState(): FilterState | null {
    if (mapEntry.hasKey(WASM_UPSTREAM_PEER)) return this.wasmUpstreamPeer;
    if (mapEntry.hasKey(WASM_DOWNSTREAM_PEER)) return this.wasmDownstreamPeer;
    if (mapEntry.hasKey(ISTIO_UPSTREAM_PEER)) return this.upstreamPeer;
    if (mapEntry.hasKey(ISTIO_DOWNSTREAM_PEER)) return this.downstreamPeer;
    return null;
  }

  private readCustomTag(): void {
    if (mapEntry.hasKey(UPSTREAM_PEER_URI_SAN)) this.upstreamPeerUriSan = mapEntry.text();
    else if (mapEntry.hasKey(UPSTREAM_LOCAL_URI_SAN)) this.upstreamLocalUriSan = mapEntry.text();
    else if (mapEntry.hasKey(UPSTREAM_WORKLOAD)) this.upstreamWorkload = mapEntry.text();
    else if (mapEntry.hasKey(DESTINATION_SERVICE_HOST)) this.destinationServiceHost = mapEntry.text();
    else if (mapEntry.hasKey(DESTINATION_SERVICE_NAME)) this.destinationServiceName = mapEntry.text();
    else if (mapEntry.hasKey(DESTINATION_SERVICE_NAMESPACE)) this.destinationServiceNamespace = mapEntry.text();
  }

  protected clear(): void {
    this.downstreamPeerUriSan = "";
    this.downstreamLocalUriSan = "";
    this.sni = "";
    this.upstreamCluster = "";
    this.routeName = "";
    this.downstreamRemote.clear();
    this.downstreamDirectRemote.clear();
    this.downstreamLocal.clear();
    this.upstreamRemote.clear();
    this.responseFlags.length = 0;
    this.wasmUpstreamPeer.clear();
    this.wasmDownstreamPeer.clear();
    this.upstreamPeer.clear();
    this.downstreamPeer.clear();
    this.upstreamPeerUriSan = "";
    this.upstreamLocalUriSan = "";
    this.upstreamWorkload = "";
    this.destinationServiceHost = "";
    this.destinationServiceName = "";
    this.destinationServiceNamespace = "";
  }
}

/** Slow path: the fields of an HTTP entry. */
export class HttpEntry extends CommonEntry {
  readonly duration = new Duration();
  readonly timeToLastDownstreamTx = new Duration();

  authority = "";
  hasPath = false;
  contentType = "";
  requestHeadersBytes = 0;
  requestBodyBytes = 0;

  responseCode = 0;
  responseHeadersBytes = 0;
  responseBodyBytes = 0;
  headerGrpcStatus = "";
  trailerGrpcStatus = "";

  protected override readSection(bytes: Buffer, tag: number, start: number, stop: number): boolean {
    switch (tag) {
      case COMMON_PROPERTIES:
        return this.readCommonProperties(bytes, start, stop);
      case REQUEST:
        return this.readRequest(bytes, start, stop);
      case RESPONSE:
        return this.readResponse(bytes, start, stop);
      default:
        return true;
    }
  }

  protected override readCommonProperty(bytes: Buffer, field: WireReader): boolean {
    switch (field.tag) {
      case TIME_TO_LAST_DOWNSTREAM_TX:
        return this.timeToLastDownstreamTx.read(bytes, field.start, field.stop);
      case DURATION:
        return this.duration.read(bytes, field.start, field.stop);
      default:
        return super.readCommonProperty(bytes, field);
    }
  }

  private readRequest(bytes: Buffer, start: number, stop: number): boolean {
    sectionFields.open(bytes, start, stop);
    while (sectionFields.next()) {
      switch (sectionFields.tag) {
        case AUTHORITY:
          this.authority = sectionFields.text();
          break;
        case PATH:
          this.hasPath = sectionFields.start < sectionFields.stop;
          break;
        case REQUEST_HEADERS_BYTES:
          this.requestHeadersBytes = sectionFields.uint64();
          break;
        case REQUEST_BODY_BYTES:
          this.requestBodyBytes = sectionFields.uint64();
          break;
        case REQUEST_HEADERS:
          if (!mapEntry.read(bytes, sectionFields.start, sectionFields.stop)) return false;
          if (mapEntry.hasKey(CONTENT_TYPE)) this.contentType = mapEntry.text();
          break;
      }
    }
    return !sectionFields.isMalformed;
  }

  private readResponse(bytes: Buffer, start: number, stop: number): boolean {
    sectionFields.open(bytes, start, stop);
    while (sectionFields.next()) {
      switch (sectionFields.tag) {
        case RESPONSE_CODE:
          if (!this.readResponseCode(bytes, sectionFields.start, sectionFields.stop)) return false;
          break;
        case RESPONSE_HEADERS_BYTES:
          this.responseHeadersBytes = sectionFields.uint64();
          break;
        case RESPONSE_BODY_BYTES:
          this.responseBodyBytes = sectionFields.uint64();
          break;
        case RESPONSE_HEADERS:
          if (!mapEntry.read(bytes, sectionFields.start, sectionFields.stop)) return false;
          if (mapEntry.hasKey(GRPC_STATUS)) this.headerGrpcStatus = mapEntry.text();
          break;
        case RESPONSE_TRAILERS:
          if (!mapEntry.read(bytes, sectionFields.start, sectionFields.stop)) return false;
          if (mapEntry.hasKey(GRPC_STATUS)) this.trailerGrpcStatus = mapEntry.text();
          break;
      }
    }
    return !sectionFields.isMalformed;
  }

  private readResponseCode(bytes: Buffer, start: number, stop: number): boolean {
    fields.open(bytes, start, stop);
    while (fields.next()) {
      if (fields.tag === UINT32_VALUE) this.responseCode = fields.low >>> 0;
    }
    return !fields.isMalformed;
  }

  protected override clear(): void {
    super.clear();
    this.duration.clear();
    this.timeToLastDownstreamTx.clear();
    this.authority = "";
    this.hasPath = false;
    this.contentType = "";
    this.requestHeadersBytes = 0;
    this.requestBodyBytes = 0;
    this.responseCode = 0;
    this.responseHeadersBytes = 0;
    this.responseBodyBytes = 0;
    this.headerGrpcStatus = "";
    this.trailerGrpcStatus = "";
  }
}

/** Slow path: the fields of a TCP entry. */
export class TcpEntry extends CommonEntry {
  /** Where the downstream connected to, as Envoy writes addresses: `10.0.0.7:5432`, `[::1]:5432`, the path of a pipe. */
  downstreamLocalAddress = "";
  receivedBytes = 0;
  sentBytes = 0;

  protected override readSection(bytes: Buffer, tag: number, start: number, stop: number): boolean {
    if (tag === COMMON_PROPERTIES) return this.readCommonProperties(bytes, start, stop);
    return tag !== CONNECTION || this.readConnection(bytes, start, stop);
  }

  protected override readCommonProperty(bytes: Buffer, field: WireReader): boolean {
    if (field.tag !== DOWNSTREAM_LOCAL_ADDRESS) return super.readCommonProperty(bytes, field);
    const text = readAddressText(bytes, field.start, field.stop);
    if (text === null) return false;
    this.downstreamLocalAddress = text || this.downstreamLocalAddress;
    return super.readCommonProperty(bytes, field);
  }

  private readConnection(bytes: Buffer, start: number, stop: number): boolean {
    sectionFields.open(bytes, start, stop);
    while (sectionFields.next()) {
      if (sectionFields.tag === RECEIVED_BYTES) this.receivedBytes = sectionFields.uint64();
      else if (sectionFields.tag === SENT_BYTES) this.sentBytes = sectionFields.uint64();
    }
    return !sectionFields.isMalformed;
  }

  protected override clear(): void {
    super.clear();
    this.downstreamLocalAddress = "";
    this.receivedBytes = 0;
    this.sentBytes = 0;
  }
}

/** First URI among the subject alternative names of CertificateProperties; "" when there is none, null when malformed. */
function readUriSan(bytes: Buffer, start: number, stop: number): string | null {
  let first = "";
  certificateFields.open(bytes, start, stop);
  while (certificateFields.next()) {
    if (certificateFields.tag !== SUBJECT_ALT_NAME) continue;
    let uri = "";
    sanFields.open(bytes, certificateFields.start, certificateFields.stop);
    while (sanFields.next()) {
      if (sanFields.tag === SAN_URI) uri = sanFields.text();
      else if (sanFields.tag === SAN_DNS) uri = ""; // a oneof: the member that stands last counts
    }
    if (sanFields.isMalformed) return null;
    first ||= uri;
  }
  return certificateFields.isMalformed ? null : first;
}
