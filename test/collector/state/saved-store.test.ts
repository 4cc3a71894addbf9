// Stores that are saved in the middle of counting, and restored: what the simulation meets seldom.

import { describe, expect, it } from "vitest";
import type { StatsReport, StatsSample } from "../../../collector/record/record.ts";
import { packLabels } from "../../../collector/series/key.ts";
import { MIXED_OVERFLOW_KEY, overflowKeyOf } from "../../../collector/series/overflow.ts";
import type { SeriesReader } from "../../../collector/series/reader.ts";
import { DEFAULT_SHAPES } from "../../../collector/series/shape.ts";
import { type SeriesLimits, SeriesStore } from "../../../collector/series/store.ts";
import { ByteReader } from "../../../collector/state/bytes.ts";
import { ResetsBook } from "../../../collector/state/resets-book.ts";
import { SavedStore } from "../../../collector/state/saved-store.ts";
import { SNAPSHOT_OPTIONS } from "../../../collector/state/snapshot.ts";
import { HTTP_METRICS, TCP_METRICS } from "../../../collector/vocabulary.ts";
import { tcpLabels } from "../../fixtures/observation.ts";
import { key, values } from "../labels.ts";

const ROOMY: SeriesLimits = { proxies: 100, labelSets: 100, cells: 1000, connections: 100, retireAfterMs: 60_000 };
const WHOLE = { shard: 0, shards: 1, owns: () => true };
const KEYS = ["a", "b", "c", "d", "e"].map((workload) => key({ source_workload: workload }));

function newStore(limits: Partial<SeriesLimits> = {}, clock = { nowMs: 1_000_000 }) {
  const store = new SeriesStore({ ...ROOMY, ...limits }, { wallMs: () => clock.nowMs, steadyMs: () => clock.nowMs });
  return {
    clock,
    store,
    saved: new SavedStore(store, { ...SNAPSHOT_OPTIONS, pieceBytes: 1, momentCells: 2, recordCells: 1 }),
  };
}

function restored(pieces: readonly Buffer[], limits: Partial<SeriesLimits> = {}) {
  const fresh = newStore(limits);
  fresh.saved.restore(
    pieces.map((piece) => new ByteReader(piece, 0, piece.length)),
    WHOLE,
  );
  return fresh;
}

function piecesOf(saved: SavedStore, between: (piece: number) => void = () => {}): Buffer[] {
  saved.begin(0);
  const pieces: Buffer[] = [];
  for (let piece = saved.nextPiece(); piece !== null; piece = saved.nextPiece()) between(pieces.push(piece));
  return pieces;
}

function sample(labelKey: string, requests: number): StatsSample {
  return { labelKey, requests, histograms: HTTP_METRICS.map(() => null) };
}

function report(lifeMs: number, samples: readonly StatsSample[], proxy = "p"): StatsReport {
  return { proxy, lifeMs, samples, tcpSamples: [] };
}

function requests(reader: SeriesReader, labelKey?: string): number {
  const row = new Float64Array(64);
  let sum = 0;
  for (const series of reader.series) {
    if (labelKey !== undefined && series.labelKey !== labelKey) continue;
    reader.readTotal(series, row);
    sum += row[0] as number;
  }
  return sum;
}

it("knows that a process was let go which had told of open connections, also if that happens meanwhile", () => {
  const labelKey = packLabels(tcpLabels(values()));
  const ended = {
    proxy: "p",
    lifeMs: 0,
    connectionId: 0,
    streamId: "s",
    isOver: true,
    parts: [{ labelKey, counts: [1, 1, 9, 9] }],
  };
  for (const at of [0, 1, 2, 3]) {
    const { store, saved, clock } = newStore();
    store.report({ ...report(1, []), tcpSamples: [{ labelKey, counts: [1, 0, 5, 5] }] });
    store.report(report(2, [sample(KEYS[0] as string, 3)]));
    clock.nowMs += 120_000;
    if (at === 0) store.retireSuperseded();
    const pieces = piecesOf(saved, (piece) => {
      if (piece === at) store.retireSuperseded();
    });
    const { store: again } = restored(pieces);
    again.retireSuperseded();
    if (store.lifeCount === 1) expect(again.observeConnection(ended)).toBe("life_retired");
    else expect.fail(`nothing was let go of at piece ${at}`);
  }
});

