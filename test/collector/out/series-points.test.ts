// The points of traffic are what /metrics shows of it: the same families, label sets and numbers, each series once.

import { expect, it } from "vitest";
import { SeriesPoints } from "../../../collector/out/series-points.ts";
import { HistogramBounds } from "../../../collector/series/histogram.ts";
import { withMark } from "../../../collector/series/key.ts";
import { shapesOf } from "../../../collector/series/shape.ts";
import { SeriesStore } from "../../../collector/series/store.ts";
import type { DestinationRule } from "../../../collector/series/unified.ts";
import { TrafficFamilies } from "../../../collector/web/exposition/families.ts";
import { TextTraffic } from "../../../collector/web/exposition/text.ts";
import { parseExposition, seriesId } from "../../e2e/exposition.ts";
import { key } from "../labels.ts";
import { pointsOf } from "./steps.ts";

const LIMITS = {
  proxies: 9,
  labelSets: 100,
  cells: 500,
  connections: 9,
  retireAfterMs: 1000,
  expireAfterMs: 3_600_000,
};

it.each<DestinationRule>(["certain", "all"])("are what /metrics shows (%s)", (rule) => {
  const clock = { nowMs: 1000 };
  const store = new SeriesStore(LIMITS, { wallMs: () => clock.nowMs, steadyMs: () => clock.nowMs });
  const observe = (labelKey: string) =>
    store.observe({ proxy: "p", lifeMs: 0, labelKey, requests: 1, durationMs: 7, requestBytes: 3, responseBytes: 300 });
  let streamId = 0;
  const connect = (labelKey: string) => {
    const parts = [{ labelKey, counts: [1, 1, 70, 80] }];
    const id = String(++streamId);
    store.observeConnection({ proxy: "p", lifeMs: 0, connectionId: 0, streamId: id, isOver: true, parts });
  };
  const destination = { reporter: "destination", destination_workload: "db", destination_service: 'a "b"\\' };
  const tcp = { ...destination, response_code: "", grpc_response_status: "" };
  observe(key({ reporter: "source", source_workload: "gone" }));
  store.http.takeChanged();
  clock.nowMs += 2 * LIMITS.expireAfterMs;
  observe(key({ reporter: "source", source_workload: "web" }));
  for (const mark of [null, "+", "?"] as const) {
    observe(withMark(key(destination), mark));
    observe(withMark(key({ ...destination, source_workload: "job" }), mark));
    connect(withMark(key(tcp), mark));
  }
  connect(key({ ...tcp, reporter: "source" }));

  const exposition = parseExposition(
    Array.from(new TextTraffic(new TrafficFamilies(store, rule), "text").render(), String).join(""),
  );
  const shown = exposition
    .filter(({ name }) => !/_(bucket|sum)$/.test(name))
    .map(({ name, labels, value }) => {
      const told = Object.fromEntries(Object.entries(labels).filter(([, each]) => each !== ""));
      return [seriesId({ name, labels: told, value }), value];
    });
  const sent = [...pointsOf(new SeriesPoints(store, rule).points(() => true))].map(
    ({ family, labels, value, spread }) => {
      const name = spread === null ? family.name : `${family.name}_count`;
      const number = spread === null ? value : spread.count;
      return [seriesId({ name, labels: Object.fromEntries(labels.pairs), value: 0 }), number];
    },
  );
  expect(sent.length).toBeGreaterThan(25);
  expect(new Set(sent.map(([id]) => id)).size).toBe(sent.length);
  expect(Object.fromEntries(sent)).toEqual(Object.fromEntries(shown));
  expect(JSON.stringify(sent)).not.toContain("gone");
});

it("has the bounds that are shown, and no others, each as it is among all", () => {
  const store = new SeriesStore(LIMITS, undefined, { shapes: shapesOf(new HistogramBounds([1, 7.5, 33, 123, 5000])) });
  for (const durationMs of [0, 7, 8, 129, 130, 9000]) {
    const labelKey = key({ reporter: "source" });
    store.observe({ proxy: "p", lifeMs: 0, labelKey, requests: 1, durationMs, requestBytes: 33, responseBytes: -1 });
  }
  const steps = new SeriesPoints(store, "certain", [[], [7.5, 123], [33]]).points((name) => name.startsWith("istio"));
  const spreads = Array.from(pointsOf(steps), ({ family, spread }) => [
    family.name,
    spread && [spread.marks, Array.from(spread.values)],
  ]);
  expect(spreads).toEqual([
    ["istio_requests_total", null],
    [
      "istio_request_duration_milliseconds",
      [
        ["7.5", "123"],
        [2, 4, 6],
      ],
    ],
    ["istio_request_bytes", [["33"], [6, 6]]],
  ]);
});
