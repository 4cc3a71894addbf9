// `npm start`: the local mesh with traffic, and what Meshtally makes of it, until Ctrl-C or for a while.

import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { findEnvoy } from "../envoy/binary.ts";
import { ArgumentError, type DemoArguments, parseDemoArguments, USAGE } from "./arguments.ts";
import { fetchGraph, type Graph } from "./graph.ts";
import { LiveTable } from "./live-table.ts";
import { type Mesh, startMesh } from "./mesh.ts";

const WINDOW_SECONDS = 10;
const REDRAW_MS = 1000;
const ENDING_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
type EndingSignal = (typeof ENDING_SIGNALS)[number];

/** Why a run ends before its time: a signal, or a part that cannot be replaced. */
type Ending = { readonly signal: EndingSignal } | { readonly failure: Error };

async function main(): Promise<number> {
  const args = readArguments();
  if (typeof args === "number") return args;
  if (process.platform !== "linux") {
    process.stderr.write(
      `the local mesh needs Linux (addresses 127.0.x.y without set-up), and this is ${process.platform}\n`,
    );
    return 1;
  }
  const ending = new AbortController();
  const view = new LiveTable(process.stdout);
  let mesh: Mesh | null = null;
  for (const signal of ENDING_SIGNALS) {
    process.on(signal, () => {
      // npm passes on a Ctrl-C that the terminal has sent already, so a second one only hurries.
      if (ending.signal.aborted) mesh?.destroy();
      ending.abort({ signal } satisfies Ending);
    });
  }
  const onCrash = (name: string, failure: Error) => {
    if (ending.signal.aborted) return;
    if (name === "collector" || mesh === null) return ending.abort({ failure } satisfies Ending);
    view.note(`${failure.message}\nstarting the proxy of ${name} again`);
    mesh.restart(name).catch((error: Error) => ending.abort({ failure: error } satisfies Ending));
  };
  try {
    const startedAt = performance.now();
    const envoy = await findEnvoy({ log: (line) => view.note(line), signal: ending.signal });
    const { requestsPerSecond } = args;
    mesh = await startMesh({ envoy, requestsPerSecond, onCrash, signal: ending.signal });
    printAddresses(mesh, envoy, performance.now() - startedAt);
    return await watch(mesh, args, view, ending.signal);
  } catch (error: unknown) {
    return exitCode(ending.signal, error);
  } finally {
    await mesh?.stop();
  }
}

function readArguments(): DemoArguments | number {
  try {
    const args = parseDemoArguments(process.argv.slice(2));
    if (!args.help) return args;
    process.stdout.write(`${USAGE}\n`);
    return 0;
  } catch (error: unknown) {
    if (!(error instanceof ArgumentError)) throw error;
    process.stderr.write(`${error.message}\n${USAGE}\n`);
    return 2;
  }
}

/** 130 after Ctrl-C, as shells have it; 1 after a failure, whose message is printed. */
function exitCode(ending: AbortSignal, error: unknown): number {
  const reason = ending.aborted ? (ending.reason as Ending) : null;
  if (reason !== null && "signal" in reason) return 128 + constants.signals[reason.signal];
  const failure = reason?.failure ?? error;
  process.stderr.write(`${failure instanceof Error ? failure.message : String(failure)}\n`);
  return 1;
}

function printAddresses(mesh: Mesh, envoy: string, startMs: number): void {
  const { gatewayUrl, collector, workloads } = mesh;
  const admins = workloads.map(({ name, adminUrl }) => `  ${name.padEnd(17)}${adminUrl}`);
  process.stdout.write(
    `${[
      `${workloads.length} proxies of ${envoy} were ready after ${(startMs / 1000).toFixed(1)} s.`,
      `  product page     ${gatewayUrl}/productpage`,
      `  metrics          ${collector?.url}/metrics`,
      `  graph            ${collector?.url}/api/v1/graph?window=60s`,
      `  indicators       ${collector?.url}/api/v1/indicators`,
      "Envoy's own pages:",
      ...admins,
      "",
    ].join("\n")}\n`,
  );
}

/** Shows the edges each second until the time is up; gives the exit code. Throws when the run is ended before. */
async function watch(mesh: Mesh, args: DemoArguments, view: LiveTable, ending: AbortSignal): Promise<number> {
  const startedAt = performance.now();
  const { forMs } = args;
  for (;;) {
    const elapsedMs = performance.now() - startedAt;
    const leftMs = forMs === null ? Number.POSITIVE_INFINITY : forMs - elapsedMs;
    if (leftMs <= 0) break;
    await sleep(Math.min(REDRAW_MS, leftMs), undefined, { signal: ending });
    const graph = await currentGraph(mesh, view);
    const time = `${Math.round((performance.now() - startedAt) / 1000)} s since start`;
    if (graph !== null) view.show(graph, `last ${WINDOW_SECONDS} s, ${time}; Ctrl-C stops`);
  }
  const graph = await currentGraph(mesh, view);
  if (graph === null) return 1;
  view.show(graph, `final table, last ${WINDOW_SECONDS} s`, true);
  if (view.isShown || args.requestsPerSecond === 0) return 0;
  process.stderr.write("no request was counted\n");
  return 1;
}

async function currentGraph(mesh: Mesh, view: LiveTable): Promise<Graph | null> {
  if (mesh.collector === null) return null;
  try {
    return await fetchGraph(mesh.collector.url, WINDOW_SECONDS);
  } catch (error: unknown) {
    view.note(error instanceof Error ? error.message : String(error));
    return null;
  }
}

process.exitCode = await main();
