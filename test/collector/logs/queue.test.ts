// Records that wait: in order, within bounds, each taken off once.

import { expect, it } from "vitest";
import { LogQueue } from "../../../collector/logs/log-queue.ts";
import { recordOf } from "./records.ts";

const small = recordOf({ body: "", text: "" });

function filled(count: number, maxRecords = 100, maxBytes = 1_000_000): LogQueue {
  const queue = new LogQueue(maxRecords, maxBytes);
  for (let i = 1; i <= count; i++) queue.add(small, BigInt(i));
  return queue;
}

const ids = (records: readonly { id: bigint }[]) => records.map(({ id }) => Number(id));

it("takes as many as there is room for, by number and by size", () => {
  expect(filled(150).length).toBe(100);
  const queue = filled(0, 100, 10_000);
  expect([
    queue.add(recordOf({ body: "x".repeat(8000) }), 1n),
    queue.add(recordOf({ body: "x".repeat(2000) }), 2n),
  ]).toEqual([true, false]);
  queue.removeThrough(1n);
  expect(queue.add(recordOf({ body: "x".repeat(8000) }), 2n)).toBe(true);
});

it("gives those that wait longest, within a batch's bounds, one at least", () => {
  const queue = filled(10);
  expect(ids(queue.head(3, 1_000_000))).toEqual([1, 2, 3]);
  expect(ids(queue.head(100, 1_000_000))).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  expect(ids(queue.head(100, 2500))).toEqual([1, 2]);
  expect(ids(queue.head(100, 1))).toEqual([1]);
  expect(filled(0).head(100, 1)).toEqual([]);
});

it("takes off what is stored, and no more", () => {
  const queue = filled(10);
  expect(ids(queue.removeThrough(0n))).toEqual([]);
  expect(ids(queue.removeThrough(4n))).toEqual([1, 2, 3, 4]);
  expect(ids(queue.head(100, 1_000_000))).toEqual([5, 6, 7, 8, 9, 10]);
  expect(ids(queue.removeThrough(99n))).toHaveLength(6);
  expect(queue.length).toBe(0);
});

it("numbers what waits anew", () => {
  const queue = filled(3);
  queue.renumber(100n);
  expect(ids(queue.head(100, 1_000_000))).toEqual([100, 101, 102]);
});
