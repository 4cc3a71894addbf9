// Metrics that a configuration customised, each in its own way: labels removed, overridden and added, metrics dropped, all of it always or on a
// condition. What proxies then say in stats and access log, in whatever order, must come to the requests that there were.

import { describe, expect, it } from "vitest";
import { silentLog } from "../../collector/log.ts";
import { AlsReceiver } from "../../collector/receiver/als.ts";
import { CounterResets, CounterRows } from "../../collector/record/counter-resets.ts";
import type { StatsReport } from "../../collector/record/record.ts";
import { SelfMetrics } from "../../collector/self.ts";
import { binMiddle, DEFAULT_BOUNDS, wholeSum } from "../../collector/series/histogram.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { HISTOGRAM_BOUNDS, HTTP_METRICS, HttpMetric, LABELS, type Metric } from "../../collector/vocabulary.ts";
import { TrafficFamilies } from "../../collector/web/exposition/families.ts";
import { TextTraffic } from "../../collector/web/exposition/text.ts";
import { bytesState, encodeMessage } from "../fixtures/als.ts";
import {
  encodeObservation,
  encodeSplitObservation,
  NEVER_FINISHED,
  type ObservedLabels,
} from "../fixtures/observation.ts";
import { readStats } from "../fixtures/stats.ts";
import { random } from "../property/random.ts";

const SEED = Number(process.env["SEED"] ?? 20261122);
const HISTORIES = 15;
const REQUESTS_PER_HISTORY = 50;
const START_MS = 1_000_000;
const METRICS = [...HTTP_METRICS.keys()];
const OBSERVATION_STATE = "wasm.meshtally.observation";
const VALUES = ["a", "b", "", 'say "hi"', "back\\slash", "ü", "a}b{c"];
const ADDED = ["request_host", "tier", "a_pod"];

type Draw = (below: number) => number;

/** What a request is, before any configuration. */
interface Request {
  /** In the order of LABELS. */
  readonly labels: readonly string[];
  readonly durationMs: number;
  readonly requestBytes: number;
  readonly responseBytes: number;
  /** What conditions and expressions look at. */
  readonly facts: readonly number[];
}

type Condition = (request: Request) => boolean;

/** What is configured for one metric. */
interface Plan {
  /** Index in LABELS -> when it is removed. */
  readonly removed: ReadonlyMap<number, Condition>;
  /** Index in LABELS -> its value instead; undefined: as it was. An overridden label is there though it was removed. */
  readonly overridden: ReadonlyMap<number, (request: Request) => string | undefined>;
  /** Labels besides LABELS. */
  readonly added: ReadonlyMap<string, (request: Request) => string>;
  readonly isDropped: Condition;
}

function randomCondition(draw: Draw): Condition {
  const [fact, value] = [draw(3), draw(2)];
  return draw(2) === 0 ? () => true : ({ facts }) => facts[fact] === value;
}

function randomPlan(draw: Draw): Plan {
  const some = <T>(most: number, made: () => T): T[] => Array.from({ length: draw(most + 1) }, made);
  const label = () => draw(LABELS.length);
  const value = () => VALUES[draw(VALUES.length)] as string;
  const removed = new Map(some(6, () => [label(), randomCondition(draw)]));
  const overridden = new Map(
    some(3, () => {
      const [when, to] = [randomCondition(draw), value()];
      return [label(), (request: Request) => (when(request) ? to : undefined)];
    }),
  );
  const added = new Map(
    some(2, () => {
      const fact = draw(3);
      return [ADDED[draw(ADDED.length)] as string, ({ facts }: Request) => `v${facts[fact]}`];
    }),
  );
  return { removed, overridden, added, isDropped: draw(4) === 0 ? randomCondition(draw) : () => false };
}

const UNTOUCHED: Plan = { removed: new Map(), overridden: new Map(), added: new Map(), isDropped: () => false };

