// What of an access log goes to the store: ends alone, and no fault of hostile bytes.

import { describe, expect, it } from "vitest";
import { Analyser } from "../../../collector/analysis/analyse.ts";
import { Calls } from "../../../collector/analysis/calls.ts";
import { LogIntake } from "../../../collector/logs/intake.ts";
import type { LogRecord } from "../../../collector/logs/record.ts";
import { DEFAULT_REDACTED_HEADERS } from "../../../collector/logs/redact.ts";
import type { LogRuleSettings } from "../../../collector/logs/rules.ts";
import { decodeAlsMessage } from "../../../collector/proto/als.ts";
import { identifySender } from "../../../collector/resolver/attribution.ts";
import { SelfMetrics } from "../../../collector/self.ts";
import { encodeEntry, encodeMessage, type Fields } from "../../fixtures/als.ts";
import { randomMessage } from "../../fixtures/als-random.ts";
import { random } from "../../property/random.ts";

const DEFAULTS: LogRuleSettings = {
  errors: true,
  flagged: true,
  tokens: 10_000,
  slowMs: 1000,
  sample: 0,
  perMinute: 6000,
};
const SENDER = identifySender({
  nodeId: "sidecar~10.0.0.1~web-1.ns1~ns1.svc.cluster.local",
  logName: "outbound",
  metadata: { texts: new Map([["namespace", "ns1"]]), labels: new Map([["app", "web"]]) },
});

function forEach(spans: readonly number[], take: (start: number, stop: number) => void): void {
  for (let i = 0; i < spans.length; i += 2) take(spans[i] as number, spans[i + 1] as number);
}

function intake(settings: Partial<LogRuleSettings> = {}, hasRoom = true) {
  const records: LogRecord[] = [];
  const self = new SelfMetrics("test");
  const logs = new LogIntake({
    rules: { ...DEFAULTS, ...settings },
    redact: { headers: DEFAULT_REDACTED_HEADERS, query: true },
    analyser: new Analyser(),
    store: { add: (record) => hasRoom && records.push(record) > 0 },
    self,
  });
  const calls = new Calls({ sink: () => null, connectionSink: () => null, indicators: null, log: logs });
  const take = (fields: Fields | Buffer, sender = SENDER) => {
    const bytes = Buffer.isBuffer(fields) ? fields : encodeMessage(fields);
    const message = decodeAlsMessage(bytes);
    calls.begin(Date.now());
    forEach(message?.httpEntries ?? [], (start, stop) => calls.takeHttp(bytes, start, stop, sender));
    forEach(message?.tcpEntries ?? [], (start, stop) => calls.takeTcp(bytes, start, stop, sender));
  };
  const dropped = async (rule: string, reason: string) => {
    const { values } = await self.logRecordsDropped.get();
    return values.find(({ labels }) => labels["rule"] === rule && labels["reason"] === reason)?.value;
  };
  return { logs, records, take, dropped };
}

const http = (entry: Fields): Fields => ({ httpLogs: { logEntry: [entry] } });
const tcp = (entry: Fields): Fields => ({ tcpLogs: { logEntry: [entry] } });
const answer = (value: number) => ({ request: { authority: "a", path: "/" }, response: { responseCode: { value } } });

const tokens = (input: string, output: string): Fields => ({
  ...answer(200),
  commonProperties: { customTags: { "gen_ai.usage.input_tokens": input, "gen_ai.usage.output_tokens": output } },
});

