// The gRPC server: listens, frames, limits, answers health checks. Messages go on as raw bytes. The only importer of grpc-js.

import * as grpc from "@grpc/grpc-js";
import { CollectorError } from "../error.ts";
import type { Log } from "../log.ts";
import { LogLimit } from "./log-limit.ts";

const DEFAULT_MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
/** Streams of one connection. Envoy opens one per access logger; each of its worker threads has a connection of its own. */
const MAX_STREAMS_PER_CONNECTION = 128;
/** A connection that is silent so long is asked for a sign of life; one that gives none is closed. */
const KEEPALIVE_TIME_MS = 60_000;
const KEEPALIVE_TIMEOUT_MS = 20_000;

const HEALTH_SERVICE = "grpc.health.v1.Health";
/** HealthCheckResponse { status: SERVING (1) or NOT_SERVING (2) } */
const SERVING = Buffer.from([0x08, 0x01]);
const NOT_SERVING = Buffer.from([0x08, 0x02]);
const NO_BYTES = Buffer.alloc(0);

/**
 * How a stream ended: "completed" when all that arrived was read, whether the client was done or gone (grpc-js does not tell);
 * "broken_off" when not: a message beyond the limit, our own stop, a reset in the middle.
 */
export type StreamEnd = "completed" | "broken_off";

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
  readonly log: Log;
}

export class GrpcServer {
  private readonly server: grpc.Server;
  private readonly options: GrpcOptions;
  private readonly faults: LogLimit;
  private readonly services = new Set([""]);
  private isServing = false;

  constructor(options: GrpcOptions) {
    this.options = options;
    this.faults = new LogLimit(options.log);
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
   * A stream is read no faster than its reader takes messages: HTTP/2 flow control holds the client back.
   */
  addClientStream(service: string, method: string, open: () => StreamReader | null): void {
    this.services.add(service);
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
      let how: StreamEnd = "broken_off";
      call.on("data", (bytes: Buffer) => {
        try {
          reader.message(bytes);
        } catch (error: unknown) {
          this.faults.error("reader", { err: error }, "reader of a stream failed on a message");
        }
      });
      call.on("end", () => {
        how = "completed";
        respond(null, NO_BYTES);
      });
      call.on("error", (error: Error) => this.faults.warn("stream", { err: error }, "stream failed"));
      call.on("close", () => reader.end(how));
    };
  }

  private addHealthService(): void {
    const check: grpc.handleUnaryCall<Buffer, Buffer> = (call, respond) => {
      // HealthCheckRequest { string service = 1 }: tag and length are one byte each for any name that is known.
      const service = call.request.toString("utf8", 2);
      if (this.services.has(service)) respond(null, this.isServing ? SERVING : NOT_SERVING);
      else respond({ code: grpc.status.NOT_FOUND, details: "no such service" });
    };
    const definition = { ...rawMethod(HEALTH_SERVICE, "Check"), requestStream: false, responseStream: false };
    this.server.addService({ Check: definition }, { Check: check });
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
