// A packed label set (series/key.ts) as the formats of /metrics write it.
//
// It is written from the key each time, and no text of it is kept: it takes some three microseconds for the 22 lines of a histogram,
// and the texts of 50,000 label sets would be 60 MB.

import { labelNames, MAX_KEY_BYTES, withSomePod } from "../../series/key.ts";
import type { Label } from "../../vocabulary.ts";
import { encodeLabel, encodeLabelHead, putLabelHead } from "./metric-family.ts";
import { type ByteWriter, varintLength } from "./writer.ts";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const NEWLINE = 0x0a;
const LETTER_N = 0x6e;
/** The key that is written now: walked byte by byte, which a string is slower for. */
const packed = Buffer.alloc(MAX_KEY_BYTES);

/** Writes a choice of the labels, pod and namespace where label sets have them, and behind them one that is always the same. */
export class LabelWriter {
  /** By label: what stands before its value, null for one that is left out. */
  private readonly textHeads: readonly (Buffer | null)[];
  private readonly pairHeads: readonly (Buffer | null)[];
  /** What stands behind the last value. */
  private readonly textEnd: Buffer;
  private readonly pairEnd: Buffer;
  private readonly headBytes: number;

  /** `fixed`: a label and its value, which needs no escape; null for none. */
  constructor(
    isWritten: (label: Label) => boolean,
    fixed: readonly [name: string, value: string] | null,
    private readonly hasPods: boolean,
  ) {
    const names = labelNames(hasPods).map((name, label) => (isWritten(label) ? name : null));
    const first = names.findIndex((name) => name !== null);
    this.textHeads = names.map((name, label) =>
      name === null ? null : Buffer.from(label === first ? `${name}="` : `",${name}="`),
    );
    this.pairHeads = names.map((name) => (name === null ? null : encodeLabelHead(name)));
    this.textEnd = Buffer.from(fixed === null ? '"' : `",${fixed[0]}="${fixed[1]}"`);
    this.pairEnd = fixed === null ? Buffer.alloc(0) : encodeLabel(...fixed);
    this.headBytes = this.textHeads.reduce((sum, head) => sum + (head?.length ?? 0), this.textEnd.length);
  }

  /** No text of the label set is longer. */
  maxTextBytes(labelKey: string): number {
    return this.headBytes + 2 * this.whole(labelKey).length;
  }

  /** `reporter="source",source_workload="web",...`; an empty value as such, so that no two label sets are one. */
  putText(to: ByteWriter, labelKey: string): void {
    const { bytes } = to;
    let from = 0;
    packed.write(this.whole(labelKey), 0, "latin1");
    for (const head of this.textHeads) {
      const end = from + 1 + (packed[from] as number);
      if (head !== null) {
        to.put(head);
        let { at } = to;
        for (from++; from < end; from++) {
          const byte = packed[from] as number;
          if (byte === QUOTE || byte === BACKSLASH || byte === NEWLINE) bytes[at++] = BACKSLASH;
          bytes[at++] = byte === NEWLINE ? LETTER_N : byte;
        }
        to.at = at;
      }
      from = end;
    }
    to.put(this.textEnd);
  }

  /** Bytes of `putPairs`. */
  pairsLength(labelKey: string): number {
    const key = this.whole(labelKey);
    let length = this.pairEnd.length;
    let from = 0;
    for (const head of this.pairHeads) {
      const value = key.charCodeAt(from);
      if (head !== null) {
        const pair = head.length + varintLength(value) + value;
        length += 1 + varintLength(pair) + pair;
      }
      from += 1 + value;
    }
    return length;
  }

  /** A protobuf field `Metric.label` for each. */
  putPairs(to: ByteWriter, labelKey: string): void {
    let from = 0;
    packed.write(this.whole(labelKey), 0, "latin1");
    for (const head of this.pairHeads) {
      const value = packed[from] as number;
      const end = from + 1 + value;
      if (head !== null) {
        putLabelHead(to, head.length + varintLength(value) + value);
        to.put(head);
        to.putVarint(value);
        to.at += packed.copy(to.bytes, to.at, from + 1, end);
      }
      from = end;
    }
    to.put(this.pairEnd);
  }

  private whole(labelKey: string): string {
    return this.hasPods ? withSomePod(labelKey) : labelKey;
  }
}
