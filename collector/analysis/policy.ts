// Success policy: which requests are errors, by service, and how healthy a service is by them. The shape is Kiali's `health_config.rate`:
// https://kiali.io/docs/configuration/health/ ; matching and thresholds are those of its server (github.com/kiali/kiali:
// business/health_rate_matcher.go, business/health_calculator.go, config/config.go).
//
// The first rule whose patterns match a service is the service's. Its tolerances say two things:
//
//   code              which requests of their protocol and direction are errors; what none of them names is no error
//   degraded, failure how many of all requests of that protocol and direction, in percent, make the service so
//
// A protocol and direction for which the service has no tolerance is not covered: there success.ts judges requests, and Kiali's default
// tolerances judge health.

import { patternOf } from "./pattern.ts";
import { PerService, type ServiceName, ServicePattern, type ServiceSelector } from "./per-service.ts";
import type { DetectPoint, Protocol } from "./side.ts";
import { isCutShort, isSuccess, type Outcome } from "./success.ts";

/** A rule as it is written. Patterns are checked (pattern.ts) and match whole texts; what is left out matches all. */
export interface RateRule extends ServiceSelector {
  /** Of the words `service` and `app`: what Istio's canonical name names is both to Kiali. */
  readonly kind?: string;
  readonly tolerance: readonly ToleranceRule[];
}

export interface ToleranceRule {
  /** Of an HTTP code, a gRPC status, or `-` for no response; X stands for a digit. */
  readonly code: string;
  /** Of `http` and `grpc`. */
  readonly protocol?: string;
  /** Of `inbound`, requests to the service, and `outbound`, its own. */
  readonly direction?: string;
  /** Percent; 0: any error. */
  readonly degraded?: number;
  /** Percent; 0: never. */
  readonly failure?: number;
}

export const HEALTHS = ["no_data", "healthy", "degraded", "failure"] as const;
/** From good to bad: Kiali's NA, Healthy, Degraded and Failure. */
export type Health = (typeof HEALTHS)[number];

/** How many requests ended with a code, as `codeOf` has it. */
export interface CodeCount {
  readonly protocol: Protocol;
  readonly detectPoint: DetectPoint;
  readonly code: number | null;
  readonly count: number;
}

/** What Kiali has where it is told nothing: AddHealthDefault in its config/config.go. */
const DEFAULT_TOLERANCES: readonly ToleranceRule[] = [
  { code: "5XX", protocol: "http", direction: ".*", failure: 10 },
  { code: "4XX", protocol: "http", direction: ".*", degraded: 10, failure: 20 },
  { code: "^[1-9]$|^1[0-6]$", protocol: "grpc", direction: ".*", failure: 10 },
  { code: "^-$", protocol: "http|grpc", direction: ".*", failure: 10 },
];

const KINDS = ["service", "app"];
const POLICED = ["http", "grpc"] as const;
const DIRECTIONS: Readonly<Record<DetectPoint, string>> = { server: "inbound", client: "outbound" };

export const NO_RESPONSE = "-";
/** Codes below have their verdict in a table; what HTTP and gRPC know is far below. */
const TABLE_CODES = 1000;

/** What a tolerance tells codes by: the gRPC status where it is known, else the HTTP code; null without a response. */
export function codeOf({ protocol, code, grpcStatus }: Outcome): number | null {
  return protocol === "grpc" && code !== null && grpcStatus !== null ? grpcStatus : code;
}

interface Tolerance {
  readonly code: RegExp;
  readonly degraded: number;
  readonly failure: number;
}

/** The text of a code's pattern: `5XX` is `5\d\d`. */
export function codePattern(text: string): string {
  return text.replace(/x/gi, "\\d");
}

/** The verdicts on codes of one protocol and direction, each found once. */
class Verdicts {
  /** By code, the last for no response; 0: not asked yet. */
  private readonly table = new Uint8Array(TABLE_CODES + 1);

  constructor(readonly tolerances: readonly Tolerance[]) {}

  isError(code: number | null): boolean {
    const index = code ?? TABLE_CODES;
    if (code !== null && !(code >= 0 && code < TABLE_CODES)) return this.matches(code); // slow: no such code is in use
    let verdict = this.table[index];
    if (verdict === 0) {
      verdict = this.matches(code) ? 2 : 1;
      this.table[index] = verdict;
    }
    return verdict === 2;
  }

  private matches(code: number | null): boolean {
    const text = textOf(code);
    return this.tolerances.some((tolerance) => tolerance.code.test(text));
  }
}

/** The policy of a service. */
export class SuccessPolicy {
  /** By `slotOf`; null: not covered. */
  private readonly verdicts: readonly (Verdicts | null)[];

