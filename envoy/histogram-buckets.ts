// Envoy's `histogram_bucket_settings`: by which bounds the filter's histograms are counted (the collector's `metrics.bounds`).
// https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/metrics/v3/stats.proto

/** How the names of wasm's stats begin. */
const WASM_STATS = "wasmcustom.";

export interface BucketSettings {
  readonly match: { readonly prefix: string };
  readonly buckets: readonly number[];
}

/** [5, 10] -> what stands under `stats_config.histogram_bucket_settings`. */
export function bucketSettings(bounds: readonly number[]): BucketSettings[] {
  return [{ match: { prefix: WASM_STATS }, buckets: bounds }];
}

/** "5,7.5,10" -> [5, 7.5, 10]; null for what is no list of numbers above 0 that rise. */
export function parseBounds(text: string): number[] | null {
  const bounds = text.split(",").map((part) => (part.trim() === "" ? Number.NaN : Number(part)));
  const isRising = bounds.every((bound, index) => Number.isFinite(bound) && bound > (bounds[index - 1] ?? 0));
  return isRising ? bounds : null;
}
