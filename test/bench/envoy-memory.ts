// The RSS of a real Envoy as label sets are added: the stats themselves cost more than the filter.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { BenchEnvoy, type Variant } from "./bench-envoy.ts";
import { Client, portOf, requestTo, startUpstream } from "./load.ts";

/** After how many label sets to look. */
export const LABEL_SET_STEPS: readonly number[] = [0, 100, 1000, 2000, 4000];
/** Requests of one label set that warm up connections and the VM before the first look. */
const WARM_UP = 200;
/** Envoy merges histograms at each flush of stats, every 5 s, and sets memory aside for it at the first. */
const SETTLE_MS = 11_000;
/** In the name of the counter, the filter's and that of Envoy's logger alike. */
const COUNTER = "requests_total";

/** Bytes of RSS after each of LABEL_SET_STEPS. Throws when the label sets did not come about. */
export async function envoyMemory(variant: Variant): Promise<number[]> {
  const upstream = await startUpstream();
  const envoy = await BenchEnvoy.start([variant], portOf(upstream));
  let host = 0;
  let isWarm = false;
  const client = new Client(envoy.ports[0] as number, () =>
    requestTo(isWarm ? `service-${host++}.default.svc.cluster.local:9080` : "warm-up:9080", false),
  );
  try {
    await client.open();
    await client.run(WARM_UP);
    isWarm = true;
    const bytes: number[] = [];
    for (const labelSets of LABEL_SET_STEPS) {
      if (labelSets > host) await client.run(labelSets - host);
      await sleep(SETTLE_MS);
      bytes.push(rssBytes(envoy.pid));
    }
    const series = (await envoy.stats(COUNTER)).length;
    if (series !== host + 1) throw new Error(`${variant.name}: ${series} label sets instead of ${host + 1}`);
    return bytes;
  } finally {
    client.close();
    envoy.stop();
    upstream.close();
  }
}

function rssBytes(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  if (kib === undefined) throw new Error(`process ${pid} has no RSS`);
  return Number(kib) * 1024;
}
