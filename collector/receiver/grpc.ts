// The gRPC server: listens, frames, limits, answers health checks. Messages go on as raw bytes. The only importer of grpc-js.

import type { ServerHttp2Stream } from "node:http2";
import * as grpc from "@grpc/grpc-js";
import { CollectorError } from "../error.ts";
import type { Log } from "../log.ts";
import { encodeStatus } from "../proto/rpc-status.ts";
import type { ServerTls } from "../tls/server-tls.ts";
import { type ClientCall, ClientStream, type StreamReader } from "./client-stream.ts";
import type { FrameFault } from "./frames.ts";
import { HEALTH_SERVICE, Health } from "./health.ts";
import { LogLimit } from "./log-limit.ts";
import { MAX_REQUEST_BYTES, REFLECTION_SERVICES, Reflection } from "./reflection.ts";
import { TlsListener } from "./tls-listener.ts";

const DEFAULT_MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
/** Streams of one connection. Envoy opens one per access logger; each of its worker threads has a connection of its own. */
const MAX_STREAMS_PER_CONNECTION = 128;
/** A connection that is silent so long is asked for a sign of life; one that gives none is closed. */
const KEEPALIVE = { timeMs: 60_000, timeoutMs: 20_000 };

/** An empty message in its frame: not packed, of length 0. */
const EMPTY_FRAME = Buffer.alloc(5);
const STATUS_OK = { "grpc-status": "0" };

/** Reflection streams at once, and how long one may take: a tool asks and is gone. */
const MAX_REFLECTIONS = 16;
const MAX_REFLECTION_MS = 60_000;

/** So often it is told how long it was paused, while it is. */
const PAUSE_TICK_MS = 250;

const FRAME_FAULTS: Readonly<Record<Exclude<FrameFault, "too_large">, { code: grpc.status; details: string }>> = {
  malformed: { code: grpc.status.INTERNAL, details: "compressed message cannot be unpacked" },
  encoding_unknown: { code: grpc.status.UNIMPLEMENTED, details: "expected grpc-encoding identity, gzip or deflate" },
};

/** Why a unary call is not answered with a message. */
interface Refusal {
  readonly refusal: "malformed";
  readonly details: string;
}

/** Takes an encoded request and gives the encoded response, or why there is none. */
export type UnaryHandler = (request: Buffer) => Buffer | Refusal;

const REFUSALS: Readonly<Record<Refusal["refusal"], grpc.status>> = {
  malformed: grpc.status.INVALID_ARGUMENT,
};
const NO_ROOM = "no room at the moment";
/** After so long there may be room again. */
const RETRY_AFTER_SECONDS = 1;

export interface GrpcOptions {
  /** `127.0.0.1:11800`; port 0 picks a free one. */
  readonly address: string;
  /** A longer message ends its stream with RESOURCE_EXHAUSTED. Default: 4 MiB, as gRPC's own. */
  readonly maxMessageBytes?: number;
  /** A client stream that is so old, give or take a tenth, is answered with OK. Default: 0, never. */
  readonly maxStreamAgeMs?: number;
  /** Whether health is SERVING, besides that the server listens and does not stop. Default: always. */
  readonly isReady?: () => boolean;
  /** Default: plaintext. */
  readonly tls?: ServerTls | null;
  /** After how much silence a connection is asked, and how long it has to answer. Default: 60 s, 20 s. */
  readonly keepalive?: { readonly timeMs: number; readonly timeoutMs: number };
  /** Told of the seconds for which it was paused, while it is and at the end; their sum is all. */
  readonly onPaused?: (seconds: number) => void;
  readonly log: Log;
}

/** How long the messages of a service may be. */
export interface MessageLimit {
  readonly bytes: number;
  /** The configuration's key, for whoever exceeds it: "grpc.max_message". */
  readonly key: string;
}

/** What a client says of its stream before it sends: HTTP/2 headers. */
export interface StreamHeaders {
  /** The text of the header, the first where it stands twice; "" when there is none. Names are in lower case. */
  text(name: string): string;
}

export class GrpcServer {
  private readonly server: grpc.Server;
  private readonly options: GrpcOptions;
  private readonly faults: LogLimit;
  private readonly health: Health;
  private readonly reflection = new Reflection();
  /** Streams of our own services, which would not end by themselves. */
  private readonly watchers = new Set<grpc.ServerWritableStream<Buffer, Buffer>>();
  private readonly reflecting = new Set<grpc.ServerDuplexStream<Buffer, Buffer>>();
  private readonly listener: TlsListener | null;
  private readonly streams = new Set<ClientStream>();
  private isServing = false;
  private isPaused = false;
  /** What is read from now on is the last: nobody waits for room any more. */
  private isStopped = false;
  private pausedSinceMs = 0;
  private pauseTimer: NodeJS.Timeout | undefined;

