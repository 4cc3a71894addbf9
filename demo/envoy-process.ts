// One workload's Envoy: started, awaited, killed and started again with the same configuration.

import { setTimeout as sleep } from "node:timers/promises";
import { Child } from "./child.ts";
import type { Watchdog } from "./watchdog.ts";

const LONE_FLAGS = ["--concurrency", "1", "--disable-hot-restart"];
/** How long an Envoy may take to be ready; it is well under a second on an idle machine. */
const READY_TIMEOUT_MS = 30_000;
const READY_POLL_MS = 50;

export interface EnvoyProcessOptions {
  /** "the proxy of reviews-v1", for messages. */
  readonly title: string;
  readonly envoy: string;
  readonly configFile: string;
  /** "http://127.0.7.13:15000" */
  readonly adminUrl: string;
  readonly watchdog: Watchdog;
  /**
   * Flags besides the configuration's. Default: one worker, and no hot restart, so that nothing is shared between Envoys and a killed one
   * leaves no shared memory behind.
   */
  readonly flags?: readonly string[];
  /** Called when it ends though nobody asked it to. */
  readonly onCrash: (failure: Error) => void;
}

export class EnvoyProcess {
  private readonly options: EnvoyProcessOptions;
  private child: Child | null = null;
  private isWanted = false;
  private isClosed = false;

  constructor(options: EnvoyProcessOptions) {
    this.options = options;
  }

  /** Of the running process, or of the last one; 0 before the first. */
  get pid(): number {
    return this.child?.pid ?? 0;
  }

  /** Fulfilled when it takes requests. Rejects with its last log lines when it ends instead, or when `signal` is aborted. */
  async start(signal?: AbortSignal): Promise<void> {
    if (this.child !== null && !this.child.hasEnded) throw new Error(`${this.options.title} runs already`);
    const { envoy, configFile, title, watchdog, flags = LONE_FLAGS } = this.options;
    const args = ["-c", configFile, ...flags, "-l", "warning"];
    const child = await Child.start(title, envoy, [...args, "--log-format", "[%l][%n] %v"], watchdog);
    this.child = child;
    if (this.isClosed) {
      child.destroy();
      throw new Error(`${title} was stopped for good`);
    }
    await this.awaitReady(child, signal);
    this.isWanted = true;
    void child.ended.then(() => {
      if (this.isWanted) this.options.onCrash(child.failure());
    });
  }

  /** Sends the signal and waits until the process is gone. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    this.isWanted = false;
    await this.child?.kill(signal);
  }

  async stop(): Promise<void> {
    this.isWanted = false;
    await this.child?.stop();
  }

  /** Stops it for good: a start that is under way fails. */
  async close(): Promise<void> {
    this.isClosed = true;
    await this.stop();
  }

  /** Kills it at once, without waiting. */
  destroy(): void {
    this.isWanted = false;
    this.child?.destroy();
  }

  private async awaitReady(child: Child, signal: AbortSignal | undefined): Promise<void> {
    const deadline = performance.now() + READY_TIMEOUT_MS;
    while (!(await isReady(this.options.adminUrl, signal))) {
      signal?.throwIfAborted();
      if (child.hasEnded) throw child.failure();
      if (performance.now() > deadline) {
        await child.kill("SIGKILL");
        throw new Error(
          `${this.options.title} was not ready after ${READY_TIMEOUT_MS / 1000} s; ${child.failure().message}`,
        );
      }
      await Promise.race([sleep(READY_POLL_MS), child.ended]);
    }
  }
}

/** Envoy accepts connections to its admin long before it answers there, hence the signal. */
async function isReady(adminUrl: string, signal: AbortSignal | undefined): Promise<boolean> {
  const timeout = AbortSignal.timeout(1000);
  try {
    const answer = await fetch(`${adminUrl}/ready`, { signal: signal ? AbortSignal.any([timeout, signal]) : timeout });
    await answer.arrayBuffer();
    return answer.ok;
  } catch (_notYetListening: unknown) {
    return false;
  }
}
