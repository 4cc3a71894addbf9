// Bounds that proxies lack are told: counted for each reading, and logged when they change.

import { beforeEach, expect, test } from "vitest";
import { type Log, silentLog } from "../../collector/log.ts";
import { MetricsService } from "../../collector/receiver/metrics-service.ts";
import { MissingBounds } from "../../collector/receiver/missing-bounds.ts";
import { SelfMetrics } from "../../collector/self.ts";
import { HistogramBounds } from "../../collector/series/histogram.ts";
import { shapesOf } from "../../collector/series/shape.ts";
import { SinkProcess } from "../fixtures/metrics-sink.ts";

const BOUNDS = new HistogramBounds([5, 7.5, 33, 123]);
let self: SelfMetrics;
beforeEach(() => {
  self = new SelfMetrics(null);
});

async function counted(receiver: string): Promise<Record<string, number>> {
  const { values } = await self.missingBounds.get();
  const own = values.filter(({ labels }) => labels.receiver === receiver);
  return Object.fromEntries(own.map(({ labels, value }) => [labels.le, value]));
}

test("a bound is missing where it is shown, and counts once for each reading", async () => {
  const shown = [[], [5, 7.5], [33], [5, 7.5, 33, 123]];
  const missing = new MissingBounds("scrape", BOUNDS, shown, self);
  const found = [[], [1, 3], [1], [1]].map((indexes) => new Set(indexes));
  const expected = { istio_request_duration_milliseconds: [7.5], istio_response_bytes: [7.5] };
  expect(missing.count(found)).toEqual(expected);
  expect(missing.count(found)).toEqual(expected);
  expect(missing.count([new Set(), new Set([3]), new Set([0]), new Set()])).toEqual({});
  expect(await counted("scrape")).toEqual({ 7.5: 2 });
});

test("a proxy that reports to the metrics service is told of once, and again when it lacks others", async () => {
  const warned: object[] = [];
  const log: Log = { ...silentLog, warn: (fields) => warned.push(fields) };
  const limits = { maxStreams: 9, maxProxies: 9, maxLabelSets: 99, forgetAfterMs: 600_000 };
  const messages = { bytes: 1 << 20, key: "" };
  const service = new MetricsService({ ...limits, messages, shapes: shapesOf(BOUNDS), sink: () => "ok", self, log });
  const process = new SinkProcess("p", 1000, shapesOf(new HistogramBounds([5, 33])));
  process.request({ reporter: "source" });
  const stream = service.open({ text: () => "" });
  for (let flush = 1; flush <= 3; flush++) {
    for (const message of process.flush(flush * 1000, {}, flush === 1)) stream?.message(message);
  }
  stream?.end("completed");
  const lacks = [7.5, 123];
  const missing = {
    istio_request_duration_milliseconds: lacks,
    istio_request_bytes: lacks,
    istio_response_bytes: lacks,
  };
  expect(warned).toEqual([{ proxy: "p", missing, suppressed: 0 }]);
  expect([...service.accounts.named].map(({ missingBounds }) => missingBounds)).toEqual([missing]);
  expect(await counted("metrics_service")).toEqual({ 7.5: 3, 123: 3 });
});
