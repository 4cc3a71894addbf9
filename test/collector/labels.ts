// Label sets for tests: everything `unknown` except what a test is about.

import { packLabels } from "../../collector/series/key.ts";
import { LABELS, UNKNOWN } from "../../collector/vocabulary.ts";

export type LabelValues = Readonly<Record<string, string>>;

/** All 25 values, in order: `values({ reporter: "source" })`. */
export function values(some: LabelValues = {}): string[] {
  return LABELS.map((label) => some[label] ?? UNKNOWN);
}

/** The packed label set. */
export function key(some: LabelValues = {}): string {
  return packLabels(values(some));
}

/** As Envoy writes them: `reporter="source",source_workload="unknown",...`. */
export function text(some: LabelValues = {}): string {
  return values(some)
    .map((value, index) => `${LABELS[index]}="${value.replace(/[\\"]/g, "\\$&").replace(/\n/g, "\\n")}"`)
    .join(",");
}
