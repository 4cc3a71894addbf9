// Label sets: which are known, by their labels, and the metric ids of each. Never forgotten, because Envoy never forgets a metric that
// wasm defined; bounded by `max_label_sets`, beyond which everything is one of the few sets of the overflow.

import {
  BEYOND_CONNECTION_PLAN,
  BEYOND_PLAN,
  DEFINITION_ROWS,
  MESSAGE_ROWS,
  Plan,
  STANDARD_PLAN,
  Subject,
  TCP_ROWS,
} from "./custom/plan.ts";
import { defineMetric } from "./host.ts";
import { packConnectionObservation, packObservation } from "./observation.ts";
import { Table } from "./table.ts";
import { LABELS } from "./vocabulary/labels.ts";
import { OBSERVATION_LABELS_OFFSET } from "./vocabulary/observation.ts";
import { overflowOf } from "./vocabulary/overflow.ts";
import { OTHER } from "./vocabulary/values.ts";
import { readText } from "./wire/text.ts";
import { Writer } from "./wire/writer.ts";

/** Room for label sets at first; doubled when they are more. */
const FIRST_LABEL_SETS = 1024;
const FIRST_IN_FLIGHT = 32;
const FIRST_CONNECTION_SETS = 256;

/** The metrics that are defined together: bits. */
export enum Metrics {
  Http = 1,
  Messages = 2,
  Tcp = 4,
  Definitions = 8,
}

@final
export class LabelSet {
  /** One metric id per row of the plan; 0 for one that is dropped or not defined yet. */
  readonly metrics: StaticArray<u32>;
  private defined: i32 = 0;

  constructor(
    readonly plan: Plan,
    /** In the standard plan the label set's identity is part of it. */
    readonly observation: StaticArray<u8>,
    /** Null in the standard plan. */
    private readonly customIdentity: StaticArray<u8> | null,
    /** Whether it stands for everything beyond the cap. */
    readonly isOverflow: bool,
  ) {
    this.metrics = new StaticArray<u32>(plan.rows.length);
  }

  /** Defines, each once, the metrics whose bits are set. */
  define(wanted: i32): void {
    const missing = wanted & ~this.defined;
    if (missing === 0) return; // fast path
    this.defined |= missing;
    const reader = this.readIdentity();
    if (missing & Metrics.Http) this.defineRows(0, MESSAGE_ROWS, reader);
    if (missing & Metrics.Messages) this.defineRows(MESSAGE_ROWS, TCP_ROWS, reader);
    if (missing & Metrics.Tcp) this.defineRows(TCP_ROWS, DEFINITION_ROWS, reader);
    if (missing & Metrics.Definitions) this.defineRows(DEFINITION_ROWS, this.plan.rows.length, reader);
  }

  private readIdentity(): IdentityReader {
    const custom = this.customIdentity;
    if (custom !== null) return new IdentityReader(this.plan, changetype<usize>(custom) + SERIAL_SIZE);
    return new IdentityReader(this.plan, changetype<usize>(this.observation) + OBSERVATION_LABELS_OFFSET);
  }

  private defineRows(from: i32, to: i32, labels: IdentityReader): void {
    const rows = this.plan.rows;
    const name = new Writer();
    for (let i = from; i < to; i++) {
      if (rows[i].isDropped) continue;
      name.cut(0);
      rows[i].writeTags(name, labels.values, labels.operands);
      name.text(rows[i].name);
      this.metrics[i] = defineMetric(rows[i].kind, name.ptr, name.length);
    }
  }
}

/*
 * An identity: the values of LABELS, then those of the plan's operands, each as u8 length and UTF-8. Under a plan of the user's own its
 * serial (u32) comes first. No value holds a NUL, so that a serial, whose upper bytes are 0, is never taken for a value.
 */
const SERIAL_SIZE: usize = 4;

class IdentityReader {
  readonly values: StaticArray<string> = new StaticArray<string>(LABELS.length).fill("");
  readonly operands: Map<i32, string> = new Map<i32, string>();
  private at: usize;

  constructor(plan: Plan, at: usize) {
    this.at = at;
    for (let i = 0; i < LABELS.length; i++) this.values[i] = this.text();
    for (let i = 0; i < plan.operands.length; i++) this.operands.set(plan.operands[i], this.text());
  }

