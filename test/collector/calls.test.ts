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
