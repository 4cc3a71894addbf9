// The filter as an access logger (`envoy.access_loggers.wasm`): it is shown a finished request and has no stream of its own.

import { describe, expect, test } from "vitest";
import { HTTP_METRICS } from "../../filter/vocabulary/metrics.ts";
import { countOf, customLabelsOf, startCustomInbound, startCustomOutbound } from "../host/customised.ts";
import { PLAIN_REQUEST, PLAIN_RESPONSE, startFilter } from "../host/host.ts";
import {
  countedLabels,
  countedRequests,
  countedTotal,
  countedWith,
  FROM_PRODUCTPAGE,
  faults,
  observationOf,
  PRODUCTPAGE,
  PRODUCTPAGE_URI,
  REVIEWS_URI,
  startInbound,
  startOutbound,
  TO_REVIEWS,
} from "../host/mesh.ts";

/** What reviews' inbound listener shows its logger. */
const LOGGED = { ...FROM_PRODUCTPAGE, requestHeaders: PLAIN_REQUEST };
/** What productpage's outbound listener shows its logger. */
const LOGGED_OUTBOUND = { ...TO_REVIEWS, requestHeaders: PLAIN_REQUEST, responseHeaders: PLAIN_RESPONSE };

describe("one request", () => {
  test("is counted and measured with its facts", () => {
    const host = startInbound();
    host.logAsAccessLogger({
      ...LOGGED,
      requestHeaders: [...PLAIN_REQUEST, ["content-type", "application/grpc"]],
      responseTrailers: [["grpc-status", "5"]],
      responseCode: 200,
      responseFlags: 1n << 14n,
      durationNs: 7_999_999n,
      requestBytes: 321,
      responseBytes: 654,
    });
    expect(countedLabels(host)).toMatchObject({
      reporter: "destination",
      request_protocol: "grpc",
      response_code: "200",
      grpc_response_status: "5",
      response_flags: "DC",
      connection_security_policy: "mutual_tls",
      source_principal: PRODUCTPAGE_URI,
      source_workload_namespace: "default",
      destination_principal: REVIEWS_URI,
      destination_workload: "reviews-v2",
      destination_service: "reviews.default.svc.cluster.local",
    });
    expect(HTTP_METRICS.slice(1).flatMap(({ name }) => host.series(name)[0]?.samples)).toEqual([7n, 321n, 654n]);
  });

  test("of a client is counted toward the endpoint's workload", () => {
    const host = startOutbound();
    const endpoint = { metadata: { istio: { workload: "reviews-v3;shop;reviews;v3;east" } } };
    host.logAsAccessLogger({ ...LOGGED_OUTBOUND, endpoint });
    expect(countedLabels(host)).toMatchObject({
      reporter: "source",
      source_workload: "productpage-v1",
      destination_workload: "reviews-v3",
      destination_cluster: "east",
      destination_principal: REVIEWS_URI,
      destination_service_name: "reviews",
    });
  });

  test.each([
    ["inbound", "destination"],
    ["outbound", "source"],
  ] as const)(
    "of an %s listener is reported by its %s, when the direction is found by itself",
    (direction, reporter) => {
      const host = startFilter({ node: PRODUCTPAGE, direction });
      host.logAsAccessLogger(LOGGED);
      expect(countedLabels(host)).toMatchObject({ reporter });
    },
  );

  test("that nobody answered is counted with code 0, without a duration when it did not finish", () => {
    const host = startInbound();
    host.logAsAccessLogger({ ...LOGGED, responseCode: null, durationNs: null, responseFlags: 1n << 14n });
    expect(countedLabels(host)).toMatchObject({ response_code: "0", response_flags: "DC" });
    expect(host.series("istio_request_duration_milliseconds").flatMap(({ samples }) => samples)).toEqual([]);
  });

  test("that has no route, as Envoy refuses it", () => {
    const host = startInbound();
    host.logAsAccessLogger({ requestHeaders: [], routeName: null, responseCode: 400, responseFlags: 1n << 18n });
    expect(countedLabels(host)).toMatchObject({ response_code: "400", response_flags: "DPE" });
  });

  test.each([
    ["inbound", startInbound, LOGGED],
    ["outbound", startOutbound, LOGGED_OUTBOUND],
  ] as const)(
    "%s: no filter state is set, nothing of the request is changed, no fault is counted",
    (_, start, options) => {
      const host = start();
      for (let index = 0; index < 3; index++) {
        const stream = host.logAsAccessLogger(options);
        expect([...stream.filterState]).toEqual([]);
        expect(stream.requestHeaders.pairs()).toEqual(PLAIN_REQUEST);
      }
      expect(host.calls.get("proxy_set_property")).toBeUndefined();
      expect(countedTotal(host)).toBe(3);
      expect(faults(host)).toEqual({});
      expect(host.logs.filter(({ level }) => level === "warn" || level === "error")).toEqual([]);
    },
  );

  test("of a known label set costs no definition", () => {
    const host = startInbound();
    host.logAsAccessLogger(LOGGED);
    host.calls.clear();
    host.logAsAccessLogger(LOGGED);
    expect(host.calls.get("proxy_define_metric")).toBeUndefined();
  });
});

