// TCP connections in the store: differences of cumulative entries, and their merge with stats.

import { describe, expect, it } from "vitest";
import type { ConnectionPart, ConnectionRecord, StatsReport } from "../../collector/record/record.ts";
import { packLabels } from "../../collector/series/key.ts";
import { overflowKeyOf } from "../../collector/series/overflow.ts";
import { type SeriesLimits, SeriesStore } from "../../collector/series/store.ts";
import { TCP_METRICS } from "../../collector/vocabulary.ts";
import { tcpLabels } from "../fixtures/observation.ts";
import { type LabelValues, values } from "./labels.ts";

const MINUTE_MS = 60_000;
const LIFE = 1_000;
const tcpKey = (some: LabelValues) => packLabels(tcpLabels(values(some)));
const KEY = tcpKey({ source_workload: "web" });
const OTHER_KEY = tcpKey({ source_workload: "api" });
const TCP_OVERFLOW_KEY = overflowKeyOf(KEY, true);

function setUp(limits: Partial<SeriesLimits> = {}) {
  const clock = { nowMs: LIFE };
  const store = new SeriesStore(
    { proxies: 100, labelSets: 100, cells: 1000, connections: 100, retireAfterMs: 10 * MINUTE_MS, ...limits },
    { wallMs: () => clock.nowMs, steadyMs: () => clock.nowMs },
  );
  return { clock, store };
}

type Counts = readonly [opened: number, closed: number, sent: number, received: number];

function part(counts: Counts, labelKey = KEY): ConnectionPart {
  return { labelKey, counts };
}

/** An entry of connection 0, which is over if it counts as closed. */
function entry(counts: Counts, some: Partial<ConnectionRecord> = {}): ConnectionRecord {
  const isOver = counts[1] === 1;
  return { proxy: "p", lifeMs: LIFE, connectionId: 0, streamId: "", isOver, parts: [part(counts)], ...some };
}

function report(counts: Counts, labelKey = KEY, lifeMs = LIFE): StatsReport {
  return { proxy: "p", lifeMs, samples: [], tcpSamples: [{ labelKey, counts: [...counts] }] };
}

function total(store: SeriesStore, labelKey = KEY): number[] {
  const row = new Float64Array(TCP_METRICS.length);
  const series = store.tcp.series.find((candidate) => candidate.labelKey === labelKey);
  if (series) store.tcp.readTotal(series, row);
  return [...row];
}

const BEGUN: Counts = [1, 0, 0, 0];
const SOME: Counts = [1, 0, 10, 5];
const MORE: Counts = [1, 0, 30, 6];
const ENDED: Counts = [1, 1, 40, 7];

