// Envoy's stats as far as wasm reaches them: one store per process, shared by its VMs; and how a stat name reads as labels.

import { LABELS } from "../../filter/vocabulary/labels.ts";
import { type MetricKind, REASON_LABEL } from "../../filter/vocabulary/metrics.ts";
import { tagRegex } from "../../filter/vocabulary/stat-name.ts";

export class Stat {
  value = 0n;
  /** What a histogram was given, in order. */
  readonly samples: bigint[] = [];

  constructor(
    /** As defined, without `wasmcustom.`; latin1, one character per byte. */
    readonly statName: string,
    readonly kind: MetricKind,
  ) {}
}

/** The stats of one Envoy process. Defining a name again gives the same stat. */
export class StatStore {
  private readonly stats = new Map<string, Stat>();

  /** Envoy drops the trailing dots of a name. */
  define(kind: MetricKind, statName: string): Stat {
    const name = statName.replace(/\.+$/, "");
    const key = `${kind} ${name}`;
    let stat = this.stats.get(key);
    if (stat === undefined) {
      stat = new Stat(name, kind);
      this.stats.set(key, stat);
    }
    return stat;
  }

  all(): Stat[] {
    return [...this.stats.values()];
  }
}

/** One series as /stats/prometheus shows it: labels cut out of the name by the `stats_tags` regexes. */
export interface Series {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly kind: MetricKind;
  readonly value: bigint;
  readonly samples: readonly bigint[];
}

const TAGS = makeTags([...LABELS, REASON_LABEL]);

function makeTags(labels: readonly string[]) {
  return labels.map((label) => ({ label, regex: new RegExp(tagRegex(label)) }));
}

/**
 * Labels and metric name of a stat name, cut as Envoy cuts them: each regex on the whole name, group 1 removed.
 * Throws when a value is no UTF-8: what is left over of a broken name stays in the metric's name, as in Envoy.
 */
function decodeStatName(statName: string, tags: typeof TAGS): { name: string; labels: Record<string, string> } {
  const labels: Record<string, string> = {};
  const cuts: { start: number; end: number }[] = [];
  for (const { label, regex } of tags) {
    const match = regex.exec(statName);
    if (match === null) continue;
    labels[label] = decodeUtf8(match[2] ?? "");
    cuts.push({ start: match.index, end: match.index + match[0].length });
  }
  cuts.sort((left, right) => left.start - right.start);
  let name = "";
  let end = 0;
  for (const cut of cuts) {
    name += statName.slice(end, cut.start);
    end = Math.max(end, cut.end);
  }
  return { name: name + statName.slice(end), labels };
}

/** `customLabels`: those that the proxy's `stats_tags` know besides. */
export function readSeries(stat: Stat, customLabels: readonly string[] = []): Series {
  const tags = customLabels.length === 0 ? TAGS : [...TAGS, ...makeTags(customLabels)];
  return { ...decodeStatName(stat.statName, tags), kind: stat.kind, value: stat.value, samples: stat.samples };
}

function decodeUtf8(latin1: string): string {
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.from(latin1, "latin1"));
}
