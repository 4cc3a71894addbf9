// From an exporter's request, on the common gRPC port and over HTTP, to /metrics.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadConfig } from "../../../collector/config/load.ts";
import { silentLog } from "../../../collector/log.ts";
import { type Collector, startCollector } from "../../../collector/pipeline.ts";
import { encodeMetrics, keyValues } from "../../fixtures/otlp.ts";

let collector: Collector;
beforeAll(async () => {
  const address = { host: "127.0.0.1", port: 0 };
  const defaults = loadConfig({ path: null, env: {} });
  const config = { ...defaults, grpc: { ...defaults.grpc, address }, http: { address } };
  collector = await startCollector({ ...config, otlp: { grpc: null, http: { address } } }, () => silentLog);
});
afterAll(() => collector.stop());

function requestOf(instance: string) {
  const point = {
    attributes: keyValues({ "gen_ai.provider.name": "openai", "gen_ai.token.type": "output" }),
    startTimeUnixNano: "1767000000000000000",
    timeUnixNano: "1767000060000000000",
    count: 2,
    sum: 42,
  };
  const metric = { name: "gen_ai.client.token.usage", histogram: { dataPoints: [point], aggregationTemporality: 2 } };
  const resource = { attributes: keyValues({ "service.name": "gw", "service.instance.id": instance }) };
  return { resourceMetrics: [{ resource, scopeMetrics: [{ metrics: [metric] }] }] };
}

async function page(accept: string): Promise<string> {
  return (await fetch(`http://${collector.httpAddress}/metrics`, { headers: { accept } })).text();
}

test("tokens that gateways tell of, over gRPC and HTTP, are on /metrics in both formats", async () => {
  const client = new grpc.Client(collector.grpcAddress, grpc.credentials.createInsecure());
  const same = (bytes: Buffer) => bytes;
  const path = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
  const answer = await new Promise<Buffer | undefined>((resolve, reject) => {
    client.makeUnaryRequest(path, same, same, encodeMetrics(requestOf("one")), (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });
  client.close();
  expect(answer?.length).toBe(0);
  const response = await fetch(`http://${collector.otlpAddresses.http}/v1/metrics`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(requestOf("two")),
  });
  expect([response.status, await response.json()]).toEqual([200, {}]);
  const text = await page("text/plain");
  expect(text).toMatch(/^gen_ai_client_token_usage_sum\{service="gw",.*gen_ai_token_type="output"\} 84$/m);
  expect(text).toMatch(/^gen_ai_client_token_usage_bucket\{.*,le="\+Inf"\} 4$/m);
  expect(text).toMatch(/^meshtally_ai_series 1$/m);
  const openMetrics = await page("application/openmetrics-text;version=1.0.0");
  expect(openMetrics).toMatch(/^# TYPE gen_ai_client_token_usage histogram$/m);
  expect(openMetrics).toMatch(/^gen_ai_client_token_usage_bucket\{.*,le="4\.0"\} 0$/m);
});

test("what was told before a restart is shown after it, and is not counted again", async () => {
  const folder = mkdtempSync(join(tmpdir(), "meshtally-ai-"));
  const address = { host: "127.0.0.1", port: 0 };
  const defaults = loadConfig({ path: null, env: {} });
  const config = {
    ...defaults,
    grpc: { ...defaults.grpc, address },
    http: { address },
    otlp: { grpc: null, http: { address } },
    state: { folder, intervalMs: 20 },
  };
  const tokens = async ({ httpAddress }: Collector) => {
    const text = await (await fetch(`http://${httpAddress}/metrics`)).text();
    return /^gen_ai_client_token_usage_sum\{.*\} (\d+)$/m.exec(text)?.[1] ?? null;
  };
  const send = ({ otlpAddresses }: Collector) =>
    fetch(`http://${otlpAddresses.http}/v1/metrics`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(requestOf("one")),
    });
  try {
    const first = await startCollector(config, () => silentLog);
    await send(first);
    await expect.poll(() => tokens(first), { timeout: 5000 }).toBe("42");
    await first.stop();
    const second = await startCollector(config, () => silentLog);
    expect(await tokens(second)).toBe("42");
    await send(second);
    await second.stop();
    const third = await startCollector(config, () => silentLog);
    expect(await tokens(third)).toBe("42");
    await third.stop();
  } finally {
    rmSync(folder, { recursive: true });
  }
});
