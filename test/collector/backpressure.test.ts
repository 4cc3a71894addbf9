// A collector that cannot keep up stops reading: its clients hold back, its memory stays as it is, and all of it arrives in the end.

import { Worker } from "node:worker_threads";
import { afterEach, expect, test } from "vitest";
import { silentLog } from "../../collector/log.ts";
import type { StreamEnd } from "../../collector/receiver/client-stream.ts";
import { WINDOW_BYTES } from "../../collector/receiver/connection.ts";
import { type GrpcOptions, GrpcServer } from "../../collector/receiver/grpc.ts";

const SERVICE = "test.Service";
const MESSAGE_BYTES = 1000;
const MIB = 2 ** 20;

interface Taken {
  /** Of the messages, in the order in which they came. */
  readonly numbers: number[];
  readonly ends: StreamEnd[];
}

let server: GrpcServer;
let clients: Worker[] = [];
afterEach(async () => {
  await Promise.all(clients.map((client) => client.terminate()));
  clients = [];
  await server.stop(0);
});

async function startServer(
  options: Partial<GrpcOptions> = {},
  onMessage: () => void = () => {},
): Promise<{ port: number; streams: Taken[] }> {
  const streams: Taken[] = [];
  server = new GrpcServer({ address: "127.0.0.1:0", log: silentLog, ...options });
  server.addClientStream(SERVICE, "Send", () => {
    const taken: Taken = { numbers: [], ends: [] };
    streams.push(taken);
    return {
      message: (bytes) => {
        taken.numbers.push(bytes.readUInt32BE(0));
        onMessage();
      },
      end: (how) => taken.ends.push(how),
    };
  });
  return { port: await server.start(), streams };
}

/** How many messages have left each client so far: what it has written to its socket. */
type Left = () => number;

/**
 * Opens `connections` with `streams` each, in a thread of its own. Each stream sends `messages`, as fast as it may, and `last`: ends, or
 * is reset. `pacePerMs`: so many a millisecond, whether they can leave or not.
 */
function startClient(
  port: number,
  load: { connections: number; streams: number; messages: number; last: "end" | "reset"; pacePerMs?: number },
): Left {
  const left = new Int32Array(new SharedArrayBuffer(4));
  clients.push(new Worker(CLIENT, { eval: true, workerData: { port, left, pacePerMs: 0, ...load } }));
  return () => Atomics.load(left, 0);
}

