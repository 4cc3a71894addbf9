// At the limits of a configuration and of a VM: nothing traps, nothing is counted wrong, nothing grows.

import { describe, expect, test } from "vitest";
import { complaints, countOf, requestInbound, startCustomInbound } from "../host/customised.ts";
import { type HttpStream, PLAIN_REQUEST, type StreamOptions } from "../host/host.ts";
import {
  countedLabels,
  countedRequests,
  exchangeHeaders,
  FROM_PRODUCTPAGE,
  faults,
  makeNode,
  startInbound,
} from "../host/mesh.ts";

const MESSAGES = "istio_request_messages_total";
const STATE = "envoy.filters.http.grpc_stats";

function withHeaders(headers: readonly (readonly [string, string])[]): StreamOptions {
  return { ...FROM_PRODUCTPAGE, requestHeaders: [...FROM_PRODUCTPAGE.requestHeaders, ...headers] };
}

function dimensionsOf(labels: readonly string[], source: (label: string) => string) {
  const entries = [];
  for (let from = 0; from < labels.length; from += 32) {
    const some = labels.slice(from, from + 32);
    entries.push({ dimensions: Object.fromEntries(some.map((label) => [label, source(label)])) });
  }
  return entries;
}

describe("the key of a request", () => {
  test("has room for as many long values as a configuration may have: 64 expressions, of which some use a class", () => {
    const first = Array.from({ length: 40 }, (_, index) => `first_${index}_x`);
    const second = Array.from({ length: 24 }, (_, index) => `second_${index}_x`);
    const metrics = [
      ...dimensionsOf(first, (label) => `request.headers['x-v'] + '${label}'`),
      ...dimensionsOf(second, (label) => `request.headers['x-v'] + '${label}' + 'kind'`),
    ];
    const classification = { attributes: [{ output_attribute: "kind", match: [{ value: "a" }] }] };
    const host = startCustomInbound({ metrics, classification }, [...first, ...second]);
    expect(complaints(host)).toEqual([]);
    const more = [...metrics, ...dimensionsOf(["one_more_x"], (label) => `'${label}'`)];
    const over = startCustomInbound({ metrics: more, classification });
    expect(complaints(over)).toEqual([expect.stringContaining("metrics[3].dimensions.one_more_x")]);
    for (let index = 0; index < 5; index++) requestInbound(host, withHeaders([["x-v", "\u00ff".repeat(250)]]));
    expect(countedRequests(host).map(({ value }) => value)).toEqual([5n]);
    expect(faults(host)).toEqual({});
    const before = startInbound();
    before.request(FROM_PRODUCTPAGE);
    host.configure(1, { direction: "inbound", disable_host_header_fallback: true });
    host.request(FROM_PRODUCTPAGE);
    const plain = countedRequests(host).find(({ labels }) => !labels["first_0_x"]);
    expect(plain?.labels).toEqual(countedLabels(before));
  });
});

describe("plugins of one VM", () => {
  test("one that stays in use keeps its configuration, however often another one is replaced", () => {
    const host = startCustomInbound({ metrics: [{ name: "requests_total", tags_to_remove: ["source_app"] }] });
    for (let index = 0; index < 300; index++) {
      host.addPlugin({ direction: "outbound" });
      host.request(FROM_PRODUCTPAGE);
    }
    expect(countedRequests(host).map(({ labels }) => labels["source_app"])).toEqual([undefined]);
    expect(countedRequests(host).map(({ value }) => value)).toEqual([300n]);
  });

  test("as an access logger, too", () => {
    const host = startCustomInbound({ metrics: [{ name: "requests_total", tags_to_remove: ["source_app"] }] });
    for (let index = 0; index < 300; index++) {
      host.addPlugin({ direction: "outbound" });
      host.logAsAccessLogger(FROM_PRODUCTPAGE);
    }
    expect(countedRequests(host).map(({ labels, value }) => [labels["reporter"], labels["source_app"], value])).toEqual(
      [["destination", undefined, 300n]],
    );
  });
});

