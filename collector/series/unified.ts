// Unified: which label sets count in mesh_*, where each request counts once (docs/metrics.md, "Counted once").
//
//   source's report                 counts
//   destination's, waypoint's       counts if its request came without peer metadata: then no source's proxy reports it, too
//
// It is decided by one label set of one proxy alone, so mesh_* have no rows of their own: they are some of the label sets, under other
// labels. What cannot be decided is left out, under a closed reason: better short, and seen to be, than twice.

import {
  DESTINATION_NAMES,
  HTTP_METRICS,
  Label,
  Metric,
  Naming,
  namingOf,
  OTHER,
  REPORTER_DESTINATION,
  REPORTER_SOURCE,
  REPORTER_WAYPOINT,
  SOURCE_NAMES,
  TCP_METRICS,
} from "../vocabulary.ts";
import { type Mark, markOf, unpackLabels } from "./key.ts";
import { Owners } from "./label-sets.ts";
import type { LabelSet, SeriesReader } from "./reader.ts";

/** Values of the label `observed_by`: whose report counts. */
export const OBSERVERS = [REPORTER_SOURCE, REPORTER_DESTINATION, REPORTER_WAYPOINT] as const;
export type Observer = "source" | "destination" | "waypoint";

/** The label that stands for `reporter`. */
export const OBSERVED_BY = "observed_by";

/** Why a label set is left out, though nobody is known to report its requests, too; label value of `meshtally_unified_left_out_total`. */
export const LEFT_OUT_REASONS = ["exchange_unknown", "proxy_unnamed", "labels_changed", "overflow"] as const;
export type LeftOutReason = (typeof LEFT_OUT_REASONS)[number];

/** Whose report a label set is; or that another proxy's counts; or why it is left out. */
export type Verdict = Observer | "reported_by_source" | LeftOutReason;

/**
 * Which reports of destinations count whose requests came without peer metadata: `certain`: those where a source's proxy would have
 * sent it; `all`: every one, for meshes in which proxies send it over whatever they call each other by, TCP included.
 */
export const DESTINATION_RULES = ["certain", "all"] as const;
export type DestinationRule = (typeof DESTINATION_RULES)[number];

/** By HttpMetric. */
export const UNIFIED_HTTP_METRICS: readonly Metric[] = HTTP_METRICS.map(unified);
/** By TcpMetric. */
export const UNIFIED_TCP_METRICS: readonly Metric[] = TCP_METRICS.map(unified);

function unified({ name, kind, unit }: Metric): Metric {
  return new Metric(name.replace(/^istio_/, "mesh_"), kind, unit);
}

type Values = readonly string[];

/**
 * Whether the label set counts in mesh_*. `isTcp`: it is one of TCP metrics. What it depends on, the overflow keeps of a label set
 * (overflow.ts): its verdict is that of those it takes in.
 */
export function judge(labelKey: string, isTcp: boolean, rule: DestinationRule): Verdict {
  const mark = markOf(labelKey);
  const marked = VERDICT_OF.get(mark);
  if (marked !== undefined) return marked;
  const values = unpackLabels(labelKey) ?? [];
  const reporter = values[Label.Reporter];
  if (reporter === REPORTER_SOURCE) return judgeSource(values);
  if (reporter === REPORTER_DESTINATION || reporter === REPORTER_WAYPOINT) {
    if (mark === "+") return reporter;
    if (mark === "?") return rule === "all" ? reporter : "exchange_unknown";
    return judgeServer(values, reporter, isTcp, rule);
  }
  return reporter === OTHER && values[Label.SourceWorkload] === OTHER ? "overflow" : "labels_changed";
}

/**
 * Metadata of a proxy that says nothing of itself looks as if none had come: the destination's report counts. It is there if it is
 * known here, for then it answered.
 */
function judgeSource(values: Values): Verdict {
  const isTwice =
    namingOf(values, SOURCE_NAMES) === Naming.Silent && namingOf(values, DESTINATION_NAMES) === Naming.Named;
  return isTwice ? "proxy_unnamed" : REPORTER_SOURCE;
}

