// A real Prometheus that scrapes nothing but the collector of the local mesh: every panel of our dashboards has data, every rule is evaluated, and
// so has every query of Istio's dashboards and of Kiali.

import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Mesh } from "../../demo/mesh.ts";
import { CLUSTER_ID } from "../../demo/topology.ts";
import { ISTIO_QUERIES } from "../prometheus/istio-queries.ts";
import { KIALI_LABELS, kialiQueries, kialiUnserved } from "../prometheus/kiali-queries.ts";
import { type PanelQuery, panelQueries, readDashboards, variableQueries } from "../prometheus/panels.ts";
import { PrometheusProcess, type PromSample } from "../prometheus/prometheus-process.ts";
import { type FoundProgram, findDebianProgram } from "../tools/debian-program.ts";
import { settled, startTestMesh, total, truth } from "./observed.ts";

/** Grafana takes four scrape intervals, of which this Prometheus has a second each. */
const RATE_INTERVAL = "10s";
/** A rate needs two scrapes after the first request, an indicator of the last quarter of a minute somewhat longer. */
const PATIENCE_MS = 40_000;

let program: FoundProgram;
let mesh: Mesh;
/** It scrapes the collector alone. */
let prometheus: PrometheusProcess;
/** It scrapes the proxies, and knows of no collector. */
let direct: PrometheusProcess;
let traffic: NodeJS.Timeout[] = [];

beforeAll(async () => {
  program = await findDebianProgram("prometheus");
  if (program.path === null) return;
  mesh = await startTestMesh({});
  const admins = mesh.workloads.map(({ adminUrl }) => new URL(adminUrl).host);
  [prometheus, direct] = await Promise.all([
    PrometheusProcess.ofCollector(program.path, new URL(mesh.collector?.url ?? "").host),
    PrometheusProcess.ofProxies(program.path, admins),
  ]);
  const asGrpc = { "content-type": "application/grpc" };
  traffic = [
    setInterval(() => send(mesh.request()), 50),
    // gRPC that is answered, gRPC that no route leads to (status 12), and the same of HTTP (404).
    setInterval(
      () => send(mesh.request("/productpage", asGrpc), mesh.request("/nowhere", asGrpc), mesh.request("/nowhere")),
      200,
    ),
    setInterval(() => send(mesh.backUp()), 500),
  ];
});

afterAll(async () => {
  stopTraffic();
  await Promise.all([prometheus?.stop(), direct?.stop()]);
  await mesh?.stop();
});

function send(...calls: readonly Promise<unknown>[]): void {
  for (const call of calls) call.catch(() => {}); // the mesh stops
}

function stopTraffic(): void {
  for (const timer of traffic) clearInterval(timer);
}

/** Those that had no data up to the end; asks until all had some. */
async function withoutData(queries: readonly PanelQuery[]): Promise<PanelQuery[]> {
  const deadline = performance.now() + PATIENCE_MS;
  let empty = [...queries];
  for (;;) {
    const counts = await Promise.all(empty.map(async ({ expr }) => (await prometheus.query(expr)).length));
    empty = empty.filter((_, i) => counts[i] === 0);
    if (empty.length === 0 || performance.now() > deadline) return empty;
    await sleep(500);
  }
}

/** Asks until there are any: a scrape that took longer than its second leaves none behind. */
async function samplesOf(expr: string): Promise<PromSample[]> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const samples = await prometheus.query(expr);
    if (samples.length > 0 || performance.now() > deadline) return samples;
    await sleep(500);
  }
}

test("every panel of every dashboard has data", async ({ skip }) => {
  if (program.missing !== null) return skip(program.missing);
  const queries = readDashboards().flatMap((dashboard) => panelQueries(dashboard, RATE_INTERVAL));
  expect(queries.length).toBeGreaterThan(80);
  expect(await withoutData(queries)).toEqual([]);
});

test("every variable of every dashboard has values", async ({ skip }) => {
  if (program.missing !== null) return skip(program.missing);
  expect(await withoutData(readDashboards().flatMap(variableQueries))).toEqual([]);
});

test("every recording rule has data, no rule fails, and no alert fires", async ({ skip }) => {
  if (program.missing !== null) return skip(program.missing);
  const rules = await prometheus.rules();
  const recorded = rules.filter(({ type }) => type === "recording").map(({ name }) => ({ place: "rule", expr: name }));
  expect(recorded.length).toBeGreaterThan(10);
  expect(await withoutData(recorded)).toEqual([]);
  const evaluated = await prometheus.rules();
  expect(evaluated.filter(({ health }) => health !== "ok")).toEqual([]);
  expect(evaluated.filter(({ state }) => state === "firing")).toEqual([]);
});

test("every query of Kiali has data, with the labels that Kiali asks for", async ({ skip }) => {
  if (program.missing !== null) return skip(program.missing);
  const scope = {
    namespace: "default",
    cluster: CLUSTER_ID,
    service: "productpage",
    workload: "productpage-v1",
    app: "productpage",
  };
  expect(await withoutData(kialiQueries(scope))).toEqual([]);
  // It asks for calls that reached no workload, too; of this mesh's services none is without one.
  expect(await prometheus.query(kialiUnserved(scope))).toEqual([]);
  for (const metric of ["istio_requests_total", "istio_tcp_sent_bytes_total"]) {
    const lacking = (await samplesOf(metric)).map((sample) => KIALI_LABELS.filter((label) => !sample.metric[label]));
    expect(lacking.length).toBeGreaterThan(0);
    expect(lacking.flat()).toEqual([]);
  }
});

test("every query of Istio's own dashboards has data", async ({ skip }) => {
  if (program.missing !== null) return skip(program.missing);
  expect(ISTIO_QUERIES.length).toBeGreaterThan(80);
  expect(await withoutData(ISTIO_QUERIES)).toEqual([]);
});

test("what Prometheus has of completeness is the whole, by both channels", async ({ skip }) => {
  if (program.missing !== null) return skip(program.missing);
  const ratios = await samplesOf('mesh_completeness_ratio{of="proxy"}');
  expect(ratios.length).toBeGreaterThanOrEqual(2 * 6); // of all but the database, which has no HTTP
  expect(ratios.filter(({ value }) => value < 0.9)).toEqual([]);
});

/** "source -> destination code" -> requests, of those between applications. */
async function edgesBy(process: PrometheusProcess): Promise<Record<string, number>> {
  const by = "source_workload,destination_workload,response_code";
  const samples = await process.query(`sum by (${by}) (mesh_requests_total{destination_workload!="unknown"})`);
  const edges = samples.map(({ metric, value }) => {
    return [
      `${metric["source_workload"]} -> ${metric["destination_workload"]} ${metric["response_code"]}`,
      value,
    ] as const;
  });
  return Object.fromEntries(edges.sort(([a], [b]) => (a < b ? -1 : 1)));
}

test("when the traffic has ended, mesh_requests_total is what the applications counted: the collector's, and the rule's of the proxies", async ({
  skip,
}) => {
  if (program.missing !== null) return skip(program.missing);
  stopTraffic();
  const read = async () => ({
    collected: await edgesBy(prometheus),
    ruled: await edgesBy(direct),
    counted: truth(mesh),
  });
  const { collected, ruled, counted } = await settled(read, (now) => {
    return total(now.collected) >= total(now.counted) && total(now.ruled) >= total(now.counted);
  });
  expect(total(counted)).toBeGreaterThan(100);
  expect(collected).toEqual(counted);
  expect(ruled).toEqual(counted);
});
