// gRPC messages: counted while a stream lives and at its end, each once.

import { describe, expect, test } from "vitest";
import { LABELS, PEER_LABEL_COUNT } from "../../filter/vocabulary/labels.ts";
import { MESSAGE_METRICS, MetricKind } from "../../filter/vocabulary/metrics.ts";
import { startCustomInbound, startCustomOutbound } from "../host/customised.ts";
import { type Host, type HttpStream, PLAIN_REQUEST, PLAIN_RESPONSE, type StreamOptions } from "../host/host.ts";
import {
  countedLabels,
  countedTotal,
  exchangeHeaders,
  FROM_PRODUCTPAGE,
  faults,
  makeNode,
  overflowLabels,
  PRODUCTPAGE,
  startInbound,
  startOutbound,
  TO_REVIEWS,
} from "../host/mesh.ts";
import { randomNumbers } from "../host/random.ts";

const STATE = "envoy.filters.http.grpc_stats";
const GRPC = ["content-type", "application/grpc"] as const;
const [REQUESTS = "", RESPONSES = ""] = MESSAGE_METRICS.map(({ name }) => name);

/** A gRPC request from productpage; `text` is what grpc_stats has counted. */
function inbound(text?: string, more: StreamOptions = {}): StreamOptions {
  const requestHeaders = [...FROM_PRODUCTPAGE.requestHeaders, GRPC];
  return { ...FROM_PRODUCTPAGE, requestHeaders, ...stateOf(text), ...more };
}

/** A gRPC request to reviews, likewise. */
function outbound(text?: string, more: StreamOptions = {}): StreamOptions {
  return { ...TO_REVIEWS, requestHeaders: [...PLAIN_REQUEST, GRPC], ...stateOf(text), ...more };
}

function stateOf(text: string | undefined): StreamOptions {
  return text === undefined ? {} : { filterState: { [STATE]: text } };
}

function setMessages(stream: HttpStream, text: string): void {
  stream.filterState.set(STATE, Buffer.from(text));
}

/** How many messages all series together counted, each way; undefined: there is no series. */
function counted(host: Host): (number | undefined)[] {
  return [REQUESTS, RESPONSES].map((name) => {
    const series = host.series(name);
    return series.length === 0 ? undefined : series.reduce((sum, { value }) => sum + Number(value), 0);
  });
}

function counters(host: Host) {
  return [...host.series(REQUESTS), ...host.series(RESPONSES)];
}

describe("at the end of a stream", () => {
  test("both counters are increased by what grpc_stats counted", () => {
    const host = startInbound();
    host.request(inbound("3,5"));
    host.request(inbound("10,20"));
    expect(counters(host)).toMatchObject([
      { name: "istio_request_messages_total", kind: MetricKind.Counter, value: 13n },
      { name: "istio_response_messages_total", kind: MetricKind.Counter, value: 25n },
    ]);
    expect(countedTotal(host)).toBe(2);
  });

  test("the labels are the first 20 of the request's", () => {
    const host = startInbound();
    host.request(inbound("1,1"));
    const all = countedLabels(host);
    const first = LABELS.slice(0, PEER_LABEL_COUNT).map((label) => [label, all[label]]);
    for (const one of counters(host)) expect(one.labels).toEqual(Object.fromEntries(first));
  });

  test("no message in one direction, or in both, adds a series of 0", () => {
    const host = startInbound();
    host.request(inbound("0,0"));
    expect(counted(host)).toEqual([0, 0]);
    host.request(inbound("4,0"));
    expect(counted(host)).toEqual([4, 0]);
  });

  test("requests that differ in code and flags add up in one series", () => {
    const host = startInbound();
    for (const responseCode of [200, 503]) host.request(inbound("1,2", { responseCode }));
    expect(counters(host).map(({ value }) => value)).toEqual([2n, 4n]);
  });

  test("more than 32 bits", () => {
    const host = startInbound();
    host.request(inbound("4294967296,9007199254740993"));
    expect(counters(host).map(({ value }) => value)).toEqual([4_294_967_296n, 9_007_199_254_740_993n]);
  });

  test("without grpc_stats nothing is counted", () => {
    const host = startInbound();
    host.request(inbound());
    expect(counted(host)).toEqual([undefined, undefined]);
    expect(countedTotal(host)).toBe(1);
  });

  test.each(["application/json", "application/grpcx", "application/grpc-web"])("%s is no gRPC: nothing is", (type) => {
    const host = startInbound();
    host.request({ ...inbound("3,5"), requestHeaders: [...PLAIN_REQUEST, ["content-type", type]] });
    expect(counted(host)).toEqual([undefined, undefined]);
  });

  test("application/grpc+proto is gRPC", () => {
    const host = startInbound();
    host.request({ ...inbound("3,5"), requestHeaders: [...PLAIN_REQUEST, ["content-type", "application/grpc+proto"]] });
    expect(counted(host)).toEqual([3, 5]);
  });

  test.each(["", ",", "3", "3,", ",5", "3,5,7", "a,b", "3, 5", "-1,2", "0x3,5", "3.5,1", "\u0000\u0001"])(
    "the text %j is ignored",
    (text) => {
      const host = startInbound();
      host.request(inbound(text));
      expect(counted(host)).toEqual([undefined, undefined]);
      expect(countedTotal(host)).toBe(1);
      expect(faults(host)).toEqual({});
    },
  );

  test("a request that nobody answered is counted with its messages", () => {
    const host = startOutbound();
    host.request(outbound("2,0", { responseCode: null }));
    expect(counted(host)).toEqual([2, 0]);
  });
});

