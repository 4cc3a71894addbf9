// Custom metrics of TCP: rules and definitions of the configuration, and expressions, which can be evaluated in a connection's own
// callbacks alone.

import { describe, expect, test } from "vitest";
import { isTcpLabel, LABELS } from "../../filter/vocabulary/labels.ts";
import { MetricKind, TCP_METRICS, TcpMetric } from "../../filter/vocabulary/metrics.ts";
import type { ConnectionOptions, TcpConnection } from "../host/connection.ts";
import { complaints, countOf } from "../host/customised.ts";
import type { Host } from "../host/host.ts";
import { FROM_PRODUCTPAGE, faults, PRODUCTPAGE, REVIEWS } from "../host/mesh.ts";
import { prefixOf } from "../host/prefix.ts";
import type { JsonObject } from "../host/struct.ts";
import {
  CONNECTION_FROM_PRODUCTPAGE,
  CONNECTION_TO_REVIEWS,
  startTcpInbound,
  startTcpOutbound,
  tcpCounts,
  tcpLabels,
  tcpSeries,
} from "../host/tcp.ts";

const PREFIX = prefixOf(PRODUCTPAGE);
const ANSWER = prefixOf(REVIEWS);
const BOUND_MS = 1_000;
const OPENED = "tcp_connections_opened_total";
const NOTHING = { opened: 0, closed: 0, sent: 0, received: 0 };

function start(configuration: JsonObject, customLabels: readonly string[] = []): Host {
  const host = startTcpInbound(configuration, { customLabels });
  expect(complaints(host)).toEqual([]);
  return host;
}

function connect(host: Host, options: ConnectionOptions = {}): TcpConnection {
  return host.connection({ ...CONNECTION_FROM_PRODUCTPAGE, ...options });
}

/** A whole connection from productpage. */
function run(host: Host, options: ConnectionOptions = {}): TcpConnection {
  return connect(host, options).fromClient(PREFIX).fromClient("ping").fromServer("pong!").finish();
}

function labelsOf(host: Host, metric: TcpMetric) {
  return tcpSeries(host, metric).map((one) => one.labels);
}

describe("rules", () => {
  test.each(TCP_METRICS.map(({ name }) => name))("%s can be dropped, alone", (dropped) => {
    const host = start({ metrics: [{ name: dropped.slice("istio_".length), drop: true }] });
    run(host);
    for (const { name } of TCP_METRICS) expect(host.series(name), name).toHaveLength(name === dropped ? 0 : 1);
  });

  test("tags_to_remove of one metric leaves the others as they are", () => {
    const host = start({ metrics: [{ name: OPENED, tags_to_remove: ["source_app", "response_flags"] }] });
    run(host);
    const kept = LABELS.filter(
      (label, index) => isTcpLabel(index) && !["source_app", "response_flags"].includes(label),
    );
    expect(Object.keys(labelsOf(host, TcpMetric.Opened)[0] ?? {})).toEqual(kept);
    expect(labelsOf(host, TcpMetric.Closed)[0]).toHaveProperty("source_app", "productpage");
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 5, received: 4 });
  });

  test("a rule without a name holds for TCP and for HTTP", () => {
    const host = start({ metrics: [{ tags_to_remove: ["source_app"] }] });
    run(host);
    host.request(FROM_PRODUCTPAGE);
    for (const { name, labels } of host.series().filter((one) => Object.hasOwn(one.labels, "reporter"))) {
      expect(labels, name).not.toHaveProperty("source_app");
    }
  });

  test("a rule for a metric of HTTP leaves TCP alone, and the other way round", () => {
    const host = start({
      metrics: [
        { name: "requests_total", tags_to_remove: ["source_app"] },
        { name: OPENED, tags_to_remove: ["source_version"] },
      ],
    });
    run(host);
    host.request(FROM_PRODUCTPAGE);
    expect(labelsOf(host, TcpMetric.Opened)[0]).toHaveProperty("source_app");
    expect(labelsOf(host, TcpMetric.Opened)[0]).not.toHaveProperty("source_version");
    expect(host.series("istio_requests_total")[0]?.labels).not.toHaveProperty("source_app");
    expect(host.series("istio_requests_total")[0]?.labels).toHaveProperty("source_version");
  });

  test("a dimension replaces a standard label, or adds one of its own", () => {
    const dimensions = { source_app: "'mine'", zone: "'a'" };
    const host = start({ metrics: [{ name: OPENED, dimensions }] }, ["zone"]);
    run(host);
    expect(labelsOf(host, TcpMetric.Opened)[0]).toMatchObject({ source_app: "mine", zone: "a" });
    expect(labelsOf(host, TcpMetric.Closed)[0]).toMatchObject({ source_app: "productpage" });
  });

  test("a match decides for each connection", () => {
    const match = "connection.requested_server_name == 'a.example'";
    const host = start({ metrics: [{ name: OPENED, match, drop: true }] });
    for (const requestedServerName of ["a.example", "b.example", "a.example"]) run(host, { requestedServerName });
    expect(tcpCounts(host)).toMatchObject({ opened: 1, closed: 3 });
  });
});

