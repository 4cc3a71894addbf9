import { describe, expect, it } from "vitest";
import type { AccessRecord, StatsReport } from "../../collector/record/record.ts";
import { REQUESTS } from "../../collector/series/counts.ts";
import { withMark } from "../../collector/series/key.ts";
import { MIXED_OVERFLOW_KEY, overflowKeyOf } from "../../collector/series/overflow.ts";
import { type SeriesLimits, SeriesStore } from "../../collector/series/store.ts";
import { HttpMetric } from "../../collector/vocabulary.ts";
import { BUCKET_COUNT, COUNTS_WIDTH, HISTOGRAM_COUNT, HISTOGRAM_SUM, histogramField } from "../fixtures/counts.ts";
import { key } from "./labels.ts";

const MINUTE_MS = 60_000;
const KEY = key({ source_workload: "web" });
/** The overflow of KEY, and of all label sets that differ from it in the source's name. */
const OVERFLOW_KEY = overflowKeyOf(KEY, false);
const FIRST_LIFE = 1_000;
const SECOND_LIFE = 2_000;

function setUp(limits: Partial<SeriesLimits> = {}) {
  /** Unix time is `nowMs` and what the clock was set forward by. */
  const clock = { nowMs: FIRST_LIFE, setForwardMs: 0 };
  const store = new SeriesStore(
    { proxies: 100, labelSets: 100, cells: 1000, connections: 100, retireAfterMs: 10 * MINUTE_MS, ...limits },
    { wallMs: () => clock.nowMs + clock.setForwardMs, steadyMs: () => clock.nowMs },
  );
  return { clock, store };
}

function record(some: Partial<AccessRecord> = {}): AccessRecord {
  const numbers = { requests: 1, durationMs: 7, requestBytes: 0, responseBytes: 1234 };
  return { proxy: "p", lifeMs: FIRST_LIFE, labelKey: KEY, ...numbers, ...some };
}

/** A scrape with counters only: `report({ [KEY]: 5 })`. */
function report(requests: Readonly<Record<string, number>>, lifeMs = FIRST_LIFE, proxy = "p"): StatsReport {
  const samples = Object.entries(requests).map(([labelKey, count]) => ({ labelKey, requests: count, histograms: [] }));
  return { proxy, lifeMs, samples, tcpSamples: [] };
}

function counts(store: SeriesStore, labelKey = KEY): Float64Array {
  const row = new Float64Array(COUNTS_WIDTH);
  const series = store.http.series.find((candidate) => candidate.labelKey === labelKey);
  if (series) store.http.readTotal(series, row);
  return row;
}

const requests = (store: SeriesStore, labelKey = KEY): number => counts(store, labelKey)[REQUESTS] as number;

function totals(store: SeriesStore): Map<string, number> {
  return new Map(store.http.series.map(({ labelKey }) => [labelKey, requests(store, labelKey)]));
}

function recent(store: SeriesStore, labelKey = KEY): number {
  const row = new Float64Array(COUNTS_WIDTH);
  const series = store.http.series.find((candidate) => candidate.labelKey === labelKey);
  if (series) store.http.readRecent(series, row);
  return row[REQUESTS] as number;
}

describe("SeriesStore.observe", () => {
  it("counts a request in the counter and in all three histograms", () => {
    const { store } = setUp();
    expect(store.observe(record())).toBeNull();
    const row = counts(store);
    const duration = histogramField(HttpMetric.Duration);
    expect(row[REQUESTS]).toBe(1);
    expect([...row.subarray(duration, duration + BUCKET_COUNT)]).toEqual([0, 0, 0, ...new Array(16).fill(1)]);
    expect(row[duration + HISTOGRAM_COUNT]).toBe(1);
    expect(row[histogramField(HttpMetric.RequestBytes)]).toBe(1);
    expect(row[histogramField(HttpMetric.ResponseBytes) + HISTOGRAM_SUM]).toBe(1248);
  });

  it("leaves a request that did not finish out of the durations, and counts it", () => {
    const { store } = setUp();
    store.observe(record({ durationMs: -1 }));
    expect(requests(store)).toBe(1);
    expect(counts(store)[histogramField(HttpMetric.Duration) + HISTOGRAM_COUNT]).toBe(0);
    expect(counts(store)[histogramField(HttpMetric.RequestBytes) + HISTOGRAM_COUNT]).toBe(1);
  });
});

