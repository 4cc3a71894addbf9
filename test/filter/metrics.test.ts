// What is counted and recorded per request, under which names, and where counting has a bound.

import { describe, expect, test } from "vitest";
import { LABELS } from "../../filter/vocabulary/labels.ts";
import {
  FAULT_REASONS,
  FAULTS_METRIC,
  HTTP_METRICS,
  MetricKind,
  REASON_LABEL,
  START_TIME_METRIC,
} from "../../filter/vocabulary/metrics.ts";
import { encodeTag } from "../../filter/vocabulary/stat-name.ts";
import { PLAIN_REQUEST, START_TIME_NS } from "../host/host.ts";
import {
  countedLabels,
  countedRequests,
  countedTotal,
  countedWith,
  exchangeHeaders,
  FROM_PRODUCTPAGE,
  faults,
  makeNode,
  observationOf,
  overflowLabels,
  startInbound,
  startOutbound,
  TO_REVIEWS,
} from "../host/mesh.ts";
import { StatStore } from "../host/stats.ts";

const START_MS = START_TIME_NS / 1_000_000n;

/** A request from a peer of its own, so with a label set of its own. */
function fromPeer(index: number) {
  return {
    ...FROM_PRODUCTPAGE,
    requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(makeNode(`s${index}`, "v1", "::1"))],
  };
}

describe("one request", () => {
  const measured = { ...FROM_PRODUCTPAGE, durationNs: 12_999_999n, requestBytes: 1_234, responseBytes: 56_789 };

  test("is counted once and measured once in each of the three histograms, under one label set", () => {
    const host = startInbound();
    host.request(measured);
    const series = host.series().filter((one) => one.name.startsWith("istio_"));
    expect(series.map(({ name, kind, value, samples }) => ({ name, kind, value, samples }))).toEqual([
      { name: "istio_requests_total", kind: MetricKind.Counter, value: 1n, samples: [] },
      { name: "istio_request_duration_milliseconds", kind: MetricKind.Histogram, value: 0n, samples: [12n] },
      { name: "istio_request_bytes", kind: MetricKind.Histogram, value: 0n, samples: [1_234n] },
      { name: "istio_response_bytes", kind: MetricKind.Histogram, value: 0n, samples: [56_789n] },
    ]);
    for (const one of series) expect(one.labels).toEqual(countedLabels(host));
  });

  test("has a stat name of Istio's encoding: all labels in order, then the metric's name", () => {
    const host = startInbound();
    host.request(measured);
    const labels = countedLabels(host);
    const tags = LABELS.map((label) => encodeTag(label, labels[label] ?? "")).join("");
    const names = host.stats.all().map((stat) => Buffer.from(stat.statName, "latin1").toString("utf8"));
    for (const metric of HTTP_METRICS) expect(names).toContain(tags + metric.name);
  });

  test("is counted at its end, not before", () => {
    const host = startInbound();
    const stream = host.stream(measured).sendRequestHeaders().sendResponseHeaders();
    expect(countedTotal(host)).toBe(0);
    stream.log();
    expect(countedTotal(host)).toBe(1);
  });

  test.each([
    [0n, 0n],
    [999_999n, 0n],
    [1_000_000n, 1n],
    [1_999_999n, 1n],
    [60_000_000_000n, 60_000n],
    [4_000_000_000_000_000n, 4_000_000_000n],
  ])("of %s ns lasts %s ms: truncated, not rounded", (durationNs, expected) => {
    const host = startInbound();
    host.request({ ...measured, durationNs });
    expect(host.series("istio_request_duration_milliseconds")[0]?.samples).toEqual([expected]);
  });

  test("that did not finish has no duration, but is counted and its bytes are", () => {
    const host = startInbound();
    host.request({ ...measured, durationNs: null });
    expect(countedTotal(host)).toBe(1);
    expect(host.series("istio_request_duration_milliseconds").flatMap((one) => one.samples)).toEqual([]);
    expect(host.series("istio_request_bytes")[0]?.samples).toEqual([1_234n]);
  });

  test("of no bytes is recorded as 0", () => {
    const host = startInbound();
    host.request({ ...measured, requestBytes: 0, responseBytes: 0 });
    expect(host.series("istio_request_bytes")[0]?.samples).toEqual([0n]);
    expect(host.series("istio_response_bytes")[0]?.samples).toEqual([0n]);
  });

  test("of more than 4 GiB is recorded in full", () => {
    const host = startInbound();
    host.request({ ...measured, requestBytes: 2 ** 33 + 1, responseBytes: 2 ** 40 });
    expect(host.series("istio_request_bytes")[0]?.samples).toEqual([2n ** 33n + 1n]);
    expect(host.series("istio_response_bytes")[0]?.samples).toEqual([2n ** 40n]);
  });

  test("that was never answered is counted, with code 0", () => {
    const host = startInbound();
    host.request({ ...measured, responseCode: null, responseFlags: 1n << 14n });
    expect(countedWith(host, { response_code: "0", response_flags: "DC" })).toBe(1);
  });
});

