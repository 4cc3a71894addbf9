// The filter's VM is replaced while Envoy goes on, as an update of the .wasm does it, and counters are set back by hand: Envoy's own
// counters begin anew from 0, and stats alone still count every request.

import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { silentLog } from "../../collector/log.ts";
import { Scraper } from "../../collector/receiver/scrape.ts";
import { SelfMetrics } from "../../collector/self.ts";
import { REQUESTS } from "../../collector/series/counts.ts";
import { DEFAULT_SHAPES } from "../../collector/series/shape.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { HttpMetric } from "../../collector/vocabulary.ts";
import { type Config, filterConfig, socketAddress, statsConfig } from "../../demo/telemetry-config.ts";
import { filterWasmPath } from "../../envoy/project.ts";
import { COUNTS_WIDTH, HISTOGRAM_COUNT, histogramField } from "../fixtures/counts.ts";
import { parseExposition } from "./exposition.ts";
import { type LoneProxy, type Places, startLoneProxy } from "./lone-proxy.ts";
import { settled } from "./observed.ts";

const FILTER = "meshtally";

let proxy: LoneProxy;
let folder: string;
let sent = 0;
const self = new SelfMetrics("test");
const limits = { proxies: 10, labelSets: 100, cells: 100, connections: 100, retireAfterMs: 60_000 };
const store = new SeriesStore(limits);
let scraper: Scraper;

beforeAll(async () => {
  proxy = await startLoneProxy(() => ({}), configure);
  scraper = new Scraper({
    targets: [proxy.adminUrl],
    intervalMs: 60_000,
    timeoutMs: 5000,
    maxBodyBytes: 1 << 24,
    concurrency: 1,
    shapes: DEFAULT_SHAPES,
    sink: (report) => store.report(report),
    self,
    log: silentLog,
  });
});
afterAll(async () => {
  await scraper?.stop();
  await proxy?.stop();
});

/** The inbound listener's filter comes from a file, the outbound one's stands: its VM keeps the process' start time. */
async function configure(places: Places): Promise<Config> {
  folder = places.folder;
  await writeFilter("first");
  return {
    node: { id: "sidecar~10.0.0.9~lone-1.default~default.svc.cluster.local", cluster: "lone" },
    admin: { address: socketAddress(places.admin) },
    stats_flush_interval: "1s",
    stats_config: statsConfig(),
    static_resources: {
      listeners: [
        listener("inbound", places.inbound, {
          name: FILTER,
          config_discovery: {
            config_source: { path_config_source: { path: filterFile() }, resource_api_version: "V3" },
            type_urls: ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
          },
        }),
        listener("outbound", places.outbound, filterConfig("outbound", filterWasmPath())),
      ],
      clusters: [
        {
          name: "server",
          type: "STATIC",
          load_assignment: {
            cluster_name: "server",
            endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(places.server) } }] }],
          },
        },
      ],
    },
  };
}

function listener(direction: "inbound" | "outbound", address: string, filter: Config): Config {
  const type = "type.googleapis.com/envoy.extensions.filters";
  const manager = {
    "@type": `${type}.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: direction,
    route_config: {
      virtual_hosts: [
        { name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "server" } }] },
      ],
    },
    http_filters: [
      filter,
      { name: "envoy.filters.http.router", typed_config: { "@type": `${type}.http.router.v3.Router` } },
    ],
  };
  return {
    name: direction,
    traffic_direction: direction.toUpperCase(),
    address: socketAddress(address),
    filter_chains: [{ filters: [{ name: "manager", typed_config: manager }] }],
  };
}

function filterFile(): string {
  return join(folder, "filter.json");
}

/** Moved into its place, which is what Envoy watches for. */
async function writeFilter(vmId: string): Promise<void> {
  const { typed_config: wasm } = filterConfig("inbound", filterWasmPath());
  const named = JSON.parse(JSON.stringify(wasm).replace(/"vm_id":"[^"]*"/, `"vm_id":"${vmId}"`));
  const extension = {
    "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
    name: FILTER,
    typed_config: named,
  };
  await writeFile(`${filterFile()}.new`, JSON.stringify({ version_info: vmId, resources: [extension] }));
  await rename(`${filterFile()}.new`, filterFile());
}

async function send(requests: number): Promise<void> {
  for (let i = 0; i < requests; i++) {
    const answer = await fetch(`http://127.0.0.1:${proxy.inboundPort}/`, { headers: { connection: "close" } });
    expect(await answer.text()).toBe("ok");
  }
  sent += requests;
}

/** What Envoy shows now: [requests, requests in the histogram of sizes]. */
async function shown(): Promise<[number, number]> {
  const text = await (await fetch(`${proxy.adminUrl}/stats/prometheus?filter=istio_request`)).text();
  const sum = (wanted: string) =>
    parseExposition(text).reduce((total, { name, value }) => total + (name === wanted ? value : 0), 0);
  return [sum("istio_requests_total"), sum("istio_request_bytes_count")];
}

/** The same, as the store has it. */
function counted(): [number, number] {
  const counts = new Float64Array(COUNTS_WIDTH);
  let [requests, sizes] = [0, 0];
  for (const series of store.http.series) {
    store.http.readTotal(series, counts);
    requests += counts[REQUESTS] as number;
    sizes += counts[histogramField(HttpMetric.RequestBytes) + HISTOGRAM_COUNT] as number;
  }
  return [requests, sizes];
}

/** Waits until Envoy shows that many, histograms included, and reads it. */
async function scrapeAt(requests: number, sizes = requests): Promise<void> {
  const enough = ([r, s]: [number, number]) => r === requests && s === sizes;
  expect(await settled(shown, enough)).toEqual([requests, sizes]);
  await scraper.scrapeNow();
}

async function replaceVm(vmId: string): Promise<void> {
  await writeFilter(vmId);
  expect(await settled(shown, ([requests]) => requests === 0)).toEqual([0, 0]);
}

async function startTime(): Promise<string> {
  return (await fetch(`${proxy.adminUrl}/stats?filter=meshtally_filter_start_time`)).text();
}

test("stats alone count every request over three VMs and /reset_counters", async () => {
  const begin = await startTime();
  await send(50);
  await scrapeAt(50);
  await replaceVm("second");
  await send(20);
  await scraper.scrapeNow(); // histograms are perhaps not there yet
  await scrapeAt(20);
  await replaceVm("third");
  await scraper.scrapeNow();
  await send(15);
  await scrapeAt(15);
  expect(counted()).toEqual([sent, sent]);

  await fetch(`${proxy.adminUrl}/reset_counters`, { method: "POST" });
  await send(5);
  await sleep(1500); // a flush
  await scrapeAt(5, 20); // histograms go on
  expect(counted()).toEqual([sent, sent]);
  expect(sent).toBe(90);
  expect(await startTime()).toBe(begin);
  expect((await self.scrapes.get()).values.filter(({ value }) => value > 0)).toMatchObject([
    { labels: { result: "ok" } },
  ]);
  expect((await self.scrapeCounterResets.get()).values).toMatchObject([{ value: 3 }]);
});
