// How long the entries of a proxy are under way, from the end of a call to us: by two clocks, its own and ours, so that it shows how
// far they differ. Less than nothing: its clock is ahead by that at least. Seconds at the very least: it is behind, or keeps entries back.
//
// Plain data, so that it can go from thread to thread.

const MINUTE_MS = 60_000;

export interface DelayRange {
  readonly leastMs: number;
  readonly mostMs: number;
}

/** Of the minute under way and the one before it. */
export interface EntryDelay {
  minute: number;
  current: DelayRange;
  before: DelayRange;
}

/** Of no entry: least is more than most. */
const NOTHING: DelayRange = { leastMs: Number.POSITIVE_INFINITY, mostMs: Number.NEGATIVE_INFINITY };

export function newDelay(): EntryDelay {
  return { minute: 0, current: NOTHING, before: NOTHING };
}

/** The least and the most of some entries. */
export function addDelay(delay: EntryDelay, leastMs: number, mostMs: number, nowMs: number): void {
  turn(delay, nowMs);
  const { current } = delay;
  if (leastMs >= current.leastMs && mostMs <= current.mostMs) return; // fast
  delay.current = widest(current, { leastMs, mostMs });
}

/** Null when no entry told its time. */
export function readDelay({ minute, current, before }: EntryDelay, nowMs: number): DelayRange | null {
  const delay = { minute, current, before };
  turn(delay, nowMs);
  const range = widest(delay.current, delay.before);
  return range.leastMs > range.mostMs ? null : range;
}

function turn(delay: EntryDelay, nowMs: number): void {
  const minute = Math.floor(nowMs / MINUTE_MS);
  if (minute === delay.minute) return; // fast
  delay.before = minute === delay.minute + 1 ? delay.current : NOTHING;
  delay.current = NOTHING;
  delay.minute = minute;
}

function widest(a: DelayRange, b: DelayRange): DelayRange {
  return { leastMs: Math.min(a.leastMs, b.leastMs), mostMs: Math.max(a.mostMs, b.mostMs) };
}
