import { connect, constants } from "node:http2";
import { Worker } from "node:worker_threads";
import * as grpc from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { type Log, silentLog } from "../../collector/log.ts";
import { type GrpcOptions, GrpcServer } from "../../collector/receiver/grpc.ts";

const identity = (bytes: Buffer) => bytes;
const SERVICE = "test.Service";

function newServer(log: Log = silentLog, port = 0, options: Partial<GrpcOptions> = {}): GrpcServer {
  return new GrpcServer({ address: `127.0.0.1:${port}`, maxMessageBytes: 1024, log, ...options });
}

function healthRequest(service: string): Buffer {
  const name = Buffer.from(service);
  return service === "" ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, name.length]), name]);
}

function check(port: number, service: string): Promise<{ error: grpc.ServiceError | null; bytes: Buffer | undefined }> {
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      "/grpc.health.v1.Health/Check",
      identity,
      identity,
      healthRequest(service),
      (error, bytes) => {
        client.close();
        resolve({ error, bytes });
      },
    );
  });
}

test("health is SERVING for the server and for each of its services, NOT_FOUND for another", async () => {
  const server = newServer();
  server.addClientStream(SERVICE, "Send", () => ({ message: () => {}, end: () => {} }));
  const port = await server.start();
  expect((await check(port, "")).bytes).toEqual(Buffer.from([0x08, 0x01]));
  expect((await check(port, SERVICE)).bytes).toEqual(Buffer.from([0x08, 0x01]));
  expect((await check(port, "test.Other")).error?.code).toBe(grpc.status.NOT_FOUND);
  await server.stop(100);
});

test("health is NOT_SERVING until the collector is ready, and those who watch are told what changes", async () => {
  let isReady = false;
  const server = newServer(silentLog, 0, { isReady: () => isReady });
  const port = await server.start();
  expect((await check(port, "")).bytes).toEqual(Buffer.from([0x08, 0x02]));
  const [all, other] = [watch(port, ""), watch(port, "test.Other")];
  await until(() => all.told.length === 1 && other.told.length === 1);
  isReady = true;
  await until(() => all.told.length === 2);
  expect((await check(port, "")).bytes).toEqual(Buffer.from([0x08, 0x01]));
  const startedMs = performance.now();
  await server.stop(10_000);
  await until(() => all.hasEnded && other.hasEnded);
  expect(performance.now() - startedMs).toBeLessThan(5000);
  expect(all.told).toEqual([2, 1, 2]);
  expect(other.told).toEqual([3]); // SERVICE_UNKNOWN, which may change
});

test("a watcher that leaves makes room for another; beyond 256 one is refused", async () => {
  const server = newServer();
  const port = await server.start();
  const watchers = Array.from({ length: 256 }, () => watch(port, ""));
  await until(() => watchers.every(({ told }) => told.length === 1));
  const refused = watch(port, "");
  await until(() => refused.hasEnded);
  expect([refused.told, refused.code]).toEqual([[], grpc.status.RESOURCE_EXHAUSTED]);
  for (const watcher of watchers.slice(1)) watcher.leave();
  let next = watch(port, "");
  await until(() => {
    if (next.hasEnded) next = watch(port, "");
    return next.told.length === 1;
  });
  await server.stop(0);
});

