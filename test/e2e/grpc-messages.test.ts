// gRPC messages through real Envoy and its grpc_stats filter: reported while a stream lives, and at its end, each message once.

import { once } from "node:events";
import { type ClientHttp2Session, type ClientHttp2Stream, connect, createServer, type Http2Server } from "node:http2";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { LABELS } from "../../collector/vocabulary.ts";
import type { Config } from "../../demo/telemetry-config.ts";
import { parseExposition, type Sample } from "./exposition.ts";
import { type LoneProxy, type Places, plainConfig, startLoneProxy } from "./lone-proxy.ts";

const LOCALHOST = "127.0.0.1";
const MESSAGE = Buffer.from([0, 0, 0, 0, 1, 65]);
/** Labels of the counters: who called whom. */
const PEER_LABELS = LABELS.slice(0, 20);

let server: Http2Server;
let proxy: LoneProxy;

/** Answers each message with `x-answers` messages, and ends with status 0 when the client does. */
function startServer(): Promise<Http2Server> {
  const http2 = createServer();
  http2.on("stream", (stream, headers) => {
    const answers = Number(headers["x-answers"] ?? 1);
    let rest = 0;
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.on("data", (bytes: Buffer) => {
      rest += bytes.length;
      for (; rest >= MESSAGE.length; rest -= MESSAGE.length) {
        for (let i = 0; i < answers; i++) stream.write(MESSAGE);
      }
    });
    stream.on("end", () => stream.end());
    stream.on("error", () => stream.destroy());
  });
  return new Promise((resolve) => http2.listen(0, LOCALHOST, () => resolve(http2)));
}

/** The plain configuration, but its clusters lead to the gRPC server. */
function configure(places: Places): Config {
  const { port } = server.address() as AddressInfo;
  const plugin = { tcp_reporting_duration: "0.2s", metrics: [{ name: "requests_total", dimensions: DIMENSIONS }] };
  const config = plainConfig({ ...places, server: `${LOCALHOST}:${port}` }, plugin, Object.keys(DIMENSIONS));
  const resources = config["static_resources"] as { listeners: Config[]; clusters: Config[] };
  const http2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
      "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
      explicit_http_config: { http2_protocol_options: {} },
    },
  };
  const clusters = resources.clusters.map((cluster) => ({ ...cluster, typed_extension_protocol_options: http2 }));
  return { ...config, static_resources: { ...resources, clusters } };
}

/** Of another metric: the messages do not depend on it. */
const DIMENSIONS = { to_cluster: "xds.cluster_name" };

class Call {
  readonly stream: ClientHttp2Stream;
  answers = 0;
  private rest = 0;

  constructor(session: ClientHttp2Session, answers: number) {
    this.stream = session.request({
      ":method": "POST",
      ":path": "/test.Service/Talk",
      "content-type": "application/grpc",
      te: "trailers",
      "x-answers": String(answers),
    });
    this.stream.on("data", (bytes: Buffer) => {
      this.rest += bytes.length;
      this.answers += Math.floor(this.rest / MESSAGE.length);
      this.rest %= MESSAGE.length;
    });
  }

  send(messages: number): void {
    for (let i = 0; i < messages; i++) this.stream.write(MESSAGE);
  }

  async end(): Promise<void> {
    this.stream.end();
    await once(this.stream, "close");
  }
}

async function samples(): Promise<Sample[]> {
  const response = await fetch(`${proxy.adminUrl}/stats/prometheus`);
  return parseExposition(await response.text());
}

/** [request messages, response messages] of one reporter. */
async function messages(reporter: string): Promise<[number, number]> {
  const all = await samples();
  const sum = (name: string) =>
    all
      .filter((sample) => sample.name === name && sample.labels["reporter"] === reporter)
      .reduce((total, { value }) => total + value, 0);
  return [sum("istio_request_messages_total"), sum("istio_response_messages_total")];
}

beforeAll(async () => {
  server = await startServer();
  proxy = await startLoneProxy(() => ({}), configure);
}, 60_000);

afterAll(async () => {
  await proxy?.stop();
  server?.close();
});

test.each(["source", "destination"])(
  "reported by the %s: in flight, at the end, each once",
  async (reporter) => {
    const port = reporter === "source" ? proxy.outboundPort : proxy.inboundPort;
    const session = connect(`http://${LOCALHOST}:${port}`);
    const call = new Call(session, 2);
    call.send(3);
    await expect.poll(() => messages(reporter)).toEqual([3, 6]);
    call.send(4);
    await expect.poll(() => messages(reporter)).toEqual([7, 14]);
    call.send(1);
    await call.end();
    await expect.poll(() => messages(reporter)).toEqual([8, 16]);

    const calls = Array.from({ length: 50 }, (_, index) => new Call(session, index % 3));
    let sent = 8;
    let answered = 16;
    for (const [index, one] of calls.entries()) {
      one.send(index);
      sent += index;
      answered += index * (index % 3);
    }
    await Promise.all(calls.map((one) => one.end()));
    expect(calls.reduce((sum, one) => sum + one.answers, 16)).toBe(answered);
    await expect.poll(() => messages(reporter)).toEqual([sent, answered]);
    session.close();
  },
  60_000,
);

test("carry the labels that say who called whom, the same in flight as at the end", async () => {
  const all = (await samples()).filter(({ name }) => name.endsWith("_messages_total"));
  expect(all).toHaveLength(4); // two metrics, two reporters: one label set each
  for (const { labels } of all) expect(Object.keys(labels).sort()).toEqual([...PEER_LABELS].sort());
  const bySource = all.filter(({ labels }) => labels["reporter"] === "source");
  for (const { labels } of bySource) {
    expect(labels).toMatchObject({
      source_workload: "lone",
      destination_service: `${LOCALHOST}:${proxy.outboundPort}`,
    });
  }
});
