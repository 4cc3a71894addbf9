// The PromQL that several panels have in common.

const RATE_INTERVAL = "$__rate_interval";

/** Label matchers: `reporter="source",source_workload=~"$workload"`; "" for none. */
export type Matchers = string;

/** `sum by (a,b) (rate(metric{matchers}[$__rate_interval]))`; without labels the sum of all. */
export function rate(metric: string, matchers: Matchers = "", by = ""): string {
  return sumOf(`rate(${metric}{${matchers}}[${RATE_INTERVAL}])`, by);
}

/** No answer (0), 5xx, or a gRPC status but 0, as the service graph has it; 0 where there are requests and no error. */
export function errorRate(metric: string, matchers: Matchers = "", by = ""): string {
  const failed = rateOf(metric, matchers, 'response_code=~"0|5.."');
  const grpc = rateOf(metric, matchers, 'response_code!~"0|5..",grpc_response_status=~"[1-9][0-9]*"');
  return `(${sumOf(`${failed} or ${grpc}`, by)} or 0 * ${rate(metric, matchers, by)})`;
}

/** Share of the requests that are no errors; nothing without requests. */
export function successRatio(metric: string, matchers: Matchers = "", by = ""): string {
  return `1 - ${errorRate(metric, matchers, by)} / (${rate(metric, matchers, by)} > 0)`;
}

/** A quantile of a histogram, given by its name without `_bucket`; nothing without observations. */
export function quantile(q: number, metric: string, matchers: Matchers = "", by = ""): string {
  const labels = by === "" ? "le" : `le,${by}`;
  return `histogram_quantile(${q}, ${rate(`${metric}_bucket`, matchers, labels)}) >= 0`;
}

function rateOf(metric: string, ...matchers: readonly Matchers[]): string {
  return `rate(${metric}{${matchers.filter((each) => each !== "").join(",")}}[${RATE_INTERVAL}])`;
}

function sumOf(vector: string, by: string): string {
  return by === "" ? `sum(${vector})` : `sum by (${by}) (${vector})`;
}
