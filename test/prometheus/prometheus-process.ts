// A real Prometheus that scrapes every second: with the shipped configuration and rules one collector, or the proxies themselves.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { projectRoot } from "../../envoy/project.ts";
import { freePort } from "../tools/free-port.ts";

const RULES = join(projectRoot(), "deploy", "prometheus");
const START_TIMEOUT_MS = 60_000;

export interface PromSample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface PromRule {
  readonly name: string;
  readonly type: "recording" | "alerting";
  readonly health: string;
  readonly lastError?: string;
  /** Of alerts: inactive, pending or firing. */
  readonly state?: string;
}

export class PrometheusProcess {
  private constructor(
    readonly url: string,
    private readonly child: ChildProcess,
    private readonly folder: string,
  ) {}

  /** As it is shipped, but for the address, "127.0.0.1:12800", and the intervals. Rejects with its last lines when it does not come up. */
  static async ofCollector(path: string, address: string): Promise<PrometheusProcess> {
    const shipped = await readFile(join(RULES, "prometheus.yml"), "utf8");
    return PrometheusProcess.start(path, shipped.replaceAll("15s", "1s").replaceAll("127.0.0.1:12800", address));
  }

  /** Of proxies by their admin addresses, "127.0.7.13:15000", with the rule that makes mesh_* of what they show. */
  static async ofProxies(path: string, targets: readonly string[]): Promise<PrometheusProcess> {
    const job = { job_name: "proxies", metrics_path: "/stats/prometheus", static_configs: [{ targets }] };
    const global = { scrape_interval: "1s", evaluation_interval: "1s" };
    const config = { global, rule_files: ["mesh-from-proxies.yml"], scrape_configs: [job] };
    return PrometheusProcess.start(path, JSON.stringify(config)); // JSON is YAML
  }

  private static async start(path: string, yaml: string): Promise<PrometheusProcess> {
    const folder = await mkdtemp(join(tmpdir(), "meshtally-prometheus-"));
    await cp(RULES, folder, { recursive: true });
    const config = join(folder, "prometheus.yml");
    await writeFile(config, yaml);
    const address = `127.0.0.1:${await freePort()}`;
    const flags = [`--config.file=${config}`, `--storage.tsdb.path=${join(folder, "data")}`];
    const child = spawn(path, [...flags, `--web.listen-address=${address}`], { stdio: ["ignore", "ignore", "pipe"] });
    const lines: string[] = [];
    child.stderr.setEncoding("utf8").on("data", (text: string) => lines.push(text));
    const prometheus = new PrometheusProcess(`http://${address}`, child, folder);
    try {
      await prometheus.becomeReady();
    } catch (error: unknown) {
      await prometheus.stop();
      throw new Error(`Prometheus did not start: ${lines.join("").slice(-2000)}`, { cause: error });
    }
    return prometheus;
  }

  /** The samples of an instant vector; those that are no number are left out. Rejects for a query that is none. */
  async query(expr: string): Promise<PromSample[]> {
    const response = await fetch(`${this.url}/api/v1/query`, {
      method: "POST",
      body: new URLSearchParams({ query: expr }),
    });
    const answer = (await response.json()) as {
      readonly error?: string;
      readonly data?: { readonly result: readonly { metric: Record<string, string>; value: [number, string] }[] };
    };
    if (answer.data === undefined) throw new Error(`${expr}: ${answer.error}`);
    const samples = answer.data.result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
    return samples.filter(({ value }) => !Number.isNaN(value));
  }

  async rules(): Promise<PromRule[]> {
    const answer = (await (await fetch(`${this.url}/api/v1/rules`)).json()) as {
      readonly data: { readonly groups: readonly { readonly rules: readonly PromRule[] }[] };
    };
    return answer.data.groups.flatMap(({ rules }) => rules);
  }

  async stop(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill();
      await once(this.child, "exit");
    }
    await rm(this.folder, { recursive: true, force: true });
  }

  private async becomeReady(): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    for (;;) {
      if (this.child.exitCode !== null) throw new Error(`it ended with code ${this.child.exitCode}`);
      const isReady = await fetch(`${this.url}/-/ready`).then(
        ({ ok }) => ok,
        () => false, // it does not listen yet
      );
      if (isReady) return;
      if (performance.now() > deadline) throw new Error(`it was not ready within ${START_TIMEOUT_MS} ms`);
      await sleep(50);
    }
  }
}
