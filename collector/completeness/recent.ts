// Recent: sums of the last five to ten minutes, in two halves: when the younger is full, the older is forgotten.

import { type Compared, isNothing, NOTHING } from "./compared.ts";

const HALF_MS = 300_000;

/** Times are of a clock that never jumps. */
export class Recent {
  private older: Compared = NOTHING;
  private younger: Compared = NOTHING;

  constructor(private youngerSinceMs: number) {}

  add(nowMs: number, { counted, logged, reported }: Compared): void {
    this.age(nowMs);
    const { younger } = this;
    this.younger = {
      counted: younger.counted + counted,
      logged: younger.logged + logged,
      reported: younger.reported + reported,
    };
  }

  read(nowMs: number): Compared {
    this.age(nowMs);
    const { older, younger } = this;
    return {
      counted: older.counted + younger.counted,
      logged: older.logged + younger.logged,
      reported: older.reported + younger.reported,
    };
  }

  isEmpty(nowMs: number): boolean {
    return isNothing(this.read(nowMs));
  }

  private age(nowMs: number): void {
    const halves = Math.floor((nowMs - this.youngerSinceMs) / HALF_MS);
    if (halves <= 0) return;
    this.older = halves === 1 ? this.younger : NOTHING;
    this.younger = NOTHING;
    this.youngerSinceMs += halves * HALF_MS;
  }
}
