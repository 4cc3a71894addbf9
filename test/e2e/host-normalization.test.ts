// host_normalization through real Envoy: what strangers write as the authority makes no series, in the stats and in the access log alike.

import { afterAll, beforeAll, expect, test } from "vitest";
import { unpackLabels } from "../../collector/series/key.ts";
import { LABELS } from "../../collector/vocabulary.ts";
import { httpCall } from "../../demo/http-call.ts";
import {
  accessLogConfig,
  type Config,
  collectorClusterConfig,
  filterConfig,
  socketAddress,
  statsConfig,
} from "../../demo/telemetry-config.ts";
import { filterWasmPath } from "../../envoy/project.ts";
import { parseExposition } from "./exposition.ts";
import { cluster, type LoneProxy, listener, NODE, type Places, startLoneProxy } from "./lone-proxy.ts";
import { settled } from "./observed.ts";

const CLUSTER = "outbound|80||server.default.svc.cluster.local";
const SERVICE = LABELS.indexOf("destination_service");

/** Authority -> name of the service. */
const NAMES: readonly (readonly [string, string])[] = [
  ["shop.example.com", "shop.example.com"],
  ["SHOP.example.com:8443", "shop.example.com"],
  ["shop.example.com.", "shop.example.com"],
  ["a.b.internal:80", "a.b.internal"],
  ["[::1]:80", "[::1]"],
  ["scanner-1.example.net", "unknown"],
  ["scanner-2.example.net:81", "unknown"],
  ["internal", "unknown"],
];

let proxy: LoneProxy;

beforeAll(async () => {
  proxy = await startLoneProxy(() => ({}), configure);
});
afterAll(() => proxy?.stop());

function configure({ outbound, admin, server, receiver }: Places): Config {
  const rules = { host_normalization: { allow: ["shop.example.com", "*.internal", "[::1]"] } };
  const router = {
    name: "router",
    typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
  };
  const manager = {
    access_log: [accessLogConfig("outbound")],
    http_filters: [filterConfig("outbound", filterWasmPath(), rules), router],
  };
  return {
    node: NODE,
    admin: { address: socketAddress(admin) },
    stats_config: statsConfig(),
    static_resources: {
      listeners: [listener("outbound", outbound, CLUSTER, manager)],
      clusters: [cluster(CLUSTER, server), collectorClusterConfig(receiver)],
    },
  };
}

function tally(names: readonly (readonly [string, number])[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const [name, count] of names) sums[name] = (sums[name] ?? 0) + count;
  return sums;
}

async function inStats(): Promise<Record<string, number>> {
  const text = await (await fetch(`${proxy.adminUrl}/stats/prometheus?usedonly&filter=istio_requests_total$`)).text();
  return tally(parseExposition(text).map(({ labels, value }) => [labels["destination_service"] ?? "", value]));
}

test("the authority names the service by the rules, in stats and access log alike", async () => {
  for (const [host] of NAMES) await httpCall(`http://127.0.0.1:${proxy.outboundPort}/`, { host });
  const expected = tally(NAMES.map(([, name]) => [name, 1]));
  expect(await settled(inStats, (names) => names["unknown"] === 3)).toEqual(expected);
  const records = () => proxy.records.map(({ labelKey }) => unpackLabels(labelKey)?.[SERVICE] ?? "");
  const logged = await settled(
    async () => records(),
    (names) => names.length >= NAMES.length,
  );
  expect(tally(logged.map((name) => [name, 1]))).toEqual(expected);
});
