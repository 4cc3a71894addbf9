// What strangers write, through real Envoy: hosts and peers full of separators, dots, broken UTF-8 and garbage. The label set that
// Envoy's stats show must be the very one that the access log carries, or a request would be counted under two names.

import { afterAll, beforeAll, expect, test } from "vitest";
import { unpackLabels } from "../../collector/series/key.ts";
import { LABELS, PEER_ID_HEADER, PEER_METADATA_HEADER } from "../../collector/vocabulary.ts";
import { randomNumbers } from "../host/random.ts";
import { encodeStruct } from "../host/struct.ts";
import { parseExposition, seriesId } from "./exposition.ts";
import { type LoneProxy, sendRaw, startLoneProxy } from "./lone-proxy.ts";
import { settled } from "./observed.ts";

const SEED = 20_261_121;
const REQUESTS = 600;
const IN_PARALLEL = 50;

let proxy: LoneProxy;
const random = randomNumbers(SEED);

const PIECES = [
  "a",
  "reviews",
  ".",
  "..",
  ";",
  ";.;",
  "=.=",
  "=",
  "=.=x;.;",
  ";.",
  "reporter=.=",
  "\\",
  '"',
  "'",
  " ",
  "\t",
  "%00",
  "{}",
  ",",
  "\n",
  "é",
  "日本",
  "😀",
  "\u0000",
  "\u007f",
  "x".repeat(300),
  "istio_requests_total",
  "cluster.",
  "_rq_200",
  "\ufffd",
  "-",
  "unknown",
];

function hostile(pieces: readonly string[] = PIECES): string {
  return Array.from({ length: 1 + random(4) }, () => pieces[random(pieces.length)]).join("");
}

/** A header cannot hold control characters: Envoy would refuse the request before the filter sees a host. */
function hostileHost(): string {
  return hostile(PIECES.filter((piece) => !/[\p{Cc}]/u.test(piece)));
}

/** Peer metadata with hostile values, now and then with bytes broken on purpose. */
function hostilePeer(): string {
  const struct = encodeStruct({
    CLUSTER_ID: hostile(),
    LABELS: { app: hostile(), "service.istio.io/canonical-name": hostile(), version: hostile() },
    NAMESPACE: hostile(),
    WORKLOAD_NAME: hostile(),
  });
  if (random(5) === 0) struct[random(struct.length)] = random(256);
  const text = struct.toString("base64");
  return random(10) === 0 ? text.slice(0, random(text.length)) : text;
}

beforeAll(async () => {
  proxy = await startLoneProxy((path) =>
    path.startsWith("/peer") ? { [PEER_METADATA_HEADER]: hostilePeer(), [PEER_ID_HEADER]: hostilePeer() } : {},
  );
});
afterAll(() => proxy?.stop());

async function send(i: number): Promise<void> {
  const isInbound = i % 2 === 0;
  const peer = isInbound ? `${PEER_METADATA_HEADER}: ${hostilePeer()}\r\n${PEER_ID_HEADER}: peer-${i}\r\n` : "";
  const host = isInbound ? "server" : hostileHost();
  const request = `GET ${i % 3 === 0 ? "/peer" : "/"} HTTP/1.1\r\nhost: ${host}\r\n${peer}connection: close\r\n\r\n`;
  await sendRaw(isInbound ? proxy.inboundPort : proxy.outboundPort, Buffer.from(request, "utf8"));
}

/** Series of istio_requests_total as Envoy shows them -> count. */
async function fromStats(): Promise<Record<string, number>> {
  const text = await (await fetch(`${proxy.adminUrl}/stats/prometheus?usedonly&filter=istio_requests_total$`)).text();
  return tally(parseExposition(text).map((sample) => [seriesId(sample), sample.value]));
}

function fromAccessLog(): Record<string, number> {
  return tally(
    proxy.records.map(({ labelKey }) => {
      const values = unpackLabels(labelKey) ?? [];
      const labels = Object.fromEntries(LABELS.map((name, i) => [name, values[i] ?? "absent"]));
      return [seriesId({ name: "istio_requests_total", labels, value: 1 }), 1];
    }),
  );
}

function tally(pairs: readonly (readonly [string, number])[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const [id, count] of [...pairs].sort(([a], [b]) => (a < b ? -1 : 1))) sums[id] = (sums[id] ?? 0) + count;
  return sums;
}

test(`stats and access log show ${REQUESTS} hostile requests under the same label sets (seed ${SEED})`, async () => {
  // Side by side: Envoy keeps the connection of a request that it refuses for a second.
  for (let i = 0; i < REQUESTS; i += IN_PARALLEL) {
    await Promise.all(Array.from({ length: IN_PARALLEL }, (_, lane) => send(i + lane)));
  }
  const stats = await settled(fromStats, (series) => Object.values(series).reduce((a, b) => a + b, 0) >= REQUESTS);
  await settled(
    async () => proxy.records.length,
    (length) => length >= REQUESTS,
  );
  expect(Object.keys(stats).length).toBeGreaterThan(100);
  expect(fromAccessLog()).toEqual(stats);
  expect(Object.values(stats).reduce((a, b) => a + b, 0)).toBe(REQUESTS);
});

test("no exchange header reached the server's own eyes or a client that sent none", async () => {
  const seen = proxy.received
    .flatMap((headers) => Object.keys(headers))
    .filter((name) => name.startsWith(PEER_METADATA_HEADER));
  // Outbound requests carry ours: the server has no proxy before it that would take them off.
  const outbound = proxy.received.filter((headers) => headers[PEER_ID_HEADER]?.includes("lone-1"));
  expect(seen.length).toBe(outbound.length * 2);
  const answer = await sendRaw(
    proxy.inboundPort,
    Buffer.from("GET /peer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
  );
  expect(answer.toString("latin1").toLowerCase()).not.toContain(PEER_METADATA_HEADER);
});

test("a request without a host and one with a header of 1 MB are counted once each and break nothing", async () => {
  const before = Object.values(await fromStats()).reduce((a, b) => a + b, 0);
  const huge = "A".repeat(1024 * 1024);
  await sendRaw(proxy.outboundPort, Buffer.from("GET / HTTP/1.1\r\n\r\n"));
  await sendRaw(
    proxy.inboundPort,
    Buffer.from(`GET / HTTP/1.1\r\nhost: x\r\n${PEER_METADATA_HEADER}: ${huge}\r\nconnection: close\r\n\r\n`),
  );
  const after = await settled(fromStats, (series) => Object.values(series).reduce((a, b) => a + b, 0) >= before + 2);
  expect(Object.values(after).reduce((a, b) => a + b, 0)).toBe(before + 2);
  const faults = await (
    await fetch(`${proxy.adminUrl}/stats/prometheus?usedonly&filter=meshtally_filter_faults`)
  ).text();
  const reasons = parseExposition(faults).map(({ labels }) => labels["reason"]);
  expect(reasons).toEqual(expect.arrayContaining(["peer_malformed", "peer_too_large"]));
});
