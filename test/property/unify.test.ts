// The promise of the unification, on random histories: whatever is lost, late, repeated or reordered, and however often a proxy
// restarts, a total is never above the truth and never goes down; and it is the truth once the stats were read after the last request.

import { describe, expect, it } from "vitest";
import type { AccessRecord, StatsReport } from "../../collector/record/record.ts";
import { REQUESTS } from "../../collector/series/counts.ts";
import { overflowKeyOf } from "../../collector/series/overflow.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { HTTP_METRICS, HttpMetric } from "../../collector/vocabulary.ts";
import { key } from "../collector/labels.ts";
import {
  BUCKET_COUNT,
  COUNTS_WIDTH,
  HISTOGRAM_COUNT,
  HISTOGRAM_SUM,
  HTTP_SHAPE,
  histogramField,
} from "../fixtures/counts.ts";
import { cases } from "./cases.ts";
import { random } from "./random.ts";

const RETIRE_AFTER_MS = 600_000;
const SEED = Number(process.env["SEED"] ?? 20260131);

/** How a proxy tells of its requests. */
interface Telling {
  /** Has the filter: keeps stats. */
  readonly keepsStats: boolean;
  /** Its stats are read at all. */
  readonly isScraped: boolean;
  /** It logs at all. */
  readonly logs: boolean;
  /** Log entries name the process life; or each second one does. */
  readonly stampsEntries: boolean | "some";
}

/** What else goes wrong. */
interface Trouble {
  /** Scrapes get lost, and processes die unread. (Log entries of a scraped proxy get lost anyway.) */
  readonly loses?: boolean;
  /** The proxies' clocks are set, mostly back, so that a later life may have the smaller start. Ours is set forward. */
  readonly setsClocks?: boolean;
  /** A start sometimes reads far too large, as while Envoy restarts hot. */
  readonly stampsFuture?: boolean;
  /** There is room for so few lives that proxies which are silent for long are let go, to come back later. */
  readonly evicts?: boolean;
  /** Most label sets of process lives. */
  readonly cells?: number;
}

const HOUR_MS = 3_600_000;

type Message = { at: number; record?: AccessRecord; report?: StatsReport };

/** One process life of a proxy: what its filter counted, and what of the histograms the last flush made visible. */
class ProcessLife {
  readonly counts = new Map<string, Float64Array>();
  readonly flushed = new Map<string, Float64Array>();

  constructor(
    readonly proxy: string,
    readonly startMs: number,
  ) {}

  flush(): void {
    for (const [labelKey, counts] of this.counts) this.flushed.set(labelKey, counts.slice());
  }

  report(): StatsReport {
    const samples = [...this.counts].map(([labelKey, counts]) => {
      const flushed = this.flushed.get(labelKey);
      const histograms = HTTP_METRICS.map((_, metric) => {
        if (metric === HttpMetric.Requests || !flushed) return null;
        const at = histogramField(metric);
        return {
          cumulative: flushed.slice(at, at + BUCKET_COUNT),
          count: flushed[at + HISTOGRAM_COUNT] as number,
          sum: flushed[at + HISTOGRAM_SUM] as number,
        };
      });
      return { labelKey, requests: counts[REQUESTS] as number, histograms };
    });
    return { proxy: this.proxy, lifeMs: this.startMs, samples, tcpSamples: [] };
  }
}

class Mesh {
  nowMs = 1_767_000_000_000;
  private wallAheadMs = 0;
  private readonly clock = { wallMs: () => this.nowMs + this.wallAheadMs, steadyMs: () => this.nowMs };
  private readonly starts = new Set<number>();
  readonly store: SeriesStore;
  readonly truth = new Map<string, Float64Array>();
  private readonly lives: ProcessLife[] = [];
  private queue: Message[] = [];
  private readonly shown = new Map<string, Float64Array>();
  private readonly next: () => number;

  constructor(
    seed: number,
    readonly tellings: readonly Telling[],
    readonly labelKeys: readonly string[],
    labelSets: number,
    readonly trouble: Trouble,
  ) {
    this.next = random(seed);
    const proxies = trouble.evicts ? 3 : 1000;
    const cells = trouble.cells ?? 100_000;
    this.store = new SeriesStore(
      { proxies, labelSets, cells, connections: 100, retireAfterMs: RETIRE_AFTER_MS },
      this.clock,
    );
    for (const index of tellings.keys()) this.lives[index] = new ProcessLife(`proxy-${index}`, this.nowMs - index);
  }