describe("SeriesStore.report", () => {
  it("merges with the access log by the larger count, whichever speaks first", () => {
    const { store } = setUp();
    store.observe(record());
    store.observe(record());
    store.report(report({ [KEY]: 1 }));
    expect(requests(store)).toBe(2);
    store.report(report({ [KEY]: 5 }));
    expect(requests(store)).toBe(5);
    store.observe(record());
    expect(requests(store)).toBe(5);
    for (let more = 0; more < 3; more++) store.observe(record());
    expect(requests(store)).toBe(6);
  });

  it("changes nothing when a scrape comes again, or late", () => {
    const { store } = setUp();
    for (const count of [3, 9, 9, 3]) store.report(report({ [KEY]: count }));
    expect(requests(store)).toBe(9);
  });

  it("merges each bucket alone while the histograms lag behind the counter", () => {
    const { store } = setUp();
    store.observe(record({ durationMs: 7 }));
    const cumulative = new Float64Array(BUCKET_COUNT).fill(1); // one request of 0 ms, whose log entry was lost
    const duration = { cumulative, count: 1, sum: 0 };
    store.report({
      proxy: "p",
      lifeMs: FIRST_LIFE,
      samples: [{ labelKey: KEY, requests: 2, histograms: [null, duration] }],
      tcpSamples: [],
    });
    const at = histogramField(HttpMetric.Duration);
    expect(requests(store)).toBe(2);
    expect([...counts(store).subarray(at, at + 4)]).toEqual([1, 1, 1, 1]);
    expect(counts(store)[at + HISTOGRAM_COUNT]).toBe(1);
  });

  it("refuses a scrape without a start time, and counts none of it", () => {
    const { store } = setUp();
    expect(store.report(report({ [KEY]: 5 }, 0))).toBe("no_start_time");
    expect(store.http.series).toHaveLength(0);
    expect(store.lifeCount).toBe(0);
  });

  it("reads the same label set of two proxies as two counts", () => {
    const { store } = setUp();
    store.report(report({ [KEY]: 5 }, FIRST_LIFE, "a"));
    store.report(report({ [KEY]: 7 }, FIRST_LIFE, "b"));
    expect(requests(store)).toBe(12);
  });
});

describe("a restarted proxy", () => {
  it("adds to what its former life counted", () => {
    const { store } = setUp();
    store.report(report({ [KEY]: 5 }));
    store.report(report({ [KEY]: 2 }, SECOND_LIFE));
    expect(requests(store)).toBe(7);
  });

  it("may still be told about its former life, late, within the grace", () => {
    const { clock, store } = setUp();
    store.observe(record());
    store.report(report({ [KEY]: 2 }, SECOND_LIFE));
    clock.nowMs += 9 * MINUTE_MS;
    store.retireSuperseded();
    expect(store.report(report({ [KEY]: 3 }))).toBe("ok");
    expect(store.observe(record())).toBeNull();
    expect(requests(store)).toBe(5);
  });

  it("keeps its counts, and takes no more for it, once the former life is retired", () => {
    const { clock, store } = setUp();
    store.report(report({ [KEY]: 5 }));
    store.report(report({ [KEY]: 2 }, SECOND_LIFE));
    clock.nowMs += 10 * MINUTE_MS;
    store.retireSuperseded();
    expect(store.lifeCount).toBe(1);
    expect(store.observe(record())).toBe("life_retired");
    expect(store.report(report({ [KEY]: 9 }))).toBe("life_retired");
    expect(store.report(report({ [KEY]: 3 }, SECOND_LIFE))).toBe("ok");
    expect(requests(store)).toBe(8);
  });

  it("has the grace counted from when it was superseded, however long the former life was silent", () => {
    const { clock, store } = setUp();
    store.report(report({ [KEY]: 5 }));
    clock.nowMs += 60 * MINUTE_MS;
    store.report(report({ [KEY]: 2 }, SECOND_LIFE));
    store.retireSuperseded();
    expect(store.observe(record())).toBeNull();
  });

  it("keeps its newest life, however long it is silent", () => {
    const { clock, store } = setUp();
    store.report(report({ [KEY]: 5 }));
    clock.nowMs += 24 * 60 * MINUTE_MS;
    store.retireSuperseded();
    expect(store.report(report({ [KEY]: 6 }))).toBe("ok");
    expect(requests(store)).toBe(6);
  });
});

