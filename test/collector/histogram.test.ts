import { describe, expect, it } from "vitest";
import { binMiddle, DEFAULT_BOUNDS, HistogramBounds, quantile } from "../../collector/series/histogram.ts";
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

// The same with bounds of which no default is one (`histogram_bucket_settings`): what Envoy 1.40.0 showed for a histogram of the stats access
// logger into which the one value was recorded ten times. All ten were always in one bucket.
const ODD_BOUNDS = [
  0.1, 0.5, 0.75, 1, 1.5, 2, 7, 7.5, 7.55, 9.99, 10.5, 15, 33, 41, 57.5, 82, 99.9, 110, 111, 119.5, 123, 125, 220, 230,
  410, 820, 1100, 1234, 2200, 4100, 33333, 75000, 75500, 123456789, 1e12,
];
const SEEN_WITH_ODD_BOUNDS: readonly [le: number, values: readonly number[]][] = [
  [0.1, [0]],
  [1, [1]],
  [2, [2]],
  [7, [6, 7]],
  [9.99, [8, 9]],
  [10.5, [10]],
  [15, [11, 14, 15]],
  [33, [16, 32, 33]],
  [41, [34, 40, 41]],
  [57.5, [42, 57]],
  [82, [58, 81, 82]],
  [99.9, [83, 99]],
  [110, [100, 109]], // 110 itself is not: 11 / 10 * 100 is 110.00000000000001
  [111, [110, 111, 115, 119]],
  [123, [120, 122, 123, 124, 125, 129]],
  [220, [130, 219]], // likewise
  [230, [220, 225, 229, 230, 235, 239]],
  [410, [240, 409, 410, 415, 419]],
  [820, [420, 819, 820, 829]],
  [1100, [830, 1099, 1100, 1150, 1199]],
  [1234, [1200, 1234, 1299]],
  [2200, [2199, 2200, 2250, 2299]],
  [4100, [2300, 4099, 4100, 4199]],
  [33333, [4200, 33000, 33333, 33999]],
  [75000, [34000, 74999, 75000, 75499, 75500, 75999]],
  [123456789, [76000, 120000000, 123456789, 129999999]],
  [1e12, [130000000, 999999999999, 1000000000000, 1000000000001, 1099999999999]],
  [Number.POSITIVE_INFINITY, [1100000000000]],
];

describe("HistogramBounds that are not Envoy's own", () => {
  const bounds = new HistogramBounds(ODD_BOUNDS);

  it.each(SEEN_WITH_ODD_BOUNDS)("count under le=%d as Envoy does: %j", (le, values) => {
    for (const value of values) expect(bounds.upper[bounds.bucketIndex(value)] ?? Number.POSITIVE_INFINITY).toBe(le);
  });

  it("put a value into the bucket of the default bounds wherever both have that bound", () => {
    const both = new HistogramBounds([...ODD_BOUNDS, ...HISTOGRAM_BOUNDS].toSorted((a, b) => a - b));
    for (let value = 0; value < 4_000_000; value += 1 + Math.floor(value / 50)) {
      for (const bound of HISTOGRAM_BOUNDS) {
        const isUnder = DEFAULT_BOUNDS.bucketIndex(value) <= HISTOGRAM_BOUNDS.indexOf(bound);
        expect(both.bucketIndex(value) <= both.upper.indexOf(bound), `${value}, le ${bound}`).toBe(isUnder);
      }
    }
  });
});

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