describe("while a stream lives", () => {
  test("each tick reports what came since, and the end the rest", () => {
    const host = startInbound();
    const stream = host.stream(inbound("0,0")).sendRequestHeaders();
    const seen: (number | undefined)[][] = [];
    for (const text of ["1,0", "1,0", "5,2", "5,9"]) {
      setMessages(stream, text);
      host.tick();
      seen.push(counted(host));
    }
    expect(seen.slice(1)).toEqual([
      [1, 0],
      [5, 2],
      [5, 9],
    ]);
    setMessages(stream, "6,9");
    stream.sendResponseHeaders().log();
    expect(counted(host)).toEqual([6, 9]);
    host.tick();
    expect(counted(host)).toEqual([6, 9]);
    expect(countedTotal(host)).toBe(1);
  });

  test("in any order of messages and ticks of many streams none is lost or doubled", () => {
    const random = randomNumbers(7);
    const host = startInbound();
    const streams = Array.from({ length: 200 }, () => ({
      stream: host.stream(inbound("0,0")).sendRequestHeaders(),
      requests: 0,
      responses: 0,
      isOver: false,
    }));
    for (let step = 0; step < 5_000; step++) {
      const one = streams[random(streams.length)];
      if (one === undefined || one.isOver) continue;
      one.requests += random(3);
      one.responses += random(3);
      setMessages(one.stream, `${one.requests},${one.responses}`);
      if (random(50) === 0) {
        one.isOver = true;
        one.stream.sendResponseHeaders().log();
      }
      if (random(20) === 0) host.tick();
    }
    for (const { stream, isOver } of streams) if (!isOver) stream.sendResponseHeaders().log();
    const sum = (of: "requests" | "responses") => streams.reduce((total, one) => total + one[of], 0);
    expect(counted(host)).toEqual([sum("requests"), sum("responses")]);
    expect(faults(host)).toEqual({});
  });

  test("a number that goes down adds nothing, and nothing twice when it comes up again", () => {
    const host = startInbound();
    const stream = host.stream(inbound("5,5")).sendRequestHeaders();
    for (const text of ["5,5", "3,3", "3,6", "garbage", "6,6"]) {
      setMessages(stream, text);
      host.tick();
    }
    stream.sendResponseHeaders().log();
    expect(counted(host)).toEqual([6, 6]);
  });

  test("the labels stay those of the first report", () => {
    const host = startInbound();
    const stream = host.stream(inbound("1,1")).sendRequestHeaders();
    host.tick();
    const [first] = counters(host);
    stream.filterState.set("io.istio.peer_principal", Buffer.from("spiffe://cluster.local/ns/other/sa/other"));
    setMessages(stream, "2,2");
    host.tick();
    setMessages(stream, "3,3");
    stream.sendResponseHeaders().log();
    expect(counters(host).map(({ labels, value }) => [labels, value])).toEqual([
      [first?.labels, 3n],
      [first?.labels, 3n],
    ]);
  });

  test("a server's labels in a tick are those of the end", () => {
    const host = startInbound();
    const stream = host.stream(inbound("1,1")).sendRequestHeaders();
    host.tick();
    expect(counted(host)).toEqual([1, 1]);
    stream.sendResponseHeaders().log();
    expect(counters(host)[0]?.labels).toMatchObject({ source_workload: "productpage-v1" });
    const all = countedLabels(host);
    for (const label of LABELS.slice(0, PEER_LABEL_COUNT)) expect(counters(host)[0]?.labels[label]).toBe(all[label]);
    expect(counters(host)).toHaveLength(2);
  });

  test("a client waits for the answer's headers, since only they say who the peer is", () => {
    const host = startOutbound();
    const stream = host.stream(outbound("4,0")).sendRequestHeaders();
    host.tick();
    expect(counted(host)).toEqual([undefined, undefined]);
    stream.sendResponseHeaders();
    host.tick();
    expect(counted(host)).toEqual([4, 0]);
    expect(counters(host)[0]?.labels).toMatchObject({ destination_workload: "reviews-v2", reporter: "source" });
    setMessages(stream, "5,7");
    stream.log();
    expect(counted(host)).toEqual([5, 7]);
    expect(counters(host)).toHaveLength(2);
  });

  test("a client whose service is named by the authority alone", () => {
    const host = startOutbound();
    const cluster = { name: "somewhere" };
    const stream = host.stream(outbound("4,0", { cluster })).sendRequestHeaders().sendResponseHeaders();
    host.tick();
    stream.log();
    expect(counters(host)).toHaveLength(2);
    expect(counters(host)[0]?.labels).toMatchObject({ destination_service: "reviews:9080" });
  });

  test("a tick takes no label set besides that of the request", () => {
    const host = startInbound({ configuration: { direction: "inbound", max_label_sets: 1 } });
    const stream = host.stream(inbound("1,1")).sendRequestHeaders();
    host.tick();
    stream.sendResponseHeaders().log();
    expect(faults(host)).toEqual({});
    expect(countedLabels(host)).toMatchObject({ reporter: "destination" });
  });

  test("streams of many peers in flight are told apart", () => {
    const host = startInbound();
    const streams = Array.from({ length: 300 }, (_, index) => {
      const requestHeaders = [...PLAIN_REQUEST, GRPC, ...exchangeHeaders(makeNode(`s${index}`, "v1", "::1"))];
      return host.stream(inbound(`${index},1`, { requestHeaders })).sendRequestHeaders();
    });
    host.tick();
    const numbers = host.series(REQUESTS).map(({ labels, value }) => [labels["source_app"], value]);
    expect(new Map(numbers as [string, bigint][])).toEqual(
      new Map(streams.map((_, index) => [`s${index}`, BigInt(index)])),
    );
    for (const stream of streams) stream.sendResponseHeaders().log();
    expect(counted(host)).toEqual([(299 * 300) / 2, 300]);
  });

  test("a tick leaves the streams as they are: what follows is counted and answered as ever", () => {
    const host = startOutbound();
    const stream = host.stream(outbound("1,1")).sendRequestHeaders();
    host.tick();
    stream.sendResponseHeaders();
    host.tick();
    stream.log();
    expect(stream.responseHeaders.get("x-envoy-peer-metadata")).toBeUndefined();
    expect(countedLabels(host)).toMatchObject({ request_protocol: "grpc", destination_app: "reviews" });
  });
});

