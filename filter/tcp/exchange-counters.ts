// Istio's counters of the exchange. They have no labels, and each is defined when it first counts.

import { defineMetric, increment, utf8 } from "../host.ts";
import { EXCHANGE_METRICS, Exchange, MetricKind } from "../vocabulary/metrics.ts";

const metrics = new StaticArray<u32>(EXCHANGE_METRICS.length);

export function countExchange(what: Exchange): void {
  if (metrics[what] === 0) {
    const name = utf8(EXCHANGE_METRICS[what]);
    metrics[what] = defineMetric(MetricKind.Counter, changetype<usize>(name), name.byteLength);
  }
  increment(metrics[what], 1);
}