  pick(below: number): number {
    return Math.floor(this.next() * below);
  }

  /** Lets `steps` things happen, checking the store after each. */
  run(steps: number): void {
    for (let step = 0; step < steps; step++) {
      this.pass(this.trouble.evicts && this.pick(10) === 0 ? 2 * RETIRE_AFTER_MS : this.pick(20_000));
      const proxy = this.pick(this.tellings.length);
      const dice = this.pick(100);
      if (dice < 60) this.request(proxy);
      else if (dice < 75) this.lives[proxy]?.flush();
      else if (dice < 90) this.scrape(proxy, this.trouble.loses ? this.pick(3) : 1);
      else if (dice < 94) this.restart(proxy);
      else if (dice < 96 && this.trouble.setsClocks && !this.trouble.evicts) this.wallAheadMs += this.pick(HOUR_MS);
      else this.store.retireSuperseded();
      this.deliver(this.nowMs);
      this.check();
    }
  }

  /** Lets time go by, in which what is under way arrives when it should. */
  private pass(ms: number): void {
    const untilMs = this.nowMs + ms;
    while (this.nowMs < untilMs) {
      this.nowMs = Math.min(untilMs, this.nowMs + 20_000);
      this.deliver(this.nowMs);
    }
  }

  request(proxy: number): void {
    const life = this.lives[proxy] as ProcessLife;
    const { keepsStats, isScraped, logs, stampsEntries } = this.tellings[proxy] as Telling;
    const labelKey = this.labelKeys[this.pick(this.labelKeys.length)] as string;
    const record: AccessRecord = {
      proxy: life.proxy,
      lifeMs: this.stamp(life, stampsEntries),
      labelKey,
      requests: 1,
      durationMs: this.pick(10) === 0 ? -1 : this.pick(3000),
      requestBytes: this.pick(200_000),
      responseBytes: this.pick(5),
    };
    for (const counts of [this.truth, ...(keepsStats ? [life.counts] : [])]) addRecord(counts, record);
    const mayLose = this.trouble.loses || (keepsStats && isScraped);
    if (logs && !(mayLose && this.pick(4) === 0)) this.send({ at: this.nowMs + this.delay(), record });
  }

  private stamp({ startMs }: ProcessLife, stampsEntries: Telling["stampsEntries"]): number {
    if (stampsEntries === "some" ? this.pick(2) === 0 : !stampsEntries) return 0;
    return this.trouble.stampsFuture && this.pick(4) === 0 ? startMs * 2 : startMs;
  }

  /** Reads the stats of the proxy's process as they are now; the answers arrive `copies` times, each some time later. */
  scrape(proxy: number, copies: number): void {
    const { keepsStats, isScraped } = this.tellings[proxy] as Telling;
    if (!keepsStats || !isScraped) return;
    const report = (this.lives[proxy] as ProcessLife).report();
    if (this.trouble.stampsFuture && this.pick(4) === 0) {
      expect(this.store.report({ ...report, lifeMs: report.lifeMs * 2 })).toBe("restarted");
    }
    for (let copy = 0; copy < copies; copy++) this.send({ at: this.nowMs + this.delay(), report });
  }

  restart(proxy: number): void {
    if (!this.trouble.loses) {
      this.lives[proxy]?.flush();
      this.scrape(proxy, 1);
    }
    this.nowMs++;
    this.lives[proxy] = new ProcessLife(`proxy-${proxy}`, this.startNow());
  }

  /** No start comes twice: two processes of one proxy that began in the same millisecond would be one. */
  private startNow(): number {
    let startMs = this.clock.wallMs();
    if (this.trouble.setsClocks) startMs += this.pick(30_000) - this.pick(2) * this.pick(HOUR_MS);
    while (this.starts.has(startMs)) startMs--;
    this.starts.add(startMs);
    return startMs;
  }

  /** Everything settles: all processes are read once more after their last request, and all that is under way arrives. */
  settle(): void {
    for (const [proxy, life] of this.lives.entries()) {
      life.flush();
      this.scrape(proxy, 1);
    }
    this.deliver(Number.POSITIVE_INFINITY);
    this.check();
  }

  /** Less than the grace, else a late message is rightly refused. */
  private delay(): number {
    return this.pick(2) === 0 ? 0 : this.pick(RETIRE_AFTER_MS / 2);
  }

