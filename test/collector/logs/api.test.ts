// From an access logger's stream to GET /api/v1/logs: the whole collector in this process, real gRPC, entries of a real Envoy.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import { loadConfig } from "../../../collector/config/load.ts";
import { silentLog } from "../../../collector/log.ts";
import { SearchError, type SearchFailure } from "../../../collector/logs/store.ts";
import { type Collector, startCollector } from "../../../collector/pipeline.ts";
import { readLogs } from "../../../collector/web/logs.ts";
import { encodeMessage, type Fields, lengthDelimited } from "../../fixtures/als.ts";
import { failed } from "./process.ts";
import { Stores, until } from "./records.ts";

const FIXTURES = join(import.meta.dirname, "../../fixtures/envoy-als");
const WEB = "sidecar~10.0.0.1~web-1.default~default.svc.cluster.local";

const stores = new Stores();
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
  await stores.clean();
});

async function start(rules: object = {}, folder: string | null = stores.folder()): Promise<Collector> {
  const defaults = loadConfig({ path: null, env: {} });
  const address = { host: "127.0.0.1", port: 0 };
  const logs = { ...defaults.logs, folder, rules: { ...defaults.logs.rules, ...rules } };
  const config = { ...defaults, logs, grpc: { ...defaults.grpc, address }, http: { address } };
  const collector = await startCollector(config, () => silentLog);
  closers.push(() => collector.stop());
  return collector;
}

/** Streams messages of an access logger, until they were taken in. */
async function log(collector: Collector, ...messages: readonly Buffer[]): Promise<void> {
  const client = new grpc.Client(collector.grpcAddress, grpc.credentials.createInsecure());
  const same = (bytes: Buffer) => bytes;
  const path = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
  await new Promise<void>((resolve, reject) => {
    const call = client.makeClientStreamRequest(path, same, same, (error) => (error ? reject(error) : resolve()));
    for (const message of messages) call.write(message);
    call.end();
  });
  client.close();
}

function captured(file: string): Buffer {
  return readFileSync(join(FIXTURES, `${file}.bin`));
}

/** A message of entries as they stand. */
function messageOf(entries: readonly Buffer[], logName: string): Buffer {
  const sender = encodeMessage({ identifier: { node: { id: WEB }, logName } });
  return Buffer.concat([sender, lengthDelimited(2, Buffer.concat(entries.map((entry) => lengthDelimited(1, entry))))]);
}

const httpMessage = (entries: readonly Fields[], id = WEB) =>
  encodeMessage({ identifier: { node: { id }, logName: "outbound" }, httpLogs: { logEntry: entries } });

interface Answer {
  readonly status: number;
  readonly body: {
    readonly matches: number;
    readonly records: readonly Readonly<Record<string, unknown>>[];
    readonly facets: Readonly<Record<string, readonly { value: unknown; count: number }[]>>;
    readonly histogram: { readonly interval_seconds: number; readonly buckets: readonly object[] };
    readonly next: string | null;
    readonly store: { readonly queued: number; readonly records: number; readonly fault: unknown };
    readonly error: { readonly code: string; readonly message: string };
  };
}

async function ask({ httpAddress }: Collector, query = ""): Promise<Answer> {
  const response = await fetch(`http://${httpAddress}/api/v1/logs${query}`);
  return { status: response.status, body: (await response.json()) as Answer["body"] };
}

async function written(collector: Collector, records: number): Promise<void> {
  await until(async () => (await ask(collector, "?limit=1")).body.store.records === records);
}

describe("entries of a real Envoy", () => {
  const all = readdirSync(FIXTURES).flatMap((file) => /^(.+)\.bin$/.exec(file)?.[1] ?? []);

  it("are kept when they failed or have a flag, and found", async () => {
    const collector = await start();
    for (const direction of ["outbound", "inbound"]) {
      await log(collector, messageOf(all.filter((file) => file.startsWith(direction)).map(captured), direction));
    }
    const fine = ["outbound-200", "inbound-200", "inbound-caller-without-sidecar"];
    const kept = all.filter((file) => !fine.includes(file));
    await written(collector, kept.length);
    const { body } = await ask(collector, "?limit=100");
    expect(body.matches).toBe(kept.length);
    expect(body.facets["reason"]).toEqual([{ value: "error", count: kept.length }]);
    expect(new Set(body.records.map(({ requestId }) => requestId)).size).toBeGreaterThan(5);

    const refused = await ask(collector, "?flag=UF&code=503&destination=*&text=connection");
    expect(refused.body.records.length).toBeGreaterThan(0);
    expect(refused.body.records[0]).toMatchObject({
      proxy: WEB,
      role: "sidecar",
      detectPoint: "client",
      reason: "error",
      protocol: "http",
      code: 503,
      flags: expect.arrayContaining(["UF"]),
      success: false,
      method: "GET",
      text: expect.stringMatching(/^\[20\d\d-[^\]]+\] "GET \/[^"]* HTTP\/1\.1" 503 U/),
      body: {
        commonProperties: { responseFlags: { upstreamConnectionFailure: true } },
        request: { requestMethod: "GET" },
      },
    });
  });

  it("that were answered are kept as a sample, if one is asked for", async () => {
    const collector = await start({ sample: 1 });
    await log(
      collector,
      messageOf([captured("outbound-200")], "outbound"),
      messageOf([captured("inbound-200")], "inbound"),
    );
    await written(collector, 2);
    const { body } = await ask(collector, "?reason=sample");
    expect(body.records.map(({ detectPoint, code }) => [detectPoint, code]).sort()).toEqual([
      ["client", 200],
      ["server", 200],
    ]);
  });
});

