// access_log_policy: which requests the filter tells an access logger to keep.

import { describe, expect, test } from "vitest";
import { ACCESS_LOG_POLICY, WASM_STATE_PREFIX } from "../../filter/vocabulary/peer-metadata.ts";
import { type Host, type HttpStream, PLAIN_REQUEST, START_TIME_NS, type StreamOptions } from "../host/host.ts";
import {
  countedTotal,
  FROM_PRODUCTPAGE,
  faults,
  PRODUCTPAGE_URI,
  REVIEWS_URI,
  startInbound,
  startOutbound,
  TO_REVIEWS,
} from "../host/mesh.ts";
import type { Json } from "../host/struct.ts";

const MS = 1_000_000n;
const HOUR = 3_600_000n * MS;

function start(policy: Json | undefined): Host {
  const section = policy === undefined ? {} : { access_log_policy: policy };
  return startInbound({ configuration: { direction: "inbound", ...section } });
}

/** A successful request of a client; each test has its own clients. */
function from(address: string, more: StreamOptions = {}): StreamOptions {
  return { ...FROM_PRODUCTPAGE, ...more, properties: { "source.address": address, ...more.properties } };
}

function policyOf(stream: HttpStream): string | undefined {
  return stream.filterState.get(WASM_STATE_PREFIX + ACCESS_LOG_POLICY)?.toString("latin1");
}

/** What is said of each request, in order. */
function ask(host: Host, ...requests: StreamOptions[]): (string | undefined)[] {
  return requests.map((options) => policyOf(host.request(options)));
}

/** As ask(), of clients by their addresses. */
function askFor(host: Host, ...addresses: string[]): (string | undefined)[] {
  return ask(host, ...addresses.map((address) => from(address)));
}

const GRPC: StreamOptions["requestHeaders"] = [...PLAIN_REQUEST, ["content-type", "application/grpc"]];

test("the state has Istio's name", () => {
  const stream = start({}).request(FROM_PRODUCTPAGE);
  expect(stream.filterState.get("wasm.istio.access_log_policy")?.toString("latin1")).toBe("yes");
});

test("without the section nothing is said, nor read", () => {
  const host = start(undefined);
  expect(ask(host, FROM_PRODUCTPAGE, { ...FROM_PRODUCTPAGE, responseCode: 503 })).toEqual([undefined, undefined]);
  expect(host.calls.has("proxy_call_foreign_function")).toBe(false);
  host.calls.clear();
  host.request(FROM_PRODUCTPAGE);
  const without = host.readingCalls();
  const deciding = start({});
  deciding.request(FROM_PRODUCTPAGE);
  expect(deciding.calls.get("proxy_call_foreign_function")).toBe(1);
  deciding.calls.clear();
  deciding.request(FROM_PRODUCTPAGE);
  expect(deciding.readingCalls()).toBe(without + 1);
  deciding.calls.clear();
  deciding.request({ ...FROM_PRODUCTPAGE, responseCode: 503 });
  expect(deciding.readingCalls()).toBe(without);
});

test("as an access logger itself the filter has nobody to tell, and the client's first is still to come", () => {
  const host = start({});
  host.logAsAccessLogger(FROM_PRODUCTPAGE);
  expect(countedTotal(host)).toBe(1);
  expect(ask(host, FROM_PRODUCTPAGE, FROM_PRODUCTPAGE)).toEqual(["yes", "no"]);
  expect(faults(host)).toEqual({});
});

describe("what is always worth an entry", () => {
  const known = "10.1.0.1:5000";

  test.each<[string, StreamOptions]>([
    ["code 400", { responseCode: 400 }],
    ["code 503", { responseCode: 503 }],
    ["no response", { responseCode: null }],
    ["a response flag", { responseFlags: 1n << 2n }],
    ["a response flag newer than we know", { responseFlags: 1n << 63n }],
    ["gRPC status 5", { requestHeaders: GRPC, responseTrailers: [["grpc-status", "5"]] }],
    ["a second", { durationNs: 1_000n * MS }],
    ["no end", { durationNs: null }],
  ])("%s", (_, options) => {
    const host = start({});
    expect(ask(host, from(known), from(known), from(known, options), from(known))).toEqual(["yes", "no", "yes", "no"]);
    expect(countedTotal(host)).toBe(4);
  });

  test.each<[string, StreamOptions]>([
    ["code 399", { responseCode: 399 }],
    ["gRPC status 0", { requestHeaders: GRPC, responseTrailers: [["grpc-status", "0"]] }],
    ["a grpc-status without gRPC", { responseTrailers: [["grpc-status", "5"]] }],
    ["a millisecond less than a second", { durationNs: 1_000n * MS - 1n }],
  ])("%s is not", (_, options) => {
    expect(ask(start({}), from(known), from(known, options))).toEqual(["yes", "no"]);
  });

  test("an entry for an error does not stand for the client's success", () => {
    expect(ask(start({}), from(known, { responseCode: 503 }), from(known), from(known))).toEqual(["yes", "yes", "no"]);
  });

  test("a request that came to the log alone, since Envoy refused it", () => {
    expect(policyOf(start({}).stream({ requestHeaders: [], responseCode: 400 }).log())).toBe("yes");
  });
});

