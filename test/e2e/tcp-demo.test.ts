// The database of the local mesh: ratings asks it through both sidecars over mutual TLS, a backup from outside in plaintext. The truth is
// what those callers counted; the proxies show it, and the collector shows the same, whichever way it hears of it.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TCP_METRICS } from "../../collector/vocabulary.ts";
import type { Mesh, MeshOptions } from "../../demo/mesh.ts";
import type { TcpEdgeCount } from "../../demo/tally.ts";
import { DATABASE, DATABASE_SERVICE, RATINGS, serviceHost, spiffeId } from "../../demo/topology.ts";
import { parseExposition, type Sample } from "./exposition.ts";
import { counts, settled, startTestMesh } from "./observed.ts";

const REQUESTS = 150;
const BACKUPS = 3;
const DUMP_LINES = 20;

async function startUsedMesh(options: Omit<MeshOptions, "envoy">): Promise<Mesh> {
  const mesh = await startTestMesh({ ...options, faults: false });
  await Promise.all(Array.from({ length: REQUESTS }, () => mesh.request()));
  for (let i = 0; i < BACKUPS; i++) expect((await mesh.backUp()).trim().split("\n")).toHaveLength(DUMP_LINES);
  return mesh;
}

async function tcpSamples(url: string): Promise<Sample[]> {
  const samples = parseExposition(await (await fetch(url)).text());
  return samples.filter(({ name }) => TCP_METRICS.some((metric) => metric.name === name));
}

function samplesOf(mesh: Mesh, workload: string): Promise<Sample[]> {
  const url = mesh.workloads.find(({ name }) => name === workload)?.adminUrl;
  return tcpSamples(`${url}/stats/prometheus?filter=istio_tcp_`);
}

/** What one reporter counted, per caller. */
function edges(samples: readonly Sample[], reporter: "source" | "destination"): TcpEdgeCount[] {
  const found = new Map<string, Record<string, number>>();
  for (const { name, labels, value } of samples.filter(({ labels }) => labels["reporter"] === reporter)) {
    const key = `${labels["source_workload"]} ${labels["destination_workload"]}`;
    const edge = found.get(key) ?? {};
    found.set(key, { ...edge, [name]: (edge[name] ?? 0) + value });
  }
  const counted = [...found].map(([key, edge]) => {
    const [source = "", destination = ""] = key.split(" ");
    return {
      source,
      destination,
      opened: edge["istio_tcp_connections_opened_total"] ?? 0,
      closed: edge["istio_tcp_connections_closed_total"] ?? 0,
      sentBytes: edge["istio_tcp_sent_bytes_total"] ?? 0,
      receivedBytes: edge["istio_tcp_received_bytes_total"] ?? 0,
    };
  });
  return counted.sort((a, b) => a.source.localeCompare(b.source));
}

/** Waits until the truth is shown by the reporter that sees all of it, and compares both reporters with it. */
async function expectTruth(mesh: Mesh, readSamples: () => Promise<Sample[]>): Promise<void> {
  const read = async () => {
    const samples = await readSamples();
    return { atDatabase: edges(samples, "destination"), atRatings: edges(samples, "source"), truth: mesh.tcpCounts() };
  };
  const { atDatabase, atRatings, truth } = await settled(
    read,
    (now) => JSON.stringify(now.atDatabase) === JSON.stringify(now.truth),
  );
  const fromRatings = truth.filter(({ source }) => source === RATINGS.name);
  expect(truth.map(({ source }) => source)).toEqual([RATINGS.name, "unknown"]);
  expect(fromRatings[0]?.closed).toBeGreaterThan(0);
  expect(atDatabase).toEqual(truth);
  expect(atRatings).toEqual(fromRatings);
}

describe("the proxies", () => {
  let mesh: Mesh;
  beforeAll(async () => {
    mesh = await startUsedMesh({ collector: false });
  });
  afterAll(() => mesh?.stop());

  test("of both ends count what the callers counted, the connection that is still open included", async () => {
    await expectTruth(mesh, async () => [
      ...(await samplesOf(mesh, DATABASE.name)),
      ...(await samplesOf(mesh, RATINGS.name)),
    ]);
  });

  test("know who talks over mutual TLS by certificate and exchange, and who talks in plaintext by neither", async () => {
    const opened = (await samplesOf(mesh, DATABASE.name))
      .filter(({ name }) => name === "istio_tcp_connections_opened_total")
      .map(({ labels }) => labels);
    const common = {
      reporter: "destination",
      destination_workload: DATABASE.name,
      destination_service: serviceHost(DATABASE_SERVICE),
      request_protocol: "tcp",
    };
    expect(opened).toEqual(
      expect.arrayContaining([
        expect.objectContaining({
          ...common,
          source_workload: RATINGS.name,
          source_principal: spiffeId(RATINGS),
          connection_security_policy: "mutual_tls",
        }),
        expect.objectContaining({
          ...common,
          source_workload: "unknown",
          source_principal: "unknown",
          connection_security_policy: "none",
        }),
      ]),
    );
  });
});

describe.each([
  { name: "stats and access logs", scrape: true, als: true },
  { name: "access logs only", scrape: false, als: true },
  { name: "stats only", scrape: true, als: false },
])("the collector, by $name", ({ scrape, als }) => {
  let mesh: Mesh;
  beforeAll(async () => {
    mesh = await startUsedMesh({ scrape, als });
  });
  afterAll(() => mesh?.stop());

  const collected = () => tcpSamples(`${mesh.collector?.url}/metrics`);

  test("shows what the callers counted", () => expectTruth(mesh, collected));

  test("shows every series as the proxies do", async () => {
    const own = [...(await samplesOf(mesh, DATABASE.name)), ...(await samplesOf(mesh, RATINGS.name))];
    expect(Object.keys(counts(own)).length).toBeGreaterThanOrEqual(3 * TCP_METRICS.length);
    const shown = await settled(
      collected,
      (samples) => JSON.stringify(counts(samples)) === JSON.stringify(counts(own)),
    );
    expect(counts(shown)).toEqual(counts(own));
  });
});
