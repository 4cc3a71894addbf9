// Remote write into real Prometheus and real VictoriaMetrics: what they store is what /metrics shows, and an outage loses nothing.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { Secret } from "../../collector/client/secret.ts";
import { loadConfig } from "../../collector/config/load.ts";
import { silentLog } from "../../collector/log.ts";
import { startCollector } from "../../collector/pipeline.ts";
import { MetricsReceiver, RECEIVER_KINDS, type ReceiverKind, type StoredSeries } from "../tools/metrics-receiver.ts";
import { seriesId } from "./exposition.ts";
import { COUNTED, countedOf, own, shownBy, startLogger, until } from "./sending.ts";

const INTERVAL_MS = 200;
const OUTAGE_MS = 2500;

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function start(kind: ReceiverKind, skip: (reason: string) => void) {
  const { receiver, missing } = await MetricsReceiver.start(kind);
  if (receiver === null) {
    skip(missing);
    throw new Error(missing);
  }
  closers.push(() => receiver.stop());
  const folder = mkdtempSync(join(tmpdir(), "meshtally-queue-"));
  closers.push(() => rmSync(folder, { recursive: true }));
  const defaults = loadConfig({ path: null, env: {} });
  const address = { host: "127.0.0.1", port: 0 };
  const settings = {
    name: kind,
    url: receiver.writeUrl,
    access: { headers: [{ name: "x-scope-orgid", value: Secret.of("mesh") }], basic: null, bearer: null },
    tls: { ca: null, certificate: null, key: null },
    intervalMs: INTERVAL_MS,
    timeoutMs: 5000,
    maxSamples: 500,
    queue: { folder, maxBytes: 2 ** 26 },
    metrics: "istio_.*|mesh_.*",
    externalLabels: { zone: "east" },
  };
  const config = {
    ...defaults,
    grpc: { ...defaults.grpc, address },
    http: { address },
    metrics: { ...defaults.metrics, podLabels: true }, // the most labels that there may be
    remoteWrite: [settings],
  };
  const collector = await startCollector(config, () => silentLog);
  closers.push(() => collector.stop());
  return { receiver, collector };
}

function stored(series: readonly StoredSeries[]): Map<string, number> {
  return new Map(
    series.map(({ metric: { __name__: name = "", zone, ...labels }, values }) => {
      expect(zone).toBe("east");
      return [seriesId({ name, labels, value: 0 }), Number(values[0]?.[1])];
    }),
  );
}

/** VictoriaMetrics keeps numbers as decimals of some 15 digits; whole ones up to that are exact in both. */
const TOLERANCE: Readonly<Record<ReceiverKind, number>> = { prometheus: 0, "victoria-metrics": 1e-12 };

/** Series that are in one alone, or differ. */
function differences(kind: ReceiverKind, there: Map<string, number>, here: Map<string, number>): string[] {
  const isEqual = (a = Number.NaN, b = Number.NaN) =>
    Math.abs(a - b) <= TOLERANCE[kind] * Math.abs(b) * Number(!Number.isInteger(b) || b > 1e15);
  const ids = new Set([...there.keys(), ...here.keys()]);
  return [...ids].filter((id) => !isEqual(there.get(id), here.get(id)));
}

describe.each(RECEIVER_KINDS)("remote write into %s", (kind) => {
  it("stores what /metrics shows; after an outage all of it, in order, with the times of collection", async ({
    skip,
  }) => {
    const { receiver, collector } = await start(kind, skip);
    const { log, close } = startLogger(collector);
    closers.push(close);
    const beganMs = Date.now();
    for (let i = 0; i < 5; i++) {
      await log(20);
      await sleep(INTERVAL_MS);
    }
    const all = `{__name__=~"${COUNTED}"}`;
    const notStored = async () => {
      const here = countedOf(await shownBy(collector));
      expect(here.size).toBeGreaterThan(50);
      return differences(kind, stored(await receiver.query(all)), here);
    };
    const isStored = async () => (await notStored()).length === 0;
    await until(isStored);
    expect(await notStored()).toEqual([]);

    await receiver.goAway();
    const awayMs = Date.now();
    while (Date.now() - awayMs < OUTAGE_MS) {
      await log(20);
      await sleep(INTERVAL_MS / 2);
    }
    expect(await own(collector, "meshtally_export_lag_seconds")).toBeGreaterThan(1);
    expect(await own(collector, "meshtally_export_queue_samples")).toBeGreaterThan(0);
    expect(await own(collector, "meshtally_export_retries_total", "unreachable")).toBeGreaterThan(0);
    await receiver.comeBack();
    const backMs = Date.now();
    await until(async () => (await own(collector, "meshtally_export_lag_seconds")) < 1);
    await until(isStored);
    expect(await notStored()).toEqual([]);
    expect(
      (await shownBy(collector)).filter(({ name, value }) => name.endsWith("samples_dropped_total") && value > 0),
    ).toEqual([]);

    // Each round of the outage is there, at its own time.
    const [first] = await receiver.query(`mesh_service_requests_total{success="true"}[10m]`);
    const times = first!.values.map(([time]) => time * 1000);
    const values = first!.values.map(([, value]) => Number(value));
    expect(times).toEqual([...times].sort((a, b) => a - b));
    expect(values).toEqual([...values].sort((a, b) => a - b));
    const inOutage = times.filter((time) => time > awayMs && time < backMs);
    expect(inOutage.length).toBeGreaterThan((0.7 * (backMs - awayMs)) / INTERVAL_MS);
    for (const [i, time] of inOutage.slice(1).entries())
      expect(time - (inOutage[i] as number)).toBeLessThan(4 * INTERVAL_MS);
    expect(times[0]).toBeGreaterThanOrEqual(beganMs);
  });
});
