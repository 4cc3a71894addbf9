// Expressions as users write them, translated by the filter's own code, on a real Envoy: the probe evaluates them at the end of a
// request, and an access log shows its results.

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { type Config, socketAddress } from "../../demo/telemetry-config.ts";
import { FAULTS_METRIC } from "../../filter/vocabulary/metrics.ts";
import { CASE_CLUSTER, CASE_HEADERS, CASE_HOST, CASE_NODE, CASE_PATH, CASES } from "../filter/expression/cases.ts";
import { PROBE_WASM } from "../filter/expression/start.ts";
import { type Places, sendRaw, startLoneProxy } from "./lone-proxy.ts";

const REQUESTS = 3;

let results: string[][] = [];
let faults = "";

beforeAll(async () => {
  const folder = await mkdtemp(join(tmpdir(), "meshtally-expression-")); // the proxy's own goes with it
  await writeFile(join(folder, "probe.wasm"), PROBE_WASM);
  const proxy = await startLoneProxy(
    () => ({ "x-answer": "yes" }),
    (places) => configuration({ ...places, folder }),
  );
  try {
    const request = [
      `GET ${CASE_PATH} HTTP/1.1`,
      `host: ${CASE_HOST}`,
      ...Object.entries(CASE_HEADERS).map(([name, value]) => `${name}: ${value}`),
      "connection: close\r\n\r\n",
    ].join("\r\n");
    for (let i = 0; i < REQUESTS; i++) await sendRaw(proxy.inboundPort, Buffer.from(request));
    faults = await (await fetch(`${proxy.adminUrl}/stats?filter=${FAULTS_METRIC}`)).text();
  } finally {
    await proxy.stop(); // which also writes out the access log
  }
  const lines = (await readFile(join(folder, "access.log"), "utf8")).trim().split("\n");
  results = lines.map((line) => JSON.parse(line).results.split("\n"));
  await rm(folder, { recursive: true });
});

test.for(Object.keys(CASES).map((source, index) => ({ source, index })))("$source", ({ source, index }) => {
  // The first request finds out which ones fail; the others leave those out of the list.
  expect(results.map((result) => result[index])).toEqual(Array(REQUESTS).fill(CASES[source]));
});

test("an expression's own failure is no fault of the host", () => {
  expect(faults).toBe("");
});

function configuration({ inbound, admin, server, folder }: Places): Config {
  const type = "type.googleapis.com/envoy.extensions";
  const endpoints = [{ lb_endpoints: [{ endpoint: { address: socketAddress(server) } }] }];
  const probe = {
    "@type": `${type}.filters.http.wasm.v3.Wasm`,
    config: {
      name: "probe",
      vm_config: { runtime: "envoy.wasm.runtime.v8", code: { local: { filename: join(folder, "probe.wasm") } } },
      configuration: {
        "@type": "type.googleapis.com/google.protobuf.StringValue",
        value: JSON.stringify({ expressions: Object.keys(CASES) }),
      },
    },
  };
  const manager = {
    "@type": `${type}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: "inbound",
    access_log: [
      {
        name: "envoy.access_loggers.file",
        typed_config: {
          "@type": `${type}.access_loggers.file.v3.FileAccessLog`,
          path: join(folder, "access.log"),
          log_format: { json_format: { results: "%FILTER_STATE(wasm.probe:PLAIN)%" } },
        },
      },
    ],
    route_config: {
      virtual_hosts: [
        {
          name: "all",
          domains: ["*"],
          routes: [{ name: "default", match: { prefix: "/" }, route: { cluster: CASE_CLUSTER.name } }],
        },
      ],
    },
    http_filters: [
      { name: "envoy.filters.http.wasm", typed_config: probe },
      { name: "envoy.filters.http.router", typed_config: { "@type": `${type}.filters.http.router.v3.Router` } },
    ],
  };
  return {
    node: { ...CASE_NODE },
    admin: { address: socketAddress(admin) },
    static_resources: {
      listeners: [
        {
          name: "inbound",
          traffic_direction: "INBOUND",
          address: socketAddress(inbound),
          filter_chains: [{ filters: [{ name: "manager", typed_config: manager }] }],
        },
      ],
      clusters: [
        {
          name: CASE_CLUSTER.name,
          type: "STATIC",
          load_assignment: { cluster_name: CASE_CLUSTER.name, endpoints },
          metadata: { filter_metadata: CASE_CLUSTER.metadata },
        },
      ],
    },
  };
}