describe("a corrected configuration", () => {
  test("two labels that stood in one string by mistake are removed once they are two", () => {
    const host = startCustomInbound({
      metrics: [{ name: "requests_total", tags_to_remove: ["source_app,source_version"] }],
    });
    host.request(FROM_PRODUCTPAGE);
    host.configure(1, {
      direction: "inbound",
      disable_host_header_fallback: true,
      metrics: [{ name: "requests_total", tags_to_remove: ["source_app", "source_version"] }],
    });
    host.request(FROM_PRODUCTPAGE);
    expect(countedRequests(host).map(({ labels, value }) => [labels["source_app"], value])).toEqual([
      ["productpage", 1n],
      [undefined, 1n],
    ]);
  });

  test("a name that is no text does not make the entry one for all metrics", () => {
    const host = startCustomInbound({ metrics: [{ name: ["requests_total"], tags_to_remove: ["source_app"] }] });
    host.request(FROM_PRODUCTPAGE);
    expect(host.series("istio_request_bytes")[0]?.labels["source_app"]).toBe("productpage");
  });

  test("a long text with an escape is no harm", () => {
    const host = startCustomInbound({ note: `\n${"x".repeat(70_000)}` });
    host.request(FROM_PRODUCTPAGE);
    expect(countedRequests(host).map(({ value }) => value)).toEqual([1n]);
  }, 60_000);

  test("sixty long conditions with escapes do not take hundreds of MiB", () => {
    const condition = (index: number) => `request.path == "/${"x".repeat(3_900)}${index}"`;
    const attributes = Array.from({ length: 1 }, () => ({
      output_attribute: "kind",
      match: Array.from({ length: 60 }, (_, index) => ({ condition: condition(index), value: "a" })),
    }));
    const host = startCustomInbound({ classification: { attributes } });
    expect(host.memory.byteLength).toBeLessThan(64 * 1_024 * 1_024);
  }, 60_000);
});

describe("memory", () => {
  test("holds no more label sets for a combination of conditions that comes again: 13 conditions, 4,500 combinations", () => {
    const conditions = Array.from({ length: 13 }, (_, index) => `'x-${index}' in request.headers`);
    const metrics = conditions.map((match, index) => ({ match, tags_to_remove: [`label_${index}`] }));
    const host = startCustomInbound({ metrics, max_label_sets: 1 });
    const definitions = () => host.calls.get("proxy_define_metric") ?? 0;
    const defined = [1, 2, 3].map(() => {
      const before = definitions();
      for (let bits = 0; bits < 4_500; bits++) {
        const headers = conditions.flatMap((_, index) => ((bits >> index) & 1 ? [[`x-${index}`, "1"] as const] : []));
        host.request(withHeaders(headers));
      }
      return definitions() - before;
    });
    expect(defined[2]).toBe(0);
  }, 120_000);

  test("a tick that meets 10,000 streams of new peers collects its garbage", () => {
    const host = startInbound();
    const streams: HttpStream[] = [];
    for (let index = 0; index < 10_000; index++) {
      const requestHeaders = [
        ...PLAIN_REQUEST,
        ["content-type", "application/grpc"] as const,
        ...exchangeHeaders(makeNode(`s${index}`, "v1", "::1")),
      ];
      streams.push(
        host.stream({ ...FROM_PRODUCTPAGE, requestHeaders, filterState: { [STATE]: "1,1" } }).sendRequestHeaders(),
      );
    }
    const before = host.memory.byteLength;
    host.tick();
    expect(host.memory.byteLength - before).toBeLessThan(32 * 1_024 * 1_024);
  }, 120_000);
});

describe("gRPC messages", () => {
  const connect = (text: string): StreamOptions => ({
    ...FROM_PRODUCTPAGE,
    requestHeaders: [...FROM_PRODUCTPAGE.requestHeaders, ["content-type", "application/connect+proto"]],
    filterState: { [STATE]: text },
  });

  test("of a stream that is no gRPC, but counted by grpc_stats, do not depend on when a tick comes", () => {
    const numbers = [false, true].map((hasTick) => {
      const host = startInbound();
      const stream = host.stream(connect("3,5")).sendRequestHeaders();
      if (hasTick) host.tick();
      stream.sendResponseHeaders().log();
      return host.series(MESSAGES).map(({ value }) => value);
    });
    expect(numbers[1]).toEqual(numbers[0]);
  });
});

describe("definitions", () => {
  test("one name twice: a request is counted once", () => {
    const definitions = [
      { name: "mine", value: "1" },
      { name: "mine", value: "1" },
    ];
    const host = startCustomInbound({ definitions });
    host.request(FROM_PRODUCTPAGE);
    expect(countOf(host, "istio_mine")).toBe(1);
  });
});
