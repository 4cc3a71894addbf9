// GET /api/v1/tap of the whole collector in this process, read by real HTTP clients.

import { createServer, get as httpGet, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import * as grpc from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import { loadConfig } from "../../collector/config/load.ts";
import { silentLog } from "../../collector/log.ts";
import { type Collector, startCollector } from "../../collector/pipeline.ts";
import { AlsReceiver } from "../../collector/receiver/als.ts";
import { SelfMetrics } from "../../collector/self.ts";
import { Taps } from "../../collector/web/tap.ts";
import { encodeMessage, type Fields } from "../fixtures/als.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

async function start(taps = 8): Promise<Collector> {
  const defaults = loadConfig({ path: null, env: {} });
  const address = { host: "127.0.0.1", port: 0 };
  const config = {
    ...defaults,
    grpc: { ...defaults.grpc, address },
    http: { address },
    limits: { ...defaults.limits, taps },
  };
  const collector = await startCollector(config, () => silentLog);
  closers.push(() => collector.stop());
  return collector;
}

interface Line {
  readonly [field: string]: unknown;
}

/** One who taps. `pause` stops reading. */
class Client {
  text = "";
  isEnded = false;

  constructor(readonly response: IncomingMessage) {
    response.setEncoding("utf8");
    response.on("data", (chunk: string) => {
      this.text += chunk;
    });
    response.on("close", () => {
      this.isEnded = true;
    });
    closers.unshift(() => response.destroy());
  }

  get lines(): Line[] {
    return this.text
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Line);
  }
}

function tap(
  collector: Pick<Collector, "httpAddress">,
  query = "",
  headers: Record<string, string> = {},
): Promise<Client> {
  return new Promise((resolve, reject) => {
    const url = `http://${collector.httpAddress}/api/v1/tap${query}`;
    httpGet(url, { headers, agent: false }, (response) => resolve(new Client(response))).on("error", reject);
  });
}

async function until(isSo: () => boolean): Promise<void> {
  for (let tries = 0; !isSo(); tries++) {
    if (tries > 1000) throw new Error("it did not come to be");
    await sleep(5);
  }
}

function entry(code: number, path = "/reviews/7"): Fields {
  return {
    commonProperties: { startTime: { seconds: 1_767_225_600 }, upstreamCluster: "outbound|80||api.ns2.svc" },
    request: { requestMethod: 1, path, authority: "api" },
    response: { responseCode: { value: code } },
  };
}

function messageOf(entries: readonly Fields[], id = "sidecar~1~web.ns1~x"): Buffer {
  return encodeMessage({ identifier: { node: { id }, logName: "outbound" }, httpLogs: { logEntry: entries } });
}

/** Streams the messages of an access logger, until all were taken in. */
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

async function refusal(collector: Collector, query = ""): Promise<[number, unknown]> {
  const response = await fetch(`http://${collector.httpAddress}/api/v1/tap${query}`);
  return [response.status, await response.json()];
}

describe("a tap", () => {
  it("shows each entry as a line of JSON, a gateway's as two", async () => {
    const collector = await start();
    const client = await tap(collector);
    expect(client.response.statusCode).toBe(200);
    expect(client.response.headers["content-type"]).toBe("application/x-ndjson");
    await log(collector, messageOf([entry(200), entry(503)]), messageOf([entry(404)], "router~1~gw.ns1~x"));
    await until(() => client.lines.length === 4);
    expect(client.lines.map(({ role, detectPoint, code, success }) => [role, detectPoint, code, success])).toEqual([
      ["sidecar", "client", 200, true],
      ["sidecar", "client", 503, false],
      ["router", "server", 404, true],
      ["router", "client", 404, false],
    ]);
  });

  it("shows them as events to whom asks for these", async () => {
    const collector = await start();
    const client = await tap(collector, "", { accept: "text/event-stream" });
    expect(client.response.headers["content-type"]).toBe("text/event-stream");
    await log(collector, messageOf([entry(200, "/a\n\ndata: x"), entry(503)]));
    await until(() => client.text.split("\n\n").length === 3);
    const events = client.text.split("\n\n").slice(0, -1);
    for (const event of events) expect(event).toMatch(/^data: [^\n]*$/);
    expect(events.map((event) => JSON.parse(event.slice("data: ".length)).code)).toEqual([200, 503]);
  });

  it("shows each reader what it asked for", async () => {
    const collector = await start();
    const failed = await tap(collector, "?code=500..599&endpoint=GET:/reviews/*");
    const all = await tap(collector, "?success=true&success=false");
    const none = await tap(collector, "?protocol=tcp");
    await log(collector, messageOf([entry(200), entry(503, "/other"), entry(503)]));
    await until(() => all.lines.length === 3);
    await until(() => failed.lines.length === 1);
    expect(failed.lines).toMatchObject([{ code: 503, endpoint: "GET:/reviews/{id}" }]);
    expect(none.text).toBe("");
  });

  it("sends a path of control characters as text of one line", async () => {
    const collector = await start();
    const client = await tap(collector);
    await log(collector, messageOf([entry(200, '/a\r\n{"lost":9}\u2028"<x>\u0000')]));
    await until(() => client.text.endsWith("\n"));
    expect(client.lines).toHaveLength(1);
    expect(client.lines[0]?.["endpoint"]).toBe('GET:/a\r\n{"lost":9}\u2028"<x>\u0000');
  });

  it("ends when the collector does", async () => {
    const collector = await start();
    const client = await tap(collector);
    await collector.stop();
    await until(() => client.isEnded);
    expect(client.response.complete).toBe(true);
  });

  it("is not begun by HEAD", async () => {
    const collector = await start(1);
    for (let i = 0; i < 3; i++) {
      const response = await fetch(`http://${collector.httpAddress}/api/v1/tap`, { method: "HEAD" });
      expect(response.status).toBe(200);
    }
  });
});

