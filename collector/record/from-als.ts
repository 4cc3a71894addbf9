// One entry of an access-log message -> AccessRecord, or the reason why it is none. Total: no bytes make it throw.
//
// An entry of a proxy with our filter carries the observation: the label set and the numbers exactly as the filter counted them.
// Where its metrics differ in their label sets, it gives a record for each. Any other entry's labels are derived from its own fields.

import { isUtf8 } from "node:buffer";
import type { AlsIdentifier } from "../proto/als.ts";
import { DOWNSTREAM_END, EntryScan, HttpEntry, NOT_SET } from "../proto/als-entry.ts";
import { BytesCache } from "../proto/bytes-cache.ts";
import type { FilterState } from "../proto/map-entry.ts";
import { Attribution, identifySender, type Sender } from "../resolver/attribution.ts";
import type { DropReason } from "../self.ts";
import {
  HTTP_METRICS,
  HttpMetric,
  LABELS,
  OBSERVATION_DURATION_OFFSET,
  OBSERVATION_KIND_HTTP,
  OBSERVATION_KIND_HTTP_SPLIT,
  OBSERVATION_KIND_OFFSET,
  OBSERVATION_LABEL_COUNT_OFFSET,
  OBSERVATION_LABELS_OFFSET,
  OBSERVATION_OMITTED_OFFSET,
  OBSERVATION_REQUEST_BYTES_OFFSET,
  OBSERVATION_RESPONSE_BYTES_OFFSET,
  OBSERVATION_START_OFFSET,
  OBSERVATION_VERSION,
} from "../vocabulary.ts";
import type { AccessRecord } from "./record.ts";

/** Duration of a request that did not finish. */
const NOT_FINISHED = -1;
/** Number of a metric that does not carry the record's label set. */
const NOT_RECORDED = -1;
/** All of HTTP_METRICS, a bit each. */
const ALL_METRICS = 2 ** HTTP_METRICS.length - 1;
const LIFE_NOT_TOLD = 0;
const ALL_ONES = 0xffffffff;
const TWO_TO_32 = 2 ** 32;

/** As many as there are bytes for: at most 64 MiB with the strings. */
const MAX_LABEL_KEYS = 16_384;
const MAX_LABEL_KEY_BYTES = 2048;

/** Where a record's labels came from; label value of `meshtally_access_log_entries_total`. */
export type LabelsOrigin = "observation" | "derived";

