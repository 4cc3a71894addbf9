// A real Envoy sends its access log over mutual TLS, on a new connection every few streams, while the collector's certificate is
// replaced: every entry arrives.

import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadConfig } from "../../collector/config/load.ts";
import { silentLog } from "../../collector/log.ts";
import { type Collector, startCollector } from "../../collector/pipeline.ts";
import type { CertificateFiles } from "../../demo/certificates.ts";
import type { Config } from "../../demo/telemetry-config.ts";
import { writeCertificates } from "../fixtures/certificates.ts";
import { type LoneProxy, type Places, plainConfig, startLoneProxy } from "./lone-proxy.ts";
import { overTls } from "./over-tls.ts";

const SECONDS = 6;
const SWAP_AFTER_MS = 1000;
const MAX_STREAM_AGE_MS = 200;
const STREAMS_PER_CONNECTION = 2;

const folder = mkdtempSync(join(tmpdir(), "meshtally-tls-"));
const files = { certificate: join(folder, "tls.crt"), key: join(folder, "tls.key") };
let issued: Record<"first" | "second" | "client", CertificateFiles>;
let proxy: LoneProxy;
let collector: Collector;

beforeAll(async () => {
  const server = [{ type: "dns", value: "collector.test" }] as const;
  issued = await writeCertificates({ first: server, second: server, client: [] }, folder);
  use(issued.first);
  proxy = await startLoneProxy(() => ({}), configure);
});
afterAll(async () => {
  await proxy?.stop();
  await collector?.stop();
  rmSync(folder, { recursive: true });
});

/** Puts a certificate and its key where the collector looks, one after the other. */
function use({ certificate, privateKey }: CertificateFiles): void {
  for (const [from, to] of [
    [certificate, files.certificate],
    [privateKey, files.key],
  ] as const) {
    writeFileSync(`${to}.new`, readFileSync(from));
    renameSync(`${to}.new`, to);
  }
}

async function configure(places: Places): Promise<Config> {
  const defaults = loadConfig({ path: null, env: {} });
  const address = { host: "127.0.0.1", port: 0 };
  const tls = { ...files, clientCa: issued.client.authority };
  const grpc = { ...defaults.grpc, address, tls, maxStreamAgeMs: MAX_STREAM_AGE_MS };
  const scrape = { ...defaults.scrape, targets: [`http://${places.admin}`] };
  collector = await startCollector({ ...defaults, grpc, http: { address }, scrape }, () => silentLog);
  const config = plainConfig({ ...places, receiver: collector.grpcAddress });
  const resources = config["static_resources"] as { clusters: Config[] };
  const clusters = resources.clusters.map((each) =>
    each["name"] === "meshtally_collector" ? withLimit(overTls(each, issued.client)) : each,
  );
  const text = JSON.stringify({ ...config, static_resources: { ...resources, clusters } });
  return JSON.parse(text.replaceAll('"buffer_flush_interval":"1s"', '"buffer_flush_interval":"0.01s"'));
}

/** With connections that end soon. */
function withLimit(cluster: Config): Config {
  const [[name, options]] = Object.entries(cluster["typed_extension_protocol_options"] as Record<string, Config>) as [
    [string, Config],
  ];
  const limit = { common_http_protocol_options: { max_requests_per_connection: STREAMS_PER_CONNECTION } };
  return { ...cluster, typed_extension_protocol_options: { [name]: { ...options, ...limit } } };
}

/** The certificate that the collector shows now. */
function shown(): Promise<string> {
  const port = Number(collector.grpcAddress.split(":").at(-1));
  const { certificate, privateKey } = issued.client;
  const identity = { cert: readFileSync(certificate), key: readFileSync(privateKey) };
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", ...identity, ALPNProtocols: ["h2"], rejectUnauthorized: false });
    socket.on("secureConnect", () => {
      resolve(socket.getPeerX509Certificate()?.fingerprint256 ?? "");
      socket.destroy();
    });
    socket.on("error", reject);
  });
}

function fingerprintOf({ certificate }: CertificateFiles): string {
  return new X509Certificate(readFileSync(certificate)).fingerprint256;
}

async function connections(): Promise<number> {
  const text = await (await fetch(`${proxy.adminUrl}/stats?filter=meshtally_collector.upstream_cx_total`)).text();
  return Number(/upstream_cx_total: (\d+)/.exec(text)?.[1]);
}

test("every entry arrives over mutual TLS, while the certificate is replaced", async () => {
  let sent = 0;
  const endMs = performance.now() + SECONDS * 1000;
  const send = async () => {
    while (performance.now() < endMs) {
      sent++;
      await (await fetch(`http://127.0.0.1:${proxy.inboundPort}/`)).text();
    }
  };
  const sending = Promise.all(Array.from({ length: 4 }, send));
  await sleep(SWAP_AFTER_MS);
  expect(await shown()).toBe(fingerprintOf(issued.first));
  use(issued.second);
  while ((await shown()) !== fingerprintOf(issued.second)) await sleep(50);
  const before = await connections();
  await sending;
  expect(await connections()).toBeGreaterThan(before); // so the new certificate was used
  expect(before).toBeGreaterThan(1);
  await sleep(500);

  await collector.scrapeNow();
  const { proxies } = await (await fetch(`http://${collector.httpAddress}/api/v1/receivers`)).json();
  expect(proxies[0].scrapes).toMatchObject([{ result: "ok", logs_written: sent, logs_dropped: 0 }]);
  expect(proxies[0].access_log.entries.http).toEqual({ observation: sent, derived: 0 });
  const metrics = await (await fetch(`http://${collector.httpAddress}/metrics`)).text();
  expect(metrics).toContain('meshtally_tls_reloads_total{listener="grpc",result="ok"} 1\n');
});
