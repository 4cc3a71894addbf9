// Entries that name no process life under several marks of the same values (key.ts), beside stats: one count of the same requests.

import { describe, expect, it, test } from "vitest";
import { REQUESTS } from "../../collector/series/counts.ts";
import { MARKS, type Mark, withMark } from "../../collector/series/key.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { ByteReader } from "../../collector/state/bytes.ts";
import { SavedStore } from "../../collector/state/saved-store.ts";
import { HttpMetric } from "../../collector/vocabulary.ts";
import { COUNTS_WIDTH, histogramField } from "../fixtures/counts.ts";
import { random } from "../property/random.ts";
import { key } from "./labels.ts";

const LIFE = 1000;
const VALUES = key({ source_workload: "web" });
const DURATION = histogramField(HttpMetric.Duration);

const RECORD = { proxy: "p", lifeMs: 0, requests: 1, durationMs: 7, requestBytes: 3, responseBytes: 3 };

/** A collector that sees one proxy. */
class Collector {
  store: SeriesStore;
  private saved: SavedStore;

  constructor(private readonly room: { labelSets?: number; cells?: number } = {}) {
    [this.store, this.saved] = this.begin();
  }

  /** An entry that names no life, unless it does. */
  log(mark: Mark | null, way: "als" | "otlp" = "als", lifeMs = 0) {
    const labelKey = withMark(VALUES, mark);
    return this.store.observe({ ...RECORD, lifeMs, labelKey }, way);
  }

  /** Stats: so many requests of each mark. */
  scrape(counts: readonly (readonly [Mark | null, number])[], lifeMs = LIFE) {
    const samples = counts.map(([mark, requests]) => ({ labelKey: withMark(VALUES, mark), requests, histograms: [] }));
    return this.store.report({ proxy: "p", lifeMs, samples, tcpSamples: [] });
  }

  /** Saves all and begins anew with it. */
  restart(): void {
    const frames: Buffer[] = [];
    this.saved.begin(0);
    for (let piece = this.saved.nextPiece(); piece !== null; piece = this.saved.nextPiece()) frames.push(piece);
    [this.store, this.saved] = this.begin();
    const readers = frames.map((frame) => new ByteReader(frame, 0, frame.length));
    this.saved.restore(readers, { shard: 0, shards: 1, owns: () => true });
  }

  /** What is counted under a mark. */
  of(mark: Mark | null, field = REQUESTS): number {
    const row = new Float64Array(COUNTS_WIDTH);
    const series = this.store.http.find(withMark(VALUES, mark));
    if (series) this.store.http.readTotal(series, row);
    return row[field] as number;
  }

  /** All label sets together: the values under any mark, and the overflow. */
  get sum(): number {
    const row = new Float64Array(COUNTS_WIDTH);
    return this.store.http.series.reduce((sum, series) => {
      this.store.http.readTotal(series, row);
      return sum + (row[REQUESTS] as number);
    }, 0);
  }

  private begin(): [SeriesStore, SavedStore] {
    const limits = { proxies: 100, labelSets: 100, cells: 1000, connections: 10, retireAfterMs: 1000, ...this.room };
    const store = new SeriesStore(limits, { wallMs: () => 2000, steadyMs: () => 2000 });
    return [store, new SavedStore(store)];
  }
}

describe("five requests, of which entries have two marks and stats none", () => {
  const entries = (collector: Collector) => {
    for (const mark of ["?", "?", "+", "?", "+"] as const) collector.log(mark);
  };

  it("count once when the stats come first", () => {
    const collector = new Collector();
    collector.scrape([[null, 5]]);
    entries(collector);
    expect(collector.sum).toBe(5);
  });

  it("count once when the entries come first", () => {
    const collector = new Collector();
    entries(collector);
    collector.scrape([[null, 5]]);
    expect(collector.sum).toBe(5);
    expect([collector.of("?"), collector.of("+")]).toEqual([3, 2]);
  });

  it("count once when each comes after some of the other", () => {
    const collector = new Collector();
    collector.log("?");
    collector.scrape([[null, 3]]);
    collector.log("+");
    collector.log("+");
    collector.scrape([[null, 4]]);
    collector.log("?");
    collector.log("?");
    expect(collector.sum).toBe(5);
  });

  it("count once over two lives of the process", () => {
    const collector = new Collector();
    collector.scrape([[null, 2]]);
    entries(collector);
    collector.scrape([[null, 3]], LIFE + 1);
    expect(collector.sum).toBe(5);
  });

  it("count once when the collector restarts in between", () => {
    const collector = new Collector();
    collector.scrape([[null, 4]]);
    collector.log("?");
    collector.restart();
    expect([collector.of(null), collector.of("?")]).toEqual([4, 0]);
    for (const mark of ["?", "+", "?", "+"] as const) collector.log(mark);
    collector.restart();
    expect(collector.sum).toBe(5);
    collector.scrape([[null, 5]]);
    expect(collector.sum).toBe(5);
  });

  it("count once when there is room for fewer label sets than marks", () => {
    const collector = new Collector({ labelSets: 1 });
    collector.scrape([[null, 5]]);
    entries(collector);
    expect(collector.sum).toBe(5);
  });

  it("count at most once, however few cells there is room for", () => {
    for (let cells = 1; cells < 10; cells++) {
      const collector = new Collector({ cells });
      collector.scrape([[null, 5]]);
      entries(collector);
      expect(collector.sum).toBeLessThanOrEqual(5);
      expect(collector.store.http.cellCount).toBeLessThanOrEqual(cells);
    }
  });
});

