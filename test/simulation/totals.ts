// Totals of a table, by label set.

import type { SeriesReader } from "../../collector/series/reader.ts";
import { SHAPE_OF, type Table } from "./proxy.ts";

/** By label set. */
export type Totals = ReadonlyMap<string, Float64Array>;

export function totalsOf(reader: SeriesReader, table: Table): Totals {
  return new Map(
    reader.series.map((series) => {
      const row = new Float64Array(SHAPE_OF[table].width);
      reader.readTotal(series, row);
      return [series.labelKey, row];
    }),
  );
}

/** Those of which `name` is the same, added up. */
export function sumsBy(totals: Totals, name: (labelKey: string) => string): Map<string, Float64Array> {
  const sums = new Map<string, Float64Array>();
  for (const [labelKey, row] of totals) {
    const sum = sums.get(name(labelKey));
    sums.set(name(labelKey), sum ? added(row, sum) : row);
  }
  return sums;
}

export function added(one: Float64Array, other: Float64Array): Float64Array {
  return one.map((count, field) => count + (other[field] as number));
}
