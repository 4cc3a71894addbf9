// A bootstrap whose stats_tags lack two labels: real Envoy leaves them in the metrics' names, and the collector says which they are.

import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Log, silentLog } from "../../collector/log.ts";
import { Scraper } from "../../collector/receiver/scrape.ts";
import type { StatsReport } from "../../collector/record/record.ts";
import { SelfMetrics } from "../../collector/self.ts";
import { DEFAULT_SHAPES } from "../../collector/series/shape.ts";
import { type LoneProxy, plainConfig, startLoneProxy } from "./lone-proxy.ts";

const LACKING = ["source_app", "grpc_response_status"];

interface StatsConfig {
  readonly stats_tags: readonly { readonly tag_name: string }[];
}

let proxy: LoneProxy;
let scraper: Scraper;
const reports: StatsReport[] = [];
const lines: object[] = [];
const self = new SelfMetrics("test");

beforeAll(async () => {
  proxy = await startLoneProxy(
    () => ({}),
    (places) => {
      const config = plainConfig(places);
      const { stats_tags } = config["stats_config"] as StatsConfig;
      return { ...config, stats_config: { stats_tags: stats_tags.filter((tag) => !LACKING.includes(tag.tag_name)) } };
    },
  );
  const log: Log = { ...silentLog, warn: (fields) => lines.push(fields) };
  scraper = new Scraper({
    targets: [proxy.adminUrl],
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
    log,
  });
});
afterAll(async () => {
  await scraper?.stop();
  await proxy?.stop();
});

test("labels that stats_tags lack are named in the log and counted; such metrics are left to the access log", async () => {
  const answer = await fetch(`http://127.0.0.1:${proxy.outboundPort}/`);
  expect(await answer.text()).toBe("ok");
  for (let tries = 0; tries < 600 && lines.length === 0; tries++) {
    await scraper.scrapeNow();
    await sleep(100);
  }
  expect(lines).toMatchObject([{ target: proxy.adminUrl, missing: LACKING.map((tag_name) => ({ tag_name })) }]);
  const { values } = await self.scrapeUntaggedLabels.get();
  expect(values.map(({ labels }) => labels.label)).toEqual(LACKING);
  expect(reports.at(-1)?.samples).toEqual([]);
});
