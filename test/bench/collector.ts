// npm run bench:collector [-- options of als/arguments.ts]: what an access-log entry costs the collector, end to end, and what an idle collector costs.
//
//   load generator --HTTP/2, loopback--> the collector's process, on a core of its own     entries/s, CPU, memory, waits, losses
//
// The generator (als/load.ts) replays what the sidecars of a mesh of 1,000 pods would send, as fast as it is taken. Each variant has a
// server process through all rounds; a round is one slice of each variant, the others idle, and the first one warms up. Beside it, where Go is
// present, a server as one writes it in Go.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Arguments, readArguments, USAGE } from "./als/arguments.ts";
import { collectorKind, hasLogStore, hasThreads } from "./als/collector-server.ts";
import { KINDS } from "./als/entry.ts";
import { goKind } from "./als/go-server.ts";
import { LoadProcess } from "./als/load-process.ts";
import { type Cores, type CoreTimes, coreTimes, divideCores, memoryOf } from "./als/proc.ts";
import { profilesIn, readProfile, topSelfTimes } from "./als/profile.ts";
import {
  type Idle,
  lost,
  nameOf,
  printExpositions,
  printIdle,
  printRatios,
  printResults,
  printSelfTimes,
  printVerdicts,
  type Result,
} from "./als/report.ts";
import { Server, type ServerKind } from "./als/server.ts";
import { measureSlice, type Slice, type Traffic } from "./als/slice.ts";

const COLLECTOR = "collector";
const GO = "Go";
const IDLE = "idle";
const STREAMS = [4, 64];
const IDLE_STARTS = 5;
/** Until memory is what it stays at. */
const IDLE_MS = 2000;
const TOP_FUNCTIONS = 25;

interface Variant {
  readonly name: string;
  readonly server: string;
  readonly traffic: Traffic;
  readonly cores: Cores;
  readonly kind: ServerKind;
  readonly profileFolder?: string | undefined;
}

/** All that `only` names. Says which cannot be measured here. */
async function chooseVariants({ only, threads, labelSets, isProfiled }: Arguments): Promise<Variant[]> {
  const traffics = KINDS.flatMap((kind) => STREAMS.map((streams): Traffic => ({ kind, streams, labelSets })));
  const each = (server: string, cores: Cores, make: (traffic: Traffic) => Pick<Variant, "kind" | "profileFolder">) =>
    traffics
      .map((traffic) => ({ name: `${server}, ${nameOf(traffic)}`, server, traffic, cores }))
      .filter(({ name }) => only.test(name))
      .map((variant) => ({ ...variant, ...make(variant.traffic) }));
  const collector = (count: number | undefined) => () => {
    const profileFolder = isProfiled ? mkdtempSync(join(tmpdir(), "meshtally-profile-")) : undefined;
    return { kind: collectorKind({ threads: count, profileFolder }), profileFolder };
  };

  const oneCore = divideCores(1);
  const all = each(COLLECTOR, oneCore, collector(undefined));
  if (threads !== undefined) {
    if (hasThreads(threads)) all.push(...each(threadsName(threads), divideCores(threads), collector(threads)));
    else console.log(`${threadsName(threads)} SKIPPED: this collector's configuration has no such key`);
  }
  if (isProfiled) return all;
  const go = await goKind();
  if ("missing" in go) console.log(`${GO} SKIPPED: ${go.missing}`);
  else all.push(...each(GO, oneCore, () => ({ kind: go })));
  return all;
}

function threadsName(threads: number): string {
  return `${COLLECTOR} with ${threads} threads`;
}

async function measureIdle(): Promise<Idle> {
  const readyMs: number[] = [];
  const readyCpuMs: number[] = [];
  const rssBytes: number[] = [];
  for (let start = 0; start < IDLE_STARTS; start++) {
    const server = await Server.start(collectorKind({}), divideCores(1));
    readyMs.push(server.startMs);
    readyCpuMs.push(server.startCpuMs);
    await sleep(IDLE_MS);
    rssBytes.push(memoryOf(server.pid).rssBytes);
    await server.stop();
  }
  return { readyMs, readyCpuMs, rssBytes };
}

