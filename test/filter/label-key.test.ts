// What tells two requests apart. The filter finds a label set again by a key of raw facts, a peer by its header and a cluster by
// its name: a fact that is missing there counts one request under the labels of another.

import { describe, expect, test } from "vitest";
import { type Host, PLAIN_REQUEST, PLAIN_RESPONSE, type StreamOptions } from "../host/host.ts";
import {
  countedLabels,
  countedRequests,
  countedWith,
  encodeMetadata,
  exchangedMetadata,
  exchangeHeaderNames,
  exchangeHeaders,
  FROM_PRODUCTPAGE,
  observationOf,
  PRODUCTPAGE,
  startInbound,
  startOutbound,
  TO_REVIEWS,
} from "../host/mesh.ts";
import type { JsonObject } from "../host/struct.ts";

type Labels = Readonly<Record<string, string>>;

/** Two requests that differ in one fact, and the labels in which they then differ: all others are the same. */
interface Pair {
  readonly fact: string;
  readonly start: () => Host;
  readonly first: StreamOptions;
  readonly second: StreamOptions;
  readonly labels: Readonly<Record<string, readonly [first: string, second: string]>>;
}

const GRPC_REQUEST = {
  ...FROM_PRODUCTPAGE,
  requestHeaders: [...FROM_PRODUCTPAGE.requestHeaders, ["content-type", "application/grpc"]],
} as const;
/** As long as an authority can be and still show its last byte in a label. */
const LONG = "h".repeat(254);

function service(name: string): JsonObject {
  return { istio: { services: [{ host: `${name}.shop.svc`, name, namespace: "shop" }] } };
}

function tls(peer: string, local: string): StreamOptions {
  return { ...FROM_PRODUCTPAGE, downstreamTls: { peer, local } };
}

function grpcStatus(status: string): StreamOptions {
  return { ...GRPC_REQUEST, responseTrailers: [["grpc-status", status]] };
}

function from(workload: string): StreamOptions {
  const metadata = { ...exchangedMetadata(PRODUCTPAGE), WORKLOAD_NAME: workload };
  return { ...FROM_PRODUCTPAGE, requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(PRODUCTPAGE, metadata)] };
}

function toHost(authority: string): StreamOptions {
  return { ...TO_REVIEWS, cluster: { name: "c" }, requestHeaders: [[":authority", authority]] };
}

function toEndpoint(workload: string): StreamOptions {
  return { ...TO_REVIEWS, responseHeaders: PLAIN_RESPONSE, endpoint: { metadata: { istio: { workload } } } };
}

function byRoute(routeName: string): StreamOptions {
  return { ...TO_REVIEWS, cluster: { name: "c" }, routeName };
}

