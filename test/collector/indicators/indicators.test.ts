import { describe, expect, it, test } from "vitest";
import { expositionSpans, renderIndicators } from "../../../collector/indicators/exposition.ts";
import { type Ends, Indicators, isCurrent } from "../../../collector/indicators/indicators.ts";
import { type CallMeasures, Field } from "../../../collector/indicators/measures.ts";
import { readSubjects } from "../../../collector/indicators/reading.ts";
import { liveSpan, minuteSpan, SLOT_MS, slotOf } from "../../../collector/indicators/slots.ts";
import type { SubjectKind } from "../../../collector/indicators/subjects.ts";
import { summarise } from "../../../collector/indicators/summary.ts";

const MINUTE_MS = 60_000;
/** A whole minute. */
const NOW_MS = 1_700_000_040_000 - (1_700_000_040_000 % MINUTE_MS);

const SERVER: Ends = { point: "server", source: "web", destination: "reviews", instance: "reviews-1" };
const CLIENT: Ends = { ...SERVER, point: "client" };

function call(changes: Partial<CallMeasures> = {}): CallMeasures {
  return {
    isSuccess: true,
    latencyNs: 10e6,
    satisfaction: "satisfied",
    requestBytes: 100,
    responseBytes: 1000,
    retries: 0,
    requestHeldNs: null,
    responseHeldNs: null,
    code: "http 200",
    flags: [],
    ...changes,
  };
}

function newIndicators(limit = 100): Indicators {
  return new Indicators({
    limit,
    endpointsPerService: 10_000,
    lateAfterMs: 2 * MINUTE_MS,
    retireAfterMs: 10 * MINUTE_MS,
  });
}

function add(indicators: Indicators, ends: Ends, measures: CallMeasures, startMs = NOW_MS, nowMs = NOW_MS): void {
  const slot = indicators.slotOf(startMs, nowMs);
  const endpoint = ends.point === "server" ? indicators.endpoint(ends.destination, "GET:/") : null;
  indicators.addCall(indicators.target(ends), endpoint, slot, measures);
}

function text(indicators: Indicators, nowMs = NOW_MS): string {
  const spans = expositionSpans(nowMs);
  const readingsOf = (kind: SubjectKind) => readSubjects(indicators.subjects, { kind, spans, filter: [] });
  return [...renderIndicators(readingsOf, spans)].join("");
}

function lineOf(rendered: string, series: string): string | undefined {
  return rendered.split("\n").find((line) => line.startsWith(`${series} `));
}

test("a server's side is the service's, the instance's, the endpoint's and the edge's; a client's the service's and the edge's", () => {
  const indicators = newIndicators();
  add(indicators, SERVER, call());
  add(indicators, CLIENT, call());
  add(indicators, CLIENT, call({ isSuccess: false, flags: ["UF"] }));
  const labels = (kind: "service" | "instance" | "endpoint" | "edge") =>
    [...indicators.subjects.all(kind)].map((subject) => [...subject.labels, subject.indicator.totals()[Field.Calls]]);
  expect(labels("service")).toEqual([
    ["reviews", "server", 1],
    ["reviews", "client", 2],
  ]);
  expect(labels("instance")).toEqual([["reviews", "reviews-1", 1]]);
  expect(labels("endpoint")).toEqual([["reviews", "GET:/", 1]]);
  expect(labels("edge")).toEqual([
    ["web", "reviews", "server", 1],
    ["web", "reviews", "client", 2],
  ]);
});

test("Apdex of 170 satisfied, 20 tolerated and 10 frustrated calls is 0.90", () => {
  const indicators = newIndicators();
  for (let i = 0; i < 200; i++)
    add(indicators, SERVER, call({ satisfaction: i < 170 ? "satisfied" : i < 190 ? "tolerating" : "frustrated" }));
  const series = 'mesh_service_apdex_ratio{service="reviews",detect_point="server",window="live"}';
  expect(lineOf(text(indicators), series)).toBe(`${series} 0.9`);
});