const CLIENT = `
  const { connect, constants } = require("node:http2");
  const { workerData } = require("node:worker_threads");
  const { port, left, connections, streams, messages, last, pacePerMs } = workerData;
  for (let i = 0; i < connections; i++) {
    const session = connect("http://127.0.0.1:" + port);
    session.on("error", () => {});
    for (let j = 0; j < streams; j++) open(session);
  }
  function open(session) {
    const stream = session.request({ ":method": "POST", ":path": "/${SERVICE}/Send", "content-type": "application/grpc" });
    const startMs = performance.now();
    let sent = 0;
    let isDone = false;
    stream.resume();
    stream.on("error", () => {});
    stream.on("trailers", () => {
      isDone = true;
      stream.close(constants.NGHTTP2_INTERNAL_ERROR); // as Envoy does, whatever waits
    });
    const write = () => {
      const most = pacePerMs === 0 ? messages : Math.min(messages, pacePerMs * (performance.now() - startMs));
      while (!isDone && sent < most && (pacePerMs > 0 || stream.writableLength < 65536)) {
        const message = Buffer.alloc(${MESSAGE_BYTES + 5});
        message.writeUInt32BE(${MESSAGE_BYTES}, 1);
        message.writeUInt32BE(sent++, 5);
        stream.write(message, (error) => error || Atomics.add(left, 0, 1));
      }
      if (isDone) return;
      if (sent < messages) setTimeout(write, 1);
      else if (stream.writableLength > 0) setTimeout(write, 1);
      else if (last === "end") stream.end();
      else stream.close(constants.NGHTTP2_CANCEL);
    };
    write();
  }
`;

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** Resolves when nothing has left the clients for a while. */
async function stalled(left: Left): Promise<void> {
  for (let before = -1; before !== left(); ) {
    before = left();
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function takenIn(streams: readonly Taken[]): number {
  return streams.reduce((sum, { numbers }) => sum + numbers.length, 0);
}

function heldBytes(): number {
  const { arrayBuffers, external } = process.memoryUsage();
  return arrayBuffers + external;
}

function inOrder(messages: number): number[] {
  return Array.from({ length: messages }, (_, index) => index);
}

test("while it is paused in full flow, clients hold back, memory is bounded, and then all of it arrives", async () => {
  const { port, streams } = await startServer();
  const load = { connections: 2, streams: 4, messages: 12_000, last: "end" } as const;
  const left = startClient(port, load);
  await until(() => takenIn(streams) > 5000);
  const heldBefore = heldBytes();
  server.pause();
  const taken = takenIn(streams);
  await stalled(left);
  expect(takenIn(streams)).toBe(taken); // not one was read
  const heldBackMessages = load.connections * load.streams * load.messages - left();
  expect(heldBackMessages).toBeGreaterThan(40_000);
  expect((left() - taken) * MESSAGE_BYTES).toBeLessThan(load.connections * load.streams * WINDOW_BYTES);
  expect(heldBytes() - heldBefore).toBeLessThan(load.connections * load.streams * WINDOW_BYTES + 4 * MIB);
  server.resume();
  await until(() => streams.every(({ ends }) => ends.length === 1));
  for (const { numbers, ends } of streams) {
    expect(ends).toEqual(["completed"]);
    expect(numbers).toEqual(inOrder(load.messages));
  }
});

test("streams and connections that open while it is paused are not read either, and lose nothing", async () => {
  const { port, streams } = await startServer();
  server.pause();
  const load = { connections: 2, streams: 2, messages: 3000, last: "end" } as const;
  const left = startClient(port, load);
  await until(() => streams.length === 4);
  await stalled(left);
  expect(takenIn(streams)).toBe(0);
  expect(left() * MESSAGE_BYTES).toBeLessThan(load.connections * 128 * 1024); // what a client may send that was told nothing
  server.resume();
  await until(() => streams.every(({ ends }) => ends.length === 1));
  for (const { numbers } of streams) expect(numbers).toEqual(inOrder(load.messages));
});

test("pausing and resuming again and again, faster than clients hear of it, loses nothing and cuts nobody off", async () => {
  const { port, streams } = await startServer();
  const load = { connections: 2, streams: 2, messages: 10_000, last: "end" } as const;
  startClient(port, load);
  await until(() => streams.length === 4);
  while (!streams.every(({ ends }) => ends.length === 1)) {
    for (let i = 0; i < 20; i++) {
      server.pause();
      server.resume();
    }
    server.pause();
    await new Promise((resolve) => setTimeout(resolve, 1));
    server.resume();
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  for (const { numbers, ends } of streams) {
    expect(ends).toEqual(["completed"]);
    expect(numbers).toEqual(inOrder(load.messages));
  }
});

test("what a client sent is kept while it is paused, although the client has reset its stream or is gone", async () => {
  const { port, streams } = await startServer();
  const load = { connections: 1, streams: 1, messages: 50, last: "reset" } as const;
  server.pause();
  const left = startClient(port, load);
  await until(() => left() === load.messages);
  await stalled(left);
  await clients[0]?.terminate(); // and its connection with it
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(streams).toEqual([{ numbers: [], ends: [] }]);
  server.resume();
  await until(() => streams[0]?.ends.length === 1);
  expect(streams[0]?.numbers).toEqual(inOrder(load.messages));
});

test("what was held fills the room again: the other streams wait for the next", async () => {
  let mayPause = true;
  const { port, streams } = await startServer({}, () => {
    if (mayPause) server.pause();
  });
  server.pause();
  const load = { connections: 1, streams: 1, messages: 50 } as const;
  const gone = startClient(port, { ...load, last: "reset" });
  await until(() => gone() === load.messages);
  await stalled(gone);
  const left = startClient(port, { ...load, last: "end" });
  await until(() => left() === load.messages);
  await stalled(left);
  server.resume();
  await stalled(left);
  expect(streams.map(({ numbers }) => numbers.length > 0)).toEqual([true, false]);
  mayPause = false;
  server.resume();
  await until(() => streams.every(({ ends }) => ends.length === 1));
  for (const { numbers } of streams) expect(numbers).toEqual(inOrder(load.messages));
});

test("a stream is not answered for its age while it is paused, nor before what its client held back has come", async () => {
  const { port, streams } = await startServer({ maxStreamAgeMs: 50 });
  const left = startClient(port, { connections: 1, streams: 1, messages: 1_000_000, last: "end", pacePerMs: 5 });
  await until(() => takenIn(streams) > 0);
  server.pause();
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(streams[0]?.ends).toEqual([]);
  server.resume();
  await until(() => streams[0]?.ends.length === 1);
  expect(streams[0]?.ends).toEqual(["aged"]);
  const { numbers } = streams[0] as Taken;
  expect(numbers).toEqual(inOrder(numbers.length)); // without a gap
  expect(numbers.length).toBeGreaterThan(1000); // what was due while it was paused has come
  expect(left() - numbers.length).toBeLessThan(300); // this client throws away what it wrote in the last moment
});

test("our own end reads what was held", async () => {
  const { port, streams } = await startServer();
  server.pause();
  const left = startClient(port, { connections: 1, streams: 1, messages: 50, last: "end" });
  await until(() => left() === 50);
  await stalled(left);
  await server.stop(10);
  await until(() => streams[0]?.ends.length === 1);
  expect(streams[0]?.numbers).toEqual(inOrder(50));
});

test("the time for which it was paused is told while it is, and at the end; pausing twice is pausing once", async () => {
  const seconds: number[] = [];
  await startServer({ onPaused: (each) => seconds.push(each) });
  const startedMs = performance.now();
  server.resume(); // nothing to resume
  server.pause();
  server.pause();
  await until(() => seconds.length === 1);
  expect(seconds[0]).toBeGreaterThan(0.2);
  server.resume();
  server.resume();
  const total = seconds.reduce((sum, each) => sum + each, 0);
  expect(seconds).toHaveLength(2);
  expect(total).toBeLessThanOrEqual((performance.now() - startedMs) / 1000);
});
