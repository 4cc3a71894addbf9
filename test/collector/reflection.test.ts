// A client that knows nothing but the reflection protocol lists what is served, and reads a message by what it was told.

import { join, resolve } from "node:path";
import * as grpc from "@grpc/grpc-js";
import protobuf from "protobufjs";
import descriptor from "protobufjs/ext/descriptor.js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { silentLog } from "../../collector/log.ts";
import { AlsReceiver } from "../../collector/receiver/als.ts";
import { GrpcServer } from "../../collector/receiver/grpc.ts";
import { MetricsService } from "../../collector/receiver/metrics-service.ts";
import { SelfMetrics } from "../../collector/self.ts";
import { DEFAULT_SHAPES } from "../../collector/series/shape.ts";
import { encodeMessage } from "../fixtures/als.ts";

const V3 = "envoy.service.accesslog.v3.AccessLogService";
const V2 = "envoy.service.accesslog.v2.AccessLogService";
const SERVICES = [
  V2,
  V3,
  "envoy.service.metrics.v2.MetricsService",
  "envoy.service.metrics.v3.MetricsService",
  "grpc.health.v1.Health",
  "grpc.reflection.v1.ServerReflection",
  "grpc.reflection.v1alpha.ServerReflection",
];

const protos = resolve(import.meta.dirname, "../fixtures/proto");
const root = new protobuf.Root();
root.loadSync(["v1", "v1alpha"].map((version) => join(protos, "grpc/reflection", version, "reflection.proto")));

let server: GrpcServer;
let port: number;
beforeAll(async () => {
  server = new GrpcServer({ address: "127.0.0.1:0", log: silentLog });
  const sink = () => null;
  const self = new SelfMetrics("test");
  new AlsReceiver({ sink, connectionSink: sink, self, log: silentLog }).register(server);
  new MetricsService({
    messages: { bytes: 1024, key: "grpc.max_metrics_message" },
    ...{ maxStreams: 1, maxProxies: 1, maxLabelSets: 1, shapes: DEFAULT_SHAPES, forgetAfterMs: 1 },
    ...{ sink: () => "ok" as const, self, log: silentLog },
  }).register(server);
  port = await server.start();
});
afterAll(() => server.stop(0));

type Fields = Readonly<Record<string, unknown>>;

interface Answer {
  readonly validHost?: string;
  readonly originalRequest?: Fields;
  readonly fileDescriptorResponse?: { fileDescriptorProto: Buffer[] };
  readonly allExtensionNumbersResponse?: { baseTypeName: string; extensionNumber?: number[] };
  readonly listServicesResponse?: { service: { name: string }[] };
  readonly errorResponse?: { errorCode: number; errorMessage: string };
}

