// What hostile or careless peers do to TCP, on real Envoys; the rest is in test/filter/tcp-hostile.test.ts.

import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { exchangedMetadata, PRODUCTPAGE } from "../host/mesh.ts";
import { tcpSamples } from "./tcp-counts.ts";
import { dial } from "./tcp-line.ts";
import { startTcpMesh, type TcpMesh } from "./tcp-mesh.ts";
import { encodePrefix } from "./tcp-prefix.ts";

const FORGED = encodePrefix({ id: PRODUCTPAGE.id, metadata: exchangedMetadata(PRODUCTPAGE) });

/** The caller's proxy is a gateway that tells nobody who it is. */
async function startBehindGateway(): Promise<TcpMesh> {
  const mesh = await startTcpMesh({ isMutualTls: false, exchange: {} });
  const gateway = { direction: "gateway", metadata_exchange: { tcp: { send: "never" } } };
  await mesh.caller.setListener(mesh.listener("caller", gateway));
  await sleep(1_500);
  return mesh;
}

test("a prefix longer than the listener's buffer is taken off", async () => {
  const mesh = await startTcpMesh({ isMutualTls: false, filters: "db" });
  try {
    await mesh.db.setListener({ ...mesh.listener("db"), per_connection_buffer_limit_bytes: 4096 });
    await sleep(1500);
    const metadata = { ...exchangedMetadata(PRODUCTPAGE), X: "x".repeat(6000) };
    const prefix = encodePrefix({ id: PRODUCTPAGE.id, metadata });
    const line = await dial(mesh.db.port);
    for (let at = 0; at < prefix.length; at += 1500) {
      await line.write(prefix.subarray(at, at + 1500));
      await sleep(50);
    }
    await line.write("ping");
    const head = () => mesh.app.lines.at(-1)?.receivedHead.toString("latin1", 0, 20) ?? "";
    await expect.poll(head).toBe("ping");
  } finally {
    await mesh.stop();
  }
}, 60_000);

test("an outsider who stops in the middle of a prefix is refused at a gateway, and counted", async () => {
  const mesh = await startBehindGateway();
  try {
    const line = await mesh.dial();
    await line.write(FORGED.subarray(0, 30));
    await line.readToEnd;
    const closed = async () => (await tcpSamples(mesh.caller)).find(({ name }) => name.includes("closed"))?.value;
    await expect.poll(closed).toBe(1);
    expect(mesh.app.lines.map(({ received }) => received.bytes)).toEqual([0]);
  } finally {
    await mesh.stop();
  }
}, 60_000);

test("no outsider speaks for the mesh through a gateway by a second prefix", async () => {
  const mesh = await startBehindGateway();
  try {
    const line = await mesh.dial();
    await line.write(Buffer.concat([FORGED, FORGED, Buffer.from("ping")]));
    await sleep(500);
    line.reset();
    await sleep(2_500);
    const sources = (await tcpSamples(mesh.db)).map(({ labels }) => labels["source_workload"]);
    expect([...new Set(sources)]).toEqual(["unknown"]);
  } finally {
    await mesh.stop();
  }
}, 60_000);