describe("the reporting interval", () => {
  test.each([
    ["5 seconds by default", {}, 5_000],
    ["tcp_reporting_duration", { tcp_reporting_duration: "15s" }, 15_000],
    ["tcp_reporting_duration of less than a second", { tcp_reporting_duration: "0.25s" }, 250],
    ["the default when it is broken", { tcp_reporting_duration: "soon" }, 5_000],
  ])("%s", (_, configuration, expected) => {
    const host = startCustomInbound(configuration);
    host.stream(inbound("1,1")).sendRequestHeaders();
    expect(host.tickPeriodMs.get(1)).toBe(expected);
  });

  test("0s: only the end is reported", () => {
    const host = startCustomInbound({ tcp_reporting_duration: "0s" });
    const stream = host.stream(inbound("1,1")).sendRequestHeaders();
    expect(host.tickPeriodMs.get(1) ?? 0).toBe(0);
    host.tick();
    expect(counted(host)).toEqual([undefined, undefined]);
    stream.sendResponseHeaders().log();
    expect(counted(host)).toEqual([1, 1]);
  });

  test("is changed by another configuration", () => {
    const host = startCustomInbound({});
    host.configure(1, { direction: "inbound", tcp_reporting_duration: "0s" });
    host.stream(inbound("1,1")).sendRequestHeaders();
    expect(host.tickPeriodMs.get(1) ?? 0).toBe(0);
  });

  test("each plugin of a VM has its own, and reports its own streams alone", () => {
    const host = startInbound();
    const rootId = host.addPlugin({ direction: "outbound", tcp_reporting_duration: "1s" });
    const server = host.stream(inbound("1,1")).sendRequestHeaders();
    const client = host.stream(outbound("10,10", { rootId })).sendRequestHeaders().sendResponseHeaders();
    const reporters = () => host.series(REQUESTS).map(({ labels, value }) => [labels["reporter"], value]);
    host.tick(rootId);
    expect(reporters()).toEqual([["source", 10n]]);
    setMessages(client, "11,11");
    host.tick(1);
    expect(reporters()).toEqual([
      ["source", 10n],
      ["destination", 1n],
    ]);
    for (const stream of [client, server]) stream.sendResponseHeaders().log();
    expect(counted(host)).toEqual([12, 12]);
    expect([...host.tickPeriodMs]).toEqual([
      [1, 5_000],
      [rootId, 1_000],
    ]);
  });
});