describe("a proxy whose clock was set back", () => {
  it("counts on under a start that is older than a retired one", () => {
    const { clock, store } = setUp();
    clock.nowMs = 10 * MINUTE_MS;
    store.report(report({ [KEY]: 5 }, 3_000));
    store.report(report({ [KEY]: 5 }, 4_000));
    clock.nowMs += 10 * MINUTE_MS;
    store.retireSuperseded();
    expect(store.lifeCount).toBe(1);
    expect(store.report(report({ [KEY]: 500 }, SECOND_LIFE))).toBe("ok");
    expect(store.observe(record({ lifeMs: SECOND_LIFE }))).toBeNull();
    expect(store.report(report({ [KEY]: 9 }, 3_000))).toBe("life_retired");
    expect(requests(store)).toBe(510);
  });

  it("keeps the life with the older start while that is the current one, however long it is silent", () => {
    const { clock, store } = setUp();
    store.observe(record({ lifeMs: SECOND_LIFE }));
    store.observe(record({ lifeMs: FIRST_LIFE }));
    store.observe(record({ lifeMs: SECOND_LIFE })); // late
    clock.nowMs += 30 * MINUTE_MS;
    store.retireSuperseded();
    expect(store.observe(record({ lifeMs: FIRST_LIFE }))).toBeNull();
    store.retireSuperseded();
    expect(store.observe(record({ lifeMs: SECOND_LIFE }))).toBe("life_retired");
    expect(requests(store)).toBe(4);
  });

  it("counts both of two processes that go by one node id and keep speaking", () => {
    const { clock, store } = setUp();
    for (let minute = 0; minute < 30; minute++) {
      for (const lifeMs of [SECOND_LIFE, FIRST_LIFE]) expect(store.observe(record({ lifeMs }))).toBeNull();
      clock.nowMs += MINUTE_MS;
      store.retireSuperseded();
    }
    expect(requests(store)).toBe(60);
  });

  it("is remembered by its retired starts when it was let go, and not by the largest of them", () => {
    const { clock, store } = setUp({ proxies: 1 });
    store.report(report({ [KEY]: 5 }, SECOND_LIFE));
    clock.nowMs += 20 * MINUTE_MS;
    store.report(report({}, FIRST_LIFE, "other"));
    clock.nowMs += 20 * MINUTE_MS;
    expect(store.report(report({ [KEY]: 3 }, FIRST_LIFE))).toBe("ok");
    expect(store.report(report({ [KEY]: 9 }, SECOND_LIFE))).toBe("life_retired");
    expect(requests(store)).toBe(8);
  });
});

describe("a start in the future", () => {
  const FUTURE = FIRST_LIFE + MINUTE_MS + 1;

  it("is no life of a scrape, as while Envoy restarts hot", () => {
    const { store } = setUp();
    expect(store.report(report({ [KEY]: 5 }, FUTURE))).toBe("restarted");
    expect(store.lifeCount).toBe(0);
    expect(store.report(report({ [KEY]: 5 }, FUTURE - 1))).toBe("ok");
  });

  it("is no life of a log entry, which then merges with the stats like one that names none", () => {
    const { store } = setUp();
    store.report(report({ [KEY]: 2 }));
    for (let count = 0; count < 3; count++) expect(store.observe(record({ lifeMs: FUTURE }))).toBeNull();
    expect(requests(store)).toBe(3);
  });

  it("is a life that is held already, when only our own clock was set back", () => {
    const { clock, store } = setUp();
    clock.setForwardMs = 60 * MINUTE_MS;
    store.report(report({ [KEY]: 5 }, FIRST_LIFE + 60 * MINUTE_MS));
    clock.setForwardMs = 0;
    expect(store.report(report({ [KEY]: 7 }, FIRST_LIFE + 60 * MINUTE_MS))).toBe("ok");
    expect(requests(store)).toBe(7);
  });
});

describe("entries that name no life", () => {
  it("are simply counted for a proxy of which no stats are known", () => {
    const { store } = setUp();
    for (let count = 0; count < 3; count++) store.observe(record({ lifeMs: 0 }));
    expect(requests(store)).toBe(3);
  });

  it.each(["before", "after"])(
    "are not counted on top of stats that tell of the same requests, coming %s them",
    (order) => {
      const { store } = setUp();
      const log = () => [1, 2, 3].map(() => store.observe(record({ lifeMs: 0 })));
      if (order === "before") log();
      store.report(report({ [KEY]: 3 }));
      if (order === "after") log();
      expect(requests(store)).toBe(3);
      store.report(report({ [KEY]: 1 }, SECOND_LIFE));
      store.observe(record({ lifeMs: 0 }));
      expect(requests(store)).toBe(4);
    },
  );

  it("still hold the balance after the stamped life they told of was retired", () => {
    const { clock, store } = setUp();
    store.report(report({ [KEY]: 2 }));
    for (let count = 0; count < 4; count++) store.observe(record({ lifeMs: 0 }));
    store.report(report({ [KEY]: 1 }, SECOND_LIFE));
    clock.nowMs += 10 * MINUTE_MS;
    store.retireSuperseded();
    expect(requests(store)).toBe(4);
    store.report(report({ [KEY]: 3 }, SECOND_LIFE));
    expect(requests(store)).toBe(5);
  });
});