  private send(message: Message): void {
    this.queue.push(message);
  }

  private deliver(untilMs: number): void {
    const due = this.queue.filter((message) => message.at <= untilMs).sort((a, b) => a.at - b.at);
    this.queue = this.queue.filter((message) => message.at > untilMs);
    for (const { record, report } of due) {
      const refusal = record ? this.store.observe(record) : null;
      const result = report ? this.store.report(report) : "ok";
      if (this.trouble.evicts || this.trouble.cells) continue; // who is let go or finds no room may be refused
      expect(refusal).toBeNull();
      expect(result).toBe("ok");
    }
  }

  /** The sum over all label sets: with too few cells, one label set may be in the overflow for one process and not for another. */
  private checkSum(): void {
    const rows = this.store.http.series.map((series) => {
      const counts = new Float64Array(COUNTS_WIDTH);
      this.store.http.readTotal(series, counts);
      return counts;
    });
    const sum = sumOf(rows);
    const truth = sumOf(this.truth.values());
    for (let field = 0; field < COUNTS_WIDTH; field++) {
      const count = sum[field] as number;
      const limit = (truth[field] as number) * (1 + 1e-12);
      if (count > limit) throw new Error(`field ${field} is ${count} in all, above the truth ${limit}`);
    }
    const overflows = new Set(KEYS.map((labelKey) => overflowKeyOf(labelKey, false))).size * this.store.lifeCount;
    expect(this.store.http.cellCount).toBeLessThanOrEqual((this.trouble.cells as number) + overflows);
  }

  /** The truth as the store may show it: label sets without a series of their own come together under the overflow. */
  expected(): Map<string, Float64Array> {
    const own = new Set(this.store.http.series.map((series) => series.labelKey));
    const expected = new Map<string, Float64Array>();
    for (const [labelKey, counts] of this.truth) {
      const shownKey = own.has(labelKey) ? labelKey : overflowKeyOf(labelKey, false);
      const sum = expected.get(shownKey) ?? new Float64Array(COUNTS_WIDTH);
      for (let field = 0; field < COUNTS_WIDTH; field++)
        sum[field] = (sum[field] as number) + (counts[field] as number);
      expected.set(shownKey, sum);
    }
    return expected;
  }

  private check(): void {
    const expected = this.expected();
    if (this.trouble.cells !== undefined) {
      this.checkSum();
      return;
    }
    for (const series of this.store.http.series) {
      const counts = new Float64Array(COUNTS_WIDTH);
      this.store.http.readTotal(series, counts);
      const before = this.shown.get(series.labelKey);
      const truth = expected.get(series.labelKey);
      for (let field = 0; field < COUNTS_WIDTH; field++) {
        const count = counts[field] as number;
        const limit = (truth?.[field] ?? 0) * (1 + 1e-12); // sums are floats, added up in another order
        if (count < (before?.[field] ?? 0)) throw new Error(`field ${field} went down`);
        if (count > limit) throw new Error(`field ${field} is ${count}, above the truth ${limit}`);
      }
      this.shown.set(series.labelKey, counts);
    }
  }
}

function sumOf(rows: Iterable<Float64Array>): Float64Array {
  const sum = new Float64Array(COUNTS_WIDTH);
  for (const row of rows) {
    for (let field = 0; field < COUNTS_WIDTH; field++) sum[field] = (sum[field] as number) + (row[field] as number);
  }
  return sum;
}

function addRecord(counts: Map<string, Float64Array>, record: AccessRecord): void {
  const added = new Float64Array(COUNTS_WIDTH);
  HTTP_SHAPE.fill(added, record);
  const sum = counts.get(record.labelKey) ?? new Float64Array(COUNTS_WIDTH);
  for (let field = 0; field < COUNTS_WIDTH; field++) sum[field] = (sum[field] as number) + (added[field] as number);
  counts.set(record.labelKey, sum);
}

function expectExact(mesh: Mesh, seed: number): void {
  const expected = mesh.expected();
  expect(mesh.store.http.series.length).toBe(expected.size);
  for (const series of mesh.store.http.series) {
    const counts = new Float64Array(COUNTS_WIDTH);
    mesh.store.http.readTotal(series, counts);
    for (let field = 0; field < COUNTS_WIDTH; field++) {
      const truth = expected.get(series.labelKey)?.[field] as number;
      const count = counts[field] as number;
      if (Math.abs(count - truth) > truth * 1e-12)
        throw new Error(`seed ${seed}: field ${field} is ${count}, not ${truth}`);
    }
  }
}

