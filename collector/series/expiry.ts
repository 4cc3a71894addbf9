// Expiry: which label sets are not shown any more, since nothing was added to them for a time (`metrics.expire_after`).
//
// First they are only hidden: their counts stay, and the readings of stats and access logs that they were made of. So a scrape that shows
// such a label set as it was adds nothing, and one that grows again goes on from where it was. Those that were hidden for as long again, and
// of which no process life is held that told of them, are let go of (docs/adr/0010-room.md).

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

  /** Whether it was hidden for so long that whoever shows it has not shown it for `afterMs`, however late he was told that it grew. */
  isOver({ grewMs, isChanged }: Growth): boolean {
    return this.isOn && !isChanged && this.now() - grewMs > 2 * this.afterMs;
  }
}
