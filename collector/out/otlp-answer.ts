// What an OTLP receiver answers: ExportMetricsServiceResponse and, when it refuses by gRPC, google.rpc.Status with a RetryInfo.
// https://opentelemetry.io/docs/specs/otlp/

import { bytesTag, varintTag, WireReader } from "../proto/wire.ts";
import { DELIVERED, type Delivery } from "./delivery.ts";

const RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo";

/** OTLP's own list: not every 5xx. */
export function isRetriedByOtlp(status: number): boolean {
  return [429, 502, 503, 504].includes(status);
}

/** partial_success = 1 { rejected_data_points = 1; error_message = 2 }; what cannot be read is no rejection. */
export function readOtlpAnswer(body: Buffer): Delivery {
  const outer = new WireReader();
  const inner = new WireReader();
  let rejected = 0;
  let detail = "";
  outer.open(body, 0, body.length);
  while (outer.next()) {
    if (outer.tag !== bytesTag(1)) continue;
    inner.open(body, outer.start, outer.stop);
    while (inner.next()) {
      if (inner.tag === varintTag(1)) rejected = inner.int64();
      else if (inner.tag === bytesTag(2)) detail = body.toString("utf8", inner.start, inner.stop).slice(0, 200);
    }
  }
  if (outer.isMalformed || inner.isMalformed || !(rejected >= 0)) return DELIVERED;
  return { kind: "delivered", rejected, detail };
}

/** Milliseconds of the RetryInfo in `grpc-status-details-bin`; null without one. */
export function readRetryDelay(status: Buffer | undefined): number | null {
  if (status === undefined) return null;
  for (const any of submessages(status, 3)) {
    const [type] = submessages(any, 1);
    if (type?.toString() !== RETRY_INFO) continue;
    for (const info of submessages(any, 2)) {
      for (const duration of submessages(info, 1)) {
        const reader = new WireReader();
        let ms = 0;
        reader.open(duration, 0, duration.length);
        while (reader.next()) {
          if (reader.tag === varintTag(1)) ms += reader.int64() * 1000;
          else if (reader.tag === varintTag(2)) ms += reader.low / 1e6;
        }
        return reader.isMalformed ? null : Math.max(0, ms);
      }
    }
  }
  return null;
}

function submessages(bytes: Buffer, field: number): Buffer[] {
  const found: Buffer[] = [];
  const reader = new WireReader();
  reader.open(bytes, 0, bytes.length);
  while (reader.next()) if (reader.tag === bytesTag(field)) found.push(bytes.subarray(reader.start, reader.stop));
  return found;
}