describe("many requests", () => {
  test("of one label set add up in one series", () => {
    const host = startOutbound();
    for (let index = 0; index < 100; index++) host.request({ ...TO_REVIEWS, durationNs: BigInt(index) * 1_000_000n });
    expect(countedRequests(host).map((one) => one.value)).toEqual([100n]);
    const [durations] = host.series("istio_request_duration_milliseconds");
    expect(durations?.samples).toEqual(Array.from({ length: 100 }, (_, index) => BigInt(index)));
  });

  test("of different label sets are kept apart, and found again", () => {
    const host = startInbound();
    for (let round = 0; round < 3; round++) {
      for (const responseCode of [200, 404, 503]) host.request({ ...FROM_PRODUCTPAGE, responseCode });
    }
    for (const code of ["200", "404", "503"]) expect(countedWith(host, { response_code: code })).toBe(3);
    expect(countedRequests(host)).toHaveLength(3);
  });

  test("label sets that share all bytes but not their borders are different", () => {
    const host = startInbound();
    for (const [app, version] of [
      ["ab", "c"],
      ["a", "bc"],
    ]) {
      const metadata = { LABELS: { app: app ?? "", version: version ?? "" } };
      host.request({
        ...FROM_PRODUCTPAGE,
        requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(makeNode(`${app}`, "v1", "::"), metadata)],
      });
    }
    expect(countedWith(host, { source_app: "ab", source_version: "c" })).toBe(1);
    expect(countedWith(host, { source_app: "a", source_version: "bc" })).toBe(1);
  });

  test("a known label set is counted without defining or naming anything again", () => {
    const host = startInbound();
    host.request(FROM_PRODUCTPAGE);
    host.calls.clear();
    for (let index = 0; index < 10; index++) host.request(FROM_PRODUCTPAGE);
    expect(host.calls.get("proxy_define_metric")).toBeUndefined();
    expect(host.calls.get("proxy_log")).toBeUndefined();
  });

  test("of several VMs of one process add up", () => {
    const stats = new StatStore();
    const workers = [1, 2, 3].map(() => startInbound({ stats }));
    for (const worker of workers) for (let index = 0; index < 5; index++) worker.request(FROM_PRODUCTPAGE);
    expect(countedRequests(workers[0] ?? startInbound()).map((one) => one.value)).toEqual([15n]);
  });
});

