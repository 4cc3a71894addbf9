// npm run bench:tcp [-- --rounds N] [--only REGEX]: what the filter adds to TCP, on Envoy's worker thread.
//
//   bulk     one connection carries 256 MiB: throughput with the filter in terms of throughput without, by the clock and by the worker's CPU
//   messages 1 KiB to and fro: microseconds of the worker's CPU per round trip
//   connections  opened, 1 KiB to and fro, closed: microseconds of the worker's CPU each
//   ticks    10,000 idle connections: milliseconds of the worker's CPU per 5 s, less what Envoy takes without the filter
//
// One Envoy, one worker, one listener per variant, rounds of slices in random order; medians with bootstrap 95 % confidence intervals.

import { cpus, loadavg } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type Config, tcpFilterConfig, tcpProxyConfig } from "../../demo/telemetry-config.ts";
import { filterWasmPath } from "../../envoy/project.ts";
import { BenchEnvoy, CLUSTER, type Variant } from "./bench-envoy.ts";
import { portOf } from "./load.ts";
import { median, medianInterval, ratio, ratioInterval } from "./statistics.ts";
import { download, type Line, openLines, roundTrips, startTcpUpstream, upload } from "./tcp-load.ts";
import { pin, WorkerClock } from "./worker.ts";

const BULK_BYTES = 256 * 1024 * 1024;
const ROUND_TRIPS = 5000;
const SHORT_CONNECTIONS = 500;
const DEFAULT_ROUNDS = 30;
const IDLE_CONNECTIONS = 10_000;
const TICK_SECONDS = 5;
const TICKS_WATCHED = 6;

const ALONE = "tcp_proxy alone";
const OUTBOUND = "filter, outbound";
const EXCHANGING = "filter, outbound, with the exchange";
const INBOUND = "filter, inbound";
const ECHO: Config = {
  name: "envoy.filters.network.echo",
  typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo" },
};
const FILTERED: readonly string[] = [OUTBOUND, EXCHANGING, INBOUND];

