// Indicators: the calls that access logs tell of, added up by service, instance, endpoint and edge. The one door of this folder for what
// writes; exposition.ts and summary.ts read.
//
// A call is added to what its two ends are on the side where it was seen. A server's side says how the service fares: service, instance and
// endpoint. A client's side says how it is seen from outside, with what never reached it: service and edge, as `detect_point="client"`.

import type { Indicator } from "./indicator.ts";
import type { CallMeasures, ConnectionMeasures } from "./measures.ts";
import { SLOT_MS, SLOTS_PER_MINUTE, slotOf } from "./slots.ts";
import { type DetectPoint, SUBJECT_KINDS, type Subject, Subjects } from "./subjects.ts";

/** Stands for the service of an end of which nothing is known. */
export const UNKNOWN_SERVICE = "unknown";

export interface IndicatorOptions {
  /** Most subjects of each kind; what is beyond goes to one named `other`. */
  readonly limit: number;
  /** Most endpoints of a service; what is beyond goes to its `other`. */
  readonly endpointsPerService: number;
  /** A call that began longer ago is counted as late, and goes nowhere else. */
  readonly lateAfterMs: number;
  /** A subject without calls for so long is let go. */
  readonly retireAfterMs: number;
}

/** The ends of one side of a call. */
export interface Ends {
  readonly point: DetectPoint;
  /** Service of the caller and of the called one; null when not known. */
  readonly source: string | null;
  readonly destination: string | null;
  /** Of the called one. */
  readonly instance: string | null;
  readonly namespace?: string | null;
}

/** Subjects by kind, and calls. */
export interface IndicatorHoldings {
  readonly subjects: Readonly<Record<string, number>>;
  readonly refused: Readonly<Record<string, number>>;
  readonly late: number;
  readonly ahead: number;
}

/** What calls with the same ends are added to. */
export interface Target {
  readonly ends: Ends;
  readonly service: Indicator;
  /** Of a server's side alone. */
  readonly instance: Indicator | null;
  readonly edge: Indicator;
}

export class Indicators {
  readonly subjects: Subjects;
  /** Calls that came too late to be added to their minute. */
  late = 0;
  /** Calls that began in the future, by our clock; they are added to the present. */
  ahead = 0;

  /** Of the time in which calls may come late, each minute is kept until it is complete, and the one after it. */
  constructor(private readonly options: IndicatorOptions) {
    this.subjects = new Subjects(options.limit, options.endpointsPerService, keptSlots(options.lateAfterMs));
  }

  /** Valid until one of its indicators is retired. */
  target(ends: Ends): Target {
    const { subjects } = this;
    const destination = ends.destination ?? UNKNOWN_SERVICE;
    const hasInstance = ends.point === "server" && ends.instance !== null;
    return {
      ends,
      service: subjects.service(destination, ends.point, ends.namespace).indicator,
      instance: hasInstance ? subjects.instance(destination, ends.instance).indicator : null,
      edge: subjects.edge(ends.source ?? UNKNOWN_SERVICE, destination, ends.point).indicator,
    };
  }

  endpoint(service: string | null, endpoint: string): Indicator {
    return this.subjects.endpoint(service ?? UNKNOWN_SERVICE, endpoint).indicator;
  }

  /**
   * The slot of a call that began then (Unix ms; 0 when it is not known). Of one that comes too late for its slot, the present one's,
   * negative: it is in what a subject came to since it began, and in no window. Counts what is late or ahead.
   */
  slotOf(startMs: number, nowMs: number): number {
    const current = slotOf(nowMs);
    if (startMs === 0) return current;
    if (startMs > nowMs) {
      if (startMs > nowMs + SLOT_MS) this.ahead++;
      return current;
    }
    if (nowMs - startMs <= this.options.lateAfterMs) return slotOf(startMs);
    this.late++;
    return -current;
  }

  /** `endpoint` of a server's side alone. */
  addCall(target: Target, endpoint: Indicator | null, slot: number, call: CallMeasures): void {
    target.service.addCall(slot, call);
    target.edge.addCall(slot, call);
    target.instance?.addCall(slot, call);
    endpoint?.addCall(slot, call);
  }

  addConnection(target: Target, slot: number, connection: ConnectionMeasures): void {
    target.service.addConnection(slot, connection);
    target.edge.addConnection(slot, connection);
    target.instance?.addConnection(slot, connection);
  }

  /** What is held, and what found no room or came at the wrong time. */
  get holdings(): IndicatorHoldings {
    const { subjects, late, ahead } = this;
    const counts = SUBJECT_KINDS.map((kind) => [kind, subjects.count(kind)] as const);
    return { subjects: Object.fromEntries(counts), refused: subjects.refused, late, ahead };
  }

  /** To be called now and then. Returns those that were let go. */
  retireIdle(nowMs: number): Subject[] {
    return this.subjects.retireBefore(slotOf(nowMs - this.options.retireAfterMs));
  }
}

/** So many minutes that have ended are kept whole. */
export function keptMinutes(lateAfterMs: number): number {
  return Math.floor(keptSlots(lateAfterMs) / SLOTS_PER_MINUTE) - 1;
}

function keptSlots(lateAfterMs: number): number {
  return Math.ceil(lateAfterMs / SLOT_MS) + SLOTS_PER_MINUTE + 1;
}

/** Whether all of it still counts. */
export function isCurrent({ service, instance, edge }: Target): boolean {
  return !(service.isRetired || edge.isRetired || instance?.isRetired === true);
}
