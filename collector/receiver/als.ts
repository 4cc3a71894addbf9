// Envoy's access-log service: StreamAccessLogs, v3 and its v2 alias. Stream -> messages -> entries -> sink; every loss counted.
// https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/accesslog/v3/als.proto

import type { Log } from "../log.ts";
import { type AlsMessage, decodeAlsMessage } from "../proto/als.ts";
import {
  AlsDecoder,
  type ConnectionSink,
  type LabelsOrigin,
  type RecordSink,
  type Sender,
} from "../record/from-als.ts";
import type { DropReason, SelfMetrics } from "../self.ts";
import type { GrpcServer, StreamEnd, StreamReader } from "./grpc.ts";
import { LogLimit } from "./log-limit.ts";

const SERVICES = ["envoy.service.accesslog.v3.AccessLogService", "envoy.service.accesslog.v2.AccessLogService"];
const METHOD = "StreamAccessLogs";

/** Reasons that are as they should be: counted, but no word in the log. */
const SILENT: readonly DropReason[] = ["not_final", "no_request"];

export interface AlsOptions {
  /** Most streams open at once: each may hold a message that has not come to its end. Default: as many as come. */
  readonly maxStreams?: number;
  /** Takes requests. */
  readonly sink: RecordSink;
  /** Takes TCP connections. */
  readonly connectionSink: ConnectionSink;
  /** Somebody who reads along. */
  readonly tap?: MessageTap;
  readonly self: SelfMetrics;
  readonly log: Log;
}

interface MessageTap {
  /** Asked once per message: the whole cost of a tap that nobody uses. */
  readonly isActive: boolean;
  /** The bytes are the receiver's; what of them is needed later must be copied. */
  take(bytes: Buffer, message: AlsMessage, sender: Sender): void;
}

/** Decodes the entry there and hands on what it says. */
type DecodeEntry = (start: number, stop: number) => LabelsOrigin | DropReason;

export class AlsReceiver {
  private readonly options: AlsOptions;
  private readonly drops: LogLimit;
  private readonly decoder = new AlsDecoder();
  private streams = 0;

  constructor(options: AlsOptions) {
    this.options = options;
    this.drops = new LogLimit(options.log);
  }

  register(server: GrpcServer): void {
    for (const service of SERVICES) server.addClientStream(service, METHOD, () => this.open());
  }

  /** The reader of one more stream; null when there are too many. */
  open(): StreamReader | null {
    const { maxStreams = Number.POSITIVE_INFINITY, self } = this.options;
    if (this.streams >= maxStreams) {
      self.accessLogStreamsEnded.inc({ how: "refused" });
      this.drops.warn("refused", { limit: maxStreams }, "access-log stream refused");
      return null;
    }
    this.streams++;
    return new AlsStream(this.options, this.decoder, this.drops, () => this.streams--);
  }
}

class AlsStream implements StreamReader {
  /** Named by the stream's first message, or by a later one that replaces it. */
  private sender: Sender | null = null;

  constructor(
    private readonly options: AlsOptions,
    private readonly decoder: AlsDecoder,
    private readonly drops: LogLimit,
    private readonly onEnd: () => void,
  ) {
    options.self.accessLogStreams.inc();
  }

  end(how: StreamEnd): void {
    this.onEnd();
    this.options.self.accessLogStreams.dec();
    this.options.self.accessLogStreamsEnded.inc({ how });
    if (how === "broken_off") this.drops.warn(how, { proxy: this.sender?.id ?? "" }, "access-log stream broken off");
  }

  message(bytes: Buffer): void {
    this.options.self.accessLogMessages.inc();
    const message = decodeAlsMessage(bytes);
    if (message === null) {
      this.drop("message_malformed", 1);
      return;
    }
    const { identifier, httpEntries, tcpEntries } = message;
    if (identifier !== null) this.sender = this.decoder.identify(identifier);
    const { sender } = this;
    if (sender === null || sender.id === "") {
      this.drop("node_missing", (httpEntries.length + tcpEntries.length) / 2);
      return;
    }
    const { decoder, options } = this;
    this.takeEntries(httpEntries, (start, stop) => decoder.decode(bytes, start, stop, sender, options.sink));
    this.takeEntries(tcpEntries, (start, stop) =>
      decoder.decodeTcp(bytes, start, stop, sender, options.connectionSink),
    );
    if (options.tap?.isActive) options.tap.take(bytes, message, sender); // last: all is counted, whatever becomes of it
  }

  private takeEntries(spans: readonly number[], decode: DecodeEntry): void {
    const { accessLogEntries } = this.options.self;
    const taken = { observation: 0, derived: 0 };
    for (let i = 0; i + 1 < spans.length; i += 2) {
      const outcome = this.takeEntry(spans[i] as number, spans[i + 1] as number, decode);
      if (outcome === "observation" || outcome === "derived") taken[outcome]++;
      else this.drop(outcome, 1);
    }
    // Once per message: for prom-client one increment is as much work as one entry is for us.
    if (taken.observation > 0) accessLogEntries.inc({ labels: "observation" }, taken.observation);
    if (taken.derived > 0) accessLogEntries.inc({ labels: "derived" }, taken.derived);
  }

  private takeEntry(start: number, stop: number, decode: DecodeEntry): LabelsOrigin | DropReason {
    try {
      return decode(start, stop);
    } catch (error: unknown) {
      this.drops.error(
        "exception",
        { err: error, proxy: this.sender?.id ?? "" },
        "access-log entry could not be taken in",
      );
      return "internal";
    }
  }

  private drop(reason: DropReason, count: number): void {
    if (count === 0) return;
    this.options.self.accessLogDropped.inc({ reason }, count);
    if (SILENT.includes(reason)) return;
    this.drops.warn(reason, { reason, count, proxy: this.sender?.id ?? "" }, "access-log entries dropped");
  }
}
