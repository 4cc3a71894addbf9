// Config: defaults, one YAML file, environment -> checked values. The only reader of configuration files.
// Every key is described in docs/configuration.md; deploy/collector.yaml shows all of them.

import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { dirname, resolve } from "node:path";
import { type Static, type TSchema, Type } from "@sinclair/typebox";
import { Ajv, type ErrorObject } from "ajv";
import { isMap, isNode, isScalar, LineCounter, parseDocument, visit } from "yaml";
import type { ApdexRules } from "./analysis/apdex.ts";
import { type EndpointRules, isRegexPath, METHODS } from "./analysis/endpoints.ts";
import { loadOpenApi } from "./analysis/openapi.ts";
import { parsePathTemplate } from "./analysis/path-template.ts";
import { isPattern } from "./analysis/pattern.ts";
import { codePattern, type RateRule } from "./analysis/policy.ts";
import { CollectorError, quote } from "./error.ts";
import { ANALYZERS, type Analyzer } from "./identity/chain.ts";
import { DEFAULT_INSTANCE_RULE, DEFAULT_SERVICE_RULE, parseNameRule } from "./identity/names.ts";
import { DEFAULT_REDACTED_HEADERS, type RedactSettings } from "./logs/redact.ts";
import type { LogRuleSettings } from "./logs/rules.ts";
import { type RawOtlpReceiver, resourceAttributesOf, withEnvironment } from "./out/otel-environment.ts";
import {
  accessOf,
  checkReceiver,
  clientTlsOf,
  DEFAULT_METRICS,
  isReceiverUrl,
  nameOf,
  OTLP_PROTOCOLS,
  type OtlpExportSettings,
  type OtlpProtocol,
  type RawReceiver,
  type ReceiverSettings,
  type RemoteWriteSettings,
  type Surroundings,
} from "./out/settings.ts";
import { DESTINATION_RULES, type DestinationRule } from "./series/unified.ts";
import { checkCredentials, readTlsFilesSync, type TlsFiles } from "./tls/credentials.ts";
import { HISTOGRAM_BOUNDS, LABELS } from "./vocabulary.ts";

const LOG_LEVELS = ["info", "warn", "error", "silent"] as const;
type LogLevel = (typeof LOG_LEVELS)[number];

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

interface ListenerConfig {
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
  readonly httpSd: { readonly urls: readonly string[]; readonly intervalMs: number };
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
  /** How long series are shown that do not grow; 0: for ever. */
  readonly expireAfterMs: number;
  /** By HttpMetric, the bounds of its histogram that are shown, of HISTOGRAM_BOUNDS, rising. */
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

// === values ===

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const UNITS_BYTES: Readonly<Record<string, number>> = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

/** Milliseconds of `500ms`, `5s`, `10m`, `1h`; null for any other text. */
function parseDuration(text: string): number | null {
  const [, digits, unit] = /^(\d{1,6})(ms|s|m|h)$/.exec(text) ?? [];
  return unit === undefined ? null : Number(digits) * (UNITS_MS[unit] as number);
}

/** Bytes of `512KiB`, `64MiB`; null for any other text. */
function parseSize(text: string): number | null {
  const [, digits, unit] = /^(\d{1,6})(B|KiB|MiB|GiB)$/.exec(text) ?? [];
  return unit === undefined ? null : Number(digits) * (UNITS_BYTES[unit] as number);
}

/** Host and port of `127.0.0.1:80`, `[::1]:80`, `localhost:80`; null for any other text. */
function parseAddress(text: string): Address | null {
  const [, six, name, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([a-zA-Z0-9.-]+)):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port > 65_535 || (six !== undefined && isIP(six) !== 6)) return null;
  return { host: six ?? name ?? "", port };
}

/** The text of an address: `127.0.0.1:80`, `[::1]:80`. */
export function formatAddress({ host, port }: Address): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** The base URL of `127.0.0.1:15000` or `https://admin.example/envoy/`; null for any other text. */
function parseTarget(text: string): string | null {
  const isUrl = /^https?:\/\//.test(text);
  if (!isUrl && (parseAddress(text)?.port ?? 0) === 0) return null;
  const url = isUrl ? text : `http://${text}`;
  if (!URL.canParse(url)) return null;
  const { href, hostname, username, password, search, hash } = new URL(url);
  if (username !== "" || password !== "" || search !== "" || hash !== "") return null;
  // A URL's host may be written as one number, and then is another address than one thinks: http://9901 is 0.0.38.173.
  if (isIP(hostname) === 4 && !url.includes(`//${hostname}`)) return null;
  return href.replace(/\/+$/, "");
}

