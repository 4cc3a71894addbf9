// A child process with a name: its last words are kept, its end is awaited, and it never outlives this process.

import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Watchdog } from "./watchdog.ts";

/** How many of its last log lines a child's failure shows. */
const TAIL_LINES = 15;
/** How long a child may take to end by itself after SIGTERM. */
const GRACE_MS = 3000;

export interface ChildOptions {
  /** Sees each line that the child writes, on either stream. */
  onLine?: (line: string) => void;
  cwd?: string;
  /** Runs it as that user, which only root may ask for. */
  uid?: number;
  gid?: number;
}

/** Ended before it was asked to; the message holds its last lines. */
export class ChildFailedError extends Error {
  override readonly name = "ChildFailedError";
}

export class Child {
  readonly name: string;
  readonly pid: number;
  /** Fulfilled with how it ended, never rejected: "exit code 1", "SIGKILL". */
  readonly ended: Promise<string>;
  private readonly process: ChildProcess;
  private readonly lines: string[];
  private howItEnded: string | null = null;

  private constructor(name: string, process: ChildProcess, pid: number, lines: string[]) {
    this.name = name;
    this.process = process;
    this.pid = pid;
    this.lines = lines;
    this.ended = new Promise((resolve) => {
      process.once("close", (code, signal) => {
        this.howItEnded = signal ?? `exit code ${code}`;
        resolve(this.howItEnded);
      });
    });
  }

  /**
   * Starts it in a process group of its own, so that Ctrl-C in the terminal reaches only this process, which then stops its
   * children in order. Throws ChildFailedError when the file cannot be executed.
   */
  static async start(
    name: string,
    file: string,
    args: readonly string[],
    watchdog: Watchdog,
    options: ChildOptions = {},
  ): Promise<Child> {
    const { onLine, ...where } = options;
    const process = spawn(file, args, {
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      ...where,
    });
    await new Promise<void>((resolve, reject) => {
      process.once("spawn", resolve);
      process.once("error", (error) => reject(new ChildFailedError(`${name} cannot be started: ${error.message}`)));
    });
    const pid = process.pid as number; // known once "spawn" was emitted
    watchdog.watch(pid);
    process.once("exit", () => watchdog.forget(pid));

    const lines: string[] = [];
    for (const stream of [process.stdout, process.stderr]) {
      createInterface({ input: stream }).on("line", (line) => {
        lines.push(line);
        if (lines.length > TAIL_LINES) lines.shift();
        onLine?.(line);
      });
    }
    return new Child(name, process, pid, lines);
  }

  get hasEnded(): boolean {
    return this.howItEnded !== null;
  }

  /** "reviews-v1's proxy ended with exit code 1; its last lines:" and the lines. */
  failure(): ChildFailedError {
    const lines = this.lines.length === 0 ? " it wrote nothing" : ` its last lines:\n  ${this.lines.join("\n  ")}`;
    return new ChildFailedError(`${this.name} ended with ${this.howItEnded ?? "nothing yet"};${lines}`);
  }

  /** Waits until it is gone. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    if (!this.hasEnded) this.process.kill(signal);
    await this.ended;
  }

  /** SIGTERM, and SIGKILL when that takes too long. */
  async stop(graceMs = GRACE_MS): Promise<void> {
    const timer = setTimeout(() => this.process.kill("SIGKILL"), graceMs);
    await this.kill("SIGTERM");
    clearTimeout(timer);
  }

  /** SIGKILL at once, without waiting. */
  destroy(): void {
    if (!this.hasEnded) this.process.kill("SIGKILL");
  }
}
