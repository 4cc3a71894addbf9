import { connect } from "node:http2";
import * as grpc from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { type Log, silentLog } from "../../collector/log.ts";
import { GrpcServer } from "../../collector/receiver/grpc.ts";

const identity = (bytes: Buffer) => bytes;
const SERVICE = "test.Service";

function newServer(log: Log = silentLog, port = 0): GrpcServer {
  return new GrpcServer({ address: `127.0.0.1:${port}`, maxMessageBytes: 1024, log });
}

function check(port: number, service: string): Promise<{ error: grpc.ServiceError | null; bytes: Buffer | undefined }> {
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  const name = Buffer.from(service);
  const request = service === "" ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, name.length]), name]);
  return new Promise((resolve) => {
    client.makeUnaryRequest("/grpc.health.v1.Health/Check", identity, identity, request, (error, bytes) => {
      client.close();
      resolve({ error, bytes });
    });
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
