// access_log_policy through real Envoy: loggers with a CEL filter on the filter's word keep errors, slow requests and the first of each
// client, while every request is counted; and where nobody gives the word, a logger can be told to keep everything.

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  accessLogConfig,
  type Config,
  collectorClusterConfig,
  filterConfig,
  socketAddress,
  statsConfig,
} from "../../demo/telemetry-config.ts";
import { filterWasmPath } from "../../envoy/project.ts";
import { freePort } from "../tools/free-port.ts";
import { parseExposition } from "./exposition.ts";
import { cluster, type LoneProxy, listener, NODE, type Places, sendRaw, startLoneProxy } from "./lone-proxy.ts";
import { settled } from "./observed.ts";

const STATE = "wasm.istio.access_log_policy";
/** Keeps what the filter says is worth it. */
const OBEYING = `filter_state['${STATE}'] == 'yes'`;
/** The same, but keeps everything when the filter says nothing. */
const FAIL_OPEN = `!('${STATE}' in filter_state) || filter_state['${STATE}'] != 'no'`;

const SLOW_MS = 1500;
const CLUSTER = "inbound|80||";
const EMPTY_CLUSTER = "inbound|81||";
const TYPE = "type.googleapis.com/envoy.extensions";

/** A filter without imports that dies of its first request: too small to keep a compiler waiting for it. */
function dyingFilter(): Buffer {
  const section = (id: number, ...bytes: number[]) => [id, bytes.length, ...bytes];
  const exported = (name: string, kind: number, index: number) => [name.length, ...Buffer.from(name), kind, index];
  return Buffer.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, 3, 0x60, 0, 0, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 3, 0x7f, 0x7f, 0x7f, 1, 0x7f), // (), (i32): i32, (i32 x 3): i32
    ...section(3, 3, 0, 1, 2), // a function of each type
    ...section(5, 1, 0, 1), // a page of memory
    ...section(
      7,
      4,
      ...exported("memory", 2, 0),
      ...exported("proxy_abi_version_0_2_1", 0, 0),
      ...exported("proxy_on_memory_allocate", 0, 1),
      ...exported("proxy_on_request_headers", 0, 2),
    ),
    ...section(10, 3, 2, 0, 0x0b, 4, 0, 0x41, 16, 0x0b, 3, 0, 0x00, 0x0b), // nothing; 16; unreachable
  ]);
}

