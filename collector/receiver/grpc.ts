// The gRPC server: listens, frames, limits, answers health checks. Messages go on as raw bytes. The only importer of grpc-js.

import type { Http2Session, ServerHttp2Stream } from "node:http2";
import * as grpc from "@grpc/grpc-js";
import { CollectorError } from "../error.ts";
import type { Log } from "../log.ts";
import { type FrameFault, FrameReader } from "./frames.ts";
import { HEALTH_SERVICE, Health } from "./health.ts";
import { LogLimit } from "./log-limit.ts";

const DEFAULT_MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
/** Streams of one connection. Envoy opens one per access logger; each of its worker threads has a connection of its own. */
const MAX_STREAMS_PER_CONNECTION = 128;
/** A connection that is silent so long is asked for a sign of life; one that gives none is closed. */
const KEEPALIVE_TIME_MS = 60_000;
const KEEPALIVE_TIMEOUT_MS = 20_000;

/**
 * What a client may send, on a stream and on a connection, before it hears that more was read. HTTP/2's own 64 KiB are full within
 * milliseconds; and what a client holds back for want of a window is lost when the stream is answered.
 */
const WINDOW_BYTES = 4 * 1024 * 1024;

/** An empty message in its frame: not packed, of length 0. */
const EMPTY_FRAME = Buffer.alloc(5);
const STATUS_OK = { "grpc-status": "0" };

/** Streams reach their age so much earlier or later than the configuration says, so that they do not all begin anew together. */
const AGE_JITTER = 0.1;
/** A stream of that age is watched for so long before it is answered, and again until it comes as fast as its client sends. */
const CALM_MS = 20;

const FRAME_FAULTS: Readonly<Record<FrameFault, { code: grpc.status; details: string }>> = {
  too_large: { code: grpc.status.RESOURCE_EXHAUSTED, details: "message larger than grpc.max_message" },
  malformed: { code: grpc.status.INTERNAL, details: "compressed message cannot be unpacked" },
  encoding_unknown: { code: grpc.status.UNIMPLEMENTED, details: "expected grpc-encoding identity, gzip or deflate" },
};

/**
 * How a stream ended: "completed" when all that arrived was read, whether the client was done or gone (HTTP/2 does not tell);
 * "aged" the same, after we had answered it for its age; "broken_off" when not all was read: a message beyond the limit, our own
 * stop, a reset in the middle.
 */
export type StreamEnd = "completed" | "aged" | "broken_off";

/** Takes the messages of one client stream, in order, one at a time. */
export interface StreamReader {
  /** `bytes` are the reader's to keep. */
  message(bytes: Buffer): void;
  /** Called once, last. */
  end(how: StreamEnd): void;
}

export interface GrpcOptions {
  /** `127.0.0.1:11800`; port 0 picks a free one. */
  readonly address: string;
  /** A longer message ends its stream with RESOURCE_EXHAUSTED. Default: 4 MiB, as gRPC's own. */
  readonly maxMessageBytes?: number;
  /** A client stream that is so old, give or take a tenth, is answered with OK. Default: 0, never. */
  readonly maxStreamAgeMs?: number;
  /** Whether health is SERVING, besides that the server listens and does not stop. Default: always. */
  readonly isReady?: () => boolean;
  readonly log: Log;
}

export class GrpcServer {
  private readonly server: grpc.Server;
  private readonly options: GrpcOptions;
  private readonly faults: LogLimit;
  private readonly health: Health;
  private readonly watchers = new Set<grpc.ServerWritableStream<Buffer, Buffer>>();
  private isServing = false;

  constructor(options: GrpcOptions) {
    this.options = options;
    this.faults = new LogLimit(options.log);
    this.health = new Health(() => this.isServing && (options.isReady?.() ?? true));
    grpc.setLogVerbosity(grpc.logVerbosity.NONE); // plain lines on stderr; what matters of them comes back as an error
    this.server = new grpc.Server({
      "grpc.max_receive_message_length": options.maxMessageBytes ?? DEFAULT_MAX_MESSAGE_BYTES,
      "grpc.max_concurrent_streams": MAX_STREAMS_PER_CONNECTION,
      "grpc.keepalive_time_ms": KEEPALIVE_TIME_MS,
      "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
    });
    this.addHealthService();
  }

