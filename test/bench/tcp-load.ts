// The two ends of a benched TCP proxy: a server that does what the first byte asks, and clients that ask.
//
//   b  send bytes without end, as long as the client takes them
//   e  echo
//   any other: read, and say how many bytes there were once the client has finished (or the exchange came first: it is read over)

import { connect, createServer, type Server, type Socket } from "node:net";
import { LOCALHOST } from "./load.ts";

const CHUNK = Buffer.alloc(256 * 1024, "0123456789abcdef");
const MESSAGE = Buffer.alloc(1024, "e");
const SEND = "b".charCodeAt(0);
const ECHO = "e".charCodeAt(0);
const MAGIC = 0x3d230467;
const HEADER_SIZE = 8;
/** Connections opened at a time: more would overrun the listener's backlog. */
const OPENED_AT_ONCE = 100;

/** A connection that is open and known to the filter. */
export interface Line {
  close(): void;
}

export async function startTcpUpstream(): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => socket.destroy());
    socket.once("data", (first) => serve(socket, withoutPrefix(first)));
  });
  await new Promise<void>((resolve) => server.listen(0, LOCALHOST, resolve));
  return server;
}

/** The client's proxy may send its metadata before the first byte. Small as it is, it comes in one piece with it. */
function withoutPrefix(first: Buffer): Buffer {
  const isPrefix = first.length > HEADER_SIZE && first.readUInt32BE(0) === MAGIC;
  return isPrefix ? first.subarray(HEADER_SIZE + first.readUInt32BE(4)) : first;
}

function serve(socket: Socket, first: Buffer): void {
  if (first[0] === SEND) {
    const more = () => {
      while (!socket.destroyed && socket.write(CHUNK));
    };
    socket.on("drain", more);
    more();
  } else if (first[0] === ECHO) {
    socket.setNoDelay(true);
    socket.write(first);
    socket.on("data", (bytes) => socket.write(bytes));
    socket.on("end", () => socket.end());
  } else {
    let bytes = first.length;
    socket.on("data", (more) => {
      bytes += more.length;
    });
    socket.on("end", () => socket.end(String(bytes)));
  }
}

async function dial(port: number): Promise<Socket> {
  const socket = connect(port, LOCALHOST);
  await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  return socket;
}

/** Takes so many bytes from the server. */
export async function download(port: number, bytes: number): Promise<void> {
  const socket = await dial(port);
  socket.write("b");
  let left = bytes;
  await new Promise<void>((resolve, reject) => {
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("the proxy closed the connection")));
    socket.on("data", (more) => {
      left -= more.length;
      if (left > 0) return;
      socket.removeAllListeners("close");
      socket.destroy();
      resolve();
    });
  });
}

/** Brings so many bytes to the server, and hears that they arrived. */
export async function upload(port: number, bytes: number): Promise<void> {
  const socket = await dial(port);
  const answer = new Promise<string>((resolve, reject) => {
    socket.on("error", reject);
    socket.on("data", (text) => resolve(text.toString()));
  });
  for (let left = bytes; left > 0; left -= CHUNK.length) {
    if (!socket.write(CHUNK)) await new Promise((resolve) => socket.once("drain", resolve));
  }
  socket.end();
  const arrived = Number(await answer);
  if (arrived !== bytes) throw new Error(`${arrived} of ${bytes} bytes arrived`);
}

/** Sends a message and waits for its echo, so many times. */
export async function roundTrips(port: number, count: number): Promise<void> {
  const socket = await dial(port);
  socket.setNoDelay(true);
  await new Promise<void>((resolve, reject) => {
    let left = count;
    let awaited = MESSAGE.length;
    socket.on("error", reject);
    socket.on("data", (bytes) => {
      awaited -= bytes.length;
      if (awaited > 0) return;
      awaited = MESSAGE.length;
      if (--left > 0) socket.write(MESSAGE);
      else resolve();
    });
    socket.write(MESSAGE);
  });
  socket.destroy();
}

/** Connections that carried a byte each way. */
export async function openLines(port: number, count: number): Promise<Line[]> {
  const lines: Line[] = [];
  while (lines.length < count) {
    const some = Math.min(OPENED_AT_ONCE, count - lines.length);
    lines.push(...(await Promise.all(Array.from({ length: some }, () => openLine(port)))));
  }
  return lines;
}

async function openLine(port: number): Promise<Line> {
  const socket = await dial(port);
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject).once("data", () => resolve());
    socket.write("e");
  });
  return { close: () => socket.destroy() };
}