function randomPlans(draw: Draw): readonly Plan[] {
  const common = draw(2) === 0 ? UNTOUCHED : randomPlan(draw);
  return METRICS.map(() => (draw(2) === 0 ? common : randomPlan(draw)));
}

/** The labels of a metric: `values` in the order of LABELS as an observation has them, `text` as Envoy shows them. */
function labelsOf({ removed, overridden, added }: Plan, request: Request): { values: string[]; text: string } {
  const values: string[] = [];
  const parts: string[] = [];
  for (const [index, name] of LABELS.entries()) {
    const other = overridden.get(index)?.(request);
    const isRemoved = other === undefined && removed.get(index)?.(request);
    const value = isRemoved ? "" : (other ?? (request.labels[index] as string));
    values.push(value);
    if (!isRemoved) parts.push(pair(name, value));
  }
  for (const [name, value] of added) parts.push(pair(name, value(request)));
  return { values, text: parts.join() };
}

function pair(name: string, value: string): string {
  return `${name}="${value.replace(/[\\"]/g, "\\$&")}"`;
}

/** What one metric counted under one label text: of the counter its value alone, of a histogram cumulative buckets too. */
class Tally {
  count = 0;
  sum = 0;
  readonly cumulative = HISTOGRAM_BOUNDS.map(() => 0);

  add(value: number): void {
    this.count++;
    this.sum += wholeSum(binMiddle(value)); // as sums are counted: to the nearest 64th
    for (let index = DEFAULT_BOUNDS.bucketIndex(value); index < HISTOGRAM_BOUNDS.length; index++) {
      this.cumulative[index] = (this.cumulative[index] as number) + 1;
    }
  }

  lines(metric: HttpMetric, labels: string): string[] {
    const { name } = HTTP_METRICS[metric] as Metric;
    if (metric === HttpMetric.Requests) return [`${name}{${labels}} ${this.count}`];
    const buckets = [...this.cumulative, this.count].map((count, index) => {
      const le = HISTOGRAM_BOUNDS[index] ?? "+Inf";
      return `${name}_bucket{${labels}${labels === "" ? "" : ","}le="${le}"} ${count}`;
    });
    return [...buckets, `${name}_sum{${labels}} ${this.sum}`, `${name}_count{${labels}} ${this.count}`];
  }
}

/** By metric, then by label text. */
type Tallies = readonly Map<string, Tally>[];

const noTallies = (): Tallies => METRICS.map(() => new Map());

function tallyOf(tallies: Tallies, metric: HttpMetric, labels: string): Tally {
  const byLabels = tallies[metric] as Map<string, Tally>;
  const tally = byLabels.get(labels) ?? new Tally();
  byLabels.set(labels, tally);
  return tally;
}

function linesOf(tallies: Tallies): string[] {
  return tallies.flatMap((byLabels, metric) => [...byLabels].flatMap(([text, tally]) => tally.lines(metric, text)));
}

/** A proxy with the filter, and what it would say. */
class FilterProxy {
  private live = noTallies();
  private flushed: string[] = [];

  constructor(
    private readonly id: string,
    private readonly plans: readonly Plan[],
    /** What all proxies together counted, by the labels that the collector is to show. */
    private readonly truth: Tallies,
  ) {}

  /** Counts the request as the filter does; its access-log message. */
  take(request: Request): Buffer {
    const numbers = [0, request.durationMs, request.requestBytes, request.responseBytes];
    const sets = new Map<string, ObservedLabels & { metrics: HttpMetric[] }>();
    const omitted: HttpMetric[] = [];
    for (const [metric, plan] of this.plans.entries()) {
      if (plan.isDropped(request)) {
        omitted.push(metric);
        continue;
      }
      const { values, text } = labelsOf(plan, request);
      const shown = values.map((value, index) => pair(LABELS[index] as string, value)).join();
      const number = numbers[metric] as number;
      if (number >= 0) {
        tallyOf(this.live, metric, text).add(number);
        tallyOf(this.truth, metric, shown).add(number);
      }
      const set = sets.get(shown) ?? { metrics: [], labels: values };
      set.metrics.push(metric);
      sets.set(shown, set);
    }
    const { durationMs, requestBytes, responseBytes } = request;
    const head = {
      startMs: START_MS,
      durationMs: durationMs < 0 ? NEVER_FINISHED : durationMs,
      requestBytes,
      responseBytes,
      omitted,
    };
    const [only = { labels: request.labels }, ...others] = sets.values();
    return this.message(
      others.length > 0
        ? encodeSplitObservation(head, [...sets.values()])
        : encodeObservation({ ...head, labels: only.labels }),
    );
  }