/** What one slice took. */
interface Cost {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

/** What a slice does with a listener. */
type Slice = (port: number) => Promise<void>;

const BULK: Readonly<Record<string, Slice>> = {
  "bulk, to the client": (port) => download(port, BULK_BYTES),
  "bulk, to the server": (port) => upload(port, BULK_BYTES),
};
/** Slices that are so many times the same. */
const REPEATED: Readonly<Record<string, { readonly times: number; readonly slice: Slice }>> = {
  messages: { times: ROUND_TRIPS, slice: (port) => roundTrips(port, ROUND_TRIPS) },
  connections: {
    times: SHORT_CONNECTIONS,
    slice: async (port) => {
      for (let i = 0; i < SHORT_CONNECTIONS; i++) await roundTrips(port, 1);
    },
  },
};

/** `last`: the filter that ends each chain. */
function variants(last: Config): Variant[] {
  const wasm = filterWasmPath();
  const always: Config = { metadata_exchange: { tcp: { send: "always" } } };
  return [
    { name: ALONE, direction: "OUTBOUND", networkFilters: [last] },
    { name: OUTBOUND, direction: "OUTBOUND", networkFilters: [tcpFilterConfig("outbound", wasm), last] },
    { name: EXCHANGING, direction: "OUTBOUND", networkFilters: [tcpFilterConfig("outbound", wasm, always), last] },
    { name: INBOUND, direction: "INBOUND", networkFilters: [tcpFilterConfig("inbound", wasm), last] },
  ];
}

async function main(rounds: number, only: RegExp): Promise<void> {
  await measureTraffic(rounds, only);
  if (only.test("ticks")) await measureTicks();
}

async function measureTraffic(rounds: number, only: RegExp): Promise<void> {
  const upstream = await startTcpUpstream();
  const all = variants(tcpProxyConfig(CLUSTER));
  const envoy = await BenchEnvoy.start(all, portOf(upstream));
  try {
    const isPinned = pin(envoy.pid);
    const clock = new WorkerClock(envoy.pid);
    console.log(`${cpus().length} cores, load ${loadavg()[0]?.toFixed(2)}, ${isPinned ? "pinned" : "not pinned"}`);
    for (const [name, slice] of Object.entries(BULK)) {
      if (only.test(name)) reportBulk(name, await measure(all, envoy.ports, slice, clock, rounds));
    }
    for (const [name, { times, slice }] of Object.entries(REPEATED)) {
      if (only.test(name)) reportRepeated(name, times, await measure(all, envoy.ports, slice, clock, rounds));
    }
  } finally {
    envoy.stop();
    upstream.close();
  }
}

/** The costs of each variant's slices, round by round. The first round warms up and is left out. */
async function measure(
  all: readonly Variant[],
  ports: readonly number[],
  slice: Slice,
  clock: WorkerClock,
  rounds: number,
): Promise<ReadonlyMap<string, Cost[]>> {
  const costs = new Map<string, Cost[]>(all.map(({ name }) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    for (const index of shuffled(all.length)) {
      const cpu = clock.read();
      const start = performance.now();
      await slice(ports[index] as number);
      const cost = { seconds: (performance.now() - start) / 1e3, cpuSeconds: (clock.read() - cpu) / 1e9 };
      if (round > 0) costs.get((all[index] as Variant).name)?.push(cost);
    }
  }
  return costs;
}

function shuffled(count: number): number[] {
  return Array.from({ length: count }, (_, index) => ({ index, key: Math.random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ index }) => index);
}

function reportBulk(title: string, costs: ReadonlyMap<string, Cost[]>): void {
  const mib = BULK_BYTES / 1024 / 1024;
  const of = (name: string, key: keyof Cost) => (costs.get(name) ?? []).map((cost) => cost[key]);
  console.log(`\n${title}: ${(mib / median(of(ALONE, "seconds"))).toFixed(0)} MiB/s with ${ALONE}`);
  for (const name of FILTERED) {
    // Throughput is the inverse of time, so its ratio is that of the times the other way round.
    const said = (["seconds", "cpuSeconds"] as const).map((key) => {
      const { low, high } = ratioInterval(of(ALONE, key), of(name, key));
      return `${ratio(of(ALONE, key), of(name, key)).toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})`;
    });
    console.log(`  ${name}: ${said[0]} of its throughput, ${said[1]} by the worker's CPU`);
  }
}

function reportRepeated(title: string, times: number, costs: ReadonlyMap<string, Cost[]>): void {
  const each = (name: string) => (costs.get(name) ?? []).map(({ cpuSeconds }) => (cpuSeconds / times) * 1e6);
  console.log(`\n${title}: ${median(each(ALONE)).toFixed(1)} us each with ${ALONE}`);
  for (const name of FILTERED) {
    const added = each(name).map((cost, round) => cost - (each(ALONE)[round] as number));
    const { low, high } = medianInterval(added);
    console.log(`  ${name}: ${median(added).toFixed(1)} us more (${low.toFixed(1)} to ${high.toFixed(1)})`);
  }
}

/**
 * Opens idle connections and watches what the worker does. Each has carried a byte, so that it is counted and known. An echo ends the chain
 * instead of a TCP proxy: a connection takes one file descriptor of Envoy then, of which systems allow 20,000.
 */
async function measureTicks(): Promise<void> {
  const all = variants(ECHO).filter(({ name }) => name !== EXCHANGING);
  const envoy = await BenchEnvoy.start(all, 1);
  console.log(`\n${IDLE_CONNECTIONS} idle connections, the worker's CPU per ${TICK_SECONDS} s:`);
  try {
    pin(envoy.pid);
    for (const [index, { name }] of all.entries()) {
      const perTick = await watchIdle(envoy.ports[index] as number, new WorkerClock(envoy.pid));
      console.log(`  ${name}: ${median(perTick).toFixed(2)} ms (${Math.min(...perTick).toFixed(2)} at least)`);
    }
  } finally {
    envoy.stop();
  }
}

/** Milliseconds of each interval. */
async function watchIdle(port: number, clock: WorkerClock): Promise<number[]> {
  const lines: Line[] = await openLines(port, IDLE_CONNECTIONS);
  await sleep(2 * TICK_SECONDS * 1000);
  const perTick: number[] = [];
  for (let tick = 0; tick < TICKS_WATCHED; tick++) {
    const before = clock.read();
    await sleep(TICK_SECONDS * 1000);
    perTick.push((clock.read() - before) / 1e6);
  }
  for (const line of lines) line.close();
  await sleep(1000);
  return perTick;
}

const { values } = parseArgs({ options: { rounds: { type: "string" }, only: { type: "string" } } });
await main(Number(values.rounds ?? DEFAULT_ROUNDS), new RegExp(values.only ?? ""));
