// `metrics.pod_labels`: each label set says whose report it is, in every format; without the pods it is what it was.

import { describe, expect, it } from "vitest";
import { SeriesPoints } from "../../collector/out/series-points.ts";
import { podOfNodeId } from "../../collector/resolver/subject.ts";
import { KeptLabels } from "../../collector/series/kept-labels.ts";
import { packPod, unpackLabels, withMark, withPod, withSomePod } from "../../collector/series/key.ts";
import { PodLabels } from "../../collector/series/pod-labels.ts";
import { DEFAULT_SHAPES } from "../../collector/series/shape.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { judge } from "../../collector/series/unified.ts";
import { ServiceGraph } from "../../collector/service-graph/graph.ts";
import type { ShardHoldings } from "../../collector/shards/shards.ts";
import { LABELS, Label } from "../../collector/vocabulary.ts";
import { Cardinality } from "../../collector/web/cardinality.ts";
import { TrafficFamilies } from "../../collector/web/exposition/families.ts";
import { ProtobufTraffic } from "../../collector/web/exposition/protobuf.ts";
import { TextTraffic } from "../../collector/web/exposition/text.ts";
import { parseExposition, type Sample } from "../e2e/exposition.ts";
import { readDelimited } from "../fixtures/metric-family.ts";
import { key, values } from "./labels.ts";
import { pointsOf } from "./out/steps.ts";

const LIMITS = {
  proxies: 50,
  labelSets: 1000,
  cells: 2000,
  connections: 50,
  retireAfterMs: 1000,
  expireAfterMs: 60_000,
};

interface ProtobufFamily {
  readonly name: string;
  readonly metric: readonly { readonly label: readonly { readonly name: string; readonly value: string }[] }[];
}

const idOf = (pod: string) => `sidecar~10.0.0.1~${pod}.shop~shop.svc.cluster.local`;
const WEB = key({ reporter: "source", source_workload: "web" });
const TCP = key({ reporter: "source", source_workload: "web", response_code: "", grpc_response_status: "" });

function setUp(hasPods = true, { labelSets = 1000, kept = null as readonly Label[] | null } = {}) {
  const clock = { nowMs: 1000 };
  const store = new SeriesStore(
    { ...LIMITS, labelSets },
    { wallMs: () => clock.nowMs, steadyMs: () => clock.nowMs },
    {
      kept: kept && new KeptLabels(kept, "certain"),
      pods: hasPods ? new PodLabels(podOfNodeId, DEFAULT_SHAPES) : null,
    },
  );
  const families = new TrafficFamilies(store, "certain", [], hasPods);
  let connectionId = 0;
  return {
    clock,
    store,
    families,
    observe: (proxy: string, labelKey = WEB, lifeMs = 1) =>
      store.observe({ proxy, lifeMs, labelKey, requests: 1, durationMs: 7, requestBytes: 3, responseBytes: 300 }),
    connect: (proxy: string, labelKey = TCP) => {
      const parts = [{ labelKey, counts: [1, 1, 70, 80] }];
      const id = ++connectionId;
      store.observeConnection({ proxy, lifeMs: 1, connectionId: id, streamId: "", isOver: true, parts });
    },
    report: (proxy: string, requests: number, labelKey = WEB, lifeMs = 1) =>
      store.report({ proxy, lifeMs, samples: [{ labelKey, requests, histograms: [] }], tcpSamples: [] }),
    samples: (name: string) =>
      parseExposition(Array.from(new TextTraffic(families, "text").render(), String).join("")).filter(
        (sample) => sample.name === name,
      ),
  };
}

function byPod(samples: readonly Sample[]): Record<string, number> {
  const all = samples.map(({ labels, value }) => [`${labels["pod"]} ${labels["namespace"]}`, value] as const);
  expect(new Set(all.map(([pod]) => pod)).size).toBe(all.length);
  return Object.fromEntries(all);
}

describe("a packed label set", () => {
  const pod = packPod(["reviews-1", "shop"]);
  it.each([null, "+", "d"] as const)("has its pod between the values and the mark %s", (mark) => {
    const labelKey = withPod(withMark(WEB, mark), pod);
    expect(unpackLabels(labelKey)).toEqual([
      ...values({ reporter: "source", source_workload: "web" }),
      "reviews-1",
      "shop",
    ]);
    expect(labelKey).toBe(withMark(withPod(WEB, pod), mark));
    expect(withSomePod(labelKey)).toBe(labelKey);
    expect(judge(labelKey, false, "certain")).toBe(judge(withMark(WEB, mark), false, "certain"));
  });

  it("is told from one with a mark alone, though the pod says nothing", () => {
    expect(unpackLabels(withPod(WEB, packPod(["", ""])))).toHaveLength(27);
    expect(unpackLabels(withMark(WEB, "+"))).toHaveLength(25);
    expect(unpackLabels(withSomePod(withMark(WEB, "+")))?.slice(25)).toEqual(["other", "other"]);
  });

  it("is none with half a pod", () => {
    expect(unpackLabels(`${WEB}\x01x`)).toBeNull();
    expect(unpackLabels(`${WEB}\x01x\x05ns`)).toBeNull();
    expect(unpackLabels(`${WEB}\x01x\x02ns?+`)).toBeNull();
  });
});

