// Thresholds of Apdex, per service; what they decide is in indicators/satisfaction.ts. Nanoseconds, as Envoy gives latencies, so that the
// bounds are exact.

import { PerService, type ServiceName, ServicePattern, type ServiceSelector } from "./per-service.ts";

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
