// Lost for real: while the collector stands still, a proxy drops the access-log entries that its buffers cannot hold. Its stats have
// counted them all, and the ratio says what Envoy says itself.

import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { HINTS } from "../../collector/web/receivers.ts";
import type { Mesh } from "../../demo/mesh.ts";
import { parseExposition, type Sample } from "./exposition.ts";
import { settled, startTestMesh } from "./observed.ts";

/** Some 20 KB of log each: several times what streams and sockets hold. */
const REQUESTS = 3000;
const PATH = `/nowhere?${"x".repeat(20_000)}`;
const IN_PARALLEL = 64;
/** So that both channels have told of the proxy before. */
const FIRST = 100;
/** Each of the collector's targets is scraped every second. */
const TWO_SCRAPES_MS = 2500;

let mesh: Mesh;
beforeAll(async () => {
  mesh = await startTestMesh({ faults: false });
});
afterAll(() => mesh?.stop());

/** The gateway answers them by itself. */
async function send(count: number): Promise<void> {
  let left = count;
  const client = async () => {
    while (left-- > 0) await mesh.request(PATH);
  };
  await Promise.all(Array.from({ length: IN_PARALLEL }, client));
}

async function metrics(): Promise<Sample[]> {
  return parseExposition(await (await fetch(`${mesh.collector?.url}/metrics`)).text());
}

function sumOf(samples: readonly Sample[], name: string, labels: Readonly<Record<string, string>>): number {
  const isMeant = (sample: Sample) =>
    sample.name === name && Object.entries(labels).every(([label, value]) => sample.labels[label]?.includes(value));
  return samples.filter(isMeant).reduce((sum, { value }) => sum + value, 0);
}

interface Reading {
  readonly requests: number;
  readonly logged: number;
  readonly dropped: number;
  readonly accessLog: number;
  readonly stats: number;
}

async function read(): Promise<Reading> {
  const samples = await metrics();
  const gateway = { proxy: "ingress-gateway" };
  const entries = "meshtally_target_access_log_entries_total";
  return {
    requests: sumOf(samples, "istio_requests_total", { source_workload: "ingress-gateway" }),
    logged: sumOf(samples, "meshtally_access_log_entries_total", {}),
    dropped: sumOf(samples, entries, { ...gateway, how: "dropped" }),
    accessLog: sumOf(samples, "mesh_completeness_ratio", { ...gateway, channel: "access_log" }),
    stats: sumOf(samples, "mesh_completeness_ratio", { ...gateway, channel: "stats" }),
  };
}

test("what a proxy dropped of its access logs is counted all the same, and is what its ratio lacks", async () => {
  await send(FIRST);
  await settled(read, ({ logged }) => logged >= FIRST);
  await sleep(TWO_SCRAPES_MS);
  const pid = mesh.collector?.pid as number;
  process.kill(pid, "SIGSTOP");
  try {
    await send(REQUESTS);
  } finally {
    process.kill(pid, "SIGCONT");
  }
  const isDone = ({ requests, logged, dropped, stats }: Reading) =>
    requests >= FIRST + REQUESTS && logged + dropped >= FIRST + REQUESTS && stats > 0;
  await settled(read, isDone);
  await sleep(TWO_SCRAPES_MS); // what a scrape finds is compared at the next
  const { requests, dropped, accessLog, stats } = await read();
  expect(requests).toBe(FIRST + REQUESTS);
  expect(dropped).toBeGreaterThan(100);
  expect(stats).toBe(1);
  // Entries of the first requests that came after the scrape with which the comparison begins make up for as many that were dropped.
  const share = (REQUESTS - dropped) / REQUESTS;
  expect(accessLog).toBeGreaterThan(share - 1e-6);
  expect(accessLog).toBeLessThan(share + FIRST / REQUESTS + 1e-6);

  const completeness = { access_log: Number(accessLog.toFixed(6)), stats: 1 };
  const get = async (path: string) => (await fetch(`${mesh.collector?.url}${path}`)).json();
  const { proxies } = (await get("/api/v1/receivers?proxy=ingress-gateway")) as { proxies: object[] };
  expect(proxies).toMatchObject([{ completeness, hint: expect.stringContaining(HINTS.dropped) }]);
  const { edges } = (await get("/api/v1/graph?window=5m")) as { edges: object[] };
  expect(edges).toMatchObject([{ source: "local/ingress/ingress-gateway", requests: FIRST + REQUESTS, completeness }]);
});
