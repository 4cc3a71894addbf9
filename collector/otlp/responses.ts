// What a request of OTLP is answered with: ExportLogsServiceResponse and its like. Where nothing was taken: proto/rpc-status.ts.
// https://opentelemetry.io/docs/specs/otlp/
//
//   ExportLogsServiceResponse { ExportLogsPartialSuccess partial_success 1 { int64 rejected_log_records 1, string error_message 2 } }

import { bytesTag, varintTag } from "../proto/wire.ts";
import { WireWriter } from "../proto/wire-writer.ts";

const PARTIAL_SUCCESS = bytesTag(1);
const REJECTED = varintTag(1);
const ERROR_MESSAGE = bytesTag(2);

/** What became of a request: OTLP's partial success. */
export interface Taken {
  readonly rejected: number;
  /** Why, for the sender's log; "" when nothing was rejected. */
  readonly message: string;
}

/** The name of the number of what was rejected, which differs from signal to signal in JSON alone. */
export type RejectedName = "rejectedLogRecords" | "rejectedDataPoints";

/** Empty when all was taken. */
export function encodeTaken({ rejected, message }: Taken): Buffer {
  const writer = new WireWriter();
  if (rejected > 0) {
    writer.begin(PARTIAL_SUCCESS);
    writer.varint(REJECTED, rejected);
    writer.text(ERROR_MESSAGE, message);
    writer.end();
  }
  return writer.finish();
}

export function takenJson({ rejected, message }: Taken, name: RejectedName): object {
  return rejected > 0 ? { partialSuccess: { [name]: String(rejected), errorMessage: message } } : {};
}
