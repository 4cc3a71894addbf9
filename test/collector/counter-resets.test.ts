import { describe, expect, it } from "vitest";
import { CounterResets, CounterRows } from "../../collector/record/counter-resets.ts";
import type { HistogramSample, StatsReport, StatsSample } from "../../collector/record/record.ts";
import { HISTOGRAM_BOUNDS, HTTP_METRICS, HttpMetric } from "../../collector/vocabulary.ts";
import { random } from "../property/random.ts";

const SEED = Number(process.env["SEED"] ?? 20261121);
const BUCKETS = HISTOGRAM_BOUNDS.length;
const LIFE_MS = 1000;

/** A histogram of `below` values under the tenth bound and as many above as make up `count`. */
function histogram(count: number, below = count): HistogramSample {
  return { cumulative: Float64Array.from({ length: BUCKETS }, (_, i) => (i < 10 ? below : count)), count, sum: count };
}

/** What one answer says of a label set. Histograms of requests and answers hold as much as that of durations. */
interface Row {
  readonly requests?: number;
  /** Its count, and how much of that is under the tenth bound. */
  readonly histograms?: number | readonly [count: number, below: number];
}

function sample(labelKey: string, { requests = -1, histograms }: Row): StatsSample {
  const [count, below] = typeof histograms === "object" ? histograms : [histograms ?? 0, histograms];
  const made = () => (histograms === undefined ? null : histogram(count, below));
  return {
    labelKey,
    requests,
    histograms: HTTP_METRICS.map((_, metric) => (metric === HttpMetric.Requests ? null : made())),
  };
}

function report(rows: Readonly<Record<string, Row>>, lifeMs = LIFE_MS): StatsReport {
  return {
    proxy: "",
    lifeMs,
    samples: Object.entries(rows).map(([labelKey, row]) => sample(labelKey, row)),
    tcpSamples: [],
  };
}

/** [requests, count of durations] by label set. */
function shown({ samples }: StatsReport): Record<string, [number, number]> {
  return Object.fromEntries(
    samples.map((each) => [each.labelKey, [each.requests, each.histograms[HttpMetric.Duration]?.count ?? 0]]),
  );
}

