// npm run bench:collector [-- options below]: what an access-log entry costs the collector, end to end, and what the collector costs idle.
//
// A load generator of its own sends over HTTP/2 on loopback, as fast as it is taken, what sidecars would send; the real collector
// process has a core to itself, where the machine has two. Rounds of slices, one for each variant; the first round warms up. Every variant
// has a server of its own through all rounds. The figures are medians over the rounds, with the least and the most.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { KINDS, type Kind } from "./als/entry.ts";
import { LoadProcess } from "./als/load-process.ts";
import { ENTRIES_PER_MESSAGE, LABEL_SETS } from "./als/messages.ts";
import { type Cores, coreTimes, cpuSeconds, divideCores, memoryOf } from "./als/proc.ts";
import { readProfile, topSelfTimes } from "./als/profile.ts";
import { profilesIn, Server } from "./als/server.ts";
import { median } from "./statistics.ts";

const STREAMS = [4, 64];
const SETTLE_MS = 1000;
const ANSWER_PAUSE_MS = 100;
const DRAIN_PATIENCE_MS = 10_000;
const TOP_FUNCTIONS = 25;
const IDLE_STARTS = 5;
const IDLE_MS = 2000;
const MIB = 1024 * 1024;

interface Variant {
  readonly name: string;
  readonly kind: Kind;
  readonly streams: number;
  readonly threads: number | undefined;
  readonly cores: Cores;
}

/** What one slice showed. */
interface Slice {
  readonly entriesPerSecond: number;
  readonly cpuUsPerEntry: number;
  /** Of the load generator. */
  readonly loadUsPerEntry: number;
  /** Cores that the server had, and others had of its cores. */
  readonly coresUsed: number;
  readonly coresOthers: number;
  readonly slowestAnswerMs: number;
  readonly rssBytes: number;
  readonly lost: number;
}

class Bench {
  private constructor(
    readonly variant: Variant,
    readonly server: Server,
    private readonly load: LoadProcess,
    readonly profileFolder: string | undefined,
  ) {}

  readonly slices: Slice[] = [];

  static async start(variant: Variant, load: LoadProcess, isProfiled: boolean): Promise<Bench> {
    const profileFolder = isProfiled ? mkdtempSync(join(tmpdir(), "meshtally-profile-")) : undefined;
    const server = await Server.startCollector({ cores: variant.cores, threads: variant.threads, profileFolder });
    return new Bench(variant, server, load, profileFolder);
  }

  async measure(seconds: number): Promise<Slice> {
    const { server, load, variant } = this;
    const atStart = await server.intake();
    await load.start(server.alsUrl, variant.kind, variant.streams);
    await sleep(SETTLE_MS);

    const before = await this.read();
    const slowestAnswerMs = await this.slowestAnswer(seconds);
    const after = await this.read();

    const sent = await load.stop();
    const taken = await this.drained(atStart.taken + sent);
    const entries = after.taken - before.taken;
    const wall = (after.atMs - before.atMs) / 1000;
    const cpu = after.cpu - before.cpu;
    return {
      entriesPerSecond: entries / wall,
      cpuUsPerEntry: (cpu * 1e6) / entries,
      loadUsPerEntry: ((after.loadCpu - before.loadCpu) * 1e6) / entries,
      coresUsed: cpu / wall,
      coresOthers: (after.cores.busy - before.cores.busy - cpu + after.cores.stolen - before.cores.stolen) / wall,
      slowestAnswerMs,
      rssBytes: memoryOf(server.pid).rssBytes,
      lost: atStart.taken + sent - taken,
    };
  }

  private async read() {
    const { taken } = await this.server.intake();
    return {
      taken,
      atMs: performance.now(),
      cpu: cpuSeconds(this.server.pid),
      loadCpu: cpuSeconds(this.load.pid),
      cores: coreTimes(this.variant.cores.server),
    };
  }

  private async slowestAnswer(seconds: number): Promise<number> {
    const until = performance.now() + seconds * 1000;
    let slowest = 0;
    while (performance.now() < until) {
      slowest = Math.max(slowest, await this.server.answerMs());
      await sleep(ANSWER_PAUSE_MS);
    }
    return slowest;
  }

  /** What has been taken in once it is as much as expected, or does not change any more. */
  private async drained(expected: number): Promise<number> {
    const until = performance.now() + DRAIN_PATIENCE_MS;
    let { taken } = await this.server.intake();
    while (taken !== expected && performance.now() < until) {
      await sleep(ANSWER_PAUSE_MS);
      ({ taken } = await this.server.intake());
    }
    return taken;
  }
}

