// SummedSubjects: the subjects of all threads, added up by their labels.
//
// A service, say, is held by each thread whose proxies saw calls of it, and each lets go of it in its own time. Counters must not go down
// meanwhile: what a thread let go of is kept here, and added, as long as another one still holds it.

import { addCodes } from "../indicators/indicator.ts";
import { LatencySketch } from "../indicators/latency-sketch.ts";
import type { SubjectReading, SubjectSums } from "../indicators/reading.ts";
import type { SubjectName } from "./messages.ts";

export class SummedSubjects {
  private readonly retired = new Map<string, Sum>();

  /** Takes what a thread let go of. */
  addRetired(subjects: readonly SubjectSums[]): void {
    for (const subject of subjects) addTo(this.retired, subject);
  }

  /** Those that some thread let go of. */
  get retiredNames(): SubjectName[] {
    return [...this.retired.values()].map(({ kind, labels }) => ({ kind, labels }));
  }

  /** Forgets those of `asked` that no thread holds: when they come again, their counters begin at 0. */
  keepRetired(asked: readonly SubjectName[], living: readonly SubjectName[]): void {
    const kept = new Set(living.map(keyOf));
    for (const name of asked) if (!kept.has(keyOf(name))) this.retired.delete(keyOf(name));
  }

  /** What the threads read, added up; one list for each thread. */
  sum(lists: Iterable<readonly SubjectSums[]>): SubjectReading[] {
    const summed = new Map<string, Sum>();
    for (const subjects of lists) for (const subject of subjects) addTo(summed, subject);
    for (const [key, reading] of summed) {
      const retired = this.retired.get(key);
      if (retired !== undefined) add(reading, retired);
    }
    return [...summed.values()];
  }
}

/** A reading that may be added to. */
interface Sum extends SubjectReading {
  readonly flags: Map<string, number>;
}

function addTo(sums: Map<string, Sum>, subject: SubjectSums): void {
  const key = keyOf(subject);
  let sum = sums.get(key);
  if (sum === undefined) {
    sum = emptyLike(subject);
    sums.set(key, sum);
  }
  add(sum, subject);
}

function emptyLike({ kind, labels, namespace, totals, windows }: SubjectSums): Sum {
  const emptyWindows = windows.map(({ sums }) => ({
    sums: new Float64Array(sums.length),
    latencies: new LatencySketch(),
    codes: new Map<string, number>(),
  }));
  return { kind, labels, namespace, totals: new Float64Array(totals.length), flags: new Map(), windows: emptyWindows };
}

function add({ totals, flags, windows: summedWindows }: Sum, more: SubjectSums): void {
  addRow(totals, more.totals);
  for (const [flag, count] of more.flags) flags.set(flag, (flags.get(flag) ?? 0) + count);
  for (const [i, { sums, latencies, codes }] of more.windows.entries()) {
    const window = summedWindows[i];
    if (window === undefined) continue;
    addRow(window.sums, sums);
    window.latencies.merge(latencies);
    addCodes(window.codes, codes);
  }
}

function addRow(row: Float64Array, more: Float64Array): void {
  for (let i = 0; i < row.length; i++) row[i] = (row[i] as number) + (more[i] as number);
}

function keyOf({ kind, labels }: SubjectName): string {
  return JSON.stringify([kind, ...labels]);
}
