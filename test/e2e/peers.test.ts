// 10,000 random peer headers through real Envoy: every request is answered and counted once, nothing of the exchange reaches the
// application, the rest of the request does, and what is refused is counted, as an oracle of its own counts it.

import { Agent } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { LABELS, PEER_ID_HEADER, PEER_METADATA_HEADER } from "../../collector/vocabulary.ts";
import { httpCall } from "../../demo/http-call.ts";
import { type Config, socketAddress, statsConfig } from "../../demo/telemetry-config.ts";
import { randomNumbers } from "../host/random.ts";
import { peerHeaders, refusalOf } from "../property/peer-headers.ts";
import { parseExposition } from "./exposition.ts";
import { cluster, type LoneProxy, listener, NODE, type Places, startLoneProxy } from "./lone-proxy.ts";
import { settled } from "./observed.ts";

const SEED = 20_261_122;
const REQUESTS = 10_000;
const IN_PARALLEL = 8;
/** Each new label set costs Envoy 7 ms. */
const MAX_PEERS = 250;
/** Every so many requests one carries a header of 1 MB. */
const HUGE_EVERY = 500;
const HUGE = "A".repeat(1024 * 1024);
/** What Envoy adds, and what node's client sends of its own accord. */
const OWN_HEADERS = ["connection", "host", "x-envoy-expected-rq-timeout-ms", "x-forwarded-proto", "x-request-id"];

let proxy: LoneProxy;
const agent = new Agent({ keepAlive: true, maxSockets: IN_PARALLEL });
const random = randomNumbers(SEED);

beforeAll(async () => {
  proxy = await startLoneProxy(() => ({}), configure);
});
afterAll(async () => {
  agent.destroy();
  await proxy?.stop();
});

/** Two inbound listeners: one takes the largest headers that Envoy can be told to take, the other as large as by default. */
function configure({ inbound, outbound, admin, server }: Places): Config {
  const name = "inbound|80||";
  return {
    node: NODE,
    admin: { address: socketAddress(admin) },
    stats_config: statsConfig(),
    static_resources: {
      listeners: [
        listener("inbound", inbound, name, { max_request_headers_kb: 8192, access_log: [] }),
        { ...listener("inbound", outbound, name, { max_request_headers_kb: 60, access_log: [] }), name: "default" },
      ],
      clusters: [cluster(name, server)],
    },
  };
}

/** Random headers without the control characters that Envoy refuses before any filter sees them, MAX_PEERS of them valid. */
function sendableHeaders(): () => string {
  const draw = peerHeaders(random);
  const valid = new Set<string>();
  return () => {
    const header = Array.from(draw(), (char) => (char < " " || char === "\x7f" ? "?" : char))
      .join("")
      .trim();
    if (refusalOf(header) !== null || valid.has(header)) return header;
    if (valid.size < MAX_PEERS) valid.add(header);
    return [...valid][random(valid.size)] as string;
  };
}

function exchangeHeaders(index: number, header: () => string): Record<string, string[]> {
  if (index % HUGE_EVERY === 0) return { [PEER_ID_HEADER]: ["peer"], [PEER_METADATA_HEADER]: [HUGE] };
  const headers: Record<string, string[]> = {};
  if (random(10) > 0) headers[PEER_ID_HEADER] = [random(3) === 0 ? `peer-${random(700)}` : header()];
  if (random(20) > 0) headers[PEER_METADATA_HEADER] = [header(), ...(random(20) === 0 ? [header()] : [])];
  return headers;
}

async function metrics(filter: string) {
  return parseExposition(await (await fetch(`${proxy.adminUrl}/stats/prometheus?usedonly&filter=${filter}`)).text());
}

async function counted(): Promise<number> {
  return (await metrics("istio_requests_total$")).reduce((sum, { value }) => sum + value, 0);
}

/** Headers that the filter refused. */
async function refused() {
  const samples = await metrics("meshtally_filter_faults_total$");
  const count = (reason: string) => samples.find(({ labels }) => labels["reason"] === reason)?.value ?? 0;
  return { peer_too_large: count("peer_too_large"), peer_malformed: count("peer_malformed") };
}

test(`${REQUESTS} random peer headers: answered, counted, kept from the application (seed ${SEED})`, async () => {
  const header = sendableHeaders();
  const statuses: Record<number, number> = {};
  const expected = { peer_too_large: 0, peer_malformed: 0 };
  let next = 0;
  const client = async () => {
    while (next < REQUESTS) {
      const index = next++;
      const exchange = exchangeHeaders(index, header);
      // Of a header that stands several times the first one counts; one that is empty is none.
      const [metadata = ""] = exchange[PEER_METADATA_HEADER] ?? [];
      const refusal = metadata === "" ? null : refusalOf(metadata);
      if (refusal !== null) expected[refusal]++;
      const own = { host: "web", "x-number": `${index}`, "x-check": `;.; =.= ${index}...` };
      const url = `http://127.0.0.1:${proxy.inboundPort}/`;
      const { status } = await httpCall(url, { ...own, ...exchange } as NodeJS.Dict<string>, agent);
      statuses[status] = (statuses[status] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: IN_PARALLEL }, client));
  expect(statuses).toEqual({ 200: REQUESTS });

  expect(proxy.received.length).toBe(REQUESTS);
  const numbers = new Set<string>();
  for (const headers of proxy.received) {
    const number = headers["x-number"] as string;
    numbers.add(number);
    const names = Object.keys(headers).filter((name) => !OWN_HEADERS.includes(name));
    if (names.sort().join() !== "x-check,x-number") expect(names).toEqual(["x-check", "x-number"]);
    if (headers["x-check"] !== `;.; =.= ${number}...`) expect(headers["x-check"]).toBe(number);
  }
  expect(numbers.size).toBe(REQUESTS);

  expect(await settled(counted, (count) => count >= REQUESTS)).toBe(REQUESTS);
  const series = await metrics("istio_requests_total$");
  expect(series.length).toBeGreaterThan(MAX_PEERS / 3);
  for (const { name, labels } of series) {
    expect(name).toBe("istio_requests_total");
    expect(Object.keys(labels)).toEqual(LABELS);
    expect(labels).toMatchObject({ reporter: "destination", destination_workload: "lone", response_code: "200" });
  }
  expect(expected.peer_malformed).toBeGreaterThan(REQUESTS / 10);
  expect(expected.peer_too_large).toBeGreaterThan(REQUESTS / HUGE_EVERY);
  expect(await refused()).toEqual(expected);
});

test("a header beyond Envoy's limit never comes to the filter: refused, counted once, and no peer was refused", async () => {
  const before = { counted: await counted(), refused: await refused(), received: proxy.received.length };
  const headers = { host: "web", connection: "close", [PEER_METADATA_HEADER]: HUGE };
  const { status } = await httpCall(`http://127.0.0.1:${proxy.outboundPort}/`, headers);
  expect(status).toBe(431);
  expect(await settled(counted, (count) => count > before.counted)).toBe(before.counted + 1);
  expect(await refused()).toEqual(before.refused);
  expect(proxy.received.length).toBe(before.received);
});