describe("under a configuration that changes metrics", () => {
  test("a dimension of one counter, and one removed from all", () => {
    const metrics = [
      { name: "request_messages_total", dimensions: { tenant: "node.metadata['NAME']" } },
      { tags_to_remove: ["source_app"] },
    ];
    const host = startCustomInbound({ metrics }, ["tenant"]);
    const stream = host.stream(inbound("1,1")).sendRequestHeaders();
    host.tick();
    setMessages(stream, "2,2");
    stream.sendResponseHeaders().log();
    expect(counters(host).map(({ labels, value }) => [labels["tenant"] ?? "", labels["source_app"], value])).toEqual([
      ["reviews-v2-7d4f8c", undefined, 2n],
      ["", undefined, 2n],
    ]);
  });

  test("a dimension that reads the peer has its value in a tick", () => {
    const metrics = [{ dimensions: { peer_name: "filter_state.upstream_peer.name" } }];
    const host = startCustomOutbound({ metrics }, ["peer_name"]);
    const stream = host.stream(outbound("1,1")).sendRequestHeaders().sendResponseHeaders();
    host.tick();
    stream.log();
    expect(counters(host).map(({ labels }) => labels["peer_name"])).toEqual(["reviews-v2-7d4f8c", "reviews-v2-7d4f8c"]);
  });

  test("a dimension that overrides a label besides the 20 adds it", () => {
    const host = startCustomInbound({
      metrics: [{ name: "request_messages_total", dimensions: { response_code: "'x'" } }],
    });
    host.request(inbound("1,1"));
    expect(host.series(REQUESTS)[0]?.labels).toMatchObject({ response_code: "x", reporter: "destination" });
    expect(host.series(RESPONSES)[0]?.labels["response_code"]).toBeUndefined();
  });

  test("one is dropped", () => {
    const host = startCustomInbound({ metrics: [{ name: "response_messages_total", drop: true }] });
    const stream = host.stream(inbound("1,1")).sendRequestHeaders();
    host.tick();
    stream.sendResponseHeaders().log();
    expect(counted(host)).toEqual([1, undefined]);
  });

  test("label sets beyond the cap are counted in the overflow", () => {
    const host = startCustomInbound({ max_label_sets: 1 });
    host.request(inbound("1,1"));
    host.request(
      inbound("2,2", { requestHeaders: [...PLAIN_REQUEST, GRPC, ...exchangeHeaders(makeNode("x", "v1", "::2"))] }),
    );
    const first = Object.fromEntries(Object.entries(overflowLabels("destination")).slice(0, PEER_LABEL_COUNT));
    expect(host.series(REQUESTS).map(({ value }) => value)).toEqual([1n, 2n]);
    expect(host.series(REQUESTS)[1]?.labels).toEqual(first);
  });

  test("a condition on what only the end knows is asked for the end's report", () => {
    const metrics = [{ match: "response.code == 503", name: "request_messages_total", drop: true }];
    const host = startCustomInbound({ metrics });
    host.request(inbound("1,1", { responseCode: 503 }));
    host.request(inbound("1,1"));
    expect(counted(host)).toEqual([1, 2]);
  });
});

test("a peer that is not known in time is not waited for forever: the end reports unknown", () => {
  const host = startOutbound();
  host.request(outbound("2,2", { responseHeaders: PLAIN_RESPONSE }));
  expect(counters(host)[0]?.labels).toMatchObject({
    destination_workload: "unknown",
    source_workload: PRODUCTPAGE.metadata["WORKLOAD_NAME"],
  });
});
