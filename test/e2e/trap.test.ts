// What if the filter trapped? A build that does so on demand, in real Envoy under each configuration that we ship: from then on
// traffic passes it by, and what was counted stays. What becomes of the streams of that moment depends on how Envoy was told to
// fail open, and Envoy's newer way is the worse one.

import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import {
  Agent,
  type ClientRequest,
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request,
  type Server,
} from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Config, socketAddress, statsConfig } from "../../demo/telemetry-config.ts";
import { shippedFilters } from "../fixtures/shipped-filters.ts";
import { buildTrappingFilter } from "../fixtures/trapping-build.ts";
import { freePort } from "../tools/free-port.ts";
import { parseExposition } from "./exposition.ts";
import { cluster, type LoneProxy, listener, NODE, type Places, startLoneProxy } from "./lone-proxy.ts";

const CALLBACKS = ["request_headers", "response_headers", "log"] as const;
const AFTERWARDS = 30;
const BODY = Buffer.alloc(100_000, "0123456789abcdef");
const HALF = BODY.length / 2;
const ROUTER: Config = {
  name: "envoy.filters.http.router",
  typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
};

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** Answers with the body that it got; `/held` and `/begun` wait for `release`, the latter with half an answer sent. */
class Upstream {
  readonly received: IncomingHttpHeaders[] = [];
  private readonly server: Server;
  private waiting: (() => void)[] = [];

