// ProxyStats: what proxies told last of themselves and of their clusters, as they told it; bounded, and forgotten when they tell no more.

import { escapeValue } from "../label-value.ts";
import { PROXY_STATS, type ProxyStat } from "./stats.ts";

/** What was not told for so long is not shown any more: as long as Prometheus takes a series for live. */
const STALE_MS = 300_000;
/** How long a piece of text gets before it is handed on. */
const PIECE_LENGTH = 64 * 1024;
/** Longer names of clusters are cut, as label values are. */
const MAX_CLUSTER_LENGTH = 255;

/** Who a proxy is, by the rules of `identity.names`. */
export interface ProxyName {
  readonly service: string;
  readonly instance: string;
}

interface Value {
  value: number;
  /** When it was told last, by a clock that is not set. */
  atMs: number;
}

/** By which way a proxy tells: it may do so by both. */
export type ProxyStatsWay = "stream" | "scrape";

/** Which way a proxy is heard on, and as whom it is shown. */
interface Speaker {
  readonly way: ProxyStatsWay;
  readonly labels: string;
  atMs: number;
}

/** Of one proxy: by stat, by cluster ("" for the server's own). */
type Stats = (Map<string, Value> | undefined)[];

/** The labels of a proxy's series: `service="web.default",instance="web-1.default"`. */
export function proxyLabels({ service, instance }: ProxyName): string {
  return `service="${escapeValue(service)}",instance="${escapeValue(instance)}"`;
}

export class ProxyStats {
  /** Values for which there was no room. */
  refused = 0;
  /** By their labels, so that no series stands twice on the page, whatever proxies are called. */
  private readonly proxies = new Map<string, Stats>();
  /** By node id. */
  private readonly speakers = new Map<string, Speaker>();
  private held = 0;
  private nextPruneMs = 0;

  constructor(
    /** Most series. */
    private readonly maxSeries: number,
    private readonly nowMs: () => number = () => performance.now(),
  ) {}

  get size(): number {
    return this.held;
  }

  /**
   * Whether what the proxy tells on this way is shown, under these labels (`proxyLabels`). A stream has names that a scrape lacks, so while
   * there is one, it is the stream's; what was shown of the proxy under other labels goes.
   */
  hears(nodeId: string, labels: string, way: ProxyStatsWay): boolean {
    const atMs = this.nowMs();
    const known = this.speakers.get(nodeId);
    if (known?.way === way && known.labels === labels) {
      known.atMs = atMs; // fast
      return true;
    }
    if (known?.way === "stream" && way === "scrape" && known.atMs >= atMs - STALE_MS) return false;
    if (known === undefined && this.speakers.size >= this.maxSeries && !this.prune()) {
      this.refused++;
      return false;
    }
    if (known !== undefined && known.labels !== labels) this.drop(known.labels);
    this.speakers.set(nodeId, { way, labels, atMs });
    return true;
  }

  /** Takes what a proxy of these labels (`proxyLabels`) tells: replaces what it told before. `stat`: index into PROXY_STATS. */
  take(labels: string, stat: number, cluster: string, value: number): void {
    const key = cluster.slice(0, MAX_CLUSTER_LENGTH);
    const known = this.proxies.get(labels)?.[stat]?.get(key);
    if (known !== undefined) {
      known.value = value;
      known.atMs = this.nowMs();
    } else if (this.held < this.maxSeries || this.prune()) {
      this.add(labels, stat, key, value);
    } else {
      this.refused++;
    }
  }

  /** All families that have a series, in pieces that end at line ends. */
  *render(format: "text" | "openmetrics"): Generator<string> {
    this.forget();
    for (const [index, stat] of PROXY_STATS.entries()) {
      let piece = "";
      let isBegun = false;
      for (const line of this.lines(index, stat)) {
        piece += isBegun ? line : header(stat, format) + line;
        isBegun = true;
        if (piece.length < PIECE_LENGTH) continue;
        yield piece;
        piece = "";
      }
      if (piece !== "") yield piece;
    }
  }

  private *lines(index: number, { name, scope }: ProxyStat): Generator<string> {
    for (const [labels, stats] of this.proxies) {
      for (const [cluster, { value }] of stats[index] ?? []) {
        const of = scope === "cluster" ? `,envoy_cluster_name="${escapeValue(cluster)}"` : "";
        yield `${name}{${labels}${of}} ${value}\n`;
      }
    }
  }

  private add(labels: string, stat: number, key: string, value: number): void {
    const stats = this.proxies.get(labels) ?? [];
    this.proxies.set(labels, stats);
    const values = stats[stat] ?? new Map<string, Value>();
    stats[stat] = values;
    values.set(key, { value, atMs: this.nowMs() });
    this.held++;
  }

  /** Looks for what is stale, at most once a second since it takes long; whether there is room then. */
  private prune(): boolean {
    if (this.nowMs() >= this.nextPruneMs) {
      this.nextPruneMs = this.nowMs() + 1000;
      this.forget();
    }
    return this.held < this.maxSeries && this.speakers.size < this.maxSeries;
  }

  private drop(labels: string): void {
    for (const values of this.proxies.get(labels) ?? []) this.held -= values?.size ?? 0;
    this.proxies.delete(labels);
  }

  private forget(): void {
    const sinceMs = this.nowMs() - STALE_MS;
    for (const [labels, stats] of this.proxies) {
      let left = 0;
      for (const values of stats) {
        for (const [cluster, { atMs }] of values ?? []) if (atMs < sinceMs && values?.delete(cluster)) this.held--;
        left += values?.size ?? 0;
      }
      if (left === 0) this.proxies.delete(labels);
    }
    for (const [nodeId, { atMs }] of this.speakers) if (atMs < sinceMs) this.speakers.delete(nodeId);
  }
}

/** Envoy's names of counters lack the `_total` that OpenMetrics demands: there they are of no known type. */
function header({ name, kind, help }: ProxyStat, format: "text" | "openmetrics"): string {
  if (format === "text") return `# HELP ${name} ${help}\n# TYPE ${name} ${kind}\n`;
  if (kind === "gauge") return `# HELP ${name} ${help}\n# TYPE ${name} gauge\n`;
  const isCounter = name.endsWith("_total");
  const family = isCounter ? name.slice(0, -"_total".length) : name;
  return `# HELP ${family} ${help}\n# TYPE ${family} ${isCounter ? "counter" : "unknown"}\n`;
}
