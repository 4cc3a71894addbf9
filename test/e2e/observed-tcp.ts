// What a running mesh shows of the connections to its database: ratings asks it through both sidecars over mutual TLS, a backup from
// outside in plaintext. The truth is what those callers counted.

import { expect } from "vitest";
import { TCP_METRICS } from "../../collector/vocabulary.ts";
import type { Mesh } from "../../demo/mesh.ts";
import type { TcpEdgeCount } from "../../demo/tally.ts";
import { RATINGS } from "../../demo/topology.ts";
import { parseExposition, type Sample } from "./exposition.ts";
import { settled } from "./observed.ts";

const DUMP_LINES = 20;

/** Backs the database up from outside the mesh, so many times. */
export async function backUp(mesh: Mesh, times: number): Promise<void> {
  for (let i = 0; i < times; i++) expect((await mesh.backUp()).trim().split("\n")).toHaveLength(DUMP_LINES);
}

export async function tcpSamples(url: string): Promise<Sample[]> {
  const samples = parseExposition(await (await fetch(url)).text());
  return samples.filter(({ name }) => TCP_METRICS.some((metric) => metric.name === name));
}

export function tcpSamplesOf(mesh: Mesh, workload: string): Promise<Sample[]> {
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
export async function expectTcpTruth(mesh: Mesh, readSamples: () => Promise<Sample[]>): Promise<void> {
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
