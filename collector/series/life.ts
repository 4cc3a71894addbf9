// Lives: which process lives of which proxies are held, and when one is let go.
//
//   proxy "sidecar~10.0.0.1~web.default~..."
//     |- life 1767000000000    superseded: kept for a grace, so that late log entries still merge; then retired
//     |- life 1767000360000    the newest: kept
//     `- life 0, "unstamped"   log entries that name no life (the proxy has no filter, or does not log its observation)

import type { Cell } from "./cell.ts";

/** Proxies that went away and whose lives must not be counted again. 50,000 node ids are some 10 MB. */
const TOMBSTONES = 50_000;

export const UNSTAMPED = 0;

/** One process life of a proxy. */
export class Life {
  touchedMs: number;
  /** Whether a scrape of this life was merged already. */
  isReported = false;
  /** By packed label set. */
  readonly cells = new Map<string, Cell>();

  constructor(
    readonly proxy: ProxyLives,
    /** When the process started, Unix ms; UNSTAMPED for the life that stands for "not said". */
    readonly startMs: number,
    nowMs: number,
  ) {
    this.touchedMs = nowMs;
  }
}

export class ProxyLives {
  /** Stamped lives, oldest first; rarely more than two. */
  readonly lives: Life[] = [];
  unstamped: Life | null = null;

  constructor(
    readonly id: string,
    /** The start of the newest life that was retired; a life as old or older that is not held must not be counted again. */
    public retiredUpToMs: number,
  ) {}

  get newest(): Life | undefined {
    return this.lives[this.lives.length - 1];
  }

  find(startMs: number): Life | undefined {
    if (startMs === UNSTAMPED) return this.unstamped ?? undefined;
    const newest = this.newest;
    if (newest?.startMs === startMs) return newest; // fast: nearly every record
    return this.lives.find((life) => life.startMs === startMs);
  }
}

export interface LivesOptions {
  /** Most lives held at once. */
  readonly limit: number;
  /** How long a superseded life waits for late entries; also, how long a proxy must be silent to make room for another. */
  readonly retireAfterMs: number;
  /** Called once for each life that is let go. */
  readonly onRetire: (life: Life) => void;
}

export class Lives {
  private readonly proxies = new Map<string, ProxyLives>();
  /** Proxy id -> retiredUpToMs, oldest first. Past TOMBSTONES the oldest is forgotten: only then could it count again. */
  private readonly tombstones = new Map<string, number>();
  private count = 0;
  private nextEvictionMs = 0;

  constructor(private readonly options: LivesOptions) {}

  get size(): number {
    return this.count;
  }

  /** The life, held from now on; or why it cannot be. */
  find(proxyId: string, startMs: number, nowMs: number): Life | "life_retired" | "proxies_full" {
    const known = this.proxies.get(proxyId);
    const life = known?.find(startMs) ?? this.admit(proxyId, startMs, nowMs);
    if (typeof life !== "string") life.touchedMs = nowMs;
    return life;
  }

  private admit(proxyId: string, startMs: number, nowMs: number): Life | "life_retired" | "proxies_full" {
    const retiredUpToMs = this.proxies.get(proxyId)?.retiredUpToMs ?? this.tombstones.get(proxyId) ?? 0;
    if (startMs !== UNSTAMPED && startMs <= retiredUpToMs) return "life_retired";
    if (this.count >= this.options.limit && !this.evictIdlest(nowMs)) return "proxies_full";
    let proxy = this.proxies.get(proxyId);
    if (!proxy) {
      proxy = new ProxyLives(proxyId, this.tombstones.get(proxyId) ?? 0);
      this.proxies.set(proxyId, proxy);
      this.tombstones.delete(proxyId);
    }
    const life = new Life(proxy, startMs, nowMs);
    if (startMs === UNSTAMPED) {
      proxy.unstamped = life;
    } else {
      for (const older of proxy.lives) older.touchedMs = nowMs; // the grace of a superseded life starts now
      proxy.lives.push(life);
      proxy.lives.sort((a, b) => a.startMs - b.startMs);
    }
    this.count++;
    return life;
  }

  /** Retires every superseded life that nothing has touched for the grace. */
  retireSuperseded(nowMs: number): void {
    for (const proxy of this.proxies.values()) {
      const newest = proxy.newest;
      for (const life of [...proxy.lives]) {
        if (life !== newest && nowMs - life.touchedMs >= this.options.retireAfterMs) this.retire(life);
      }
    }
  }

  private retire(life: Life): void {
    const { proxy } = life;
    proxy.lives.splice(proxy.lives.indexOf(life), 1);
    proxy.retiredUpToMs = Math.max(proxy.retiredUpToMs, life.startMs);
    this.count--;
    this.options.onRetire(life);
  }

  /**
   * Makes room when the limit is reached: the proxy that has been silent longest goes, all its lives at once, if it has been
   * silent for the grace. So pods that come and go do not fill the limit, and one that still speaks is never given up.
   */
  private evictIdlest(nowMs: number): boolean {
    if (nowMs < this.nextEvictionMs) return false;
    let idlest: ProxyLives | null = null;
    let idlestTouchedMs = nowMs - this.options.retireAfterMs;
    for (const proxy of this.proxies.values()) {
      const touchedMs = lastTouchedMs(proxy);
      if (touchedMs > idlestTouchedMs) continue;
      idlestTouchedMs = touchedMs;
      idlest = proxy;
    }
    if (!idlest) {
      this.nextEvictionMs = nowMs + 1000; // slow: a search over all proxies, so at most once a second in vain
      return false;
    }
    for (const life of [...idlest.lives]) this.retire(life);
    if (idlest.unstamped) {
      this.count--;
      this.options.onRetire(idlest.unstamped);
    }
    this.proxies.delete(idlest.id);
    this.bury(idlest);
    return true;
  }

  private bury(proxy: ProxyLives): void {
    if (proxy.retiredUpToMs === 0) return; // only ever unstamped: its entries are counted one by one, nothing can come twice
    if (this.tombstones.size >= TOMBSTONES) {
      const oldest = this.tombstones.keys().next();
      if (!oldest.done) this.tombstones.delete(oldest.value);
    }
    this.tombstones.set(proxy.id, proxy.retiredUpToMs);
  }
}

function lastTouchedMs(proxy: ProxyLives): number {
  let touchedMs = proxy.unstamped?.touchedMs ?? 0;
  for (const life of proxy.lives) touchedMs = Math.max(touchedMs, life.touchedMs);
  return touchedMs;
}
