// `metrics.pod_labels`: on random histories, over restarts of proxies and of the collector and any number of threads, the sums over all pods
// are what is counted without pods.

import { describe, expect, it } from "vitest";
import type { AccessRecord, ConnectionRecord, StatsReport } from "../../collector/record/record.ts";
import { TCP_METRICS } from "../../collector/vocabulary.ts";
import { Oracle } from "../simulation/oracle.ts";
import { HTTP_KEYS, TABLES, TCP_KEYS } from "../simulation/proxy.ts";
import { Subject } from "../simulation/subject.ts";
import { sumsBy, type Totals } from "../simulation/totals.ts";
import { random } from "./random.ts";

const SEED = Number(process.env["SEED"] ?? 20261122);
const PROXIES = 5;
const CONDITIONS = { keepsSome: false, hasMarks: false, sharesId: false };
const ROOM = { proxies: 1000, labelSets: 1000, cells: 100_000, connections: 1000, expireAfterMs: 0 };

interface Process {
  startMs: number;
  connections: number;
  readonly requests: Map<string, number>;
}

/** The same happens to both. */
class Both {
  readonly all: readonly Subject[];
  private readonly processes: Process[];

  constructor(private readonly next: () => number) {
    this.all = [false, true].map((hasPods) => new Subject(ROOM, { ...CONDITIONS, hasPods }));
    this.processes = Array.from({ length: PROXIES }, () => this.begin());
    this.save();
  }

  step(): void {
    const proxy = this.pick(PROXIES);
    const dice = this.pick(100);
    if (dice < 4) this.processes[proxy] = this.begin();
    else if (dice < 40) this.observe(proxy);
    else if (dice < 60) this.connect(proxy);
    else if (dice < 90) this.report(proxy);
    else if (dice < 94) this.each((subject) => subject.retireSuperseded());
    else if (dice < 98) this.save();
    else this.restart(1 + this.pick(3));
    const waitMs = this.pick(200_000);
    this.each(({ clock }) => {
      clock.steadyMs += waitMs;
    });
  }

  save(): void {
    this.each((subject) => subject.finishSave(new Oracle()));
  }

  private restart(threads: number): void {
    this.each((subject) => subject.restart(threads));
  }

  /** A third of the entries name no process life. */
  private observe(proxy: number): void {
    const labelKey = this.of(HTTP_KEYS);
    const { requests } = this.process(proxy);
    const isLost = this.pick(10) === 0;
    requests.set(labelKey, (requests.get(labelKey) ?? 0) + 1);
    const record: AccessRecord = {
      ...this.from(proxy, this.pick(3) === 0),
      labelKey,
      requests: 1,
      durationMs: this.pick(4000) - 1,
      requestBytes: this.pick(9000),
      responseBytes: this.pick(9000),
    };
    if (!isLost) this.each((subject) => subject.observe(record, "als"));
  }

  private connect(proxy: number): void {
    const connectionId = this.pick(++this.process(proxy).connections);
    const counts = TCP_METRICS.map((_, metric) => (metric === 0 ? 1 : this.pick(1000) * Number(metric > 1)));
    const record: ConnectionRecord = {
      ...this.from(proxy, this.pick(3) === 0),
      connectionId,
      streamId: `${this.process(proxy).startMs}-${connectionId}`,
      isOver: this.pick(2) === 0,
      parts: [{ labelKey: this.of(TCP_KEYS), counts }],
    };
    this.each((subject) => subject.observeConnection(record, "als"));
  }

  private report(proxy: number): void {
    const samples = [...this.process(proxy).requests].map(([labelKey, requests]) => ({
      labelKey,
      requests,
      histograms: [],
    }));
    const report: StatsReport = { ...this.from(proxy, false), samples, tcpSamples: [] };
    this.each((subject) => subject.report(report));
  }

  private from(proxy: number, isUnnamed: boolean): { readonly proxy: string; readonly lifeMs: number } {
    return { proxy: `proxy-${proxy}`, lifeMs: isUnnamed ? 0 : this.process(proxy).startMs };
  }

  private begin(): Process {
    const [subject] = this.all as [Subject];
    return { startMs: subject.clock.wallMs() + this.pick(1000), connections: 0, requests: new Map() };
  }

  private process(proxy: number): Process {
    return this.processes[proxy] as Process;
  }

  private each(act: (subject: Subject) => unknown): void {
    const [without, withPods] = this.all.map(act);
    expect(withPods).toEqual(without); // what is taken in is the same
  }

  private of<T>(all: readonly T[]): T {
    return all[this.pick(all.length)] as T;
  }

  private pick(below: number): number {
    return Math.floor(this.next() * below);
  }
}

/** Equal, but for the rounding of sums of fractions, which depends on the order of adding. */
function expectSame(actual: Totals, expected: Totals): void {
  expect([...actual.keys()].sort()).toEqual([...expected.keys()].sort());
  for (const [labelKey, row] of expected) {
    const found = actual.get(labelKey) as Float64Array;
    for (const [field, count] of row.entries()) {
      expect(Math.abs((found[field] as number) - count), `field ${field}`).toBeLessThanOrEqual(1e-9 * count);
    }
  }
}

describe(`SEED=${SEED}`, () => {
  it.each(Array.from({ length: 12 }, (_, i) => i))(
    "history %i: the sums over pods are what there is without",
    (history) => {
      const both = new Both(random(SEED + history));
      const [without, withPods] = both.all as [Subject, Subject];
      for (let step = 0; step < 300; step++) {
        both.step();
        if (step === 299) both.save();
        for (const table of TABLES) {
          const withoutPod = (labelKey: string) => withPods.visible(table, labelKey);
          if (step % 10 === 0) expectSame(sumsBy(withPods.counted(table), withoutPod), without.counted(table));
          if (step % 50 === 49) expectSame(sumsBy(withPods.shown(table), withoutPod), without.shown(table));
        }
      }
      for (const table of TABLES) {
        expect(withPods.shown(table).size).toBeGreaterThan(2 * without.shown(table).size);
      }
    },
  );
});
