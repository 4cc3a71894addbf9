// How a call ended, of a log entry: as little as a decision about it needs, read once and without an allocation where nothing went wrong.
// https://github.com/envoyproxy/envoy/blob/main/api/envoy/data/accesslog/v3/accesslog.proto

import { NOT_SET } from "./als-entry.ts";
import { SecondsAndNanos } from "./duration.ts";
import { MapEntryReader } from "./map-entry.ts";
import { bytesTag, varintTag, WireReader } from "./wire.ts";

const COMMON_PROPERTIES = bytesTag(1);
const RESPONSE = bytesTag(4);

// AccessLogCommon
const TIME_TO_LAST_DOWNSTREAM_TX = bytesTag(12);
const RESPONSE_FLAGS = bytesTag(16);
const DURATION = bytesTag(23);
const ACCESS_LOG_TYPE = varintTag(33);

// HTTPResponseProperties, UInt32Value
const RESPONSE_CODE = bytesTag(1);
const RESPONSE_HEADERS = bytesTag(4);
const RESPONSE_TRAILERS = bytesTag(5);
const UINT32_VALUE = varintTag(1);

const GRPC_STATUS = Buffer.from("grpc-status");
/** As many flags as Envoy has bits for. */
const MAX_RESPONSE_FLAG = 64;

// The walkers of this file, one per nesting level.
const entryFields = new WireReader();
const sectionFields = new WireReader();
const fields = new WireReader();
const mapEntry = new MapEntryReader();

class Elapsed extends SecondsAndNanos {
  get milliseconds(): number | null {
    return this.isPresent ? Math.max(0, this.seconds * 1000 + Math.floor(this.nanos / 1e6)) : null;
  }
}

/** Reused: `read` overwrites all of it. */
export class OutcomeEntry {
  accessLogType = NOT_SET;
  /** HTTP status; 0 when there was none. */
  responseCode = 0;
  /** Of the trailers, else the headers; null when neither has one that is a number. */
  grpcStatus: number | null = null;
  /** Field numbers of the members of ResponseFlags that are set, as they stand. */
  readonly responseFlags: number[] = [];
  private readonly lastDownstreamTx = new Elapsed();
  private readonly duration = new Elapsed();
  private hasTrailerStatus = false;

  /** From the start until the last byte went out, whole ms; null when the entry does not say. */
  get latencyMs(): number | null {
    return this.lastDownstreamTx.milliseconds ?? this.duration.milliseconds;
  }

  /** False when the entry is malformed; what was read of it then means nothing. */
  read(bytes: Buffer, start: number, stop: number): boolean {
    this.clear();
    entryFields.open(bytes, start, stop);
    while (entryFields.next()) {
      const { tag, start: at, stop: end } = entryFields;
      if (tag === COMMON_PROPERTIES && !this.readCommonProperties(bytes, at, end)) return false;
      if (tag === RESPONSE && !this.readResponse(bytes, at, end)) return false; // a TCP entry has none
    }
    return !entryFields.isMalformed;
  }

  private readCommonProperties(bytes: Buffer, start: number, stop: number): boolean {
    sectionFields.open(bytes, start, stop);
    while (sectionFields.next()) {
      const { tag, start: at, stop: end } = sectionFields;
      if (tag === ACCESS_LOG_TYPE) this.accessLogType = sectionFields.low;
      else if (tag === RESPONSE_FLAGS && at < end && !this.readFlags(bytes, at, end)) return false;
      else if (tag === DURATION && !this.duration.read(bytes, at, end)) return false;
      else if (tag === TIME_TO_LAST_DOWNSTREAM_TX && !this.lastDownstreamTx.read(bytes, at, end)) return false;
    }
    return !sectionFields.isMalformed;
  }

  /** All members are bools but one, a message: there, to be present is to be set. */
  private readFlags(bytes: Buffer, start: number, stop: number): boolean {
    fields.open(bytes, start, stop);
    while (fields.next()) {
      const field = fields.tag >>> 3;
      const isSet = (fields.tag & 7) !== 0 || fields.bool();
      if (isSet && field <= MAX_RESPONSE_FLAG && !this.responseFlags.includes(field)) this.responseFlags.push(field);
    }
    return !fields.isMalformed;
  }

  private readResponse(bytes: Buffer, start: number, stop: number): boolean {
    sectionFields.open(bytes, start, stop);
    while (sectionFields.next()) {
      const { tag, start: at, stop: end } = sectionFields;
      if (tag === RESPONSE_CODE) {
        if (!this.readCode(bytes, at, end)) return false;
      } else if (tag === RESPONSE_HEADERS || tag === RESPONSE_TRAILERS) {
        if (!mapEntry.read(bytes, at, end)) return false;
        if (mapEntry.hasKey(GRPC_STATUS)) this.setGrpcStatus(mapEntry.text(), tag === RESPONSE_TRAILERS);
      }
    }
    return !sectionFields.isMalformed;
  }

  private readCode(bytes: Buffer, start: number, stop: number): boolean {
    fields.open(bytes, start, stop);
    while (fields.next()) {
      if (fields.tag === UINT32_VALUE) this.responseCode = fields.low >>> 0;
    }
    return !fields.isMalformed;
  }

  private setGrpcStatus(text: string, isTrailer: boolean): void {
    if (!/^\d{1,2}$/.test(text) || (this.hasTrailerStatus && !isTrailer)) return;
    this.grpcStatus = Number(text);
    this.hasTrailerStatus = isTrailer;
  }

  private clear(): void {
    this.accessLogType = NOT_SET;
    this.responseCode = 0;
    this.grpcStatus = null;
    this.responseFlags.length = 0;
    this.lastDownstreamTx.clear();
    this.duration.clear();
    this.hasTrailerStatus = false;
  }
}
