import { describe, expect, it } from "vitest";
import { ApdexThresholds } from "../../collector/analysis/apdex.ts";
import { apdexOf, type Satisfaction, satisfactionOf } from "../../collector/indicators/satisfaction.ts";

const T = 500e6;

describe("satisfactionOf", () => {
  it.each<[number, boolean, Satisfaction]>([
    [0, true, "satisfied"],
    [T - 1, true, "satisfied"],
    [T, true, "satisfied"],
    [T + 1, true, "tolerating"],
    [4 * T - 1, true, "tolerating"],
    [4 * T, true, "tolerating"],
    [4 * T + 1, true, "frustrated"],
    [Number.MAX_VALUE, true, "frustrated"],
    [0, false, "frustrated"],
    [T, false, "frustrated"],
    [4 * T, false, "frustrated"],
  ])("%d ns, success %s: %s", (latencyNs, isSuccess, expected) => {
    expect(satisfactionOf(latencyNs, isSuccess, T)).toBe(expected);
  });

  it("is exact to the nanosecond at the longest threshold, a week", () => {
    const week = 168 * 3_600_000 * 1e6;
    expect(satisfactionOf(4 * week, true, week)).toBe("tolerating");
    expect(satisfactionOf(4 * week + 1, true, week)).toBe("frustrated");
  });
});

describe("apdexOf", () => {
  it.each([
    [170, 20, 10, 0.9],
    [1, 0, 0, 1],
    [0, 1, 0, 0.5],
    [0, 0, 1, 0],
    [0, 0, 0, null],
  ])("%d satisfied, %d tolerating, %d frustrated: %s", (satisfied, tolerating, frustrated, expected) => {
    expect(apdexOf({ satisfied, tolerating, frustrated })).toBe(expected);
  });

  it("of classified requests is the worked example", () => {
    const counts = { satisfied: 0, tolerating: 0, frustrated: 0 };
    for (let i = 0; i < 200; i++) counts[satisfactionOf(i < 170 ? T : 2 * T, i < 190, T)]++;
    expect(counts).toEqual({ satisfied: 170, tolerating: 20, frustrated: 10 });
    expect(apdexOf(counts)).toBe(0.9);
  });
});

describe("ApdexThresholds", () => {
  const thresholds = new ApdexThresholds({
    thresholdNs: T,
    services: [
      { name: "reviews", thresholdNs: 1 },
      { namespace: "prod", name: ".*", thresholdNs: 2 },
      { name: "r.*", thresholdNs: 3 },
    ],
  });
  it.each([
    ["default", "reviews", 1],
    ["prod", "reviews", 1],
    ["default", "reviews.default", 1],
    ["prod", "web", 2],
    ["prod", "ratings", 2],
    ["default", "ratings", 3],
    ["default", "web", T],
    [null, null, T],
    [null, "web", T],
    ["prod", null, 2],
    ["default", "Reviews", T],
  ])("of %s, %s is the first that matches", (namespace, service, expected) => {
    expect(thresholds.of(namespace, service)).toBe(expected);
    expect(thresholds.of(namespace, service), "remembered").toBe(expected);
  });
});
