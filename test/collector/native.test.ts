// Native histograms against their specification: https://prometheus.io/docs/specs/native_histograms/

import { describe, expect, it } from "vitest";
import { DEFAULT_BOUNDS } from "../../collector/series/histogram.ts";
import {
  MAX_NATIVE_BUCKETS,
  type NativeBuckets,
  NativeHistogram,
  nativeIndex,
  sumBuckets,
} from "../../collector/series/native.ts";
import { DEFAULT_SHAPES } from "../../collector/series/shape.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { ChangeReader } from "../../collector/shards/changes.ts";
import { SummedSeries } from "../../collector/shards/summed-series.ts";
import { ByteReader } from "../../collector/state/bytes.ts";
import { readerOf } from "../../collector/state/frames.ts";
import { readShown } from "../../collector/state/restore.ts";
import { SavedStore } from "../../collector/state/saved-store.ts";
import { shownPieces } from "../../collector/state/shown.ts";
import { HISTOGRAM_BOUNDS, HttpMetric } from "../../collector/vocabulary.ts";
import { TrafficFamilies } from "../../collector/web/exposition/families.ts";
import { ProtobufTraffic } from "../../collector/web/exposition/protobuf.ts";
import { BUCKET_COUNT, HISTOGRAM_COUNT, HISTOGRAM_WIDTH } from "../fixtures/counts.ts";
import { readDelimited } from "../fixtures/metric-family.ts";
import { key } from "./labels.ts";

/** mulberry32 */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function total({ zero, counts }: NativeBuckets): number {
  return counts.reduce((sum, count) => sum + count, zero);
}

/** Observations in buckets that end at or below a bound. */
function upTo({ schema, zero, offset, counts }: NativeBuckets, bound: number): number {
  return counts.reduce(
    (sum, count, place) => (2 ** ((offset + place) / 2 ** schema) <= bound ? sum + count : sum),
    zero,
  );
}

/** The classic buckets and count of these values. */
function rowOf(values: readonly number[]): Float64Array {
  const row = new Float64Array(HISTOGRAM_WIDTH);
  for (const value of values)
    for (let field = DEFAULT_BOUNDS.bucketIndex(value); field <= HISTOGRAM_COUNT; field++)
      row[field] = (row[field] as number) + 1;
  return row;
}

const LIMITS = { proxies: 10, labelSets: 1000, cells: 1000, connections: 10, retireAfterMs: 1000 };
const LIFE_MS = Date.now();

function newStore(hasNatives = true) {
  const store = new SeriesStore(LIMITS, undefined, { hasNatives });
  const record = (durationMs: number, proxy = "p", labels = {}) => ({
    proxy,
    lifeMs: LIFE_MS,
    labelKey: key(labels),
    requests: 1,
    durationMs,
    requestBytes: 100,
    responseBytes: -1,
  });
  const log = (durationMs: number, proxy?: string, labels?: object) => store.observe(record(durationMs, proxy, labels));
  /** What the stats say once they have counted these durations. */
  const scrape = (durations: readonly number[], proxy = "p") => {
    const row = rowOf(durations);
    const duration = { cumulative: row.slice(0, BUCKET_COUNT), count: row[HISTOGRAM_COUNT] as number, sum: 0 };
    const samples = [{ labelKey: key({}), requests: durations.length, histograms: [null, duration, null, null] }];
    store.report({ proxy, lifeMs: LIFE_MS, samples, tcpSamples: [] });
  };
  const durations = () => store.http.readNative(store.http.series[0]!, HttpMetric.Duration) as NativeBuckets;
  return { store, log, scrape, durations };
}

describe("nativeIndex", () => {
  it.each([
    [3, 1, 0],
    [3, 2, 8],
    [3, 2.0001, 9],
    [3, 1024, 80],
    [0, 2, 1],
    [0, 3, 2],
    [0, 4, 2],
    [-1, 4, 1],
    [-1, 5, 2],
    [3, 0.5, -8],
  ])("at schema %d has %d in bucket %d", (schema, value, index) => expect(nativeIndex(schema, value)).toBe(index));
});

