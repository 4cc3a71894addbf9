// One entry of an access-log message -> one AccessRecord, or the reason why it is none. Total: no bytes make it throw.
//
// An entry of a proxy with our filter carries the observation: the label set and the numbers exactly as the filter counted them.
// Any other entry's labels are derived from its own fields.

import { isUtf8 } from "node:buffer";
import type { AlsIdentifier } from "../proto/als.ts";
import { DOWNSTREAM_END, EntryScan, HttpEntry, NOT_SET } from "../proto/als-entry.ts";
import { BytesCache } from "../proto/bytes-cache.ts";
import type { FilterState } from "../proto/map-entry.ts";
import { Attribution, identifySender, type Sender } from "../resolver/attribution.ts";
import type { DropReason } from "../self.ts";
import {
  LABELS,
  OBSERVATION_DURATION_OFFSET,
  OBSERVATION_KIND_HTTP,
  OBSERVATION_KIND_OFFSET,
  OBSERVATION_LABEL_COUNT_OFFSET,
  OBSERVATION_LABELS_OFFSET,
  OBSERVATION_REQUEST_BYTES_OFFSET,
  OBSERVATION_RESPONSE_BYTES_OFFSET,
  OBSERVATION_START_OFFSET,
  OBSERVATION_VERSION,
} from "../vocabulary.ts";
import type { AccessRecord } from "./record.ts";

/** Duration of a request that did not finish. */
const NOT_FINISHED = -1;
const LIFE_NOT_TOLD = 0;
const ALL_ONES = 0xffffffff;
const TWO_TO_32 = 2 ** 32;

/** As many as there are bytes for: at most 64 MiB with the strings. */
const MAX_LABEL_KEYS = 16_384;
const MAX_LABEL_KEY_BYTES = 2048;

/** Where a record's labels came from; label value of `meshtally_access_log_entries_total`. */
export type LabelsOrigin = "observation" | "derived";

export interface AlsRecord extends AccessRecord {
  readonly labels: LabelsOrigin;
}

export type { Sender };

export class AlsDecoder {
  private readonly scan = new EntryScan();
  private readonly entry = new HttpEntry();
  /** The same string object for the same label set: a Map that it is looked up in need not hash it again. */
  private readonly labelKeys = new BytesCache<string | null>(MAX_LABEL_KEYS, MAX_LABEL_KEY_BYTES);
  private readonly attribution = new Attribution();

  /** Who sends the entries after this identifier. */
  identify(identifier: AlsIdentifier): Sender {
    return identifySender(identifier);
  }

  /** Decodes the HTTP entry at bytes[start, stop) of a message that `sender` sent. */
  decode(bytes: Buffer, start: number, stop: number, sender: Sender): AlsRecord | DropReason {
    const { scan, entry } = this;
    if (!scan.read(bytes, start, stop)) return "entry_malformed";
    if (scan.accessLogType !== DOWNSTREAM_END && scan.accessLogType !== NOT_SET) return "not_final";
    const { observation } = scan;
    const isObserved = observation.kind === "bytes" && !isNewer(bytes, observation);
    if (isObserved) return this.recordObservation(bytes, observation, sender); // fast path
    if (!entry.read(bytes, start, stop)) return "entry_malformed"; // slow path
    if (observation.kind === "none" && !hasRequest(entry)) return "no_request";
    return {
      proxy: sender.id,
      lifeMs: LIFE_NOT_TOLD,
      labelKey: this.attribution.resolve(bytes, entry, sender),
      durationMs: durationOf(entry),
      requestBytes: entry.requestHeadersBytes + entry.requestBodyBytes,
      responseBytes: entry.responseHeadersBytes + entry.responseBodyBytes,
      labels: "derived",
    };
  }

  /** Layout: filter/vocabulary/observation.ts. */
  private recordObservation(bytes: Buffer, { start, stop }: FilterState, sender: Sender): AlsRecord | DropReason {
    if (!isObservation(bytes, start, stop)) return "entry_malformed";
    const labelKey = this.labelKeys.resolve(bytes, start + OBSERVATION_LABELS_OFFSET, stop, readLabelKey);
    if (labelKey === null) return "entry_malformed";
    return {
      proxy: sender.id,
      lifeMs: readUint64(bytes, start + OBSERVATION_START_OFFSET),
      labelKey,
      durationMs: readDuration(bytes, start + OBSERVATION_DURATION_OFFSET),
      requestBytes: readUint64(bytes, start + OBSERVATION_REQUEST_BYTES_OFFSET),
      responseBytes: readUint64(bytes, start + OBSERVATION_RESPONSE_BYTES_OFFSET),
      labels: "observation",
    };
  }
}

/**
 * Null when a value is no UTF-8: label sets that differ in broken bytes alone would be shown as one series twice, and Prometheus
 * refuses such a page whole. (A length byte of 128 or more is no ASCII, so the values are checked one by one.)
 */
function readLabelKey(bytes: Buffer, start: number, stop: number): string | null {
  for (let at = start; at < stop; ) {
    const end = at + 1 + (bytes[at] as number);
    if (!isUtf8(bytes.subarray(at + 1, end))) return null;
    at = end;
  }
  return bytes.toString("latin1", start, stop);
}

/** Of a version that is not known here: while the proxies are updated before the collector. What the entry says else still holds. */
function isNewer(bytes: Buffer, { start, stop }: FilterState): boolean {
  return start < stop && (bytes[start] as number) > OBSERVATION_VERSION;
}

/** Of our version and kind, with all labels, and not a byte more. */
function isObservation(bytes: Buffer, start: number, stop: number): boolean {
  if (stop - start < OBSERVATION_LABELS_OFFSET) return false;
  if (bytes[start] !== OBSERVATION_VERSION) return false;
  if (bytes[start + OBSERVATION_KIND_OFFSET] !== OBSERVATION_KIND_HTTP) return false;
  if (bytes[start + OBSERVATION_LABEL_COUNT_OFFSET] !== LABELS.length) return false;
  let at = start + OBSERVATION_LABELS_OFFSET;
  for (let i = 0; i < LABELS.length; i++) {
    if (at >= stop) return false;
    at += 1 + (bytes[at] as number);
  }
  return at === stop;
}

function readDuration(bytes: Buffer, at: number): number {
  const isNever = bytes.readUInt32LE(at) === ALL_ONES && bytes.readUInt32LE(at + 4) === ALL_ONES;
  return isNever ? NOT_FINISHED : readUint64(bytes, at);
}

/** Beyond 2^53 the nearest number. */
function readUint64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at + 4) * TWO_TO_32 + bytes.readUInt32LE(at);
}

/**
 * Envoy logs a stream also when its client went away in the middle of the request headers. No filter ever saw that, so stats do not
 * have it.
 */
function hasRequest({ requestHeadersBytes, authority, hasPath, responseCode }: HttpEntry): boolean {
  return requestHeadersBytes > 0 || authority !== "" || hasPath || responseCode !== 0;
}

/** The whole request's, as the filter takes it; the last byte's where Envoy is too old to say. */
function durationOf({ duration, timeToLastDownstreamTx }: HttpEntry): number {
  if (duration.isPresent) return duration.milliseconds;
  return timeToLastDownstreamTx.isPresent ? timeToLastDownstreamTx.milliseconds : NOT_FINISHED;
}
