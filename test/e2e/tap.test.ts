// A tap on the local mesh shows what went through it: each hop of each request on both its sides, and the TCP connections behind.

import { afterAll, beforeAll, expect, test } from "vitest";
import type { Side } from "../../collector/analysis/side.ts";
import type { Mesh } from "../../demo/mesh.ts";
import { settled, startTestMesh, total, truth } from "./observed.ts";

const REQUESTS = 60;
const DATABASE = "ratings-db-v1";

let mesh: Mesh;
const reader = new AbortController();
beforeAll(async () => {
  mesh = await startTestMesh({ scrape: false, faults: false });
});
afterAll(async () => {
  reader.abort();
  await mesh?.stop();
});

/** Taps, and returns the lines, which grow. */
async function tap(query: string): Promise<Side[]> {
  const response = await fetch(`${mesh.collector?.url}/api/v1/tap${query}`, { signal: reader.signal });
  expect(response.status).toBe(200);
  const lines: Side[] = [];
  const read = async () => {
    let rest = "";
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      const parts = (rest + chunk).split("\n");
      rest = parts.pop() ?? "";
      lines.push(...parts.map((line) => JSON.parse(line) as Side));
    }
  };
  read().catch((error: unknown) => expect(error).toHaveProperty("name", "AbortError"));
  return lines;
}

/** "source -> destination code" -> lines, as one side tells it. */
function edges(lines: readonly Side[], detectPoint: string): Record<string, number> {
  const sums = new Map<string, number>();
  for (const { source, destination, code } of lines.filter((line) => line.detectPoint === detectPoint)) {
    const edge = `${source.workload} -> ${destination.workload} ${code}`;
    sums.set(edge, (sums.get(edge) ?? 0) + 1);
  }
  return Object.fromEntries([...sums].sort(([a], [b]) => (a < b ? -1 : 1)));
}

test("every call of the applications is a line by its client, and one by its server", async () => {
  const all = await tap("");
  const reviews = await tap("?destination.service=reviews.default&detectPoint=server&protocol=http");
  await Promise.all(Array.from({ length: REQUESTS }, () => mesh.request()));
  const isTold = (lines: readonly Side[]) => lines.filter(({ protocol }) => protocol === "http");
  await settled(
    async () => isTold(all).length,
    (count) => count >= total(truth(mesh)) * 2 + REQUESTS,
  );
  const http = isTold(all);
  expect(edges(http, "client")).toEqual(truth(mesh));
  expect(edges(http, "server")).toEqual({ ...truth(mesh), "null -> ingress-gateway 200": REQUESTS });

  const gateway = http.filter(({ role }) => role === "router");
  expect(gateway.map(({ detectPoint }) => detectPoint).sort()).toEqual([
    ...Array.from({ length: REQUESTS }, () => "client"),
    ...Array.from({ length: REQUESTS }, () => "server"),
  ]);
  const [called] = gateway.filter(({ detectPoint }) => detectPoint === "server");
  expect(called?.source).toMatchObject({ service: null, workload: null, reason: "peer_outside_mesh" });
  expect(called?.tls).toBe("none");

  expect(reviews.length).toBeGreaterThanOrEqual(REQUESTS);
  expect(reviews).toHaveLength(http.filter((line) => line.destination.service === "reviews.default").length / 2);
  for (const side of reviews) {
    expect(side).toMatchObject({
      role: "sidecar",
      source: { service: "productpage.default", namespace: "default", analyzer: "mx-mesh" },
      tls: "mutual",
      success: true,
      flags: [],
    });
    expect(side.endpoint).toMatch(/^GET:\/reviews/);
    expect(side.latencyMs).toBeGreaterThanOrEqual(0);
    expect(side.internalRequestLatencyNs).toBeGreaterThan(0);
    expect(Date.parse(side.time ?? "")).toBe(side.startMs);
  }
});

test("connections to the database are lines of TCP", async () => {
  const tcp = await tap("?protocol=tcp&detectPoint=server&source.workload=null"); // the backup has no sidecar
  await mesh.backUp();
  await settled(
    async () => tcp.length,
    (count) => count > 0,
  );
  const [backup] = tcp;
  expect(backup).toMatchObject({
    destination: { workload: DATABASE },
    endpoint: null,
    code: null,
    latencyMs: null,
    tls: "none",
    success: true,
  });
  expect(backup?.responseBytes).toBeGreaterThan(0);
});
