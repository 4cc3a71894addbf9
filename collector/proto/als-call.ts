// envoy.data.accesslog.v3.HTTPAccessLogEntry in one pass, without making a string: the numbers of a call, and its fingerprint, the bytes
// that decide whose call it is and how it ended. Of a mesh's entries few fingerprints differ: what follows from one is found out once.
// https://github.com/envoyproxy/envoy/blob/main/api/envoy/data/accesslog/v3/accesslog.proto
//
// In the fingerprint: TLS versions and certificates, cluster, flags, route, peers, the label sets of the observation, the custom tags that we
// know, authority, content type, gRPC status, code; addresses, if somebody looks them up. Not in it: what differs from call to call.

import { OBSERVATION_LABELS_OFFSET } from "../vocabulary.ts";
import {
  ACCESS_LOG_TYPE,
  ATTEMPT_COUNT,
  AUTHORITY,
  COMMON_PROPERTIES,
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
  INPUT_TOKENS,
  ISTIO_DOWNSTREAM_PEER,
  ISTIO_UPSTREAM_PEER,
  LOCAL_CERTIFICATE,
  METHOD,
  OBSERVATION_STATE,
  OUTPUT_TOKENS,
  PATH,
  PEER_CERTIFICATE,
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
  SNI,
  SOCKET_ADDRESS,
  SOCKET_IP,
  START_TIME,
  STREAM_ID,
  TIME_TO_FIRST_DOWNSTREAM_TX,
  TIME_TO_FIRST_UPSTREAM_RX,
  TIME_TO_FIRST_UPSTREAM_TX,
  TIME_TO_LAST_DOWNSTREAM_TX,
  TIME_TO_LAST_UPSTREAM_RX,
  TLS_PROPERTIES,
  TLS_VERSION,
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
import { Fingerprint } from "./fingerprint.ts";
import { FilterState, MapEntryReader } from "./map-entry.ts";
import { WireReader } from "./wire.ts";

const PEER_STATES = [WASM_UPSTREAM_PEER, WASM_DOWNSTREAM_PEER, ISTIO_UPSTREAM_PEER, ISTIO_DOWNSTREAM_PEER];
/** Those that HttpEntry (als-entry.ts) reads. */
const KNOWN_TAGS = [
  UPSTREAM_PEER_URI_SAN,
  UPSTREAM_LOCAL_URI_SAN,
  UPSTREAM_WORKLOAD,
  DESTINATION_SERVICE_HOST,
  DESTINATION_SERVICE_NAME,
  DESTINATION_SERVICE_NAMESPACE,
];

const TOKEN_TAGS = [INPUT_TOKENS, OUTPUT_TOKENS];

/** Parts of a fingerprint. */
enum Part {
  Sender = 1,
  UpstreamRemote,
  DownstreamLocal,
  DownstreamRemote,
  DownstreamDirectRemote,
  TlsVersion,
  Sni,
  LocalCertificate,
  PeerCertificate,
  Flags,
  Cluster,
  Route,
  Peer,
  Tag,
  Authority,
  ContentType,
  HeaderGrpcStatus,
  TrailerGrpcStatus,
  Code,
  HasUpstream,
  HasRequest,
  ObservationHead,
  ObservationLabels,
  Address,
  AddressField,
}

/** An entry whose fingerprint would be longer is looked at every time anew. */
const MAX_FINGERPRINT_WORDS = 1024;

// The walkers of this file, one per nesting level.
const entryFields = new WireReader();
const sectionFields = new WireReader();
const fields = new WireReader();
const addressFields = new WireReader();
const mapEntry = new MapEntryReader();

/** google.protobuf.Duration or Timestamp; all 0 when the entry does not say. */
export class Time extends Duration {
  /** Of a Duration, beyond 104 days to the nearest few. */
  get nanoseconds(): number {
    return this.seconds * 1e9 + this.nanos;
  }

  /** Of a Timestamp. */
  get unixMs(): number {
    return this.seconds * 1000 + Math.floor(this.nanos / 1e6);
  }
}

/** Reused: `read` overwrites all of it. */
export class CallEntry {
  readonly startTime = new Time();
  // Since the start.
  readonly firstUpstreamTx = new Time();
  readonly firstUpstreamRx = new Time();
  readonly lastUpstreamRx = new Time();
  readonly firstDownstreamTx = new Time();
  readonly lastDownstreamTx = new Time();
  readonly duration = new Time();

  accessLogType = 0;
  attempts = 0;
  /** That went into a model and came out of it. */
  tokens = 0;
  hasUpstream = false;
  responseCode = 0;
  /** As the headers or trailers say, -1 when they do not; whatever was spoken. */
  grpcStatus = -1;
  requestHeadersBytes = 0;
  requestBodyBytes = 0;
  responseHeadersBytes = 0;
  responseBodyBytes = 0;
  readonly observation = new FilterState();

  /** A number of envoy.config.core.v3.RequestMethod. */
  method = 0;
  pathStart = 0;
  pathStop = 0;
  streamIdStart = 0;
  streamIdStop = 0;

  /** Of what was read last; of no use when `isUnique`. */
  readonly fingerprint = new Fingerprint(MAX_FINGERPRINT_WORDS);
  private isOdd = false;

  /** `withAddresses`: whether addresses decide whose call it is. */
  constructor(private readonly withAddresses: boolean) {}

  /** How long all of it took; until the last byte where Envoy is too old to say. */
  get whole(): Time {
    return this.duration.isPresent ? this.duration : this.lastDownstreamTx;
  }

  /** When the caller had its answer, or all was over without one. */
  get finished(): Time {
    return this.lastDownstreamTx.isPresent ? this.lastDownstreamTx : this.duration;
  }

  /** Whether no other entry can be compared with it: it is odd, or its fingerprint would be too long. */
  get isUnique(): boolean {
    return this.isOdd || !this.fingerprint.isWhole;
  }

  /** False when the entry is malformed. The fingerprint begins with `sender`, a number. */
  read(bytes: Buffer, start: number, stop: number, sender: number): boolean {
    this.clear();
    this.fingerprint.open(bytes);
    this.fingerprint.addNumber(Part.Sender, sender);
    entryFields.open(bytes, start, stop);
    while (entryFields.next()) {
      const { tag, start: at, stop: end } = entryFields;
      if (tag === COMMON_PROPERTIES && !this.readCommonProperties(bytes, at, end)) return false;
      if (tag === REQUEST && !this.readRequest(bytes, at, end)) return false;
      if (tag === RESPONSE && !this.readResponse(bytes, at, end)) return false;
    }
    this.addOutcome(bytes);
    return !entryFields.isMalformed;
  }

  private readCommonProperties(bytes: Buffer, start: number, stop: number): boolean {
    sectionFields.open(bytes, start, stop);
    while (sectionFields.next()) {
      if (!this.readCommonProperty(bytes, sectionFields.tag, sectionFields.start, sectionFields.stop)) return false;
    }
    return !sectionFields.isMalformed;
  }

  private readCommonProperty(bytes: Buffer, tag: number, start: number, stop: number): boolean {
    switch (tag) {
      case START_TIME:
        return this.startTime.read(bytes, start, stop);
      case TIME_TO_FIRST_UPSTREAM_TX:
        return this.firstUpstreamTx.read(bytes, start, stop);
      case TIME_TO_FIRST_UPSTREAM_RX:
        return this.firstUpstreamRx.read(bytes, start, stop);
      case TIME_TO_LAST_UPSTREAM_RX:
        return this.lastUpstreamRx.read(bytes, start, stop);
      case TIME_TO_FIRST_DOWNSTREAM_TX:
        return this.firstDownstreamTx.read(bytes, start, stop);
      case TIME_TO_LAST_DOWNSTREAM_TX:
        return this.lastDownstreamTx.read(bytes, start, stop);
      case DURATION:
        return this.duration.read(bytes, start, stop);
      case TLS_PROPERTIES:
        return this.readTls(bytes, start, stop);
      case UPSTREAM_REMOTE_ADDRESS:
        this.hasUpstream = true;
        if (this.withAddresses) this.fingerprint.add(Part.UpstreamRemote, start, stop);
        return true;
      case DOWNSTREAM_LOCAL_ADDRESS:
        if (this.withAddresses) this.fingerprint.add(Part.DownstreamLocal, start, stop);
        return true;
      case DOWNSTREAM_REMOTE_ADDRESS:
        if (this.withAddresses) this.addWithoutPort(Part.DownstreamRemote, bytes, start, stop);
        return true;
      case DOWNSTREAM_DIRECT_REMOTE_ADDRESS:
        if (this.withAddresses) this.addWithoutPort(Part.DownstreamDirectRemote, bytes, start, stop);
        return true;
      case RESPONSE_FLAGS:
        this.fingerprint.add(Part.Flags, start, stop);
        return true;
      case UPSTREAM_CLUSTER:
        this.fingerprint.add(Part.Cluster, start, stop);
        return true;
      case ROUTE_NAME:
        this.fingerprint.add(Part.Route, start, stop);
        return true;
      case FILTER_STATE_OBJECTS:
        return mapEntry.read(bytes, start, stop) && this.readFilterState(bytes, start, stop);
      case CUSTOM_TAGS:
        if (!mapEntry.read(bytes, start, stop)) return false;
        if (KNOWN_TAGS.some((key) => mapEntry.hasKey(key))) this.fingerprint.add(Part.Tag, start, stop);
        else if (hasKeyOf(TOKEN_TAGS)) this.addTokens(mapEntry.text());
        return true;
      case STREAM_ID:
        this.streamIdStart = start;
        this.streamIdStop = stop;
        return true;
      case ATTEMPT_COUNT:
        this.attempts = sectionFields.low >>> 0;
        return true;
      case ACCESS_LOG_TYPE:
        this.accessLogType = sectionFields.low;
        return true;
      default:
        return true;
    }
  }

  private readFilterState(bytes: Buffer, start: number, stop: number): boolean {
    if (mapEntry.hasKey(OBSERVATION_STATE)) {
      return this.observation.read(bytes, mapEntry.valueStart, mapEntry.valueStop) && this.observation.kind === "bytes";
    }
    if (hasKeyOf(PEER_STATES)) this.fingerprint.add(Part.Peer, start, stop);
    return true;
  }

  private addTokens(text: string): void {
    if (/^\d{1,12}$/.test(text)) this.tokens += Number(text);
  }

  /** Without the session's id and the client's fingerprint, which differ from connection to connection. */
  private readTls(bytes: Buffer, start: number, stop: number): boolean {
    fields.open(bytes, start, stop);
    while (fields.next()) {
      const { tag } = fields;
      if (tag === TLS_VERSION) this.fingerprint.addNumber(Part.TlsVersion, fields.low);
      else if (tag === SNI) this.fingerprint.add(Part.Sni, fields.start, fields.stop);
      else if (tag === LOCAL_CERTIFICATE) this.fingerprint.add(Part.LocalCertificate, fields.start, fields.stop);
      else if (tag === PEER_CERTIFICATE) this.fingerprint.add(Part.PeerCertificate, fields.start, fields.stop);
    }
    return !fields.isMalformed;
  }

  /** A client's port differs from connection to connection. An address that says nothing takes the place of another all the same. */
  private addWithoutPort(part: Part, bytes: Buffer, start: number, stop: number): void {
    this.fingerprint.addNumber(Part.Address, part);
    addressFields.open(bytes, start, stop);
    while (addressFields.next()) {
      const { tag } = addressFields;
      this.fingerprint.addNumber(Part.AddressField, tag);
      if (tag === SOCKET_ADDRESS) this.addIp(part, bytes, addressFields.start, addressFields.stop);
      else if ((tag & 7) === 2) this.fingerprint.add(part, addressFields.start, addressFields.stop);
    }
    if (addressFields.isMalformed) this.isOdd = true;
  }

  private addIp(part: Part, bytes: Buffer, start: number, stop: number): void {
    fields.open(bytes, start, stop);
    while (fields.next()) if (fields.tag === SOCKET_IP) this.fingerprint.add(part, fields.start, fields.stop);
    if (fields.isMalformed) this.isOdd = true;
  }

  private readRequest(bytes: Buffer, start: number, stop: number): boolean {
    sectionFields.open(bytes, start, stop);
    while (sectionFields.next()) {
      switch (sectionFields.tag) {
        case METHOD:
          this.method = sectionFields.low;
          break;
        case AUTHORITY:
          this.fingerprint.add(Part.Authority, sectionFields.start, sectionFields.stop);
          break;
        case PATH:
          this.pathStart = sectionFields.start;
          this.pathStop = sectionFields.stop;
          break;
        case REQUEST_HEADERS_BYTES:
          this.requestHeadersBytes = sectionFields.uint64();
          break;
        case REQUEST_BODY_BYTES:
          this.requestBodyBytes = sectionFields.uint64();
          break;
        case REQUEST_HEADERS:
          if (!this.readHeader(bytes, CONTENT_TYPE, Part.ContentType)) return false;
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
          if (!this.readGrpcStatus(bytes, Part.HeaderGrpcStatus)) return false;
          break;
        case RESPONSE_TRAILERS:
          if (!this.readGrpcStatus(bytes, Part.TrailerGrpcStatus)) return false;
          break;
      }
    }
    return !sectionFields.isMalformed;
  }

  /** The header at the current field of the section, if it is that one. */
  private readHeader(bytes: Buffer, name: Buffer, part: Part): boolean {
    const { start, stop } = sectionFields;
    if (!mapEntry.read(bytes, start, stop)) return false;
    if (mapEntry.hasKey(name)) this.fingerprint.add(part, start, stop);
    return true;
  }

  private readGrpcStatus(bytes: Buffer, part: Part): boolean {
    if (!this.readHeader(bytes, GRPC_STATUS, part)) return false;
    if (!mapEntry.hasKey(GRPC_STATUS)) return true;
    const text = mapEntry.text();
    if (/^\d{1,2}$/.test(text)) this.grpcStatus = Number(text);
    return true;
  }

  private readResponseCode(bytes: Buffer, start: number, stop: number): boolean {
    fields.open(bytes, start, stop);
    while (fields.next()) {
      if (fields.tag === UINT32_VALUE) this.responseCode = fields.low >>> 0;
    }
    return !fields.isMalformed;
  }

  /** What is known at the end only: the code, and what of the observation is the same for calls alike. */
  private addOutcome(bytes: Buffer): void {
    this.fingerprint.addNumber(Part.Code, this.responseCode);
    this.fingerprint.addNumber(Part.HasUpstream, this.hasUpstream ? 1 : 0);
    this.fingerprint.addNumber(Part.HasRequest, this.requestHeadersBytes > 0 || this.pathStop > this.pathStart ? 1 : 0);
    const { kind, start, stop } = this.observation;
    if (kind === "none") return;
    if (stop - start < OBSERVATION_LABELS_OFFSET) {
      this.isOdd = true; // malformed
      return;
    }
    this.fingerprint.addNumber(Part.ObservationHead, bytes.readInt32LE(start)); // version, kind, number of labels, omitted metrics
    this.fingerprint.add(Part.ObservationLabels, start + OBSERVATION_LABELS_OFFSET, stop);
  }

  private clear(): void {
    this.startTime.clear();
    this.firstUpstreamTx.clear();
    this.firstUpstreamRx.clear();
    this.lastUpstreamRx.clear();
    this.firstDownstreamTx.clear();
    this.lastDownstreamTx.clear();
    this.duration.clear();
    this.accessLogType = 0;
    this.attempts = 0;
    this.tokens = 0;
    this.hasUpstream = false;
    this.responseCode = 0;
    this.grpcStatus = -1;
    this.requestHeadersBytes = 0;
    this.requestBodyBytes = 0;
    this.responseHeadersBytes = 0;
    this.responseBodyBytes = 0;
    this.observation.clear();
    this.method = 0;
    this.pathStart = 0;
    this.pathStop = 0;
    this.streamIdStart = 0;
    this.streamIdStop = 0;
    this.isOdd = false;
  }
}

function hasKeyOf(keys: readonly Buffer[]): boolean {
  for (const key of keys) if (mapEntry.hasKey(key)) return true;
  return false;
}