describe("the entries of one connection", () => {
  it.each<[string, readonly Counts[], Counts]>([
    ["count by what each says more than the one before", [BEGUN, SOME, MORE, ENDED], ENDED],
    ["count all of it where only the last comes", [ENDED], ENDED],
    ["count what is known though the last is lost", [SOME, MORE], MORE],
    ["make up for one that was lost", [BEGUN, MORE], MORE],
    ["count once what comes twice", [SOME, SOME, MORE, MORE, ENDED, ENDED], ENDED],
    ["count nothing of a late one", [MORE, SOME, BEGUN], MORE],
    ["count nothing of one that comes after the last", [SOME, ENDED, MORE, SOME], ENDED],
    ["count nothing of what comes after a last one that came alone", [ENDED, MORE], ENDED],
    ["never count down, in no field", [SOME, [1, 0, 3, 12]], [1, 0, 10, 12]],
  ])("%s", (_claim, entries, expected) => {
    const { store } = setUp();
    for (const counts of entries) expect(store.observeConnection(entry(counts))).toBeNull();
    expect(total(store)).toEqual(expected);
    expect(store.connectionCount).toBe(expected[1] === 1 ? 0 : 1);
  });

  it("are told from those of another connection, process life and proxy", () => {
    const { store } = setUp();
    for (const other of [{}, { connectionId: 1 }, { lifeMs: LIFE + 1 }, { proxy: "q" }]) {
      expect(store.observeConnection(entry(ENDED, other))).toBeNull();
    }
    expect(total(store)).toEqual([4, 4, 160, 28]);
  });

  it("count each part under its own label set, also where a later one has more parts", () => {
    const { store } = setUp();
    store.observeConnection(entry(SOME));
    store.observeConnection(entry(SOME, { parts: [part(SOME), part([0, 0, 20, 1], OTHER_KEY)] }));
    store.observeConnection(entry(SOME)); // late
    store.observeConnection(entry(ENDED, { parts: [part([1, 1, 10, 5]), part([0, 0, 25, 2], OTHER_KEY)] }));
    expect(total(store)).toEqual([1, 1, 10, 5]);
    expect(total(store, OTHER_KEY)).toEqual([0, 0, 25, 2]);
  });

  it("stay with the label set of the first", () => {
    const { store } = setUp();
    store.observeConnection(entry(SOME));
    store.observeConnection(entry(ENDED, { parts: [part(ENDED, OTHER_KEY)] }));
    expect([total(store), total(store, OTHER_KEY)]).toEqual([ENDED, [0, 0, 0, 0]]);
  });

  it("are not held when they count for nothing", () => {
    const { store } = setUp();
    expect(store.observeConnection(entry([0, 0, 0, 0]))).toBeNull();
    expect(store.observeConnection(entry(SOME, { connectionId: 1, parts: [] }))).toBeNull();
    expect([store.connectionCount, store.tcp.series.length]).toEqual([0, 0]);
  });

  it("are neither held nor counted by half when their label set finds no room", () => {
    const { store } = setUp({ cells: 0 });
    expect(store.observeConnection(entry(SOME))).toBeNull(); // in the overflow
    const unnamed = { lifeMs: 0, streamId: "s" };
    const unnamedEnd = entry(ENDED, { connectionId: 1, ...unnamed });
    expect(store.observeConnection(unnamedEnd)).toBe("cells_full");
    expect(store.observeConnection(unnamedEnd, "otlp")).toBe("cells_full"); // by whichever way it is told again
    expect(store.observeConnection(entry(ENDED))).toBeNull();
    expect([store.connectionCount, store.tcp.cellCount]).toEqual([0, 1]);
    expect(total(store, TCP_OVERFLOW_KEY)).toEqual(ENDED);
  });
});

describe("the larger of stats and access log counts", () => {
  it("whichever speaks first", () => {
    const { store } = setUp();
    store.observeConnection(entry(SOME));
    store.report(report([1, 0, 8, 9]));
    expect(total(store)).toEqual([1, 0, 10, 9]);
    store.report(report([2, 1, 100, 100]));
    store.observeConnection(entry(ENDED));
    expect(total(store)).toEqual([2, 1, 100, 100]);
  });

  it("also after a restart of the collector, when a connection's first entry counts in full", () => {
    const { store } = setUp();
    store.report(report([5, 4, 1000, 1000]));
    store.observeConnection(entry(MORE));
    expect(total(store)).toEqual([5, 4, 1000, 1000]);
  });

  it("where the entries name no life, too: they are a second reading of all its lives", () => {
    const { store } = setUp();
    store.observeConnection(entry(ENDED, { lifeMs: 0, streamId: "a" }));
    store.report(report([1, 0, 10, 5]));
    store.report(report([1, 1, 40, 7]));
    expect(total(store)).toEqual(ENDED);
    store.report(report([2, 1, 50, 7]));
    expect(total(store)).toEqual([2, 1, 50, 7]);
  });
});

describe("entries that name no process life", () => {
  const derived = (counts: Counts, streamId: string) => entry(counts, { lifeMs: 0, streamId });

  it("are told apart by their stream id", () => {
    const { store } = setUp();
    for (const counts of [SOME, SOME, MORE, ENDED, MORE]) {
      expect(store.observeConnection(derived(counts, "a"))).toBeNull();
    }
    store.observeConnection(derived(SOME, "b"));
    expect(total(store)).toEqual([2, 1, 50, 12]);
  });

  it("count at the end alone, and in full, where they have none", () => {
    const { store } = setUp();
    expect(store.observeConnection(derived(SOME, ""))).toBe("not_final");
    expect(store.tcp.series).toEqual([]);
    store.observeConnection(derived(ENDED, ""));
    store.observeConnection(derived(ENDED, ""));
    expect(total(store)).toEqual([2, 2, 80, 14]);
  });

  it("count at the end alone where the proxy has the filter, which may not have spoken yet", () => {
    const { store } = setUp();
    store.report(report([0, 0, 0, 0]));
    expect(store.observeConnection(derived(SOME, "a"))).toBe("not_final");
    expect(store.observeConnection(derived(ENDED, "b"))).toBeNull();
    expect(total(store)).toEqual(ENDED);
  });

  it("are what those of a process that began in the future are taken for", () => {
    const { store } = setUp();
    const future = { lifeMs: LIFE + 10 * MINUTE_MS, streamId: "a" };
    for (const counts of [SOME, MORE, ENDED]) expect(store.observeConnection(entry(counts, future))).toBeNull();
    expect(total(store)).toEqual(ENDED);
    expect(store.lifeCount).toBe(1);
  });
});

