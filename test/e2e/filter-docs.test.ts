// The examples of docs/filter.md on real Envoy: each has a listener and a VM of its own in one proxy, and is told by what the proxy's
// stats have gained by its requests. Those that the file marks so run in the test host instead (test/contract/filter-docs.test.ts).

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type IncomingHttpHeaders, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parse } from "yaml";
import { LABELS } from "../../collector/vocabulary.ts";
import { type Config, collectorClusterConfig, socketAddress, statsConfig } from "../../demo/telemetry-config.ts";
import { filterWasmPath } from "../../envoy/project.ts";
import {
  BLOCKS,
  type Call,
  EXAMPLES,
  type Example,
  type Expectation,
  isCall,
  labelsSpokenOf,
  type Outcome,
  PROXY,
  peerHeaders,
  SERVER,
  seen,
  sumOf,
} from "../filter-docs.ts";
import { exchangeHeaders } from "../host/mesh.ts";
import { freePort } from "../tools/free-port.ts";
import { parseExposition, type Sample, seriesId } from "./exposition.ts";
import { cluster, type LoneProxy, listener, type Places, startLoneProxy } from "./lone-proxy.ts";

const LOCALHOST = "127.0.0.1";
const CLUSTER = "outbound|9080||ratings";
const PASSTHROUGH = "PassthroughCluster";
/** Tells the proxy to lead a request out of the mesh. */
const EXTERNAL_HEADER = "x-external";

const ON_ENVOY = EXAMPLES.filter(({ isForHost }) => !isForHost);
const LOGGING = ON_ENVOY.filter(({ steps }) => steps.some((step) => "kind" in step && step.kind === "logged"));

const ports = new Map<Example, number>();
let asLoggerPort = 0;
let server: Server;
let folder = "";
let proxy: LoneProxy;
/** Headers of the last request that came to the server, and of its answer as it came to the caller. */
const last: { toServer: IncomingHttpHeaders; toCaller: IncomingHttpHeaders } = { toServer: {}, toCaller: {} };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "meshtally-docs-"));
  server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, LOCALHOST, resolve));
  for (const example of ON_ENVOY) ports.set(example, await freePort());
  asLoggerPort = await freePort();
  proxy = await startLoneProxy(() => ({}), configure);
});
afterAll(async () => {
  await proxy?.stop();
  server.closeAllConnections();
  server.close();
  await rm(folder, { recursive: true });
});

/** ratings-v1: obeys the path, and says who it is to those who say who they are. */
const answer: Parameters<typeof createServer>[1] = async (incoming, outgoing) => {
  last.toServer = incoming.headers;
  const [, what, number] = (incoming.url ?? "/").split("/");
  if (what === "sleep") await sleep(Number(number));
  const isAsked = "x-envoy-peer-metadata" in incoming.headers;
  const headers = isAsked ? Object.fromEntries(exchangeHeaders(SERVER)) : {};
  outgoing.writeHead(what === "status" ? Number(number) : 200, headers).end("ok");
};

function configure({ admin, receiver }: Places): Config {
  const address = `${LOCALHOST}:${(server.address() as AddressInfo).port}`;
  const added = labelsSpokenOf().filter(
    (label) => !(LABELS as readonly string[]).includes(label) && label !== "reason",
  );
  return {
    node: PROXY,
    admin: { address: socketAddress(admin) },
    stats_flush_interval: "0.1s",
    stats_config: statsConfig(added),
    static_resources: {
      listeners: [...ON_ENVOY.map(exampleListener), asLoggerListener()],
      clusters: [cluster(CLUSTER, address), cluster(PASSTHROUGH, address), collectorClusterConfig(receiver)],
    },
  };
}

const ROUTER: Config = {
  name: "envoy.filters.http.router",
  typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
};

const ROUTES: Config = {
  name: "all",
  virtual_hosts: [
    {
      name: "all",
      domains: ["*"],
      routes: [
        {
          match: { prefix: "/", headers: [{ name: EXTERNAL_HEADER, present_match: true }] },
          route: { cluster: PASSTHROUGH },
        },
        { match: { prefix: "/" }, route: { cluster: CLUSTER } },
      ],
    },
  ],
};

function exampleListener(example: Example, index: number): Config {
  const filter: Config = {
    name: "envoy.filters.http.wasm",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
      config: {
        name: `example ${index}`,
        root_id: "meshtally",
        failure_policy: "FAIL_CLOSED", // a VM that fails must be seen
        vm_config: {
          vm_id: `example ${index}`,
          runtime: "envoy.wasm.runtime.v8",
          code: { local: { filename: filterWasmPath() } },
        },
        configuration: { "@type": "type.googleapis.com/google.protobuf.StringValue", value: example.json },
      },
    },
  };
  return namedListener(index, example.isInbound, ports.get(example) as number, {
    access_log: LOGGING.includes(example) ? [fileLogger(index)] : [],
    http_filters: [filter, ROUTER],
  });
}

function namedListener(index: number, isInbound: boolean, port: number, manager: Config): Config {
  const direction = isInbound ? "inbound" : "outbound";
  const withRoutes = { ...manager, route_config: ROUTES };
  return { ...listener(direction, `${LOCALHOST}:${port}`, CLUSTER, withRoutes), name: `example ${index}` };
}