function variants(threads: number | undefined, only: RegExp): Variant[] {
  const each = (name: string, count: number, of: number | undefined): Variant[] =>
    KINDS.flatMap((kind) =>
      STREAMS.map((streams) => {
        const cores = divideCores(count);
        return { name: `${name}, ${kind}, ${streams} streams`, kind, streams, threads: of, cores };
      }),
    );
  const all = each("collector", 1, undefined);
  if (threads !== undefined) all.push(...each(`collector with ${threads} threads`, threads, threads));
  return all.filter(({ name }) => only.test(name));
}

async function run({ rounds, seconds, only, threads, isProfiled, json }: Arguments): Promise<void> {
  const chosen = variants(threads, only);
  const cores = divideCores(1);
  const load = new LoadProcess(cores);
  const benches: Bench[] = [];
  for (const variant of chosen) benches.push(await Bench.start(variant, load, isProfiled));
  const machine = coreTimes(cpus().map((_, core) => core));
  console.log(`${cpus().length} cores, load ${loadavg()[0]?.toFixed(2)}, ${cores.isPinned ? "pinned" : "not pinned"}`);
  try {
    for (let round = 0; round <= rounds; round++) {
      for (const bench of benches) {
        const slice = await bench.measure(seconds);
        if (round > 0) bench.slices.push(slice);
      }
    }
    report(benches);
    const now = coreTimes(cpus().map((_, core) => core));
    console.log(`stolen ${(((now.stolen - machine.stolen) / (now.all - machine.all)) * 100).toFixed(1)} %`);
  } finally {
    load.close();
    for (const bench of benches) await bench.server.stop();
  }
  if (json !== undefined) {
    writeFileSync(json, JSON.stringify(benches.map(({ variant: { name }, slices }) => ({ name, slices }))));
  }
  for (const { variant, profileFolder } of benches) {
    if (profileFolder === undefined) continue;
    reportProfile(variant.name, profileFolder);
    rmSync(profileFolder, { recursive: true, force: true });
  }
}

function report(benches: readonly Bench[]): void {
  console.log(`${ENTRIES_PER_MESSAGE} entries a message, ${LABEL_SETS} label sets`);
  for (const { variant, slices } of benches) {
    const of = (read: (slice: Slice) => number, digits = 2) => spread(slices.map(read), digits);
    console.log(
      `${variant.name}: ${of((s) => s.entriesPerSecond / 1000, 1)} k entries/s, ${of((s) => s.cpuUsPerEntry)} us CPU an entry ` +
        `(load ${of((s) => s.loadUsPerEntry)}), cores ${of((s) => s.coresUsed)}, others ${of((s) => s.coresOthers)}, ` +
        `slowest answer ${of((s) => s.slowestAnswerMs, 0)} ms, RSS ${of((s) => s.rssBytes / MIB, 0)} MiB, ` +
        `lost ${slices.reduce((sum, { lost }) => sum + lost, 0)}`,
    );
  }
}

function reportProfile(name: string, folder: string): void {
  console.log(`\n${name}: self time`);
  for (const { name, file, milliseconds, share } of topSelfTimes(profilesIn(folder).map(readProfile), TOP_FUNCTIONS)) {
    console.log(
      `${(share * 100).toFixed(1).padStart(6)} % ${milliseconds.toFixed(0).padStart(7)} ms  ${name}  ${file}`,
    );
  }
}

/** Start and rest of a collector without traffic. */
async function measureIdle(): Promise<void> {
  const cores = divideCores(1);
  const starts: number[] = [];
  const rss: number[] = [];
  for (let start = 0; start < IDLE_STARTS; start++) {
    const server = await Server.startCollector({ cores });
    starts.push(server.startMs);
    await sleep(IDLE_MS);
    rss.push(memoryOf(server.pid).rssBytes / MIB);
    await server.stop();
  }
  console.log(`idle: ready after ${spread(starts, 0)} ms, RSS ${spread(rss, 1)} MiB`);
}

/** `5.10 (4.90 - 5.40)`: the median, and between what the values lay. */
function spread(values: readonly number[], digits: number): string {
  const [low, middle, high] = [Math.min(...values), median(values), Math.max(...values)].map((v) => v.toFixed(digits));
  return `${middle} (${low} - ${high})`;
}

interface Arguments {
  readonly rounds: number;
  readonly seconds: number;
  readonly only: RegExp;
  readonly threads: number | undefined;
  readonly isProfiled: boolean;
  readonly json: string | undefined;
}

function readArguments(args: string[]): Arguments {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args,
    options: { rounds: text, seconds: text, only: text, threads: text, json: text, profile: { type: "boolean" } },
  });
  return {
    rounds: Number(values.rounds ?? 7),
    seconds: Number(values.seconds ?? 4),
    only: new RegExp(values.only ?? ""),
    threads: values.threads === undefined ? undefined : Number(values.threads),
    isProfiled: values.profile ?? false,
    json: values.json,
  };
}

await measureIdle();
await run(readArguments(process.argv.slice(2)));
