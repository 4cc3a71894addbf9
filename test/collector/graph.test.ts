import { describe, expect, it } from "vitest";
import { HistogramBounds } from "../../collector/series/histogram.ts";
import { unpackLabels } from "../../collector/series/key.ts";
import { overflowKeyOf } from "../../collector/series/overflow.ts";
import { DEFAULT_SHAPES, shapesOf } from "../../collector/series/shape.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { ServiceGraph } from "../../collector/service-graph/graph.ts";
import { LABELS } from "../../collector/vocabulary.ts";
import { key, type LabelValues } from "./labels.ts";

const START_MS = 1_767_000_000_000;

const WEB_TO_API: LabelValues = {
  source_workload: "web",
  source_workload_namespace: "default",
  source_canonical_service: "web",
  destination_workload: "api",
  destination_workload_namespace: "default",
  destination_canonical_service: "api",
  destination_service_name: "api",
  request_protocol: "http",
  response_code: "200",
  grpc_response_status: "",
};
const BY_SOURCE = { ...WEB_TO_API, reporter: "source", connection_security_policy: "unknown" };
const BY_DESTINATION = { ...WEB_TO_API, reporter: "destination", connection_security_policy: "mutual_tls" };

function setUp(limit = 100, expireAfterMs = 0, shapes = DEFAULT_SHAPES) {
  const clock = { nowMs: START_MS };
  const now = () => clock.nowMs;
  const store = new SeriesStore(
    { proxies: 100, labelSets: 1000, cells: 500_000, connections: 100, retireAfterMs: 600_000 },
    { wallMs: now, steadyMs: now },
    { shapes },
  );
  const graph = new ServiceGraph(store, limit, now, expireAfterMs);
  const send = (labels: LabelValues, times = 1, durationMs = 7): void => {
    const record = {
      proxy: "p",
      lifeMs: START_MS,
      labelKey: key(labels),
      requests: 1,
      durationMs,
      requestBytes: 1,
      responseBytes: 1,
    };
    for (let time = 0; time < times; time++) store.observe(record);
  };
  /** Seconds go by, each with a tick and whatever else. */
  const pass = (seconds: number, each = (): void => {}): void => {
    for (let second = 0; second < seconds; second++) {
      each();
      clock.nowMs += 1000;
      graph.tick();
    }
  };
  return { clock, graph, pass, send, store };
}

