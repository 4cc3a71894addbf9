// A server that is measured, a process of its own on cores of its own.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type Cores, cpuSeconds, onCores } from "./proc.ts";

/** Answers at once, so that only a busy server takes long. */
const CHEAP_PATH = "/livez";

/** How a kind of server is started and read. */
export interface ServerKind {
  /** The command, of a folder that is the server's until it stops. */
  readonly command: (folder: string) => readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Says 200 when it is ready. */
  readonly readyPath: string;
  /** Entries that it has counted since it started. */
  readonly readTaken: (httpUrl: string) => Promise<number>;
}

/** What a reading of /metrics took. */
export interface Exposition {
  readonly seconds: number;
  readonly bytes: number;
  readonly end: string;
}

const EXPOSITION_END_LENGTH = 100_000;

export class Server {
  private constructor(
    private readonly kind: ServerKind,
    private readonly process: ChildProcess,
    private readonly folder: string,
    private readonly addresses: Addresses,
    /** From its start until it was ready. */
    readonly startMs: number,
    /** CPU time until then, of all its threads. */
    readonly startCpuMs: number,
  ) {}

  /** Resolves when it is ready. It has to print a line of JSON `{"msg":"listening","grpc":"127.0.0.1:1","http":"127.0.0.1:2"}`. */
  static async start(kind: ServerKind, { server, isPinned }: Cores): Promise<Server> {
    const folder = mkdtempSync(join(tmpdir(), "meshtally-bench-"));
    const [program = "", ...args] = onCores(server, kind.command(folder), isPinned);
    const startedMs = performance.now();
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...kind.env } });
    const addresses = await readAddresses(child);
    const ready = await fetch(`http://${addresses.http}${kind.readyPath}`);
    if (!ready.ok) throw new Error(`${kind.readyPath}: found ${ready.status}, expected 200 (${await ready.text()})`);
    const startMs = performance.now() - startedMs;
    return new Server(kind, child, folder, addresses, startMs, cpuSeconds(child.pid as number) * 1000);
  }

  get pid(): number {
    return this.process.pid as number;
  }

  get alsUrl(): string {
    return `http://${this.addresses.grpc}`;
  }

  private get httpUrl(): string {
    return `http://${this.addresses.http}`;
  }

  /** Entries that it has counted since it started. */
  taken(): Promise<number> {
    return this.kind.readTaken(this.httpUrl);
  }

  /** How long the server took to come to a request that takes no time. */
  async answerMs(): Promise<number> {
    const startedMs = performance.now();
    await (await fetch(this.httpUrl + CHEAP_PATH)).text();
    return performance.now() - startedMs;
  }

  /** Reads /metrics once, unpacked, and keeps its end. */
  async exposition(): Promise<Exposition> {
    const startedMs = performance.now();
    const { body } = await fetch(`${this.httpUrl}/metrics`, { headers: { "accept-encoding": "identity" } });
    if (body === null) throw new Error("/metrics: no body");
    let [bytes, end] = [0, ""];
    for await (const piece of body.pipeThrough(new TextDecoderStream())) {
      bytes += piece.length;
      end = (end + piece).slice(-EXPOSITION_END_LENGTH);
    }
    return { seconds: (performance.now() - startedMs) / 1000, bytes, end };
  }

  async stop(): Promise<void> {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      const exited = once(this.process, "exit");
      this.process.kill("SIGTERM");
      await exited;
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

interface Addresses {
  readonly grpc: string;
  readonly http: string;
}

/** Rejects when the process ends before it says them. What else it says is passed on. */
function readAddresses(child: ChildProcess): Promise<Addresses> {
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code) =>
      reject(new Error(`${child.spawnargs.join(" ")}: ended with ${code}, expected to listen`)),
    );
    if (child.stdout === null) throw new Error("the server has no standard output");
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (line.includes('"listening"')) resolve(JSON.parse(line));
      else console.error(line);
    });
  });
}
