// Indicator: what calls of one subject (a service, an instance, an endpoint, an edge) add up to, since it began and in recent slots.

import { LatencySketch } from "./latency-sketch.ts";
import { type CallMeasures, type ConnectionMeasures, FIELDS, Field } from "./measures.ts";
import type { Span } from "./slots.ts";

const FIELD_OF = {
  satisfied: Field.Satisfied,
  tolerating: Field.Tolerating,
  frustrated: Field.Frustrated,
} as const;

/** Takes latencies of which no window will know. */
const NOWHERE = new LatencySketch();

interface Slot {
  /** Its number (slots.ts). */
  number: number;
  readonly sums: Float64Array;
  readonly latencies: LatencySketch;
  /** Calls by code, where they are counted. */
  readonly codes: Map<string, number>;
}

/** The calls of some slots. */
export interface Window {
  readonly sums: Float64Array;
  readonly latencies: LatencySketch;
  /** Calls by code, of a subject whose are counted. */
  readonly codes: Map<string, number>;
}

export class Indicator {
  /** Calls by flag since it began. */
  readonly flags = new Map<string, number>();
  /** Let go: somebody who still holds it must ask for its successor. */
  isRetired = false;
  /** Of slots that have made room for others. */
  private readonly before = new Float64Array(FIELDS);
  /** Totals as they were told last. */
  private readonly told = new Float64Array(FIELDS);
  /** By number, modulo their count. */
  private readonly slots: (Slot | undefined)[];
  /** What comes too late for its slot: its sums go where those of former slots went. */
  private readonly late: Slot = { number: 0, sums: this.before, latencies: NOWHERE, codes: new Map() };
  /** The newest slot that anything went to. */
  private latest = 0;

  /** `kept`: so many slots are told apart. */
  constructor(
    kept: number,
    private readonly countsCodes = false,
  ) {
    this.slots = new Array<Slot | undefined>(kept).fill(undefined);
  }

  get latestSlot(): number {
    return this.latest;
  }

  /** `slot` is no older than the newest less the slots that are kept; or negative (Indicators.slotOf). */
  addCall(slot: number, call: CallMeasures): void {
    const { sums, latencies, codes } = this.slotAt(slot);
    (sums[Field.Calls] as number)++;
    if (this.countsCodes) codes.set(call.code, (codes.get(call.code) ?? 0) + 1);
    if (!call.isSuccess) (sums[Field.Failures] as number)++;
    if (call.latencyNs !== null) {
      (sums[Field.Timed] as number)++;
      (sums[Field.LatencyNs] as number) += call.latencyNs;
      latencies.add(call.latencyNs / 1000);
    }
    if (call.satisfaction !== null) (sums[FIELD_OF[call.satisfaction]] as number)++;
    (sums[Field.RequestBytes] as number) += call.requestBytes;
    (sums[Field.ResponseBytes] as number) += call.responseBytes;
    if (call.retries > 0) (sums[Field.Retries] as number) += call.retries;
    if (call.requestHeldNs !== null) {
      (sums[Field.RequestsHeld] as number)++;
      (sums[Field.RequestHeldNs] as number) += call.requestHeldNs;
    }
    if (call.responseHeldNs !== null) {
      (sums[Field.ResponsesHeld] as number)++;
      (sums[Field.ResponseHeldNs] as number) += call.responseHeldNs;
    }
    if (call.flags.length > 0) this.addFlags(call.flags);
  }

  addConnection(slot: number, connection: ConnectionMeasures): void {
    const { sums } = this.slotAt(slot);
    if (connection.isNew) (sums[Field.Connections] as number)++;
    (sums[Field.ReceivedBytes] as number) += connection.receivedBytes;
    (sums[Field.SentBytes] as number) += connection.sentBytes;
    if (connection.flags.length > 0) this.addFlags(connection.flags);
  }

  /**
   * Sums since it began. They never go down: beyond 2^53, where one wild duration takes them, a sum depends on the order in which it is
   * taken, and that changes as slots make room for others.
   */
  totals(): Float64Array {
    const totals = this.before.slice();
    for (const slot of this.slots) if (slot !== undefined) add(totals, slot.sums);
    for (let i = 0; i < totals.length; i++) totals[i] = Math.max(totals[i] as number, this.told[i] as number);
    this.told.set(totals);
    return totals;
  }

  window({ first, last }: Span): Window {
    const sums = new Float64Array(FIELDS);
    const latencies = new LatencySketch();
    const codes = new Map<string, number>();
    for (const slot of this.slots) {
      if (slot === undefined || slot.number < first || slot.number > last) continue;
      add(sums, slot.sums);
      latencies.merge(slot.latencies);
      addCodes(codes, slot.codes);
    }
    return { sums, latencies, codes };
  }

  private slotAt(number: number): Slot {
    if (number < 0) {
      if (-number > this.latest) this.latest = -number;
      NOWHERE.clear();
      this.late.codes.clear();
      return this.late;
    }
    const at = number % this.slots.length;
    const slot = this.slots[at];
    if (slot?.number === number) return slot; // fast
    if (number > this.latest) this.latest = number;
    if (slot === undefined) {
      const created = { number, sums: new Float64Array(FIELDS), latencies: new LatencySketch(), codes: new Map() };
      this.slots[at] = created;
      return created;
    }
    add(this.before, slot.sums);
    slot.sums.fill(0);
    slot.latencies.clear();
    slot.codes.clear();
    slot.number = number;
    return slot;
  }

  private addFlags(flags: readonly string[]): void {
    for (const flag of flags) this.flags.set(flag, (this.flags.get(flag) ?? 0) + 1);
  }
}

export function addCodes(codes: Map<string, number>, more: ReadonlyMap<string, number>): void {
  for (const [code, count] of more) codes.set(code, (codes.get(code) ?? 0) + count);
}

function add(sums: Float64Array, more: Float64Array): void {
  for (let i = 0; i < sums.length; i++) (sums[i] as number) += more[i] as number;
}
