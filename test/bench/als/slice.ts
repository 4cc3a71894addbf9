// One slice of a round: a server under load for some seconds, and what that took.

import { setTimeout as sleep } from "node:timers/promises";
import type { Kind } from "./entry.ts";
import type { LoadProcess } from "./load-process.ts";
import { type Cores, coreTimes, cpuSeconds, memoryOf } from "./proc.ts";
import type { Server } from "./server.ts";

/** Under load already, before anything is measured: connections are opened, caches filled. */
const SETTLE_MS = 1000;
const ANSWER_PAUSE_MS = 50;
/** For what was sent to be counted. */
const DRAIN_MS = 10_000;
const DRAIN_PAUSE_MS = 20;
const US = 1e6;

export interface Traffic {
  readonly kind: Kind;
  readonly streams: number;
  readonly labelSets: number;
}

export interface Slice {
  readonly entriesPerSecond: number;
  /** User and system time of the whole process. */
  readonly cpuUsPerEntry: number;
  /** How many cores the server had, of its own; and others of them, the host of a virtual machine included. */
  readonly cores: number;
  readonly coresOfOthers: number;
  readonly loadCpuUsPerEntry: number;
  /** How long requests waited that take no time: as long as the server attended to nothing but entries, or to nothing. */
  readonly answerMs: readonly number[];
  readonly rssBytes: number;
  /** Entries that were sent and read to the end, and not taken. */
  readonly lost: number;
}

export async function measureSlice(
  server: Server,
  load: LoadProcess,
  traffic: Traffic,
  cores: Cores,
  seconds: number,
): Promise<Slice> {
  const read = async () => ({
    taken: await server.taken(),
    atSeconds: performance.now() / 1000,
    cpu: cpuSeconds(server.pid),
    loadCpu: cpuSeconds(load.pid),
    machine: coreTimes(cores.server),
  });
  const takenBefore = await server.taken();
  await load.start(server.alsUrl, traffic);
  await sleep(SETTLE_MS);
  const before = await read();
  const answerMs = await measureAnswers(server, seconds);
  const after = await read();
  const sent = await load.stop();
  const taken = await drained(server, takenBefore + sent);

  const wall = after.atSeconds - before.atSeconds;
  const entries = after.taken - before.taken;
  const cpu = after.cpu - before.cpu;
  const allBusy = after.machine.busy + after.machine.stolen - before.machine.busy - before.machine.stolen;
  return {
    entriesPerSecond: entries / wall,
    cpuUsPerEntry: (cpu * US) / entries,
    cores: cpu / wall,
    coresOfOthers: Math.max(0, allBusy - cpu) / wall,
    loadCpuUsPerEntry: ((after.loadCpu - before.loadCpu) * US) / entries,
    answerMs,
    rssBytes: memoryOf(server.pid).rssBytes,
    lost: takenBefore + sent - taken,
  };
}

async function measureAnswers(server: Server, seconds: number): Promise<number[]> {
  const untilMs = performance.now() + seconds * 1000;
  const answers: number[] = [];
  while (performance.now() < untilMs) {
    answers.push(await server.answerMs());
    await sleep(ANSWER_PAUSE_MS);
  }
  return answers;
}

/** What was taken once it is what is expected; what it is by the deadline if it never gets there. */
async function drained(server: Server, expected: number): Promise<number> {
  const untilMs = performance.now() + DRAIN_MS;
  for (;;) {
    const taken = await server.taken();
    if (taken >= expected || performance.now() > untilMs) return taken;
    await sleep(DRAIN_PAUSE_MS);
  }
}
