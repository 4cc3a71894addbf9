// The same histories through a collector without threads, with one and with three: real gRPC, many proxies, streams and scrapes at once.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { SLOT_BYTES } from "../../../collector/shards/ring.ts";
import { bytesState, encodeMessage, type Fields, structFields } from "../../fixtures/als.ts";
import { encodeObservation, encodeTcpObservation } from "../../fixtures/observation.ts";
import { text, values } from "../labels.ts";
import { CollectorProcess } from "./collector-process.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function start(threads: number, config?: string, preload?: string): Promise<CollectorProcess> {
  const collector = await CollectorProcess.start(threads, config, preload);
  closers.push(() => collector.stop());
  return collector;
}

const PROXIES = 12;
const NOW_MS = Date.now();
/** Of the first proxy the process is old: what its first scrape brings is history. */
const startOf = (proxy: number) => NOW_MS - (proxy === 0 ? 600_000 : 1000);
const idOf = (proxy: number) => `sidecar~10.0.0.${proxy}~web-${proxy}.default~default.svc.cluster.local`;

function identifier(proxy: number, logName: string): Fields {
  const metadata = { NAME: `web-${proxy}`, NAMESPACE: "default", WORKLOAD_NAME: "web", LABELS: { app: "web" } };
  return { identifier: { node: { id: idOf(proxy), metadata: structFields(metadata) }, logName } };
}

/** Label sets that several proxies have in common, and their own. */
function labelsOf(proxy: number, set: number) {
  const names = { source_workload: "web", source_workload_namespace: "default", destination_workload: `api-${set}` };
  const code = set % 4 === 0 ? "503" : "200";
  return { reporter: "source", ...names, source_version: `v${proxy % 5}`, response_code: code };
}

function observed(proxy: number, set: number): Fields {
  const labels = values(labelsOf(proxy, set));
  const numbers = { startMs: startOf(proxy), durationMs: 10 * set, requestBytes: 100 + set, responseBytes: 2000 };
  const state = bytesState(encodeObservation({ ...numbers, labels }));
  return {
    commonProperties: {
      filterStateObjects: { "wasm.meshtally.observation": state },
      upstreamCluster: "outbound|80||a.b",
    },
    request: { path: `/items/${set}`, authority: "api", requestMethod: 1 },
    response: { responseCode: { value: set % 4 === 0 ? 503 : 200 } },
  };
}

function derived(set: number): Fields {
  return {
    commonProperties: {
      timeToLastDownstreamTxByte: { nanos: 1_000_000 * (set + 1) },
      responseFlags: { upstreamConnectionFailure: set === 1 },
    },
    request: { path: `/derived/${set}`, authority: `api-${set % 3}`, requestMethod: 1 },
    response: { responseCode: { value: set === 1 ? 503 : 200 } },
  };
}

function connection(proxy: number, isClosed: boolean): Fields {
  const labels = { ...labelsOf(proxy, 9), response_code: "", request_protocol: "tcp" };
  const parts = [{ sentBytes: isClosed ? 90 : 40, receivedBytes: 7, labels: values(labels) }];
  const observation = encodeTcpObservation({ startMs: startOf(proxy), connectionId: proxy, isClosed, parts });
  const states = { "wasm.meshtally.observation": bytesState(observation) };
  return { commonProperties: { filterStateObjects: states, accessLogType: isClosed ? 3 : 2 } };
}

/** What the proxy's two access loggers send. */
async function logOf(collector: CollectorProcess, proxy: number): Promise<void> {
  const inbound = collector.open();
  const outbound = collector.open();
  outbound.send(encodeMessage(identifier(proxy, "outbound")));
  inbound.send(encodeMessage({ ...identifier(proxy, "inbound"), httpLogs: { logEntry: [derived(0), derived(1)] } }));
  for (let message = 0; message < 20; message++) {
    outbound.send(encodeMessage({ httpLogs: { logEntry: [0, 1, 2, 3, 4].map((set) => observed(proxy, set)) } }));
    inbound.send(encodeMessage({ httpLogs: { logEntry: [derived(message % 7)] } }));
    if (message % 5 === 0) await sleep(0); // so that streams alternate
  }
  outbound.send(encodeMessage({ tcpLogs: { logEntry: [connection(proxy, false), connection(proxy, true)] } }));
  await Promise.all([inbound.end(), outbound.end()]);
}

