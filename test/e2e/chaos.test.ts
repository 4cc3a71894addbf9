// Chaos on real Envoys: proxies are killed and stand still, the collector is killed or stopped, its log streams break all the time. Whatever
// is read of it is never above the truth and never goes down; and in the end it is the truth.
//
//   npm run test:chaos                   3 minutes
//   CHAOS_SECONDS=600 SEED=7 npm run test:chaos

import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Mesh } from "../../demo/mesh.ts";
import { random } from "../property/random.ts";
import type { Sample } from "./exposition.ts";
import { collectorSamples, counts, proxySamples, settled, startTestMesh, total } from "./observed.ts";

const SECONDS = Number(process.env["CHAOS_SECONDS"] ?? 15);
const SEED = Number(process.env["SEED"] ?? 20261121);
/** Who is killed; all others only stand still. */
const VICTIMS = ["reviews-v2", "details-v1"];
const IN_PARALLEL = 3;
/** Proxies show what histograms gained every 5 s, and one that stood still a while later. */
const HISTOGRAM_FLUSH_MS = 7000;

let mesh: Mesh;
const crashes: string[] = [];

beforeAll(async () => {
  mesh = await startTestMesh({
    faults: false,
    collectorConfig: {
      state: { folder: "state", interval: "300ms" },
      grpc: { max_stream_age: "2s" },
    },
    onCrash: (name, failure) => crashes.push(`${name}: ${failure.message}`),
  });
});
afterAll(() => mesh?.stop());

/** Whose report a sample is of. */
function reporterOf({ labels }: Sample): string {
  return (labels["reporter"] === "source" ? labels["source_workload"] : labels["destination_workload"]) ?? "";
}

/** Requests by the workload that took them, as its own proxy tells. */
function arrivals(samples: readonly Sample[]): Map<string, number> {
  const sums = new Map<string, number>();
  for (const { name, labels, value } of samples) {
    if (name !== "istio_requests_total" || labels["reporter"] !== "destination") continue;
    const workload = labels["destination_workload"] ?? "";
    sums.set(workload, (sums.get(workload) ?? 0) + value);
  }
  return sums;
}

/** The same, as the applications counted it. */
function arrived(): Map<string, number> {
  const sums = new Map<string, number>();
  for (const { destination, requests } of mesh.counts()) sums.set(destination, (sums.get(destination) ?? 0) + requests);
  return sums;
}

/** Until told to stop: what is there is read again and again, and each thing that must not be seen is told. */
function startWatch(): () => Promise<{ readonly faults: readonly string[]; readonly readings: number }> {
  let isRunning = true;
  const watching = (async () => {
    const faults: string[] = [];
    let readings = 0;
    let before: Record<string, number> = {};
    while (isRunning) {
      await sleep(100);
      const samples = await collectorSamples(mesh).catch(() => null); // it is being restarted
      if (samples === null) continue;
      readings++;
      const truth = arrived(); // after it was read, so that it is as much at least
      for (const [workload, count] of arrivals(samples)) {
        const limit = truth.get(workload);
        if (limit !== undefined && count > limit) faults.push(`${workload}: ${count}, above the truth ${limit}`);
      }
      const now = counts(samples);
      for (const [series, value] of Object.entries(before)) {
        if ((now[series] ?? 0) < value) faults.push(`${series}: ${value} -> ${now[series]}`);
      }
      before = now;
    }
    return { faults, readings };
  })();
  return () => {
    isRunning = false;
    return watching;
  };
}

function startClients(): () => Promise<unknown> {
  let isRunning = true;
  const client = async () => {
    while (isRunning) await mesh.request().catch(() => sleep(20));
  };
  const running = Promise.all(Array.from({ length: IN_PARALLEL }, client));
  return () => {
    isRunning = false;
    return running;
  };
}

/** One thing that goes wrong. */
async function trouble(next: () => number): Promise<string> {
  const of = <Each>(all: readonly Each[]) => all[Math.floor(next() * all.length)] as Each;
  const dice = next();
  await sleep(next() * 1000);
  if (dice < 0.35) {
    await mesh.restartCollector("SIGKILL");
    return "collector killed";
  }
  if (dice < 0.45) {
    await mesh.restartCollector("SIGTERM");
    return "collector stopped";
  }
  if (dice < 0.7) {
    const victim = of(VICTIMS);
    await mesh.kill(victim);
    await sleep(next() * 500);
    await mesh.restart(victim);
    return `${victim} killed`;
  }
  const { pid, name } = of(mesh.workloads);
  process.kill(pid, "SIGSTOP"); // it answers no scrape meanwhile, nor does it send its log
  await sleep(500 + next() * 1500);
  process.kill(pid, "SIGCONT");
  return `${name} stood still`;
}

test(`${SECONDS} s of trouble, seed ${SEED}: never above the truth, never down, and the truth in the end`, {
  timeout: (SECONDS + 120) * 1000,
}, async () => {
  const next = random(SEED);
  const stopWatch = startWatch();
  const stopClients = startClients();
  const untilMs = performance.now() + SECONDS * 1000;
  const done: string[] = ["collector killed"];
  await sleep(2000);
  await mesh.restartCollector("SIGKILL");
  while (performance.now() < untilMs) done.push(await trouble(next));
  await stopClients();

  const survivors = mesh.workloads.map(({ name }) => name).filter((name) => !VICTIMS.includes(name));
  await sleep(HISTOGRAM_FLUSH_MS);
  const own = counts(await proxySamples(mesh, survivors));
  const ofSurvivors = (samples: readonly Sample[]) =>
    counts(samples.filter((sample) => survivors.includes(reporterOf(sample))));
  const collected = await settled(
    () => collectorSamples(mesh),
    (samples) => total(ofSurvivors(samples)) >= total(own),
  );
  const { faults, readings } = await stopWatch();
  console.log(`${readings} readings; ${done.join(", ")}`);
  expect(faults).toEqual([]);
  expect(crashes).toEqual([]);
  expect(readings).toBeGreaterThan(SECONDS / 4);
  expect(ofSurvivors(collected)).toEqual(own);

  // Of those that were killed: what they show now was counted, and nothing that did not happen.
  const victims = arrivals(await proxySamples(mesh, VICTIMS));
  for (const [workload, shown] of victims) {
    expect(arrivals(collected).get(workload)).toBeGreaterThanOrEqual(shown);
    expect(arrivals(collected).get(workload)).toBeLessThanOrEqual(arrived().get(workload) ?? 0);
  }
  expect(total(own)).toBeGreaterThan(1000);
});
