// The database of the local mesh, as the proxies of both its ends show it. What the collector shows of it: exact.test.ts.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Mesh } from "../../demo/mesh.ts";
import { DATABASE, DATABASE_SERVICE, RATINGS, serviceHost, spiffeId } from "../../demo/topology.ts";
import { startTestMesh } from "./observed.ts";
import { backUp, expectTcpTruth, tcpSamplesOf } from "./observed-tcp.ts";

const REQUESTS = 150;
const BACKUPS = 3;

describe("the proxies", () => {
  let mesh: Mesh;
  beforeAll(async () => {
    mesh = await startTestMesh({ collector: false, faults: false });
    await Promise.all(Array.from({ length: REQUESTS }, () => mesh.request()));
    await backUp(mesh, BACKUPS);
  });
  afterAll(() => mesh?.stop());

  test("of both ends count what the callers counted, the connection that is still open included", async () => {
    await expectTcpTruth(mesh, async () => [
      ...(await tcpSamplesOf(mesh, DATABASE.name)),
      ...(await tcpSamplesOf(mesh, RATINGS.name)),
    ]);
  });

  test("know who talks over mutual TLS by certificate and exchange, and who talks in plaintext by neither", async () => {
    const opened = (await tcpSamplesOf(mesh, DATABASE.name))
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