  constructor(options: GrpcOptions) {
    this.options = options;
    this.faults = new LogLimit(options.log);
    this.health = new Health(() => this.isServing && (options.isReady?.() ?? true));
    grpc.setLogVerbosity(grpc.logVerbosity.NONE); // plain lines on stderr; what matters of them comes back as an error
    this.server = new grpc.Server({
      "grpc.max_receive_message_length": options.maxMessageBytes ?? DEFAULT_MAX_MESSAGE_BYTES,
      "grpc.max_concurrent_streams": MAX_STREAMS_PER_CONNECTION,
      "grpc.keepalive_time_ms": (options.keepalive ?? KEEPALIVE).timeMs,
      "grpc.keepalive_timeout_ms": (options.keepalive ?? KEEPALIVE).timeoutMs,
    });
    this.listener = this.createTlsListener(options.tls ?? null);
    this.addHealthService();
    for (const service of REFLECTION_SERVICES) this.addReflectionService(service);
  }

  /**
   * Serves `service`'s client-streaming `method`. Each call opens a reader; a half-close is answered with an empty message. A call
   * for which there is none is answered with RESOURCE_EXHAUSTED, and nothing of it is read.
   * A stream is read no faster than its reader takes messages: HTTP/2 flow control holds the client back. One that is old enough is
   * answered, too, and read on until its client, which knows then, has ended it: what was under way is not lost.
   * `limit`: of its messages; by default `maxMessageBytes`.
   */
  addClientStream(service: string, method: string, open: OpenStream, limit = this.messageLimit()): void {
    this.health.add(service);
    this.reflection.add(service);
    const definition = { ...rawMethod(service, method), requestStream: true, responseStream: false };
    this.server.addService({ [method]: definition }, { [method]: this.clientStream(open, limit) });
  }

  /**
   * Serves `service`'s unary `method`. A request longer than the limit never comes here. While it is paused a call is answered with
   * UNAVAILABLE and when to try again, and goes to `onRefused` instead.
   */
  addUnary(service: string, method: string, answer: UnaryHandler, onRefused: () => void = () => {}): void {
    this.health.add(service);
    this.reflection.add(service);
    const definition = { ...rawMethod(service, method), requestStream: false, responseStream: false };
    const handle: grpc.handleUnaryCall<Buffer, Buffer> = (call, respond) => {
      try {
        if (this.isPaused) {
          onRefused();
          respond(noRoom());
          return;
        }
        const answered = answer(call.request);
        if (Buffer.isBuffer(answered)) respond(null, answered);
        else respond({ code: REFUSALS[answered.refusal], details: answered.details });
      } catch (error: unknown) {
        this.faults.error("unary", { err: error, service }, "a request failed");
        respond({ code: grpc.status.INTERNAL, details: "the request failed; the log has the reason" });
      }
    };
    this.server.addService({ [method]: definition }, { [method]: handle });
  }

  /** Resolves to the port; rejects when the address cannot be listened on. */
  async start(): Promise<number> {
    const { address } = this.options;
    try {
      const port = this.listener === null ? await this.listen(address) : await this.listener.listen(address);
      this.isServing = true;
      return port;
    } catch (error: unknown) {
      throw new CollectorError("unavailable", `cannot listen for gRPC on ${address}`, { cause: error });
    }
  }

  /**
   * Reads no client stream any further, those that open meanwhile neither, until `resume`: for when there is no room for what they
   * bring. Clients learn it by flow control, and hold back what they have. What was on its way until they knew is held here: of each
   * stream what its window takes (4 MiB) at most. A connection is kept alive, a stream's age waits. Again while it is paused: nothing.
   */
  pause(): void {
    if (this.isPaused || this.isStopped) return;
    this.isPaused = true;
    this.pausedSinceMs = performance.now();
    this.pauseTimer = setInterval(() => this.tellPaused(), PAUSE_TICK_MS).unref();
    for (const stream of this.streams) stream.pause();
  }

