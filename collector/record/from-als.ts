// One entry of an access-log message -> AccessRecord or ConnectionRecord, or the reason why it is none. Total: no bytes make it throw.
//
// An entry of a proxy with our filter carries the observation: the label set and the numbers exactly as the filter counted them.
// Where its metrics differ in their label sets, it gives a record for each. Any other entry's labels are derived from its own fields.

import type { AlsIdentifier } from "../proto/als.ts";
import {
  DOWNSTREAM_END,
  EntryScan,
  HttpEntry,
  NOT_SET,
  TCP_CONNECTION_END,
  TCP_PERIODIC,
  TcpEntry,
} from "../proto/als-entry.ts";
import type { Duration } from "../proto/duration.ts";
import type { FilterState } from "../proto/map-entry.ts";
import { Attribution, type IdentityChain, identifySender, type Sender } from "../resolver/attribution.ts";
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
import { endOfLabels, LabelKeys, readUint64 } from "./packed.ts";
import type { AccessRecord, ConnectionRecord } from "./record.ts";
import { readTcpObservation, type TcpBytes } from "./tcp-observation.ts";

/** Duration of a request that did not finish. */
const NOT_FINISHED = -1;
/** Number of a metric that does not carry the record's label set. */
const NOT_RECORDED = -1;
/** With a few KiB of node metadata each. */
const MAX_SENDERS = 10_000;
/** All of HTTP_METRICS, a bit each. */
const ALL_METRICS = 2 ** HTTP_METRICS.length - 1;
const LIFE_NOT_TOLD = 0;
const ALL_ONES = 0xffffffff;

/** Where a record's labels came from; label value of `meshtally_access_log_entries_total`. */
export type LabelsOrigin = "observation" | "derived";

/** Takes a record, or says why it does not. */
export type RecordSink = (record: AccessRecord) => DropReason | null;

/** The same for what an entry tells of a TCP connection. */
export type ConnectionSink = (record: ConnectionRecord) => DropReason | null;

export type { IdentityChain, Sender };

type Sizes = Pick<HttpEntry, "requestHeadersBytes" | "requestBodyBytes" | "responseHeadersBytes" | "responseBodyBytes">;

export class AlsDecoder {
  /** Of the TCP entry decoded last, as the filter counted them; null where it counted none, and the entry's own are all that is known. */
  observedBytes: TcpBytes | null = null;
  /** Of the TCP entry decoded last; "" when it has none. */
  streamId = "";
  private readonly scan = new EntryScan();
  private readonly entry = new HttpEntry();
  private readonly tcpEntry = new TcpEntry();
  private readonly labelKeys = new LabelKeys();
  private readonly senders = new Map<string, Sender>();
  private readonly attribution: Attribution;

  /** `chain` names the ends of entries without an observation, beyond what they say themselves. */
  constructor(chain?: IdentityChain) {
    this.attribution = new Attribution(chain);
  }

  /** Who sends the entries after this identifier: the same object for the same words, as each of a proxy's streams brings them. */
  identify(identifier: AlsIdentifier): Sender {
    const { nodeId, logName, metadata } = identifier;
    const key = JSON.stringify([nodeId, logName, [...metadata.texts], [...metadata.labels]]);
    const known = this.senders.get(key);
    if (known !== undefined) return known;
    if (this.senders.size >= MAX_SENDERS) this.senders.clear();
    const sender = identifySender(identifier);
    this.senders.set(key, sender);
    return sender;
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
    const whole = entry.duration.isPresent ? entry.duration : entry.timeToLastDownstreamTx;
    return sink(derivedRecord(entry, whole, sender, this.attribution.resolve(bytes, entry, sender))) ?? "derived";
  }

