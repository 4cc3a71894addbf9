// What is over makes room: label sets that expired, and that no process life can tell of again, are let go of.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, describe, expect, it } from "vitest";
import { SeriesPoints } from "../../collector/out/series-points.ts";
import { Told } from "../../collector/out/told.ts";
import { withMark } from "../../collector/series/key.ts";
import { overflowKeyOf } from "../../collector/series/overflow.ts";
import type { SeriesReader } from "../../collector/series/reader.ts";
import { DEFAULT_SHAPES } from "../../collector/series/shape.ts";
import { type SeriesLimits, SeriesStore } from "../../collector/series/store.ts";
import { ServiceGraph } from "../../collector/service-graph/graph.ts";
import { ChangeReader } from "../../collector/shards/changes.ts";
import { restoreShown, SavedShards } from "../../collector/shards/saved-shards.ts";
import { ShardState } from "../../collector/shards/state.ts";
import { SummedSeries } from "../../collector/shards/summed-series.ts";
import { encodeEnd, encodeFrame, encodeHeader, FrameKind, meaningOf } from "../../collector/state/frames.ts";
import type { StateFile } from "../../collector/state/state-file.ts";
import { TrafficFamilies } from "../../collector/web/exposition/families.ts";
import { TextTraffic } from "../../collector/web/exposition/text.ts";
import { COUNTS_WIDTH } from "../fixtures/counts.ts";
import { key } from "./labels.ts";
import { pointsOf } from "./out/steps.ts";

const OVERFLOW_KEY = overflowKeyOf(key({ reporter: "source" }), false);

const HOUR_MS = 3_600_000;
/** So many label sets pass through that limit. `LABEL_SETS=1000000` takes some minutes. */
const PASSING = Number(process.env["LABEL_SETS"] ?? 3000);
const LIMIT = Math.min(1000, PASSING / 50);

setFlagsFromString("--expose-gc");
const collectGarbage: () => void = runInNewContext("gc");

