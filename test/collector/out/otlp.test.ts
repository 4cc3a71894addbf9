// OTLP metrics out: what receivers read by OpenTelemetry's own messages, over HTTP and gRPC, and how their answers are taken.

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import * as grpc from "@grpc/grpc-js";
import protobuf from "protobufjs";
import { afterEach, describe, expect, it } from "vitest";
import { Secret } from "../../../collector/client/secret.ts";
import { loadConfig } from "../../../collector/config/load.ts";
import { silentLog } from "../../../collector/log.ts";
import { GrpcTransport } from "../../../collector/out/grpc-transport.ts";
import { HttpTransport } from "../../../collector/out/http-transport.ts";
import { resourceAttributesOf, withEnvironment } from "../../../collector/out/otel-environment.ts";
import { isRetriedByOtlp, readOtlpAnswer } from "../../../collector/out/otlp-answer.ts";
import { OtlpRequestEncoder } from "../../../collector/out/otlp-request.ts";
import { type Family, labelsOf, type Point } from "../../../collector/out/point.ts";
import { startCollector } from "../../../collector/pipeline.ts";

// https://github.com/open-telemetry/opentelemetry-proto, v1.3.2: metrics.proto, common.proto, resource.proto, metrics_service.proto;
// https://github.com/googleapis/googleapis: google/rpc/status.proto, error_details.proto
const { root } = protobuf.parse(`
syntax = "proto3";
message ExportMetricsServiceRequest { repeated ResourceMetrics resource_metrics = 1; }
message ExportMetricsServiceResponse { ExportMetricsPartialSuccess partial_success = 1; }
message ExportMetricsPartialSuccess { int64 rejected_data_points = 1; string error_message = 2; }
message ResourceMetrics { Resource resource = 1; repeated ScopeMetrics scope_metrics = 2; string schema_url = 3; }
message ScopeMetrics { InstrumentationScope scope = 1; repeated Metric metrics = 2; string schema_url = 3; }
message Resource { repeated KeyValue attributes = 1; uint32 dropped_attributes_count = 2; }
message InstrumentationScope { string name = 1; string version = 2; }
message KeyValue { string key = 1; AnyValue value = 2; }
message AnyValue { oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; } }
message Metric { string name = 1; string description = 2; string unit = 3;
  oneof data { Gauge gauge = 5; Sum sum = 7; Histogram histogram = 9; Summary summary = 11; } }
message Gauge { repeated NumberDataPoint data_points = 1; }
message Sum { repeated NumberDataPoint data_points = 1; AggregationTemporality aggregation_temporality = 2; bool is_monotonic = 3; }
message Histogram { repeated HistogramDataPoint data_points = 1; AggregationTemporality aggregation_temporality = 2; }
message Summary { repeated SummaryDataPoint data_points = 1; }
enum AggregationTemporality { AGGREGATION_TEMPORALITY_UNSPECIFIED = 0; AGGREGATION_TEMPORALITY_DELTA = 1; AGGREGATION_TEMPORALITY_CUMULATIVE = 2; }
message NumberDataPoint { repeated KeyValue attributes = 7; fixed64 start_time_unix_nano = 2; fixed64 time_unix_nano = 3;
  oneof value { double as_double = 4; sfixed64 as_int = 6; } uint32 flags = 8; }
message HistogramDataPoint { repeated KeyValue attributes = 9; fixed64 start_time_unix_nano = 2; fixed64 time_unix_nano = 3; fixed64 count = 4;
  optional double sum = 5; repeated fixed64 bucket_counts = 6; repeated double explicit_bounds = 7; uint32 flags = 10; }
message SummaryDataPoint { repeated KeyValue attributes = 7; fixed64 start_time_unix_nano = 2; fixed64 time_unix_nano = 3; fixed64 count = 4;
  double sum = 5; repeated ValueAtQuantile quantile_values = 6; uint32 flags = 8; }
message ValueAtQuantile { double quantile = 1; double value = 2; }
message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
message Any { string type_url = 1; bytes value = 2; }
message RetryInfo { Duration retry_delay = 1; }
message Duration { int64 seconds = 1; int32 nanos = 2; }
`);
const encode = (type: string, fields: object) =>
  Buffer.from(root.lookupType(type).encode(root.lookupType(type).fromObject(fields)).finish());

interface DecodedMetric {
  readonly name: string;
  readonly [field: string]: unknown;
}

