// The observation: what was counted for a request, for the access loggers. Layout: vocabulary/observation.ts. What a label set decides
// of it is packed once; the numbers are written anew for each request.

import { Plan } from "./custom/plan.ts";
import { setFilterState, utf8 } from "./host.ts";
import { Request } from "./request.ts";
import { startTimeMs } from "./start-time.ts";
import { LABELS } from "./vocabulary/labels.ts";
import { HTTP_METRICS } from "./vocabulary/metrics.ts";
import {
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
  const sets: StaticArray<string>[] = [];
  const masks: u8[] = [];
  let omitted: u8 = 0;
  for (let i = 0; i < HTTP_METRICS.length; i++) {
    const row = plan.rows[i];
    const bit = (<u8>1) << (<u8>i);
    if (row.isDropped) omitted |= bit;
    else addSet(sets, masks, row.standardValues(values, operands), bit);
  }
  if (sets.length === 0) sets.push(plan.rows[0].standardValues(values, operands));
  const out = new Writer();
  out.zeros(OBSERVATION_LABELS_OFFSET);
  if (sets.length === 1) {
    writeValues(out, sets[0]);
  } else {
    out.u8(<u8>sets.length);
    for (let i = 0; i < sets.length; i++) {
      out.u8(masks[i]);
      writeValues(out, sets[i]);
    }
  }
  const packed = out.take();
  packed[0] = <u8>OBSERVATION_VERSION;
  packed[OBSERVATION_KIND_OFFSET] = <u8>(sets.length === 1 ? OBSERVATION_KIND_HTTP : OBSERVATION_KIND_HTTP_SPLIT);
  packed[OBSERVATION_LABEL_COUNT_OFFSET] = <u8>LABELS.length;
  packed[OBSERVATION_OMITTED_OFFSET] = omitted;
  return packed;
}

/** Adds a metric to the set that has its values, or to a new one. */
function addSet(sets: StaticArray<string>[], masks: u8[], values: StaticArray<string>, metric: u8): void {
  for (let i = 0; i < sets.length; i++) {
    if (!areEqual(sets[i], values)) continue;
    masks[i] |= metric;
    return;
  }
  sets.push(values);
  masks.push(metric);
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
