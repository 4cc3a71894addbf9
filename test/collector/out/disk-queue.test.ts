import { spawn } from "node:child_process";
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { silentLog } from "../../../collector/log.ts";
import type { Batch } from "../../../collector/out/batch.ts";
import { DiskQueue } from "../../../collector/out/disk-queue.ts";
import { MemoryQueue, type Queue } from "../../../collector/out/queue.ts";
import { random } from "../../property/random.ts";

const MAX_BYTES = 64 * 1024;
let folder = "";
let dropped: Record<string, number> = {};
const open: Queue[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "meshtally-queue-"));
  dropped = {};
});
afterEach(async () => {
  for (const queue of open.splice(0)) await queue.close().catch(() => {});
  rmSync(folder, { recursive: true, force: true });
});

const onDropped = (reason: string, samples: number) => {
  dropped[reason] = (dropped[reason] ?? 0) + samples;
};

async function openQueue(maxBytes = MAX_BYTES, format = "test"): Promise<DiskQueue> {
  const queue = await DiskQueue.open({ folder, maxBytes, format, onDropped, log: silentLog });
  open.push(queue);
  return queue;
}

/** What a process that is killed leaves: all is written, nothing closed. The lock goes with the process. */
async function kill(queue: DiskQueue): Promise<void> {
  open.splice(open.indexOf(queue), 1);
  await new Promise((done) =>
    (queue as unknown as { lock: { close(done: () => void): void } }).lock.close(() => done(null)),
  );
}

const batch = (number: number, length = 1000, samples = 10): Batch => ({
  body: Buffer.alloc(length, number),
  samples,
  collectedMs: 1_767_000_000_000 + number,
});

/** Takes all that waits; by the first byte of each body. */
async function drain(queue: Queue): Promise<number[]> {
  const numbers: number[] = [];
  for (let next = await queue.peek(); next !== null; next = await queue.peek()) {
    expect(new Set(next.body).size).toBe(1);
    numbers.push(next.body[0] as number);
    await queue.shift();
  }
  return numbers;
}

const segments = () => readdirSync(folder).filter((name) => name.endsWith(".test"));

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

describe.each([
  ["on disk", (maxBytes: number) => openQueue(maxBytes)],
  ["in memory", async (maxBytes: number) => new MemoryQueue(maxBytes, onDropped)],
])("a queue %s", (_, make) => {
  it("gives what it took, in order, and says how much waits", async () => {
    const queue = await make(MAX_BYTES);
    expect(await queue.peek()).toBeNull();
    for (const number of range(1, 41)) await queue.push(batch(number));
    expect(queue.samples).toBe(400);
    expect(queue.bytes).toBeGreaterThanOrEqual(40_000);
    expect(await queue.peek()).toEqual(batch(1));
    expect(queue.oldestMs).toBe(batch(1).collectedMs);
    expect(await queue.peek()).toEqual(batch(1));
    expect(await drain(queue)).toEqual(range(1, 41));
    expect([queue.samples, queue.bytes, queue.oldestMs]).toEqual([0, 0, null]);
    expect(dropped).toEqual({});
  });

  it("lets the oldest go when it is full, and counts them; all others come, in order", async () => {
    const queue = await make(MAX_BYTES);
    for (const number of range(0, 200)) await queue.push(batch(number));
    expect(queue.bytes).toBeLessThanOrEqual(MAX_BYTES);
    const rest = await drain(queue);
    expect(rest).toEqual(range(200 - rest.length, 200));
    expect(rest.length).toBeGreaterThan(50);
    expect(dropped).toEqual({ queue_full: 10 * (200 - rest.length) });
  });

  it("does not count as dropped what is being sent just then", async () => {
    const queue = await make(MAX_BYTES);
    await queue.push(batch(0));
    expect(await queue.peek()).toEqual(batch(0));
    for (const number of range(1, 200)) await queue.push(batch(number));
    expect(await queue.peek()).toEqual(batch(0)); // still the one that is being sent
    await queue.shift();
    const rest = await drain(queue);
    expect(10 + rest.length * 10 + (dropped["queue_full"] ?? 0)).toBe(2000);
    expect(rest).toEqual(range(200 - rest.length, 200));
  });

  it("refuses what is longer than all of it", async () => {
    const queue = await make(MAX_BYTES);
    await queue.push(batch(1));
    await queue.push(batch(2, MAX_BYTES + 1, 7));
    expect(dropped).toEqual({ queue_full: 7 });
    expect(await drain(queue)).toEqual([1]);
  });
});

