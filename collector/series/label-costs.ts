// What each label costs: how many values it has, which of them have most series, and how many series there would be without it.
//
// Without a label, series that differ in it alone are one. To count those that are left, each value of each label has a random number of
// 53 bits, a series is the exclusive or of its values', and a label is left out by one exclusive or more: a count of each, and no text is made.
// Two series fall together by chance about once in 500,000 readings of 200,000 series.

import { labelNames, withSomePod } from "./key.ts";
import type { LabelSet } from "./reader.ts";

/** Others have their turn after so many steps, some milliseconds. */
const STEPS_AT_ONCE = 20_000;
const TWO_TO_32 = 2 ** 32;
const HIGH_MASK = 2 ** 21 - 1;

export interface LabelCost {
  readonly label: string;
  /** Different values. */
  readonly values: number;
  /** Series that there would be less without the label. */
  readonly saved: number;
  /** The values that most series have, those with most first. */
  readonly top: readonly ValueCost[];
}

interface ValueCost {
  readonly value: string;
  readonly series: number;
}

/**
 * Of these labels, those that save most first. Lets others have their turn: what is given must stay as it is. `hasPods`: whether label
 * sets have pods, as labels behind the others.
 */
export async function labelCosts(
  series: readonly LabelSet[],
  labels: readonly number[],
  top: number,
  hasPods = false,
): Promise<LabelCost[]> {
  const names = labelNames(hasPods);
  const columns = names.map(() => new Column(series.length));
  const low = new Uint32Array(series.length);
  const high = new Uint32Array(series.length);
  const pace = new Pace();
  for (const [row, { labelKey }] of series.entries()) {
    const key = hasPods ? withSomePod(labelKey) : labelKey;
    let at = 0;
    for (const column of columns) {
      const end = at + 1 + key.charCodeAt(at);
      const id = column.add(row, key.slice(at + 1, end));
      low[row] = (low[row] as number) ^ (column.low[id] as number);
      high[row] = (high[row] as number) ^ (column.high[id] as number);
      at = end;
    }
    if (pace.isDue(columns.length)) await pace.rest();
  }
  const costs: LabelCost[] = [];
  for (const label of labels) {
    const column = columns[label] as Column;
    const left = column.counts.length < 2 ? series.length : await column.countWithout(low, high, pace);
    const saved = series.length - left;
    costs.push({ label: names[label] as string, values: column.counts.length, saved, top: column.top(top) });
  }
  return costs.sort((a, b) => b.saved - a.saved || b.values - a.values);
}

/** One label of all series. */
class Column {
  /** By value number: its two halves of a random number, and how many series have it. */
  readonly low: number[] = [];
  readonly high: number[] = [];
  readonly counts: number[] = [];
  /** As they are packed. */
  private readonly texts: string[] = [];
  private readonly ids = new Map<string, number>();
  private readonly idOf: Uint32Array;

  constructor(rows: number) {
    this.idOf = new Uint32Array(rows);
  }

  /** The number of the value, which the row has. */
  add(row: number, value: string): number {
    let id = this.ids.get(value);
    if (id === undefined) {
      id = this.counts.length;
      this.ids.set(value, id);
      this.texts.push(value);
      this.counts.push(0);
      this.low.push(Math.floor(Math.random() * TWO_TO_32));
      this.high.push(Math.floor(Math.random() * TWO_TO_32));
    }
    this.counts[id] = (this.counts[id] as number) + 1;
    this.idOf[row] = id;
    return id;
  }

  /** How many rows differ in other labels. */
  async countWithout(low: Uint32Array, high: Uint32Array, pace: Pace): Promise<number> {
    const different = new Set<number>();
    for (const [row, id] of this.idOf.entries()) {
      const restLow = ((low[row] as number) ^ (this.low[id] as number)) >>> 0;
      const restHigh = ((high[row] as number) ^ (this.high[id] as number)) & HIGH_MASK;
      different.add(restHigh * TWO_TO_32 + restLow);
      if (pace.isDue(1)) await pace.rest();
    }
    return different.size;
  }

  top(count: number): ValueCost[] {
    const ids = [...this.counts.keys()].sort((a, b) => (this.counts[b] as number) - (this.counts[a] as number));
    return ids.slice(0, count).map((id) => ({
      value: Buffer.from(this.texts[id] as string, "latin1").toString("utf8"),
      series: this.counts[id] as number,
    }));
  }
}

/** Of something long: says after which steps it is to rest, so that others have their turn. */
export class Pace {
  private left = STEPS_AT_ONCE;

  /** Asked after so many steps. (To await each would cost more than the step.) */
  isDue(steps: number): boolean {
    this.left -= steps;
    if (this.left > 0) return false;
    this.left = STEPS_AT_ONCE;
    return true;
  }

  rest(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }
}
