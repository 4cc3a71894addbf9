// Time in slots: what an indicator measures is kept by the slot in which a call began, so that windows of any whole number of slots, and
// minutes, are sums of slots; a late call goes where it belongs as long as its slot is kept.

export const SLOT_MS = 15_000;
export const MINUTE_MS = 60_000;
export const SLOTS_PER_MINUTE = MINUTE_MS / SLOT_MS;

/** The number of the slot of a moment (Unix ms). */
export function slotOf(ms: number): number {
  return Math.floor(ms / SLOT_MS);
}

/** What a window shows, as a range of slots [first, last]. */
export interface Span {
  readonly first: number;
  readonly last: number;
}

/** The last minute's worth of slots, with the one that is under way. */
export function liveSpan(nowMs: number): Span {
  const last = slotOf(nowMs);
  return { first: last - SLOTS_PER_MINUTE, last };
}

/** The minute that a moment is in. */
export function minuteSpan(ms: number): Span {
  const first = Math.floor(ms / MINUTE_MS) * SLOTS_PER_MINUTE;
  return { first, last: first + SLOTS_PER_MINUTE - 1 };
}
