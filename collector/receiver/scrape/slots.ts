// A few places for many, so that not all targets are read at the same moment, and no slow one keeps the others waiting.

/** `run` waits for one of `free` places, and gives it back at the end; after `patienceMs` the next one gets it all the same. */
export class Slots {
  private readonly waiting: (() => void)[] = [];

  constructor(
    private free: number,
    private readonly patienceMs: number,
  ) {}

  async run(work: () => Promise<void>): Promise<void> {
    if (this.free > 0) this.free--;
    else await new Promise<void>((resolve) => this.waiting.push(resolve));
    let isHeld = true;
    const giveBack = () => {
      if (isHeld) this.release();
      isHeld = false;
    };
    const timer = setTimeout(giveBack, this.patienceMs);
    try {
      await work();
    } finally {
      clearTimeout(timer);
      giveBack();
    }
  }

  private release(): void {
    const next = this.waiting.shift();
    if (next) next();
    else this.free++;
  }
}
