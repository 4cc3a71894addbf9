// Whether a call succeeded, on one of its sides, where no policy of its service says it (policy.ts).

import type { DetectPoint, Protocol } from "./side.ts";

/** Response flags that say nothing against an answer: a delay was injected, the rate limiter failed and let pass, it came of a cache. */
const HARMLESS: ReadonlySet<string> = new Set(["DI", "RLSE", "RFCF"]);

/** Flags of answers that the proxy gave itself, on purpose: their code says whether that is a failure. */
const TOLD_BY_CODE: ReadonlySet<string> = new Set(["NR", "FI", "RL", "UAEX", "IH", "URX", "NC", "NFCF"]);

/** From here on a code is a failure: a client's fault is none of the server's. */
const FIRST_FAILURE: Readonly<Record<DetectPoint, number>> = { server: 500, client: 400 };

export interface Outcome {
  readonly protocol: Protocol;
  /** Null when there was no answer. */
  readonly code: number | null;
  readonly grpcStatus: number | null;
  readonly flags: readonly string[];
}

/** No answer is a failure, an answer that broke off too; else the gRPC status says it, else the code. TCP has only flags. */
export function isSuccess(outcome: Outcome, detectPoint: DetectPoint): boolean {
  const { protocol, code, grpcStatus } = outcome;
  if (isBroken(outcome)) return false;
  if (protocol === "tcp") return true;
  if (code === null || code >= FIRST_FAILURE[detectPoint]) return false;
  return grpcStatus === null || grpcStatus === 0;
}

/** An answer that was none of an error by its code, and did not come to its end. */
export function isCutShort(outcome: Outcome): boolean {
  const { code, grpcStatus } = outcome;
  if (code === null || code >= FIRST_FAILURE.client || (grpcStatus !== null && grpcStatus !== 0)) return false;
  return isBroken(outcome);
}

/** Whether a flag says that there is no answer, or no whole one. */
function isBroken({ code, flags }: Outcome): boolean {
  for (let i = 0; i < flags.length; i++) {
    const flag = flags[i] as string;
    if (!HARMLESS.has(flag) && (code === null || !TOLD_BY_CODE.has(flag))) return true;
  }
  return false;
}
