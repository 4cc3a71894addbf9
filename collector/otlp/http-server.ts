// OTLP/HTTP: POST /v1/logs and its like, in protobuf or JSON, packed with gzip or not.
// https://opentelemetry.io/docs/specs/otlp/#otlphttp

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { promisify } from "node:util";
import { gunzip, inflate } from "node:zlib";
import { CollectorError } from "../error.ts";
import type { Log } from "../log.ts";
import { encodeStatus } from "../proto/rpc-status.ts";
import type { OtlpRefusal } from "../self.ts";
import type { ServerTls } from "../tls/server-tls.ts";
import type { Encoding, Signal } from "./receiver.ts";
import { encodeTaken, takenJson } from "./responses.ts";

const MAX_CONNECTIONS = 1024;
/** A sender that says nothing for so long is gone. */
const IDLE_TIMEOUT_MS = 30_000;
/** Of all bodies together that have not come to their end. */
const MAX_HELD_BYTES = 64 * 1024 * 1024;
/** After so long there may be room again. */
const RETRY_AFTER_SECONDS = 1;

const CONTENT_TYPES: Readonly<Record<Encoding, string>> = {
  protobuf: "application/x-protobuf",
  json: "application/json",
};
const UNPACK: ReadonlyMap<string, (bytes: Buffer, options: { maxOutputLength: number }) => Promise<Buffer>> = new Map([
  ["gzip", promisify(gunzip)],
  ["deflate", promisify(inflate)],
]);
// gRPC's codes, which google.rpc.Status has.
const INVALID_ARGUMENT = 3;
const RESOURCE_EXHAUSTED = 8;
const UNIMPLEMENTED = 12;
const INTERNAL = 13;
const UNAVAILABLE = 14;

