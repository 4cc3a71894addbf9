// FreeColumns: columns of edges that are not held any more, for others.

/**
 * They keep their counts: an edge is read by differences, so what is in a column when the edge takes it does not matter, as long as all
 * snapshots that are held have the same in it.
 */
export class FreeColumns {
  /** First columns, by how many belong together. */
  private readonly byWidth = new Map<number, number[]>();

  give(column: number, width: number): void {
    const free = this.byWidth.get(width);
    if (free) free.push(column);
    else this.byWidth.set(width, [column]);
  }

  take(width: number): number | undefined {
    return this.byWidth.get(width)?.pop();
  }
}
