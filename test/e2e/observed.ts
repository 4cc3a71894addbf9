// What a running mesh shows: the proxies' own stats, the collector's metrics, and what the applications counted, in forms
// that can be compared with toEqual, so that a difference is printed with its labels.

import { setTimeout as sleep } from "node:timers/promises";
import { HTTP_METRICS } from "../../collector/vocabulary.ts";
import { type Mesh, type MeshOptions, startMesh } from "../../demo/mesh.ts";
import { findEnvoy } from "../../envoy/binary.ts";
import { parseExposition, type Sample, sumBySeries } from "./exposition.ts";

export async function startTestMesh(options: Omit<MeshOptions, "envoy">): Promise<Mesh> {
  return startMesh({ envoy: await findEnvoy(), ...options });
}

async function get(url: string, headers: Record<string, string> = {}): Promise<string> {
  const response = await fetch(url, { headers });
  if (!response.ok) throw new Error(`GET ${url}: ${response.status}`);
  return response.text();
}

/** The traffic series that all proxies show themselves, added up. */
export async function proxySamples(mesh: Mesh, workloads: readonly string[] = []): Promise<Sample[]> {
  const chosen = mesh.workloads.filter(({ name }) => workloads.length === 0 || workloads.includes(name));
  const texts = await Promise.all(
    chosen.map(({ adminUrl }) => get(`${adminUrl}/stats/prometheus?usedonly&filter=istio_`)),
  );
  return texts.flatMap(parseExposition).filter(isTraffic);
}

/** Of the metrics that the collector unifies. */
function isTraffic({ name }: Sample): boolean {
  return HTTP_METRICS.some((metric) => name.startsWith(metric.name));
}

export async function collectorSamples(mesh: Mesh): Promise<Sample[]> {
  if (mesh.collector === null) throw new Error("the mesh has no collector");
  return parseExposition(await get(`${mesh.collector.url}/metrics`)).filter(isTraffic);
}

/** Requests per series of counters and buckets. Sums are left out: Envoy's are only about 5 % exact. */
export function counts(samples: readonly Sample[]): Record<string, number> {
  const sums = sumBySeries(samples.filter(({ name }) => !name.endsWith("_sum")));
  return Object.fromEntries([...sums].filter(([, value]) => value !== 0).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** "source -> destination code" -> requests, as one reporter tells it. */
export function edges(samples: readonly Sample[], reporter: "source" | "destination"): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { name, labels, value } of samples) {
    if (name !== "istio_requests_total" || labels["reporter"] !== reporter) continue;
    const edge = `${labels["source_workload"]} -> ${labels["destination_workload"]} ${labels["response_code"]}`;
    sums[edge] = (sums[edge] ?? 0) + value;
  }
  return sorted(sums);
}

/** The same as mesh_* tell it, each request once, by whom it was observed. */
export async function unifiedEdges(mesh: Mesh): Promise<Record<string, Record<string, number>>> {
  if (mesh.collector === null) throw new Error("the mesh has no collector");
  const samples = parseExposition(await get(`${mesh.collector.url}/metrics`));
  const byObserver: Record<string, Record<string, number>> = {};
  for (const { name, labels, value } of samples) {
    if (name !== "mesh_requests_total") continue;
    const observer = labels["observed_by"] ?? "";
    const edge = `${labels["source_workload"]} -> ${labels["destination_workload"]} ${labels["response_code"]}`;
    const sums = byObserver[observer] ?? {};
    byObserver[observer] = sorted({ ...sums, [edge]: (sums[edge] ?? 0) + value });
  }
  return byObserver;
}

/** The same, as the applications counted it. */
export function truth(mesh: Mesh): Record<string, number> {
  const sums = mesh
    .counts()
    .map(({ source, destination, code, requests }) => [`${source} -> ${destination} ${code}`, requests]);
  return sorted(Object.fromEntries(sums));
}

function sorted(record: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}

export function total(record: Record<string, number>): number {
  return Object.values(record).reduce((sum, value) => sum + value, 0);
}

const POLL_MS = 100;
const QUIET_MS = 500;
const PATIENCE_MS = 60_000;

/**
 * Reads until `isEnough` holds and the readings were alike for half a second, or a minute is over; the last reading. Access logs are
 * flushed every second, stats scraped every few: what does not come in that time does not come, on however busy a machine.
 */
export async function settled<T>(read: () => Promise<T>, isEnough: (value: T) => boolean): Promise<T> {
  const deadline = performance.now() + PATIENCE_MS;
  let before = "";
  for (let quietSince = performance.now(); ; await sleep(POLL_MS)) {
    const value = await read();
    const now = performance.now();
    const text = JSON.stringify(value);
    if (text !== before || !isEnough(value)) quietSince = now;
    if (now - quietSince >= QUIET_MS || now > deadline) return value;
    before = text;
  }
}
