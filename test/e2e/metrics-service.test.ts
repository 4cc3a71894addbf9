// Envoy's metrics service on real Envoys: what proxies report themselves, alone and beside scrapes and access logs. The truth is what
// the applications counted.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FAULT_HEADER } from "../../demo/bookinfo.ts";
import type { Mesh, MeshOptions } from "../../demo/mesh.ts";
import { podName } from "../../demo/topology.ts";
import { parseExposition } from "./exposition.ts";
import { collectorSamples, counts, edges, proxySamples, settled, startTestMesh, total, truth } from "./observed.ts";

const REQUESTS = 200;

async function sendRequests(mesh: Mesh, requests: number): Promise<void> {
  let next = 0;
  const client = async () => {
    for (let i = next++; i < requests; i = next++) {
      await mesh.request("/productpage", i % 10 === 0 ? { [FAULT_HEADER]: "ratings=503" } : {});
    }
  };
  await Promise.all(Array.from({ length: 8 }, client));
}

interface Reporter {
  readonly proxy: string;
  readonly metrics_service: {
    readonly streams: number;
    readonly reports: number;
    readonly reports_not_taken: object;
    readonly label_sets: number;
    readonly counters: string;
  } | null;
  readonly hint: string | null;
}

async function reporters(mesh: Mesh): Promise<Reporter[]> {
  const answer = await fetch(`${mesh.collector?.url}/api/v1/receivers`);
  return ((await answer.json()) as { proxies: Reporter[] }).proxies;
}

type Sources = Pick<MeshOptions, "metricsSink" | "scrape" | "als">;

describe("alone, tags in names, in batches", () => {
  testCounts({ metricsSink: { batchSize: 50 }, scrape: false, als: false });
});

describe("alone, tags as labels, deltas", () => {
  testCounts({ metricsSink: { tags: true, deltas: true }, scrape: false, als: false });
});

describe("beside scrapes and access logs", () => {
  const { mesh, read, allCounted } = testCounts({ metricsSink: { tags: true, batchSize: 100 } });

  test("Envoy's own stats are those of each proxy and of its clusters", async () => {
    const text = await (await fetch(`${mesh().collector?.url}/metrics`)).text();
    const shown = parseExposition((text.match(/^envoy_.*/gm) ?? []).join("\n"));
    const servers = shown.filter(({ name }) => name === "envoy_server_concurrency");
    const names = mesh().workloads.map((workload) => `${podName(workload)}.${workload.namespace}`);
    expect(servers.map(({ labels }) => labels["instance"]).sort()).toEqual(names.sort());
    expect(new Set(servers.map(({ labels }) => labels["service"]))).toContain("reviews.default");
    const requests = shown.filter(
      ({ name, labels }) =>
        name === "envoy_cluster_upstream_rq_total" &&
        labels["service"] === "productpage.default" &&
        labels["envoy_cluster_name"]?.includes("|details."),
    );
    expect(requests.map(({ value }) => value)).toEqual([REQUESTS]);
  });

  test("a proxy that restarts is another process: nothing is lost or counted twice", async () => {
    await settled(read, allCounted);
    await mesh().restart("reviews-v1");
    await sendRequests(mesh(), 60);
    const samples = await settled(read, allCounted);
    expect(edges(samples, "destination")).toEqual(truth(mesh()));
    expect(edges(samples, "source")).toEqual(truth(mesh()));
  });
});

/** The tests of a mesh whose proxies tell of themselves that way. */
function testCounts(options: Sources) {
  let mesh: Mesh;
  const read = () => collectorSamples(mesh);
  const allCounted = (samples: Awaited<ReturnType<typeof read>>) =>
    total(edges(samples, "source")) >= total(truth(mesh)) && total(edges(samples, "destination")) >= total(truth(mesh));

  beforeAll(async () => {
    mesh = await startTestMesh({ ...options, faults: false });
    await sendRequests(mesh, REQUESTS);
  });
  afterAll(() => mesh?.stop());

  test("both reporters count on every edge what the servers counted", async () => {
    const samples = await settled(read, allCounted);
    expect(total(truth(mesh))).toBeGreaterThan(REQUESTS * 3);
    expect(edges(samples, "destination")).toEqual(truth(mesh));
    expect(edges(samples, "source")).toEqual(truth(mesh));
  });

  test("every series of /metrics, buckets included, equals the proxies' own", async () => {
    const own = counts(await settled(() => proxySamples(mesh), allCounted));
    const collected = counts(await settled(read, (samples) => total(counts(samples)) === total(own)));
    expect(Object.keys(own).length).toBeGreaterThan(100);
    expect(collected).toEqual(own);
  });

  test("/api/v1/receivers shows that every proxy reports, and how", async () => {
    const found = await reporters(mesh);
    expect(found).toHaveLength(mesh.workloads.length);
    const counters = options.metricsSink?.deltas ? "delta" : "cumulative";
    for (const { metrics_service, hint, proxy } of found) {
      expect(metrics_service, proxy).toMatchObject({ streams: 1, counters });
      expect(metrics_service?.reports, proxy).toBeGreaterThan(0);
      expect(hint ?? "", proxy).not.toMatch(/deltas|reports was taken/);
    }
  });

  return { mesh: () => mesh, read, allCounted };
}