interface DecodedRequest {
  readonly resourceMetrics: {
    readonly resource: { readonly attributes: unknown };
    readonly scopeMetrics: { readonly scope: unknown; readonly metrics: DecodedMetric[] }[];
  }[];
}

function decode(request: Buffer): DecodedRequest {
  const type = root.lookupType("ExportMetricsServiceRequest");
  return type.toObject(type.decode(request), { longs: String, enums: String }) as DecodedRequest;
}
const decodeBody = (body: Buffer) => decode(gunzipSync(body));
const metricsOf = (request: DecodedRequest) =>
  request.resourceMetrics.flatMap((each) => each.scopeMetrics.flatMap(({ metrics }) => metrics));

const START_MS = 1_767_000_000_000;
const AT_MS = START_MS + 5000;
const NANOS = "000000";
const LABELS = labelsOf("web", [
  ["app", "web"],
  ["zone", "ä"],
]);
const ATTRIBUTES = [
  { key: "app", value: { stringValue: "web" } },
  { key: "zone", value: { stringValue: "ä" } },
];
const TIMES = { startTimeUnixNano: `${START_MS}${NANOS}`, timeUnixNano: `${AT_MS}${NANOS}` };

const family = (name: string, kind: Family["kind"], unit = ""): Family => ({
  name,
  kind,
  help: `${name}'s help`,
  unit,
});
const number = (of: Family, value: number, labels = LABELS): Point => ({ family: of, labels, value, spread: null });
const HISTOGRAM: Point = {
  family: family("duration_ms", "histogram", "milliseconds"),
  labels: LABELS,
  value: null,
  spread: { label: "le", marks: ["0.5", "10"], values: [1, 3, 4], count: 4, sum: 33.5 },
};

function encoder(maxSamples = 1000) {
  const made = new OtlpRequestEncoder({
    resourceAttributes: { "service.name": "meshtally" },
    version: "1.2.3",
    maxSamples,
  });
  made.begin(AT_MS);
  return made;
}

