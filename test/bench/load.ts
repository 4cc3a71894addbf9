// The two ends of a benched proxy: a client that keeps some connections busy, and a server that answers at once.

import { connect, createServer, type Server, type Socket } from "node:net";
import { PEER_ID_HEADER, PEER_METADATA_HEADER } from "../../collector/vocabulary.ts";

const CONNECTIONS = 16;
export const LOCALHOST = "127.0.0.1";

/** A peer's metadata as Istio encodes it: `NAME`, `NAMESPACE`, `WORKLOAD_NAME`, `CLUSTER_ID`, `LABELS`. */
function peerMetadata(): string {
  const field = (tag: number, bytes: Buffer) => Buffer.concat([Buffer.from([tag, bytes.length]), bytes]);
  const entry = (key: string, valueTag: number, value: Buffer) =>
    // Lengths stay below 128, so that one byte holds each.
    Buffer.concat([field(0x0a, Buffer.from(key)), field(0x12, field(valueTag, value))]);
  const struct = (members: Buffer[]) => Buffer.concat(members.map((member) => field(0x0a, member)));
  const text = (key: string, value: string) => entry(key, 0x1a, Buffer.from(value));
  const labels = struct([text("app", "reviews"), text("service.istio.io/canonical-name", "reviews")]);
  return struct([
    text("CLUSTER_ID", "Kubernetes"),
    entry("LABELS", 0x2a, labels),
    text("NAME", "reviews-v1-545db77b95-2ps7q"),
    text("NAMESPACE", "default"),
    text("OWNER", "kubernetes://apis/apps/v1/namespaces/default/deployments/reviews-v1"),
    text("WORKLOAD_NAME", "reviews-v1"),
  ]).toString("base64");
}

const PEER_HEADERS =
  `${PEER_ID_HEADER}: sidecar~127.0.0.2~reviews-v1-545db77b95-2ps7q.default~default.svc.cluster.local\r\n` +
  `${PEER_METADATA_HEADER}: ${peerMetadata()}\r\n`;

/** A whole request; with a peer's metadata, as a sidecar sends it, if it comes from one. */
export function requestTo(authority: string, fromPeer: boolean): Buffer {
  return Buffer.from(`GET /reviews/1 HTTP/1.1\r\nhost: ${authority}\r\n${fromPeer ? PEER_HEADERS : ""}\r\n`);
}

/** Answers each request with the same small response, which carries a peer's metadata as a real peer's would. */
export async function startUpstream(): Promise<Server> {
  const response = Buffer.from(`HTTP/1.1 200 OK\r\n${PEER_HEADERS}content-length: 2\r\n\r\nok`);
  const server = createServer((socket) => {
    socket.setNoDelay(true);
    socket.on("error", () => socket.destroy());
    socket.on("data", () => socket.write(response)); // Envoy sends a request this small in one piece
  });
  await listen(server);
  return server;
}

export function portOf(server: Server): number {
  return (server.address() as { port: number }).port;
}

export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  await Promise.all(servers.map(listen));
  const ports = servers.map(portOf);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

function listen(server: Server): Promise<void> {
  return new Promise((resolve) => server.listen(0, LOCALHOST, resolve));
}

/** Keep-alive connections to one listener, each with one request at a time. */
export class Client {
  private readonly sockets: Socket[] = [];
  private left = 0;
  private inFlight = 0;
  private done: (() => void) | null = null;
  private fail: ((error: Error) => void) | null = null;

  /** `nextRequest`: the bytes of the next one. */
  constructor(
    private readonly port: number,
    private readonly nextRequest: () => Buffer,
  ) {}

  async open(): Promise<void> {
    await Promise.all(
      Array.from({ length: CONNECTIONS }, async () => {
        const socket = connect(this.port, LOCALHOST);
        await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
        socket.setNoDelay(true);
        socket.on("error", (error) => this.fail?.(error));
        socket.on("close", () => this.fail?.(new Error("the proxy closed a connection")));
        socket.on("data", (bytes) => this.answered(socket, bytes));
        this.sockets.push(socket);
      }),
    );
  }

  /** Sends so many requests and resolves when all are answered; rejects when one fails. */
  run(requests: number): Promise<void> {
    this.left = requests;
    return new Promise((resolve, reject) => {
      this.done = resolve;
      this.fail = reject;
      for (const socket of this.sockets) this.send(socket);
    });
  }

  close(): void {
    this.fail = null;
    for (const socket of this.sockets) socket.destroy();
  }

  private send(socket: Socket): void {
    if (this.left === 0) {
      if (this.inFlight === 0) this.done?.();
      return;
    }
    this.left--;
    this.inFlight++;
    socket.write(this.nextRequest());
  }

  private answered(socket: Socket, bytes: Buffer): void {
    if (bytes.subarray(0, 12).toString("latin1") !== "HTTP/1.1 200") {
      this.fail?.(new Error(`unexpected answer: ${bytes.toString("latin1", 0, 200)}`));
      return;
    }
    this.inFlight--;
    this.send(socket);
  }
}
