// Envoy's `stats_tags`: how it finds the labels in the names that the filter gives its stats.

import { LABELS, REASON_LABEL, tagRegex } from "../collector/vocabulary.ts";

export interface StatsTag {
  readonly name: string;
  readonly regex: string;
}

/** Labels of which Istio's bootstrap knows none, in the order in which Prometheus shows them, whatever the order in a stat's name. */
export const LABEL_TAGS: readonly StatsTag[] = [...LABELS, REASON_LABEL].map(labelTag);

/**
 * The labels of istio_build, in the form that Istio's own bootstrap extracts: `component.proxy.tag.1.26.0;.istio_build`. Unlike
 * there, they are looked for in that one name only: a host `tag.example.com` in another would be taken for a version.
 */
const BUILD_TAGS: readonly StatsTag[] = [
  { name: "component", regex: "^wasmcustom\\.(component\\.(proxy)\\.)" },
  { name: "tag", regex: "^wasmcustom\\.component\\.proxy\\.(tag\\.(.*?);\\.)" },
];

export const STATS_TAGS: readonly StatsTag[] = [...LABEL_TAGS, ...BUILD_TAGS];

/** The tag of a label that a configuration adds (`dimensions`). */
export function labelTag(name: string): StatsTag {
  return { name, regex: tagRegex(name) };
}