describe("time", () => {
  const minuteCalls = (indicators: Indicators, nowMs: number, ago: number) => {
    const [subject] = indicators.subjects.all("service");
    return subject?.indicator.window(minuteSpan(nowMs, ago)).sums[Field.Calls];
  };

  it("adds a call to the minute in which it began, also when it comes late", () => {
    const indicators = newIndicators();
    add(indicators, SERVER, call(), NOW_MS - 1, NOW_MS - 1);
    add(indicators, SERVER, call(), NOW_MS, NOW_MS);
    add(indicators, SERVER, call(), NOW_MS - 30_000, NOW_MS + 59_000);
    add(indicators, SERVER, call(), NOW_MS + 59_999, NOW_MS + 59_999);
    expect(minuteCalls(indicators, NOW_MS + 60_000, 1)).toBe(2);
    expect(minuteCalls(indicators, NOW_MS + 60_000, 2)).toBe(2);
    expect(indicators.holdings).toMatchObject({ late: 0, ahead: 0 });
  });

  it("keeps each minute whole until calls of it are too late", () => {
    for (let offset = 0; offset < MINUTE_MS; offset += 1000) {
      const indicators = newIndicators();
      const nowMs = NOW_MS + offset;
      // One call a second, each as late as it may be, for ten minutes.
      for (let ms = nowMs - 10 * MINUTE_MS; ms <= nowMs; ms += 1000)
        add(indicators, SERVER, call(), ms - 2 * MINUTE_MS, ms);
      for (let ms = nowMs - 3 * MINUTE_MS; ms <= nowMs; ms += 1000) add(indicators, SERVER, call(), ms, ms);
      expect(minuteCalls(indicators, nowMs, 1)).toBeGreaterThanOrEqual(60);
      const [subject] = indicators.subjects.all("service");
      expect(subject?.indicator.totals()[Field.Calls]).toBe(601 + 181);
    }
  });

  it("counts a call that comes too late, or took too long: it is in the totals, and in no window", () => {
    const indicators = newIndicators();
    add(indicators, SERVER, call(), NOW_MS - 2 * MINUTE_MS - 1, NOW_MS);
    expect(indicators.holdings).toMatchObject({ late: 1, ahead: 0, subjects: { service: 1 } });
    const [subject] = indicators.subjects.all("service");
    expect(subject?.indicator.totals()[Field.Calls]).toBe(1);
    for (const ago of [0, 1, 2, 3]) expect(minuteCalls(indicators, NOW_MS, ago)).toBe(0);
    add(indicators, SERVER, call(), NOW_MS, NOW_MS);
    expect(subject?.indicator.totals()[Field.Calls]).toBe(2);
    indicators.retireIdle(NOW_MS + 9 * MINUTE_MS);
    expect(subject?.indicator.isRetired).toBe(false);
  });

  it("adds a call of the future to the present, and counts it when it is no mere difference of clocks", () => {
    const indicators = newIndicators();
    add(indicators, SERVER, call(), NOW_MS + 500, NOW_MS);
    add(indicators, SERVER, call(), NOW_MS + 1000 * MINUTE_MS, NOW_MS);
    expect(indicators.holdings).toMatchObject({ late: 0, ahead: 1 });
    const [subject] = indicators.subjects.all("service");
    expect(subject?.indicator.window(liveSpan(NOW_MS)).sums[Field.Calls]).toBe(2);
  });

  it("adds a call without a start to the present", () => {
    const indicators = newIndicators();
    add(indicators, SERVER, call(), 0, NOW_MS);
    expect(indicators.holdings).toMatchObject({ late: 0, ahead: 0 });
  });

  it("loses nothing when our own clock is set back", () => {
    const indicators = newIndicators();
    for (const nowMs of [NOW_MS, NOW_MS - 100 * MINUTE_MS, NOW_MS + MINUTE_MS, NOW_MS - 7 * MINUTE_MS]) {
      for (let i = 0; i < 40; i++) add(indicators, SERVER, call(), nowMs + i * SLOT_MS, nowMs + i * SLOT_MS);
    }
    const [subject] = indicators.subjects.all("service");
    expect(subject?.indicator.totals()[Field.Calls]).toBe(160);
  });
});

test("a subject without calls is let go, and one that comes again begins anew", () => {
  const indicators = newIndicators();
  const target = indicators.target(SERVER);
  add(indicators, SERVER, call(), NOW_MS, NOW_MS);
  indicators.retireIdle(NOW_MS + 9 * MINUTE_MS);
  expect(isCurrent(target)).toBe(true);
  indicators.retireIdle(NOW_MS + 11 * MINUTE_MS);
  expect(isCurrent(target)).toBe(false);
  expect(text(indicators)).toBe("");
  add(indicators, SERVER, call(), NOW_MS + 12 * MINUTE_MS, NOW_MS + 12 * MINUTE_MS);
  const series = 'mesh_service_requests_total{service="reviews",detect_point="server",success="true"}';
  expect(lineOf(text(indicators, NOW_MS + 12 * MINUTE_MS), series)).toBe(`${series} 1`);
});

test("beyond the limit all calls are one other subject's, and that is counted", () => {
  const indicators = newIndicators(3);
  for (let i = 0; i < 10; i++) add(indicators, { ...SERVER, destination: `s${i}` }, call());
  expect(indicators.subjects.count("service")).toBe(4);
  expect(indicators.holdings.refused).toEqual({ service: 7, instance: 7, endpoint: 7, edge: 7 });
  const series = 'mesh_service_requests_total{service="other",detect_point="server",success="true"}';
  expect(lineOf(text(indicators), series)).toBe(`${series} 7`);
});

