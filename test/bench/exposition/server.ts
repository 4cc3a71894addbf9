// A WebServer with a filled store, in a process of its own: node server.js LINES. It tells its port, and of each scrape what it cost.

import { monitorEventLoopDelay } from "node:perf_hooks";
import { SuccessPolicies } from "../../../collector/analysis/policy.ts";
import { SelfMetrics } from "../../../collector/self.ts";
import { ServiceGraph } from "../../../collector/service-graph/graph.ts";
import { WebServer } from "../../../collector/web/server.ts";
import { fillStore, readingsOf, unused } from "./series.ts";

/** From the server: once when it listens, then after each "read". */
export type ServerNotice =
  | { readonly kind: "listening"; readonly port: number; readonly lines: number }
  | { readonly kind: "measured"; readonly longestBlockMs: number };

const RESOLUTION_MS = 1;

async function serve(lineCount: number): Promise<void> {
  const { store, lines } = fillStore(lineCount);
  const log = { info: () => {}, warn: console.error, error: console.error };
  const self = new SelfMetrics("bench");
  const server = new WebServer({
    host: "127.0.0.1",
    port: 0,
    policies: new SuccessPolicies([]),
    readings: readingsOf(store),
    destinationRule: "certain",
    hasPods: false,
    proxyStats: null,
    metricsAccounts: null as never,
    labelSets: 1_000_000,
    buckets: [],
    graph: new ServiceGraph(store, 10),
    taps: { stop: () => {} } as never,
    otlpLogs: unused,
    ai: { render: () => [] as never },
    logs: null,
    identities: { find: unused } as never,
    scrapeStatuses: () => [],
    self,
    pending: () => [],
    version: "bench",
    log,
  });
  const port = await server.start();
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  process.on("message", (message) => {
    if (message === "reset") delay.reset();
    else {
      // Between two looks is always the resolution itself.
      const longestBlockMs = Math.max(0, delay.max / 1e6 - RESOLUTION_MS);
      process.send?.({ kind: "measured", longestBlockMs } satisfies ServerNotice);
    }
  });
  process.send?.({ kind: "listening", port, lines } satisfies ServerNotice);
}

await serve(Number(process.argv[2]));