describe("expressions", () => {
  test.each([
    ["connection.requested_server_name", "a.example"],
    ["source.address", "127.0.1.1:40000"],
    ["string(destination.port)", "9080"],
    ["connection.uri_san_peer_certificate", "spiffe://cluster.local/ns/default/sa/bookinfo-productpage"],
    ["xds.cluster_name", "inbound|9080||"],
    ["filter_state.downstream_peer.workload", "productpage-v1"],
    ["request.method", "unknown"],
    ["request.headers['x']", "unknown"],
  ])("%s of a connection reads %s", (expression, expected) => {
    const host = start({ metrics: [{ dimensions: { what: expression } }] }, ["what"]);
    run(host, { requestedServerName: "a.example" });
    for (const metric of TCP_METRICS.keys()) expect(labelsOf(host, metric)).toMatchObject([{ what: expected }]);
  });

  test("of a client read its upstream and its peer", () => {
    const dimensions = { who: "filter_state.upstream_peer.workload", where: "upstream.address" };
    const host = startTcpOutbound({ metrics: [{ dimensions }] }, { customLabels: ["who", "where"] });
    host.connection(CONNECTION_TO_REVIEWS).fromClient("x").fromServer(ANSWER).finish();
    expect(tcpLabels(host)).toMatchObject({ who: "reviews-v2", where: "127.0.1.3:9080" });
  });

  test("that need a callback are waited for: nothing is reported from a tick, then the first bytes bring it", () => {
    const host = start({ metrics: [{ dimensions: { sni: "connection.requested_server_name" } }] }, ["sni"]);
    const connection = connect(host, { requestedServerName: "a.example" });
    host.advance(10 * BOUND_MS);
    expect(tcpCounts(host)).toEqual(NOTHING);
    connection.fromServer("220");
    expect(tcpCounts(host, { sni: "a.example" })).toEqual({ opened: 1, closed: 0, sent: 3, received: 0 });
    connection.finish();
    expect(tcpCounts(host, { sni: "a.example" })).toEqual({ opened: 1, closed: 1, sent: 3, received: 0 });
    expect(tcpCounts(host)).toEqual(tcpCounts(host, { sni: "a.example" }));
  });

  test("that need a callback have one in the close", () => {
    const host = start({ metrics: [{ dimensions: { sni: "connection.requested_server_name" } }] }, ["sni"]);
    const connection = connect(host, { requestedServerName: "a.example" });
    host.advance(10 * BOUND_MS);
    connection.reset();
    expect(tcpCounts(host, { sni: "a.example" })).toEqual({ opened: 1, closed: 1, sent: 0, received: 0 });
  });

  test("let periodic reports go on from ticks once the labels are known", () => {
    const host = start({ metrics: [{ dimensions: { sni: "connection.requested_server_name" } }] }, ["sni"]);
    const connection = connect(host, { requestedServerName: "a.example" }).fromClient(PREFIX).fromClient("ping");
    host.advance(5_000);
    connection.fromServer("pong!");
    host.advance(5_000);
    expect(tcpCounts(host, { sni: "a.example" })).toEqual({ opened: 1, closed: 0, sent: 5, received: 4 });
  });

  test("do not hold up what is held back: a cut prefix goes on when the bound is over", () => {
    const host = start({ metrics: [{ dimensions: { sni: "connection.requested_server_name" } }] }, ["sni"]);
    const connection = connect(host).fromClient(PREFIX.subarray(0, 40));
    host.advance(BOUND_MS);
    expect(connection.toServer.length).toBe(40);
    connection.finish();
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 0, received: 40 });
  });
});

