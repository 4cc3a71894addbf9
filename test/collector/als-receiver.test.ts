// A real gRPC client on loopback -> GrpcServer -> AlsReceiver.

import * as grpc from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Log, silentLog } from "../../collector/log.ts";
import { AlsReceiver } from "../../collector/receiver/als.ts";
import { GrpcServer } from "../../collector/receiver/grpc.ts";
import type { AccessRecord, ConnectionRecord } from "../../collector/record/record.ts";
import { type DropReason, SelfMetrics } from "../../collector/self.ts";
import { bytesState, encodeEntry, encodeMessage, type Fields, lengthDelimited } from "../fixtures/als.ts";
import { encodeObservation, encodeTcpObservation } from "../fixtures/observation.ts";
import { values } from "./labels.ts";

const V3 = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
const V2 = "/envoy.service.accesslog.v2.AccessLogService/StreamAccessLogs";
const MAX_MESSAGE_BYTES = 64 * 1024;
const DRAIN_MS = 200;
const MAX_STREAMS = 3;

const identity = (bytes: Buffer) => bytes;

interface Answer {
  readonly error: grpc.ServiceError | null;
  readonly bytes: Buffer | undefined;
}

let records: AccessRecord[];
let connections: ConnectionRecord[];
let refuse: (record: AccessRecord) => DropReason | null;
let self: SelfMetrics;
let server: GrpcServer;
let client: grpc.Client;
let logged: string[];

beforeEach(async () => {
  records = [];
  logged = [];
  refuse = () => null;
  connections = [];
  self = new SelfMetrics("test");
  const log: Log = { ...silentLog, warn: (_fields, message) => logged.push(message) };
  const receiver = new AlsReceiver({
    maxStreams: MAX_STREAMS,
    sink: (record) => {
      const reason = refuse(record);
      if (reason === null) records.push(record);
      return reason;
    },
    connectionSink: (record) => {
      connections.push(record);
      return null;
    },
    self,
    log,
  });
  server = new GrpcServer({ address: "127.0.0.1:0", maxMessageBytes: MAX_MESSAGE_BYTES, log });
  receiver.register(server);
  const port = await server.start();
  client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
});

afterEach(async () => {
  client.close();
  await server.stop(DRAIN_MS);
});

function openStream(path = V3) {
  let settle: (answer: Answer) => void = () => {};
  const answer = new Promise<Answer>((resolve) => {
    settle = resolve;
  });
  const call = client.makeClientStreamRequest(path, identity, identity, (error, bytes) => settle({ error, bytes }));
  return {
    send: (...messages: Buffer[]) => {
      for (const message of messages) call.write(message);
    },
    /** `flushed` is called when HTTP/2 has taken the message. */
    sendAndTell: (message: Buffer, flushed: () => void) => call.write(message, flushed),
    half: () => {
      call.end();
      return answer;
    },
    cancel: () => call.cancel(),
    answer,
  };
}

function identifier(id = "sidecar~1", logName = "inbound"): Fields {
  return { identifier: { node: { id }, logName } };
}

function http(...entries: Fields[]): Fields {
  return { httpLogs: { logEntry: entries } };
}

function entry(authority: string): Fields {
  return { request: { authority }, response: { responseCode: { value: 200 } } };
}

async function counted(name: string): Promise<Record<string, number>> {
  const metric = (await self.registry.getMetricsAsJSON()).find((each) => each.name === name);
  const samples = (metric?.values ?? []) as { value: number; labels: Record<string, string> }[];
  return Object.fromEntries(
    samples
      .filter(({ value }) => value !== 0)
      .map(({ value, labels }) => [Object.values(labels).join() || "all", value]),
  );
}

async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isTrue())) await new Promise((resolve) => setTimeout(resolve, 5));
}

