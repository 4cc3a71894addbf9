// The load generator as its parent sees it.

import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { LoadAnswer, LoadCommand } from "./load.ts";
import { type Cores, onCores } from "./proc.ts";
import type { Traffic } from "./slice.ts";

/** As it was built. */
const LOAD = fileURLToPath(new URL("load.js", import.meta.url));

export class LoadProcess {
  private readonly process: ChildProcess;

  constructor({ load, isPinned }: Cores) {
    const [execPath = "", ...execArgv] = onCores(load, [process.execPath], isPinned);
    this.process = fork(LOAD, [], { execPath, execArgv });
  }

  get pid(): number {
    return this.process.pid as number;
  }

  async start(url: string, { kind, streams, labelSets }: Traffic): Promise<void> {
    await this.ask({ do: "start", url, kind, streams, labelSets });
  }

  /** Entries sent since the start, which the server has read. */
  stop(): Promise<number> {
    return this.ask({ do: "stop" });
  }

  close(): void {
    if (this.process.connected) this.process.disconnect();
  }

  private ask(command: LoadCommand): Promise<number> {
    return new Promise((resolve, reject) => {
      const settle = (answer: LoadAnswer) => {
        this.process.off("exit", exited);
        if ("error" in answer) reject(new Error(`load generator: ${answer.error}`));
        else resolve(answer.entries);
      };
      const exited = (code: number | null) => settle({ error: `ended with ${code}` });
      this.process.once("exit", exited).once("message", settle);
      this.process.send(command);
    });
  }
}