describe("slow_request_duration", () => {
  const lasting = (ms: bigint) => from("10.1.0.1:5000", { durationNs: ms * MS });

  test("is when a request is slow", () => {
    const host = start({ slow_request_duration: "250ms" });
    expect(ask(host, lasting(1n), lasting(249n), lasting(250n), lasting(9_000n))).toEqual(["yes", "no", "yes", "yes"]);
  });

  test("0s: none is", () => {
    const host = start({ slow_request_duration: "0s" });
    expect(ask(host, lasting(0n), lasting(0n), lasting(3_600_000n))).toEqual(["yes", "no", "no"]);
  });
});

describe("log_window_duration", () => {
  const request = from("10.1.0.1:5000");
  const at = (host: Host, ns: bigint) => {
    host.nowNs = START_TIME_NS + ns;
    return policyOf(host.request(request));
  };

  test("is 12 hours by default, from the entry that was kept", () => {
    const host = start({});
    expect([0n, HOUR, 12n * HOUR - MS, 12n * HOUR].map((ns) => at(host, ns))).toEqual(["yes", "no", "no", "yes"]);
    expect([13n * HOUR, 24n * HOUR - MS, 24n * HOUR].map((ns) => at(host, ns))).toEqual(["no", "no", "yes"]);
  });

  test("is what is asked for", () => {
    const host = start({ log_window_duration: "1.5s" });
    expect([0n, 1_499n * MS, 1_500n * MS].map((ns) => at(host, ns))).toEqual(["yes", "no", "yes"]);
  });

  test("0s: every request", () => {
    const host = start({ log_window_duration: "0s" });
    expect([0n, 0n, MS].map((ns) => at(host, ns))).toEqual(["yes", "yes", "yes"]);
  });

  test("a clock that was set back silences nobody", () => {
    const host = start({});
    expect([0n, -HOUR, -HOUR + MS, 0n, 11n * HOUR].map((ns) => at(host, ns))).toEqual([
      "yes",
      "yes",
      "no",
      "no",
      "yes",
    ]);
  });

  test("a new configuration goes on with the clients that are known, each with its own window", () => {
    const host = start({});
    expect(at(host, 0n)).toBe("yes");
    const rootId = host.addPlugin({ direction: "inbound", access_log_policy: { log_window_duration: "1h" } });
    host.nowNs += HOUR - MS;
    expect(policyOf(host.request({ ...request, rootId }))).toBe("no");
    host.nowNs += MS;
    expect(ask(host, request, { ...request, rootId })).toEqual(["no", "yes"]);
  });
});

describe("a client", () => {
  test.each([
    ["10.0.0.1:1", "10.0.0.1:65535"],
    ["[::1]:80", "[::1]:81"],
    ["/run/app.sock", "/run/app.sock"],
    ["@abstract", "@abstract"],
  ])("is an address without its port: %s and %s", (first, second) => {
    expect(askFor(start({}), first, second)).toEqual(["yes", "no"]);
  });

  test.each([
    ["10.0.0.1:1", "10.0.0.2:1"],
    ["10.0.0.1:1", "10.0.0.11:1"],
    ["[::1]:80", "[::2]:80"],
    ["/run/app.sock", "/run/app2.sock"],
    ["/run/1", "/run/2"],
  ])("is not the other: %s and %s", (first, second) => {
    expect(askFor(start({}), first, second, first, second)).toEqual(["yes", "yes", "no", "no"]);
  });

  test("is told apart by its principal behind one address", () => {
    const host = start({});
    const as = (peer: string | undefined) =>
      from("10.0.0.1:1", { downstreamTls: peer === undefined ? {} : { peer, local: REVIEWS_URI } });
    const others = [undefined, PRODUCTPAGE_URI, `${PRODUCTPAGE_URI}2`].map(as);
    expect(ask(host, ...others, ...others)).toEqual(["yes", "yes", "yes", "no", "no", "no"]);
  });

  test("of a client's proxy or a gateway has the principal of the connection in front, not of the one behind", () => {
    const host = startOutbound({ configuration: { direction: "gateway", access_log_policy: {} } });
    const through = (peer: string, upstream: string): StreamOptions => ({
      ...TO_REVIEWS,
      downstreamTls: { peer, local: PRODUCTPAGE_URI },
      upstreamTls: { peer: upstream, local: PRODUCTPAGE_URI },
      properties: { "source.address": "10.0.0.1:1" },
    });
    expect(ask(host, through("spiffe://a", "spiffe://x"), through("spiffe://a", "spiffe://y"))).toEqual(["yes", "no"]);
    expect(ask(host, through("spiffe://b", "spiffe://x"))).toEqual(["yes"]);
  });

  test("without an address or a principal is one like any other", () => {
    const host = start({});
    const nobody: StreamOptions = { ...FROM_PRODUCTPAGE, downstreamTls: {} };
    expect(ask(host, nobody, nobody, from("10.0.0.1:1"))).toEqual(["yes", "no", "yes"]);
  });

  test("may be called anything: 10,000 bytes are cut", () => {
    const long = "/".repeat(10_000);
    const host = start({});
    const request = from(long, { downstreamTls: { peer: long, local: long } });
    expect(ask(host, request, request)).toEqual(["yes", "no"]);
    expect(faults(host)).toEqual({});
  });
});

