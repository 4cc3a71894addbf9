import { describe, expect, test } from "vitest";
import { ArgumentError, parseDemoArguments } from "../../demo/arguments.ts";

describe("parseDemoArguments", () => {
  test("runs until Ctrl-C with 20 requests a second by default", () => {
    expect(parseDemoArguments([])).toEqual({ help: false, forMs: null, requestsPerSecond: 20 });
  });

  test.each([
    ["30s", 30_000],
    ["1.5s", 1500],
    ["2m", 120_000],
    ["250ms", 250],
    ["1h", 3_600_000],
  ])("reads --for %s", (text, ms) => {
    expect(parseDemoArguments(["--for", text]).forMs).toBe(ms);
    expect(parseDemoArguments([`--for=${text}`]).forMs).toBe(ms);
  });

  test("reads --rps, zero included", () => {
    expect(parseDemoArguments(["--rps", "0"]).requestsPerSecond).toBe(0);
    expect(parseDemoArguments(["--rps", "2.5"]).requestsPerSecond).toBe(2.5);
  });

  test.each([
    [["--for", "30"], /--for "30": expected a duration/],
    [["--for", "0s"], /expected a duration/],
    [["--for", "soon"], /expected a duration/],
    [["--rps", "many"], /--rps "many": expected a number from 0 to 1000/],
    [["--rps", ""], /expected a number/],
    [["--rps=-1"], /expected a number/],
    [["--fro", "30s"], /--fro/],
    [["30s"], /30s/],
  ])("refuses %j", (args, message) => {
    expect(() => parseDemoArguments(args)).toThrow(ArgumentError);
    expect(() => parseDemoArguments(args)).toThrow(message);
  });
});