const PAIRS: readonly Pair[] = [
  {
    fact: "the response code",
    start: startInbound,
    first: { ...FROM_PRODUCTPAGE, responseCode: 200 },
    second: { ...FROM_PRODUCTPAGE, responseCode: 503 },
    labels: { response_code: ["200", "503"] },
  },
  {
    fact: "the response flags",
    start: startInbound,
    first: { ...FROM_PRODUCTPAGE, responseFlags: 1n << 5n },
    second: { ...FROM_PRODUCTPAGE, responseFlags: 1n << 6n },
    labels: { response_flags: ["UF", "UC"] },
  },
  {
    fact: "response flags beyond the 32nd",
    start: startInbound,
    first: { ...FROM_PRODUCTPAGE, responseFlags: 1n << 40n },
    second: { ...FROM_PRODUCTPAGE, responseFlags: 1n << 41n },
    labels: { response_flags: ["40", "41"] },
  },
  {
    fact: "the gRPC status",
    start: startInbound,
    first: grpcStatus("5"),
    second: grpcStatus("7"),
    labels: { grpc_response_status: ["5", "7"] },
  },
  {
    fact: "no gRPC status and the status 0",
    start: startInbound,
    first: grpcStatus("none"),
    second: grpcStatus("0"),
    labels: { grpc_response_status: ["", "0"] },
  },
  {
    fact: "the protocol, where neither has a gRPC status",
    start: startInbound,
    first: { ...GRPC_REQUEST, responseCode: null },
    second: { ...FROM_PRODUCTPAGE, responseCode: null },
    labels: { request_protocol: ["grpc", "http"] },
  },
  {
    fact: "the peer's principal, in its last byte",
    start: startInbound,
    first: tls("spiffe://cluster.local/ns/default/sa/a", "spiffe://cluster.local/ns/default/sa/own"),
    second: tls("spiffe://cluster.local/ns/default/sa/b", "spiffe://cluster.local/ns/default/sa/own"),
    labels: {
      source_principal: ["spiffe://cluster.local/ns/default/sa/a", "spiffe://cluster.local/ns/default/sa/b"],
    },
  },
  {
    fact: "the own principal, in its last byte",
    start: startInbound,
    first: tls("spiffe://cluster.local/ns/default/sa/peer", "spiffe://cluster.local/ns/default/sa/a"),
    second: tls("spiffe://cluster.local/ns/default/sa/peer", "spiffe://cluster.local/ns/default/sa/b"),
    labels: {
      destination_principal: ["spiffe://cluster.local/ns/default/sa/a", "spiffe://cluster.local/ns/default/sa/b"],
    },
  },
  {
    fact: "which of the principals is whose",
    start: startInbound,
    first: tls("spiffe://td/a", "spiffe://td/b"),
    second: tls("spiffe://td/b", "spiffe://td/a"),
    labels: {
      source_principal: ["spiffe://td/a", "spiffe://td/b"],
      destination_principal: ["spiffe://td/b", "spiffe://td/a"],
    },
  },
  {
    fact: "where one principal ends and the next begins",
    start: startInbound,
    first: tls("a", "bc"),
    second: tls("ab", "c"),
    labels: { source_principal: ["a", "ab"], destination_principal: ["bc", "c"] },
  },
  {
    fact: "the authority, in its last byte",
    start: startOutbound,
    first: toHost(`${LONG}1`),
    second: toHost(`${LONG}2`),
    labels: {
      destination_service: [`${LONG}1`, `${LONG}2`],
      destination_service_name: [`${LONG}1`, `${LONG}2`],
    },
  },
  {
    fact: "the endpoint",
    start: startOutbound,
    first: toEndpoint("reviews-v1;default;reviews;v1;east"),
    second: toEndpoint("reviews-v1;default;reviews;v1;west"),
    labels: { destination_cluster: ["east", "west"] },
  },
  {
    fact: "the peer",
    start: startInbound,
    first: from("productpage-v1"),
    second: from("productpage-v2"),
    labels: { source_workload: ["productpage-v1", "productpage-v2"] },
  },
  {
    fact: "the cluster",
    start: startOutbound,
    first: { ...TO_REVIEWS, cluster: { name: "a", metadata: service("a") } },
    second: { ...TO_REVIEWS, cluster: { name: "b", metadata: service("b") } },
    labels: { destination_service: ["a.shop.svc", "b.shop.svc"], destination_service_name: ["a", "b"] },
  },
  {
    fact: "an ordinary route and block_all",
    start: startOutbound,
    first: byRoute("default"),
    second: byRoute("block_all"),
    labels: { destination_service_name: ["reviews:9080", "BlackHoleCluster"] },
  },
  {
    fact: "an ordinary route and allow_any",
    start: startOutbound,
    first: byRoute("default"),
    second: byRoute("allow_any"),
    labels: { destination_service_name: ["reviews:9080", "PassthroughCluster"] },
  },
  {
    fact: "block_all and allow_any",
    start: startOutbound,
    first: byRoute("block_all"),
    second: byRoute("allow_any"),
    labels: { destination_service_name: ["BlackHoleCluster", "PassthroughCluster"] },
  },
];

