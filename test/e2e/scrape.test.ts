// Real Envoy's stats where Istio shows them: on a port of their own (15090), without the admin interface, and mixed with an application's
// metrics (15020).

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AddressIndex } from "../../collector/identity/lookup.ts";
import { DEFAULT_INSTANCE_RULE, DEFAULT_SERVICE_RULE, nameRule } from "../../collector/identity/names.ts";
import { noObjects } from "../../collector/identity/objects.ts";
import { silentLog } from "../../collector/log.ts";
import { ProxyStats } from "../../collector/proxy-stats/proxy-stats.ts";
import { ScrapedStats } from "../../collector/receiver/scrape/scraped-stats.ts";
import { Scraper } from "../../collector/receiver/scrape.ts";
import type { StatsReport } from "../../collector/record/record.ts";
import { type ScrapeResult, SelfMetrics } from "../../collector/self.ts";
import { DEFAULT_SHAPES } from "../../collector/series/shape.ts";
import { HttpMetric } from "../../collector/vocabulary.ts";
import { freePort } from "../tools/free-port.ts";
import { cluster, type LoneProxy, NODE, plainConfig, ROUTER, startLoneProxy } from "./lone-proxy.ts";

const REQUESTS = 7;

let proxy: LoneProxy;
let statsPort: number;
let mergedPort: number;
/** Istio's agent, as far as it adds to the stats. */
const merged = createServer(async (request, response) => {
  const answer = await fetch(`http://127.0.0.1:${statsPort}${request.url}`);
  if (answer.status !== 200) return response.writeHead(answer.status).end();
  const metrics = 'http_requests_total{app="shop"} 3\nistio_requests_total{team="shop"} 9\nprocess_open_fds 12\n';
  return response.setHeader("content-type", "text/plain").end(`${await answer.text()}${metrics}`);
});

beforeAll(async () => {
  statsPort = await freePort();
  proxy = await startLoneProxy(
    () => ({}),
    (places) => {
      const config = plainConfig(places);
      const resources = config["static_resources"] as { listeners: object[]; clusters: object[] };
      resources.clusters.push(cluster("prometheus_stats", places.admin));
      resources.listeners.push(statsListener(statsPort));
      return config;
    },
  );
  await new Promise<void>((resolve) => merged.listen(0, "127.0.0.1", resolve));
  mergedPort = (merged.address() as AddressInfo).port;
  for (let sent = 0; sent < REQUESTS; sent++) {
    expect(await (await fetch(`http://127.0.0.1:${proxy.outboundPort}/`)).text()).toBe("ok");
  }
});
afterAll(async () => {
  merged.closeAllConnections();
  await new Promise((resolve) => merged.close(resolve));
  await proxy?.stop();
});

/** As Istio's bootstrap has it on port 15090: this one path of the admin interface, and nothing else. */
function statsListener(port: number): object {
  const route = { match: { prefix: "/stats/prometheus" }, route: { cluster: "prometheus_stats" } };
  const manager = {
    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    stat_prefix: "stats",
    route_config: { virtual_hosts: [{ name: "backend", domains: ["*"], routes: [route] }] },
    http_filters: [ROUTER],
  };
  return {
    name: "stats",
    address: { socket_address: { address: "127.0.0.1", port_value: port } },
    filter_chains: [{ filters: [{ name: "envoy.filters.network.http_connection_manager", typed_config: manager }] }],
  };
}

/** Reads until the histograms are flushed. */
async function scrape(target: string): Promise<{ report: StatsReport | undefined; results: ScrapeResult[] }> {
  const reports: StatsReport[] = [];
  const self = new SelfMetrics("test");
  const scraper = new Scraper({
    targets: [target],
    intervalMs: 60_000,
    timeoutMs: 5000,
    maxBodyBytes: 1 << 24,
    concurrency: 1,
    shapes: DEFAULT_SHAPES,
    sink: (report) => {
      reports.push(report);
      return "ok";
    },
    self,
    log: silentLog,
  });
  await expect
    .poll(
      async () => {
        await scraper.scrapeNow();
        return reports.at(-1)?.samples[0]?.histograms[HttpMetric.Duration]?.count;
      },
      { timeout: 10_000 },
    )
    .toBe(REQUESTS);
  await scraper.stop();
  const { values } = await self.scrapes.get();
  const results = values.filter(({ value }) => value > 0).map(({ labels }) => labels.result as ScrapeResult);
  return { report: reports.at(-1), results };
}

test.each([
  ["on its own port, as protobuf", () => statsPort],
  ["mixed with an application's metrics, as text", () => mergedPort],
])(
  "stats %s, name their process: the counts are those of the access log, of the same node and process",
  async (_, port) => {
    const { report, results } = await scrape(`http://127.0.0.1:${port()}`);
    expect(results).toEqual(["ok"]);
    await expect.poll(() => proxy.records.length, { timeout: 10_000 }).toBe(REQUESTS);
    expect(new Set(proxy.records.map((record) => [record.proxy, record.lifeMs, record.labelKey].join()))).toEqual(
      new Set([[report?.proxy, report?.lifeMs, report?.samples[0]?.labelKey].join()]),
    );
    expect(report).toMatchObject({ proxy: NODE["id"], samples: [{ requests: REQUESTS }] });
  },
);

test("Envoy's own stats are those that its admin interface shows, under the name of its node", async () => {
  const stats = new ProxyStats(1000);
  const rules = {
    service: nameRule(DEFAULT_SERVICE_RULE),
    instance: nameRule(DEFAULT_INSTANCE_RULE),
    domain: "cluster.local",
  };
  const proxyStats = new ScrapedStats({ stats, rules, lookup: new AddressIndex(noObjects(), rules) });
  const scraper = new Scraper({
    targets: [proxy.adminUrl],
    intervalMs: 60_000,
    timeoutMs: 5000,
    maxBodyBytes: 1 << 24,
    concurrency: 1,
    sink: () => "ok",
    shapes: DEFAULT_SHAPES,
    proxyStats,
    self: new SelfMetrics("test"),
    log: silentLog,
  });
  await scraper.scrapeNow();
  await scraper.stop();
  const lines = [...stats.render("text")].join("");
  const of = 'service="lone.default",instance="lone-1.default"';
  const plain = await (await fetch(`${proxy.adminUrl}/stats?filter=membership_total|server.concurrency`)).text();
  for (const [, cluster, value] of plain.matchAll(/^cluster\.(.+)\.membership_total: (\d+)$/gm)) {
    expect(lines).toContain(`envoy_cluster_membership_total{${of},envoy_cluster_name="${cluster}"} ${value}\n`);
  }
  const [, workers] = /^server.concurrency: (\d+)$/m.exec(plain) ?? [];
  expect(lines).toContain(`envoy_server_concurrency{${of}} ${workers}\n`);
  expect(plain).toContain("membership_total");
});

test("there was nobody to ask who they are of", async () => {
  expect((await fetch(`http://127.0.0.1:${statsPort}/server_info`)).status).toBe(404);
});
