// Ports for programs that are told theirs before they listen: Envoy, Prometheus, PostgreSQL.

import { createServer } from "node:http";

/**
 * Below those that Linux gives by itself, to whoever connects or asks for any: so nothing takes one between the picking and the listening
 * but another picker, and each test worker picks from a part of its own.
 */
const FIRST = 10_000;
const PER_WORKER = 4_500;
const WORKERS = 5;

const part = FIRST + (Number(process.env["VITEST_POOL_ID"] ?? 0) % WORKERS) * PER_WORKER;
/** Somewhere: another run of the tests may be under way on this machine. */
let next = Math.floor(Math.random() * PER_WORKER);

/** A port of 127.0.0.1 on which nobody listens, and that this process was not told lately. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = part + (next++ % PER_WORKER);
    if (await isFree(port)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
