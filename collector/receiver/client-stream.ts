// One client stream, read from HTTP/2 itself: grpc-js reads no further once it has sent a status, nor what arrived together with a
// client's reset, and an Envoy whose stream is answered resets it right behind its last entries.

import type { ServerHttp2Stream } from "node:http2";
import { Connection, WINDOW_BYTES } from "./connection.ts";
import { type FrameFault, FrameReader } from "./frames.ts";
import type { LogLimit } from "./log-limit.ts";

/** Streams reach their age so much earlier or later than the configuration says, so that they do not all begin anew together. */
const AGE_JITTER = 0.1;
/** A stream of that age is watched for so long before it is answered, and again until it comes as fast as its client sends. */
const CALM_MS = 20;

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

/** What a stream is answered with. */
export interface ClientCall {
  readonly stream: ServerHttp2Stream;
  /** `grpc-encoding` of what comes. */
  readonly encoding: string;
  /** An empty message and OK. What still comes can be read. */
  answer(): void;
  refuse(fault: FrameFault): void;
}

interface ClientStreamOptions {
  readonly maxMessageBytes: number;
  /** 0: none. */
  readonly maxAgeMs: number;
  readonly isPaused: boolean;
  readonly faults: LogLimit;
  /** Called once, after the reader's end. */
  readonly onEnd: (stream: ClientStream) => void;
}

export class ClientStream {
  private readonly connection: Connection;
  private readonly frames: FrameReader;
  private ageTimer: NodeJS.Timeout | undefined;
  private isPaused: boolean;
  /** Its age was reached while it was paused. */
  private isOverdue = false;
  private isAged = false;
  private hasEnded = false;
  private isFaulty = false;
  private isClosed = false;
  /** What came out of the stream while it was paused: it gives all it has when it is closed. */
  private readonly rest: Buffer[] = [];

  constructor(
    private readonly call: ClientCall,
    private readonly reader: StreamReader,
    private readonly options: ClientStreamOptions,
  ) {
    const { stream, encoding } = call;
    const { maxMessageBytes, maxAgeMs, faults } = options;
    this.isPaused = options.isPaused;
    this.connection = Connection.of(stream, this.isPaused);
    this.frames = new FrameReader(maxMessageBytes, encoding, (bytes) => this.message(bytes));
    if (maxAgeMs > 0) {
      const ageMs = maxAgeMs * (1 + AGE_JITTER * (2 * Math.random() - 1));
      this.ageTimer = setTimeout(() => this.age(), ageMs).unref();
    }
    stream.removeAllListeners("data").removeAllListeners("end");
    stream.on("data", (chunk: Buffer) => this.read(chunk));
    stream.on("end", () => this.end());
    stream.on("error", (error: Error) => faults.warn("stream", { err: error }, "stream failed"));
    stream.on("close", () => this.close());
    if (this.isPaused) this.pause();
    else stream.resume();
  }

  /** Not a byte is read until `resume`, and it is not answered. */
  pause(): void {
    this.isPaused = true;
    this.connection.hold();
    this.call.stream.pause();
  }

  resume(): void {
    this.isPaused = false;
    this.connection.release();
    this.readRest();
    if (this.isPaused) return; // there is no room for all of it: the next resume() goes on from here
    if (this.isClosed) {
      this.finish();
      return;
    }
    this.call.stream.resume();
    if (this.isOverdue) this.age();
  }

  private readRest(): void {
    for (const chunk of this.rest.splice(0)) this.read(chunk);
  }

  private read(chunk: Buffer): void {
    if (this.isPaused) {
      this.rest.push(chunk);
      return;
    }
    this.connection.bytesRead += chunk.length;
    if (this.isFaulty) return;
    const fault = this.frames.read(chunk);
    if (fault === null) return;
    this.isFaulty = true;
    this.call.refuse(fault);
  }

  private message(bytes: Buffer): void {
    try {
      this.reader.message(bytes);
    } catch (error: unknown) {
      this.options.faults.error("reader", { err: error }, "reader of a stream failed on a message");
    }
  }

  private end(): void {
    this.hasEnded = true;
    if (!this.isFaulty && !this.isAged) this.call.answer();
  }

  /**
   * What its client holds back for want of a window is lost with the answer, as Envoy throws it away then. So it is given in a calm
   * moment only: neither were we busy, while the client could fill its window, nor is it held back, nor does it send so much that it
   * nears its window's end.
   */
  private age(): void {
    this.isOverdue = this.isPaused;
    if (this.isPaused) return; // resume() goes on from here
    const { bytesRead } = this.connection;
    const couldSend = this.connection.isOpen;
    const startedMs = performance.now();
    this.ageTimer = setTimeout(() => {
      if (this.hasEnded || this.isFaulty || this.call.stream.closed) return;
      const wasBusy = performance.now() - startedMs > 2 * CALM_MS;
      const nearsWindow = this.connection.bytesRead - bytesRead > WINDOW_BYTES / 4;
      if (wasBusy || nearsWindow || !couldSend || !this.connection.isOpen) {
        this.age();
        return;
      }
      this.isAged = true;
      this.call.answer();
    }, CALM_MS).unref();
  }

  private close(): void {
    this.isClosed = true;
    clearTimeout(this.ageTimer);
    const { stream } = this.call;
    for (let chunk = stream.read(); chunk !== null; chunk = stream.read()) this.read(chunk); // now or never
    if (!this.isPaused) this.finish();
  }

  /** While it is paused this waits, although the client is gone. */
  private finish(): void {
    this.reader.end(this.howItEnded());
    this.options.onEnd(this);
  }

  /** A client that has its answer may reset the stream instead of ending it, as Envoy does. */
  private howItEnded(): StreamEnd {
    if (this.isFaulty || !this.frames.isBetweenMessages) return "broken_off";
    if (this.isAged) return "aged";
    return this.hasEnded ? "completed" : "broken_off";
  }
}
