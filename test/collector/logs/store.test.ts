// The log store: what is added is found again, by this process and the next, within its bounds.

import { randomBytes } from "node:crypto";
import { readdirSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { DuckdbLogStore } from "../../../collector/logs/duckdb-store.ts";
import { SelfMetrics } from "../../../collector/self.ts";
import { EVERYTHING, recordOf, START_MS, Stores, until, written } from "./records.ts";

const stores = new Stores();
afterEach(async () => {
  vi.useRealTimers();
  await stores.clean();
});

describe("what was added", () => {
  it("is found again, field by field", async () => {
    const store = await stores.open();
    const record = recordOf({
      grpcStatus: 14,
      flags: ["UF", "URX"],
      traceId: "0af7651916cd43dd8448eb211c80319c",
      tags: ["a=b", "c=';--"],
      requestBytes: Number.MAX_SAFE_INTEGER,
      path: "/é日本😀\u0000'\"\\",
      body: JSON.stringify({ text: "\u0000\n'\"%_\\ é😀", ["__proto__"]: 1 }),
    });
    expect(store.add(record)).toBe(true);
    const { records } = await written(store);
    expect(records).toEqual([{ ...record, id: 1n }]);
  });

  it("may be of nobody and nothing", async () => {
    const store = await stores.open();
    const nobody = { service: null, namespace: null, workload: null, instance: null };
    const nothing = { endpoint: null, method: null, path: null, code: null, latencyMs: null, requestId: null };
    const record = recordOf({ source: nobody, destination: nobody, ...nothing, flags: [], tags: [] });
    store.add({ ...record, requestBytes: 1.8e19, responseBytes: null });
    const { records } = await written(store);
    expect(records).toEqual([{ ...record, id: 1n, requestBytes: Number.MAX_SAFE_INTEGER, responseBytes: null }]);
  });

  it("is there for the next process, and goes on with higher ids", async () => {
    const folder = stores.folder();
    const first = await stores.open({ folder });
    for (let i = 0; i < 10; i++) first.add(recordOf({ timeMs: START_MS + i }));
    await first.close();
    const second = await stores.open({ folder });
    second.add(recordOf({ timeMs: START_MS + 10 }));
    const { records, summary } = await written(second);
    expect(records.map(({ id }) => id)).toEqual([11n, 10n, 9n, 8n, 7n, 6n, 5n, 4n, 3n, 2n, 1n]);
    expect(summary?.matches).toBe(11);
  });

  it("is counted by the rule that kept it", async () => {
    const self = new SelfMetrics("test");
    const store = await stores.open({ self });
    for (const reason of ["error", "error", "slow"] as const) store.add(recordOf({ reason }));
    await written(store);
    const metrics = await self.registry.metrics();
    expect(metrics).toContain('meshtally_log_records_stored_total{rule="error"} 2\n');
    expect(metrics).toContain('meshtally_log_records_stored_total{rule="slow"} 1\n');
    await until(async () => (await self.registry.metrics()).includes("meshtally_log_store_records 3\n"));
    expect(metrics).toMatch(/meshtally_log_store_flush_seconds_count [1-9]/);
  });
});

it("a full queue takes nothing more, and all it took is written", async () => {
  const store = await stores.open();
  let taken = 0;
  while (store.add(recordOf()) && taken < 100_000) taken++;
  expect(taken).toBeLessThan(100_000);
  expect((await written(store, { limit: 1 })).summary?.matches).toBe(taken);
});

describe("a folder", () => {
  it("may have any name", async () => {
    const folder = join(stores.folder(), 'it\'s a "folder"; é');
    const store = await stores.open({ folder });
    store.add(recordOf());
    expect((await written(store)).records).toHaveLength(1);
    expect(readdirSync(folder).length).toBeGreaterThan(0);
  });

  it("of another process is refused at the start, with that process's id", async () => {
    const { spawn } = await import("node:child_process");
    const folder = stores.folder();
    const script = `
      import("@duckdb/node-api").then(async ({ DuckDBInstance }) => {
        const instance = await DuckDBInstance.create(${JSON.stringify(join(folder, "store.duckdb"))});
        await instance.connect();
        console.log("open");
        setInterval(() => instance, 1000);
      });`;
    const child = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    await new Promise((resolve) => child.stdout.once("data", resolve));
    await expect(stores.open({ folder })).rejects.toMatchObject({
      code: "unavailable",
      message: `logs.folder: ${folder} is in use by another process (PID ${child.pid})`,
    });
    child.kill("SIGKILL");
    await new Promise((resolve) => child.once("exit", resolve));
    expect((await stores.open({ folder })).stats.fault).toBeNull();
  });

  it("that cannot be one is refused at the start", async () => {
    const file = join(stores.folder(), "file");
    writeFileSync(file, "");
    await expect(stores.open({ folder: join(file, "logs") })).rejects.toThrow(
      `logs.folder: ${file}/logs cannot be used: ENOTDIR`,
    );
  });

  it("is for its owner's eyes", async () => {
    const folder = join(stores.folder(), "logs");
    await stores.open({ folder });
    expect(statSync(folder).mode & 0o777).toBe(0o700);
  });

  it("with a broken file is opened all the same, and the rest of it read", async () => {
    const folder = stores.folder();
    const first = await stores.open({ folder });
    first.add(recordOf());
    await first.close();
    writeFileSync(join(folder, `logs-${Date.now() - 1000}.duckdb`), "no database".repeat(10_000));
    const self = new SelfMetrics("test");
    const store = await stores.open({ folder, self });
    expect((await written(store)).records).toHaveLength(1);
    expect(store.stats).toMatchObject({ fault: null, unreadable: 1, records: 1 });
    expect(await self.registry.metrics()).toContain('meshtally_log_store_faults_total{reason="unreadable"} 1\n');
  });

  it.each([0, 100, 4096, 8192])(
    "of which a full disk left %i bytes of what says whose it is, is opened",
    async (bytes) => {
      const folder = stores.folder();
      const first = await stores.open({ folder });
      first.add(recordOf());
      await written(first);
      await first.close();
      truncateSync(join(folder, "store.duckdb"), bytes);
      expect((await written(await stores.open({ folder }))).records).toHaveLength(1);
    },
  );

  it("that vanishes is made anew, and writing goes on", async () => {
    const self = new SelfMetrics("test");
    const store = await stores.open({ self });
    const { folder } = (store as unknown as { options: { folder: string } }).options;
    store.add(recordOf());
    await written(store);
    rmSync(folder, { recursive: true });
    store.add(recordOf({ path: "/after" }));
    await until(() => store.stats.fault === null && store.stats.records === 1 && store.stats.queued === 0);
    expect((await written(store)).records).toMatchObject([{ path: "/after" }]);
    expect(await self.registry.metrics()).toContain('meshtally_log_store_faults_total{reason="folder_gone"} 1\n');
  });
});

describe("bounds", () => {
  const sizeOf = (folder: string) =>
    readdirSync(folder).reduce(
      (sum, file) => sum + (statSync(join(folder, file), { throwIfNoEntry: false })?.size ?? 0),
      0,
    );

  it("of size hold in a flood, also while it is searched, and the newest records stay", async () => {
    const folder = stores.folder();
    const maxBytes = 16 * 2 ** 20;
    const self = new SelfMetrics("test");
    const store = await stores.open({ folder, self, bounds: { maxBytes, maxAgeMs: 3_600_000 } });
    let isOver = false;
    const searching = (async () => {
      let searches = 0;
      const conditions = [{ kind: "contains" as const, texts: ["nothing like it"] }];
      for (; !isOver; searches++) expect((await store.search({ ...EVERYTHING, conditions })).summary?.matches).toBe(0);
      return searches;
    })();
    let largest = 0;
    let added = 0;
    for (let round = 0; round < 12; round++) {
      for (let i = 0; i < 500; i++) {
        const body = JSON.stringify(randomBytes(3000).toString("base64"));
        if (store.add(recordOf({ body, timeMs: START_MS + added }))) added++;
      }
      await until(() => store.stats.queued === 0);
      largest = Math.max(largest, sizeOf(folder));
    }
    isOver = true;
    expect(await searching).toBeGreaterThan(5);
    expect((await self.logStoreFaults.get()).values.every(({ value }) => value === 0)).toBe(true);
    expect(largest).toBeLessThanOrEqual(maxBytes);
    const { records, summary } = await written(store, { limit: 1 });
    expect(records[0]?.timeMs).toBe(START_MS + added - 1);
    expect(summary?.matches).toBeLessThan(added);
    expect(summary?.matches).toBeGreaterThan(500);
    expect(store.stats.records).toBe(summary?.matches);
  });

  it("of age hold, also when nothing more comes", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    const folder = stores.folder();
    const store = await stores.open({ folder, bounds: { maxBytes: 2 ** 30, maxAgeMs: 24 * 3_600_000 } });
    const hour = 3_600_000;
    for (let i = 0; i < 10; i++) {
      store.add(recordOf({ arrivalMs: Date.now(), timeMs: START_MS + i }));
      await until(() => store.stats.queued === 0);
      vi.setSystemTime(Date.now() + 3 * hour);
    }
    const { records } = await written(store);
    expect(records.map(({ timeMs }) => timeMs - START_MS)).toEqual([9, 8, 7, 6, 5, 4, 3, 2]);
    vi.setSystemTime(Date.now() + 25 * hour);
    await until(() => store.stats.records === 0);
    expect(readdirSync(folder).filter((file) => file.startsWith("logs-"))).toEqual([]);
  });
});

it("a store that is closed has nothing to say", async () => {
  const store = await stores.open();
  await store.close();
  await expect(store.search(EVERYTHING)).rejects.toMatchObject({ failure: "unavailable" });
  expect(store).toBeInstanceOf(DuckdbLogStore);
});
