// The load generator as its parent sees it.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Kind } from "./entry.ts";
import type { LoadAnswer, LoadCommand } from "./load.ts";
import { type Cores, onCores } from "./proc.ts";

const LOAD = fileURLToPath(new URL(`./load${import.meta.url.endsWith(".ts") ? ".ts" : ".js"}`, import.meta.url));

export class LoadProcess {
  private readonly process: ChildProcess;

  constructor({ load, isPinned }: Cores) {
    const [execPath = "", ...execArgv] = onCores(load, [process.execPath], isPinned);
    this.process = fork(LOAD, [], { execPath, execArgv });
  }

  get pid(): number {
    return this.process.pid as number;
  }

  async start(url: string, kind: Kind, streams: number): Promise<void> {
    await this.ask({ do: "start", url, kind, streams });
  }

  /** Entries sent since the start, which the server has read. */
  stop(): Promise<number> {
    return this.ask({ do: "stop" });
  }

  close(): void {
    this.process.disconnect();
  }

  private async ask(command: LoadCommand): Promise<number> {
    this.process.send(command);
    const [answer] = (await once(this.process, "message")) as [LoadAnswer];
    if ("error" in answer) throw new Error(`load generator: ${answer.error}`);
    return answer.entries;
  }
}
