import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { TSchema } from "@sinclair/typebox";
import { afterAll, describe, expect, it } from "vitest";
import { Secret } from "../../collector/client/secret.ts";
import type { Config } from "../../collector/config/config.ts";
import { formatAddress } from "../../collector/config/formats.ts";
import { loadConfig } from "../../collector/config/load.ts";
import { FILE_SCHEMA } from "../../collector/config/schema.ts";
import { CollectorError } from "../../collector/error.ts";
import { DEFAULT_INSTANCE_RULE, DEFAULT_SERVICE_RULE } from "../../collector/identity/names.ts";
import { DEFAULT_REDACTED_HEADERS } from "../../collector/logs/redact.ts";
import { VERSION } from "../../collector/version.ts";
import { HISTOGRAM_BOUNDS as ALL, LABELS } from "../../collector/vocabulary.ts";
import { writeCertificates } from "../fixtures/certificates.ts";

/** Bounds that are not Envoy's own. */
const BOUNDS = [0.5, 7.5, 100, 1000, 75000];

const ROOT = resolve(import.meta.dirname, "../..");
const folder = mkdtempSync(join(tmpdir(), "meshtally-config-"));
afterAll(() => rmSync(folder, { recursive: true }));

const PATH = join(folder, "collector.yaml");

function load(text: string, env: NodeJS.ProcessEnv = {}): Config {
  writeFileSync(PATH, text);
  return loadConfig({ path: PATH, env });
}

/** The faults, without the name of the file in front. */
function faults(text: string, env: NodeJS.ProcessEnv = {}): string[] {
  try {
    load(text, env);
  } catch (error: unknown) {
    if (!(error instanceof CollectorError)) throw error;
    expect(error.code).toBe("config_invalid");
    return error.message.split("\n").map((line) => line.replace(`${PATH}:`, ""));
  }
  return [];
}

