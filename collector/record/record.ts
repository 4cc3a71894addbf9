// AccessRecord and ConnectionRecord: what every access-log source becomes, of requests and of TCP connections. What comes after
// knows no source.

/** How an access log came: to an access-log service, or as OTLP. A proxy may tell of the same requests on both. */
export type LogWay = "als" | "otlp";

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

/** Cumulative buckets at the bounds by which the collector counts (`le`), then count (`+Inf`) and sum. */
export interface HistogramSample {
  readonly cumulative: Float64Array;
  count: number;
  sum: number;
}

/** What is known so far of one TCP connection, as one proxy sees it: each of its entries says all again. */
export interface ConnectionRecord {
  /** Envoy node id of the proxy that logged it. */
  readonly proxy: string;
  /** When that proxy process started, Unix ms; 0 when the entry does not say. */
  readonly lifeMs: number;
  /** Envoy's, unique in a process life; means nothing in an entry that names none. */
  readonly connectionId: number;
  /** Unique over all processes: what an entry that names no life is known by. "" when there is none. */
  readonly streamId: string;
  /** Whether the connection has ended, so that no entry will say more. */
  readonly isOver: boolean;
  /** Mostly one; more where its metrics differ in their label sets. A later entry may have more, in the same order. */
  readonly parts: readonly ConnectionPart[];
}

export interface ConnectionPart {
  readonly labelKey: string;
  /** Indexed by TcpMetric: since the connection began. */
  readonly counts: readonly number[];
}

/** What one scrape says of the TCP metrics of one label set of one proxy. */
export interface TcpSample {
  readonly labelKey: string;
  /** Indexed by TcpMetric; -1 when the scrape had none for this label set. */
  readonly counts: number[];
}

/** One scrape of one proxy. */
export interface StatsReport {
  readonly proxy: string;
  /** START_TIME_METRIC of the same scrape; 0 when it had none. */
  readonly lifeMs: number;
  readonly samples: readonly StatsSample[];
  readonly tcpSamples: readonly TcpSample[];
}
