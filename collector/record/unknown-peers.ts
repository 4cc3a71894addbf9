// Which ends of a label set nobody knows, and why as far as it tells: looked up once per label set.

import { unpackLabels } from "../series/key.ts";
import { Label, REPORTER_DESTINATION, REPORTER_SOURCE, UNKNOWN } from "../vocabulary.ts";

/** Of the reasons that an analysis gives (analysis/side.ts) those that a label set can tell. */
export const LABEL_REASONS = [
  "node_not_named",
  "upstream_not_reached",
  "peer_metadata_missing",
  "peer_outside_mesh",
] as const;
export type LabelReason = (typeof LABEL_REASONS)[number];

/** Null for an end that is known. */
export interface UnknownEnds {
  readonly source: LabelReason | null;
  readonly destination: LabelReason | null;
}

export const NEITHER_UNKNOWN: UnknownEnds = { source: null, destination: null };

/** Flags of a call for which no server was found, or none that takes it. */
export const NO_UPSTREAM_FLAGS: readonly string[] = ["NR", "UH", "UF", "UO", "NC", "DF"];

/** As many as LabelKeys (packed.ts) has, whose strings these are. */
const MAX_KEYS = 16_384;

/** Bounded: when the young half is full, the old half is forgotten. */
export class UnknownPeers {
  private young = new Map<string, UnknownEnds>();
  private old = new Map<string, UnknownEnds>();
  private lastKey = "";
  private lastEnds = NEITHER_UNKNOWN;

  constructor(private readonly limit = MAX_KEYS) {}

  /** A label that a configuration removed is not unknown. */
  of(labelKey: string): UnknownEnds {
    if (labelKey === this.lastKey) return this.lastEnds; // fast: requests alike come in a row
    const ends = this.young.get(labelKey) ?? this.remember(labelKey);
    this.lastKey = labelKey;
    this.lastEnds = ends;
    return ends;
  }

  private remember(labelKey: string): UnknownEnds {
    const ends = this.old.get(labelKey) ?? read(labelKey);
    if (this.young.size >= this.limit / 2) {
      this.old = this.young;
      this.young = new Map();
    }
    this.young.set(labelKey, ends);
    return ends;
  }
}

function read(labelKey: string): UnknownEnds {
  const values = unpackLabels(labelKey) ?? [];
  const source = values[Label.SourceWorkload] === UNKNOWN ? sourceReason(values) : null;
  const destination = values[Label.DestinationWorkload] === UNKNOWN ? destinationReason(values) : null;
  return source === null && destination === null ? NEITHER_UNKNOWN : { source, destination };
}

function sourceReason(values: readonly string[]): LabelReason {
  if (values[Label.Reporter] === REPORTER_SOURCE) return "node_not_named";
  return values[Label.SourcePrincipal] === UNKNOWN ? "peer_outside_mesh" : "peer_metadata_missing";
}

function destinationReason(values: readonly string[]): LabelReason {
  if (values[Label.Reporter] === REPORTER_DESTINATION) return "node_not_named";
  const flags = values[Label.ResponseFlags]?.split(",") ?? [];
  return flags.some((flag) => NO_UPSTREAM_FLAGS.includes(flag)) ? "upstream_not_reached" : "peer_metadata_missing";
}
