// Two whole collectors, each with half of the proxies, against one with all: access logs as Envoy wrote them, and stats.

import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { afterEach, expect, it } from "vitest";
import { loadConfig } from "../../../collector/config/load.ts";
import { silentLog } from "../../../collector/log.ts";
import { type Collector, startCollector } from "../../../collector/pipeline.ts";
import { parseExposition, type Sample, sumBySeries } from "../../e2e/exposition.ts";
import { encodeMessage, lengthDelimited } from "../../fixtures/als.ts";
import { text } from "../labels.ts";

const RECORDED = join(import.meta.dirname, "../../fixtures/envoy-als");
const METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
const PROXIES = 6;

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const nodeId = (proxy: number) => `sidecar~10.0.0.${proxy}~web-${proxy}.default~default.svc.cluster.local`;

/** The admin interface of a proxy whose filter counted, for two label sets. */
async function startAdmin(proxy: number): Promise<string> {
  const startMs = Date.now() - 120_000;
  const lines = ["source", "destination"].map((reporter, i) => {
    const labels = { reporter, source_workload: "web", destination_workload: "api", response_code: "200" };
    return `istio_requests_total{${text(labels)}} ${100 * proxy + i}\n`;
  });
  const server = createServer((request, response) => {
    if (request.url === "/server_info") response.end(JSON.stringify({ node: { id: nodeId(proxy) } }));
    else response.end(`${lines.join("")}meshtally_filter_start_time_milliseconds{} ${startMs}\n`);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function start(targets: readonly string[]): Promise<Collector> {
  const defaults = loadConfig({ path: null, env: {} });
  const address = { host: "127.0.0.1", port: 0 };
  const scrape = { ...defaults.scrape, targets };
  const config = { ...defaults, grpc: { ...defaults.grpc, address }, http: { address }, scrape };
  const collector = await startCollector(config, () => silentLog);
  closers.push(() => collector.stop());
  return collector;
}

async function log(collector: Collector, messages: readonly Buffer[]): Promise<void> {
  const client = new grpc.Client(collector.grpcAddress, grpc.credentials.createInsecure());
  const same = (bytes: Buffer) => bytes;
  await new Promise<void>((resolve, reject) => {
    const call = client.makeClientStreamRequest(METHOD, same, same, (error) => (error ? reject(error) : resolve()));
    for (const message of messages) call.write(message);
    call.end();
  });
  client.close();
}

/** What Envoy wrote, `times` over, as if that proxy had. */
function recorded(proxy: number, times: number): Buffer[] {
  const files = readdirSync(RECORDED).filter((name) => name.endsWith(".bin"));
  const entries = files.map((name) => lengthDelimited(1, readFileSync(join(RECORDED, name))));
  const identifier = encodeMessage({ identifier: { node: { id: nodeId(proxy), cluster: "web" }, logName: "a" } });
  const message = Buffer.concat([identifier, lengthDelimited(2, Buffer.concat(entries))]); // http_logs
  return Array.from({ length: times }, () => message);
}

async function counted(collector: Collector): Promise<Sample[]> {
  await collector.scrapeNow();
  const page = await (await fetch(`http://${collector.httpAddress}/metrics`)).text();
  return parseExposition(page).filter(({ name }) => /^(istio|mesh)_.*_(total|bucket|sum|count)$/.test(name));
}

it("the counts of two collectors add up to those of one", async () => {
  const targets = await Promise.all(Array.from({ length: PROXIES }, (_, proxy) => startAdmin(proxy)));
  const whole = await start(targets);
  const halves = [
    await start(targets.filter((_, i) => i % 2 === 0)),
    await start(targets.filter((_, i) => i % 2 === 1)),
  ];
  for (let proxy = 0; proxy < PROXIES; proxy++) {
    const messages = recorded(proxy, 1 + proxy);
    await log(whole, messages);
    await log(halves[proxy % 2] as Collector, messages);
  }
  const one = sumBySeries(await counted(whole));
  const two = sumBySeries((await Promise.all(halves.map(counted))).flat());
  expect(one.size).toBeGreaterThan(200);
  expect([...two.keys()].sort()).toEqual([...one.keys()].sort());
  const differing = [...one].filter(([series, value]) => Math.abs((two.get(series) as number) - value) > 1e-9 * value);
  expect(differing).toEqual([]);
  const requests = [...one].filter(([series]) => series.startsWith("istio_requests_total"));
  for (const [series, value] of requests) expect(two.get(series)).toBe(value);
  expect(requests.reduce((sum, [, value]) => sum + value, 0)).toBeGreaterThan(3000);
});
