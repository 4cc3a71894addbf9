// Label sets: which are known, by their labels, and the metric ids of each. Never forgotten, because Envoy never forgets a metric that
// wasm defined; bounded by `max_label_sets`, beyond which everything is one set whose labels all read `other`.

import { BEYOND_PLAN, DEFINITION_ROWS, MESSAGE_ROWS, Plan, STANDARD_PLAN } from "./custom/plan.ts";
import { defineMetric } from "./host.ts";
import { packObservation } from "./observation.ts";
import { Table } from "./table.ts";
import { LABELS } from "./vocabulary/labels.ts";
import { OBSERVATION_LABELS_OFFSET } from "./vocabulary/observation.ts";
import { OTHER } from "./vocabulary/values.ts";
import { readText } from "./wire/text.ts";
import { Writer } from "./wire/writer.ts";

/** Room for label sets at first; doubled when they are more. */
const FIRST_LABEL_SETS = 1024;
const FIRST_IN_FLIGHT = 32;

@final
export class LabelSet {
  /** One metric id per row of the plan; 0 for one that is dropped or not defined yet. */
  readonly metrics: StaticArray<u32>;
  private hasHttp: bool = false;
  private hasMessages: bool = false;

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

  /** Defines, once, all metrics that are counted when a request is over. */
  defineHttp(): void {
    if (this.hasHttp) return; // fast path
    this.hasHttp = true;
    const reader = this.readIdentity();
    this.define(0, MESSAGE_ROWS, reader);
    this.define(DEFINITION_ROWS, this.plan.rows.length, reader);
  }

  /** Defines, once, the gRPC message counters. */
  defineMessages(): void {
    if (this.hasMessages) return;
    this.hasMessages = true;
    this.define(MESSAGE_ROWS, DEFINITION_ROWS, this.readIdentity());
  }

  private readIdentity(): IdentityReader {
    const custom = this.customIdentity;
    if (custom !== null) return new IdentityReader(this.plan, changetype<usize>(custom) + SERIAL_SIZE);
    return new IdentityReader(this.plan, changetype<usize>(this.observation) + OBSERVATION_LABELS_OFFSET);
  }

  private define(from: i32, to: i32, labels: IdentityReader): void {
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

/** Known label sets by their identity: one lot of those that are over, one of those in flight, so that neither takes the other's room. */
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

const over = new Lot(FIRST_LABEL_SETS);
const inFlight = new Lot(FIRST_IN_FLIGHT);

/** By the serial of the plan. */
const overflows = new Map<u32, LabelSet>();

/**
 * The label set with these values of LABELS and of the plan's operands, made on first sight; that of the overflow when there are
 * `limit` already. Cold path.
 */
export function resolveLabelSet(
  plan: Plan,
  values: StaticArray<string>,
  operands: Map<i32, string>,
  limit: i32,
): LabelSet {
  if (plan === BEYOND_PLAN) return overflowLabelSet(plan);
  blankUnused(plan, values);
  const observation = packObservation(plan, values, operands);
  const custom = packIdentity(plan, values, operands);
  const owner = custom !== null ? custom : observation;
  const offset = custom !== null ? 0 : OBSERVATION_LABELS_OFFSET;
  const lot = plan.isInFlight ? inFlight : over;
  const known = lot.find(changetype<usize>(owner) + offset, owner.length - offset);
  if (known !== null) return known;
  if (!lot.hasRoom(limit)) return overflowLabelSet(plan);
  const set = new LabelSet(plan, observation, custom, false);
  lot.add(owner, offset, set);
  return set;
}

function overflowLabelSet(plan: Plan): LabelSet {
  if (overflows.has(plan.serial)) return overflows.get(plan.serial);
  const values = new StaticArray<string>(LABELS.length).fill(OTHER);
  const operands = new Map<i32, string>();
  for (let i = 0; i < plan.operands.length; i++) operands.set(plan.operands[i], OTHER);
  const custom = packIdentity(plan, values, operands);
  const set = new LabelSet(plan, packObservation(plan, values, operands), custom, true);
  overflows.set(plan.serial, set);
  return set;
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
