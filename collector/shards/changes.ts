// What the series of a shard gained since the last time: what its thread tells the main one, which has the sums (summed-series.ts).

import type { Series } from "../series/cell.ts";
import type { NativeBuckets } from "../series/native.ts";
import type { SeriesStore } from "../series/store.ts";
import type { SeriesTable } from "../series/table.ts";
import type { SeriesChanges, TableChanges } from "./messages.ts";

type Table = Pick<
  SeriesTable<never, never>,
  "series" | "letGoCount" | "width" | "takeChanged" | "readTotal" | "readHistory"
>;

export class ChangeReader {
  private readonly http: TableReader;
  private readonly tcp: TableReader;

  constructor({ http, tcp }: SeriesStore) {
    this.http = new TableReader(http);
    this.tcp = new TableReader(tcp);
  }

  read(): SeriesChanges {
    return { http: this.http.read(), tcp: this.tcp.read() };
  }

  /** The same in pieces, each some ms of work. */
  *pieces(): Generator<SeriesChanges> {
    const tcp = this.tcp.readAll(PIECE_ROWS);
    for (const http of this.http.readAll(PIECE_ROWS)) yield { http, tcp: tcp.next().value ?? NO_CHANGES };
    for (const rest of tcp) yield { http: NO_CHANGES, tcp: rest };
  }
}

/** Rows of a piece: 2 MB. */
const PIECE_ROWS = 4096;
const NONE = { indexes: new Uint32Array(0), totals: new Float64Array(0) };
const NO_CHANGES: TableChanges = { letGo: NONE.indexes, ...keysOf([]), natives: [], ...NONE, ...historyOf(NONE) };

class TableReader {
  /** The label sets that were told: those at the beginning of the table's list. */
  private told: readonly Series[] = [];
  private letGoCount = 0;

  constructor(private readonly table: Table) {}

  read(): TableChanges {
    return this.describe(this.table.takeChanged());
  }

  *readAll(rows: number): Generator<TableChanges, undefined> {
    const changed = this.table.takeChanged();
    for (let at = 0; at === 0 || at < changed.length; at += rows) yield this.describe(changed.slice(at, at + rows));
  }

  private describe(changed: readonly Series[]): TableChanges {
    const { table } = this;
    const letGo = this.takeLetGo();
    const isNew = table.series.length > this.told.length;
    const fresh = isNew ? table.series.slice(this.told.length) : [];
    if (isNew) this.told = table.series.slice();
    const old = changed.filter(({ history }) => history >= 0);
    return {
      letGo: indexesOf(letGo),
      ...keysOf(fresh),
      ...this.rows(changed, (series, row) => table.readTotal(series, row)),
      natives: nativesOf(changed),
      ...historyOf(this.rows(old, (series, row) => table.readHistory(series, row))),
    };
  }

  private takeLetGo(): Series[] {
    if (this.table.letGoCount === this.letGoCount) return []; // fast: mostly
    this.letGoCount = this.table.letGoCount;
    const letGo = this.told.filter(({ isGone }) => isGone);
    this.told = this.told.filter(({ isGone }) => !isGone);
    return letGo;
  }

  private rows(all: readonly Series[], read: (series: Series, row: Float64Array) => void) {
    const { width } = this.table;
    const totals = new Float64Array(all.length * width);
    for (const [i, series] of all.entries()) read(series, totals.subarray(i * width, (i + 1) * width));
    return { indexes: indexesOf(all), totals };
  }
}

function indexesOf(all: readonly Series[]): Uint32Array {
  return Uint32Array.from(all, ({ index }) => index);
}

function keysOf(fresh: readonly Series[]): Pick<TableChanges, "newKeys" | "newIndexes"> {
  return { newKeys: fresh.map(({ labelKey }) => labelKey), newIndexes: indexesOf(fresh) };
}

function historyOf({ indexes, totals }: Pick<TableChanges, "indexes" | "totals">) {
  return { historyIndexes: indexes, histories: totals };
}

/** Copied: what is told may be shown later, beside the totals of now. */
function nativesOf(changed: readonly Series[]): TableChanges["natives"] {
  if (changed.every(({ natives }) => natives === null)) return [];
  return changed.map(({ natives }) => (natives ?? []).map((native) => native && copyOf(native.buckets)));
}

function copyOf({ counts, ...others }: NativeBuckets): NativeBuckets {
  return { ...others, counts: counts.slice() };
}
