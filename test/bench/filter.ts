// npm run bench:filter [-- --rounds N] [--only REGEX]: what the filter adds to a request, in microseconds of Envoy's worker thread.
//
// One Envoy process, one worker, one listener per variant, all in front of the same upstream. Rounds of short slices, the variants
// in random order within a round; the figure is the median over rounds of (variant - bare), with a bootstrap 95 % confidence
// interval, and the ratio of two such medians. Rounds go on until each interval is within 10 %, or the bound is hit: then the machine
// is too noisy.

import { cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { BenchEnvoy, SERVICE_METADATA, type Variant } from "./bench-envoy.ts";
import { buildFloor, buildRustFilter } from "./build-wasm.ts";
import { Client, portOf, requestTo, startUpstream } from "./load.ts";
import { differingLabels } from "./same-series.ts";
import { type Interval, isWithin, median, medianInterval, ratio, ratioInterval } from "./statistics.ts";
import {
  BARE,
  INBOUND,
  LOGGER,
  NATIVE,
  NO_EXCHANGE,
  OUTBOUND,
  RUST_INBOUND,
  RUST_OUTBOUND,
  rustVariants,
  variants,
} from "./variants.ts";
import { pin, WorkerClock } from "./worker.ts";

const REQUESTS_PER_SLICE = 3000;
const MIN_ROUNDS = 20;
const DEFAULT_MAX_ROUNDS = 120;
/** How often to look whether it is enough, in rounds. */
const LOOK_EVERY = 5;
const WANTED_PRECISION = 0.1;

/** What one variant may cost in terms of another, both less their bare request. */
interface Goal {
  readonly of: string;
  readonly inTermsOf: string;
  readonly target: number;
  readonly aim: number;
}

const GOALS: readonly Goal[] = [
  { of: NO_EXCHANGE, inTermsOf: NATIVE, target: 2, aim: 1.3 },
  { of: LOGGER, inTermsOf: NATIVE, target: 2, aim: 1.3 },
  { of: OUTBOUND, inTermsOf: RUST_OUTBOUND, target: 0.7, aim: 0.5 },
  { of: INBOUND, inTermsOf: RUST_INBOUND, target: 0.7, aim: 0.5 },
];

/** Variants that must count the same series, so that comparing their cost is fair. */
const SAME_JOB: readonly (readonly [string, string])[] = [
  [OUTBOUND, RUST_OUTBOUND],
  [INBOUND, RUST_INBOUND],
  [NO_EXCHANGE, LOGGER],
];

/** A figure with its interval, from the rounds so far. */
interface Estimate {
  readonly value: number;
  readonly interval: Interval;
}

/** The rounds so far: microseconds per request that each variant took, by name, in the order of the rounds. */
class Rounds {
  private readonly cost: ReadonlyMap<string, number[]>;

  constructor(private readonly all: readonly Variant[]) {
    this.cost = new Map(all.map(({ name }) => [name, []]));
  }

  /** Variants that have a cost of their own: all but the bare ones. */
  get measured(): readonly string[] {
    const bare: readonly string[] = Object.values(BARE);
    return this.all.map(({ name }) => name).filter((name) => !bare.includes(name));
  }

  get goals(): readonly Goal[] {
    return GOALS.filter((goal) => this.cost.has(goal.of) && this.cost.has(goal.inTermsOf));
  }

  get count(): number {
    return this.cost.values().next().value?.length ?? 0;
  }

  add(name: string, microseconds: number): void {
    this.cost.get(name)?.push(microseconds);
  }

  bare(name: string): number | undefined {
    const costs = this.cost.get(name);
    return costs && median(costs);
  }

  added(name: string): Estimate {
    const differences = this.differences(name);
    return { value: median(differences), interval: medianInterval(differences) };
  }

  ratio({ of, inTermsOf }: Goal): Estimate {
    const values = this.differences(of);
    const base = this.differences(inTermsOf);
    return { value: ratio(values, base), interval: ratioInterval(values, base) };
  }

  isPrecise(): boolean {
    const estimates = [...this.measured.map((name) => this.added(name)), ...this.goals.map((goal) => this.ratio(goal))];
    return estimates.every(isPrecise);
  }

  /** What the variant added to the bare request of its direction, round by round. */
  private differences(name: string): number[] {
    const variant = this.all.find((one) => one.name === name);
    const bare = variant && this.cost.get(BARE[variant.direction]);
    return (this.cost.get(name) ?? []).map((cost, round) => cost - (bare?.[round] ?? Number.NaN));
  }
}

async function measure(all: readonly Variant[], maxRounds: number): Promise<void> {
  const upstream = await startUpstream();
  const envoy = await BenchEnvoy.start(all, portOf(upstream), SERVICE_METADATA);
  const clients = new Map<string, Client>();
  try {
    const isPinned = pin(envoy.pid);
    for (const [i, { name, direction }] of all.entries()) {
      const request = requestTo("reviews:9080", direction === "INBOUND");
      const client = new Client(envoy.ports[i] as number, () => request);
      clients.set(name, client);
      await client.open();
      await client.run(REQUESTS_PER_SLICE);
    }
    await checkSeries(envoy, clients);
    console.log(`${cpus().length} cores, load ${loadavg()[0]?.toFixed(2)}, ${isPinned ? "pinned" : "not pinned"}`);
    report(await runRounds(all, clients, new WorkerClock(envoy.pid), maxRounds));
  } finally {
    for (const client of clients.values()) client.close();
    envoy.stop();
    upstream.close();
  }
}

/** Says which variants do not do the same job, and lets the bench fail for it. */
async function checkSeries(envoy: BenchEnvoy, clients: ReadonlyMap<string, Client>): Promise<void> {
  for (const [left, right] of SAME_JOB) {
    const [one, other] = [clients.get(left), clients.get(right)];
    if (one === undefined || other === undefined) continue;
    const differences = await differingLabels(envoy, one, other);
    if (differences.length === 0) {
      console.log(`same series: ${left}; ${right}`);
    } else {
      console.error(`NOT the same series: ${left}; ${right}\n  ${differences.join("\n  ")}`);
      process.exitCode = 1;
    }
  }
}

async function runRounds(
  all: readonly Variant[],
  clients: ReadonlyMap<string, Client>,
  clock: WorkerClock,
  maxRounds: number,
): Promise<Rounds> {
  const rounds = new Rounds(all);
  for (let round = 1; round <= maxRounds; round++) {
    for (const { name } of shuffled(all)) {
      const before = clock.read();
      await clients.get(name)?.run(REQUESTS_PER_SLICE);
      rounds.add(name, (clock.read() - before) / REQUESTS_PER_SLICE / 1000);
    }
    if (round >= MIN_ROUNDS && round % LOOK_EVERY === 0 && rounds.isPrecise()) break;
  }
  return rounds;
}

function report(rounds: Rounds): void {
  const isTrial = rounds.count < MIN_ROUNDS;
  console.log(`${rounds.count} rounds${isTrial ? `: a trial, figures need ${MIN_ROUNDS}` : ""}`);
  for (const name of Object.values(BARE)) {
    const cost = rounds.bare(name);
    if (cost !== undefined) console.log(`${name}: ${cost.toFixed(1)} us of worker CPU per request`);
  }
  for (const name of rounds.measured) {
    const estimate = rounds.added(name);
    const { low, high } = estimate.interval;
    console.log(
      `${name}: adds ${estimate.value.toFixed(1)} us per request (95 % ${low.toFixed(1)} to ${high.toFixed(1)})` +
        doubt(estimate),
    );
  }
  for (const goal of rounds.goals) {
    const estimate = rounds.ratio(goal);
    const { low, high } = estimate.interval;
    console.log(
      `${goal.of} / ${goal.inTermsOf}: ${estimate.value.toFixed(2)} (95 % ${low.toFixed(2)} to ${high.toFixed(2)}), ` +
        `${verdict(goal, estimate.value)}${doubt(estimate)}`,
    );
  }
}

function verdict({ target, aim }: Goal, value: number): string {
  const reached = value <= aim ? "aim reached" : value <= target ? "target reached" : "target MISSED";
  return `${reached} (target ${target}, aim ${aim})`;
}

function isPrecise({ value, interval }: Estimate): boolean {
  return isWithin(WANTED_PRECISION, value, interval);
}

function doubt(estimate: Estimate): string {
  return isPrecise(estimate) ? "" : "  NOT within 10 %: too few rounds, or the machine is too noisy";
}

function shuffled<T>(values: readonly T[]): T[] {
  return values
    .map((value) => ({ value, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ value }) => value);
}

/** Those that `only` names, with the bare request of each direction that they need. */
function choose(only: RegExp): Variant[] {
  const all = variants(buildFloor());
  const rust = buildRustFilter();
  if ("wasm" in rust) all.push(...rustVariants(rust.wasm));
  else console.log(`2 variants SKIPPED, Rust filter outbound and inbound: ${rust.missing}`);
  const bare: readonly string[] = Object.values(BARE);
  const chosen = all.filter(({ name }) => !bare.includes(name) && only.test(name));
  const needed = chosen.map(({ direction }): string => BARE[direction]);
  return all.filter((variant) => chosen.includes(variant) || needed.includes(variant.name));
}

interface Arguments {
  readonly maxRounds: number;
  readonly only: RegExp;
}

/** Throws Error on what is not as in the usage. */
function readArguments(args: string[]): Arguments {
  const { values } = parseArgs({ args, options: { rounds: { type: "string" }, only: { type: "string" } } });
  const maxRounds = values.rounds === undefined ? DEFAULT_MAX_ROUNDS : Number(values.rounds);
  if (!Number.isInteger(maxRounds) || maxRounds < 1) throw new Error(`--rounds ${values.rounds}: no whole number`);
  return { maxRounds, only: new RegExp(values.only ?? "") };
}

function argumentsOrExit(): Arguments {
  try {
    return readArguments(process.argv.slice(2));
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}`);
    console.error("usage: bench:filter [-- [--rounds N] [--only REGEX]]   REGEX: part of the variants' names");
    process.exit(2);
  }
}

const { maxRounds, only } = argumentsOrExit();
const chosen = choose(only);
if (chosen.length === 0) {
  console.error(`--only ${only.source}: no variant's name matches`);
  process.exit(2);
}
await measure(chosen, maxRounds);
