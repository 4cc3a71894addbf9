// What the filter leaves for access loggers: the peer as a FlatNode, and the observation that it counted.

import { describe, expect, test } from "vitest";
import { packLabels } from "../../collector/series/key.ts";
import { HTTP_LABEL_COUNT, LABELS } from "../../filter/vocabulary/labels.ts";
import { OBSERVATION_KIND_HTTP, OBSERVATION_VERSION } from "../../filter/vocabulary/observation.ts";
import { readFlatNode } from "../host/flat-node.ts";
import { PLAIN_REQUEST, PLAIN_RESPONSE, START_TIME_NS } from "../host/host.ts";
import {
  countedLabels,
  exchangeHeaders,
  FROM_PRODUCTPAGE,
  observationOf,
  PRODUCTPAGE,
  startInbound,
  startOutbound,
  TO_REVIEWS,
} from "../host/mesh.ts";
import type { JsonObject } from "../host/struct.ts";

function downstreamPeer(metadata: JsonObject) {
  const requestHeaders = [...PLAIN_REQUEST, ...exchangeHeaders(PRODUCTPAGE, metadata)];
  const bytes = startInbound()
    .request({ ...FROM_PRODUCTPAGE, requestHeaders })
    .filterState.get("wasm.downstream_peer");
  if (bytes === undefined) throw new Error("no downstream peer");
  return readFlatNode(bytes);
}

describe("the peer", () => {
  test("of an inbound request is a FlatNode under wasm.downstream_peer", () => {
    const stream = startInbound().request(FROM_PRODUCTPAGE);
    expect([...stream.filterState.keys()].sort()).toEqual(["wasm.downstream_peer", "wasm.meshtally.observation"]);
    expect(readFlatNode(stream.filterState.get("wasm.downstream_peer") ?? Buffer.alloc(0))).toMatchObject({
      name: "productpage-v1-7d4f8c",
      namespace: "default",
      owner: "kubernetes://apis/apps/v1/namespaces/default/deployments/productpage-v1",
      workloadName: "productpage-v1",
      clusterId: "Kubernetes",
      labels: [
        ["app", "productpage"],
        ["service.istio.io/canonical-name", "productpage"],
        ["service.istio.io/canonical-revision", "v1"],
        ["version", "v1"],
      ],
    });
  });

  test("of an outbound request is a FlatNode under wasm.upstream_peer", () => {
    const stream = startOutbound().request(TO_REVIEWS);
    expect([...stream.filterState.keys()].sort()).toEqual(["wasm.meshtally.observation", "wasm.upstream_peer"]);
    expect(readFlatNode(stream.filterState.get("wasm.upstream_peer") ?? Buffer.alloc(0))).toMatchObject({
      name: "reviews-v2-7d4f8c",
      workloadName: "reviews-v2",
    });
  });

  test("has its labels sorted by key, whatever the order on the wire", () => {
    const { labels } = downstreamPeer({ LABELS: { version: "v1", "service.istio.io/canonical-name": "c", app: "a" } });
    expect(labels).toEqual([
      ["app", "a"],
      ["service.istio.io/canonical-name", "c"],
      ["version", "v1"],
    ]);
  });

  test("leaves out what the peer did not send", () => {
    const node = downstreamPeer({ NAME: "n", LABELS: {} });
    expect(node.name).toBe("n");
    for (const absent of [node.namespace, node.owner, node.workloadName, node.clusterId]) expect(absent ?? "").toBe("");
    expect(node.labels ?? []).toEqual([]);
  });

  test("has 64 ordinary labels at most, the first; those that name service and version come on top", () => {
    const ordinary = Array.from({ length: 70 }, (_, index): [string, string] => [
      `label-${String(index).padStart(2, "0")}`,
      "x",
    ]);
    const known: [string, string][] = [
      ["app", "a"],
      ["app.kubernetes.io/name", "n"],
      ["app.kubernetes.io/version", "w"],
      ["service.istio.io/canonical-name", "c"],
      ["service.istio.io/canonical-revision", "r"],
      ["version", "v"],
    ];
    const keptBy = (...sent: [string, string][][]) =>
      downstreamPeer({ LABELS: Object.fromEntries(sent.flat()) }).labels;
    const sorted = (labels: [string, string][]) => labels.sort(([left], [right]) => (left < right ? -1 : 1));
    expect(keptBy(ordinary.slice(0, 64))).toEqual(ordinary.slice(0, 64));
    expect(keptBy(ordinary.slice(0, 65))).toEqual(ordinary.slice(0, 64));
    expect(keptBy(ordinary, known)).toEqual(sorted([...ordinary.slice(0, 64), ...known]));
  });

  test("carries any text unchanged, of any length", () => {
    const texts = ["", "x", "xy", "xyz", "größe 日本 😀", "a;.;b", "l".repeat(5_000)];
    for (const text of texts) expect(downstreamPeer({ NAME: text, NAMESPACE: "n" }).name ?? "").toBe(text);
  });

  test("is absent when none was sent", () => {
    const stream = startInbound().request({ ...FROM_PRODUCTPAGE, requestHeaders: PLAIN_REQUEST });
    expect(stream.filterState.has("wasm.downstream_peer")).toBe(false);
    const outbound = startOutbound().request({ ...TO_REVIEWS, responseHeaders: PLAIN_RESPONSE });
    expect(outbound.filterState.has("wasm.upstream_peer")).toBe(false);
  });

  test("is the same whether it came from the cache or not", () => {
    const host = startInbound();
    const states = [1, 2, 3].map(() => host.request(FROM_PRODUCTPAGE).filterState.get("wasm.downstream_peer"));
    expect(new Set(states.map((bytes) => bytes?.toString("hex"))).size).toBe(1);
  });
});

