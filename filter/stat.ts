// Facts -> label set -> metric ids -> recorded. The hot path is one look-up in a table and no string work at all.
//
//   key of facts (request.ts) --> LabelSet: found by what decides the labels. Bounded, cleared when full.
//   packed labels             --> LabelSet: found by the labels themselves. Bounded by max_label_sets; never forgotten,
//                                 because Envoy never forgets a metric that wasm defined.

import { noteColdWork } from "./garbage.ts";
import { countFault, defineMetric, increment, record, setFilterState, utf8 } from "./host.ts";
import { labelValues, overflowValues } from "./labels.ts";
import { Node } from "./node.ts";
import { KEY, NOT_FINISHED, Request } from "./request.ts";
import { startTimeMs } from "./start-time.ts";
import { Table } from "./table.ts";
import { LABELS } from "./vocabulary/labels.ts";
import { Fault, HTTP_METRICS, HttpMetric } from "./vocabulary/metrics.ts";
import {
  OBSERVATION_DURATION_OFFSET,
  OBSERVATION_KIND_HTTP,
  OBSERVATION_KIND_OFFSET,
  OBSERVATION_LABEL_COUNT_OFFSET,
  OBSERVATION_LABELS_OFFSET,
  OBSERVATION_REQUEST_BYTES_OFFSET,
  OBSERVATION_RESPONSE_BYTES_OFFSET,
  OBSERVATION_START_OFFSET,
  OBSERVATION_VERSION,
} from "./vocabulary/observation.ts";
import { OBSERVATION } from "./vocabulary/peer-metadata.ts";
import { encodeTag } from "./vocabulary/stat-name.ts";
import { Writer } from "./wire/writer.ts";

/** Keys of facts held at most: several may lead to one label set. */
const MAX_KEYS = 4096;
/** Room for label sets at first; doubled when they are more. */
const FIRST_LABEL_SETS = 1024;

const OBSERVATION_NAME = utf8(OBSERVATION);

@final
class LabelSet {
  /** One metric id per row of HTTP_METRICS. */
  readonly metrics: StaticArray<u32> = new StaticArray<u32>(HTTP_METRICS.length);

  /** The observation: its labels stay, its numbers are written anew for each request. */
  constructor(readonly observation: StaticArray<u8>) {}
}

const byKey = new Table<LabelSet>(MAX_KEYS);
let byLabels = new Table<LabelSet>(FIRST_LABEL_SETS);
let overflow: LabelSet | null = null;

/** A new configuration may admit what the old one did not: keys are looked up anew, label sets stay. */
export function forgetKeys(): void {
  byKey.clear();
}

/** Counts one finished request and leaves its observation for the access loggers. */
export function countRequest(request: Request, node: Node, maxLabelSets: i32): void {
  const size = request.writeKey();
  let set = byKey.find(KEY, size); // fast path
  if (set === null) {
    set = resolveLabelSet(request, node, maxLabelSets); // slow path: the labels are made
    if (byKey.isFull) {
      countFault(Fault.KeysFull);
      byKey.clear();
    }
    byKey.add(KEY, size, set);
    noteColdWork();
  }
  if (set === overflow) countFault(Fault.LabelSetsFull);
  const metrics = set.metrics;
  increment(metrics[HttpMetric.Requests], 1);
  if (request.durationMs !== NOT_FINISHED) record(metrics[HttpMetric.Duration], request.durationMs);
  record(metrics[HttpMetric.RequestBytes], request.requestBytes);
  record(metrics[HttpMetric.ResponseBytes], request.responseBytes);

  const observation = changetype<usize>(set.observation);
  store<u64>(observation + OBSERVATION_START_OFFSET, startTimeMs());
  store<u64>(observation + OBSERVATION_DURATION_OFFSET, request.durationMs);
  store<u64>(observation + OBSERVATION_REQUEST_BYTES_OFFSET, request.requestBytes);
  store<u64>(observation + OBSERVATION_RESPONSE_BYTES_OFFSET, request.responseBytes);
  setFilterState(OBSERVATION_NAME, set.observation);
}

function resolveLabelSet(request: Request, node: Node, maxLabelSets: i32): LabelSet {
  const values = labelValues(request, node);
  const packed = packObservation(values);
  const ptr = changetype<usize>(packed) + OBSERVATION_LABELS_OFFSET;
  const size = packed.length - OBSERVATION_LABELS_OFFSET;
  const known = byLabels.find(ptr, size);
  if (known !== null) return known;
  if (byLabels.count >= maxLabelSets) return overflowLabelSet();
  const set = defineLabelSet(values, packed);
  if (byLabels.isFull) byLabels = byLabels.doubled();
  byLabels.add(ptr, size, set);
  return set;
}

function overflowLabelSet(): LabelSet {
  const known = overflow;
  if (known !== null) return known;
  const values = overflowValues();
  const set = defineLabelSet(values, packObservation(values));
  overflow = set;
  return set;
}

function defineLabelSet(values: StaticArray<string>, observation: StaticArray<u8>): LabelSet {
  const set = new LabelSet(observation);
  let tags = "";
  for (let i = 0; i < LABELS.length; i++) tags += encodeTag(LABELS[i], values[i]);
  for (let i = 0; i < HTTP_METRICS.length; i++) {
    set.metrics[i] = defineMetric(HTTP_METRICS[i].kind, tags + HTTP_METRICS[i].name);
  }
  return set;
}

/** Layout: vocabulary/observation.ts. */
function packObservation(values: StaticArray<string>): StaticArray<u8> {
  const out = new Writer();
  out.zeros(OBSERVATION_LABELS_OFFSET);
  for (let i = 0; i < values.length; i++) {
    const bytes = utf8(values[i]);
    out.u8(<u8>bytes.byteLength);
    out.copy(changetype<usize>(bytes), bytes.byteLength);
  }
  const packed = out.take();
  packed[0] = <u8>OBSERVATION_VERSION;
  packed[OBSERVATION_KIND_OFFSET] = <u8>OBSERVATION_KIND_HTTP;
  packed[OBSERVATION_LABEL_COUNT_OFFSET] = <u8>values.length;
  return packed;
}
