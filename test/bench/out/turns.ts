// Turns of this thread's event loop, by what each took of a core: on a busy machine time by the clock tells of the others, too.

import { openSync, readSync } from "node:fs";

const NS_PER_MS = 1e6;

/** Looks on from each turn to the next. Linux tells the CPU time of a thread by the nanosecond; garbage collected in other threads is not in it. */
export class Turns {
  private readonly file = openSync("/proc/thread-self/schedstat", "r");
  private readonly text = Buffer.alloc(64);
  private last = this.cpuMs();
  private longest = 0;

  constructor() {
    this.look();
  }

  /** The longest turn since the last call, ms. */
  takeLongest(): number {
    const { longest } = this;
    this.longest = 0;
    return longest;
  }

  private look(): void {
    const now = this.cpuMs();
    this.longest = Math.max(this.longest, now - this.last);
    this.last = now;
    setImmediate(() => this.look());
  }

  private cpuMs(): number {
    const length = readSync(this.file, this.text, 0, this.text.length, 0);
    return Number(this.text.toString("latin1", 0, length).split(" ", 1)[0]) / NS_PER_MS;
  }
}
