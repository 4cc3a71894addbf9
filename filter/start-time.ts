// When this Envoy process first ran the filter: the name of its process life, in stats and in every observation.
//
// A gauge, since it is what all VMs of a process share: the first VM that is configured sets it, every other one takes it from
// there, once. During a hot restart Envoy shows the sum of the old and the new process's gauges, a time in the far future: that is
// not taken. Until the old process is gone such a VM stamps 0, "not known", which the collector never mistakes for a life.

import { defineMetric, nowMs, readMetric, record, utf8 } from "./host.ts";
import { MetricKind, START_TIME_METRIC } from "./vocabulary/metrics.ts";

/** How far the clock may have been set back since the gauge was set. */
const TOLERANCE_MS: u64 = 60000;

const NAME = utf8(START_TIME_METRIC);

let metric: u32 = 0;
let known: u64 = 0;

/** Unix ms; 0 while it is not known. */
export function startTimeMs(): u64 {
  return known !== 0 ? known : learn();
}

function learn(): u64 {
  if (metric === 0) metric = defineMetric(MetricKind.Gauge, changetype<usize>(NAME), NAME.byteLength);
  const now = nowMs();
  const shown = readMetric(metric);
  if (shown === 0) {
    record(metric, now);
    known = now;
  } else if (shown <= now + TOLERANCE_MS) {
    known = shown;
  }
  return known;
}