/** The YAML of the file whose first line is `key:`. */
function yamlOf(key: string): unknown {
  const block = BLOCKS.find(({ language, text }) => language === "yaml" && text.startsWith(`${key}:`));
  if (block === undefined) throw new Error(`docs/filter.md has no YAML of ${key}`);
  return parse(block.text.replace("build/filter.wasm", filterWasmPath()));
}

/** Obeys the access-log policy, by the filter in the file. */
function fileLogger(index: number): Config {
  return {
    name: "envoy.access_loggers.file",
    ...(yamlOf("filter") as Config),
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
      path: logFile(index),
      log_format: { text_format_source: { inline_string: "%REQ(:PATH)%\n" } },
    },
  };
}

function logFile(index: number): string {
  return join(folder, `log-${index}`);
}

/** Without the filter, but with the access logger of the file. */
function asLoggerListener(): Config {
  const manager = { ...(yamlOf("access_log") as Config), http_filters: [ROUTER] };
  return namedListener(ON_ENVOY.length, false, asLoggerPort, manager);
}

/** On a connection of its own. */
/** Requests sent in all. */
let sent = 0;

function send(port: number, call: Call): Promise<void> {
  sent++;
  const headers = {
    ...call.headers,
    ...peerHeaders(call),
    ...(call.isExternal ? { [EXTERNAL_HEADER]: "yes" } : {}),
  };
  return new Promise((resolve, reject) => {
    const { method, path } = call;
    request({ host: LOCALHOST, port, method, path, headers, agent: false }, (response) => {
      last.toCaller = response.headers;
      response.resume().on("end", resolve);
    })
      .on("error", reject)
      .end();
  });
}

/** The stats as they are once all that was sent before is in them: Envoy merges all its histograms at once, so its own tells of ours. */
async function readSettledStats(): Promise<Map<string, Sample>> {
  const merged = async () => {
    const text = await (await fetch(`${proxy.adminUrl}/stats/prometheus?filter=downstream_rq_time`)).text();
    return parseExposition(text)
      .filter(({ name, labels }) => name.endsWith("_count") && labels["envoy_http_conn_manager_prefix"] !== "admin")
      .reduce((sum, { value }) => sum + value, 0);
  };
  await expect.poll(merged, { interval: 20 }).toBe(sent);
  return readStats();
}

async function readStats(): Promise<Map<string, Sample>> {
  const text = await (await fetch(`${proxy.adminUrl}/stats/prometheus?usedonly&filter=istio_|meshtally_`)).text();
  return new Map(parseExposition(text).map((sample) => [seriesId(sample), sample]));
}

/** What is there now that was not, or more of it. */
async function gained(before: ReadonlyMap<string, Sample>): Promise<Sample[]> {
  const now = [...(await readStats()).values()];
  const differences = now.map((sample) => {
    return { ...sample, value: sample.value - (before.get(seriesId(sample))?.value ?? 0) };
  });
  return differences.filter(({ value }) => value !== 0);
}

/** Reads the stats until they are as expected, or a minute is over: Envoy merges histograms now and then. */
async function settledOutcome(before: ReadonlyMap<string, Sample>, steps: readonly Expectation[]): Promise<Outcome> {
  for (let tries = 0; ; tries++) {
    const outcome = { samples: await gained(before), ...last, logged: null };
    const isAsExpected = isDeepStrictEqual(
      steps.map((step) => seen(step, outcome)),
      steps,
    );
    if (isAsExpected || tries >= 600) return outcome;
    await sleep(100);
  }
}

test.each(ON_ENVOY.map((example) => ({ ...example, example })))("$title", async ({ example }) => {
  const before = await readSettledStats();
  const inStats: Expectation[] = [];
  for (const step of example.steps) {
    if (isCall(step)) for (let i = 0; i < step.times; i++) await send(ports.get(example) as number, step);
    else if ("matcher" in step) inStats.push(step);
    else expect(seen(step, { samples: [], ...last, logged: null })).toEqual(step);
  }
  const outcome = await settledOutcome(before, inStats);
  expect(inStats.map((step) => seen(step, outcome))).toEqual(inStats);
});

test("the access logger of the file counts, and exchanges nothing", async () => {
  const before = await readSettledStats();
  const call = { method: "GET", path: "/", headers: {}, isFromPeer: false, isExternal: false } as Call;
  await send(asLoggerPort, call);
  expect(last.toServer).not.toHaveProperty("x-envoy-peer-metadata");
  const labels = { source_workload: "reviews-v2", destination_workload: "unknown" };
  const matcher = { name: "istio_requests_total", labels };
  expect(sumOf(matcher, await gained(before))).toBe(1);
});

test("a logger that obeys the policy by the file's filter keeps what the examples say", async () => {
  await proxy.stop(); // Envoy writes its files every ten seconds, and when it ends.
  expect(LOGGING.length).toBeGreaterThan(0);
  for (const example of LOGGING) {
    const lines = (await readFile(logFile(ON_ENVOY.indexOf(example)), "utf8")).trim().split("\n");
    const steps = example.steps.filter((step) => "kind" in step && step.kind === "logged");
    expect(lines, example.title).toEqual(steps.flatMap((step) => ("paths" in step ? step.paths : [])));
  }
});