describe("limits.connections", () => {
  it("refuses what goes on, and counts its end in full", () => {
    const { store } = setUp({ connections: 1 });
    expect(store.observeConnection(entry(SOME))).toBeNull();
    expect(store.observeConnection(entry(SOME, { connectionId: 1 }))).toBe("connections_full");
    expect(store.observeConnection(entry(MORE))).toBeNull(); // it is followed already
    expect(total(store)).toEqual(MORE);
    expect(store.observeConnection(entry(ENDED, { connectionId: 1 }))).toBeNull();
    expect(store.observeConnection(entry(MORE, { connectionId: 1 }))).toBeNull(); // late
    expect(total(store)).toEqual([2, 1, 70, 13]);
    expect(store.connectionCount).toBe(1);
  });

  it("has room again when a connection has ended, and counts then what it had refused", () => {
    const { store } = setUp({ connections: 1 });
    store.observeConnection(entry(SOME));
    expect(store.observeConnection(entry(SOME, { connectionId: 1 }))).toBe("connections_full");
    store.observeConnection(entry(ENDED));
    expect(store.observeConnection(entry(MORE, { connectionId: 1 }))).toBeNull();
    expect(total(store)).toEqual([2, 1, 70, 13]);
  });

  it("is also how many ended ones are remembered, or at least half of it", () => {
    const { store } = setUp({ connections: 10 });
    for (let connectionId = 0; connectionId < 100; connectionId++) {
      store.observeConnection(entry(ENDED, { connectionId }));
      for (let before = 0; before < Math.min(5, connectionId); before++) {
        store.observeConnection(entry(MORE, { connectionId: connectionId - before }));
      }
    }
    expect(total(store)).toEqual([100, 100, 4000, 700]);
    expect(store.connectionCount).toBe(0);
  });
});

describe("connections are let go", () => {
  it("with a life that a later one has superseded", () => {
    const { clock, store } = setUp();
    const next = { lifeMs: LIFE + 1, connectionId: 7 };
    store.observeConnection(entry(SOME));
    store.observeConnection(entry(SOME, next));
    clock.nowMs += 20 * MINUTE_MS;
    store.observeConnection(entry(MORE, next));
    store.retireSuperseded();
    expect(store.connectionCount).toBe(1);
    expect(store.observeConnection(entry(ENDED))).toBe("life_retired");
    expect(total(store)).toEqual([2, 0, 40, 11]);
    expect([store.tcp.cellCount, store.tcp.rowCount]).toEqual([1, 2]); // a total, and one reading
  });

  it("with a proxy that made room for another", () => {
    const { clock, store } = setUp({ proxies: 1 });
    store.observeConnection(entry(SOME));
    clock.nowMs += 20 * MINUTE_MS;
    expect(store.observeConnection(entry(SOME, { proxy: "q" }))).toBeNull();
    expect(store.connectionCount).toBe(1);
    expect(store.observeConnection(entry(ENDED))).toBe("life_retired");
  });
});

describe("label sets of TCP metrics", () => {
  it("that find no room stay in the overflow, entry by entry", () => {
    const { store } = setUp({ labelSets: 1 });
    store.observeConnection(entry(BEGUN));
    for (const counts of [SOME, MORE, ENDED]) {
      store.observeConnection(entry(counts, { connectionId: 1, parts: [part(counts, OTHER_KEY)] }));
    }
    expect(store.tcp.series.map(({ labelKey }) => labelKey)).toEqual([KEY, TCP_OVERFLOW_KEY]);
    expect([total(store), total(store, TCP_OVERFLOW_KEY)]).toEqual([BEGUN, ENDED]);
  });

  it("have room of their own, and an overflow without the labels that they do not carry", () => {
    const { store } = setUp({ labelSets: 1 });
    const request = { requests: 1, durationMs: 1, requestBytes: 1, responseBytes: 1 };
    store.observe({ proxy: "p", lifeMs: LIFE, labelKey: KEY, ...request });
    store.observeConnection(entry(ENDED));
    store.observeConnection(entry(ENDED, { connectionId: 1, parts: [part(ENDED, OTHER_KEY)] }));
    store.report(report([3, 3, 3, 3], OTHER_KEY));
    expect(store.http.series.map(({ labelKey }) => labelKey)).toEqual([KEY]);
    expect(store.tcp.series.map(({ labelKey }) => labelKey)).toEqual([KEY, TCP_OVERFLOW_KEY]);
    expect([store.http.overflowed, store.tcp.overflowed]).toEqual([0, 3]);
    expect(total(store, TCP_OVERFLOW_KEY)).toEqual([3, 3, 40, 7]);
  });
});

