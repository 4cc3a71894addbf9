import { expect, test, vi } from "vitest";
import type { Log } from "../../collector/log.ts";
import { LogLimit } from "../../collector/receiver/log-limit.ts";

function recording() {
  const lines: unknown[] = [];
  const write = (level: string) => (fields: object, message: string) => {
    lines.push({ level, message, ...fields });
  };
  const log: Log = { info: write("info"), warn: write("warn"), error: write("error") };
  return { lines, log };
}

test("the first event of a kind is written at once, then one per ten seconds, saying how many were left out", () => {
  const { lines, log } = recording();
  let nowMs = 1000;
  const limit = new LogLimit(log, () => nowMs);
  for (let i = 0; i < 5; i++) expect(limit.warn("a", { i }, "dropped")).toBe(i === 0);
  nowMs += 9_999;
  expect(limit.warn("a", { i: 5 }, "dropped")).toBe(false);
  nowMs += 1;
  expect(limit.warn("a", { i: 6 }, "dropped")).toBe(true);
  expect(lines).toEqual([
    { level: "warn", message: "dropped", i: 0, suppressed: 0 },
    { level: "warn", message: "dropped", i: 6, suppressed: 5 },
  ]);
});

test("a clock that is set back does not silence a kind", () => {
  vi.useFakeTimers();
  const { lines, log } = recording();
  const limit = new LogLimit(log);
  limit.warn("a", {}, "dropped");
  vi.setSystemTime(Date.now() - 3_600_000);
  vi.advanceTimersByTime(10_000);
  limit.warn("a", {}, "dropped");
  vi.useRealTimers();
  expect(lines).toHaveLength(2);
});

test("kinds do not silence each other", () => {
  const { lines, log } = recording();
  const limit = new LogLimit(log, () => 0);
  limit.warn("a", {}, "one");
  limit.error("b", {}, "two");
  expect(lines).toHaveLength(2);
});
