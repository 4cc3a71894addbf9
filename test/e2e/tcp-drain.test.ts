// Connections that are open while their listener goes away or is replaced: they go on to their end, and are counted to their last byte.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { socketAddress } from "../../demo/telemetry-config.ts";
import { countsOf, countsOnceClosed } from "./tcp-counts.ts";
import { accountsOfCallees, accountsOfCallers, echo, type Line } from "./tcp-line.ts";
import { startTcpMesh, type TcpMesh, type TcpProxy } from "./tcp-mesh.ts";

const QUESTION = Buffer.alloc(10_000, "question ");
/** After which Envoy ends the connections of a listener that went. */
const DRAIN_SECONDS = 2;

/** Ways in which a listener goes. */
const WAYS: Readonly<Record<string, (mesh: TcpMesh, proxy: TcpProxy) => Promise<unknown>>> = {
  // Envoy forgets what a wasm VM counted once no listener runs it, hence the other.
  "removed, where another runs the filter, too": (mesh, proxy) =>
    proxy.setListener({ ...mesh.listener(proxy.name), name: "other", address: socketAddress("127.0.0.1:0") }),
  "given another configuration of the filter": (mesh, proxy) =>
    proxy.setListener(mesh.listener(proxy.name, { tcp_reporting_duration: "60s" })),
  "drained by the admin": (_, proxy) => fetch(`${proxy.adminUrl}/drain_listeners`, { method: "POST" }),
};

describe.each(["caller", "db"] as const)("the listener of %s", (name) => {
  describe.each(Object.keys(WAYS))("%s", (way) => {
    let mesh: TcpMesh;
    beforeAll(async () => {
      mesh = await startTcpMesh({
        isMutualTls: true,
        service: echo,
        settings: { tcp_reporting_duration: "1s" },
        flags: () => ["--concurrency", "1", "--disable-hot-restart", "--drain-time-s", `${DRAIN_SECONDS}`],
      });
    });
    afterAll(() => mesh?.stop());

    async function ask(line: Line): Promise<void> {
      const { bytes } = line.received;
      await line.write(QUESTION);
      await line.read(bytes + QUESTION.length);
    }

    async function listenersGone(proxy: TcpProxy): Promise<number> {
      const text = await proxy.admin("/stats?filter=listener_manager.listener_(stopped|removed|modified)");
      return [...text.matchAll(/: (\d+)$/gm)].reduce((sum, [, count]) => sum + Number(count), 0);
    }

    test("open connections work on, and are counted when they or Envoy end them", async () => {
      const [first, second] = [await mesh.dial(), await mesh.dial()];
      await ask(first);
      await ask(second);
      const before = await listenersGone(mesh[name]);
      await (WAYS[way] as (mesh: TcpMesh, proxy: TcpProxy) => Promise<unknown>)(mesh, mesh[name]);
      await expect.poll(() => listenersGone(mesh[name])).toBeGreaterThan(before);

      await ask(first);
      await first.hangUp();
      await ask(second);
      if (way === "drained by the admin") await second.hangUp();
      else await second.readToEnd; // Envoy's doing, once the time is up
      await second.hangUp();

      await Promise.all(mesh.app.lines.map(({ closed }) => closed));
      expect(accountsOfCallees(mesh.app.lines)).toEqual(accountsOfCallers(mesh.dialled));
      const wanted = countsOf(mesh.dialled);
      const counted = [mesh.caller, mesh.db].map((proxy) => countsOnceClosed(proxy, wanted.closed));
      expect(await Promise.all(counted)).toEqual([wanted, wanted]);
    });
  });
});
