// Which access-log entries are kept: asked for every entry, before anything of it is converted. What is not kept costs no allocation.
//
// The defaults are SkyWalking's (errors, and whatever has a response flag) and slow requests.

import type { LoggedCall } from "../analysis/logged-call.ts";
import type { LogReason } from "../self.ts";
import { MinuteQuota } from "./quota.ts";

export interface LogRuleSettings {
  /** No answer, a code from 400 on, a gRPC status but 0, or no success. Of TCP the flags alone say it. */
  readonly errors: boolean;
  /** Any response flag. */
  readonly flagged: boolean;
  /** Of at least so many tokens, into a model and out of it; 0: none. */
  readonly tokens: number;
  /** Of at least so many ms; 0: none. */
  readonly slowMs: number;
  /** One in so many of all others; 0: none. */
  readonly sample: number;
  /** Most of one key in a minute: service and flags, else service and code. */
  readonly perMinute: number;
}

const FIRST_ERROR_CODE = 400;

export class LogRules {
  private readonly quota: MinuteQuota;

  /** `onDropped` hears what a rule would have kept, had its key not had its share of the minute. */
  constructor(
    private readonly settings: LogRuleSettings,
    private readonly onDropped: (reason: LogReason) => void,
    private readonly random: () => number = Math.random,
  ) {
    this.quota = new MinuteQuota(settings.perMinute);
  }

  /** Why the call is kept; null when it is not. `service`: whose entry it is: one that fails much must not use up what others may keep. */
  keeps(call: LoggedCall, service: string): LogReason | null {
    const reason = this.reasonOf(call);
    if (reason === null) return null; // fast: of a healthy mesh nearly all
    if (this.quota.takes(keyOf(call, reason, service), call.nowMs)) return reason;
    this.onDropped(reason);
    return null;
  }

  private reasonOf(call: LoggedCall): LogReason | null {
    const { errors, flagged, tokens, slowMs, sample } = this.settings;
    if (errors && call.protocol !== "tcp" && isError(call)) return "error";
    if (flagged && call.flags.length > 0) return "flagged";
    if (tokens > 0 && call.tokens >= tokens) return "tokens";
    if (slowMs > 0 && call.latencyMs !== null && call.latencyMs >= slowMs) return "slow";
    return sample > 0 && this.random() * sample < 1 ? "sample" : null;
  }
}

function isError({ code, grpcStatus, success }: LoggedCall): boolean {
  return !success || code === 0 || code >= FIRST_ERROR_CODE || (grpcStatus !== null && grpcStatus !== 0);
}

function keyOf({ flags, code }: LoggedCall, reason: LogReason, service: string): string {
  return `${reason} ${flags.length > 0 ? flags.join() : code} ${service}`;
}
