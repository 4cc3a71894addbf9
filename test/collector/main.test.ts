// The collector as a process: command line, exit codes, signals. Runs build/collector/main.js, as an operator would.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { VERSION } from "../../collector/version.ts";

const MAIN = resolve(import.meta.dirname, "../../build/collector/main.js");
const folder = mkdtempSync(join(tmpdir(), "meshtally-main-"));
afterAll(() => rmSync(folder, { recursive: true }));

const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

interface Run {
  readonly child: ChildProcess;
  readonly ended: Promise<{ code: number | null; stdout: string; stderr: string }>;
  /** Resolves to the first log line with that message. */
  line(message: string): Promise<Record<string, unknown>>;
}

function run(args: readonly string[], env: NodeJS.ProcessEnv = {}): Run {
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: { ...process.env, LOG_LEVEL: "", MESHTALLY_CONFIG: "", ...env },
  });
  children.push(child);
  let stdout = "";
  let stderr = "";
  const waiting: (() => void)[] = [];
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
    for (const check of waiting) check();
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  return {
    child,
    ended: new Promise((done) => child.on("close", (code) => done({ code, stdout, stderr }))),
    line: (message) =>
      new Promise((done) => {
        const check = () => {
          const line = stdout.split("\n").find((each) => each.includes(`"msg":"${message}"`));
          if (line) done(JSON.parse(line));
        };
        waiting.push(check);
        check();
      }),
  };
}

function configFile(text: string): string {
  const path = join(folder, `${Math.random().toString(36).slice(2)}.yaml`);
  writeFileSync(path, text);
  return path;
}

const ANY_PORTS = "grpc: { address: 127.0.0.1:0 }\nhttp: { address: 127.0.0.1:0 }\n";

describe("the command line", () => {
  it("prints help and version", async () => {
    expect(await run(["--help"]).ended).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^Usage: collector/),
      stderr: "",
    });
    expect(await run(["--version"]).ended).toEqual({ code: 0, stdout: `${VERSION}\n`, stderr: "" });
  });

  it("exits with 2 and says how it is used, for a flag that does not exist", async () => {
    const { code, stdout, stderr } = await run(["--confg", "x"]).ended;
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toMatch(/^Unknown option '--confg'[\s\S]*Usage: collector/);
  });

  it("exits with 2 and every fault of the configuration, whether it starts or only checks", async () => {
    const path = configFile("scrape: { interval: 5 }\nlog: { level: loud }\n");
    for (const args of [
      ["--config", path],
      ["--check-config", "--config", path],
    ]) {
      const { code, stdout, stderr } = await run(args).ended;
      expect([code, stdout]).toEqual([2, ""]);
      expect(stderr.split("\n")).toHaveLength(3);
      expect(stderr).toContain(`${path}:1:21: scrape.interval: found 5`);
    }
  });

  it("takes the file from the folder in which npm was called", async () => {
    const good = configFile(ANY_PORTS);
    const checked = { code: 0, stdout: `${good} is valid\n` };
    const args = ["--check-config", "--config", basename(good)];
    expect(await run(args, { INIT_CWD: folder }).ended).toMatchObject(checked);
  });

  it("says where in the file an alias stands, and exits with 2", async () => {
    const path = configFile("grpc: *foo");
    const { code, stderr } = await run(["--config", path]).ended;
    expect([code, stderr]).toEqual([2, `${path}:1:7: found the alias *foo, expected a value\n`]);
  });

  it("takes the file from MESHTALLY_CONFIG, the flag before it", async () => {
    const good = configFile(ANY_PORTS);
    const bad = configFile("x: 1");
    expect(await run(["--check-config"], { MESHTALLY_CONFIG: good }).ended).toMatchObject({
      code: 0,
      stdout: `${good} is valid\n`,
    });
    expect((await run(["--check-config", "--config", bad], { MESHTALLY_CONFIG: good }).ended).code).toBe(2);
  });

  it("exits with 1 when an address is taken", async () => {
    const first = run(["--config", configFile(ANY_PORTS)]);
    const { grpc, http } = await first.line("listening");
    for (const [key, address] of [
      ["grpc", grpc],
      ["http", http],
    ] as const) {
      const other = key === "grpc" ? "http" : "grpc";
      const path = configFile(`${key}: { address: "${address}" }\n${other}: { address: 127.0.0.1:0 }\n`);
      const { code, stderr } = await run(["--config", path]).ended;
      expect(code).toBe(1);
      expect(stderr).toContain(`${address}`);
    }
  });
});

describe("a running collector", () => {
  it.each(["SIGTERM", "SIGINT"] as const)("names its addresses, and ends with 0 on %s", async (signal) => {
    const { child, ended, line } = run(["--config", configFile(ANY_PORTS)]);
    const listening = await line("listening");
    expect(listening).toMatchObject({ level: "info", component: "collector", version: VERSION });
    expect(listening["grpc"]).toMatch(/^127\.0\.0\.1:\d+$/);
    expect((await fetch(`http://${listening["http"]}/livez`)).status).toBe(200);
    child.kill(signal);
    expect(await ended).toMatchObject({ code: 0, stderr: "" });
  });

  it("names its addresses also when it is to say nothing else", async () => {
    const { child, ended, line } = run(["--config", configFile(ANY_PORTS)], { LOG_LEVEL: "silent" });
    await line("listening");
    child.kill("SIGTERM");
    expect((await ended).stdout.trim().split("\n")).toHaveLength(1);
  });

  it("ends at once on a second signal", async () => {
    const { child, ended, line } = run(["--config", configFile(`${ANY_PORTS}shutdown: { drain: 60s }\n`)]);
    const [host, port] = String((await line("listening"))["http"]).split(":");
    // A request whose head is not complete yet keeps it from ending.
    const socket = connect(Number(port), host, () => socket.write("GET /metrics HTTP/1.1\r\n"));
    await once(socket, "connect");
    await sleep(100);
    child.kill("SIGTERM");
    await line("draining");
    await sleep(100);
    expect(child.exitCode).toBeNull();
    child.kill("SIGTERM");
    expect((await ended).code).toBe(143);
    socket.destroy();
  });
});
