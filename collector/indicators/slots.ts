// Time in slots: what an indicator measures is kept by the slot in which a call began, so that windows and minutes are sums of slots, and a
// late call goes where it belongs as long as its slot is kept.

export const SLOT_MS = 15_000;
const MINUTE_MS = 60_000;
export const SLOTS_PER_MINUTE = MINUTE_MS / SLOT_MS;

/** The number of the slot of a moment (Unix ms). */
export function slotOf(ms: number): number {
  return Math.floor(ms / SLOT_MS);
}

/** Slots [first, last], and how much time of them has passed. */
export interface Span {
  readonly first: number;
  readonly last: number;
  readonly seconds: number;
}

/** The slot under way and a minute's worth of slots before it: what began in the last 60 to 75 seconds. */
export function liveSpan(nowMs: number): Span {
  const last = slotOf(nowMs);
  const first = last - SLOTS_PER_MINUTE;
  return { first, last, seconds: Math.max(1, nowMs - first * SLOT_MS) / 1000 };
}

/** A whole minute: the one that ended last for 1, the one before it for 2. */
export function minuteSpan(nowMs: number, ago: number): Span {
  const first = (Math.floor(nowMs / MINUTE_MS) - ago) * SLOTS_PER_MINUTE;
  return { first, last: first + SLOTS_PER_MINUTE - 1, seconds: MINUTE_MS / 1000 };
}
