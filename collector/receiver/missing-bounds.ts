// MissingBounds: of the bounds that histograms are shown with, those that proxies do not count by (`histogram_bucket_settings`). There a
// bucket holds what the one below it holds, and no more is claimed.

import type { SelfMetrics } from "../self.ts";
import type { HistogramBounds } from "../series/histogram.ts";
import { HTTP_METRICS } from "../vocabulary.ts";

/** By the metric's name, rising; a metric that lacks none is not among them. */
export type Missing = Readonly<Record<string, readonly number[]>>;

/** Who has read the histograms. */
type Receiver = "scrape" | "metrics_service";

export class MissingBounds {
  /** By HttpMetric; all bounds where nothing is said. */
  private readonly shown: readonly (ReadonlySet<number> | undefined)[];

  /** `shown`: by HttpMetric, the bounds that are shown of it; default: all. */
  constructor(
    private readonly receiver: Receiver,
    private readonly bounds: HistogramBounds,
    shown: readonly (readonly number[])[],
    private readonly self: SelfMetrics,
  ) {
    this.shown = shown.map((bounds) => new Set(bounds));
  }

  /** Counts what one reading lacks. `found`: by HttpMetric, the indexes of the bounds that a histogram of it lacks. */
  count(found: readonly ReadonlySet<number>[]): Missing {
    if (found.every(({ size }) => size === 0)) return {}; // fast: as it should be
    const missing: Record<string, readonly number[]> = {};
    for (const [metric, indexes] of found.entries()) {
      const lacks = this.bounds.upper.filter((bound, index) => indexes.has(index) && this.isShown(metric, bound));
      if (lacks.length > 0) missing[HTTP_METRICS[metric]?.name ?? ""] = lacks;
    }
    for (const le of new Set(Object.values(missing).flat()))
      this.self.missingBounds.inc({ receiver: this.receiver, le });
    return missing;
  }

  private isShown(metric: number, bound: number): boolean {
    return this.shown[metric]?.has(bound) ?? true;
  }
}

/** What the log says beside them. */
export const MISSING_BOUNDS =
  "histograms of proxy are not counted by all of metrics.bounds: such a bucket shows what the one below it shows; set its stats_config.histogram_bucket_settings";
