// A peer that is gone without a word (its machine died, a firewall forgot the connection) does not hold its streams forever.

import { connect as connectHttp2 } from "node:http2";
import { connect, createServer, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { silentLog } from "../../collector/log.ts";
import { GrpcServer } from "../../collector/receiver/grpc.ts";

const SERVICE = "test.Service";
const KEEPALIVE = { timeMs: 100, timeoutMs: 100 };

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

async function startServer() {
  const ends: string[] = [];
  const server = new GrpcServer({ address: "127.0.0.1:0", keepalive: KEEPALIVE, log: silentLog });
  let opened = 0;
  server.addClientStream(SERVICE, "Send", () => {
    opened++;
    return { message: () => {}, end: (how) => ends.push(how) };
  });
  const port = await server.start();
  stops.push(() => server.stop(0));
  return { server, port, ends, opened: () => opened };
}

/** Stands between a client and the server. `die`: nothing passes any more, and nobody is told. */
async function startWire(to: number): Promise<{ port: number; die: () => void }> {
  const sockets: Socket[] = [];
  const wire = createServer((near) => {
    const far = connect(to, "127.0.0.1");
    near.pipe(far);
    far.pipe(near);
    near.on("error", () => {});
    far.on("error", () => {});
    sockets.push(near, far);
  });
  await new Promise<void>((resolve) => wire.listen(0, "127.0.0.1", resolve));
  stops.push(() => {
    for (const socket of sockets) socket.destroy();
    wire.close();
  });
  const die = () => {
    for (const socket of sockets) socket.unpipe().pause();
  };
  const address = wire.address();
  return { port: typeof address === "object" && address !== null ? address.port : 0, die };
}

function openStream(port: number): void {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  stops.push(() => session.destroy());
  const stream = session.request({
    ":method": "POST",
    ":path": `/${SERVICE}/Send`,
    "content-type": "application/grpc",
  });
  stream.on("error", () => {});
  stream.resume();
}

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, 5));
}

test("a dead peer's streams end within the keepalive time and its timeout", async () => {
  const { port, ends, opened } = await startServer();
  const wire = await startWire(port);
  openStream(wire.port);
  await until(() => opened() === 1);
  const startedMs = performance.now();
  wire.die();
  await until(() => ends.length === 1);
  expect(ends).toEqual(["completed"]); // all that arrived was read: HTTP/2 does not tell more
  expect(performance.now() - startedMs).toBeGreaterThanOrEqual(KEEPALIVE.timeoutMs - 5);
  expect(performance.now() - startedMs).toBeLessThan(2000);
});

test("a silent peer that lives keeps its streams, while they are paused too", async () => {
  const { server, port, ends, opened } = await startServer();
  openStream(port);
  await until(() => opened() === 1);
  server.pause();
  await new Promise((resolve) => setTimeout(resolve, 3 * (KEEPALIVE.timeMs + KEEPALIVE.timeoutMs)));
  expect(ends).toEqual([]);
});