  /**
   * Decodes the TCP entry at bytes[start, stop) of a message that `sender` sent, and hands on what it says of its connection: as the
   * filter counted it, or as its own fields say. What it gains by that is for the sink to tell (series/connections.ts).
   */
  decodeTcp(
    bytes: Buffer,
    start: number,
    stop: number,
    sender: Sender,
    sink: ConnectionSink,
  ): LabelsOrigin | DropReason {
    const { scan } = this;
    this.observedBytes = null;
    this.streamId = "";
    if (!scan.read(bytes, start, stop)) return "entry_malformed";
    this.streamId = scan.streamId(bytes);
    const { observation, accessLogType } = scan;
    if (observation.kind !== "bytes" || isNewer(bytes, observation)) {
      return this.deriveConnection(bytes, start, stop, sender, sink);
    }
    const observed = readTcpObservation(bytes, observation, this.labelKeys);
    if (typeof observed === "string") return observed;
    const { lifeMs, connectionId, isClosed, parts } = observed;
    this.observedBytes = observed.bytes;
    const isOver = isClosed || accessLogType === TCP_CONNECTION_END;
    const record = { proxy: sender.id, lifeMs, connectionId, streamId: this.streamId, isOver, parts };
    return sink(record) ?? "observation";
  }

  /** slow: no filter, or none that we understand. Before a connection's first period, a filter may not have spoken yet. */
  private deriveConnection(
    bytes: Buffer,
    start: number,
    stop: number,
    sender: Sender,
    sink: ConnectionSink,
  ): LabelsOrigin | DropReason {
    const { scan, tcpEntry } = this;
    const isOver = scan.accessLogType === TCP_CONNECTION_END || scan.accessLogType === NOT_SET;
    if (!isOver && scan.accessLogType !== TCP_PERIODIC) return "not_final";
    if (!tcpEntry.read(bytes, start, stop)) return "entry_malformed";
    const labelKey = this.attribution.resolveTcp(bytes, tcpEntry, sender);
    const counts = [1, isOver ? 1 : 0, tcpEntry.sentBytes, tcpEntry.receivedBytes]; // in the order of TcpMetric
    const record: ConnectionRecord = {
      proxy: sender.id,
      lifeMs: LIFE_NOT_TOLD,
      connectionId: 0,
      streamId: this.streamId,
      isOver,
      parts: [{ labelKey, counts }],
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
    const labelKey = this.labelKeys.read(bytes, labels, stop);
    if (labelKey === null) return "entry_malformed";
    const record = observedRecord(bytes, start, sender, labelKey);
    return record === null ? null : sink(record);
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
      const labelKey = end > stop ? null : this.labelKeys.read(bytes, at, end);
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

/** What the observation at `start`, of one label set, says of a request; null when no metric recorded it. */
export function observedRecord(bytes: Buffer, start: number, sender: Sender, labelKey: string): AccessRecord | null {
  const record = recordOf(bytes, start, sender, labelKey, ~(bytes[start + OBSERVATION_OMITTED_OFFSET] as number));
  return isEmpty(record) ? null : record;
}

/** Of a version that is not known here: while the proxies are updated before the collector. What the entry says else still holds. */
function isNewer(bytes: Buffer, { start, stop }: FilterState): boolean {
  return start < stop && (bytes[start] as number) > OBSERVATION_VERSION;
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

/**
 * Envoy logs a stream also when its client went away in the middle of the request headers. No filter ever saw that, so stats do not
 * have it.
 */
function hasRequest({ requestHeadersBytes, authority, hasPath, responseCode }: HttpEntry): boolean {
  return requestHeadersBytes > 0 || authority !== "" || hasPath || responseCode !== 0;
}

/** What an entry's own numbers say of a request. `whole`: how long it took, as the filter takes it. */
export function derivedRecord(sizes: Sizes, whole: Duration, sender: Sender, labelKey: string): AccessRecord {
  return {
    proxy: sender.id,
    lifeMs: LIFE_NOT_TOLD,
    labelKey,
    requests: 1,
    durationMs: whole.isPresent ? whole.milliseconds : NOT_FINISHED,
    requestBytes: sizes.requestHeadersBytes + sizes.requestBodyBytes,
    responseBytes: sizes.responseHeadersBytes + sizes.responseBodyBytes,
  };
}
