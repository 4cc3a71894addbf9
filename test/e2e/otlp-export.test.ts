// OTLP metrics into OpenTelemetry's own receiver, over HTTP and gRPC: what its Prometheus exporter makes of them is what /metrics shows, though
// it refuses some requests.

import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { loadConfig } from "../../collector/config/load.ts";
import { silentLog } from "../../collector/log.ts";
import { OTLP_PROTOCOLS, type OtlpProtocol } from "../../collector/out/settings.ts";
import { startCollector } from "../../collector/pipeline.ts";
import { HISTOGRAM_BOUNDS } from "../../collector/vocabulary.ts";
import { OtlpMetricsReceiver, type TakenMetric, type TakenPoint, type TakenRequest } from "../tools/otlp-receiver.ts";
import { parseExposition, type Sample } from "./exposition.ts";
import { countedOf, own, shownBy, startLogger, until } from "./sending.ts";

const INTERVAL_MS = 200;
const ROUNDS = 8;
/** Every so many requests one is refused. */
const REFUSE = 3;
const CUMULATIVE = 2;
const MS_AS_NANOS = 1_000_000n;
/** With modules to download and to compile. */
const START_TIMEOUT_MS = 400_000;

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function start(protocol: OtlpProtocol, skip: (reason: string) => void) {
  const { receiver, missing } = await OtlpMetricsReceiver.start(REFUSE);
  if (receiver === null) {
    skip(missing);
    throw new Error(missing);
  }
  closers.push(() => receiver.stop());
  const defaults = loadConfig({ path: null, env: {} });
  const address = { host: "127.0.0.1", port: 0 };
  const settings = {
    name: protocol,
    url: receiver.urls[protocol],
    protocol,
    access: { headers: [], basic: null, bearer: null },
    tls: { ca: null, certificate: null, key: null },
    intervalMs: INTERVAL_MS,
    timeoutMs: 5000,
    maxSamples: 50,
    queue: { folder: null, maxBytes: 2 ** 26 },
    metrics: "istio_.*|mesh_.*",
    resourceAttributes: { "service.name": "meshtally", "deployment.environment": "test" },
  };
  const config = { ...defaults, grpc: { ...defaults.grpc, address }, http: { address }, otlpExport: [settings] };
  const collector = await startCollector(config, () => silentLog);
  closers.push(() => collector.stop());
  return { receiver, collector };
}

/** Without what the receiver adds of resource and scope. */
function takenOf(text: string): Map<string, number> {
  const plain = ({ labels, ...sample }: Sample): Sample => {
    expect(labels["job"]).toBe("meshtally");
    expect(labels["otel_scope_name"]).toBe("meshtally");
    const own = Object.entries(labels).filter(([name]) => !/^(job|otel_scope_.*)$/.test(name));
    return {
      ...sample,
      labels: Object.fromEntries(own.map(([name, value]) => [name, name === "le" ? bound(value) : value])),
    };
  };
  const ours = parseExposition(text).filter(({ name }) => /^(istio|mesh)_/.test(name));
  return countedOf(ours.map(plain));
}

/** Go writes "1.8e+06", we and Envoy "1800000". */
function bound(text: string): string {
  return text === "+Inf" ? text : String(Number(text));
}

function metricsOf(requests: readonly TakenRequest[]): TakenMetric[] {
  return requests.flatMap(({ resourceMetrics }) =>
    resourceMetrics.flatMap(({ scopeMetrics }) => scopeMetrics.flatMap(({ metrics }) => metrics)),
  );
}

/** Points by metric and attributes, in the order in which they came. */
function pointsBySeries(
  metrics: readonly TakenMetric[],
  pointsOf: (metric: TakenMetric) => readonly TakenPoint[],
): TakenPoint[][] {
  const series = new Map<string, TakenPoint[]>();
  for (const metric of metrics) {
    for (const point of pointsOf(metric)) {
      const key = `${metric.name} ${JSON.stringify(point.attributes)}`;
      series.set(key, [...(series.get(key) ?? []), point]);
    }
  }
  return [...series.values()];
}

describe.each(OTLP_PROTOCOLS)("OTLP metrics by %s", (protocol) => {
  it(
    "come to what /metrics shows, each request once, with their starts, bounds, units and resource",
    async ({ skip }) => {
      const beganMs = Date.now();
      const { receiver, collector } = await start(protocol, skip);
      const { log, close } = startLogger(collector);
      closers.push(close);
      for (let round = 0; round < ROUNDS; round++) {
        await log(20);
        await sleep(INTERVAL_MS);
      }
      const here = countedOf(await shownBy(collector));
      expect(here.size).toBeGreaterThan(50);
      const isTaken = async () => {
        const there = takenOf(await receiver.metrics());
        return here.size === there.size && [...here].every(([series, value]) => there.get(series) === value);
      };
      await until(isTaken);
      expect(takenOf(await receiver.metrics())).toEqual(here);
      expect(await own(collector, "meshtally_export_retries_total")).toBeGreaterThan(0);
      expect(await own(collector, "meshtally_export_samples_dropped_total")).toBe(0);

      const { requests } = receiver;
      for (const { resource, scopeMetrics } of requests.flatMap(({ resourceMetrics }) => resourceMetrics)) {
        expect(Object.fromEntries(resource.attributes.map(({ key, value }) => [key, value.stringValue]))).toEqual({
          "service.name": "meshtally",
          "deployment.environment": "test",
        });
        expect(scopeMetrics).toMatchObject([{ scope: { name: "meshtally" } }]);
      }
      const metrics = metricsOf(requests);
      const sums = metrics.filter(({ sum }) => sum);
      const histograms = metrics.filter(({ name }) => /^(istio|mesh)_request_(duration|bytes)/.test(name));
      expect(sums.map(({ name }) => name)).toContain("istio_requests_total");
      for (const { sum } of sums) expect(sum).toMatchObject({ aggregationTemporality: CUMULATIVE, isMonotonic: true });
      for (const { name, unit, histogram } of histograms) {
        expect(unit).toBe(name.endsWith("milliseconds") ? "ms" : "By");
        expect(histogram?.aggregationTemporality).toBe(CUMULATIVE);
        for (const { explicitBounds, bucketCounts = [], count } of histogram?.dataPoints ?? []) {
          expect(explicitBounds).toEqual([...HISTOGRAM_BOUNDS]);
          expect(bucketCounts).toHaveLength(HISTOGRAM_BOUNDS.length + 1);
          expect(bucketCounts.reduce((all, own) => all + BigInt(own), 0n)).toBe(BigInt(count as string));
        }
      }
      const cumulative = pointsBySeries(metrics, ({ sum, histogram }) => (sum ?? histogram)?.dataPoints ?? []);
      expect(cumulative.length).toBeGreaterThan(20);
      for (const points of cumulative) {
        const [start, ...others] = new Set(points.map(({ startTimeUnixNano }) => startTimeUnixNano));
        expect(others).toEqual([]);
        expect(BigInt(start as string)).toBeGreaterThanOrEqual(BigInt(beganMs) * MS_AS_NANOS);
        const times = points.map(({ timeUnixNano }) => BigInt(timeUnixNano));
        expect(
          times.every((time, i) => time >= BigInt(start as string) && (i === 0 || time > (times[i - 1] as bigint))),
        ).toBe(true);
        const counts = points.map(({ asDouble, count }) => asDouble ?? Number(count));
        expect(counts.every((count, i) => i === 0 || count >= (counts[i - 1] as number))).toBe(true);
      }
    },
    START_TIMEOUT_MS,
  );
});
