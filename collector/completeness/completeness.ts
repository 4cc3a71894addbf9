// Completeness: what share of the requests that were counted each of the two channels told of, by proxy and by edge (docs/metrics.md).
//
//   count(life, label set) = max(stats S, access log A)
//   of a proxy, or an edge:  access log = sum of A / sum of the counts,  stats = sum of S / sum of the counts
//
// Sums are of what was gained between two scrapes of a proxy, over the last minutes. They are taken right after a scrape, when S is fresh,
// so that a scrape's interval is no loss. What was counted by a scrape is compared at the next one: until then entries may come that the
// proxy held back. A proxy is compared from the first scrape on after its first entry: one that has only one channel lost nothing in the other.

import { unpackLabels } from "../series/key.ts";
import type { ProxyLives } from "../series/life.ts";
import type { LabelSet } from "../series/reader.ts";
import type { SeriesStore } from "../series/store.ts";
import { OTHER_NODE, placeOf } from "../service-graph/edge.ts";
import { type Compared, type CompletenessReading, isNothing, NOTHING } from "./compared.ts";
import { Recent } from "./recent.ts";

/** The ends of an edge: which one a label set is of. */
interface Ends {
  readonly key: string;
  readonly source: string;
  readonly destination: string;
}

interface Edge extends Ends {
  readonly recent: Recent;
}

/** What came to an edge at one proxy, over all process lives of it that are held. */
interface Sums {
  readonly ends: Ends;
  counted: number;
  logged: number;
  reported: number;
}

interface ProxyState {
  readonly recent: Recent;
  /** As they were after the scrape before, by the key of the ends. */
  sums: ReadonlyMap<string, Compared>;
  /** What that scrape found gained: its counts are still to be compared. */
  readonly gains: Map<string, Compared>;
}

export class Completeness {
  private readonly states = new WeakMap<ProxyLives, ProxyState>();
  private readonly edges = new Map<string, Edge>();
  private readonly endsOf = new WeakMap<LabelSet, Ends>();

  constructor(
    private readonly store: Pick<SeriesStore, "http" | "proxies">,
    /** Most edges held that gained something of late; what comes after is one edge from `other` to `other`, as in the service graph. */
    private readonly limit: number,
    /** A clock that never jumps, in milliseconds. */
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** To be called after each scrape of the proxy was merged. */
  compare(proxy: ProxyLives): void {
    const sums = this.sumsOf(proxy);
    const state = this.states.get(proxy);
    if (state === undefined) {
      const hasLog = [...sums.values()].some(({ logged }) => logged > 0);
      if (hasLog) this.states.set(proxy, { recent: new Recent(this.now()), sums, gains: new Map() });
      return;
    }
    for (const sum of sums.values()) this.addGain(state, sum);
    state.sums = sums;
  }

  /** Lets go of edges that gained nothing of late; to be called now and then. */
  letGoIdle(): void {
    const nowMs = this.now();
    for (const [key, { recent }] of this.edges) if (recent.isEmpty(nowMs)) this.edges.delete(key);
  }

  read(): CompletenessReading {
    const nowMs = this.now();
    const proxies = [...this.store.proxies].flatMap((proxy) => {
      const compared = this.states.get(proxy)?.recent.read(nowMs) ?? NOTHING;
      return compared.counted > 0 ? [{ proxy: proxy.id, ...compared }] : [];
    });
    const edges = [...this.edges.values()].map(({ source, destination, recent }) => {
      return { source, destination, ...recent.read(nowMs) };
    });
    return { proxies, edges: edges.filter(({ counted }) => counted > 0) };
  }

  private sumsOf({ lives, unstamped }: ProxyLives): Map<string, Sums> {
    const sums = new Map<string, Sums>();
    for (const life of unstamped === null ? lives : [...lives, unstamped]) {
      for (const { series, counted, logged, reported } of this.store.http.readPairs(life)) {
        const ends = this.endsOf.get(series) ?? this.findEnds(series);
        let sum = sums.get(ends.key);
        if (sum === undefined) {
          sum = { ends, counted: 0, logged: 0, reported: 0 };
          sums.set(ends.key, sum);
        }
        sum.counted += counted;
        sum.logged += logged;
        sum.reported += reported;
      }
    }
    return sums;
  }

  /** Sums fall only when a process life was let go of; what was gained then is left out. */
  private addGain({ recent, sums, gains }: ProxyState, { ends, ...sum }: Sums): void {
    const gain = gainOf(sum, sums.get(ends.key) ?? NOTHING);
    if (gain === null) return;
    const { counted, reported } = gains.get(ends.key) ?? NOTHING;
    if (isNothing(gain)) gains.delete(ends.key);
    else gains.set(ends.key, gain);
    const due = { counted, reported, logged: gain.logged };
    if (isNothing(due)) return; // fast: most edges are idle
    const nowMs = this.now();
    recent.add(nowMs, due);
    this.admit(ends).recent.add(nowMs, due);
  }

  private findEnds(series: LabelSet): Ends {
    const { source, destination } = placeOf(unpackLabels(series.labelKey) ?? []);
    const ends = endsOf(source.id, destination.id);
    this.endsOf.set(series, ends);
    return ends;
  }

  private admit(ends: Ends): Edge {
    const known = this.edges.get(ends.key);
    if (known) return known;
    if (this.edges.size >= this.limit && ends.key !== OTHER_ENDS.key) return this.admit(OTHER_ENDS);
    const edge = { ...ends, recent: new Recent(this.now()) };
    this.edges.set(ends.key, edge);
    return edge;
  }
}

function endsOf(source: string, destination: string): Ends {
  return { key: JSON.stringify([source, destination]), source, destination }; // any text may stand in an id
}

const OTHER_ENDS = endsOf(OTHER_NODE.id, OTHER_NODE.id);

/** Null when something fell. */
function gainOf(sum: Compared, before: Compared): Compared | null {
  const counted = sum.counted - before.counted;
  const logged = sum.logged - before.logged;
  const reported = sum.reported - before.reported;
  return Math.min(counted, logged, reported) < 0 ? null : { counted, logged, reported };
}
