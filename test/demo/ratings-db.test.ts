// The database and its callers, without proxies: a relay stands in for the sidecars.

import { connect, createServer, type Server } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { backUp, RatingsDb, startRatingsDb } from "../../demo/ratings-db.ts";
import { claimSubnet, type Subnet } from "../../demo/subnet.ts";
import { Tally } from "../../demo/tally.ts";
import { addressOf, DATABASE, PORTS, RATINGS } from "../../demo/topology.ts";

let subnet: Subnet;
let tally: Tally;
let database: RatingsDb;
let releases: (() => unknown)[] = [];

beforeEach(async () => {
  subnet = await claimSubnet();
  tally = new Tally();
  database = new RatingsDb(subnet.prefix, tally);
  releases = [subnet.release, await startRatingsDb(subnet.prefix), () => database.close()];
});
afterEach(async () => {
  for (const release of releases.reverse()) await release();
});

/** Passes what comes there on to the database. */
async function relayAt(address: string, port: number): Promise<void> {
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    const onward = connect({ port: PORTS.database, host: addressOf(DATABASE, subnet.prefix), allowHalfOpen: true });
    socket.pipe(onward).pipe(socket);
    socket.on("error", () => onward.destroy());
    onward.on("error", () => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(port, address, resolve));
  releases.push(() => server.close());
}

describe("ratings' database", () => {
  test("answers each question, in order, on one connection that is counted byte by byte", async () => {
    await relayAt(addressOf(RATINGS, subnet.prefix), PORTS.database);
    const answers = await Promise.all([database.ask(0), database.ask(1), database.ask(0)]);
    expect(answers).toEqual([
      '{"Reviewer 1":5,"Reviewer 2":4}',
      '{"Reviewer 1":4,"Reviewer 2":3}',
      '{"Reviewer 1":5,"Reviewer 2":4}',
    ]);
    expect(tally.tcpCounts()).toEqual([
      {
        source: "ratings-v1",
        destination: "ratings-db-v1",
        opened: 1,
        closed: 0,
        sentBytes: answers.join("\n").length + 1,
        receivedBytes: 3 * "GET 0\n".length,
      },
    ]);
  });

  test("gets a new connection now and then, and no answer is lost", async () => {
    await relayAt(addressOf(RATINGS, subnet.prefix), PORTS.database);
    const answers = await Promise.all(Array.from({ length: 120 }, () => database.ask(0)));
    expect(new Set(answers)).toEqual(new Set(['{"Reviewer 1":5,"Reviewer 2":4}']));
    await expect.poll(() => tally.tcpCounts()).toMatchObject([{ opened: 3, closed: 2 }]);
  });

  test("that is away gives no answer, and no connection is counted", async () => {
    expect(await database.ask(0)).toBeNull();
    expect(tally.tcpCounts()).toMatchObject([{ opened: 0, closed: 0, sentBytes: 0, receivedBytes: 0 }]);
  });

  test("can be dumped from outside", async () => {
    await relayAt(addressOf(DATABASE, subnet.prefix), PORTS.inbound);
    const dump = await backUp(subnet.prefix, tally);
    expect(dump.trim().split("\n")).toHaveLength(20);
    await expect
      .poll(() => tally.tcpCounts())
      .toEqual([
        {
          source: "unknown",
          destination: "ratings-db-v1",
          opened: 1,
          closed: 1,
          sentBytes: dump.length,
          receivedBytes: "DUMP\n".length,
        },
      ]);
  });
});
