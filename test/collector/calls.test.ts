// What is remembered of calls, and until when. That it is right while it is remembered: test/property/calls.test.ts.

import { expect, test } from "vitest";
import { Calls } from "../../collector/analysis/calls.ts";
import { Indicators } from "../../collector/indicators/indicators.ts";
import { Field } from "../../collector/indicators/measures.ts";
import type { SubjectKind } from "../../collector/indicators/subjects.ts";
import { encodeEntry } from "../fixtures/als.ts";

const NOW_MS = 1_767_225_600_000;
const MINUTE_MS = 60_000;

test("who was one of many others for want of room has a place of its own once there is room", () => {
  const indicators = new Indicators({
    limit: 1,
    endpointsPerService: 1,
    lateAfterMs: MINUTE_MS,
    retireAfterMs: 10 * MINUTE_MS,
  });
  const calls = new Calls({ sink: () => null, connectionSink: () => null, indicators });
  const call = (service: string, nowMs: number) => {
    const labels = new Map([["service.istio.io/canonical-name", service]]);
    const texts = new Map([["namespace", "default"]]);
    const sender = calls.identify({ nodeId: `sidecar~${service}`, logName: "inbound", metadata: { texts, labels } });
    const bytes = encodeEntry({
      commonProperties: { upstreamCluster: "inbound|80||" },
      request: { requestMethod: 1, path: `/${service}` },
      response: { responseCode: { value: 200 } },
    });
    calls.begin(nowMs);
    expect(calls.takeHttp(bytes, 0, bytes.length, sender)).toBe("derived");
  };
  const held = (kind: SubjectKind) => [...indicators.subjects.all(kind)].map(({ labels }) => labels.join(" "));

  call("web", NOW_MS);
  call("reviews", NOW_MS);
  expect(held("service")).toEqual(["web.default server", "other server"]);
  const laterMs = NOW_MS + 20 * MINUTE_MS;
  call("reviews", laterMs);
  indicators.retireIdle(laterMs);
  expect(held("service")).toEqual(["other server"]);
  expect(held("endpoint")).toEqual(["other other"]);
  call("reviews", laterMs);
  expect(held("service")).toEqual(["other server", "reviews.default server"]);
  expect(held("endpoint")).toEqual(["other other", "reviews.default GET:/reviews"]);
  const counts = [...indicators.subjects.all("service")].map(({ indicator }) => indicator.totals()[Field.Calls]);
  expect(counts).toEqual([2, 1]);
});

test("requests with one x-request-id are as many as there are proxies and beginnings, on both ways once", () => {
  const indicators = new Indicators({
    limit: 10,
    endpointsPerService: 10,
    lateAfterMs: MINUTE_MS,
    retireAfterMs: 10 * MINUTE_MS,
  });
  const calls = new Calls({ sink: () => null, connectionSink: () => null, indicators, expectsOtlp: true });
  const call = (proxy: string, nanos: number, way: "als" | "otlp") => {
    const labels = new Map([["service.istio.io/canonical-name", "web"]]);
    const texts = new Map([["namespace", "default"]]);
    const sender = calls.identify({ nodeId: proxy, logName: "inbound", metadata: { texts, labels } });
    const startTime = { seconds: NOW_MS / 1000, nanos };
    const bytes = encodeEntry({
      commonProperties: { upstreamCluster: "inbound|80||", streamId: "4a1c", startTime },
      request: { requestMethod: 1, path: "/" },
      response: { responseCode: { value: 200 } },
    });
    calls.begin(NOW_MS, way);
    calls.takeHttp(bytes, 0, bytes.length, sender);
  };
  for (const way of ["als", "otlp"] as const) {
    call("sidecar~web-1", 1000, way);
    call("sidecar~web-1", 2000, way);
    call("sidecar~web-2", 1000, way);
  }
  const [service] = indicators.subjects.all("service");
  expect(service?.indicator.totals()[Field.Calls]).toBe(3);
});