describe("ServiceGraph", () => {
  it("reads a label that a configuration removed as not known, and a request without reporter as the source's", () => {
    const { graph, pass, send } = setUp();
    send({ ...BY_DESTINATION, reporter: "", response_code: "", destination_workload: "", source_version: "" }, 3);
    pass(1);
    expect(graph.read(60_000).edges).toMatchObject([
      {
        source: "default/web",
        destination: "service/unknown/api",
        errors: 0,
        sourceRequests: 3,
        destinationRequests: 0,
        isMutualTls: null,
        responseCodes: { unknown: 3 },
      },
    ]);
    expect(graph.read(60_000).nodes[0]?.version).toBe("unknown");
  });

  it.each([
    ["fewer than Envoy's", [7.5, 33]],
    ["more", [...Array.from({ length: 60 }, (_, index) => (index + 1) / 10), 7.5, 33, 123, 75000]],
  ])("reads percentiles by the bounds that are counted by: %s", (_, bounds) => {
    const { graph, pass, send } = setUp(100, 0, shapesOf(new HistogramBounds(bounds)));
    send(BY_SOURCE, 10, 20);
    send(BY_DESTINATION, 10, 20);
    send({ ...BY_SOURCE, destination_workload: "db" }, 10, 7);
    pass(1);
    const [api, db] = graph.read(60_000).edges;
    expect(api).toMatchObject({
      p50Ms: 7.5 + (33 - 7.5) / 2,
      sourceRequests: 10,
      destinationRequests: 10,
      isMutualTls: true,
    });
    expect(db?.p99Ms).toBeLessThanOrEqual(7.5);
    expect(db).toMatchObject({ requests: 10, destinationRequests: 0, isMutualTls: null });
  });

  it("joins both reporters' counts of the same requests to one edge", () => {
    const { graph, pass, send } = setUp();
    send(BY_SOURCE, 10);
    send(BY_DESTINATION, 9);
    pass(10);
    const { nodes, edges, coveredMs } = graph.read(60_000);
    expect(coveredMs).toBe(10_000);
    expect(nodes.map(({ id, service }) => [id, service])).toEqual([
      ["default/web", "web"],
      ["default/api", "api"],
    ]);
    expect(edges).toMatchObject([
      {
        source: "default/web",
        destination: "default/api",
        requests: 10,
        errors: 0,
        sourceRequests: 10,
        destinationRequests: 9,
        isMutualTls: true,
        responseCodes: { "200": 10 },
      },
    ]);
  });

  describe("of TCP connections", () => {
    const TCP = { request_protocol: "tcp", response_code: "" };
    let nextId = 0;

    /** One entry of a connection, which is over if it counts as closed. */
    const connect = (store: SeriesStore, labels: LabelValues, counts: readonly number[], connectionId = nextId++) =>
      store.observeConnection({
        proxy: "p",
        lifeMs: START_MS,
        connectionId,
        streamId: "",
        isOver: counts[1] === 1,
        parts: [{ labelKey: key({ ...labels, ...TCP }), counts }],
      });

    it("has edges without requests, with the larger of what both reporters counted", () => {
      const { graph, pass, store } = setUp();
      connect(store, BY_SOURCE, [1, 1, 10, 500]);
      connect(store, BY_SOURCE, [1, 0, 10, 0]);
      connect(store, BY_DESTINATION, [1, 1, 25, 400]);
      pass(1);
      const { nodes, edges } = graph.read(60_000);
      expect(nodes.map(({ id }) => id)).toEqual(["default/web", "default/api"]);
      expect(edges).toMatchObject([
        {
          source: "default/web",
          destination: "default/api",
          requests: 0,
          errors: 0,
          p50Ms: null,
          responseCodes: {},
          isMutualTls: true,
          tcp: { opened: 2, closed: 1, sentBytes: 25, receivedBytes: 500 },
        },
      ]);
    });

    it("stands beside the requests of the same edge", () => {
      const { graph, send, store } = setUp();
      send(BY_SOURCE, 3);
      connect(store, BY_SOURCE, [1, 1, 10, 5]);
      expect(graph.read(1000).edges).toMatchObject([
        { requests: 3, sourceRequests: 3, tcp: { opened: 1, closed: 1, sentBytes: 10, receivedBytes: 5 } },
      ]);
    });

    it("counts what happened in the window alone, and shows an edge as long as bytes pass", () => {
      const { graph, pass, store } = setUp();
      const id = nextId++;
      connect(store, BY_SOURCE, [1, 0, 10, 5], id);
      pass(30);
      connect(store, BY_SOURCE, [1, 0, 30, 5], id);
      pass(1);
      expect(graph.read(10_000).edges).toMatchObject([
        { tcp: { opened: 0, closed: 0, sentBytes: 20, receivedBytes: 0 } },
      ]);
      pass(20);
      expect(graph.read(10_000).edges).toEqual([]);
      connect(store, BY_SOURCE, [1, 1, 30, 5], id);
      expect(graph.read(10_000).edges).toMatchObject([{ tcp: { opened: 0, closed: 1, sentBytes: 0 } }]);
    });

    it("counts bytes beyond 32 bits", () => {
      const { graph, pass, store } = setUp();
      const id = nextId++;
      const sent = [2 ** 32 - 5, 2 ** 32 + 5, 2 ** 33 + 7, 2 ** 45 + 1, 2 ** 45 + 2 ** 32];
      let before = 0;
      for (const sentBytes of sent) {
        connect(store, BY_SOURCE, [1, 0, sentBytes, 0], id);
        expect(graph.read(1000).edges).toMatchObject([{ tcp: { sentBytes: sentBytes - before } }]);
        pass(5);
        before = sentBytes;
      }
      expect(graph.read(60_000).edges).toMatchObject([{ tcp: { sentBytes: 2 ** 45 + 2 ** 32 } }]);
    });

    it("does not show as traffic what had happened before the collector first looked", () => {
      const { clock, graph, store } = setUp();
      clock.nowMs += 3_600_000;
      const labelKey = key({ ...BY_SOURCE, ...TCP });
      const report = (counts: number[]) =>
        store.report({ proxy: "p", lifeMs: START_MS, samples: [], tcpSamples: [{ labelKey, counts }] });
      report([100, 90, 2 ** 40, 2 ** 40]);
      expect(graph.read(60_000).edges).toEqual([]);
      report([101, 90, 2 ** 40 + 9, 2 ** 40]);
      expect(graph.read(60_000).edges).toMatchObject([
        { tcp: { opened: 1, closed: 0, sentBytes: 9, receivedBytes: 0 } },
      ]);
    });

    it("goes to the edge of the overflow beyond the limit", () => {
      const { graph, store } = setUp(1);
      connect(store, BY_SOURCE, [1, 1, 1, 1]);
      connect(store, { ...BY_SOURCE, source_workload: "another" }, [1, 1, 2, 2]);
      expect(graph.read(1000).edges).toMatchObject([
        { source: "default/web", tcp: { opened: 1, sentBytes: 1 } },
        { source: "other", destination: "other", tcp: { opened: 1, sentBytes: 2 } },
      ]);
    });
  });

  it("tells durations by the buckets of the reporter that counted more", () => {
    const { graph, send } = setUp();
    send(BY_SOURCE, 1, 70);
    send(BY_DESTINATION, 2, 7);
    const [edge] = graph.read(60_000).edges;
    expect(edge?.p50Ms).toBeCloseTo(7.5, 9);
    expect(edge?.p99Ms).toBeCloseTo(9.95, 9);
  });

  it("has no percentiles for requests that did not finish", () => {
    const { graph, send } = setUp();
    send({ ...BY_SOURCE, response_code: "0" }, 3, -1);
    expect(graph.read(1000).edges).toMatchObject([{ requests: 3, errors: 3, p50Ms: null, p99Ms: null }]);
  });

  it.each([
    ["a 5xx", 1, { response_code: "503" }],
    ["no answer", 1, { response_code: "0" }],
    ["a 4xx", 0, { response_code: "404" }],
    ["a gRPC status that is not OK", 1, { grpc_response_status: "14", request_protocol: "grpc" }],
    ["gRPC OK", 0, { grpc_response_status: "0", request_protocol: "grpc" }],
  ])("counts %s as %i errors", (_what, errors, labels) => {
    const { graph, send } = setUp();
    send({ ...BY_SOURCE, ...labels });
    expect(graph.read(1000).edges).toMatchObject([{ requests: 1, errors }]);
  });

  it.each([
    ["mutual_tls", true],
    ["none", false],
    ["unknown", null],
  ])("reads a destination's policy %s as %s", (policy, isMutualTls) => {
    const { graph, send } = setUp();
    send({ ...BY_DESTINATION, connection_security_policy: policy });
    expect(graph.read(1000).edges).toMatchObject([{ isMutualTls }]);
  });

  it("calls an edge mutual TLS only if all of it is", () => {
    const { graph, send } = setUp();
    send(BY_DESTINATION, 99);
    send({ ...BY_DESTINATION, connection_security_policy: "none" });
    expect(graph.read(1000).edges).toMatchObject([{ requests: 100, isMutualTls: false }]);
  });

  it("shows in a window what happened in it, and edges without requests not at all", () => {
    const { graph, pass, send } = setUp();
    pass(100, () => send(BY_SOURCE));
    pass(30);
    const requests = (seconds: number) => graph.read(seconds * 1000).edges[0]?.requests;
    expect(requests(30)).toBeUndefined();
    expect(requests(40)).toBe(10);
    expect(requests(60)).toBe(30);
    expect(requests(120)).toBe(90);
    expect(requests(900)).toBe(100);
    expect(graph.read(60_000).coveredMs).toBe(60_000);
    expect(graph.read(900_000).coveredMs).toBe(130_000);
  });

  it("answers long windows to within ten seconds, and says how long they were", () => {
    const { graph, pass, send } = setUp();
    pass(1200, () => send(BY_SOURCE));
    for (const seconds of [1, 60, 120, 121, 300, 555, 900]) {
      const { coveredMs, edges } = graph.read(seconds * 1000);
      expect(edges[0]?.requests).toBe(coveredMs / 1000);
      expect(coveredMs).toBeGreaterThanOrEqual(seconds * 1000);
      expect(coveredMs).toBeLessThan(seconds * 1000 + (seconds > 120 ? 10_000 : 1000));
    }
  });

  it("counts right across the wrap of its 32-bit columns", () => {
    const { graph, pass, store } = setUp();
    const report = (requests: number) =>
      store.report({
        proxy: "p",
        lifeMs: START_MS,
        samples: [{ labelKey: key(BY_SOURCE), requests, histograms: [] }],
        tcpSamples: [],
      });
    report(2 ** 32 - 5);
    pass(10);
    report(2 ** 32 + 7);
    expect(graph.read(5000).edges).toMatchObject([{ requests: 12 }]);
  });

  it("does not show as traffic what had happened before the collector first looked", () => {
    const { clock, graph, store } = setUp();
    clock.nowMs += 3_600_000;
    const report = (requests: number) =>
      store.report({
        proxy: "p",
        lifeMs: START_MS,
        samples: [{ labelKey: key(BY_SOURCE), requests, histograms: [] }],
        tcpSamples: [],
      });
    report(1_000_000);
    expect(graph.read(60_000).edges).toEqual([]);
    report(1_000_003);
    expect(graph.read(60_000).edges).toMatchObject([{ requests: 3 }]);
  });

  it("names a called service of which no workload answered, and callers that nobody knows", () => {
    const { graph, send } = setUp();
    send({
      ...BY_SOURCE,
      destination_workload: "unknown",
      destination_workload_namespace: "unknown",
      destination_canonical_service: "unknown",
      destination_service_namespace: "default",
    });
    send({ ...BY_DESTINATION, source_workload: "unknown", source_workload_namespace: "unknown" });
    expect(graph.read(1000).edges.map(({ source, destination }) => [source, destination])).toEqual([
      ["default/web", "service/default/api"],
      ["unknown", "default/api"],
    ]);
  });

  it("learns of a node what another report knows of it", () => {
    const { graph, send } = setUp();
    send(BY_SOURCE);
    send({ ...BY_DESTINATION, destination_version: "v2" });
    send(BY_SOURCE);
    expect(graph.read(1000).nodes[1]).toMatchObject({ id: "default/api", version: "v2" });
  });

  it("shows of a node the version that was heard of last, also after it was rolled back", () => {
    const { graph, send } = setUp();
    for (const version of ["v1", "v2", "v1"]) {
      send({ ...BY_SOURCE, destination_version: version });
      expect(graph.read(1000).nodes[1]).toMatchObject({ id: "default/api", version });
    }
  });

  it("tells workloads of one name in two clusters apart", () => {
    const { graph, send } = setUp();
    for (const cluster of ["east", "west"]) send({ ...BY_SOURCE, destination_cluster: cluster });
    expect(graph.read(1000).nodes.map(({ id, cluster }) => [id, cluster])).toEqual([
      ["default/web", "unknown"],
      ["east/default/api", "east"],
      ["west/default/api", "west"],
    ]);
  });

  it("tells edges apart whatever stands in their names", () => {
    const { graph, send } = setUp();
    const ends = (source: string, destination: string) =>
      send({ ...BY_SOURCE, source_workload: source, destination_workload: destination });
    ends("a default/b", "c");
    ends("a", "b default/c");
    expect(graph.read(1000).edges.map(({ requests }) => requests)).toEqual([1, 1]);
  });

  it.each(["source", "destination"])("holds no more edges than its limit when the %s is `other` itself", (end) => {
    const { graph, send } = setUp(2);
    const other = { [`${end}_workload`]: "other", [`${end}_workload_namespace`]: "other" };
    const name = end === "source" ? "destination_workload" : "source_workload";
    for (const workload of ["a", "b", "c", "d"]) send({ ...BY_SOURCE, ...other, [name]: workload });
    expect(graph.read(1000).edges.at(-1)).toMatchObject({ source: "other", destination: "other", requests: 2 });
    expect(graph.edgeCount).toBe(3);
  });

  it("shows edges beyond its limit as one edge from other to other", () => {
    const { graph, send } = setUp(2);
    for (const workload of ["a", "b", "c", "d"]) send({ ...BY_SOURCE, destination_workload: workload });
    const edges = graph.read(1000).edges.map(({ source, destination, requests }) => [source, destination, requests]);
    expect(edges).toEqual([
      ["default/web", "default/a", 1],
      ["default/web", "default/b", 1],
      ["other", "other", 2],
    ]);
    expect(graph.edgeCount).toBe(3);
  });

  it("shows the overflow as edges to other, each report on its own side, and who is unknown as unknown", () => {
    const { graph, store, send } = setUp(2);
    const labels = { source_workload: "web", source_workload_namespace: "a", destination_workload: "db" };
    const nameless = Object.fromEntries(
      ["workload", "canonical_service", "app", "version", "cluster"].map((name) => [`destination_${name}`, ""]),
    );
    const overflowOf = (some: LabelValues) => {
      const values = unpackLabels(overflowKeyOf(key(some), false)) ?? [];
      return Object.fromEntries(LABELS.map((label, i) => [label, values[i] as string]));
    };
    send(overflowOf({ ...labels, reporter: "source" }), 3);
    send(overflowOf({ ...labels, reporter: "destination" }), 2);
    send(overflowOf({ reporter: "destination", destination_workload: "db" }));
    send(overflowOf({ ...nameless, reporter: "destination" }));
    expect(store.http.overflowed).toBe(7);
    const edges = graph.read(1000).edges.map(({ source, destination, requests }) => [source, destination, requests]);
    expect(edges).toEqual([
      ["other", "other", 3],
      ["unknown", "other", 2],
    ]);
  });

  it("keeps a bounded number of response codes per edge", () => {
    const { graph, send } = setUp();
    for (let code = 200; code < 300; code++) send({ ...BY_SOURCE, response_code: String(code) });
    const responseCodes = graph.read(1000).edges[0]?.responseCodes ?? {};
    expect(Object.keys(responseCodes)).toHaveLength(25);
    expect(responseCodes).toMatchObject({ "200": 1, other: 76 });
  });
});

