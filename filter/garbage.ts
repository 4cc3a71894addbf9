// When to run the garbage collector.
//
// The hot path allocates nothing, so only cold work (a new peer, a new label set) leaves garbage. The `minimal` runtime collects
// when told to, and scans no stack: it may run only while no callback holds a reference, that is on entry to one.

/** Pieces of cold work between two collections; one leaves a few KiB at most. */
const COLD_WORK_PER_COLLECTION: u32 = 64;

let coldWork: u32 = 0;

/** Says that cold work was done, which left garbage or will. */
export function noteColdWork(): void {
  coldWork++;
}

/** Call on entry to a callback, before any managed object is touched. */
export function collectIfDue(): void {
  if (coldWork < COLD_WORK_PER_COLLECTION) return;
  coldWork = 0;
  __collect();
}
