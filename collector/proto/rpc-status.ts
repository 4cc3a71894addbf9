// google.rpc.Status: why a call failed, and when to try again; the body of OTLP/HTTP's faults, and `grpc-status-details-bin` of gRPC's.
// https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto
//
//   Status { int32 code 1, string message 2, Any details 3 }
//   Any { string type_url 1, bytes value 2 }
//   RetryInfo { Duration retry_delay 1 { int64 seconds 1 } }

import { bytesTag, varintTag } from "./wire.ts";
import { WireWriter } from "./wire-writer.ts";

const CODE = varintTag(1);
const MESSAGE = bytesTag(2);
const DETAILS = bytesTag(3);
const TYPE_URL = bytesTag(1);
const VALUE = bytesTag(2);
const RETRY_DELAY = bytesTag(1);
const SECONDS = varintTag(1);
const RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo";

/** `code`: one of gRPC's. `retryAfterSeconds`: 0 where it is not said that to try again is of use. */
export function encodeStatus(code: number, message: string, retryAfterSeconds = 0): Buffer {
  const writer = new WireWriter();
  writer.varint(CODE, code);
  writer.text(MESSAGE, message);
  if (retryAfterSeconds > 0) {
    writer.begin(DETAILS);
    writer.text(TYPE_URL, RETRY_INFO);
    writer.begin(VALUE);
    writer.begin(RETRY_DELAY);
    writer.varint(SECONDS, retryAfterSeconds);
    writer.end();
    writer.end();
    writer.end();
  }
  return writer.finish();
}
