// So many of each key in a minute. The minutes are the clock's, and so all keys begin anew together.

const MINUTE_MS = 60_000;
/** Keys told apart in one minute; beyond them all further keys share one share. */
const MAX_KEYS = 10_000;
const OTHER = "";

export class MinuteQuota {
  private readonly counts = new Map<string, number>();
  private minute = 0;

  constructor(
    private readonly perMinute: number,
    private readonly maxKeys = MAX_KEYS,
  ) {}

  /** Whether there is one more for this key, which then has it. */
  takes(key: string, nowMs: number): boolean {
    const minute = Math.floor(nowMs / MINUTE_MS);
    if (minute !== this.minute) {
      this.minute = minute;
      this.counts.clear();
    }
    const own = this.counts.has(key) || this.counts.size < this.maxKeys ? key : OTHER;
    const count = this.counts.get(own) ?? 0;
    if (count >= this.perMinute) return false;
    this.counts.set(own, count + 1);
    return true;
  }
}
