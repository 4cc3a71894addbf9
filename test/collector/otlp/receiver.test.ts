// OTLP on the wire, over gRPC and HTTP: what is answered, and what comes of it.

import { connect } from "node:net";
import { deflateSync, gzipSync } from "node:zlib";
import * as grpc from "@grpc/grpc-js";
import protobuf from "protobufjs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { AiMetrics } from "../../../collector/ai/metrics.ts";
import { silentLog } from "../../../collector/log.ts";
import { OtlpHttpServer } from "../../../collector/otlp/http-server.ts";
import { OtlpReceiver } from "../../../collector/otlp/receiver.ts";
import { OtlpStreams } from "../../../collector/otlp/streams.ts";
import { decodeAlsMessage } from "../../../collector/proto/als.ts";
import { GrpcServer } from "../../../collector/receiver/grpc.ts";
import { SelfMetrics } from "../../../collector/self.ts";
import { encodeLogs, keyValues, logsOf, RESOURCE, readLogsResponse } from "../../fixtures/otlp.ts";

const MAX_BYTES = 100_000;
const RECORD = { method: "GET", path: "/", response_code: "200" };
const GOOD = encodeLogs(logsOf([RECORD, RECORD]));

/** Node ids of the messages that came, with the number of their entries; and how streams ended. */
let came: [nodeId: string, entries: number][];
let ended: string[];
let room: number;
let isPaused: boolean;
let self: SelfMetrics;
let otlp: OtlpReceiver;
let server: GrpcServer;
let http: OtlpHttpServer;
let client: grpc.Client;
let httpPort: number;

beforeEach(async () => {
  [came, ended, room, isPaused] = [[], [], 10, false];
  self = new SelfMetrics("test");
  otlp = new OtlpReceiver({
    open: () => {
      if (room-- <= 0) return null;
      return {
        message: (bytes) => {
          const { identifier, httpEntries } = decodeAlsMessage(bytes) ?? { identifier: null, httpEntries: [] };
          came.push([identifier?.nodeId ?? "", httpEntries.length / 2]);
        },
        end: (how) => ended.push(how),
      };
    },
    ai: new AiMetrics(100),
    self,
    log: silentLog,
  });
  server = new GrpcServer({ address: "127.0.0.1:0", maxMessageBytes: MAX_BYTES, log: silentLog });
  otlp.register(server);
  http = new OtlpHttpServer({
    host: "127.0.0.1",
    port: 0,
    signals: otlp.signals,
    maxBodyBytes: MAX_BYTES,
    isPaused: () => isPaused,
    log: silentLog,
  });
  client = new grpc.Client(`127.0.0.1:${await server.start()}`, grpc.credentials.createInsecure());
  httpPort = await http.start();
});
afterEach(async () => {
  client.close();
  otlp.stop();
  await Promise.all([server.stop(0), http.stop(0)]);
});

function exportLogs(request: Buffer): Promise<Buffer> {
  const same = (bytes: Buffer) => bytes;
  const path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(path, same, same, request, (error, response) => {
      if (error) reject(error);
      else resolve(response ?? Buffer.alloc(0));
    });
  });
}

/** What `meshtally_otlp_refused_total` has. */
async function refused(): Promise<string[]> {
  const lines = (await self.registry.metrics()).split("\n");
  const name = "meshtally_otlp_refused_total";
  return lines.filter((line) => line.startsWith(`${name}{`)).map((line) => line.slice(name.length));
}

/** A google.rpc.Status, by its own fields: code 1, message 2, details 3 (Any: type 1, value 2 (RetryInfo: delay 1 (seconds 1))). */
function readStatus(bytes: Buffer) {
  const status = protobuf.Reader.create(bytes);
  const read = { code: 0, message: "", retryAfter: [] as number[] };
  while (status.pos < status.len) {
    const field = status.uint32() >>> 3;
    if (field === 1) read.code = status.int32();
    else if (field === 2) read.message = status.string();
    else read.retryAfter.push(retryAfterOf(status.bytes()));
  }
  return read;
}