test("many requests of different facts are told apart", () => {
  const host = startInbound();
  for (let round = 0; round < 100; round++) {
    for (const responseCode of [200, 404, 503]) host.logAsAccessLogger({ ...LOGGED, responseCode });
  }
  expect(countedRequests(host).map(({ value }) => value)).toEqual([100n, 100n, 100n]);
  expect(faults(host)).toEqual({});
});

test("gRPC messages are counted at the end, each request's own", () => {
  const host = startInbound();
  const requestHeaders = [...PLAIN_REQUEST, ["content-type", "application/grpc"]] as const;
  for (const text of ["3,5", "2,1"]) {
    host.logAsAccessLogger({ ...LOGGED, requestHeaders, filterState: { "envoy.filters.http.grpc_stats": text } });
  }
  host.tick();
  expect(countOf(host, "istio_request_messages_total")).toBe(5);
  expect(countOf(host, "istio_response_messages_total")).toBe(6);
});

describe("customised metrics", () => {
  const configuration = {
    metrics: [
      { dimensions: { host: "request.host", code: "response.code", operation: "istio_operationId" } },
      { match: "request.path == '/health'", name: "requests_total", drop: true },
    ],
    definitions: [{ name: "mine", value: "response.code" }],
    classification: { attributes: [{ output_attribute: "istio_operationId", match: [{ value: "Any" }] }] },
    access_log_policy: {},
  };

  test("are as in the filter, and leave no filter state", () => {
    const host = startCustomInbound(configuration, ["host", "code", "operation"]);
    const stream = host.logAsAccessLogger(LOGGED);
    host.logAsAccessLogger({ ...LOGGED, requestHeaders: [[":path", "/health"]] });
    expect(customLabelsOf(host)).toEqual({ host: "reviews:9080", code: "200", operation: "Any" });
    expect(host.series("istio_mine").reduce((sum, { value }) => sum + value, 0n)).toBe(400n);
    expect([...stream.filterState]).toEqual([]);
    expect(faults(host)).toEqual({});
  });

  test("peer expressions are unknown where no peer is known, and no fault", () => {
    const metrics = [{ dimensions: { peer_name: "filter_state.upstream_peer.name", tenant: "'red'" } }];
    const host = startCustomOutbound({ metrics }, ["peer_name", "tenant"]);
    for (let index = 0; index < 2; index++) host.logAsAccessLogger(LOGGED_OUTBOUND);
    expect(customLabelsOf(host)).toEqual({ peer_name: "unknown", tenant: "red" });
    expect(faults(host)).toEqual({});
  });
});

describe("several plugins of one VM", () => {
  test("each counts under its own configuration", () => {
    const host = startCustomInbound({ metrics: [{ dimensions: { tenant: "'first'" } }] }, ["tenant"]);
    const second = host.addPlugin({ direction: "outbound", metrics: [{ dimensions: { tenant: "'second'" } }] });
    const third = host.addPlugin({ reporter: "SERVER_GATEWAY", metrics: [{ tags_to_remove: ["source_app"] }] });
    for (const rootId of [1, second, third, second, 1, 1]) host.logAsAccessLogger({ ...LOGGED, rootId });
    const seen = countedRequests(host).map(({ labels, value }) => [labels["reporter"], labels["tenant"] ?? "", value]);
    expect(seen).toEqual([
      ["destination", "first", 3n],
      ["source", "second", 2n],
      ["waypoint", "", 1n],
    ]);
  });

  test("a logger among the streams of a filter: neither takes the other for its own", () => {
    const host = startInbound();
    const logger = host.addPlugin({ direction: "outbound" });
    const stream = host.stream(FROM_PRODUCTPAGE).sendRequestHeaders();
    host.logAsAccessLogger({ ...LOGGED_OUTBOUND, rootId: logger });
    stream.sendResponseHeaders();
    host.logAsAccessLogger({ ...LOGGED_OUTBOUND, rootId: logger });
    stream.log();
    expect(observationOf(stream).labels).toMatchObject({ reporter: "destination", source_workload: "productpage-v1" });
    expect(countedWith(host, { reporter: "source", destination_workload: "unknown" })).toBe(2);
    expect(countedWith(host, { reporter: "destination", source_workload: "productpage-v1" })).toBe(1);
    expect(faults(host)).toEqual({});
  });

  test("one plugin that is both filter and logger", () => {
    const host = startInbound();
    for (let index = 0; index < 3; index++) {
      host.request(FROM_PRODUCTPAGE);
      host.logAsAccessLogger(LOGGED);
    }
    expect(countedWith(host, { source_workload: "productpage-v1" })).toBe(3);
    expect(countedWith(host, { source_workload: "unknown" })).toBe(3);
    expect(faults(host)).toEqual({});
  });
});