describe("a life that is let go of while it is saved", () => {
  it.each([0, 1, 2, 3, 4, 5, 6, 7, 8])("counts once, whichever piece comes next: %d", (at) => {
    const { store, saved, clock } = newStore();
    store.report(report(1, [sample(KEYS[0] as string, 5), sample(KEYS[1] as string, 7)]));
    store.report(report(2, [sample(KEYS[0] as string, 3)]));
    clock.nowMs += 120_000;
    const pieces = piecesOf(saved, (piece) => {
      if (piece === at) store.retireSuperseded();
    });
    const { store: again } = restored(pieces);
    expect(requests(again.http)).toBe(15);
    again.report(report(1, [sample(KEYS[0] as string, 9)]));
    again.report(report(2, [sample(KEYS[0] as string, 4)]));
    const isGone = at > 0 && at < pieces.length;
    expect(requests(again.http)).toBe(isGone ? 16 : 20);
  });

  it.each([1, 2, 3])("is not lost where an entry that names none came before that: piece %d", (at) => {
    const { store, saved, clock } = newStore();
    const [labelKey] = KEYS as [string];
    const unnamed = {
      proxy: "p",
      lifeMs: 0,
      labelKey,
      requests: 1,
      durationMs: -1,
      requestBytes: -1,
      responseBytes: -1,
    };
    store.report(report(1, [sample(labelKey, 5)]));
    store.report(report(2, [sample(labelKey, 3)]));
    store.report(report(1, [sample(labelKey, 1)], "another"));
    clock.nowMs += 120_000;
    const pieces = piecesOf(saved, (piece) => {
      if (piece !== at) return;
      store.observe(unnamed); // from now on it counts for both
      store.retireSuperseded();
    });
    expect(store.lifeCount).toBe(3);
    const { store: again } = restored(pieces);
    expect(requests(again.http)).toBe(9);
    for (let late = 0; late < 4; late++) again.observe(unnamed);
    expect(requests(again.http)).toBe(9);
  });
});

describe("a proxy too large for one moment", () => {
  const many = Array.from({ length: 9 }, (_, set) => key({ source_workload: `w${set}` }));

  it("is never above the truth, though it counts on between any two pieces, and is the truth once its stats are read", () => {
    const { store, saved } = newStore();
    let truth = 0;
    const count = () => {
      for (const labelKey of many) store.observe(record(labelKey));
      truth += many.length;
    };
    count();
    const pieces = piecesOf(saved, count);
    const { store: again } = restored(pieces);
    expect(requests(again.http)).toBeGreaterThanOrEqual(many.length);
    expect(requests(again.http)).toBeLessThanOrEqual(truth);
    const each = truth / many.length;
    again.report(
      report(
        1,
        many.map((labelKey) => sample(labelKey, each)),
      ),
    );
    expect(requests(again.http)).toBe(truth);
  });

  it("has a connection that goes on, never twice", () => {
    const { store, saved } = newStore();
    const tcp = (sent: number, connectionId: number, isOver = false) => ({
      proxy: "p",
      lifeMs: 1,
      connectionId,
      streamId: "",
      isOver,
      parts: [{ labelKey: KEYS[0] as string, counts: TCP_METRICS.map((_, metric) => (metric === 2 ? sent : 0)) }],
    });
    for (let id = 0; id < 9; id++) store.observeConnection(tcp(10, id));
    let sent = 10;
    const pieces = piecesOf(saved, () => {
      sent += 10;
      for (let id = 0; id < 9; id++) store.observeConnection(tcp(sent, id));
    });
    const { store: again } = restored(pieces);
    for (let id = 0; id < 9; id++) again.observeConnection(tcp(sent + 5, id, true));
    const row = new Float64Array(64);
    again.tcp.readTotal(again.tcp.series[0] as never, row);
    expect(row[2]).toBeLessThanOrEqual(9 * (sent + 5));
    expect(row[2]).toBeGreaterThanOrEqual(9 * 10);
    expect(again.connectionCount).toBe(0);
  });

  function record(labelKey: string) {
    return { proxy: "p", lifeMs: 1, labelKey, requests: 1, durationMs: 5, requestBytes: 6, responseBytes: 7 };
  }
});

