// Many may be in at once; who must be alone waits until they are out, and lets nobody in meanwhile.

export class Gate {
  private readonly inside = new Set<Promise<unknown>>();
  private alone: Promise<unknown> = Promise.resolve();

  /** Runs it beside others. */
  async enter<T>(run: () => Promise<T>): Promise<T> {
    for (let seen: Promise<unknown> | null = null; seen !== this.alone; ) {
      seen = this.alone;
      await seen;
    }
    const running = run();
    const settled = running.catch(() => {});
    this.inside.add(settled);
    try {
      return await running;
    } finally {
      this.inside.delete(settled);
    }
  }

  /** Runs it while nobody else is in. */
  async exclude<T>(run: () => Promise<T>): Promise<T> {
    const before = this.alone;
    const running = (async () => {
      await before;
      await Promise.all(this.inside);
      return await run();
    })();
    this.alone = running.catch(() => {});
    return await running;
  }
}
