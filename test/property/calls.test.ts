// Entries with one fingerprint are analysed once: whatever is in an entry, it is counted, and added to the indicators, as if it were alone.

import { expect, test } from "vitest";
import { Analyser } from "../../collector/analysis/analyse.ts";
import { Calls } from "../../collector/analysis/calls.ts";
import type { Side } from "../../collector/analysis/side.ts";
import { Indicators, UNKNOWN_SERVICE } from "../../collector/indicators/indicators.ts";
import { Field } from "../../collector/indicators/measures.ts";
import { decodeAlsMessage } from "../../collector/proto/als.ts";
import { AlsDecoder, type RecordSink } from "../../collector/record/from-als.ts";
import type { AccessRecord } from "../../collector/record/record.ts";
import { encodeMessage } from "../fixtures/als.ts";
import { pick, type Random, randomMessage } from "../fixtures/als-random.ts";
import { random } from "./random.ts";

const SEED = 20_261_121;
const ROUNDS = 6000;
const BASES = 60;

const SOMEBODY = {
  nodeId: "router~10.0.0.1~gateway.ns~ns.svc.cluster.local",
  logName: "gateway",
  metadata: {
    texts: new Map([["namespace", "ns"]]),
    labels: new Map([["service.istio.io/canonical-name", "gateway"]]),
  },
};

/** One byte of it changed, or none: most of what differs between two entries is a number. */
function vary(draw: Random, bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  if (draw() < 0.3) return copy;
  const at = Math.floor(draw() * bytes.length);
  copy[at] = pick(draw, [0, 1, 0x7f, (copy[at] ?? 0) + 1, (copy[at] ?? 0) ^ (1 << Math.floor(draw() * 8))]);
  return copy;
}

function into(records: AccessRecord[]): RecordSink {
  return (record) => {
    records.push(record);
    return null;
  };
}

interface Sums {
  calls: number;
  failures: number;
  timed: number;
  latencyMs: number;
  requestBytes: number;
  responseBytes: number;
  flags: Record<string, number>;
}

class Oracle {
  readonly sums = new Map<string, Sums>();

  add(side: Side): void {
    const { detectPoint, source, destination, endpoint } = side;
    const service = destination.service ?? UNKNOWN_SERVICE;
    this.addTo(["service", service, detectPoint], side);
    this.addTo(["edge", source.service ?? UNKNOWN_SERVICE, service, detectPoint], side);
    if (detectPoint !== "server") return;
    if (destination.instance !== null) this.addTo(["instance", service, destination.instance], side);
    if (endpoint !== null) this.addTo(["endpoint", service, endpoint], side);
  }

  private addTo(subject: readonly string[], side: Side): void {
    const key = JSON.stringify(subject);
    const sums = this.sums.get(key) ?? {
      calls: 0,
      failures: 0,
      timed: 0,
      latencyMs: 0,
      requestBytes: 0,
      responseBytes: 0,
      flags: {},
    };
    this.sums.set(key, sums);
    sums.calls++;
    if (!side.success) sums.failures++;
    if (side.latencyMs !== null) {
      sums.timed++;
      sums.latencyMs += side.latencyMs;
    }
    sums.requestBytes += side.requestBytes ?? 0;
    sums.responseBytes += side.responseBytes ?? 0;
    for (const flag of side.flags) sums.flags[flag] = (sums.flags[flag] ?? 0) + 1;
  }
}

test(`${ROUNDS} messages, alike but for a byte: as counted one by one (seed ${SEED})`, () => {
  const draw = random(SEED);
  const bases = Array.from({ length: BASES }, () => encodeMessage(randomMessage(draw)));
  const taken: AccessRecord[] = [];
  const indicators = new Indicators({
    limit: 100_000,
    endpointsPerService: 10_000,
    lateAfterMs: 60_000,
    retireAfterMs: 60_000,
  });
  indicators.slotOf = () => 1000; // all times are random
  const calls = new Calls({ sink: into(taken), connectionSink: () => null, indicators });
  const decoder = new AlsDecoder();
  const analyser = new Analyser();
  const oracle = new Oracle();
  let entries = 0;

  for (let round = 0; round < ROUNDS; round++) {
    const bytes = vary(draw, pick(draw, bases));
    const message = decodeAlsMessage(bytes);
    if (message === null) continue;
    const sender = calls.identify(message.identifier ?? SOMEBODY);
    for (let i = 0; i + 1 < message.httpEntries.length; i += 2) {
      const [start, stop] = [message.httpEntries[i] as number, message.httpEntries[i + 1] as number];
      const expected: AccessRecord[] = [];
      const origin = decoder.decode(bytes, start, stop, sender, into(expected));
      taken.length = 0;
      expect(calls.takeHttp(bytes, start, stop, sender)).toBe(origin);
      expect(taken).toEqual(expected);
      for (const side of analyser.analyseHttp(bytes, start, stop, sender)) oracle.add(side);
      entries++;
    }
  }

  expect(entries).toBeGreaterThan(ROUNDS);
  expect(oracle.sums.size).toBeGreaterThan(80);
  const subjects = (["service", "instance", "endpoint", "edge"] as const).flatMap((kind) => [
    ...indicators.subjects.all(kind),
  ]);
  expect(subjects.length).toBe(oracle.sums.size);
  for (const { kind, labels, indicator } of subjects) {
    const key = JSON.stringify([kind, ...labels]);
    const totals = indicator.totals();
    const { latencyMs, ...sums } = oracle.sums.get(key) ?? expect.fail(`nobody called ${key}`);
    const measured = {
      calls: totals[Field.Calls],
      failures: totals[Field.Failures],
      timed: totals[Field.Timed],
      requestBytes: totals[Field.RequestBytes],
      responseBytes: totals[Field.ResponseBytes],
      flags: Object.fromEntries(indicator.flags),
    };
    expect([key, measured]).toEqual([key, sums]);
    const floored = (totals[Field.LatencyNs] as number) / 1e6 - latencyMs; // a side's latency is whole milliseconds
    expect(floored).toBeGreaterThanOrEqual(-1e-6 * latencyMs - 1e-6);
    expect(floored).toBeLessThanOrEqual(sums.timed + 1e-6 * latencyMs);
  }
});
