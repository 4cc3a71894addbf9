// Apdex: how content callers are with a service, from 0 to 1, by a threshold T of its latency.
// https://www.apdex.org: satisfied up to T, tolerating up to 4 T, frustrated beyond; errors are frustrated.
//
// Latencies and thresholds are nanoseconds, as Envoy gives them, so that the bounds are exact.

import { PerService, type ServiceName, ServicePattern, type ServiceSelector } from "./per-service.ts";

export type Satisfaction = "satisfied" | "tolerating" | "frustrated";

const TOLERATING_FACTOR = 4;

export interface ApdexRules {
  /** Of services for which no rule is. */
  readonly thresholdNs: number;
  /** The first that matches counts. */
  readonly services: readonly (ServiceSelector & { readonly thresholdNs: number })[];
}

export class ApdexThresholds {
  private readonly rules: readonly { readonly pattern: ServicePattern; readonly thresholdNs: number }[];
  private readonly byService = new PerService((service) => this.find(service));

  constructor(private readonly options: ApdexRules) {
    this.rules = options.services.map((rule) => ({
      pattern: new ServicePattern(rule),
      thresholdNs: rule.thresholdNs,
    }));
  }

  /** T of a service, in nanoseconds. Null stands for what is not known. */
  of(namespace: string | null, service: string | null): number {
    return this.byService.of(namespace, service);
  }

  private find(service: ServiceName): number {
    return this.rules.find(({ pattern }) => pattern.matches(service))?.thresholdNs ?? this.options.thresholdNs;
  }
}

/** How content the caller of one request is. */
export function satisfactionOf(latencyNs: number, isSuccess: boolean, thresholdNs: number): Satisfaction {
  if (!isSuccess || latencyNs > TOLERATING_FACTOR * thresholdNs) return "frustrated";
  return latencyNs <= thresholdNs ? "satisfied" : "tolerating";
}

/** The index of so many requests: 170, 20 and 10 give 0.9. Null of none. */
export function apdexOf({ satisfied, tolerating, frustrated }: Readonly<Record<Satisfaction, number>>): number | null {
  const total = satisfied + tolerating + frustrated;
  return total > 0 ? (satisfied + tolerating / 2) / total : null;
}