describe("loadConfig", () => {
  it("gives the defaults without a file, and for files that say nothing", () => {
    const defaults = loadConfig({ path: null, env: {} });
    expect(defaults).toEqual({
      grpc: {
        address: { host: "127.0.0.1", port: 11800 },
        maxMessageBytes: 4 * 2 ** 20,
        maxMetricsMessageBytes: 64 * 2 ** 20,
        maxStreamAgeMs: 300_000,
        tls: null,
      },
      http: { address: { host: "127.0.0.1", port: 12800 }, tls: null },
      otlp: { grpc: null, http: null },
      scrape: {
        targets: [],
        intervalMs: 5000,
        timeoutMs: 4000,
        maxBodyBytes: 2 ** 28,
        concurrency: 64,
        maxTargets: 10_000,
        kubernetes: false,
        fileSd: { files: [], intervalMs: 5000 },
        httpSd: { urls: [], access: { headers: [], basic: null, bearer: null }, intervalMs: 60_000 },
        tls: { ca: null, certificate: null, key: null },
      },
      identity: {
        chain: ["mx-mesh", "k8s-mesh", "address"],
        names: { service: DEFAULT_SERVICE_RULE, instance: DEFAULT_INSTANCE_RULE },
        kubernetes: { objects: [], intervalMs: 10_000, maxBytes: 2 ** 28, domain: "cluster.local" },
      },
      health: { rate: [] },
      indicators: { lateAfterMs: 120_000, retireAfterMs: 600_000, apdex: { thresholdNs: 500e6, services: [] } },
      endpoints: { rules: [], openapi: [], maxPerService: 200 },
      logs: {
        folder: null,
        rules: { errors: true, flagged: true, tokens: 10_000, slowMs: 1000, sample: 0, perMinute: 6000 },
        redact: { headers: DEFAULT_REDACTED_HEADERS, query: true },
        bounds: { maxBytes: 2 ** 30, maxAgeMs: 72 * 3_600_000 },
        memoryBytes: 2 ** 26,
      },
      metrics: {
        destinations: "certain",
        labels: LABELS,
        bounds: ALL,
        podLabels: false,
        buckets: [[], ALL, ALL, ALL],
        nativeHistograms: false,
        expireAfterMs: 0,
      },
      remoteWrite: [],
      proxyStats: { maxSeries: 0 },
      otlpExport: [],
      limits: {
        proxies: 5000,
        labelSets: 50_000,
        cells: 500_000,
        retireAfterMs: 600_000,
        edges: 2000,
        streams: 4096,
        connections: 200_000,
        taps: 8,
        indicators: 10_000,
        aiSeries: 2000,
      },
      log: { level: "info" },
      state: { folder: null, intervalMs: 10_000 },
      shutdown: { drainMs: 2000 },
      threads: 0,
    });
    for (const text of [
      "",
      "# nothing\n",
      "{}",
      "scrape:\n  # targets: []\n",
      "grpc:\nhttp:\n",
      "grpc:\n  tls:\n",
      'http: { tls: { certificate: "", key: "", client_ca: "" } }',
      "identity:\n  names:\n  kubernetes:\n",
      "health:\nindicators:\n  apdex:\nendpoints:\n",
    ]) {
      expect(load(text)).toEqual(defaults);
    }
  });

  it("reads every key", () => {
    writeFileSync(join(folder, "api.yaml"), "openapi: 3.0.0\npaths: { /h: {} }");
    const config = load(`
grpc: { address: "[::1]:0", max_message: 1KiB, max_metrics_message: 2KiB, max_stream_age: 0s }
http: { address: 0.0.0.0:80, insecure: true }
otlp: { grpc: { address: 0.0.0.0:4317, insecure: true }, http: { address: "127.0.0.1:0" } }
scrape:
  targets: ["127.0.0.1:15000", "https://a.example/envoy/"]
  interval: 500ms
  timeout: 1m
  max_body: 2GiB
  concurrency: 2
  max_targets: 7
  kubernetes: true
  file_sd: { files: ["a/*.json", /b.yaml], interval: 1s }
  http_sd: { urls: ["https://a.example/envoys?x=1"], interval: 30s, headers: [{ name: X-Scope, value: mesh }] }
  tls: { ca: "" }
identity:
  chain: [k8s-mesh]
  names: { service: "\${NAME}", instance: "a" }
  kubernetes: { objects: [/a, b.json], interval: 1m, max_size: 1MiB, domain: example.org }
health:
  rate:
    - { namespace: a, kind: app, name: b, tolerance: [{ code: "5XX", protocol: http, direction: inbound, degraded: 0.1, failure: 10 }] }
    - { tolerance: [{ code: "-" }] }
indicators: { late_after: 30s, retire_after: 3m, apdex: { threshold: 1ms, services: [{ namespace: a, name: b, threshold: 2s }, { name: c, threshold: 168h }] } }
endpoints:
  rules: [{ service: a, method: GET, path: "/b/{c}", endpoint: d }, { path: "^/e", endpoint: f }]
  openapi: [{ service: g, file: api.yaml }]
  max_per_service: 9
logs:
  folder: logs
  errors: false
  flagged: false
  tokens: 7
  slow: 0s
  sample: 100
  per_minute: 5
  redact: { headers: [x-secret], query: false }
  max_size: 16MiB
  max_age: 8760h
  memory: 32MiB
metrics:
  destinations: all
  labels: [reporter, response_code]
  pod_labels: true
  bounds: [0.5, 7.5, 100, 1000, 75000]
  buckets: { request_duration_milliseconds: [1000, 0.5, 100], response_bytes: [] }
  native_histograms: true
  expire_after: 24h
remote_write:
  - url: https://a.example/write?tenant=b
    name: a
    insecure: true
    headers: [{ name: X-Scope-OrgID, value: mesh }]
    tls: { ca: "" }
    interval: 1s
    timeout: 2s
    max_samples_per_send: 3
    queue: { folder: out, max_size: 16MiB }
    external_labels: { cluster: east }
    metrics: istio_.*
state: { folder: saved, interval: 1m }
proxy_stats: { enabled: true, max_series: 9 }
otlp_export:
  - url: https://b.example:4317
    protocol: grpc
    resource_attributes: { deployment.environment: test }
limits: { proxies: 1, label_sets: 2, cells: 4, retire_after: 1h, edges: 3, streams: 5, connections: 6, taps: 7, indicators: 8, ai_series: 9 }
log: { level: warn }
shutdown: { drain: 0s }
threads: 64`);
    expect(config).toEqual({
      grpc: {
        address: { host: "::1", port: 0 },
        maxMessageBytes: 1024,
        maxMetricsMessageBytes: 2048,
        maxStreamAgeMs: 0,
        tls: null,
      },
      http: { address: { host: "0.0.0.0", port: 80 }, tls: null },
      otlp: {
        grpc: { address: { host: "0.0.0.0", port: 4317 }, tls: null },
        http: { address: { host: "127.0.0.1", port: 0 }, tls: null },
      },
      scrape: {
        targets: ["http://127.0.0.1:15000", "https://a.example/envoy"],
        intervalMs: 500,
        timeoutMs: 60_000,
        maxBodyBytes: 2 ** 31,
        concurrency: 2,
        maxTargets: 7,
        kubernetes: true,
        fileSd: { files: [join(folder, "a/*.json"), "/b.yaml"], intervalMs: 1000 },
        httpSd: {
          urls: ["https://a.example/envoys?x=1"],
          access: { headers: [{ name: "X-Scope", value: Secret.of("mesh") }], basic: null, bearer: null },
          intervalMs: 30_000,
        },
        tls: { ca: null, certificate: null, key: null },
      },
      identity: {
        chain: ["k8s-mesh"],
        names: { service: "${NAME}", instance: "a" },
        kubernetes: {
          objects: ["/a", join(folder, "b.json")],
          intervalMs: 60_000,
          maxBytes: 2 ** 20,
          domain: "example.org",
        },
      },
      health: {
        rate: [
          {
            namespace: "a",
            kind: "app",
            name: "b",
            tolerance: [{ code: "5XX", protocol: "http", direction: "inbound", degraded: 0.1, failure: 10 }],
          },
          { tolerance: [{ code: "-" }] },
        ],
      },
      indicators: {
        lateAfterMs: 30_000,
        retireAfterMs: 180_000,
        apdex: {
          thresholdNs: 1e6,
          services: [
            { namespace: "a", name: "b", thresholdNs: 2e9 },
            { name: "c", thresholdNs: 604_800e9 },
          ],
        },
      },
      endpoints: {
        rules: [
          { service: "a", method: "GET", path: "/b/{c}", endpoint: "d" },
          { path: "^/e", endpoint: "f" },
        ],
        openapi: [{ service: "g", templates: ["/h"] }],
        maxPerService: 9,
      },
      logs: {
        folder: join(folder, "logs"),
        rules: { errors: false, flagged: false, tokens: 7, slowMs: 0, sample: 100, perMinute: 5 },
        redact: { headers: ["x-secret"], query: false },
        bounds: { maxBytes: 2 ** 24, maxAgeMs: 8760 * 3_600_000 },
        memoryBytes: 2 ** 25,
      },
      metrics: {
        destinations: "all",
        labels: ["reporter", "response_code"],
        bounds: BOUNDS,
        podLabels: true,
        buckets: [[], [0.5, 100, 1000], BOUNDS, BOUNDS],
        nativeHistograms: true,
        expireAfterMs: 86_400_000,
      },
      remoteWrite: [
        {
          name: "a",
          url: "https://a.example/write?tenant=b",
          access: { headers: [{ name: "X-Scope-OrgID", value: Secret.of("mesh") }], basic: null, bearer: null },
          tls: { ca: null, certificate: null, key: null },
          intervalMs: 1000,
          timeoutMs: 2000,
          maxSamples: 3,
          queue: { folder: join(folder, "out"), maxBytes: 2 ** 24 },
          metrics: "istio_.*",
          externalLabels: { cluster: "east" },
        },
      ],
      state: { folder: join(folder, "saved"), intervalMs: 60_000 },
      proxyStats: { maxSeries: 9 },
      otlpExport: [
        {
          name: "b.example:4317",
          url: "https://b.example:4317",
          access: { headers: [], basic: null, bearer: null },
          tls: { ca: null, certificate: null, key: null },
          intervalMs: 15_000,
          timeoutMs: 30_000,
          maxSamples: 5000,
          queue: { folder: null, maxBytes: 2 ** 26 },
          metrics: "istio_.*|mesh_.*",
          protocol: "grpc",
          resourceAttributes: { "service.name": "meshtally", "deployment.environment": "test" },
        },
      ],
      limits: {
        proxies: 1,
        labelSets: 2,
        cells: 4,
        retireAfterMs: 3_600_000,
        edges: 3,
        streams: 5,
        connections: 6,
        taps: 7,
        indicators: 8,
        aiSeries: 9,
      },
      log: { level: "warn" },
      shutdown: { drainMs: 0 },
      threads: 64,
    });
    expect(formatAddress(config.grpc.address)).toBe("[::1]:0");
  });

  it("lists every fault at once, each with its place, what was found and what was expected", () => {
    const text = [
      "scrape:",
      "  interval: 5",
      "  targets: [127.0.0.1:1, 7, ftp://x]",
      "limits:",
      "  proxies: 0",
      "loog: {}",
    ];
    expect(faults(text.join("\n"), { LOG_LEVEL: "loud" })).toEqual([
      "2:13: scrape.interval: found 5, expected a duration from 10ms to 168h such as 5s",
      "3:26: scrape.targets.1: found 7, expected host:port or http(s) URL without user of an Envoy's admin interface, such as 127.0.0.1:15000",
      '3:29: scrape.targets.2: found "ftp://x", expected host:port or http(s) URL without user of an Envoy\'s admin interface, such as 127.0.0.1:15000',
      "5:12: limits.proxies: found 0, expected a whole number from 1 to 1000000",
      "6:1: loog: found an unknown key, expected log (known here: grpc, http, otlp, scrape, identity, health, indicators, endpoints, logs, metrics, remote_write, otlp_export, state, proxy_stats, limits, log, shutdown, threads)",
      'LOG_LEVEL: found "loud", expected one of info, warn, error, silent',
    ]);
  });

  it.each([
    [
      "an unknown key, with the nearest known one",
      "scrape: { intervall: 5s }",
      "1:11: scrape.intervall: found an unknown key, expected interval",
    ],
    [
      "an analyzer that there is not",
      "identity: { chain: [mx-mesh, k8s] }",
      '1:30: identity.chain.1: found "k8s", expected one of mx-mesh, k8s-mesh, address',
    ],
    [
      "an analyzer that stands twice",
      "identity: { chain: [address, address] }",
      '1:20: identity.chain: found ["address","address"], expected a list of analyzers, each once',
    ],
    [
      "a name rule that cannot be read, with the place in it",
      'identity: { names: { service: "a.${NAM}" } }',
      '1:31: identity.names.service: found "NAM" at character 5 of "a.${NAM}", expected pod.metadata.{name, namespace, labels.KEY}, ',
    ],
    [
      "a bound that proxies do not count by",
      "metrics: { buckets: { request_bytes: [100, 200] } }",
      "1:44: metrics.buckets.request_bytes.1: found 200, expected one of the bounds that proxies count by (metrics.bounds): 0.5, 1, 5, 10, 25,",
    ],
    [
      "a bound that is shown and not counted by",
      "metrics: { bounds: [7.5, 15], buckets: { request_bytes: [15, 10] } }",
      "1:62: metrics.buckets.request_bytes.1: found 10, expected one of the bounds that proxies count by (metrics.bounds): 7.5, 15",
    ],
    [
      "bounds that do not rise",
      "metrics: { bounds: [5, 10, 10, 25] }",
      "1:28: metrics.bounds.2: found 10, expected a bound above the one before it, 10",
    ],
    [
      "a bound of 0",
      "metrics: { bounds: [0, 10] }",
      "1:21: metrics.bounds.0: found 0, expected a number above 0, up to 1e15",
    ],
    [
      "a bound that is no number",
      "metrics: { bounds: [5, .inf] }",
      "1:24: metrics.bounds.1: found null, expected a number above 0, up to 1e15",
    ],
    [
      "more bounds than there is room for",
      `metrics: { bounds: [${Array.from({ length: 65 }, (_, index) => index + 1).join(", ")}] }`,
      "1:20: metrics.bounds: found ",
    ],
    [
      "a bound that stands twice",
      "metrics: { buckets: { response_bytes: [100, 100] } }",
      "1:39: metrics.buckets.response_bytes: found [100,100], expected a list of bounds, each once",
    ],
    [
      "an unknown key in a section of a section",
      "identity: { kubernetes: { object: [a] } }",
      "1:27: identity.kubernetes.object: found an unknown key, expected objects",
    ],
    [
      "a domain that is none",
      "identity: { kubernetes: { domain: .local. } }",
      '1:35: identity.kubernetes.domain: found ".local.", expected a domain such as cluster.local',
    ],
    [
      "a pattern that is none",
      'health: { rate: [{ name: "reviews(", tolerance: [] }] }',
      '1:26: health.rate.0.name: found "reviews(", expected a regular expression such as "reviews|ratings"',
    ],
    [
      "a pattern that is one only between brackets",
      'indicators: { apdex: { services: [{ name: "a)(b", threshold: 1s }] } }',
      '1:43: indicators.apdex.services.0.name: found "a)(b", expected a regular expression',
    ],
    [
      "a pattern that is too long",
      `health: { rate: [{ name: ${"a".repeat(501)}, tolerance: [] }] }`,
      `1:26: health.rate.0.name: found "${"a".repeat(96)}..., expected a regular expression`,
    ],
    [
      "a code that is no text",
      "health: { rate: [{ tolerance: [{ code: 404 }] }] }",
      '1:40: health.rate.0.tolerance.0.code: found 404, expected a regular expression of codes, "-" for no response, in quotes',
    ],
    [
      "a tolerance without a code",
      "health: { rate: [{ tolerance: [{ failure: 5 }] }] }",
      "1:32: health.rate.0.tolerance.0.code: found nothing, expected a regular expression of codes",
    ],
    [
      "a share that is none",
      'health: { rate: [{ tolerance: [{ code: "-", failure: 101 }] }] }',
      "1:54: health.rate.0.tolerance.0.failure: found 101, expected a percentage from 0 to 100",
    ],
    [
      "an unknown key in a list",
      'health: { rate: [{ tolerance: [{ code: "-", failures: 1 }] }] }',
      "1:45: health.rate.0.tolerance.0.failures: found an unknown key, expected failure (known here: ",
    ],
    [
      "more rules than are held",
      `endpoints: { rules: [${"{ path: /a },".repeat(1001)}] }`,
      "expected a list of at most 1000 rules",
    ],
    [
      "a threshold of nothing",
      "indicators: { apdex: { threshold: 0s } }",
      '1:35: indicators.apdex.threshold: found "0s", expected a duration from 1ms to 168h such as 500ms',
    ],
    [
      "a path template that cannot be read",
      "endpoints: { rules: [{ path: '/a/{b' }] }",
      '1:30: endpoints.rules.0.path: found "{b" in "/a/{b", expected each "{" closed by a "}" in the same segment',
    ],
    [
      "a path that is none",
      "endpoints: { rules: [{ path: a }] }",
      '1:30: endpoints.rules.0.path: found "a", expected a path that begins with "/"',
    ],
    [
      "a regular expression that is none",
      "endpoints: { rules: [{ path: '^/(', endpoint: a }] }",
      '1:30: endpoints.rules.0.path: found "^/(", expected a path template such as /users/{name}/orders/*, or a regular',
    ],
    [
      "a regular expression without a name",
      "endpoints: { rules: [{ path: ^/a }] }",
      '1:30: endpoints.rules.0.path: found "^/a", expected `endpoint: NAME` beside a regular expression',
    ],
    [
      "a method that Envoy does not have",
      "endpoints: { rules: [{ path: /a, method: get }] }",
      '1:42: endpoints.rules.0.method: found "get", expected one of GET, HEAD',
    ],
    [
      "an OpenAPI file that there is not",
      "endpoints: { openapi: [{ service: a, file: none.yaml }] }",
      `1:44: endpoints.openapi.0.file: ${join(folder, "none.yaml")}: cannot be read: ENOENT`,
    ],
    ["a section that is none", "scrape: 7", "1:9: scrape: found 7, expected a section with keys"],
    ["a file that is no section", "- 1", "1:1: the file: found [1], expected a section with keys"],
    [
      "an address without a port",
      "http: { address: localhost }",
      '1:18: http.address: found "localhost", expected host:port',
    ],
    [
      "a port that is none",
      "http: { address: 127.0.0.1:70000 }",
      '1:18: http.address: found "127.0.0.1:70000", expected host:port',
    ],
    [
      "an interval of nothing",
      "scrape: { interval: 0s }",
      '1:21: scrape.interval: found "0s", expected a duration from 10ms',
    ],
    [
      "a log store too small to work",
      "logs: { max_size: 15MiB }",
      '1:19: logs.max_size: found "15MiB", expected a size from 16MiB such as 1GiB',
    ],
    [
      "less memory than a log store needs",
      "logs: { memory: 1MiB }",
      '1:17: logs.memory: found "1MiB", expected a size from 32MiB such as 64MiB',
    ],
    [
      "logs older than anybody keeps",
      "logs: { max_age: 8761h }",
      '1:18: logs.max_age: found "8761h", expected a duration from 1m to 8760h such as 72h',
    ],
    [
      "a header without a name",
      'logs: { redact: { headers: [""] } }',
      `1:29: logs.redact.headers.0: found "", expected a header's name, with * for any part of it`,
    ],
    ["a level that is none", "log: { level: debug }", '1:15: log.level: found "debug", expected one of info'],
    ["two keys alike", "log: {}\nlog: {}", "2:1: Map keys must be unique"],
    ["broken YAML", "log: [", "1:7: Flow sequence in block collection must be"],
    [
      "a long value, cut",
      `log: { level: ${"x".repeat(300)} }`,
      `1:15: log.level: found "${"x".repeat(96)}..., expected`,
    ],
  ])("names %s", (_fault, text, expected) => {
    expect(faults(text)).toEqual([expect.stringContaining(expected)]);
  });

  it.each([
    ["scrape: { interval: 1000h }", "1:21: scrape.interval: found", "a duration from 10ms to 168h such as 5s"],
    ["scrape: { timeout: 169h }", "1:20: scrape.timeout: found", "a duration from 10ms to 168h such as 5s"],
    ["limits: { retire_after: 10081m }", "1:25: limits.retire_after: found", "a duration up to 168h"],
    ["shutdown: { drain: 999999h }", "1:20: shutdown.drain: found", "a duration up to 168h"],
  ])("refuses a duration for which no timer is long enough: %s", (text, found, expected) => {
    expect(faults(text)).toEqual([expect.stringMatching(new RegExp(`^${found} .*expected ${expected}`))]);
    expect(faults(text.replace(/\d+[hm]/, "168h"))).toEqual([]);
  });

  it("names the line of a broken OpenAPI file", () => {
    writeFileSync(join(folder, "broken.json"), '{ "openapi": "3.0.0",\n  "paths": [] }');
    expect(faults("endpoints: { openapi: [{ service: a, file: broken.json }] }")).toEqual([
      `1:44: endpoints.openapi.0.file: ${join(folder, "broken.json")}:2:12: paths: found [], expected a mapping of paths`,
    ]);
  });

  it.each([
    ["an alias that names nothing", "grpc: *foo", "1:7: found the alias *foo, expected a value"],
    ["an alias that names itself", "grpc: &a\n  address: *a", "2:12: found the alias *a, expected a value"],
    [
      "a bomb of aliases",
      `a: &a [x]\n${"bcdefgh".replace(/./g, (name, at) => `${name}: &${name} [${`*${"abcdefg"[at]},`.repeat(10)}]\n`)}`,
      "2:8: found the alias *a, expected a value",
    ],
    ["more brackets than can be read", "[".repeat(100_000), ": Maximum call stack size exceeded"],
  ])("refuses %s, naming the place", (_what, text, expected) => {
    expect(faults(text)[0]).toContain(expected);
  });

  it.each([
    "9901",
    "localhost",
    "localhost:",
    "localhost:0",
    "localhost:65536",
    "1:80",
    "file:/x",
    "file:///x",
    "http://9901",
    "http://",
    "http://a:b@127.0.0.1:15000",
    "http://a@127.0.0.1:15000",
    "http://127.0.0.1:15000/?x",
    "127.0.0.1:15000/path",
  ])("refuses the target %s", (text) => {
    const [fault, ...more] = faults(`scrape: { targets: ["${text}"] }`);
    expect(fault).toMatch(/^1:21: scrape\.targets\.0: found .*, expected host:port or http\(s\) URL without user/);
    expect(more).toEqual([]);
  });

  it.each(["ftp://a.example", "a.example", "http://me:secret@a.example", "https://a.example#x", "http://"])(
    "refuses %s as a server that names targets",
    (text) => {
      const [fault, ...more] = faults(`scrape: { http_sd: { urls: ["${text}"] } }`);
      expect(fault).toMatch(/^1:29: scrape\.http_sd\.urls\.0: found .*, expected an http\(s\) URL without user/);
      expect(fault).not.toContain("secret");
      expect(more).toEqual([]);
    },
  );

  it("does not repeat a target's password", () => {
    expect(faults('scrape: { targets: ["http://me:secret@127.0.0.1:15000"] }')[0]).toContain(
      'found "http://***@127.0.0.1:15000"',
    );
  });

  it.each([
    ["localhost:9901", "http://localhost:9901"],
    ["[::1]:9901", "http://[::1]:9901"],
    ["Envoy.example:80", "http://envoy.example"],
    ["http://127.0.0.1:15000/", "http://127.0.0.1:15000"],
    ["https://a.example/envoy/", "https://a.example/envoy"],
  ])("takes the target %s as %s", (text, url) => {
    expect(load(`scrape: { targets: ["${text}"] }`).scrape.targets).toEqual([url]);
  });

  it.each(["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "collector.example:1"])("wants %s to be asked for", (address) => {
    const text = `grpc: { address: "${address}" }`;
    expect(faults(text)).toEqual([
      expect.stringContaining("expected a loopback address, or beside it `tls`, or `insecure: true`"),
    ]);
    expect(faults(`grpc: { address: "${address}", insecure: true }`)).toEqual([]);
  });

  it.each(["grpc", "http"] as const)(
    "listens for OTLP over %s where it is told to, by the rules of the others",
    (name) => {
      expect(load(`otlp: { ${name}: { address: "[::1]:4317" } }`).otlp[name]).toEqual({
        address: { host: "::1", port: 4317 },
        tls: null,
      });
      expect(load(`otlp: { ${name}: {} }`).otlp[name]).toBeNull();
      const fault = expect.stringContaining(`otlp.${name}.address: found "0.0.0.0:1", expected a loopback address`);
      expect(faults(`otlp: { ${name}: { address: 0.0.0.0:1 } }`)).toEqual([fault]);
      expect(faults(`otlp: { ${name}: { address: 0.0.0.0:1, insecure: true } }`)).toEqual([]);
      const half = faults(`otlp: { ${name}: { address: 127.0.0.1:1, tls: { key: a.key } } }`);
      expect(half).toEqual([expect.stringContaining(`otlp.${name}.tls: found no certificate`)]);
    },
  );

  it.each(["127.0.0.1:1", "127.8.9.1:0", "[::1]:1", "localhost:65535"])("takes %s as it is", (address) => {
    expect(faults(`http: { address: "${address}" }`)).toEqual([]);
  });

  it("reads the files of a certificate relative to its own folder, and then takes any address", async () => {
    const { server } = await writeCertificates({ server: [] }, folder);
    const config = load(`
grpc: { address: 0.0.0.0:1, tls: { certificate: server.pem, key: ${server.privateKey}, client_ca: authority.pem } }
http: { address: 0.0.0.0:2, tls: { certificate: server.pem, key: server.key } }`);
    const { certificate, privateKey: key, authority: clientCa } = server;
    expect(config.grpc.tls).toEqual({ certificate, key, clientCa });
    expect(config.http.tls).toEqual({ certificate, key, clientCa: null });
  });

  it("wants certificate and key together, and files that are of use", async () => {
    const { server } = await writeCertificates({ server: [], other: [] }, folder);
    writeFileSync(join(folder, "empty.pem"), "");
    const fault = (tls: string) => faults(`grpc: { address: 0.0.0.0:1, tls: { ${tls} } }`);
    expect(fault("certificate: server.pem")).toEqual([
      "1:34: grpc.tls: found no key, expected certificate and key, both",
    ]);
    expect(fault("client_ca: authority.pem")).toEqual([
      "1:34: grpc.tls: found no certificate and no key, expected certificate and key, both",
    ]);
    expect(fault("certificate: server.pem, key: none.key")).toEqual([
      expect.stringMatching(
        /^1:66: grpc\.tls\.key: found ENOENT: [^']*'[^']*none\.key', expected a private key in PEM, not encrypted$/,
      ),
    ]);
    expect(fault("certificate: ., key: server.key")).toEqual([
      `1:49: grpc.tls.certificate: found EISDIR: illegal operation on a directory, read in ${folder}, expected certificates in PEM`,
    ]);
    expect(fault("certificate: server.pem, key: other.key")).toEqual([
      `1:66: grpc.tls.key: found the key of another certificate in ${join(folder, "other.key")}, expected that of the first certificate in its file`,
    ]);
    expect(fault(`certificate: server.pem, key: ${server.privateKey}, client_ca: empty.pem`)[0]).toContain(
      `grpc.tls.client_ca: found no certificate in ${join(folder, "empty.pem")}, expected certificates in PEM`,
    );
  });

  it("says so when the file cannot be read", () => {
    expect(() => loadConfig({ path: join(folder, "none.yaml"), env: {} })).toThrow(
      /none\.yaml: cannot be read: ENOENT/,
    );
  });

  it("lets LOG_LEVEL win over the file", () => {
    expect(load("log: { level: warn }", { LOG_LEVEL: "ERROR" }).log.level).toBe("error");
    expect(load("log: { level: warn }", { LOG_LEVEL: "" }).log.level).toBe("warn");
  });
});

/** "scrape.interval" and so on, from the schema. */
const KEYS = keysOf(FILE_SCHEMA);

function keysOf(schema: TSchema): string[] {
  return Object.entries(schema["properties"] as Record<string, TSchema>).flatMap(([key, inner]) =>
    inner["type"] === "object" ? keysOf(inner).map((rest) => `${key}.${rest}`) : [key],
  );
}

describe("what is written about the configuration", () => {
  it("deploy/collector.yaml is valid, has every key, and gives the defaults, targets aside", () => {
    const text = readFileSync(join(ROOT, "deploy/collector.yaml"), "utf8");
    const config = load(text);
    expect({ ...config, scrape: { ...config.scrape, targets: [] } }).toEqual(loadConfig({ path: null, env: {} }));
    for (const key of KEYS) expect(text).toMatch(new RegExp(`^ *(?:# )?${key.split(".").at(-1)}:`, "m"));
  });

  it("docs/configuration.md has a row for every key, and no other, with its default", () => {
    const rows = [
      ...readFileSync(join(ROOT, "docs/configuration.md"), "utf8").matchAll(
        /^\| `(threads|remote_write|otlp_export|[a-z_]+(?:\.[a-z_]+)+)` \| (.+?) \|/gm,
      ),
    ];
    expect(rows.map((row) => row[1]).sort()).toEqual([...KEYS].sort());
    const defaults = rows
      .filter((row) => row[2] !== "none")
      .map((row) => {
        const value = (row[2] as string).replaceAll("`", "");
        const keys = (row[1] as string).split(".");
        const text = /^(\d+|true|false|\[.*\])$/.test(value) ? value : `'${value}'`;
        return keys.reduceRight((inner, key) => `{ ${key}: ${inner} }`, text);
      });
    for (const text of defaults) expect(load(text)).toEqual(loadConfig({ path: null, env: {} }));
  });

  it("the examples of docs/configuration.md are valid", async () => {
    mkdirSync(join(folder, "tls"));
    const { server } = await writeCertificates({ server: [{ type: "dns", value: "collector" }] }, folder);
    for (const [from, to] of [
      [server.certificate, "tls.crt"],
      [server.privateKey, "tls.key"],
      [server.authority, "ca.crt"],
    ] as const) {
      copyFileSync(from, join(folder, "tls", to));
    }
    mkdirSync(join(folder, "openapi"));
    writeFileSync(join(folder, "openapi/reviews.yaml"), "openapi: 3.0.0\npaths: { /h: {} }");
    const docs = readFileSync(join(ROOT, "docs/configuration.md"), "utf8");
    const examples = [...docs.matchAll(/```yaml\n(.*?)```/gs)].map((match) => match[1] as string);
    expect(examples.length).toBeGreaterThan(2);
    for (const text of examples) expect(faults(text)).toEqual([]);
  });

  it("the version is package.json's", () => {
    expect(VERSION).toBe(JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")).version);
  });
});
