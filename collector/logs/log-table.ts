// The table of log records: its columns, how a record becomes a row, and a row a record again.

import { LOG_REASONS } from "../self.ts";
import type { Row, RowWriter } from "./duckdb.ts";
import type { Numbered } from "./log-queue.ts";
import type { LogParty } from "./record.ts";
import type { StoredRecord } from "./store.ts";

/** A change of columns is a new table: files that lack it count as unreadable, and go with their age. */
export const TABLE = "logs_v1";

/** The two long texts are alike from record to record: zstd makes a tenth of what DuckDB would choose for them. */
export const CREATE_COLUMNS = `(
  id BIGINT, time TIMESTAMP_MS, arrival TIMESTAMP_MS, reason VARCHAR, proxy VARCHAR, role VARCHAR, detect_point VARCHAR,
  source_service VARCHAR, source_namespace VARCHAR, source_workload VARCHAR, source_instance VARCHAR,
  destination_service VARCHAR, destination_namespace VARCHAR, destination_workload VARCHAR, destination_instance VARCHAR,
  endpoint VARCHAR, method VARCHAR, path VARCHAR, protocol VARCHAR, code BIGINT, grpc_status BIGINT, flags VARCHAR[],
  latency_ms BIGINT, success BOOLEAN, request_bytes BIGINT, response_bytes BIGINT, request_id VARCHAR, trace_id VARCHAR,
  tags VARCHAR[], line VARCHAR USING COMPRESSION zstd, body VARCHAR USING COMPRESSION zstd
)`;

/** Of a row as `readRow` wants it. */
export const SELECT_COLUMNS = "*, epoch_ms(time) AS time_ms, epoch_ms(arrival) AS arrival_ms";

/** In the order of the columns. */
export function writeRow(to: RowWriter, { id, record }: Numbered): void {
  to.integer(id);
  to.time(record.timeMs);
  to.time(record.arrivalMs);
  to.text(record.reason);
  to.text(record.proxy);
  to.text(record.role);
  to.text(record.detectPoint);
  writeParty(to, record.source);
  writeParty(to, record.destination);
  to.text(record.endpoint);
  to.text(record.method);
  to.text(record.path);
  to.text(record.protocol);
  to.integer(record.code);
  to.integer(record.grpcStatus);
  to.texts(record.flags);
  to.integer(record.latencyMs);
  to.flag(record.success);
  to.integer(record.requestBytes);
  to.integer(record.responseBytes);
  to.text(record.requestId);
  to.text(record.traceId);
  to.texts(record.tags);
  to.text(record.text);
  to.text(record.body);
}

function writeParty(to: RowWriter, { service, namespace, workload, instance }: LogParty): void {
  to.text(service);
  to.text(namespace);
  to.text(workload);
  to.text(instance);
}

export function readRow(row: Row): StoredRecord {
  const text = (name: string) => row[name] as string | null;
  const number = (name: string) => (row[name] === null ? null : Number(row[name]));
  const party = (end: string): LogParty => ({
    service: text(`${end}_service`),
    namespace: text(`${end}_namespace`),
    workload: text(`${end}_workload`),
    instance: text(`${end}_instance`),
  });
  return {
    id: row["id"] as bigint,
    timeMs: Number(row["time_ms"]),
    arrivalMs: Number(row["arrival_ms"]),
    reason: LOG_REASONS.find((reason) => reason === row["reason"]) ?? "sample",
    proxy: text("proxy") ?? "",
    role: text("role") ?? "",
    detectPoint: text("detect_point") ?? "",
    source: party("source"),
    destination: party("destination"),
    endpoint: text("endpoint"),
    method: text("method"),
    path: text("path"),
    protocol: text("protocol") ?? "",
    code: number("code"),
    grpcStatus: number("grpc_status"),
    flags: row["flags"] as string[],
    latencyMs: number("latency_ms"),
    success: row["success"] === true,
    requestBytes: number("request_bytes"),
    responseBytes: number("response_bytes"),
    requestId: text("request_id"),
    traceId: text("trace_id"),
    tags: row["tags"] as string[],
    text: text("line") ?? "",
    body: text("body") ?? "",
  };
}