describe("limits.labelSets", () => {
  it("sends new label sets to the overflow label set, where stats and access log still merge exactly", () => {
    const { store } = setUp({ labelSets: 1 });
    const [a, b] = [key({ source_workload: "a" }), key({ source_workload: "b" })];
    store.observe(record());
    for (const labelKey of [a, a, b]) store.observe(record({ labelKey }));
    expect(requests(store, OVERFLOW_KEY)).toBe(3);
    store.report(report({ [KEY]: 1, [a]: 2, [b]: 1 }));
    expect(requests(store, OVERFLOW_KEY)).toBe(3);
    store.report(report({ [KEY]: 4, [a]: 2, [b]: 3 }));
    expect(requests(store, OVERFLOW_KEY)).toBe(5);
    expect(requests(store)).toBe(4);
    expect(store.http.overflowed).toBe(5);
    expect(store.http.series).toHaveLength(2);
  });

  it("takes the filter's own overflow label set into the same series, and adds up both of one scrape", () => {
    const { store } = setUp({ labelSets: 1 });
    const a = key({ source_workload: "a" });
    for (const requests of [2, 3]) {
      expect(store.report(report({ [KEY]: 1, [a]: requests, [OVERFLOW_KEY]: 7, [MIXED_OVERFLOW_KEY]: 5 }))).toBe("ok");
      expect(totals(store)).toEqual(
        new Map([
          [KEY, 1],
          [OVERFLOW_KEY, 7 + requests],
          [MIXED_OVERFLOW_KEY, 5],
        ]),
      );
      expect(store.http.overflowed).toBe(12 + requests);
    }
  });

  it("has an overflow for each kind of report, where stats and access log still merge exactly", () => {
    const { store } = setUp({ labelSets: 1 });
    const [web, job] = ["web", "job"].map((name) => key({ reporter: "source", source_workload: name }));
    const [called, foreign] = ["web", "unknown"].map((name) =>
      key({ reporter: "destination", source_workload: name, destination_workload: "db" }),
    );
    const all = [web, job, called, foreign] as string[];
    store.observe(record({ labelKey: key({ reporter: "source", source_workload: "first" }) }));
    for (const labelKey of all) for (let count = 0; count < 3; count++) store.observe(record({ labelKey }));
    const expected = (each: number) => [6 + 2 * each, 3 + each, 3 + each];
    const counted = () => [web, called, foreign].map((each) => requests(store, overflowKeyOf(each as string, false)));
    expect(counted()).toEqual(expected(0));
    store.report(report(Object.fromEntries(all.map((each) => [each, 2]))));
    expect(counted()).toEqual(expected(0));
    store.report(report(Object.fromEntries(all.map((each) => [each, 7]))));
    expect(counted()).toEqual(expected(4));
    expect(store.http.series).toHaveLength(4);
  });

  it("keeps a label set with those that differ from it in their mark alone: they may tell of the same requests", () => {
    for (const marks of [
      [null, "?"],
      ["?", null],
      ["+", "?"],
    ] as const) {
      const { store } = setUp({ labelSets: 1 });
      const foreign = key({ reporter: "destination", destination_workload: "db" });
      const [first, second] = marks.map((mark) => withMark(foreign, mark)) as [string, string];
      const tell = (labelKey: string) => {
        if (labelKey === foreign) store.report(report({ [foreign]: 3 }));
        else for (let count = 0; count < 3; count++) store.observe(record({ lifeMs: 0, labelKey }));
      };
      tell(first);
      tell(second);
      expect(store.http.overflowed).toBe(0);
      const isTwoReadings = first === foreign || second === foreign;
      expect(requests(store, first) + requests(store, second)).toBe(isTwoReadings ? 3 : 6);
    }
  });

  it("counts once in the overflow what an entry without a process life tells, too, with a mark", () => {
    for (const isEntryFirst of [true, false]) {
      const { store } = setUp({ labelSets: 1 });
      const foreign = key({ reporter: "destination", destination_workload: "db" });
      const log = () => {
        for (let count = 0; count < 3; count++) store.observe(record({ lifeMs: 0, labelKey: withMark(foreign, "?") }));
      };
      store.observe(record({ proxy: "q" }));
      if (isEntryFirst) log();
      store.report(report({ [foreign]: 3 }));
      if (!isEntryFirst) log();
      store.report(report({ [foreign]: 4 }));
      expect(store.http.overflowed).toBe(4);
    }
  });
});

