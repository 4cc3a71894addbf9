// A real gRPC client on loopback -> GrpcServer -> MetricsService.

import * as grpc from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, test } from "vitest";
import { silentLog } from "../../collector/log.ts";
import { GrpcServer } from "../../collector/receiver/grpc.ts";
import { MetricsService } from "../../collector/receiver/metrics-service.ts";
import type { StatsReport } from "../../collector/record/record.ts";
import { SelfMetrics } from "../../collector/self.ts";
import { DEFAULT_SHAPES } from "../../collector/series/shape.ts";
import { SinkProcess } from "../fixtures/metrics-sink.ts";

const V3 = "/envoy.service.metrics.v3.MetricsService/StreamMetrics";
const V2 = "/envoy.service.metrics.v2.MetricsService/StreamMetrics";
const WEB = "sidecar~10.0.0.1~web-1.default~default.svc.cluster.local";
const LIMIT = 256 * 1024;

const identity = (bytes: Buffer) => bytes;

let reports: StatsReport[];
let service: MetricsService;
let server: GrpcServer;
let client: grpc.Client;

async function start(maxStreamAgeMs = 0): Promise<void> {
  // Messages of other services may be no longer than 1 KiB.
  server = new GrpcServer({ address: "127.0.0.1:0", maxMessageBytes: 1024, maxStreamAgeMs, log: silentLog });
  service.register(server);
  client = new grpc.Client(`127.0.0.1:${await server.start()}`, grpc.credentials.createInsecure());
}

beforeEach(() => {
  reports = [];
  service = new MetricsService({
    messages: { bytes: LIMIT, key: "grpc.max_metrics_message" },
    ...{ maxStreams: 2, maxProxies: 10, maxLabelSets: 100, shapes: DEFAULT_SHAPES, forgetAfterMs: 1000 },
    sink: (report) => {
      reports.push(structuredClone(report));
      return "ok";
    },
    self: new SelfMetrics("test"),
    log: silentLog,
  });
});
afterEach(async () => {
  client.close();
  await server.stop(200);
});

interface Answer {
  readonly error: grpc.ServiceError | null;
  readonly bytes: Buffer | undefined;
}

function open(path = V3, headers: Record<string, string> = {}) {
  let settle: (answer: Answer) => void = () => {};
  const answer = new Promise<Answer>((resolve) => {
    settle = resolve;
  });
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  const call = client.makeClientStreamRequest(path, identity, identity, metadata, (error, bytes) =>
    settle({ error, bytes }),
  );
  return { call, answer };
}

function flushes(options: { deltas?: boolean } = {}): Buffer[] {
  const process = new SinkProcess(WEB, Date.now() - 5000);
  return [1, 2, 3].flatMap((flush) => {
    process.request({ destination_workload: "b" });
    return process.flush(flush * 5000, options, flush === 1);
  });
}

test.each([V3, V2])("%s is served, and what it brings is reported", async (path) => {
  await start();
  const { call, answer } = open(path);
  for (const message of flushes()) call.write(message);
  call.end();
  expect(await answer).toMatchObject({ error: null, bytes: Buffer.alloc(0) });
  expect(reports.map(({ proxy, samples }) => [proxy, samples[0]?.requests])).toEqual([1, 2, 3].map((n) => [WEB, n]));
});

test("a stream says by its header that its counters come as deltas", async () => {
  await start();
  const { call, answer } = open(V3, { "x-meshtally-counters": "delta" });
  for (const message of flushes({ deltas: true })) call.write(message);
  call.end();
  await answer;
  expect(reports.map(({ samples }) => samples[0]?.requests)).toEqual([1, 2, 3]);
});

test("a message beyond the limit ends the stream, and the answer names the key", async () => {
  await start();
  const { call, answer } = open();
  const [first = Buffer.alloc(0)] = flushes();
  call.write(first);
  call.write(Buffer.alloc(LIMIT + 1));
  const { error } = await answer;
  expect(error).toMatchObject({
    code: grpc.status.RESOURCE_EXHAUSTED,
    details: `message larger than grpc.max_metrics_message, ${LIMIT} bytes`,
  });
  expect(reports).toHaveLength(1);
  await expect.poll(() => service.accounts.named[0]?.ended).toEqual({ broken_off: 1 });
});

test("a stream that is old enough is answered", async () => {
  await start(50);
  const { call, answer } = open();
  const [first = Buffer.alloc(0)] = flushes();
  call.write(first);
  expect(await answer).toMatchObject({ error: null });
  expect(reports).toHaveLength(1);
  await expect.poll(() => service.accounts.named[0]?.ended).toEqual({ aged: 1 });
});

test("one stream too many is refused", async () => {
  await start();
  const [one, two] = [open(), open()];
  const [first = Buffer.alloc(0)] = flushes();
  for (const { call } of [one, two]) call.write(first);
  await expect.poll(() => service.accounts.named[0]?.openStreams).toBe(2);
  const { error } = await open().answer;
  expect(error).toMatchObject({ code: grpc.status.RESOURCE_EXHAUSTED, details: "too many streams" });
  for (const { call } of [one, two]) call.end();
  await Promise.all([one.answer, two.answer]);
});

test.each([V3, V2])("health knows the service of %s", async (path) => {
  await start();
  const name = path.split("/")[1] as string;
  const request = Buffer.concat([Buffer.from([0x0a, name.length]), Buffer.from(name)]);
  const answer = await new Promise((resolve) =>
    client.makeUnaryRequest("/grpc.health.v1.Health/Check", identity, identity, request, (_error, bytes) =>
      resolve(bytes),
    ),
  );
  expect(answer).toEqual(Buffer.from([0x08, 1]));
});