describe("edges that carry nothing for long", () => {
  const HOUR_S = 3600;
  const to = (destination_workload: string) => ({ ...BY_SOURCE, destination_workload });
  const edgesOf = (graph: ServiceGraph, windowMs = 60_000) =>
    Object.fromEntries(graph.read(windowMs).edges.map(({ destination, requests }) => [destination, requests]));

  it("are held for ever by default", () => {
    const { graph, pass, send } = setUp(1);
    send(to("a"));
    pass(2 * HOUR_S);
    expect(graph.edgeCount).toBe(1);
  });

  it("make room for others, whose numbers are their own from the start", () => {
    const { graph, pass, send, store } = setUp(1, HOUR_S * 1000);
    const connect = (id: number, counts: readonly number[]) => {
      const labelKey = key({ ...to("a"), response_code: "" });
      store.observeConnection({
        proxy: "p",
        lifeMs: START_MS,
        connectionId: id,
        streamId: "",
        isOver: true,
        parts: [{ labelKey, counts }],
      });
    };
    send(to("a"), 7);
    send({ ...to("a"), response_code: "503" }, 2);
    connect(1, [1, 1, 2 ** 33, 5]);
    send(to("b"), 3); // finds no room
    pass(60);
    expect(edgesOf(graph)).toEqual({ "default/a": 9, other: 3 });
    pass(HOUR_S - 30, () => send(to("b")));
    expect(graph.edgeCount).toBe(2);
    pass(120, () => send(to("b")));
    expect(edgesOf(graph, 60_000)).toEqual({ "default/b": 60 });
    for (const window of [1000, 10_000, 900_000]) {
      const { edges, nodes } = graph.read(window);
      const own = edges.filter(({ destination }) => destination === "default/b");
      expect(own).toHaveLength(1);
      expect(own[0]).toMatchObject({ errors: 0, tcp: { opened: 0, sentBytes: 0 } });
      expect(own[0]?.responseCodes).toEqual({ 200: own[0]?.requests });
      expect(own[0]?.requests).toBeLessThanOrEqual(window / 1000 + 1);
      expect(nodes.map(({ id }) => id)).not.toContain("default/a");
    }
    connect(2, [1, 1, 2 ** 32 + 9, 5]); // a's own edge has no room now, and what is counted is what is new
    send(to("a"), 4);
    pass(1, () => send(to("b")));
    expect(graph.read(1000).edges.find(({ destination }) => destination === "other")).toMatchObject({
      requests: 4,
      tcp: { opened: 1, sentBytes: 2 ** 32 + 9 },
    });
  });

  it("are not let go of while a window may show them", () => {
    const { graph, pass, send } = setUp(10, 60_000);
    send(to("a"), 7);
    pass(899);
    expect(edgesOf(graph, 900_000)).toEqual({ "default/a": 7 });
    pass(300);
    expect(graph.edgeCount).toBe(0);
    send(to("a"), 2);
    pass(1);
    expect(edgesOf(graph, 900_000)).toEqual({ "default/a": 2 });
  });
});
