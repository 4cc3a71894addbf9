// The identity of a label set: its values in the order of LABELS, packed as the filter packs them in an observation
// (u8 length, UTF-8 bytes, per value), held as a latin1 string so that it is a cheap Map key.

import { LABELS, MAX_VALUE_BYTES } from "../vocabulary.ts";

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

/** The values back, in the order of LABELS; null when the key is no packed label set of that many values. */
export function unpackLabels(key: string): string[] | null {
  const bytes = Buffer.from(key, "latin1");
  const values: string[] = [];
  let at = 0;
  while (at < bytes.length) {
    const length = bytes[at] as number;
    const end = at + 1 + length;
    if (end > bytes.length) return null;
    values.push(bytes.toString("utf8", at + 1, end));
    at = end;
  }
  return values.length === LABELS.length ? values : null;
}
