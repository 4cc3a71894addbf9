// The plugin configuration: what is understood, what is ignored, and that nothing of it takes the listener down.

import { describe, expect, test } from "vitest";
import { PEER_ID_HEADER, PEER_METADATA_HEADER } from "../../filter/vocabulary/peer-metadata.ts";
import {
  countedLabels,
  countedTotal,
  exchangeHeaderNames,
  FROM_PRODUCTPAGE,
  faults,
  observationOf,
  startInbound,
  startOutbound,
  TO_REVIEWS,
} from "../host/mesh.ts";
import type { JsonObject } from "../host/struct.ts";

describe("a configuration that is in order", () => {
  test.each(["", "{}", " { } ", '{"direction":"auto"}'])("%j runs the defaults and is no fault", (configuration) => {
    const host = startInbound({ configuration });
    host.request(FROM_PRODUCTPAGE);
    expect(countedLabels(host)).toMatchObject({ reporter: "destination" });
    expect(faults(host)).toEqual({});
    expect(host.logs.filter((line) => line.level !== "debug" && line.level !== "info")).toEqual([]);
  });

  test("unknown fields are ignored, whatever their shape", () => {
    const configuration: JsonObject = {
      debug: "false",
      stat_prefix: "istio",
      field_separator: ";.;",
      value_separator: "=.=",
      max_peer_cache_size: 500,
      rotation_interval: "5s",
      graceful_deletion_interval: "5m",
      nested: { deep: { deeper: [1, 2.5, -3e-7, true, false, null, '\u00e9\ud83d\ude00\\"/\n'] } },
      direction: "inbound",
    };
    const host = startInbound({ configuration, direction: "unspecified" });
    host.request(FROM_PRODUCTPAGE);
    expect(countedLabels(host)).toMatchObject({ reporter: "destination" });
    expect(faults(host)).toEqual({});
  });

  test.each([
    [true, "unknown"],
    ["true", "unknown"],
    [false, "reviews:9080"],
    ["false", "reviews:9080"],
    [undefined, "reviews:9080"],
  ])("disable_host_header_fallback %j outbound", (value, service) => {
    const configuration = {
      direction: "outbound",
      ...(value === undefined ? {} : { disable_host_header_fallback: value }),
    };
    const host = startOutbound({ configuration });
    host.request({ ...TO_REVIEWS, cluster: { name: "c" } });
    expect(countedLabels(host)).toMatchObject({ destination_service: service });
    expect(faults(host)).toEqual({});
  });

  test("escapes in names and values are read", () => {
    const configuration = '{"\\u0064irection":"\\u0069nbound"}';
    const host = startInbound({ configuration, direction: "outbound" });
    host.request(FROM_PRODUCTPAGE);
    expect(countedLabels(host)).toMatchObject({ reporter: "destination" });
  });

  test("a sidecar by default sends nothing toward external clusters", () => {
    const host = startOutbound({ configuration: {} });
    const stream = host.request({ cluster: { name: "x", metadata: { istio: { external: true } } } });
    expect(exchangeHeaderNames(stream, "requestHeaders")).toEqual([]);
  });
});

const BOTH_HEADERS = [PEER_METADATA_HEADER, PEER_ID_HEADER].sort();

describe("metadata_exchange.directions", () => {
  test("none: nothing is sent, read or taken off, on either side", () => {
    const configuration = { metadata_exchange: { directions: [] } };
    const outbound = startOutbound({ configuration }).request(TO_REVIEWS);
    expect(exchangeHeaderNames(outbound, "requestHeaders")).toEqual([]);
    expect(exchangeHeaderNames(outbound, "responseHeaders").sort()).toEqual(BOTH_HEADERS);
    const host = startInbound({ configuration });
    const inbound = host.request(FROM_PRODUCTPAGE);
    expect(exchangeHeaderNames(inbound, "requestHeaders").sort()).toEqual(BOTH_HEADERS);
    expect(exchangeHeaderNames(inbound, "responseHeaders").sort()).toEqual([]);
    expect(countedLabels(host)).toMatchObject({ source_workload: "unknown" });
  });

  test("both, at a gateway: it answers its caller in kind, tells loggers who called, and counts its upstream as the peer", () => {
    const configuration = { direction: "gateway", metadata_exchange: { directions: ["downstream", "upstream"] } };
    const host = startOutbound({ configuration });
    const stream = host.request({
      ...TO_REVIEWS,
      requestHeaders: FROM_PRODUCTPAGE.requestHeaders,
      downstreamTls: FROM_PRODUCTPAGE.downstreamTls,
    });
    expect(exchangeHeaderNames(stream, "responseHeaders").sort()).toEqual(BOTH_HEADERS);
    expect(exchangeHeaderNames(stream, "requestHeaders").sort()).toEqual(BOTH_HEADERS);
    expect(stream.filterState.has("wasm.downstream_peer")).toBe(true);
    expect(stream.filterState.has("wasm.upstream_peer")).toBe(true);
    expect(countedLabels(host)).toMatchObject({ reporter: "source", destination_workload: "reviews-v2" });
  });

  test.each([["both"], [["sideways"]], [{}], [[1]]])("%j is a fault, and the default holds", (directions) => {
    const host = startOutbound({ configuration: { metadata_exchange: { directions } } });
    expect(exchangeHeaderNames(host.request(TO_REVIEWS), "requestHeaders").sort()).toEqual(BOTH_HEADERS);
    expect(faults(host)).toEqual({ configuration: 1 });
  });
});

