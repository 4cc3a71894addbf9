// Which ends of a label set nobody knows: packed label set -> flags, looked up once per label set.

import { unpackLabels } from "../series/key.ts";
import { Label, UNKNOWN } from "../vocabulary.ts";

export const UNKNOWN_SOURCE = 1;
export const UNKNOWN_DESTINATION = 2;

/** As many as LabelKeys (packed.ts) has, whose strings these are. */
const MAX_KEYS = 16_384;

/** Bounded: when the young half is full, the old half is forgotten. */
export class UnknownPeers {
  private young = new Map<string, number>();
  private old = new Map<string, number>();
  private lastKey = "";
  private lastFlags = 0;

  constructor(private readonly limit = MAX_KEYS) {}

  /** UNKNOWN_SOURCE, UNKNOWN_DESTINATION, both or neither (0). A label that a configuration removed is not unknown. */
  of(labelKey: string): number {
    if (labelKey === this.lastKey) return this.lastFlags; // fast: requests alike come in a row
    const flags = this.young.get(labelKey) ?? this.remember(labelKey);
    this.lastKey = labelKey;
    this.lastFlags = flags;
    return flags;
  }

  private remember(labelKey: string): number {
    const flags = this.old.get(labelKey) ?? read(labelKey);
    if (this.young.size >= this.limit / 2) {
      this.old = this.young;
      this.young = new Map();
    }
    this.young.set(labelKey, flags);
    return flags;
  }
}

function read(labelKey: string): number {
  const values = unpackLabels(labelKey) ?? [];
  const source = values[Label.SourceWorkload] === UNKNOWN ? UNKNOWN_SOURCE : 0;
  return source | (values[Label.DestinationWorkload] === UNKNOWN ? UNKNOWN_DESTINATION : 0);
}
