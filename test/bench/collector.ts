// What one access-log entry costs the collector, end to end: a client process sends over gRPC on loopback, this process receives,
// decodes and counts. Prints entries per second and CPU microseconds per entry, median and spread over interleaved slices.
//
//   npm run bench:collector

import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { silentLog } from "../../collector/log.ts";
import { AlsReceiver } from "../../collector/receiver/als.ts";
import { GrpcServer } from "../../collector/receiver/grpc.ts";
import { SelfMetrics } from "../../collector/self.ts";
import { SeriesStore } from "../../collector/series/store.ts";
import { ENTRIES_PER_MESSAGE, encodeLoad, LOAD_PATHS, type LoadPath, runLoad, STREAMS } from "./als-load.ts";

const SLICE_MS = 1500;
const SETTLE_MS = 500;
const SLICES = 7;
const LOAD_ARGUMENT = "load";

interface Slice {
  readonly entriesPerSecond: number;
  readonly cpuUsPerEntry: number;
}

if (process.argv[2] === LOAD_ARGUMENT) runLoad(Number(process.argv[3]));
else await measure();

async function measure(): Promise<void> {
  const store = new SeriesStore({
    proxies: 1000,
    labelSets: 50_000,
    cells: 500_000,
    connections: 100,
    retireAfterMs: 60_000,
  });
  let counted = 0;
  const receiver = new AlsReceiver({
    sink: (record) => {
      counted++;
      return store.observe(record);
    },
    connectionSink: (record) => store.observeConnection(record),
    self: new SelfMetrics("bench"),
    log: silentLog,
  });
  const server = new GrpcServer({ address: "127.0.0.1:0", log: silentLog });
  receiver.register(server);
  const port = await server.start();
  const client = fork(fileURLToPath(import.meta.url), [LOAD_ARGUMENT, String(port)]);

  const slices: Record<LoadPath, Slice[]> = { observation: [], derived: [] };
  // The first round warms up: it is measured and thrown away.
  for (let round = 0; round <= SLICES; round++) {
    for (const path of LOAD_PATHS) {
      client.send(path);
      await sleep(SETTLE_MS);
      const slice = await measureSlice(() => counted);
      if (round > 0) slices[path].push(slice);
    }
  }
  client.disconnect();
  await server.stop(0);
  report(slices, store.http.series.length);
}

async function measureSlice(counted: () => number): Promise<Slice> {
  const before = counted();
  const startedMs = performance.now();
  const cpu = process.cpuUsage();
  await sleep(SLICE_MS);
  const { user, system } = process.cpuUsage(cpu);
  const seconds = (performance.now() - startedMs) / 1000;
  const entries = counted() - before;
  return { entriesPerSecond: entries / seconds, cpuUsPerEntry: (user + system) / entries };
}

function report(slices: Record<LoadPath, readonly Slice[]>, labelSets: number): void {
  console.log(`access-log path: ${STREAMS} streams, ${ENTRIES_PER_MESSAGE} entries a message, ${labelSets} label sets`);
  for (const path of LOAD_PATHS) {
    const bytes = encodeLoad(0, path).reduce((sum, message) => sum + message.length / ENTRIES_PER_MESSAGE, 0);
    const perEntry = Math.round(bytes / encodeLoad(0, path).length);
    const rate = spread(slices[path].map((slice) => slice.entriesPerSecond / 1000));
    const cpu = spread(slices[path].map((slice) => slice.cpuUsPerEntry));
    console.log(`  ${path.padEnd(12)} ${perEntry} bytes an entry   ${rate} k entries/s   ${cpu} us CPU an entry`);
  }
}

/** `5.10 (4.90 - 5.40)`: the median, and between what the slices lay. */
function spread(values: readonly number[]): string {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (index: number) => (sorted[index] ?? Number.NaN).toFixed(2);
  return `${at(Math.floor(sorted.length / 2))} (${at(0)} - ${at(sorted.length - 1)})`;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