describe("the cap on label sets", () => {
  const configuration = { direction: "inbound", disable_host_header_fallback: true, max_label_sets: 3 };

  test("sends what is beyond it to one series of the overflow, and counts each", () => {
    const host = startInbound({ configuration });
    for (let index = 0; index < 10; index++) host.request(fromPeer(index));
    expect(countedRequests(host)).toHaveLength(4);
    expect(countedWith(host, overflowLabels("destination"))).toBe(7);
    expect(faults(host)).toEqual({ label_sets_full: 7 });
    expect(countedTotal(host)).toBe(10);
  });

  test("counts each request that went there, also the ones of a kind seen before", () => {
    const host = startInbound({ configuration });
    for (let index = 0; index < 3; index++) host.request(fromPeer(index));
    for (let round = 0; round < 5; round++) host.request(fromPeer(3));
    expect(countedWith(host, { source_workload: "other" })).toBe(5);
    expect(faults(host)).toEqual({ label_sets_full: 5 });
  });

  test("measures the overflow in all histograms", () => {
    const host = startInbound({ configuration });
    for (let index = 0; index < 10; index++) host.request(fromPeer(index));
    for (const metric of HTTP_METRICS.slice(1)) {
      const overflow = host.series(metric.name).filter((one) => one.labels["source_workload"] === "other");
      expect(overflow.map((one) => one.samples.length)).toEqual([7]);
    }
  });

  test("leaves the label sets that are known where they are", () => {
    const host = startInbound({ configuration });
    for (let index = 0; index < 10; index++) host.request(fromPeer(index));
    for (let index = 0; index < 3; index++) host.request(fromPeer(index));
    for (let index = 0; index < 3; index++) expect(countedWith(host, { source_workload: `s${index}-v1` })).toBe(2);
    expect(faults(host)).toEqual({ label_sets_full: 7 });
  });

  test("shows in the observation as it was counted", () => {
    const host = startInbound({ configuration });
    const streams = Array.from({ length: 5 }, (_, index) => host.request(fromPeer(index)));
    expect(streams.map((stream) => observationOf(stream).labels["source_workload"])).toEqual([
      "s0-v1",
      "s1-v1",
      "s2-v1",
      "other",
      "other",
    ]);
    const last = streams.at(-1);
    expect(last && observationOf(last).labels).toEqual(overflowLabels("destination"));
  });

  test("when it is raised by a new configuration, what was overflow is admitted", () => {
    const host = startInbound({ configuration: { max_label_sets: 1 } });
    for (let index = 0; index < 3; index++) host.request(fromPeer(index));
    expect(countedWith(host, { source_workload: "other" })).toBe(2);
    const raised = host.addPlugin({ max_label_sets: 100 });
    for (let index = 0; index < 3; index++) host.request({ ...fromPeer(index), rootId: raised });
    expect(countedWith(host, { source_workload: "other" })).toBe(2);
    expect(countedWith(host, { source_workload: "s2-v1" })).toBe(1);
  });

  test("keeps reports apart of which one counts in mesh_* and the other does not, of all listeners of a VM", () => {
    const host = startInbound({ configuration: { ...configuration, max_label_sets: 1 } });
    const outbound = host.addPlugin({ direction: "outbound", max_label_sets: 1 });
    const waypoint = host.addPlugin({ reporter: "SERVER_GATEWAY", max_label_sets: 1 });
    host.request(fromPeer(0));
    const streams = [
      host.request(fromPeer(1)),
      host.request({ ...FROM_PRODUCTPAGE, requestHeaders: PLAIN_REQUEST }),
      host.request({ ...TO_REVIEWS, rootId: outbound }),
      host.request({ ...fromPeer(1), rootId: waypoint }),
      host.request({ ...FROM_PRODUCTPAGE, requestHeaders: PLAIN_REQUEST, rootId: waypoint }),
    ];
    const unknown = Object.fromEntries(
      LABELS.filter((label) => label.startsWith("source_")).map((l) => [l, "unknown"]),
    );
    const expected = [
      overflowLabels("destination"),
      { ...overflowLabels("destination"), ...unknown },
      overflowLabels("source"),
      overflowLabels("waypoint"),
      { ...overflowLabels("waypoint"), ...unknown },
    ];
    expect(
      countedRequests(host)
        .slice(1)
        .map(({ labels }) => labels),
    ).toEqual(expected);
    expect(streams.map((stream) => observationOf(stream).labels)).toEqual(expected);
    expect(countedRequests(host).map(({ value }) => value)).toEqual(Array.from({ length: 6 }, () => 1n));
  });

  test("is 1,000 by default", () => {
    const host = startInbound();
    for (let index = 0; index < 1_005; index++) host.request(fromPeer(index));
    expect(countedRequests(host)).toHaveLength(1_001);
    expect(faults(host)).toMatchObject({ label_sets_full: 5 });
  });
});

