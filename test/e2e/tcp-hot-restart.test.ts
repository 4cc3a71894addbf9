// A hot restart of Envoy with a connection open: the old process keeps it to its end, and what it counts from then on is shown by the new one.

import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { countsOf, countsOnceClosed, tcpCounts } from "./tcp-counts.ts";
import { accountsOfCallees, accountsOfCallers, echo } from "./tcp-line.ts";
import { startTcpMesh, type TcpMesh, type TcpProxy } from "./tcp-mesh.ts";

const QUESTION = Buffer.alloc(10_000, "question ");
const REPORTED_AND_FLUSHED_MS = 2500;
/** How long an old process keeps its connections. */
const PARENT_SECONDS = 8;

let mesh: TcpMesh;

/** Of the first process with epoch 0. Its own port serves as the number by which two processes find each other. */
function flags({ port }: TcpProxy, epoch = 0): string[] {
  const times = ["--drain-time-s", "2", "--parent-shutdown-time-s", `${PARENT_SECONDS}`];
  return ["--concurrency", "1", "--base-id", `${port}`, "--restart-epoch", `${epoch}`, ...times];
}

async function epochOf(proxy: TcpProxy): Promise<number> {
  const answer = await proxy.admin("/server_info").catch(() => null);
  if (answer === null) return -1; // in between the two
  const info = JSON.parse(answer) as { command_line_options: { restart_epoch: number } };
  return info.command_line_options.restart_epoch;
}

beforeEach(async () => {
  const settings = { tcp_reporting_duration: "1s" };
  mesh = await startTcpMesh({ isMutualTls: true, service: echo, settings, flags });
});
afterEach(() => mesh?.stop());

test.each(["db", "caller"] as const)("the proxy of %s", async (name) => {
  const line = await mesh.dial();
  await line.write(QUESTION);
  await line.read(QUESTION.length);
  // Reported, and then flushed: a new process is told what the old one counted since it last flushed its stats, and that is nothing now.
  await sleep(REPORTED_AND_FLUSHED_MS);
  const before = await tcpCounts(mesh[name]);

  await mesh.succeed(name, flags(mesh[name], 1));
  await expect.poll(() => epochOf(mesh[name])).toBe(1);
  const later = await mesh.dial();
  for (const each of [line, later]) {
    const { bytes } = each.received;
    await each.write(QUESTION);
    await each.read(bytes + QUESTION.length);
    await each.hangUp();
  }
  await Promise.all(mesh.app.lines.map(({ closed }) => closed));
  expect(accountsOfCallees(mesh.app.lines)).toEqual(accountsOfCallers(mesh.dialled));
  const wanted = countsOf(mesh.dialled);
  const other = name === "db" ? mesh.caller : mesh.db;
  expect(await countsOnceClosed(other, wanted.closed)).toEqual(wanted);
  const inBothLives = async () => {
    const after = await tcpCounts(mesh[name]);
    return {
      opened: before.opened + after.opened,
      closed: before.closed + after.closed,
      sent: before.sent + after.sent,
      received: before.received + after.received,
    };
  };
  await expect.poll(inBothLives).toEqual(wanted);
});