describe("CounterResets", () => {
  it.each<[string, readonly Row[], [number, number], number]>([
    ["hands on what only grows as it is", [row(5, 4), row(9, 9)], [9, 9], 0],
    ["adds what was counted before all fell", [row(100, 100), row(30, 30), row(40, 40)], [140, 140], 1],
    ["does so again and again", [row(100, 100), row(30, 30), row(20, 20), row(0, 0), row(7, 7)], [157, 157], 3],
    ["keeps histograms that are not there yet", [row(100, 100), row(30), row(120, 90)], [220, 190], 1],
    ["counts one generation that histograms show late", [row(100, 60), row(30, 60), row(40, 35)], [140, 95], 1],
    ["takes no histograms for new that did not fall", [row(100, 40), row(90, 60)], [190, 60], 1],
    ["takes none for them that hold part of the requests", [row(100, 50), row(3, 51), row(50, 80)], [150, 80], 1],
    ["makes no requests of histograms", [{ histograms: 100 }, { histograms: 30 }], [0, 130], 1],
    ["leaves histograms that /reset_counters left", [row(100, 100), row(3, 103), row(50, 150)], [150, 150], 1],
    ["leaves them when they move late", [row(100, 90), row(3, 90), row(300, 250)], [400, 250], 1],
    ["leaves them when all of it comes twice", [row(100, 90), row(3, 103), row(2, 105), row(9, 112)], [112, 112], 2],
    ["sees /reset_counters, then another VM", [row(100, 100), row(3, 103), row(1, 1)], [104, 104], 2],
    ["sees histograms fall alone", [row(100, 100), row(150, 140), row(160, 130)], [160, 270], 1],
    ["sees a bucket fall while the count does not", [row(100, [100, 80]), row(120, [120, 10])], [120, 220], 1],
    ["does not take an answer without the counter for a fall", [row(100, 100), { histograms: 110 }], [-1, 110], 0],
    ["keeps the counter for such an answer after a fall", [row(10, 10), row(4, 4), { histograms: 5 }], [14, 15], 1],
  ])("%s", (_claim, rows, expected, count) => {
    const resets = new CounterResets(new CounterRows());
    let last: StatsReport | undefined;
    for (const each of rows) last = resets.accumulate(report({ a: each }));
    expect(shown(last as StatsReport)).toEqual({ a: expected });
    expect(resets.count).toBe(count);
  });

  it("adds each bucket to its own, and the sums", () => {
    const resets = new CounterResets(new CounterRows());
    resets.accumulate(report({ a: row(10, [10, 4]) }));
    const [first] = resets.accumulate(report({ a: row(3, [3, 1]) })).samples;
    for (const metric of [HttpMetric.Duration, HttpMetric.RequestBytes, HttpMetric.ResponseBytes]) {
      expect(first?.histograms[metric]).toEqual(histogram(13, 5));
    }
  });

  it("keeps on showing a label set that vanished, and counts on when it comes back", () => {
    const resets = new CounterResets(new CounterRows());
    resets.accumulate(report({ a: row(10, 10), b: row(5, 5) }));
    expect(shown(resets.accumulate(report({ b: row(6, 6) })))).toEqual({ a: [10, 10], b: [6, 6] });
    expect(shown(resets.accumulate(report({})))).toEqual({ a: [10, 10], b: [6, 6] });
    expect(shown(resets.accumulate(report({ a: row(2, 2) })))).toEqual({ a: [12, 12], b: [6, 6] });
    expect(resets.count).toBe(1);
  });

  it("makes no requests of histograms that vanished", () => {
    const resets = new CounterResets(new CounterRows());
    resets.accumulate(report({ a: { histograms: 20 }, b: row(5, 20) }));
    expect(shown(resets.accumulate(report({})))).toEqual({ a: [0, 20], b: [5, 20] });
  });

  it("judges each histogram by its own fall: one that came back before another is not taken for new with it", () => {
    const resets = new CounterResets(new CounterRows());
    const read = (durations: number | null, sizes: number | null) => {
      const histograms = [null, durations, sizes, null].map((count) => (count === null ? null : histogram(count)));
      const [sample] = resets.accumulate({
        proxy: "",
        lifeMs: LIFE_MS,
        tcpSamples: [],
        samples: [{ labelKey: "a", requests: 0, histograms }],
      }).samples;
      return [HttpMetric.Duration, HttpMetric.RequestBytes].map((metric) => sample?.histograms[metric]?.count);
    };
    expect(read(10, 50)).toEqual([10, 50]);
    expect(read(4, null)).toEqual([14, 50]); // another VM; nothing of this size yet
    expect(read(12, 3)).toEqual([22, 53]);
    expect(read(13, 60)).toEqual([23, 110]);
  });

  it("does the same for each TCP counter", () => {
    const resets = new CounterResets(new CounterRows());
    const read = (...samples: [labelKey: string, ...counts: number[]][]) => {
      const tcpSamples = samples.map(([labelKey, ...counts]) => ({ labelKey, counts }));
      const { tcpSamples: cumulative } = resets.accumulate({ proxy: "", lifeMs: LIFE_MS, samples: [], tcpSamples });
      return Object.fromEntries(cumulative.map(({ labelKey, counts }) => [labelKey, counts]));
    };
    expect(read(["a", 5, -1, 100, 0])).toEqual({ a: [5, -1, 100, 0] });
    expect(read(["a", 2, 1, 120, 0], ["b", 1, 1, 1, 1])).toEqual({ a: [7, 1, 120, 0], b: [1, 1, 1, 1] });
    expect(read(["a", 3, -1, 4, -1])).toEqual({ a: [8, 1, 124, 0], b: [1, 1, 1, 1] });
    expect(resets.count).toBe(1);
    expect(read(["b", 0, 0, 0, 0])).toEqual({ a: [8, 1, 124, 0], b: [1, 1, 1, 1] });
    expect(resets.count).toBe(2);
  });

  it("begins at nothing with each process life, and gives its memory back", () => {
    const rows = new CounterRows();
    const resets = new CounterResets(rows);
    resets.accumulate(report({ a: row(10, 10), b: row(5, 5) }));
    resets.accumulate(report({ a: row(3, 3) }));
    expect(rows.size).toBe(3);
    expect(shown(resets.accumulate(report({ a: row(1, 1) }, LIFE_MS + 1)))).toEqual({ a: [1, 1] });
    expect(rows.size).toBe(1);
    expect(resets.count).toBe(1);
  });

  it("keeps targets apart that share the memory", () => {
    const rows = new CounterRows();
    const [one, other] = [new CounterResets(rows), new CounterResets(rows)];
    one.accumulate(report({ a: row(10, 10) }));
    expect(shown(other.accumulate(report({ a: row(3, 3) })))).toEqual({ a: [3, 3] });
    expect(shown(one.accumulate(report({ a: row(4, 4) })))).toEqual({ a: [14, 14] });
  });
});

