// Entries with one fingerprint are analysed once: whatever is in an entry, it is counted, and added to the indicators, as if it were alone.

import { expect, test } from "vitest";
import { Analyser, defaultRules, type ServiceRules } from "../../collector/analysis/analyse.ts";
import { ApdexThresholds } from "../../collector/analysis/apdex.ts";
import { Calls } from "../../collector/analysis/calls.ts";
import { Endpoints } from "../../collector/analysis/endpoints.ts";
import { defaultIdentities, type Identities } from "../../collector/analysis/parties.ts";
import { SuccessPolicies } from "../../collector/analysis/policy.ts";
import type { Side } from "../../collector/analysis/side.ts";
import { ANALYZERS } from "../../collector/identity/chain.ts";
import { Indicators, UNKNOWN_SERVICE } from "../../collector/indicators/indicators.ts";
import { Field } from "../../collector/indicators/measures.ts";
import { decodeAlsMessage } from "../../collector/proto/als.ts";
import { AlsDecoder, type RecordSink } from "../../collector/record/from-als.ts";
import type { AccessRecord } from "../../collector/record/record.ts";
import { indexOf, node, pod, RULES, service, slice } from "../collector/identity/cluster.ts";
import { encodeMessage, type Fields } from "../fixtures/als.ts";
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

// === who is at an address, by Kubernetes objects ===

const NODE = "192.168.1.10";
const HOST_PORTS = { containers: [{ ports: [{ containerPort: 80, hostPort: 8080 }] }] };
const LOOKUP = indexOf([
  pod("web-1", ["10.0.0.1"], { labels: { app: "web" } }),
  pod("reviews-1", ["10.0.0.2"], { labels: { app: "reviews" } }),
  pod("ingress-1", ["10.0.0.3"], { labels: { app: "ingress" }, spec: HOST_PORTS, hostIP: NODE }),
  node(NODE),
  service("reviews", "10.96.0.2"),
  slice("reviews", ["10.0.0.2"]),
]);