describe("the observation", () => {
  const measured = { ...FROM_PRODUCTPAGE, durationNs: 12_999_999n, requestBytes: 1_234, responseBytes: 56_789 };

  test("has the layout of its version", () => {
    const observation = observationOf(startInbound().request(measured));
    expect(observation).toMatchObject({
      version: OBSERVATION_VERSION,
      kind: OBSERVATION_KIND_HTTP,
      labelCount: HTTP_LABEL_COUNT,
      startMs: START_TIME_NS / 1_000_000n,
    });
    expect(observation.omitted).toBe(0);
    expect(observation.reserved).toEqual(Buffer.alloc(4));
  });

  test("holds exactly the labels of the series that was counted", () => {
    for (const [host, options] of [
      [startInbound(), measured],
      [startInbound(), { ...measured, requestHeaders: PLAIN_REQUEST, responseCode: 503, responseFlags: 1n << 5n }],
      [startOutbound(), TO_REVIEWS],
    ] as const) {
      const observation = observationOf(host.request(options));
      expect(observation.labels).toEqual(countedLabels(host));
    }
  });

  test("packs them as the collector packs a label set", () => {
    const host = startInbound();
    const observation = observationOf(host.request(measured));
    const labels = countedLabels(host);
    expect(observation.packedLabels.toString("latin1")).toBe(packLabels(LABELS.map((label) => labels[label] ?? "")));
  });

  test("holds the numbers that the histograms recorded", () => {
    expect(observationOf(startInbound().request(measured))).toMatchObject({
      durationMs: 12n,
      requestBytes: 1_234n,
      responseBytes: 56_789n,
    });
  });

  test("of a request that did not finish has the duration -1", () => {
    const { durationMs } = observationOf(startInbound().request({ ...measured, durationNs: null }));
    expect(BigInt.asIntN(64, durationMs)).toBe(-1n);
  });

  test("is set at the end, not before", () => {
    const stream = startInbound().stream(measured).sendRequestHeaders().sendResponseHeaders();
    expect(stream.filterState.has("wasm.meshtally.observation")).toBe(false);
    stream.log();
    expect(stream.filterState.has("wasm.meshtally.observation")).toBe(true);
  });

  test("fits label values of 255 bytes each", () => {
    const long = "x".repeat(400);
    const labels = { app: long, version: long, "service.istio.io/canonical-name": long };
    const metadata = { WORKLOAD_NAME: long, NAMESPACE: long, CLUSTER_ID: long, LABELS: labels };
    const requestHeaders = [...PLAIN_REQUEST, ...exchangeHeaders(PRODUCTPAGE, metadata)];
    const host = startInbound();
    const observation = observationOf(
      host.request({ ...measured, requestHeaders, downstreamTls: { peer: long, local: long } }),
    );
    expect(observation.labels).toEqual(countedLabels(host));
    expect(observation.labels).toMatchObject({ source_workload: "x".repeat(255), source_principal: "x".repeat(255) });
  });
});
