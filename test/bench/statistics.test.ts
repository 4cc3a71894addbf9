// The statistics of the benches, with fixed data and a fixed seed.

import { expect, test } from "vitest";
import { randomNumbers } from "../host/random.ts";
import { isWithin, median, medianInterval, ratio, ratioInterval } from "./statistics.ts";

const RANGE = 1_000_000;

function seeded(seed: number): () => number {
  const numbers = randomNumbers(seed);
  return () => numbers(RANGE) / RANGE;
}

/** 40 rounds around `center`, each up to `spread` away. */
function rounds(center: number, spread: number, seed: number): number[] {
  const random = seeded(seed);
  return Array.from({ length: 40 }, () => center + spread * (2 * random() - 1));
}

test("the median is the middle value, or the mean of the two, and leaves the data alone", () => {
  const values = [9, 1, 5];
  expect(median(values)).toBe(5);
  expect(values).toEqual([9, 1, 5]);
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([])).toBeNaN();
});

test("the interval of the median holds the middle values, and no outlier", () => {
  const values = [...Array.from({ length: 41 }, (_, index) => 80 + index), 100_000];
  const { low, high } = medianInterval(values, seeded(1));
  // The order statistics of a 95 % interval at 42 values are the 15th and the 28th.
  expect(low).toBeGreaterThanOrEqual(92);
  expect(low).toBeLessThanOrEqual(96);
  expect(high).toBeGreaterThanOrEqual(105);
  expect(high).toBeLessThanOrEqual(109);
});

test("more rounds of the same noise narrow the interval", () => {
  const few = rounds(100, 30, 2);
  const many = Array.from({ length: 9 }, (_, index) => rounds(100, 30, 3 + index)).flat();
  const width = (values: readonly number[]) => {
    const { low, high } = medianInterval(values, seeded(4));
    return high - low;
  };
  expect(width(many)).toBeLessThan(width(few) / 2);
});

test("the ratio is that of the medians", () => {
  expect(ratio([10, 20, 300], [5, 1, 40])).toBe(4);
});

test("the interval of a ratio holds it", () => {
  const values = rounds(30, 5, 5);
  const base = rounds(10, 2, 6);
  const { low, high } = ratioInterval(values, base, seeded(7));
  expect(low).toBeLessThan(ratio(values, base));
  expect(high).toBeGreaterThan(ratio(values, base));
  expect(low).toBeGreaterThan(2);
  expect(high).toBeLessThan(4);
});

test("noise that both variants of a round share does not widen the interval of their ratio", () => {
  const base = rounds(10, 5, 8);
  const { low, high } = ratioInterval(
    base.map((value) => 2 * value),
    base,
    seeded(9),
  );
  expect([low, high]).toEqual([2, 2]);
});

test("an interval is precise by half its width", () => {
  expect(isWithin(0.1, 10, { low: 9.5, high: 11.5 })).toBe(true);
  expect(isWithin(0.1, 10, { low: 9, high: 11.5 })).toBe(false);
  expect(isWithin(0.1, -10, { low: -10, high: -10 + 0.1 })).toBe(false);
});