test("entries of both kinds are records, and a half-close is answered with an empty message", async () => {
  const observation = encodeObservation({
    startMs: 5,
    durationMs: 1,
    requestBytes: 2,
    responseBytes: 3,
    labels: values({ reporter: "source" }),
  });
  const observed = {
    commonProperties: { filterStateObjects: { "wasm.meshtally.observation": bytesState(observation) } },
  };
  const stream = openStream();
  stream.send(encodeMessage({ ...identifier(), ...http(observed, entry("a")) }), encodeMessage(http(entry("b"))));
  const { error, bytes } = await stream.half();
  expect(error).toBeNull();
  expect(bytes).toHaveLength(0);
  expect(records.map(({ proxy, lifeMs }) => [proxy, lifeMs])).toEqual([
    ["sidecar~1", 5],
    ["sidecar~1", 0],
    ["sidecar~1", 0],
  ]);
  expect(await counted("meshtally_access_log_messages_total")).toEqual({ all: 2 });
  expect(await counted("meshtally_access_log_entries_total")).toEqual({ observation: 1, derived: 2 });
  expect(await counted("meshtally_access_log_dropped_total")).toEqual({});
});

test("TCP entries are connections of the same sender, whichever entries come first", async () => {
  const labels = values();
  const part = { sentBytes: 7, receivedBytes: 5, labels };
  const observation = encodeTcpObservation({ startMs: 5, connectionId: 3, parts: [part] });
  const observed = {
    commonProperties: {
      filterStateObjects: { "wasm.meshtally.observation": bytesState(observation) },
      accessLogType: 2,
    },
  };
  const stream = openStream();
  stream.send(
    encodeMessage({ ...identifier(), tcpLogs: { logEntry: [observed, {}] } }),
    encodeMessage({ ...http(entry("b")), tcpLogs: { logEntry: [observed] } }),
  );
  await stream.half();
  expect(records).toHaveLength(1);
  expect(connections.map(({ proxy, lifeMs, connectionId, isOver }) => [proxy, lifeMs, connectionId, isOver])).toEqual([
    ["sidecar~1", 5, 3, false],
    ["sidecar~1", 0, 0, true],
    ["sidecar~1", 5, 3, false],
  ]);
  expect(await counted("meshtally_access_log_entries_total")).toEqual({ observation: 2, derived: 2 });
});

test("the v2 path takes the same messages", async () => {
  const stream = openStream(V2);
  stream.send(encodeMessage({ ...identifier(), ...http(entry("a")) }));
  expect((await stream.half()).error).toBeNull();
  expect(records).toHaveLength(1);
});

test("an empty stream is answered too", async () => {
  expect((await openStream().half()).error).toBeNull();
});

describe("the sender", () => {
  test("stays that of the first message until a later one names another", async () => {
    const stream = openStream();
    stream.send(
      encodeMessage({ ...identifier("sidecar~1"), ...http(entry("a")) }),
      encodeMessage(http(entry("a"))),
      encodeMessage({ ...identifier("sidecar~2"), ...http(entry("a")) }),
      encodeMessage(http(entry("a"))),
    );
    await stream.half();
    expect(records.map(({ proxy }) => proxy)).toEqual(["sidecar~1", "sidecar~1", "sidecar~2", "sidecar~2"]);
  });

  test("of one stream is not that of another", async () => {
    const streams = [openStream(), openStream()];
    streams[0]?.send(encodeMessage(identifier("sidecar~1")));
    streams[1]?.send(encodeMessage(identifier("sidecar~2")));
    await until(async () => (await counted("meshtally_access_log_messages_total"))["all"] === 2);
    streams[0]?.send(encodeMessage(http(entry("a"))));
    await streams[0]?.half();
    await streams[1]?.half();
    expect(records.map(({ proxy }) => proxy)).toEqual(["sidecar~1"]);
  });

  test.each([
    ["that nobody has named", {}],
    ["whose id is empty", identifier("")],
  ])("%s has no entries: they are counted as dropped", async (_name, sender) => {
    const stream = openStream();
    stream.send(encodeMessage({ ...sender, ...http(entry("a"), entry("b")) }));
    await stream.half();
    expect(records).toHaveLength(0);
    expect(await counted("meshtally_access_log_dropped_total")).toEqual({ node_missing: 2 });
  });
});

