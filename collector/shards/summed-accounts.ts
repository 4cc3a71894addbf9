// The accounts of all threads. A proxy has its own in one thread alone; those of no one proxy are added up.

import { type Accounts, ProxyAccount, type ProxyCounts, type Taken } from "../receiver/accounts.ts";
import { addDelay } from "../receiver/entry-delay.ts";
import type { AccountsAnswer } from "./messages.ts";

export function sumAccounts(answers: readonly AccountsAnswer[]): Accounts {
  return {
    named: answers.flatMap(({ named }) => named),
    unnamed: sumOf(answers.map(({ unnamed }) => unnamed)),
    beyondLimit: sumOf(answers.map(({ beyondLimit }) => beyondLimit)),
  };
}

function sumOf(parts: readonly ProxyCounts[]): ProxyCounts {
  const sum = new ProxyAccount("");
  for (const part of parts) {
    sum.openStreams += part.openStreams;
    if (part.connectedSinceMs > 0) {
      sum.connectedSinceMs = Math.min(sum.connectedSinceMs || Number.POSITIVE_INFINITY, part.connectedSinceMs);
    }
    sum.lastEntryMs = Math.max(sum.lastEntryMs, part.lastEntryMs);
    addTaken(sum.http, part.http);
    addTaken(sum.tcp, part.tcp);
    addCounts(sum.unknownSource, part.unknownSource);
    addCounts(sum.unknownDestination, part.unknownDestination);
    addDelay(sum.delay, part.delay.current.leastMs, part.delay.current.mostMs, Date.now());
    addCounts(sum.notTaken, part.notTaken);
    addCounts(sum.ended, part.ended);
    if ((part.lastError?.atMs ?? 0) > (sum.lastError?.atMs ?? 0)) sum.lastError = part.lastError;
  }
  return sum;
}

function addTaken(sum: Taken, { observation, derived }: Taken): void {
  sum.observation += observation;
  sum.derived += derived;
}

function addCounts(sum: Record<string, number>, more: Readonly<Record<string, number>>): void {
  for (const [name, count] of Object.entries(more)) sum[name] = (sum[name] ?? 0) + count;
}
