// `npm start -- --for 30s`, the command of the README, as a user types it.

import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { findEnvoy } from "../../envoy/binary.ts";
import { projectRoot } from "../../envoy/project.ts";

interface Ended {
  readonly code: number | null;
  readonly output: string;
  /** From the start to the first edge of a table. */
  readonly firstTableMs: number;
}

async function start(args: readonly string[], interruptAfterTable = false): Promise<Ended> {
  const begun = performance.now();
  const child = spawn("npm", ["start", "--silent", "--", ...args], {
    cwd: projectRoot(),
    env: { ...process.env, ENVOY: await findEnvoy() },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let output = "";
  let firstTableMs = 0;
  const take = (bytes: Buffer) => {
    output += bytes;
    if (firstTableMs > 0 || !/productpage-v1 .*\d/.test(output)) return;
    firstTableMs = performance.now() - begun;
    // As Ctrl-C does: to the whole process group.
    if (interruptAfterTable) process.kill(-(child.pid as number), "SIGINT");
  };
  child.stdout.on("data", take);
  child.stderr.on("data", take);
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, output, firstTableMs };
}

/** Command lines of processes that name a folder of a mesh. */
function leftovers(): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
      } catch (_gone: unknown) {
        return "";
      }
    })
    .filter((command) => command.includes("envoy") && command.includes("/meshtally-"));
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

test("npm start -- --for 30s builds, counts all seven edges over mTLS, ends with code 0 and leaves nothing", async () => {
  const { code, output, firstTableMs } = await start(["--for", "30s"]);
  expect(code, output).toBe(0);
  const final = output.slice(output.lastIndexOf("SOURCE"));
  for (const edge of EDGES) expect(final).toMatch(new RegExp(edge));
  expect(final.match(/\byes\b/g)?.length).toBe(EDGES.length);
  expect(output).toMatch(/http:\/\/127\.0\.0\.1:\d+\/metrics/);
  console.log(`first table after ${(firstTableMs / 1000).toFixed(1)} s, build included`);
  expect(leftovers()).toEqual([]);
});

test("Ctrl-C stops everything and leaves no process", async () => {
  const { output, firstTableMs } = await start([], true);
  expect(firstTableMs, output).toBeGreaterThan(0);
  expect(leftovers()).toEqual([]);
});

test("an unknown flag is refused with a usage line and exit code 2", async () => {
  const { code, output } = await start(["--forever"]);
  expect(code).toBe(2);
  expect(output).toMatch(/--forever/);
});
