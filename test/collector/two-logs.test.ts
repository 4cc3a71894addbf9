// A proxy that logs the same requests to an access-log service and as OTLP: neither adds to the other.

import { describe, expect, test } from "vitest";
import type { AccessRecord, ConnectionRecord, LogWay } from "../../collector/record/record.ts";
import { REQUESTS } from "../../collector/series/counts.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { TCP_METRICS } from "../../collector/vocabulary.ts";
import { COUNTS_WIDTH } from "../fixtures/counts.ts";
import { random } from "../property/random.ts";
import { key } from "./labels.ts";

const LIFE = 1_000;
const KEYS = ["web", "cart", "user"].map((source_workload) => key({ source_workload }));

function newStore(): SeriesStore {
  return new SeriesStore(
    { proxies: 10, labelSets: 100, cells: 1000, connections: 100, retireAfterMs: 600_000 },
    { wallMs: () => LIFE, steadyMs: () => LIFE },
  );
}

function record(labelKey: string, lifeMs = LIFE, durationMs = 7): AccessRecord {
  return { proxy: "p", lifeMs, labelKey, requests: 1, durationMs, requestBytes: 10, responseBytes: 20 };
}

function requests(store: SeriesStore, labelKey: string): number {
  const row = new Float64Array(COUNTS_WIDTH);
  const series = store.http.series.find((candidate) => candidate.labelKey === labelKey);
  if (series) store.http.readTotal(series, row);
  return row[REQUESTS] as number;
}

describe("requests", () => {
  const [first = ""] = KEYS;

  test("that come on both ways count once", () => {
    const store = newStore();
    for (const way of ["als", "otlp", "otlp", "als"] as const) store.observe(record(first), way);
    expect(requests(store, first)).toBe(2);
  });

  test("that come by OTLP alone count, beside others that come by ALS alone", () => {
    const store = newStore();
    store.observe(record(KEYS[0] as string), "als");
    store.observe(record(KEYS[1] as string), "otlp");
    expect(KEYS.map((each) => requests(store, each))).toEqual([1, 1, 0]);
  });

  test("without a life on both ways count once", () => {
    const store = newStore();
    for (const way of ["otlp", "als", "als"] as const) store.observe(record(first, 0), way);
    expect(requests(store, first)).toBe(2);
  });

  test("with their life by ALS and without it by OTLP count once, whichever comes first", () => {
    for (const ways of [
      [LIFE, 0],
      [0, LIFE],
    ]) {
      const store = newStore();
      for (const lifeMs of ways) {
        const way = lifeMs === LIFE ? "als" : "otlp";
        store.observe(record(first, lifeMs), way);
        store.observe(record(first, lifeMs), way);
      }
      expect(requests(store, first)).toBe(2);
    }
  });

  // Any of three tellers may lose anything; what is counted is what the best of them told, and never goes down.
  test("told by stats and on both ways, in any order and with losses, count as the largest of the three", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const next = random(seed);
      const store = newStore();
      const told = {
        als: new Map<string, number>(),
        otlp: new Map<string, number>(),
        stats: new Map<string, number>(),
      };
      const truth = new Map<string, number>();
      let shown = 0;
      for (let step = 0; step < 100; step++) {
        const labelKey = KEYS[Math.floor(next() * KEYS.length)] as string;
        truth.set(labelKey, (truth.get(labelKey) ?? 0) + 1);
        for (const way of ["als", "otlp"] as const) {
          if (next() < 0.3) continue;
          told[way].set(labelKey, (told[way].get(labelKey) ?? 0) + 1);
          expect(store.observe(record(labelKey), way)).toBeNull();
        }
        if (next() < 0.1) {
          told.stats = new Map(truth);
          const samples = [...truth].map(([each, count]) => ({ labelKey: each, requests: count, histograms: [] }));
          expect(store.report({ proxy: "p", lifeMs: LIFE, samples, tcpSamples: [] })).toBe("ok");
        }
        const sum = KEYS.reduce((total, each) => total + requests(store, each), 0);
        expect(sum).toBeGreaterThanOrEqual(shown);
        shown = sum;
      }
      for (const each of KEYS) {
        const most = Math.max(...Object.values(told).map((counts) => counts.get(each) ?? 0));
        expect(requests(store, each), `seed ${seed}`).toBe(most);
      }
    }
  });
});

describe("TCP connections", () => {
  const labelKey = key({ source_workload: "web" });
  const entry = (some: Partial<ConnectionRecord>, received: number): ConnectionRecord => ({
    proxy: "p",
    lifeMs: LIFE,
    connectionId: 7,
    streamId: "s",
    isOver: false,
    parts: [{ labelKey, counts: [1, some.isOver ? 1 : 0, 0, received] }],
    ...some,
  });
  const counts = (store: SeriesStore): number[] => {
    const row = new Float64Array(TCP_METRICS.length);
    const series = store.tcp.series.find((candidate) => candidate.labelKey === labelKey);
    if (series) store.tcp.readTotal(series, row);
    return [...row];
  };

  test.each<[string, Partial<ConnectionRecord>]>([
    ["by their connection's id", {}],
    ["by their stream's id", { lifeMs: 0 }],
  ])("are told apart %s, whichever way an entry comes", (_, known) => {
    const store = newStore();
    for (const [way, received] of [
      ["otlp", 5],
      ["als", 9],
      ["otlp", 9],
    ] as const) {
      store.observeConnection(entry(known, received), way);
    }
    for (const way of ["als", "otlp"] as const) store.observeConnection(entry({ ...known, isOver: true }, 12), way);
    expect(counts(store)).toEqual([1, 1, 0, 12]);
  });

  test("that nothing tells apart count as the way on which more of them came", () => {
    const store = newStore();
    const end: Partial<ConnectionRecord> = { lifeMs: 0, streamId: "", isOver: true };
    const ways: LogWay[] = ["als", "otlp", "otlp"];
    for (const way of ways) store.observeConnection(entry(end, 3), way);
    expect(counts(store)).toEqual([2, 2, 0, 6]);
  });
});
