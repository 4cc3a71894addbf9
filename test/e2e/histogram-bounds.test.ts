// Real Envoy with bounds of its own: what a collector that has the same counts of its access log, another counts of its stats.

import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import { loadConfig } from "../../collector/config/load.ts";
import { silentLog } from "../../collector/log.ts";
import { type Collector, startCollector } from "../../collector/pipeline.ts";
import { random } from "../property/random.ts";
import { parseExposition } from "./exposition.ts";
import { plainConfig, startLoneProxy } from "./lone-proxy.ts";

const BOUNDS = [0.5, 1, 2, 7.5, 15, 33, 110, 123, 220, 300, 410, 555, 1234, 5000, 33333, 75000];
/** One bound that the proxy does not have, and one that only it has. */
const OTHERS = [0.5, 1, 2, 7.5, 15, 33, 110, 123, 220, 300, 410, 777, 1234, 5000, 33333, 75000];
const HISTOGRAMS = ["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"];
const REQUESTS = 80;
const WAIT_MS = 20_000;

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function startWith(bounds: readonly number[], targets: readonly string[]): Promise<Collector> {
  const defaults = loadConfig({ path: null, env: {} });
  const address = { host: "127.0.0.1", port: 0 };
  const metrics = { ...defaults.metrics, bounds, buckets: [[], bounds, bounds, bounds] };
  const scrape = { ...defaults.scrape, targets, intervalMs: 300 };
  const grpc = { ...defaults.grpc, address };
  const config = { ...defaults, grpc, http: { address }, metrics, scrape };
  const collector = await startCollector(config, () => silentLog);
  closers.push(() => collector.stop());
  return collector;
}

/** By name and labels. */
async function shownBy(collector: Collector): Promise<Map<string, number>> {
  const text = await (await fetch(`http://${collector.httpAddress}/metrics`)).text();
  const samples = parseExposition(text).filter(({ name }) => HISTOGRAMS.includes(name.replace(/_(bucket|count)$/, "")));
  return new Map(samples.map(({ name, labels, value }) => [`${name} ${JSON.stringify(labels)}`, value]));
}

function countsOf(shown: ReadonlyMap<string, number>): number {
  return [...shown].filter(([name]) => name.startsWith("istio_request_bytes_count")).reduce((sum, [, n]) => sum + n, 0);
}

async function until(collector: Collector): Promise<Map<string, number>> {
  for (const stopMs = Date.now() + WAIT_MS; ; await sleep(200)) {
    const shown = await shownBy(collector);
    if (countsOf(shown) === 2 * REQUESTS || Date.now() > stopMs) return shown;
  }
}

test("stats and access log come to the same buckets, by whatever bounds, and a bound that is missing is told", async () => {
  const logged = await startWith(BOUNDS, []);
  const proxy = await startLoneProxy(
    (path) => ({ "x-filling": "x".repeat(Number(path.slice(1))) }),
    (places) => plainConfig({ ...places, receiver: logged.grpcAddress }, {}, [], BOUNDS),
  );
  closers.push(() => proxy.stop());
  const scraped = await startWith(BOUNDS, [proxy.adminUrl]);
  const other = await startWith(OTHERS, [proxy.adminUrl]);
  const next = random(11);
  const size = (most: number) => Math.floor(most ** next());
  for (let sent = 0; sent < REQUESTS; sent++) {
    for (const port of [proxy.inboundPort, proxy.outboundPort]) {
      const body = "y".repeat(size(90_000));
      await (await fetch(`http://127.0.0.1:${port}/${size(6000)}`, { method: "POST", body })).text();
    }
  }

  const byLog = await until(logged);
  expect(countsOf(byLog)).toBe(2 * REQUESTS);
  expect(byLog.size).toBe(2 * HISTOGRAMS.length * (BOUNDS.length + 2)); // inbound and outbound; +Inf and the count besides
  expect(new Set([...byLog.values()]).size).toBeGreaterThan(20);
  expect(await until(scraped)).toEqual(byLog);
  expect(await receiversOf(scraped)).toMatchObject([{ scrapes: [{ missing_bounds: {} }] }]);

  // le="777" is as le="410", and le="555" is not there; all others are as they were.
  const byOther = await until(other);
  expect(byOther.size).toBe(byLog.size);
  for (const [id, count] of byOther) {
    const below = id.replace('"le":"777"', '"le":"410"');
    expect(count, id).toBe(below === id ? byLog.get(id) : byOther.get(below));
  }
  const missing = Object.fromEntries(HISTOGRAMS.map((name) => [name, [777]]));
  expect(await receiversOf(other)).toMatchObject([
    { scrapes: [{ missing_bounds: missing }], hint: expect.stringContaining("metrics.bounds") },
  ]);
  const own = await (await fetch(`http://${other.httpAddress}/metrics`)).text();
  expect(own).toMatch(/^meshtally_missing_bounds_total\{receiver="scrape",le="777"\} [1-9]/m);
});

async function receiversOf(collector: Collector): Promise<unknown> {
  const answer = await fetch(`http://${collector.httpAddress}/api/v1/receivers`);
  return ((await answer.json()) as { readonly proxies: unknown }).proxies;
}