async function measureVariants(
  variants: readonly Variant[],
  { rounds, seconds, isProfiled }: Arguments,
): Promise<Result[]> {
  const load = new LoadProcess(divideCores(1));
  const servers: Server[] = [];
  try {
    for (const { kind, cores } of variants) servers.push(await Server.start(kind, cores));
    const slices = variants.map((): Slice[] => []);
    for (let round = 0; round <= rounds; round++) {
      console.error(round === 0 ? "warming up" : `round ${round} of ${rounds}`);
      for (const [i, { traffic, cores }] of variants.entries()) {
        const slice = await measureSlice(servers[i] as Server, load, traffic, cores, seconds);
        if (round > 0) slices[i]?.push(slice);
      }
    }
    const results: Result[] = [];
    for (const [i, { name, server, traffic }] of variants.entries()) {
      const process = servers[i] as Server;
      const { peakBytes } = memoryOf(process.pid);
      const exposition = isProfiled ? null : await process.exposition(); // which would be in the profile
      results.push({ name, server, traffic, slices: slices[i] ?? [], peakBytes, exposition });
    }
    return results;
  } finally {
    load.close();
    await Promise.all(servers.map((server) => server.stop()));
  }
}

function printAll(results: readonly Result[], threads: number | undefined): void {
  printResults(results);
  printExpositions(results);
  const collectors = results.filter(({ server }) => server === COLLECTOR);
  if (collectors.length > 0) printVerdicts(collectors);
  printRatios(results, COLLECTOR, GO, "cost");
  if (threads !== undefined) printRatios(results, threadsName(threads), COLLECTOR, "rate");
}

/** Of a core's time, what the host of a virtual machine gave to others since then; and what wants to run now. */
function describeMachine(before: CoreTimes, isPinned: boolean): string {
  const now = allCores();
  const stolen = ((now.stolen - before.stolen) / Math.max(1, now.all - before.all)) * 100;
  const load = loadavg().map((average) => average.toFixed(2));
  return (
    `${cpus().length} cores, ${isPinned ? "the server pinned to its own" : "not pinned"}, ` +
    `load average ${load.join(" ")}, ${stolen.toFixed(1)} % stolen; log store ${hasLogStore() ? "on" : "not there"}`
  );
}

function allCores(): CoreTimes {
  return coreTimes(cpus().map((_, core) => core));
}

function printProfiles(variants: readonly Variant[]): void {
  for (const { name, profileFolder } of variants) {
    if (profileFolder === undefined) continue;
    printSelfTimes(name, topSelfTimes(profilesIn(profileFolder).map(readProfile), TOP_FUNCTIONS));
    rmSync(profileFolder, { recursive: true });
  }
}

async function run(given: Arguments): Promise<void> {
  const before = allCores();
  const { isPinned } = divideCores(1);
  console.log(describeMachine(before, isPinned));
  const idle = given.only.test(IDLE) ? await measureIdle() : null;
  if (idle !== null) printIdle(idle);

  const variants = await chooseVariants(given);
  if (variants.length === 0 && idle === null) fail(`--only ${given.only.source}: expected part of a variant's name`);
  const results = variants.length === 0 ? [] : await measureVariants(variants, given);
  if (results.length > 0) printAll(results, given.threads);
  printProfiles(variants);

  const machine = describeMachine(before, isPinned);
  console.log(`\n${machine}`);
  if (given.json !== undefined) writeFileSync(given.json, `${JSON.stringify({ machine, idle, results }, null, 1)}\n`);
  if (results.some((result) => lost(result) !== 0)) process.exitCode = 1;
}

function fail(message: string): never {
  console.error(`${message}\n${USAGE}`);
  process.exit(2);
}

function argumentsOrExit(): Arguments {
  try {
    return readArguments(process.argv.slice(2));
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}

await run(argumentsOrExit());