describe("a configuration that is broken", () => {
  test.each([
    "{",
    "}",
    "[]",
    "null",
    "true",
    '"inbound"',
    '{"direction":"inbound"',
    '{"direction":inbound}',
    '{"direction" "inbound"}',
    '{"direction":"inbound",}',
    '{"direction":"inbound"} trailing',
    '{"direction":"\\ud800\\u12"}',
    "direction: inbound",
    `${"[".repeat(100_000)}`,
    `{"a":${"{".repeat(50_000)}`,
  ])("%#: defaults run, it is logged and counted once", (configuration) => {
    const host = startInbound({ configuration });
    expect(host.logs.length).toBeGreaterThan(0);
    expect(host.logs.some((line) => line.level === "warn" || line.level === "error")).toBe(true);
    host.request(FROM_PRODUCTPAGE);
    expect(countedLabels(host)).toMatchObject({ reporter: "destination", source_workload: "productpage-v1" });
    expect(faults(host)).toEqual({ configuration: 1 });
  });

  test.each<[string, JsonObject]>([
    ["direction of no known word", { direction: "sideways" }],
    ["direction of another type", { direction: 1 }],
    ["disable_host_header_fallback of no known word", { disable_host_header_fallback: "perhaps" }],
    ["disable_host_header_fallback of another type", { disable_host_header_fallback: [] }],
    ["metadata_exchange of another type", { metadata_exchange: "on" }],
    ["skip_external_clusters of another type", { metadata_exchange: { skip_external_clusters: 1 } }],
    ["max_label_sets of another type", { max_label_sets: "many" }],
    ["max_label_sets below 0", { max_label_sets: -1 }],
    ["max_label_sets that is no whole number", { max_label_sets: 1.5 }],
  ])("%s: the default runs in its place, it is logged and counted", (_, configuration) => {
    const host = startInbound({ configuration });
    host.request(FROM_PRODUCTPAGE);
    expect(countedLabels(host)).toMatchObject({ reporter: "destination", source_workload: "productpage-v1" });
    expect(faults(host)).toEqual({ configuration: 1 });
    expect(host.logs.length).toBeGreaterThan(0);
  });

  test("the parts that are in order hold", () => {
    const configuration = { direction: "gateway", max_label_sets: "many" };
    const host = startInbound({ configuration, direction: "inbound" });
    host.request(TO_REVIEWS);
    expect(countedLabels(host)).toMatchObject({ reporter: "source" });
    expect(faults(host)).toEqual({ configuration: 1 });
  });

  test("a header never reaches the log", () => {
    const host = startInbound({ configuration: "{" });
    host.request({ requestHeaders: [["x-envoy-peer-metadata", "secret-value"]] });
    expect(JSON.stringify(host.logs)).not.toContain("secret");
  });
});

test("two plugins of one VM keep their configurations apart, streams of both in flight", () => {
  const host = startInbound({ configuration: { direction: "inbound" } });
  const rootId = host.addPlugin({ direction: "outbound" });
  const outbound = host.stream({ ...TO_REVIEWS, rootId }).sendRequestHeaders();
  const inbound = host.stream(FROM_PRODUCTPAGE).sendRequestHeaders();
  for (const stream of [outbound, inbound]) stream.sendResponseHeaders().log();
  expect(observationOf(outbound).labels).toMatchObject({ reporter: "source", destination_workload: "reviews-v2" });
  expect(observationOf(inbound).labels).toMatchObject({ reporter: "destination", source_workload: "productpage-v1" });
});

test("max_label_sets is the number of label sets", () => {
  const host = startInbound({ configuration: { max_label_sets: 1 } });
  host.request(FROM_PRODUCTPAGE);
  host.request({ ...FROM_PRODUCTPAGE, responseCode: 503 });
  host.request(FROM_PRODUCTPAGE);
  expect(faults(host)).toEqual({ label_sets_full: 1 });
  expect(countedTotal(host)).toBe(3);
});
