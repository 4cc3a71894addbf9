// Real Prometheus and real VictoriaMetrics as receivers of remote write, which can go away and come back with what they stored.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type DebianProgram, findDebianProgram } from "./debian-program.ts";
import { freePort } from "./free-port.ts";

interface Kind {
  readonly args: (port: number, folder: string) => readonly string[];
  /** How it is made to go away. What VictoriaMetrics took in less than a second ago is lost by SIGKILL. */
  readonly signal: NodeJS.Signals;
}

const KINDS = {
  prometheus: {
    args: (port, folder) => [
      `--config.file=${folder}/prometheus.yml`,
      `--storage.tsdb.path=${folder}/data`,
      `--web.listen-address=127.0.0.1:${port}`,
      "--web.enable-remote-write-receiver",
    ],
    signal: "SIGKILL",
  },
  "victoria-metrics": {
    args: (port, folder) => [
      `-storageDataPath=${folder}/data`,
      `-httpListenAddr=127.0.0.1:${port}`,
      "-search.latencyOffset=0s",
      "-search.disableCache",
      "-memory.allowedBytes=64MB",
    ],
    signal: "SIGTERM",
  },
} as const satisfies Partial<Record<DebianProgram, Kind>>;
export type ReceiverKind = keyof typeof KINDS;
export const RECEIVER_KINDS = Object.keys(KINDS) as ReceiverKind[];

export interface StoredSeries {
  readonly metric: Readonly<Record<string, string>>;
  /** Unix seconds, and the number as text. */
  readonly values: readonly (readonly [time: number, value: string])[];
}

export class MetricsReceiver {
  private child: ChildProcess | null = null;

  private constructor(
    private readonly kind: Kind,
    private readonly program: string,
    readonly port: number,
    private readonly folder: string,
    private readonly moreArgs: readonly string[],
  ) {}

  /** `missing` says why there is none. `configuration` and `moreArgs` are Prometheus's alone. */
  static async start(
    name: ReceiverKind,
    configuration = "global: {}\n",
    moreArgs: readonly string[] = [],
  ): Promise<{ receiver: MetricsReceiver; missing: null } | { receiver: null; missing: string }> {
    const { path, missing } = await findDebianProgram(name);
    if (path === null) return { receiver: null, missing };
    const folder = await mkdtemp(join(tmpdir(), "meshtally-receiver-"));
    await writeFile(join(folder, "prometheus.yml"), configuration);
    const receiver = new MetricsReceiver(KINDS[name], path, await freePort(), folder, moreArgs);
    await receiver.comeBack();
    return { receiver, missing: null };
  }

  get writeUrl(): string {
    return `http://127.0.0.1:${this.port}/api/v1/write`;
  }

  async goAway(): Promise<void> {
    const { child } = this;
    if (child === null) return;
    const ended = new Promise((resolve) => child.once("close", resolve));
    child.kill(this.kind.signal);
    await ended;
    this.child = null;
  }

  /** On the same port, with what it stored. */
  async comeBack(): Promise<void> {
    let output = "";
    const args = [...this.kind.args(this.port, this.folder), ...this.moreArgs];
    const child = spawn(this.program, args, { stdio: ["ignore", "pipe", "pipe"] });
    const keep = (chunk: Buffer) => {
      output = (output + chunk).slice(-2000);
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    this.child = child;
    for (let tries = 0; tries < 1200; tries++) {
      if (child.exitCode !== null) break;
      const isReady = await fetch(`http://127.0.0.1:${this.port}/-/healthy`).then(
        ({ ok }) => ok,
        () => false,
      );
      if (isReady && (await this.query("vector(1)")).length > 0) return;
      await sleep(50);
    }
    throw new Error(`${this.program} did not start:\n${output}`);
  }

  async stop(): Promise<void> {
    await this.goAway();
    await rm(this.folder, { recursive: true, force: true });
  }

  /** What an expression gives now; of a range vector all samples as they were stored. Empty while it is not ready. */
  async query(expression: string): Promise<readonly StoredSeries[]> {
    const url = `http://127.0.0.1:${this.port}/api/v1/query?query=${encodeURIComponent(expression)}`;
    const answer = await fetch(url);
    if (!answer.ok) return [];
    const { data } = (await answer.json()) as {
      data: { result: (StoredSeries & { readonly value: readonly [number, string] })[] };
    };
    return data.result.map(({ metric, values, value }) => ({ metric, values: values ?? [value] }));
  }
}