describe("NativeHistogram", () => {
  it("has what was logged in the bucket of its value", () => {
    const { log, durations } = newStore();
    for (const value of [0, 0, 1, 7, 7, 100, 900_000]) log(value);
    const { schema, zero, offset, counts } = durations();
    expect([schema, zero, total(durations())]).toEqual([3, 2, 7]);
    const held = [...counts.entries()]
      .filter(([, count]) => count > 0)
      .map(([place, count]) => [offset + place, count]);
    expect(held).toEqual([
      [0, 1],
      [nativeIndex(3, 7), 2],
      [nativeIndex(3, 100), 1],
      [nativeIndex(3, 900_000), 1],
    ]);
  });

  it("spreads what only a scrape tells evenly inside the classic bucket, one by one or many at once", () => {
    const few = newStore();
    const many = newStore();
    const values: number[] = [];
    for (let nth = 0; nth < 1000; nth++) {
      values.push(150);
      few.scrape(values);
    }
    many.scrape(values);
    // le=250 of Envoy holds 110 to 259.
    for (const { durations } of [few, many]) {
      const buckets = durations();
      expect(total(buckets)).toBe(1000);
      for (const bound of [2 ** 7, 2 ** 7.5, 2 ** 7.875]) {
        expect(Math.abs(upTo(buckets, bound) - (1000 * (Math.floor(bound) - 109)) / 150)).toBeLessThan(15);
      }
      expect(upTo(buckets, 2 ** 6.75)).toBe(0);
      expect(upTo(buckets, 2 ** 8.125)).toBe(1000);
    }
  });

  it("counts a logged request that the stats tell, too, once", () => {
    const { log, scrape, durations } = newStore();
    log(7);
    scrape([7]);
    scrape([7, 90]);
    log(90);
    expect(total(durations())).toBe(2);
    expect(upTo(durations(), 8)).toBe(1);
  });

  it("puts nothing where the total has it not, though an entry says so", () => {
    const { log, scrape, durations, store } = newStore();
    scrape([3, 3, 3, 3]);
    // Late entries: of two that the stats have not shown yet, and of four that they have.
    for (const value of [5000, 5000, 3, 3, 3, 3]) log(value);
    const row = new Float64Array(store.http.width);
    store.http.readTotal(store.http.series[0]!, row);
    expect(total(durations())).toBe(6);
    expect(upTo(durations(), 8)).toBe(4);
  });

  it("is told as it was then, and shown so, whatever is counted meanwhile", () => {
    const { store, log } = newStore();
    const summed = new SummedSeries(1);
    log(7);
    summed.apply(0, new ChangeReader(store).read());
    log(9);
    const [series] = summed.http.series;
    expect(total(summed.http.readNative(series!, HttpMetric.Duration)!)).toBe(1);
  });

  it("is as many as the count as soon as it is restored, in every shard that has the label set", () => {
    const before = newStore();
    for (const proxy of ["p", "q"]) before.log(7, proxy);
    const saved = new SavedStore(before.store);
    saved.begin(0);
    const piece = saved.nextPiece()!;
    const shards = ["p", "q"].map((proxy, shard) => {
      const { store, log } = newStore();
      const share = { shard, shards: 2, owns: (id: string) => id === proxy };
      new SavedStore(store).restore([new ByteReader(piece, 0, piece.length)], share);
      return { store, log };
    });
    const summed = new SummedSeries(2);
    readShown([new ByteReader(piece, 0, piece.length)], DEFAULT_SHAPES, summed.restoring(true));
    const changes = shards.map(({ store }) => new ChangeReader(store));
    const tell = () => {
      for (const [shard, each] of changes.entries()) summed.apply(shard, each.read());
    };
    tell();
    summed.settleRestored();
    const durations = () => summed.http.readNative(summed.http.series[0]!, HttpMetric.Duration)!;
    expect(total(durations())).toBe(2);
    shards[0]!.log(9, "p");
    shards[1]!.log(11, "q");
    tell();
    expect(total(durations())).toBe(4);
    expect(upTo(durations(), 8)).toBe(2); // 7 was logged twice, and is not spread
  });

  it("is what it was, and no bucket went down, through one restart after another with other numbers of threads", () => {
    const logged = [3, 7, 7, 9, 40, 41, 90, 450, 9000, 100_000];
    let pieces: Buffer[] = [];
    let before = new Map<number, number>();
    for (const [round, threads] of [1, 2, 3, 1, 2].entries()) {
      const shards = Array.from({ length: threads }, (_, shard) => {
        const fresh = newStore();
        const owns = (id: string) => id.length % threads === shard;
        new SavedStore(fresh.store).restore(pieces.map(readerOf), { shard, shards: threads, owns });
        return { ...fresh, changes: new ChangeReader(fresh.store) };
      });
      const summed = new SummedSeries(threads);
      readShown(pieces.map(readerOf), DEFAULT_SHAPES, summed.restoring(true));
      const tell = () => {
        for (const [shard, { changes }] of shards.entries()) summed.apply(shard, changes.read());
      };
      tell();
      summed.settleRestored();
      const check = () => {
        const [series] = summed.http.series;
        if (!series) return;
        const { schema, zero, offset, counts } = summed.http.readNative(series, HttpMetric.Duration)!;
        expect([schema, zero]).toEqual([3, 0]);
        const now = new Map([...counts].map((count, place) => [offset + place, count]));
        for (const [index, count] of before) expect(now.get(index) ?? 0).toBeGreaterThanOrEqual(count);
        before = now;
      };
      check();
      for (const [nth, value] of logged.entries()) {
        const proxy = "p".repeat(1 + ((nth + round) % 4));
        shards[proxy.length % threads]!.log(value, proxy);
      }
      tell();
      check();
      expect([...before.values()].reduce((sum, count) => sum + count, 0)).toBe((round + 1) * logged.length);
      expect(before.get(nativeIndex(3, 40))).toBe(2 * (round + 1)); // 40 and 41 as logged, and spread by no restart
      pieces = [];
      for (const [shard, { store }] of shards.entries()) {
        const saved = new SavedStore(store);
        saved.begin(shard);
        for (let piece = saved.nextPiece(); piece !== null; piece = saved.nextPiece()) pieces.push(piece);
      }
      pieces.push(...shownPieces(summed.unsaved(), summed.unsavedNatives(), DEFAULT_SHAPES, 1));
    }
  });

  it("is spread anew where the state has none, as that of a collector that kept none", () => {
    const { store: without } = newStore(false);
    const request = { requests: 1, durationMs: 7, requestBytes: 1, responseBytes: 1 };
    for (let i = 0; i < 3; i++) without.observe({ proxy: "p", lifeMs: 1, labelKey: key({}), ...request });
    const saved = new SavedStore(without);
    saved.begin(0);
    const pieces = [saved.nextPiece()!];
    const { store } = newStore();
    new SavedStore(store).restore(pieces.map(readerOf), { shard: 0, shards: 1, owns: () => true });
    const summed = new SummedSeries(1);
    readShown(pieces.map(readerOf), DEFAULT_SHAPES, summed.restoring(true));
    summed.apply(0, new ChangeReader(store).read());
    summed.settleRestored();
    expect(total(summed.http.readNative(summed.http.series[0]!, HttpMetric.Duration)!)).toBe(3);
  });

  it("is not shown beside a count that is another, which Prometheus would refuse with the whole page", () => {
    const { store, log } = newStore();
    log(7);
    const summed = new SummedSeries(1);
    summed.restoring(true).total(0, key({}), new Float64Array(store.http.width).fill(2), "least"); // shown before a restart
    summed.apply(0, new ChangeReader(store).read());
    const pieces = Array.from(new ProtobufTraffic(new TrafficFamilies(summed)).render(), (piece) => Buffer.from(piece));
    const families = readDelimited(Buffer.concat(pieces)) as { name: string; metric: { histogram?: object }[] }[];
    const shown = families.find(({ name }) => name === "istio_request_duration_milliseconds");
    expect(shown?.metric[0]?.histogram).toMatchObject({ sampleCount: 2 });
    expect(shown?.metric[0]?.histogram).not.toHaveProperty("positiveDelta");
  });

  it("goes on from a total that shares its counts with others, and has more in a bucket than further up", () => {
    const native = new NativeHistogram(DEFAULT_BOUNDS);
    const shared = rowOf([1]);
    shared.fill(0, DEFAULT_BOUNDS.bucketIndex(1) + 1); // its count is another's
    native.markPlaced(shared, 0);
    native.follow(rowOf([1]), 0, -1);
    expect([native.count, native.buckets.zero, upTo(native.buckets, 1)]).toEqual([1, 0, 1]);
  });

  it("keeps its promises in random histories of late, lost and repeated entries and scrapes", () => {
    for (let seed = 1; seed <= 30; seed++) {
      const draw = random(seed);
      const { store, log, scrape, durations } = newStore();
      const happened: number[] = [];
      const pending: number[] = [];
      let before: NativeBuckets | null = null;
      for (let step = 0; step < 60; step++) {
        const value = Math.floor(2 ** (draw() * 24));
        happened.push(value);
        if (draw() < 0.7) pending.push(value);
        if (draw() < 0.5 && pending.length > 0)
          log(pending.splice(Math.floor(draw() * pending.length), 1)[0] as number);
        if (draw() < 0.2) scrape(happened.slice(0, Math.floor(draw() * (happened.length + 1))));
        if (store.http.series.length === 0) continue;
        const row = new Float64Array(store.http.width);
        store.http.readTotal(store.http.series[0]!, row);
        const duration = row.subarray(1, 1 + HISTOGRAM_WIDTH);
        const now = store.http.series[0]?.natives ? durations() : null;
        if (now === null) continue;
        expect(total(now), `seed ${seed}`).toBe(duration[HISTOGRAM_COUNT]);
        expect(now.counts.every((count) => Number.isInteger(count) && count >= 0)).toBe(true);
        for (const [bucket, last] of DEFAULT_BOUNDS.lastValues.entries()) {
          if (last > 0)
            expect(upTo(now, last), `seed ${seed}, le ${HISTOGRAM_BOUNDS[bucket]}`).toBeLessThanOrEqual(
              duration[bucket] as number,
            );
        }
        expectNoneLower(before, now);
        before = structuredClone(now);
      }
    }
  });

  it("becomes coarser, and loses nothing, rather than longer", () => {
    const histogram = new NativeHistogram(DEFAULT_BOUNDS);
    const values: number[] = [];
    let before: NativeBuckets | null = null;
    const schemas = new Set<number>();
    for (let exponent = 0; exponent <= 64; exponent += 0.5) {
      const value = Math.floor(2 ** exponent);
      values.push(value);
      histogram.follow(rowOf(values), 0, value);
      const { buckets } = histogram;
      expect(buckets.counts.length).toBeLessThanOrEqual(MAX_NATIVE_BUCKETS);
      expect(total(buckets)).toBe(values.length);
      expectNoneLower(before, buckets);
      before = structuredClone(buckets);
      schemas.add(buckets.schema);
    }
    expect([...schemas]).toEqual([3, 2, 1]);
    const { schema, offset, counts } = histogram.buckets;
    for (const value of values) expect(counts[nativeIndex(schema, value) - offset]).toBeGreaterThan(0);
  });

  it("catches up with a total that it did not see grow", () => {
    const histogram = new NativeHistogram(DEFAULT_BOUNDS);
    const values = [1, 10, 100, 100, 100, 1000];
    histogram.follow(rowOf(values), 0, 1000);
    expect(total(histogram.buckets)).toBe(6);
    expect(upTo(histogram.buckets, 128)).toBe(5);
  });
});