/** Whether it is an http or https URL without user and fragment. */
function isSourceUrl(text: string): boolean {
  if (!/^https?:\/\//.test(text) || !URL.canParse(text)) return false;
  const { username, password, hash } = new URL(text);
  return username === "" && password === "" && hash === "";
}

function isBetween(low: number, value: number | null, high: number): boolean {
  return value !== null && low <= value && value <= high;
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

// === the file ===

const MAX_THREADS = 64;
const MIN_INTERVAL_MS = 10;
/** A week. Timers of Node.js end at 2^31 ms: a longer one fires at once. */
const MAX_DURATION_MS = 168 * 3_600_000;

/** What a log store needs to work: in so many files as it is cut into, and for what it writes at once. */
const MIN_STORE_BYTES = 16 * 2 ** 20;
const MIN_STORE_MEMORY_BYTES = 32 * 2 ** 20;
/** Prometheus' own five minutes, after which it takes a series for gone, or less. */
const MIN_EXPIRY_MS = 60_000;
/** What a queue is cut into has room for a request. */
const MIN_QUEUE_BYTES = 16 * 2 ** 20;
const MIN_AGE_MS = 60_000;
const MAX_AGE_MS = 8760 * 3_600_000;

/** The formats of text values: what makes a text one of them. */
const FORMATS: Readonly<Record<string, (text: string) => boolean>> = {
  duration: (text) => isBetween(0, parseDuration(text), MAX_DURATION_MS),
  interval: (text) => isBetween(MIN_INTERVAL_MS, parseDuration(text), MAX_DURATION_MS),
  expiry: (text) => parseDuration(text) === 0 || isBetween(MIN_EXPIRY_MS, parseDuration(text), MAX_DURATION_MS),
  lateness: (text) => isBetween(15_000, parseDuration(text), 3_600_000),
  retirement: (text) => isBetween(120_000, parseDuration(text), MAX_DURATION_MS),
  threshold: (text) => isBetween(1, parseDuration(text), MAX_DURATION_MS),
  size: (text) => (parseSize(text) ?? 0) > 0,
  store: (text) => (parseSize(text) ?? 0) >= MIN_STORE_BYTES,
  age: (text) => (parseDuration(text) ?? 0) >= MIN_AGE_MS && isBetween(0, parseDuration(text), MAX_AGE_MS),
  memory: (text) => (parseSize(text) ?? 0) >= MIN_STORE_MEMORY_BYTES,
  address: (text) => parseAddress(text) !== null,
  target: (text) => parseTarget(text) !== null,
  source: isSourceUrl,
  pattern: isPattern,
  codes: (text) => isPattern(codePattern(text)),
  receiver: isReceiverUrl,
  queue: (text) => (parseSize(text) ?? 0) >= MIN_QUEUE_BYTES,
  domain: (text) => /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(text),
};

// A schema's description is what its fault says was expected.
const duration = Type.String({ format: "duration", description: "a duration up to 168h such as 500ms, 5s or 10m" });
const interval = Type.String({
  format: "interval",
  description: `a duration from ${MIN_INTERVAL_MS}ms to 168h such as 5s`,
});
const expiry = Type.String({
  format: "expiry",
  description: "a duration from 1m to 168h such as 24h, or 0s for never",
});
const lateness = Type.String({ format: "lateness", description: "a duration from 15s to 1h such as 2m" });
const retirement = Type.String({ format: "retirement", description: "a duration from 2m to 168h such as 10m" });
const threshold = Type.String({ format: "threshold", description: "a duration from 1ms to 168h such as 500ms" });
const size = Type.String({ format: "size", description: "a size such as 512KiB or 64MiB" });
const storeSize = Type.String({ format: "store", description: "a size from 16MiB such as 1GiB" });
const storeMemory = Type.String({ format: "memory", description: "a size from 32MiB such as 64MiB" });
const age = Type.String({ format: "age", description: "a duration from 1m to 8760h such as 72h" });
const address = Type.String({ format: "address", description: "host:port such as 127.0.0.1:11800 or [::1]:0" });
const target = Type.String({
  format: "target",
  description: "host:port or http(s) URL without user of an Envoy's admin interface, such as 127.0.0.1:15000",
});
const sourceUrl = Type.String({
  format: "source",
  description: "an http(s) URL without user, such as https://targets.example/envoys",
});
const domain = Type.String({ format: "domain", description: "a domain such as cluster.local" });
const path = Type.String({ minLength: 1, description: "the path of a file or folder" });
const pattern = Type.String({ format: "pattern", description: 'a regular expression such as "reviews|ratings"' });
const codes = Type.String({
  format: "codes",
  description: 'a regular expression of codes, "-" for no response, in quotes, such as "^4\\d\\d$", "5XX" or "404"',
});
const percentage = Type.Number({ minimum: 0, maximum: 100, description: "a percentage from 0 to 100" });
const method = Type.Unsafe<string>({ enum: METHODS, description: `one of ${METHODS.join(", ")}` });
const endpointPath = Type.String({
  description: "a path template such as /users/{name}/orders/*, or a regular expression that begins with ^",
});
const endpointName = Type.String({ minLength: 1, maxLength: 128, description: "a name of 1 to 128 characters" });
const pemFile = Type.String({ description: 'the path of a PEM file, or "" for none' });
const headerName = Type.String({
  minLength: 1,
  maxLength: 256,
  description: "a header's name, with * for any part of it",
});
const template = Type.String({ description: "a template such as ${SERVICE}.${NAMESPACE}" });
const analyzer = Type.Unsafe<Analyzer>({ enum: ANALYZERS, description: `one of ${ANALYZERS.join(", ")}` });
const destinations = Type.Unsafe<DestinationRule>({
  enum: DESTINATION_RULES,
  description: `one of ${DESTINATION_RULES.join(", ")}`,
});
const label = Type.Unsafe<string>({ enum: LABELS, description: `one of ${LABELS.join(", ")}` });
const labels = Type.Array(label, { uniqueItems: true, description: "a list of labels, each once" });
const bounds = Type.Array(
  Type.Unsafe<number>({
    enum: HISTOGRAM_BOUNDS,
    description: `one of the bounds that proxies count by: ${HISTOGRAM_BOUNDS.join(", ")}`,
  }),
  { uniqueItems: true, description: "a list of bounds, each once" },
);
const flag = Type.Boolean({ description: "true or false" });
const receiverUrl = Type.String({
  format: "receiver",
  description: "an http(s) URL without user and password, such as https://prometheus.example/api/v1/write",
});
const queueSize = Type.String({ format: "queue", description: "a size from 16MiB such as 512MiB" });
const fieldName = Type.String({ pattern: "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", description: "a header's name" });
const headerValue = Type.String({ pattern: "^[\\t -~]*$", description: "a text of printable ASCII" });
const receiverName = Type.String({
  pattern: "^[a-zA-Z0-9_.:-]{1,64}$",
  description: "a name of letters, digits and _.:-",
});
const variable = Type.String({ minLength: 1, description: "the name of an environment variable" });
const level = Type.Unsafe<LogLevel>({ enum: LOG_LEVELS, description: `one of ${LOG_LEVELS.join(", ")}` });

function upTo(maximum: number) {
  return Type.Integer({ minimum: 1, maximum, description: `a whole number from 1 to ${maximum}` });
}

function from0To(maximum: number) {
  return Type.Integer({ minimum: 0, maximum, description: `a whole number from 0 to ${maximum}` });
}

function section<Keys extends Record<string, TSchema>>(keys: Keys) {
  return Type.Partial(Type.Object(keys), { additionalProperties: false, description: "a section with keys" });
}

/** An element of a list, with all of its keys but those that are `Type.Optional`. */
function element<Keys extends Record<string, TSchema>>(keys: Keys) {
  return Type.Object(keys, { additionalProperties: false, description: "a section with keys" });
}

const MAX_RULES = 1000;

function listOf<Element extends TSchema>(item: Element, what: string) {
  return Type.Array(item, { maxItems: MAX_RULES, description: `a list of at most ${MAX_RULES} ${what}` });
}

/** Kiali's `health_config.rate`. */
const rate = element({
  namespace: Type.Optional(pattern),
  kind: Type.Optional(pattern),
  name: Type.Optional(pattern),
  tolerance: listOf(
    element({
      code: codes,
      protocol: Type.Optional(pattern),
      direction: Type.Optional(pattern),
      degraded: Type.Optional(percentage),
      failure: Type.Optional(percentage),
    }),
    "tolerances",
  ),
});
const tls = section({ certificate: pemFile, key: pemFile, client_ca: pemFile });

/** Where metrics are sent to, and as whom. */
const receiver = {
  name: Type.Optional(receiverName),
  url: receiverUrl,
  insecure: Type.Optional(flag),
  headers: Type.Optional(
    listOf(
      element({
        name: fieldName,
        value: Type.Optional(headerValue),
        file: Type.Optional(path),
        env: Type.Optional(variable),
      }),
      "headers",
    ),
  ),
  basic_auth: Type.Optional(
    element({
      username: Type.String({ minLength: 1, description: "a name" }),
      password_file: Type.Optional(path),
      password_env: Type.Optional(variable),
    }),
  ),
  bearer_token_file: Type.Optional(path),
  bearer_token_env: Type.Optional(variable),
  tls: Type.Optional(section({ ca: pemFile, certificate: pemFile, key: pemFile })),
  interval: Type.Optional(interval),
  timeout: Type.Optional(interval),
  max_samples_per_send: Type.Optional(upTo(100_000)),
  queue: Type.Optional(section({ folder: path, max_size: queueSize })),
  metrics: Type.Optional(pattern),
};
const remoteWrite = element({
  ...receiver,
  external_labels: Type.Optional(
    Type.Record(
      // Not those that say which series of a metric it is.
      Type.String({ pattern: "^(?!__|(?:le|quantile)$)[a-zA-Z_][a-zA-Z0-9_]*$" }),
      Type.String({ description: "a text" }),
      { additionalProperties: false, description: "labels: names that may be a Prometheus label's, and texts" },
    ),
  ),
});
const otlpExport = element({
  ...receiver,
  url: Type.Optional(receiverUrl),
  protocol: Type.Optional(
    Type.Unsafe<OtlpProtocol>({ enum: OTLP_PROTOCOLS, description: `one of ${OTLP_PROTOCOLS.join(", ")}` }),
  ),
  resource_attributes: Type.Optional(
    Type.Record(Type.String({ pattern: "^.+$" }), Type.String({ description: "a text" }), {
      additionalProperties: false,
      description: "attributes: names and texts",
    }),
  ),
});

/** What a file may hold; docs/configuration.md has a row for each key. */
export const FILE_SCHEMA = section({
  grpc: section({
    address,
    insecure: flag,
    tls,
    max_message: size,
    max_metrics_message: size,
    max_stream_age: duration,
  }),
  http: section({ address, insecure: flag, tls }),
  otlp: section({
    grpc: section({ address, insecure: flag, tls }),
    http: section({ address, insecure: flag, tls }),
  }),
  scrape: section({
    targets: Type.Array(target, { description: "a list of targets" }),
    interval,
    timeout: interval,
    max_body: size,
    concurrency: upTo(1000),
    max_targets: upTo(100_000),
    kubernetes: flag,
    file_sd: section({ files: Type.Array(path, { description: "a list of paths" }), interval }),
    http_sd: section({ urls: Type.Array(sourceUrl, { description: "a list of URLs" }), interval }),
  }),
  identity: section({
    chain: Type.Array(analyzer, { uniqueItems: true, description: "a list of analyzers, each once" }),
    names: section({ service: template, instance: template }),
    kubernetes: section({
      objects: Type.Array(path, { description: "a list of paths" }),
      interval,
      max_size: size,
      domain,
    }),
  }),
  health: section({ rate: listOf(rate, "rules") }),
  indicators: section({
    late_after: lateness,
    retire_after: retirement,
    apdex: section({
      threshold,
      services: listOf(element({ namespace: Type.Optional(pattern), name: pattern, threshold }), "services"),
    }),
  }),
  endpoints: section({
    rules: listOf(
      element({
        service: Type.Optional(pattern),
        method: Type.Optional(method),
        path: endpointPath,
        endpoint: Type.Optional(endpointName),
      }),
      "rules",
    ),
    openapi: listOf(element({ service: pattern, file: path }), "files"),
    max_per_service: upTo(10_000),
  }),
  logs: section({
    folder: path,
    errors: flag,
    flagged: flag,
    tokens: from0To(1_000_000_000),
    slow: duration,
    sample: from0To(1_000_000),
    per_minute: upTo(1_000_000),
    redact: section({
      headers: Type.Array(headerName, { maxItems: 100, description: "a list of names of headers" }),
      query: flag,
    }),
    max_size: storeSize,
    max_age: age,
    memory: storeMemory,
  }),
  metrics: section({
    destinations,
    labels,
    expire_after: expiry,
    buckets: section({ request_duration_milliseconds: bounds, request_bytes: bounds, response_bytes: bounds }),
    native_histograms: flag,
  }),
  remote_write: listOf(remoteWrite, "receivers"),
  otlp_export: listOf(otlpExport, "receivers"),
  state: section({ folder: path, interval }),
  proxy_stats: section({ enabled: flag, max_series: upTo(1_000_000) }),
  limits: section({
    proxies: upTo(1_000_000),
    label_sets: upTo(1_000_000),
    cells: upTo(10_000_000),
    retire_after: duration,
    edges: upTo(20_000),
    streams: upTo(1_000_000),
    connections: upTo(10_000_000),
    taps: upTo(1000),
    indicators: upTo(1_000_000),
    ai_series: upTo(100_000),
  }),
  log: section({ level }),
  shutdown: section({ drain: duration }),
  threads: Type.Integer({ minimum: 0, maximum: MAX_THREADS, description: `a whole number from 0 to ${MAX_THREADS}` }),
});
type FileConfig = Static<typeof FILE_SCHEMA>;

const validate = new Ajv({ allErrors: true, verbose: true, formats: { ...FORMATS } }).compile<FileConfig>(FILE_SCHEMA);

// === loading ===

/** What the configuration comes from. */
export interface ConfigSource {
  /** Path of the YAML file; null for defaults alone. */
  readonly path: string | null;
  /** LOG_LEVEL is read, and wins over the file. */
  readonly env: Readonly<NodeJS.ProcessEnv>;
}

/** Throws CollectorError `config_invalid` that lists every fault, one a line, when there is any. */
export function loadConfig({ path, env }: ConfigSource): Config {
  const faults: string[] = [];
  const file = readFile(path, env, faults);
  const logLevel = readLogLevel(env, faults);
  if (file === null || faults.length > 0) throw new CollectorError("config_invalid", faults.join("\n"));
  return withDefaults(file, logLevel, { folder: path === null ? "." : dirname(path), env });
}

/** A configuration file, and the path templates of each file of `endpoints.openapi`. */
interface LoadedFile {
  readonly values: FileConfig;
  readonly openapi: readonly (readonly string[])[];
}

/** Paths are relative to the file's folder. */
function withDefaults(
  {
    values: {
      grpc,
      http,
      otlp,
      scrape,
      identity,
      health,
      indicators,
      endpoints,
      logs,
      metrics,
      state,
      proxy_stats: proxyStats,
      limits,
      log,
      shutdown,
      threads,
      ...rest
    },
    openapi,
  }: LoadedFile,
  logLevel: LogLevel | null,
  around: Surroundings,
): Config {
  const { folder } = around;
  return {
    grpc: {
      address: valid(parseAddress(grpc?.address ?? "127.0.0.1:11800")),
      maxMessageBytes: valid(parseSize(grpc?.max_message ?? "4MiB")),
      maxMetricsMessageBytes: valid(parseSize(grpc?.max_metrics_message ?? "64MiB")),
      maxStreamAgeMs: valid(parseDuration(grpc?.max_stream_age ?? "5m")),
      tls: tlsFiles(grpc?.tls, folder),
    },
    http: { address: valid(parseAddress(http?.address ?? "127.0.0.1:12800")), tls: tlsFiles(http?.tls, folder) },
    otlp: { grpc: listener(otlp?.grpc, folder), http: listener(otlp?.http, folder) },
    scrape: {
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
        intervalMs: valid(parseDuration(scrape?.http_sd?.interval ?? "60s")),
      },
    },
    identity: {
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
    },
    health: { rate: health?.rate ?? [] },
    indicators: {
      lateAfterMs: valid(parseDuration(indicators?.late_after ?? "2m")),
      retireAfterMs: valid(parseDuration(indicators?.retire_after ?? "10m")),
      apdex: {
        thresholdNs: nanoseconds(indicators?.apdex?.threshold ?? "500ms"),
        services: (indicators?.apdex?.services ?? []).map(({ threshold, ...service }) => ({
          ...service,
          thresholdNs: nanoseconds(threshold),
        })),
      },
    },
    endpoints: {
      rules: endpoints?.rules ?? [],
      openapi: (endpoints?.openapi ?? []).map(({ service }, index) => ({ service, templates: openapi[index] ?? [] })),
      maxPerService: endpoints?.max_per_service ?? 200,
    },
    logs: {
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
    },
    metrics: {
      destinations: metrics?.destinations ?? "certain",
      labels: metrics?.labels?.length ? metrics.labels : LABELS,
      expireAfterMs: valid(parseDuration(metrics?.expire_after ?? "0s")),
      buckets: [
        [],
        boundsOf(metrics?.buckets?.request_duration_milliseconds),
        boundsOf(metrics?.buckets?.request_bytes),
        boundsOf(metrics?.buckets?.response_bytes),
      ],
      nativeHistograms: metrics?.native_histograms ?? false,
    },
    remoteWrite: (rest.remote_write ?? []).map(({ external_labels, ...raw }) => ({
      ...receiverSettings(raw, around),
      externalLabels: external_labels ?? {},
    })),
    state: {
      folder: state?.folder === undefined ? null : resolve(folder, state.folder),
      intervalMs: valid(parseDuration(state?.interval ?? "10s")),
    },
    proxyStats: { maxSeries: proxyStats?.enabled ? (proxyStats.max_series ?? 20_000) : 0 },
    otlpExport: (rest.otlp_export ?? []).map((file) => {
      const raw = withEnvironment(file as RawOtlpReceiver, around.env);
      return {
        ...receiverSettings(raw, around),
        protocol: raw.protocol ?? "http/protobuf",
        resourceAttributes: resourceAttributesOf(raw, around.env),
      };
    }),
    limits: {
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
    },
    log: { level: logLevel ?? log?.level ?? "info" },
    shutdown: { drainMs: valid(parseDuration(shutdown?.drain ?? "2s")) },
    threads: threads ?? 0,
  };
}

type FileReceiver = Pick<
  Static<typeof remoteWrite>,
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
function listener(
  section: { readonly address?: string; readonly tls?: FileTls } | undefined,
  folder: string,
): ListenerConfig | null {
  if (section?.address === undefined) return null;
  return { address: valid(parseAddress(section.address)), tls: tlsFiles(section.tls, folder) };
}

/** All where none is named. */
function boundsOf(named: readonly number[] = []): readonly number[] {
  return named.length === 0 ? HISTOGRAM_BOUNDS : HISTOGRAM_BOUNDS.filter((bound) => named.includes(bound));
}

type FileTls = Static<typeof tls>;

/** Null without a certificate: plaintext. */
function tlsFiles(section: FileTls | undefined, folder: string): TlsFiles | null {
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

function readLogLevel(env: Readonly<NodeJS.ProcessEnv>, faults: string[]): LogLevel | null {
  const text = env["LOG_LEVEL"] ?? "";
  if (text === "") return null;
  const known = LOG_LEVELS.find((name) => name === text.toLowerCase());
  if (!known) faults.push(`LOG_LEVEL: found ${quote(text)}, expected ${level.description}`);
  return known ?? null;
}

/** The file's values; null when it is not valid, and then `faults` says why. */
function readFile(path: string | null, env: Readonly<NodeJS.ProcessEnv>, faults: string[]): LoadedFile | null {
  if (path === null) return { values: {}, openapi: [] };
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error: unknown) {
    faults.push(`${path}: cannot be read: ${error instanceof Error ? error.message : String(error)}`);
    return null;
  }
  try {
    const source = new Source(path, text, env);
    const values = source.read();
    faults.push(...source.faultsInOrder());
    return faults.length === 0 ? { values, openapi: source.openapi } : null;
  } catch (error: unknown) {
    // The YAML library gives up on thousands of nested brackets, for one.
    faults.push(`${path}:1:1: cannot be read: ${error instanceof Error ? error.message : String(error)}`);
    return null;
  }
}

type Path = readonly (string | number)[];
type Section = Record<string, unknown>;

/** Sections that say where to listen. */
const LISTENERS: readonly Path[] = [["grpc"], ["http"], ["otlp", "grpc"], ["otlp", "http"]];

/** One file's text. Its faults read `FILE:LINE:COLUMN: PATH: found X, expected Y`. */
class Source {
  private readonly lines = new LineCounter();
  private readonly document;
  private readonly faults: { offset: number; text: string }[] = [];
  /** The path templates of each file of `endpoints.openapi`. */
  readonly openapi: string[][] = [];

  constructor(
    private readonly file: string,
    text: string,
    private readonly env: Readonly<NodeJS.ProcessEnv>,
  ) {
    this.document = parseDocument(text, { lineCounter: this.lines });
  }

  faultsInOrder(): string[] {
    this.faults.sort((a, b) => a.offset - b.offset);
    return this.faults.map(({ offset, text }) => {
      const { line, col } = this.lines.linePos(offset);
      return `${this.file}:${line}:${col}: ${text}`;
    });
  }

  /** The value, to be used only if there are no faults. */
  read(): FileConfig {
    for (const { message, pos } of this.document.errors) {
      // The library's message goes on with the place, which will stand in front, and a drawing of it.
      this.faults.push({ offset: pos[0], text: message.split(" at line ")[0] as string });
    }
    this.refuseAliases();
    if (this.faults.length > 0) return {};
    const value = this.value();
    if (!validate(value)) for (const error of validate.errors ?? []) this.reportSchema(error);
    for (const listener of LISTENERS) {
      this.checkExposure(value, listener);
      this.checkTls(value, listener);
    }
    this.checkNameRule(value, "service");
    this.checkNameRule(value, "instance");
    for (const [index, rule] of entriesAt(value, "endpoints", "rules")) this.checkEndpointRule(rule, index);
    for (const [index, { file }] of entriesAt(value, "endpoints", "openapi")) this.readOpenApi(file, index);
    if (this.faults.length === 0) this.checkReceivers(value as FileConfig);
    return value as FileConfig;
  }

  /** Receivers of metrics are told apart by name, and each needs a folder of its own. */
  private checkReceivers({ remote_write = [], otlp_export = [] }: FileConfig): void {
    const known = { names: new Set<string>(), folders: new Set<string>() };
    for (const [index, file] of remote_write.entries())
      this.checkReceiver(["remote_write", index], file as RawReceiver, known);
    for (const [index, file] of otlp_export.entries()) {
      const raw = withEnvironment(file as RawOtlpReceiver, this.env);
      if (isReceiverUrl(raw.url)) {
        this.checkReceiver(["otlp_export", index], raw, known);
        continue;
      }
      const found = raw.url === "" ? "none" : "in OTEL_EXPORTER_OTLP_ENDPOINT what is no URL";
      const place = ["otlp_export", index, "url"];
      this.report(
        this.offsetOf(place.slice(0, 2)),
        place,
        found,
        `${receiverUrl.description}, here or in the environment`,
      );
    }
  }

  private checkReceiver(place: Path, raw: RawReceiver, known: { names: Set<string>; folders: Set<string> }): void {
    const around = { folder: dirname(this.file), env: this.env };
    const at = (path: Path, found: string, expected: string) => {
      const whole = [...place, ...path];
      this.report(this.offsetOf(whole), whole, found, expected);
    };
    for (const { path, found, expected } of checkReceiver(raw, around)) at(path, found, expected);
    const name = nameOf(raw);
    if (known.names.has(name)) at(["name"], `${quote(name)} a second time`, "a name of its own");
    known.names.add(name);
    if (raw.queue?.folder === undefined) return;
    const folder = resolve(around.folder, raw.queue.folder);
    if (known.folders.has(folder))
      at(["queue", "folder"], `${quote(raw.queue.folder)} a second time`, "a folder of its own");
    known.folders.add(folder);
  }

  /** Nothing here needs them, and they can name nothing, name themselves, or make a few lines into gigabytes. */
  private refuseAliases(): void {
    visit(this.document, {
      Alias: (_key, { source, range }) => {
        this.faults.push({ offset: range?.[0] ?? 0, text: `found the alias *${source}, expected a value` });
      },
    });
  }

  private value(): unknown {
    return withSections(this.document.toJS(), FILE_SCHEMA);
  }

  private reportSchema({ instancePath, keyword, params, parentSchema, data }: ErrorObject): void {
    const path: Path = instancePath.split("/").slice(1);
    if (keyword === "required") {
      const key = String(params["missingProperty"]);
      const { properties } = parentSchema as { properties: Readonly<Record<string, TSchema>> };
      this.report(this.offsetOf(path), [...path, key], "nothing", String(properties[key]?.["description"]));
      return;
    }
    if (keyword !== "additionalProperties") {
      this.report(this.offsetOf(path), path, shown(path, data), String(parentSchema?.["description"]));
      return;
    }
    const key = String(params["additionalProperty"]);
    const { properties, description } = parentSchema as { properties?: object; description: string };
    if (properties === undefined) {
      this.report(this.offsetOfKey(path, key), [...path, key], "a name that it cannot have", description);
      return;
    }
    const known = Object.keys(properties);
    const expected = `${nearest(key, known)} (known here: ${known.join(", ")})`;
    this.report(this.offsetOfKey(path, key), [...path, key], "an unknown key", expected);
  }

  /** An address that more than this machine can reach must be asked for: nobody who comes there is authenticated. */
  private checkExposure(value: unknown, listenerPath: Path): void {
    const listener = valueAt(value, listenerPath);
    if (!isSection(listener) || typeof listener["address"] !== "string" || listener["insecure"] === true) return;
    if (setKeys(listener["tls"]).length > 0) return; // what is wrong with it has a fault of its own
    const parsed = parseAddress(listener["address"]);
    if (!parsed || isLoopback(parsed.host)) return;
    const expected =
      "a loopback address, or beside it `tls`, or `insecure: true` (whoever reaches it is served, unauthenticated)";
    const path = [...listenerPath, "address"];
    this.report(this.offsetOf(path), path, quote(listener["address"]), expected);
  }

  /** Certificate and key come together, and the files must be of use now: a restart is a bad moment to find out. */
  private checkTls(value: unknown, listenerPath: Path): void {
    const listener = valueAt(value, listenerPath);
    const section = isSection(listener) ? listener["tls"] : undefined;
    const keys = setKeys(section);
    if (keys.length === 0) return;
    const missing = ["certificate", "key"].filter((key) => !keys.includes(key));
    const path = [...listenerPath, "tls"];
    if (missing.length > 0) {
      this.report(this.offsetOf(path), path, `no ${missing.join(" and no ")}`, "certificate and key, both");
      return;
    }
    const files = tlsFiles(section as FileTls, dirname(this.file));
    if (files === null) return;
    const checked = checkCredentials(readTlsFilesSync(files));
    if (checked.ok) return;
    const { file, found, expected } = checked;
    const where = found.includes(`'${files[file]}'`) ? "" : ` in ${files[file]}`; // most of the system's own words name it
    const place = [...path, file === "clientCa" ? "client_ca" : file];
    this.report(this.offsetOf(place), place, `${found}${where}`, expected);
  }

  /** A template's fault is told with the place in it. */
  private checkNameRule(value: unknown, name: "service" | "instance"): void {
    const identity = isSection(value) ? value["identity"] : undefined;
    const names = isSection(identity) ? identity["names"] : undefined;
    const text = isSection(names) ? names[name] : undefined;
    if (typeof text !== "string") return;
    const parsed = parseNameRule(text);
    if (parsed.ok) return;
    const { character, found, expected } = parsed.fault;
    const path = ["identity", "names", name];
    this.report(this.offsetOf(path), path, `${found} at character ${character} of ${quote(text)}`, expected);
  }

  /** A regular expression says nothing that could be shown, so it wants a name. */
  private checkEndpointRule({ path: text, endpoint }: Section, index: number): void {
    if (typeof text !== "string") return;
    const path = ["endpoints", "rules", String(index), "path"];
    if (!isRegexPath(text)) {
      const parsed = parsePathTemplate(text);
      if (!parsed.ok) this.report(this.offsetOf(path), path, parsed.found, parsed.expected);
    } else if (!isPattern(text)) {
      this.report(this.offsetOf(path), path, quote(text), String(endpointPath.description));
    } else if (endpoint === undefined) {
      this.report(this.offsetOf(path), path, quote(text), "`endpoint: NAME` beside a regular expression");
    }
  }

  private readOpenApi(file: unknown, index: number): void {
    if (typeof file !== "string") return;
    const path = ["endpoints", "openapi", String(index), "file"];
    try {
      this.openapi[index] = loadOpenApi(resolve(dirname(this.file), file));
    } catch (error: unknown) {
      if (!(error instanceof CollectorError)) throw error;
      this.faults.push({ offset: this.offsetOf(path), text: `${path.join(".")}: ${error.message}` });
    }
  }

  private report(offset: number, path: Path, found: string, expected: string): void {
    const subject = path.length === 0 ? "the file" : path.join(".");
    this.faults.push({ offset, text: `${subject}: found ${found}, expected ${expected}` });
  }

  private offsetOf(path: Path): number {
    const node = path.length === 0 ? this.document.contents : this.document.getIn(path, true);
    return (isNode(node) && node.range?.[0]) || 0;
  }

  private offsetOfKey(path: Path, key: string): number {
    const parent = path.length === 0 ? this.document.contents : this.document.getIn(path, true);
    const pair = isMap(parent) ? parent.items.find((item) => isScalar(item.key) && item.key.value === key) : undefined;
    return (isScalar(pair?.key) && pair.key.range?.[0]) || 0;
  }
}

/** Where the schema has a section, null reads as an empty one: all its keys are commented out. */
function withSections(value: unknown, schema: TSchema): unknown {
  if (schema["type"] !== "object") return value;
  if (value === null) return {};
  if (!isSection(value)) return value;
  const { properties } = schema as unknown as { properties: Readonly<Record<string, TSchema>> };
  const entries = Object.entries(value).map(([key, inner]) => {
    const of = Object.hasOwn(properties, key) ? properties[key] : undefined;
    return [key, of === undefined ? inner : withSections(inner, of)];
  });
  return Object.fromEntries(entries);
}

function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>((at, key) => (isSection(at) ? at[key] : undefined), value);
}

