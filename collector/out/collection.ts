// Collection: all that /metrics shows, as points.

import { renderCompleteness } from "../completeness/exposition.ts";
import { expositionSpans, renderIndicators } from "../indicators/exposition.ts";
import { renderTargets } from "../receiver/scrape/exposition.ts";
import type { ScrapeStatus } from "../receiver/scrape.ts";
import type { Holdings, SelfCounts } from "../self.ts";
import type { DestinationRule } from "../series/unified.ts";
import type { Readings } from "../shards/shards.ts";
import type { Step } from "./point.ts";
import { SeriesPoints } from "./series-points.ts";
import { TextPoints } from "./text-points.ts";

/** Whether a family of that name goes out. */
type IsWanted = (name: string) => boolean;

export interface CollectionOptions {
  readonly readings: Readings;
  /** Which reports of destinations count in mesh_*. */
  readonly destinationRule: DestinationRule;
  /** Whether label sets have pods. */
  readonly hasPods: boolean;
  /** By HttpMetric, the bounds that are shown of it; default: all. */
  readonly buckets?: readonly (readonly number[])[];
  readonly scrapeStatuses: () => readonly ScrapeStatus[];
  /** The collector's own metrics, as text. */
  readonly renderSelf: (
    holdings: Omit<Holdings, "edges" | "leftOut" | "proxyStats">,
    others: readonly SelfCounts[],
  ) => Promise<string>;
  readonly isWanted: IsWanted;
}

export class Collection {
  private readonly series: SeriesPoints;
  private readonly indicators = new TextPoints();
  private readonly completeness = new TextPoints();
  private readonly targets = new TextPoints();
  private readonly self = new TextPoints();

  constructor(private readonly options: CollectionOptions) {
    const { readings, destinationRule, buckets, hasPods } = options;
    this.series = new SeriesPoints(readings.series, destinationRule, buckets, hasPods);
  }

  /**
   * The points of now; numbers are read as they are taken, so take them soon. Rejects with CollectorError `unavailable` when not all
   * that was counted can be read: less of it would look as if it had been taken back.
   */
  async points(nowMs: number): Promise<Iterable<Step>> {
    const spans = expositionSpans(nowMs);
    const { subjects, completeness, holdings, others } = await this.options.readings.metrics(spans);
    const self = await this.options.renderSelf(holdings, others);
    const { series, indicators, completeness: ratios, targets, self: own } = this;
    const { isWanted, scrapeStatuses } = this.options;
    return (function* () {
      yield* series.points(isWanted);
      yield* indicators.points(renderIndicators(subjects, spans), isWanted);
      yield* ratios.points(renderCompleteness(completeness), isWanted);
      yield* targets.points(renderTargets(scrapeStatuses()), isWanted);
      yield* own.points([self], isWanted);
    })();
  }
}