  constructor(rules: readonly ToleranceRule[]) {
    this.verdicts = POLICED.flatMap((protocol) =>
      (["server", "client"] as const).map((detectPoint) => verdictsOf(rules, protocol, DIRECTIONS[detectPoint])),
    );
  }

  /**
   * Whether a call of the service succeeded: one to it (`server`), or its own (`client`). Of its own, the policy of the service that
   * was `called` has a say too, by what it tolerates inbound; the worse verdict counts, as on Kiali's edges.
   */
  isSuccess(outcome: Outcome, detectPoint: DetectPoint, called: SuccessPolicy | null = null): boolean {
    const own = this.verdict(outcome, detectPoint);
    const other = detectPoint === "client" && called !== null ? called.verdict(outcome, "server") : null;
    if (own === null && other === null) return isSuccess(outcome, detectPoint);
    return own !== false && other !== false;
  }

  /** The worst that any tolerance says of these requests. */
  healthOf(counts: Iterable<CodeCount>): Health {
    const groups = new Map<number, CodeCount[]>();
    for (const each of counts) {
      if (each.protocol === "tcp" || !(each.count > 0)) continue;
      const slot = slotOf(each.protocol, each.detectPoint);
      groups.set(slot, [...(groups.get(slot) ?? []), each]);
    }
    let worst: Health = "no_data";
    for (const [slot, group] of groups) {
      const { tolerances } = this.verdicts[slot] ?? (DEFAULT_POLICY.verdicts[slot] as Verdicts);
      for (const tolerance of tolerances) worst = worse(worst, healthBy(tolerance, group));
    }
    return worst;
  }

  /** Null where it has none. An answer that broke off is no success, whatever code it began with. */
  private verdict(outcome: Outcome, detectPoint: DetectPoint): boolean | null {
    if (outcome.protocol === "tcp") return null;
    const verdicts = this.verdicts[slotOf(outcome.protocol, detectPoint)] as Verdicts | null;
    if (verdicts === null) return null;
    return !verdicts.isError(codeOf(outcome)) && !isCutShort(outcome);
  }
}

function slotOf(protocol: (typeof POLICED)[number], detectPoint: DetectPoint): number {
  return (protocol === "grpc" ? 2 : 0) + (detectPoint === "client" ? 1 : 0);
}

function verdictsOf(rules: readonly ToleranceRule[], protocol: string, direction: string): Verdicts | null {
  const tolerances = rules
    .filter((rule) => isMatch(rule.protocol, protocol) && isMatch(rule.direction, direction))
    .map(({ code, degraded = 0, failure = 0 }) => ({ code: patternOf(codePattern(code)), degraded, failure }));
  return tolerances.length === 0 ? null : new Verdicts(tolerances);
}

function isMatch(pattern: string | undefined, word: string): boolean {
  return pattern === undefined || patternOf(pattern).test(word);
}

function textOf(code: number | null): string {
  return code === null ? NO_RESPONSE : String(code);
}

function healthBy({ code, degraded, failure }: Tolerance, counts: readonly CodeCount[]): Health {
  let errors = 0;
  let total = 0;
  for (const each of counts) {
    total += each.count;
    if (code.test(textOf(each.code))) errors += each.count;
  }
  if (errors === 0) return "healthy";
  // Not by a quotient: 29 of 100 would be less than 29 %.
  if (failure > 0 && errors * 100 >= failure * total) return "failure";
  return errors * 100 >= degraded * total ? "degraded" : "healthy";
}

function worse(a: Health, b: Health): Health {
  return HEALTHS.indexOf(a) > HEALTHS.indexOf(b) ? a : b;
}

const DEFAULT_POLICY = new SuccessPolicy(DEFAULT_TOLERANCES);
const NO_POLICY = new SuccessPolicy([]);

export class SuccessPolicies {
  private readonly rules: readonly { readonly pattern: ServicePattern; readonly policy: SuccessPolicy }[];
  private readonly byService = new PerService((service) => this.find(service));

  constructor(rate: readonly RateRule[]) {
    this.rules = rate
      .filter(({ kind }) => KINDS.some((word) => isMatch(kind, word)))
      .map((rule) => ({ pattern: new ServicePattern(rule), policy: new SuccessPolicy(rule.tolerance) }));
  }

  /** Null stands for what is not known. */
  of(namespace: string | null, service: string | null): SuccessPolicy {
    return this.byService.of(namespace, service);
  }

  private find(service: ServiceName): SuccessPolicy {
    return this.rules.find(({ pattern }) => pattern.matches(service))?.policy ?? NO_POLICY;
  }
}