function row(requests: number, histograms?: Row["histograms"]): Row {
  return histograms === undefined ? { requests } : { requests, histograms };
}

/** Row of one generation or of the truth: requests, then per value measured whether it is under the tenth bound. */
interface Tally {
  requests: number;
  count: number;
  below: number;
}

const NOTHING: Tally = { requests: 0, count: 0, below: 0 };

/** A proxy whose VM is replaced now and then. Histograms show what they held at the last flush. */
class VmHost {
  readonly truth = new Map<string, Tally>();
  private live = new Map<string, Tally>();
  private flushed = new Map<string, Tally>();

  request(labelKey: string, isBelow: boolean): void {
    for (const tallies of [this.truth, this.live]) {
      const { requests, count, below } = tallies.get(labelKey) ?? NOTHING;
      tallies.set(labelKey, { requests: requests + 1, count: count + 1, below: below + (isBelow ? 1 : 0) });
    }
  }

  /** The next generation's first request then is a reading below the last one. */
  get hasTwoOfEach(): boolean {
    return [...this.live.values()].every(({ requests }) => requests >= 2);
  }

  flush(): void {
    this.flushed = new Map(this.live);
  }

  replaceVm(): void {
    this.live = new Map();
    this.flushed = new Map();
  }

  resetCounters(): void {
    for (const [labelKey, tally] of this.live) this.live.set(labelKey, { ...tally, requests: 0 });
  }

  report(): StatsReport {
    const rows: Record<string, Row> = {};
    for (const [labelKey, { requests }] of this.live) {
      const flushed = this.flushed.get(labelKey);
      rows[labelKey] = flushed ? row(requests, [flushed.count, flushed.below]) : row(requests);
    }
    return report(rows);
  }
}

describe.each([0, 1, 2, 3, 4, 5, 6, 7])(`random generations (SEED=${SEED} + %i)`, (offset) => {
  const next = random(SEED + offset);
  const pick = (below: number) => Math.floor(next() * below);

  /** `readsAll`: all is flushed and read after each step, so before each change and before what began anew has caught up. */
  function run(readsAll: boolean, changes: readonly ("replaceVm" | "resetCounters")[]): void {
    const proxy = new VmHost();
    const resets = new CounterResets(new CounterRows());
    const most = new Map<string, Tally>();
    let generations = 0;
    const read = () => {
      for (const { labelKey, requests, histograms } of resets.accumulate(proxy.report()).samples) {
        const truth = proxy.truth.get(labelKey) ?? NOTHING;
        const before = most.get(labelKey) ?? NOTHING;
        const { cumulative, count } = histograms[HttpMetric.RequestBytes] ?? histogram(0);
        const now = { requests, count, below: cumulative[0] as number };
        if (now.below > count) throw new Error(`bucket ${now.below} above count ${count}`);
        for (const field of ["requests", "count", "below"] as const) {
          if (now[field] > truth[field]) throw new Error(`${field} is ${now[field]}, above the truth ${truth[field]}`);
        }
        most.set(labelKey, {
          requests: Math.max(before.requests, now.requests),
          count: Math.max(before.count, now.count),
          below: Math.max(before.below, now.below),
        });
      }
    };
    const readAll = () => {
      proxy.flush();
      read();
    };
    for (let step = 0; step < 3000; step++) {
      const dice = pick(100);
      if (dice < 70) proxy.request(`label-set-${pick(4)}`, pick(2) === 0);
      else if (dice < 85) read();
      else if (dice < 94) proxy.flush();
      else if (!readsAll || proxy.hasTwoOfEach) {
        proxy[changes[pick(changes.length)] as "replaceVm"]();
        generations++;
      }
      if (readsAll) readAll();
    }
    expect(generations).toBeGreaterThan(50);
    if (readsAll) expect(most).toEqual(proxy.truth);
  }

  it("never show more than the truth, however seldom they are read", () => {
    run(false, ["replaceVm"]);
    run(false, ["resetCounters"]);
    run(false, ["replaceVm", "resetCounters"]);
  });

  it("show the truth when they are read before and after each change", () => {
    run(true, ["resetCounters"]);
    run(true, ["replaceVm"]);
  });
});
