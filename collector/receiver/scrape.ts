// Scraper: reads the proxies' own stats, every few seconds, each target on its own clock. Targets come and go as their sources say.

import { setTimeout as sleep } from "node:timers/promises";
import type { FreshClientTls } from "../client/client-tls.ts";
import { CounterRows } from "../record/counter-resets.ts";
import { LabelTexts, readLabelText } from "../record/stats-labels.ts";
import { LabelMessages } from "../record/stats-protobuf.ts";
import type { Shapes } from "../series/shape.ts";
import { MissingBounds } from "./missing-bounds.ts";
import { Agents } from "./scrape/http-get.ts";
import { Slots } from "./scrape/slots.ts";
import { type ScrapeStatus, Target, type TargetOptions, type TargetShared } from "./scrape/target.ts";
import { adminSpec, type TargetSpec } from "./scrape/target-spec.ts";
import { UntaggedLabels } from "./scrape/untagged-labels.ts";

export type { ScrapeStatus } from "./scrape/target.ts";

/** Scrapes of one target begin so much earlier or later than the interval says, so that targets do not fall into step. */
const JITTER = 0.1;
/** The first readings are spread over so much time for each target, over an interval at most. */
const SPREAD_MS = 10;
/** A target that takes longer keeps no place from the others. */
const PATIENCE_MS = 500;
/** A target that its source left out is known for so long, in case it comes back. */
const REMEMBER_MS = 600_000;
/** And of so many, those that were left out last. */
const MAX_LEFT = 1000;
const MIN_IDLE_MS = 60_000;

export interface ScraperOptions extends TargetOptions {
  /** Base URLs of admin interfaces: "http://127.0.0.1:9901". */
  readonly targets: readonly string[];
  readonly intervalMs: number;
  /** How rows are laid out, by the bounds by which the collector counts. */
  readonly shapes: Shapes;
  /** By HttpMetric, the bounds that are shown of it; default: all. */
  readonly buckets?: readonly (readonly number[])[];
  /** Of https targets; default: Node's authorities, no certificate of ours. */
  readonly tls?: FreshClientTls | null;
  /** Targets read at the same moment. */
  readonly concurrency: number;
}

/** A target that is read, and how to end that. */
interface Active {
  readonly target: Target;
  readonly stopping: AbortController;
  loop: Promise<void>;
}

export class Scraper {
  private readonly slots: Slots;
  private readonly shared: TargetShared;
  private readonly active = new Map<string, Active>();
  /** Those that were left out, by the time until which they are known; the oldest first. */
  private readonly left = new Map<string, { readonly target: Target; readonly untilMs: number }>();
  private isStarted = false;
  private isRoundTried = false;
  private firstRound: Promise<void> = Promise.resolve();

  constructor(private readonly options: ScraperOptions) {
    this.slots = new Slots(options.concurrency, PATIENCE_MS);
    const { bounds } = options.shapes[0].layout;
    this.shared = {
      agents: new Agents(Math.max(MIN_IDLE_MS, 2 * options.intervalMs), options.tls ?? null),
      texts: new LabelTexts(readLabelText),
      messages: new LabelMessages(),
      bounds,
      domain: options.proxyStats?.domain ?? null,
      rows: new CounterRows(options.shapes),
      untagged: new UntaggedLabels(options.self),
      missingBounds: new MissingBounds("scrape", bounds, options.buckets ?? [], options.self),
    };
    this.use(options.targets.map(adminSpec));
  }

  /** Whether every target that there was at the start was read, or tried to be, at least once. True when there was none. */
  get isReady(): boolean {
    return this.isRoundTried;
  }

  /** One for each target. */
  get statuses(): readonly ScrapeStatus[] {
    return [...this.active.values()].map(({ target }) => target.status);
  }

