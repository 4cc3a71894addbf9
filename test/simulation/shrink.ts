// The shortest history that still fails, as far as leaving out actions finds it.

import type { Action, History } from "./history.ts";

/** Runs of the history at most: enough for some hundred actions. */
const MAX_RUNS = 2000;

/** `history` fails by `run`. Ends with one of which no action can be left out. */
export function shrink(history: History, run: (history: History) => void): History {
  let shortest = history;
  let runs = 0;
  const fails = (actions: readonly Action[]) => {
    if (runs++ >= MAX_RUNS) return false;
    try {
      run({ ...history, actions });
      return false;
    } catch (_failure: unknown) {
      return true;
    }
  };
  for (let size = Math.ceil(history.actions.length / 2); size >= 1; ) {
    const before = shortest.actions.length;
    for (let at = 0; at < shortest.actions.length; ) {
      const actions = [...shortest.actions.slice(0, at), ...shortest.actions.slice(at + size)];
      if (fails(actions)) shortest = { ...shortest, actions };
      else at += size;
    }
    if (shortest.actions.length === before) size = size === 1 ? 0 : Math.ceil(size / 2);
  }
  return shortest;
}
