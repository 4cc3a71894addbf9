// What the rounds come to, as tables for people.

import { median, ratio, ratioInterval } from "../statistics.ts";
import type { SelfTime } from "./profile.ts";
import type { Exposition } from "./server.ts";
import type { Slice, Traffic } from "./slice.ts";

const MIB = 1024 * 1024;

/** All rounds of one variant. */
export interface Result {
  readonly name: string;
  /** What serves: `collector`. */
  readonly server: string;
  readonly traffic: Traffic;
  readonly slices: readonly Slice[];
  /** The most memory that the process ever had. */
  readonly peakBytes: number;
  readonly exposition: Exposition | null;
}

/** Of a collector without traffic, one number for each start. */
export interface Idle {
  readonly readyMs: readonly number[];
  /** CPU time until then, of all its threads. */
  readonly readyCpuMs: readonly number[];
  readonly rssBytes: readonly number[];
}

/** A bound on a figure, and what one should get to. */
interface Goal {
  readonly figure: string;
  readonly of: (result: Result) => number;
  readonly target: number;
  readonly isLeast?: boolean;
  readonly aim?: number;
}

const GOALS: readonly Goal[] = [
  { figure: "entries/s", of: medianOf((slice) => slice.entriesPerSecond), target: 100_000, isLeast: true },
  { figure: "us CPU an entry", of: medianOf((slice) => slice.cpuUsPerEntry), target: 10, aim: 6 },
  { figure: "MiB RSS", of: medianOf((slice) => slice.rssBytes / MIB), target: 250 },
  { figure: "entries lost", of: lost, target: 0 },
];
const IDLE_TARGETS = { readyMs: 500, rssMib: 90 };
const THREADS_TARGET = 1.7;
/** Of the server's cores, beyond which entries a second say little. */
const MAX_CORES_OF_OTHERS = 0.05;

export function printIdle({ readyMs, readyCpuMs, rssBytes }: Idle): void {
  const rssMib = rssBytes.map((bytes) => bytes / MIB);
  console.log(
    `idle: ready after ${spread(readyMs, 0)} ms, ${spread(readyCpuMs, 0)} ms of CPU, ${verdict(median(readyMs) <= IDLE_TARGETS.readyMs, IDLE_TARGETS.readyMs)}`,
  );
  console.log(
    `idle: ${spread(rssMib, 1)} MiB RSS, ${verdict(median(rssMib) <= IDLE_TARGETS.rssMib, IDLE_TARGETS.rssMib)}`,
  );
}

export function printResults(results: readonly Result[]): void {
  console.log(
    "\n| variant | entries/s | us CPU an entry | cores had, by others | answers after ms: median, 99 %, most " +
      "| RSS MiB, peak | lost | generator's us an entry |",
  );
  console.log("| --- | --- | --- | --- | --- | --- | --- | --- |");
  for (const result of results) console.log(`| ${cells(result).join(" | ")} |`);
}

function cells(result: Result): string[] {
  const { name, slices, peakBytes } = result;
  const of = (read: (slice: Slice) => number, digits: number) => spread(slices.map(read), digits);
  const answers = slices.flatMap(({ answerMs }) => answerMs).sort((a, b) => a - b);
  const answer = (share: number) => (answers[Math.ceil(answers.length * share) - 1] ?? Number.NaN).toFixed(0);
  return [
    name,
    of((slice) => slice.entriesPerSecond, 0),
    of((slice) => slice.cpuUsPerEntry, 2),
    `${of((slice) => slice.cores, 2)}, ${of((slice) => slice.coresOfOthers, 2)}`,
    `${answer(0.5)}, ${answer(0.99)}, ${answer(1)}`,
    `${of((slice) => slice.rssBytes / MIB, 0)}, ${(peakBytes / MIB).toFixed(0)}`,
    String(lost(result)),
    of((slice) => slice.loadCpuUsPerEntry, 2),
  ];
}

