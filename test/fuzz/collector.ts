// Fuzz of the collector: a million injured access-log messages on their whole way. Nothing may throw, each entry is accounted for, what is
// held does not grow once every table is full, and no message takes longer than its bytes allow.
//
//   npm run fuzz:collector -- [SEED] [COUNT]

import assert from "node:assert/strict";
import { decodeAlsMessage } from "../../collector/proto/als.ts";
import { emptyCaches, type Held, heldBy } from "./bounds.ts";
import { Fuzz } from "./fuzz.ts";
import { MessagePath } from "./path.ts";
import { SLOW_INPUTS, timeOf } from "./slow-inputs.ts";

const DEFAULT_COUNT = 1_000_000;
/**
 * Readings of the heap, each with the caches emptied: how full they are is chance, and that they end is looked at by itself. The highest
 * of the second half may be beyond that of the first by this much.
 */
const CHECKPOINTS = 20;
const MAX_GROWTH_BYTES = 4 * 1024 * 1024;
/** Messages that took longest, seen again alone: another process may have had the core. */
const SLOWEST = 20;
/** A message may take so long, whatever it is, and so much longer for each entry and each byte. */
const MAX_MS = 2;
const MAX_US_PER_ENTRY = 50;
const MAX_US_PER_BYTE = 0.5;
const SCALING_BYTES = 1 << 20;

interface Slow {
  readonly message: Buffer;
  readonly ms: number;
}

const seed = Number(process.argv[2] ?? Date.now() % 1_000_000_000);
const count = Number(process.argv[3] ?? DEFAULT_COUNT);
assert.ok(Number.isSafeInteger(seed) && Number.isSafeInteger(count) && count > 0, "SEED and COUNT are whole numbers");
process.stdout.write(`seed ${seed}, ${count} messages\n`);

const fuzz = new Fuzz(seed);
const fills = await fuzz.fill();
print("filled", fills.map(({ table, size, bound }) => `${table} ${size} of ${bound}`).join(", "));
const slow: Slow[] = [];
const heap: number[] = [];
let withCaches = 0;
let largest: readonly Held[] = [];
const startMs = performance.now();
for (let checkpoint = 1; checkpoint <= CHECKPOINTS; checkpoint++) {
  await fuzz.run(Math.floor((count * checkpoint) / CHECKPOINTS) - fuzz.count, noteSlow);
  fuzz.check();
  withCaches = Math.max(withCaches, heapBytes());
  largest = heldBy(fuzz.parts).largest;
  emptyCaches(fuzz.parts);
  heap.push(heapBytes());
}
const seconds = (performance.now() - startMs) / 1000;

const { sides } = fuzz.path;
print(
  "rate",
  `${Math.round(count / seconds)} messages/s, ${(fuzz.bytes / seconds / 1e6).toFixed(1)} MB/s, ${seconds.toFixed(0)} s`,
);
print("outcomes", JSON.stringify({ ...(await fuzz.path.outcomes()), sides }));
print("held", largest.map(({ path, size, bound }) => `${path} ${size} of ${bound}`).join(", "));
checkHeap();
checkSlowest();
checkScaling();
process.stdout.write("passed\n");

function print(what: string, text: string): void {
  process.stdout.write(`${what}: ${text}\n`);
}

function noteSlow(message: Buffer, ms: number): void {
  if (slow.length === SLOWEST && ms <= (slow.at(-1) as Slow).ms) return;
  slow.push({ message, ms });
  slow.sort((a, b) => b.ms - a.ms);
  if (slow.length > SLOWEST) slow.pop();
}

/** Of the heap and of all buffers, after a collection. */
function heapBytes(): number {
  assert.ok(globalThis.gc, "node runs with --expose-gc");
  globalThis.gc();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

function checkHeap(): void {
  const half = CHECKPOINTS / 2;
  const first = Math.max(...heap.slice(1, half)); // after the first, code is compiled and what filling left is gone
  const second = Math.max(...heap.slice(half));
  print(
    "heap",
    `${heap.map(megabytes).join(" ")} MB; ${megabytes(first)} at most in the first half, ${megabytes(second)} in the second; with caches ${megabytes(withCaches)}`,
  );
  assert.ok(second <= first + MAX_GROWTH_BYTES, "the heap stops growing");
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}

function checkSlowest(): void {
  const path = new MessagePath();
  const again = slow.map(({ message }) => ({ message, ms: timeOf(() => path.receive(message)) }));
  const worst = again.reduce((most, each) => (shareOf(each) > shareOf(most) ? each : most));
  print(
    "slowest",
    `${worst.ms.toFixed(2)} ms for ${worst.message.length} bytes, ${(shareOf(worst) * 100).toFixed(0)} % of what it may take`,
  );
  assert.ok(shareOf(worst) <= 1, `too slow: ${worst.message.toString("hex")}`);
}

/** Of the time that its entries and bytes allow. */
function shareOf({ message, ms }: Slow): number {
  const decoded = decodeAlsMessage(message);
  const entries = decoded === null ? 0 : (decoded.httpEntries.length + decoded.tcpEntries.length) / 2;
  return ms / (MAX_MS + (entries * MAX_US_PER_ENTRY + message.length * MAX_US_PER_BYTE) / 1000);
}

function checkScaling(): void {
  const tooSlow: string[] = [];
  for (const [name, make] of SLOW_INPUTS) {
    const path = new MessagePath();
    const times = [SCALING_BYTES / 4, SCALING_BYTES].map((size) => {
      const message = make(size);
      return { message, ms: timeOf(() => path.receive(message)) };
    });
    if (times.some((each) => shareOf(each) > 1)) tooSlow.push(name);
    print(
      "scaling",
      `${name}: ${times.map(({ message, ms }) => `${message.length} bytes ${ms.toFixed(1)} ms`).join(", ")}`,
    );
  }
  assert.deepEqual(tooSlow, [], "nothing takes longer than its bytes and entries allow");
}