describe("OtlpRequestEncoder", () => {
  it("writes cumulative sums and histograms with their start, gauges, summaries, resource and scope", async () => {
    const to = encoder();
    to.add(number(family("a_total", "counter", "bytes"), 2 ** 53), START_MS);
    to.add(number(family("g", "gauge"), -0.5), START_MS);
    to.add(HISTOGRAM, START_MS);
    const spread = { label: "quantile", marks: ["0.5"], values: [0.1], count: 7, sum: 1 } as const;
    to.add({ family: family("s", "summary"), labels: LABELS, value: null, spread }, START_MS);
    to.add(number(family("a_total", "counter", "bytes"), 1, labelsOf("", [])), START_MS);
    const [batch, ...others] = await to.take(true);
    expect(others).toEqual([]);
    expect(batch).toMatchObject({ samples: 5, collectedMs: AT_MS });
    const cumulative = { aggregationTemporality: "AGGREGATION_TEMPORALITY_CUMULATIVE" };
    expect(decodeBody(batch!.body)).toEqual({
      resourceMetrics: [
        {
          resource: { attributes: [{ key: "service.name", value: { stringValue: "meshtally" } }] },
          scopeMetrics: [
            {
              scope: { name: "meshtally", version: "1.2.3" },
              metrics: [
                {
                  name: "a_total",
                  description: "a_total's help",
                  unit: "By",
                  sum: {
                    ...cumulative,
                    isMonotonic: true,
                    dataPoints: [
                      { attributes: ATTRIBUTES, ...TIMES, asDouble: 2 ** 53 },
                      { ...TIMES, asDouble: 1 },
                    ],
                  },
                },
                {
                  name: "g",
                  description: "g's help",
                  gauge: { dataPoints: [{ attributes: ATTRIBUTES, timeUnixNano: TIMES.timeUnixNano, asDouble: -0.5 }] },
                },
                {
                  name: "duration_ms",
                  description: "duration_ms's help",
                  unit: "ms",
                  histogram: {
                    ...cumulative,
                    dataPoints: [
                      {
                        attributes: ATTRIBUTES,
                        ...TIMES,
                        count: "4",
                        sum: 33.5,
                        bucketCounts: ["1", "2", "1"],
                        explicitBounds: [0.5, 10],
                      },
                    ],
                  },
                },
                {
                  name: "s",
                  description: "s's help",
                  summary: {
                    dataPoints: [
                      {
                        attributes: ATTRIBUTES,
                        ...TIMES,
                        count: "7",
                        sum: 1,
                        quantileValues: [{ quantile: 0.5, value: 0.1 }],
                      },
                    ],
                  },
                },
              ],
            },
          ],
        },
      ],
    });
  });

  it("leaves the start out where it is not known", async () => {
    const to = encoder();
    to.add(number(family("a_total", "counter"), 5), 0);
    const [sum] = metricsOf(decodeBody((await to.take(true))[0]!.body));
    const { timeUnixNano } = TIMES;
    expect(sum?.["sum"]).toMatchObject({ dataPoints: [{ attributes: ATTRIBUTES, timeUnixNano, asDouble: 5 }] });
    expect(JSON.stringify(sum)).not.toContain("startTimeUnixNano");
  });

  it("says of what is gone that it has no value any more", async () => {
    const to = encoder();
    to.addGone(number(family("a_total", "counter"), 5));
    to.addGone(HISTOGRAM);
    const [sum, histogram] = metricsOf(decodeBody((await to.take(true))[0]!.body));
    expect(sum).toMatchObject({
      sum: { dataPoints: [{ attributes: ATTRIBUTES, timeUnixNano: TIMES.timeUnixNano, flags: 1 }] },
    });
    expect(histogram).toMatchObject({ histogram: { dataPoints: [{ attributes: ATTRIBUTES, flags: 1 }] } });
  });

  it("seals a request at its data points and at its bytes, none lost", async () => {
    const to = encoder(10);
    for (let i = 0; i < 25; i++)
      to.add(number(family(`f${i % 3}`, "counter"), i, labelsOf(String(i), [["i", String(i)]])), START_MS);
    const batches = await to.take(true);
    expect(batches.map(({ samples }) => samples)).toEqual([10, 10, 5]);
    const values = batches.flatMap(({ body }) =>
      metricsOf(decodeBody(body)).flatMap(
        (metric) => (metric["sum"] as { dataPoints: { asDouble: number }[] }).dataPoints,
      ),
    );
    expect(values.map(({ asDouble }) => asDouble).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 25 }, (_, i) => i),
    );

    const long = encoder();
    for (const name of ["a", "b", "c"])
      long.add(number(family(name, "gauge"), 1, labelsOf(name, [["x", name.repeat(600_000)]])), START_MS);
    expect((await long.take(true)).map(({ samples }) => samples)).toEqual([1, 1, 1]);
  });

  it("keeps buckets whole and their sum the count, whatever is read", async () => {
    const to = encoder();
    for (const values of [
      [5, 3, 4],
      [9, 9, 4],
      [0, 0, 0],
    ]) {
      to.add({ ...HISTOGRAM, spread: { ...HISTOGRAM.spread!, values, count: values[2] as number } } as Point, START_MS);
    }
    const [metric] = metricsOf(decodeBody((await to.take(true))[0]!.body));
    const { dataPoints } = metric!["histogram"] as { dataPoints: { count?: string; bucketCounts: string[] }[] };
    expect(dataPoints.map(({ bucketCounts }) => bucketCounts.map(Number))).toEqual([
      [4, 0, 0],
      [4, 0, 0],
      [0, 0, 0],
    ]);
    for (const { count = "0", bucketCounts } of dataPoints)
      expect(bucketCounts.reduce((sum, each) => sum + Number(each), 0)).toBe(Number(count));
  });
});

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const ACCESS = { headers: [{ name: "api-key", value: Secret.of("s3cret") }], basic: null, bearer: null };
const NO_TLS = { ca: null, certificate: null, key: null };