/** What one reading of /metrics takes with all those label sets, after the load. */
export function printExpositions(results: readonly Result[]): void {
  console.log("");
  for (const { name, exposition } of results) {
    if (exposition === null) continue;
    const labelSets = /^meshtally_label_sets\{metrics="http"\} (\d+)$/m.exec(exposition.end)?.[1];
    const held = labelSets === undefined ? "" : `, ${labelSets} label sets`;
    console.log(
      `${name}: /metrics ${(exposition.bytes / MIB).toFixed(0)} MiB in ${exposition.seconds.toFixed(1)} s${held}`,
    );
  }
}

/** Of results of the collector alone. */
export function printVerdicts(results: readonly Result[]): void {
  console.log("");
  const ofOthers = Math.max(...results.map(medianOf((slice) => slice.coresOfOthers)));
  if (ofOthers > MAX_CORES_OF_OTHERS) {
    console.log(`others had ${ofOthers.toFixed(2)} of the server's cores: it could have taken more entries a second`);
  }
  for (const { figure, of, target, isLeast = false, aim } of GOALS) {
    const worst = isLeast ? Math.min(...results.map(of)) : Math.max(...results.map(of));
    const isReached = isLeast ? worst >= target : worst <= target;
    const aimed = aim === undefined ? "" : `, aim ${aim}${worst <= aim ? " reached" : ""}`;
    const digits = Number.isInteger(worst) || worst > 1000 ? 0 : 2;
    console.log(`worst of the collector: ${worst.toFixed(digits)} ${figure}, ${verdict(isReached, target)}${aimed}`);
  }
}

/** Each result of `server` in terms of the one of `base` with the same traffic, from the same rounds. */
export function printRatios(results: readonly Result[], server: string, base: string, figure: "rate" | "cost"): void {
  const read = (slice: Slice) => (figure === "rate" ? slice.entriesPerSecond : slice.cpuUsPerEntry);
  for (const { traffic, slices } of results.filter((result) => result.server === server)) {
    const other = results.find((result) => result.server === base && isSame(result.traffic, traffic));
    if (other === undefined) continue;
    const [values, inTermsOf] = [slices.map(read), other.slices.map(read)];
    const value = ratio(values, inTermsOf);
    const { low, high } = ratioInterval(values, inTermsOf);
    const what = figure === "rate" ? "entries/s" : "CPU an entry";
    const reached = figure === "rate" ? `, ${verdict(value >= THREADS_TARGET, THREADS_TARGET)}` : "";
    console.log(
      `${server} / ${base}, ${nameOf(traffic)}: ${value.toFixed(2)} (95 % ${low.toFixed(2)} to ${high.toFixed(2)}) of ${what}${reached}`,
    );
  }
}

export function printSelfTimes(name: string, times: readonly SelfTime[]): void {
  console.log(`\n${name}, self time:`);
  for (const { name, file, milliseconds, share } of times) {
    console.log(
      `${(share * 100).toFixed(1).padStart(6)} % ${milliseconds.toFixed(0).padStart(7)} ms  ${name}  ${file}`,
    );
  }
}

export function lost({ slices }: Result): number {
  return slices.reduce((sum, slice) => sum + slice.lost, 0);
}

export function nameOf({ kind, streams }: Traffic): string {
  return `${kind}, ${streams} streams`;
}

function isSame(one: Traffic, other: Traffic): boolean {
  return one.kind === other.kind && one.streams === other.streams;
}

function medianOf(read: (slice: Slice) => number): (result: Result) => number {
  return ({ slices }) => median(slices.map(read));
}

function verdict(isReached: boolean, target: number): string {
  return `target ${target} ${isReached ? "reached" : "MISSED"}`;
}

/** `5.10 (4.90 to 5.40)`: the median, and between what the values lie. */
function spread(values: readonly number[], digits: number): string {
  const [low, middle, high] = [Math.min(...values), median(values), Math.max(...values)].map((value) =>
    value.toFixed(digits),
  );
  return `${middle} (${low} to ${high})`;
}
