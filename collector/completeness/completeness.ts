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
import { type Compared, type CompletenessReading, NOTHING } from "./compared.ts";
import { Recent } from "./recent.ts";

interface Edge {
  readonly source: string;
  readonly destination: string;
  readonly recent: Recent;
}

/** What came to an edge at one proxy, over all process lives of it that are held. */
interface Sums {
  counted: number;
  logged: number;
  reported: number;
}

interface ProxyState {
  readonly recent: Recent;
  /** As they were after the scrape before. */
  sums: ReadonlyMap<Edge, Compared>;
  /** What that scrape found gained: its counts are still to be compared. */
  readonly gains: Map<Edge, Compared>;
}

export class Completeness {
  private readonly states = new WeakMap<ProxyLives, ProxyState>();
  private readonly edges = new Map<string, Edge>();
  private readonly edgeOf = new WeakMap<LabelSet, Edge>();

  constructor(
    private readonly store: Pick<SeriesStore, "http" | "proxies">,
    /** Most edges held; what comes after is one edge from `other` to `other`, as in the service graph. */
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
    for (const [edge, sum] of sums) this.addGain(state, edge, sum);
    state.sums = sums;
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

  private sumsOf({ lives, unstamped }: ProxyLives): Map<Edge, Sums> {
    const sums = new Map<Edge, Sums>();
    for (const life of unstamped === null ? lives : [...lives, unstamped]) {
      for (const { series, counted, logged, reported } of this.store.http.readPairs(life)) {
        const edge = this.edgeOf.get(series) ?? this.findEdge(series);
        let sum = sums.get(edge);
        if (sum === undefined) {
          sum = { counted: 0, logged: 0, reported: 0 };
          sums.set(edge, sum);
        }
        sum.counted += counted;
        sum.logged += logged;
        sum.reported += reported;
      }
    }
    return sums;
  }

  /** Sums fall only when a process life was let go of; what was gained then is left out. */
  private addGain({ recent, sums, gains }: ProxyState, edge: Edge, sum: Compared): void {
    const gain = gainOf(sum, sums.get(edge) ?? NOTHING);
    if (gain === null) return;
    const { counted, reported } = gains.get(edge) ?? NOTHING;
    gains.set(edge, gain);
    const nowMs = this.now();
    const due = { counted, reported, logged: gain.logged };
    recent.add(nowMs, due);
    edge.recent.add(nowMs, due);
  }

  private findEdge(series: LabelSet): Edge {
    const { source, destination } = placeOf(unpackLabels(series.labelKey) ?? []);
    const edge = this.admit(source.id, destination.id);
    this.edgeOf.set(series, edge);
    return edge;
  }

  private admit(source: string, destination: string): Edge {
    const key = JSON.stringify([source, destination]); // any text may stand in an id
    const known = this.edges.get(key);
    if (known) return known;
    const isOther = source === OTHER_NODE.id && destination === OTHER_NODE.id;
    if (this.edges.size >= this.limit && !isOther) return this.admit(OTHER_NODE.id, OTHER_NODE.id);
    const edge = { source, destination, recent: new Recent(this.now()) };
    this.edges.set(key, edge);
    return edge;
  }
}

/** Null when something fell. */
function gainOf(sum: Compared, before: Compared): Compared | null {
  const counted = sum.counted - before.counted;
  const logged = sum.logged - before.logged;
  const reported = sum.reported - before.reported;
  return Math.min(counted, logged, reported) < 0 ? null : { counted, logged, reported };
}
