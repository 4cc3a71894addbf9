// Remembered: the newest ids of a stream of them, in bounded memory.

/** As many ids are remembered at least; twice as many at most. */
const GENERATION = 65_536;

export class Remembered {
  private young = new Set<string>();
  private old = new Set<string>();

  constructor(private readonly generation = GENERATION) {}

  has(id: string): boolean {
    return this.young.has(id) || this.old.has(id);
  }

  /** Whether it was there already; from now on it is. */
  add(id: string): boolean {
    if (this.has(id)) return true;
    if (this.young.size >= this.generation) {
      this.old = this.young;
      this.young = new Set();
    }
    this.young.add(id);
    return false;
  }
}
