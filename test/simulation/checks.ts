// What has to hold of a collector in every moment: totals are not above the truth, do not go down, and are the truth where the oracle says so.

import { slicedLabels, withoutMark } from "../../collector/series/key.ts";
import { type NativeBuckets, observations } from "../../collector/series/native.ts";
import type { LabelSet } from "../../collector/series/reader.ts";
import { judge } from "../../collector/series/unified.ts";
import { Label } from "../../collector/vocabulary.ts";
import type { Oracle } from "./oracle.ts";
import { SHAPE_OF, TABLES, type Table } from "./proxy.ts";
import { RULE, type Subject } from "./subject.ts";
import { sumsBy, type Totals } from "./totals.ts";

/** Sums are floats, added up in another order. */
const TOLERANCE = 1e-9;

/** Of a label set that is shown: which it is, and when it was first seen to be as it is now. */
interface ShownAs {
  readonly table: Table;
  readonly labelSet: LabelSet;
  readonly row: Float64Array;
  readonly sinceMs: number;
}

/** Label sets of which the totals may lack something; null: all. */
type Lacking = ((table: Table) => Iterable<string>) | null;
const NOTHING: Lacking = () => [];

export class Checks {
  private readonly shown = new Map<string, Float64Array>();
  private readonly natives = new Map<string, NativeBuckets>();
  private counted = new Map<string, Float64Array>();
  private readonly shownAs = new Map<string, ShownAs>();

  constructor(
    private readonly subject: Subject,
    private readonly oracle: Oracle,
    private readonly expireAfterMs: number,
  ) {}

  /** Throws if something does not hold. */
  run(): void {
    this.checkTotals(this.subject.counted, this.counted, NOTHING);
    this.forgetLetGo();
    this.checkTotals(this.subject.shown, this.shown, null);
    this.checkNatives();
    this.noteShown();
  }

  /** To be called once all that was counted is saved: then all of it is shown. */
  end(): void {
    this.forgetLetGo();
    this.checkTotals(this.subject.shown, this.shown, (table) => this.subject.labelKeysLetGo(table));
    this.checkNatives();
    this.checkShownIsHeld();
  }

  /**
   * What is let go of begins anew when it comes back, and may only be so after it did not grow for long, and with all that is shown in one
   * with it.
   */
  forgetLetGo(): void {
    const gone = new Set<string>();
    for (const [name, { table, labelSet, sinceMs }] of this.shownAs) {
      if (this.subject.shownAs(table, labelSet.labelKey) === labelSet) continue;
      const idleMs = this.subject.clock.steadyMs - sinceMs;
      if (this.expireAfterMs === 0 || idleMs <= this.expireAfterMs) fail(`${table} was let go of after ${idleMs} ms`);
      gone.add(nameOf(table, withoutMark(labelSet.labelKey)));
      this.shown.delete(name);
      this.shownAs.delete(name);
      for (const metric of SHAPE_OF[table].metrics.keys()) this.natives.delete(`${name}/${metric}`);
    }
    for (const { table, labelSet } of this.shownAs.values()) {
      if (gone.has(nameOf(table, withoutMark(labelSet.labelKey)))) fail(`${table} was let go of in part`);
    }
  }

  /** What was counted, and not saved, is gone with a collector; another shows the same label sets. */
  noteRestart(): void {
    this.counted = new Map();
    for (const [name, known] of this.shownAs) {
      const labelSet = this.subject.shownAs(known.table, known.labelSet.labelKey);
      if (labelSet) this.shownAs.set(name, { ...known, labelSet });
    }
  }

  private noteShown(): void {
    const { steadyMs } = this.subject.clock;
    for (const table of TABLES) {
      for (const [labelKey, row] of this.subject.shown(table)) {
        if (row.every((count) => count === 0)) continue; // not on any page
        const name = nameOf(table, labelKey);
        const labelSet = this.subject.shownAs(table, labelKey) as LabelSet;
        const known = this.shownAs.get(name);
        const hasGrown = known?.row.some((count, field) => count !== row[field]) ?? true;
        this.shownAs.set(name, { table, labelSet, row, sinceMs: hasGrown ? steadyMs : (known?.sinceMs ?? 0) });
      }
    }
  }

  /** Of what was let go of, too: what is shown is what is held, and may be more where another shard held a part of it meanwhile. */
  private checkShownIsHeld(): void {
    for (const table of TABLES) {
      const shown = this.subject.shown(table);
      for (const [labelKey, row] of this.subject.held(table)) {
        for (const [field, count] of row.entries()) {
          const isShown = (shown.get(labelKey)?.[field] ?? 0) >= count * (1 - TOLERANCE);
          if (!isShown) fail(`${table} field ${field} is not shown`);
        }
      }
    }
  }

  private checkTotals(totals: (table: Table) => Totals, before: Map<string, Float64Array>, lacking: Lacking): void {
    const { mayClose, mayOverflow, conditions } = this.subject;
    for (const table of TABLES) {
      const held = totals(table);
      for (const [labelKey, row] of held) checkGrowth(before, nameOf(table, labelKey), row);
      for (const row of sumsBy(held, withoutMark).values()) checkCumulative(table, row);
      if (mayOverflow || conditions.keepsSome) this.checkVerdicts(table, held, lacking);
      if (!mayClose) this.checkEach(table, held, lacking); // else what is in the overflow for one process is not for another
    }
  }