it("an entry with a start in the future is not counted once a life was let go of that may have counted its connection", () => {
  const { clock, store } = setUp();
  const inFuture = (counts: Counts) => entry(counts, { lifeMs: 2 * Date.now() + LIFE, streamId: "s" });
  store.observeConnection(entry(SOME));
  store.report({ proxy: "p", lifeMs: LIFE - 1, samples: [], tcpSamples: [] }); // read late: it is taken for the newer life
  clock.nowMs += 11 * MINUTE_MS;
  store.retireSuperseded();
  expect(store.observeConnection(inFuture(ENDED))).toBe("life_retired");
  expect(total(store)).toEqual(SOME);
});

describe("connections of a proxy that was let go, and comes back", () => {
  const unnamed = (counts: Counts) => entry(counts, { lifeMs: 0, streamId: "s" });

  /** Room for one life: another proxy's takes that of "p", which was silent for long. */
  function letGo({ clock, store }: ReturnType<typeof setUp>) {
    clock.nowMs += 11 * MINUTE_MS;
    store.observeConnection(entry(ENDED, { proxy: "q", lifeMs: LIFE }));
    clock.nowMs += 11 * MINUTE_MS;
  }

  it("that go on, and that an entry told of before, do not count again", () => {
    const both = setUp({ proxies: 1 });
    expect(both.store.observeConnection(unnamed(SOME))).toBeNull();
    letGo(both);
    const before = total(both.store);
    expect([MORE, ENDED].map((counts) => both.store.observeConnection(unnamed(counts)))).toEqual([
      "life_retired",
      "life_retired",
    ]);
    expect(total(both.store)).toEqual(before);
  });

  it("that ended before do not count again, however late an entry comes", () => {
    const both = setUp({ proxies: 1 });
    expect(both.store.observeConnection(unnamed(ENDED))).toBeNull();
    letGo(both);
    const before = total(both.store);
    expect(both.store.observeConnection(unnamed(ENDED))).toBeNull();
    expect(total(both.store)).toEqual(before);
  });

  it("that one access log told of by an id do not count again by another one's entry that has none", () => {
    const both = setUp({ proxies: 1 });
    expect(both.store.observeConnection(unnamed(SOME), "als")).toBeNull();
    letGo(both);
    const before = total(both.store);
    expect(both.store.observeConnection(entry(ENDED, { lifeMs: 0 }), "otlp")).toBe("life_retired");
    expect(total(both.store)).toEqual(before);
  });

  it("that stats of a process told of which another of its node id outlived do not count again by an entry that names no life", () => {
    const { clock, store } = setUp();
    expect(store.report(report(BEGUN))).toBe("ok");
    for (let minute = 0; minute < 12; minute++) {
      clock.nowMs += MINUTE_MS;
      expect(store.report({ ...report(BEGUN, OTHER_KEY), lifeMs: 2 * LIFE })).toBe("ok");
      store.retireSuperseded();
    }
    expect(store.lifeCount).toBe(1);
    expect(store.observeConnection(entry(ENDED, { lifeMs: 0, streamId: "s" }))).toBe("life_retired");
    expect(total(store)).toEqual(BEGUN);
  });

  it("that its stats told of do not count again by an entry that names no life", () => {
    const both = setUp({ proxies: 1 });
    expect(both.store.report(report(BEGUN))).toBe("ok");
    letGo(both);
    const before = total(both.store);
    expect(both.store.observeConnection(unnamed(ENDED))).toBe("life_retired");
    expect(total(both.store)).toEqual(before);
  });
});