function retryAfterOf(any: Uint8Array): number {
  const reader = protobuf.Reader.create(any);
  expect([reader.uint32() >>> 3, reader.string()]).toEqual([1, "type.googleapis.com/google.rpc.RetryInfo"]);
  expect(reader.uint32() >>> 3).toBe(2);
  const info = protobuf.Reader.create(reader.bytes());
  expect(info.uint32() >>> 3).toBe(1);
  const delay = protobuf.Reader.create(info.bytes());
  expect(delay.uint32() >>> 3).toBe(1);
  return delay.uint32();
}

function post(body: Buffer | string, headers: Record<string, string> = {}, path = "/v1/logs", method = "POST") {
  const all = { "content-type": "application/x-protobuf", ...headers };
  return fetch(`http://127.0.0.1:${httpPort}${path}`, {
    method,
    headers: all,
    ...(method === "GET" ? {} : { body: new Uint8Array(Buffer.from(body)) }),
  });
}

describe("over gRPC", () => {
  test("all that is taken is answered with an empty message, and goes on as ALS", async () => {
    expect(readLogsResponse(await exportLogs(GOOD))).toEqual({});
    expect(came).toEqual([[RESOURCE["node_name"], 2]]);
    expect(otlp.logCounts).toMatchObject({ accepted: 2, rejected: {} });
  });

  test("what is rejected is told with its number and why, and the rest is taken", async () => {
    const request = encodeLogs(logsOf([RECORD, { a: "b" }, { ...RECORD, response_code: "ok" }, { a: "b" }]));
    expect(readLogsResponse(await exportLogs(request))).toEqual({
      partialSuccess: { rejectedLogRecords: 3, errorMessage: "2 not_access_log, 1 attribute_malformed" },
    });
    expect(came).toEqual([[RESOURCE["node_name"], 1]]);
    const text = await self.registry.metrics();
    expect(text).toContain('meshtally_otlp_rejected_total{signal="logs",reason="not_access_log"} 2');
    expect(text).toContain('meshtally_otlp_requests_total{signal="logs",transport="grpc",result="partial"} 1');
  });

  test("records of nobody are rejected", async () => {
    expect(readLogsResponse(await exportLogs(encodeLogs(logsOf([RECORD], {}))))).toMatchObject({
      partialSuccess: { rejectedLogRecords: 1, errorMessage: "1 node_missing" },
    });
  });

  test("one more proxy than there may be streams is rejected, and the others go on", async () => {
    room = 1;
    await exportLogs(GOOD);
    const another = encodeLogs(logsOf([RECORD], { ...RESOURCE, node_name: "sidecar~2" }));
    expect(readLogsResponse(await exportLogs(another))).toMatchObject({
      partialSuccess: { rejectedLogRecords: 1, errorMessage: "1 streams_full" },
    });
    expect(readLogsResponse(await exportLogs(GOOD))).toEqual({});
  });

  test("a request that is none, or too long, is refused whole", async () => {
    await expect(exportLogs(GOOD.subarray(0, -1))).rejects.toMatchObject({ code: grpc.status.INVALID_ARGUMENT });
    const long = encodeLogs(logsOf([{ ...RECORD, path: "x".repeat(MAX_BYTES) }]));
    await expect(exportLogs(long)).rejects.toMatchObject({ code: grpc.status.RESOURCE_EXHAUSTED });
    expect(came).toEqual([]);
  });

  test("while there is no room it is to be sent again", async () => {
    server.pause();
    const error: grpc.ServiceError = await exportLogs(GOOD).then(
      () => expect.fail("it was taken"),
      (thrown) => thrown,
    );
    expect(error.code).toBe(grpc.status.UNAVAILABLE);
    const status = error.metadata.get("grpc-status-details-bin")[0] as Buffer;
    expect(readStatus(status)).toEqual({ code: 14, message: "no room at the moment", retryAfter: [1] });
    expect(await refused()).toEqual(['{signal="logs",transport="grpc",reason="no_room"} 1']);
    expect(came).toEqual([]);
  });

  test("a refused request that is sent again counts once, even if its records have no id", async () => {
    const request = encodeLogs(logsOf([RECORD, { ...RECORD, stream_id: "a" }]));
    server.pause();
    for (let i = 0; i < 3; i++) await expect(exportLogs(request)).rejects.toThrow();
    expect(otlp.logCounts).toMatchObject({ accepted: 0, rejected: {} });
    server.resume();
    expect(readLogsResponse(await exportLogs(request))).toEqual({});
    expect(came).toEqual([[RESOURCE["node_name"], 2]]);
    expect(otlp.logCounts).toMatchObject({ accepted: 2, rejected: {} }); // none was repeated
  });

  test("attributes that nobody knows are told by name, and their records count", async () => {
    await exportLogs(encodeLogs(logsOf([{ ...RECORD, tenant: "blue" }, RECORD])));
    expect(otlp.logCounts).toEqual({
      accepted: 2,
      rejected: {},
      withUnknownAttributes: 1,
      unknownAttributes: ["tenant"],
    });
  });
});