test("an entry that is malformed beyond its observation is a record, and counted as not analysed", async () => {
  const observation = encodeObservation({
    startMs: 1,
    durationMs: 1,
    requestBytes: 1,
    responseBytes: 1,
    labels: values(),
  });
  const whole = encodeEntry({
    commonProperties: { filterStateObjects: { "wasm.meshtally.observation": bytesState(observation) } },
  });
  const broken = lengthDelimited(3, Buffer.from([0x0a, 0x7f])); // a text that is longer than what it is in
  const stream = openStream();
  const entries = lengthDelimited(2, lengthDelimited(1, Buffer.concat([whole, broken])));
  stream.send(Buffer.concat([encodeMessage(identifier()), entries]));
  await stream.half();
  expect(records).toHaveLength(1);
  expect(await counted("meshtally_access_log_entries_not_analysed_total")).toEqual({ all: 1 });
});

describe("what is dropped is counted by its reason", () => {
  test("a malformed message in the middle, and the stream goes on", async () => {
    const stream = openStream();
    stream.send(
      encodeMessage({ ...identifier(), ...http(entry("a")) }),
      Buffer.from([0x12, 200, 1, 2, 3]),
      encodeMessage(http(entry("b"))),
    );
    expect((await stream.half()).error).toBeNull();
    expect(records).toHaveLength(2);
    expect(await counted("meshtally_access_log_dropped_total")).toEqual({ message_malformed: 1 });
  });

  test("a malformed entry between good ones", async () => {
    const good = encodeMessage(http(entry("a"))).subarray(2);
    const stream = openStream();
    const entries = Buffer.concat([good, lengthDelimited(1, Buffer.from([0xff])), good]);
    stream.send(encodeMessage(identifier()), lengthDelimited(2, entries));
    await stream.half();
    expect(records).toHaveLength(2);
    expect(await counted("meshtally_access_log_dropped_total")).toEqual({ entry_malformed: 1 });
  });

  test("entries that are no end of a request, or the beginning of a connection", async () => {
    const stream = openStream();
    stream.send(
      encodeMessage({ ...identifier(), ...http({ commonProperties: { accessLogType: 5 } }, entry("a")) }),
      encodeMessage({ tcpLogs: { logEntry: [{}, { commonProperties: { accessLogType: 1 } }] } }),
    );
    await stream.half();
    expect(await counted("meshtally_access_log_dropped_total")).toEqual({ not_final: 2 });
    expect(await counted("meshtally_access_log_entries_total")).toEqual({ derived: 2 });
  });

  test("a connection that ended before there was a request, without a word in the log", async () => {
    const stream = openStream();
    const gone = { commonProperties: { responseFlags: { downstreamConnectionTermination: true } } };
    stream.send(encodeMessage({ ...identifier(), ...http(gone, entry("a")) }));
    await stream.half();
    expect(records).toHaveLength(1);
    expect(await counted("meshtally_access_log_dropped_total")).toEqual({ no_request: 1 });
    expect(logged).toEqual([]);
  });

  test("a record that the sink refuses", async () => {
    refuse = () => "proxies_full";
    const stream = openStream();
    stream.send(encodeMessage({ ...identifier(), ...http(entry("a")) }));
    await stream.half();
    expect(await counted("meshtally_access_log_dropped_total")).toEqual({ proxies_full: 1 });
    expect(await counted("meshtally_access_log_entries_total")).toEqual({});
  });

  test("a record at which the sink throws: the next entry, message and stream go on", async () => {
    refuse = (record) => {
      if (record.requestBytes === 7) throw new Error("a fault of the sink's");
      return null;
    };
    const bad = { request: { path: "/", requestBodyBytes: 7 } };
    const stream = openStream();
    stream.send(
      encodeMessage({ ...identifier(), ...http(entry("a"), bad, entry("b")) }),
      encodeMessage(http(entry("c"))),
    );
    expect((await stream.half()).error).toBeNull();
    expect(records).toHaveLength(3);
    expect(await counted("meshtally_access_log_dropped_total")).toEqual({ internal: 1 });
  });

  test("and logged once, not each time", async () => {
    const stream = openStream();
    stream.send(...Array.from({ length: 50 }, () => Buffer.from([0xff])));
    await stream.half();
    expect(logged).toEqual(["access-log entries dropped"]);
  });
});