/** The labels in which two label sets differ. */
function differences(first: Labels, second: Labels): Record<string, readonly [string, string]> {
  const differing = Object.keys(first).filter((label) => first[label] !== second[label]);
  return Object.fromEntries(differing.map((label) => [label, [first[label] ?? "", second[label] ?? ""]]));
}

/** Sends both in turn, twice: two series, first counted once each, then the same two counted twice. */
function countTwice(host: Host, first: StreamOptions, second: StreamOptions): [first: Labels, second: Labels] {
  const seen = [first, second].map((options) => observationOf(host.request(options)).labels);
  expect(countedRequests(host).map(({ labels, value }) => [labels, value])).toEqual(seen.map((one) => [one, 1n]));
  const again = [first, second].map((options) => observationOf(host.request(options)).labels);
  expect(again).toEqual(seen);
  expect(countedRequests(host).map(({ labels, value }) => [labels, value])).toEqual(seen.map((one) => [one, 2n]));
  return seen as [Labels, Labels];
}

describe("two requests of one VM that differ only in", () => {
  test.each(PAIRS)("$fact are two series", ({ start, first, second, labels }) => {
    expect(differences(...countTwice(start(), first, second))).toEqual(labels);
  });
});

describe("the same request through two plugins of one VM that differ only in", () => {
  // Neither peer nor certificates nor authority: nothing but the plugin tells the two apart.
  const bare: StreamOptions = { cluster: { name: "c", metadata: service("a") } };

  test.each([
    ["their direction", bare, { direction: "inbound" }, { direction: "outbound" }],
    [
      "the fallback to the authority",
      { cluster: { name: "c" } },
      { direction: "outbound", disable_host_header_fallback: true },
      { direction: "outbound", disable_host_header_fallback: false },
    ],
  ])("%s is counted as each of them alone counts it", (_, options, first, second) => {
    const alone = (configuration: JsonObject) => {
      const host = startInbound({ configuration });
      host.request(options);
      return countedLabels(host);
    };
    const host = startInbound({ configuration: first });
    const rootId = host.addPlugin(second);
    expect(countTwice(host, options, { ...options, rootId })).toEqual([alone(first), alone(second)]);
  });
});

describe("two keys with one hash", () => {
  test("are two peers", () => {
    const [first, second] = findCollision();
    expect(hashOf(second)).toBe(hashOf(first));
    const host = startInbound();
    for (const header of [first, second, second, first]) {
      const stream = host.request({ requestHeaders: [...PLAIN_REQUEST, ["x-envoy-peer-metadata", header]] });
      expect(observationOf(stream).labels).toMatchObject({ source_workload: workloadIn(header) });
    }
    for (const header of [first, second]) expect(countedWith(host, { source_workload: workloadIn(header) })).toBe(2);
  });
});

