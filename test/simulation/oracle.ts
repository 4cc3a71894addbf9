// The oracle: knows what happened and what of it the collector was told, and so what may be expected of a total.
//
// Always: not above the truth. And the truth itself where each process life told all by one way: its stats were read after the last
// request, or every entry came. What docs/adr/0003-series-store.md excepts is no promise: what a VM counted after its last reading, and
// a new one that had as much before it was read.

import type { LogWay } from "../../collector/record/record.ts";
import { type ProcessLife, SHAPE_OF, type Table, type Told } from "./proxy.ts";

/** What the collector's resets knew of one metric of a label set when it was read last. */
interface LastReading {
  readonly generation: number;
  readonly fields: Float64Array;
}

/**
 * As which reading entries are taken in: those of a life and those that name none, of either way; of connections with an id those of both
 * ways are one, and so they are of those with a stream's id.
 */
export type How = `${"stamped" | "unstamped"} ${LogWay | "both"}`;
const HOWS_OF_LIFE: readonly How[] = ["stamped als", "stamped otlp", "stamped both"];
const HOWS_OF_PROXY: readonly How[] = ["unstamped als", "unstamped otlp", "unstamped both"];

/** What the collector was told of a process life's label set. */
class Heard {
  /** Version that stats showed. */
  read = 0;
  /** Entries taken in, by how. */
  entries: Readonly<Partial<Record<How, number>>> = {};
  /** Whether a generation of its counters was missed in part. */
  isMissed = false;
  /** Flushes that were streamed and taken, each after the one before it; and the version that the last one showed. */
  flushes = 0;
  streamed = 0;
  last: (LastReading | null)[];

  constructor({ table }: Told) {
    this.last = SHAPE_OF[table].metrics.map(() => null);
  }

  copy(told: Told): Heard {
    return Object.assign(new Heard(told), this, { last: [...this.last] });
  }
}

/** What one answer showed of a label set. */
export interface Shown {
  readonly told: Told;
  readonly version: number;
  readonly generations: readonly number[];
  /** Of each metric; null where the answer had none. */
  readonly fields: readonly (Float64Array | null)[];
}

export class Oracle {
  /** By proxy. */
  readonly lives = new Map<string, ProcessLife[]>();
  private readonly heard = new Map<Told, Heard>();
  /** Version of each connection that an entry told, by how it was known. */
  private readonly connections = new Map<object, Readonly<Partial<Record<How, number>>>>();

  born(life: ProcessLife): void {
    this.lives.set(life.proxy, [...(this.lives.get(life.proxy) ?? []), life]);
  }

  /** What stats show now. */
  look(life: ProcessLife): Shown[] {
    return life.all().flatMap((told) => {
      const sample = told.sample();
      if (sample === null) return [];
      const shape = SHAPE_OF[told.table];
      const row = new Float64Array(shape.width);
      shape.add(row, sample);
      const fields = shape.metrics.map(({ from, to }, metric) =>
        shape.has(sample, metric) ? row.slice(from, to) : null,
      );
      const version = told.table === "tcp" ? told.version : Math.min(told.version, told.flushedVersion);
      return [{ told, version, generations: [...told.generations], fields }];
    });
  }

  /** An answer was compared with the one before; and taken in, if `isCounted`. */
  readStats(shown: readonly Shown[], isCounted: boolean): void {
    for (const { told, version, generations, fields } of shown) {
      const heard = this.heardOf(told);
      for (const [metric, now] of fields.entries()) {
        if (now === null) continue;
        const generation = generations[metric] as number;
        if (!this.isNoticed(told, metric, generation, now, heard.last[metric] ?? null)) heard.isMissed = true;
        heard.last[metric] = { generation, fields: now };
      }
      if (isCounted) heard.read = Math.max(heard.read, version);
    }
  }

  /** One flush of it was streamed, and taken whole. */
  readFlush(told: Told, flush: number, version: number): void {
    const heard = this.heardOf(told);
    if (heard.flushes !== flush - 1) return; // one between is lost, and with it what only it had told
    heard.flushes = flush;
    heard.streamed = version;
  }

  readEntry(told: Told, how: How): void {
    const heard = this.heardOf(told);
    heard.entries = { ...heard.entries, [how]: (heard.entries[how] ?? 0) + 1 };
  }

