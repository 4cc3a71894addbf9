// A sidecar is killed with SIGKILL in the middle of traffic and started again: counts neither go down nor double.

import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Mesh } from "../../demo/mesh.ts";
import { collectorSamples, counts, edges, proxySamples, settled, startTestMesh, total, truth } from "./observed.ts";

const VICTIM = "reviews-v2";

let mesh: Mesh;

beforeAll(async () => {
  mesh = await startTestMesh({ faults: false });
});
afterAll(() => mesh?.stop());

/** Sends until told to stop; failures are what a killed sidecar is for. */
function startClient(): () => Promise<void> {
  let isRunning = true;
  const running = (async () => {
    while (isRunning) await mesh.request().catch(() => undefined);
  })();
  return () => {
    isRunning = false;
    return running;
  };
}

/** Reads /metrics over and over; the series that went down between two readings. */
function startWatch(): () => Promise<string[]> {
  let isRunning = true;
  const watching = (async () => {
    const drops: string[] = [];
    let before: Record<string, number> = {};
    while (isRunning) {
      const now = counts(await collectorSamples(mesh));
      for (const [series, value] of Object.entries(before)) {
        if ((now[series] ?? 0) < value) drops.push(`${series}: ${value} -> ${now[series]}`);
      }
      before = now;
      await sleep(100);
    }
    return drops;
  })();
  return () => {
    isRunning = false;
    return watching;
  };
}

/** Requests that the victim's proxy reported as their destination. */
function reportedByVictim(samples: Parameters<typeof edges>[0]): number {
  const arrived = Object.entries(edges(samples, "destination")).filter(([edge]) => edge.includes(`-> ${VICTIM} `));
  return total(Object.fromEntries(arrived));
}

/** What the victim's application counted. */
function arrivedAtVictim(): number {
  return total(Object.fromEntries(Object.entries(truth(mesh)).filter(([edge]) => edge.includes(`-> ${VICTIM} `))));
}

test("after kill -9 and a restart nothing went down, nothing doubled, and only what nobody had seen is lost", async () => {
  const stopClient = startClient();
  const stopWatch = startWatch();
  await sleep(4000);
  const seenBefore = reportedByVictim(await collectorSamples(mesh));
  expect(seenBefore).toBeGreaterThan(0);

  await mesh.kill(VICTIM);
  const shownAtDeath = arrivedAtVictim();
  await sleep(1500);
  await mesh.restart(VICTIM);
  await sleep(5000);
  await stopClient();

  // Of its new life everything is shown in the end, of its old life at least what the collector had seen before.
  const ownNow = () => proxySamples(mesh, [VICTIM]);
  const newLife = reportedByVictim(await settled(ownNow, () => true));
  const final = await settled(
    () => collectorSamples(mesh),
    (samples) => reportedByVictim(samples) >= seenBefore + newLife,
  );
  expect(await stopWatch()).toEqual([]);

  expect(newLife).toBeGreaterThan(0);
  expect(reportedByVictim(final)).toBeGreaterThanOrEqual(seenBefore + newLife);
  expect(reportedByVictim(final)).toBeLessThanOrEqual(arrivedAtVictim());
  expect(reportedByVictim(final) - newLife).toBeLessThanOrEqual(shownAtDeath);
}, 60_000);

test("all other proxies stay exact", async () => {
  const survivors = mesh.workloads.filter(({ name }) => name !== VICTIM).map(({ name }) => name);
  const isOwn = (series: string) =>
    !series.includes(`destination_workload="${VICTIM}"`) && !series.includes(`source_workload="${VICTIM}"`);
  const onlyOwn = (all: Record<string, number>) =>
    Object.fromEntries(Object.entries(all).filter(([series]) => isOwn(series)));
  const own = onlyOwn(
    counts(
      await settled(
        () => proxySamples(mesh, survivors),
        () => true,
      ),
    ),
  );
  const collected = onlyOwn(
    counts(
      await settled(
        () => collectorSamples(mesh),
        (samples) => total(onlyOwn(counts(samples))) >= total(own),
      ),
    ),
  );
  expect(collected).toEqual(own);
});
