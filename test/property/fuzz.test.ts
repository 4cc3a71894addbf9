// A slice of the fuzz (npm run fuzz:collector), the same each time: what a million messages show, a few thousand show in small.

import { describe, expect, test } from "vitest";
import { heldBy } from "../fuzz/bounds.ts";
import { Fuzz, FuzzFailure } from "../fuzz/fuzz.ts";
import { MessagePath } from "../fuzz/path.ts";
import { SLOW_INPUTS, timeOf } from "../fuzz/slow-inputs.ts";

const SEED = 20_260_131;
const MESSAGES = 4000;

test(`${MESSAGES} injured messages on their whole way: nothing throws, all is accounted for and bounded (seed ${SEED})`, async () => {
  const fuzz = new Fuzz(SEED);
  await fuzz.run(MESSAGES);
  fuzz.check();
  const outcomes = await fuzz.path.outcomes();
  // The injuries reach every kind of outcome, so that the sums mean something.
  for (const name of ["derived", "observation", "message_malformed", "entry_malformed", "kind_unknown", "not_final"]) {
    expect(outcomes[name], name).toBeGreaterThan(50);
  }
  expect(fuzz.path.sides).toBeGreaterThan(1000);
  expect(outcomes["internal"]).toBe(0);
});

test("a failure says the seed, and the message itself: both lead back to it", async () => {
  const fuzz = new Fuzz(SEED);
  fuzz.path.analyser.analyseHttp = () => {
    throw new Error("a defect");
  };
  const failure = await fuzz.run(MESSAGES).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(FuzzFailure);
  const [, index = "", hex = ""] = /fuzz:collector -- \d+ (\d+)\n\d+ bytes: ([0-9a-f]+)$/.exec(String(failure)) ?? [];
  expect(String(failure)).toContain(`seed ${SEED}, message ${Number(index) - 1}: Error: `);
  expect(String(failure)).toContain("Error: a defect");
  const again = new Fuzz(SEED);
  let last: Buffer = Buffer.alloc(0);
  await again.run(Number(index), (message) => {
    last = message;
  });
  expect(last.toString("hex")).toBe(hex);
});

describe("large messages of one thing take time by their bytes, not by the square of them:", () => {
  test.each([...SLOW_INPUTS])("%s", (_name, make) => {
    const path = new MessagePath();
    path.receive(make(2000)); // compiled
    const message = make(32_000);
    // 32 KB of anything take some 10 ms, of 16,000 TCP entries 300; what is quadratic takes minutes.
    expect(timeOf(() => path.receive(message), 1)).toBeLessThan(3000);
  });
});

test("every table that takes in names from outside can be filled to its bound, and holds no more", async () => {
  const fuzz = new Fuzz(SEED);
  const fills = await fuzz.fill();
  expect(fills.length).toBeGreaterThan(8);
  fuzz.check();
  await fuzz.run(200);
  // One more stands for all that found no room; of the cells, that is of every life.
  for (const { table, size, bound } of fuzz.path.fills()) expect(size, table).toBeLessThanOrEqual(bound * 1.1);
});

test("what is beyond its bound is found, wherever it lies", () => {
  const cache = { inner: [{ byKey: new Map(Array.from({ length: 20_000 }, (_, i) => [i, i])) }] };
  const { beyond, largest } = heldBy({ cache });
  expect(beyond).toEqual([{ path: "cache.inner.*.byKey", size: 20_000, bound: 16_384 }]);
  expect(largest).toHaveLength(2);
});