async function httpReceiver(
  answer: (response: ServerResponse, request: IncomingMessage, body: Buffer) => void,
): Promise<string> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => answer(response, request, Buffer.concat(chunks)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/metrics`;
}

async function body(): Promise<Buffer> {
  const to = encoder();
  to.add(HISTOGRAM, START_MS);
  return (await to.take(true))[0]!.body;
}

describe("OTLP over HTTP", () => {
  it.each([
    [200, Buffer.alloc(0), { kind: "delivered", rejected: 0 }],
    [
      200,
      encode("ExportMetricsServiceResponse", {
        partialSuccess: { rejectedDataPoints: 3, errorMessage: "too old, s3cret" },
      }),
      { kind: "delivered", rejected: 3, detail: "too old, ***" },
    ],
    [200, Buffer.from("<html>"), { kind: "delivered", rejected: 0 }],
    [202, encode("ExportMetricsServiceResponse", {}), { kind: "delivered", rejected: 0 }],
    [400, Buffer.from("no"), { kind: "refused", reason: "bad_request" }],
    [429, Buffer.alloc(0), { kind: "retry", reason: "throttled" }],
    [500, Buffer.alloc(0), { kind: "refused", reason: "refused" }],
    [502, Buffer.alloc(0), { kind: "retry", reason: "server_error" }],
    [503, Buffer.alloc(0), { kind: "retry", reason: "server_error" }],
    [504, Buffer.alloc(0), { kind: "retry", reason: "server_error" }],
  ])("takes the answer %i %o for %o", async (status, answer, expected) => {
    const url = await httpReceiver((response) => response.writeHead(status, { "retry-after": "0" }).end(answer));
    const options = { url, headers: {}, access: ACCESS, tls: NO_TLS, timeoutMs: 2000, isRetried: isRetriedByOtlp };
    const transport = new HttpTransport({ ...options, readAnswer: readOtlpAnswer });
    expect(await transport.send(await body(), new AbortController().signal)).toMatchObject(expected);
    transport.close();
  });
});

type Answer = { error: Partial<grpc.ServiceError> | null; answer?: Buffer };

async function grpcReceiver(answer: (request: Buffer, metadata: grpc.Metadata) => Answer | null): Promise<string> {
  const server = new grpc.Server();
  const same = (bytes: Buffer) => bytes;
  const definition = {
    Export: {
      path: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
      requestStream: false,
      responseStream: false,
      requestSerialize: same,
      requestDeserialize: same,
      responseSerialize: same,
      responseDeserialize: same,
    },
  };
  server.addService(definition, {
    Export: (call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => {
      const given = answer(call.request, call.metadata);
      if (given !== null) done(given.error, given.answer ?? Buffer.alloc(0));
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  closers.push(() => server.forceShutdown());
  return `http://127.0.0.1:${port}`;
}

function retryInfo(delay: object): grpc.Metadata {
  const value = encode("RetryInfo", { retryDelay: delay });
  const metadata = new grpc.Metadata();
  const status = encode("Status", {
    code: 14,
    details: [{ typeUrl: "type.googleapis.com/google.rpc.RetryInfo", value }],
  });
  metadata.set("grpc-status-details-bin", status);
  return metadata;
}

async function sendByGrpc(url: string, timeoutMs = 2000) {
  const transport = new GrpcTransport({ url, userAgent: "meshtally/1", access: ACCESS, tls: NO_TLS, timeoutMs });
  const delivery = await transport.send(await body(), new AbortController().signal);
  transport.close();
  return delivery;
}

describe("OTLP over gRPC", () => {
  it("sends the request, and who it is", async () => {
    let received: Buffer | null = null;
    let key: unknown;
    const url = await grpcReceiver((request, metadata) => {
      received = request;
      [key] = metadata.get("api-key");
      return { error: null };
    });
    expect(await sendByGrpc(url)).toEqual({ kind: "delivered", rejected: 0, detail: "" });
    expect(metricsOf(decode(received as unknown as Buffer)).map(({ name }) => name)).toEqual(["duration_ms"]);
    expect(key).toBe("s3cret");
  });

  it.each([
    ["UNAVAILABLE", grpc.status.UNAVAILABLE, undefined, { kind: "retry", reason: "unreachable", afterMs: 0 }],
    [
      "UNAVAILABLE with a delay",
      grpc.status.UNAVAILABLE,
      retryInfo({ seconds: 2, nanos: 5e8 }),
      { kind: "retry", afterMs: 2500 },
    ],
    [
      "RESOURCE_EXHAUSTED with a delay",
      grpc.status.RESOURCE_EXHAUSTED,
      retryInfo({ seconds: 1 }),
      { kind: "retry", reason: "throttled", afterMs: 1000 },
    ],
    ["a delay without end", grpc.status.UNAVAILABLE, retryInfo({ seconds: 1e12 }), { kind: "retry", afterMs: 600_000 }],
    ["RESOURCE_EXHAUSTED alone", grpc.status.RESOURCE_EXHAUSTED, undefined, { kind: "refused", reason: "refused" }],
    ["INVALID_ARGUMENT", grpc.status.INVALID_ARGUMENT, undefined, { kind: "refused", reason: "bad_request" }],
    [
      "UNAUTHENTICATED",
      grpc.status.UNAUTHENTICATED,
      undefined,
      { kind: "refused", reason: "unauthorized", detail: "UNAUTHENTICATED: no ***" },
    ],
    ["UNIMPLEMENTED", grpc.status.UNIMPLEMENTED, undefined, { kind: "refused", reason: "not_found" }],
    ["INTERNAL", grpc.status.INTERNAL, undefined, { kind: "refused", reason: "refused" }],
  ])("takes %s for what OTLP says it is", async (_, code, metadata, expected) => {
    const url = await grpcReceiver(() => ({ error: { code, details: "no s3cret", ...(metadata && { metadata }) } }));
    expect(await sendByGrpc(url)).toMatchObject(expected);
  });

  it("counts what was rejected", async () => {
    const answer = encode("ExportMetricsServiceResponse", {
      partialSuccess: { rejectedDataPoints: 1, errorMessage: "late" },
    });
    const url = await grpcReceiver(() => ({ error: null, answer }));
    expect(await sendByGrpc(url)).toEqual({ kind: "delivered", rejected: 1, detail: "late" });
  });

  it("sends again when nobody answers in time, or is there", async () => {
    expect(await sendByGrpc(await grpcReceiver(() => null), 200)).toMatchObject({ kind: "retry", reason: "timeout" });
    expect(await sendByGrpc("http://127.0.0.1:1", 1000)).toMatchObject({ kind: "retry" });
  });
});