it("what was in the overflow does not count again where there is more room now", () => {
  const { store, saved } = newStore({ labelSets: 2 });
  store.report(
    report(
      1,
      KEYS.map((labelKey) => sample(labelKey, 10)),
    ),
  );
  expect(requests(store.http, overflowKeyOf(KEYS[0] as string, false))).toBe(30);
  const { store: again } = restored(piecesOf(saved), { labelSets: 100 });
  again.report(
    report(
      1,
      KEYS.map((labelKey) => sample(labelKey, 11)),
    ),
  );
  expect(requests(again.http)).toBe(55);
});

it("has a connection of which not all found room", () => {
  const [held, refused] = ["a", "b"].map((workload) => packLabels(tcpLabels(values({ source_workload: workload }))));
  const { store, saved } = newStore({ cells: 2 });
  const entry = (lifeMs: number, labelKeys: readonly (string | undefined)[], opened: number) => ({
    proxy: "p",
    lifeMs,
    connectionId: 7,
    streamId: "s",
    isOver: false,
    parts: labelKeys.map((labelKey) => ({ labelKey: labelKey as string, counts: [opened, 0, 5, 5] })),
  });
  store.observeConnection({ ...entry(0, [held], 1), isOver: true });
  store.observeConnection({ ...entry(1, [held], 1), connectionId: 6 });
  expect(store.observeConnection(entry(1, [refused, held], 1))).toBe("cells_full");
  const again = restored(piecesOf(saved), { cells: 9 }).store;
  const before = requests(again.tcp, held);
  expect(again.observeConnection(entry(1, [refused, held], 1))).toBeNull();
  expect(requests(again.tcp, held)).toBe(before);
  expect(requests(again.tcp, refused)).toBe(1);
});

describe("a filter's own overflow", () => {
  const overflowed = sample(overflowKeyOf(KEYS[0] as string, false), 10);

  it("closes no process life when it is restored: limits kept nothing of it out", () => {
    const { store, saved } = newStore();
    store.report(report(1, [overflowed, sample(KEYS[0] as string, 1)]));
    const again = restored(piecesOf(saved));
    expect(again.store.report(report(1, [overflowed, sample(KEYS[1] as string, 5)]))).toBe("ok");
    expect(requests(again.store.http, KEYS[1])).toBe(5);
    const entry = { proxy: "p", lifeMs: 0, requests: 1, durationMs: 1, requestBytes: 1, responseBytes: 1 };
    expect(again.store.observe({ ...entry, labelKey: KEYS[2] as string })).toBeNull();
    expect(requests(again.store.http)).toBe(17);
  });

  it("is told of in one sum with what limits keep out, before and after a restart with more room", () => {
    const { store, saved } = newStore({ labelSets: 1 });
    const all = [sample(KEYS[0] as string, 1), overflowed, sample(KEYS[1] as string, 5)];
    store.report(report(1, all));
    expect(requests(store.http)).toBe(16);
    let state = piecesOf(saved);
    for (let restarts = 0; restarts < 2; restarts++) {
      const again = restored(state);
      again.store.report(report(1, [...all, sample(KEYS[2] as string, 2)].reverse()));
      expect(requests(again.store.http)).toBe(18);
      expect(requests(again.store.http, KEYS[1])).toBe(0);
      state = piecesOf(again.saved);
    }
  });
});

