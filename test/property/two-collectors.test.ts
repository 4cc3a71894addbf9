// Two collectors, each with half of the proxies, give by addition what one of all proxies gives: on random histories, in what they send.

import { describe, expect, it } from "vitest";
import { SeriesPoints } from "../../collector/out/series-points.ts";
import { WriteRequestEncoder } from "../../collector/out/write-request.ts";
import type { AccessRecord, ConnectionRecord, StatsReport } from "../../collector/record/record.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { HTTP_METRICS, TCP_METRICS } from "../../collector/vocabulary.ts";
import { key } from "../collector/labels.ts";
import { pointsOf } from "../collector/out/steps.ts";
import { decodeWriteRequest, samplesByText } from "../collector/out/write-request.ts";
import { random } from "./random.ts";

const SEED = Number(process.env["SEED"] ?? 20260131);
const LIMITS = {
  proxies: 100,
  labelSets: 100,
  cells: 10_000,
  connections: 1000,
  retireAfterMs: 600_000,
  expireAfterMs: 1e12,
};
const LABEL_KEYS = ["web", "api", "db"].flatMap((app) =>
  ["source", "destination"].map((reporter) => key({ reporter, source_app: app })),
);

type Message = { record: AccessRecord } | { connection: ConnectionRecord } | { report: StatsReport };

/** What proxies say, in the order in which it arrives: some of it lost, some twice, some late, over restarts. */
class Histories {
  private nowMs = 1_767_000_000_000;
  readonly clock = { wallMs: () => this.nowMs, steadyMs: () => this.nowMs };
  private readonly lives = new Map<number, { startMs: number; requests: Map<string, number>; connections: number }>();
  private readonly late: { proxy: number; message: Message }[] = [];

  constructor(private readonly next: () => number) {}

  private pick(below: number): number {
    return Math.floor(this.next() * below);
  }

  step(): { proxy: number; message: Message } | null {
    this.nowMs += this.pick(20_000);
    const proxy = this.pick(8);
    const dice = this.pick(100);
    if (dice < 3) this.lives.delete(proxy);
    const told = { proxy, message: this.say(proxy, dice) };
    if (this.pick(10) === 0) this.late.push(told);
    if (this.pick(10) === 0) return this.late.splice(this.pick(this.late.length), 1)[0] ?? null;
    return this.pick(10) === 0 ? null : told;
  }

  private say(proxy: number, dice: number): Message {
    const life = this.lives.get(proxy) ?? { startMs: this.nowMs, requests: new Map<string, number>(), connections: 0 };
    this.lives.set(proxy, life);
    const labelKey = LABEL_KEYS[this.pick(LABEL_KEYS.length)] as string;
    const from = { proxy: `proxy-${proxy}`, lifeMs: proxy % 3 === 0 ? 0 : life.startMs };
    if (dice < 60) {
      if (proxy % 3 !== 0) life.requests.set(labelKey, (life.requests.get(labelKey) ?? 0) + 1);
      const sizes = { requestBytes: this.pick(9000), responseBytes: this.pick(5) - 1 };
      return { record: { ...from, labelKey, requests: 1, durationMs: this.pick(4000) - 1, ...sizes } };
    }
    if (dice < 80) {
      const connectionId = this.pick(++life.connections);
      const counts = TCP_METRICS.map((_, i) => (i === 0 ? 1 : this.pick(1000) * Number(i > 1)));
      const streamId = `${proxy}-${life.startMs}-${connectionId}`;
      return { connection: { ...from, connectionId, streamId, isOver: dice < 65, parts: [{ labelKey, counts }] } };
    }
    const samples = [...life.requests].map(([of, requests]) => ({
      labelKey: of,
      requests,
      histograms: HTTP_METRICS.map(() => null),
    }));
    return { report: { proxy: from.proxy, lifeMs: life.startMs, samples, tcpSamples: [] } };
  }
}

class Collected {
  readonly store: SeriesStore;
  private readonly points: SeriesPoints;
  private readonly encoder = new WriteRequestEncoder({ externalLabels: {}, maxSamples: 500 });

  constructor(clock: Histories["clock"]) {
    this.store = new SeriesStore(LIMITS, clock);
    this.points = new SeriesPoints(this.store, "certain");
  }

  take(message: Message): unknown {
    if ("record" in message) return this.store.observe(message.record);
    if ("connection" in message) return this.store.observeConnection(message.connection);
    return this.store.report(message.report);
  }

  /** What it would send now. */
  async sent(): Promise<Map<string, number>> {
    this.encoder.begin(1);
    for (const point of pointsOf(this.points.points(() => true))) this.encoder.add(point);
    return samplesByText((await this.encoder.take(true)).flatMap(({ body }) => decodeWriteRequest(body)));
  }
}

function sum(all: readonly Map<string, number>[]): Map<string, number> {
  const sums = new Map<string, number>();
  for (const each of all) for (const [series, value] of each) sums.set(series, (sums.get(series) ?? 0) + value);
  return sums;
}

/** Equal, but for the rounding of sums of fractions, which depends on the order of adding. */
function expectSame(actual: Map<string, number>, expected: Map<string, number>): void {
  expect([...actual.keys()].sort()).toEqual([...expected.keys()].sort());
  for (const [series, value] of expected) {
    const found = actual.get(series) as number;
    if (series.includes("_sum{")) expect(Math.abs(found - value), series).toBeLessThanOrEqual(1e-9 * Math.abs(value));
    else expect(found, series).toBe(value);
  }
}

describe(`SEED=${SEED}`, () => {
  it.each(Array.from({ length: 8 }, (_, i) => i))("history %i: the sum of the halves is the whole", async (history) => {
    const next = random(SEED + history);
    const histories = new Histories(next);
    const whole = new Collected(histories.clock);
    const halves = [new Collected(histories.clock), new Collected(histories.clock)];
    const halfOf = Array.from({ length: 8 }, () => Math.floor(next() * 2));
    for (let step = 0; step < 300; step++) {
      const told = histories.step();
      if (told !== null) {
        const half = halves[halfOf[told.proxy] as number] as Collected;
        expect(half.take(told.message)).toEqual(whole.take(told.message));
      }
      if (step % 50 === 0) for (const each of [whole, ...halves]) each.store.retireSuperseded();
      if (step % 150 === 149) expectSame(sum(await Promise.all(halves.map((half) => half.sent()))), await whole.sent());
    }
    expect((await whole.sent()).size).toBeGreaterThan(50);
  });
});
