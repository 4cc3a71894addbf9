import { describe, expect, it, test } from "vitest";
import { LatencySketch, RELATIVE_ERROR } from "../../../collector/indicators/latency-sketch.ts";
import { random } from "../../property/random.ts";

const QUANTILES = [0, 0.01, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1];
const HOUR_US = 3_600_000_000;

function sketchOf(values: Iterable<number>): LatencySketch {
  const sketch = new LatencySketch();
  for (const value of values) sketch.add(value);
  return sketch;
}

/** The value of that rank itself. */
function exact(sorted: readonly number[], q: number): number {
  return sorted[Math.max(1, Math.ceil(q * sorted.length)) - 1] as number;
}

describe("quantiles are within 1 % of a value that was measured", () => {
  const draw = random(7);
  it.each<[string, () => number]>([
    ["uniform", () => 1 + draw() * 1e6],
    ["over nine decades", () => Math.exp(draw() * Math.log(HOUR_US))],
    ["log-normal", () => Math.exp(8 + 1.5 * (draw() + draw() + draw() + draw() - 2))],
    ["two peaks", () => (draw() < 0.9 ? 1500 : 2_000_000) * (0.9 + 0.2 * draw())],
    ["one value", () => 12_345],
    ["whole milliseconds", () => 1000 * Math.ceil(draw() * 40)],
  ])("%s", (_, next) => {
    const values = Array.from({ length: 20_000 }, next);
    const sketch = sketchOf(values);
    const sorted = [...values].sort((a, b) => a - b);
    for (const q of QUANTILES) {
      const ratio = (sketch.quantile(q) as number) / exact(sorted, q);
      expect(Math.abs(ratio - 1)).toBeLessThanOrEqual(RELATIVE_ERROR + 1e-9);
    }
    expect(sketch.count).toBe(values.length);
  });
});

test("sketches add up to the sketch of all values, whatever their ranges", () => {
  const draw = random(8);
  const parts = Array.from({ length: 12 }, (_, i) => Array.from({ length: 300 }, () => Math.exp(i + draw() * 3)));
  const merged = new LatencySketch();
  for (const part of parts) merged.merge(sketchOf(part));
  const whole = sketchOf(parts.flat());
  for (const q of QUANTILES) expect(merged.quantile(q)).toBe(whole.quantile(q));
  expect(merged.count).toBe(3600);
});

test("has no quantile of nothing, also after it was cleared", () => {
  const sketch = sketchOf([5, 6]);
  sketch.clear();
  expect([sketch.count, sketch.quantile(0.5), new LatencySketch().quantile(0.5)]).toEqual([0, null, null]);
  sketch.add(1000);
  expect(sketch.quantile(0.5)).toBeCloseTo(1000, -2);
});

it.each([
  [0, 1],
  [-5, 1],
  [0.3, 1],
  [Number.NaN, 1],
  [HOUR_US * 1000, HOUR_US],
  [Number.POSITIVE_INFINITY, HOUR_US],
])("%d us counts as %d us", (us, counted) => {
  const ratio = (sketchOf([us]).quantile(1) as number) / counted;
  expect(Math.abs(ratio - 1)).toBeLessThanOrEqual(RELATIVE_ERROR + 1e-9);
});
