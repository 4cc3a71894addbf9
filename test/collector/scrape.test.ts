import { readFileSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { afterEach, describe, expect, it, vi } from "vitest";
import { AddressIndex } from "../../collector/identity/lookup.ts";
import { DEFAULT_INSTANCE_RULE, DEFAULT_SERVICE_RULE, nameRule } from "../../collector/identity/names.ts";
import { noObjects } from "../../collector/identity/objects.ts";
import { type Log, silentLog } from "../../collector/log.ts";
import { ProxyStats } from "../../collector/proxy-stats/proxy-stats.ts";
import { ScrapedStats } from "../../collector/receiver/scrape/scraped-stats.ts";
import { adminSpec } from "../../collector/receiver/scrape/target-spec.ts";
import { Scraper, type ScraperOptions } from "../../collector/receiver/scrape.ts";
import type { StatsReport } from "../../collector/record/record.ts";
import { type ScrapeResult, SelfMetrics } from "../../collector/self.ts";
import { DEFAULT_SHAPES } from "../../collector/series/shape.ts";
import { HISTOGRAM_BOUNDS, HttpMetric } from "../../collector/vocabulary.ts";
import { key, text } from "./labels.ts";

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

async function listen(listener: RequestListener): Promise<string> {
  const server: Server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** An admin interface whose answers a test may change as it goes. */
class Admin {
  nodeId = "node-1";
  lifeMs = 1000;
  requests = 1;
  /** Paths asked for, query included. */
  readonly asked: string[] = [];
  onServerInfo = (): void => {};
  /** Of the node. */
  metadata: object = {};
  /** Lines besides. */
  more = "";

  readonly listener: RequestListener = ({ url = "" }, response) => {
    this.asked.push(url);
    if (url.startsWith("/server_info")) {
      this.onServerInfo();
      response.end(JSON.stringify({ version: "x", node: { id: this.nodeId, metadata: this.metadata } }));
      return;
    }
    response.end(this.stats());
  };

  stats(): string {
    return (
      `istio_requests_total{${text()}} ${this.requests}\n` +
      `meshtally_filter_start_time_milliseconds{} ${this.lifeMs}\n${this.more}`
    );
  }

  count(path: string): number {
    return this.asked.filter((url) => url.startsWith(path)).length;
  }
}

function setUp(
  targets: readonly string[],
  options: Partial<
    Pick<ScraperOptions, "intervalMs" | "timeoutMs" | "maxBodyBytes" | "concurrency" | "log" | "proxyStats">
  > = {},
) {
  const self = new SelfMetrics("test");
  const reports: StatsReport[] = [];
  const scraper = new Scraper({
    targets,
    intervalMs: 20,
    timeoutMs: 2000,
    maxBodyBytes: 1 << 20,
    concurrency: 8,
    shapes: DEFAULT_SHAPES,
    log: silentLog,
    ...options,
    sink: (report) => {
      reports.push(report);
      return "ok";
    },
    self,
  });
  closers.unshift(() => scraper.stop());
  const results = async (): Promise<Partial<Record<ScrapeResult, number>>> => {
    const { values } = await self.scrapes.get();
    return Object.fromEntries(
      values.filter(({ value }) => value > 0).map(({ labels, value }) => [labels.result, value]),
    );
  };
  return { scraper, reports, results, self };
}

describe("Scraper", () => {
  it("hands on what a target's stats say, under the node's id", async () => {
    const admin = new Admin();
    const { scraper, reports, results } = setUp([await listen(admin.listener)]);
    await scraper.scrapeNow();
    expect(reports).toHaveLength(1);
    expect(reports[0]).toMatchObject({ proxy: "node-1", lifeMs: 1000, samples: [{ labelKey: key(), requests: 1 }] });
    expect(await results()).toEqual({ ok: 1 });
  });

  it("asks only for stats of our own names, and for whether the process was hot restarted", async () => {
    const admin = new Admin();
    const { scraper } = setUp([await listen(admin.listener)]);
    await scraper.scrapeNow();
    const { searchParams } = new URL(admin.asked[0] as string, "http://x");
    const filter = new RegExp(searchParams.get("filter") ?? "");
    expect("wasmcustom.reporter=.=source;.;response_flags=.=-;.;istio_request_bytes").toMatch(filter);
    expect("wasmcustom.reporter=.=source;.;response_flags=.=-;.;istio_tcp_sent_bytes_total").toMatch(filter);
    expect("wasmcustom.meshtally_filter_start_time_milliseconds").toMatch(filter);
    expect("wasmcustom.component.proxy.tag.6e6f;.meshtally_filter_node").toMatch(filter);
    expect("server.hot_restart_epoch").toMatch(filter);
    expect("wasmcustom.component.proxy.tag.1.29.0;.istio_build").not.toMatch(filter);
    expect("wasmcustom.reporter=.=source;.;istio_request_messages_total").not.toMatch(filter);
    expect("wasmcustom.reason=.=host_call;.;meshtally_filter_faults_total").not.toMatch(filter);
    expect("cluster.istio_requests_total.upstream_rq").not.toMatch(filter);
  });

  describe("with Envoy's own stats", () => {
    const OWN = 'envoy_cluster_upstream_cx_active{envoy_cluster_name="db"} 3\nenvoy_server_concurrency{} 2\n';
    const WEB = { NAME: "web-1", NAMESPACE: "default", LABELS: { app: "web" } };
    const rules = {
      service: nameRule(DEFAULT_SERVICE_RULE),
      instance: nameRule(DEFAULT_INSTANCE_RULE),
      domain: "cluster.local",
    };
    const ownOf = () => {
      const stats = new ProxyStats(100);
      const proxyStats = new ScrapedStats({ stats, rules, lookup: new AddressIndex(noObjects(), rules) });
      return { proxyStats, shown: () => [...stats.render("text")].join("").match(/^envoy_.*/gm) ?? [] };
    };

    it("asks for those that are shown besides, and shows them under the name that the node's metadata gives", async () => {
      const admin = new Admin();
      admin.more = OWN;
      admin.metadata = WEB;
      const { proxyStats, shown } = ownOf();
      const { scraper, reports } = setUp([await listen(admin.listener)], { proxyStats });
      await scraper.scrapeNow();
      await scraper.scrapeNow();
      const filter = new RegExp(new URL(admin.asked[0] as string, "http://x").searchParams.get("filter") ?? "");
      expect("cluster.outbound|80||b.default.svc.cluster.local.upstream_cx_active").toMatch(filter);
      expect("server.memory_allocated").toMatch(filter);
      expect("wasmcustom.meshtally_filter_start_time_milliseconds").toMatch(filter);
      expect("cluster.a.upstream_rq_200").not.toMatch(filter);
      expect("http.admin.downstream_cx_active").not.toMatch(filter);
      expect(shown()).toEqual([
        'envoy_cluster_upstream_cx_active{service="web.default",instance="web-1.default",envoy_cluster_name="db"} 3',
        'envoy_server_concurrency{service="web.default",instance="web-1.default"} 2',
      ]);
      expect(reports).toHaveLength(2);
    });

    it("shows those of a proxy without the filter", async () => {
      const { proxyStats, shown } = ownOf();
      const target = await listen(({ url = "" }, response) => {
        response.end(url.startsWith("/server_info") ? JSON.stringify({ node: { id: "node-1" } }) : OWN);
      });
      const { scraper } = setUp([target], { proxyStats });
      await scraper.scrapeNow();
      expect(shown()).toContain('envoy_server_concurrency{service="-.-",instance="node-1"} 2');
    });

    it("counts all the same where nobody says who the node is", async () => {
      const admin = new Admin();
      admin.more = OWN;
      const { proxyStats } = ownOf();
      const target = await listen((request, response) => {
        const isSecond = request.url?.startsWith("/server_info") && admin.count("/server_info") > 0;
        if (isSecond) response.destroy();
        else admin.listener(request, response);
      });
      const { scraper, results } = setUp([target], { proxyStats });
      await scraper.scrapeNow();
      expect(await results()).toEqual({ ok: 1 });
    });
  });

  describe("its status of a target", () => {
    const LOGGED = "envoy_access_logs_grpc_access_log_logs_written{} 7\n";

    it("is of who was read, with what its access loggers say of themselves", async () => {
      const admin = new Admin();
      const target = await listen(admin.listener);
      const { scraper } = setUp([target]);
      const unread = {
        target,
        proxy: null,
        result: null,
        atMs: 0,
        okAtMs: 0,
        detail: "",
        logsWritten: null,
        logsDropped: null,
        missingBounds: {},
      };
      expect(scraper.statuses).toEqual([unread]);
      await scraper.scrapeNow();
      const read = { ...unread, proxy: "node-1", result: "ok", atMs: expect.any(Number), okAtMs: expect.any(Number) };
      expect(scraper.statuses).toEqual([read]);
      admin.more = LOGGED;
      await scraper.scrapeNow();
      expect(scraper.statuses).toEqual([{ ...read, logsWritten: 7, logsDropped: 0 }]);
    });

    it("names a proxy without the filter, too, once it says who it is", async () => {
      const admin = new Admin();
      let isNamed = false;
      const target = await listen((request, response) => {
        if (request.url?.startsWith("/stats")) response.end(LOGGED);
        else if (isNamed) admin.listener(request, response);
        else response.end("{}");
      });
      const { scraper, results } = setUp([target]);
      await scraper.scrapeNow();
      expect(scraper.statuses).toMatchObject([{ proxy: null, result: "no_start_time", logsWritten: 7 }]);
      isNamed = true;
      for (let round = 0; round < 3; round++) await scraper.scrapeNow();
      expect(scraper.statuses).toMatchObject([{ proxy: "node-1", result: "no_start_time" }]);
      expect(admin.count("/server_info")).toBe(1);
      expect(await results()).toEqual({ no_start_time: 4 });
    });

    it("keeps who it was when it cannot be read any more, and says why", async () => {
      const admin = new Admin();
      let isGone = false;
      const target = await listen((request, response) => {
        if (isGone) response.writeHead(503).end();
        else admin.listener(request, response);
      });
      const { scraper } = setUp([target]);
      await scraper.scrapeNow();
      isGone = true;
      await scraper.scrapeNow();
      const detail = "/stats/prometheus answered 503";
      expect(scraper.statuses).toMatchObject([{ proxy: "node-1", result: "http_status", detail }]);
    });
  });

  it("asks a proxy for its node only when its process is another", async () => {
    const admin = new Admin();
    const { scraper, reports } = setUp([await listen(admin.listener)]);
    for (let round = 0; round < 3; round++) await scraper.scrapeNow();
    expect(admin.count("/server_info")).toBe(1);
    admin.lifeMs = 2000;
    admin.nodeId = "node-2";
    await scraper.scrapeNow();
    expect(admin.count("/server_info")).toBe(2);
    expect(reports.map(({ proxy, lifeMs }) => [proxy, lifeMs])).toEqual([
      ["node-1", 1000],
      ["node-1", 1000],
      ["node-1", 1000],
      ["node-2", 2000],
    ]);
  });

  describe("of stats that say whose they are", () => {
    const nodeLine = (id: string) =>
      `meshtally_filter_node{component="proxy",tag="${Buffer.from(id).toString("hex")}"} 1\n`;
    const epochLine = (epoch: number) => `envoy_server_hot_restart_epoch{} ${epoch}\n`;

    function serve(more: () => string, isAdmin = false) {
      const admin = new Admin();
      return {
        admin,
        url: listen((request, response) => {
          admin.more = more();
          if (!isAdmin && !request.url?.startsWith("/stats/prometheus")) response.writeHead(404).end();
          else admin.listener(request, response);
        }),
      };
    }

    it("needs one request a reading, also of a process that is new, and no /server_info", async () => {
      let id = "node-a";
      const { admin, url } = serve(() => nodeLine(id) + epochLine(0));
      const { scraper, reports, results } = setUp([await url]);
      await scraper.scrapeNow();
      admin.lifeMs = 2000;
      id = "büro~b";
      await scraper.scrapeNow();
      expect(admin.asked).toHaveLength(2);
      expect(reports.map(({ proxy, lifeMs }) => [proxy, lifeMs])).toEqual([
        ["node-a", 1000],
        ["büro~b", 2000],
      ]);
      expect(await results()).toEqual({ ok: 2 });
      expect(scraper.statuses).toMatchObject([{ proxy: "büro~b", result: "ok" }]);
    });

    it.each<[string, string, Partial<Record<ScrapeResult, number>>]>([
      ["a hot restart", nodeLine("a") + epochLine(1), { hot_restarted: 1 }],
      ["a hot restart, without a node", epochLine(2), { hot_restarted: 1 }],
      ["two nodes", nodeLine("a") + nodeLine("b") + epochLine(0), { malformed: 1 }],
      ["two processes", "meshtally_filter_start_time_milliseconds{} 7\n", { malformed: 1 }],
      ["no hot restart to be seen, and nobody else to ask", nodeLine("a"), { http_status: 1 }],
      ["no node, and nobody else to ask", epochLine(0), { http_status: 1 }],
    ])("counts nothing of stats with %s", async (_, more, counted) => {
      const { url } = serve(() => more);
      const { scraper, reports, results } = setUp([await url]);
      await scraper.scrapeNow();
      expect(await results()).toEqual(counted);
      expect(reports).toEqual([]);
    });

    it("asks /server_info where they do not say it all", async () => {
      const { admin, url } = serve(() => nodeLine("a"), true);
      const { scraper, reports } = setUp([await url]);
      await scraper.scrapeNow();
      expect(reports).toMatchObject([{ proxy: "node-1" }]);
      expect(admin.count("/server_info")).toBe(1);
    });
  });

  describe("of delimited protobuf", () => {
    const RECORDED = join(import.meta.dirname, "../fixtures/stats/envoy-1.40.0");
    const TYPE = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

    it("asks for it, and takes what comes as what it is said to be", async () => {
      const listener = (form: "pb" | "txt"): RequestListener => {
        return (request, response) => {
          if (request.url?.startsWith("/server_info")) return response.end('{"node":{"id":"n"}}');
          expect(request.headers.accept?.split(",")[0]).toBe(TYPE);
          response.setHeader("content-type", form === "pb" ? TYPE : "text/plain; charset=UTF-8");
          return response.end(readFileSync(`${RECORDED}.${form}`));
        };
      };
      const { scraper, reports } = setUp([await listen(listener("pb")), await listen(listener("txt"))]);
      await scraper.scrapeNow();
      expect(reports).toHaveLength(2);
      expect(reports[0]?.samples).toHaveLength(2);
      expect(reports[1]).toEqual(reports[0]);
    });

    it.each([
      ["breaks off within a family", (body: Buffer) => body.subarray(0, -1)],
      ["is none", () => Buffer.from("istio_requests_total{} 1\n")],
    ])("is malformed when it %s, and nothing of it is counted", async (_, change) => {
      const body = change(readFileSync(`${RECORDED}.pb`));
      const { scraper, reports, results } = setUp([
        await listen((_request, response) => response.setHeader("content-type", TYPE).end(body)),
      ]);
      await scraper.scrapeNow();
      expect(await results()).toEqual({ malformed: 1 });
      expect(reports).toEqual([]);
    });
  });

  it("tells once of a target without the filter, and again when it had one in between", async () => {
    let hasFilter = false;
    const admin = new Admin();
    const url = await listen((request, response) => {
      if (hasFilter || request.url?.startsWith("/server_info")) admin.listener(request, response);
      else response.end("");
    });
    const told: string[] = [];
    const log: Log = { ...silentLog, warn: (_fields, message) => told.push(message) };
    const { scraper, results } = setUp([url], { log });
    for (hasFilter of [false, false, true, false, false]) await scraper.scrapeNow();
    expect(told).toHaveLength(2);
    expect(await results()).toEqual({ ok: 1, no_start_time: 4 });
  });

  describe("whose targets come and go", () => {
    it("reads new ones, reads those that are left out no more, and each once", async () => {
      const admins = [new Admin(), new Admin()];
      admins.forEach((admin, index) => {
        admin.nodeId = `node-${index}`;
      });
      const [first = "", second = ""] = await Promise.all(admins.map(({ listener }) => listen(listener)));
      const { scraper, reports } = setUp([first]);
      scraper.start();
      await expect.poll(() => reports.length, { timeout: 5000 }).toBeGreaterThan(0);
      scraper.use([second, second].map(adminSpec));
      await sleep(50); // what was under way
      reports.length = 0;
      await expect.poll(() => reports.length, { timeout: 5000 }).toBeGreaterThan(2);
      expect(new Set(reports.map(({ proxy }) => proxy))).toEqual(new Set(["node-1"]));
      expect(scraper.statuses.map(({ target }) => target)).toEqual([second]);
    });

    it("knows one that comes back: what its counters said before they began anew is not lost", async () => {
      const admin = new Admin();
      const url = await listen(admin.listener);
      const { scraper, reports } = setUp([url]);
      admin.requests = 500;
      await scraper.scrapeNow();
      admin.requests = 50;
      await scraper.scrapeNow();
      scraper.use([]);
      await scraper.scrapeNow();
      scraper.use([adminSpec(url)]);
      admin.requests = 60;
      await scraper.scrapeNow();
      expect(reports.map(({ samples }) => samples[0]?.requests)).toEqual([500, 550, 560]);
    });

    it("knows so many that were left out, those that were the last", async () => {
      const admin = new Admin();
      const url = await listen((request, response) => {
        request.url = request.url?.replace(/^\/[a-z]\d*/, "") ?? "";
        admin.listener(request, response);
      });
      const { scraper, reports } = setUp([`${url}/a`, `${url}/b`]);
      for (admin.requests of [500, 50]) await scraper.scrapeNow();
      expect(reports.slice(-2).map(({ samples }) => samples[0]?.requests)).toEqual([550, 550]);
      const others = Array.from({ length: 999 }, (_, index) => adminSpec(`${url}/x${index}`));
      scraper.use([adminSpec(`${url}/b`), ...others]); // a is left first
      scraper.use([]); // and 1,000 more
      scraper.use([`${url}/a`, `${url}/b`].map(adminSpec));
      admin.requests = 60;
      await scraper.scrapeNow();
      expect(new Set(reports.slice(-2).map(({ samples }) => samples[0]?.requests))).toEqual(new Set([60, 560]));
    });

    it("takes what a source says of them: who it is, and that there is no filter", async () => {
      const admin = new Admin();
      admin.more = "envoy_server_hot_restart_epoch{} 0\n";
      const url = await listen(admin.listener);
      const plain = await listen((_request, response) => response.end(""));
      const { scraper, reports, results } = setUp([]);
      scraper.use([
        { ...adminSpec(url), nodeId: "told" },
        { ...adminSpec(plain), nodeId: "plain", hasFilter: false },
      ]);
      await scraper.scrapeNow();
      expect(reports).toMatchObject([{ proxy: "told" }]);
      expect(await results()).toEqual({ ok: 1, no_filter: 1 });
      expect(admin.count("/server_info")).toBe(0);
      expect(scraper.statuses.map(({ proxy }) => proxy)).toEqual(["told", "plain"]);
    });
  });

  it("makes the readings of a process cumulative when its counters begin anew, and says so", async () => {
    const admin = new Admin();
    const { scraper, reports, self } = setUp([await listen(admin.listener)]);
    for (const requests of [500, 50, 60, 5]) {
      admin.requests = requests;
      await scraper.scrapeNow();
    }
    admin.lifeMs = 2000;
    admin.requests = 2;
    await scraper.scrapeNow();
    expect(reports.map(({ samples }) => samples[0]?.requests)).toEqual([500, 550, 560, 565, 2]);
    expect((await self.scrapeCounterResets.get()).values).toMatchObject([{ value: 2 }]);
  });

  it("never takes an answer that was cut short for counters that began anew", async () => {
    const admin = new Admin();
    let isCut = false;
    const url = await listen((request, response) => {
      if (!isCut) return admin.listener(request, response);
      response.writeHead(200, { "content-length": "1000" });
      return response.write(`istio_requests_total{${text()}} 1`, () => response.destroy());
    });
    const { scraper, reports, results } = setUp([url]);
    admin.requests = 12;
    for (isCut of [false, true, false]) await scraper.scrapeNow();
    expect(await results()).toEqual({ ok: 2, unreachable: 1 });
    expect(reports.map(({ samples }) => samples[0]?.requests)).toEqual([12, 12]);
  });

  it("never counts the stats of one process for the node of another", async () => {
    const admin = new Admin();
    const { scraper, reports, results } = setUp([await listen(admin.listener)]);
    admin.onServerInfo = () => {
      admin.lifeMs = 2000; // restarted since its stats were read
      admin.nodeId = "node-2";
      admin.onServerInfo = () => {};
    };
    await scraper.scrapeNow();
    expect(reports).toEqual([]);
    expect(await results()).toEqual({ restarted: 1 });
    await scraper.scrapeNow();
    expect(reports).toMatchObject([{ proxy: "node-2", lifeMs: 2000 }]);
  });

  it("takes gzip", async () => {
    const admin = new Admin();
    const url = await listen((request, response) => {
      if (request.url?.startsWith("/server_info")) return admin.listener(request, response);
      expect(request.headers["accept-encoding"]).toBe("gzip");
      return response.setHeader("content-encoding", "gzip").end(gzipSync(admin.stats()));
    });
    const { scraper, reports } = setUp([url]);
    await scraper.scrapeNow();
    expect(reports).toHaveLength(1);
  });

  it.each<[ScrapeResult, string, (admin: Admin) => RequestListener]>([
    ["http_status", "answers 503", () => (_, response) => response.writeHead(503).end("no")],
    ["too_large", "answers with more than is allowed", () => (_, response) => response.end("x\n".repeat(1 << 20))],
    ["unreachable", "breaks off", () => (_, response) => response.write("istio_", () => response.destroy())],
    [
      "malformed",
      "says gzip and sends none",
      () => (_, response) => response.setHeader("content-encoding", "gzip").end("plain"),
    ],
    [
      "unreachable",
      "breaks off inside gzip",
      (admin) => (_, response) =>
        response
          .setHeader("content-encoding", "gzip")
          .write(gzipSync(admin.stats()).subarray(0, 50), () => response.destroy()),
    ],
    [
      "malformed",
      "cuts its gzip short",
      (admin) => (_, response) =>
        response.setHeader("content-encoding", "gzip").end(gzipSync(admin.stats()).subarray(0, 50)),
    ],
    ["no_start_time", "has no filter", () => (_, response) => response.end("")],
    [
      "malformed",
      "has a /server_info that is no JSON",
      (admin) => (request, response) =>
        request.url?.startsWith("/stats") ? admin.listener(request, response) : response.end("no"),
    ],
    [
      "node_missing",
      "has a /server_info without a node",
      (admin) => (request, response) =>
        request.url?.startsWith("/stats") ? admin.listener(request, response) : response.end("null"),
    ],
    [
      "hot_restarted",
      "took over another process's counters",
      (admin) => (request, response) =>
        request.url?.startsWith("/stats")
          ? admin.listener(request, response)
          : response.end('{"node":{"id":"n"},"command_line_options":{"restart_epoch":1}}'),
    ],
    ["timeout", "does not answer", () => () => {}],
    ["timeout", "stops in the middle", () => (_, response) => response.write("istio_")],
  ])("counts %s for a target that %s", async (result, _behaviour, listener) => {
    const { scraper, reports, results } = setUp([await listen(listener(new Admin()))], {
      timeoutMs: result === "timeout" ? 300 : 10_000,
    });
    await scraper.scrapeNow();
    expect(await results()).toEqual({ [result]: 1 });
    expect(reports).toEqual([]);
  });

  it("leaves no connection open to a target that answers 503 and goes on writing", async () => {
    const open = new Set<unknown>();
    const url = await listen((request, response) => {
      open.add(request.socket);
      request.socket.on("close", () => open.delete(request.socket));
      response.writeHead(503).write("x");
      const timer = setInterval(() => response.write("x"), 5);
      response.on("close", () => clearInterval(timer));
    });
    const { scraper, results } = setUp([url]);
    for (let round = 0; round < 3; round++) await scraper.scrapeNow();
    expect(await results()).toEqual({ http_status: 3 });
    await sleep(100);
    expect(open.size).toBe(0);
  });

  it("keeps to its interval, also when the clock is set back while it reads", async () => {
    const admin = new Admin();
    const { now } = Date;
    closers.push(async () => vi.restoreAllMocks());
    admin.onServerInfo = () => vi.spyOn(Date, "now").mockImplementation(() => now() - 3_600_000);
    const { scraper } = setUp([await listen(admin.listener)], { intervalMs: 100 });
    scraper.start();
    await sleep(550);
    expect(admin.count("/stats")).toBeGreaterThanOrEqual(4); // two for the first reading
    expect(admin.count("/stats")).toBeLessThanOrEqual(8);
  });

  it("counts a target that is not there, and what was passed over in one that is", async () => {
    const url = await listen((request, response) => {
      if (request.url?.startsWith("/server_info")) return response.end('{"node":{"id":"n"}}');
      return response.end(`istio_requests_total{a="b"} 1\nistio_requests_total 1\n${new Admin().stats()}`);
    });
    const { scraper, results, self } = setUp(["http://127.0.0.1:1", url]);
    await scraper.scrapeNow();
    expect(await results()).toEqual({ unreachable: 1, ok: 1 });
    const skipped = (await self.scrapeSkipped.get()).values.map(({ labels, value }) => [labels.reason, value]);
    expect(skipped).toEqual([
      ["malformed", 2], // twice read: before and after the node was asked for
      ["foreign", 2],
    ]);
  });

  it("counts the labels that stats_tags lack in each scrape, and logs them once per proxy with the expression to add", async () => {
    const mangled = "source_app___web___source_version___v1___istio_requests_total{} 5\n";
    const admins = [new Admin(), new Admin()];
    admins.forEach((admin, index) => {
      admin.nodeId = `node-${index}`;
      const { stats } = admin;
      admin.stats = () => mangled + stats.call(admin);
    });
    const urls = await Promise.all(admins.map(({ listener }) => listen(listener)));
    const lines: object[] = [];
    const log: Log = { ...silentLog, warn: (fields, message) => lines.push({ ...fields, message }) };
    const { scraper, reports, self } = setUp(urls, { log });
    for (let round = 0; round < 3; round++) await scraper.scrapeNow();
    const counted = (await self.scrapeUntaggedLabels.get()).values.map(({ labels, value }) => [labels.label, value]);
    expect(counted).toEqual([
      ["source_app", 6],
      ["source_version", 6],
    ]);
    expect(reports[0]?.samples).toMatchObject([{ labelKey: key(), requests: 1 }]);
    expect(lines).toHaveLength(2);
    expect(lines).toContainEqual({
      target: urls[0],
      proxy: "node-0",
      missing: [
        { tag_name: "source_app", regex: "\\b(source_app=\\.=(.*?);\\.;)" },
        { tag_name: "source_version", regex: "\\b(source_version=\\.=(.*?);\\.;)" },
      ],
      message: expect.stringMatching(/^stats_tags of proxy lack labels/),
      suppressed: 0,
    });
  });

  it("tells of bounds that a proxy does not count by, in its status, and once in the log", async () => {
    const admin = new Admin();
    const bucket = (bound: number | string) => `istio_request_bytes_bucket{${text()},le="${bound}"} 1\n`;
    admin.more = [...HISTOGRAM_BOUNDS.filter((bound) => bound !== 25 && bound !== 0.5), "+Inf"].map(bucket).join("");
    const lines: object[] = [];
    const log: Log = { ...silentLog, warn: (fields, message) => lines.push({ ...fields, message }) };
    const { scraper, reports } = setUp([await listen(admin.listener)], { log });
    for (let round = 0; round < 3; round++) await scraper.scrapeNow();
    const missing = { istio_request_bytes: [0.5, 25] };
    expect(lines).toMatchObject([{ missing, message: expect.stringContaining("metrics.bounds") }]);
    expect(scraper.statuses).toMatchObject([{ missingBounds: missing }]);
    const [, ten, twentyFive] = [5, 10, 25].map(
      (bound) =>
        reports[0]?.samples[0]?.histograms[HttpMetric.RequestBytes]?.cumulative[HISTOGRAM_BOUNDS.indexOf(bound)],
    );
    expect([ten, twentyFive]).toEqual([1, 1]);
    admin.more = "";
    await scraper.scrapeNow();
    expect(scraper.statuses).toMatchObject([{ missingBounds: {} }]);
  });

  it("has room for so many names of labels that stats_tags lack, and none for more", async () => {
    const admin = new Admin();
    let round = 0;
    const { stats } = admin;
    const names = () => Array.from({ length: 30 }, (_, index) => `r${round}_${index}___x___istio_requests_total{} 1\n`);
    admin.stats = () => names().join("") + stats.call(admin);
    const { scraper, self } = setUp([await listen(admin.listener)]);
    for (; round < 5; round++) await scraper.scrapeNow();
    const { values } = await self.scrapeUntaggedLabels.get();
    expect(values).toHaveLength(101);
    expect(values.find(({ labels }) => labels.label === "other")?.value).toBe(50);
  });

  it("reads on its own, is ready after the first round, and delays no target for a slow one", async () => {
    const urls = [await listen(new Admin().listener), await listen(() => {})];
    const { scraper, reports } = setUp(urls, { timeoutMs: 300 });
    scraper.start();
    expect(scraper.isReady).toBe(false);
    await sleep(250);
    expect(reports.length).toBeGreaterThan(3);
    expect(scraper.isReady).toBe(false);
    await sleep(250);
    expect(scraper.isReady).toBe(true);
  });

  it("reads no more targets at once than it may, and each of them in the end", async () => {
    let atOnce = 0;
    let most = 0;
    const admin = new Admin();
    const url = await listen(async (request, response) => {
      most = Math.max(most, ++atOnce);
      await sleep(5);
      atOnce--;
      request.url = request.url?.replace(/^\/\d/, "") ?? "";
      admin.listener(request, response);
    });
    const { scraper, results } = setUp(
      Array.from({ length: 10 }, (_, index) => `${url}/${index}`),
      { concurrency: 2 },
    );
    await scraper.scrapeNow();
    expect(most).toBe(2);
    expect(await results()).toEqual({ ok: 10 });
  });

  it("lets no target that is slow keep its place from the others", async () => {
    const slow = Array.from({ length: 4 }, (_, index) =>
      listen((_request, response) => response.write(`# ${index}\n`)),
    );
    const urls = [...(await Promise.all(slow)), await listen(new Admin().listener)];
    const { scraper, reports } = setUp(urls, { concurrency: 2, timeoutMs: 20_000 });
    scraper.start();
    await expect.poll(() => reports.length, { timeout: 5000 }).toBeGreaterThan(0);
    await scraper.stop();
  });

  it("reads no target that it is told of after its end", async () => {
    let asked = 0;
    const admin = await listen((_request, response) => {
      asked++;
      response.end();
    });
    const { scraper } = setUp([], { intervalMs: 10 });
    scraper.start();
    await scraper.stop();
    scraper.use([adminSpec(admin)]);
    await sleep(100);
    expect(asked).toBe(0);
  });

  it("is ready at once without targets, and breaks off what is under way when it is stopped", async () => {
    const none = setUp([]);
    none.scraper.start();
    await sleep(0);
    expect(none.scraper.isReady).toBe(true);

    const { scraper, results } = setUp([await listen(() => {})], { timeoutMs: 60_000 });
    scraper.start();
    await sleep(50);
    await scraper.stop();
    expect(await results()).toEqual({});
  });
});
