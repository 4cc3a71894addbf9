// Which entries are kept: a row for each rule and for each of their edges.

import { describe, expect, it } from "vitest";
import type { LoggedCall } from "../../../collector/analysis/logged-call.ts";
import { MinuteQuota } from "../../../collector/logs/quota.ts";
import { type LogRuleSettings, LogRules } from "../../../collector/logs/rules.ts";
import type { LogReason } from "../../../collector/self.ts";

const DEFAULTS: LogRuleSettings = {
  errors: true,
  flagged: true,
  tokens: 10_000,
  slowMs: 1000,
  sample: 0,
  perMinute: 6000,
};
const ALL_OFF: LogRuleSettings = { ...DEFAULTS, errors: false, flagged: false, tokens: 0, slowMs: 0 };

function call(changes: Partial<LoggedCall> = {}): LoggedCall {
  const fine = {
    protocol: "http",
    code: 200,
    grpcStatus: null,
    flags: [],
    latencyMs: 5,
    tokens: 0,
    success: true,
  } as const;
  return { ...fine, nowMs: 0, ...changes };
}

type Changes = Partial<LoggedCall> & { readonly service?: string };

function rules(settings: Partial<LogRuleSettings> = {}, random = () => 0.5) {
  const dropped: LogReason[] = [];
  const all = new LogRules({ ...DEFAULTS, ...settings }, (reason) => dropped.push(reason), random);
  return { dropped, keeps: ({ service = "web", ...changes }: Changes) => all.keeps(call(changes), service) };
}

describe("by default", () => {
  it.each<[string, Partial<LoggedCall>, LogReason | null]>([
    ["an answer", {}, null],
    ["a redirect", { code: 399 }, null],
    ["a client's fault", { code: 400 }, "error"],
    ["a server's fault", { code: 503 }, "error"],
    ["no answer", { code: 0 }, "error"],
    ["a gRPC status", { protocol: "grpc", grpcStatus: 14 }, "error"],
    ["gRPC's OK", { protocol: "grpc", grpcStatus: 0 }, null],
    ["an answer that broke off", { flags: ["DC"], success: false }, "error"],
    ["an error with a flag", { code: 503, flags: ["UF"] }, "error"],
    ["an answer with a flag", { flags: ["DI"] }, "flagged"],
    ["one of many tokens", { tokens: 10_000, latencyMs: 5000 }, "tokens"],
    ["one of not so many", { tokens: 9999 }, null],
    ["an error of many tokens", { code: 500, tokens: 10_000 }, "error"],
    ["a slow one", { latencyMs: 1000 }, "slow"],
    ["one that is nearly slow", { latencyMs: 999 }, null],
    ["one that does not say how long it took", { latencyMs: null }, null],
    ["a slow error", { code: 500, latencyMs: 5000 }, "error"],
    ["a connection", { protocol: "tcp", code: 0 }, null],
    ["a connection with a flag", { protocol: "tcp", code: 0, flags: ["UF"], success: false }, "flagged"],
  ])("%s: %j -> %s", (_, changes, reason) => expect(rules().keeps(changes)).toBe(reason));
});

describe("a rule that is off", () => {
  it.each<[string, Partial<LogRuleSettings>, Partial<LoggedCall>, LogReason | null]>([
    ["errors", { errors: false }, { code: 503 }, null],
    ["errors, and a flag", { errors: false }, { code: 503, flags: ["UF"] }, "flagged"],
    ["errors, and slow", { errors: false }, { code: 503, latencyMs: 2000 }, "slow"],
    ["flagged", { flagged: false }, { flags: ["DI"] }, null],
    ["tokens", { tokens: 0 }, { tokens: 1e9 }, null],
    ["slow", { slowMs: 0 }, { latencyMs: 1e9 }, null],
    ["all", ALL_OFF, { code: 0, flags: ["UF"], latencyMs: 1e9, success: false }, null],
  ])("%s: %j %j -> %s", (_, settings, changes, reason) => expect(rules(settings).keeps(changes)).toBe(reason));
});

describe("a sample", () => {
  it.each([
    [1, 0.999, "sample"],
    [10, 0.0999, "sample"],
    [10, 0.1, null],
    [0, 0, null],
  ])("one in %i, when the die shows %f: %s", (sample, die, reason) => {
    expect(rules({ sample }, () => die).keeps({})).toBe(reason);
    expect(rules({ sample }, () => die).keeps({ protocol: "tcp", code: 0 })).toBe(reason);
  });

  it("is of those that no other rule keeps", () => {
    expect(rules({ sample: 1 }).keeps({ code: 503 })).toBe("error");
  });
});

describe("a minute's share", () => {
  it("is each key's own: rule, service, and code or flags", () => {
    const { keeps, dropped } = rules({ perMinute: 2 });
    const five = (changes: Changes) => Array.from({ length: 5 }, () => keeps(changes)).filter(Boolean).length;
    expect(five({ code: 503 })).toBe(2);
    expect(five({ code: 500 })).toBe(2);
    expect(five({ code: 503, service: "api" })).toBe(2);
    expect(five({ code: 503, flags: ["UF"] })).toBe(2);
    expect(five({ code: 504, flags: ["UF"] })).toBe(0); // with flags the code is no part of it
    expect(five({ code: 503, flags: ["UF", "URX"] })).toBe(2);
    expect(five({ latencyMs: 1000 })).toBe(2);
    expect(dropped.filter((reason) => reason === "error")).toHaveLength(3 * 5 + 5);
    expect(dropped.filter((reason) => reason === "slow")).toHaveLength(3);
  });

  it("begins anew with the clock's minute, for all together", () => {
    const { keeps } = rules({ perMinute: 1 });
    const at = (nowMs: number) => keeps({ code: 503, nowMs });
    expect([at(59_000), at(59_999), at(60_000), at(119_999), at(120_000)]).toEqual([
      "error",
      null,
      "error",
      null,
      "error",
    ]);
  });

  it("is shared by keys beyond a bound, so that nobody's names grow our memory", () => {
    const quota = new MinuteQuota(1, 3);
    const taken = ["a", "b", "c", "d", "e", "a", "f"].filter((key) => quota.takes(key, 0));
    expect(taken).toEqual(["a", "b", "c", "d"]);
    expect(quota.takes("e", 60_000)).toBe(true);
  });
});
