// Envoy's metrics service on real Envoys: what proxies report themselves, alone and beside scrapes and access logs. The truth is what
// the applications counted.

import { setTimeout as sleep } from "node:timers/promises";
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

/** Requests, and durations, that a reporter told of. */
function observed(samples: Awaited<ReturnType<typeof collectorSamples>>, name: string): number {
  return samples.reduce((sum, each) => (each.name === name ? sum + each.value : sum), 0);
}

const requestsOf = (samples: Parameters<typeof observed>[0]) => observed(samples, "istio_requests_total");
const durationsOf = (samples: Parameters<typeof observed>[0]) =>
  observed(samples, "istio_request_duration_milliseconds_count");

describe("alone, while the collector is killed", () => {
  let mesh: Mesh;
  const read = () => collectorSamples(mesh);
  /** Both reporters tell of each request. */
  const happened = () => 2 * total(truth(mesh));
  /** What goes down between any two readings, from now on. */
  let shown: Record<string, number> = {};
  const readGrowing = async () => {
    const samples = await read();
    const now = counts(samples);
    for (const [series, value] of Object.entries(shown)) expect(now[series] ?? 0, series).toBeGreaterThanOrEqual(value);
    shown = now;
    return samples;
  };

  beforeAll(async () => {
    const collectorConfig = { state: { folder: "state", interval: "300ms" } };
    mesh = await startTestMesh({
      metricsSink: { tags: true, batchSize: 100 },
      ...{ scrape: false, als: false, faults: false, collectorConfig },
    });
    await sendRequests(mesh, REQUESTS);
  });
  afterAll(() => mesh?.stop());

  test("histograms go on from what was saved, with the first flush after", async () => {
    const before = await settled(readGrowing, (samples) => durationsOf(samples) >= happened());
    expect([requestsOf(before), durationsOf(before)]).toEqual([happened(), happened()]);
    await mesh.restartCollector("SIGKILL");
    expect(durationsOf(await readGrowing())).toBe(happened());
    await sendRequests(mesh, 60);
    const after = await settled(readGrowing, (samples) => durationsOf(samples) >= happened());
    expect([requestsOf(after), durationsOf(after)]).toEqual([happened(), happened()]);
  }, 90_000);

  test("of histograms what was flushed between the last saving and the next stream is lost, and nothing else", async () => {
    let isRunning = true;
    const client = (async () => {
      while (isRunning) await mesh.request();
    })();
    await sleep(3000);
    const shownAtEnd = durationsOf(await readGrowing());
    await mesh.restartCollector("SIGKILL");
    await sleep(2000);
    const happenedUntilHeard = happened(); // each proxy flushes every second
    await sleep(1000);
    isRunning = false;
    await client;
    const settledAfter = await settled(readGrowing, (samples) => requestsOf(samples) >= happened());
    const lost = happened() - durationsOf(settledAfter);
    expect(requestsOf(settledAfter)).toBe(happened());
    expect(lost).toBeGreaterThanOrEqual(0);
    expect(lost).toBeLessThanOrEqual(happenedUntilHeard - shownAtEnd);
    await sendRequests(mesh, 60);
    const grown = await settled(readGrowing, (samples) => durationsOf(samples) >= happened() - lost);
    expect([requestsOf(grown), durationsOf(grown)]).toEqual([happened(), happened() - lost]);
  }, 90_000);
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