describe("the environment", () => {
  const ENV = {
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318/",
    OTEL_EXPORTER_OTLP_HEADERS: "api-key=a%20b,x=y=z,broken",
    OTEL_EXPORTER_OTLP_TIMEOUT: "5000",
    OTEL_RESOURCE_ATTRIBUTES: "k8s.cluster.name=east,service.name=other",
  };
  it.each([
    [
      "gives what is not configured",
      {},
      ENV,
      {
        url: "http://collector:4318/v1/metrics",
        protocol: "http/protobuf",
        timeout: "5000ms",
        headers: [
          { name: "api-key", value: "a b" },
          { name: "x", value: "y=z" },
        ],
      },
    ],
    [
      "names gRPC's endpoint as it is",
      {},
      { ...ENV, OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" },
      { url: "http://collector:4318/", protocol: "grpc" },
    ],
    [
      "prefers what is for metrics",
      {},
      { ...ENV, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: "http://m/x" },
      { url: "http://m/x" },
    ],
    [
      "sends nothing of it to another endpoint",
      { url: "http://mine/" },
      ENV,
      { url: "http://mine/", protocol: "http/protobuf" },
    ],
    ["leaves a URL out when there is none", {}, {}, { url: "" }],
  ])("%s", (_, raw, env, expected) => {
    expect(withEnvironment(raw, env)).toMatchObject(expected);
    if ("url" in raw) expect(withEnvironment(raw, env)).toEqual(expected);
  });

  it("adds attributes to the resource", () => {
    expect(resourceAttributesOf({ resource_attributes: { a: "b" } }, ENV)).toEqual({
      "service.name": "other",
      "k8s.cluster.name": "east",
      a: "b",
    });
    expect(resourceAttributesOf({}, { ...ENV, OTEL_SERVICE_NAME: "mine" })).toMatchObject({ "service.name": "mine" });
    expect(resourceAttributesOf({}, {})).toEqual({ "service.name": "meshtally" });
  });
});

it("the collector sends its own metrics by OTLP, round after round", async () => {
  const requests: DecodedRequest[] = [];
  const url = await httpReceiver((response, request, sent) => {
    expect(request.headers).toMatchObject({ "content-type": "application/x-protobuf", "content-encoding": "gzip" });
    requests.push(decodeBody(sent));
    response.end();
  });
  const defaults = loadConfig({ path: null, env: {} });
  const address = { host: "127.0.0.1", port: 0 };
  const otlpExport = [
    {
      ...{ name: "otlp", url, access: ACCESS, tls: NO_TLS, intervalMs: 50, timeoutMs: 1000, maxSamples: 1000 },
      ...{ queue: { folder: null, maxBytes: 2 ** 24 }, metrics: "meshtally_.*" },
      ...{ protocol: "http/protobuf" as const, resourceAttributes: { "service.name": "meshtally" } },
    },
  ];
  const config = { ...defaults, grpc: { ...defaults.grpc, address }, http: { address }, otlpExport };
  const collector = await startCollector(config, () => silentLog);
  for (let tries = 0; tries < 100 && requests.length < 3; tries++) await sleep(20);
  await collector.stop();
  expect(requests.length).toBeGreaterThanOrEqual(3);
  const names = metricsOf(requests.at(-1) as DecodedRequest).map(({ name }) => name);
  expect(names).toContain("meshtally_export_samples_total");
  expect(new Set(names).size).toBe(names.length);
});