test("a stream that is old enough is answered with OK, and all that its client sent before it knew is read", async () => {
  const AGE_MS = 60;
  const taken: number[] = [];
  const ends: string[] = [];
  const server = newServer(silentLog, 0, { maxStreamAgeMs: AGE_MS });
  server.addClientStream(SERVICE, "Send", () => ({
    message: (bytes) => taken.push(bytes.readUInt32BE(0)),
    end: (how) => ends.push(how),
  }));
  const port = await server.start();
  const session = connect(`http://127.0.0.1:${port}`);
  const ages: number[] = [];
  let sent = 0;
  for (let streams = 0; streams < 10; streams++) {
    const startedMs = performance.now();
    const stream = session.request({
      ":method": "POST",
      ":path": `/${SERVICE}/Send`,
      "content-type": "application/grpc",
    });
    let trailers: Record<string, unknown> = {};
    let isAnswered = false;
    stream.on("trailers", (headers) => {
      trailers = headers;
      isAnswered = true;
    });
    stream.resume();
    while (!isAnswered) {
      // As much as there may be under way, in the very moment of the answer too.
      for (let i = 0; i < 20; i++) stream.write(numbered(sent++));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    ages.push(performance.now() - startedMs);
    expect(trailers["grpc-status"]).toBe("0");
    for (let i = 0; i < 20; i++) stream.write(numbered(sent++));
    await new Promise((resolve) => stream.write(numbered(sent++), resolve)); // all of it is on its way
    stream.close(constants.NGHTTP2_NO_ERROR); // as Envoy does, right behind its last message
    await new Promise((resolve) => stream.once("close", resolve));
  }
  await until(() => ends.length === 10);
  expect(ends).toEqual(ends.map(() => "aged"));
  expect(taken.length).toBeGreaterThan(1000);
  expect(taken).toEqual(Array.from({ length: sent }, (_, index) => index));
  expect(Math.min(...ages)).toBeGreaterThanOrEqual(AGE_MS * 0.9 - 2);
  session.destroy();
  await server.stop(0);
});

test("a client that had to wait for us is not answered before it has sent what it held back", async () => {
  let taken = 0;
  const ends: string[] = [];
  const server = newServer(silentLog, 0, { maxStreamAgeMs: 60 });
  server.addClientStream(SERVICE, "Send", () => ({ message: () => taken++, end: (how) => ends.push(how) }));
  const client = new Worker(STEADY_CLIENT, { eval: true, workerData: { port: await server.start() } });
  const sent = new Promise<number>((resolve) => client.once("message", resolve));
  await until(() => taken > 0);
  const busy = new Int32Array(new SharedArrayBuffer(4));
  Atomics.wait(busy, 0, 0, 1000); // not a byte is read, and the stream's age is reached
  const all = await sent;
  await until(() => ends.length === 1);
  expect(ends).toEqual(["aged"]);
  expect(all).toBeGreaterThan(5000);
  expect(all - taken).toBeLessThan(100); // this client throws away also what it wrote in the last moment
  await client.terminate();
  await server.stop(0);
});

/** Sends 1,000 bytes eight times a millisecond, whether they can leave or not, until it is answered; then throws away what waits, as Envoy does. */
const STEADY_CLIENT = `
  const { connect, constants } = require("node:http2");
  const { parentPort, workerData } = require("node:worker_threads");
  const session = connect("http://127.0.0.1:" + workerData.port);
  const stream = session.request({ ":method": "POST", ":path": "/${SERVICE}/Send", "content-type": "application/grpc" });
  const message = Buffer.alloc(1005);
  message.writeUInt32BE(1000, 1);
  let sent = 0;
  const startMs = performance.now();
  const timer = setInterval(() => {
    for (const due = 8 * (performance.now() - startMs); sent < due; sent++) stream.write(message);
  }, 1);
  stream.resume();
  stream.on("trailers", () => {
    clearInterval(timer);
    stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  });
  stream.on("error", () => {});
  stream.on("close", () => parentPort.postMessage(sent));
`;

test("a stream of a grpc-js client that streams on is cut with OK, and the next one goes on from there", async () => {
  const taken: string[] = [];
  const ends: string[] = [];
  const server = newServer(silentLog, 0, { maxStreamAgeMs: 50 });
  server.addClientStream(SERVICE, "Send", () => ({
    message: (bytes) => taken.push(bytes.toString()),
    end: (how) => ends.push(how),
  }));
  const port = await server.start();
  const sent: string[] = [];
  for (let streams = 0; streams < 3; streams++) {
    const { call, answer } = send(port);
    let outcome: { error: grpc.ServiceError | null } | null = null;
    answer.then((each) => {
      outcome = each;
    });
    while (outcome === null) {
      const text = `${sent.length}`;
      sent.push(text);
      await new Promise((resolve) => call.write(Buffer.from(text), resolve));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect(outcome).toEqual({ error: null });
  }
  await until(() => ends.length === 3);
  expect(ends).toEqual(["aged", "aged", "aged"]);
  const missing = sent.filter((text) => !taken.includes(text));
  // The client may drop the one that it was given after it had read the answer: it knows that it did.
  expect(missing.length).toBeLessThanOrEqual(3);
  await server.stop(0);
});

test("a deadline that passes after the answer harms nobody", async () => {
  const ends: string[] = [];
  const server = newServer(silentLog, 0, { maxStreamAgeMs: 20 });
  server.addClientStream(SERVICE, "Send", () => ({ message: () => {}, end: (how) => ends.push(how) }));
  const port = await server.start();
  const session = connect(`http://127.0.0.1:${port}`);
  const headers = {
    ":method": "POST",
    ":path": `/${SERVICE}/Send`,
    "content-type": "application/grpc",
    "grpc-timeout": "60m",
  };
  const stream = session.request(headers);
  stream.resume();
  await new Promise((resolve) => stream.once("trailers", resolve));
  await new Promise((resolve) => setTimeout(resolve, 80));
  stream.end();
  await until(() => ends.length === 1);
  expect(ends).toEqual(["aged"]);
  session.destroy();
  await server.stop(0);
});

test("an address that is taken is said at the start", async () => {
  const first = newServer();
  const port = await first.start();
  const second = newServer(silentLog, port);
  await expect(second.start()).rejects.toThrow(`cannot listen for gRPC on 127.0.0.1:${port}`);
  await second.stop(0);
  await first.stop(0);
});

test("a reader that throws loses that message, not the stream, and the log says so", async () => {
  const errors: string[] = [];
  const log: Log = { ...silentLog, error: (_fields, message) => errors.push(message) };
  const taken: string[] = [];
  const server = newServer(log);
  server.addClientStream(SERVICE, "Send", () => ({
    message: (bytes) => {
      if (bytes.length === 0) throw new Error("empty");
      taken.push(bytes.toString());
    },
    end: (how) => taken.push(how),
  }));
  const port = await server.start();
  const { call, answer } = send(port);
  for (const text of ["a", "", "b"]) call.write(Buffer.from(text));
  call.end();
  await answer;
  await server.stop(1000);
  expect(taken).toEqual(["a", "b", "completed"]);
  expect(errors).toEqual(["reader of a stream failed on a message"]);
});

test("stopping takes in what open streams still send, and ends them when the time is over", async () => {
  const taken: string[] = [];
  const server = newServer();
  server.addClientStream(SERVICE, "Send", () => ({
    message: (bytes) => taken.push(bytes.toString()),
    end: (how) => taken.push(how),
  }));
  const port = await server.start();
  const { call, answer } = send(port);
  call.write(Buffer.from("before"));
  while (taken.length < 1) await new Promise((resolve) => setTimeout(resolve, 5));
  const stopped = server.stop(300);
  call.write(Buffer.from("while stopping"));
  await stopped;
  expect((await answer).error?.code).toBe(grpc.status.CANCELLED);
  while (taken.length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(taken.slice(0, 2)).toEqual(["before", "while stopping"]);
  expect((await check(port, "")).error?.code).toBe(grpc.status.UNAVAILABLE);
});

test("a connection takes 128 streams at once; the next waits for one of them to end", async () => {
  let open = 0;
  const server = newServer();
  server.addClientStream(SERVICE, "Send", () => {
    open++;
    return { message: () => {}, end: () => {} };
  });
  const port = await server.start();
  const session = connect(`http://127.0.0.1:${port}`);
  await new Promise((resolve) => session.once("remoteSettings", resolve));
  expect(session.remoteSettings.maxConcurrentStreams).toBe(128);
  const streams = Array.from({ length: 129 }, () =>
    session
      .request({ ":method": "POST", ":path": `/${SERVICE}/Send`, "content-type": "application/grpc" })
      .on("error", () => {}),
  );
  while (open < 128) await new Promise((resolve) => setTimeout(resolve, 5));
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(open).toBe(128);
  streams[0]?.end();
  while (open < 129) await new Promise((resolve) => setTimeout(resolve, 5));
  session.destroy();
  await server.stop(0);
});

test("stopping without streams does not wait", async () => {
  const server = newServer();
  await server.start();
  const startedMs = performance.now();
  await server.stop(10_000);
  expect(performance.now() - startedMs).toBeLessThan(1000);
});

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, 5));
}

function numbered(number: number): Buffer {
  const bytes = Buffer.from([0, 0, 0, 0, 4, 0, 0, 0, 0]);
  bytes.writeUInt32BE(number, 5);
  return bytes;
}

/** What Health/Watch says, by a client of its own. */
function watch(port: number, service: string) {
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
  });
  const call = client.makeServerStreamRequest(
    "/grpc.health.v1.Health/Watch",
    identity,
    identity,
    healthRequest(service),
  );
  const watcher = { told: [] as number[], hasEnded: false, code: 0 as number, leave: () => call.cancel() };
  call.on("data", (bytes: Buffer) => watcher.told.push(bytes[1] as number));
  call.on("error", () => {});
  call.on("status", ({ code }) => {
    watcher.hasEnded = true;
    watcher.code = code;
    client.close();
  });
  return watcher;
}

function send(port: number) {
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  let settle: (answer: { error: grpc.ServiceError | null }) => void = () => {};
  const answer = new Promise<{ error: grpc.ServiceError | null }>((resolve) => {
    settle = resolve;
  });
  const call = client.makeClientStreamRequest(`/${SERVICE}/Send`, identity, identity, (error) => {
    client.close();
    settle({ error });
  });
  return { call, answer };
}
