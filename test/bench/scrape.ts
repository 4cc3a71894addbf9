// What it costs to read many proxies: the whole collector scrapes simulated ones, which another process serves, every 15 s. The issue's
// bounds for 1,000 proxies with 200 label sets each: half of one core, and 1 GB.
//
// Run: npm run bench:scrape -- [--form protobuf|text] [--proxies 1000] [--rounds 2]

import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { loadConfig } from "../../collector/config/load.ts";
import { silentLog } from "../../collector/log.ts";
import { startCollector } from "../../collector/pipeline.ts";
import { LABEL_SETS } from "./proxy-stats.ts";

const INTERVAL_MS = 15_000;
/** Proxies that show the same label sets: those of one workload. */
const REPLICAS = 4;

const { values } = parseArgs({
  options: {
    form: { type: "string", default: "protobuf" },
    proxies: { type: "string", default: "1000" },
    rounds: { type: "string", default: "2" },
  },
});
const proxies = Number(values.proxies);
const rounds = Number(values.rounds);

const script = join(import.meta.dirname, "scrape-targets.js");
const workloads = String(Math.ceil(proxies / REPLICAS));
const served = spawn(process.execPath, [script, values.form, workloads], { stdio: ["ignore", "pipe", "inherit"] });
const [port] = (await once(served.stdout, "data")) as [Buffer];

const config = loadConfig({ path: null, env: {} });
const targets = Array.from(
  { length: proxies },
  (_, proxy) => `http://127.1.${proxy >> 8}.${proxy & 255}:${Number(port.toString())}`,
);
process.on("exit", () => served.kill());
const collector = await startCollector(
  {
    ...config,
    grpc: { ...config.grpc, address: { host: "127.0.0.1", port: 0 } },
    http: { address: { host: "127.0.0.1", port: 0 } },
    scrape: { ...config.scrape, targets, intervalMs: INTERVAL_MS, timeoutMs: 10_000 },
  },
  () => silentLog,
);

let mostRss = 0;
const sampling = setInterval(() => {
  mostRss = Math.max(mostRss, process.memoryUsage.rss());
}, 500);
await sleep(INTERVAL_MS * 1.2); // the first round, and what is made once
const cpuBefore = process.cpuUsage();
const began = performance.now();
await sleep(INTERVAL_MS * rounds);
const { user, system } = process.cpuUsage(cpuBefore);
const seconds = (performance.now() - began) / 1000;
clearInterval(sampling);

const receivers = await (await fetch(`http://${collector.httpAddress}/api/v1/receivers`)).text();
const results = new Map<string, number>();
for (const [, result = ""] of receivers.matchAll(/"result":\s*"?(\w+)/g))
  results.set(result, (results.get(result) ?? 0) + 1);
if (results.get("ok") !== proxies) throw new Error(`not all proxies were read: ${JSON.stringify([...results])}`);
console.log(`${proxies} proxies x ${LABEL_SETS} label sets, ${values.form}, every ${INTERVAL_MS / 1000} s`);
console.log(
  `of one core   ${((user + system) / 1e4 / seconds).toFixed(1)} % (user ${(user / 1e4 / seconds).toFixed(1)})`,
);
console.log(`memory        ${(mostRss / 1e6).toFixed(0)} MB at most`);
await collector.stop();
process.exit();
