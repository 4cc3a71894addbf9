// Delivery: how one try to send a batch ended, and what follows from it.

import type { ExportDropReason, ExportRetryReason } from "../self.ts";

export type Delivery =
  /** Taken; of OTLP, but for so many points. */
  | { readonly kind: "delivered"; readonly rejected: number; readonly detail: string }
  /** To be tried again, after `afterMs` at least. */
  | { readonly kind: "retry"; readonly reason: ExportRetryReason; readonly afterMs: number; readonly detail: string }
  /** Never to be taken. */
  | { readonly kind: "refused"; readonly reason: ExportDropReason; readonly detail: string };

/** Sends batches to one receiver, one at a time. */
export interface Transport {
  /** Never rejects. What it tells holds no secret. */
  send(body: Buffer, signal: AbortSignal): Promise<Delivery>;
  close(): void;
}

export const DELIVERED: Delivery = { kind: "delivered", rejected: 0, detail: "" };

/** A receiver may ask for a pause, but not for one without end. */
export const MAX_PAUSE_MS = 10 * 60_000;

/** Milliseconds of a Retry-After, `120` or `Fri, 31 Dec 1999 23:59:59 GMT`; 0 for none and for any other text. */
function parseRetryAfter(text: string | undefined, nowMs: number): number {
  if (text === undefined) return 0;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - nowMs;
  return ms > 0 ? Math.min(ms, MAX_PAUSE_MS) : 0;
}

/** Statuses that no retry changes, with their own reasons. */
const REFUSALS: Readonly<Record<number, ExportDropReason>> = {
  400: "bad_request",
  401: "unauthorized",
  403: "unauthorized",
  404: "not_found",
  405: "not_found",
  413: "too_large",
};

export interface HttpAnswer {
  readonly status: number;
  readonly retryAfter: string | undefined;
  /** Its beginning. */
  readonly body: Buffer;
}

/**
 * What an answer that is no 2xx means. 429 and 5xx come right again, as `isRetried` has it of the protocol; another 4xx does not. A redirect
 * is not followed, since it would lead credentials elsewhere: it waits until the configuration names the right place.
 */
export function deliveryOf(
  { status, retryAfter, body }: HttpAnswer,
  isRetried: (status: number) => boolean,
  nowMs: number,
): Delivery {
  const text = body.subarray(0, 200).toString("utf8").trim();
  const detail = `status ${status}${text === "" ? "" : `: ${text}`}`;
  if (isRetried(status)) {
    const reason = status === 429 ? "throttled" : "server_error";
    return { kind: "retry", reason, afterMs: parseRetryAfter(retryAfter, nowMs), detail };
  }
  if (status >= 400) return { kind: "refused", reason: REFUSALS[status] ?? "refused", detail };
  return { kind: "retry", reason: "redirected", afterMs: 0, detail };
}