/** By the labels alone: the filter's own, or derived of an entry that has the peer's metadata. */
function judgeServer(values: Values, reporter: Observer, isTcp: boolean, rule: DestinationRule): Verdict {
  const source = namingOf(values, SOURCE_NAMES);
  if (source === Naming.Named) return "reported_by_source";
  if (source === Naming.Silent) return "labels_changed";
  // Over TCP proxies exchange metadata where they are told to, mostly not in plaintext.
  if (isTcp && rule === "certain") return "exchange_unknown";
  // A source's proxy does not know this one either, and so its own report counts.
  const isNameless = reporter === REPORTER_DESTINATION && namingOf(values, DESTINATION_NAMES) === Naming.Silent;
  if (isNameless) return "proxy_unnamed";
  return reporter;
}

/** What a label set is marked with whose labels do not say the verdict any more (kept-labels.ts). */
export const VERDICT_MARKS: Readonly<Record<Verdict, Mark>> = {
  source: "s",
  destination: "d",
  waypoint: "w",
  reported_by_source: "r",
  exchange_unknown: "x",
  proxy_unnamed: "n",
  labels_changed: "c",
  overflow: "o",
};
const VERDICT_OF = new Map<Mark | null, Verdict>(
  Object.entries(VERDICT_MARKS).map(([verdict, mark]) => [mark, verdict as Verdict]),
);

/** The verdicts on all label sets of a reader, each made once. */
export class Verdicts {
  /** By the index of the series: place in ALL_VERDICTS. */
  private known = new Uint8Array(1024);
  private readonly owners = new Owners();
  /** Of label sets that are left out and may be let go of: as they were read last. And of those that were. */
  private readonly lastLeftOut = new Map<LabelSet, { readonly reason: LeftOutReason; readonly count: number }>();
  private readonly letGo = { exchange_unknown: 0, proxy_unnamed: 0, labels_changed: 0, overflow: 0 };
  private letGoCount = 0;

  constructor(
    private readonly reader: Pick<SeriesReader, "series" | "letGoCount" | "find" | "hasExpiry" | "readTotal">,
    private readonly isTcp: boolean,
    private readonly rule: DestinationRule,
  ) {}

  of(labelSet: LabelSet): Verdict {
    const { index, labelKey } = labelSet;
    if (!this.owners.isNew(labelSet)) return ALL_VERDICTS[this.known[index] as number] as Verdict;
    const verdict = judge(labelKey, this.isTcp, this.rule);
    if (index >= this.known.length) this.grow(index);
    this.known[index] = ALL_VERDICTS.indexOf(verdict);
    return verdict;
  }

  /** Whose report counts; null when the label set does not count. */
  observer(labelSet: LabelSet): Observer | null {
    const verdict = this.of(labelSet);
    return (OBSERVERS as readonly Verdict[]).includes(verdict) ? (verdict as Observer) : null;
  }

  /** Requests, or connections, of the label sets that are left out, or were, by reason. `row` is written over. */
  leftOut(row: Float64Array): Record<LeftOutReason, number> {
    this.noteLetGo();
    const sums = { ...this.letGo };
    for (const labelSet of this.reader.series) {
      const verdict = this.of(labelSet);
      if (!isLeftOut(verdict)) continue;
      this.reader.readTotal(labelSet, row);
      const count = row[0] as number;
      sums[verdict] += count;
      if (this.reader.hasExpiry) this.lastLeftOut.set(labelSet, { reason: verdict, count });
    }
    return sums;
  }

  private noteLetGo(): void {
    const { letGoCount } = this.reader;
    if (letGoCount === this.letGoCount) return; // fast: mostly
    this.letGoCount = letGoCount;
    for (const [labelSet, { reason, count }] of this.lastLeftOut) {
      if (this.reader.find(labelSet.labelKey) === labelSet) continue;
      this.letGo[reason] += count;
      this.lastLeftOut.delete(labelSet);
    }
  }

  private grow(index: number): void {
    const larger = new Uint8Array(2 * (index + 1));
    larger.set(this.known);
    this.known = larger;
  }
}

const ALL_VERDICTS: readonly Verdict[] = [...OBSERVERS, "reported_by_source", ...LEFT_OUT_REASONS];

function isLeftOut(verdict: Verdict): verdict is LeftOutReason {
  return (LEFT_OUT_REASONS as readonly Verdict[]).includes(verdict);
}