  /**
   * Serves `service`'s client-streaming `method`. Each call opens a reader; a half-close is answered with an empty message. A call
   * for which there is none is answered with RESOURCE_EXHAUSTED, and nothing of it is read.
   * A stream is read no faster than its reader takes messages: HTTP/2 flow control holds the client back. One that is old enough is
   * answered, too, and read on until its client, which knows then, has ended it: what was under way is not lost.
   */
  addClientStream(service: string, method: string, open: () => StreamReader | null): void {
    this.health.add(service);
    const definition = { ...rawMethod(service, method), requestStream: true, responseStream: false };
    this.server.addService({ [method]: definition }, { [method]: this.clientStream(open) });
  }

  /** Resolves to the port; rejects when the address cannot be listened on. */
  start(): Promise<number> {
    const { address } = this.options;
    return new Promise((resolve, reject) => {
      this.server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error, port) => {
        if (error !== null) {
          reject(new CollectorError("unavailable", `cannot listen for gRPC on ${address}`, { cause: error }));
          return;
        }
        this.isServing = true;
        resolve(port);
      });
    });
  }

  /**
   * Takes no new connection and no new stream, and takes in what open streams still send until all have ended, at most for
   * `drainMs`. Access-log streams never end by themselves: clients that do not heed the GOAWAY make it last that long.
   */
  async stop(drainMs: number): Promise<void> {
    this.isServing = false;
    this.health.tell();
    for (const call of this.watchers) call.end();
    let timer: NodeJS.Timeout | undefined;
    const drained = new Promise<void>((resolve) => this.server.tryShutdown(() => resolve()));
    const expired = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, drainMs);
    });
    await Promise.race([drained, expired]);
    clearTimeout(timer);
    this.server.forceShutdown();
  }

  private clientStream(open: () => StreamReader | null): grpc.handleClientStreamingCall<Buffer, Buffer> {
    return (call, respond) => {
      const reader = open();
      if (reader === null) {
        respond({ code: grpc.status.RESOURCE_EXHAUSTED, details: "too many streams" });
        return;
      }
      new ClientStream(call, respond, reader, this.options, this.faults);
    };
  }

  private addHealthService(): void {
    const check: grpc.handleUnaryCall<Buffer, Buffer> = (call, respond) => {
      const response = this.health.check(call.request);
      if (response !== null) respond(null, response);
      else respond({ code: grpc.status.NOT_FOUND, details: "no such service" });
    };
    const watch: grpc.handleServerStreamingCall<Buffer, Buffer> = (call) => {
      const unwatch = this.health.watch(call.request, (response) => call.write(response));
      if (unwatch === null) {
        call.emit("error", { code: grpc.status.RESOURCE_EXHAUSTED, details: "too many watch" });
        return;
      }
      this.watchers.add(call);
      call.on("close", () => {
        unwatch();
        this.watchers.delete(call);
      });
    };
    const definitions = {
      Check: { ...rawMethod(HEALTH_SERVICE, "Check"), requestStream: false, responseStream: false },
      Watch: { ...rawMethod(HEALTH_SERVICE, "Watch"), requestStream: false, responseStream: true },
    };
    this.server.addService(definitions, { Check: check, Watch: watch });
  }
}

/** What grpc-js keeps of a call, of no concern to its users; seen in 1.14.7, to which package.json holds it. */
interface CallInternals {
  readonly stream: ServerHttp2Stream;
  /** `grpc-encoding` of what comes. */
  readonly incomingEncoding: string;
  /** Whether the status was sent, or is about to be. */
  wantTrailers: boolean;
}

/**
 * One client stream, read from HTTP/2 itself: grpc-js reads no further once it has sent a status, nor what arrived together with a
 * client's reset, and an Envoy whose stream is answered resets it right behind its last entries.
 */
class ClientStream {
  private readonly internals: CallInternals;
  private readonly connection: Connection;
  private readonly frames: FrameReader;
  private ageTimer: NodeJS.Timeout | undefined;
  private isAged = false;
  private hasEnded = false;
  private isFaulty = false;