test("a request that two access logs tell of under two marks counts at most once, however few cells there is room for", () => {
  for (let cells = 1; cells < 6; cells++) {
    const collector = new Collector({ cells });
    collector.log("?");
    collector.store.observe({ ...RECORD, labelKey: key({ source_workload: "other" }) }, "otlp");
    collector.log("+", "otlp");
    expect(collector.sum).toBeLessThanOrEqual(2);
  }
});

test("where stats have marks, too, what an entry lost goes to the mark that lost it", () => {
  const collector = new Collector();
  for (let i = 0; i < 4; i++) collector.log("d"); // and six of "r" were lost
  collector.scrape([["r", 6]]);
  collector.scrape([
    ["r", 6],
    ["d", 4],
  ]);
  expect([collector.of("r"), collector.of("d")]).toEqual([6, 4]);
});

test("a mark that stats tell of after entries have others is one account with them", () => {
  const collector = new Collector();
  collector.log("?");
  collector.log("?");
  collector.scrape([["d", 1]]);
  collector.scrape([
    ["d", 1],
    ["r", 1],
  ]);
  expect(collector.sum).toBe(2);
});

test("histograms are those of the requests", () => {
  const collector = new Collector();
  collector.log("?");
  collector.log("+");
  collector.log("+", "otlp");
  expect(collector.of("?", DURATION + 3) + collector.of("+", DURATION + 3)).toBe(2);
});

/** Requests of one proxy, each with the mark that stats give it and the one that an entry without its life has. */
describe("on random histories", () => {
  const SEED = Number(process.env["SEED"] ?? 20261122);
  const marks: readonly (Mark | null)[] = [null, ...MARKS.slice(0, 5)];

  function run(seed: number): void {
    const next = random(seed);
    const pick = (below: number) => Math.floor(next() * below);
    const agrees = next() < 0.5; // entries and stats on the marks
    const loses = next() < 0.5;
    const collector = new Collector();
    const truth = new Map<Mark | null, number>();
    const told = new Map<Mark | null, number>();
    let happened = 0;
    let before = 0;
    const floors = new Map<Mark | null, number>();
    let lifeMs = LIFE;
    let ofLife = new Map<Mark | null, number>();
    const check = (what: string) => {
      const { sum } = collector;
      expect(sum, `${what}, seed ${seed}`).toBeLessThanOrEqual(happened);
      expect(sum, `${what}, seed ${seed}`).toBeGreaterThanOrEqual(before);
      before = sum;
      for (const mark of marks) {
        const count = collector.of(mark);
        expect(count, `${what} ${mark}, seed ${seed}`).toBeGreaterThanOrEqual(floors.get(mark) ?? 0);
        expect(count, `${what} ${mark}, seed ${seed}`).toBeLessThanOrEqual(
          Math.max(truth.get(mark) ?? 0, told.get(mark) ?? 0),
        );
        floors.set(mark, count);
      }
    };
    const scrape = () =>
      collector.scrape(
        [...ofLife].sort(() => next() - 0.5),
        lifeMs,
      );
    for (let step = 0; step < 40; step++) {
      const what = pick(10);
      if (what < 6) {
        const mark = marks[pick(3)] as Mark | null;
        happened++;
        truth.set(mark, (truth.get(mark) ?? 0) + 1);
        ofLife.set(mark, (ofLife.get(mark) ?? 0) + 1);
        const other = agrees ? mark : (marks[pick(marks.length)] as Mark | null);
        if (!(loses && next() < 0.4)) {
          told.set(other, (told.get(other) ?? 0) + 1);
          if (next() < 0.8) collector.log(other);
          if (next() < 0.5) collector.log(other, "otlp");
        }
        if (next() < 0.2) collector.log(mark, "als", lifeMs);
      } else if (what < 8) {
        scrape();
      } else if (what < 9) {
        collector.restart();
      } else {
        scrape();
        lifeMs++;
        ofLife = new Map();
      }
      check(`step ${step}`);
    }
    scrape();
    check("the end");
    expect(collector.sum, `seed ${seed}`).toBe(happened);
    if (agrees)
      for (const mark of marks) expect(collector.of(mark), `${mark}, seed ${seed}`).toBe(truth.get(mark) ?? 0);
  }

  it("counts no request twice, loses none that stats have, and goes down under no mark", () => {
    for (let seed = SEED; seed < SEED + 200; seed++) run(seed);
  }, 60_000);
});
