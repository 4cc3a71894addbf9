// The thread that is measured: Envoy's worker, kept on a core of its own, and the CPU time it uses.

import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";

/** Nanoseconds that the worker thread has been on a CPU. */
export class WorkerClock {
  private readonly file: string;

  /** Throws when the process has no worker thread. */
  constructor(pid: number) {
    const folder = `/proc/${pid}/task`;
    const worker = readdirSync(folder).find((id) =>
      readFileSync(join(folder, id, "comm"), "utf8").startsWith("wrk:worker"),
    );
    if (worker === undefined) throw new Error("Envoy has no worker thread");
    this.file = join(folder, worker, "schedstat");
  }

  read(): number {
    return Number(readFileSync(this.file, "utf8").split(" ")[0]);
  }
}

/** Puts Envoy on the last core and this process on the others; says whether the machine allowed it. */
export function pin(pid: number): boolean {
  const last = cpus().length - 1;
  if (last < 1) return false;
  const toCores = (cores: string, process: number) =>
    spawnSync("taskset", ["-a", "-p", "-c", cores, String(process)], { stdio: "ignore" }).status === 0;
  return toCores(String(last), pid) && toCores(last === 1 ? "0" : `0-${last - 1}`, process.pid);
}