  private message(observation: Buffer): Buffer {
    const commonProperties = { filterStateObjects: { [OBSERVATION_STATE]: bytesState(observation) } };
    return encodeMessage({
      identifier: { node: { id: this.id }, logName: "meshtally" },
      httpLogs: { logEntry: [{ commonProperties }] },
    });
  }

  /** Envoy shows histograms as they were at the last flush. */
  flush(): void {
    this.flushed = linesOf(this.live).filter((line) => !line.startsWith("istio_requests_total"));
  }

  /** All counts begin anew. */
  replaceVm(): void {
    this.live = noTallies();
    this.flushed = [];
  }

  /** Counters do, and histograms go on. */
  resetCounters(): void {
    this.live[HttpMetric.Requests]?.clear();
  }

  scrape(): string {
    const counters = linesOf(this.live).filter((line) => line.startsWith("istio_requests_total"));
    return [`meshtally_filter_start_time_milliseconds{} ${START_MS}`, ...counters, ...this.flushed, ""].join("\n");
  }

  read(stats: string): StatsReport {
    const page = readStats(stats);
    expect(page).toMatchObject({ malformed: 0, foreignLabelSets: 0 });
    return page.report(this.id);
  }
}

/** A collector from its two entrances to what it shows. */
class Collector {
  private readonly store = new SeriesStore({
    proxies: 10,
    labelSets: 10_000,
    cells: 10_000,
    connections: 100,
    retireAfterMs: 1000,
  });
  private readonly self = new SelfMetrics("test");
  private readonly stream = new AlsReceiver({
    sink: (record) => this.store.observe(record),
    connectionSink: (record) => this.store.observeConnection(record),
    self: this.self,
    log: silentLog,
  }).open();
  private readonly exposition = new TextTraffic(new TrafficFamilies(this.store), "text");
  private before = new Map<string, number>();

  log(message: Buffer): void {
    this.stream?.message(message);
  }

  report(report: StatsReport): void {
    expect(this.store.report(report)).toBe("ok");
  }

  /** Each series once, never below what it was and never above the truth. */
  check(truth: ReadonlyMap<string, number>): ReadonlyMap<string, number> {
    const shown = seriesOf(Array.from(this.exposition.render(), String).join("").split("\n"));
    for (const [series, value] of shown) {
      const most = truth.get(series) ?? 0;
      if (value > most * (1 + 1e-12)) throw new Error(`${series} is ${value}, above the truth ${most}`);
      if (value < (this.before.get(series) ?? 0)) throw new Error(`${series} went down to ${value}`);
    }
    this.before = shown;
    return shown;
  }

  /** Entries counted. */
  async entries(): Promise<number> {
    const { values } = await this.self.accessLogEntries.get();
    return values.reduce((sum, { value }) => sum + value, 0);
  }
}

/** Value by name and labels, which are the same text for the same series. */
function seriesOf(lines: readonly string[]): Map<string, number> {
  const series = new Map<string, number>();
  for (const line of lines) {
    if (line === "" || line.startsWith("#")) continue;
    const space = line.lastIndexOf(" ");
    const id = line.slice(0, space);
    if (series.has(id)) throw new Error(`${id} is shown twice`);
    series.set(id, Number(line.slice(space + 1)));
  }
  return series;
}