/** Prometheus takes a bucket that went down, at the coarser of both schemas, for a restart. */
function expectNoneLower(before: NativeBuckets | null, now: NativeBuckets): void {
  if (before === null) return;
  expect(now.schema).toBeLessThanOrEqual(before.schema);
  const then = new Map<number, number>();
  for (const [place, count] of before.counts.entries()) {
    const index = Math.ceil((before.offset + place) / 2 ** (before.schema - now.schema));
    then.set(index, (then.get(index) ?? 0) + count);
  }
  const fallen = [...then].filter(([index, count]) => count > (now.counts[index - now.offset] ?? 0));
  expect(fallen).toEqual([]);
  expect(now.zero).toBeGreaterThanOrEqual(before.zero);
}

describe("a sum of native histograms", () => {
  it("holds what all hold, at the coarsest schema", () => {
    const [one, other] = [newStore(), newStore()];
    for (const value of [0, 1, 2, 1000]) one.log(value);
    for (const value of [0, 1, 2 ** 39]) other.log(value);
    expect(other.durations().schema).toBe(2);
    const sum = sumBuckets([one.durations(), null, other.durations()]) as NativeBuckets;
    expect([sum.schema, sum.zero, total(sum)]).toEqual([2, 2, 7]);
    expect(sum.counts[nativeIndex(2, 1) - sum.offset]).toBe(2);
    expect(sum.counts[nativeIndex(2, 1000) - sum.offset]).toBe(1);
    expect(total(one.durations())).toBe(4);
    expect(sumBuckets([null])).toBeNull();
  });

  it("has one schema, whoever adds it up, and in which order", () => {
    const draw = random(11);
    const schemas = new Set<number>();
    for (let round = 0; round < 300; round++) {
      const values = Array.from({ length: 12 }, () => Math.floor(2 ** (draw() * 20.4)) - 1);
      const shards = Array.from({ length: 3 }, () => newStore());
      const whole = newStore();
      for (const value of values) {
        whole.log(value);
        shards[Math.floor(draw() * 3)]!.log(value);
      }
      const parts = shards.map(({ store, durations }) => (store.http.series.length > 0 ? durations() : null));
      for (const order of [
        [0, 1, 2],
        [2, 0, 1],
        [1, 2, 0],
      ]) {
        expect(sumBuckets(order.map((shard) => parts[shard]))?.schema).toBe(whole.durations().schema);
      }
      schemas.add(whole.durations().schema);
    }
    expect([...schemas].sort()).toEqual([2, 3]);
  });

  it("is what several threads come to", () => {
    const shards = [newStore(), newStore()];
    const readers = shards.map(({ store }) => new ChangeReader(store));
    const summed = new SummedSeries(2);
    const tell = () => {
      for (const [thread, reader] of readers.entries()) summed.apply(thread, structuredClone(reader.read()));
    };
    shards[0]?.log(7);
    shards[1]?.log(7);
    tell();
    shards[1]?.log(500);
    tell();
    const buckets = summed.http.readNative(summed.http.series[0] as never, HttpMetric.Duration) as NativeBuckets;
    expect(total(buckets)).toBe(3);
    expect(buckets.counts[nativeIndex(3, 7) - buckets.offset]).toBe(2);
  });
});

