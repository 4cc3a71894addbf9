// npm run bench:exposition [-- [--lines N] [--rounds N] [--only REGEXP] [--baseline FOLDER]]: what one reading of /metrics costs.
//
//   this process --GET /metrics, loopback--> the collector's WebServer with N lines (200,000), in a process of its own
//
// The reader drops what it gets. Printed are medians: seconds to the last byte, bytes, CPU of the server, how much its peak RSS is above
// what it had before, and how long its event loop did nothing else at most. With --baseline, the server of another build of this project
// (FOLDER/build) is measured in turn with ours.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { cpuSeconds, memoryOf } from "./als/proc.ts";
import type { ServerNotice } from "./exposition/server.ts";

const MIB = 2 ** 20;
/** Until what a scrape left behind is given back. */
const REST_MS = 300;
const PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
const FORMS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  text: { accept: "text/plain;version=0.0.4" },
  OpenMetrics: { accept: "application/openmetrics-text;version=1.0.0" },
  "text, gzip": { accept: "text/plain;version=0.0.4", "accept-encoding": "gzip" },
  "OpenMetrics, gzip": { accept: "application/openmetrics-text;version=1.0.0", "accept-encoding": "gzip" },
  protobuf: { accept: PROTOBUF },
  "protobuf, gzip": { accept: PROTOBUF, "accept-encoding": "gzip" },
};

/** One reading of /metrics. */
interface Reading {
  readonly seconds: number;
  readonly bytes: number;
  readonly cpuSeconds: number;
  readonly extraBytes: number;
  readonly longestBlockMs: number;
  readonly contentType: string;
}

interface Server {
  readonly name: string;
  readonly child: ChildProcess;
  readonly pid: number;
  readonly port: number;
}

async function nextNotice<Kind extends ServerNotice["kind"]>(child: ChildProcess, kind: Kind) {
  const [notice] = (await once(child, "message")) as [ServerNotice];
  if (notice.kind !== kind) throw new Error(`the server said ${notice.kind}, expected ${kind}`);
  return notice as Extract<ServerNotice, { kind: Kind }>;
}

async function startServer(name: string, build: string, lines: number): Promise<Server> {
  const script = join(build, "test/bench/exposition/server.js");
  if (!existsSync(script)) throw new Error(`${script} is not there: build that project, with this bench, first`);
  const child = fork(script, [String(lines)]);
  const { port, lines: written } = await nextNotice(child, "listening");
  console.log(`${name}: ${written} lines`);
  return { name, child, pid: child.pid as number, port };
}

/** Reads to the end and drops what comes. */
async function read(port: number, headers: Readonly<Record<string, string>>) {
  const began = performance.now();
  const [response] = await once(get({ host: "127.0.0.1", port, path: "/metrics", headers }), "response");
  let bytes = 0;
  response.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
  });
  await once(response, "end");
  if (response.statusCode !== 200) throw new Error(`/metrics answered ${response.statusCode}`);
  return { seconds: (performance.now() - began) / 1000, bytes, contentType: String(response.headers["content-type"]) };
}

async function measure({ child, pid, port }: Server, form: string): Promise<Reading> {
  await sleep(REST_MS);
  writeFileSync(`/proc/${pid}/clear_refs`, "5"); // the peak begins anew
  child.send("reset");
  const before = { ...memoryOf(pid), cpu: cpuSeconds(pid) };
  const reading = await read(port, FORMS[form] as Readonly<Record<string, string>>);
  child.send("read");
  const { longestBlockMs } = await nextNotice(child, "measured");
  return {
    ...reading,
    cpuSeconds: cpuSeconds(pid) - before.cpu,
    extraBytes: memoryOf(pid).peakBytes - before.rssBytes,
    longestBlockMs,
  };
}

function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] as number;
}

function report(name: string, readings: readonly Reading[]): void {
  const of = (number: (reading: Reading) => number) => median(readings.map(number));
  const columns = [
    `${of(({ seconds }) => seconds).toFixed(2)} s`,
    `${(of(({ bytes }) => bytes) / MIB).toFixed(1)} MiB`,
    `${of(({ cpuSeconds }) => cpuSeconds).toFixed(2)} s CPU`,
    `+${(of(({ extraBytes }) => extraBytes) / MIB).toFixed(0)} MiB`,
    `${of(({ longestBlockMs }) => longestBlockMs).toFixed(1)} ms block`,
  ];
  const worst = Math.max(...readings.map(({ seconds }) => seconds));
  console.log(
    `${name.padEnd(34)}${columns.map((column) => column.padStart(15)).join("")}   slowest ${worst.toFixed(2)} s   ${readings[0]?.contentType}`,
  );
}

const { values } = parseArgs({
  options: {
    lines: { type: "string", default: "200000" },
    rounds: { type: "string", default: "5" },
    only: { type: "string", default: "" },
    baseline: { type: "string" },
  },
});
const lines = Number(values.lines);
const rounds = Number(values.rounds);
if (!(lines > 0 && rounds > 0)) throw new Error("--lines and --rounds are whole numbers from 1");
const forms = Object.keys(FORMS).filter((form) => new RegExp(values.only).test(form));

const servers = [await startServer("ours", join(import.meta.dirname, "../.."), lines)];
if (values.baseline) servers.push(await startServer("baseline", join(values.baseline, "build"), lines));
try {
  for (const form of forms) {
    const readings = new Map(servers.map((server): [Server, Reading[]] => [server, []]));
    for (let round = 0; round <= rounds; round++) {
      for (const server of servers) {
        const reading = await measure(server, form);
        if (round > 0) readings.get(server)?.push(reading); // the first one warms up
      }
    }
    for (const [{ name }, all] of readings) report(servers.length > 1 ? `${form}: ${name}` : form, all);
  }
} finally {
  for (const { child } of servers) child.kill();
}
