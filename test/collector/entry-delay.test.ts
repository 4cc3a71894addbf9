import { expect, test } from "vitest";
import { addDelay, newDelay, readDelay } from "../../collector/receiver/entry-delay.ts";

const MINUTE_MS = 60_000;

test("says the least and the most of this minute and the one before", () => {
  const delay = newDelay();
  expect(readDelay(delay, 0)).toBeNull();
  addDelay(delay, 200, 1200, 1000);
  addDelay(delay, 300, 900, 2000);
  addDelay(delay, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 2500);
  expect(readDelay(delay, 3000)).toEqual({ leastMs: 200, mostMs: 1200 });
  addDelay(delay, -700, 100, MINUTE_MS + 1);
  expect(readDelay(delay, MINUTE_MS + 2)).toEqual({ leastMs: -700, mostMs: 1200 });
  expect(readDelay(delay, 2 * MINUTE_MS)).toEqual({ leastMs: -700, mostMs: 100 });
  expect(readDelay(delay, 3 * MINUTE_MS)).toBeNull();
});

test("forgets when our own clock is set back", () => {
  const delay = newDelay();
  addDelay(delay, 5, 6, 10 * MINUTE_MS);
  expect(readDelay(delay, MINUTE_MS)).toBeNull();
});
