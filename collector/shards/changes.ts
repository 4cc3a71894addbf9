// What the series of a shard gained since the last time: what its thread tells the main one, which has the sums (summed-series.ts).

import type { Series } from "../series/cell.ts";
import type { NativeBuckets } from "../series/native.ts";
import type { SeriesStore } from "../series/store.ts";
import type { SeriesTable } from "../series/table.ts";
import type { SeriesChanges, TableChanges } from "./messages.ts";

type Table = Pick<SeriesTable<never, never>, "series" | "width" | "takeChanged" | "readTotal" | "readHistory">;

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
const NO_CHANGES: TableChanges = { newKeys: [], natives: [], ...NONE, ...historyOf(NONE) };

class TableReader {
  /** So many label sets were told. */
  private told = 0;

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
    const newKeys = table.series.slice(this.told).map(({ labelKey }) => labelKey);
    this.told = table.series.length;
    const old = changed.filter(({ history }) => history >= 0);
    return {
      newKeys,
      ...this.rows(changed, (series, row) => table.readTotal(series, row)),
      natives: nativesOf(changed),
      ...historyOf(this.rows(old, (series, row) => table.readHistory(series, row))),
    };
  }

  private rows(all: readonly Series[], read: (series: Series, row: Float64Array) => void) {
    const { width } = this.table;
    const totals = new Float64Array(all.length * width);
    for (const [i, series] of all.entries()) read(series, totals.subarray(i * width, (i + 1) * width));
    return { indexes: Uint32Array.from(all, ({ index }) => index), totals };
  }
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
