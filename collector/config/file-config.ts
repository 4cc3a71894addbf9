// What a file says -> Config: each key's default, texts as numbers, paths from the file's folder. The values have passed all checks.

import { resolve } from "node:path";
import { accessOf, clientTlsOf, type RawAccess, type RawClientTls, type Surroundings } from "../client/settings.ts";
import { CollectorError } from "../error.ts";
import { ANALYZERS } from "../identity/chain.ts";
import { DEFAULT_INSTANCE_RULE, DEFAULT_SERVICE_RULE } from "../identity/names.ts";
import { DEFAULT_REDACTED_HEADERS } from "../logs/redact.ts";
import { type RawOtlpReceiver, resourceAttributesOf, withEnvironment } from "../out/otel-environment.ts";
import {
  DEFAULT_METRICS,
  nameOf,
  type OtlpExportSettings,
  type RawReceiver,
  type ReceiverSettings,
  type RemoteWriteSettings,
} from "../out/settings.ts";
import type { TlsFiles } from "../tls/credentials.ts";
import { HISTOGRAM_BOUNDS, LABELS } from "../vocabulary.ts";
import type { Config, ListenerConfig, LogLevel } from "./config.ts";
import { parseAddress, parseDuration, parseSize, parseTarget } from "./formats.ts";
import type { FileConfig, FileTls } from "./schema.ts";

/** A configuration file, and the path templates of each file of `endpoints.openapi`. */
export interface LoadedFile {
  readonly values: FileConfig;
  readonly openapi: readonly (readonly string[])[];
}

/** `logLevel`: the environment's, which wins. */
export function configOf({ values, openapi }: LoadedFile, logLevel: LogLevel | null, around: Surroundings): Config {
  const { folder } = around;
  return {
    grpc: grpcOf(values.grpc, folder),
    http: {
      address: valid(parseAddress(values.http?.address ?? "127.0.0.1:12800")),
      tls: tlsFiles(values.http?.tls, folder),
    },
    otlp: { grpc: listenerOf(values.otlp?.grpc, folder), http: listenerOf(values.otlp?.http, folder) },
    scrape: scrapeOf(values.scrape, around),
    identity: identityOf(values.identity, folder),
    health: { rate: values.health?.rate ?? [] },
    indicators: indicatorsOf(values.indicators),
    endpoints: endpointsOf(values.endpoints, openapi),
    logs: logsOf(values.logs, folder),
    metrics: metricsOf(values.metrics),
    remoteWrite: (values.remote_write ?? []).map((file) => remoteWriteOf(file, around)),
    state: {
      folder: values.state?.folder === undefined ? null : resolve(folder, values.state.folder),
      intervalMs: valid(parseDuration(values.state?.interval ?? "10s")),
    },
    proxyStats: { maxSeries: values.proxy_stats?.enabled ? (values.proxy_stats.max_series ?? 20_000) : 0 },
    otlpExport: (values.otlp_export ?? []).map((file) => otlpExportOf(file, around)),
    limits: limitsOf(values.limits),
    log: { level: logLevel ?? values.log?.level ?? "info" },
    shutdown: { drainMs: valid(parseDuration(values.shutdown?.drain ?? "2s")) },
    threads: values.threads ?? 0,
  };
}

function grpcOf(grpc: FileConfig["grpc"], folder: string): Config["grpc"] {
  return {
    address: valid(parseAddress(grpc?.address ?? "127.0.0.1:11800")),
    maxMessageBytes: valid(parseSize(grpc?.max_message ?? "4MiB")),
    maxMetricsMessageBytes: valid(parseSize(grpc?.max_metrics_message ?? "64MiB")),
    maxStreamAgeMs: valid(parseDuration(grpc?.max_stream_age ?? "5m")),
    tls: tlsFiles(grpc?.tls, folder),
  };
}

