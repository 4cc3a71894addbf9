// The cost that can be counted without a clock: memory that does not grow, and host calls per request.

import { describe, expect, test } from "vitest";
import { type Host, PLAIN_REQUEST, PLAIN_RESPONSE, type StreamOptions } from "../host/host.ts";
import {
  countedTotal,
  exchangeHeaders,
  FROM_PRODUCTPAGE,
  makeNode,
  REVIEWS_CLUSTER,
  startInbound,
  startOutbound,
  TO_REVIEWS,
} from "../host/mesh.ts";

const WARM_UP = 5_000;

function requestFrom(index: number): StreamOptions {
  return {
    ...FROM_PRODUCTPAGE,
    requestHeaders: [...PLAIN_REQUEST, ...exchangeHeaders(makeNode(`s${index}`, "v1", "::1"))],
  };
}

function answerOf(index: number): StreamOptions {
  return {
    ...TO_REVIEWS,
    responseHeaders: [...PLAIN_RESPONSE, ...exchangeHeaders(makeNode(`s${index}`, "v1", "::1"))],
  };
}

/** Runs the options in turn. */
function drive(host: Host, options: readonly StreamOptions[], requests: number): void {
  for (let index = 0; index < requests; index++) host.request(options[index % options.length]);
}

describe("memory", () => {
  test("is flat over 200,000 requests in steady state", () => {
    const inbound = Array.from({ length: 20 }, (_, index) => ({ ...requestFrom(index), responseCode: 200 + index }));
    const outbound = Array.from({ length: 20 }, (_, index) => answerOf(index));
    for (const [host, options] of [
      [startInbound(), inbound],
      [startOutbound(), outbound],
    ] as const) {
      drive(host, options, WARM_UP);
      const before = host.memory.byteLength;
      drive(host, options, 100_000);
      expect(host.memory.byteLength).toBe(before);
      expect(countedTotal(host)).toBe(WARM_UP + 100_000);
    }
  }, 120_000);

  test("is flat under churn: 5,000 new peers, label sets beyond the cap, hosts, routes and clusters", () => {
    const inbound = startInbound();
    const outbound = startOutbound();
    const churn = (from: number, to: number) => {
      for (let index = from; index < to; index++) {
        inbound.request({ ...requestFrom(index), responseCode: 200 + (index % 300) });
        outbound.request({
          ...answerOf(index),
          requestHeaders: [[":authority", `host-${index}.example.com`]],
          routeName: `route-${index}`,
          cluster: { name: `cluster-${index}`, metadata: REVIEWS_CLUSTER.metadata },
        });
      }
    };
    churn(0, 5_000);
    const before = [inbound.memory.byteLength, outbound.memory.byteLength];
    churn(5_000, 10_000);
    expect([inbound.memory.byteLength, outbound.memory.byteLength]).toEqual(before);
    expect(countedTotal(inbound)).toBe(10_000);
    expect(countedTotal(outbound)).toBe(10_000);
  }, 120_000);

  test("is bounded: under 16 MiB after all that", () => {
    const host = startInbound();
    for (let index = 0; index < 3_000; index++) host.request(requestFrom(index));
    expect(host.memory.byteLength).toBeLessThan(16 * 1_024 * 1_024);
  });
});

describe("calls that bring bytes into the guest, per request in steady state", () => {
  const readings = (host: Host, options: StreamOptions): number => {
    drive(host, [options], 100);
    host.calls.clear();
    drive(host, [options], 100);
    return host.readingCalls() / 100;
  };

  test("inbound with a peer: 15 at most", () => {
    expect(readings(startInbound(), FROM_PRODUCTPAGE)).toBeLessThanOrEqual(15);
  });

  test("outbound with a peer: 13 at most", () => {
    expect(readings(startOutbound(), TO_REVIEWS)).toBeLessThanOrEqual(13);
  });

  test("a request that only has a log: 12 at most", () => {
    const host = startInbound();
    host.stream({ requestHeaders: [], responseCode: 400 }).log();
    host.calls.clear();
    host.stream({ requestHeaders: [], responseCode: 400 }).log();
    expect(host.readingCalls()).toBeLessThanOrEqual(12);
  });
});
