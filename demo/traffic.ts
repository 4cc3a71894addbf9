// The traffic generator: a steady rate of requests to the gateway, whether or not earlier ones were answered.

import { Agent } from "node:http";
import { setTimeout as setTimeoutAsync } from "node:timers/promises";
import { httpCall } from "./http-call.ts";

/** Requests that may wait for an answer at once; beyond it a turn is left out, so that a dead mesh costs no memory. */
const MAX_WAITING = 200;
/** How long the last requests may take once no new ones are sent. */
const PATIENCE_MS = 2000;

export interface Traffic {
  /** How many requests were begun. */
  readonly sent: () => number;
  /** No new requests; fulfilled when those under way have ended, or been given up. */
  readonly stop: () => Promise<void>;
}

/** GETs `url` that many times a second until it is stopped. Failed requests are the mesh's to count, not ours. */
export function startTraffic(url: string, requestsPerSecond: number): Traffic {
  const agent = new Agent({ keepAlive: true });
  const waiting = new Set<Promise<unknown>>();
  let sent = 0;
  const send = () => {
    if (waiting.size >= MAX_WAITING) return;
    sent++;
    const call: Promise<unknown> = httpCall(url, {}, agent)
      .catch(() => {})
      .finally(() => waiting.delete(call));
    waiting.add(call);
  };
  // Timers are late now and then; what is owed is counted from the start, so the rate holds.
  const startedAt = performance.now();
  let turns = 0;
  const timer = setInterval(
    () => {
      const owed = Math.floor(((performance.now() - startedAt) / 1000) * requestsPerSecond);
      for (; turns < owed; turns++) send();
    },
    Math.max(1000 / requestsPerSecond, 5),
  );
  return {
    sent: () => sent,
    stop: async () => {
      clearInterval(timer);
      await Promise.race([Promise.all(waiting), setTimeoutAsync(PATIENCE_MS, undefined, { ref: false })]);
      agent.destroy();
    },
  };
}