  constructor(
    private readonly call: grpc.ServerReadableStream<Buffer, Buffer>,
    private readonly respond: grpc.sendUnaryData<Buffer>,
    private readonly reader: StreamReader,
    { maxMessageBytes = DEFAULT_MAX_MESSAGE_BYTES, maxStreamAgeMs = 0 }: GrpcOptions,
    private readonly faults: LogLimit,
  ) {
    this.internals = (call as unknown as { call: CallInternals }).call;
    const { stream, incomingEncoding } = this.internals;
    this.connection = Connection.of(stream);
    this.frames = new FrameReader(maxMessageBytes, incomingEncoding, (bytes) => this.message(bytes));
    if (maxStreamAgeMs > 0) {
      const ageMs = maxStreamAgeMs * (1 + AGE_JITTER * (2 * Math.random() - 1));
      this.ageTimer = setTimeout(() => this.age(), ageMs).unref();
    }
    stream.removeAllListeners("data").removeAllListeners("end");
    stream.on("data", (chunk: Buffer) => this.read(chunk));
    stream.on("end", () => this.end());
    stream.on("error", (error: Error) => faults.warn("stream", { err: error }, "stream failed"));
    stream.on("close", () => this.close());
    stream.resume();
  }

  private read(chunk: Buffer): void {
    this.connection.bytesRead += chunk.length;
    if (this.isFaulty) return;
    const fault = this.frames.read(chunk);
    if (fault === null) return;
    this.isFaulty = true;
    this.respond(FRAME_FAULTS[fault]);
  }

  private message(bytes: Buffer): void {
    try {
      this.reader.message(bytes);
    } catch (error: unknown) {
      this.faults.error("reader", { err: error }, "reader of a stream failed on a message");
    }
  }

  private end(): void {
    this.hasEnded = true;
    if (!this.isFaulty && !this.isAged) this.answer();
  }

  /**
   * What its client holds back for want of a window is lost with the answer, as Envoy throws it away then. So it is given in a calm
   * moment only: neither were we busy, while the client could fill its window, nor does it send so much that it nears one.
   */
  private age(): void {
    const { bytesRead } = this.connection;
    const startedMs = performance.now();
    this.ageTimer = setTimeout(() => {
      if (this.hasEnded || this.isFaulty || this.internals.stream.closed) return;
      const wasBusy = performance.now() - startedMs > 2 * CALM_MS;
      if (wasBusy || this.connection.bytesRead - bytesRead > WINDOW_BYTES / 4) {
        this.age();
        return;
      }
      this.isAged = true;
      this.answer();
    }, CALM_MS).unref();
  }

  private close(): void {
    clearTimeout(this.ageTimer);
    this.reader.end(this.howItEnded());
  }

  /** A client that has its answer may reset the stream instead of ending it, as Envoy does. */
  private howItEnded(): StreamEnd {
    if (this.isFaulty || !this.frames.isBetweenMessages) return "broken_off";
    if (this.isAged) return "aged";
    return this.hasEnded ? "completed" : "broken_off";
  }

  /** An empty message and OK, without a word to grpc-js, which would read no further. */
  private answer(): void {
    const { stream } = this.internals;
    if (stream.closed) return;
    this.call.sendMetadata(new grpc.Metadata());
    this.internals.wantTrailers = true;
    stream.once("wantTrailers", () => {
      if (!stream.closed) stream.sendTrailers(STATUS_OK);
    });
    stream.end(EMPTY_FRAME);
  }
}

/** Bytes that a connection's streams have brought. */
class Connection {
  private static readonly bySession = new WeakMap<Http2Session, Connection>();
  bytesRead = 0;

  /** Of this stream; its windows are widened when it is seen for the first time. */
  static of({ session }: ServerHttp2Stream): Connection {
    const known = session && Connection.bySession.get(session);
    if (known) return known;
    const connection = new Connection();
    if (session === undefined || session.destroyed) return connection;
    Connection.bySession.set(session, connection);
    session.settings({ initialWindowSize: WINDOW_BYTES });
    session.setLocalWindowSize(WINDOW_BYTES);
    return connection;
  }
}

function rawMethod(service: string, method: string) {
  const identity = (bytes: Buffer) => bytes;
  return {
    path: `/${service}/${method}`,
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  };
}