describe("a state from before the overflow kept reports apart", () => {
  const SOURCE = key({ reporter: "source", source_workload: "a" });
  const more = (requests: number) => report(1, [sample(SOURCE, requests)]);
  /** What the collector before saved, which put all into one. */
  function old() {
    const { store, saved } = newStore({ labelSets: 0 });
    const life = store.lives.find("p", 1);
    if (typeof life === "string") throw new Error(life);
    life.proxy.hasMixedOverflow = true;
    store.report(more(10));
    return piecesOf(saved);
  }

  it("goes on where it was, though stats tell of it again, and after yet another restart", () => {
    let pieces = old();
    for (const count of [11, 12, 13]) {
      const { store, saved } = restored(pieces, { labelSets: 0 });
      store.report(more(count));
      expect(store.http.series.map(({ labelKey }) => labelKey)).toEqual([MIXED_OVERFLOW_KEY]);
      expect(requests(store.http)).toBe(count);
      pieces = piecesOf(saved);
    }
  });

  it("concerns its proxies alone, and what filters tell of their own overflow does not look like one", () => {
    const { store, saved } = restored(old(), { labelSets: 0 });
    store.report({ ...more(5), proxy: "q" });
    store.report({ ...report(1, [sample(MIXED_OVERFLOW_KEY, 3)]), proxy: "q" });
    const again = restored(piecesOf(saved), { labelSets: 0 }).store;
    again.report({ ...more(6), proxy: "q" });
    expect(requests(again.http, MIXED_OVERFLOW_KEY)).toBe(13);
    expect(requests(again.http, overflowKeyOf(SOURCE, false))).toBe(6);
  });
});

it("readings of a VM that was replaced before and after a restart add up", () => {
  const resets = new ResetsBook();
  const read = (book: ResetsBook, count: number) =>
    book.of("http://a").accumulate(report(1, [sample(KEYS[0] as string, count)])).samples[0]?.requests;
  expect([read(resets, 100), read(resets, 20)]).toEqual([100, 120]);
  const again = new ResetsBook();
  for (const piece of resets.pieces(1)) again.restore(new ByteReader(piece, 0, piece.length));
  expect([read(again, 30), read(again, 5)]).toEqual([130, 135]);
  again.releaseLost(true);
  expect(read(again, 6)).toBe(136);
});

it("a target is read on as before though its sources were silent for longer than the grace", () => {
  const clock = { nowMs: 0 };
  const read = (book: ResetsBook, count: number) =>
    book.of("http://a").accumulate(report(1, [sample(KEYS[0] as string, count)])).samples[0]?.requests;
  const before = new ResetsBook();
  expect([read(before, 100), read(before, 20)]).toEqual([100, 120]);
  const book = new ResetsBook(DEFAULT_SHAPES, 60_000, () => clock.nowMs);
  for (const piece of before.pieces(1)) book.restore(new ByteReader(piece, 0, piece.length));
  clock.nowMs += 600_000;
  book.releaseLost(false);
  clock.nowMs += 600_000;
  book.releaseLost(true); // now they have named theirs
  clock.nowMs += 30_000;
  book.releaseLost(true);
  expect(read(book, 30)).toBe(130);
});

it("a target that no source names any more is let go of, a grace after they did: then it counts anew, which is short and never over", () => {
  const clock = { nowMs: 0 };
  const before = new ResetsBook();
  before.of("http://a").accumulate(report(1, [sample(KEYS[0] as string, 100)]));
  const book = new ResetsBook(DEFAULT_SHAPES, 60_000, () => clock.nowMs);
  for (const piece of before.pieces(1)) book.restore(new ByteReader(piece, 0, piece.length));
  book.releaseLost(true);
  expect([...book.pieces(1)]).toHaveLength(1);
  clock.nowMs += 60_000;
  book.releaseLost(true);
  expect([...book.pieces(1)]).toHaveLength(0);
});
