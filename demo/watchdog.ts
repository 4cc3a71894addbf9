// Ends the children and removes the temporary folder when this process dies without doing it itself (SIGKILL, a crash).
// It is a shell that reads child pids from a pipe: the pipe's end is this process's death, however it came.

import { type ChildProcess, spawn } from "node:child_process";

/** Lines in: "+ 4711" watch it, "- 4711" forget it. At the end of input: kill what is watched, remove the folder $1. */
const SCRIPT = `
watched=
while read -r operation pid; do
  rest=
  for other in $watched; do [ "$other" = "$pid" ] || rest="$rest $other"; done
  watched=$rest
  [ "$operation" = - ] || watched="$watched $pid"
done
[ -z "$watched" ] || kill -KILL $watched
rm -rf "$1"
`;

export class Watchdog {
  private readonly process: ChildProcess;

  /** `folder` is removed in the end, whether by a call of `close` or by this process's death. */
  constructor(folder: string) {
    // A session of its own: neither Ctrl-C nor a closed terminal ends it before its work is done.
    this.process = spawn("/bin/sh", ["-c", SCRIPT, "watchdog", folder], {
      detached: true,
      stdio: ["pipe", "ignore", "ignore"],
    });
    // Without a watchdog the mesh still runs and stops in order; only a killed parent would leave children.
    this.process.on("error", () => {});
    this.process.stdin?.on("error", () => {});
  }

  watch(pid: number): void {
    this.process.stdin?.write(`+ ${pid}\n`);
  }

  forget(pid: number): void {
    this.process.stdin?.write(`- ${pid}\n`);
  }

  /** Ends it, and waits until it has cleaned up. */
  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.process.once("close", resolve));
    if (this.process.pid === undefined || this.process.exitCode !== null) return;
    this.process.stdin?.end();
    await ended;
  }
}
