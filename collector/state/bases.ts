// Bases: of each total the part of which no cell speaks any more, since its process life was let go.

import { type Cell, countOf, type Series } from "../series/cell.ts";
import type { Life } from "../series/life.ts";
import type { Shapes } from "../series/shape.ts";
import { Slab } from "../series/slab.ts";
import type { SeriesStore } from "../series/store.ts";

/** A table of any shape, as far as it is saved and restored. */
export type Table = SeriesStore["http"] | SeriesStore["tcp"];

export class Bases {
  private readonly rows: readonly Slab[];
  private readonly byKey: readonly Map<string, number>[];

  constructor(shapes: Shapes) {
    this.rows = shapes.map(({ width }) => new Slab(width));
    this.byKey = shapes.map(() => new Map<string, number>());
  }

  /** Adds what the life's cells counted, told of each: to be called before they are let go of. */
  keep(life: Life, tables: readonly Table[], tell: (table: number, series: Series, row: Float64Array) => void): void {
    for (const [index, table] of tables.entries()) {
      const row = new Float64Array(table.width);
      for (const cell of life.cells[index]?.byKey.values() ?? []) {
        if (cell.account !== null) continue; // its account has it
        readCell(table, cell, row);
        this.add(index, cell.series.labelKey, row);
        tell(index, cell.series, row);
      }
    }
  }

  add(table: number, labelKey: string, gained: Float64Array): void {
    const rows = this.rows[table] as Slab;
    const byKey = this.byKey[table] as Map<string, number>;
    const row = byKey.get(labelKey) ?? rows.allocate();
    byKey.set(labelKey, row);
    const chunk = rows.chunk(row);
    const at = rows.offset(row);
    for (let field = 0; field < gained.length; field++) {
      chunk[at + field] = (chunk[at + field] as number) + (gained[field] as number);
    }
  }

  /** The label set is let go of. */
  drop(table: number, labelKey: string): void {
    const row = this.byKey[table]?.get(labelKey);
    if (row === undefined) return;
    this.rows[table]?.release(row);
    this.byKey[table]?.delete(labelKey);
  }

  /** Where it is; null when all of the total is in cells. */
  find(table: number, labelKey: string): { readonly chunk: Float64Array; readonly at: number } | null {
    const row = this.byKey[table]?.get(labelKey);
    const rows = this.rows[table];
    return row === undefined || !rows ? null : { chunk: rows.chunk(row), at: rows.offset(row) };
  }

  labelKeys(table: number): Iterable<string> {
    return this.byKey[table]?.keys() ?? [];
  }
}

/** What the cell counts. */
export function readCell({ rows }: Table, cell: Cell, row: Float64Array): void {
  for (let field = 0; field < row.length; field++) row[field] = countOf(rows, cell, field);
}
