// What if the filter before a TCP server trapped? Its clients go on sending ahead what is meant for it: no application may ever read that.

import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Config } from "../../demo/telemetry-config.ts";
import { filterWasmPath } from "../../envoy/project.ts";
import { buildTrappingFilter } from "../fixtures/trapping-build.ts";
import { echo } from "./tcp-line.ts";
import { startTcpMesh, type TcpMesh } from "./tcp-mesh.ts";

const QUESTION = Buffer.from("question");
const ATTEMPTS = 40;
const BETWEEN_ATTEMPTS_MS = 100;

const folder = mkdtempSync(join(tmpdir(), "meshtally-test-"));
const wasmFile = join(folder, "trapping.wasm");
let mesh: TcpMesh;

beforeAll(async () => {
  await buildTrappingFilter(wasmFile);
  mesh = await startTcpMesh({ isMutualTls: false, service: echo });
  await mesh.db.setListener(withWasm(mesh.listener("db")));
  for (let tries = 0; !(await isInForce()); tries++) {
    if (tries > 600) throw new Error("the proxy did not take the listener");
    await sleep(100);
  }
});
afterAll(async () => {
  await mesh?.stop();
  await rm(folder, { recursive: true });
});

/** Whether the server's proxy runs the build that traps. */
async function isInForce(): Promise<boolean> {
  const dump = JSON.parse(await mesh.db.admin("/config_dump?resource=dynamic_listeners")) as {
    configs: { active_state?: unknown }[];
  };
  return dump.configs.some(({ active_state }) => JSON.stringify(active_state ?? "").includes(wasmFile));
}

function withWasm(listener: Config): Config {
  return JSON.parse(JSON.stringify(listener).replaceAll(filterWasmPath(), wasmFile)) as Config;
}

/** Whether a connection of its own brings the question to the server and its echo back. */
async function ask(): Promise<boolean> {
  const line = await mesh.dial();
  await line.write(QUESTION);
  await Promise.race([line.read(QUESTION.length), line.readToEnd, sleep(1000)]);
  const isAnswered = line.receivedHead.equals(QUESTION);
  await line.hangUp();
  return isAnswered;
}

/** What applications read at the beginning of each connection so far, if anything. */
function heads(): string[] {
  return mesh.app.lines.map(({ receivedHead }) => receivedHead.toString("latin1", 0, QUESTION.length)).filter(Boolean);
}

test("the connection of that moment ends, a new VM serves the next ones, and nobody reads a prefix", async () => {
  const victim = await mesh.dial();
  await victim.write(Buffer.from("trap!"));
  await victim.readToEnd; // hangs if it does not
  let answered = 0;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    if (await ask()) answered++;
    await sleep(BETWEEN_ATTEMPTS_MS);
  }
  expect(answered).toBeGreaterThan(ATTEMPTS / 2);
  expect([...new Set(heads())]).toEqual([QUESTION.toString()]);
}, 60_000);
