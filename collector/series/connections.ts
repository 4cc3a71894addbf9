// Connections: TCP connections of which more is to come, and how much of each is counted already.
//
// Each entry of a connection says all again, since it began; what counts is by how much it says more than what was counted. So an
// entry that comes twice, or late, adds nothing, and one that is lost is made up for by the next.

import type { ConnectionPart, ConnectionRecord, LogWay, TcpSample } from "../record/record.ts";
import type { DropReason } from "../self.ts";
import { type ConnectionId, type Life, UNSTAMPED } from "./life.ts";
import type { SeriesTable } from "./table.ts";

/** As what entries are refused of a connection of which no more is counted. */
export const ENDED_AS = [null, "life_retired", "cells_full"] as const satisfies readonly (DropReason | null)[];
type EndedAs = (typeof ENDED_AS)[number];

export class Connections {
  private held = 0;
  /**
   * Connections of which no more is counted, and what their entries are refused as: none for one that is over, since what still comes of
   * it is late, and was counted, unless its end was refused. As many are remembered as may be held, or half of them at least: when the young
   * half is full, the old half is forgotten.
   */
  private youngEnded = new Map<string, EndedAs>();
  private oldEnded = new Map<string, EndedAs>();

  constructor(
    /** Most connections held. */
    private readonly limit: number,
    /** Where what a connection gains is counted. */
    private readonly table: SeriesTable<ConnectionPart, TcpSample>,
  ) {}

  /** Connections held. */
  get size(): number {
    return this.held;
  }

  /** Counts what the entry says more than those before it. Null when that was done, else why not, though some of it may have been. */
  observe(life: Life, record: ConnectionRecord, way: LogWay = "als"): DropReason | null {
    const id = life.startMs === UNSTAMPED ? record.streamId : record.connectionId;
    if (id === "") return this.count(life, [], record, way); // nothing tells it from others: its end alone comes here
    const counted = life.connections.get(id) ?? [];
    const isHeld = counted.length > 0;
    if (!isHeld) {
      const ended = this.endedAs(life, id);
      if (ended !== undefined) return ended;
      if (!record.isOver && this.held >= this.limit) return "connections_full";
    }
    const refusal = this.count(life, counted, record);
    if (record.isOver) this.end(life, id, refusal);
    else if (!isHeld && counted.length > 0) this.hold(life, id, counted);
    return refusal;
  }

  /** Each connection that is remembered as over, oldest first, by `endedKey`; and what its entries are refused as. */
  *ended(): Generator<readonly [string, EndedAs]> {
    yield* this.oldEnded;
    yield* this.youngEnded;
  }

  restoreEnded(key: string, refusal: EndedAs): void {
    this.rememberKey(key, refusal);
  }

  /** Holds a connection that was held before the collector restarted, with what was counted of it. */
  restore(life: Life, id: ConnectionId, counted: ConnectionPart[]): void {
    if (!life.connections.has(id)) this.held++;
    life.connections.set(id, counted);
  }

  /** Lets go of those that ended while they were saved. */
  dropRestored(life: Life): void {
    for (const id of life.connections.keys()) {
      if (this.endedAs(life, id) !== undefined && life.connections.delete(id)) this.held--;
    }
  }

  /** Lets go of what a life holds. Its connections may go on: to count the next entry would be to count all of it again. */
  release(life: Life): void {
    if (life.startMs === UNSTAMPED) for (const id of life.connections.keys()) this.remember(life, id, "life_retired");
    this.held -= life.connections.size;
    life.connections.clear();
  }

  /**
   * Raises `counted` to what the record says, as far as the table takes it. A connection with an id is the same whichever way an entry of
   * it came, so there one reading takes in both.
   */
  private count(
    life: Life,
    counted: ConnectionPart[],
    { parts }: ConnectionRecord,
    way: LogWay = "als",
  ): "cells_full" | null {
    let refusal: "cells_full" | null = null;
    for (const [index, { labelKey, counts }] of parts.entries()) {
      const before = counted[index] ?? { labelKey, counts: counts.map(() => 0) };
      const gained = counts.map((count, field) => Math.max(0, count - (before.counts[field] as number)));
      if (gained.every((gain) => gain === 0)) continue;
      const reason = this.table.observe(life, { labelKey: before.labelKey, counts: gained }, way);
      if (reason === null) counted[index] = this.raised(life, before, gained);
      else refusal = reason;
    }
    return refusal;
  }

  /** With the table's own string for the label set: as many connections as are held might each have brought a long one. */
  private raised(life: Life, { labelKey, counts }: ConnectionPart, gained: readonly number[]): ConnectionPart {
    const raised = counts.map((count, field) => count + (gained[field] as number));
    return { labelKey: this.table.admission.heldKey(life, labelKey), counts: raised };
  }

  private hold(life: Life, id: ConnectionId, counted: ConnectionPart[]): void {
    life.connections.set(id, counted);
    this.held++;
  }

  private end(life: Life, id: ConnectionId, refusal: EndedAs): void {
    if (life.connections.delete(id)) this.held--;
    this.remember(life, id, refusal);
  }

  private remember(life: Life, id: ConnectionId, refusal: EndedAs): void {
    this.rememberKey(endedKey(life, id), refusal);
  }

  private rememberKey(key: string, refusal: EndedAs): void {
    if (this.youngEnded.size >= this.limit / 2) {
      this.oldEnded = this.youngEnded;
      this.youngEnded = new Map();
    }
    this.youngEnded.set(key, refusal);
  }

  /** Undefined for one that is not among them. */
  private endedAs(life: Life, id: ConnectionId): EndedAs | undefined {
    const key = endedKey(life, id);
    const refusal = this.youngEnded.get(key);
    return refusal === undefined ? this.oldEnded.get(key) : refusal;
  }
}

/** "17/4", "stream/8b1f": a stream id stands for itself, since a proxy that was let go and came back has two unstamped lives. */
function endedKey(life: Life, id: ConnectionId): string {
  return life.startMs === UNSTAMPED ? `stream/${id}` : `${life.serial}/${id}`;
}
