// The identity of a label set: its values in the order of LABELS, packed as the filter packs them in an observation
// (u8 length, UTF-8 bytes, per value), held as a latin1 string so that it is a cheap Map key. Behind them may stand whose report it is,
// packed alike, and behind that a mark:
//
//   reporter ... connection_security_policy | pod, namespace | mark
//   25 values                               | 2 or none      | 1 character or none

import { LABELS, MAX_VALUE_BYTES, OTHER } from "../vocabulary.ts";

/**
 * What a label set may have behind its values, where they do not say how its requests came (unified.ts): `+` without peer metadata,
 * though the values may name a source; `?` without, at a proxy of which nobody knows whether it takes part in the exchange; a letter
 * where the labels that would tell are not kept (kept-labels.ts). It is not shown: label sets that differ in it alone are one series.
 */
export const MARKS = ["+", "?", "s", "d", "w", "r", "x", "n", "c", "o"] as const;
export type Mark = (typeof MARKS)[number];

/** The labels that say whose report a label set is (pod-labels.ts), as Prometheus' Kubernetes jobs name them on a proxy's own series. */
const POD_LABELS = ["pod", "namespace"] as const;
/** By POD_LABELS. */
export type Pod = readonly [pod: string, namespace: string];

/** No label set is longer, but for its mark. */
export const MAX_KEY_BYTES = (LABELS.length + POD_LABELS.length) * (MAX_VALUE_BYTES + 1);

const scratch = Buffer.alloc(MAX_KEY_BYTES);
const OTHER_POD = packPod([OTHER, OTHER]);

/** Names of the values, in their order. */
export function labelNames(hasPods: boolean): readonly string[] {
  return hasPods ? [...LABELS, ...POD_LABELS] : LABELS;
}

/**
 * Packs label values, given in the order of LABELS. Each must have passed `cleanValue`, so it fits in 255 bytes.
 * Throws RangeError for another number of values.
 */
export function packLabels(values: readonly string[]): string {
  if (values.length !== LABELS.length) {
    throw new RangeError(`a label set has ${LABELS.length} values, not ${values.length}`);
  }
  return pack(values);
}

/** What `withPod` takes; of values as packLabels'. */
export function packPod(pod: Pod): string {
  return pack(pod);
}

function pack(values: readonly string[]): string {
  let end = 0;
  for (const value of values) {
    const length = scratch.write(value, end + 1, MAX_VALUE_BYTES, "utf8");
    scratch[end] = length;
    end += 1 + length;
  }
  return scratch.toString("latin1", 0, end);
}

/**
 * The values back, in the order of LABELS, and behind them the pod's, if there are any; null when the key is no packed label set of that
 * many values, with a mark or without.
 */
export function unpackLabels(key: string): string[] | null {
  const bytes = Buffer.from(key, "latin1");
  const values: string[] = [];
  const stop = endOfValues(key);
  let at = 0;
  while (at < stop) {
    const end = at + 1 + (bytes[at] as number);
    if (end > bytes.length) return null;
    values.push(bytes.toString("utf8", at + 1, end));
    at = end;
  }
  const isWhole = values.length === LABELS.length || values.length === LABELS.length + POD_LABELS.length;
  return isWhole && (at === bytes.length || isMark(key.slice(at))) ? values : null;
}

/** The pod, packed by packPod, behind the values of a label set that has none. */
export function withPod(labelKey: string, pod: string): string {
  const end = endOfValues(labelKey);
  return labelKey.slice(0, end) + pod + labelKey.slice(end);
}

/** With `other` for pod and namespace, where it has none: the overflow is nobody's alone. */
export function withSomePod(labelKey: string): string {
  return endOfValues(labelKey) === endOfLabels(labelKey) ? withPod(labelKey, OTHER_POD) : labelKey;
}

/** The values as they are packed: for comparisons with words of the vocabulary, quicker than `unpackLabels`. What is missing is empty. */
export function slicedLabels(labelKey: string): string[] {
  const values: string[] = [];
  for (let at = 0; values.length < LABELS.length; ) {
    const end = at < labelKey.length ? at + 1 + labelKey.charCodeAt(at) : at;
    values.push(labelKey.slice(at + 1, end));
    at = end;
  }
  return values;
}

export function withMark(labelKey: string, mark: Mark | null): string {
  return mark === null ? labelKey : labelKey + mark;
}

/** Null for a label set without one. */
export function markOf(labelKey: string): Mark | null {
  const mark = labelKey.slice(endOfValues(labelKey));
  return isMark(mark) ? mark : null;
}

/** What is shown of a label set, its pod included; itself if that is all of it. */
export function withoutMark(labelKey: string): string {
  const end = endOfValues(labelKey);
  return end === labelKey.length ? labelKey : labelKey.slice(0, end);
}

/** Where the mark stands. It is one character, and a pod has two at least: the lengths of its values. */
function endOfValues(labelKey: string): number {
  const end = endOfLabels(labelKey);
  return labelKey.length - end < POD_LABELS.length ? end : skipValues(labelKey, end, POD_LABELS.length);
}

/** Where the values of LABELS end. */
function endOfLabels(labelKey: string): number {
  return skipValues(labelKey, 0, LABELS.length);
}

function skipValues(labelKey: string, start: number, count: number): number {
  let at = start;
  for (let left = count; left > 0 && at < labelKey.length; left--) at += 1 + labelKey.charCodeAt(at);
  return at;
}

function isMark(text: string): text is Mark {
  return (MARKS as readonly string[]).includes(text);
}