  readConnection(connection: object, version: number, how: How): void {
    const seen = this.connections.get(connection) ?? {};
    this.connections.set(connection, { ...seen, [how]: Math.max(seen[how] ?? -1, version) });
  }

  /** All that happened under the label sets. */
  truth(table: Table, isMember: (labelKey: string) => boolean): Float64Array {
    const sum = new Float64Array(SHAPE_OF[table].width);
    for (const { truth } of this.members(table, isMember)) {
      for (let field = 0; field < sum.length; field++) sum[field] = (sum[field] as number) + (truth[field] as number);
    }
    return sum;
  }

  labelKeys(table: Table): Set<string> {
    return new Set([...this.lives.values()].flat().flatMap((life) => [...life.told[table].keys()]));
  }

  /** Whether the total of these label sets, which are shown as one, has to be the truth. */
  isKnown(table: Table, isMember: (labelKey: string) => boolean): boolean {
    return [...this.lives.values()].every((lives) => {
      return (
        lives.every((life) => this.isLifeKnown(life, table, isMember)) ||
        HOWS_OF_PROXY.some((how) => lives.every((life) => this.isLogged(life, table, isMember, how)))
      );
    });
  }

  /** Remembers what the collector was told so far; the function brings that back. */
  snapshot(): () => void {
    const heard = [...this.heard].map(([told, each]) => [told, each.copy(told)] as const);
    const connections = [...this.connections];
    return () => {
      this.heard.clear();
      this.connections.clear();
      for (const [told, each] of heard) this.heard.set(told, each.copy(told));
      for (const [connection, seen] of connections) this.connections.set(connection, seen);
    };
  }

  private isLifeKnown(life: ProcessLife, table: Table, isMember: (labelKey: string) => boolean): boolean {
    const members = [...life.told[table].values()].filter(({ labelKey }) => isMember(labelKey));
    const isRead = members.every((told) => {
      const { read, isMissed } = this.heardOf(told);
      return read === told.version && !isMissed;
    });
    const isStreamed = members.every((told) => {
      // Of one that was set back, what came between the last flush and that is lost.
      return this.heardOf(told).streamed === told.version && told.generations.every((generation) => generation === 0);
    });
    return isRead || isStreamed || HOWS_OF_LIFE.some((how) => this.isLogged(life, table, isMember, how));
  }

  private isLogged(life: ProcessLife, table: Table, isMember: (labelKey: string) => boolean, how: How): boolean {
    if (table === "http") {
      const members = [...life.told.http.values()].filter(({ labelKey }) => isMember(labelKey));
      return members.every((told) => (this.heardOf(told).entries[how] ?? 0) === told.entries);
    }
    const concerned = life.connections.filter(({ parts }) => parts.some(({ labelKey }) => isMember(labelKey)));
    return concerned.every((connection) => this.connections.get(connection)?.[how] === connection.version);
  }

  /** Whether what is counted of the metric is all that it counted up to this reading. */
  private isNoticed(told: Told, metric: number, generation: number, now: Float64Array, last: LastReading | null) {
    const ends = told.ends[metric] ?? [];
    const before = last?.generation ?? 0;
    const between = ends.slice(before + (last === null ? 0 : 1), generation);
    if (between.some((end) => end.some((count) => count > 0))) return false; // never read
    if (last === null || before === generation) return true;
    const end = ends[before] as Float64Array;
    if (last.fields.some((count, field) => count !== end[field])) return false; // not read to its end
    const { from, sum } = SHAPE_OF[told.table].metrics[metric] as { from: number; sum: number };
    const isEmpty = last.fields.every((count) => count === 0);
    return isEmpty || last.fields.subarray(0, sum - from).some((count, field) => (now[field] as number) < count);
  }

  private *members(table: Table, isMember: (labelKey: string) => boolean): Generator<Told> {
    for (const life of [...this.lives.values()].flat()) {
      for (const told of life.told[table].values()) if (isMember(told.labelKey)) yield told;
    }
  }

  private heardOf(told: Told): Heard {
    let heard = this.heard.get(told);
    if (!heard) {
      heard = new Heard(told);
      this.heard.set(told, heard);
    }
    return heard;
  }
}
