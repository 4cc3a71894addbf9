// Takes OTLP log records: those of Envoy's access logs become messages of ALS and go where these go; every other is rejected, counted.

import type { LogRecord, ResourceLogs } from "../proto/otlp-logs.ts";
import { WireWriter } from "../proto/wire-writer.ts";
import { Remembered } from "../record/remembered.ts";
import type { OtlpRejection } from "../self.ts";
import { ABSENT, isKnownAttribute, writeEntry } from "./access-log.ts";
import { nodeIdOf, writeIdentifier } from "./sender.ts";
import type { OtlpStreams } from "./streams.ts";

/** So many names of attributes that nobody knows are remembered, each cut to as many characters. */
const MAX_NAMES = 50;
const MAX_NAME_LENGTH = 100;

export type Rejections = ReadonlyMap<OtlpRejection, number>;

/** What came so far, for /api/v1/receivers. */
export interface OtlpLogCounts {
  /** Records that became entries; what came of those the account of their proxy says. */
  readonly accepted: number;
  readonly rejected: Readonly<Partial<Record<OtlpRejection, number>>>;
  /** Entries with an attribute that is not known: they count, and kept logs have it as a tag. The names of the first few. */
  readonly withUnknownAttributes: number;
  readonly unknownAttributes: readonly string[];
}

export class OtlpLogs {
  private readonly writer = new WireWriter();
  private accepted = 0;
  private readonly rejected: Partial<Record<OtlpRejection, number>> = {};
  private withUnknown = 0;
  private readonly unknownNames = new Set<string>();
  /** Requests whose end was taken, by stream id, start and proxy: Envoy's stream id is `x-request-id`, which all requests of a trace may have: a sender that got no answer sends again. */
  private readonly ended = new Remembered();

  constructor(private readonly streams: OtlpStreams) {}

  get counts(): OtlpLogCounts {
    const { accepted, rejected, withUnknown, unknownNames } = this;
    return {
      accepted,
      rejected: { ...rejected },
      withUnknownAttributes: withUnknown,
      unknownAttributes: [...unknownNames],
    };
  }

  /** Takes the records of one request; how many were rejected, by why. */
  take(all: readonly ResourceLogs[]): Rejections {
    const rejections = new Map<OtlpRejection, number>();
    const reject = (reason: OtlpRejection, count: number) => {
      if (count > 0) rejections.set(reason, (rejections.get(reason) ?? 0) + count);
    };
    for (const logs of all) {
      reject("record_malformed", logs.malformed);
      this.takeResource(logs, reject);
    }
    for (const [reason, count] of rejections) this.rejected[reason] = (this.rejected[reason] ?? 0) + count;
    return rejections;
  }

  private takeResource(
    { resource, records }: ResourceLogs,
    reject: (reason: OtlpRejection, count: number) => void,
  ): void {
    const { writer } = this;
    const nodeId = nodeIdOf(resource);
    if (nodeId === null) {
      reject("node_missing", records.length);
      return;
    }
    writer.reset();
    writeIdentifier(writer, nodeId, resource);
    let written = 0;
    for (const record of records) {
      const fault = this.isRepeated(nodeId, record) ? "repeated" : writeEntry(writer, record);
      if (fault !== null) {
        reject(fault, 1);
        continue;
      }
      written++;
      this.noteUnknown(record);
    }
    if (written === 0) return;
    if (!this.streams.take(nodeId, writer.finish())) reject("streams_full", written);
    else this.accepted += written;
  }

  /** A connection's entries say all again, each of them, and add nothing when they come twice. */
  private isRepeated(nodeId: string, { timeNs, attributes }: LogRecord): boolean {
    const id = attributes.get("stream_id");
    const type = attributes.get("access_log_type") ?? ABSENT;
    const isRequest = type === "DownstreamEnd" || type === ABSENT;
    if (!isRequest || typeof id !== "string" || id === "" || id === ABSENT) return false;
    return this.ended.add(`${id} ${timeNs} ${nodeId}`);
  }

  private noteUnknown({ attributes }: LogRecord): void {
    let hasUnknown = false;
    for (const name of attributes.keys()) {
      if (isKnownAttribute(name)) continue;
      hasUnknown = true;
      if (this.unknownNames.size < MAX_NAMES) this.unknownNames.add(name.slice(0, MAX_NAME_LENGTH));
    }
    if (hasUnknown) this.withUnknown++;
  }
}