  /** Reads on, everything that was held. Nothing when it was not paused. */
  resume(): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    clearInterval(this.pauseTimer);
    this.tellPaused();
    for (const stream of this.streams) {
      stream.resume();
      if (this.hasPaused()) return; // what it held filled the room: the others wait for the next
    }
  }

  /**
   * Takes no new connection and no new stream, and takes in what open streams still send until all have ended, at most for
   * `drainMs`. Access-log streams never end by themselves: clients that do not heed the GOAWAY make it last that long. What a pause
   * held is read then, at the latest.
   */
  async stop(drainMs: number): Promise<void> {
    this.isServing = false;
    this.health.tell();
    for (const call of [...this.watchers, ...this.reflecting]) call.end();
    this.listener?.close();
    let timer: NodeJS.Timeout | undefined;
    const drained = new Promise<void>((resolve) => this.server.tryShutdown(() => resolve()));
    const expired = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, drainMs);
    });
    await Promise.race([drained, expired]);
    clearTimeout(timer);
    this.isStopped = true;
    this.resume();
    this.server.forceShutdown();
    this.listener?.destroy();
  }

  /** Since somebody who was read to may have asked for it. */
  private hasPaused(): boolean {
    return this.isPaused;
  }

  private listen(address: string): Promise<number> {
    return new Promise((resolve, reject) => {
      this.server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error, port) => {
        if (error === null) resolve(port);
        else reject(error);
      });
    });
  }

  /**
   * With TLS the sockets are our own: grpc-js's way to replace a certificate is experimental, knows no least version, and keeps
   * failed handshakes to itself.
   */
  private createTlsListener(tls: ServerTls | null): TlsListener | null {
    if (tls === null) return null;
    const injector = this.server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
    return new TlsListener(tls, (socket) => injector.injectConnection(socket));
  }

  private tellPaused(): void {
    const nowMs = performance.now();
    this.options.onPaused?.((nowMs - this.pausedSinceMs) / 1000);
    this.pausedSinceMs = nowMs;
  }

  private messageLimit(): MessageLimit {
    return { bytes: this.options.maxMessageBytes ?? DEFAULT_MAX_MESSAGE_BYTES, key: "grpc.max_message" };
  }

  private clientStream(open: OpenStream, limit: MessageLimit): grpc.handleClientStreamingCall<Buffer, Buffer> {
    return (call, respond) => {
      const reader = open(headersOf(call.metadata));
      if (reader === null) {
        respond({ code: grpc.status.RESOURCE_EXHAUSTED, details: "too many streams" });
        return;
      }
      const stream = new ClientStream(clientCall(call, respond, limit), reader, {
        maxMessageBytes: limit.bytes,
        maxAgeMs: this.options.maxStreamAgeMs ?? 0,
        isPaused: this.isPaused,
        faults: this.faults,
        onEnd: () => this.streams.delete(stream),
      });
      this.streams.add(stream);
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
    this.reflection.add(HEALTH_SERVICE);
  }

  private addReflectionService(service: string): void {
    const info: grpc.handleBidiStreamingCall<Buffer, Buffer> = (call) => {
      if (this.reflecting.size >= MAX_REFLECTIONS) {
        call.emit("error", { code: grpc.status.RESOURCE_EXHAUSTED, details: "too many reflection streams" });
        return;
      }
      this.reflecting.add(call);
      const timer = setTimeout(() => call.end(), MAX_REFLECTION_MS).unref();
      call.on("data", (request: Buffer) => this.reflect(call, request));
      call.on("end", () => call.end());
      call.on("error", () => {}); // whoever asked is gone
      call.on("close", () => {
        clearTimeout(timer);
        this.reflecting.delete(call);
      });
    };
    const method = "ServerReflectionInfo";
    const definition = { ...rawMethod(service, method), requestStream: true, responseStream: true };
    this.server.addService({ [method]: definition }, { [method]: info });
  }

  /** One who asks and does not listen is not heard further. */
  private reflect(call: grpc.ServerDuplexStream<Buffer, Buffer>, request: Buffer): void {
    if (request.length > MAX_REQUEST_BYTES) {
      const details = `request larger than ${MAX_REQUEST_BYTES} bytes`;
      call.emit("error", { code: grpc.status.RESOURCE_EXHAUSTED, details });
      return;
    }
    if (call.write(this.reflection.answer(request))) return;
    call.pause();
    call.once("drain", () => call.resume());
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

/** Null when there are too many. */
type OpenStream = (headers: StreamHeaders) => StreamReader | null;

function headersOf(metadata: grpc.Metadata): StreamHeaders {
  return { text: (name) => String(metadata.get(name)[0] ?? "") };
}

function clientCall(
  call: grpc.ServerReadableStream<Buffer, Buffer>,
  respond: grpc.sendUnaryData<Buffer>,
  limit: MessageLimit,
): ClientCall {
  const internals = (call as unknown as { call: CallInternals }).call;
  const { stream, incomingEncoding } = internals;
  return {
    stream,
    encoding: incomingEncoding,
    refuse: (fault) => respond(fault === "too_large" ? tooLarge(limit) : FRAME_FAULTS[fault]),
    // Without a word to grpc-js, which would read no further.
    answer: () => {
      if (stream.closed) return;
      call.sendMetadata(new grpc.Metadata());
      internals.wantTrailers = true;
      stream.once("wantTrailers", () => {
        if (!stream.closed) stream.sendTrailers(STATUS_OK);
      });
      stream.end(EMPTY_FRAME);
    },
  };
}

/** OTLP's and others' clients try again upon it, after that delay or one of their own. */
function noRoom() {
  const metadata = new grpc.Metadata();
  const code = grpc.status.UNAVAILABLE;
  metadata.set("grpc-status-details-bin", encodeStatus(code, NO_ROOM, RETRY_AFTER_SECONDS));
  return { code, details: NO_ROOM, metadata };
}

function tooLarge({ bytes, key }: MessageLimit) {
  return { code: grpc.status.RESOURCE_EXHAUSTED, details: `message larger than ${key}, ${bytes} bytes` };
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
