// Lives: which process lives of which proxies are held, and when one is let go.
//
//   proxy "sidecar~10.0.0.1~web.default~..."
//     |- life 1767000360000    superseded: kept for a grace, so that late log entries still merge; then retired
//     |- life 1767000000000    the current one: kept. Its clock was set back, so a start says nothing of the order
//     `- life 0, "unstamped"   log entries that name no life (the proxy has no filter, or does not log its observation)

import type { ConnectionPart } from "../record/record.ts";
import { LifeCells } from "./cell.ts";

/** Proxies that went away and whose lives must not be counted again. 50,000 of them are some 15 MB. */
const TOMBSTONES = 50_000;
/** Retired starts remembered of one proxy. It loses one by a restart, and each stays retired for at least a grace before. */
const RETIRED_STARTS = 64;
/** A proxy's clock may be so far ahead of ours. A start beyond that is none: while Envoy restarts hot, its stats show the sum of two processes' gauges. */
const MAX_AHEAD_MS = 60_000;
/** A proxy that only logs is silent for as long as nobody calls: over a weekend, say. */
const LOGGER_SILENT_MS = 7 * 24 * 3_600_000;
/** When all were silent for so long, as while the collector was cut off, the silence of each begins anew. */
const ALL_SILENT_MS = 1_800_000;

export const UNSTAMPED = 0;

/** Why a life is not held. */
export type Refusal = "life_retired" | "proxies_full" | "in_future";

export interface Clock {
  /** Unix time; may be set. */
  readonly wallMs: () => number;
  /** Never jumps. */
  readonly steadyMs: () => number;
}

/** Envoy's id of a connection where the life is known, which it is unique in; else the stream id. */
export type ConnectionId = number | string;

let nextSerial = 1;

/** One process life of a proxy. */
export class Life {
  /** By the steady clock. */
  touchedMs: number;
  /** Number of the last record or scrape of it, counted over all lives. */
  spoke = 0;
  /** Whether a scrape of this life was merged already. */
  isReported = false;
  /** Different for each Life. */
  readonly serial = nextSerial++;
  /** By the index of the shape. */
  readonly cells: readonly LifeCells[] = [new LifeCells(), new LifeCells()];
  /** TCP connections of which more is to come, by their id (connections.ts). */
  readonly connections = new Map<ConnectionId, ConnectionPart[]>();

  constructor(
    readonly proxy: ProxyLives,
    /** When the process started, Unix ms; UNSTAMPED for the life that stands for "not said". */
    readonly startMs: number,
    nowMs: number,
  ) {
    this.touchedMs = nowMs;
  }
}

/** What must not be counted again of a proxy. */
export class Past {
  /** Starts of lives that were retired, oldest retirement first. */
  readonly starts: number[] = [];
  /** When the last entry came that named no life, Unix ms: it may have told of any life that had begun by then. */
  unstampedUntilMs = 0;
  /** Whether a stamped life went that told of TCP connections which had not ended, and which no unstamped one takes into account. */
  hasOpen = false;

  add(startMs: number): void {
    if (this.starts.length >= RETIRED_STARTS) this.starts.shift();
    this.starts.push(startMs);
  }

  covers(startMs: number): boolean {
    return startMs !== UNSTAMPED && (startMs <= this.unstampedUntilMs || this.starts.includes(startMs));
  }
}

export class ProxyLives {
  /** Stamped lives, in the order in which they were first heard of; rarely more than two. */
  readonly lives: Life[] = [];
  unstamped: Life | null = null;
  /**
   * Whether its label sets overflow into one, both ends' reports in it: what was saved had counted them there, and whatever tells of the same
   * requests has to go where they are.
   */
  hasMixedOverflow = false;
  /** By the index of the shape: values of label sets that stay in the overflow, whatever room is made (table.ts). */
  readonly keptOut: readonly Set<string>[] = [new Set(), new Set()];

  constructor(
    readonly id: string,
    readonly past: Past,
  ) {}

  find(startMs: number): Life | undefined {
    if (startMs === UNSTAMPED) return this.unstamped ?? undefined;
    const newest = this.lives[this.lives.length - 1];
    if (newest?.startMs === startMs) return newest; // fast: nearly every record
    return this.lives.find((life) => life.startMs === startMs);
  }

  /**
   * Whether a life that was first heard of later has spoken since. Not whether it has the larger start: clocks are set back, and
   * two processes may go by one node id.
   */
  isSuperseded(life: Life): boolean {
    return this.lives.slice(this.lives.indexOf(life) + 1).some((later) => later.spoke > life.spoke);
  }
}

