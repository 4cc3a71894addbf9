// AccessRecord: the one shape that every access-log source becomes. What comes after knows no source.

/**
 * One finished request as one proxy saw it, as far as its metrics carry one label set. Read-only; made once per log entry, and once
 * more for each further label set where a proxy's metrics differ in theirs.
 */
export interface AccessRecord {
  /** Envoy node id of the proxy that logged it: `sidecar~127.0.1.4~reviews-v1.default~default.svc.cluster.local`. */
  readonly proxy: string;
  /** When that proxy process started, Unix ms (the filter's start time); 0 when the entry does not say. */
  readonly lifeMs: number;
  /** Packed label values (series/key.ts): the identity of the label set. */
  readonly labelKey: string;
  /** 1; 0 where the label set is none of istio_requests_total. */
  readonly requests: number;
  /** Whole ms from first byte in to last byte out; -1 when the request did not finish, or the label set is none of durations. */
  readonly durationMs: number;
  /** -1 where the label set is none of request sizes. */
  readonly requestBytes: number;
  /** -1 where the label set is none of answer sizes. */
  readonly responseBytes: number;
}

/** What one scrape says of one label set of one proxy: cumulative since its counters began, which may be after the process did. */
export interface StatsSample {
  readonly labelKey: string;
  /** istio_requests_total; -1 when the scrape had none for this label set. */
  requests: number;
  /** Indexed by HttpMetric (the entry of Requests is always null); null when the scrape had none. */
  readonly histograms: (HistogramSample | null)[];
}

/** Cumulative buckets at HISTOGRAM_BOUNDS (`le`), then count (`+Inf`) and sum. */
export interface HistogramSample {
  readonly cumulative: Float64Array;
  count: number;
  sum: number;
}

/** One scrape of one proxy. */
export interface StatsReport {
  readonly proxy: string;
  /** START_TIME_METRIC of the same scrape; 0 when it had none. */
  readonly lifeMs: number;
  readonly samples: readonly StatsSample[];
}
