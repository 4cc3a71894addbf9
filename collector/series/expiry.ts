// Expiry: which label sets are not shown any more, since nothing was added to them for a time (`metrics.expire_after`).
//
// They are only hidden: their counts stay, and the readings of stats and access logs that they were made of. So a scrape that shows such
// a label set as it was adds nothing, and one that grows again goes on from where it was.

/** What a table notes of a label set's growth. */
export interface Growth {
  /** When it grew first after `takeChanged`, or was first held; by a clock that never jumps. */
  grewMs: number;
  /** Whether it grew since `takeChanged`, which is called about once a second. */
  readonly isChanged: boolean;
}

export class Expiry {
  constructor(
    /** 0: never. */
    private readonly afterMs: number,
    /** A clock that never jumps, in milliseconds. */
    readonly now: () => number,
  ) {}

  get isOn(): boolean {
    return this.afterMs > 0;
  }

  isExpired({ grewMs, isChanged }: Growth): boolean {
    return this.isOn && !isChanged && this.now() - grewMs > this.afterMs;
  }
}
