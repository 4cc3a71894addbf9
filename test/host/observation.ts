// Reads an observation back (layout: filter/vocabulary/observation.ts), for comparison with the counted series.

import { LABELS } from "../../filter/vocabulary/labels.ts";
import { HTTP_METRICS } from "../../filter/vocabulary/metrics.ts";
import {
  OBSERVATION_CLOSED_OFFSET,
  OBSERVATION_CONNECTION_OFFSET,
  OBSERVATION_DURATION_OFFSET,
  OBSERVATION_KIND_HTTP_SPLIT,
  OBSERVATION_KIND_OFFSET,
  OBSERVATION_KIND_TCP,
  OBSERVATION_LABEL_COUNT_OFFSET,
  OBSERVATION_LABELS_OFFSET,
  OBSERVATION_OMITTED_OFFSET,
  OBSERVATION_PART_LABELS_OFFSET,
  OBSERVATION_PART_RECEIVED_OFFSET,
  OBSERVATION_PART_SENT_OFFSET,
  OBSERVATION_PARTS_OFFSET,
  OBSERVATION_REQUEST_BYTES_OFFSET,
  OBSERVATION_RESPONSE_BYTES_OFFSET,
  OBSERVATION_START_OFFSET,
} from "../../filter/vocabulary/observation.ts";

const ALL_METRICS = (1 << HTTP_METRICS.length) - 1;

/** A label set and the metrics that carry it: bit i for row i of HTTP_METRICS. */
interface ObservedLabels {
  readonly metrics: number;
  readonly labels: Readonly<Record<string, string>>;
}

export interface Observation {
  readonly version: number;
  readonly kind: number;
  readonly labelCount: number;
  /** Metrics that the configuration drops: bit i for row i of HTTP_METRICS. */
  readonly omitted: number;
  /** The four bytes kept for later, which read 0. */
  readonly reserved: Buffer;
  readonly startMs: bigint;
  readonly durationMs: bigint;
  readonly requestBytes: bigint;
  readonly responseBytes: bigint;
  readonly packedLabels: Buffer;
  /** Of the first label set. */
  readonly labels: Readonly<Record<string, string>>;
  readonly labelSets: readonly ObservedLabels[];
}

/** Throws RangeError when the labels do not fill the rest exactly. */
export function readObservation(bytes: Buffer): Observation {
  const kind = bytes.readUInt8(OBSERVATION_KIND_OFFSET);
  const labelCount = bytes.readUInt8(OBSERVATION_LABEL_COUNT_OFFSET);
  const omitted = bytes.readUInt8(OBSERVATION_OMITTED_OFFSET);
  const labelSets: ObservedLabels[] = [];
  let at = OBSERVATION_LABELS_OFFSET;
  const isSplit = kind === OBSERVATION_KIND_HTTP_SPLIT;
  const count = isSplit ? bytes.readUInt8(at++) : 1;
  for (let set = 0; set < count; set++) {
    const metrics = isSplit ? bytes.readUInt8(at++) : ALL_METRICS & ~omitted;
    const { labels, end } = readLabels(bytes, at, labelCount);
    labelSets.push({ metrics, labels });
    at = end;
  }
  if (at !== bytes.length) throw new RangeError(`${bytes.length - at} bytes after the labels`);
  return {
    version: bytes.readUInt8(0),
    kind,
    labelCount,
    omitted,
    reserved: bytes.subarray(OBSERVATION_OMITTED_OFFSET + 1, OBSERVATION_START_OFFSET),
    startMs: bytes.readBigUInt64LE(OBSERVATION_START_OFFSET),
    durationMs: bytes.readBigUInt64LE(OBSERVATION_DURATION_OFFSET),
    requestBytes: bytes.readBigUInt64LE(OBSERVATION_REQUEST_BYTES_OFFSET),
    responseBytes: bytes.readBigUInt64LE(OBSERVATION_RESPONSE_BYTES_OFFSET),
    packedLabels: bytes.subarray(OBSERVATION_LABELS_OFFSET),
    labels: labelSets[0]?.labels ?? {},
    labelSets,
  };
}

/** What was counted for a connection under one label set, since it began. */
interface TcpPart {
  /** Bit i for row i of TCP_METRICS. */
  readonly metrics: number;
  readonly sentBytes: bigint;
  readonly receivedBytes: bigint;
  readonly labels: Readonly<Record<string, string>>;
}

export interface TcpObservation {
  readonly version: number;
  readonly labelCount: number;
  readonly omitted: number;
  readonly closed: number;
  /** The three bytes kept for later, which read 0. */
  readonly reserved: Buffer;
  readonly startMs: bigint;
  readonly connectionId: bigint;
  readonly parts: readonly TcpPart[];
}

/** Throws RangeError when it is of another kind or when the parts do not fill the rest exactly. */
export function readTcpObservation(bytes: Buffer): TcpObservation {
  const kind = bytes.readUInt8(OBSERVATION_KIND_OFFSET);
  if (kind !== OBSERVATION_KIND_TCP) throw new RangeError(`an observation of kind ${kind}`);
  const labelCount = bytes.readUInt8(OBSERVATION_LABEL_COUNT_OFFSET);
  const parts: TcpPart[] = [];
  let at = OBSERVATION_PARTS_OFFSET + 1;
  for (let count = bytes.readUInt8(OBSERVATION_PARTS_OFFSET); count > 0; count--) {
    const { labels, end } = readLabels(bytes, at + OBSERVATION_PART_LABELS_OFFSET, labelCount);
    parts.push({
      metrics: bytes.readUInt8(at),
      sentBytes: bytes.readBigUInt64LE(at + OBSERVATION_PART_SENT_OFFSET),
      receivedBytes: bytes.readBigUInt64LE(at + OBSERVATION_PART_RECEIVED_OFFSET),
      labels,
    });
    at = end;
  }
  if (at !== bytes.length) throw new RangeError(`${bytes.length - at} bytes after the parts`);
  return {
    version: bytes.readUInt8(0),
    labelCount,
    omitted: bytes.readUInt8(OBSERVATION_OMITTED_OFFSET),
    closed: bytes.readUInt8(OBSERVATION_CLOSED_OFFSET),
    reserved: bytes.subarray(OBSERVATION_CLOSED_OFFSET + 1, OBSERVATION_START_OFFSET),
    startMs: bytes.readBigUInt64LE(OBSERVATION_START_OFFSET),
    connectionId: bytes.readBigUInt64LE(OBSERVATION_CONNECTION_OFFSET),
    parts,
  };
}

function readLabels(bytes: Buffer, from: number, count: number): { labels: Record<string, string>; end: number } {
  const labels: Record<string, string> = {};
  let at = from;
  for (let index = 0; index < count; index++) {
    const end = at + 1 + bytes.readUInt8(at);
    if (end > bytes.length) throw new RangeError(`label ${index} ends at ${end} of ${bytes.length}`);
    labels[LABELS[index] ?? `label ${index}`] = bytes.toString("utf8", at + 1, end);
    at = end;
  }
  return { labels, end: at };
}
