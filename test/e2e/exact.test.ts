// Exactness on real Envoys: 1,000 requests through gateway -> productpage -> reviews -> ratings -> database, with known errors, and backups
// from outside. The truth is what the applications counted.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TCP_METRICS } from "../../collector/vocabulary.ts";
import { FAULT_HEADER } from "../../demo/bookinfo.ts";
import { httpCall } from "../../demo/http-call.ts";
import type { Mesh } from "../../demo/mesh.ts";
import { DATABASE, podName, RATINGS } from "../../demo/topology.ts";
import type { Sample } from "./exposition.ts";
import {
  collectorSamples,
  counts,
  edges,
  proxySamples,
  settled,
  startTestMesh,
  total,
  truth,
  unifiedEdges,
} from "./observed.ts";
import { backUp, expectTcpTruth, tcpSamples, tcpSamplesOf } from "./observed-tcp.ts";

const REQUESTS = 1000;
const IN_PARALLEL = 8;
const BACKUPS = 3;
/** Requests of a client without a proxy, one after the other. */
const OUTSIDERS = 20;

/** Every 10th request makes ratings fail, every 25th details: known errors, whoever answers. */
function faultOf(i: number): NodeJS.Dict<string> {
  const faults = [...(i % 10 === 0 ? ["ratings=503"] : []), ...(i % 25 === 0 ? ["details=500"] : [])];
  return faults.length === 0 ? {} : { [FAULT_HEADER]: faults.join(",") };
}

async function sendRequests(mesh: Mesh, from: number, to: number): Promise<number[]> {
  const codes: number[] = [];
  let next = from;
  const client = async () => {
    while (next < to) {
      const { status } = await mesh.request("/productpage", faultOf(next++));
      codes.push(status);
    }
  };
  await Promise.all(Array.from({ length: IN_PARALLEL }, client));
  return codes;
}

const CHANNELS = [
  { name: "stats and access logs, by pod", scrape: true, als: true, pods: true },
  { name: "access logs only", scrape: false, als: true, pods: false },
  { name: "stats only", scrape: true, als: false, pods: false },
];

type Workload = Mesh["workloads"][number];

/** What the workloads' proxies show; with whose it is as Prometheus would label it, if it found them by Kubernetes. */
async function ownSamples(
  workloads: readonly Workload[],
  read: (name: string) => Promise<Sample[]>,
  pods: boolean,
): Promise<Sample[]> {
  const all = workloads.map(async (workload) => {
    const whose = pods ? { pod: podName(workload), namespace: workload.namespace } : {};
    return (await read(workload.name)).map((each) => ({ ...each, labels: { ...each.labels, ...whose } }));
  });
  return (await Promise.all(all)).flat();
}

describe.each(CHANNELS)("$name", ({ scrape, als, pods }) => {
  let mesh: Mesh;
  let codes: number[];
  const read = () => collectorSamples(mesh);
  const allCounted = (samples: Awaited<ReturnType<typeof read>>) =>
    total(edges(samples, "source")) >= total(truth(mesh)) && total(edges(samples, "destination")) >= total(truth(mesh));

  beforeAll(async () => {
    mesh = await startTestMesh({ scrape, als, faults: false, collectorConfig: { metrics: { pod_labels: pods } } });
    codes = await sendRequests(mesh, 0, REQUESTS);
    await backUp(mesh, BACKUPS);
  });
  afterAll(() => mesh?.stop());

  test("the client saw the errors that it ordered", () => {
    expect(codes.length).toBe(REQUESTS);
    expect(codes.filter((code) => code !== 200).length).toBe(REQUESTS / 25);
  });

  test("both reporters count on every edge what the servers counted", async () => {
    const samples = await settled(read, allCounted);
    expect(total(truth(mesh))).toBeGreaterThan(REQUESTS * 3);
    expect(edges(samples, "destination")).toEqual(truth(mesh));
    expect(edges(samples, "source")).toEqual(truth(mesh));
  });

  test("mesh_* count each of them once, as their sources report them", async () => {
    await settled(read, allCounted);
    expect(await unifiedEdges(mesh)).toEqual({ source: truth(mesh) });
  });

  // With access logs only this says that log and stats agree for every label set, bucket by bucket.
  test("every series of /metrics equals the proxies' own", async () => {
    const own = counts(
      await settled(() => ownSamples(mesh.workloads, (name) => proxySamples(mesh, [name]), pods), allCounted),
    );
    const collected = counts(await settled(read, (samples) => total(counts(samples)) === total(own)));
    expect(Object.keys(own).length).toBeGreaterThan(100);
    expect(collected).toEqual(own);
  });

  test("mutual TLS is seen on every hop between sidecars", async () => {
    const samples = await read();
    const policies = samples
      .filter(({ name, labels }) => name === "istio_requests_total" && labels["reporter"] === "destination")
      .map(({ labels }) => labels["connection_security_policy"]);
    expect(new Set(policies)).toEqual(new Set(["mutual_tls"]));
  });

  test("no application saw an exchange header, and no client outside got one", async () => {
    expect(mesh.exchangeHeadersSeen()).toBe(0);
    const { headers } = await mesh.request();
    expect(Object.keys(headers).filter((name) => name.startsWith("x-envoy-peer-metadata"))).toEqual([]);
  });

  describe("over TCP", () => {
    const collected = () => tcpSamples(`${mesh.collector?.url}/metrics`);

    test("the collector shows what the callers counted", () => expectTcpTruth(mesh, collected));

    test("and every series as the proxies do", async () => {
      const ends = mesh.workloads.filter(({ name }) => name === DATABASE.name || name === RATINGS.name);
      const own = await ownSamples(ends, (name) => tcpSamplesOf(mesh, name), pods);
      expect(Object.keys(counts(own)).length).toBeGreaterThanOrEqual(3 * TCP_METRICS.length);
      const shown = await settled(
        collected,
        (samples) => JSON.stringify(counts(samples)) === JSON.stringify(counts(own)),
      );
      expect(counts(shown)).toEqual(counts(own));
    });
  });
});

describe("with room for 5 label sets", () => {
  let mesh: Mesh;
  const read = async () => ({ samples: await collectorSamples(mesh), unified: await unifiedEdges(mesh) });

  beforeAll(async () => {
    mesh = await startTestMesh({ faults: false, plaintext: true, collectorConfig: { limits: { label_sets: 5 } } });
    await sendRequests(mesh, 0, REQUESTS / 5);
    const details = mesh.workloads.find(({ name }) => name === "details-v1");
    for (let i = 0; i < OUTSIDERS; i++) await httpCall(`${details?.inboundUrl}/details/0`, {});
  });
  afterAll(() => mesh?.stop());

  test("both reporters, and mesh_*, count what the servers counted", async () => {
    const requests = total(truth(mesh));
    const isAll = ({ samples }: Awaited<ReturnType<typeof read>>) =>
      total(edges(samples, "destination")) >= requests && total(edges(samples, "source")) >= requests - OUTSIDERS;
    const { samples, unified } = await settled(read, isAll);
    expect(requests).toBeGreaterThan((REQUESTS / 5) * 3);
    expect(total(edges(samples, "destination"))).toBe(requests);
    expect(total(edges(samples, "source"))).toBe(requests - OUTSIDERS);
    expect([total(unified["source"] ?? {}), total(unified["destination"] ?? {})]).toEqual([
      requests - OUTSIDERS,
      OUTSIDERS,
    ]);
    expect(Object.keys(edges(samples, "source"))).toContain("other -> other other");
    expect(unified["destination"]).toEqual({ "unknown -> other other": OUTSIDERS });
  });
});
