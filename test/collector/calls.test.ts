// What is remembered of calls, and until when. That it is right while it is remembered: test/property/calls.test.ts.

import { expect, test } from "vitest";
import { Calls } from "../../collector/analysis/calls.ts";
import { Indicators } from "../../collector/indicators/indicators.ts";
import { Field } from "../../collector/indicators/measures.ts";
import type { SubjectKind } from "../../collector/indicators/subjects.ts";
import { bytesState, encodeEntry, encodeTcpEntry, lengthDelimited } from "../fixtures/als.ts";
import { encodeObservation, encodeTcpObservation, tcpLabels } from "../fixtures/observation.ts";
import { values } from "./labels.ts";

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

test("of a TCP connection that two access loggers tell of, each byte counts once, and it opens and ends once", () => {
  const indicators = new Indicators({
    limit: 10,
    endpointsPerService: 10,
    lateAfterMs: MINUTE_MS,
    retireAfterMs: 10 * MINUTE_MS,
  });
  let kept = 0;
  const calls = new Calls({
    sink: () => null,
    connectionSink: () => null,
    indicators,
    log: { offer: () => kept++ },
  });
  const sender = calls.identify({
    nodeId: "sidecar~web-1",
    logName: "inbound",
    metadata: {
      texts: new Map([["namespace", "default"]]),
      labels: new Map([["service.istio.io/canonical-name", "db"]]),
    },
  });
  const startTime = { seconds: Math.ceil(Date.now() / 1000) }; // before the first it was seen by nobody
  const tell = (receivedBytes: number, accessLogType: "TcpPeriodic" | "TcpConnectionEnd") => {
    const bytes = encodeTcpEntry({
      commonProperties: {
        upstreamCluster: "inbound|80||",
        streamId: "7f",
        startTime,
        accessLogType: accessLogType === "TcpPeriodic" ? 2 : 3,
        responseFlags: { upstreamRequestTimeout: true },
      },
      connectionProperties: { receivedBytes, sentBytes: 0 },
    });
    calls.begin(NOW_MS, "als");
    return calls.takeTcp(bytes, 0, bytes.length, sender);
  };
  tell(100, "TcpPeriodic");
  tell(90, "TcpPeriodic"); // the other logger's, which lags behind
  tell(110, "TcpPeriodic");
  tell(120, "TcpConnectionEnd");
  tell(115, "TcpPeriodic");
  expect(tell(120, "TcpConnectionEnd")).toBe("derived"); // the series tell one from another by themselves
  const [service] = indicators.subjects.all("service");
  const totals = service?.indicator.totals() ?? [];
  expect([totals[Field.Connections], totals[Field.ReceivedBytes]]).toEqual([1, 120]);
  expect(kept).toBe(1);
});

test("an entry that is malformed beyond its observation is counted, and told to be in no indicator", () => {
  const records: unknown[] = [];
  const calls = new Calls({
    sink: (record) => {
      records.push(record);
      return null;
    },
    connectionSink: () => null,
    indicators: null,
  });
  const sender = calls.identify({
    nodeId: "sidecar~web-1",
    logName: "inbound",
    metadata: { texts: new Map(), labels: new Map() },
  });
  const numbers = { startMs: 1, durationMs: 5, requestBytes: 7, responseBytes: 9 };
  const observed = (observation: Buffer) => ({
    commonProperties: { filterStateObjects: { "wasm.meshtally.observation": bytesState(observation) } },
  });
  const http = encodeEntry(observed(encodeObservation({ ...numbers, labels: values() })));
  const tcp = encodeTcpEntry(
    observed(
      encodeTcpObservation({
        startMs: 1,
        connectionId: 1,
        parts: [{ sentBytes: 1, receivedBytes: 1, labels: tcpLabels(values()) }],
      }),
    ),
  );
  const broken = lengthDelimited(3, Buffer.from([0x0a, 0x7f])); // a text that is longer than what it is in
  calls.begin(NOW_MS);
  for (const [whole, take] of [
    [http, calls.takeHttp],
    [tcp, calls.takeTcp],
  ] as const) {
    const bytes = Buffer.concat([whole, broken]);
    expect(take.call(calls, whole, 0, whole.length, sender)).toBe("observation");
    const before = calls.notAnalysed;
    expect(take.call(calls, bytes, 0, bytes.length, sender)).toBe("observation");
    expect(calls.notAnalysed).toBe(before + 1);
  }
  expect(records).toHaveLength(2);
  calls.begin(NOW_MS);
  expect(calls.notAnalysed).toBe(0);
});
