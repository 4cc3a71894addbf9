// Config: what everything else is told of the configuration, checked and with defaults. Every key is described in docs/configuration.md.

import type { ApdexRules } from "../analysis/apdex.ts";
import type { EndpointRules } from "../analysis/endpoints.ts";
import type { RateRule } from "../analysis/policy.ts";
import type { ClientTls } from "../client/client-tls.ts";
import type { Access } from "../client/secret.ts";
import type { Analyzer } from "../identity/chain.ts";
import type { RedactSettings } from "../logs/redact.ts";
import type { LogRuleSettings } from "../logs/rules.ts";
import type { OtlpExportSettings, RemoteWriteSettings } from "../out/settings.ts";
import type { DestinationRule } from "../series/unified.ts";
import type { TlsFiles } from "../tls/credentials.ts";

export const LOG_LEVELS = ["info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface Config {
  readonly grpc: GrpcConfig;
  readonly http: ListenerConfig;
  /** Ports of OTLP's own; null: none. It is served on the gRPC port in any case. */
  readonly otlp: { readonly grpc: ListenerConfig | null; readonly http: ListenerConfig | null };
  readonly scrape: ScrapeConfig;
  readonly identity: IdentityConfig;
  readonly health: { readonly rate: readonly RateRule[] };
  readonly indicators: IndicatorsConfig;
  readonly endpoints: EndpointRules & { readonly maxPerService: number };
  readonly logs: LogsConfig;
  readonly metrics: MetricsConfig;
  readonly remoteWrite: readonly RemoteWriteSettings[];
  readonly state: StateConfig;
  /** Envoy's own stats on /metrics; `maxSeries` 0: none. */
  readonly proxyStats: { readonly maxSeries: number };
  readonly otlpExport: readonly OtlpExportSettings[];
  readonly limits: LimitsConfig;
  readonly log: { readonly level: LogLevel };
  readonly shutdown: { readonly drainMs: number };
  /** Threads that count, besides the main one; 0: it counts itself. */
  readonly threads: number;
}

export interface Address {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
}

export interface ListenerConfig {
  readonly address: Address;
  /** Default: plaintext. */
  readonly tls?: TlsFiles | null;
}

interface GrpcConfig extends ListenerConfig {
  readonly maxMessageBytes: number;
  /** Of the metrics service's messages. */
  readonly maxMetricsMessageBytes: number;
  /** 0: never ended for its age. */
  readonly maxStreamAgeMs: number;
}

interface ScrapeConfig {
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Base URLs of admin interfaces, without a slash at the end: "http://127.0.0.1:15000". */
  readonly targets: readonly string[];
  readonly maxBodyBytes: number;
  readonly concurrency: number;
  readonly maxTargets: number;
  /** Files of Prometheus' target groups; the last part of a path may have `*` for anything. */
  readonly fileSd: { readonly files: readonly string[]; readonly intervalMs: number };
  readonly httpSd: { readonly urls: readonly string[]; readonly access: Access; readonly intervalMs: number };
  /** Of targets and servers that name them. */
  readonly tls: ClientTls;
  /** Whether pods with a proxy are targets, by `identity.kubernetes.objects`. */
  readonly kubernetes: boolean;
}

interface IdentityConfig {
  /** What names the ends of a call, in the order of trying. */
  readonly chain: readonly Analyzer[];
  /** Templates without a fault (identity/names.ts). */
  readonly names: { readonly service: string; readonly instance: string };
  readonly kubernetes: {
    readonly objects: readonly string[];
    readonly intervalMs: number;
    readonly maxBytes: number;
    readonly domain: string;
  };
}

interface IndicatorsConfig {
  readonly apdex: ApdexRules;
  readonly lateAfterMs: number;
  readonly retireAfterMs: number;
}

interface LogsConfig {
  /** Where kept access logs are stored; null: none are kept. */
  readonly folder: string | null;
  readonly rules: LogRuleSettings;
  readonly redact: RedactSettings;
  readonly bounds: { readonly maxBytes: number; readonly maxAgeMs: number };
  readonly memoryBytes: number;
}

interface MetricsConfig {
  /** Which reports of destinations count in mesh_*. */
  readonly destinations: DestinationRule;
  /** The labels that are kept, of LABELS. */
  readonly labels: readonly string[];
  /** Whether series say of which pod, and namespace, the report is. */
  readonly podLabels: boolean;
  /** How long series are shown that do not grow; 0: for ever. */
  readonly expireAfterMs: number;
  /** The bounds that histograms are counted by, rising. */
  readonly bounds: readonly number[];
  /** By HttpMetric, those of its histogram that are shown, rising. */
  readonly buckets: readonly (readonly number[])[];
  /** Whether native histograms are kept beside the classic ones. */
  readonly nativeHistograms: boolean;
}

interface StateConfig {
  /** Where what was counted is saved; null: nowhere. */
  readonly folder: string | null;
  readonly intervalMs: number;
}

interface LimitsConfig {
  readonly proxies: number;
  readonly labelSets: number;
  readonly cells: number;
  readonly retireAfterMs: number;
  readonly edges: number;
  readonly streams: number;
  readonly connections: number;
  readonly taps: number;
  readonly indicators: number;
  readonly aiSeries: number;
}
