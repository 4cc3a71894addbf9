// The collector as a whole, in this process: what comes in over a scrape goes out over HTTP.

import { mkdtempSync, rmSync } from "node:fs";
import { createServer, request as httpRequest } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import * as grpc from "@grpc/grpc-js";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Config } from "../../collector/config/config.ts";
import { loadConfig } from "../../collector/config/load.ts";
import { silentLog } from "../../collector/log.ts";
import { type Collector, startCollector } from "../../collector/pipeline.ts";
import { VERSION } from "../../collector/version.ts";
import { acceptsGzip } from "../../collector/web/exposition/format.ts";
import { bytesState, encodeMessage } from "../fixtures/als.ts";
import { readDelimited } from "../fixtures/metric-family.ts";
import { encodeTcpObservation } from "../fixtures/observation.ts";
import { text, values } from "./labels.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const LABELS = {
  reporter: "source",
  source_workload: "web",
  source_workload_namespace: "default",
  destination_workload: "api",
  destination_workload_namespace: "default",
  response_code: "200",
  grpc_response_status: "",
};

/** An Envoy that says it counted `requests`. */
async function startAdmin(requests: () => number, life?: () => number, more = ""): Promise<string> {
  const startMs = Date.now() - 1000;
  const server = createServer((request, response) => {
    if (request.url === "/server_info") response.end('{"node":{"id":"sidecar~web"}}');
    else
      response.end(
        `istio_requests_total{${text(LABELS)}} ${requests()}\nmeshtally_filter_start_time_milliseconds{} ${life?.() ?? startMs}\n${more}`,
      );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function start(
  targets: readonly string[] = [],
  objects: readonly string[] = [],
  more: (defaults: Config) => Partial<Config> = () => ({}),
): Promise<Collector> {
  const defaults = loadConfig({ path: null, env: {} });
  const address = { host: "127.0.0.1", port: 0 };
  const config = {
    ...defaults,
    grpc: { ...defaults.grpc, address },
    http: { address },
    scrape: { ...defaults.scrape, targets },
    identity: { ...defaults.identity, kubernetes: { ...defaults.identity.kubernetes, objects } },
    ...more(defaults),
  };
  const collector = await startCollector(config, () => silentLog);
  closers.unshift(() => collector.stop());
  return collector;
}

/** Streams one message of an access logger, until it was taken in. */
async function log(collector: Collector, message: Buffer): Promise<void> {
  const client = new grpc.Client(collector.grpcAddress, grpc.credentials.createInsecure());
  const same = (bytes: Buffer) => bytes;
  const path = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
  await new Promise<void>((resolve, reject) => {
    const call = client.makeClientStreamRequest(path, same, same, (error) => (error ? reject(error) : resolve()));
    call.write(message);
    call.end();
  });
  client.close();
}

function get(collector: Collector, path: string, init?: RequestInit): Promise<Response> {
  return fetch(`http://${collector.httpAddress}${path}`, init);
}

it.each([
  ["gzip", true],
  ["deflate, GZIP;q=0.5", true],
  ["*", true],
  ["gzip;q=0", false],
  ["gzip; q=0.0, *", false],
  ["gzip;q=1, *;q=0", true],
  ["*;q=0", false],
  ["x-gzip-not", false],
  ["gzip;q=x", false],
  ["", false],
])("accept-encoding %j takes gzip: %s", (header, isTaken) => expect(acceptsGzip(header)).toBe(isTaken));

describe("the collector", () => {
  it("says who is behind an address, by their names", async () => {
    const collector = await start([], [join(import.meta.dirname, "../fixtures/kubernetes")]);
    const answer = await get(collector, "/api/v1/identity?address=10.244.0.5");
    expect(await answer.json()).toMatchObject({
      address: "10.244.0.5",
      kind: "pod",
      service: "reviews.default",
      instance: "reviews-v1-7d4c6b9f8d-x2x4z.default",
      namespace: "default",
      workload: "reviews-v1",
      labels: { app: "reviews", version: "v1" },
    });
    const codes = ["", "?address=10.0.0.256", "?address=10.244.0.5&port=x", "?address=192.0.2.77"].map(
      async (query) => (await get(collector, `/api/v1/identity${query}`)).status,
    );
    expect(await Promise.all(codes)).toEqual([400, 400, 400, 404]);
  });

  it("names by Kubernetes objects who is behind the addresses of an access log", async () => {
    const collector = await start([], [join(import.meta.dirname, "../fixtures/kubernetes")]);
    const remote = { socketAddress: { address: "10.244.0.5", portValue: 40000 } };
    await log(
      collector,
      encodeMessage({
        identifier: { node: { id: "sidecar" }, logName: "inbound" },
        httpLogs: {
          logEntry: [{ commonProperties: { downstreamRemoteAddress: remote }, request: { authority: "a" } }],
        },
      }),
    );
    const metrics = await (await get(collector, "/metrics")).text();
    expect(metrics).toMatch(/^istio_requests_total\{.*source_workload="reviews-v1".*\} 1$/m);
    expect(metrics).toContain('meshtally_identity_objects{kind="Pod"} 3\n');
    expect(metrics).toContain('meshtally_identity_reloads_total{result="ok"} 1\n');
  });

  it("shows on /metrics and in the graph what a scrape said", async () => {
    let requests = 5;
    const collector = await start([await startAdmin(() => requests)]);
    await collector.scrapeNow();
    requests = 8;
    await collector.scrapeNow();

    const metrics = await get(collector, "/metrics");
    expect(metrics.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    const lines = (await metrics.text()).split("\n");
    expect(lines).toContain(`istio_requests_total{${text(LABELS)}} 8`);
    expect(lines).toContain('meshtally_scrapes_total{result="ok"} 3'); // the one at the start too
    expect(lines).toContain('meshtally_label_sets{metrics="http"} 1');
    expect(lines).toContain("meshtally_proxy_lives 1");

    const graph = await (await get(collector, "/api/v1/graph")).json();
    expect(graph).toEqual({
      window_seconds: 60,
      covered_seconds: expect.any(Number),
      nodes: [
        { id: "default/web", workload: "web", namespace: "default", service: "unknown" },
        { id: "default/api", workload: "api", namespace: "default", service: "unknown" },
      ],
      edges: [
        {
          source: "default/web",
          destination: "default/api",
          requests: 8,
          requests_per_second: expect.any(Number),
          errors: 0,
          error_ratio: 0,
          p50_ms: null,
          p90_ms: null,
          p99_ms: null,
          mtls: null,
          reporters: { source: { requests: 8 }, destination: { requests: 0 } },
          completeness: null,
          response_codes: { "200": 8 },
          tcp: { connections_opened: 0, connections_closed: 0, sent_bytes: 0, received_bytes: 0 },
        },
      ],
    });
  });

  it("speaks OpenMetrics and gzip to those who ask", async () => {
    const collector = await start([await startAdmin(() => 5)]);
    await collector.scrapeNow();
    const headers = { accept: "application/openmetrics-text", "accept-encoding": "gzip" };
    const body = await new Promise<Buffer>((resolve, reject) => {
      const request = httpRequest(`http://${collector.httpAddress}/metrics`, { headers }, (response) => {
        expect(response.headers["content-encoding"]).toBe("gzip");
        expect(response.headers["content-type"]).toBe("application/openmetrics-text; version=1.0.0; charset=utf-8");
        const chunks: Buffer[] = [];
        response.on("data", (chunk) => chunks.push(chunk));
        response.on("end", () => resolve(Buffer.concat(chunks)));
      });
      request.on("error", reject).end();
    });
    const metrics = gunzipSync(body).toString();
    expect(metrics).toContain(`istio_requests_total{${text(LABELS)}} 5\n`);
    expect(metrics.endsWith("# EOF\n")).toBe(true);
    expect(metrics.match(/# EOF/g)).toHaveLength(1);
    expect(metrics).not.toContain("\n\n");
  });

  it("speaks protobuf to who asks for it, the collector's own metrics included", async () => {
    const collector = await start([await startAdmin(() => 5)]);
    await collector.scrapeNow();
    const accept =
      "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,text/plain;q=0.2";
    const answer = await get(collector, "/metrics", { headers: { accept } });
    expect(answer.headers.get("content-type")).toBe(
      "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
    );
    const names = readDelimited(Buffer.from(await answer.arrayBuffer())).map(({ name }) => name);
    expect(names).toEqual(
      expect.arrayContaining([
        "istio_requests_total",
        "meshtally_build_info",
        "meshtally_scrapes_total",
        "process_cpu_seconds_total",
      ]),
    );
    expect(new Set(names).size).toBe(names.length);
  });

  it("counts a TCP connection once that is both scraped and logged, and shows it on /metrics and in the graph", async () => {
    const labels = { ...LABELS, response_code: "", request_protocol: "tcp" };
    const shown = text(labels).replace(/(response_code|grpc_response_status)="",/g, "");
    const startMs = Date.now() - 1000;
    const stats = `istio_tcp_connections_opened_total{${shown}} 1\nistio_tcp_sent_bytes_total{${shown}} 10\n`;
    const collector = await start([
      await startAdmin(
        () => 5,
        () => startMs,
        stats,
      ),
    ]);
    await collector.scrapeNow();
    const entry = (sentBytes: number, isClosed: boolean) => {
      const parts = [{ sentBytes, receivedBytes: 7, labels: values(labels) }];
      const observation = bytesState(encodeTcpObservation({ startMs, connectionId: 3, isClosed, parts }));
      const accessLogType = isClosed ? 3 : 2;
      return { commonProperties: { filterStateObjects: { "wasm.meshtally.observation": observation }, accessLogType } };
    };
    const identifier = { node: { id: "sidecar~web" }, logName: "outbound" };
    await log(
      collector,
      encodeMessage({ identifier, tcpLogs: { logEntry: [entry(4, false), entry(9, false), entry(9, false)] } }),
    );
    const samples = async () => {
      const page = await (await get(collector, "/metrics")).text();
      return page.split("\n").filter((line) => line.startsWith("istio_tcp_"));
    };
    expect(await samples()).toEqual([
      `istio_tcp_connections_opened_total{${shown}} 1`,
      `istio_tcp_sent_bytes_total{${shown}} 10`,
      `istio_tcp_received_bytes_total{${shown}} 7`,
    ]);
    await log(collector, encodeMessage({ identifier, tcpLogs: { logEntry: [entry(12, true), entry(9, false)] } }));
    expect(await samples()).toEqual([
      `istio_tcp_connections_opened_total{${shown}} 1`,
      `istio_tcp_connections_closed_total{${shown}} 1`,
      `istio_tcp_sent_bytes_total{${shown}} 12`,
      `istio_tcp_received_bytes_total{${shown}} 7`,
    ]);
    expect(await (await get(collector, "/api/v1/graph")).json()).toMatchObject({
      edges: [
        {
          source: "default/web",
          destination: "default/api",
          tcp: { connections_opened: 1, connections_closed: 1, sent_bytes: 12, received_bytes: 7 },
        },
      ],
    });
  });

  it("tells of each proxy what it sends, and what is missing, with any name as text", async () => {
    const collector = await start([await startAdmin(() => 5)]);
    const name = '<img src=x>~"\u2028';
    const entry = { request: { path: "/" }, response: { responseCode: { value: 200 } } };
    await log(collector, encodeMessage({ identifier: { node: { id: name } }, httpLogs: { logEntry: [entry] } }));
    await collector.scrapeNow();
    const response = await get(collector, "/api/v1/receivers");
    expect(response.headers.get("content-type")).toBe("application/json");
    expect(response.headers.get("x-content-type-options")).toBe("nosniff");
    expect(await response.json()).toMatchObject({
      proxies: [
        {
          proxy: name,
          role: "none",
          access_log: { entries: { http: { observation: 0, derived: 1 } } },
          scrapes: [],
          hint: "None of its entries has an observation of the filter. It sends access logs, and is not scraped.",
        },
        { proxy: "sidecar~web", role: "sidecar", access_log: null, scrapes: [{ result: "ok", logs_written: null }] },
      ],
    });
    const one = await (await get(collector, "/api/v1/receivers?proxy=%3Cimg")).json();
    expect(one.proxies).toHaveLength(1);
  });

  it("says on its gRPC port whether it is ready, too", async () => {
    let answer = (): void => {};
    const server = createServer((_, response) => {
      answer = () => response.writeHead(503).end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closers.push(() => {
      server.closeAllConnections();
      server.close();
    });
    const collector = await start([`http://127.0.0.1:${(server.address() as AddressInfo).port}`]);
    const client = new grpc.Client(collector.grpcAddress, grpc.credentials.createInsecure());
    closers.unshift(() => client.close());
    const same = (bytes: Buffer) => bytes;
    const call = client.makeServerStreamRequest("/grpc.health.v1.Health/Watch", same, same, Buffer.alloc(0));
    const told: number[] = [];
    call.on("data", (bytes: Buffer) => told.push(bytes[1] as number));
    call.on("error", () => {}); // that it is over, at the end
    await vi.waitUntil(() => told.length === 1);
    answer();
    await vi.waitUntil(() => told.length === 2);
    await collector.stop();
    await vi.waitUntil(() => told.length === 3);
    expect(told).toEqual([2, 1, 2]); // NOT_SERVING, SERVING, NOT_SERVING
  });

  it("is ready once the first round of scrapes was tried, also if it failed", async () => {
    const collector = await start(["http://127.0.0.1:1"]);
    await collector.scrapeNow();
    for (const path of ["/readyz", "/healthz", "/livez"]) expect((await get(collector, path)).status).toBe(200);
  });

  it("is alive but not ready before", async () => {
    const server = createServer(() => {}); // never answers
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closers.push(() => {
      server.closeAllConnections();
      server.close();
    });
    const collector = await start([`http://127.0.0.1:${(server.address() as AddressInfo).port}`]);
    const readiness = await get(collector, "/readyz");
    expect([readiness.status, await readiness.text()]).toEqual([503, "not ready: first scrape round\n"]);
    expect((await get(collector, "/livez")).status).toBe(200);
  });

  it("is not ready any more while it shuts down", async () => {
    const collector = await start();
    // A request whose head is not complete keeps the web server open, and its connection takes the next one.
    const [host, port] = collector.httpAddress.split(":");
    const socket = connect(Number(port), host);
    let text = "";
    socket.on("data", (chunk) => {
      text += chunk;
    });
    await new Promise((resolve) => socket.on("connect", resolve));
    socket.write("GET /readyz HTTP/1.1\r\nhost: x\r\n");
    await sleep(50);
    const stopped = collector.stop();
    await sleep(50);
    socket.write("\r\n");
    await stopped;
    expect(text).toMatch(/^HTTP\/1.1 503 .*not ready: shutting down\n$/s);
    socket.destroy();
  });

  it("retires superseded lives as time goes by", async () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] });
    closers.push(() => vi.useRealTimers());
    let lifeMs = Date.now() - 1000;
    const collector = await start([
      await startAdmin(
        () => 5,
        () => lifeMs,
      ),
    ]);
    await collector.scrapeNow();
    lifeMs++;
    await collector.scrapeNow();
    const lives = async () =>
      (await (await get(collector, "/metrics")).text()).match(/^meshtally_proxy_lives (\d)$/m)?.[1];
    expect(await lives()).toBe("2");
    vi.advanceTimersByTime(11 * 60_000);
    expect(await lives()).toBe("1");
  });

  it("lets go of label sets that are over as time goes by", async () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] });
    closers.push(() => vi.useRealTimers());
    const process = { startMs: Date.now() - 1000, workload: "old" };
    const server = createServer((request, response) => {
      const labels = text({ ...LABELS, source_workload: process.workload });
      const lines = `istio_requests_total{${labels}} 5\nmeshtally_filter_start_time_milliseconds{} ${process.startMs}\n`;
      response.end(request.url === "/server_info" ? '{"node":{"id":"sidecar~web"}}' : lines);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closers.push(() => server.close());
    const target = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const collector = await start([target], [], ({ metrics }) => ({ metrics: { ...metrics, expireAfterMs: 60_000 } }));
    await collector.scrapeNow();
    Object.assign(process, { startMs: process.startMs + 1, workload: "new" });
    await collector.scrapeNow();
    const page = async () => (await get(collector, "/metrics")).text();
    expect(await page()).toContain('meshtally_label_sets{metrics="http"} 2');
    await vi.advanceTimersByTimeAsync(11 * 60_000);
    const later = await page();
    expect(later).toContain('meshtally_label_sets{metrics="http"} 1');
    expect(later).toContain('meshtally_label_sets_let_go_total{metrics="http"} 1');
  });

  it("takes access-log streams on the address that it names", async () => {
    const collector = await start();
    const [host, port] = collector.grpcAddress.split(":");
    await new Promise<void>((resolve, reject) => {
      const socket = connect(Number(port), host, () => {
        socket.destroy();
        resolve();
      }).on("error", reject);
    });
  });

  it.each(["0s", "901s", "16m", "60", "1h", "-5s", "", "x"])(
    "answers 400 to the window %j, naming what was expected",
    async (window) => {
      const collector = await start();
      const answer = await get(collector, `/api/v1/graph?window=${window}`);
      expect(answer.status).toBe(400);
      const message = `window: found ${JSON.stringify(window)}, expected a duration from 1s to 15m such as 60s or 5m`;
      expect(await answer.json()).toEqual({ error: { code: "bad_request", message } });
    },
  );

  it.each(["1s", "15m", "900s"])("takes the window %s", async (window) => {
    const collector = await start();
    expect((await get(collector, `/api/v1/graph?window=${window}`)).status).toBe(200);
  });

  it("answers unknown paths and methods in JSON", async () => {
    const collector = await start();
    for (const path of ["/", "/metrics/", "/api/v1/graphs", "//metrics", "/__proto__"]) {
      const answer = await get(collector, path);
      expect([answer.status, (await answer.json()).error.code]).toEqual([404, "not_found"]);
    }
    const answer = await get(collector, "/metrics", { method: "POST", body: "x" });
    expect([answer.status, answer.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
    expect((await answer.json()).error.code).toBe("method_not_allowed");
  });

  it("answers HEAD without a body, and /version", async () => {
    const collector = await start();
    const head = await get(collector, "/metrics", { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
    const version = await (await get(collector, "/version")).json();
    expect(version).toEqual({ version: VERSION, node_version: process.version });
  });

  it("goes on when a reader of /metrics leaves in the middle", async () => {
    const collector = await start([await startAdmin(() => 5)]);
    for (let round = 0; round < 20; round++) {
      await new Promise<void>((resolve) => {
        const request = httpRequest(`http://${collector.httpAddress}/metrics`, (response) => response.resume());
        request
          .on("error", () => {})
          .on("close", resolve)
          .end();
        setTimeout(() => request.destroy(), round / 4);
      });
    }
    expect((await get(collector, "/metrics")).status).toBe(200);
  });

  it("goes on from its state, whatever is configured of how series are shown, and does not show what expired", async () => {
    const folder = mkdtempSync(join(tmpdir(), "meshtally-state-"));
    closers.push(() => rmSync(folder, { recursive: true }));
    const state = { folder, intervalMs: 100 };
    const first = await start([await startAdmin(() => 5)], [], () => ({ state }));
    await first.scrapeNow();
    await first.stop();
    closers.shift();
    const second = await start([], [], ({ metrics }) => ({
      state,
      metrics: { ...metrics, expireAfterMs: 1500, buckets: [[], [5], [], []], nativeHistograms: true },
    }));
    const shown = async () => (await (await get(second, "/metrics")).text()).match(/^istio_requests_total\{.*$/m)?.[0];
    expect(await shown()).toMatch(/ 5$/);
    await vi.waitFor(async () => expect(await shown()).toBeUndefined(), { timeout: 8000, interval: 100 });
  }, 15_000);

  it("starts nothing when an address is taken", async () => {
    const collector = await start();
    const defaults = loadConfig({ path: null, env: {} });
    const [host = "", port] = collector.httpAddress.split(":");
    const free = { host: "127.0.0.1", port: 0 };
    const taken = {
      ...defaults,
      grpc: { ...defaults.grpc, address: free },
      http: { address: { host, port: Number(port) } },
    };
    await expect(startCollector(taken, () => silentLog)).rejects.toMatchObject({ code: "unavailable" });
  });

  it("leaves nothing open when it cannot start: what a certificate lacks does not keep the folder of the state", async () => {
    const folder = mkdtempSync(join(tmpdir(), "meshtally-state-"));
    closers.push(() => rmSync(folder, { recursive: true }));
    const state = { folder, intervalMs: 60_000 };
    const tls = { certificate: join(folder, "none.pem"), key: join(folder, "none.pem"), clientCa: null };
    const address = { host: "127.0.0.1", port: 0 };
    const withoutCertificate = start([], [], () => ({ state, http: { address, tls } }));
    await expect(withoutCertificate).rejects.toThrow();
    await start([], [], () => ({ state }));
  });
});