describe("limits.cells", () => {
  const [A, B, C] = ["a", "b", "c"].map((name) => key({ source_workload: name })) as [string, string, string];

  it("sends further label sets of a life to the overflow, where stats and access log still merge exactly", () => {
    const { store } = setUp({ cells: 1 }); // besides the overflow
    store.observe(record());
    for (const labelKey of [A, A, B]) expect(store.observe(record({ labelKey }))).toBeNull();
    expect(store.report(report({ [B]: 1, [KEY]: 3, [A]: 2 }))).toBe("ok");
    expect([requests(store), requests(store, OVERFLOW_KEY), store.http.cellCount]).toEqual([3, 3, 2]);
    expect(store.report(report({ [KEY]: 3, [A]: 4, [B]: 1, [C]: 1 }))).toBe("ok");
    expect([requests(store), requests(store, OVERFLOW_KEY), store.http.series.length]).toEqual([3, 6, 2]);
  });

  it("keeps a life's label sets in the overflow though there is room again", () => {
    const { clock, store } = setUp({ cells: 2 });
    store.report(report({ [A]: 1, [B]: 1 }, FIRST_LIFE, "q"));
    store.report(report({ [A]: 3 }));
    store.report(report({}, SECOND_LIFE, "q"));
    clock.nowMs += 10 * MINUTE_MS;
    store.retireSuperseded();
    expect(store.http.cellCount).toBe(1);
    store.report(report({ [A]: 4, [B]: 5 }));
    expect([requests(store, A), requests(store, B), requests(store, OVERFLOW_KEY)]).toEqual([1, 1, 9]);
  });

  it("has room for the overflow of every life, whatever else is held", () => {
    const { store } = setUp({ cells: 1 });
    store.report(report({ [KEY]: 1, [A]: 1 }));
    expect(store.report(report({ [B]: 7 }, FIRST_LIFE, "q"))).toBe("ok");
    expect(store.observe(record({ proxy: "r", labelKey: C }))).toBeNull();
    expect([store.http.cellCount, store.http.overflowed]).toEqual([4, 9]);
  });

  it("never has stats in the overflow and the entries of the same requests beside it", () => {
    const { store } = setUp({ cells: 2 });
    store.observe(record({ lifeMs: 0, labelKey: A }));
    store.report(report({ [KEY]: 3, [B]: 1 }));
    expect(store.report(report({ [KEY]: 3, [A]: 1, [B]: 1 }))).toBe("cells_full");
    for (let count = 0; count < 4; count++) store.observe(record({ lifeMs: 0, labelKey: B }));
    const total = [KEY, A, B, OVERFLOW_KEY].reduce((sum, labelKey) => sum + requests(store, labelKey), 0);
    expect(total).toBeLessThanOrEqual(5 + 4);

    const closed = setUp({ cells: 1 }).store;
    closed.report(report({ [KEY]: 1, [A]: 1 }));
    expect(closed.observe(record({ lifeMs: 0, labelKey: A }))).toBe("cells_full");
  });

  it("has the rows of retired lives back", () => {
    const { clock, store } = setUp();
    store.report(report({ [KEY]: 1, [A]: 1 }));
    store.observe(record());
    expect(store.http.cellCount).toBe(2);
    store.report(report({ [KEY]: 1 }, SECOND_LIFE));
    clock.nowMs += 10 * MINUTE_MS;
    store.retireSuperseded();
    expect([store.http.cellCount, store.http.rowCount]).toEqual([1, 3]); // two totals, and one reading
  });
});

