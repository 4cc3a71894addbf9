// The real collector's process, with all of it switched on that it has.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { collectorMainPath } from "../../../envoy/project.ts";
import type { ServerKind } from "./server.ts";

const PROFILE_INTERVAL_US = 500;

export interface CollectorOptions {
  /** Analysis threads; the collector's default if undefined. */
  readonly threads?: number | undefined;
  /** Where to leave CPU profiles; none if undefined. */
  readonly profileFolder?: string | undefined;
}

export function collectorKind({ threads, profileFolder }: CollectorOptions): ServerKind {
  const profiling =
    profileFolder === undefined
      ? []
      : ["--cpu-prof", `--cpu-prof-dir=${profileFolder}`, `--cpu-prof-interval=${PROFILE_INTERVAL_US}`];
  return {
    command: (folder) => {
      const file = join(folder, "collector.yaml");
      writeFileSync(file, configuration(threads) + (hasLogStore() ? logStore(folder) : ""));
      return [process.execPath, ...profiling, collectorMainPath(), "--config", file];
    },
    readyPath: "/readyz",
    readTaken,
  };
}

function configuration(threads: number | undefined): string {
  const lines = ["grpc: { address: 127.0.0.1:0 }", "http: { address: 127.0.0.1:0 }", "log: { level: warn }"];
  if (threads !== undefined) lines.push(`threads: ${threads}`);
  return `${lines.join("\n")}\n`;
}

/** By default it keeps errors, among others. */
function logStore(folder: string): string {
  return `logs: { folder: ${join(folder, "logs")} }\n`;
}

let knownLogStore: boolean | undefined;

/** Whether this collector has a log store to switch on. */
export function hasLogStore(): boolean {
  knownLogStore ??= acceptsConfiguration(logStore("/var/lib/meshtally"));
  return knownLogStore;
}

/** Whether it can be told how many threads to analyse with. */
export function hasThreads(threads: number): boolean {
  return acceptsConfiguration(configuration(threads));
}

function acceptsConfiguration(text: string): boolean {
  const folder = mkdtempSync(join(tmpdir(), "meshtally-bench-"));
  const file = join(folder, "collector.yaml");
  writeFileSync(file, text);
  const { status } = spawnSync(process.execPath, [collectorMainPath(), "--check-config", "--config", file]);
  rmSync(folder, { recursive: true });
  return status === 0;
}

/** As /api/v1/receivers has it (docs/api.md). */
interface Account {
  readonly entries: { readonly http: Readonly<Record<string, number>> };
}

/** By the receivers' page, which is as exact as /metrics: that has hundreds of megabytes at 10,000 label sets. */
async function readTaken(httpUrl: string): Promise<number> {
  const page = (await (await fetch(`${httpUrl}/api/v1/receivers`)).json()) as {
    readonly proxies: readonly { readonly access_log: Account | null }[];
  };
  const counts = page.proxies.flatMap(({ access_log }) => Object.values(access_log?.entries.http ?? {}));
  return counts.reduce((all, count) => all + count, 0);
}
