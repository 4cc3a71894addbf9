// Access-log streams of a real Envoy are cut again and again while it logs: every entry arrives, and the receivers' page tells of it
// what Envoy's own stats say.

import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadConfig } from "../../collector/config/load.ts";
import { silentLog } from "../../collector/log.ts";
import { type Collector, startCollector } from "../../collector/pipeline.ts";
import { HINTS } from "../../collector/web/receivers.ts";
import type { Config } from "../../demo/telemetry-config.ts";
import { type LoneProxy, NODE, type Places, plainConfig, startLoneProxy } from "./lone-proxy.ts";

const SECONDS = 8;
const MAX_STREAM_AGE_MS = 500;

let proxy: LoneProxy;
let collector: Collector;
beforeAll(async () => {
  proxy = await startLoneProxy(() => ({}), configure);
});
afterAll(async () => {
  await proxy?.stop();
  await collector?.stop();
});

/** The lone proxy's, with a whole collector in the place of the receiver, and flushing as often as not. */
async function configure(places: Places): Promise<Config> {
  const defaults = loadConfig({ path: null, env: {} });
  const address = { host: "127.0.0.1", port: 0 };
  const grpc = { ...defaults.grpc, address, maxStreamAgeMs: MAX_STREAM_AGE_MS };
  const scrape = { ...defaults.scrape, targets: [`http://${places.admin}`] };
  collector = await startCollector({ ...defaults, grpc, http: { address }, scrape }, () => silentLog);
  const config = plainConfig({ ...places, receiver: collector.grpcAddress });
  return JSON.parse(
    JSON.stringify(config).replaceAll('"buffer_flush_interval":"1s"', '"buffer_flush_interval":"0.01s"'),
  );
}

interface Row {
  proxy: string;
  role: string;
  access_log: {
    streams_ended: Record<string, number>;
    entries: { http: { observation: number; derived: number } };
  } | null;
  scrapes: { result: string; logs_written: number; logs_dropped: number }[];
  hint: string | null;
}

async function row(): Promise<Row> {
  await collector.scrapeNow();
  const { proxies } = await (await fetch(`http://${collector.httpAddress}/api/v1/receivers`)).json();
  expect(proxies).toHaveLength(1);
  return proxies[0];
}

test("every entry arrives, those around each cut too", async () => {
  const idle = await row();
  expect(idle).toMatchObject({ proxy: NODE["id"], role: "sidecar", access_log: null });
  expect(idle.hint).toContain(`${HINTS.noAccessLog} ${HINTS.noLogger}`);

  let sent = 0;
  const endMs = performance.now() + SECONDS * 1000;
  const send = async () => {
    while (performance.now() < endMs) {
      sent++;
      await (await fetch(`http://127.0.0.1:${proxy.inboundPort}/`)).text();
    }
  };
  await Promise.all(Array.from({ length: 4 }, send));
  await sleep(1500);

  const after = await row();
  expect(after.scrapes).toMatchObject([{ result: "ok", logs_written: sent, logs_dropped: 0 }]);
  expect(after.access_log?.entries.http).toEqual({ observation: sent, derived: 0 });
  expect(after.access_log?.streams_ended["aged"]).toBeGreaterThan(SECONDS);
  expect(after.access_log?.streams_ended["broken_off"]).toBeUndefined();
  expect(after.hint).toBeNull();
});
