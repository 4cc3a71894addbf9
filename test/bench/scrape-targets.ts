// The proxies of bench:scrape, in a process of their own: one server, found under as many addresses as there are proxies. Every reading
// finds all counts higher than the one before.
//
// Arguments: form (text or protobuf), workloads. Writes its port to standard output.

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { proxyIdentity, proxyStats, type StatsForm } from "./proxy-stats.ts";

const [form = "protobuf", workloads = "250"] = process.argv.slice(2);
const START_MS = Date.now();
const CONTENT_TYPES: Readonly<Record<string, string>> = {
  text: "text/plain; charset=UTF-8",
  protobuf: "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
};
const REQUESTS_A_ROUND = 1000;

interface Body {
  readonly round: number;
  readonly bytes: Buffer;
}

/** Of each workload, in the latest round. */
const bodies = new Map<number, Body>();
/** Readings so far, by the address that was asked. */
const rounds = new Map<string, number>();

function bodyOf(workload: number, round: number): Buffer {
  const known = bodies.get(workload);
  if (known !== undefined && known.round >= round) return known.bytes;
  const bytes = proxyStats(form as StatsForm, workload, REQUESTS_A_ROUND * round);
  bodies.set(workload, { round, bytes });
  return bytes;
}

/** 127.1.2.3 is the proxy 2 * 256 + 3. */
function proxyOf(address: string): number {
  const [, , high = "0", low = "0"] = address.split(".");
  return Number(high) * 256 + Number(low);
}

const server = createServer((request, response) => {
  const address = request.socket.localAddress ?? "";
  const proxy = proxyOf(address);
  const round = (rounds.get(address) ?? 0) + 1;
  rounds.set(address, round);
  const parts = [bodyOf(proxy % Number(workloads), round), proxyIdentity(form as StatsForm, proxy, START_MS)];
  response.writeHead(200, { "content-type": CONTENT_TYPES[form] ?? "" });
  for (const part of parts) response.write(part);
  response.end();
});
for (let workload = 0; workload < Number(workloads); workload++) bodyOf(workload, 1);
server.keepAliveTimeout = 120_000;
server.listen(0, "0.0.0.0", () => console.log((server.address() as AddressInfo).port));