/** Why a request was not taken. */
class HttpFault extends Error {
  constructor(
    readonly status: number,
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

/** Nothing was taken for want of room: the sender is to try again. */
class NoRoom extends HttpFault {
  constructor(
    readonly reason: OtlpRefusal,
    message: string,
  ) {
    super(503, UNAVAILABLE, message);
  }
}

export interface OtlpHttpOptions {
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  readonly signals: readonly Signal[];
  /** Of a body, packed and unpacked. */
  readonly maxBodyBytes: number;
  /** Whether there is no room at the moment. */
  readonly isPaused?: () => boolean;
  /** Default: plaintext. */
  readonly tls?: ServerTls | null;
  readonly log: Log;
}

export class OtlpHttpServer {
  private readonly server: Server;
  private heldBytes = 0;

  constructor(private readonly options: OtlpHttpOptions) {
    const serve = (request: IncomingMessage, response: ServerResponse) => {
      void this.serve(request, response);
    };
    const { tls = null } = options;
    this.server = tls === null ? createServer(serve) : secureServer(tls, serve);
    this.server.maxConnections = MAX_CONNECTIONS;
    this.server.timeout = IDLE_TIMEOUT_MS;
    this.server.requestTimeout = 2 * IDLE_TIMEOUT_MS;
  }

  /** Resolves to the port; rejects when the address cannot be listened on. */
  start(): Promise<number> {
    const { host, port } = this.options;
    return new Promise((resolve, reject) => {
      this.server.once("error", (error) => {
        const message = `cannot listen for OTLP over HTTP on ${host}:${port}: ${error.message}`;
        reject(new CollectorError("unavailable", message, { cause: error }));
      });
      this.server.listen(port, host, () => resolve((this.server.address() as AddressInfo).port));
    });
  }

  /** Takes no new connection; requests under way may come to their end, for `graceMs` at most. */
  async stop(graceMs: number): Promise<void> {
    const timer = setTimeout(() => {
      this.server.closeAllConnections();
      this.options.tls?.stop();
    }, graceMs);
    await new Promise<void>((resolve) => {
      this.server.close(() => resolve());
      this.server.closeIdleConnections();
    });
    clearTimeout(timer);
    this.options.tls?.stop();
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const encoding = encodingOf(request) ?? "protobuf";
    try {
      const { answer } = await this.answer(request);
      send(response, 200, encoding, answer);
    } catch (error: unknown) {
      if (response.destroyed) return; // the sender is gone
      const fault = error instanceof HttpFault ? error : new HttpFault(500, INTERNAL, "the request failed");
      if (fault !== error) this.options.log.error({ err: error, path: request.url }, "OTLP request failed");
      if (fault.status === 405) response.setHeader("allow", "POST");
      if (fault instanceof NoRoom) response.setHeader("retry-after", RETRY_AFTER_SECONDS);
      if (!request.complete) response.setHeader("connection", "close"); // what is left of the body is not read
      const { code, message } = fault;
      send(response, fault.status, encoding, encoding === "json" ? { code, message } : encodeStatus(code, message));
    }
  }

  private async answer(request: IncomingMessage): Promise<{ readonly answer: Buffer | object }> {
    const signal = this.signalOf(request);
    const encoding = encodingOf(request);
    if (encoding === null) {
      const expected = Object.values(CONTENT_TYPES).join(" or ");
      throw new HttpFault(415, INVALID_ARGUMENT, `expected the content-type ${expected}`);
    }
    const taken = signal.take(await this.roomFor(request, signal), encoding, "http");
    if (taken === null) throw new HttpFault(400, INVALID_ARGUMENT, `expected ${signal.service}'s request`);
    return { answer: encoding === "json" ? takenJson(taken, signal.rejectedName) : encodeTaken(taken) };
  }

  private signalOf({ url, method }: IncomingMessage): Signal {
    const { signals } = this.options;
    const [path] = (url ?? "").split("?", 1);
    const signal = signals.find((each) => each.path === path);
    if (!signal) {
      const known = signals.map((each) => each.path).join(", ");
      throw new HttpFault(404, UNIMPLEMENTED, `there is no such path; there are ${known}`);
    }
    if (method !== "POST") throw new HttpFault(405, UNIMPLEMENTED, "expected POST");
    return signal;
  }

  /** The body; where there is no room for it, that is counted. */
  private async roomFor(request: IncomingMessage, signal: Signal): Promise<Buffer> {
    try {
      if (this.options.isPaused?.()) throw new NoRoom("no_room", "no room at the moment");
      return await this.body(request);
    } catch (error: unknown) {
      if (error instanceof NoRoom) signal.refused("http", error.reason);
      throw error;
    }
  }

  /** The body, unpacked. */
  private async body(request: IncomingMessage): Promise<Buffer> {
    const encoding = String(request.headers["content-encoding"] ?? "identity").toLowerCase();
    const unpack = UNPACK.get(encoding);
    if (encoding !== "identity" && !unpack) {
      throw new HttpFault(415, INVALID_ARGUMENT, "expected the content-encoding identity, gzip or deflate");
    }
    const packed = await this.readAll(request);
    if (!unpack) return packed;
    try {
      return await unpack(packed, { maxOutputLength: this.options.maxBodyBytes });
    } catch (error: unknown) {
      const isLong = (error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE";
      throw isLong ? this.tooLarge() : new HttpFault(400, INVALID_ARGUMENT, "the body cannot be unpacked");
    }
  }

  private async readAll(request: IncomingMessage): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let bytes = 0;
    try {
      for await (const chunk of request as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        this.heldBytes += chunk.length;
        if (bytes > this.options.maxBodyBytes) throw this.tooLarge();
        if (this.heldBytes > MAX_HELD_BYTES) throw new NoRoom("bodies_full", "too many bodies at the moment");
        chunks.push(chunk);
      }
    } finally {
      this.heldBytes -= bytes;
    }
    return Buffer.concat(chunks);
  }

  private tooLarge(): HttpFault {
    return new HttpFault(413, RESOURCE_EXHAUSTED, `expected a body of at most ${this.options.maxBodyBytes} bytes`);
  }
}

function secureServer(tls: ServerTls, serve: (request: IncomingMessage, response: ServerResponse) => void): Server {
  const server = createTlsServer(tls.serverOptions, serve);
  tls.serve(server);
  return server;
}

function encodingOf({ headers }: IncomingMessage): Encoding | null {
  const [type = ""] = (headers["content-type"] ?? "").toLowerCase().split(";", 1);
  if (type.trim() === CONTENT_TYPES.protobuf) return "protobuf";
  return type.trim() === CONTENT_TYPES.json ? "json" : null;
}

function send(response: ServerResponse, status: number, encoding: Encoding, body: Buffer | object): void {
  const bytes = Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
  response.writeHead(status, {
    "content-type": CONTENT_TYPES[encoding],
    "content-length": bytes.length,
    "x-content-type-options": "nosniff",
  });
  response.end(bytes);
}