  start(): void {
    this.isStarted = true;
    const spreadMs = Math.min(this.options.intervalMs, this.active.size * SPREAD_MS);
    const firstTries = [...this.active.values()].map((each) => this.begin(each, spreadMs));
    this.firstRound = Promise.all(firstTries).then(() => {
      this.isRoundTried = true;
    });
  }

  /** These are the targets from now on. Of several with one URL, the first counts. What a target that is left out counted, stays. */
  use(specs: readonly TargetSpec[]): void {
    const wanted = new Map<string, TargetSpec>();
    for (const spec of specs) if (!wanted.has(spec.statsUrl)) wanted.set(spec.statsUrl, spec);
    for (const [url, each] of this.active) if (!wanted.has(url)) this.leave(url, each);
    const newOnes = [...wanted.values()].filter((spec) => !this.update(spec)).map((spec) => this.add(spec));
    this.forgetOld();
    if (!this.isStarted) return;
    const spreadMs = Math.min(this.options.intervalMs, newOnes.length * SPREAD_MS);
    for (const each of newOnes) this.begin(each, spreadMs);
  }

  /** Reads every target once more, from now on; for tests. */
  async scrapeNow(): Promise<void> {
    await Promise.all([this.firstRound, ...[...this.active.values()].map((each) => this.scrape(each))]);
  }

  /** Breaks off what is under way. Targets that are told of later are read no more. */
  async stop(): Promise<void> {
    this.isStarted = false;
    const all = [...this.active.values()];
    for (const { stopping } of all) stopping.abort();
    await Promise.all(all.map(({ loop }) => loop));
    this.shared.agents.destroy();
  }

  /** Whether the target is one that is read already. */
  private update(spec: TargetSpec): boolean {
    const known = this.active.get(spec.statsUrl);
    if (known !== undefined) known.target.spec = spec;
    return known !== undefined;
  }

  private add(spec: TargetSpec): Active {
    const left = this.left.get(spec.statsUrl);
    this.left.delete(spec.statsUrl);
    const target = left?.target ?? new Target(spec, this.shared, this.options);
    target.spec = spec;
    const each = { target, stopping: new AbortController(), loop: Promise.resolve() };
    this.active.set(spec.statsUrl, each);
    return each;
  }

  private leave(url: string, { target, stopping }: Active): void {
    stopping.abort();
    this.active.delete(url);
    this.left.set(url, { target, untilMs: performance.now() + REMEMBER_MS });
  }

  private forgetOld(): void {
    for (const [url, { target, untilMs }] of this.left) {
      if (performance.now() < untilMs && this.left.size <= MAX_LEFT) return;
      this.left.delete(url);
      target.release();
    }
  }

  /** Reads it from now on, the first time after a part of `spreadMs`. Resolves when it was tried once. */
  private begin(each: Active, spreadMs: number): Promise<void> {
    const { signal } = each.stopping;
    const firstTry = pause(Math.random() * spreadMs, signal).then(() => this.scrape(each));
    each.loop = this.repeat(each, firstTry);
    return firstTry;
  }

  private async repeat(each: Active, firstTry: Promise<void>): Promise<void> {
    const { signal } = each.stopping;
    await firstTry;
    let beganMs = performance.now(); // Unix time may be set
    while (!signal.aborted) {
      const nextMs = beganMs + this.options.intervalMs * (1 + JITTER * (2 * Math.random() - 1));
      await pause(nextMs - performance.now(), signal);
      if (signal.aborted) return;
      this.forgetOld();
      beganMs = performance.now();
      await this.scrape(each);
    }
  }

  /** One reading of one target, after the one that is under way. Never rejects. */
  private scrape({ target, stopping }: Active): Promise<void> {
    return target.inTurn(() => this.slots.run(() => target.scrape(stopping.signal)));
  }
}

/** Waits, or until the signal. Never rejects. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(Math.max(0, ms), undefined, { signal });
  } catch (error: unknown) {
    if (!signal.aborted) throw error;
  }
}
