// opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest: records of access logs, with what sent them.
// https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/logs/v1/logs.proto
//
//   ExportLogsServiceRequest { ResourceLogs 1 { Resource 1, ScopeLogs 2 { LogRecord 2 ... } ... } ... }
//   LogRecord { fixed64 time_unix_nano 1, AnyValue body 5, KeyValue attributes 6 ... }

import { type Attributes, readKeyValue, readResource } from "./otlp-common.ts";
import { bytesTag, WireReader } from "./wire.ts";

const RESOURCE_LOGS = bytesTag(1);
const RESOURCE = bytesTag(1);
const SCOPE_LOGS = bytesTag(2);
const LOG_RECORD = bytesTag(2);
const TIME = 1 * 8 + 1;
const ATTRIBUTES = bytesTag(6);

/** Bounds on what one request makes us do. A record of Envoy's is longer than 64 bytes: 4 MiB hold fewer than these. */
export const MAX_RECORDS = 65_536;
export const MAX_RESOURCES = 4096;

export interface LogRecord {
  /** Unix time; 0n when it does not say. Of Envoy's access logs: when the request began. */
  timeNs: bigint;
  readonly attributes: Attributes;
}

/** The records of one resource. */
export interface ResourceLogs {
  readonly resource: Attributes;
  readonly records: LogRecord[];
  /** Records beside these that cannot be read. */
  malformed: number;
}

const request = new WireReader();
const resourceLogs = new WireReader();
const scopeLogs = new WireReader();
const logRecord = new WireReader();

/**
 * Null when the request is malformed outside of its records, or beyond a bound: then none of it is taken, so none is counted twice when
 * its sender tries again. A resource that stands after its records is theirs all the same.
 */
export function decodeLogs(bytes: Buffer): ResourceLogs[] | null {
  const all: ResourceLogs[] = [];
  let records = 0;
  request.open(bytes, 0, bytes.length);
  while (request.next()) {
    if (request.tag !== RESOURCE_LOGS) continue;
    const logs = readResourceLogs(bytes, request.start, request.stop, MAX_RECORDS - records);
    if (logs === null || all.length >= MAX_RESOURCES) return null;
    records += logs.records.length + logs.malformed;
    all.push(logs);
  }
  return request.isMalformed ? null : all;
}

function readResourceLogs(bytes: Buffer, start: number, stop: number, room: number): ResourceLogs | null {
  const logs: ResourceLogs = { resource: new Map(), records: [], malformed: 0 };
  resourceLogs.open(bytes, start, stop);
  while (resourceLogs.next()) {
    const { tag } = resourceLogs;
    if (tag === RESOURCE && !readResource(bytes, resourceLogs.start, resourceLogs.stop, logs.resource)) return null;
    if (tag !== SCOPE_LOGS) continue;
    scopeLogs.open(bytes, resourceLogs.start, resourceLogs.stop);
    while (scopeLogs.next()) {
      if (scopeLogs.tag !== LOG_RECORD) continue;
      if (logs.records.length + logs.malformed >= room) return null;
      const record = readLogRecord(bytes, scopeLogs.start, scopeLogs.stop);
      if (record === null) logs.malformed++;
      else logs.records.push(record);
    }
    if (scopeLogs.isMalformed) return null;
  }
  return resourceLogs.isMalformed ? null : logs;
}

function readLogRecord(bytes: Buffer, start: number, stop: number): LogRecord | null {
  const record: LogRecord = { timeNs: 0n, attributes: new Map() };
  logRecord.open(bytes, start, stop);
  while (logRecord.next()) {
    if (logRecord.tag === TIME) record.timeNs = bytes.readBigUInt64LE(logRecord.start);
    else if (logRecord.tag !== ATTRIBUTES) continue;
    else if (!readKeyValue(bytes, logRecord.start, logRecord.stop, record.attributes)) return null;
  }
  return logRecord.isMalformed ? null : record;
}
