// Root: a plugin configuration in force, and its ticks.
//
//   VM --1:N--> Root --1:N--> Stream (a request)
//                    `-1:N--> Connection (TCP)

import { declareAccessLogPolicy } from "./access-log-policy.ts";
import { Config } from "./config/config.ts";
import { declarePeerStates } from "./expression/peer-state.ts";
import { nowMs, setTickPeriod } from "./host.ts";

/** So many ticks are in the bound on waiting for a connection's peer: none waits longer, and few shorter than three quarters of it. */
const TICKS_PER_TIMEOUT = 4;

@final
export class Root {
  config: Config = new Config();
  /** Whether connections come: then ticks are as frequent as waiting for a peer demands. */
  private hasConnections: bool = false;
  private tickMs: u64 = 0;
  private reportAtMs: u64 = 0;

  constructor(readonly id: u32) {}

  /** Puts a configuration into force, in place of the one before. Called in this root's callback. */
  configure(config: Config): void {
    const before = this.config.custom;
    if (before !== null) before.operands.release();
    this.config = config;
    if (config.custom !== null) declarePeerStates();
    if (config.accessLog !== null) declareAccessLogPolicy();
    this.setTicks();
  }

  /** A connection comes. Called in one of its callbacks. */
  expectConnections(): void {
    if (this.hasConnections) return;
    this.hasConnections = true;
    this.setTicks();
  }

  /** When a connection that begins to wait now waits no longer. */
  deadlineMs(): u64 {
    return nowMs() + this.config.exchange.tcp.timeoutMs;
  }

  /** Whether a deadline is over, or too near to wait for another tick. One that is too far was set before the clock was set back. */
  isDue(deadlineMs: u64): bool {
    const now = nowMs();
    return deadlineMs <= now + this.tickMs || deadlineMs > now + this.config.exchange.tcp.timeoutMs;
  }

  /** Called in each tick: whether the reporting interval has passed. */
  isReportDue(): bool {
    const interval = this.config.reportingIntervalMs;
    if (!this.hasConnections) return true; // ticks are nothing but reports
    if (interval === 0) return false;
    const now = nowMs();
    const isSetBack = this.reportAtMs > now + interval;
    if (!isSetBack && now + this.tickMs / 2 < this.reportAtMs) return false;
    this.reportAtMs = now + interval;
    return true;
  }

  private setTicks(): void {
    const interval = this.config.reportingIntervalMs;
    this.tickMs = interval;
    this.reportAtMs = nowMs() + interval;
    if (this.hasConnections) {
      const wait = this.config.exchange.tcp.timeoutMs / TICKS_PER_TIMEOUT;
      this.tickMs = interval === 0 ? wait : max(interval / ((interval + wait - 1) / wait), 1);
    }
    setTickPeriod(this.tickMs);
  }
}