/** One stream, with a client of its own. */
function open(version: "v1" | "v1alpha" = "v1") {
  const requestType = root.lookupType(`grpc.reflection.${version}.ServerReflectionRequest`);
  const responseType = root.lookupType(`grpc.reflection.${version}.ServerReflectionResponse`);
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
  });
  const call = client.makeBidiStreamRequest<Buffer, Buffer>(
    `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
    (bytes) => bytes,
    (bytes) => bytes,
  );
  const stream = { answers: [] as Answer[], code: null as number | null };
  call.on("data", (bytes: Buffer) => stream.answers.push(responseType.toObject(responseType.decode(bytes)) as Answer));
  call.on("error", () => {});
  call.on("status", ({ code }) => {
    stream.code = code;
    client.close();
  });
  const send = (request: Fields) =>
    call.write(Buffer.from(requestType.encode(requestType.fromObject(request)).finish()));
  return { stream, call, send };
}

async function ask(requests: readonly Fields[], version: "v1" | "v1alpha" = "v1"): Promise<Answer[]> {
  const { stream, call, send } = open(version);
  for (const request of requests) send(request);
  call.end();
  await until(() => stream.code !== null);
  expect(stream.code).toBe(grpc.status.OK);
  return stream.answers;
}

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** What a tool makes of files that it was told. */
function rootOf({ fileDescriptorResponse }: Answer): protobuf.Root {
  const type = descriptor.FileDescriptorProto as unknown as protobuf.Type;
  const file = (fileDescriptorResponse?.fileDescriptorProto ?? []).map((bytes) => type.decode(bytes));
  const described = file.map((each) => each as unknown as { name: string; dependency: string[] });
  const names = described.map(({ name }) => name);
  for (const name of names) expect(name).toMatch(/^[a-z0-9_/]+\.proto$/);
  for (const { dependency } of described) expect(names).toEqual(expect.arrayContaining(dependency));
  const set = (descriptor.FileDescriptorSet as unknown as protobuf.Type).create({ file });
  const made = protobuf.Root.fromDescriptor(set as never);
  made.resolveAll(); // throws where something is missing
  return made;
}

describe.each(["v1", "v1alpha"] as const)("reflection %s", (version) => {
  it("lists the services, and has the file of each, with all that it needs", async () => {
    const [list] = await ask([{ host: "here", listServices: "*" }], version);
    expect(list?.listServicesResponse?.service.map(({ name }) => name)).toEqual(SERVICES);
    expect(list?.validHost).toBe("here");
    expect(list?.originalRequest).toEqual({ host: "here", listServices: "*" });
    const answers = await ask(
      SERVICES.map((fileContainingSymbol) => ({ fileContainingSymbol })),
      version,
    );
    expect(answers).toHaveLength(SERVICES.length);
    for (const [index, answer] of answers.entries()) {
      const service = rootOf(answer).lookupService(SERVICES[index] as string);
      expect(service.methodsArray.length).toBeGreaterThan(0);
    }
  });
});

it("the descriptors read a real message", async () => {
  const [answer] = await ask([{ fileContainingSymbol: `${V3}.StreamAccessLogs` }]);
  const made = rootOf(answer as Answer);
  const { requestType, requestStream, responseStream } = made.lookupService(V3).methods[
    "StreamAccessLogs"
  ] as protobuf.Method;
  expect([requestStream, responseStream]).toEqual([true, undefined]);
  const type = made.lookupType(requestType);
  expect(made.lookupType("envoy.data.accesslog.v3.HTTPAccessLogEntry").fields["common_properties"]).toBeDefined();
  const fields = {
    identifier: { node: { id: "sidecar~1", metadata: { fields: { NAME: { stringValue: "a" } } } }, logName: "inbound" },
    httpLogs: {
      logEntry: [
        {
          commonProperties: { upstreamCluster: "inbound|80||", startTime: { seconds: 5 }, customTags: { a: "b" } },
          request: { requestMethod: 1, requestHeaders: { "content-type": "x" } },
          response: { responseCode: { value: 200 } },
        },
      ],
    },
  };
  expect(type.toObject(type.decode(encodeMessage(fields)), { longs: Number })).toEqual(asDeclared(fields));
});

/** With the names that the .proto files have: `log_name` for `logName`. */
function asDeclared(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(asDeclared);
  if (typeof value !== "object" || value === null) return value;
  const name = (key: string) => key.replace(/([a-z])([A-Z])/g, (_, a: string, b: string) => `${a}_${b.toLowerCase()}`);
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [name(key), asDeclared(inner)]));
}

it("finds messages, nested ones, enums, fields and files by name, and says what it does not have", async () => {
  const symbols = [
    "envoy.data.accesslog.v3.HTTPAccessLogEntry",
    "envoy.data.accesslog.v3.HTTPAccessLogEntry.HTTPVersion",
    "envoy.data.accesslog.v3.TLSProperties.CertificateProperties.SubjectAltName",
    "envoy.data.accesslog.v3.HTTPAccessLogEntry.common_properties",
    "google.protobuf.Struct",
  ];
  const found = await ask(symbols.map((fileContainingSymbol) => ({ fileContainingSymbol })));
  for (const [index, answer] of found.entries()) {
    expect(answer.errorResponse).toBeUndefined();
    expect(rootOf(answer).lookup((symbols[index] as string).replace(/\.common_properties$/, ""))).not.toBeNull();
  }
  const [file] = await ask([{ fileByFilename: "envoy/data/accesslog/v3/accesslog.proto" }]);
  expect(rootOf(file as Answer).lookupType("envoy.data.accesslog.v3.TCPAccessLogEntry")).toBeDefined();

  const missing = await ask([
    { fileByFilename: "/etc/passwd" },
    { fileContainingSymbol: "envoy.config.bootstrap.v3.Bootstrap" },
    { fileContainingExtension: { containingType: "google.protobuf.Any", extensionNumber: 1 } },
    { allExtensionNumbersOfType: "no.Such" },
    {},
  ]);
  expect(missing.map(({ errorResponse }) => errorResponse)).toEqual([
    { errorCode: 5, errorMessage: 'no file "/etc/passwd"' },
    { errorCode: 5, errorMessage: 'no symbol "envoy.config.bootstrap.v3.Bootstrap"' },
    { errorCode: 5, errorMessage: "nothing that is served has extensions" },
    { errorCode: 5, errorMessage: 'no message "no.Such"' },
    { errorCode: 3, errorMessage: "expected one of the requests of ServerReflectionRequest" },
  ]);
  const [none] = await ask([{ allExtensionNumbersOfType: "google.protobuf.Any" }]);
  expect(none?.allExtensionNumbersResponse).toEqual({ baseTypeName: "google.protobuf.Any" });
});

it("answers broken bytes, ends at a request that is too long, and takes 16 streams at once", async () => {
  const broken = open();
  broken.call.write(Buffer.from([0x0a, 0x7f]));
  broken.call.end();
  await until(() => broken.stream.code !== null);
  expect(broken.stream.answers[0]?.errorResponse?.errorCode).toBe(3);

  const long = open();
  long.send({ fileByFilename: "x".repeat(5000) });
  await until(() => long.stream.code !== null);
  expect(long.stream).toEqual({ answers: [], code: grpc.status.RESOURCE_EXHAUSTED });

  const many = Array.from({ length: 16 }, () => open());
  for (const { send } of many) send({ listServices: "" });
  await until(() => many.every(({ stream }) => stream.answers.length === 1));
  const refused = open();
  await until(() => refused.stream.code !== null);
  expect(refused.stream.code).toBe(grpc.status.RESOURCE_EXHAUSTED);
  many[0]?.call.cancel();
  many[1]?.call.end();
  for (let left = 2; left > 0; ) {
    const next = open();
    next.send({ listServices: "" });
    await until(() => next.stream.code !== null || next.stream.answers.length > 0);
    if (next.stream.code === null) left--;
    many.push(next);
  }
  for (const { call } of many) call.cancel();
});

it("one who asks and does not listen is not heard further", async () => {
  const { call, send } = open();
  call.pause();
  let isStalled = false;
  for (let i = 0; i < 3000 && !isStalled; i++) {
    isStalled = !send({ fileContainingSymbol: V3, host: "h".repeat(3000) });
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(isStalled).toBe(true);
  call.cancel();
});
