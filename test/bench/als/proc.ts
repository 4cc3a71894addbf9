// What Linux tells of a process and of the machine: CPU time, memory, and how busy all the rest was.

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus } from "node:os";

/** Clock ticks of /proc; Linux shows them to programs at this rate whatever its own is. */
const TICKS_PER_SECOND = 100;
const KIB = 1024;

/** User and system time of all threads, in seconds. */
export function cpuSeconds(pid: number): number {
  // The name may hold spaces and parentheses; behind it `utime` and `stime` are the 12th and 13th.
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

export interface Memory {
  readonly rssBytes: number;
  /** The most that it was. */
  readonly peakBytes: number;
}

export function memoryOf(pid: number): Memory {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const read = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]) * KIB;
  return { rssBytes: read("VmRSS"), peakBytes: read("VmHWM") };
}

/** Times since the machine started, in seconds of all given cores together. */
export interface CoreTimes {
  readonly busy: number;
  /** What the host of a virtual machine gave to others. */
  readonly stolen: number;
  readonly all: number;
}

/** Of these cores. https://docs.kernel.org/filesystems/proc.html#miscellaneous-kernel-statistics-in-proc-stat */
export function coreTimes(cores: readonly number[]): CoreTimes {
  const lines = readFileSync("/proc/stat", "utf8").split("\n");
  let [busy, stolen, all] = [0, 0, 0];
  for (const core of cores) {
    const line = lines.find((one) => one.startsWith(`cpu${core} `)) ?? "";
    const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] = line
      .split(/\s+/)
      .slice(1)
      .map((ticks) => Number(ticks) / TICKS_PER_SECOND);
    const working = user + nice + system + irq + softirq;
    busy += working;
    stolen += steal;
    all += working + idle + iowait + steal;
  }
  return { busy, stolen, all };
}

/** Which cores the server has, and which the load and all else of the bench. The same ones where there are too few. */
export interface Cores {
  readonly server: readonly number[];
  readonly load: readonly number[];
  readonly isPinned: boolean;
}

/** The last `count` for the server. */
export function divideCores(count: number): Cores {
  const all = cpus().map((_, core) => core);
  const isPinned = all.length > 1 && spawnSync("taskset", ["--version"], { stdio: "ignore" }).status === 0;
  if (!isPinned) return { server: all, load: all, isPinned };
  const server = all.slice(-count);
  const rest = all.slice(0, -count);
  return { server, load: rest.length > 0 ? rest : all, isPinned };
}

/** The words that start a command on these cores. */
export function onCores(cores: readonly number[], command: readonly string[], isPinned: boolean): string[] {
  return isPinned ? ["taskset", "-c", cores.join(","), ...command] : [...command];
}
