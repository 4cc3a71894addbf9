// When to run the garbage collector.
//
// The hot path allocates nothing, so only cold work (a new peer, a new label set) leaves garbage. The `minimal` runtime collects
// when told to, and scans no stack: it may run only while no callback holds a reference, that is on entry to one.

/** Pieces of cold work between two collections, at least; one leaves some KiB. */
const MIN_COLD_WORK: u32 = 64;

let coldWork: u32 = 0;

/** Says that cold work was done, which left garbage or will. */
export function noteColdWork(): void {
  coldWork++;
}

/**
 * Call on entry to a callback, before any managed object is touched. `inFlight`: the streams, each of which may hold a peer. A
 * collection marks all that lives, so it must grow rarer as that grows: then it costs each piece of cold work the same.
 */
export function collectIfDue(inFlight: i32): void {
  if (coldWork < MIN_COLD_WORK + (<u32>inFlight >> 1)) return;
  coldWork = 0;
  __collect();
}