describe("a queue on disk", () => {
  it("goes on where a killed process was", async () => {
    const first = await openQueue();
    for (const number of range(1, 31)) await first.push(batch(number));
    for (const _ of range(0, 12)) {
      await first.peek();
      await first.shift();
    }
    await first.peek(); // was being sent
    await kill(first);
    const second = await openQueue();
    expect(second.samples).toBe(180);
    await second.push(batch(31));
    expect(await drain(second)).toEqual(range(13, 32));
    await second.close();
    expect(segments()).toEqual([]);
    expect(dropped).toEqual({});
  });

  it("keeps to its bound, and every sample is taken or counted as dropped, over random work and kills", async () => {
    const next = random(20260131);
    let queue = await openQueue();
    let [pushed, taken, took] = [0, -1, 0];
    for (const _ of range(0, 400)) {
      const dice = next();
      if (dice < 0.5) await queue.push(batch(pushed++ % 251, 200 + Math.floor(next() * 3000), 1));
      else if (dice < 0.98) {
        const found = await queue.peek();
        if (found === null) continue;
        const number = found.body[0] as number;
        if (taken >= 0) expect((number - taken + 251) % 251).toBeGreaterThan(0);
        taken = number;
        took++;
        await queue.shift();
      } else {
        await kill(queue);
        queue = await openQueue();
      }
      const onDisk = segments().reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
      expect(onDisk).toBeLessThanOrEqual(MAX_BYTES);
    }
    const rest = (await drain(queue)).length;
    expect(dropped).toEqual({ queue_full: pushed - took - rest });
  });

  it.each([
    ["within its header", 7, 1],
    ["within its body", 500, 10],
  ])("cuts off a record that was not written whole, %s", async (_, length, samples) => {
    const first = await openQueue();
    await first.push(batch(1));
    await first.push(batch(2));
    await first.push(batch(3));
    await kill(first);
    const [name] = segments();
    truncateSync(join(folder, name as string), 2 * 1020 + length);
    const second = await openQueue();
    await second.push(batch(4));
    expect(await drain(second)).toEqual([1, 2, 4]);
    expect(dropped).toEqual({ queue_corrupt: samples });
  });

  it("cuts off what is no record, and takes a cursor that is none for none", async () => {
    const first = await openQueue();
    await first.push(batch(1));
    await kill(first);
    appendFileSync(join(folder, segments()[0] as string), Buffer.alloc(5000, 0xff));
    writeFileSync(join(folder, "cursor"), "\0\0\0garbage");
    const second = await openQueue();
    expect(await drain(second)).toEqual([1]);
    expect(Object.keys(dropped)).toEqual(["queue_corrupt"]);
  });

  it("counts what is damaged while it waits, and goes on with the next file", async () => {
    const queue = await openQueue();
    for (const number of range(1, 9)) await queue.push(batch(number, 1000, 10)); // 4 records in a file
    const [name] = segments();
    const bytes = readFileSync(join(folder, name as string));
    bytes[1020 + 500] = 0xee; // in the second
    writeFileSync(join(folder, name as string), bytes);
    expect(await drain(queue)).toEqual([1, 5, 6, 7, 8]);
    expect(dropped).toEqual({ queue_corrupt: 30 });
  });

  it("leaves alone what is not its own", async () => {
    writeFileSync(join(folder, "00000001.other"), "x");
    writeFileSync(join(folder, "notes.txt"), "x");
    const queue = await openQueue();
    await queue.push(batch(1));
    expect(await drain(queue)).toEqual([1]);
    expect(readdirSync(folder)).toEqual(expect.arrayContaining(["00000001.other", "notes.txt"]));
  });

  it("is one process's", async () => {
    await openQueue();
    await expect(openQueue()).rejects.toThrow(/^cannot queue in .*: another process, or another receiver, uses it$/);
  });

  it("says so when its folder cannot be", async () => {
    writeFileSync(join(folder, "file"), "");
    const options = { maxBytes: MAX_BYTES, format: "test", onDropped, log: silentLog };
    await expect(DiskQueue.open({ folder: join(folder, "file/queue"), ...options })).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringContaining("ENOTDIR"),
    });
  });

  it("counts what it cannot write, and writes again when it can", async () => {
    const queue = await openQueue();
    await queue.push(batch(1));
    rmSync(folder, { recursive: true });
    for (const number of range(2, 8)) await queue.push(batch(number, 3000)); // new files cannot be made
    expect(dropped["queue_fault"]).toBeGreaterThan(0);
    mkdirSync(folder);
    await queue.push(batch(9));
    expect((await drain(queue)).at(-1)).toBe(9);
  });
});

it("a process that is killed while it writes loses nothing that was pushed", { timeout: 30_000 }, async () => {
  const script = `
    import { DiskQueue } from ${JSON.stringify(resolve(import.meta.dirname, "../../../build/collector/out/disk-queue.js"))};
    const log = { info() {}, warn() {}, error() {} };
    const queue = await DiskQueue.open({ folder: ${JSON.stringify(folder)}, maxBytes: 1e8, format: "test", onDropped() {}, log });
    for (let i = 0; ; i++) {
      await queue.push({ body: Buffer.alloc(20_000, i % 251), samples: 1, collectedMs: i });
      process.stdout.write(i + "\\n");
    }`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  await new Promise<void>((done) => {
    child.stdout.on("data", (chunk) => {
      output += chunk;
      if (output.length > 1000) child.kill("SIGKILL");
    });
    child.on("close", () => done());
  });
  const last = Number(output.trim().split("\n").at(-1));
  const queue = await openQueue(1e8);
  const found = await drain(queue);
  expect(found.length).toBeGreaterThanOrEqual(last + 1);
  expect(found).toEqual(range(0, found.length).map((i) => i % 251));
});