  /** Each label set as it is shown; of what has no series, not in the overflow either, nothing was counted. */
  private checkEach(table: Table, held: Totals, lacking: Lacking): void {
    const all = sumsBy(held, (labelKey) => this.subject.visible(table, labelKey));
    const groupOf = (labelKey: string) => {
      const visible = this.subject.visible(table, labelKey);
      if (all.has(visible)) return visible;
      const overflow = SHAPE_OF[table].overflowOf(visible);
      return all.has(overflow) ? overflow : visible;
    };
    this.checkGroups(table, all, groupOf, lacking);
  }

  /**
   * By reporter, and by how it counts in mesh_*, it is the truth whatever is in the overflow, and whichever labels are kept. What entries
   * are marked with wrongly counts in mesh_* as they say.
   */
  private checkVerdicts(table: Table, held: Totals, lacking: Lacking): void {
    const { hasMarks, keepsSome } = this.subject.conditions;
    const reporterOf = (labelKey: string) =>
      slicedLabels(this.subject.visible(table, labelKey))[Label.Reporter] as string;
    const kindOf = (labelKey: string) =>
      `${hasMarks ? "any" : judge(labelKey, table === "tcp", RULE)} by ${reporterOf(labelKey)}`;
    // Those that are shown as one are counted together, by the way that told most of all of them.
    this.checkGroups(table, sumsBy(held, kindOf), kindOf, lacking, keepsSome ? reporterOf : kindOf);
  }

  /** `togetherOf`: what has to be known all in one way for the group to be. */
  private checkGroups(
    table: Table,
    sums: Totals,
    groupOf: (labelKey: string) => string,
    lacking: Lacking,
    togetherOf = groupOf,
  ): void {
    const told = [...this.oracle.labelKeys(table)];
    const groups = new Map(told.map((labelKey) => [labelKey, groupOf(labelKey)]));
    const together = new Map(told.map((labelKey) => [labelKey, togetherOf(labelKey)]));
    const lacks = lacking === null ? null : new Set([...lacking(table)].map(groupOf));
    const zeros = new Float64Array(SHAPE_OF[table].width);
    for (const group of new Set([...sums.keys(), ...groups.values()])) {
      const some = told.filter((labelKey) => groups.get(labelKey) === group).map((labelKey) => together.get(labelKey));
      const isKnown =
        lacks !== null &&
        !lacks.has(group) &&
        this.oracle.isKnown(table, (labelKey) => some.includes(together.get(labelKey)));
      const truth = this.oracle.truth(table, (labelKey) => groups.get(labelKey) === group);
      checkRow(table, sums.get(group) ?? zeros, truth, isKnown);
    }
  }

  /** They hold as many as is shown, and no bucket went down. */
  private checkNatives(): void {
    for (const [labelKey, row] of this.subject.shown("http")) {
      for (const [metric, { from, sum, to }] of SHAPE_OF.http.metrics.entries()) {
        if (to - from === 1) continue;
        const now = this.subject.shownNative(labelKey, metric);
        const count = now === null ? 0 : observations(now);
        if (count !== row[sum - 1]) fail(`native buckets hold ${count}, and the count is ${row[sum - 1]}`);
        const name = `${nameOf("http", labelKey)}/${metric}`;
        const before = this.natives.get(name);
        if (now !== null && before !== undefined) checkBuckets(before, now);
        if (now !== null) this.natives.set(name, { ...now, counts: now.counts.slice() });
      }
    }
  }
}

function nameOf(table: Table, labelKey: string): string {
  return `${table}/${labelKey}`;
}

function checkRow(table: Table, row: Float64Array, truth: Float64Array, isKnown: boolean): void {
  for (const [field, count] of row.entries()) {
    const expected = truth[field] as number;
    if (count > expected * (1 + TOLERANCE)) fail(`${table} field ${field} is ${count}, above the truth ${expected}`);
    if (isKnown && count < expected * (1 - TOLERANCE))
      fail(`${table} field ${field} is ${count}, and the truth ${expected}`);
  }
}

/** No bucket of a histogram holds more than the next one. */
function checkCumulative(table: Table, row: Float64Array): void {
  for (const { from, sum } of SHAPE_OF[table].metrics) {
    for (let field = from + 1; field < sum; field++) {
      if ((row[field - 1] as number) > (row[field] as number)) fail(`field ${field - 1} is more than the next one`);
    }
  }
}

function checkGrowth(all: Map<string, Float64Array>, name: string, row: Float64Array): void {
  const before = all.get(name);
  for (const [field, count] of row.entries()) {
    if (count < (before?.[field] ?? 0))
      fail(`${name.slice(0, 4)} field ${field} went down from ${before?.[field]} to ${count}`);
  }
  all.set(name, row);
}

function checkBuckets(before: NativeBuckets, now: NativeBuckets): void {
  if (now.schema > before.schema) fail(`native buckets became finer: from schema ${before.schema} to ${now.schema}`);
  if (now.zero < before.zero) fail(`the native bucket of 0 went down from ${before.zero} to ${now.zero}`);
  const least = new Map<number, number>();
  for (const [place, count] of before.counts.entries()) {
    const index = Math.ceil((before.offset + place) / 2 ** (before.schema - now.schema));
    least.set(index, (least.get(index) ?? 0) + count);
  }
  for (const [index, count] of least) {
    const held = now.counts[index - now.offset] ?? 0;
    if (held < count) fail(`native bucket ${index} of schema ${now.schema} went down from ${count} to ${held}`);
  }
}

function fail(message: string): never {
  throw new Error(message);
}
