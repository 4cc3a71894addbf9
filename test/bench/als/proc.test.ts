// Reading /proc, on this very process.

import { expect, test } from "vitest";
import { coreTimes, cpuSeconds, divideCores, memoryOf, onCores } from "./proc.ts";

const { pid, memoryUsage, cpuUsage } = process;

test("CPU time and memory are those that Node knows itself", () => {
  const { user, system } = cpuUsage();
  expect(Math.abs(cpuSeconds(pid) - (user + system) / 1e6)).toBeLessThan(0.2);
  const { rssBytes, peakBytes } = memoryOf(pid);
  expect(rssBytes / memoryUsage.rss()).toBeCloseTo(1, 0);
  expect(peakBytes).toBeGreaterThanOrEqual(rssBytes);
});

test("a core is busy at most all the time", () => {
  const { busy, stolen, all } = coreTimes([0]);
  expect(busy).toBeGreaterThan(0);
  expect(busy + stolen).toBeLessThanOrEqual(all);
  expect(coreTimes([]).all).toBe(0);
});

test("the load keeps off the server's core wherever there is another one", () => {
  const { server, load, isPinned } = divideCores(1);
  if (isPinned) {
    expect(server).toHaveLength(1);
    expect(load).not.toContain(server[0]);
  } else {
    expect(load).toEqual(server);
  }
});

test("a command is pinned, or left as it is", () => {
  expect(onCores([1, 2], ["node", "main.js"], true)).toEqual(["taskset", "-c", "1,2", "node", "main.js"]);
  expect(onCores([0], ["node", "main.js"], false)).toEqual(["node", "main.js"]);
});