let proxy: LoneProxy;
let server: Server;
let folder: string;
let filterPort: number;
let dyingPort: number;
let absentPort: number;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "meshtally-access-log-"));
  await writeFile(join(folder, "dying.wasm"), dyingFilter());
  server = createServer(({ url = "/", headers }, response) => {
    const grpc = { "content-type": "application/grpc", "grpc-status": url === "/grpc-5" ? "5" : "0" };
    const answer = () => response.writeHead(url === "/404" ? 404 : 200, headers["content-type"] ? grpc : {}).end("ok");
    setTimeout(answer, url.startsWith("/slow") ? SLOW_MS * 1.2 : 0);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  [filterPort, dyingPort, absentPort] = [await freePort(), await freePort(), await freePort()];
  proxy = await startLoneProxy(() => ({}), configure);
});
afterAll(async () => {
  await proxy?.stop();
  server?.closeAllConnections();
  server?.close();
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

function configure({ admin, receiver }: Places): Config {
  const serverAddress = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const policy = { access_log_policy: { slow_request_duration: `${SLOW_MS}ms` } };
  const filter = filterConfig("inbound", filterWasmPath(), policy);
  const dying = filterConfig("inbound", join(folder, "dying.wasm"));
  return {
    node: NODE,
    admin: { address: socketAddress(admin) },
    stats_config: statsConfig(),
    static_resources: {
      listeners: [
        loggingListener("filter", filterPort, [filter], [obeyingAlsLogger()]),
        loggingListener("dying", dyingPort, [dying]),
        loggingListener("absent", absentPort, []),
      ],
      clusters: [
        cluster(CLUSTER, serverAddress),
        { name: EMPTY_CLUSTER, type: "STATIC" },
        collectorClusterConfig(receiver),
      ],
    },
  };
}

/** Logs three times over: everything, what an obeying logger keeps, and what one that fails open keeps. */
function loggingListener(
  name: string,
  port: number,
  filters: readonly Config[],
  loggers: readonly Config[] = [],
): Config {
  const router = { name: "router", typed_config: { "@type": `${TYPE}.filters.http.router.v3.Router` } };
  const route = (prefix: string, to: string) => ({ match: { prefix }, route: { cluster: to } });
  const manager = {
    access_log: [
      fileLogger(`${name}-all`),
      { ...fileLogger(`${name}-obeying`), filter: celFilter(OBEYING) },
      { ...fileLogger(`${name}-open`), filter: celFilter(FAIL_OPEN) },
      ...loggers,
    ],
    route_config: {
      virtual_hosts: [{ name: "all", domains: ["*"], routes: [route("/nowhere", EMPTY_CLUSTER), route("/", CLUSTER)] }],
    },
    http_filters: [...filters, router],
  };
  return { ...listener("inbound", `127.0.0.1:${port}`, CLUSTER, manager), name };
}

function fileLogger(name: string): Config {
  const format = `%REQ(:PATH)% %RESPONSE_CODE% %FILTER_STATE(${STATE}:PLAIN)%\n`;
  return {
    name: "envoy.access_loggers.file",
    typed_config: {
      "@type": `${TYPE}.access_loggers.file.v3.FileAccessLog`,
      path: join(folder, name),
      log_format: { text_format_source: { inline_string: format } },
    },
  };
}

function obeyingAlsLogger(): Config {
  return { ...accessLogConfig("inbound"), filter: celFilter(OBEYING) };
}

function celFilter(expression: string): Config {
  const typed = { "@type": `${TYPE}.access_loggers.filters.cel.v3.ExpressionFilter`, expression };
  return { extension_filter: { name: "envoy.access_loggers.extension_filters.cel", typed_config: typed } };
}

/** GETs it on a connection, and so from a port, of its own. `hangUpMs`: does not wait longer for the answer. */
function get(
  port: number,
  path: string,
  options: { from?: string; grpc?: boolean; hangUpMs?: number } = {},
): Promise<void> {
  const { from = "127.0.0.1", grpc = false, hangUpMs } = options;
  const headers = grpc ? { "content-type": "application/grpc" } : {};
  return new Promise((resolve, reject) => {
    const call = request({ host: "127.0.0.1", port, path, localAddress: from, agent: false, headers }, (answer) => {
      answer.resume().on("end", resolve);
    });
    call.on("error", hangUpMs === undefined ? reject : () => resolve());
    if (hangUpMs !== undefined) setTimeout(() => call.destroy(), hangUpMs);
    call.end();
  });
}

async function linesOf(name: string): Promise<string[]> {
  return (await readFile(join(folder, name), "utf8")).split("\n").filter((line) => line !== "");
}

async function counted(): Promise<number> {
  const text = await (await fetch(`${proxy.adminUrl}/stats/prometheus?usedonly&filter=istio_requests_total$`)).text();
  return parseExposition(text).reduce((sum, { value }) => sum + value, 0);
}

test("errors, slow requests and each client's first are logged, all are counted; without a word everything may be", async () => {
  await get(filterPort, "/first");
  await get(filterPort, "/second");
  await get(filterPort, "/other-client", { from: "127.0.0.2" });
  await get(filterPort, "/other-client-again", { from: "127.0.0.2" });
  await get(filterPort, "/404");
  await get(filterPort, "/nowhere");
  await get(filterPort, "/grpc-0", { grpc: true });
  await get(filterPort, "/grpc-5", { grpc: true });
  await get(filterPort, "/slow");
  await get(filterPort, "/slow?hung-up", { hangUpMs: 100 });
  await sendRaw(filterPort, Buffer.from("GET /no-host HTTP/1.1\r\n\r\n"));
  await get(filterPort, "/last");
  const expected = [
    "/first 200 yes",
    "/second 200 no",
    "/other-client 200 yes",
    "/other-client-again 200 no",
    "/404 404 yes",
    "/nowhere 503 yes",
    "/grpc-0 200 no",
    "/grpc-5 200 yes",
    "/slow 200 yes",
    "/slow?hung-up 0 yes",
    "/no-host 400 yes",
    "/last 200 no",
  ];
  const notable = expected.filter((line) => line.endsWith("yes"));

  for (const port of [dyingPort, absentPort]) {
    await get(port, "/first");
    await get(port, "/second");
  }

  expect(await settled(counted, (count) => count >= expected.length)).toBe(expected.length);
  const records = async () => proxy.records.length;
  expect(await settled(records, (length) => length >= notable.length)).toBe(notable.length);
  await proxy.stop(); // Envoy writes its files every ten seconds, and when it ends.
  expect(await linesOf("filter-all")).toEqual(expected);
  expect(await linesOf("filter-obeying")).toEqual(notable);
  expect(await linesOf("filter-open")).toEqual(notable);
  // Envoy refuses the request of which a filter dies, fail_open or not, and lets the next ones pass.
  const unsaid = { dying: ["/first 200 -", "/second 200 -"], absent: ["/first 200 -", "/second 200 -"] };
  for (const [name, lines] of Object.entries(unsaid)) {
    expect(await linesOf(`${name}-all`), name).toEqual(lines);
    expect(await linesOf(`${name}-obeying`), name).toEqual([]);
    expect(await linesOf(`${name}-open`), name).toEqual(lines);
  }
});
