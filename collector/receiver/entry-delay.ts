// How long the entries of a proxy are under way, from the end of a call to us: by two clocks, its own and ours, so that it shows how
// far they differ. Less than nothing: its clock is ahead by that at least. Seconds at the very least: it is behind, or keeps entries back.

const MINUTE_MS = 60_000;

interface Range {
  leastMs: number;
  mostMs: number;
}

const NOTHING: Readonly<Range> = { leastMs: Number.POSITIVE_INFINITY, mostMs: Number.NEGATIVE_INFINITY };

/** Of the minute under way and the one before it. */
export class EntryDelay {
  private minute = 0;
  private current: Range = { ...NOTHING };
  private before: Range = { ...NOTHING };

  /** The least and the most of some entries; of none, of which least is more than most, nothing is noted. */
  add(leastMs: number, mostMs: number, nowMs: number): void {
    this.turn(nowMs);
    if (leastMs < this.current.leastMs) this.current.leastMs = leastMs;
    if (mostMs > this.current.mostMs) this.current.mostMs = mostMs;
  }

  /** Null when no entry told its time. */
  read(nowMs: number): Readonly<Range> | null {
    this.turn(nowMs);
    const leastMs = Math.min(this.current.leastMs, this.before.leastMs);
    const mostMs = Math.max(this.current.mostMs, this.before.mostMs);
    return leastMs > mostMs ? null : { leastMs, mostMs };
  }

  private turn(nowMs: number): void {
    const minute = Math.floor(nowMs / MINUTE_MS);
    if (minute === this.minute) return; // fast
    this.before = minute === this.minute + 1 ? this.current : { ...NOTHING };
    this.current = { ...NOTHING };
    this.minute = minute;
  }
}
