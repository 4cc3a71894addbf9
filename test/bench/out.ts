// npm run bench:out [-- [--lines N] [--rounds N] [--receivers N] [--baseline FOLDER]]: what sending all metrics costs the collector, and how long it keeps others
// waiting.
//
//   Receivers with a store of N lines (200,000), in a process of its own --remote write or OTLP, loopback--> this process
//
// The receiver drops what it gets. One round follows the other; of each is printed its CPU, the most memory, and the longest turn of the event loop by what it took of a
// core. The first round, in which all label sets are new and the code is, is a line of its own; of the others medians, and the worst turn. With --baseline, another
// build of this project (FOLDER/build) is measured in turn with ours.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { cpuSeconds, memoryOf } from "./als/proc.ts";
import type { RoundNotice } from "./out/sender.ts";

const MIB = 2 ** 20;
const PROTOCOLS = ["remote-write", "otlp"] as const;

interface Round {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly bytes: number;
  readonly longestTurnMs: number;
}

let received = 0;
const sink = createServer((request, response) => {
  request.on("data", (chunk: Buffer) => {
    received += chunk.length;
  });
  request.on("end", () => response.end());
});

async function nextRound(child: ChildProcess): Promise<RoundNotice> {
  const [notice] = (await once(child, "message")) as [RoundNotice];
  return notice;
}

async function measure(name: string, build: string, protocol: string): Promise<void> {
  const { port } = sink.address() as AddressInfo;
  const script = join(build, "test/bench/out/sender.js");
  const child = fork(script, [protocol, values.receivers, values.lines, `http://127.0.0.1:${port}/`]);
  const pid = child.pid as number;
  const { lines } = await nextRound(child);
  const before = memoryOf(pid).rssBytes;
  const rounds: Round[] = [];
  while (rounds.length <= Number(values.rounds)) {
    const began = { ms: performance.now(), cpu: cpuSeconds(pid), received };
    const { longestTurnMs } = await nextRound(child);
    rounds.push({
      seconds: (performance.now() - began.ms) / 1000,
      cpuSeconds: cpuSeconds(pid) - began.cpu,
      bytes: received - began.received,
      longestTurnMs,
    });
  }
  const extra = memoryOf(pid).peakBytes - before;
  child.kill();
  const [first, ...others] = rounds as [Round, ...Round[]];
  report(`${name}, first`, lines, [first], extra);
  report(name, lines, others, extra);
}

function report(name: string, lines: number, rounds: readonly Round[], extraBytes: number): void {
  const of = (number: (round: Round) => number) => median(rounds.map(number));
  const columns = [
    `${lines} lines`,
    `${of(({ seconds }) => seconds).toFixed(2)} s`,
    `${of(({ cpuSeconds }) => cpuSeconds).toFixed(2)} s CPU`,
    `${(of(({ bytes }) => bytes) / MIB).toFixed(1)} MiB`,
    `+${(extraBytes / MIB).toFixed(0)} MiB`,
    `${of(({ longestTurnMs }) => longestTurnMs).toFixed(1)} ms turn`,
    `${Math.max(...rounds.map(({ longestTurnMs }) => longestTurnMs)).toFixed(1)} ms worst`,
  ];
  console.log(`${name.padEnd(34)}${columns.map((column) => column.padStart(15)).join("")}`);
}

function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] as number;
}

const { values } = parseArgs({
  options: {
    lines: { type: "string", default: "200000" },
    rounds: { type: "string", default: "20" },
    receivers: { type: "string", default: "1" },
    baseline: { type: "string" },
  },
});
await new Promise<void>((resolve) => sink.listen(0, "127.0.0.1", resolve));
for (const protocol of PROTOCOLS) {
  await measure(protocol, join(import.meta.dirname, "../.."), protocol);
  if (values.baseline) await measure(`${protocol}, baseline`, join(values.baseline, "build"), protocol);
}
sink.close();
