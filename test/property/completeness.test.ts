// Random histories of proxies that restart, lose entries, hold entries back, and are scraped now and then: completeness is what the truth says.

import { expect, test } from "vitest";
import { ratiosOf } from "../../collector/completeness/compared.ts";
import { Completeness } from "../../collector/completeness/completeness.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { key } from "../collector/labels.ts";
import { cases } from "./cases.ts";
import { random } from "./random.ts";

const SEED = 20_261_121;
const HISTORIES = cases(100);
const STEPS = 300;
const KEYS = ["api", "db"].flatMap((destination_workload) =>
  ["200", "503"].map((response_code) => key({ source_workload: "web", destination_workload, response_code })),
);

/** What is true of one label set in one process life. */
interface Truth {
  served: number;
  scraped: number;
  logged: number;
}

interface Sums {
  readonly counted: number;
  readonly logged: number;
  readonly reported: number;
}

/** A proxy, and what the collector was told of it. */
class Reporter {
  private lifeMs = 1000;
  private readonly lives = new Map<number, Map<string, Truth>>();
  /** Entries that it holds back. */
  private held: { readonly lifeMs: number; readonly labelKey: string }[] = [];
  /** As it was at the first scrape after the first entry. */
  private begun: Sums | null = null;

  constructor(
    readonly id: string,
    private readonly store: SeriesStore,
    /** Share of its entries that are lost. */
    private readonly loss: number,
  ) {}

  serve(labelKey: string, draw: () => number): void {
    this.truthOf(this.lifeMs, labelKey).served++;
    if (draw() >= this.loss) this.held.push({ lifeMs: this.lifeMs, labelKey });
  }

  flush(): void {
    const numbers = { requests: 1, durationMs: 1, requestBytes: 1, responseBytes: 1 };
    for (const { lifeMs, labelKey } of this.held) {
      expect(this.store.observe({ proxy: this.id, lifeMs, labelKey, ...numbers })).toBeNull();
      this.truthOf(lifeMs, labelKey).logged++;
    }
    this.held = [];
  }

  scrape(): void {
    const truths = [...(this.lives.get(this.lifeMs) ?? [])];
    const samples = truths.map(([labelKey, { served }]) => ({ labelKey, requests: served, histograms: [] }));
    expect(this.store.report({ proxy: this.id, lifeMs: this.lifeMs, samples, tcpSamples: [] })).toBe("ok");
    for (const [, truth] of truths) truth.scraped = truth.served;
    if (this.begun === null && this.sums().logged > 0) this.begun = this.sums();
  }

  restart(): void {
    this.lifeMs += 1000;
  }

  /** Since both channels have told of it: null when nothing was counted. */
  expected(): readonly [accessLog: number, stats: number] | null {
    const { begun } = this;
    if (begun === null) return null;
    const now = this.sums();
    const counted = now.counted - begun.counted;
    // Entries that were held back when it began come on top: they make up for as many that are lost.
    const share = (told: number) => Math.min(1, told / counted);
    return counted === 0 ? null : [share(now.logged - begun.logged), share(now.reported - begun.reported)];
  }

  private sums(): Sums {
    const truths = [...this.lives.values()].flatMap((life) => [...life.values()]);
    const sum = (read: (truth: Truth) => number) => truths.reduce((total, truth) => total + read(truth), 0);
    return {
      counted: sum(({ scraped, logged }) => Math.max(scraped, logged)),
      logged: sum(({ logged }) => logged),
      reported: sum(({ scraped }) => scraped),
    };
  }

  private truthOf(lifeMs: number, labelKey: string): Truth {
    const life = this.lives.get(lifeMs) ?? new Map<string, Truth>();
    this.lives.set(lifeMs, life);
    const truth = life.get(labelKey) ?? { served: 0, scraped: 0, logged: 0 };
    life.set(labelKey, truth);
    return truth;
  }
}

function runHistory(draw: () => number): number {
  const clock = { nowMs: 1_000_000 };
  const limits = { proxies: 100, labelSets: 100, cells: 10_000, connections: 10, retireAfterMs: 600_000 };
  const store = new SeriesStore(limits, { wallMs: () => clock.nowMs, steadyMs: () => clock.nowMs });
  const completeness = new Completeness(store, 100, () => clock.nowMs);
  store.onReport = (proxy) => completeness.compare(proxy);
  const proxies = [0, 0, 0.1, 0.9].map((loss, i) => new Reporter(`p${i}`, store, loss));
  const ratios = () => new Map(completeness.read().proxies.map((each) => [each.proxy, ratiosOf(each)] as const));
  const outside: number[] = [];
  for (let step = 0; step < STEPS; step++) {
    const proxy = proxies[Math.floor(draw() * proxies.length)] as Reporter;
    const what = draw();
    clock.nowMs += 100;
    if (what < 0.7) proxy.serve(KEYS[Math.floor(draw() * KEYS.length)] as string, draw);
    else if (what < 0.85) proxy.flush();
    else if (what < 0.97) proxy.scrape();
    else proxy.restart();
    const all = [...ratios().values()].flatMap((each) => (each === null ? [] : [each.accessLog, each.stats]));
    outside.push(...all.filter((ratio) => !(ratio >= 0 && ratio <= 1)));
  }
  expect(outside).toEqual([]);
  for (const proxy of proxies) {
    proxy.flush();
    proxy.scrape();
    proxy.scrape();
  }
  const last = ratios();
  for (const proxy of proxies) {
    const expected = proxy.expected();
    const found = last.get(proxy.id) ?? null;
    expect(found === null ? null : [found.accessLog, found.stats], proxy.id).toEqual(expected);
  }
  return last.size;
}

test(`${HISTORIES} histories: each ratio is in [0, 1] all the time, and at last the true one (seed ${SEED})`, () => {
  const draw = random(SEED);
  let compared = 0;
  for (let i = 0; i < HISTORIES; i++) compared += runHistory(draw);
  expect(compared).toBeGreaterThan(2 * HISTORIES);
});