describe("limits.proxies", () => {
  it("refuses a further proxy while all others speak", () => {
    const { store } = setUp({ proxies: 1 });
    store.observe(record());
    expect(store.observe(record({ proxy: "q" }))).toBe("proxies_full");
    expect(store.report(report({ [KEY]: 5 }, FIRST_LIFE, "q"))).toBe("proxies_full");
    expect(store.observe(record())).toBeNull();
    expect(requests(store)).toBe(2);
  });

  it("lets go of the proxy that was silent longest, keeps its counts and never counts that life again", () => {
    const { clock, store } = setUp({ proxies: 2 });
    store.report(report({ [KEY]: 5 }, FIRST_LIFE, "gone"));
    clock.nowMs += MINUTE_MS;
    store.report(report({ [KEY]: 5 }, FIRST_LIFE, "quiet"));
    clock.nowMs += 20 * MINUTE_MS;
    expect(store.report(report({ [KEY]: 1 }, SECOND_LIFE, "new"))).toBe("ok");
    expect(store.report(report({ [KEY]: 6 }, FIRST_LIFE, "gone"))).toBe("life_retired");
    expect(store.report(report({ [KEY]: 6 }, FIRST_LIFE, "quiet"))).toBe("ok");
    expect(requests(store)).toBe(12);
    expect(store.lifeCount).toBe(2);
  });

  it("takes a proxy back that was let go, under a new life", () => {
    const { clock, store } = setUp({ proxies: 1 });
    store.report(report({ [KEY]: 5 }, FIRST_LIFE, "gone"));
    clock.nowMs += 20 * MINUTE_MS;
    store.report(report({ [KEY]: 1 }, SECOND_LIFE, "new"));
    clock.nowMs += 20 * MINUTE_MS;
    expect(store.report(report({ [KEY]: 2 }, SECOND_LIFE, "gone"))).toBe("ok");
    expect(store.report(report({ [KEY]: 6 }, FIRST_LIFE, "gone"))).toBe("life_retired");
    expect(requests(store)).toBe(8);
  });
});

describe("a proxy that was let go after entries that name no life", () => {
  function letGo() {
    const { clock, store } = setUp({ proxies: 1 });
    for (let count = 0; count < 5; count++) store.observe(record({ lifeMs: 0 }));
    clock.nowMs += 20 * MINUTE_MS;
    expect(store.observe(record({ proxy: "other", lifeMs: 0, labelKey: OVERFLOW_KEY }))).toBeNull();
    clock.nowMs += 20 * MINUTE_MS;
    return { clock, store };
  }

  it("has them not counted again by the first stats of the process that they told of", () => {
    const { store } = letGo();
    expect(store.report(report({ [KEY]: 6 }))).toBe("life_retired");
    expect(store.observe(record({ lifeMs: 0 }))).toBeNull();
    expect(requests(store)).toBe(6);
  });

  it("is counted by stats of a process that started after them", () => {
    const { clock, store } = letGo();
    expect(store.report(report({ [KEY]: 6 }, clock.nowMs - MINUTE_MS))).toBe("ok");
    expect(requests(store)).toBe(11);
  });
});

describe("what is remembered of proxies that were let go", () => {
  it("is 50,000 of them", () => {
    const { clock, store } = setUp({ proxies: 1 });
    for (let count = 0; count <= 50_001; count++) {
      store.report(report({}, FIRST_LIFE, `p${count}`));
      clock.nowMs += 10 * MINUTE_MS;
    }
    const results = ["p50000", "p1", "p0"].map((proxy) => store.report(report({}, FIRST_LIFE, proxy)));
    expect(results).toEqual(["life_retired", "life_retired", "ok"]);
  });
});

describe("what happened before the collector looked", () => {
  it("is in the total and not in the recent counts", () => {
    const { clock, store } = setUp();
    clock.nowMs = FIRST_LIFE + 2 * MINUTE_MS;
    store.report(report({ [KEY]: 100 }));
    expect([requests(store), recent(store)]).toEqual([100, 0]);
    store.report(report({ [KEY]: 103 }));
    store.observe(record({ proxy: "q", lifeMs: clock.nowMs }));
    expect([requests(store), recent(store)]).toEqual([104, 4]);
  });

  it("is recent when the process had just started", () => {
    const { clock, store } = setUp();
    clock.nowMs = FIRST_LIFE + MINUTE_MS / 2;
    store.report(report({ [KEY]: 100 }));
    expect(recent(store)).toBe(100);
  });
});

describe("SeriesStore.takeChanged", () => {
  it("names each series once that grew since the last time", () => {
    const { store } = setUp();
    store.observe(record());
    store.observe(record());
    expect(store.http.takeChanged().map((series) => series.labelKey)).toEqual([KEY]);
    expect(store.http.takeChanged()).toEqual([]);
    store.report(report({ [KEY]: 5 }));
    expect(store.http.takeChanged()).toHaveLength(1);
  });
});
