// What a configuration file may hold: keys, the formats of their values, and what a fault says was expected.
// Every key is described in docs/configuration.md; deploy/collector.yaml shows all of them.

import { type Static, type TSchema, Type } from "@sinclair/typebox";
import { METHODS } from "../analysis/endpoints.ts";
import { ANALYZERS, type Analyzer } from "../identity/chain.ts";
import { OTLP_PROTOCOLS, type OtlpProtocol } from "../out/settings.ts";
import { MAX_BOUNDS } from "../series/histogram.ts";
import { DESTINATION_RULES, type DestinationRule } from "../series/unified.ts";
import { LABELS } from "../vocabulary.ts";
import { LOG_LEVELS, type LogLevel } from "./config.ts";
import { MIN_INTERVAL_MS } from "./formats.ts";

const MAX_THREADS = 64;
const MAX_RULES = 1000;

// === values ===

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
export const endpointPath = Type.String({
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
/** Beyond it, the bin that begins there ends where whole numbers are not exact any more. */
const MAX_BOUND = 1e15;
const bound = Type.Number({ exclusiveMinimum: 0, maximum: MAX_BOUND, description: "a number above 0, up to 1e15" });
const bounds = Type.Array(bound, {
  maxItems: MAX_BOUNDS,
  description: `a list of at most ${MAX_BOUNDS} bounds, rising`,
});
const chosen = Type.Array(bound, { uniqueItems: true, description: "a list of bounds, each once" });
const flag = Type.Boolean({ description: "true or false" });
export const receiverUrl = Type.String({
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
export const level = Type.Unsafe<LogLevel>({ enum: LOG_LEVELS, description: `one of ${LOG_LEVELS.join(", ")}` });

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

function listOf<Element extends TSchema>(item: Element, what: string) {
  return Type.Array(item, { maxItems: MAX_RULES, description: `a list of at most ${MAX_RULES} ${what}` });
}

// === sections ===

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

/** As whom we call. */
const access = {
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
};
const clientTls = section({ ca: pemFile, certificate: pemFile, key: pemFile });

/** Where metrics are sent to. */
const receiver = {
  name: Type.Optional(receiverName),
  url: receiverUrl,
  ...access,
  tls: Type.Optional(clientTls),
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
    http_sd: section({ urls: Type.Array(sourceUrl, { description: "a list of URLs" }), interval, ...access }),
    tls: clientTls,
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
    pod_labels: flag,
    expire_after: expiry,
    bounds,
    buckets: section({ request_duration_milliseconds: chosen, request_bytes: chosen, response_bytes: chosen }),
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
export type FileConfig = Static<typeof FILE_SCHEMA>;
export type FileTls = Static<typeof tls>;
