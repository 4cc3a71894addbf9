// The promise of the unification on thousands of random histories: proxies restart, their VMs are replaced, entries are lost, scrapes come
// late and twice, clocks are set, proxies fall silent and come back, limits are reached, label sets expire and make room; proxies tell by
// stats, the metrics service and two access loggers at once, and not all alike. A total is never above the truth, never goes down, and is the
// truth whenever all was told by one way (oracle.ts); so it is by reporter and verdict, whatever is in the overflow (checks.ts).
//
//   SEED=1 npm run simulate                   100,000 of them
//   SEED=4711 HISTORIES=1 npm run simulate    the one that failed

import { expect, it } from "vitest";
import type { History } from "./history.ts";
import { historyOf } from "./random-history.ts";
import { shrink } from "./shrink.ts";
import { run } from "./world.ts";

const SEED = Number(process.env["SEED"] ?? 20261121);
const HISTORIES = Number(process.env["HISTORIES"] ?? 500);

function failureOf(history: History): string | null {
  try {
    run(history);
    return null;
  } catch (error: unknown) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** What failed, and all that is needed to see it again. */
function describeFailure(history: History, message: string): string {
  const shortest = shrink(history, run);
  const { tellings, room, conditions, actions, seed } = shortest;
  const lines = [...tellings, room, conditions, ...actions].map((each) => JSON.stringify(each));
  return [`seed ${seed}: ${message}`, `shrunken: ${failureOf(shortest)}`, ...lines].join("\n  ");
}

it(`holds in ${HISTORIES} histories from seed ${SEED} on`, { timeout: HISTORIES * 50 + 60_000 }, () => {
  for (let seed = SEED; seed < SEED + HISTORIES; seed++) {
    const history = historyOf(seed);
    const message = failureOf(history);
    if (message !== null) expect.fail(describeFailure(history, message));
  }
});
