// OTLP's services: what each signal's requests are read by and answered with, on whichever port and in whichever encoding they come.
// https://github.com/open-telemetry/opentelemetry-proto/blob/main/docs/specification.md

import type { AiMetrics } from "../ai/metrics.ts";
import type { Log } from "../log.ts";
import { decodeLogsJson } from "../proto/otlp-json.ts";
import { decodeLogs } from "../proto/otlp-logs.ts";
import { decodeMetrics } from "../proto/otlp-metrics.ts";
import { decodeMetricsJson } from "../proto/otlp-metrics-json.ts";
import type { StreamReader } from "../receiver/client-stream.ts";
import type { GrpcServer } from "../receiver/grpc.ts";
import { LogLimit } from "../receiver/log-limit.ts";
import type { OtlpRefusal, OtlpRejection, OtlpSignal, SelfMetrics } from "../self.ts";
import { type OtlpLogCounts, OtlpLogs, type Rejections } from "./logs.ts";
import { encodeTaken, type RejectedName, type Taken } from "./responses.ts";
import { OtlpStreams } from "./streams.ts";

/** Of these the sender need not know: it did nothing wrong, and nothing is lost. */
const NO_FAULTS: readonly OtlpRejection[] = ["repeated", "late"];

/** How a request is written. */
export type Encoding = "protobuf" | "json";

type Transport = "grpc" | "http";

export interface Signal {
  readonly name: OtlpSignal;
  readonly service: string;
  /** Of OTLP/HTTP. */
  readonly path: string;
  readonly rejectedName: RejectedName;
  /** Takes one request; null when it cannot be read, and nothing of it was taken. */
  take(bytes: Buffer, encoding: Encoding, transport: Transport): Taken | null;
  /** Counts one of which nothing was taken, and which its sender was told to send again. */
  refused(transport: Transport, reason: OtlpRefusal): void;
}

export interface OtlpOptions {
  /** Takes one more stream of ALS messages; null when there are too many. */
  readonly open: () => StreamReader | null;
  /** Takes the metrics of AI gateways. */
  readonly ai: AiMetrics;
  readonly self: SelfMetrics;
  readonly log: Log;
}

export class OtlpReceiver {
  readonly signals: readonly Signal[];
  private readonly streams: OtlpStreams;
  private readonly logs: OtlpLogs;
  private readonly faults: LogLimit;

  constructor(private readonly options: OtlpOptions) {
    this.faults = new LogLimit(options.log);
    this.streams = new OtlpStreams(options.open);
    this.logs = new OtlpLogs(this.streams);
    this.signals = [this.logsSignal(), this.metricsSignal()];
  }

  get logCounts(): OtlpLogCounts {
    return this.logs.counts;
  }

  start(): void {
    this.streams.start();
  }

  stop(): void {
    this.streams.stop();
  }

  /** Serves all signals on a gRPC port. */
  register(grpc: GrpcServer): void {
    for (const signal of this.signals) {
      const take = (request: Buffer) => {
        const taken = signal.take(request, "protobuf", "grpc");
        return taken === null
          ? { refusal: "malformed" as const, details: `expected ${signal.service}'s request` }
          : encodeTaken(taken);
      };
      grpc.addUnary(signal.service, "Export", take, () => signal.refused("grpc", "no_room"));
    }
  }

  private logsSignal(): Signal {
    return {
      name: "logs",
      service: "opentelemetry.proto.collector.logs.v1.LogsService",
      path: "/v1/logs",
      rejectedName: "rejectedLogRecords",
      take: (bytes, encoding, transport) => {
        const read = encoding === "json" ? decodeLogsJson(bytes.toString("utf8")) : decodeLogs(bytes);
        return this.told("logs", transport, read === null ? null : this.logs.take(read));
      },
      refused: (transport, reason) => this.refused("logs", transport, reason),
    };
  }

  private metricsSignal(): Signal {
    const { ai, self } = this.options;
    return {
      name: "metrics",
      service: "opentelemetry.proto.collector.metrics.v1.MetricsService",
      path: "/v1/metrics",
      rejectedName: "rejectedDataPoints",
      take: (bytes, encoding, transport) => {
        const read = encoding === "json" ? decodeMetricsJson(bytes.toString("utf8")) : decodeMetrics(bytes);
        const rejections = read === null ? null : ai.take(read);
        self.aiSeries.set(ai.holdings.series);
        self.aiOverflowed.set(ai.holdings.overflowed);
        return this.told("metrics", transport, rejections);
      },
      refused: (transport, reason) => this.refused("metrics", transport, reason),
    };
  }

  /** Null when the request could not be read. */
  private told(signal: OtlpSignal, transport: Transport, rejections: Rejections | null): Taken | null {
    const { self } = this.options;
    if (rejections === null) {
      self.otlpRequests.inc({ signal, transport, result: "malformed" });
      this.faults.warn("malformed", { signal, transport }, "OTLP request cannot be read");
      return null;
    }
    for (const [reason, count] of rejections) self.otlpRejected.inc({ signal, reason }, count);
    const faults = [...rejections].filter(([reason]) => !NO_FAULTS.includes(reason));
    const rejected = faults.reduce((sum, [, count]) => sum + count, 0);
    const message = faults.map(([reason, count]) => `${count} ${reason}`).join(", ");
    self.otlpRequests.inc({ signal, transport, result: rejected > 0 ? "partial" : "ok" });
    if (rejected > 0) this.faults.warn("partial", { signal, transport, rejected: message }, "OTLP records rejected");
    return { rejected, message };
  }

  private refused(signal: OtlpSignal, transport: Transport, reason: OtlpRefusal): void {
    this.options.self.otlpRefused.inc({ signal, transport, reason });
    this.faults.warn("refused", { signal, transport, reason }, "OTLP request is to be sent again");
  }
}