describe("max_client_cache_size", () => {
  const clients = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, i) => `10.0.${(from + i) >> 8}.${(from + i) & 255}:1`);
  const all = (word: string, count: number) => Array.from({ length: count }, () => word);

  test("is how many are remembered: then the oldest quarter goes", () => {
    const host = start({ max_client_cache_size: 8 });
    expect(askFor(host, ...clients(0, 8), ...clients(0, 8))).toEqual([...all("yes", 8), ...all("no", 8)]);
    expect(askFor(host, ...clients(8, 9), ...clients(2, 9))).toEqual(["yes", ...all("no", 7)]);
    expect(askFor(host, ...clients(0, 1), ...clients(1, 2))).toEqual(["yes", "yes"]);
    expect(faults(host)).toEqual({});
  });

  test("1: the last one", () => {
    const host = start({ max_client_cache_size: 1 });
    expect(askFor(host, "a", "a", "b", "b", "a")).toEqual(["yes", "no", "yes", "no", "yes"]);
  });

  test("is 500 by default", () => {
    const host = start({});
    expect(askFor(host, ...clients(0, 500), ...clients(0, 500))).toEqual([...all("yes", 500), ...all("no", 500)]);
    expect(askFor(host, ...clients(500, 501), ...clients(125, 501))).toEqual(["yes", ...all("no", 376)]);
    expect(askFor(host, ...clients(124, 125))).toEqual(["yes"]);
  });

  test("may be 100,000", () => {
    const host = start({ max_client_cache_size: 100_000 });
    const many = clients(0, 20_000);
    expect(new Set(askFor(host, ...many))).toEqual(new Set(["yes"]));
    expect(new Set(askFor(host, ...many))).toEqual(new Set(["no"]));
  });

  test("bounds the memory: 30,000 clients after 10,000 take no more, nor do 30,000 requests of known ones", () => {
    const host = start({});
    const drive = (from: number, to: number) => {
      for (let i = from; i < to; i++) askFor(host, `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}:1`);
    };
    drive(0, 10_000);
    const before = host.memory.byteLength;
    drive(10_000, 40_000);
    for (let i = 0; i < 30_000; i++) host.request(from(`10.0.156.${i % 50}:${i}`));
    expect(host.memory.byteLength).toBe(before);
  }, 120_000);
});

describe("a broken part is named and left at its default", () => {
  test.each<[string, Json]>([
    ["access_log_policy.log_window_duration", { log_window_duration: 3600 }],
    ["access_log_policy.log_window_duration", { log_window_duration: "-1s" }],
    ["access_log_policy.max_client_cache_size", { max_client_cache_size: 0 }],
    ["access_log_policy.max_client_cache_size", { max_client_cache_size: 100_001 }],
    ["access_log_policy.slow_request_duration", { slow_request_duration: "soon" }],
  ])("%s %j", (path, policy) => {
    const host = start(policy);
    expect(faults(host)).toEqual({ configuration: 1 });
    expect(host.logs.map(({ text }) => text).join()).toContain(`${path}: expected`);
    const request = from("10.0.0.1:1");
    expect(ask(host, request, request, { ...request, durationNs: 1_000n * MS })).toEqual(["yes", "no", "yes"]);
    host.nowNs += 12n * HOUR;
    expect(ask(host, request)).toEqual(["yes"]);
  });

  test("the section itself: nothing is said", () => {
    const host = start(true);
    expect(faults(host)).toEqual({ configuration: 1 });
    expect(ask(host, FROM_PRODUCTPAGE)).toEqual([undefined]);
  });
});