describe("over HTTP", () => {
  test.each([
    ["plain", {}, (bytes: Buffer) => bytes],
    ["gzip", { "content-encoding": "gzip" }, gzipSync],
    ["deflate", { "content-encoding": "deflate" }, deflateSync],
    [
      "with parameters of its type",
      { "content-type": "application/x-protobuf; charset=utf-8" },
      (bytes: Buffer) => bytes,
    ],
  ])("protobuf, %s", async (_, headers, pack) => {
    const response = await post(pack(GOOD), headers as Record<string, string>);
    expect([response.status, response.headers.get("content-type")]).toEqual([200, "application/x-protobuf"]);
    expect(readLogsResponse(Buffer.from(await response.arrayBuffer()))).toEqual({});
    expect(came).toEqual([[RESOURCE["node_name"], 2]]);
  });

  test("JSON, answered in JSON", async () => {
    const headers = { "content-type": "application/json", "content-encoding": "gzip" };
    const response = await post(gzipSync(JSON.stringify(logsOf([RECORD, { a: "b" }]))), headers);
    expect(response.headers.get("content-type")).toBe("application/json");
    expect(await response.json()).toEqual({
      partialSuccess: { rejectedLogRecords: "1", errorMessage: "1 not_access_log" },
    });
    expect(came).toEqual([[RESOURCE["node_name"], 1]]);
    expect(await (await post("{}", { "content-type": "application/json" })).json()).toEqual({});
  });

  test.each<[string, number, Parameters<typeof post>]>([
    ["broken bytes", 400, [GOOD.subarray(0, -1)]],
    ["broken JSON", 400, ["{", { "content-type": "application/json" }]],
    ["what is not packed as it says", 400, [GOOD, { "content-encoding": "gzip" }]],
    ["another encoding", 415, [GOOD, { "content-encoding": "br" }]],
    ["another type", 415, [GOOD, { "content-type": "text/plain" }]],
    ["another path", 404, [GOOD, {}, "/v1/traces"]],
    ["another method", 405, ["", {}, "/v1/logs", "GET"]],
    ["too long a body", 413, [Buffer.alloc(MAX_BYTES + 1)]],
    [
      "a body that grows beyond the limit",
      413,
      [gzipSync(Buffer.alloc(50 * MAX_BYTES)), { "content-encoding": "gzip" }],
    ],
  ])("refuses %s with %i", async (_, status, request) => {
    expect((await post(...request)).status).toBe(status);
    expect(came).toEqual([]);
    expect((await post(GOOD)).status).toBe(200); // and goes on
  });

  test("while there is no room it is to be sent again", async () => {
    isPaused = true;
    const response = await post(GOOD);
    expect([response.status, response.headers.get("retry-after")]).toEqual([503, "1"]);
    expect(came).toEqual([]);
    expect(await refused()).toEqual(['{signal="logs",transport="http",reason="no_room"} 1']);
    isPaused = false;
    await post(GOOD);
    expect(came).toEqual([[RESOURCE["node_name"], 2]]);
    expect(await refused()).toHaveLength(1);
  });

  test("what comes while bodies under way have taken all room is refused whole, and to be sent again", async () => {
    const big = new OtlpHttpServer({
      host: "127.0.0.1",
      port: 0,
      signals: otlp.signals,
      maxBodyBytes: 100 * 1024 * 1024,
      log: silentLog,
    });
    const port = await big.start();
    const url = `http://127.0.0.1:${port}/v1/logs`;
    const body = new Uint8Array(65 * 1024 * 1024);
    const headers = { "content-type": "application/x-protobuf" };
    const outcome = await fetch(url, { method: "POST", headers, body }).then(
      ({ status }) => status,
      () => "broken off while it was sent",
    );
    expect([503, "broken off while it was sent"]).toContain(outcome);
    expect(await refused()).toEqual(['{signal="logs",transport="http",reason="bodies_full"} 1']);
    expect(came).toEqual([]);
    expect((await fetch(url, { method: "POST", headers, body: new Uint8Array(GOOD) })).status).toBe(200);
    await big.stop(0);
  });

  test("a sender that leaves in the middle of its body costs nothing", async () => {
    const socket = connect(httpPort, "127.0.0.1");
    socket.write("POST /v1/logs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{");
    await new Promise((resolve) => setTimeout(resolve, 50));
    socket.destroy();
    expect((await post(GOOD)).status).toBe(200);
  });
});

