// Reads an observation back (layout: filter/vocabulary/observation.ts), for comparison with the counted series.

import { LABELS } from "../../filter/vocabulary/labels.ts";
import {
  OBSERVATION_DURATION_OFFSET,
  OBSERVATION_KIND_OFFSET,
  OBSERVATION_LABEL_COUNT_OFFSET,
  OBSERVATION_LABELS_OFFSET,
  OBSERVATION_REQUEST_BYTES_OFFSET,
  OBSERVATION_RESPONSE_BYTES_OFFSET,
  OBSERVATION_START_OFFSET,
} from "../../filter/vocabulary/observation.ts";

export interface Observation {
  readonly version: number;
  readonly kind: number;
  readonly labelCount: number;
  /** The five bytes kept for later, which read 0. */
  readonly reserved: Buffer;
  readonly startMs: bigint;
  readonly durationMs: bigint;
  readonly requestBytes: bigint;
  readonly responseBytes: bigint;
  readonly packedLabels: Buffer;
  readonly labels: Readonly<Record<string, string>>;
}

/** Throws RangeError when the labels do not fill the rest exactly. */
export function readObservation(bytes: Buffer): Observation {
  const labelCount = bytes.readUInt8(OBSERVATION_LABEL_COUNT_OFFSET);
  const labels: Record<string, string> = {};
  let at = OBSERVATION_LABELS_OFFSET;
  for (let index = 0; index < labelCount; index++) {
    const length = bytes.readUInt8(at);
    const end = at + 1 + length;
    if (end > bytes.length) throw new RangeError(`label ${index} ends at ${end} of ${bytes.length}`);
    labels[LABELS[index] ?? `label ${index}`] = bytes.toString("utf8", at + 1, end);
    at = end;
  }
  if (at !== bytes.length) throw new RangeError(`${bytes.length - at} bytes after the labels`);
  return {
    version: bytes.readUInt8(0),
    kind: bytes.readUInt8(OBSERVATION_KIND_OFFSET),
    labelCount,
    reserved: bytes.subarray(OBSERVATION_LABEL_COUNT_OFFSET + 1, OBSERVATION_START_OFFSET),
    startMs: bytes.readBigUInt64LE(OBSERVATION_START_OFFSET),
    durationMs: bytes.readBigUInt64LE(OBSERVATION_DURATION_OFFSET),
    requestBytes: bytes.readBigUInt64LE(OBSERVATION_REQUEST_BYTES_OFFSET),
    responseBytes: bytes.readBigUInt64LE(OBSERVATION_RESPONSE_BYTES_OFFSET),
    packedLabels: bytes.subarray(OBSERVATION_LABELS_OFFSET),
    labels,
  };
}