test("ends that nobody knows are unknown, not left out", () => {
  const indicators = newIndicators();
  add(indicators, { point: "client", source: null, destination: null, instance: null }, call());
  expect(text(indicators)).toContain(
    'mesh_edge_requests_total{source="unknown",destination="unknown",detect_point="client"',
  );
});

test("names are text, whatever they hold", () => {
  const indicators = newIndicators();
  add(indicators, { ...CLIENT, destination: 'a"b\\c\nd' }, call());
  expect(text(indicators)).toContain('{service="a\\"b\\\\c\\nd",detect_point="client",success="true"} 1');
});

test("what a page shows of one service, line by line", () => {
  const indicators = newIndicators();
  const nowMs = NOW_MS + 30_000;
  add(indicators, SERVER, call({ requestHeldNs: 1e6, responseHeldNs: 3e6 }), nowMs, nowMs);
  add(
    indicators,
    SERVER,
    call({ isSuccess: false, satisfaction: "frustrated", retries: 2, flags: ["URX", "UF"] }),
    nowMs,
    nowMs,
  );
  indicators.addConnection(indicators.target(SERVER), slotOf(nowMs), {
    isNew: true,
    receivedBytes: 7,
    sentBytes: 9,
    flags: [],
  });
  const lines = text(indicators, nowMs)
    .split("\n")
    .filter((each) => each.startsWith("mesh_service"));
  const of = 'service="reviews",detect_point="server"';
  const withoutQuantiles = lines.filter((each) => !each.includes("quantile"));
  expect(withoutQuantiles).toEqual([
    `mesh_service_requests_total{${of},success="true"} 1`,
    `mesh_service_requests_total{${of},success="false"} 1`,
    `mesh_service_latency_seconds_sum{${of}} 0.02`,
    `mesh_service_latency_seconds_count{${of}} 2`,
    `mesh_service_response_flags_total{${of},flag="URX"} 1`,
    `mesh_service_response_flags_total{${of},flag="UF"} 1`,
    `mesh_service_request_bytes_total{${of}} 200`,
    `mesh_service_response_bytes_total{${of}} 2000`,
    `mesh_service_retries_total{${of}} 2`,
    `mesh_service_sidecar_request_latency_seconds_sum{${of}} 0.001`,
    `mesh_service_sidecar_request_latency_seconds_count{${of}} 1`,
    `mesh_service_sidecar_response_latency_seconds_sum{${of}} 0.003`,
    `mesh_service_sidecar_response_latency_seconds_count{${of}} 1`,
    `mesh_service_tcp_connections_total{${of}} 1`,
    `mesh_service_tcp_received_bytes_total{${of}} 7`,
    `mesh_service_tcp_sent_bytes_total{${of}} 9`,
    `mesh_service_requests_per_second{${of},window="live"} ${2 / 60}`,
    `mesh_service_success_ratio{${of},window="live"} 0.5`,
    `mesh_service_apdex_ratio{${of},window="live"} 0.5`,
    `mesh_service_latency_mean_seconds{${of},window="live"} 0.01`,
  ]);
  const quantiles = lines.filter((each) => each.startsWith("mesh_service_latency_quantile_seconds{"));
  expect(quantiles).toHaveLength(6);
  for (const each of quantiles) expect(Math.abs(Number(each.split(" ")[1]) / 0.01 - 1)).toBeLessThanOrEqual(0.01);
});

test("the live window is the slot under way and a minute before it", () => {
  const { first, last, seconds } = liveSpan(NOW_MS + 5000);
  expect([first, last, seconds]).toEqual([slotOf(NOW_MS) - 4, slotOf(NOW_MS), 65]);
  const nothing = newIndicators().target(CLIENT).service.window({ first, last, seconds });
  expect(summarise(nothing, 65)).toMatchObject({ calls: 0, successRatio: null, apdex: null, meanSeconds: null });
});

test("totals never go down, though sums are beyond what numbers hold exactly: slots make room for others", () => {
  const indicators = newIndicators();
  const { service } = indicators.target(SERVER);
  let before = 0;
  for (let slot = 1; slot <= 60; slot++) {
    const latencyNs = slot % 20 === 5 ? 2 ** 90 : slot % 20 < 15 ? 2 ** 37 * (1 + (slot % 3)) : 0;
    service.addCall(slot, call({ latencyNs }));
    const after = service.totals()[Field.LatencyNs] as number;
    expect(after).toBeGreaterThanOrEqual(before);
    before = after;
  }
});