describe("OtlpStreams", () => {
  test("a proxy has one stream, until it has been silent for a minute", () => {
    let nowMs = 0;
    const ends: string[] = [];
    let opened = 0;
    const streams = new OtlpStreams(
      () => ({ message: () => {}, end: () => ends.push(`${++opened}`) }),
      () => nowMs,
    );
    streams.take("a", Buffer.alloc(0));
    nowMs = 40_000;
    streams.take("b", Buffer.alloc(0));
    streams.endIdle();
    expect(ends.length).toBe(0);
    nowMs = 70_000;
    streams.endIdle();
    expect(ends.length).toBe(1);
    streams.stop();
    expect(ends.length).toBe(2);
  });
});

describe("a request that is sent again", () => {
  test("counts once, and is no fault of its sender", async () => {
    const request = encodeLogs(logsOf(["a", "b"].map((stream_id) => ({ ...RECORD, stream_id }))));
    await exportLogs(request);
    expect(readLogsResponse(await exportLogs(request))).toEqual({});
    expect(came).toEqual([[RESOURCE["node_name"], 2]]);
    expect(otlp.logCounts).toMatchObject({ accepted: 2, rejected: { repeated: 2 } });
  });

  test("is none that has another's id, which is x-request-id: another proxy's, or one that began at another moment", async () => {
    const record = { ...RECORD, stream_id: "d" };
    const later = { attributes: keyValues(record), timeUnixNano: "1767000000123456790" };
    const resource = { attributes: keyValues(RESOURCE) };
    await exportLogs(encodeLogs(logsOf([record])));
    await exportLogs(encodeLogs(logsOf([record], { ...RESOURCE, node_name: "sidecar~10.0.0.2~api-1" })));
    await exportLogs(encodeLogs({ resourceLogs: [{ resource, scopeLogs: [{ logRecords: [later] }] }] }));
    expect(otlp.logCounts).toMatchObject({ accepted: 3, rejected: {} });
  });

  test("is told by its stream's id: without one, and of connections, all of it goes on", async () => {
    const records = [RECORD, { access_log_type: "TcpPeriodic", stream_id: "c", bytes_sent: "1" }];
    for (let i = 0; i < 2; i++) await exportLogs(encodeLogs(logsOf(records)));
    expect(otlp.logCounts).toMatchObject({ accepted: 4, rejected: {} });
  });
});
