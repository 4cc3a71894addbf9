// Accounts: what each proxy's metrics-service streams brought, for /api/v1/receivers.

import type { MetricsResult, STREAM_ENDS } from "../self.ts";
import { StreamAccounts } from "./accounts.ts";
import type { Missing } from "./missing-bounds.ts";

type Ended = (typeof STREAM_ENDS)[number];

/** How a proxy reports counters: as they stand, or as what they grew by since the report before. */
export type CounterForm = "cumulative" | "delta";

/** One proxy's, since the collector started; or since the proxy made room for others and came again. Times are Unix ms, 0 for never. */
export class MetricsAccount {
  openStreams = 0;
  connectedSinceMs = 0;
  /** Reports that were merged, and when the last one was. */
  reports = 0;
  lastReportMs = 0;
  /** Of the process that reported last: its label sets, of HTTP and of TCP metrics, and how its counters come. */
  labelSets = 0;
  counters: CounterForm = "cumulative";
  /** Whether its last flush read as if its counters came in the other form. */
  isFormDoubted = false;
  /** Of its last flush that was taken. */
  missingBounds: Missing = {};
  readonly notTaken: Partial<Record<MetricsResult, number>> = {};
  readonly ended: Partial<Record<Ended, number>> = {};
  lastEnded: Ended | null = null;
  lastError: { readonly text: string; readonly atMs: number } | null = null;

  /** `proxy`: the node id; "" for an account of proxies that are not told apart. */
  constructor(readonly proxy: string) {}

  addReport(labelSets: number): void {
    this.reports++;
    this.lastReportMs = Date.now();
    this.labelSets = labelSets;
  }

  addNotTaken(result: MetricsResult): void {
    this.notTaken[result] = (this.notTaken[result] ?? 0) + 1;
  }

  addEnded(how: Ended): void {
    this.ended[how] = (this.ended[how] ?? 0) + 1;
    this.lastEnded = how;
  }

  fail(text: string): void {
    this.lastError = { text, atMs: Date.now() };
  }
}

export class MetricsAccounts extends StreamAccounts<MetricsAccount> {
  constructor(limit: number) {
    super(limit, (proxy) => new MetricsAccount(proxy));
  }
}