  private text(): string {
    const size = <usize>load<u8>(this.at);
    const text = readText(this.at + 1, size);
    this.at += 1 + size;
    return text;
  }
}

/** Known label sets by their identity: one lot for each subject, so that none takes another's room. */
@final
class Lot {
  private table: Table<LabelSet>;

  constructor(room: i32) {
    this.table = new Table<LabelSet>(room);
  }

  find(ptr: usize, size: usize): LabelSet | null {
    return this.table.find(ptr, size);
  }

  hasRoom(limit: i32): bool {
    return this.table.count < limit;
  }

  add(identity: StaticArray<u8>, offset: i32, set: LabelSet): void {
    if (this.table.isFull) this.table = this.table.doubled();
    this.table.addShared(identity, offset, set);
  }
}

const ofRequests = new Lot(FIRST_LABEL_SETS);
const ofMessages = new Lot(FIRST_IN_FLIGHT);
const ofConnections = new Lot(FIRST_CONNECTION_SETS);

function lotOf(subject: Subject): Lot {
  if (subject === Subject.Request) return ofRequests;
  return subject === Subject.Messages ? ofMessages : ofConnections;
}

/** By the serial of the plan and the name of the overflow. */
const overflows = new Map<string, LabelSet>();

/**
 * The label set with these values of LABELS and of the plan's operands, made on first sight; the one of the overflow when
 * there are `limit` already. Cold path.
 */
export function resolveLabelSet(
  plan: Plan,
  values: StaticArray<string>,
  operands: Map<i32, string>,
  limit: i32,
): LabelSet {
  if (plan === BEYOND_PLAN || plan === BEYOND_CONNECTION_PLAN) return overflowLabelSet(plan, values);
  blankUnused(plan, values);
  const observation = packFor(plan, values, operands);
  const custom = packIdentity(plan, values, operands);
  const owner = custom !== null ? custom : observation;
  const offset = custom !== null ? 0 : OBSERVATION_LABELS_OFFSET;
  const lot = lotOf(plan.subject);
  const known = lot.find(changetype<usize>(owner) + offset, owner.length - offset);
  if (known !== null) return known;
  if (!lot.hasRoom(limit)) return overflowLabelSet(plan, values);
  const set = new LabelSet(plan, observation, custom, false);
  lot.add(owner, offset, set);
  return set;
}

function overflowLabelSet(plan: Plan, beyond: StaticArray<string>): LabelSet {
  const overflow = overflowOf(beyond.slice<string[]>());
  const name = `${plan.serial}/${overflow.name}`;
  if (overflows.has(name)) return overflows.get(name);
  const values = new StaticArray<string>(LABELS.length);
  for (let i = 0; i < values.length; i++) values[i] = overflow.valueOf(i);
  blankUnused(plan, values);
  const operands = new Map<i32, string>();
  for (let i = 0; i < plan.operands.length; i++) operands.set(plan.operands[i], OTHER);
  const custom = packIdentity(plan, values, operands);
  const set = new LabelSet(plan, packFor(plan, values, operands), custom, true);
  overflows.set(name, set);
  return set;
}

function packFor(plan: Plan, values: StaticArray<string>, operands: Map<i32, string>): StaticArray<u8> {
  if (plan.subject === Subject.Connection) return packConnectionObservation(plan, values, operands);
  return packObservation(plan, values, operands);
}

/** A label that no metric carries must not tell label sets apart. */
function blankUnused(plan: Plan, values: StaticArray<string>): void {
  for (let i = 0; i < values.length; i++) {
    if (!plan.usesLabel[i]) values[i] = "";
  }
}

/** Null in the standard plan. */
function packIdentity(plan: Plan, values: StaticArray<string>, operands: Map<i32, string>): StaticArray<u8> | null {
  if (plan === STANDARD_PLAN) return null;
  const out = new Writer();
  out.u32(plan.serial);
  for (let i = 0; i < values.length; i++) out.shortText(values[i]);
  for (let i = 0; i < plan.operands.length; i++) out.shortText(operands.get(plan.operands[i]));
  return out.take();
}