describe("streams", () => {
  test("are counted while they are open, and when they have ended", async () => {
    const streams = [openStream(), openStream()];
    for (const stream of streams) stream.send(encodeMessage(identifier()));
    await until(async () => (await counted("meshtally_access_log_streams"))["all"] === 2);
    await streams[0]?.half();
    streams[1]?.cancel();
    await until(async () => (await counted("meshtally_access_log_streams"))["all"] === undefined);
    expect(await counted("meshtally_access_log_streams_ended_total")).toEqual({ completed: 2 });
  });

  test("with a message beyond the limit are broken off with RESOURCE_EXHAUSTED, and others go on", async () => {
    const [large, other] = [openStream(), openStream()];
    large.send(encodeMessage(identifier()), Buffer.alloc(MAX_MESSAGE_BYTES + 1));
    expect((await large.answer).error?.code).toBe(grpc.status.RESOURCE_EXHAUSTED);
    other.send(encodeMessage({ ...identifier(), ...http(entry("a")) }));
    await other.half();
    expect(records).toHaveLength(1);
    await until(async () => (await counted("meshtally_access_log_streams"))["all"] === undefined);
    expect(await counted("meshtally_access_log_streams_ended_total")).toEqual({ completed: 1, broken_off: 1 });
    expect(logged).toEqual(["access-log stream broken off"]);
  });

  test("beyond the limit are refused and counted, until another one has ended", async () => {
    const streams = Array.from({ length: MAX_STREAMS }, () => openStream());
    for (const stream of streams) stream.send(encodeMessage(identifier()));
    await until(async () => (await counted("meshtally_access_log_streams"))["all"] === MAX_STREAMS);
    const refused = openStream();
    refused.send(encodeMessage({ ...identifier(), ...http(entry("a")) }));
    expect((await refused.answer).error?.code).toBe(grpc.status.RESOURCE_EXHAUSTED);
    expect(await counted("meshtally_access_log_streams_ended_total")).toEqual({ refused: 1 });
    expect([records.length, logged]).toEqual([0, ["access-log stream refused"]]);

    await streams[0]?.half();
    await until(async () => (await counted("meshtally_access_log_streams"))["all"] === MAX_STREAMS - 1);
    const next = openStream();
    next.send(encodeMessage({ ...identifier(), ...http(entry("a")) }));
    expect((await next.half()).error).toBeNull();
    expect(records).toHaveLength(1);
  });

  test("are read no faster than the sink takes records: what is under way stays bounded", async () => {
    const message = encodeMessage(http({ request: { path: "x".repeat(50_000) } }));
    const count = 400;
    let flushed = 0;
    let mostUnderWay = 0;
    refuse = () => {
      mostUnderWay = Math.max(mostUnderWay, flushed - records.length);
      return null;
    };
    const stream = openStream();
    stream.send(encodeMessage(identifier()));
    for (let i = 0; i < count; i++) stream.sendAndTell(message, () => flushed++);
    await stream.half();
    expect(records).toHaveLength(count);
    expect(mostUnderWay * message.length).toBeLessThan((count * message.length) / 5);
  });
});
