// The collector as a child process, as an operator would run it: `node build/collector/main.js --config FILE`.

import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { collectorMainPath } from "../envoy/project.ts";
import { Child } from "./child.ts";
import { isFree } from "./subnet.ts";
import type { Watchdog } from "./watchdog.ts";

/** The ports that people know; taken when free. */
const PREFERRED = { grpc: 11800, http: 12800 } as const;
const ANY = { grpc: 0, http: 0 } as const;
const HOST = "127.0.0.1";
const START_TIMEOUT_MS = 20_000;

export interface CollectorProcess {
  readonly child: Child;
  /** Where proxies stream their access logs: "127.0.0.1:11800". */
  readonly grpcAddress: string;
  /** "http://127.0.0.1:12800" */
  readonly url: string;
}

/** Where it listens, ports included. */
interface Listening {
  readonly grpc: string;
  readonly http: string;
}

export interface CollectorOptions {
  /** Admin addresses of the proxies to scrape: ["127.0.7.13:15000"]. */
  readonly targets: readonly string[];
  readonly folder: string;
  readonly watchdog: Watchdog;
  readonly signal?: AbortSignal | undefined;
  /** More of its configuration: sections, of whose keys those that are there already stay. */
  readonly config?: Sections | undefined;
}

/** Fulfilled when it listens. Rejects with its last lines when it ends before. */
export async function startCollector(options: CollectorOptions): Promise<CollectorProcess> {
  if (!existsSync(collectorMainPath())) {
    throw new Error(`${collectorMainPath()} is not there: run \`npm run build\` first`);
  }
  const arePreferredFree = async () => (await isFree(HOST, PREFERRED.grpc)) && (await isFree(HOST, PREFERRED.http));
  if (!(await arePreferredFree())) return startOn(ANY, options);
  try {
    return await startOn(PREFERRED, options);
  } catch (error: unknown) {
    // Another mesh that starts at the same moment may have taken them since.
    if (await arePreferredFree()) throw error;
    return startOn(ANY, options);
  }
}

/** Starts one that ended again, where it was. */
export function restartCollector(former: CollectorProcess, options: CollectorOptions): Promise<CollectorProcess> {
  const port = (address: string) => Number(address.split(":").at(-1));
  return startOn({ grpc: port(former.grpcAddress), http: port(former.url) }, options);
}

async function startOn(
  ports: { readonly grpc: number; readonly http: number },
  options: CollectorOptions,
): Promise<CollectorProcess> {
  const { folder, watchdog, signal } = options;
  signal?.throwIfAborted();
  const configFile = join(folder, "collector.yaml");
  await writeFile(
    configFile,
    JSON.stringify(withMore(collectorConfig(ports, options.targets), options.config), null, 2),
  );

  let announce: (addresses: Listening) => void = () => {};
  const listening = new Promise<Listening>((resolve) => {
    announce = resolve;
  });
  const child = await Child.start(
    "the collector",
    process.execPath,
    [collectorMainPath(), "--config", configFile],
    watchdog,
    {
      onLine: (line) => {
        const addresses = readListening(line);
        if (addresses !== null) announce(addresses);
      },
    },
  );
  const destroy = () => child.destroy();
  const timeout = setTimeout(destroy, START_TIMEOUT_MS);
  signal?.addEventListener("abort", destroy);
  try {
    const addresses = await Promise.race([
      listening,
      child.ended.then(() => {
        throw child.failure();
      }),
    ]);
    return { child, grpcAddress: addresses.grpc, url: `http://${addresses.http}` };
  } finally {
    clearTimeout(timeout);
    signal?.removeEventListener("abort", destroy);
  }
}

type Sections = Readonly<Record<string, object>>;

function withMore(config: Sections, more: Sections = {}): Sections {
  const merged = Object.entries(more).map(([name, keys]) => [name, { ...keys, ...config[name] }]);
  return { ...config, ...Object.fromEntries(merged) };
}

/** Its configuration file as a value; JSON is YAML. */
export function collectorConfig(
  ports: { readonly grpc: number; readonly http: number },
  targets: readonly string[],
): Sections {
  return {
    grpc: { address: `${HOST}:${ports.grpc}` },
    http: { address: `${HOST}:${ports.http}` },
    scrape: { interval: "1s", targets },
    proxy_stats: { enabled: true },
    log: { level: "info" },
  };
}

/** The addresses in `{"msg":"listening","grpc":"127.0.0.1:11800","http":"127.0.0.1:12800"}`; null for any other line. */
export function readListening(line: string): Listening | null {
  if (!line.includes('"listening"')) return null;
  try {
    const { msg, grpc, http } = JSON.parse(line) as { [field: string]: unknown };
    return msg === "listening" && typeof grpc === "string" && typeof http === "string" ? { grpc, http } : null;
  } catch (_notJson: unknown) {
    return null;
  }
}
