// Reads an observation back (layout: filter/vocabulary/observation.ts), for comparison with the counted series.

import { LABELS } from "../../filter/vocabulary/labels.ts";
import { HTTP_METRICS } from "../../filter/vocabulary/metrics.ts";
import {
  OBSERVATION_DURATION_OFFSET,
  OBSERVATION_KIND_HTTP_SPLIT,
  OBSERVATION_KIND_OFFSET,
  OBSERVATION_LABEL_COUNT_OFFSET,
  OBSERVATION_LABELS_OFFSET,
  OBSERVATION_OMITTED_OFFSET,
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
    const labels: Record<string, string> = {};
    for (let index = 0; index < labelCount; index++) {
      const end = at + 1 + bytes.readUInt8(at);
      if (end > bytes.length) throw new RangeError(`label ${index} ends at ${end} of ${bytes.length}`);
      labels[LABELS[index] ?? `label ${index}`] = bytes.toString("utf8", at + 1, end);
      at = end;
    }
    labelSets.push({ metrics, labels });
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
