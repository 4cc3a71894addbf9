// MarkedCells: what the cells of a proxy's unstamped life count whose label sets differ in their mark alone (key.ts).
//
// Stats have no marks, entries may have one, and with `metrics.labels` both may, and not the same. So their readings are of the same
// requests whatever their marks, and what they count together is the largest of the sums:
//
//   mark    stats S   log A   counted C
//   none        10       -          10      C of each  <=  its own max(S, A)
//   "?"          -      12           2      sum of C    =  max(sum of S, sum of A)
//
// The gain goes to the mark of the reading that brought it; what that mark was never told to have goes to others that were. So where both
// readings agree on the marks, each mark has its own number once either is complete, whichever came first.
//
// Each field goes by itself, as everywhere: until then one mark may have a request's bucket, and another its count. So of a mark alone, as
// mesh_* may have it, a bucket may be more than the next one for a while; of all of them together, which are shown as one, none is. To hold
// back what would be more is no way out: a mark that was told of the bucket alone would never have it.

import { type Cell, largestOf } from "./cell.ts";
import type { Slab } from "./slab.ts";

/** A reading of a cell: the name of its row. */
export type Reading = "stats" | "log" | "otlpLog";

export class MarkedCells {
  /** What is to be given to cells, valid within one gain. */
  private readonly left: Float64Array;

  constructor(
    private readonly rows: Slab,
    private readonly width: number,
  ) {
    this.left = new Float64Array(width);
  }

  /** `cells`: all that differ in their mark alone. From now on each counts its part of what they count together. */
  join(cells: readonly Cell[]): void {
    if (cells.length < 2) return;
    for (const cell of cells) {
      cell.alike = cells;
      if (cell.counted >= 0) continue;
      const counted = this.rows.allocate();
      const chunk = this.rows.chunk(counted);
      const at = this.rows.offset(counted);
      for (let field = 0; field < this.width; field++) chunk[at + field] = largestOf(this.rows, cell, field);
      cell.counted = counted;
    }
  }

  /** To be called once `reading` of the cell grew; then `give` for it, and for each that is alike. */
  gain({ alike }: Cell, reading: Reading): void {
    this.left.fill(0);
    for (const cell of alike ?? []) {
      for (let field = 0; field < this.width; field++) {
        const missing = this.rows.at(cell[reading], field) - this.rows.at(cell.counted, field);
        this.left[field] = (this.left[field] as number) + missing;
      }
    }
  }

  /** Gives the cell what it may have of what is left, and leaves it in `given`; false if that is nothing. */
  give(cell: Cell, given: Float64Array): boolean {
    const { left } = this;
    const chunk = this.rows.chunk(cell.counted);
    const at = this.rows.offset(cell.counted);
    let isGiven = false;
    for (let field = 0; field < this.width; field++) {
      const before = chunk[at + field] as number;
      const part = Math.max(0, Math.min(left[field] as number, largestOf(this.rows, cell, field) - before));
      given[field] = part;
      if (part === 0) continue;
      chunk[at + field] = before + part;
      left[field] = (left[field] as number) - part;
      isGiven = true;
    }
    return isGiven;
  }
}
