import { describe, expect, it } from "vitest";
import { Indicator } from "../../../collector/indicators/indicator.ts";
import { type CallMeasures, Field } from "../../../collector/indicators/measures.ts";
import { readSubject } from "../../../collector/indicators/reading.ts";
import type { Subject } from "../../../collector/indicators/subjects.ts";
import { SeriesStore } from "../../../collector/series/store.ts";
import { ChangeReader } from "../../../collector/shards/changes.ts";
import { SummedSeries } from "../../../collector/shards/summed-series.ts";
import { SummedSubjects } from "../../../collector/shards/summed-subjects.ts";
import { key } from "../labels.ts";

const SPAN = { first: 0, last: 10, seconds: 60 };

function subjectOf(service: string, calls: number, latencyNs = 10e6): Subject {
  const indicator = new Indicator(12, true);
  const call: CallMeasures = {
    isSuccess: true,
    latencyNs,
    satisfaction: "satisfied",
    requestBytes: 1,
    responseBytes: 1,
    retries: 0,
    requestHeldNs: null,
    responseHeldNs: null,
    code: "http 200",
    flags: ["UF"],
  };
  for (let i = 0; i < calls; i++) indicator.addCall(5, call);
  return { kind: "service", labels: [service, "server"], namespace: "ns", indicator };
}

/** As it arrives from another thread. */
const read = (subject: Subject) => structuredClone(readSubject(subject, [SPAN]));
const retired = (subject: Subject) => structuredClone(readSubject(subject, []));

function callsIn(sums: SummedSubjects, lists: Parameters<SummedSubjects["sum"]>[0]) {
  return sums.sum(lists).map(({ labels, totals }) => [labels[0], totals[Field.Calls]]);
}

describe("subjects of several threads", () => {
  it("are one where their labels are the same: sums, flags and windows add up", () => {
    const [sum] = new SummedSubjects().sum([
      [read(subjectOf("a", 3, 10e6))],
      [read(subjectOf("a", 1, 90e6)), read(subjectOf("b", 2))],
    ]);
    expect(sum?.totals[Field.Calls]).toBe(4);
    expect(sum?.flags).toEqual(new Map([["UF", 4]]));
    expect(sum?.windows[0]?.sums[Field.Calls]).toBe(4);
    expect(sum?.windows[0]?.codes).toEqual(new Map([["http 200", 4]]));
    expect(sum?.namespace).toBe("ns");
    expect(sum?.windows[0]?.latencies.quantile(0.75)).toBeCloseTo(10_000, -3);
    expect(sum?.windows[0]?.latencies.quantile(1)).toBeCloseTo(90_000, -4);
  });

  it("keep what one thread let go of while another still holds it, so that no counter goes down", () => {
    const sums = new SummedSubjects();
    sums.addRetired([retired(subjectOf("a", 100)), retired(subjectOf("gone", 5))]);
    expect(callsIn(sums, [[read(subjectOf("a", 7))], []])).toEqual([["a", 107]]);
    sums.keepRetired(sums.retiredNames, [{ kind: "service", labels: ["a", "server"] }]);
    expect(sums.retiredNames).toEqual([{ kind: "service", labels: ["a", "server"] }]);
    expect(callsIn(sums, [[], [read(subjectOf("a", 8)), read(subjectOf("gone", 1))]])).toEqual([
      ["a", 108],
      ["gone", 1],
    ]);
  });
});

describe("series of several threads", () => {
  const limits = { proxies: 10, labelSets: 100, cells: 100, connections: 10, retireAfterMs: 1000 };
  const counts = new Float64Array(64);

  function setUp() {
    const stores = [new SeriesStore(limits), new SeriesStore(limits)];
    const readers = stores.map((store) => new ChangeReader(store));
    const sums = new SummedSeries(2);
    const pull = () => {
      for (const [thread, reader] of readers.entries()) sums.apply(thread, structuredClone(reader.read()));
    };
    const observe = (thread: number, workload: string, lifeMs = 1) =>
      stores[thread]?.observe({
        proxy: `p${thread}`,
        lifeMs,
        labelKey: key({ source_workload: workload }),
        requests: 1,
        durationMs: 7,
        requestBytes: 0,
        responseBytes: 300,
      });
    const totals = () =>
      sums.http.series.map((series) => {
        sums.http.readTotal(series, counts);
        return counts[0];
      });
    return { sums, stores, pull, observe, totals };
  }

  it("are the sum of what each told last, and say which of them grew", () => {
    const { sums, pull, observe, totals } = setUp();
    observe(0, "a");
    observe(1, "b");
    observe(1, "a");
    pull();
    expect(totals()).toEqual([2, 1]);
    expect(sums.http.takeChanged()).toHaveLength(2);
    observe(1, "b");
    pull();
    expect(totals()).toEqual([2, 2]);
    expect(sums.http.takeChanged().map(({ index }) => index)).toEqual([1]);
    pull();
    expect(sums.http.takeChanged()).toEqual([]);
  });

  it("leave out of what is recent what happened before the collector saw the proxy", () => {
    const { sums, stores, pull, observe } = setUp();
    const labelKey = key({ source_workload: "a" });
    const histograms = [null, null, null, null];
    stores[0]?.report({ proxy: "p0", lifeMs: 1, samples: [{ labelKey, requests: 50, histograms }], tcpSamples: [] });
    observe(1, "a");
    pull();
    const [series] = sums.http.series;
    if (!series) throw new Error("no series");
    sums.http.readTotal(series, counts);
    expect(counts[0]).toBe(51);
    sums.http.readRecent(series, counts);
    expect(counts[0]).toBe(1);
  });
});