describe("podOfNodeId", () => {
  it.each([
    [
      "sidecar~10.0.0.1~reviews-v1-abc.default~default.svc.cluster.local",
      { name: "reviews-v1-abc", namespace: "default" },
    ],
    ["router~10.0.0.1~gw.v1-1.istio-system~istio-system.svc.x", { name: "gw.v1-1", namespace: "istio-system" }],
    ["sidecar~10.0.0.1~vm~svc.cluster.local", { name: "vm", namespace: "" }],
    ["sidecar~10.0.0.1~web.default~other.svc", { name: "web.default", namespace: "" }],
    ["sidecar~web", null],
    ["envoy-1", null],
  ])("reads of %s %j", (id, pod) => {
    expect(podOfNodeId(id)).toEqual(pod);
  });
});

describe("pod labels", () => {
  it("are those of the proxy whose report it is; of the same labels each pod has a series, however often it restarts", () => {
    const { observe, samples } = setUp();
    for (const [pod, lifeMs] of [
      ["web-1", 1],
      ["web-1", 2],
      ["web-2", 1],
    ] as const)
      observe(idOf(pod), WEB, lifeMs);
    expect(byPod(samples("istio_requests_total"))).toEqual({ "web-1 shop": 2, "web-2 shop": 1 });
    expect(byPod(samples("mesh_requests_total"))).toEqual({ "web-1 shop": 2, "web-2 shop": 1 });
    expect(byPod(samples("istio_request_bytes_count"))).toEqual({ "web-1 shop": 2, "web-2 shop": 1 });
  });

  it("are of TCP connections, too", () => {
    const { connect, samples } = setUp();
    connect(idOf("db-1"));
    connect(idOf("db-2"));
    connect(idOf("db-2"));
    expect(byPod(samples("istio_tcp_sent_bytes_total"))).toEqual({ "db-1 shop": 70, "db-2 shop": 140 });
    expect(byPod(samples("mesh_tcp_sent_bytes_total"))).toEqual({ "db-1 shop": 70, "db-2 shop": 140 });
  });

  it("are the whole node id, as a label value may be, and an empty namespace, of a proxy whose id names no pod", () => {
    const { observe, samples } = setUp();
    const ids = ["envoy-1", "sidecar~10.0.0.1~vm~svc.cluster.local", "a;.;b\n", "x".repeat(300), ""];
    for (const id of ids) observe(id);
    expect(byPod(samples("istio_requests_total"))).toEqual({
      "envoy-1 ": 1,
      "sidecar~10.0.0.1~vm~svc.cluster.local ": 1,
      "a;_;b_ ": 1,
      [`${"x".repeat(255)} `]: 1,
      " ": 1,
    });
  });

  it("leave the larger of stats and access log what counts, of each pod by itself", () => {
    const { observe, report, samples } = setUp();
    for (const [pod, requests] of [
      ["web-1", 5],
      ["web-2", 2],
    ] as const) {
      for (let i = 0; i < 3; i++) observe(idOf(pod));
      report(idOf(pod), requests);
      report(idOf(pod), requests);
      observe(idOf(pod), WEB, 0); // a process that names no life
    }
    expect(byPod(samples("istio_requests_total"))).toEqual({ "web-1 shop": 5, "web-2 shop": 3 });
  });

  it("make one series of what differs in its mark alone", () => {
    const { observe, samples } = setUp();
    const server = key({ reporter: "destination" });
    for (const mark of [null, "+"] as const) {
      observe(idOf("web-1"), withMark(server, mark));
      observe(idOf("web-2"), withMark(server, mark));
    }
    expect(byPod(samples("istio_requests_total"))).toEqual({ "web-1 shop": 2, "web-2 shop": 2 });
    expect(byPod(samples("mesh_requests_total"))).toEqual({ "web-1 shop": 2, "web-2 shop": 2 });
  });

  it("stand beside the labels that are kept, whatever is left out of those", () => {
    const { observe, samples } = setUp(true, { kept: [Label.SourceWorkload] });
    for (const response_code of ["200", "500"])
      for (const pod of ["web-1", "web-2"])
        observe(idOf(pod), key({ reporter: "source", source_workload: "web", response_code }));
    const shown = samples("mesh_requests_total");
    expect(byPod(shown)).toEqual({ "web-1 shop": 2, "web-2 shop": 2 });
    expect(shown.map(({ labels }) => labels["observed_by"])).toEqual(["source", "source"]);
    expect(Object.entries(shown[0]?.labels ?? {}).filter(([, value]) => value !== "")).toHaveLength(4);
  });

  it("read other for what found no room, and for what the filters found none for", () => {
    const { observe, connect, samples, store } = setUp(true, { labelSets: 1 });
    for (const pod of ["web-1", "web-2", "web-3"]) {
      observe(idOf(pod));
      connect(idOf(pod));
    }
    observe(idOf("web-1"), DEFAULT_SHAPES[0].overflowOf(WEB));
    expect(byPod(samples("istio_requests_total"))).toEqual({ "web-1 shop": 1, "other other": 3 });
    expect(byPod(samples("istio_tcp_connections_opened_total"))).toEqual({ "web-1 shop": 1, "other other": 2 });
    expect(store.http.overflowed).toBe(3);
  });

  it("are gone with a pod that is, and leave the others", () => {
    const { observe, samples, clock, store } = setUp();
    observe(idOf("web-1"));
    observe(idOf("web-2"));
    for (const minute of [1, 2]) {
      store.http.takeChanged();
      clock.nowMs += 40_000;
      observe(idOf("web-2"));
      expect(Object.keys(byPod(samples("istio_requests_total")))).toHaveLength(minute === 1 ? 2 : 1);
    }
    expect(byPod(samples("istio_requests_total"))).toEqual({ "web-2 shop": 3 });
  });

  it("are written alike as text, as OpenMetrics, as protobuf and as what is sent", () => {
    const { observe, connect, samples, families, store } = setUp(true, { labelSets: 2 });
    for (const pod of ['we"b-1', "web-2", "web-3"]) {
      observe(idOf(pod));
      connect(idOf(pod));
    }
    const podsOf = (all: readonly Readonly<Record<string, string>>[]) =>
      all.map((labels) => `${labels["pod"]}/${labels["namespace"]}/${labels["observed_by"]}`).sort();
    const openMetrics = parseExposition(Array.from(new TextTraffic(families, "openmetrics").render(), String).join(""));
    const protobuf = readDelimited(
      Buffer.concat(Array.from(new ProtobufTraffic(families).render(), (piece) => Buffer.from(piece))),
    ) as unknown as ProtobufFamily[];
    const points = [...pointsOf(new SeriesPoints(store, "certain", [], true).points(() => true))];
    for (const name of ["istio_requests_total", "mesh_requests_total", "mesh_tcp_sent_bytes_total"]) {
      const expected = podsOf(samples(name).map(({ labels }) => labels));
      expect(expected.length).toBeGreaterThan(1);
      expect(podsOf(openMetrics.filter((each) => each.name === name).map(({ labels }) => labels))).toEqual(expected);
      const family = protobuf.find((each) => each.name === name);
      expect(
        podsOf(
          family?.metric.map(({ label }) => Object.fromEntries(label.map((pair) => [pair.name, pair.value]))) ?? [],
        ),
      ).toEqual(expected);
      const sent = points.filter(({ family: { name: each } }) => each === name);
      expect(podsOf(sent.map(({ labels }) => Object.fromEntries(labels.pairs)))).toEqual(expected);
    }
  });

  it("are named by what they cost", async () => {
    const { observe, store } = setUp(true, { labelSets: 5 });
    for (let pod = 0; pod < 9; pod++) observe(idOf(`web-${pod}`));
    const holdings = { overflowed: { http: 4, tcp: 0 } } as ShardHoldings;
    const { body } = await new Cardinality(store, "certain", 5, [], true).read(new URLSearchParams("top=1"), holdings);
    const { http } = body as { http: { series: number; labels: { label: string }[] } };
    expect(http.series).toBe(6);
    expect(http.labels).toHaveLength(LABELS.length + 2);
    expect(http.labels[0]).toEqual({
      label: "pod",
      values: 6,
      saved_without: 4,
      top: [{ value: "web-0", series: 1 }],
    });
    expect(http.labels.find(({ label }) => label === "namespace")).toMatchObject({ values: 2, saved_without: 0 });
  });

  it("leave the service graph as it is", () => {
    const read = (hasPods: boolean) => {
      const { store, observe, connect, report } = setUp(hasPods);
      const graph = new ServiceGraph(store, 10, () => 1000);
      graph.tick();
      for (const pod of ["web-1", "web-2"]) {
        for (const response_code of ["200", "503"]) {
          observe(
            idOf(pod),
            key({ reporter: "source", source_workload: "web", destination_workload: "api", response_code }),
          );
        }
        report(
          idOf(`api-${pod}`),
          3,
          key({ reporter: "destination", source_workload: "web", destination_workload: "api" }),
        );
        connect(idOf(pod));
      }
      return graph.read(60_000);
    };
    const graph = read(true);
    expect(graph.edges.map(({ requests }) => requests).sort()).toEqual([0, 6]); // TCP's knows no destination
    expect(graph).toEqual(read(false));
  });
});