/** What goes wrong, one after the other, for each leaves the last word. */
async function faultsOf(collector: CollectorProcess): Promise<void> {
  const moving = collector.open(); // another proxy, then a third, on one stream
  for (const proxy of [1, 2, 5]) {
    moving.send(encodeMessage({ ...identifier(proxy, "outbound"), httpLogs: { logEntry: [observed(proxy, 1)] } }));
    moving.send(encodeMessage({ httpLogs: { logEntry: [observed(proxy, 2)] } }));
  }
  moving.send(Buffer.from([0x0a, 0xff])); // an identifier that is cut off names nobody
  moving.send(encodeMessage({ httpLogs: { logEntry: [observed(5, 3)] } }));
  await moving.end();
  const nameless = collector.open();
  nameless.send(encodeMessage({ httpLogs: { logEntry: [observed(1, 1)] } }));
  await nameless.end();
}

/** The admin interface of an Envoy that counted a few requests more, and fewer, than it logged. */
async function startAdmin(proxy: number): Promise<string> {
  const samples = [3, 60].map((requests, set) => `istio_requests_total{${text(labelsOf(proxy, set))}} ${requests}\n`);
  const server = createServer((request, response) => {
    if (request.url === "/server_info") response.end(JSON.stringify({ node: { id: idOf(proxy) } }));
    else response.end(`${samples.join("")}meshtally_filter_start_time_milliseconds{} ${startOf(proxy)}\n`);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Lines without what depends on the moment; sums as exact as adding in another order leaves them. */
function linesOf(metrics: string): string[] {
  const lines = metrics.split("\n").filter((line) => /^(istio|mesh|meshtally)_/.test(line));
  const timeless = lines.filter(
    (line) =>
      !/_requests_per_second|_timestamp_seconds|_backpressure_seconds_total|window="minute"|^meshtally_(cells|proxy_lives) /.test(
        line,
      ),
  );
  return timeless.map((line) => line.replace(/ [^ ]+$/, (value) => ` ${Number(value).toPrecision(9)}`)).sort();
}

/** Of the graph's nodes the version is that of the last report. */
const TIMES = [
  "connected_since",
  "last_entry",
  "last_ok",
  "time",
  "covered_seconds",
  "requests_per_second",
  "start",
  "seconds",
  "target",
  "version",
];

/** The same of an answer in JSON; lists in any order. */
function timeless(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(timeless).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([key]) => !TIMES.includes(key));
  return Object.fromEntries(entries.map(([key, inner]) => [key, timeless(inner)]));
}

const KINDS = ["service", "instance", "endpoint", "edge"];
const PATHS = [
  "/api/v1/graph?window=5m",
  "/api/v1/receivers",
  "/api/v1/cardinality?top=1000",
  ...KINDS.map((kind) => `/api/v1/indicators?kind=${kind}`),
];

async function historyThrough(threads: number, targets: readonly string[], settings = "") {
  const collector = await start(threads, `scrape: { interval: 1h, targets: [${targets.join(", ")}] }\n${settings}`);
  while ((await collector.get("/readyz")).status !== 200) await sleep(5); // what was scraped before it was logged is history
  await Promise.all(Array.from({ length: PROXIES }, (_, proxy) => logOf(collector, proxy)));
  await faultsOf(collector);
  const metrics = async () => (await collector.get("/metrics")).text();
  while (!(await metrics()).includes("\nmeshtally_access_log_streams 0\n")) await sleep(5); // answered, and closed
  const read = async (path: string) => timeless(await (await collector.get(path)).json());
  const answers = await Promise.all(PATHS.map(async (path) => [path, await read(path)]));
  return { metrics: linesOf(await metrics()), ...Object.fromEntries(answers) };
}

describe("threads", () => {
  it("show what the main thread alone would show", async () => {
    const targets = await Promise.all([0, 1, 2, 3].map(startAdmin));
    const alone = await historyThrough(0, targets);
    const total = PROXIES * 20 * 6 + PROXIES * 4 + 7;
    expect(sumOf(alone.metrics, "meshtally_access_log_entries_total")).toBe(total);
    expect(alone.metrics).toContain('meshtally_access_log_dropped_total{reason="message_malformed"} 1.00000000');
    expect(await historyThrough(1, targets)).toEqual(alone);
    expect(await historyThrough(3, targets)).toEqual(alone);
  });

  it("count by the bounds that they are told", async () => {
    const settings = "metrics: { bounds: [7.5, 33, 123, 75000], buckets: { request_bytes: [33, 123] } }\n";
    const targets = await Promise.all([0, 1].map(startAdmin));
    const trafficThrough = async (threads: number) => {
      const { metrics } = await historyThrough(threads, targets, settings);
      return metrics.filter((line: string) => /^(istio|mesh)_/.test(line));
    };
    const alone = await trafficThrough(0);
    const boundsOf = (name: string) => {
      const lines = alone.filter((line: string) => line.startsWith(`${name}_bucket{`));
      return [...new Set(lines.map((line: string) => /,le="([^"]+)"/.exec(line)?.[1]))];
    };
    expect(boundsOf("istio_request_duration_milliseconds").sort()).toEqual(["+Inf", "123", "33", "7.5", "75000"]);
    expect(boundsOf("mesh_request_bytes").sort()).toEqual(["+Inf", "123", "33"]);
    expect(await trafficThrough(2)).toEqual(alone);
  });

  it("name ends by Kubernetes objects, serve taps, and count the streams that are too many", async () => {
    const objects = join(import.meta.dirname, "../../fixtures/kubernetes");
    const collector = await start(2, `identity: { kubernetes: { objects: [${objects}] } }\nlimits: { streams: 1 }\n`);
    const tapped = await collector.get("/api/v1/tap");
    const stream = collector.open();
    const remote = { socketAddress: { address: "10.244.0.5", portValue: 40000 } };
    const entry = { commonProperties: { downstreamRemoteAddress: remote }, request: { path: "/", authority: "a" } };
    stream.send(encodeMessage(identifier(1, "inbound")));
    stream.send(encodeMessage({ httpLogs: { logEntry: [entry] } }));
    const chunk = await tapped.body?.getReader().read();
    const line = JSON.parse(Buffer.from(chunk?.value ?? []).toString());
    expect(line).toMatchObject({ proxy: idOf(1), source: { workload: "reviews-v1", analyzer: "k8s-mesh" } });
    await expect(collector.open().end()).rejects.toThrow("RESOURCE_EXHAUSTED");
    await stream.end();
    const metrics = await (await collector.get("/metrics")).text();
    expect(metrics).toMatch(/^istio_requests_total\{.*source_workload="reviews-v1".*\} 1$/m);
    expect(metrics).toContain('meshtally_identity_objects{kind="Pod"} 3\n');
    expect(metrics).toContain('meshtally_access_log_streams_ended_total{how="refused"} 1\n');
  });

  it("compare what access logs and stats tell of a proxy, and add up its edges", async () => {
    const proxies = [0, 1, 2, 3];
    const targets = await Promise.all(proxies.map(startAdmin));
    const collector = await start(2, `scrape: { interval: 50ms, targets: [${targets.join(", ")}] }\n`);
    const ratios = async () => {
      const lines = linesOf(await (await collector.get("/metrics")).text());
      return lines.filter((line) => line.startsWith("mesh_completeness_ratio{"));
    };
    for (const expected of [0, 2 * (proxies.length + 5)]) {
      await Promise.all(proxies.map((proxy) => logOf(collector, proxy)));
      // The first time there is nothing to compare with, the second time all that came since.
      for (let lines = await ratios(); lines.length < expected; lines = await ratios()) await sleep(20);
      await sleep(500); // ten scrapes
    }
    const told = await ratios();
    expect(told.filter((line) => line.includes('of="proxy"'))).toHaveLength(2 * proxies.length);
    const edge = 'of="edge",source="default/web",destination="unknown/api-4"';
    expect(told).toContain(`mesh_completeness_ratio{${edge},channel="access_log"} 1.00000000`);
    expect(told).toContain(`mesh_completeness_ratio{${edge},channel="stats"} 0.00000000`);
  });

  it("take messages of any length, in order", async () => {
    const collector = await start(2);
    const stream = collector.open();
    const long = Array.from({ length: 1500 }, () => observed(1, 1)); // longer than a slot of the ring
    stream.send(encodeMessage(identifier(1, "outbound")));
    for (const logEntry of [long, [observed(1, 2)], long, long]) stream.send(encodeMessage({ httpLogs: { logEntry } }));
    await stream.end();
    const lines = linesOf(await (await collector.get("/metrics")).text());
    expect(sumOf(lines, "meshtally_access_log_entries_total")).toBe(3 * long.length + 1);
    expect(encodeMessage({ httpLogs: { logEntry: long } }).length).toBeGreaterThan(SLOT_BYTES);
  });

  it("end the process when one of them dies, since its counts are lost", async () => {
    const die =
      "if (!require('node:worker_threads').isMainThread) setInterval(() => require('node:fs').existsSync(flag) && process.exit(7), 10);";
    const collector = await start(2, "", die);
    collector.raiseFlag();
    const { code, stdout, stderr } = await collector.ended;
    expect(code).toBe(1);
    expect(stdout).toContain('"msg":"counts are lost, so the process ends"');
    expect(stderr).toMatch(/^thread [01] died, and what it had counted with it: it ended with code 7\n$/);
  });
});

const BLOCK =
  "if (!require('node:worker_threads').isMainThread) setInterval(() => { while (require('node:fs').existsSync(flag)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5); }, 5);";

describe("a thread that is stuck", () => {
  it("holds back those who send, takes nothing from memory for them, and loses nothing", async () => {
    const collector = await start(1, "", BLOCK);
    const entries = Array.from({ length: 200 }, (_, set) => observed(1, set % 5));
    const message = encodeMessage({ ...identifier(1, "outbound"), httpLogs: { logEntry: entries } });
    const before = rssOf(collector.pid);
    collector.raiseFlag();
    await sleep(50);
    const stream = collector.open();
    const messages = Math.ceil((64 * 2 ** 20) / message.length);
    let flushed = 0;
    for (let sent = 0; sent < messages; sent++) stream.send(message, () => flushed++);
    await sleep(500);
    expect(await (await collector.get("/livez")).text()).toBe("ok\n");
    expect(flushed * message.length).toBeLessThan(24 * 2 ** 20);
    expect(rssOf(collector.pid) - before).toBeLessThan(64 * 2 ** 20);
    const late = await collector.get("/metrics");
    expect([late.status, await late.json()]).toEqual([
      503,
      { error: { code: "unavailable", message: "a thread did not answer within 5000 ms; ask again" } },
    ]);
    collector.lowerFlag();
    await stream.end();
    const lines = linesOf(await (await collector.get("/metrics")).text());
    expect(sumOf(lines, "meshtally_access_log_entries_total")).toBe(messages * entries.length);
  });

  it("takes in what was received before the process ends, and answers who asked", async () => {
    const collector = await start(2, "", BLOCK);
    const stream = collector.open();
    stream.send(encodeMessage({ ...identifier(1, "outbound"), httpLogs: { logEntry: [observed(1, 1)] } }));
    while (!(await received(collector))) await sleep(5);
    collector.raiseFlag();
    await sleep(50);
    for (let sent = 0; sent < 50; sent++) stream.send(encodeMessage({ httpLogs: { logEntry: [observed(1, 2)] } }));
    await stream.end();
    const asked = collector.get("/metrics");
    await sleep(50);
    collector.kill("SIGTERM");
    await sleep(100);
    collector.lowerFlag();
    const lines = linesOf(await (await asked).text());
    expect(sumOf(lines, "meshtally_access_log_entries_total")).toBe(51);
    expect((await collector.ended).code).toBe(0);
  });

  it("keeps the process no longer than for a while from its end, a state that is yet to be saved included", async () => {
    const folder = mkdtempSync(join(tmpdir(), "meshtally-stuck-"));
    closers.push(() => rmSync(folder, { recursive: true }));
    const config = `state: { folder: ${JSON.stringify(folder)}, interval: 1h }\nshutdown: { drain: 100ms }\n`;
    const collector = await start(1, config, BLOCK);
    collector.raiseFlag();
    await sleep(50);
    collector.kill("SIGTERM");
    expect((await collector.ended).code).toBe(0);
  }, 60_000);
});

async function received(collector: CollectorProcess): Promise<boolean> {
  return sumOf(linesOf(await (await collector.get("/metrics")).text()), "meshtally_access_log_entries_total") > 0;
}

function sumOf(lines: readonly string[], name: string): number {
  const values = lines.filter((line) => line.startsWith(`${name}{`)).map((line) => Number(line.split(" ").at(-1)));
  return values.reduce((sum, value) => sum + value, 0);
}

function rssOf(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;
}
