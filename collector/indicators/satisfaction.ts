// Apdex: how content callers are with a service, from 0 to 1, by a threshold T of its latency.
// https://www.apdex.org: satisfied up to T, tolerating up to 4 T, frustrated beyond; errors are frustrated.

export type Satisfaction = "satisfied" | "tolerating" | "frustrated";

const TOLERATING_FACTOR = 4;

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