export interface LivesOptions {
  /** Most lives held at once. */
  readonly limit: number;
  /** How long a superseded life waits for late entries; also, how long a proxy must be silent to make room for another. */
  readonly retireAfterMs: number;
  /** Called once for each life that is let go. */
  readonly onRetire: (life: Life) => void;
  readonly clock: Clock;
}

export class Lives {
  readonly proxies = new Map<string, ProxyLives>();
  /** By proxy id, oldest first. Past TOMBSTONES the oldest is forgotten: only then could it count again. */
  readonly tombstones = new Map<string, Past>();
  private count = 0;
  private words = 0;
  private nextEvictionMs = 0;
  /** When anybody spoke last; and when somebody did first after a long silence of all. */
  private spokenMs = 0;
  private heardSinceMs = 0;

  constructor(private readonly options: LivesOptions) {}

  get size(): number {
    return this.count;
  }

  /** Those of which a life is held. */
  get all(): Iterable<ProxyLives> {
    return this.proxies.values();
  }

  /** The life, held from now on; or why it cannot be. */
  find(proxyId: string, startMs: number): Life | Refusal {
    const nowMs = this.options.clock.steadyMs();
    if (nowMs - this.spokenMs > ALL_SILENT_MS) this.heardSinceMs = nowMs;
    this.spokenMs = nowMs;
    const known = this.proxies.get(proxyId);
    const life = known?.find(startMs) ?? this.admit(proxyId, startMs, nowMs);
    if (typeof life !== "string") {
      life.touchedMs = nowMs;
      life.spoke = ++this.words;
    }
    return life;
  }

  /** Whether a process life of the proxy is held that says when it began: it has the filter. */
  knowsStamped(proxyId: string): boolean {
    return (this.proxies.get(proxyId)?.lives.length ?? 0) > 0;
  }

  /** Whether a stamped life of the proxy was let go. */
  hasRetired(proxyId: string): boolean {
    return (this.pastIfAny(proxyId)?.starts.length ?? 0) > 0;
  }

  /**
   * Whether stamped lives of the proxy were let go, so that nobody knows which of its connections were counted: of those that entries
   * without a life tell of, one that goes on would count again. While others are held it takes one that left some open: an Envoy that
   * drains beside the one that took over from it, or a second proxy of the same node id.
   */
  hasLostStamped(proxyId: string): boolean {
    const past = this.pastIfAny(proxyId);
    if (past === undefined || past.starts.length === 0) return false;
    return past.hasOpen || !this.knowsStamped(proxyId);
  }

  /** Whether an unstamped life of the proxy was let go. */
  hasLostUnstamped(proxyId: string): boolean {
    const past = this.pastIfAny(proxyId);
    return past !== undefined && past.unstampedUntilMs > 0;
  }

  private admit(proxyId: string, startMs: number, nowMs: number): Life | Refusal {
    if (this.isPast(proxyId, startMs)) return "life_retired";
    if (startMs > this.options.clock.wallMs() + MAX_AHEAD_MS) return "in_future";
    if (this.count >= this.options.limit) {
      if (!this.evictIdlest(nowMs)) return "proxies_full";
      if (this.isPast(proxyId, startMs)) return "life_retired"; // it was this very proxy that went
    }
    let proxy = this.proxies.get(proxyId);
    if (!proxy) {
      proxy = new ProxyLives(proxyId, this.tombstones.get(proxyId) ?? new Past());
      this.proxies.set(proxyId, proxy);
      this.tombstones.delete(proxyId);
    }
    const life = new Life(proxy, startMs, nowMs);
    if (startMs === UNSTAMPED) {
      proxy.unstamped = life;
    } else {
      for (const older of proxy.lives) older.touchedMs = nowMs; // the grace of a superseded life starts now
      proxy.lives.push(life);
    }
    this.count++;
    return life;
  }

  /** The past of a proxy that is held, or was. */
  pastOf(proxyId: string): Past {
    const known = this.pastIfAny(proxyId);
    if (known) return known;
    const proxy = { id: proxyId, past: new Past() };
    this.bury(proxy);
    return proxy.past;
  }

