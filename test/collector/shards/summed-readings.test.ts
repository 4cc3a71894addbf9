// Sums over threads that are asked at moments of their own.

import { expect, it, vi } from "vitest";
import { CollectorError } from "../../../collector/error.ts";
import { FIELDS, Field } from "../../../collector/indicators/measures.ts";
import type { SubjectSums } from "../../../collector/indicators/reading.ts";
import { type Log, silentLog } from "../../../collector/log.ts";
import { DEFAULT_SHAPES } from "../../../collector/series/shape.ts";
import type { Question } from "../../../collector/shards/messages.ts";
import { SummedReadings } from "../../../collector/shards/summed-readings.ts";
import type { Thread } from "../../../collector/shards/thread.ts";

const TIMES = { lateAfterMs: 60_000, expireAfterMs: 0 };

function reviews(calls: number): SubjectSums {
  const totals = new Float64Array(FIELDS);
  totals[Field.Calls] = calls;
  return { kind: "service", labels: ["reviews", "server"], namespace: null, totals, flags: new Map(), windows: [] };
}

/** What a thread holds, and what it let go of since it was asked last. */
class FakeThread {
  held: SubjectSums[] = [];
  retired: SubjectSums[] = [];

  async ask({ kind }: Question) {
    const { retired } = this;
    this.retired = [];
    return kind === "living" ? { living: this.held, retired } : { subjects: this.held, retired };
  }
}

it("counters do not go down while one thread lets go of a subject that another begins anew", async () => {
  const [one, other] = [new FakeThread(), new FakeThread()];
  const readings = new SummedReadings([one, other] as unknown as Thread[], TIMES, DEFAULT_SHAPES, silentLog);
  const calls = async () => {
    const subjects = await readings.subjects({ kind: "service", spans: [], filter: [] });
    return subjects.map(({ totals }) => totals[Field.Calls]);
  };
  one.retired = [reviews(3)];
  other.held = [reviews(5)];
  expect(await calls()).toEqual([8]);
  other.held = [];
  other.retired = [reviews(5)];
  readings.prune(); // the one has not begun it yet
  await readings.accounts().catch(() => {}); // behind it
  one.held = [reviews(1)];
  expect(await calls()).toEqual([9]);
});

it("counters begin at 0 when no thread had held the subject any more", async () => {
  const thread = new FakeThread();
  const readings = new SummedReadings([thread] as unknown as Thread[], TIMES, DEFAULT_SHAPES, silentLog);
  thread.retired = [reviews(3)];
  for (let i = 0; i < 2; i++) {
    readings.prune();
    await readings.accounts().catch(() => {});
  }
  thread.held = [reviews(1)];
  const [sum] = await readings.subjects({ kind: "service", spans: [], filter: [] });
  expect(sum?.totals[Field.Calls]).toBe(1);
});

it("what was restored is waited for as long as a thread takes to tell it, and the log is told", async () => {
  vi.useFakeTimers();
  try {
    const told: string[] = [];
    const log: Log = { ...silentLog, info: (_fields, message) => told.push(message) };
    let answer: () => void = () => {};
    const ask = () => new Promise((resolve) => (answer = () => resolve([])));
    const readings = new SummedReadings([{ ask }] as unknown as Thread[], TIMES, DEFAULT_SHAPES, log);
    let isRestored = false;
    const restored = readings.restored().then(() => {
      isRestored = true;
    });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(isRestored).toBe(false);
    expect(told).toEqual(Array.from({ length: 12 }, () => "waiting for threads to tell what was restored"));
    answer();
    await restored;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(told).toHaveLength(12);
  } finally {
    vi.useRealTimers();
  }
});

it("what was restored is waited for no longer than a thread lives", async () => {
  const died = new CollectorError("internal", "thread 0 died");
  const readings = new SummedReadings(
    [{ ask: () => Promise.reject(died) }] as unknown as Thread[],
    TIMES,
    DEFAULT_SHAPES,
    silentLog,
  );
  await expect(readings.restored()).rejects.toBe(died);
});
