// The collector's own metrics: what it received, could not use, and holds. The only importer of prom-client.
// docs/api.md has a row for each of them, and for each value of their closed sets.

import { AggregatorRegistry, Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

/** Why an access-log message or entry was dropped; the label `reason`. */
export const DROP_REASONS = [
  /** The message is no StreamAccessLogsMessage: broken wire bytes. */
  "message_malformed",
  /** One entry's bytes are broken; the rest of the message goes on. */
  "entry_malformed",
  /** An observation of a kind that is not known here for such an entry, a newer filter's: stats still count what it says. */
  "kind_unknown",
  /** No message of the stream has named a node yet. */
  "node_missing",
  /** Not the end of a request, or of a connection that nothing tells from others: it would count it twice. */
  "not_final",
  /** The connection ended before there was a request: nothing to count, and the filter never saw it. */
  "no_request",
  /** The process life was already folded into the totals. */
  "life_retired",
  /** More proxies or process lives than `limits.proxies`. */
  "proxies_full",
  /** More label sets of process lives than `limits.cells`, of a proxy whose lives must not overflow (table.ts, `mayClose`). */
  "cells_full",
  /** One more connection than `limits.connections`: its end will say all of it. */
  "connections_full",
  /** Taking it in failed in a way that is a fault of ours; the log has the exception. */
  "internal",
] as const;
export type DropReason = (typeof DROP_REASONS)[number];

/** How an access-log stream ended; the label `how`. */
export const STREAM_ENDS = [
  /** All that arrived was read. */
  "completed",
  /** We ended it, for it was as old as `grpc.max_stream_age`; all that arrived was read. */
  "aged",
  /** Not all: a message beyond `grpc.max_message`, our own stop, a reset in the middle. */
  "broken_off",
  /** It was one more than `limits.streams`, and nothing of it was read. */
  "refused",
] as const;

/** What a request of OTLP brings; the label `signal`. */
const OTLP_SIGNALS = ["logs", "metrics"] as const;
export type OtlpSignal = (typeof OTLP_SIGNALS)[number];

/** How a request of OTLP ended; the label `result`. */
export const OTLP_RESULTS = [
  "ok",
  /** Some of its records were rejected. */
  "partial",
  /** It is none of its signal's requests: broken bytes, or more records than one may have. Nothing of it was taken. */
  "malformed",
] as const;

/** Why a request of OTLP was refused, to be sent again; the label `reason`. */
export const OTLP_REFUSALS = [
  /** Threads have no room at the moment. */
  "no_room",
  /** The bodies of OTLP/HTTP that have not come to their end are too long together. */
  "bodies_full",
] as const;
export type OtlpRefusal = (typeof OTLP_REFUSALS)[number];

/** Why a record of OTLP was rejected; the label `reason`. */
export const OTLP_REJECTIONS = [
  /** Broken bytes, or more attributes than one may have. */
  "record_malformed",
  /** Its resource has no `node_name`, or one that is too long. */
  "node_missing",
  /** None of the attributes by which a request or connection is told. */
  "not_access_log",
  /** An attribute whose text is none of its field: a response code that is no number. */
  "attribute_malformed",
  /** More proxies than `limits.streams`. */
  "streams_full",
  /** It was taken before: a sender that got no answer sends again. No fault; the answer does not count it. */
  "repeated",
  /** A metric that nothing is made of here. */
  "metric_unknown",
  /** A histogram neither cumulative nor delta. */
  "temporality_unknown",
  /** Of a process that has restarted since. No fault; the answer does not count it. */
  "late",
  /** A cumulative histogram that went down, or has other buckets than before, while its process went on. */
  "went_back",
] as const;
export type OtlpRejection = (typeof OTLP_REJECTIONS)[number];

/** How one scrape ended; the label `result`. */
export const SCRAPE_RESULTS = [
  "ok",
  /** No connection, or it broke before the answer was complete. */
  "unreachable",
  /** No complete answer within `scrape.timeout`. */
  "timeout",
  /** Another status than 200. */
  "http_status",
  /** An answer longer than `scrape.max_body`. */
  "too_large",
  /** An answer that cannot be unpacked or is no protobuf, stats of two processes, or a /server_info that is no JSON. */
  "malformed",
  /** Neither stats nor /server_info name the node, so nobody could be told apart by it. */
  "node_missing",
  /** The proxy restarted while it was read, (or its clock is ahead); a later round reads the new process. */
  "restarted",
  /** The process shows in its counters what its predecessor still counts (Envoy's hot restart): it would count twice. */
  "hot_restarted",
  /** The stats lack START_TIME_METRIC: no filter there, or none that ran yet. */
  "no_start_time",
  /** The same of a target whose source says that it has no filter: as it should be. */
  "no_filter",
  /** The process life was already folded into the totals. */
  "life_retired",
  /** More proxies or process lives than `limits.proxies`. */
  "proxies_full",
  /** More label sets of process lives than `limits.cells`: some of the scrape found no room. The rest was counted. */
  "cells_full",
  /** Taking it in failed in a way that is a fault of ours; the log has the exception. */
  "internal",
] as const;
export type ScrapeResult = (typeof SCRAPE_RESULTS)[number];

/** What became of what a proxy's metrics service reported; the label `result`. Those of scrapes mean the same. */
export const METRICS_RESULTS = [
  "ok",
  /** The message is no StreamMetricsMessage: broken wire bytes. */
  "message_malformed",
  /** No message of the stream has named a node yet. */
  "node_missing",
  /** More stats of ours than a proxy has, before the gauge that says which process they are of. */
  "too_large",
  /** Another stream of the same process has reported it. */
  "duplicate",
  /** Counters are said to be deltas, and none of them rests: they stand as they are, and adding them up would count again and again. */
  "not_deltas",
  "restarted",
  "hot_restarted",
  "no_start_time",
  "life_retired",
  "proxies_full",
  "cells_full",
  "internal",
] as const;
export type MetricsResult = (typeof METRICS_RESULTS)[number];

/** Why a line of a scrape was passed over, or a metric of a metrics service; the label `reason`. */
export const SCRAPE_SKIP_REASONS = [
  /** No sample in Prometheus' text format; of a metrics service, no MetricFamily, or no count. */
  "malformed",
  /** In one of our families, but without any of our labels: another writer's. Counted once per label set and scrape. */
  "foreign",
] as const;

/** How reading the files of Kubernetes objects ended; the label `result`. */
export const RELOAD_RESULTS = [
  "ok",
  /** A file or folder is not there, or may not be read. */
  "unreadable",
  /** A file is no YAML or JSON of Kubernetes objects, or is cut off. */
  "malformed",
  /** The files together are longer than `identity.kubernetes.max_size`. */
  "too_large",
] as const;
export type ReloadResult = (typeof RELOAD_RESULTS)[number];

/** How reading the changed files of a TLS certificate ended; the label `result`. */
export const TLS_RELOAD_RESULTS = [
  "ok",
  /** A file is not there, or may not be read. */
  "unreadable",
  /** A file holds no certificate or no key that can be read, or is cut off. */
  "malformed",
  /** The key belongs to another certificate. */
  "key_mismatch",
] as const;

/** Why a TLS handshake came to nothing; the label `reason`. */
export const HANDSHAKE_FAILURES = [
  /** The client has no certificate, or one of another authority than `tls.client_ca`, or an expired one. */
  "client_refused",
  /** The client refused our certificate. */
  "server_refused",
  /** It does not speak TLS 1.2 or 1.3, or no TLS at all. */
  "protocol",
  /** It left before the end, or took too long. A TCP health check does. */
  "gone",
] as const;
export type HandshakeFailure = (typeof HANDSHAKE_FAILURES)[number];
/** By which rule an access-log entry is kept; the label `rule`, and the field `reason` of a log record. */
export const LOG_REASONS = [
  /** No answer, or one that says that the call failed. */
  "error",
  /** A response flag. */
  "flagged",
  /** It took `logs.tokens` of a model, or more. */
  "tokens",
  /** It took `logs.slow` or longer. */
  "slow",
  /** One in `logs.sample` of all others. */
  "sample",
] as const;
export type LogReason = (typeof LOG_REASONS)[number];

/** Why what a rule keeps is not in the log store; the label `reason`. */
export const LOG_DROP_REASONS = [
  /** More than `logs.per_minute` of its kind. */
  "per_minute",
  /** Nothing follows from it: the receiver counts it among those that were dropped. */
  "not_analysed",
  /** As many wait to be written as may: the store is too slow, or cannot write. */
  "queue_full",
] as const;

/** What kept the log store from working; the label `reason`. */
export const LOG_FAULT_REASONS = [
  /** No space left, a quota, or a limit on the size of files. */
  "disk_full",
  /** The folder or file system may not be written. */
  "read_only",
  /** Its folder or files are gone. */
  "folder_gone",
  /** A file that is none of ours, or broken: it is left alone. */
  "unreadable",
  /** Anything else; the log has the message. */
  "other",
] as const;
export type LogFaultReason = (typeof LOG_FAULT_REASONS)[number];

/** Why samples never reach a receiver of metrics; the label `reason`. */
export const EXPORT_DROP_REASONS = [
  /** The queue was full of newer ones: the receiver was away for too long, or takes them too slowly. */
  "queue_full",
  /** The queue's folder could not be written; the log has the message. */
  "queue_fault",
  /** What the queue held was damaged, or not written whole when the process was killed. */
  "queue_corrupt",
  /** Status 400: too old, out of order, or not what the receiver expects. */
  "bad_request",
  /** Status 401 or 403. */
  "unauthorized",
  /** Status 404 or 405: there is no such receiver behind the URL. */
  "not_found",
  /** Status 413: less `max_samples_per_send` is called for. */
  "too_large",
  /** Another status that no retry changes. */
  "refused",
  /** An OTLP receiver took the rest of the request. */
  "rejected",
] as const;
export type ExportDropReason = (typeof EXPORT_DROP_REASONS)[number];

/** Why a request was not taken and is sent again; the label `reason`. */
export const EXPORT_RETRY_REASONS = [
  /** No connection, or it broke before there was an answer. */
  "unreachable",
  /** No answer within `timeout`. */
  "timeout",
  /** Status 429. */
  "throttled",
  /** Status 5xx. */
  "server_error",
  /** A status that leads elsewhere: not followed, the URL has to be corrected. */
  "redirected",
  /** A file with a secret or a certificate cannot be read. */
  "credentials",
] as const;
export type ExportRetryReason = (typeof EXPORT_RETRY_REASONS)[number];

/** What is counted of one receiver of metrics. */
export interface ExportCounts {
  sent(samples: number, nowMs: number): void;
  dropped(reason: ExportDropReason, samples: number): void;
  retried(reason: ExportRetryReason): void;
  collectionFailed(): void;
  /** Looks at what waits whenever the metrics are read. */
  watch(queue: ExportQueue): void;
}

interface ExportQueue {
  readonly bytes: number;
  readonly samples: number;
  /** When the oldest was collected, Unix ms. */
  readonly oldestMs: number | null;
}
/** What kept the state from being saved; the label `reason`. */
const STATE_FAILURES = [
  /** No space left, a quota, or a limit on the size of files. */
  "disk_full",
  /** The folder or file system may not be written. */
  "read_only",
  /** Its folder is gone, and cannot be made anew. */
  "folder_gone",
  /** Anything else; the log has the message. */
  "other",
] as const;
export type StateFailure = (typeof STATE_FAILURES)[number];

/** Why a saved state was set aside at the start; the label `reason`. */
const STATE_FAULTS = [
  /** No state at all, or of an older version that is not read any more. */
  "foreign",
  /** A newer version's. */
  "newer",
  /** Of a version with other labels or metrics, or of other settings under `metrics` on which label sets and rows depend. */
  "other_vocabulary",
  /** It was not written to its end. */
  "cut_short",
  /** Its bytes are not those that were written. */
  "corrupt",
] as const;
export type StateFault = (typeof STATE_FAULTS)[number];

/** Numbers of HTTP metrics and of TCP metrics; the label `metrics`. */
interface ByShape {
  readonly http: number;
  readonly tcp: number;
}

/** What is held now, asked for when the metrics are read. */
export interface Holdings {
  readonly labelSets: ByShape;
  readonly lives: number;
  readonly cells: ByShape;
  /** Requests, or connections, under the overflow label sets. */
  readonly overflowed: ByShape;
  /** Label sets that were let go of. */
  readonly letGo: ByShape;
  /** Of those shown, what is left out of mesh_*, by reason. */
  readonly leftOut: Readonly<Record<"http" | "tcp", Readonly<Record<string, number>>>>;
  readonly connections: number;
  readonly edges: number;
  /** Of `proxy_stats`. */
  readonly proxyStats: { readonly series: number; readonly refused: number };
  readonly indicators: {
    /** By kind of subject. */
    readonly subjects: Readonly<Record<string, number>>;
    readonly refused: Readonly<Record<string, number>>;
    /** Calls. */
    readonly late: number;
    readonly ahead: number;
  };
}

/** What another thread counted of itself, as it goes from thread to thread. */
export type SelfCounts = readonly object[];

export class SelfMetrics {
  readonly registry = new Registry();

  readonly accessLogStreams = new Gauge({
    name: "meshtally_access_log_streams",
    help: "Access-log streams open now.",
    registers: [this.registry],
  });
  readonly accessLogStreamsEnded = new Counter({
    name: "meshtally_access_log_streams_ended_total",
    help: "Access-log streams that ended, by how.",
    labelNames: ["how"] as const,
    registers: [this.registry],
  });
  readonly accessLogMessages = new Counter({
    name: "meshtally_access_log_messages_total",
    help: "Access-log messages received.",
    registers: [this.registry],
  });
  /** `labels`: "observation" (taken as the filter counted it) or "derived" (from the entry's own fields). */
  readonly accessLogEntries = new Counter({
    name: "meshtally_access_log_entries_total",
    help: "Access-log entries counted, by where their labels came from.",
    labelNames: ["labels"] as const,
    registers: [this.registry],
  });
  readonly accessLogDropped = new Counter({
    name: "meshtally_access_log_dropped_total",
    help: "Access-log messages and entries that were not counted, by reason.",
    labelNames: ["reason"] as const,
    registers: [this.registry],
  });
  readonly accessLogNotAnalysed = new Counter({
    name: "meshtally_access_log_entries_not_analysed_total",
    help: "Access-log entries that were counted, but are malformed beyond what counting needs: they are in no indicator and no kept log.",
    registers: [this.registry],
  });
  readonly otlpRequests = new Counter({
    name: "meshtally_otlp_requests_total",
    help: "Requests of OTLP, by signal, transport and result.",
    labelNames: ["signal", "transport", "result"] as const,
    registers: [this.registry],
  });
  readonly otlpRefused = new Counter({
    name: "meshtally_otlp_refused_total",
    help: "Requests of OTLP of which nothing was taken for want of room, and which are to be sent again, by signal, transport and reason.",
    labelNames: ["signal", "transport", "reason"] as const,
    registers: [this.registry],
  });
  readonly otlpRejected = new Counter({
    name: "meshtally_otlp_rejected_total",
    help: "Records and data points of OTLP that were rejected, by signal and reason.",
    labelNames: ["signal", "reason"] as const,
    registers: [this.registry],
  });
  readonly aiSeries = new Gauge({
    name: "meshtally_ai_series",
    help: "Label sets of AI gateways' metrics held: what limits.ai_series bounds.",
    registers: [this.registry],
  });
  readonly aiOverflowed = new Gauge({
    name: "meshtally_ai_points_overflowed",
    help: "Data points of AI gateways added to the label set that reads other, for want of room.",
    registers: [this.registry],
  });
  readonly scrapes = new Counter({
    name: "meshtally_scrapes_total",
    help: "Scrapes of proxies, by result.",
    labelNames: ["result"] as const,
    registers: [this.registry],
  });
  readonly scrapeSkipped = new Counter({
    name: "meshtally_scrape_lines_skipped_total",
    help: "Lines of scrapes that were passed over, by reason.",
    labelNames: ["reason"] as const,
    registers: [this.registry],
  });
  readonly scrapeCounterResets = new Counter({
    name: "meshtally_scrape_counter_resets_total",
    help: "Label sets whose counters began anew, from 0, while their proxy's process went on.",
    registers: [this.registry],
  });
  readonly scrapeUntaggedLabels = new Counter({
    name: "meshtally_scrape_untagged_labels_total",
    help: "Scrapes in which this label stood in a metric's name, since the proxy's stats_tags lack it: such metrics are not read.",
    labelNames: ["label"] as const,
    registers: [this.registry],
  });
  readonly missingBounds = new Counter({
    name: "meshtally_missing_bounds_total",
    help: "Readings of proxies whose histograms are not counted by this bound, by receiver: their buckets there show less.",
    labelNames: ["receiver", "le"] as const,
    registers: [this.registry],
  });
  readonly scrapeTargets = new Gauge({
    name: "meshtally_scrape_targets",
    help: "Targets that each source names now.",
    labelNames: ["source"] as const,
    registers: [this.registry],
  });
  readonly scrapeTargetsRefused = new Gauge({
    name: "meshtally_scrape_targets_refused",
    help: "Targets beyond scrape.max_targets now, which are not read.",
    registers: [this.registry],
  });
  readonly scrapeDiscovery = new Counter({
    name: "meshtally_scrape_discovery_total",
    help: "Readings of what names targets, by source and result; a file that did not change is not read.",
    labelNames: ["source", "result"] as const,
    registers: [this.registry],
  });
  readonly metricsStreams = new Gauge({
    name: "meshtally_metrics_service_streams",
    help: "Streams of proxies' metrics services open now.",
    registers: [this.registry],
  });
  readonly metricsStreamsEnded = new Counter({
    name: "meshtally_metrics_service_streams_ended_total",
    help: "Streams of proxies' metrics services that ended, by how.",
    labelNames: ["how"] as const,
    registers: [this.registry],
  });
  readonly metricsMessages = new Counter({
    name: "meshtally_metrics_service_messages_total",
    help: "Messages of proxies' metrics services received.",
    registers: [this.registry],
  });
  readonly metricsReports = new Counter({
    name: "meshtally_metrics_service_reports_total",
    help: "Reports of proxies' metrics services, by result.",
    labelNames: ["result"] as const,
    registers: [this.registry],
  });
  readonly metricsSkipped = new Counter({
    name: "meshtally_metrics_service_metrics_skipped_total",
    help: "Metrics of proxies' metrics services that were passed over, by reason.",
    labelNames: ["reason"] as const,
    registers: [this.registry],
  });
  readonly metricsCounterResets = new Counter({
    name: "meshtally_metrics_service_counter_resets_total",
    help: "Counters of proxies' metrics services that began anew, from 0, while the process went on.",
    registers: [this.registry],
  });
  readonly taps = new Gauge({
    name: "meshtally_taps",
    help: "Readers of /api/v1/tap now.",
    registers: [this.registry],
  });
  readonly tapLinesLost = new Counter({
    name: "meshtally_tap_lines_lost_total",
    help: "Lines of /api/v1/tap that their readers were too slow for.",
    registers: [this.registry],
  });
  readonly identityObjects = new Gauge({
    name: "meshtally_identity_objects",
    help: "Kubernetes objects in force, by kind; `skipped` are those of kinds that name nobody.",
    labelNames: ["kind"] as const,
    registers: [this.registry],
  });
  readonly identityReloads = new Counter({
    name: "meshtally_identity_reloads_total",
    help: "Readings of changed files of Kubernetes objects, by result.",
    labelNames: ["result"] as const,
    registers: [this.registry],
  });
  readonly backpressureSeconds = new Counter({
    name: "meshtally_backpressure_seconds_total",
    help: "Seconds for which no access-log stream was read, since there was no room for what they bring.",
    registers: [this.registry],
  });
  readonly tlsReloads = new Counter({
    name: "meshtally_tls_reloads_total",
    help: "Readings of a listener's changed certificate, by result.",
    labelNames: ["listener", "result"] as const,
    registers: [this.registry],
  });
  readonly tlsCertificateExpiry = new Gauge({
    name: "meshtally_tls_certificate_expiry_timestamp_seconds",
    help: "When the certificate that a listener has in use expires, Unix time.",
    labelNames: ["listener"] as const,
    registers: [this.registry],
  });
  readonly tlsHandshakesFailed = new Counter({
    name: "meshtally_tls_handshakes_failed_total",
    help: "TLS handshakes of clients that came to nothing, by reason.",
    labelNames: ["listener", "reason"] as const,
    registers: [this.registry],
  });
  readonly logRecordsStored = new Counter({
    name: "meshtally_log_records_stored_total",
    help: "Access-log records written to the log store, by the rule that kept them.",
    labelNames: ["rule"] as const,
    registers: [this.registry],
  });
  readonly logRecordsDropped = new Counter({
    name: "meshtally_log_records_dropped_total",
    help: "Access-log entries that a rule kept and the log store has not, by rule and reason.",
    labelNames: ["rule", "reason"] as const,
    registers: [this.registry],
  });
  readonly logStoreFaults = new Counter({
    name: "meshtally_log_store_faults_total",
    help: "Times that the log store could not be written or read, by reason.",
    labelNames: ["reason"] as const,
    registers: [this.registry],
  });
  readonly logStoreBytes = new Gauge({
    name: "meshtally_log_store_bytes",
    help: "Size of the log store's files.",
    registers: [this.registry],
  });
  readonly logStoreRecords = new Gauge({
    name: "meshtally_log_store_records",
    help: "Records in the log store.",
    registers: [this.registry],
  });
  readonly logStoreFlush = new Histogram({
    name: "meshtally_log_store_flush_seconds",
    help: "How long it took to write a batch of records.",
    buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2, 10],
    registers: [this.registry],
  });
  private readonly exportSamples = new Counter({
    name: "meshtally_export_samples_total",
    help: "Samples that a receiver of metrics took.",
    labelNames: ["receiver"] as const,
    registers: [this.registry],
  });
  private readonly exportDropped = new Counter({
    name: "meshtally_export_samples_dropped_total",
    help: "Samples that never reach a receiver of metrics, by reason.",
    labelNames: ["receiver", "reason"] as const,
    registers: [this.registry],
  });
  private readonly exportRetries = new Counter({
    name: "meshtally_export_retries_total",
    help: "Requests that a receiver of metrics did not take and that are sent again, by reason.",
    labelNames: ["receiver", "reason"] as const,
    registers: [this.registry],
  });
  private readonly exportCollectionsFailed = new Counter({
    name: "meshtally_export_collections_failed_total",
    help: "Times that not all could be read that was to be sent, so that nothing was.",
    labelNames: ["receiver"] as const,
    registers: [this.registry],
  });
  private readonly exportLastSuccess = new Gauge({
    name: "meshtally_export_last_success_timestamp_seconds",
    help: "When a receiver of metrics last took a request, Unix time.",
    labelNames: ["receiver"] as const,
    registers: [this.registry],
  });
  private readonly exportQueues = new Map<string, ExportQueue>();
  readonly exportQueueBytes = this.queueGauge(
    "meshtally_export_queue_bytes",
    "Bytes that wait to be sent.",
    ({ bytes }) => bytes,
  );
  readonly exportQueueSamples = this.queueGauge(
    "meshtally_export_queue_samples",
    "Samples that wait to be sent.",
    ({ samples }) => samples,
  );
  readonly exportLag = this.queueGauge(
    "meshtally_export_lag_seconds",
    "Age of the oldest samples that wait to be sent; 0 when none do.",
    ({ oldestMs }) => (oldestMs === null ? 0 : Math.max(0, Date.now() - oldestMs) / 1000),
  );

  readonly stateSaved = new Gauge({
    name: "meshtally_state_saved_timestamp_seconds",
    help: "When the state was last saved, Unix time; 0 before the first time.",
    registers: [this.registry],
  });
  readonly stateBytes = new Gauge({
    name: "meshtally_state_bytes",
    help: "Size of the state that was saved last.",
    registers: [this.registry],
  });
  readonly stateSeconds = new Histogram({
    name: "meshtally_state_save_seconds",
    help: "How long it took to save the state.",
    buckets: [0.005, 0.025, 0.1, 0.5, 2, 10, 60],
    registers: [this.registry],
  });
  readonly stateFailures = new Counter({
    name: "meshtally_state_failures_total",
    help: "Times that the state could not be saved, by reason.",
    labelNames: ["reason"] as const,
    registers: [this.registry],
  });
  readonly stateSetAside = new Counter({
    name: "meshtally_state_set_aside_total",
    help: "Saved states that could not be taken in at the start, by reason.",
    labelNames: ["reason"] as const,
    registers: [this.registry],
  });
  private readonly labelSets = new Gauge({
    name: "meshtally_label_sets",
    help: "Distinct label sets held: of HTTP metrics, of TCP metrics.",
    labelNames: ["metrics"] as const,
    registers: [this.registry],
  });
  private readonly overflowed = new Counter({
    name: "meshtally_label_sets_overflowed_total",
    help: "Requests, and TCP connections, counted under the overflow label sets, most labels `other`: beyond limits.label_sets, limits.cells or the filter's own cap.",
    labelNames: ["metrics"] as const,
    registers: [this.registry],
  });
  private readonly letGo = new Counter({
    name: "meshtally_label_sets_let_go_total",
    help: "Label sets let go of, and their room with them, since nobody can tell of them again and they were not shown any more (metrics.expire_after).",
    labelNames: ["metrics"] as const,
    registers: [this.registry],
  });
  private readonly leftOut = new Counter({
    name: "meshtally_unified_left_out_total",
    help: "Requests, and TCP connections, that are in istio_* and in no mesh_* family, though nobody is known to report them, too, by reason.",
    labelNames: ["metrics", "reason"] as const,
    registers: [this.registry],
  });
  private readonly lives = new Gauge({
    name: "meshtally_proxy_lives",
    help: "Process lives of proxies held.",
    registers: [this.registry],
  });
  private readonly cells = new Gauge({
    name: "meshtally_cells",
    help: "Label sets of process lives held: what limits.cells bounds for each.",
    labelNames: ["metrics"] as const,
    registers: [this.registry],
  });
  private readonly connections = new Gauge({
    name: "meshtally_connections",
    help: "TCP connections followed from one access-log entry to the next: what limits.connections bounds.",
    registers: [this.registry],
  });
  private readonly edges = new Gauge({
    name: "meshtally_graph_edges",
    help: "Edges of the service graph held.",
    registers: [this.registry],
  });

  private readonly proxyStatsSeries = new Gauge({
    name: "meshtally_proxy_stats_series",
    help: "Series of Envoy's own stats held: what proxy_stats.max_series bounds.",
    registers: [this.registry],
  });
  private readonly proxyStatsRefused = new Counter({
    name: "meshtally_proxy_stats_refused_total",
    help: "Values of Envoy's own stats that found no room.",
    registers: [this.registry],
  });

  private readonly indicatorSubjects = new Gauge({
    name: "meshtally_indicator_subjects",
    help: "Services, instances, endpoints and edges whose calls are added up: what limits.indicators bounds for each kind.",
    labelNames: ["kind"] as const,
    registers: [this.registry],
  });
  private readonly indicatorRefused = new Counter({
    name: "meshtally_indicator_subjects_refused_total",
    help: "Times that a subject found no room, by kind: its calls are added to `other`.",
    labelNames: ["kind"] as const,
    registers: [this.registry],
  });
  private readonly indicatorCalls = new Counter({
    name: "meshtally_indicator_calls_out_of_time_total",
    help: "Calls that began too long ago, and are in counters but in no window of the indicators (`late`), or in the future, and are added to the present (`ahead`).",
    labelNames: ["how"] as const,
    registers: [this.registry],
  });

  /** Without a version: those of one thread, which are added to the process's. */
  constructor(version: string | null) {
    if (version !== null) this.describeProcess(version);
    // Every reason exists from the start, so that a first drop is an increase and not a new series.
    for (const reason of DROP_REASONS) this.accessLogDropped.inc({ reason }, 0);
    for (const how of STREAM_ENDS) {
      this.accessLogStreamsEnded.inc({ how }, 0);
      this.metricsStreamsEnded.inc({ how }, 0);
    }
    for (const result of METRICS_RESULTS) this.metricsReports.inc({ result }, 0);
    for (const reason of OTLP_REJECTIONS)
      for (const signal of OTLP_SIGNALS) this.otlpRejected.inc({ signal, reason }, 0);
    for (const result of SCRAPE_RESULTS) this.scrapes.inc({ result }, 0);
    for (const result of RELOAD_RESULTS) this.identityReloads.inc({ result }, 0);
    for (const reason of LOG_FAULT_REASONS) this.logStoreFaults.inc({ reason }, 0);
    for (const reason of STATE_FAILURES) this.stateFailures.inc({ reason }, 0);
    for (const reason of STATE_FAULTS) this.stateSetAside.inc({ reason }, 0);
    for (const rule of LOG_REASONS) {
      this.logRecordsStored.inc({ rule }, 0);
      for (const reason of LOG_DROP_REASONS) this.logRecordsDropped.inc({ rule, reason }, 0);
    }
    for (const reason of SCRAPE_SKIP_REASONS) {
      this.scrapeSkipped.inc({ reason }, 0);
      this.metricsSkipped.inc({ reason }, 0);
    }
  }

  /**
   * All of them in Prometheus' text format 0.0.4. (prom-client's own OpenMetrics form is of no use beside it: rendering that once
   * cuts `_total` off the counters' names for good. web/exposition/ turns this text into OpenMetrics.) `others`: what other
   * threads counted, to be added.
   */
  async render(holdings: Holdings, others: readonly SelfCounts[] = []): Promise<string> {
    this.lives.set(holdings.lives);
    this.connections.set(holdings.connections);
    this.edges.set(holdings.edges);
    this.proxyStatsSeries.set(holdings.proxyStats.series);
    this.proxyStatsRefused.reset();
    this.proxyStatsRefused.inc(holdings.proxyStats.refused);
    this.overflowed.reset();
    this.letGo.reset();
    this.leftOut.reset();
    for (const metrics of ["http", "tcp"] as const) {
      this.labelSets.set({ metrics }, holdings.labelSets[metrics]);
      this.cells.set({ metrics }, holdings.cells[metrics]);
      this.overflowed.inc({ metrics }, holdings.overflowed[metrics]);
      this.letGo.inc({ metrics }, holdings.letGo[metrics]);
      for (const [reason, count] of Object.entries(holdings.leftOut[metrics])) {
        this.leftOut.inc({ metrics, reason }, count);
      }
    }
    this.setIndicators(holdings.indicators);
    if (others.length === 0) return this.registry.metrics();
    // Those of the process have other ways to be added up, none of which is meant here: no other thread has them.
    const summed = [await this.counts(), ...others].flat().map((metric) => ({ ...metric, aggregator: "sum" }));
    return AggregatorRegistry.aggregate([summed]).metrics();
  }

  /** For another thread's `render`. */
  counts(): Promise<SelfCounts> {
    return this.registry.getMetricsAsJSON();
  }

  /** The counts of one receiver of metrics. */
  exportTo(receiver: string): ExportCounts {
    // Every reason exists from the start, so that a first drop is an increase and not a new series.
    this.exportSamples.inc({ receiver }, 0);
    this.exportCollectionsFailed.inc({ receiver }, 0);
    for (const reason of EXPORT_DROP_REASONS) this.exportDropped.inc({ receiver, reason }, 0);
    for (const reason of EXPORT_RETRY_REASONS) this.exportRetries.inc({ receiver, reason }, 0);
    return {
      sent: (samples, nowMs) => {
        this.exportSamples.inc({ receiver }, samples);
        this.exportLastSuccess.set({ receiver }, nowMs / 1000);
      },
      dropped: (reason, samples) => this.exportDropped.inc({ receiver, reason }, samples),
      retried: (reason) => this.exportRetries.inc({ receiver, reason }),
      collectionFailed: () => this.exportCollectionsFailed.inc({ receiver }),
      watch: (queue) => this.exportQueues.set(receiver, queue),
    };
  }

  private queueGauge(name: string, help: string, readOf: (queue: ExportQueue) => number): Gauge<"receiver"> {
    const queues = () => this.exportQueues;
    return new Gauge({
      name,
      help,
      labelNames: ["receiver"] as const,
      registers: [this.registry],
      collect() {
        for (const [receiver, queue] of queues()) this.set({ receiver }, readOf(queue));
      },
    });
  }

  private describeProcess(version: string): void {
    collectDefaultMetrics({ register: this.registry });
    new Gauge({
      name: "meshtally_build_info",
      help: "Always 1; the labels say what runs.",
      labelNames: ["version", "node_version"] as const,
      registers: [this.registry],
    }).set({ version, node_version: process.version }, 1);
  }

  private setIndicators({ subjects, refused, late, ahead }: Holdings["indicators"]): void {
    this.indicatorRefused.reset();
    this.indicatorCalls.reset();
    for (const [kind, count] of Object.entries(subjects)) this.indicatorSubjects.set({ kind }, count);
    for (const [kind, count] of Object.entries(refused)) this.indicatorRefused.inc({ kind }, count);
    this.indicatorCalls.inc({ how: "late" }, late);
    this.indicatorCalls.inc({ how: "ahead" }, ahead);
  }
}