/** The elements of a list that a fault may have left as anything. */
function entriesAt(value: unknown, name: string, key: string): [number, Section][] {
  const of = isSection(value) ? value[name] : undefined;
  const list = isSection(of) ? of[key] : undefined;
  return Array.isArray(list) ? [...list.entries()].filter(([, each]) => isSection(each)) : [];
}

/** What a fault says of a value. Of what goes to receivers of metrics only what can hold no secret. */
function shown(path: Path, data: unknown): string {
  if (path[0] !== "remote_write" && path[0] !== "otlp_export") return quote(withoutUser(data));
  if (Array.isArray(data)) return "a list";
  if (isSection(data)) return "a section";
  if (path[2] === "headers" && path[4] !== "name") return `a ${typeof data} that it cannot be`;
  return quote(typeof data === "string" ? String(withoutUser(data)).replace(/\?.*/, "?...") : data);
}

/** A URL without what stands before its @, which may be a password. */
function withoutUser(value: unknown): unknown {
  return typeof value === "string" ? value.replace(/\/\/.*@/, "//***@") : value;
}

/** Keys of a section whose values are texts other than "". */
function setKeys(section: unknown): string[] {
  if (!isSection(section)) return [];
  return Object.keys(section).filter((key) => typeof section[key] === "string" && section[key] !== "");
}

function isSection(value: unknown): value is Section {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The known name with the fewest letters to change. */
function nearest(name: string, known: readonly string[]): string {
  const byDistance = known.map((candidate) => ({ candidate, distance: editDistance(name, candidate) }));
  return byDistance.sort((a, b) => a.distance - b.distance)[0]?.candidate ?? "";
}

/** Levenshtein distance, row by row. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const replaced = (row[j - 1] as number) + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[to.length] as number;
}
