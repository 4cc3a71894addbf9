import { describe, expect, it } from "vitest";
import {
  type CodeCount,
  codeOf,
  codePattern,
  HEALTHS,
  type Health,
  type RateRule,
  SuccessPolicies,
  type ToleranceRule,
} from "../../collector/analysis/policy.ts";
import { DETECT_POINTS, type DetectPoint } from "../../collector/analysis/side.ts";
import { isSuccess, type Outcome } from "../../collector/analysis/success.ts";
import { random } from "../property/random.ts";

/** Kiali's own rule, as its documentation and AddHealthDefault have it. */
const KIALI: ToleranceRule[] = [
  { code: "5XX", protocol: "http", direction: ".*", degraded: 0, failure: 10 },
  { code: "4XX", protocol: "http", direction: ".*", degraded: 10, failure: 20 },
  { code: "^[1-9]$|^1[0-6]$", protocol: "grpc", direction: ".*", degraded: 0, failure: 10 },
  { code: "^-$", protocol: "http|grpc", direction: ".*", failure: 10 },
];

function outcome(code: number | null, ...flags: string[]): Outcome {
  return { protocol: "http", code, grpcStatus: null, flags };
}

function grpc(grpcStatus: number | null, code: number | null = 200, ...flags: string[]): Outcome {
  return { protocol: "grpc", code, grpcStatus, flags };
}

function policyOf(...tolerance: ToleranceRule[]) {
  return new SuccessPolicies([{ tolerance }]).of("default", "reviews");
}

describe("whose rule it is", () => {
  const NOT_404 = [{ code: "5XX" }];
  it.each<[string, Omit<RateRule, "tolerance">, string | null, string | null, boolean]>([
    ["a rule without patterns is everybody's", {}, "default", "reviews", true],
    ["of nobody known, too", {}, null, null, true],
    ["by its name", { name: "reviews" }, "default", "reviews", true],
    ["by its name with the namespace", { name: "reviews\\.default" }, "default", "reviews", true],
    ["by the name of one that is called with its namespace", { name: "reviews" }, "default", "reviews.default", true],
    ["the whole name", { name: "review" }, "default", "reviews", false],
    ["each of several names as a whole", { name: "a|reviews" }, "default", "reviews-v2", false],
    ["by its namespace", { namespace: "def.*" }, "default", "reviews", true],
    ["another namespace", { namespace: "prod" }, "default", "reviews", false],
    ["an unknown namespace", { namespace: "prod" }, null, "reviews", false],
    ["the kind service", { kind: "service" }, "default", "reviews", true],
    ["the kind app", { kind: "app|workload" }, "default", "reviews", true],
    ["the kind workload", { kind: "workload" }, "default", "reviews", false],
  ])("%s", (_, patterns, namespace, service, isTheirs) => {
    const policy = new SuccessPolicies([{ ...patterns, tolerance: NOT_404 }]).of(namespace, service);
    expect(policy.isSuccess(outcome(404), "client")).toBe(isTheirs);
  });

  it("the first that matches, and no other", () => {
    const policies = new SuccessPolicies([
      { name: "reviews", tolerance: [{ code: "404" }] },
      { name: "rev.*", tolerance: [{ code: "500" }] },
    ]);
    const verdicts = (service: string) =>
      [404, 500].map((code) => policies.of("ns", service).isSuccess(outcome(code), "server"));
    expect(verdicts("reviews")).toEqual([false, true]);
    expect(verdicts("revisions")).toEqual([true, false]);
  });

  it("is found once, and for services without end in bounded memory", () => {
    const policies = new SuccessPolicies([{ name: "s.*", tolerance: KIALI }]);
    const policy = policies.of("ns", "s1");
    expect(policies.of("ns", "s1")).toBe(policy);
    for (let i = 0; i < 25_000; i++) policies.of("ns", `s${i}`);
    expect(policies.of("ns", "s1")).toBe(policy); // there is one for each rule
    expect(policies.of("ns", "s".repeat(100_000))).toBe(policy);
  });
});