describe("what is kept", () => {
  it("is redacted, and found by its time, each part of an answer in its place", async () => {
    const collector = await start();
    const headers = {
      authorization: "Bearer s3cret",
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    };
    const entry = failed("6f1c");
    await log(
      collector,
      httpMessage([{ ...entry, request: { ...(entry["request"] as Fields), requestHeaders: headers } }]),
    );
    await written(collector, 1);
    const { status, body } = await ask(
      collector,
      "?from=2026-01-01T00:00:00Z&to=2026-01-01T00:01:00Z&destination=reviews*",
    );
    expect(status).toBe(200);
    expect(JSON.stringify(body)).not.toContain("s3cret");
    expect(body).toMatchObject({
      matches: 1,
      facets: {
        code: [{ value: 503, count: 1 }],
        flag: [{ value: "UF", count: 1 }],
        reason: [{ value: "error", count: 1 }],
      },
      histogram: { interval_seconds: 1, buckets: [{ time: "2026-01-01T00:00:00.000Z", count: 1 }] },
      next: null,
      store: { queued: 0, records: 1, unreadable_files: 0, fault: null },
    });
    expect(body.records[0]).toMatchObject({
      id: "1",
      time: "2026-01-01T00:00:00.000Z",
      path: "/reviews/7",
      endpoint: "GET:/reviews/{id}",
      requestId: "6f1c",
      traceId: "0af7651916cd43dd8448eb211c80319c",
      tags: ["cluster=outbound|9080||reviews.default.svc.cluster.local", "host=reviews"],
      text: '[2026-01-01T00:00:00Z] "GET /reviews/7?token=[redacted] -" 503 UF 0 0 - - "-" "-" "6f1c" "reviews" "-"',
    });
    expect((await ask(collector, "?to=2026-01-01T00:00:00Z")).body.matches).toBe(0);
  });

  it("of a gateway's entry are both sides, and of a connection its end", async () => {
    const collector = await start();
    const upstream = { upstreamRemoteAddress: { socketAddress: { address: "10.0.0.7", portValue: 80 } } };
    await log(collector, httpMessage([failed("1", upstream)], "router~10.0.0.2~gw-1.istio~istio.svc.cluster.local"));
    const tcp = (accessLogType: number) => ({
      commonProperties: { accessLogType, streamId: "a", responseFlags: { upstreamConnectionFailure: true } },
      connectionProperties: { receivedBytes: 1, sentBytes: 2 },
    });
    const logEntry = [tcp(1), tcp(2), tcp(3)];
    await log(
      collector,
      encodeMessage({ identifier: { node: { id: WEB }, logName: "outbound" }, tcpLogs: { logEntry } }),
    );
    await written(collector, 3);
    const { body } = await ask(collector);
    expect(body.records.map(({ protocol, detectPoint, reason }) => [protocol, detectPoint, reason]).sort()).toEqual([
      ["http", "client", "error"],
      ["http", "server", "error"],
      ["tcp", "client", "flagged"],
    ]);
  });

  it("is no more than a minute's share of each kind, and what is dropped is counted", async () => {
    const collector = await start({ perMinute: 5 });
    const slow = {
      ...failed("s"),
      commonProperties: { duration: { seconds: 2 } },
      response: { responseCode: { value: 200 } },
    };
    await log(collector, httpMessage([...Array.from({ length: 50 }, (_, i) => failed(String(i))), slow]));
    await until(async () => (await ask(collector)).body.store.queued === 0);
    const metrics = await (await fetch(`http://${collector.httpAddress}/metrics`)).text();
    const count = (line: string) => Number(new RegExp(`^${line} (\\d+)$`, "m").exec(metrics)?.[1]);
    const dropped = count('meshtally_log_records_dropped_total\\{rule="error",reason="per_minute"\\}');
    expect([40, 45]).toContain(dropped); // a minute may end in between
    const { body } = await ask(collector);
    expect(body.matches).toBe(51 - dropped);
    expect(body.facets["reason"]).toContainEqual({ value: "slow", count: 1 });
  });
});

describe("refused is", () => {
  it("a collector that keeps none, with the key that changes it", async () => {
    const collector = await start({}, null);
    const message = "access logs are not kept: the configuration's logs.folder turns it on";
    expect(await ask(collector)).toEqual({ status: 404, body: { error: { code: "not_found", message } } });
  });

  it("a wrong parameter, by its name", async () => {
    const collector = await start();
    expect(await ask(collector, "?code=many")).toMatchObject({
      status: 400,
      body: {
        error: { code: "bad_request", message: expect.stringMatching(/^code: found "many", expected a whole number/) },
      },
    });
  });

  it.each<[SearchFailure, string]>([
    ["busy", "limit_exceeded"],
    ["too_slow", "limit_exceeded"],
    ["too_large", "limit_exceeded"],
    ["unavailable", "unavailable"],
  ])("what the store has no answer to: %s", async (reason, code) => {
    const store = await stores.open();
    store.search = () => Promise.reject(new SearchError(reason, "why"));
    expect(await readLogs(store, new URLSearchParams())).toEqual({
      status: 503,
      body: { error: { code, message: "why" } },
    });
  });

  it("a folder that another collector of this configuration has", async () => {
    const folder = stores.folder();
    const first = await start({}, folder);
    await log(first, httpMessage([failed("1")]));
    await first.stop();
    closers.length = 0;
    const second = await start({}, folder);
    expect((await ask(second)).body.matches).toBe(1);
  });
});
