// Names of stats as a stats sink has them -> what they count of ours, and for which label set.
//
//   emit_tags_as_labels: true    wasmcustom.istio_requests_total  and labels {reporter="source", ...}
//                        false   wasmcustom.reporter=.=source;.;source_workload=.=web;.;...istio_requests_total  and none
//
// What `stats_tags` do not take out of a name stays in it, beside the labels: so both are read, whatever stands where.
//
// Texts are read as latin1, one character per byte: label values then are their UTF-8 bytes, which is just how a packed label set
// holds them (series/key.ts).

import { BytesCache } from "../proto/bytes-cache.ts";
import type { MetricFamilyReader } from "../proto/metric-family.ts";
import {
  FIELD_SEPARATOR,
  HTTP_METRICS,
  LABELS,
  START_TIME_METRIC,
  TCP_METRICS,
  VALUE_SEPARATOR,
} from "../vocabulary.ts";
import { LabelPacker } from "./stats-labels.ts";

/** What Envoy names the stats of a wasm filter by; /stats/prometheus leaves it out. */
const CUSTOM_PREFIX = Buffer.from("wasmcustom.");
const HOT_RESTART_EPOCH = Buffer.from("server.hot_restart_epoch");

const OUR_LABELS: ReadonlySet<string> = new Set(LABELS);
/** A family's place among HTTP_METRICS, and behind them TCP_METRICS. */
const METRIC_INDEX = new Map([...HTTP_METRICS, ...TCP_METRICS].map(({ name }, index) => [name, index]));

/** Names, or label sets, that are remembered over all proxies; and of how many bytes: 25 labels of 255 bytes and their names. */
const MAX_KNOWN = 20_000;
const MAX_KNOWN_BYTES = 8192;

/** One of our own stats: a metric of a label set. */
export interface Stat {
  /** Index into HTTP_METRICS; beyond them, less their number, into TCP_METRICS. */
  readonly metric: number;
  /** Packed (series/key.ts): all LABELS, or those that TCP metrics carry. */
  readonly labelKey: string;
  /** The same for no other labels of a proxy: all of LABELS packed, and behind them the labels that are none of ours, if there are any. */
  readonly id: string;
}

/** What a name says: a stat of ours, one that tells of the process; "foreign": one of our families without any of our labels. */
export type StatName = Stat | "start_time" | "epoch" | "foreign" | null;

/** A name, apart. */
interface Name {
  /** Null for what is not ours. */
  readonly metric: number | "start_time" | null;
  /** The tags in it. */
  readonly tags: readonly Tag[];
  /** What it says where the metric has no labels. */
  readonly alone: StatName;
}

type Tag = readonly [name: string, value: string];

/** Labels of a metric, and what they make of each metric's name that has no tags itself. */
interface LabelSet {
  readonly tags: readonly Tag[];
  readonly stats: (Stat | "foreign" | undefined)[];
}

export class StatNames {
  private readonly names = new BytesCache<Name>(MAX_KNOWN, MAX_KNOWN_BYTES);
  private readonly labelSets = new BytesCache<LabelSet>(MAX_KNOWN, MAX_KNOWN_BYTES);

  /** What the family's current metric is; null for what is nothing to us, as most are. */
  resolve(family: MetricFamilyReader): StatName {
    const { bytes, nameStart, nameStop } = family;
    if (!startsWith(bytes, nameStart, nameStop, CUSTOM_PREFIX)) {
      return is(bytes, nameStart, nameStop, HOT_RESTART_EPOCH) ? "epoch" : null; // fast
    }
    const name = this.names.resolve(bytes, nameStart, nameStop, parseName);
    if (name.metric === null || name.metric === "start_time") return name.metric;
    if (family.labelCount === 0) return name.alone;
    if (family.labelsStart < 0 || name.tags.length > 0)
      return statOf(name.metric, [...readLabels(family), ...name.tags]);
    const set = this.labelSetOf(family);
    let stat = set.stats[name.metric];
    if (stat === undefined) {
      stat = statOf(name.metric, set.tags);
      set.stats[name.metric] = stat;
    }
    return stat;
  }

  private labelSetOf(family: MetricFamilyReader): LabelSet {
    const { bytes, labelsStart, labelsStop } = family;
    return this.labelSets.resolve(bytes, labelsStart, labelsStop, () => ({ tags: readLabels(family), stats: [] }));
  }
}

/** `wasmcustom.reporter=.=source;.;istio_requests_total`, as Envoy's regexes of tags read it (vocabulary/stat-name.ts). */
function parseName(bytes: Buffer, start: number, stop: number): Name {
  const text = bytes.toString("latin1", start + CUSTOM_PREFIX.length, stop);
  const tags: Tag[] = [];
  let at = 0;
  for (let end = text.indexOf(FIELD_SEPARATOR); end >= 0; end = text.indexOf(FIELD_SEPARATOR, at)) {
    const equals = text.indexOf(VALUE_SEPARATOR, at);
    if (equals < 0 || equals > end) return NOT_OURS;
    tags.push([text.slice(at, equals), text.slice(equals + VALUE_SEPARATOR.length, end)]);
    at = end + FIELD_SEPARATOR.length;
  }
  const family = text.slice(at);
  if (family === START_TIME_METRIC) return { metric: "start_time", tags, alone: "start_time" };
  const metric = METRIC_INDEX.get(family);
  return metric === undefined ? NOT_OURS : { metric, tags, alone: statOf(metric, tags) };
}

const NOT_OURS: Name = { metric: null, tags: [], alone: null };

function readLabels({ bytes, labelCount, labelSpans }: MetricFamilyReader): Tag[] {
  return Array.from({ length: labelCount }, (_, label) => {
    const [nameStart, nameStop, valueStart, valueStop] = labelSpans.slice(label * 4, label * 4 + 4);
    return [bytes.toString("latin1", nameStart, nameStop), bytes.toString("latin1", valueStart, valueStop)];
  });
}

function statOf(metric: number, tags: readonly Tag[]): Stat | "foreign" {
  const packer = new LabelPacker();
  let others = "";
  for (const [name, value] of tags) {
    packer.add(name, value);
    if (!OUR_LABELS.has(name)) others += `${VALUE_SEPARATOR}${name}${VALUE_SEPARATOR}${value}`;
  }
  const { key, tcpKey } = packer.pack();
  const labelKey = metric < HTTP_METRICS.length ? key : tcpKey;
  if (labelKey === null || key === null) return "foreign";
  return { metric, labelKey, id: key + others };
}

function startsWith(bytes: Buffer, start: number, stop: number, prefix: Buffer): boolean {
  if (stop - start < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) if (bytes[start + i] !== prefix[i]) return false;
  return true;
}

function is(bytes: Buffer, start: number, stop: number, text: Buffer): boolean {
  return stop - start === text.length && startsWith(bytes, start, stop, text);
}
