// Real Prometheus reads the collector's protobuf format: native histograms, and everything else as it reads the text.

import { setTimeout as sleep } from "node:timers/promises";
import * as grpc from "@grpc/grpc-js";
import { afterEach, expect, it } from "vitest";
import { loadConfig } from "../../collector/config/load.ts";
import { silentLog } from "../../collector/log.ts";
import { type Collector, startCollector } from "../../collector/pipeline.ts";
import { encodeMessage } from "../fixtures/als.ts";
import { random } from "../property/random.ts";
import { MetricsReceiver } from "../tools/metrics-receiver.ts";
import { parseExposition } from "./exposition.ts";

const METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
const REQUESTS = 1000;
const WAIT_MS = 60_000;

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function startNative(): Promise<Collector> {
  const defaults = loadConfig({ path: null, env: {} });
  const address = { host: "127.0.0.1", port: 0 };
  const metrics = { ...defaults.metrics, nativeHistograms: true };
  const collector = await startCollector(
    { ...defaults, grpc: { ...defaults.grpc, address }, http: { address }, metrics },
    () => silentLog,
  );
  closers.push(() => collector.stop());
  return collector;
}

/** Logs requests that took these times. */
async function log(collector: Collector, durationsMs: readonly number[]): Promise<void> {
  const client = new grpc.Client(collector.grpcAddress, grpc.credentials.createInsecure());
  const same = (bytes: Buffer) => bytes;
  const identifier = { node: { id: "sidecar~10.0.0.1~web-1.default~default.svc.cluster.local", cluster: "web" } };
  const logEntry = durationsMs.map((ms) => ({
    commonProperties: {
      accessLogType: "DownstreamEnd",
      startTime: { seconds: 1_760_000_000 },
      upstreamCluster: "outbound|80||reviews.default.svc.cluster.local",
      timeToLastDownstreamTxByte: { seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1e6 },
    },
    request: { path: "/", requestMethod: "GET" },
    response: { responseCode: { value: 200 } },
  }));
  await new Promise<void>((resolve, reject) => {
    const call = client.makeClientStreamRequest(METHOD, same, same, (error) => (error ? reject(error) : resolve()));
    call.write(encodeMessage({ identifier, httpLogs: { logEntry } }));
    call.end();
  });
  client.close();
}

it("is read by Prometheus with native histograms, which give the quantiles of what was logged", async ({ skip }) => {
  const collector = await startNative();
  const next = random(7);
  const durationsMs = Array.from({ length: REQUESTS }, () => Math.floor(2 ** (next() * 12)));
  await log(collector, durationsMs);

  const configuration = [
    "scrape_configs:",
    "  - job_name: meshtally",
    "    scrape_interval: 500ms",
    "    scrape_timeout: 500ms",
    `    static_configs: [{ targets: ["${collector.httpAddress}"] }]`,
    "",
  ].join("\n");
  const { receiver, missing } = await MetricsReceiver.start("prometheus", configuration, [
    "--enable-feature=native-histograms",
  ]);
  if (receiver === null) {
    skip(missing);
    return;
  }
  closers.push(() => receiver.stop());
  const ask = async (expression: string) => Number((await receiver.query(expression))[0]?.values[0]?.[1] ?? Number.NaN);
  const text = parseExposition(await (await fetch(`http://${collector.httpAddress}/metrics`)).text());
  const counted = text.filter(({ name }) => name === "istio_request_duration_milliseconds_count");
  const total = counted.reduce((sum, { value }) => sum + value, 0);
  expect(total).toBe(REQUESTS);

  const until = Date.now() + WAIT_MS;
  while ((await ask("histogram_count(sum(istio_request_duration_milliseconds))")) !== total && Date.now() < until)
    await sleep(200);
  expect(await ask("histogram_count(sum(istio_request_duration_milliseconds))")).toBe(total);
  expect(await ask("count(istio_request_duration_milliseconds)")).toBe(counted.length);
  const requests = text
    .filter(({ name }) => name === "istio_requests_total")
    .reduce((sum, { value }) => sum + value, 0);
  expect(await ask("sum(istio_requests_total)")).toBe(requests);
  expect(await ask("meshtally_build_info")).toBe(1);
  expect(await ask("up")).toBe(1);
  const sorted = durationsMs.toSorted((a, b) => a - b);
  for (const q of [0.5, 0.9, 0.99]) {
    const truth = sorted[Math.ceil(q * REQUESTS) - 1] as number;
    const shown = await ask(`histogram_quantile(${q}, sum(istio_request_duration_milliseconds))`);
    expect(Math.abs(shown / truth - 1)).toBeLessThan(0.1);
  }
});
