// CollectorError: the one error class of the collector. What happens per record is no error but a counted reason (self.ts).

export type ErrorCode =
  /** The configuration or the command line; the message lists every fault. */
  | "config_invalid"
  /** A peer sent what cannot be read. */
  | "message_malformed"
  /** A bound was reached: size, count or rate. */
  | "limit_exceeded"
  /** Something that we depend on does not answer, or an address cannot be bound. */
  | "unavailable"
  /** A defect of ours. */
  | "internal";

export class CollectorError extends Error {
  override readonly name = "CollectorError";

  constructor(
    readonly code: ErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }

  /** The error itself if it is one of ours; anything else becomes `internal` with its message, kept as the cause. */
  static from(error: unknown): CollectorError {
    if (error instanceof CollectorError) return error;
    return new CollectorError("internal", error instanceof Error ? error.message : String(error), { cause: error });
  }
}

/** Text of a value for a message: JSON, cut to 100 characters. */
export function quote(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= 100 ? text : `${text.slice(0, 97)}...`;
}