function expectTruth(shown: ReadonlyMap<string, number>, truth: ReadonlyMap<string, number>): void {
  expect([...shown.keys()].sort()).toEqual([...truth.keys()].sort());
  for (const [series, value] of truth) {
    if (Math.abs((shown.get(series) ?? 0) - value) > value * 1e-12)
      expect.fail(`${series} is ${shown.get(series)}, not ${value}`);
  }
}

describe.each(["stats and access log", "stats", "access log"] as const)("customised metrics by %s", (told) => {
  it(`are counted exactly in any order, seed ${SEED}`, async () => {
    for (let seed = SEED; seed < SEED + HISTORIES; seed++) {
      const next = random(seed);
      const draw: Draw = (below) => Math.floor(next() * below);
      const truth = noTallies();
      const proxies = ["p", "q"].map((id) => new FilterProxy(id, randomPlans(draw), truth));
      const collector = new Collector();
      const deliveries: (() => void)[] = [];
      let logged = 0;
      const scrape = (proxy: FilterProxy) => {
        const stats = proxy.scrape();
        for (let copies = 1 + draw(2); copies > 0; copies--) {
          deliveries.push(() => collector.report(proxy.read(stats)));
        }
      };
      for (let index = 0; index < REQUESTS_PER_HISTORY; index++) {
        const proxy = proxies[draw(2)] as FilterProxy;
        const entry = proxy.take(randomRequest(draw));
        const isLost = told === "stats" || (told === "stats and access log" && draw(5) === 0);
        if (!isLost) {
          logged++;
          deliveries.push(() => collector.log(entry));
        }
        if (draw(4) === 0) proxy.flush();
        if (told !== "access log" && draw(6) === 0) scrape(proxy);
      }
      for (const proxy of proxies) {
        proxy.flush();
        if (told !== "access log") scrape(proxy);
      }
      const expected = seriesOf(linesOf(truth));
      for (const [index, deliver] of shuffled(deliveries, draw).entries()) {
        deliver();
        if (index % 20 === 0) collector.check(expected);
      }
      expectTruth(collector.check(expected), expected);
      expect(await collector.entries()).toBe(logged);
    }
  });
});

describe.each(["replaceVm", "resetCounters"] as const)("customised metrics after %s", (change) => {
  it(`are counted no more than once by stats, however seldom they are read, seed ${SEED}`, () => {
    for (let seed = SEED; seed < SEED + HISTORIES; seed++) {
      const next = random(seed);
      const draw: Draw = (below) => Math.floor(next() * below);
      const truth = noTallies();
      const proxy = new FilterProxy("p", randomPlans(draw), truth);
      const resets = new CounterResets(new CounterRows());
      const collector = new Collector();
      for (let index = 0; index < 3 * REQUESTS_PER_HISTORY; index++) {
        proxy.take(randomRequest(draw));
        if (draw(8) === 0) proxy.flush();
        if (draw(8) === 0) collector.report(resets.accumulate(proxy.read(proxy.scrape())));
        if (draw(40) === 0) proxy[change]();
      }
      collector.check(seriesOf(linesOf(truth)));
    }
  });
});

/** Few enough label sets for requests to meet in one. */
function randomRequest(draw: Draw): Request {
  const labels = LABELS.map((_, index) => (index % 6 === 0 ? (VALUES[draw(2)] as string) : `v${index}`));
  return {
    labels,
    durationMs: draw(6) === 0 ? -1 : draw(3000),
    requestBytes: draw(100_000),
    responseBytes: draw(3),
    facts: [draw(2), draw(2), draw(2)],
  };
}

function shuffled<T>(items: readonly T[], draw: Draw): T[] {
  const mixed = [...items];
  for (let at = mixed.length - 1; at > 0; at--) {
    const other = draw(at + 1);
    [mixed[at], mixed[other]] = [mixed[other] as T, mixed[at] as T];
  }
  return mixed;
}