describe("the process life", () => {
  const startTimes = (stats: StatStore) =>
    stats
      .all()
      .flatMap((stat) => (stat.statName === START_TIME_METRIC ? [{ kind: stat.kind, value: stat.value }] : []));

  test("is a gauge without labels: when the filter first ran, in Unix ms", () => {
    const host = startInbound();
    host.request(FROM_PRODUCTPAGE);
    expect(startTimes(host.stats)).toEqual([{ kind: MetricKind.Gauge, value: START_MS }]);
  });

  test("is set once per process: a second VM leaves it and stamps its observations with it", () => {
    const stats = new StatStore();
    startInbound({ stats }).request(FROM_PRODUCTPAGE);
    const second = startInbound({ stats, startNs: START_TIME_NS + 60_000_000_000n });
    const stream = second.request(FROM_PRODUCTPAGE);
    expect(startTimes(stats)).toEqual([{ kind: MetricKind.Gauge, value: START_MS }]);
    expect(observationOf(stream).startMs).toBe(START_MS);
  });

  // During a hot restart Envoy adds the old process's gauges to the new one's.
  test("is not taken from a gauge in the future: observations say 0 until it is back", () => {
    const stats = new StatStore();
    const gauge = stats.define(MetricKind.Gauge, START_TIME_METRIC);
    gauge.value = START_MS * 2n;
    const host = startInbound({ stats });
    expect(observationOf(host.request(FROM_PRODUCTPAGE)).startMs).toBe(0n);
    gauge.value = START_MS - 5_000n;
    expect(observationOf(host.request(FROM_PRODUCTPAGE)).startMs).toBe(START_MS - 5_000n);
    expect(startTimes(stats)).toEqual([{ kind: MetricKind.Gauge, value: START_MS - 5_000n }]);
  });

  test("once known it stays, also while the gauge shows a sum", () => {
    const stats = new StatStore();
    const host = startInbound({ stats });
    stats.define(MetricKind.Gauge, START_TIME_METRIC).value = START_MS * 2n;
    expect(observationOf(host.request(FROM_PRODUCTPAGE)).startMs).toBe(START_MS);
  });

  test("does not move while the process runs", () => {
    const host = startInbound();
    for (let index = 0; index < 3; index++) {
      host.nowNs += 3_600_000_000_000n;
      expect(observationOf(host.request(FROM_PRODUCTPAGE)).startMs).toBe(START_MS);
    }
    expect(startTimes(host.stats)).toEqual([{ kind: MetricKind.Gauge, value: START_MS }]);
  });
});

describe("faults", () => {
  test("are a counter with the one label reason, in the same encoding", () => {
    const host = startInbound({ configuration: "{" });
    const [stat] = host.stats.all().filter((one) => one.value > 0n && one.statName.endsWith(FAULTS_METRIC));
    expect(stat?.kind).toBe(MetricKind.Counter);
    expect(stat?.statName).toBe(encodeTag(REASON_LABEL, "configuration") + FAULTS_METRIC);
  });

  test("an undisturbed request counts none", () => {
    const host = startInbound();
    host.request(FROM_PRODUCTPAGE);
    expect(faults(host)).toEqual({});
  });

  test("no stat has a reason that is not in the list", () => {
    const host = startInbound({ configuration: "[" });
    host.request(FROM_PRODUCTPAGE);
    for (const one of host.series(FAULTS_METRIC)) expect(FAULT_REASONS).toContain(one.labels[REASON_LABEL]);
  });

  test("a host call that fails is counted as host_call; the request goes on and is counted", () => {
    for (const name of ["proxy_get_property", "proxy_get_header_map_value", "proxy_set_property"]) {
      const host = startInbound();
      host.request(FROM_PRODUCTPAGE);
      host.failures.set(name, 10);
      host.request(FROM_PRODUCTPAGE);
      host.failures.clear();
      host.request(FROM_PRODUCTPAGE);
      expect(countedTotal(host), name).toBe(3);
      expect(faults(host), name).toHaveProperty("host_call");
    }
  });
});
