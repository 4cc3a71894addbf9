// A real Envoy tells of its metrics over TLS, and over mutual TLS; without the certificate that is asked for it tells nothing.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { loadConfig } from "../../collector/config/load.ts";
import { silentLog } from "../../collector/log.ts";
import { type Collector, startCollector } from "../../collector/pipeline.ts";
import type { CertificateFiles } from "../../demo/certificates.ts";
import { type Config, metricsSinkConfig } from "../../demo/telemetry-config.ts";
import { writeCertificates } from "../fixtures/certificates.ts";
import { type LoneProxy, NODE, type Places, plainConfig, startLoneProxy } from "./lone-proxy.ts";
import { overTls } from "./over-tls.ts";
import { own, shownBy, until } from "./sending.ts";

const REQUESTS = 50;

const folder = mkdtempSync(join(tmpdir(), "meshtally-tls-"));
let issued: Record<"server" | "client", CertificateFiles>;
const closers: (() => unknown)[] = [];

beforeAll(async () => {
  issued = await writeCertificates({ server: [{ type: "dns", value: "collector.test" }], client: [] }, folder);
});
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Metrics go to the collector over TLS, access logs nowhere. */
async function start(asksForCertificate: boolean, showsCertificate: boolean) {
  const defaults = loadConfig({ path: null, env: {} });
  const address = { host: "127.0.0.1", port: 0 };
  const clientCa = asksForCertificate ? issued.client.authority : null;
  const tls = { certificate: issued.server.certificate, key: issued.server.privateKey, clientCa };
  const grpc = { ...defaults.grpc, address, tls };
  const collector = await startCollector({ ...defaults, grpc, http: { address } }, () => silentLog);
  closers.push(() => collector.stop());
  const configure = (places: Places): Config => {
    const config = plainConfig({ ...places, receiver: collector.grpcAddress });
    const resources = config["static_resources"] as { clusters: Config[] };
    const clusters = resources.clusters.map((each) =>
      each["name"] === "meshtally_collector" ? overTls(each, issued.client, showsCertificate) : each,
    );
    const told = {
      ...config,
      stats_flush_interval: "0.2s",
      stats_sinks: [metricsSinkConfig({ tags: true })],
      static_resources: { ...resources, clusters },
    };
    return JSON.parse(JSON.stringify(told, (key, value) => (key === "access_log" ? undefined : value)));
  };
  const proxy = await startLoneProxy(() => ({}), configure);
  closers.push(() => proxy.stop());
  return { collector, proxy };
}

async function send({ inboundPort }: LoneProxy): Promise<void> {
  for (let i = 0; i < REQUESTS; i++) await (await fetch(`http://127.0.0.1:${inboundPort}/`)).text();
}

async function requests(collector: Collector): Promise<number> {
  const samples = await shownBy(collector);
  return samples
    .filter(({ name, labels }) => name === "istio_requests_total" && labels["reporter"] === "destination")
    .reduce((sum, { value }) => sum + value, 0);
}

test.each([
  ["TLS", false],
  ["mutual TLS", true],
])("every request is told of over %s", async (_name, isMutual) => {
  const { collector, proxy } = await start(isMutual, isMutual);
  await send(proxy);
  await until(async () => (await requests(collector)) >= REQUESTS);
  expect(proxy.received).toHaveLength(REQUESTS);
  expect(await requests(collector)).toBe(REQUESTS);
  const { proxies } = await (await fetch(`http://${collector.httpAddress}/api/v1/receivers`)).json();
  expect(proxies).toMatchObject([{ proxy: NODE["id"], metrics_service: { streams: 1, reports_not_taken: {} } }]);
});

test("a proxy without the certificate that is asked for tells nothing, and that is counted", async () => {
  const { collector, proxy } = await start(true, false);
  await send(proxy);
  await until(async () => (await own(collector, "meshtally_tls_handshakes_failed_total")) > 0);
  await sleep(500);
  expect(await own(collector, "meshtally_tls_handshakes_failed_total")).toBeGreaterThan(0);
  expect(await requests(collector)).toBe(0);
  expect(await own(collector, "meshtally_metrics_service_messages_total")).toBe(0);
});
