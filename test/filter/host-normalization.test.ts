// host_normalization: how the authority names the service.

import { describe, expect, test } from "vitest";
import { type Host, PLAIN_REQUEST, type StreamOptions } from "../host/host.ts";
import {
  countedLabels,
  countedRequests,
  countedTotal,
  countedValues,
  exchangeHeaders,
  FROM_PRODUCTPAGE,
  faults,
  PRODUCTPAGE,
  startInbound,
  startOutbound,
  TO_REVIEWS,
} from "../host/mesh.ts";
import type { Json } from "../host/struct.ts";

function start(rules: Json | undefined): Host {
  const section = rules === undefined ? {} : { host_normalization: rules };
  return startOutbound({ configuration: { direction: "outbound", ...section } });
}

/** A request whose cluster says nothing of the service. */
function toHost(authority: string, cluster: StreamOptions["cluster"] = { name: "c" }): StreamOptions {
  return { ...TO_REVIEWS, cluster, requestHeaders: [[":authority", authority], ...PLAIN_REQUEST.slice(1)] };
}

/** destination_service and destination_service_name of a request with this authority. */
function serviceOf(rules: Json | undefined, authority: string): (string | undefined)[] {
  const host = start(rules);
  host.request(toHost(authority));
  const { destination_service, destination_service_name } = countedLabels(host);
  return [destination_service, destination_service_name];
}

const both = (name: string) => [name, name];

test("without the section the authority stands as it is, as in Istio", () => {
  expect(serviceOf(undefined, "Shop.example.com.:8443")).toEqual(both("Shop.example.com.:8443"));
});

describe("strip_port", () => {
  test.each([
    ["shop.example.com:8443", "shop.example.com"],
    ["shop.example.com", "shop.example.com"],
    ["SHOP.Example.COM:80", "shop.example.com"],
    ["shop.example.com.", "shop.example.com"],
    ["shop.example.com.:80", "shop.example.com"],
    ["10.0.0.1:80", "10.0.0.1"],
    ["[::1]:80", "[::1]"],
    ["[::1]", "[::1]"],
    ["[FE80::A]:1", "[fe80::a]"],
    ["::1", "::1"],
    ["shop:", "shop"],
    ["shop:x", "shop"],
    ["[::1", "[::1"],
    ["[::1]x:80", "[::1]x:80"],
    ["größe:80", "größe"],
    [":80", "unknown"],
    [".", "unknown"],
    [".:80", "unknown"],
    ["", "unknown"],
  ])("%j is named %j", (authority, name) => {
    const bytes = Buffer.from(authority, "utf8").toString("latin1");
    expect(serviceOf({}, bytes)).toEqual(both(name));
    expect(serviceOf({ strip_port: true }, bytes)).toEqual(both(name));
  });

  test.each([
    ["Shop.example.com.:8443", "shop.example.com:8443"],
    ["shop.example.com", "shop.example.com"],
    ["[::1]:80", "[::1]:80"],
    ["shop:", "shop"],
    ["shop:123456", "shop"],
    ["shop:8x", "shop"],
    [":80", "unknown"],
  ])("false: %j is named %j", (authority, name) => {
    expect(serviceOf({ strip_port: false }, authority)).toEqual(both(name));
  });

  test("several ports of a host are one label set", () => {
    const host = start({});
    for (const authority of ["shop:1", "shop:2", "SHOP", "shop."]) host.request(toHost(authority));
    expect(countedValues(host, "destination_service")).toEqual(["shop"]);
    expect(countedTotal(host)).toBe(4);
  });
});