/** Takes a record, or says why it does not. */
export type RecordSink = (record: AccessRecord) => DropReason | null;

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

  /**
   * Decodes the HTTP entry at bytes[start, stop) of a message that `sender` sent, and hands its records on: mostly one, several
   * where its metrics carry different label sets, none where the filter recorded nothing. If the sink refuses one, its reason is
   * the entry's, though others may have been taken.
   */
  decode(bytes: Buffer, start: number, stop: number, sender: Sender, sink: RecordSink): LabelsOrigin | DropReason {
    const { scan, entry } = this;
    if (!scan.read(bytes, start, stop)) return "entry_malformed";
    if (scan.accessLogType !== DOWNSTREAM_END && scan.accessLogType !== NOT_SET) return "not_final";
    const { observation } = scan;
    const isObserved = observation.kind === "bytes" && !isNewer(bytes, observation);
    if (isObserved) return this.readObservation(bytes, observation, sender, sink) ?? "observation"; // fast path
    if (!entry.read(bytes, start, stop)) return "entry_malformed"; // slow path
    if (observation.kind === "none" && !hasRequest(entry)) return "no_request";
    const record: AccessRecord = {
      proxy: sender.id,
      lifeMs: LIFE_NOT_TOLD,
      labelKey: this.attribution.resolve(bytes, entry, sender),
      requests: 1,
      durationMs: durationOf(entry),
      requestBytes: entry.requestHeadersBytes + entry.requestBodyBytes,
      responseBytes: entry.responseHeadersBytes + entry.responseBodyBytes,
    };
    return sink(record) ?? "derived";
  }

  /** Layout: filter/vocabulary/observation.ts. */
  private readObservation(bytes: Buffer, state: FilterState, sender: Sender, sink: RecordSink): DropReason | null {
    const { start, stop } = state;
    if (stop - start < OBSERVATION_LABELS_OFFSET || bytes[start] !== OBSERVATION_VERSION) return "entry_malformed";
    const kind = bytes[start + OBSERVATION_KIND_OFFSET] as number;
    if (kind > OBSERVATION_KIND_HTTP_SPLIT) return "kind_unknown";
    if (bytes[start + OBSERVATION_LABEL_COUNT_OFFSET] !== LABELS.length) return "entry_malformed";
    if (kind !== OBSERVATION_KIND_HTTP) return this.readSplit(bytes, state, sender, sink);
    const labels = start + OBSERVATION_LABELS_OFFSET;
    if (endOfLabels(bytes, labels, stop) !== stop) return "entry_malformed";
    const labelKey = this.labelKeys.resolve(bytes, labels, stop, readLabelKey);
    if (labelKey === null) return "entry_malformed";
    const metrics = ~(bytes[start + OBSERVATION_OMITTED_OFFSET] as number);
    const record = recordOf(bytes, start, sender, labelKey, metrics);
    return isEmpty(record) ? null : sink(record);
  }

  /** slow: the label sets differ from metric to metric. All of it is read before any is handed on. */
  private readSplit(bytes: Buffer, { start, stop }: FilterState, sender: Sender, sink: RecordSink): DropReason | null {
    const records: AccessRecord[] = [];
    let seen = bytes[start + OBSERVATION_OMITTED_OFFSET] as number;
    let at = start + OBSERVATION_LABELS_OFFSET;
    if (at >= stop) return "entry_malformed";
    for (let left = bytes[at++] as number; left > 0; left--) {
      if (at >= stop) return "entry_malformed";
      const metrics = bytes[at++] as number;
      if (metrics === 0 || (metrics & seen) !== 0) return "entry_malformed"; // twice would be counted twice
      seen |= metrics;
      const end = endOfLabels(bytes, at, stop);
      const labelKey = end > stop ? null : this.labelKeys.resolve(bytes, at, end, readLabelKey);
      if (labelKey === null) return "entry_malformed";
      records.push(recordOf(bytes, start, sender, labelKey, metrics));
      at = end;
    }
    if (at !== stop || (seen & ALL_METRICS) !== ALL_METRICS) return "entry_malformed";
    let refusal: DropReason | null = null;
    for (const record of records) {
      if (!isEmpty(record)) refusal = sink(record) ?? refusal;
    }
    return refusal;
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

/** Where the packed label set at `start` ends; beyond `stop` if that cuts it short. */
function endOfLabels(bytes: Buffer, start: number, stop: number): number {
  let at = start;
  for (let i = 0; i < LABELS.length; i++) {
    if (at >= stop) return stop + 1;
    at += 1 + (bytes[at] as number);
  }
  return at;
}

/** The record of the metrics whose bits are set, of the observation at `start`. */
function recordOf(bytes: Buffer, start: number, sender: Sender, labelKey: string, metrics: number): AccessRecord {
  const read = (metric: HttpMetric, at: number) =>
    has(metrics, metric) ? readUint64(bytes, start + at) : NOT_RECORDED;
  return {
    proxy: sender.id,
    lifeMs: readUint64(bytes, start + OBSERVATION_START_OFFSET),
    labelKey,
    requests: has(metrics, HttpMetric.Requests) ? 1 : 0,
    durationMs: has(metrics, HttpMetric.Duration)
      ? readDuration(bytes, start + OBSERVATION_DURATION_OFFSET)
      : NOT_RECORDED,
    requestBytes: read(HttpMetric.RequestBytes, OBSERVATION_REQUEST_BYTES_OFFSET),
    responseBytes: read(HttpMetric.ResponseBytes, OBSERVATION_RESPONSE_BYTES_OFFSET),
  };
}

function has(metrics: number, metric: HttpMetric): boolean {
  return (metrics & (1 << metric)) !== 0;
}

/** Of which no metric tells anything: it would only take up the room of a label set. */
function isEmpty({ requests, durationMs, requestBytes, responseBytes }: AccessRecord): boolean {
  return requests === 0 && durationMs < 0 && requestBytes < 0 && responseBytes < 0;
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
