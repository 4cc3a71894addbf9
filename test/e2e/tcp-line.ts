// One end of a TCP connection that keeps account of every byte: how many went each way, and a running digest of them. What one
// application wrote and the other read must have the same account.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

const LOCALHOST = "127.0.0.1";
/** Bytes of each stream that are kept to be looked at. */
const KEPT = 64 * 1024;

/** What went one way. Equal accounts are equal bytes. */
export interface Account {
  readonly bytes: number;
  /** sha256, in hex. */
  readonly digest: string;
}

class Tape {
  bytes = 0;
  private readonly hash = createHash("sha256");
  private readonly kept: Buffer[] = [];
  private keptBytes = 0;

  take(chunk: Buffer): void {
    this.bytes += chunk.length;
    this.hash.update(chunk);
    const room = KEPT - this.keptBytes;
    if (room <= 0) return;
    const head = chunk.subarray(0, room);
    this.kept.push(head);
    this.keptBytes += head.length;
  }

  get account(): Account {
    return { bytes: this.bytes, digest: this.hash.copy().digest("hex") };
  }

  /** Its first 64 KiB. */
  get head(): Buffer {
    return Buffer.concat(this.kept);
  }
}

/** How a connection ended: both sides finished, or one cut it. */
export type Ending = "finished" | "reset";

export class Line {
  /** How it ended, once it has. */
  readonly closed: Promise<Ending>;
  /** Fulfilled when the other side has finished writing, or the connection has ended. */
  readonly readToEnd: Promise<void>;
  private readonly sentTape = new Tape();
  private readonly receivedTape = new Tape();

  constructor(readonly socket: Socket) {
    socket.setNoDelay(true);
    let ending: Ending = "finished";
    socket.on("error", () => {
      ending = "reset";
    });
    socket.on("data", (chunk: Buffer) => this.receivedTape.take(chunk));
    this.closed = new Promise((resolve) => socket.once("close", () => resolve(ending)));
    this.readToEnd = new Promise((resolve) => socket.once("end", resolve).once("close", () => resolve()));
  }

  get sent(): Account {
    return this.sentTape.account;
  }

  get received(): Account {
    return this.receivedTape.account;
  }

  get receivedHead(): Buffer {
    return this.receivedTape.head;
  }

  /** Writes it and waits for room to write more, where there is none. */
  async write(bytes: Buffer | string): Promise<void> {
    const chunk = Buffer.from(bytes);
    this.sentTape.take(chunk);
    if (!this.socket.write(chunk)) await Promise.race([once(this.socket, "drain"), this.closed]);
  }

  /** Waits until that many bytes have come in all. Throws when the other side finishes or cuts before. */
  async read(total: number): Promise<void> {
    while (this.receivedTape.bytes < total) {
      if (this.socket.readableEnded || this.socket.destroyed) {
        throw new Error(`the connection ended after ${this.receivedTape.bytes} of ${total} bytes`);
      }
      await new Promise<void>((resolve) => {
        const wake = () => {
          for (const event of ["data", "end", "close"]) this.socket.off(event, wake);
          resolve();
        };
        for (const event of ["data", "end", "close"]) this.socket.on(event, wake);
      });
    }
  }

  /** Finishes this direction; the other stays open. */
  finish(): void {
    this.socket.end();
  }

  /** Finishes this direction and waits for the other. */
  async hangUp(): Promise<Ending> {
    this.finish();
    return this.closed;
  }

  /** Cuts the connection by RST. */
  reset(): void {
    this.socket.resetAndDestroy();
  }
}

/** What an application does with a connection. */
export type Service = (line: Line) => void;

/** Gives back what comes, and finishes when the caller does. */
export const echo: Service = (line) => {
  const { socket } = line;
  socket.on("data", (chunk: Buffer) => {
    socket.pause();
    void line.write(chunk).then(() => socket.resume());
  });
  socket.on("end", () => line.finish());
};

/** Passes each byte of either on to the other, and its finishing too. */
function join(one: Line, other: Line): void {
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    from.socket.on("data", (chunk: Buffer) => {
      from.socket.pause();
      void to.write(chunk).then(() => from.socket.resume());
    });
    from.socket.on("end", () => to.finish());
  }
}

/** Passes what comes on to the connection that `reach` makes. */
export function forwardTo(reach: () => Promise<Line>): Service {
  return (line) => {
    line.socket.pause();
    void reach().then((other) => {
      join(line, other);
      line.socket.resume();
    });
  };
}

/** A server that keeps the account of each connection it was given. */
export class App {
  /** Every connection so far, in order. */
  readonly lines: Line[] = [];
  private readonly server: Server;
  private port = 0;

  constructor(public service: Service = echo) {
    this.server = createServer({ allowHalfOpen: true }, (socket) => {
      const line = new Line(socket);
      this.lines.push(line);
      this.service(line);
    });
  }

  /** Listens where it did before, or first at a free port; "127.0.0.1:41234". */
  async listen(): Promise<string> {
    this.server.listen(this.port, LOCALHOST);
    await once(this.server, "listening");
    this.port = (this.server.address() as { port: number }).port;
    return `${LOCALHOST}:${this.port}`;
  }

  /** Takes no more connections; those that are open stay. */
  refuse(): void {
    this.server.close();
  }

  stop(): void {
    this.server.close();
    for (const { socket } of this.lines) socket.destroy();
  }
}

/** A connection to that port of this machine. */
export async function dial(port: number): Promise<Line> {
  const socket = connect({ port, host: LOCALHOST, allowHalfOpen: true });
  const line = new Line(socket);
  await once(socket, "connect");
  return line;
}

/** Accounts of both directions as the caller has them, in an order of their own: those of many connections can be compared. */
export function accountsOfCallers(lines: readonly Line[]): string[] {
  return lines.map(({ sent, received }) => JSON.stringify({ up: sent, down: received })).sort();
}

/** The same as the callee has them. */
export function accountsOfCallees(lines: readonly Line[]): string[] {
  return lines.map(({ sent, received }) => JSON.stringify({ up: received, down: sent })).sort();
}
