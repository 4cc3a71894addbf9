// The observation: what was counted for a request or a connection, for the access loggers. Layout: vocabulary/observation.ts. What a
// label set decides of it is packed once; the numbers are written anew each time.

import { Plan, TCP_ROWS } from "./custom/plan.ts";
import { setFilterState, utf8 } from "./host.ts";
import { Request } from "./request.ts";
import { startTimeMs } from "./start-time.ts";
import { LABELS } from "./vocabulary/labels.ts";
import { HTTP_METRICS, TCP_METRICS } from "./vocabulary/metrics.ts";
import {
  OBSERVATION_DURATION_OFFSET,
  OBSERVATION_KIND_HTTP,
  OBSERVATION_KIND_HTTP_SPLIT,
  OBSERVATION_KIND_OFFSET,
  OBSERVATION_KIND_TCP,
  OBSERVATION_LABEL_COUNT_OFFSET,
  OBSERVATION_LABELS_OFFSET,
  OBSERVATION_OMITTED_OFFSET,
  OBSERVATION_PART_LABELS_OFFSET,
  OBSERVATION_PARTS_OFFSET,
  OBSERVATION_REQUEST_BYTES_OFFSET,
  OBSERVATION_RESPONSE_BYTES_OFFSET,
  OBSERVATION_START_OFFSET,
  OBSERVATION_VERSION,
} from "./vocabulary/observation.ts";
import { OBSERVATION } from "./vocabulary/peer-metadata.ts";
import { Writer } from "./wire/writer.ts";

const NAME = utf8(OBSERVATION);

/** Leaves the observation as filter state, with the request's numbers. */
export function leaveObservation(observation: StaticArray<u8>, request: Request): void {
  const at = changetype<usize>(observation);
  store<u64>(at + OBSERVATION_START_OFFSET, startTimeMs());
  store<u64>(at + OBSERVATION_DURATION_OFFSET, request.durationMs);
  store<u64>(at + OBSERVATION_REQUEST_BYTES_OFFSET, request.requestBytes);
  store<u64>(at + OBSERVATION_RESPONSE_BYTES_OFFSET, request.responseBytes);
  setFilterState(NAME, observation);
}

/** The part that the label set decides, with room for the numbers. */
export function packObservation(plan: Plan, values: StaticArray<string>, operands: Map<i32, string>): StaticArray<u8> {
  const sets = new ValueSets(plan, 0, HTTP_METRICS.length, values, operands);
  if (sets.all.length === 0) sets.all.push(plan.rows[0].standardValues(values, operands));
  const isOne = sets.all.length === 1;
  const out = new Writer();
  out.zeros(OBSERVATION_LABELS_OFFSET);
  if (!isOne) out.u8(<u8>sets.all.length);
  for (let i = 0; i < sets.all.length; i++) {
    if (!isOne) out.u8(sets.masks[i]);
    writeValues(out, sets.all[i]);
  }
  return withHeader(out, isOne ? OBSERVATION_KIND_HTTP : OBSERVATION_KIND_HTTP_SPLIT, sets.omitted);
}

/** The same for connections: a header and one part for each label set. */
export function packConnectionObservation(
  plan: Plan,
  values: StaticArray<string>,
  operands: Map<i32, string>,
): StaticArray<u8> {
  const sets = new ValueSets(plan, TCP_ROWS, TCP_METRICS.length, values, operands);
  const out = new Writer();
  out.zeros(OBSERVATION_PARTS_OFFSET);
  out.u8(<u8>sets.all.length);
  for (let i = 0; i < sets.all.length; i++) {
    out.u8(sets.masks[i]);
    out.zeros(OBSERVATION_PART_LABELS_OFFSET - 1);
    writeValues(out, sets.all[i]);
  }
  return withHeader(out, OBSERVATION_KIND_TCP, sets.omitted);
}

/** The different label sets of some rows of a plan, and which of the metrics carry each. */
class ValueSets {
  readonly all: StaticArray<string>[] = [];
  /** A bit for each metric, counted from the first row. */
  readonly masks: u8[] = [];
  /** The metrics that are not kept. */
  omitted: u8 = 0;

  constructor(plan: Plan, first: i32, count: i32, values: StaticArray<string>, operands: Map<i32, string>) {
    for (let i = 0; i < count; i++) {
      const row = plan.rows[first + i];
      const bit = (<u8>1) << (<u8>i);
      if (row.isDropped) this.omitted |= bit;
      else this.add(row.standardValues(values, operands), bit);
    }
  }

  /** Adds a metric to the set that has its values, or to a new one. */
  private add(values: StaticArray<string>, metric: u8): void {
    for (let i = 0; i < this.all.length; i++) {
      if (!areEqual(this.all[i], values)) continue;
      this.masks[i] |= metric;
      return;
    }
    this.all.push(values);
    this.masks.push(metric);
  }
}

function withHeader(out: Writer, kind: i32, omitted: u8): StaticArray<u8> {
  const packed = out.take();
  packed[0] = <u8>OBSERVATION_VERSION;
  packed[OBSERVATION_KIND_OFFSET] = <u8>kind;
  packed[OBSERVATION_LABEL_COUNT_OFFSET] = <u8>LABELS.length;
  packed[OBSERVATION_OMITTED_OFFSET] = omitted;
  return packed;
}

function areEqual(left: StaticArray<string>, right: StaticArray<string>): bool {
  for (let i = 0; i < left.length; i++) {
    if (left[i] !== right[i]) return false;
  }
  return true;
}

function writeValues(out: Writer, values: StaticArray<string>): void {
  for (let i = 0; i < values.length; i++) out.shortText(values[i]);
}
