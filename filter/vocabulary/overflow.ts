// Shared with the collector: keep portable (filter/vocabulary/README.md).
// The overflow: the few label sets that take in what a cap on label sets keeps out. All their labels read `other`, save those that tell whose
// report it is and whether another proxy reports the same requests. So requests count in mesh_* as they would have without the cap
// (collector/series/unified.ts), and the reports of both ends stay apart.

import { Label } from "./labels.ts";
import { OTHER, REPORTER_DESTINATION, REPORTER_SOURCE, REPORTER_WAYPOINT, UNKNOWN } from "./values.ts";

/**
 * What peer metadata says of an end; the first two it has, if it has anything. Its namespace and principal its certificate tells, too, and a
 * revision it always has.
 */
export const SOURCE_NAMES: readonly Label[] = [
  Label.SourceWorkload,
  Label.SourceCanonicalService,
  Label.SourceApp,
  Label.SourceVersion,
  Label.SourceCluster,
];
export const DESTINATION_NAMES: readonly Label[] = [
  Label.DestinationWorkload,
  Label.DestinationCanonicalService,
  Label.DestinationApp,
  Label.DestinationVersion,
  Label.DestinationCluster,
];
const SURE_NAMES = 2;

/** What the names of an end tell. */
export enum Naming {
  Named,
  /** No metadata came. */
  Unknown,
  /** A proxy says nothing of itself; or the labels were removed. */
  Silent,
}

/** `values` are in the order of LABELS. */
export function namingOf(values: readonly string[], names: readonly Label[]): Naming {
  let naming = Naming.Silent;
  for (let i = 0; i < names.length; i++) {
    const value = values[names[i] as Label] as string;
    if (value !== "" && value !== UNKNOWN) return Naming.Named;
    if (value === UNKNOWN && i < SURE_NAMES) naming = Naming.Unknown;
  }
  return naming;
}

/** One of the label sets of the overflow, by the values that are not the same in all. */
export class Overflow {
  constructor(
    readonly reporter: string,
    /** Of all labels of the source. */
    readonly source: string,
    /** Of the names of the destination. */
    readonly destination: string,
  ) {}

  /** Different for each. */
  get name(): string {
    return this.reporter + "/" + this.source + "/" + this.destination;
  }

  valueOf(label: Label): string {
    if (label === Label.Reporter) return this.reporter;
    if (label >= Label.SourceWorkload && label <= Label.SourceCluster) return this.source;
    return DESTINATION_NAMES.includes(label) ? this.destination : OTHER;
  }
}

/**
 * That of a label set; of one of the overflow, itself. What it keeps is what a verdict on the label set depends on, and of that no more
 * than makes a difference, so that they are few.
 */
export function overflowOf(values: readonly string[]): Overflow {
  const reporter = values[Label.Reporter] as string;
  const source = namingOf(values, SOURCE_NAMES);
  const destination = namingOf(values, DESTINATION_NAMES);
  if (reporter === REPORTER_SOURCE) {
    const isNameless = source === Naming.Silent && destination === Naming.Named;
    return new Overflow(reporter, isNameless ? "" : OTHER, OTHER);
  }
  if (reporter === REPORTER_DESTINATION && source === Naming.Unknown && destination === Naming.Silent) {
    return new Overflow(reporter, UNKNOWN, "");
  }
  if (reporter === REPORTER_DESTINATION || reporter === REPORTER_WAYPOINT) {
    return new Overflow(reporter, wordFor(source), OTHER);
  }
  // Filters had one overflow for all before; its reporter is no other's.
  const isMixed = reporter === OTHER && (values[Label.SourceWorkload] as string) === OTHER;
  return new Overflow(isMixed ? OTHER : "", OTHER, OTHER);
}

function wordFor(naming: Naming): string {
  if (naming === Naming.Named) return OTHER;
  return naming === Naming.Unknown ? UNKNOWN : "";
}