function scrapeOf(scrape: FileConfig["scrape"], around: Surroundings): Config["scrape"] {
  const { folder } = around;
  return {
    tls: clientTlsOf((scrape ?? {}) as RawClientTls, folder),
    targets: (scrape?.targets ?? []).map((text) => valid(parseTarget(text))),
    intervalMs: valid(parseDuration(scrape?.interval ?? "5s")),
    timeoutMs: valid(parseDuration(scrape?.timeout ?? "4s")),
    maxBodyBytes: valid(parseSize(scrape?.max_body ?? "256MiB")),
    concurrency: scrape?.concurrency ?? 64,
    maxTargets: scrape?.max_targets ?? 10_000,
    kubernetes: scrape?.kubernetes ?? false,
    fileSd: {
      files: (scrape?.file_sd?.files ?? []).map((text) => resolve(folder, text)),
      intervalMs: valid(parseDuration(scrape?.file_sd?.interval ?? "5s")),
    },
    httpSd: {
      urls: scrape?.http_sd?.urls ?? [],
      access: accessOf((scrape?.http_sd ?? {}) as RawAccess, around),
      intervalMs: valid(parseDuration(scrape?.http_sd?.interval ?? "60s")),
    },
  };
}

function identityOf(identity: FileConfig["identity"], folder: string): Config["identity"] {
  return {
    chain: identity?.chain ?? ANALYZERS,
    names: {
      service: identity?.names?.service ?? DEFAULT_SERVICE_RULE,
      instance: identity?.names?.instance ?? DEFAULT_INSTANCE_RULE,
    },
    kubernetes: {
      objects: (identity?.kubernetes?.objects ?? []).map((text) => resolve(folder, text)),
      intervalMs: valid(parseDuration(identity?.kubernetes?.interval ?? "10s")),
      maxBytes: valid(parseSize(identity?.kubernetes?.max_size ?? "256MiB")),
      domain: identity?.kubernetes?.domain ?? "cluster.local",
    },
  };
}

function indicatorsOf(indicators: FileConfig["indicators"]): Config["indicators"] {
  return {
    lateAfterMs: valid(parseDuration(indicators?.late_after ?? "2m")),
    retireAfterMs: valid(parseDuration(indicators?.retire_after ?? "10m")),
    apdex: {
      thresholdNs: nanoseconds(indicators?.apdex?.threshold ?? "500ms"),
      services: (indicators?.apdex?.services ?? []).map(({ threshold, ...service }) => ({
        ...service,
        thresholdNs: nanoseconds(threshold),
      })),
    },
  };
}

function endpointsOf(endpoints: FileConfig["endpoints"], openapi: LoadedFile["openapi"]): Config["endpoints"] {
  return {
    rules: endpoints?.rules ?? [],
    openapi: (endpoints?.openapi ?? []).map(({ service }, index) => ({ service, templates: openapi[index] ?? [] })),
    maxPerService: endpoints?.max_per_service ?? 200,
  };
}

function logsOf(logs: FileConfig["logs"], folder: string): Config["logs"] {
  return {
    folder: logs?.folder === undefined ? null : resolve(folder, logs.folder),
    rules: {
      errors: logs?.errors ?? true,
      flagged: logs?.flagged ?? true,
      tokens: logs?.tokens ?? 10_000,
      slowMs: valid(parseDuration(logs?.slow ?? "1s")),
      sample: logs?.sample ?? 0,
      perMinute: logs?.per_minute ?? 6000,
    },
    redact: {
      headers: logs?.redact?.headers ?? DEFAULT_REDACTED_HEADERS,
      query: logs?.redact?.query ?? true,
    },
    bounds: {
      maxBytes: valid(parseSize(logs?.max_size ?? "1GiB")),
      maxAgeMs: valid(parseDuration(logs?.max_age ?? "72h")),
    },
    memoryBytes: valid(parseSize(logs?.memory ?? "64MiB")),
  };
}

function metricsOf(metrics: FileConfig["metrics"]): Config["metrics"] {
  const bounds = boundsOf(metrics);
  return {
    destinations: metrics?.destinations ?? "certain",
    labels: metrics?.labels?.length ? metrics.labels : LABELS,
    podLabels: metrics?.pod_labels ?? false,
    expireAfterMs: valid(parseDuration(metrics?.expire_after ?? "0s")),
    bounds,
    buckets: [
      [],
      chosenOf(bounds, metrics?.buckets?.request_duration_milliseconds),
      chosenOf(bounds, metrics?.buckets?.request_bytes),
      chosenOf(bounds, metrics?.buckets?.response_bytes),
    ],
    nativeHistograms: metrics?.native_histograms ?? false,
  };
}

