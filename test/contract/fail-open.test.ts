// A fault of the filter must never fail a request: every configuration that runs it says so, in the words of whoever reads it. Only before
// a TCP server it must come back at once, since its clients send ahead what is meant for it alone.

import { expect, test } from "vitest";
import { mentions } from "../fixtures/shipped-filters.ts";

const all = mentions();

test("the filter is found in every file that is known to run it", () => {
  expect([...new Set(all.map(({ file }) => file))].sort()).toEqual([
    "demo/telemetry-config.ts",
    "envoy/gateway.yaml",
    "envoy/istio/envoy-filter.yaml",
    "envoy/istio/tcp.yaml",
    "envoy/istio/wasm-plugin.yaml",
    "envoy/sidecar.yaml",
  ]);
  expect(all.length).toBe(22);
});

test.each(all)("$file, $rootId before $before", ({ policy, before, rootId }) => {
  expect(policy).toBe(before === "TCP" && rootId === "stats_inbound" ? "FAIL_RELOAD" : "FAIL_OPEN");
});
