// The overflow label set of a label set (filter/vocabulary/overflow.ts), packed. Its mark stays with it, so the verdict on both is the same
// (unified.ts), and label sets that differ in their mark alone have such in the overflow, too.

import { isTcpLabel, LABELS, OTHER, type Overflow, overflowOf } from "../vocabulary.ts";
import { markOf, packLabels, slicedLabels, withMark } from "./key.ts";

/** All labels `other`: both ends' reports in one, of filters and saved states from before the overflow kept them apart. */
export const MIXED_OVERFLOW_KEY = packLabels(LABELS.map(() => OTHER));
/** The same of TCP metrics: every label that they carry. */
export const TCP_MIXED_OVERFLOW_KEY = packLabels(LABELS.map((_, label) => (isTcpLabel(label) ? OTHER : "")));

/** By their name: without marks there are 11 at most. */
const HTTP_KEYS = new Map<string, string>();
const TCP_KEYS = new Map<string, string>();

/** Of one of the overflow itself, the same. */
export function overflowKeyOf(labelKey: string, isTcp: boolean): string {
  const overflow = overflowOf(slicedLabels(labelKey));
  const keys = isTcp ? TCP_KEYS : HTTP_KEYS;
  let key = keys.get(overflow.name);
  if (key === undefined) {
    key = packOverflow(overflow, isTcp);
    keys.set(overflow.name, key);
  }
  return withMark(key, markOf(labelKey));
}

function packOverflow(overflow: Overflow, isTcp: boolean): string {
  return packLabels(LABELS.map((_, label) => (isTcp && !isTcpLabel(label) ? "" : overflow.valueOf(label))));
}
