// Log records for tests, and stores in folders of their own.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { silentLog } from "../../../collector/log.ts";
import { DuckdbLogStore, type DuckdbStoreOptions } from "../../../collector/logs/duckdb-store.ts";
import type { LogRecord } from "../../../collector/logs/record.ts";
import type { LogPage, LogQuery } from "../../../collector/logs/store.ts";
import { SelfMetrics } from "../../../collector/self.ts";

export const START_MS = Date.parse("2026-01-01T00:00:00Z");

const party = (service: string | null) => ({
  service,
  namespace: "default",
  workload: `${service}-v1`,
  instance: null,
});

export function recordOf(changes: Partial<LogRecord> = {}): LogRecord {
  return {
    timeMs: START_MS,
    arrivalMs: START_MS,
    reason: "error",
    proxy: "sidecar~10.0.0.1~web-1.default~default.svc.cluster.local",
    role: "sidecar",
    detectPoint: "client",
    source: party("web"),
    destination: party("reviews"),
    endpoint: "GET:/reviews/{id}",
    method: "GET",
    path: "/reviews/7",
    protocol: "http",
    code: 503,
    grpcStatus: null,
    flags: ["UF"],
    latencyMs: 12,
    success: false,
    requestBytes: 100,
    responseBytes: 200,
    requestId: "6f1c",
    traceId: null,
    tags: ["route=default"],
    text: "[-] GET",
    body: '{"request":{"path":"/reviews/7"}}',
    ...changes,
  };
}

export const partyOf = party;

export const EVERYTHING: LogQuery = { conditions: [], fromMs: null, toMs: null, limit: 1000, after: null };

/** Folders and stores that a test file makes, and takes away. */
export class Stores {
  private readonly folders: string[] = [];
  private readonly open_: DuckdbLogStore[] = [];

  folder(): string {
    const folder = mkdtempSync(join(tmpdir(), "meshtally-logs-"));
    this.folders.push(folder);
    return folder;
  }

  async open(options: Partial<DuckdbStoreOptions> = {}): Promise<DuckdbLogStore> {
    const store = await DuckdbLogStore.open({
      folder: options.folder ?? this.folder(),
      bounds: { maxBytes: 2 ** 30, maxAgeMs: 72 * 3_600_000 },
      memoryBytes: 64 * 2 ** 20,
      self: new SelfMetrics("test"),
      log: silentLog,
      ...options,
    });
    this.open_.push(store);
    return store;
  }

  async clean(): Promise<void> {
    for (const store of this.open_.splice(0)) await store.close();
    for (const folder of this.folders.splice(0)) rmSync(folder, { recursive: true, force: true });
  }
}

export async function until(isSo: () => boolean | Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  for (const endMs = Date.now() + timeoutMs; !(await isSo()); ) {
    if (Date.now() > endMs) throw new Error(`it did not come to be within ${timeoutMs} ms: ${isSo}`);
    await sleep(10);
  }
}

/** What the store holds, once all that was added is written. */
export async function written(store: DuckdbLogStore, query: Partial<LogQuery> = {}): Promise<LogPage> {
  await until(() => store.stats.queued === 0);
  return await store.search({ ...EVERYTHING, ...query });
}
