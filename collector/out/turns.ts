// Turns: who works in slices takes turns with all else that this thread has to do, and with whoever else works so.

import { setImmediate as nextTurn } from "node:timers/promises";

export class Turns {
  private last: Promise<void> = Promise.resolve();

  /** Resolves in a turn of the event loop in which it does so for nobody else: several that wait have one each, in order. */
  next(): Promise<void> {
    this.last = this.last.then(() => nextTurn());
    return this.last;
  }
}
