// The built collector, killed and started again on what it saved, with other numbers of threads: no total goes down, and none doubles.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, it } from "vitest";
import { bytesState, encodeMessage, type Fields, structFields } from "../../fixtures/als.ts";
import { readDelimited } from "../../fixtures/metric-family.ts";
import { encodeObservation } from "../../fixtures/observation.ts";
import { text, values } from "../labels.ts";
import { CollectorProcess } from "../shards/collector-process.ts";

const START_MS = Date.now() - 5000;
const PROXIES = 6;
const LABELS = { reporter: "source", source_workload: "web", destination_workload: "api", response_code: "200" };
const idOf = (proxy: number) => `sidecar~10.0.0.${proxy}~web-${proxy}.default~default.svc.cluster.local`;

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function entry(): Fields {
  const observation = encodeObservation({
    startMs: START_MS,
    durationMs: 7,
    requestBytes: 100,
    responseBytes: 200,
    labels: values(LABELS),
  });
  return { commonProperties: { filterStateObjects: { "wasm.meshtally.observation": bytesState(observation) } } };
}

async function log(collector: CollectorProcess, proxy: number, requests: number): Promise<void> {
  const identifier = { node: { id: idOf(proxy), metadata: structFields({ NAME: "web" }) }, logName: "x" };
  const stream = collector.open();
  stream.send(encodeMessage({ identifier, httpLogs: { logEntry: Array.from({ length: requests }, entry) } }));
  await stream.end();
}

/** A proxy whose stats say what `requests` is then. */
async function startAdmin(proxy: number, shown: { requests: number }): Promise<string> {
  const server = createServer((request, response) => {
    const lines = `istio_requests_total{${text(LABELS)}} ${shown.requests}\nmeshtally_filter_start_time_milliseconds{} ${START_MS}\n`;
    response.end(request.url === "/server_info" ? JSON.stringify({ node: { id: idOf(proxy) } }) : lines);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function total(collector: CollectorProcess): Promise<number> {
  const page = await (await collector.get("/metrics")).text();
  const lines = page.split("\n").filter((line) => line.startsWith("istio_requests_total{"));
  return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

/** Of durations the count, and what native buckets hold together; null where there are none. */
async function durations(collector: CollectorProcess): Promise<{ count: number; native: number | null }> {
  const accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
  const page = Buffer.from(await (await collector.get("/metrics", { accept })).arrayBuffer());
  const family = readDelimited(page).find(({ name }) => name === "istio_request_duration_milliseconds");
  const metrics = (family?.["metric"] ?? []) as { histogram: { sampleCount: number; positiveDelta?: number[] } }[];
  const sums = metrics.map(({ histogram: { sampleCount, positiveDelta } }) => {
    let held = 0;
    let bucket = 0;
    for (const delta of positiveDelta ?? []) {
      bucket += delta;
      held += bucket;
    }
    return { count: sampleCount, native: positiveDelta ? held : null };
  });
  return sums[0] ?? { count: 0, native: null };
}

/** Once it is that, or 5 s are over. */
async function settledTotal(collector: CollectorProcess, expected: number): Promise<number> {
  for (let tries = 0; tries < 100; tries++) {
    if ((await total(collector)) === expected) break;
    await sleep(50);
  }
  return total(collector);
}

it("goes on after kill -9, with two threads, with none, and with three", { timeout: 120_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "meshtally-restart-"));
  closers.push(() => rmSync(folder, { recursive: true }));
  const shown = { requests: 4 };
  const admin = await startAdmin(PROXIES, shown);
  const config = `metrics: { native_histograms: true }\nstate: { folder: ${JSON.stringify(folder)}, interval: 100ms }\nscrape: { targets: [${JSON.stringify(admin)}], interval: 200ms }\n`;
  let truth = shown.requests;
  let logged = 0;
  let saved = 0;
  for (const threads of [0, 2, 0, 3]) {
    const collector = await CollectorProcess.start(threads, config);
    closers.push(() => collector.stop());
    expect(await total(collector)).toBeGreaterThanOrEqual(saved);
    expect(await durations(collector)).toEqual({ count: logged, native: logged || null });
    for (let proxy = 0; proxy < PROXIES; proxy++) await log(collector, proxy, 10 + proxy);
    truth += PROXIES * 10 + 15;
    logged += PROXIES * 10 + 15;
    shown.requests += 3; // of which its log tells nothing
    truth += 3;
    expect(await settledTotal(collector, truth)).toBe(truth);
    expect(await durations(collector)).toEqual({ count: logged, native: logged });
    saved = truth;
    collector.kill("SIGKILL");
    await collector.ended;
  }
});

it("goes on by pod where that is asked for, and begins anew where it is not any more", {
  timeout: 60_000,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), "meshtally-restart-"));
  closers.push(() => rmSync(folder, { recursive: true }));
  const state = `state: { folder: ${JSON.stringify(folder)}, interval: 100ms }\n`;
  const byPod = async (collector: CollectorProcess) => {
    const page = await (await collector.get("/metrics")).text();
    const lines = page.matchAll(
      /^mesh_requests_total\{.*,pod="(.*)",namespace="default",observed_by="source"\} (\d+)$/gm,
    );
    return Object.fromEntries([...lines].map(([, pod, requests]) => [pod, Number(requests)]));
  };
  for (const [round, threads] of [2, 0].entries()) {
    const collector = await CollectorProcess.start(threads, `${state}metrics: { pod_labels: true }\n`);
    closers.push(() => collector.stop());
    for (let proxy = 0; proxy < PROXIES; proxy++) await log(collector, proxy, 1 + proxy);
    await settledTotal(collector, (round + 1) * 21);
    const expected = Array.from(
      { length: PROXIES },
      (_, proxy) => [`web-${proxy}`, (round + 1) * (1 + proxy)] as const,
    );
    expect(await byPod(collector)).toEqual(Object.fromEntries(expected));
    const { http } = (await (await collector.get("/api/v1/cardinality")).json()) as { http: { labels: object[] } };
    expect(http.labels[0]).toMatchObject({ label: "pod", values: PROXIES, saved_without: PROXIES - 1 });
    collector.kill("SIGKILL");
    await collector.ended;
  }
  const without = await CollectorProcess.start(0, state);
  closers.push(() => without.stop());
  expect(await total(without)).toBe(0);
  expect(await (await without.get("/metrics")).text()).toMatch(
    /^meshtally_state_set_aside_total\{reason="other_vocabulary"\} 1$/m,
  );
  without.kill("SIGTERM");
  expect((await without.ended).stdout).toMatch(/"expected":"a state of the same [^"]*metrics\.pod_labels/);
});

it("begins anew beside a state that is damaged, and says so", async () => {
  const folder = mkdtempSync(join(tmpdir(), "meshtally-restart-"));
  closers.push(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, "counts.state"), "no state");
  const collector = await CollectorProcess.start(0, `state: { folder: ${JSON.stringify(folder)}, interval: 100ms }\n`);
  closers.push(() => collector.stop());
  const page = await (await collector.get("/metrics")).text();
  expect(page).toContain('meshtally_state_set_aside_total{reason="foreign"} 1\n');
  collector.kill("SIGTERM");
  expect((await collector.ended).stdout).toContain("saved state could not be taken in and was set aside");
});
