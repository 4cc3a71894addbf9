// The servers that are measured, each a process of its own: the collector, and what it is compared with.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { collectorMainPath } from "../../../envoy/project.ts";
import { type Cores, onCores } from "./proc.ts";

const PROFILE_INTERVAL_US = 500;

/** Settings of the collector that are measured where it has them. */
const STORE = (folder: string) => `logs:\n  folder: ${folder}\n`;

/** Entries that a server took in, and those that it did not. */
export interface Intake {
  readonly taken: number;
  readonly notTaken: number;
}

export interface ServerOptions {
  readonly cores: Cores;
  /** Analysis threads of the collector; its own default if undefined. */
  readonly threads?: number | undefined;
  /** Where to leave CPU profiles; none if undefined. */
  readonly profileFolder?: string | undefined;
}

export class Server {
  private constructor(
    private readonly process: ChildProcess,
    private readonly folder: string,
    readonly alsUrl: string,
    private readonly httpUrl: string,
    private readonly readIntake: (httpUrl: string) => Promise<Intake>,
    /** From spawn until it was ready. */
    readonly startMs: number,
    readonly hasStore: boolean,
  ) {}

  /** The real collector with a configuration file, indicators and log store on as far as it has them. Resolves when it is ready. */
  static async startCollector({ cores, threads, profileFolder }: ServerOptions): Promise<Server> {
    const folder = mkdtempSync(join(tmpdir(), "meshtally-bench-"));
    const file = join(folder, "collector.yaml");
    const base = [
      "grpc: { address: 127.0.0.1:0 }",
      "http: { address: 127.0.0.1:0 }",
      "log: { level: warn }",
      ...(threads === undefined ? [] : [`threads: ${threads}`]),
      "",
    ].join("\n");
    const store = STORE(join(folder, "logs"));
    const hasStore = isValidConfig(file, base + store);
    writeFileSync(file, hasStore ? base + store : base);
    const profiling =
      profileFolder === undefined
        ? []
        : ["--cpu-prof", `--cpu-prof-dir=${profileFolder}`, `--cpu-prof-interval=${PROFILE_INTERVAL_US}`];
    const command = [process.execPath, ...profiling, collectorMainPath(), "--config", file];
    return Server.start(command, cores, folder, { readyPath: "/readyz", readIntake: readReceivers, hasStore });
  }

  /** Anything that prints a line of JSON with its addresses `grpc` and `http`, as the collector does. */
  static async start(
    command: readonly string[],
    { server, isPinned }: Cores,
    folder: string,
    options: {
      readonly readyPath: string;
      readonly readIntake: (httpUrl: string) => Promise<Intake>;
      readonly hasStore: boolean;
      readonly env?: Record<string, string>;
    },
  ): Promise<Server> {
    const [program = "", ...args] = onCores(server, command, isPinned);
    const startedMs = performance.now();
    const child = spawn(program, args, {
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, ...options.env },
    });
    const { grpc, http } = await readAddresses(child);
    const httpUrl = `http://${http}`;
    const response = await fetch(httpUrl + options.readyPath);
    await response.text();
    if (response.status !== 200) throw new Error(`${httpUrl}${options.readyPath}: ${response.status}`);
    const startMs = performance.now() - startedMs;
    return new Server(child, folder, `http://${grpc}`, httpUrl, options.readIntake, startMs, options.hasStore);
  }

  get pid(): number {
    return this.process.pid as number;
  }

  intake(): Promise<Intake> {
    return this.readIntake(this.httpUrl);
  }

  /** How long an answer took that costs the server nothing: as long as it was busy with other things. */
  async answerMs(): Promise<number> {
    const startedMs = performance.now();
    await (await fetch(`${this.httpUrl}/livez`)).text();
    return performance.now() - startedMs;
  }

  async stop(): Promise<void> {
    const exited = once(this.process, "exit");
    this.process.kill("SIGTERM");
    await exited;
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Files of CPU profiles, one for each thread. */
export function profilesIn(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".cpuprofile"))
    .map((name) => join(folder, name));
}

function isValidConfig(file: string, text: string): boolean {
  writeFileSync(file, text);
  return (
    spawnSync(process.execPath, [collectorMainPath(), "--check-config", "--config", file], { stdio: "ignore" })
      .status === 0
  );
}

/** Rejects when the process ends before it says them. What else it says is passed on. */
function readAddresses(child: ChildProcess): Promise<{ grpc: string; http: string }> {
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`${child.spawnargs.join(" ")} ended with ${code} before it listened`)));
    if (child.stdout === null) throw new Error("no standard output");
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (line.includes('"listening"')) resolve(JSON.parse(line));
      else console.error(line);
    });
  });
}

interface ReceiversAccount {
  readonly entries: { readonly http: Readonly<Record<string, number>> };
  readonly entries_not_taken: Readonly<Record<string, number>>;
}

/** Of the receivers' page, which is exact and short; /metrics has a hundred thousand lines and more by then. */
async function readReceivers(httpUrl: string): Promise<Intake> {
  const response = await fetch(`${httpUrl}/api/v1/receivers`);
  const page = (await response.json()) as {
    proxies: { access_log: ReceiversAccount | null }[];
    unnamed: ReceiversAccount;
    beyond_limit: ReceiversAccount;
  };
  const accounts = [...page.proxies.map(({ access_log }) => access_log), page.unnamed, page.beyond_limit];
  const sum = (counts: Readonly<Record<string, number>> | undefined) =>
    Object.values(counts ?? {}).reduce((total, count) => total + count, 0);
  return {
    taken: accounts.reduce((total, account) => total + sum(account?.entries.http), 0),
    notTaken: accounts.reduce((total, account) => total + sum(account?.entries_not_taken), 0),
  };
}