describe("which requests are errors", () => {
  it.each<[string, ToleranceRule[], Outcome, DetectPoint, boolean]>([
    ["a code that is named", KIALI, outcome(404), "server", false],
    ["a code that is not", KIALI, outcome(302), "client", true],
    ["a code that no rule of its names", [{ code: "5XX" }], outcome(404), "client", true],
    ["a capital X is a digit", [{ code: "40X" }], outcome(409), "server", false],
    ["so is a small one", [{ code: "4xx" }], outcome(409), "server", false],
    ["a class of Kiali's examples", [{ code: "^[4|5]\\d\\d$" }], outcome(503), "server", false],
    ["the whole code", [{ code: "40" }], outcome(404), "server", true],
    ["no response", KIALI, outcome(null), "server", false],
    ["no response, not named", [{ code: "5XX" }], outcome(null, "DC"), "server", true],
    ["another direction", [{ code: "404", direction: "outbound" }], outcome(404), "server", true],
    ["its direction", [{ code: "404", direction: "inbound" }], outcome(404), "server", false],
    ["a call of its own", [{ code: "302", direction: "outbound" }], outcome(302), "client", false],
    ["another protocol keeps the rule of old", [{ code: "404", protocol: "grpc" }], outcome(404), "client", false],
    ["another direction keeps it, too", [{ code: "5XX", direction: "inbound" }], outcome(404), "client", false],
    ["a gRPC status", KIALI, grpc(5), "server", false],
    ["gRPC's OK", KIALI, grpc(0), "server", true],
    ["a gRPC status that is tolerated", [{ code: "14", protocol: "grpc" }], grpc(5), "server", true],
    ["of gRPC the status counts, not the HTTP code", [{ code: "503" }], grpc(14, 503), "server", true],
    ["without a status the HTTP code does", [{ code: "503" }], grpc(null, 503), "server", false],
    ["gRPC without a response", KIALI, grpc(null, null), "client", false],
    ["an answer that broke off", [{ code: "5XX" }], outcome(200, "UC"), "server", false],
    ["one of gRPC", [{ code: "1[0-6]", protocol: "grpc" }], grpc(0, 200, "DC"), "server", false],
    ["a delay breaks nothing", [{ code: "5XX" }], outcome(200, "DI"), "server", true],
    ["a code that is tolerated, whatever made it", [{ code: "500" }], outcome(503, "UF", "URX"), "server", true],
    ["a code beyond the table", [{ code: "\\d{4,}" }], outcome(4_294_967_295), "server", false],
    ["a code at the table's end", [{ code: "999" }], outcome(999), "server", false],
    [
      "TCP has only flags",
      [{ code: ".*", protocol: ".*" }],
      { ...outcome(null, "UF"), protocol: "tcp" },
      "client",
      false,
    ],
    ["TCP without flags", [{ code: ".*", protocol: ".*" }], { ...outcome(null), protocol: "tcp" }, "client", true],
  ])("%s", (_, tolerances, call, detectPoint, expected) => {
    const policy = policyOf(...tolerances);
    expect(policy.isSuccess(call, detectPoint)).toBe(expected);
    expect(policy.isSuccess(call, detectPoint), "once more, remembered").toBe(expected);
  });

  it("a caller's side hears the called service, too, and the worse counts", () => {
    const lenient = policyOf({ code: "5XX" });
    const strict = policyOf({ code: "[45]XX" });
    const silent = policyOf();
    const call = outcome(404);
    expect(silent.isSuccess(call, "client", lenient)).toBe(true);
    expect(lenient.isSuccess(call, "client", silent)).toBe(true);
    expect(lenient.isSuccess(call, "client", lenient)).toBe(true);
    expect(lenient.isSuccess(call, "client", strict)).toBe(false);
    expect(strict.isSuccess(call, "client", lenient)).toBe(false);
    expect(silent.isSuccess(call, "client", silent)).toBe(false);
    expect(silent.isSuccess(call, "server", strict)).toBe(true);
  });
});

