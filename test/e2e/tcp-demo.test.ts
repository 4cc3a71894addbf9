// The database of the local mesh: ratings asks it through both sidecars over mutual TLS, a backup from outside in plaintext. The truth is
// what those callers counted.

import { afterAll, beforeAll, expect, test } from "vitest";
import type { Mesh } from "../../demo/mesh.ts";
import type { TcpEdgeCount } from "../../demo/tally.ts";
import { DATABASE, DATABASE_SERVICE, RATINGS, serviceHost, spiffeId } from "../../demo/topology.ts";
import { parseExposition, type Sample } from "./exposition.ts";
import { settled, startTestMesh } from "./observed.ts";

const REQUESTS = 150;
const BACKUPS = 3;
const DUMP_LINES = 20;

let mesh: Mesh;

beforeAll(async () => {
  mesh = await startTestMesh({ collector: false, faults: false });
  await Promise.all(Array.from({ length: REQUESTS }, () => mesh.request()));
  for (let i = 0; i < BACKUPS; i++) expect((await mesh.backUp()).trim().split("\n")).toHaveLength(DUMP_LINES);
});
afterAll(() => mesh?.stop());

async function samplesOf(workload: string): Promise<Sample[]> {
  const url = mesh.workloads.find(({ name }) => name === workload)?.adminUrl;
  return parseExposition(await (await fetch(`${url}/stats/prometheus?filter=istio_tcp_`)).text());
}

/** What the proxy of that workload counted, per caller. */
async function counted(workload: string): Promise<TcpEdgeCount[]> {
  const edges = new Map<string, Record<string, number>>();
  for (const { name, labels, value } of await samplesOf(workload)) {
    const key = `${labels["source_workload"]} ${labels["destination_workload"]}`;
    const edge = edges.get(key) ?? {};
    edges.set(key, { ...edge, [name]: (edge[name] ?? 0) + value });
  }
  return [...edges].map(([key, edge]) => {
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
}

test("the sidecars of both ends count what the callers counted, the connection that is still open included", async () => {
  const read = async () => ({
    atDatabase: sorted(await counted(DATABASE.name)),
    atRatings: await counted(RATINGS.name),
    truth: mesh.tcpCounts(),
  });
  const { atDatabase, atRatings, truth } = await settled(
    read,
    (now) => JSON.stringify(now.atDatabase) === JSON.stringify(now.truth),
  );
  const fromRatings = truth.filter(({ source }) => source === RATINGS.name);
  expect(truth.map(({ source }) => source)).toEqual([RATINGS.name, "unknown"]);
  expect(fromRatings[0]?.closed).toBeGreaterThan(0);
  expect(atDatabase).toEqual(truth);
  expect(atRatings).toEqual(fromRatings);
});

function sorted(edges: TcpEdgeCount[]): TcpEdgeCount[] {
  return edges.sort((a, b) => a.source.localeCompare(b.source));
}

test("who talks over mutual TLS is known by its certificate and what it says, who talks in plaintext by neither", async () => {
  const policies = (await samplesOf(DATABASE.name))
    .filter(({ name }) => name === "istio_tcp_connections_opened_total")
    .map(({ labels }) => labels);
  const common = {
    reporter: "destination",
    destination_workload: DATABASE.name,
    destination_service: serviceHost(DATABASE_SERVICE),
    request_protocol: "tcp",
  };
  expect(policies).toEqual(
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
