// The database behind ratings, a server of lines over TCP as Redis is one, and those who call it: ratings through both sidecars, and a backup
// from outside the mesh, straight and in plaintext.
//
//   "GET 0" -> {"Reviewer 1":5,"Reviewer 2":4}        "DUMP" -> every line that it has, and the end of the connection

import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import type { Tally } from "./tally.ts";
import { addressOf, DATABASE, PORTS, RATINGS } from "./topology.ts";

const ROWS: readonly string[] = Array.from({ length: 20 }, (_, book) =>
  JSON.stringify({ "Reviewer 1": 5 - (book % 3), "Reviewer 2": 4 - (book % 2) }),
);
/** Of one connection; then another takes over, as pools have it, so that connections are seen to close. */
const QUESTIONS_PER_CONNECTION = 50;
/** Who waits longer does without an answer. */
const PATIENCE_MS = 500;
const BACKUP_EVERY_MS = 2000;
/** A caller without a workload. */
const OUTSIDER = "unknown";

/** Rejects when its port is taken. The function that it gives stops it. */
export async function startRatingsDb(subnet: string): Promise<() => Promise<void>> {
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket));
    socket.on("error", () => {}); // its sidecar is gone, or cut it
    eachLine(socket, (line) => answer(socket, line));
  });
  server.listen(PORTS.database, addressOf(DATABASE, subnet));
  await once(server, "listening");
  return () =>
    new Promise((resolve) => {
      server.close(() => resolve());
      for (const socket of open) socket.destroy();
    });
}

function answer(socket: Socket, line: string): void {
  const [verb, key = ""] = line.split(" ");
  if (verb === "DUMP") socket.end(`${ROWS.join("\n")}\n`);
  else socket.write(`${ROWS[Number(key)] ?? "{}"}\n`);
}

/** The database as ratings asks it: on one connection, in turn, which is made anew now and then. */
export class RatingsDb {
  private readonly subnet: string;
  private readonly tally: Tally;
  private socket: Socket | null = null;
  private waiting: ((line: string | null) => void)[] = [];
  private asked = 0;

  constructor(subnet: string, tally: Tally) {
    this.subnet = subnet;
    this.tally = tally;
  }

  /** The ratings of that book; null when the database does not answer. */
  ask(book: number): Promise<string | null> {
    const socket = this.connected();
    socket.write(`GET ${book}\n`);
    const waiting = this.waiting;
    if (++this.asked >= QUESTIONS_PER_CONNECTION) this.leave();
    return new Promise((resolve) => {
      waiting.push(resolve);
      setTimeout(resolve, PATIENCE_MS, null).unref();
    });
  }

  /** Finishes its connection. */
  close(): void {
    this.leave();
  }

  private connected(): Socket {
    if (this.socket !== null) return this.socket;
    const socket = connect(PORTS.database, addressOf(RATINGS, this.subnet));
    this.tally.follow(socket, RATINGS.name, DATABASE.name);
    const waiting: ((line: string | null) => void)[] = [];
    eachLine(socket, (line) => waiting.shift()?.(line));
    socket.on("error", () => {}); // told by "close"
    socket.on("close", () => {
      for (const resolve of waiting) resolve(null);
      if (this.socket === socket) this.socket = null;
    });
    this.socket = socket;
    this.waiting = waiting;
    this.asked = 0;
    return socket;
  }

  /** What was asked is still answered. */
  private leave(): void {
    this.socket?.end();
    this.socket = null;
  }
}

/** Dumps the database from time to time, over a plaintext connection of its own to the sidecar. */
export function startBackups(subnet: string, tally: Tally): () => void {
  const timer = setInterval(() => void backUp(subnet, tally).catch(() => {}), BACKUP_EVERY_MS);
  return () => clearInterval(timer);
}

/** What the database has. Rejects when its sidecar is gone. */
export async function backUp(subnet: string, tally: Tally): Promise<string> {
  const socket = connect(PORTS.inbound, addressOf(DATABASE, subnet));
  tally.follow(socket, OUTSIDER, DATABASE.name);
  socket.write("DUMP\n");
  return text(socket);
}

function eachLine(socket: Socket, take: (line: string) => void): void {
  let rest = "";
  socket.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) take(line);
  });
}
