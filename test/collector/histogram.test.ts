import { describe, expect, it } from "vitest";
import { binMiddle, DEFAULT_BOUNDS, quantile } from "../../collector/series/histogram.ts";
import { HISTOGRAM_BOUNDS } from "../../collector/vocabulary.ts";
import { BUCKET_COUNT } from "../fixtures/counts.ts";

// What Envoy 1.40.0 (and 1.39.3) showed for a wasm histogram into which the one value was recorded three times:
// the first `le` that held it, and its `_sum`.
const SEEN_ON_ENVOY: readonly [value: number, le: number, sumOfThree: number][] = [
  [0, 0.5, 0],
  [1, 1, 3.1428571428571432],
  [2, 5, 6.146341463414634],
  [4, 5, 12.148148148148149],
  [5, 5, 15.14851485148515],
  [6, 10, 18.14876033057851],
  [9, 10, 27.149171270718234],
  [10, 10, 31.42857142857143],
  [11, 25, 34.43478260869565],
  [24, 25, 73.46938775510203],
  [25, 25, 76.47058823529412],
  [26, 50, 79.47169811320755],
  [99, 100, 298.4924623115578],
  [100, 100, 314.2857142857143],
  [101, 100, 314.2857142857143],
  [105, 100, 314.2857142857143],
  [109, 100, 314.2857142857143],
  [110, 250, 344.34782608695656],
  [199, 250, 584.6153846153845],
  [249, 250, 734.6938775510204],
  [250, 250, 764.7058823529412],
  [251, 250, 764.7058823529412],
  [259, 250, 764.7058823529412],
  [260, 500, 794.7169811320755],
  [499, 500, 1484.848484848485],
  [500, 500, 1514.8514851485147],
  [999, 1000, 2984.924623115578],
  [1000, 1000, 3142.857142857143],
  [1234, 2500, 3744],
  [3599999, 3600000, 10647887.323943662],
  [3600000, 3600000, 10947945.205479452],
  [3600001, 3600000, 10947945.205479452],
  [12345678, Number.POSITIVE_INFINITY, 37440000],
];

describe("bucketIndex and binMiddle", () => {
  it.each(SEEN_ON_ENVOY)("count %d as Envoy does: le=%d, three of it sum to %d", (value, le, sumOfThree) => {
    expect(HISTOGRAM_BOUNDS[DEFAULT_BOUNDS.bucketIndex(value)] ?? Number.POSITIVE_INFINITY).toBe(le);
    expect(3 * binMiddle(value)).toBeCloseTo(sumOfThree, 6);
  });

  it("never put a value below its bucket's lower neighbour, and stay within 5 % of the value", () => {
    for (let value = 1; value < 4_000_000; value += 1 + Math.floor(value / 50)) {
      const index = DEFAULT_BOUNDS.bucketIndex(value);
      if (index > 0) expect(value).toBeGreaterThan(HISTOGRAM_BOUNDS[index - 1] as number);
      expect(Math.abs(binMiddle(value) - value) / value).toBeLessThan(0.05);
    }
  });
});

describe("quantile", () => {
  const cumulative = (...perBucket: number[]): number[] => {
    let sum = 0;
    return Array.from({ length: BUCKET_COUNT }, (_, index) => {
      sum += perBucket[index] ?? 0;
      return sum;
    });
  };

  it("is null for an empty histogram", () => {
    expect(quantile(0.5, HISTOGRAM_BOUNDS, cumulative(), 0)).toBeNull();
  });

  it.each([
    ["the middle of the only bucket", 0.5, cumulative(0, 0, 10), 10, 3],
    ["the first bucket starts at 0", 0.5, cumulative(10), 10, 0.25],
    ["an empty bucket between two full ones is skipped", 0.5, cumulative(0, 0, 5, 0, 5), 10, 5],
    ["the next bucket when the rank is just above", 0.9, cumulative(0, 0, 5, 0, 5), 10, 22],
    ["the last bound when the rank lies beyond it", 0.99, cumulative(1), 10, 3600000],
  ])("gives %s", (_claim, q, buckets, count, expected) => {
    expect(quantile(q, HISTOGRAM_BOUNDS, buckets, count)).toBeCloseTo(expected, 9);
  });
});