describe("a slow reader", () => {
  it("loses lines, is told how many, and slows neither the log nor other readers", async () => {
    const collector = await start();
    const slow = await tap(collector);
    const quick = await tap(collector, "?code=503");
    slow.response.pause();
    await sleep(20);
    const messages = 120;
    const perMessage = 500;
    const numbered = (number: number) => ({
      ...entry(number % perMessage === 0 ? 503 : 200),
      request: { requestMethod: 1, path: "/", requestHeadersBytes: number },
    });
    const message = (first: number) =>
      messageOf(Array.from({ length: perMessage }, (_, index) => numbered(first + index)));
    await log(collector, ...Array.from({ length: messages }, (_, index) => message(1 + index * perMessage)));
    await until(() => quick.lines.length === messages); // while the other one stands still
    slow.response.resume();
    const lost = () => slow.lines.reduce((sum, line) => sum + ((line["lost"] as number | undefined) ?? 0), 0);
    const seen = () => slow.lines.filter((line) => "code" in line).length;
    await until(() => seen() + lost() === messages * perMessage);
    expect(lost()).toBeGreaterThan(0);
    let last = 0; // each line stands where it belongs: what is missing before it was told before it
    for (const { lost, requestBytes } of slow.lines) {
      last += (lost as number | undefined) ?? 1;
      if (lost === undefined) expect(requestBytes).toBe(last);
    }

    await log(collector, messageOf([entry(418)]));
    await until(() => slow.lines.at(-1)?.["code"] === 418);
    const metrics = await (await fetch(`http://${collector.httpAddress}/metrics`)).text();
    expect(metrics).toContain(`meshtally_access_log_entries_total{labels="derived"} ${messages * perMessage + 1}`);
  });
});

it("a tap of which nothing is told for long stays open", async () => {
  const taps = new Taps(8, new SelfMetrics("test"));
  const server = createServer((request, response) => taps.serve(request, response, new URLSearchParams()));
  server.timeout = 50;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => server.close());
  const client = await tap({ httpAddress: `127.0.0.1:${(server.address() as AddressInfo).port}` });
  await sleep(400);
  expect([taps.isActive, client.isEnded]).toEqual([true, false]);
});

describe("what is refused", () => {
  it("one tap more than limits.taps, until one of them ends", async () => {
    const collector = await start(2);
    const first = await tap(collector);
    await tap(collector);
    const message = "more than 2 taps at once (limits.taps): end one of them";
    expect(await refusal(collector)).toEqual([503, { error: { code: "limit_exceeded", message } }]);
    first.response.destroy();
    let again = await tap(collector);
    for (let tries = 0; again.response.statusCode === 503 && tries < 100; tries++) {
      await sleep(10);
      again = await tap(collector);
    }
    await log(collector, messageOf([entry(200)]));
    await until(() => again.lines.length === 1);
  });

  it.each([
    ["?kode=5", 'there is no field "kode", expected one of time, proxy, '],
    ["?code=5xx", 'code: found "5xx", expected a whole number, a range such as 500..599, 100.. or ..99, or null'],
  ])("%s", async (query, message) => {
    const collector = await start();
    expect(await refusal(collector, query)).toEqual([
      400,
      { error: { code: "bad_request", message: expect.stringContaining(message) } },
    ]);
  });
});

describe("while nobody taps", () => {
  it("the receiver asks once per message, and hands nothing on", () => {
    const asked: boolean[] = [];
    let taken = 0;
    let isActive = false;
    const receiver = new AlsReceiver({
      sink: () => null,
      connectionSink: () => null,
      taps: [
        {
          get isActive() {
            asked.push(isActive);
            return isActive;
          },
          take: () => taken++,
        },
      ],
      self: new SelfMetrics("test"),
      log: silentLog,
    });
    const stream = receiver.open();
    stream?.message(messageOf([entry(200), entry(503)]));
    expect([asked, taken]).toEqual([[false], 0]);
    isActive = true;
    stream?.message(messageOf([entry(200), entry(503)]));
    expect([asked, taken]).toEqual([[false, true], 1]);
  });

  it("a reader along that fails costs neither the stream nor another one", () => {
    let taken = 0;
    let counted = 0;
    const failing = {
      isActive: true,
      take: () => {
        throw new Error("a fault of ours");
      },
    };
    const receiver = new AlsReceiver({
      sink: () => {
        counted++;
        return null;
      },
      connectionSink: () => null,
      taps: [failing, { isActive: true, take: () => taken++ }],
      self: new SelfMetrics("test"),
      log: silentLog,
    });
    const stream = receiver.open();
    stream?.message(messageOf([entry(200)]));
    stream?.message(messageOf([entry(200)]));
    expect([counted, taken]).toEqual([2, 2]);
  });

  it("a tap is active from its first reader until the last one is gone", async () => {
    const taps = new Taps(8, new SelfMetrics("test"));
    const server = createServer((request, response) => taps.serve(request, response, new URLSearchParams()));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closers.push(() => server.close());
    expect(taps.isActive).toBe(false);
    const httpAddress = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const clients = [await tap({ httpAddress }), await tap({ httpAddress })];
    clients[0]?.response.destroy();
    await sleep(50);
    expect(taps.isActive).toBe(true);
    clients[1]?.response.destroy();
    await until(() => !taps.isActive);
  });
});