  /** Holds a life that was held before the collector restarted, as if it had spoken now; the lives of a proxy come in their order. */
  restore(proxyId: string, startMs: number, spoke: number): Life {
    const proxy = this.proxies.get(proxyId) ?? new ProxyLives(proxyId, this.pastOf(proxyId));
    this.proxies.set(proxyId, proxy);
    this.tombstones.delete(proxyId);
    const known = proxy.find(startMs);
    if (known) return known;
    const life = new Life(proxy, startMs, this.options.clock.steadyMs());
    life.spoke = spoke;
    this.words = Math.max(this.words, spoke);
    if (startMs === UNSTAMPED) proxy.unstamped = life;
    else proxy.lives.push(life);
    this.count++;
    return life;
  }

  /** Lets go of a life that was let go while it was saved. */
  dropRestored(proxyId: string, startMs: number): void {
    const proxy = this.proxies.get(proxyId);
    const life = proxy?.find(startMs);
    if (!proxy || !life) return;
    if (startMs === UNSTAMPED) proxy.unstamped = null;
    else proxy.lives.splice(proxy.lives.indexOf(life), 1);
    this.count--;
    this.options.onRetire(life);
    if (proxy.unstamped !== null || proxy.lives.length > 0) return;
    this.proxies.delete(proxyId);
    this.bury(proxy);
  }

  private isPast(proxyId: string, startMs: number): boolean {
    return this.pastIfAny(proxyId)?.covers(startMs) ?? false;
  }

  private pastIfAny(proxyId: string): Past | undefined {
    return this.proxies.get(proxyId)?.past ?? this.tombstones.get(proxyId);
  }

  /** Retires every superseded life that nothing has touched for the grace. */
  retireSuperseded(): void {
    const idleSinceMs = this.options.clock.steadyMs() - this.options.retireAfterMs;
    for (const proxy of this.proxies.values()) {
      if (proxy.lives.length < 2) continue; // fast: nearly all
      const due = proxy.lives.filter((life) => life.touchedMs <= idleSinceMs && proxy.isSuperseded(life));
      for (const life of due) this.retire(life);
    }
  }

  /**
   * Makes room by letting go of proxies that are gone: those whose stats were read, and have not been for so long; and those that only log,
   * after so much longer, since one without requests has nothing to tell. A living one that is taken for gone is refused until it restarts.
   */
  retireSilent(forMs: number): void {
    const nowMs = this.options.clock.steadyMs();
    for (const proxy of this.proxies.values()) {
      const silentMs = this.spokenMs - Math.max(lastTouchedMs(proxy), this.heardSinceMs); // while others spoke
      if (silentMs <= forMs) continue; // fast: nearly all
      if (silentMs > Math.max(forMs, LOGGER_SILENT_MS) || proxy.lives.some(isRead)) this.letGo(proxy, nowMs);
    }
  }

  private retire(life: Life): void {
    const { proxy } = life;
    proxy.lives.splice(proxy.lives.indexOf(life), 1);
    proxy.past.add(life.startMs);
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
    this.letGo(idlest, nowMs);
    return true;
  }

  private letGo(proxy: ProxyLives, nowMs: number): void {
    for (const life of [...proxy.lives]) this.retire(life);
    if (proxy.unstamped) this.retireUnstamped(proxy, proxy.unstamped, nowMs);
    this.proxies.delete(proxy.id);
    this.bury(proxy);
  }

  private retireUnstamped(proxy: ProxyLives, life: Life, nowMs: number): void {
    const { past } = proxy;
    const lastMs = this.options.clock.wallMs() - (nowMs - life.touchedMs);
    past.unstampedUntilMs = Math.max(past.unstampedUntilMs, lastMs + MAX_AHEAD_MS);
    this.count--;
    this.options.onRetire(life);
  }

  private bury({ id, past }: Pick<ProxyLives, "id" | "past">): void {
    if (this.tombstones.size >= TOMBSTONES) {
      const oldest = this.tombstones.keys().next();
      if (!oldest.done) this.tombstones.delete(oldest.value);
    }
    this.tombstones.set(id, past);
  }
}

/** Whether stats of it were read, by this collector or the one before it. */
function isRead(life: Life): boolean {
  return life.isReported || life.cells.some(({ byKey }) => [...byKey.values()].some(({ stats }) => stats >= 0));
}

function lastTouchedMs(proxy: ProxyLives): number {
  let touchedMs = proxy.unstamped?.touchedMs ?? 0;
  for (const life of proxy.lives) touchedMs = Math.max(touchedMs, life.touchedMs);
  return touchedMs;
}
