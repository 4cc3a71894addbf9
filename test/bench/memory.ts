// npm run bench:memory [-- [--requests N] [--skip-envoy]]: what the filter holds in memory. Nothing here is timed; all of it takes a
// quarter of an hour.
//
// The wasm in the test host: its memory with 1,000 label sets, then over N requests (5 million) in which peers, hosts, clusters
// and codes come and go; the bench fails if it grows after the first tenth. Then the RSS of a real Envoy as label sets are added, counted
// by the filter and by Envoy's native stats logger.

import { parseArgs } from "node:util";
import { envoyMemory, LABEL_SET_STEPS } from "./envoy-memory.ts";
import { memoryVariants } from "./variants.ts";
import { CHECKPOINTS, churnMemory, LABEL_SETS, MIN_CHURN_REQUESTS, memoryAtLabelSets } from "./wasm-memory.ts";

const DEFAULT_REQUESTS = 5_000_000;
const TARGET_BYTES = 2 * 1024 * 1024;
const KIB = 1024;

function mebibytes(bytes: number): string {
  return `${(bytes / KIB / KIB).toFixed(2)} MiB`;
}

function reportLabelSets(): void {
  for (const { direction, bytes, headerBytes } of memoryAtLabelSets()) {
    const verdict = bytes <= TARGET_BYTES ? "target reached" : "target MISSED";
    console.log(
      `${direction}, ${LABEL_SETS} label sets of as many peers (headers of ${headerBytes} bytes): ${mebibytes(bytes)} ` +
        `of wasm memory, ${verdict} (${mebibytes(TARGET_BYTES)})`,
    );
  }
}

/** Whether the memory stayed what it was after the first tenth. */
function reportChurn(requests: number): boolean {
  let isFlat = true;
  for (const { direction, bytes, counted } of churnMemory(requests)) {
    const grew = bytes.slice(1).some((one) => one > (bytes[0] as number));
    if (grew || counted !== requests) isFlat = false;
    console.log(
      `${direction}, ${counted} of ${requests} requests counted, memory after each ${CHECKPOINTS}th: ` +
        `${bytes.map(mebibytes).join(", ")}${grew ? "  GREW after the first" : ""}`,
    );
  }
  return isFlat;
}

async function reportEnvoy(): Promise<void> {
  for (const variant of memoryVariants()) {
    const rssBytes = await envoyMemory(variant);
    console.log(`\n${variant.name}\n| label sets | RSS | KiB per label set |\n| --- | --- | --- |`);
    for (const [i, labelSets] of LABEL_SET_STEPS.entries()) {
      const bytes = rssBytes[i] as number;
      const each = labelSets === 0 ? "" : ((bytes - (rssBytes[0] as number)) / labelSets / KIB).toFixed(1);
      console.log(`| ${labelSets} | ${mebibytes(bytes)} | ${each} |`);
    }
  }
}

interface Arguments {
  readonly requests: number;
  readonly skipsEnvoy: boolean;
}

function argumentsOrExit(): Arguments {
  try {
    const { values } = parseArgs({ options: { requests: { type: "string" }, "skip-envoy": { type: "boolean" } } });
    const requests = Number(values.requests ?? DEFAULT_REQUESTS);
    if (Number.isInteger(requests) && requests >= MIN_CHURN_REQUESTS) {
      return { requests, skipsEnvoy: values["skip-envoy"] ?? false };
    }
    console.error(`--requests ${values.requests}: no whole number of at least ${MIN_CHURN_REQUESTS}`);
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}`);
  }
  console.error("usage: bench:memory [-- [--requests N] [--skip-envoy]]");
  process.exit(2);
}

const { requests, skipsEnvoy } = argumentsOrExit();
reportLabelSets();
if (!reportChurn(requests)) process.exitCode = 1;
if (!skipsEnvoy) await reportEnvoy();
