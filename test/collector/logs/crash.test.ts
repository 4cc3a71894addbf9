// What a collector's end takes with it: killed in the middle of writing, and its disk full. Real processes, real file systems.

import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import type { StoredRecord } from "../../../collector/logs/store.ts";
import { type CollectorProcess, failed, kill, Logger, startProcess } from "./process.ts";
import { EVERYTHING, Stores, until } from "./records.ts";

const stores = new Stores();
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  await stores.clean();
});

async function start(folder: string, logs: string, prefix?: readonly string[]): Promise<[CollectorProcess, Logger]> {
  const collector = await startProcess(folder, logs, prefix);
  closers.push(() => collector.child.exitCode ?? collector.child.signalCode ?? kill(collector));
  const logger = new Logger(collector.grpc);
  closers.push(() => logger.close());
  return [collector, logger];
}

async function metric({ http }: CollectorProcess, line: string): Promise<number> {
  const text = await (await fetch(`http://${http}/metrics`)).text();
  return Number(
    text
      .split("\n")
      .find((each) => each.startsWith(`${line} `))
      ?.slice(line.length + 1),
  );
}

interface Answer {
  readonly matches: number;
  readonly store: {
    readonly fault: { readonly reason: string } | null;
    readonly records: number;
    readonly queued: number;
  };
}

async function ask({ http }: CollectorProcess): Promise<Answer> {
  const response = await fetch(`http://${http}/api/v1/logs?limit=1`);
  if (response.status === 200) return (await response.json()) as Answer;
  expect(response.status).toBe(503); // for a moment, while the files are opened anew
  return { matches: 0, store: { fault: null, records: 0, queued: -1 } };
}

describe("kill -9", () => {
  it("takes at most the last second: what came before is there, in order and once", async () => {
    const folder = stores.folder();
    const [collector, logger] = await start(folder, "logs: { folder: logs, per_minute: 1000000 }");
    let sent = 0;
    let taken = 0;
    let takenAtMs = 0;
    for (const startMs = Date.now(); takenAtMs === 0 || Date.now() < takenAtMs + 1000; ) {
      logger.send(Array.from({ length: 20 }, () => failed(String(sent++))));
      await sleep(5);
      if (takenAtMs > 0 || Date.now() < startMs + 1000) continue;
      taken = await metric(collector, 'meshtally_access_log_entries_total{labels="derived"}');
      takenAtMs = Date.now();
    }
    await kill(collector);
    expect(taken).toBeGreaterThan(100);

    const store = await stores.open({ folder: join(folder, "logs") });
    const found: StoredRecord[] = [];
    for (let after = null as (typeof EVERYTHING)["after"]; ; ) {
      const page = await store.search({ ...EVERYTHING, after });
      found.unshift(...[...page.records].reverse());
      after = page.next;
      if (after === null) break;
    }
    expect(found.length).toBeGreaterThanOrEqual(taken);
    expect(found.length).toBeLessThanOrEqual(sent);
    expect(found.map(({ requestId }) => Number(requestId))).toEqual(found.map((_, index) => index));
  });
});

/** A file system of its own for one process, so small that it can be filled; the reason why there can be none, if so. */
function smallDisk(point: string, before = "true"): readonly string[] | string {
  const unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"];
  const mount = `mount -t tmpfs -o size=24m none '${point}' && ${before} && exec "$@"`;
  mkdirSync(point);
  const tried = spawnSync(unshare[0] as string, [...unshare.slice(1), mount, "sh", "true"], { encoding: "utf8" });
  if (tried.status === 0) return [...unshare, mount, "sh"];
  return `no file system can be mounted here: ${tried.error?.message ?? tried.stderr.trim()}`;
}

/** Fills the store with what cannot be packed, until something is so. */
async function flood(logger: Logger, isSo: () => Promise<boolean>): Promise<number> {
  let sent = 0;
  await until(async () => {
    const noise = () => randomBytes(1500).toString("base64");
    logger.send(Array.from({ length: 100 }, () => failed(String(sent++), { customTags: { noise: noise() } })));
    return await isSo();
  }, 60_000);
  return sent;
}

