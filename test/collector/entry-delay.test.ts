import { expect, test } from "vitest";
import { EntryDelay } from "../../collector/receiver/entry-delay.ts";

const MINUTE_MS = 60_000;

test("says the least and the most of this minute and the one before", () => {
  const delay = new EntryDelay();
  expect(delay.read(0)).toBeNull();
  delay.add(200, 1200, 1000);
  delay.add(300, 900, 2000);
  delay.add(Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 2500);
  expect(delay.read(3000)).toEqual({ leastMs: 200, mostMs: 1200 });
  delay.add(-700, 100, MINUTE_MS + 1);
  expect(delay.read(MINUTE_MS + 2)).toEqual({ leastMs: -700, mostMs: 1200 });
  expect(delay.read(2 * MINUTE_MS)).toEqual({ leastMs: -700, mostMs: 100 });
  expect(delay.read(3 * MINUTE_MS)).toBeNull();
});

test("forgets when our own clock is set back", () => {
  const delay = new EntryDelay();
  delay.add(5, 6, 10 * MINUTE_MS);
  expect(delay.read(MINUTE_MS)).toBeNull();
});
