// Packed values inside an observation: label sets and 64-bit numbers (filter/vocabulary/observation.ts).

import { isUtf8 } from "node:buffer";
import { BytesCache } from "../proto/bytes-cache.ts";
import { LABELS } from "../vocabulary.ts";

const TWO_TO_32 = 2 ** 32;

/** As many as there are bytes for: at most 64 MiB with the strings. */
const MAX_LABEL_KEYS = 16_384;
const MAX_LABEL_KEY_BYTES = 2048;

/** Label sets as keys: the same string object for the same label set, so a Map that it is looked up in need not hash it again. */
export class LabelKeys {
  private readonly keys = new BytesCache<string | null>(MAX_LABEL_KEYS, MAX_LABEL_KEY_BYTES);

  /** The label set at bytes[start, stop), which `endOfLabels` has measured; null when a value is no UTF-8. */
  read(bytes: Buffer, start: number, stop: number): string | null {
    return this.keys.resolve(bytes, start, stop, readLabelKey);
  }
}

/**
 * Null when a value is no UTF-8: label sets that differ in broken bytes alone would be shown as one series twice, and Prometheus
 * refuses such a page whole. (A length byte of 128 or more is no ASCII, so the values are checked one by one.)
 */
function readLabelKey(bytes: Buffer, start: number, stop: number): string | null {
  for (let at = start; at < stop; ) {
    const end = at + 1 + (bytes[at] as number);
    if (!isUtf8(bytes.subarray(at + 1, end))) return null;
    at = end;
  }
  return bytes.toString("latin1", start, stop);
}

/** Where the packed label set at `start` ends; beyond `stop` if that cuts it short. */
export function endOfLabels(bytes: Buffer, start: number, stop: number): number {
  let at = start;
  for (let i = 0; i < LABELS.length; i++) {
    if (at >= stop) return stop + 1;
    at += 1 + (bytes[at] as number);
  }
  return at;
}

/** Beyond 2^53 the nearest number. */
export function readUint64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at + 4) * TWO_TO_32 + bytes.readUInt32LE(at);
}