describe("a cluster's facts", () => {
  const REFRESHED_NS = 6_000_000_000n;
  const NAME = "outbound|80||a.shop.svc";

  /** Destination service, its name and its namespace of a request to the cluster with this service. */
  const serviceSeen = (host: Host, facts: JsonObject, name = NAME): string => {
    const stream = host.request({ ...TO_REVIEWS, cluster: { name, metadata: { istio: { services: [facts] } } } });
    const { labels } = observationOf(stream);
    const parts = ["destination_service", "destination_service_name", "destination_service_namespace"];
    return parts.map((label) => labels[label]).join(" ");
  };
  const original = { host: "a.shop.svc", name: "a", namespace: "shop" };

  test.each([
    ["host", { ...original, host: "b.shop.svc" }, "b.shop.svc a shop"],
    ["name", { ...original, name: "b" }, "a.shop.svc b shop"],
    ["namespace", { ...original, namespace: "stock" }, "a.shop.svc a stock"],
    ["service as a whole", {}, "reviews:9080 reviews:9080 default"],
  ])("follow the control plane when the %s changes under the same name, and back", (_, changed, expected) => {
    const host = startOutbound();
    expect(serviceSeen(host, original)).toBe("a.shop.svc a shop");
    host.nowNs += REFRESHED_NS;
    expect(serviceSeen(host, changed)).toBe(expected);
    expect(serviceSeen(host, changed)).toBe(expected);
    host.nowNs += REFRESHED_NS;
    expect(serviceSeen(host, original)).toBe("a.shop.svc a shop");
    expect(countedRequests(host).map(({ value }) => value)).toEqual([2n, 2n]);
  });

  test.each(["external", "disable_mx"])("follow the control plane when istio.%s changes", (flag) => {
    const host = startOutbound();
    const injected = (value: boolean) => {
      host.nowNs += REFRESHED_NS;
      const stream = host.request({ cluster: { name: NAME, metadata: { istio: { [flag]: value } } } });
      return exchangeHeaderNames(stream, "requestHeaders").length;
    };
    expect([false, true, false].map(injected)).toEqual([2, 0, 2]);
  });

  test("that stay the same make no new key: 3,000 refreshes take no memory", () => {
    const host = startOutbound();
    const uri = (end: string) => `spiffe://td/${"p".repeat(480)}/${end}`; // a long key, so that each one would show
    const options = { ...TO_REVIEWS, upstreamTls: { peer: uri("peer"), local: uri("own") } };
    const refresh = (times: number) => {
      for (let index = 0; index < times; index++) {
        host.nowNs += REFRESHED_NS;
        host.request(options);
      }
    };
    refresh(200);
    const bytes = host.memory.byteLength;
    const definitions = host.calls.get("proxy_define_metric");
    refresh(3_000);
    expect(host.memory.byteLength).toBe(bytes);
    expect(host.calls.get("proxy_define_metric")).toBe(definitions);
    expect(countedRequests(host).map(({ value }) => value)).toEqual([3_200n]);
  });

  test("are known from its first request on, also of the last of 5,000 clusters", () => {
    const host = startInbound(); // looks its cluster up once in a request, at the end
    for (let index = 0; index < 5_000; index++) {
      const name = `s${index % 20}`; // few label sets for many clusters
      const facts = { host: `${name}.shop.svc`, name, namespace: "shop" };
      for (let round = 0; round < 2; round++) {
        expect(serviceSeen(host, facts, `cluster-${index}`)).toBe(`${name}.shop.svc ${name} default`);
      }
    }
  });
});

/** Metadata headers of one length that differ in their last bytes alone. */
function headerOf(index: number): string {
  return encodeMetadata({ WORKLOAD_NAME: `workload-${index.toString(36).padStart(6, "0")}` });
}

function workloadIn(header: string): string {
  return /workload-.{6}/.exec(Buffer.from(header, "base64").toString("latin1"))?.[0] ?? "";
}

/** Two headers with one hash: among 2^17 there is one such pair or more in 7 of 8 cases, and the search is the same each time. */
function findCollision(): [string, string] {
  const seen = new Map<number, number>();
  for (let index = 0; index < 2 ** 19; index++) {
    const hash = hashOf(headerOf(index));
    const other = seen.get(hash);
    if (other !== undefined) return [headerOf(other), headerOf(index)];
    seen.set(hash, index);
  }
  throw new Error("no two headers with one hash");
}

const MULTIPLIER = 0x9e3779b97f4a7c15n;

/** The hash of filter/table.ts. Another hash there wants another one here: else the pair found no longer collides. */
function hashOf(text: string): number {
  const bytes = Buffer.from(text, "latin1");
  let hash = BigInt(bytes.length);
  const step = (word: bigint) => {
    hash = BigInt.asUintN(64, (hash ^ word) * MULTIPLIER);
    hash ^= hash >> 32n;
  };
  let at = 0;
  for (; at + 8 <= bytes.length; at += 8) step(bytes.readBigUInt64LE(at));
  for (; at < bytes.length; at++) step(BigInt(bytes.readUInt8(at)));
  return Number(BigInt.asUintN(32, hash));
}