/** Reports of either end, and of nobody known. */
const KEYS = [
  key({ reporter: "source", source_workload: "a" }),
  key({ reporter: "source", source_workload: "b" }),
  key({ reporter: "destination", source_workload: "b", destination_workload: "c" }),
  key({ reporter: "destination", destination_workload: "c" }),
  key({ reporter: "destination", destination_workload: "d" }),
];
const FULL: Telling = { keepsStats: true, isScraped: true, logs: true, stampsEntries: true };

/** [what the proxies do, how they tell, room for label sets] */
const MESHES: readonly [string, readonly Telling[], number][] = [
  ["both ways", [FULL, FULL], 100],
  ["by stats alone", [{ ...FULL, logs: false }, FULL], 100],
  ["with label sets beyond the limit", [FULL, FULL], 2],
  ["by stats alone, with label sets beyond the limit", [{ ...FULL, logs: false }, FULL], 2],
  ["with entries that name no life", [{ ...FULL, stampsEntries: false }, FULL], 100],
  ["with entries that name no life, beyond the limit", [{ ...FULL, stampsEntries: false }, FULL], 2],
  ["with entries of which some name no life", [{ ...FULL, stampsEntries: "some" }, FULL], 100],
];
const HISTORIES = cases(100);

describe(`unification, seed ${SEED}`, () => {
  it.each(MESHES)(
    "never overshoots and never goes down when proxies tell %s and much is lost",
    (_what, tellings, room) => {
      for (let seed = SEED; seed < SEED + HISTORIES; seed++) {
        const mesh = new Mesh(seed, tellings, KEYS, room, { loses: true });
        mesh.run(60);
        mesh.settle();
      }
    },
  );

  it.each(MESHES)(
    "is exact once stats were read after the last request, when proxies tell %s",
    (_what, tellings, room) => {
      for (let seed = SEED; seed < SEED + HISTORIES; seed++) {
        const mesh = new Mesh(seed, tellings, KEYS, room, {});
        mesh.run(60);
        mesh.settle();
        expectExact(mesh, seed);
      }
    },
  );

  it.each(MESHES)(
    "is exact though clocks are set and starts read too large, when proxies tell %s",
    (_what, tellings, room) => {
      for (let seed = SEED; seed < SEED + HISTORIES; seed++) {
        const mesh = new Mesh(seed, tellings, KEYS, room, { setsClocks: true, stampsFuture: true });
        mesh.run(60);
        mesh.settle();
        expectExact(mesh, seed);
      }
    },
  );

  it.each(MESHES)(
    "never overshoots and never goes down though proxies are let go and come back, when they tell %s",
    (_what, tellings, room) => {
      for (let seed = SEED; seed < SEED + HISTORIES; seed++) {
        const trouble = { loses: true, evicts: true, setsClocks: seed % 2 === 0, stampsFuture: seed % 3 === 0 };
        const mesh = new Mesh(seed, [...tellings, ...tellings], KEYS, room, trouble);
        mesh.run(60);
        mesh.settle();
      }
    },
  );

  it.each(MESHES)("never overshoots with too few cells, when proxies tell %s", (_what, tellings, room) => {
    for (let seed = SEED; seed < SEED + HISTORIES; seed++) {
      const mesh = new Mesh(seed, tellings, KEYS, room, { loses: true, cells: 1 + (seed % 8) });
      mesh.run(80);
      mesh.settle();
    }
  });

  it.each([
    ["with the scraper off", { ...FULL, isScraped: false }],
    ["without filter", { keepsStats: false, isScraped: true, logs: true, stampsEntries: false }],
  ])("is exact %s when no log entry is lost", (_what, telling) => {
    for (let seed = SEED; seed < SEED + HISTORIES; seed++) {
      const mesh = new Mesh(seed, [telling, telling], KEYS, 100, {});
      mesh.run(60);
      mesh.settle();
      expectExact(mesh, seed);
    }
  });

  it("is exact in the end though logs and scrapes were lost on the way, if the lost ones were not a life's last", () => {
    for (let seed = SEED; seed < SEED + HISTORIES; seed++) {
      const mesh = new Mesh(seed, [FULL, FULL], KEYS, 100, { loses: true });
      mesh.restart = () => {};
      mesh.run(80);
      mesh.settle();
      expectExact(mesh, seed);
    }
  });
});
