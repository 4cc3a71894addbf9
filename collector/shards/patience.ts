// Patience: waits for as long as it takes, and tells the log every so often that it does.

import type { Log } from "../log.ts";

const TELL_MS = 5000;

export async function patiently<Result>(work: Promise<Result>, log: Log, message: string): Promise<Result> {
  const begunMs = performance.now();
  const timer = setInterval(() => {
    log.info({ waited_s: Math.round((performance.now() - begunMs) / 1000) }, message);
  }, TELL_MS);
  try {
    return await work;
  } finally {
    clearInterval(timer);
  }
}