  constructor() {
    this.server = createServer(async (incoming, response) => {
      this.received.push(incoming.headers);
      const { url = "/", headers } = incoming;
      if (url === "/begun") response.writeHead(200).write(BODY.subarray(0, HALF));
      if (url !== "/") await new Promise<void>((resolve) => this.waiting.push(resolve));
      if (url === "/begun") {
        response.end(BODY.subarray(HALF));
        return;
      }
      const body = await buffer(incoming).catch(() => null); // null: Envoy hung up
      const trap = headers["x-answer-trap"];
      if (body !== null) response.writeHead(200, trap === undefined ? {} : { "x-trap": trap }).end(body);
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    return `127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  release(): void {
    for (const resolve of this.waiting) resolve();
    this.waiting = [];
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

function begin(port: number, path: string, headers: Record<string, string>, agent?: Agent): ClientRequest {
  const options = { port, host: "127.0.0.1", path, method: "POST", headers: { host: "web", ...headers } };
  return request({ ...options, ...(agent === undefined ? {} : { agent }) });
}

async function answered(outgoing: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => outgoing.on("response", resolve).on("error", reject));
}

async function whole(message: IncomingMessage): Promise<Answer> {
  return { status: message.statusCode ?? 0, headers: message.headers, body: await buffer(message) };
}

async function call(port: number, headers: Record<string, string> = {}, agent?: Agent): Promise<Answer> {
  const outgoing = begin(port, "/", headers, agent);
  outgoing.end(BODY);
  return whole(await answered(outgoing));
}

function expectWhole({ status, body }: Answer): void {
  expect(status).toBe(200);
  expect(body.equals(BODY)).toBe(true);
}

const folder = mkdtempSync(join(tmpdir(), "meshtally-test-"));
const wasmFile = join(folder, "trapping.wasm");

/** Configurations whose filters run in one VM: when it dies, it does so for all of them. */
interface SharedVm {
  readonly title: string;
  readonly filters: readonly Config[];
  /** By the deprecated `fail_open` Envoy lets the streams go on that have the filter in their chain; by `failure_policy` it ends them. */
  readonly isStreamKept: boolean;
}

function byVm(filters: readonly Config[]): SharedVm[] {
  const groups = new Map<string, Config[]>();
  for (const filter of filters) {
    const key = JSON.stringify(pluginOf(filter)["vm_config"]);
    groups.set(key, [...(groups.get(key) ?? []), filter]);
  }
  return [...groups.values()].map((group) => {
    const plugin = pluginOf(group[0] as Config);
    const { vm_id = "of the WasmPlugins" } = plugin["vm_config"] as { vm_id?: string };
    return { title: `VM ${vm_id}`, filters: group, isStreamKept: plugin["fail_open"] === true };
  });
}

function pluginOf(filter: Config): Config {
  return (filter["typed_config"] as { config: Config }).config;
}

const vms = byVm(shippedFilters(wasmFile));

beforeAll(() => buildTrappingFilter(wasmFile));
afterAll(() => rm(folder, { recursive: true }));

describe.each(CALLBACKS)("a trap in proxy_on_%s", (callback) => {
  let proxy: LoneProxy;
  let upstream: Upstream;
  const ports = new Map<Config, number>();

  beforeAll(async () => {
    upstream = new Upstream();
    const server = await upstream.listen();
    for (const filter of vms.flatMap(({ filters }) => filters)) ports.set(filter, await freePort());
    proxy = await startLoneProxy(
      () => ({}),
      (places) => configure(places, server),
    );
  });
  afterAll(async () => {
    await upstream?.close();
    await proxy?.stop();
  });

  function configure({ admin }: Places, server: string): Config {
    return {
      node: NODE,
      admin: { address: socketAddress(admin) },
      stats_config: statsConfig(),
      static_resources: {
        listeners: [...ports].map(([filter, port]) => ({
          ...listener("inbound", `127.0.0.1:${port}`, "server", {
            access_log: [],
            http_filters: [filter, ROUTER],
            delayed_close_timeout: "0.05s", // for the client of an early 503, which takes a second by default
          }),
          name: `listener-${port}`,
        })),
        clusters: [cluster("server", server)],
      },
    };
  }

  async function counted(): Promise<number> {
    const url = `${proxy.adminUrl}/stats/prometheus?usedonly&filter=istio_requests_total$`;
    return parseExposition(await (await fetch(url)).text()).reduce((sum, { value }) => sum + value, 0);
  }

  /** Three requests at once: one whose body is under way, one that waits for its answer, one whose answer is under way. */
  async function openThree(port: number) {
    const arrived = upstream.received.length + 3;
    const uploading = begin(port, "/", { "content-length": `${BODY.length}` });
    uploading.write(BODY.subarray(0, HALF));
    const waiting = begin(port, "/held", {});
    waiting.end(BODY);
    const downloading = begin(port, "/begun", {});
    downloading.end();
    const begun = await answered(downloading);
    const answers = [answered(uploading).then(whole), answered(waiting).then(whole), whole(begun)];
    const ended = Promise.allSettled(answers);
    while (upstream.received.length < arrived) await sleep(10);
    return () => {
      uploading.end(BODY.subarray(HALF));
      upstream.release();
      return ended;
    };
  }

  test.each(vms.map((vm) => [vm.title, vm] as const))("%s: traffic goes on", async (_, { filters, isStreamKept }) => {
    const before = await counted();
    for (const filter of filters) expectWhole(await call(ports.get(filter) as number));
    expect(await counted()).toBe(before + filters.length);
    const finish = await openThree(ports.get(filters[0] as Config) as number);

    const headers: Record<string, string> =
      callback === "response_headers" ? { "x-answer-trap": callback } : { "x-trap": callback };
    const trapped = await call(ports.get(filters[0] as Config) as number, headers);
    const inFlight = await finish();
    // In the log callback the answer is out already.
    if (isStreamKept || callback === "log") expectWhole(trapped);
    else expect(trapped.status).toBe(503);
    if (isStreamKept) {
      for (const ended of inFlight) expectWhole((ended as PromiseFulfilledResult<Answer>).value);
    } else {
      const [uploaded, waited, downloaded] = inFlight;
      expect(uploaded).toMatchObject({ value: { status: 503 } });
      expect(waited).toMatchObject({ value: { status: 503 } });
      expect(downloaded).toMatchObject({ status: "rejected", reason: { code: "ECONNRESET" } });
    }

    const agent = new Agent({ keepAlive: true });
    for (const filter of filters) {
      for (let i = 0; i < AFTERWARDS; i++) expectWhole(await call(ports.get(filter) as number, {}, agent));
    }
    agent.destroy();
    // Nothing counts any more, but what was counted is still shown; other VMs are not concerned.
    expect(await counted()).toBe(before + filters.length);
  });
});
