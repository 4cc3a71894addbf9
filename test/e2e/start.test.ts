// `npm start`, the command of the README, as a user types it.

import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { expect, test } from "vitest";
import { findEnvoy } from "../../envoy/binary.ts";
import { projectRoot } from "../../envoy/project.ts";

/** Given to a run in its environment, which its children inherit: so that its processes are told from those of any other run. */
const MARK = "MESHTALLY_TEST_RUN";

interface Ended {
  readonly code: number | null;
  readonly output: string;
  /** From the start to the first edge of a table; 0 when there was none. */
  readonly firstTableMs: number;
  /** Processes of this run that were there when the table was, and those that were there after its end. */
  readonly running: readonly string[];
  readonly leftOver: readonly string[];
}

let runs = 0;

const NPM_START = ["npm", "start", "--silent", "--"] as const;
/** What it runs once it has built. */
const BUILT = ["node", "build/demo/main.js"] as const;

/** Runs the command to its end; `signal` is sent to its whole process group, as a terminal does, when the first table is there. */
async function run(
  [command, ...words]: typeof NPM_START | typeof BUILT,
  args: readonly string[],
  signal?: NodeJS.Signals,
): Promise<Ended> {
  const mark = `${process.pid}-${++runs}`;
  const begun = performance.now();
  const child = spawn(command, [...words, ...args], {
    cwd: projectRoot(),
    env: { ...process.env, ENVOY: await findEnvoy(), [MARK]: mark },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let output = "";
  let firstTableMs = 0;
  let running: string[] = [];
  const take = (bytes: Buffer) => {
    output += bytes;
    if (firstTableMs > 0 || !/productpage-v1 .*\d/.test(output.slice(output.indexOf("SOURCE")))) return;
    firstTableMs = performance.now() - begun;
    running = processesOf(mark);
    if (signal !== undefined) process.kill(-(child.pid as number), signal);
  };
  child.stdout.on("data", take);
  child.stderr.on("data", take);
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, output, firstTableMs, running, leftOver: processesOf(mark) };
}

/** Command lines of the processes that carry the mark. */
function processesOf(mark: string): string[] {
  const read = (pid: string, file: string) => readFileSync(`/proc/${pid}/${file}`, "utf8").split("\0");
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return read(pid, "environ").includes(`${MARK}=${mark}`) ? [read(pid, "cmdline").join(" ")] : [];
      } catch (_gone: unknown) {
        return []; // ended meanwhile, or not ours to read
      }
    });
}

/** Whether something still listens at one of the addresses that the run printed. */
async function isAnyPortOpen(output: string): Promise<boolean> {
  const addresses = [...output.matchAll(/http:\/\/(127\.[\d.]+):(\d+)/g)];
  expect(addresses.length).toBeGreaterThan(8);
  const isOpen = (host: string, port: number) =>
    new Promise<boolean>((resolve) => {
      const socket = connect(port, host, () => {
        socket.destroy();
        resolve(true);
      }).on("error", () => resolve(false));
    });
  const open = await Promise.all(addresses.map(([, host, port]) => isOpen(host as string, Number(port))));
  return open.includes(true);
}

const EDGES = [
  "ingress-gateway +productpage-v1",
  "productpage-v1 +details-v1",
  "productpage-v1 +reviews-v1",
  "productpage-v1 +reviews-v2",
  "productpage-v1 +reviews-v3",
  "reviews-v2 +ratings-v1",
  "reviews-v3 +ratings-v1",
];

const TCP_EDGES = ["ratings-v1 +ratings-db-v1 .*mutual TLS", "unknown +ratings-db-v1 .*plaintext"];

test("npm start -- --for 12s builds, counts all seven edges over mTLS, ends with code 0 and leaves nothing", async () => {
  const { code, output, firstTableMs, running, leftOver } = await run(NPM_START, ["--for", "12s"]); // the last table is of 10 s
  expect(code, output).toBe(0);
  const final = output.slice(output.lastIndexOf("SOURCE"));
  for (const edge of [...EDGES, ...TCP_EDGES]) expect(final).toMatch(new RegExp(edge));
  expect(final.match(/\byes\b/g)?.length).toBe(EDGES.length);
  expect(output).toMatch(/http:\/\/127\.0\.0\.1:\d+\/metrics/);
  console.log(`first table after ${(firstTableMs / 1000).toFixed(1)} s, build included`);
  // Eight Envoys and the collector at least: what is looked for is found while it runs.
  expect(running.filter((command) => command.includes(" -c ")).length).toBeGreaterThanOrEqual(8);
  expect(running.filter((command) => command.includes("collector/main.js")).length).toBe(1);
  expect(leftOver).toEqual([]);
  expect(await isAnyPortOpen(output)).toBe(false);
});

test.each([
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const)("%s stops everything, leaves no process and no port, and the exit code says so", async (signal, code) => {
  const ended = await run(NPM_START, [], signal);
  expect(ended.running.length, ended.output).toBeGreaterThan(8);
  expect(ended.leftOver).toEqual([]);
  expect(await isAnyPortOpen(ended.output)).toBe(false);
  expect(ended.code).toBe(code);
});

test("an unknown flag is refused with a usage line and exit code 2", async () => {
  const { code, output } = await run(BUILT, ["--forever"]);
  expect(code).toBe(2);
  expect(output).toMatch(/--forever/);
});