describe("native histograms on /metrics", () => {
  interface Native {
    schema: number;
    zeroThreshold: number;
    zeroCount: number;
    positiveSpan?: { offset: number; length: number }[];
    positiveDelta?: number[];
    bucket: unknown[];
    sampleCount: number;
  }
  const read = (store: SeriesStore, name: string) => {
    const bytes = Buffer.concat(
      Array.from(new ProtobufTraffic(new TrafficFamilies(store)).render(), (piece) => Buffer.from(piece)),
    );
    const family = readDelimited(bytes).find((each) => each["name"] === name);
    const metrics = (family?.["metric"] ?? []) as { histogram: Native }[];
    return metrics.map(({ histogram }) => histogram);
  };
  /** Buckets as spans and deltas say, by index. */
  const expand = ({ positiveSpan = [], positiveDelta = [] }: Native) => {
    const counts = new Map<number, number>();
    let [index, count, delta] = [0, 0, 0];
    for (const { offset, length } of positiveSpan) {
      index += offset;
      for (let i = 0; i < length; i++) {
        count += positiveDelta[delta++] as number;
        if (count > 0) counts.set(index, count);
        index++;
      }
    }
    expect(delta).toBe(positiveDelta.length);
    return counts;
  };

  it("stand beside the classic buckets, and hold the same", () => {
    const { store, log, durations } = newStore();
    for (const value of [0, 0, 1, 1, 1, 7, 8, 9, 60, 61, 100_000]) log(value, "p", { reporter: "source" });
    const [native] = read(store, "istio_request_duration_milliseconds");
    expect(native).toMatchObject({ schema: 3, zeroThreshold: 2 ** -128, zeroCount: 2, sampleCount: 11 });
    expect(native?.bucket).toHaveLength(19);
    const held = [...durations().counts.entries()].filter(([, count]) => count > 0);
    expect([...expand(native as Native)]).toEqual(held.map(([place, count]) => [durations().offset + place, count]));
    expect((native?.positiveSpan ?? []).length).toBeGreaterThan(1);
    expect(read(store, "mesh_request_duration_milliseconds")).toEqual([native]);
  });

  it("are there though all was 0", () => {
    const { store, log } = newStore();
    log(0);
    const [native] = read(store, "istio_request_duration_milliseconds");
    expect(native).toMatchObject({ schema: 3, zeroThreshold: 2 ** -128, zeroCount: 1 });
    expect(expand(native as Native).size).toBe(0);
  });

  it("are not there unless they are kept", () => {
    const store = new SeriesStore(LIMITS);
    store.observe({
      proxy: "p",
      lifeMs: 1,
      labelKey: key({}),
      requests: 1,
      durationMs: 5,
      requestBytes: 1,
      responseBytes: 1,
    });
    const [native] = read(store, "istio_request_duration_milliseconds");
    expect(native?.sampleCount).toBe(1);
    expect(native).not.toHaveProperty("schema");
    expect(native).not.toHaveProperty("zeroThreshold");
  });
});
