// Child processes and what happens to them, on real processes.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Child } from "../../demo/child.ts";
import { Watchdog } from "../../demo/watchdog.ts";

let folder = "";
let watchdog: Watchdog;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "meshtally-child-"));
  watchdog = new Watchdog(folder);
});
afterEach(() => watchdog.close());

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (_gone: unknown) {
    return false;
  }
}

describe("Child", () => {
  test("shows its last lines when it ends by itself", async () => {
    const child = await Child.start("the thing", "/bin/sh", ["-c", "echo out; echo err >&2; exit 3"], watchdog);
    expect(await child.ended).toBe("exit code 3");
    const { message } = child.failure();
    expect(message).toMatch(/^the thing ended with exit code 3; its last lines:\n/);
    expect(message.split("\n").sort()).toEqual(expect.arrayContaining(["  err", "  out"]));
  });

  test("says so when it cannot be started", async () => {
    await expect(Child.start("the thing", "/nowhere/thing", [], watchdog)).rejects.toThrow(
      /the thing cannot be started: .*ENOENT/,
    );
  });

  test("is killed when it does not heed SIGTERM", async () => {
    const lines: string[] = [];
    const child = await Child.start(
      "deaf",
      "/bin/sh",
      ["-c", "trap '' TERM; echo ready; while :; do sleep 1; done"],
      watchdog,
      {
        onLine: (line) => lines.push(line),
      },
    );
    while (lines.length === 0) await sleep(10);
    await child.stop(100);
    expect(await child.ended).toBe("SIGKILL");
  });
});

describe("Watchdog", () => {
  test("kills what it watches and removes the folder once its owner is gone", async () => {
    const orphan = spawn("sleep", ["60"], { stdio: "ignore" });
    const gone = new Promise((resolve) => orphan.once("exit", (_code, signal) => resolve(signal)));
    watchdog.watch(orphan.pid as number);
    await watchdog.close(); // what the owner's death does too: the pipe ends
    expect(await gone).toBe("SIGKILL");
    expect(existsSync(folder)).toBe(false);
  });

  test("spares what it was told to forget", async () => {
    const stranger = spawn("sleep", ["60"], { stdio: "ignore" });
    const pid = stranger.pid as number;
    watchdog.watch(pid);
    watchdog.forget(pid);
    await watchdog.close();
    expect(isAlive(pid)).toBe(true);
    stranger.kill("SIGKILL");
  });
});
