// A fault of the filter must never fail a request: every configuration that runs it says so, in the words of whoever reads it.

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
  expect(all.length).toBe(19);
});

test.each(all)("$file fails open", ({ policy }) => {
  expect(policy).toBe("FAIL_OPEN");
});