function heldBytes(): number {
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

const keyOf = (workload: string) => key({ reporter: "source", source_workload: workload });
const [WEB, JOB, API] = ["web", "job", "api"].map(keyOf) as [string, string, string];

function setUp(limits: Partial<SeriesLimits> = {}) {
  const clock = { nowMs: 1000 };
  const store = new SeriesStore(
    {
      proxies: 10,
      labelSets: 2,
      cells: 500,
      connections: 10,
      retireAfterMs: 60_000,
      expireAfterMs: HOUR_MS,
      ...limits,
    },
    { wallMs: () => clock.nowMs, steadyMs: () => clock.nowMs },
  );
  const observe = (labelKey: string, lifeMs: number, proxy = "p") =>
    store.observe({ proxy, lifeMs, labelKey, requests: 1, durationMs: 7, requestBytes: 3, responseBytes: 300 });
  const report = (requests: Readonly<Record<string, number>>, lifeMs: number, proxy = "p") =>
    store.report({
      proxy,
      lifeMs,
      samples: Object.entries(requests).map(([labelKey, n]) => ({ labelKey, requests: n, histograms: [] })),
      tcpSamples: [],
    });
  const pass = (ms: number) => {
    clock.nowMs += ms;
    store.http.takeChanged(); // as the graph does each second
    store.tcp.takeChanged();
    store.retireSuperseded();
    store.letGo();
  };
  /** The same, while the stats of the proxy p are read. */
  const passReading = (ms: number) => {
    for (let left = ms; left > 0; left -= 1_200_000) {
      report({ [JOB]: 1 }, 1000);
      pass(1_200_000);
    }
    report({ [JOB]: 1 }, 1000);
  };
  return { clock, store, observe, report, pass, passReading, totals: () => totalsOf(store.http) };
}

function totalsOf(reader: SeriesReader): Record<string, number> {
  const row = new Float64Array(COUNTS_WIDTH);
  const name = (labelKey: string) =>
    ({ [WEB]: "web", [JOB]: "job", [API]: "api", [OVERFLOW_KEY]: "other" })[labelKey] ?? labelKey;
  return Object.fromEntries(
    reader.series.map((series) => {
      reader.readTotal(series, row);
      return [name(series.labelKey), row[0] as number];
    }),
  );
}

/** Of a proxy that restarted after each, so that the former process is let go of. */
function restarted(...args: Parameters<typeof setUp>) {
  const all = setUp(...args);
  all.observe(WEB, 1000);
  all.observe(JOB, 1000);
  all.pass(1);
  all.observe(JOB, 2000, "p");
  all.pass(HOUR_MS);
  all.observe(JOB, 2000);
  return all;
}

describe("a label set that is over", () => {
  it("makes room once it was hidden for as long as it had been shown without growing", () => {
    const { store, observe, pass, totals } = restarted();
    pass(HOUR_MS - 2);
    expect(totals()).toEqual({ web: 1, job: 3 });
    observe(JOB, 2000);
    pass(2);
    expect(totals()).toEqual({ job: 4 });
    expect(store.http.letGoCount).toBe(1);
    observe(API, 2000);
    expect(totals()).toEqual({ job: 4, api: 1 });
  });

  it("counts from 0 when it comes back, and nothing of before twice", () => {
    const { observe, report, pass, totals } = restarted();
    for (let i = 0; i < 3; i++) pass(HOUR_MS);
    expect(report({ [WEB]: 9 }, 1000)).toBe("life_retired");
    expect(observe(WEB, 1000)).toBe("life_retired");
    report({ [WEB]: 2 }, 2000);
    report({ [WEB]: 2 }, 2000);
    expect(totals()).toEqual({ job: 3, web: 2 });
  });

  it("stays while a process that told of it is held, whose stats show the old count", () => {
    const { store, report, pass, totals } = setUp();
    report({ [WEB]: 5 }, 1000);
    for (let hours = 0; hours < 50; hours++) {
      pass(HOUR_MS);
      report({ [WEB]: 5 }, 1000);
    }
    expect(totals()).toEqual({ web: 5 });
    expect(store.http.letGoCount).toBe(0);
  });

  it("stays for ever by default", () => {
    const { pass, totals } = restarted({ expireAfterMs: 0 });
    for (let i = 0; i < 9; i++) pass(HOUR_MS);
    expect(totals()).toEqual({ web: 1, job: 3 });
  });

  it("stays while one is held that is shown as one with it", () => {
    const { store, observe, pass } = setUp({ labelSets: 9 });
    const labels = { reporter: "destination", source_workload: "web" };
    observe(key(labels), 1000);
    observe(withMark(key(labels), "+"), 1000);
    pass(1);
    observe(withMark(key(labels), "+"), 2000);
    for (let i = 0; i < 5; i++) {
      pass(HOUR_MS);
      observe(JOB, 2000);
    }
    expect(store.http.series).toHaveLength(3);
    observe(JOB, 3000);
    for (let i = 0; i < 2; i++) pass(HOUR_MS);
    expect(totalsOf(store.http)).toEqual({ job: 6 });
  });

  it("gives its rows back", () => {
    const { store, observe, pass } = setUp({ labelSets: 100 });
    let lifeMs = 1000;
    const rows = new Set<number>();
    for (let i = 0; i < 50; i++) {
      for (let each = 0; each < 3; each++) observe(keyOf(`w${i}-${each}`), lifeMs);
      pass(3 * HOUR_MS);
      lifeMs += HOUR_MS;
      observe(WEB, lifeMs);
      pass(3 * HOUR_MS);
      if (i > 2) rows.add(store.http.rowCount);
    }
    expect(rows.size).toBe(1);
  });
});

describe("what went to the overflow", () => {
  it("stays there for the proxy that told of it, though room was made: else its stats would count it twice", () => {
    const { observe, report, pass, totals } = restarted();
    observe(API, 2000);
    expect(totals()).toEqual({ web: 1, job: 3, other: 1 });
    for (let i = 0; i < 3; i++) pass(HOUR_MS);
    observe(API, 2000, "q"); // there is room now
    observe(API, 2000);
    report({ [JOB]: 2, [API]: 2 }, 2000);
    expect(totals()).toEqual({ job: 3, other: 2, api: 1 });
    observe(API, 0); // the same requests
    expect(totals()).toEqual({ job: 3, other: 2, api: 1 });
  });

  it("has its own label set in the proxy's next process", () => {
    const { observe, pass, totals } = restarted();
    observe(API, 2000);
    for (let i = 0; i < 3; i++) pass(HOUR_MS);
    observe(JOB, 3000);
    pass(HOUR_MS);
    observe(API, 3000);
    expect(totals()).toMatchObject({ other: 1, api: 1 });
  });

  it("takes up the room of a cell for each label set that is remembered so, and gives it back", () => {
    const { store, observe, report, pass } = setUp({ cells: 12 });
    for (let i = 0; i < 9; i++) observe(keyOf(`w${i}`), 1000);
    expect(store.http.cellCount).toBe(10);
    for (let i = 9; i < 99; i++) expect(observe(keyOf(`w${i}`), 1000)).toBeNull();
    expect(store.http.cellCount).toBe(13); // the life is closed; the cell of the overflow takes none
    expect(totalsOf(store.http)["other"]).toBe(97);
    report({}, 2000);
    pass(HOUR_MS);
    expect(store.http.cellCount).toBe(0);
  });
});

describe("a proxy that fell silent", () => {
  it("is let go of when room is needed, and its label sets with it", () => {
    const { store, report, pass, passReading, totals } = setUp();
    report({ [WEB]: 5 }, 1000, "gone");
    passReading(2 * HOUR_MS);
    expect(totals()).toEqual({ web: 5, job: 1 });
    passReading(HOUR_MS);
    pass(1);
    expect(totals()).toEqual({ job: 1 });
    expect(report({ [WEB]: 6 }, 1000, "gone")).toBe("life_retired");
    report({ [WEB]: 2 }, 9000, "gone");
    expect(totals()).toEqual({ job: 1, web: 2 });
    expect(store.lifeCount).toBe(2);
  });

  it("is held while there is room", () => {
    const { report, passReading, totals } = setUp({ labelSets: 100 });
    report({ [WEB]: 5 }, 1000, "gone");
    passReading(99 * HOUR_MS);
    expect(report({ [WEB]: 6 }, 1000, "gone")).toBe("ok");
    expect(totals()).toEqual({ web: 6, job: 1 });
  });

  it("is held for a week if it only logs: nobody may have called it", () => {
    const { observe, pass, passReading } = setUp();
    observe(WEB, 1000, "quiet");
    passReading(7 * 24 * HOUR_MS);
    expect(observe(WEB, 1000, "quiet")).toBeNull();
    passReading(7 * 24 * HOUR_MS + 1);
    pass(1);
    expect(observe(WEB, 1000, "quiet")).toBe("life_retired");
  });

  it("is held if all were silent, as when the collector was cut off", () => {
    const { report, pass } = setUp();
    report({ [WEB]: 5 }, 1000, "q");
    report({ [JOB]: 1 }, 1000);
    pass(50 * HOUR_MS);
    report({ [JOB]: 2 }, 1000);
    pass(10_000);
    expect(report({ [WEB]: 6 }, 1000, "q")).toBe("ok");
  });
});

describe("who keeps something by the number of a label set", () => {
  it("is not taken in when the number is another's: the graph", () => {
    const { clock, store, observe, pass } = restarted();
    const graph = new ServiceGraph(store, 10, () => clock.nowMs);
    graph.tick();
    for (let i = 0; i < 2; i++) {
      clock.nowMs += HOUR_MS;
      graph.tick();
      pass(HOUR_MS);
    }
    expect(store.http.letGoCount).toBe(1);
    graph.tick();
    const api = { source_workload: "api", source_workload_namespace: "ns", destination_workload: "db" };
    for (let i = 0; i < 3; i++) observe(key({ reporter: "source", ...api }), 2000);
    const { edges } = graph.read(60_000);
    expect(edges.map(({ source, requests }) => [source, requests])).toEqual([["ns/api", 3]]);
  });

  it("shows nothing of another's on a page of /metrics that is under way", () => {
    const { store, observe, pass } = setUp({ labelSets: 3000, cells: 9000 });
    for (let i = 0; i < 2000; i++) observe(keyOf(`old${i}`), 1000);
    pass(1);
    const page = new TextTraffic(new TrafficFamilies(store), "text").render();
    let text = String(page.next().value);
    observe(WEB, 2000);
    for (let i = 0; i < 3; i++) {
      pass(HOUR_MS);
      observe(WEB, 2000);
    }
    expect(store.http.series).toHaveLength(1);
    for (let i = 0; i < 2000; i++) for (let n = 0; n < 3; n++) observe(keyOf(`new${i}`), 2000);
    for (const piece of page) text += String(piece);
    const counts = [...text.matchAll(/^istio_requests_total\{.*source_workload="([a-z]+)\d*",.* (\d+)$/gm)];
    expect(counts.length).toBeGreaterThan(50);
    expect(new Set(counts.map(([, workload, count]) => `${workload} ${count}`))).toEqual(new Set(["old 1"]));
    const later = [...text.matchAll(/^mesh_requests_total\{source_workload="([a-z]+)\d*",.* (\d+)$/gm)];
    expect(new Set(later.map(([, workload, count]) => `${workload} ${count}`))).toEqual(new Set(["web 4", "new 3"]));
  });

  it("counts what was left out of mesh_* on, though it was let go of", () => {
    const { store, observe, pass } = setUp({ labelSets: 9 });
    const families = new TrafficFamilies(store);
    const changed = key({ reporter: "somebody" });
    observe(changed, 1000);
    expect(families.leftOut().http.labels_changed).toBe(1);
    observe(JOB, 2000);
    for (let i = 0; i < 3; i++) pass(HOUR_MS);
    expect(store.http.find(changed)).toBeUndefined();
    expect(families.leftOut().http.labels_changed).toBe(1);
    observe(changed, 2000);
    expect(families.leftOut().http.labels_changed).toBe(2);
  });

  it("tells a receiver that it began anew, and keeps nothing of it meanwhile", () => {
    const { store, observe, pass } = setUp({ labelSets: 9 });
    const points = new SeriesPoints(store, "certain");
    const told = new Told(1);
    let round = 0;
    const tell = () => {
      told.begin();
      const starts = [...pointsOf(points.points((name) => name === "istio_requests_total"))].map((point) =>
        told.note(point),
      );
      const gone = [...pointsOf(told.gone())].length;
      told.end(++round * 100);
      return { starts, gone };
    };
    observe(WEB, 1000);
    expect(tell()).toEqual({ starts: [1], gone: 0 });
    pass(HOUR_MS + 1);
    expect(tell()).toEqual({ starts: [], gone: 1 });
    observe(JOB, 2000);
    for (let i = 0; i < 2; i++) pass(HOUR_MS);
    expect(store.http.find(WEB)).toBeUndefined();
    for (let i = 0; i < 5; i++) observe(WEB, 2000); // more than before
    observe(JOB, 2000);
    expect(tell()).toEqual({ starts: [200, 200], gone: 0 });
  });
});

describe("of several threads", () => {
  it("what one lets go of stays in the sum while another has a part, and the label set goes when none has", () => {
    const [one, two] = [setUp({ labelSets: 9 }), setUp({ labelSets: 9 })];
    const clock = { nowMs: 0 };
    const sums = new SummedSeries(2, HOUR_MS, DEFAULT_SHAPES, () => clock.nowMs);
    const readers = [one, two].map(({ store }) => new ChangeReader(store));
    const pass = (ms: number) => {
      clock.nowMs += ms;
      for (const each of [one, two]) {
        each.clock.nowMs += ms;
        each.store.retireSuperseded();
        each.store.letGo();
      }
      for (const [thread, reader] of readers.entries()) sums.apply(thread, reader.read());
      sums.http.takeChanged();
      sums.letGo();
    };
    for (const { observe } of [one, two]) for (let i = 0; i < 3; i++) observe(WEB, 1000);
    pass(0);
    one.observe(JOB, 2000);
    for (let i = 0; i < 5; i++) {
      two.observe(WEB, 1000);
      pass(HOUR_MS);
    }
    expect(one.store.http.find(WEB)).toBeUndefined();
    expect(totalsOf(sums.http)).toEqual({ web: 11, job: 1 });
    one.observe(WEB, 2000);
    two.observe(JOB, 2000);
    pass(1);
    expect(totalsOf(sums.http)).toEqual({ web: 12, job: 2 });
    for (const { observe } of [one, two]) observe(API, 3000);
    for (let i = 0; i < 6; i++) pass(HOUR_MS);
    expect(totalsOf(sums.http)).toEqual({ api: 2 });
    expect(sums.http.letGoCount).toBe(2);
  });
});

const folder = mkdtempSync(join(tmpdir(), "meshtally-room-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function fileOf(pieces: readonly Uint8Array[]): StateFile {
  const meaning = meaningOf("", DEFAULT_SHAPES);
  const frames = pieces.flatMap((piece) => [encodeFrame(FrameKind.Store, piece), piece]);
  const path = join(folder, "counts.state");
  writeFileSync(path, Buffer.concat([encodeHeader(1, meaning), ...frames, encodeEnd(pieces.length)]));
  return { path, meaning };
}

describe("with a saved state", () => {
  it("what is over goes with a saving, is shown until that is done, and does not come back from it for good", () => {
    const { clock, store, observe } = setUp({ labelSets: 9 });
    const state = new ShardState(store, { restored: null, shard: 0, shards: 1 });
    const sums = new SummedSeries(1, HOUR_MS, DEFAULT_SHAPES, () => clock.nowMs);
    const apply = (to: SummedSeries, from: ShardState) => {
      for (const changes of from.takeChanges()) to.apply(0, changes);
      to.http.takeChanged();
      to.letGo();
    };
    const save = () => {
      const pieces: Uint8Array[] = [];
      for (let piece = state.nextPiece(); piece !== null; piece = state.nextPiece()) pieces.push(piece);
      return pieces.filter(({ length }) => length > 0);
    };
    for (const [labelKey, lifeMs] of [
      [WEB, 1000],
      [JOB, 1000],
      [JOB, 2000],
      [JOB, 2000],
    ] as const)
      observe(labelKey, lifeMs);
    save();
    state.release();
    apply(sums, state);
    expect(totalsOf(sums.http)).toEqual({ web: 1, job: 3 });
    clock.nowMs += 3 * HOUR_MS;
    store.retireSuperseded();
    observe(JOB, 2000);
    const frames = save();
    expect(store.http.find(WEB)).toBeUndefined();
    apply(sums, state);
    expect(totalsOf(sums.http)).toEqual({ web: 1, job: 3 });
    state.release();
    clock.nowMs += 10_000;
    apply(sums, state);
    expect(totalsOf(sums.http)).toEqual({ job: 4 });

    const again = setUp({ labelSets: 9 });
    const shown = new SummedSeries(1, HOUR_MS, DEFAULT_SHAPES, () => again.clock.nowMs);
    const restored = fileOf(frames);
    restoreShown(shown, restored, false);
    apply(shown, new ShardState(again.store, { restored, shard: 0, shards: 1 }));
    expect(again.store.http.find(WEB)).toBeUndefined();
    expect(totalsOf(shown.http)).toEqual({ web: 1, job: 4 }); // another shard might have had a part of it
    again.clock.nowMs += 3 * HOUR_MS;
    shown.letGo();
    expect(shown.http.find(WEB)).toBeUndefined();
  });

  it("what one shard let go of is in the next state, too, though nobody asked for what is shown in between", async () => {
    const one = setUp({ labelSets: 9 });
    const other = setUp({ labelSets: 9 });
    const stores = [one.store, other.store];
    const states = stores.map((store, shard) => new ShardState(store, { restored: null, shard, shards: 2 }));
    const sums = new SummedSeries(2, HOUR_MS, DEFAULT_SHAPES, () => one.clock.nowMs);
    const saved = new SavedShards(states, sums, () => {
      for (const [shard, state] of states.entries())
        for (const changes of state.takeChanges()) sums.apply(shard, changes);
    });
    const save = async () => {
      const pieces: Uint8Array[] = [];
      for await (const piece of saved.pieces()) pieces.push(piece.slice());
      await saved.release();
      return pieces;
    };
    one.observe(WEB, 1000);
    one.observe(JOB, 1000);
    one.observe(JOB, 2000);
    other.observe(WEB, 1000, "q");
    await save();
    for (const { clock } of [one, other]) clock.nowMs += 3 * HOUR_MS;
    one.observe(JOB, 2000);
    one.store.retireSuperseded();
    await save();
    expect(stores.map(({ http }) => http.find(WEB) === undefined)).toEqual([true, false]);
    const restored = fileOf(await save());
    const shown = new SummedSeries(1, HOUR_MS, DEFAULT_SHAPES, () => one.clock.nowMs);
    restoreShown(shown, restored, false);
    const again = new ShardState(setUp({ labelSets: 9 }).store, { restored, shard: 0, shards: 1 });
    for (const changes of again.takeChanges()) shown.apply(0, changes);
    expect(totalsOf(shown.http)).toEqual({ web: 2, job: 3 });
  });
});

it("a state that is being saved says nothing of what is let go of meanwhile", () => {
  const clock = { nowMs: 0 };
  const sums = new SummedSeries(1, HOUR_MS, DEFAULT_SHAPES, () => clock.nowMs);
  const total = new Float64Array(COUNTS_WIDTH).fill(5);
  const restoring = sums.restoring(false);
  for (const labelKey of [WEB, JOB]) restoring.total(0, labelKey, total, "left");
  restoring.total(0, API, total, "least");
  const unsaved = sums.unsaved();
  expect(unsaved.next().value?.slice(0, 3)).toEqual(["left", 0, WEB]);
  clock.nowMs += 3 * HOUR_MS;
  sums.letGo();
  expect([...unsaved]).toEqual([]);
  expect(sums.http.series).toEqual([]);
});

it(`${PASSING} label sets pass through a limit of ${LIMIT}, and nothing of them is held`, {
  timeout: PASSING * 5 + 60_000,
}, () => {
  const { clock, store, observe, pass } = setUp({ labelSets: LIMIT, cells: 10 * LIMIT, proxies: 100 });
  const now = () => clock.nowMs;
  const changes = new ChangeReader(store);
  const sums = new SummedSeries(1, HOUR_MS, DEFAULT_SHAPES, now);
  const page = new TextTraffic(new TrafficFamilies(sums), "text");
  const points = new SeriesPoints(sums, "certain");
  const graph = new ServiceGraph(sums, 10, now);
  const told = new Told(1);
  const heaps: number[] = [];
  let lifeMs = 1000;
  let lines = 0;
  const read = () => {
    sums.apply(0, changes.read());
    graph.tick();
    sums.letGo();
    for (const piece of page.render()) lines += String(piece).split("\n").length;
    told.begin();
    for (const point of pointsOf(points.points(() => true))) told.note(point);
    for (const _ of told.gone()) lines++;
    told.end(lifeMs);
  };
  const batch = Math.floor(LIMIT / 5);
  for (let at = 0; at < PASSING; at += batch) {
    for (let each = at; each < at + batch; each++) expect(observe(keyOf(`w${each}`), lifeMs)).toBeNull();
    read();
    pass(HOUR_MS);
    lifeMs += HOUR_MS;
    observe(WEB, lifeMs);
    if (at % (PASSING / 10) === 0) heaps.push(heldBytes());
  }
  expect(store.http.overflowed).toBe(0);
  expect(store.http.letGoCount).toBeGreaterThan(PASSING - LIMIT);
  expect(sums.http.letGoCount).toBeGreaterThan(PASSING - 2 * LIMIT);
  expect(sums.http.series.length).toBeLessThan(LIMIT);
  expect(store.http.rowCount).toBeLessThan(3 * LIMIT);
  expect(lines).toBeGreaterThan(22 * PASSING);
  expect(Math.max(...heaps) - (heaps[2] as number)).toBeLessThan(4e6);
});
