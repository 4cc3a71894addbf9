// The real collector's process, with all of it switched on that it has.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { collectorMainPath } from "../../../envoy/project.ts";
import type { Intake, ServerKind } from "./server.ts";

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
    readIntake: readReceivers,
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

type Counts = Readonly<Record<string, number>>;

/** As /api/v1/receivers has it (docs/api.md). */
interface Account {
  readonly entries: { readonly http: Counts };
  readonly entries_not_taken: Counts;
}

interface ReceiversPage {
  readonly proxies: readonly { readonly access_log: Account | null }[];
  readonly unnamed: Account;
  readonly beyond_limit: Account;
}

/** The page counts as exactly as /metrics, which at 10,000 label sets has hundreds of megabytes. */
async function readReceivers(httpUrl: string): Promise<Intake> {
  const page = (await (await fetch(`${httpUrl}/api/v1/receivers`)).json()) as ReceiversPage;
  const accounts = [...page.proxies.map(({ access_log }) => access_log), page.unnamed, page.beyond_limit];
  return {
    taken: sum(accounts.map((account) => total(account?.entries.http))),
    notTaken: sum(accounts.map((account) => total(account?.entries_not_taken))),
  };
}

function total(counts: Counts = {}): number {
  return sum(Object.values(counts));
}

function sum(values: readonly number[]): number {
  return values.reduce((all, value) => all + value, 0);
}