describe("what is kept", () => {
  it.each<[string, Fields, number]>([
    ["a failed call", http(answer(503)), 1],
    ["an answered one", http(answer(200)), 0],
    ["one without an answer", http({ request: { authority: "a", path: "/" } }), 1],
    ["one that was slow", http({ ...answer(200), commonProperties: { duration: { seconds: 1 } } }), 1],
    ["one of many tokens", http(tokens("9000", "1000")), 1],
    ["one of fewer", http(tokens("9000", "999")), 0],
    ["one that does not say how many", http(tokens("many", "-1")), 0],
    ["one that has not ended", http({ ...answer(503), commonProperties: { accessLogType: 5 } }), 0],
    ["a part of one", http({ ...answer(503), commonProperties: { accessLogType: 9 } }), 0],
    [
      "a gRPC status",
      http({
        request: { authority: "a" },
        response: { responseCode: { value: 200 }, responseTrailers: { "grpc-status": "14" } },
      }),
      1,
    ],
    ["a connection", tcp({ commonProperties: { accessLogType: 3 } }), 0],
    [
      "a connection that failed",
      tcp({ commonProperties: { accessLogType: 3, responseFlags: { noHealthyUpstream: true } } }),
      1,
    ],
    [
      "one that goes on",
      tcp({ commonProperties: { accessLogType: 2, responseFlags: { noHealthyUpstream: true } } }),
      0,
    ],
    ["a long connection", tcp({ commonProperties: { accessLogType: 3, duration: { seconds: 3600 } } }), 0],
  ])("%s", (_, message, count) => {
    const { take, records } = intake();
    take(message);
    expect(records).toHaveLength(count);
  });

  it("is counted as lost when the store has no room, by the rule that kept it", async () => {
    const { take, records, dropped } = intake({}, false);
    take({ httpLogs: { logEntry: [answer(503), answer(200), answer(500)] } });
    expect(records).toEqual([]);
    expect(await dropped("error", "queue_full")).toBe(2);
  });

  it("is each service's own share: who fails much leaves others theirs", () => {
    const { take, records } = intake({ perMinute: 3 });
    const bytes = encodeMessage({ httpLogs: { logEntry: Array.from({ length: 10 }, () => answer(503)) } });
    const other = identifySender({ nodeId: "other", logName: "", metadata: { texts: new Map(), labels: new Map() } });
    for (const sender of [SENDER, other]) take(bytes, sender);
    expect([3, 6]).toContain(records.filter(({ proxy }) => proxy === SENDER.id).length); // a minute may end in between
    expect([3, 6]).toContain(records.filter(({ proxy }) => proxy === "other").length);
  });
});

it("a caller that knows the facts already may offer an entry: the rules decide by what it says", async () => {
  const { logs, records, dropped } = intake();
  const bytes = encodeEntry(answer(200));
  const call = {
    protocol: "http",
    code: 200,
    grpcStatus: null,
    flags: [],
    latencyMs: 1,
    tokens: 0,
    success: true,
  } as const;
  const nowMs = 1_767_225_600_000;
  logs.offer(bytes, 0, bytes.length, true, SENDER, { ...call, nowMs });
  expect(records).toEqual([]);
  logs.offer(bytes, 0, bytes.length, true, SENDER, { ...call, latencyMs: 2000, nowMs });
  expect(records).toMatchObject([{ reason: "slow", arrivalMs: nowMs, timeMs: nowMs, code: 200 }]);
  logs.offer(Buffer.from([255]), 0, 1, true, SENDER, { ...call, code: 503, nowMs });
  expect(await dropped("error", "not_analysed")).toBe(1);
});

it("nothing that an access logger sends makes it fail, and records are those of the sides", () => {
  const next = random(23);
  const { take, records } = intake({ sample: 1, perMinute: 1_000_000 });
  let sides = 0;
  for (let i = 0; i < 400; i++) {
    const bytes = encodeMessage(randomMessage(next));
    if (next() < 0.6) for (let flips = 0; flips < 5; flips++) bytes[Math.floor(next() * bytes.length)] = next() * 256;
    const message = decodeAlsMessage(bytes);
    take(bytes);
    if (message === null) continue;
    const analyser = new Analyser();
    for (let at = 0; at < message.httpEntries.length; at += 2) {
      sides += analyser.analyseHttp(
        bytes,
        message.httpEntries[at] ?? 0,
        message.httpEntries[at + 1] ?? 0,
        SENDER,
      ).length;
    }
  }
  const ofHttp = records.filter(({ protocol }) => protocol !== "tcp");
  expect(sides).toBeGreaterThan(50);
  expect(ofHttp).toHaveLength(sides);
  for (const { text, timeMs, body } of records) {
    expect(text).not.toMatch(/[\r\n]/);
    expect(Number.isInteger(timeMs)).toBe(true);
    expect(typeof JSON.parse(body)).toBe("object");
  }
});
