// Customised metrics on real Envoy: what a test host cannot vouch for, since only Envoy evaluates its CEL.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Config } from "../../demo/telemetry-config.ts";
import { parseExposition, type Sample } from "./exposition.ts";
import { type LoneProxy, plainConfig, startLoneProxy } from "./lone-proxy.ts";

/** The proxy's outbound plugin configuration; each request goes to a path of its own. */
const PLUGIN: Config = {
  metrics: [
    {
      dimensions: {
        request_host: "request.host",
        destination_port: "string(destination.port)",
        code_class: "response.code < 500 ? 'fine' : 'broken'",
        header: "request.headers['x-tenant']",
        peer: "filter_state.upstream_peer.workload",
        peer_app: "upstream_peer.labels['app'].value",
        own_name: "node.metadata['NAME']",
        to: "cluster_name",
        operation: "istio_operationId",
        long_operation: "'op:' + istio_operationId",
        broken_at_run: "request.headers",
        broken_at_parse: "request.host ==",
        source_app: "'overridden'",
        source_version: "this does not parse",
      },
    },
    { name: "request_bytes", drop: true },
    { name: "response_bytes", tags_to_remove: ["response_flags", "source_cluster"] },
    { name: "requests_total", match: "request.path == '/health'", drop: true },
    { match: "request.path == '/tag'", dimensions: { tagged: "'yes'" } },
    { match: "request.path ==", drop: true, name: "requests_total" },
  ],
  definitions: [
    { name: "answered_bytes", value: "response.size", type: "COUNTER" },
    { name: "path_size", value: "size(request.path)", type: "HISTOGRAM" },
    { name: "last_code", value: "response.code", type: "GAUGE" },
    { name: "requests_total", value: "7" },
    { name: "none", value: "no such( thing" },
  ],
  classification: {
    attributes: [
      {
        output_attribute: "istio_operationId",
        match: [
          { value: "GetReview", condition: "request.path.startsWith('/reviews/') && request.method == 'GET'" },
          { value: "Health", condition: "request.path == '/health'" },
          { value: "Other" },
        ],
      },
    ],
  },
};
const ADDED = [
  "request_host",
  "destination_port",
  "code_class",
  "header",
  "peer",
  "peer_app",
  "own_name",
  "to",
  "operation",
  "long_operation",
  "broken_at_run",
  "tagged",
];

let proxy: LoneProxy;
let samples: Sample[];

async function get(path: string, headers: Record<string, string> = {}): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${proxy.outboundPort}${path}`, { headers });
  await response.text();
}

beforeAll(async () => {
  proxy = await startLoneProxy(
    () => ({}),
    (places) => plainConfig(places, PLUGIN, ADDED),
  );
  await get("/reviews/1", { "x-tenant": "red" });
  await get("/reviews/2");
  await get("/reviews/3");
  await get("/health");
  await get("/tag", { "x-tenant": "red" });
  await new Promise((r) => setTimeout(r, 1500));
  samples = parseExposition(await (await fetch(`${proxy.adminUrl}/stats/prometheus`)).text());
}, 60_000);

afterAll(() => proxy?.stop());

test("x", () => {
  for (const s of samples)
    if (s.name.includes("istio") || s.name.includes("meshtally"))
      if (!s.name.includes("bucket")) console.log(s.name, s.value, JSON.stringify(s.labels));
});
