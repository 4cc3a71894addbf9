// Whether two variants do the same job: the requests of each must count up the same istio_requests_total, label by label.

import { setTimeout as sleep } from "node:timers/promises";
import { LABELS } from "../../collector/vocabulary.ts";
import type { BenchEnvoy } from "./bench-envoy.ts";
import type { Client } from "./load.ts";

const METRIC = "istio_requests_total";
const REQUESTS = 100;
const TRIES = 50;
const PAUSE_MS = 100;

type LabelValues = ReadonlyMap<string, string>;

/**
 * The labels in which the series of the two differ, as `response_code: "200", "0"`; empty when they count the same.
 * Throws when one of them does not count each request once, in one series.
 */
export async function differingLabels(envoy: BenchEnvoy, one: Client, other: Client): Promise<string[]> {
  const left = await countedLabels(envoy, one);
  const right = await countedLabels(envoy, other);
  return LABELS.filter((label) => left.get(label) !== right.get(label)).map(
    (label) => `${label}: ${JSON.stringify(left.get(label))}, ${JSON.stringify(right.get(label))}`,
  );
}

/** The labels of the series that this client's requests count up. */
async function countedLabels(envoy: BenchEnvoy, client: Client): Promise<LabelValues> {
  const before = await readCounts(envoy);
  await client.run(REQUESTS);
  // The last logs may be written after their answers have arrived.
  let risen: [string, number][] = [];
  for (let tries = 0; tries < TRIES; tries++) {
    const after = await readCounts(envoy);
    risen = [...after].map(([series, count]): [string, number] => [series, count - (before.get(series) ?? 0)]);
    risen = risen.filter(([, count]) => count > 0);
    if (risen.length === 1 && risen[0]?.[1] === REQUESTS) return parseLabels(risen[0][0]);
    await sleep(PAUSE_MS);
  }
  const counted = risen.map(([series, count]) => `${count} in ${series}`).join("\n  ");
  throw new Error(`${REQUESTS} requests were not counted once each in one series:\n  ${counted || "none"}`);
}

async function readCounts(envoy: BenchEnvoy): Promise<Map<string, number>> {
  const lines = (await envoy.stats(METRIC)).filter((line) => line.startsWith(`${METRIC}{`));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.split(" ").at(-1))]));
}

function parseLabels(series: string): LabelValues {
  return new Map([...series.matchAll(/(\w+)="([^"]*)"/g)].map(([, label = "", value = ""]) => [label, value]));
}
