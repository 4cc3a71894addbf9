// Counts the labels that proxies' `stats_tags` lack, over all targets, within a bound: their names are the proxies', so anything.

import type { SelfMetrics } from "../../self.ts";
import { OTHER } from "../../vocabulary.ts";

const MAX_LABELS = 100;

export class UntaggedLabels {
  private readonly known = new Set<string>();

  constructor(private readonly self: SelfMetrics) {}

  count(label: string): void {
    if (this.known.size < MAX_LABELS) this.known.add(label);
    this.self.scrapeUntaggedLabels.inc({ label: this.known.has(label) ? label : OTHER });
  }
}