describe("health", () => {
  const inbound = (code: number | null, count: number): CodeCount => ({
    protocol: "http",
    detectPoint: "server",
    code,
    count,
  });
  it.each<[string, ToleranceRule[], CodeCount[], Health]>([
    ["nothing", KIALI, [], "no_data"],
    ["counts of nothing", KIALI, [inbound(500, 0)], "no_data"],
    ["no error", KIALI, [inbound(200, 10)], "healthy"],
    ["one error degrades at 0 %", KIALI, [inbound(200, 999_999), inbound(500, 1)], "degraded"],
    ["just below failure", KIALI, [inbound(200, 901), inbound(503, 99)], "degraded"],
    ["failure, to the request", KIALI, [inbound(200, 90), inbound(500, 4), inbound(503, 6)], "failure"],
    ["just below degraded", KIALI, [inbound(200, 901), inbound(404, 99)], "healthy"],
    ["degraded, to the request", KIALI, [inbound(200, 90), inbound(404, 10)], "degraded"],
    ["no response", KIALI, [inbound(200, 9), inbound(null, 1)], "failure"],
    ["failure 0 is never", [{ code: "5XX", degraded: 50 }], [inbound(500, 10)], "degraded"],
    ["by tolerance: they do not add up", KIALI, [inbound(200, 85), inbound(404, 9), inbound(500, 6)], "degraded"],
    ["29 % of 100 are 29 %", [{ code: "5XX", degraded: 29 }], [inbound(200, 71), inbound(500, 29)], "degraded"],
    ["a code that nobody minds", [{ code: "500" }], [inbound(503, 10)], "healthy"],
    [
      "each direction by itself",
      KIALI,
      [inbound(200, 1000), { protocol: "http", detectPoint: "client", code: 500, count: 1 }],
      "failure",
    ],
    [
      "each protocol by itself",
      KIALI,
      [inbound(200, 1000), { protocol: "grpc", detectPoint: "server", code: 14, count: 1 }],
      "failure",
    ],
    ["without a tolerance, by Kiali's defaults", [], [inbound(200, 90), inbound(404, 10)], "degraded"],
    [
      "with one of another protocol, too",
      [{ code: "5", protocol: "grpc" }],
      [inbound(200, 80), inbound(404, 20)],
      "failure",
    ],
    ["TCP has no codes", KIALI, [{ protocol: "tcp", detectPoint: "server", code: null, count: 5 }], "no_data"],
  ])("%s", (_, tolerances, counts, expected) => {
    expect(policyOf(...tolerances).healthOf(counts)).toBe(expected);
  });
});

describe("of random rules and calls", () => {
  const CODES = ["5XX", "4XX", "404", "^[1-9]$|^1[0-6]$", "-", "^-$", ".*", "2\\d\\d", "0|14"];
  const PROTOCOLS = ["http", "grpc", "http|grpc", ".*", undefined];
  const DIRECTIONS = ["inbound", "outbound", ".*", undefined];
  const FLAGS = [[], [], ["UC"], ["DI"], ["RL"], ["UF", "URX"], ["DC"]];
  const STATUS = [null, null, 0, 1, 5, 14, 16];
  const HTTP = [null, 100, 200, 204, 302, 399, 400, 404, 429, 499, 500, 503, 599, 1200];

  /** The rules of Kiali, word by word. */
  function naive(rules: ToleranceRule[], call: Outcome, detectPoint: DetectPoint): boolean {
    const matches = (pattern: string | undefined, text: string) => new RegExp(`^(?:${pattern ?? ".*"})$`).test(text);
    const direction = detectPoint === "server" ? "inbound" : "outbound";
    const own = rules.filter((rule) => matches(rule.protocol, call.protocol) && matches(rule.direction, direction));
    if (own.length === 0) return isSuccess(call, detectPoint);
    const code = codeOf(call);
    if (own.some((rule) => matches(codePattern(rule.code), code === null ? "-" : `${code}`))) return false;
    const isFine = call.code !== null && call.code < 400 && (call.grpcStatus ?? 0) === 0;
    return !isFine || isSuccess(call, detectPoint);
  }

  it("is what a policy without a table says", () => {
    const draw = random(20_261_122);
    const one = <T>(values: readonly T[]): T => values[Math.floor(draw() * values.length)] as T;
    const verdicts = new Set<boolean>();
    for (let i = 0; i < 300; i++) {
      const rules = Array.from({ length: Math.floor(draw() * 4) }, () => {
        const [protocol, direction] = [one(PROTOCOLS), one(DIRECTIONS)];
        return { code: one(CODES), ...(protocol && { protocol }), ...(direction && { direction }) };
      });
      const policy = policyOf(...rules);
      for (let j = 0; j < 60; j++) {
        const isGrpc = draw() < 0.4;
        const call = isGrpc ? grpc(one(STATUS), one(HTTP), ...one(FLAGS)) : outcome(one(HTTP), ...one(FLAGS));
        const detectPoint = one(DETECT_POINTS);
        const verdict = policy.isSuccess(call, detectPoint);
        verdicts.add(verdict);
        expect(verdict, JSON.stringify({ rules, call, detectPoint })).toBe(naive(rules, call, detectPoint));
        expect(HEALTHS).toContain(
          policy.healthOf([{ protocol: call.protocol, detectPoint, code: codeOf(call), count: 1 }]),
        );
      }
    }
    expect(verdicts.size).toBe(2);
  });
});
