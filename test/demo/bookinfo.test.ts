// The applications themselves, without proxies: a stand-in for the sidecar answers their calls.

import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { DELAY_HEADER, FAULT_HEADER, startBookinfo } from "../../demo/bookinfo.ts";
import { httpCall } from "../../demo/http-call.ts";
import { CALLER_HEADER } from "../../demo/sidecar-config.ts";
import { claimSubnet, isFree, pickPort, type Subnet } from "../../demo/subnet.ts";
import { type Exchange, Tally } from "../../demo/tally.ts";
import { addressOf, PORTS, WORKLOADS, type Workload } from "../../demo/topology.ts";

let subnet: Subnet;
let tally: Tally;
let releases: (() => Promise<void>)[] = [];

beforeEach(async () => {
  subnet = await claimSubnet();
  tally = new Tally();
  releases = [subnet.release];
});
afterEach(async () => {
  for (const release of releases.reverse()) await release();
});

async function start(name: string, faults = false): Promise<string> {
  const workload = WORKLOADS.find((candidate) => candidate.name === name) as Workload;
  releases.push(await startBookinfo({ workload, subnet: subnet.prefix, tally, faults }));
  return `http://${addressOf(workload, subnet.prefix)}:${PORTS.app}/`;
}

/** Listens where the workload's sidecar would, answers 200 and notes the headers that come in. */
async function fakeSidecar(
  name: string,
  answerHeaders: { [name: string]: string } = {},
): Promise<IncomingHttpHeaders[]> {
  const workload = WORKLOADS.find((candidate) => candidate.name === name) as Workload;
  const seen: IncomingHttpHeaders[] = [];
  const server: Server = createServer((incoming, outgoing) => {
    seen.push(incoming.headers);
    outgoing.writeHead(200, answerHeaders).end('{"ratings":{}}');
  });
  await new Promise<void>((resolve) =>
    server.listen(PORTS.outbound, addressOf(workload, subnet.prefix), () => resolve()),
  );
  releases.push(
    () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  );
  return seen;
}

describe("an application", () => {
  test("counts its answers by caller and code", async () => {
    const url = await start("ratings-v1");
    await httpCall(url, { [CALLER_HEADER]: "reviews-v2" });
    await httpCall(url, { [CALLER_HEADER]: "reviews-v2" });
    const failed = await httpCall(url, { [FAULT_HEADER]: "details=500,ratings=503" });
    expect(failed.status).toBe(503);
    expect(tally.counts()).toEqual([
      { source: "reviews-v2", destination: "ratings-v1", code: 200, requests: 2 },
      { source: "unknown", destination: "ratings-v1", code: 503, requests: 1 },
    ]);
  });

  test("fails every so often when faults are on", async () => {
    const url = await start("ratings-v1", true);
    const codes: number[] = [];
    for (let turn = 0; turn < 40; turn++) codes.push((await httpCall(url, {})).status);
    expect(codes.filter((code) => code === 503)).toHaveLength(2);
  });

  test("calls others through its sidecar, under its own name, and passes orders on", async () => {
    const seen = await fakeSidecar("reviews-v2");
    const url = await start("reviews-v2");
    await httpCall(url, { [FAULT_HEADER]: "ratings=503" });
    expect(seen).toHaveLength(1);
    expect(seen[0]).toMatchObject({
      host: "ratings:9080",
      [CALLER_HEADER]: "reviews-v2",
      [FAULT_HEADER]: "ratings=503",
    });
  });

  test("measures what it answered and what it asked, and waits when it is told to", async () => {
    const exchanges: Exchange[] = [];
    tally = new Tally((exchange) => exchanges.push(exchange));
    await fakeSidecar("reviews-v2");
    const url = await start("reviews-v2");
    const answer = await httpCall(`${url}reviews/7`, { [DELAY_HEADER]: "ratings=5000,reviews=30" });
    const [asked, answered] = exchanges;
    expect(exchanges).toHaveLength(2);
    expect(asked).toMatchObject({
      side: "client",
      source: "reviews-v2",
      destination: "ratings",
      path: "/ratings/7",
      code: 200,
    });
    expect(asked?.bodyBytes).toBe('{"ratings":{}}'.length);
    expect(answered).toMatchObject({
      side: "server",
      source: "unknown",
      destination: "reviews-v2",
      path: "/reviews/7",
      code: 200,
    });
    expect(answered?.bodyBytes).toBe(Buffer.byteLength(answer.body));
    expect(answered?.headersReceived).toContain(DELAY_HEADER);
    expect(answered?.latencyNs).toBeGreaterThan(29e6);
    expect(answered?.latencyNs).toBeGreaterThan(asked?.latencyNs ?? Number.POSITIVE_INFINITY);
  });

  test("answers 500 when its sidecar is gone", async () => {
    const url = await start("reviews-v3");
    expect((await httpCall(url, {})).status).toBe(500);
  });

  test("notes exchange headers that should not have reached it", async () => {
    await fakeSidecar("reviews-v2", { "x-envoy-peer-metadata": "AA==" });
    const url = await start("reviews-v2");
    await httpCall(url, { "x-envoy-peer-metadata-id": "someone" });
    expect(tally.exchangeHeadersSeen()).toBe(2);
  });
});

describe("subnets and ports", () => {
  test("two runs never have the same addresses", async () => {
    const other = await claimSubnet();
    releases.push(other.release);
    expect(other.prefix).not.toBe(subnet.prefix);
  });

  test("a taken port gives way to another", async () => {
    await start("details-v1");
    const address = `${subnet.prefix}.12`;
    expect(await isFree(address, PORTS.app)).toBe(false);
    expect(await pickPort(address, PORTS.app)).not.toBe(PORTS.app);
    expect(await pickPort(address, 8080)).toBe(8080);
  });
});
