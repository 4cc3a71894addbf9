// The command line of bench:collector.

import { expect, test } from "vitest";
import { readArguments } from "./arguments.ts";

test("without arguments all is measured", () => {
  const { only, ...others } = readArguments([]);
  expect(only.test("collector, derived, 4 streams")).toBe(true);
  expect(others).toEqual({
    rounds: 7,
    seconds: 5,
    threads: undefined,
    labelSets: 10_000,
    isProfiled: false,
    json: undefined,
  });
});

test("arguments are read", () => {
  const args = [
    "--rounds",
    "2",
    "--seconds",
    "1",
    "--only",
    "^Go",
    "--threads",
    "2",
    "--label-sets",
    "500",
    "--profile",
    "--json",
    "out.json",
  ];
  const { only, ...others } = readArguments(args);
  expect(only).toEqual(/^Go/);
  expect(others).toEqual({ rounds: 2, seconds: 1, threads: 2, labelSets: 500, isProfiled: true, json: "out.json" });
});

test.each([
  [["--rounds", "0"], "--rounds 0: expected a whole number from 1"],
  [["--seconds", "soon"], "--seconds soon: expected a whole number from 1"],
  [["--threads", "1.5"], "--threads 1.5: expected a whole number from 1"],
  [["--label-sets", "0"], "--label-sets 0: expected a whole number from 1"],
  [["--only", "("], "Invalid regular expression"],
  [["--fast"], "Unknown option '--fast'"],
])("%j is refused", (args, message) => {
  expect(() => readArguments(args)).toThrow(message);
});