describe("definitions", () => {
  test("are recorded once, when the connection is closed", () => {
    const host = start({ definitions: [{ name: "connections_seen", value: "1" }] });
    const connection = connect(host).fromClient(PREFIX).fromClient("ping");
    host.advance(20_000);
    expect(countOf(host, "istio_connections_seen")).toBe(0);
    connection.finish();
    run(host);
    expect(countOf(host, "istio_connections_seen")).toBe(2);
  });

  test("may take what Envoy counted, as histogram", () => {
    const host = start({ definitions: [{ name: "downstream_bytes", value: "request.size", type: "HISTOGRAM" }] });
    connect(host).fromClient("12345").fromClient("678").finish();
    const [series] = host.series("istio_downstream_bytes");
    expect(series?.kind).toBe(MetricKind.Histogram);
    expect(series?.samples).toEqual([8n]);
  });

  test("carry the labels that are configured for them", () => {
    const host = start(
      {
        definitions: [{ name: "connections_seen", value: "1" }],
        metrics: [{ name: "connections_seen", dimensions: { sni: "connection.requested_server_name" } }],
      },
      ["sni"],
    );
    run(host, { requestedServerName: "a.example" });
    expect(host.series("istio_connections_seen").map((one) => one.labels)).toEqual([{ sni: "a.example" }]);
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 5, received: 4 });
  });

  test.each(TCP_METRICS.map(({ name }) => name))("cannot define %s again", (name) => {
    const host = startTcpInbound({ definitions: [{ name: name.slice("istio_".length), value: "1" }] });
    run(host);
    expect(complaints(host)).toEqual([expect.stringContaining("definitions[0]")]);
    expect(faults(host)).toEqual({ configuration: 1 });
    expect(host.series(name)).toHaveLength(1);
  });

  test("one connection is recorded once, though its peer was late", () => {
    const host = start({ definitions: [{ name: "connections_seen", value: "1" }] });
    const connection = connect(host).fromServer("220");
    host.advance(BOUND_MS);
    connection.fromClient(PREFIX).fromClient("HELO").finish();
    expect(countOf(host, "istio_connections_seen")).toBe(1);
    expect(tcpCounts(host)).toEqual({ opened: 1, closed: 1, sent: 3, received: 4 });
  });
});

describe("a configuration that is replaced while connections live", () => {
  const none = {};
  const rules = { metrics: [{ name: OPENED, drop: true }, { tags_to_remove: ["source_app"] }] };
  const one = { definitions: [{ name: "first", value: "1" }] };
  const three = { definitions: ["a", "b", "c"].map((name) => ({ name, value: "request.size" })), ...rules };

  test.each([
    ["by definitions", none, three],
    ["by more of them", one, three],
    ["by fewer of them", three, one],
    ["by none", three, none],
    ["by rules", none, rules],
  ])("%s: each connection is closed once and loses no byte", (_, before, after) => {
    const host = start(before);
    const connections = [1, 2, 3].map(() => connect(host).fromClient(PREFIX).fromClient("ping"));
    host.configure(1, { direction: "inbound", disable_host_header_fallback: true, ...after });
    connections[0]?.fromServer("pong!");
    host.advance(20_000);
    for (const connection of connections) connection.finish();
    run(host);
    expect(tcpCounts(host)).toMatchObject({ closed: 4, sent: 10, received: 16 });
    expect(faults(host)).toEqual({});
  });
});
