// When to run the garbage collector.
//
// The hot path allocates nothing, so only cold work (a new peer, a new label set) leaves garbage. The `minimal` runtime collects
// when told to, and scans no stack: it may run only while no callback holds a reference, that is on entry to one.

/** Garbage between two collections, at least, in KiB. */
const MIN_GARBAGE: u32 = 128;

/** So much more for each stream in flight, in KiB. */
const GARBAGE_PER_STREAM: u32 = 2;

/** But no more than this, in KiB. */
const MAX_GARBAGE: u32 = 16384;

let garbage: u32 = 0;
let isPaused: bool = false;

/**
 * While it is paused nothing is collected: for a host call that may call us back before it returns, when the callback that made it holds
 * references still.
 */
export function pauseCollection(pause: bool): void {
  isPaused = pause;
}

/** Says that cold work was done, which left garbage or will: about so many KiB. */
export function noteColdWork(kibibytes: u32 = 4): void {
  garbage += kibibytes;
}

/**
 * Call on entry to a callback, before any managed object is touched. `inFlight`: the streams, each of which may hold a peer. A
 * collection marks all that lives, so it must grow rarer as that grows: then it costs each piece of cold work the same.
 */
export function collectIfDue(inFlight: i32): void {
  if (isPaused || garbage < min(MIN_GARBAGE + <u32>inFlight * GARBAGE_PER_STREAM, MAX_GARBAGE)) return;
  garbage = 0;
  __collect();
}
