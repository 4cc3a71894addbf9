// The identity of a label set: its values in the order of LABELS, packed as the filter packs them in an observation
// (u8 length, UTF-8 bytes, per value), held as a latin1 string so that it is a cheap Map key.

import { LABELS, MAX_VALUE_BYTES } from "../vocabulary.ts";

/**
 * What a label set may have behind its values, where they do not say how its requests came (unified.ts): `+` without peer metadata,
 * though the values may name a source; `?` without, at a proxy of which nobody knows whether it takes part in the exchange; a letter
 * where the labels that would tell are not kept (kept-labels.ts). It is not shown: label sets that differ in it alone are one series.
 */
export const MARKS = ["+", "?", "s", "d", "w", "r", "x", "n", "c", "o"] as const;
export type Mark = (typeof MARKS)[number];

const scratch = Buffer.alloc(LABELS.length * (MAX_VALUE_BYTES + 1));

/**
 * Packs label values, given in the order of LABELS. Each must have passed `cleanValue`, so it fits in 255 bytes.
 * Throws RangeError for another number of values.
 */
export function packLabels(values: readonly string[]): string {
  if (values.length !== LABELS.length) {
    throw new RangeError(`a label set has ${LABELS.length} values, not ${values.length}`);
  }
  let end = 0;
  for (const value of values) {
    const length = scratch.write(value, end + 1, MAX_VALUE_BYTES, "utf8");
    scratch[end] = length;
    end += 1 + length;
  }
  return scratch.toString("latin1", 0, end);
}

/** The values back, in the order of LABELS; null when the key is no packed label set of that many values, with a mark or without. */
export function unpackLabels(key: string): string[] | null {
  const bytes = Buffer.from(key, "latin1");
  const values: string[] = [];
  let at = 0;
  while (at < bytes.length && values.length < LABELS.length) {
    const length = bytes[at] as number;
    const end = at + 1 + length;
    if (end > bytes.length) return null;
    values.push(bytes.toString("utf8", at + 1, end));
    at = end;
  }
  const isWhole = values.length === LABELS.length && (at === bytes.length || isMark(key.slice(at)));
  return isWhole ? values : null;
}

export function withMark(labelKey: string, mark: Mark | null): string {
  return mark === null ? labelKey : labelKey + mark;
}

/** Null for a label set without one. */
export function markOf(labelKey: string): Mark | null {
  const mark = labelKey.slice(endOfValues(labelKey));
  return isMark(mark) ? mark : null;
}

/** What is shown of a label set; itself if that is all of it. */
export function withoutMark(labelKey: string): string {
  const end = endOfValues(labelKey);
  return end === labelKey.length ? labelKey : labelKey.slice(0, end);
}

function endOfValues(labelKey: string): number {
  let at = 0;
  for (let left = LABELS.length; left > 0 && at < labelKey.length; left--) at += 1 + labelKey.charCodeAt(at);
  return at;
}

function isMark(text: string): text is Mark {
  return (MARKS as readonly string[]).includes(text);
}
