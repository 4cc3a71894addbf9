// The receivers of metrics that are configured, each with an exporter of its own.

import { patternOf } from "../analysis/pattern.ts";
import { CollectorError } from "../error.ts";
import type { Log } from "../log.ts";
import type { SelfMetrics } from "../self.ts";
import type { Encoder } from "./batch.ts";
import { Collection, type CollectionOptions } from "./collection.ts";
import type { Transport } from "./delivery.ts";
import { DiskQueue } from "./disk-queue.ts";
import { Exporter } from "./exporter.ts";
import { GrpcTransport } from "./grpc-transport.ts";
import { HttpTransport } from "./http-transport.ts";
import { isRetriedByOtlp, readOtlpAnswer } from "./otlp-answer.ts";
import { OtlpRequestEncoder } from "./otlp-request.ts";
import { MemoryQueue, type OnDropped, type Queue } from "./queue.ts";
import type { OtlpExportSettings, ReceiverSettings, RemoteWriteSettings } from "./settings.ts";
import { Told } from "./told.ts";
import { Turns } from "./turns.ts";
import { REMOTE_WRITE_HEADERS, WriteRequestEncoder } from "./write-request.ts";

export interface ReceiversOptions extends Omit<CollectionOptions, "isWanted"> {
  readonly remoteWrite: readonly RemoteWriteSettings[];
  readonly otlpExport: readonly OtlpExportSettings[];
  /** Whether counts of a former process were restored. */
  readonly isContinued: boolean;
  readonly self: SelfMetrics;
  readonly version: string;
  readonly log: Log;
}

export class Receivers {
  private constructor(private readonly exporters: readonly Exporter[]) {}

  /** Rejects with CollectorError `unavailable`, with nothing left open, when a queue's folder cannot be used. */
  static async open(options: ReceiversOptions): Promise<Receivers> {
    // Counts that go on from a former process began at a time that is not known any more. Ours would make all of them new.
    const startMs = options.isContinued ? 0 : Date.now();
    const common = { ...options, startMs, turns: new Turns() };
    const opened = await Promise.allSettled([
      ...options.remoteWrite.map((settings) => openExporter(settings, remoteWrite(settings, options), common)),
      ...options.otlpExport.map((settings) => openExporter(settings, otlp(settings, options), common)),
    ]);
    const exporters = opened.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
    const failed = opened.find((each) => each.status === "rejected");
    if (failed) {
      await Promise.all(exporters.map((exporter) => exporter.stop(0)));
      throw CollectorError.from(failed.reason);
    }
    return new Receivers(exporters);
  }

  start(): void {
    for (const exporter of this.exporters) exporter.start();
  }

  /** Collects once more, and sends what waits, for so long at most. */
  async stop(graceMs: number): Promise<void> {
    await Promise.all(this.exporters.map((exporter) => exporter.stop(graceMs)));
  }
}

/** What differs from protocol to protocol. */
interface Protocol {
  /** Of queued batches. */
  readonly format: string;
  readonly encoder: Encoder;
  readonly transport: Transport;
}

function remoteWrite(settings: RemoteWriteSettings, { version }: ReceiversOptions): Protocol {
  const { externalLabels, maxSamples } = settings;
  return {
    format: "remote-write",
    encoder: new WriteRequestEncoder({ externalLabels, maxSamples }),
    transport: new HttpTransport({
      ...settings,
      headers: { ...REMOTE_WRITE_HEADERS, "user-agent": `meshtally/${version}` },
      isRetried: (status) => status === 429 || status >= 500,
    }),
  };
}

function otlp(settings: OtlpExportSettings, { version }: ReceiversOptions): Protocol {
  const { resourceAttributes, maxSamples } = settings;
  const encoder = new OtlpRequestEncoder({ resourceAttributes, version, maxSamples });
  const userAgent = `meshtally/${version}`;
  const headers = { "content-type": "application/x-protobuf", "content-encoding": "gzip", "user-agent": userAgent };
  const transport =
    settings.protocol === "grpc"
      ? new GrpcTransport({ ...settings, userAgent })
      : new HttpTransport({ ...settings, headers, isRetried: isRetriedByOtlp, readAnswer: readOtlpAnswer });
  return { format: "otlp", encoder, transport };
}

async function openExporter(
  settings: ReceiverSettings,
  { format, encoder, transport }: Protocol,
  common: ReceiversOptions & { readonly startMs: number; readonly turns: Turns },
): Promise<Exporter> {
  const { readings, destinationRule, buckets, hasPods, scrapeStatuses, renderSelf, startMs, turns, self, log } = common;
  const { name, metrics, intervalMs } = settings;
  const counts = self.exportTo(name);
  const ownLog = withReceiver(log, name);
  const queue = await openQueue(settings, format, counts.dropped, ownLog);
  const pattern = patternOf(metrics);
  const collection = new Collection({
    readings,
    destinationRule,
    hasPods,
    ...(buckets && { buckets }),
    scrapeStatuses,
    renderSelf,
    isWanted: (family) => pattern.test(family),
  });
  const points = (nowMs: number) => collection.points(nowMs);
  const told = new Told(startMs);
  return new Exporter({ intervalMs, points, told, encoder, queue, transport, counts, turns, log: ownLog });
}

async function openQueue({ queue }: ReceiverSettings, format: string, onDropped: OnDropped, log: Log): Promise<Queue> {
  const { folder, maxBytes } = queue;
  if (folder === null) return new MemoryQueue(maxBytes, onDropped);
  return DiskQueue.open({ folder, maxBytes, format, onDropped, log });
}

/** Every line says of whom. */
function withReceiver(log: Log, receiver: string): Log {
  return {
    info: (fields, message) => log.info({ receiver, ...fields }, message),
    warn: (fields, message) => log.warn({ receiver, ...fields }, message),
    error: (fields, message) => log.error({ receiver, ...fields }, message),
  };
}