describe("allow", () => {
  const allow = ["shop.example.com", "*.Internal", "*.example.org.", "[::1]", "10.0.0.1"];

  test.each([
    "shop.example.com",
    "a.internal",
    "a.b.internal",
    "a_1-x.internal",
    "www.example.org",
    "[::1]",
    "10.0.0.1",
  ])("%j is on the list, in any case and with any port", (name) => {
    expect(serviceOf({ allow }, name)).toEqual(both(name));
    expect(serviceOf({ allow }, `${name.toUpperCase()}:80`)).toEqual(both(name));
    expect(serviceOf({ allow, strip_port: false }, `${name}:80`)).toEqual(both(`${name}:80`));
  });

  test.each([
    "example.com",
    "x.shop.example.com",
    "shop.example.com.evil.net",
    "internal",
    ".internal",
    "a..internal",
    "a/b.internal",
    "xinternal",
    "example.org",
    "[::2]",
    "10.0.0.10",
  ])("%j is not", (name) => {
    expect(serviceOf({ allow }, name)).toEqual(both("unknown"));
  });

  test("scanners make no series", () => {
    const host = start({ allow });
    for (let i = 0; i < 100; i++) host.request(toHost(`scanner-${i}.example.net:${i}`));
    expect(countedValues(host, "destination_service")).toEqual(["unknown"]);
    expect(countedTotal(host)).toBe(100);
  });

  test("a server's proxy that lets the authority count names its own service instead", () => {
    const configuration = { direction: "inbound", host_normalization: { allow: ["reviews"] } };
    const requestFor = (authority: string): StreamOptions => ({
      ...FROM_PRODUCTPAGE,
      cluster: { name: "inbound|9080||" },
      requestHeaders: [[":authority", authority], ...PLAIN_REQUEST.slice(1), ...exchangeHeaders(PRODUCTPAGE)],
    });
    const host = startInbound({ configuration });
    host.request(requestFor("shop.example.com"));
    expect(countedLabels(host)).toMatchObject({ destination_service: "reviews", destination_service_name: "reviews" });
  });

  test("an empty list allows nothing", () => {
    expect(serviceOf({ allow: [] }, "shop.example.com")).toEqual(both("unknown"));
  });

  test("what cluster metadata says is not looked up on the list, nor changed", () => {
    const metadata = { istio: { services: [{ host: "Reviews.default:80", name: "Reviews", namespace: "default" }] } };
    const host = start({ allow: [] });
    host.request(toHost("shop.example.com", { name: "c", metadata }));
    expect(countedLabels(host)).toMatchObject({
      destination_service: "Reviews.default:80",
      destination_service_name: "Reviews",
    });
  });

  test("the names of catch-all clusters stand, the service they were asked for is looked up", () => {
    const host = start({ allow: ["*.example.com"] });
    host.request(toHost("api.example.com:443", { name: "PassthroughCluster" }));
    host.request(toHost("api.example.net:443", { name: "BlackHoleCluster" }));
    expect(countedValues(host, "destination_service_name")).toEqual(["PassthroughCluster", "BlackHoleCluster"]);
    expect(countedValues(host, "destination_service")).toEqual(["api.example.com", "unknown"]);
  });
});

describe("a broken part", () => {
  const errors = (host: Host) => host.logs.filter(({ level }) => level === "error").map(({ text }) => text);

  test.each<Json>([
    "*",
    "*.",
    "*.*.com",
    "a.*",
    "shop:80",
    "a b",
    "größe",
    "",
    ".a",
    "a..b",
    "[]",
    "[x]",
    1,
    null,
    ["a"],
    {},
  ])("pattern %j is named with its path and left out, the rest holds", (pattern) => {
    const host = start({ allow: ["a.example.com", pattern, "b.example.com"] });
    expect(faults(host)).toEqual({ configuration: 1 });
    expect(errors(host).join()).toContain("host_normalization.allow[1]");
    for (const authority of ["a.example.com", "b.example.com", "c.example.com"]) host.request(toHost(authority));
    expect(countedValues(host, "destination_service")).toEqual(["a.example.com", "b.example.com", "unknown"]);
  });

  test("a name has 253 bytes at most, on the list and in a request", () => {
    const longest = `${"x".repeat(241)}.example.com`;
    expect(longest.length).toBe(253);
    expect(serviceOf({ allow: [longest] }, longest)).toEqual(both(longest));
    expect(faults(start({ allow: [`x${longest}`] }))).toEqual({ configuration: 1 });
    expect(serviceOf({ allow: ["*.example.com"] }, longest)).toEqual(both(longest));
    expect(serviceOf({ allow: ["*.example.com"] }, `x${longest}`)).toEqual(both("unknown"));
  });

  test("beyond 1,000 patterns the rest is left out, and said so once", () => {
    const host = start({ allow: Array.from({ length: 1_500 }, (_, i) => `h${i}`) });
    expect(faults(host)).toEqual({ configuration: 1 });
    expect(errors(host).join()).toContain("host_normalization.allow:");
    for (const authority of ["h0", "h999", "h1000"]) host.request(toHost(authority));
    expect(countedValues(host, "destination_service")).toEqual(["h0", "h999", "unknown"]);
  });

  test.each<[string, Json, string]>([
    ["host_normalization", "on", "Shop:80"],
    ["host_normalization.strip_port", { strip_port: 1 }, "shop"],
    ["host_normalization.allow", { allow: "shop" }, "shop"],
  ])("%s of another type is left at its default", (path, rules, name) => {
    const host = start(rules);
    expect(faults(host)).toEqual({ configuration: 1 });
    expect(errors(host).join()).toContain(`${path}: expected`);
    host.request(toHost("Shop:80"));
    expect(countedValues(host, "destination_service")).toEqual([name]);
  });
});

test("each plugin of a VM has its own rules, for the same host too", () => {
  const host = start({});
  const rootId = host.addPlugin({ direction: "outbound", host_normalization: { allow: [] } });
  const request = toHost("shop:80");
  for (const options of [request, { ...request, rootId }, request]) host.request(options);
  expect(countedRequests(host).map(({ labels, value }) => [labels["destination_service"], value])).toEqual([
    ["shop", 2n],
    ["unknown", 1n],
  ]);
});