describe("a full disk", () => {
  it("is an alert and a counter; what is there can be read, and writing goes on when there is room", async ({
    skip,
  }) => {
    const folder = stores.folder();
    const point = join(folder, "disk");
    const prefix = smallDisk(point);
    if (typeof prefix === "string") {
      console.warn(prefix);
      skip(prefix);
      return;
    }
    const [collector, logger] = await start(folder, "logs: { folder: disk/logs, per_minute: 1000000 }", prefix);
    const ballast = `/proc/${collector.child.pid}/root${point}/ballast`;
    expect(spawnSync("sh", ["-c", `head -c 12582912 /dev/zero > ${ballast}`]).status).toBe(0);
    const sent = await flood(logger, async () => (await ask(collector)).store.fault?.reason === "disk_full");
    const full = await ask(collector);
    expect(full.matches).toBeGreaterThan(0);
    expect(full.store.queued).toBeGreaterThan(0);
    expect(await metric(collector, 'meshtally_log_store_faults_total{reason="disk_full"}')).toBeGreaterThan(0);
    expect(collector.output()).toContain('"msg":"log store cannot be written"');
    expect((await fetch(`http://${collector.http}/readyz`)).status).toBe(200);

    rmSync(ballast);
    await until(async () => {
      const { store } = await ask(collector);
      return store.fault === null && store.queued === 0;
    });
    const dropped = await metric(collector, 'meshtally_log_records_dropped_total{rule="error",reason="queue_full"}');
    const taken = await metric(collector, 'meshtally_access_log_entries_total{labels="derived"}');
    expect(taken).toBe(sent);
    expect((await ask(collector)).matches).toBe(sent - dropped); // each once: also those whose end of writing failed
    expect(collector.output()).toContain('"msg":"log store is written again"');
  });

  it("at the start keeps nobody from starting; what comes is kept when there is room", async ({ skip }) => {
    const folder = stores.folder();
    const point = join(folder, "disk");
    const prefix = smallDisk(point, `(head -c 30m /dev/zero > '${point}/ballast' 2>/dev/null || true)`);
    if (typeof prefix === "string") {
      console.warn(prefix);
      skip(prefix);
      return;
    }
    const [collector, logger] = await start(folder, "logs: { folder: disk/logs }", prefix);
    const response = await fetch(`http://${collector.http}/api/v1/logs`);
    expect([response.status, await response.text()]).toEqual([503, expect.stringContaining("No space left on device")]);
    logger.send([failed("1"), failed("2")]);
    await until(async () => (await metric(collector, 'meshtally_access_log_entries_total{labels="derived"}')) === 2);
    rmSync(`/proc/${collector.child.pid}/root${point}/ballast`);
    await until(async () => (await ask(collector)).store.records === 2);
    expect((await ask(collector)).store.fault).toBeNull();
  });

  it("a limit on the size of files is one, too, and ends no process", async () => {
    const folder = stores.folder();
    const limit = ["sh", "-c", 'ulimit -f 2000 && exec "$@"', "sh"]; // a megabyte
    const [collector, logger] = await start(folder, "logs: { folder: logs, per_minute: 1000000 }", limit);
    await flood(logger, async () => (await ask(collector)).store.fault?.reason === "disk_full");
    expect(collector.child.exitCode).toBeNull();
    expect((await fetch(`http://${collector.http}/readyz`)).status).toBe(200);
    expect(existsSync(join(folder, "logs"))).toBe(true);
  });
});

it.skipIf(!existsSync("/proc/self/maps"))(
  "a collector without a folder has nothing of DuckDB in its memory",
  async () => {
    const isLoaded = async (logs: string) => {
      const [{ child }] = await start(stores.folder(), logs);
      return readFileSync(`/proc/${child.pid}/maps`, "utf8").includes("duckdb");
    };
    expect(await isLoaded("")).toBe(false);
    expect(await isLoaded("logs: { folder: logs }")).toBe(true);
  },
);