function limitsOf(limits: FileConfig["limits"]): Config["limits"] {
  return {
    proxies: limits?.proxies ?? 5000,
    labelSets: limits?.label_sets ?? 50_000,
    cells: limits?.cells ?? 500_000,
    retireAfterMs: valid(parseDuration(limits?.retire_after ?? "10m")),
    edges: limits?.edges ?? 2000,
    streams: limits?.streams ?? 4096,
    connections: limits?.connections ?? 200_000,
    taps: limits?.taps ?? 8,
    indicators: limits?.indicators ?? 10_000,
    aiSeries: limits?.ai_series ?? 2000,
  };
}

type FileRemoteWrite = NonNullable<FileConfig["remote_write"]>[number];
type FileOtlpExport = NonNullable<FileConfig["otlp_export"]>[number];

function remoteWriteOf({ external_labels, ...raw }: FileRemoteWrite, around: Surroundings): RemoteWriteSettings {
  return { ...receiverSettings(raw, around), externalLabels: external_labels ?? {} };
}

function otlpExportOf(file: FileOtlpExport, around: Surroundings): OtlpExportSettings {
  const raw = withEnvironment(file as RawOtlpReceiver, around.env);
  return {
    ...receiverSettings(raw, around),
    protocol: raw.protocol ?? "http/protobuf",
    resourceAttributes: resourceAttributesOf(raw, around.env),
  };
}

type FileReceiver = Pick<
  FileRemoteWrite,
  "url" | "interval" | "timeout" | "max_samples_per_send" | "queue" | "metrics"
>;

function receiverSettings(file: FileReceiver, around: Surroundings): ReceiverSettings {
  const raw = file as RawReceiver; // in which a key that is absent and one that is undefined are the same
  return {
    name: nameOf(raw),
    url: file.url,
    access: accessOf(raw, around),
    tls: clientTlsOf(raw, around.folder),
    intervalMs: valid(parseDuration(file.interval ?? "15s")),
    timeoutMs: valid(parseDuration(file.timeout ?? "30s")),
    maxSamples: file.max_samples_per_send ?? 5000,
    queue: {
      folder: file.queue?.folder === undefined ? null : resolve(around.folder, file.queue.folder),
      maxBytes: valid(parseSize(file.queue?.max_size ?? (file.queue?.folder === undefined ? "64MiB" : "512MiB"))),
    },
    metrics: file.metrics ?? DEFAULT_METRICS,
  };
}

/** Null without an address. */
function listenerOf(
  section: { readonly address?: string; readonly tls?: FileTls } | undefined,
  folder: string,
): ListenerConfig | null {
  if (section?.address === undefined) return null;
  return { address: valid(parseAddress(section.address)), tls: tlsFiles(section.tls, folder) };
}

/** The bounds that histograms are counted by; Envoy's own where none is named. */
export function boundsOf(metrics: FileConfig["metrics"]): readonly number[] {
  return metrics?.bounds?.length ? metrics.bounds : HISTOGRAM_BOUNDS;
}

/** All where none is named. */
function chosenOf(bounds: readonly number[], named: readonly number[] = []): readonly number[] {
  return named.length === 0 ? bounds : bounds.filter((bound) => named.includes(bound));
}

/** Null without a certificate: plaintext. */
export function tlsFiles(section: FileTls | undefined, folder: string): TlsFiles | null {
  const { certificate = "", key = "", client_ca = "" } = section ?? {};
  if (certificate === "" || key === "") return null;
  return {
    certificate: resolve(folder, certificate),
    key: resolve(folder, key),
    clientCa: client_ca === "" ? null : resolve(folder, client_ca),
  };
}

/** A value that the schema's format has passed already. */
function valid<Value>(value: Value | null): Value {
  if (value === null) throw new CollectorError("internal", "a value passed the schema and cannot be parsed");
  return value;
}

function nanoseconds(duration: string): number {
  return valid(parseDuration(duration)) * 1e6;
}
