// A control plane pushes one plugin configuration after the other into a VM that another listener shares: each takes effect, the other
// listener keeps its own, and no request is lost or counted twice on the way.

import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Config, filterConfig } from "../../demo/telemetry-config.ts";
import { filterWasmPath } from "../../envoy/project.ts";
import { parseExposition } from "./exposition.ts";
import { type LoneProxy, listener, type Places, plainConfig, ROUTER, startLoneProxy } from "./lone-proxy.ts";

/** More than the filter lets pass before it asks which plugins are gone. */
const PUSHES = 80;
const NAME = "meshtally";

let proxy: LoneProxy;
let file: string;

/** A plugin that labels each request with `revision`, in the VM of both listeners. */
function pluginOf(direction: "inbound" | "outbound", revision: string): Config {
  const settings = { metrics: [{ name: "requests_total", dimensions: { revision: `'${revision}'` } }] };
  const filter = JSON.stringify(filterConfig(direction, filterWasmPath(), settings));
  return JSON.parse(filter.replace(`meshtally_${direction}`, "shared").replace(/stats_(in|out)bound/, "stats"));
}

async function push(revision: string): Promise<void> {
  const resource = {
    "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
    name: NAME,
    typed_config: pluginOf("inbound", revision)["typed_config"],
  };
  await writeFile(`${file}.new`, JSON.stringify({ version_info: revision, resources: [resource] }));
  await rename(`${file}.new`, file); // which is what Envoy watches for
}

async function configure(places: Places): Promise<Config> {
  file = join(places.folder, "filter.json");
  await push("0");
  const discovered = {
    name: NAME,
    config_discovery: {
      config_source: { path_config_source: { path: file }, resource_api_version: "V3" },
      type_urls: ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
    },
  };
  const config = plainConfig(places, {}, ["revision"]);
  const resources = config["static_resources"] as Config;
  const listeners = [
    listener("inbound", places.inbound, "inbound|80||", { http_filters: [discovered, ROUTER] }),
    listener("outbound", places.outbound, "outbound|80||server.default.svc.cluster.local", {
      http_filters: [pluginOf("outbound", "stays"), ROUTER],
    }),
  ];
  return { ...config, static_resources: { ...resources, listeners } };
}

async function get(port: number): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: "close" } });
  expect(await response.text()).toBe("ok");
}

/** Revision -> requests, as one reporter tells it. */
async function byRevision(reporter: string): Promise<Record<string, number>> {
  const text = await (await fetch(`${proxy.adminUrl}/stats/prometheus?filter=istio_requests_total`)).text();
  const counted = parseExposition(text).filter(({ labels }) => labels["reporter"] === reporter);
  return Object.fromEntries(counted.map(({ labels, value }) => [labels["revision"], value]));
}

beforeAll(async () => {
  proxy = await startLoneProxy(() => ({}), configure);
}, 60_000);
afterAll(() => proxy?.stop());

test(`${PUSHES} configurations one after the other`, async () => {
  let sent = 0;
  for (let revision = 1; revision <= PUSHES; revision++) {
    await push(String(revision));
    await get(proxy.outboundPort);
    await expect
      .poll(
        async () => {
          await get(proxy.inboundPort);
          sent++;
          return Object.keys(await byRevision("destination"));
        },
        { interval: 20 },
      )
      .toContain(String(revision));
  }
  await expect
    .poll(async () => Object.values(await byRevision("destination")).reduce((sum, value) => sum + value, 0))
    .toBe(sent);
  await expect.poll(() => byRevision("source")).toEqual({ stays: PUSHES });
}, 120_000);