function randomAddress(draw: Random): Fields {
  const address = pick(draw, ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.96.0.2", NODE, "10.9.9.9", ""]);
  return pick(draw, [
    { socketAddress: { address, portValue: pick(draw, [80, 8080, 30_080, 41_000]) } },
    { envoyInternalAddress: { serverListenerName: "x", endpointId: `${address}:8080` } },
    { pipe: { path: "/run/a.sock" } },
    {},
  ]);
}

/** A sidecar of the service that is called. */
const REVIEWS = { node: { id: "sidecar~10.0.0.2~reviews-1.default~default.svc.cluster.local" } };

const ADDRESS_FIELDS = [
  "downstreamRemoteAddress",
  "downstreamLocalAddress",
  "upstreamRemoteAddress",
  "downstreamDirectRemoteAddress",
];

/** The message, all its entries with the addresses of a drawn call. */
function withAddresses(draw: Random, message: Fields): Fields {
  const addresses: Record<string, Fields> = {};
  for (const name of ADDRESS_FIELDS) if (draw() < 0.7) addresses[name] = randomAddress(draw);
  const { logEntry = [] } = (message["httpLogs"] ?? {}) as { logEntry?: Fields[] };
  const entries = logEntry.map((entry) => {
    const common = { ...((entry["commonProperties"] ?? {}) as Fields), ...addresses };
    return { ...entry, commonProperties: common };
  });
  return { ...message, httpLogs: { logEntry: entries } };
}

const KUBERNETES: Identities = { analyzers: ANALYZERS, lookup: LOOKUP, rules: RULES };
const CONFIGURED: ServiceRules = {
  policies: new SuccessPolicies([
    { name: "reviews.*", tolerance: [{ code: "404", protocol: "http", direction: "inbound", failure: 10 }] },
    { tolerance: [{ code: "-", failure: 1 }] },
  ]),
  endpoints: new Endpoints({ rules: [{ path: "/a/{name}", endpoint: "a" }], openapi: [] }),
  apdex: new ApdexThresholds({ thresholdNs: 500e6, services: [] }),
};

interface Setting {
  readonly name: string;
  readonly identities: Identities;
  readonly rules: ServiceRules;
  /** Messages that differ from one another. */
  readonly bases: (draw: Random) => Buffer[];
}

const SETTINGS: readonly Setting[] = [
  {
    name: "by what proxies tell",
    identities: defaultIdentities(),
    rules: defaultRules(),
    bases: (draw) => Array.from({ length: BASES }, () => encodeMessage(randomMessage(draw))),
  },
  {
    name: "by addresses, with rules",
    identities: KUBERNETES,
    rules: CONFIGURED,
    bases: (draw) =>
      Array.from({ length: BASES / 6 }, () => randomMessage(draw)).flatMap((message) =>
        Array.from({ length: 10 }, () => encodeMessage(withAddresses(draw, message))),
      ),
  },
  {
    name: "by addresses alone",
    identities: { ...KUBERNETES, analyzers: ["k8s-mesh"] },
    rules: CONFIGURED,
    bases: (draw) =>
      Array.from({ length: BASES / 6 }, () => randomMessage(draw)).flatMap((message) =>
        Array.from({ length: 10 }, () => encodeMessage(withAddresses(draw, message))),
      ),
  },
];

/** Calls, and beside it whoever looks at each entry as if it were alone. */
class Comparison {
  readonly oracle = new Oracle();
  entries = 0;
  private readonly taken: AccessRecord[] = [];
  private readonly indicators = new Indicators({
    limit: 100_000,
    endpointsPerService: 10_000,
    lateAfterMs: 60_000,
    retireAfterMs: 60_000,
  });
  private readonly calls: Calls;
  private readonly decoder: AlsDecoder;
  private readonly analyser: Analyser;

  constructor({ identities, rules }: Pick<Setting, "identities" | "rules">) {
    const { indicators, taken } = this;
    indicators.slotOf = () => 1000; // all times are random
    this.calls = new Calls({ sink: into(taken), connectionSink: () => null, indicators, identities, rules });
    this.decoder = new AlsDecoder(identities);
    this.analyser = new Analyser(Date.now, identities, rules);
  }

  take(bytes: Buffer): void {
    const message = decodeAlsMessage(bytes);
    if (message === null) return;
    const sender = this.calls.identify(message.identifier ?? SOMEBODY);
    for (let i = 0; i + 1 < message.httpEntries.length; i += 2) {
      const [start, stop] = [message.httpEntries[i] as number, message.httpEntries[i + 1] as number];
      const expected: AccessRecord[] = [];
      const origin = this.decoder.decode(bytes, start, stop, sender, into(expected));
      this.taken.length = 0;
      expect(this.calls.takeHttp(bytes, start, stop, sender)).toBe(origin);
      expect(this.taken).toEqual(expected);
      for (const side of this.analyser.analyseHttp(bytes, start, stop, sender)) this.oracle.add(side);
      this.entries++;
    }
  }

  expectEqual(): void {
    const kinds = ["service", "instance", "endpoint", "edge"] as const;
    const subjects = kinds.flatMap((kind) => [...this.indicators.subjects.all(kind)]);
    expect(subjects.map(({ kind, labels }) => JSON.stringify([kind, ...labels])).sort()).toEqual(
      [...this.oracle.sums.keys()].sort(),
    );
    for (const { kind, labels, indicator } of subjects) {
      const key = JSON.stringify([kind, ...labels]);
      const totals = indicator.totals();
      const { latencyMs, ...sums } = this.oracle.sums.get(key) ?? expect.fail(`nobody called ${key}`);
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
  }
}

test.each(SETTINGS)(
  `${ROUNDS} messages, alike but for a byte, $name: as counted one by one (seed ${SEED})`,
  (setting) => {
    const draw = random(SEED);
    const bases = setting.bases(draw);
    const comparison = new Comparison(setting);
    for (let round = 0; round < ROUNDS; round++) comparison.take(vary(draw, pick(draw, bases)));
    expect(comparison.entries).toBeGreaterThan(ROUNDS);
    expect(comparison.oracle.sums.size).toBeGreaterThan(50);
    comparison.expectEqual();
  },
);

const at = (address: string, portValue: number) => ({ socketAddress: { address, portValue } });
const asked = (requestMethod: number, addresses: Fields = {}) => ({
  commonProperties: { upstreamCluster: "inbound|80||", ...addresses },
  request: { requestMethod, path: "/a", authority: "reviews" },
});
const from = (addresses: Fields) => asked(1, addresses);
const web = { downstreamRemoteAddress: at("10.0.0.1", 1) };

test.each([
  [
    "a client's port",
    from({ downstreamRemoteAddress: at(NODE, 8080) }),
    from({ downstreamRemoteAddress: at(NODE, 9) }),
  ],
  ["an address that says nothing", from(web), from({ ...web, downstreamDirectRemoteAddress: {} })],
  ["a method that nobody knows", asked(1), asked(257)],
])("two entries that differ in %s alone", (_, one, other) => {
  for (const pair of [
    [one, other],
    [other, one],
  ]) {
    const comparison = new Comparison({
      identities: { ...KUBERNETES, analyzers: ["k8s-mesh"] },
      rules: defaultRules(),
    });
    for (const entry of [...pair, ...pair]) {
      const whole = { ...entry, response: { responseCode: { value: 200 } } };
      comparison.take(encodeMessage({ identifier: REVIEWS, httpLogs: { logEntry: [whole] } }));
    }
    expect(comparison.entries).toBe(4);
    comparison.expectEqual();
  }
});
