// Custom: a configuration's rules and definitions, compiled; and for each request the plan that they make.

import { Definition, MetricRule, MetricsConfig } from "../config/metrics.ts";
import { complain, warn } from "../config/reading.ts";
import { noteColdWork } from "../garbage.ts";
import { LABELS } from "../vocabulary/labels.ts";
import { BUILD_METRIC, METRIC_PREFIX } from "../vocabulary/metrics.ts";
import { BROKEN, Operands } from "./operands.ts";
import {
  BEYOND_CONNECTION_PLAN,
  BEYOND_PLAN,
  Plan,
  Row,
  STANDARD_PLAN,
  STANDARD_VALUE,
  Subject,
  standardRows,
} from "./plan.ts";

/** Entries with a condition: each is a bit of what holds for a request. */
const MAX_CONDITIONS = 32;
/** Plans kept of a configuration; more are made again when they are needed. */
const MAX_PLANS = 256;
/** Contents of plans that are told apart by number, in a VM. Requests under yet another plan are counted in the overflow. */
const MAX_SERIALS = 1024;

class CompiledRule {
  /** In parallel: labels, and the operands that give their values, or BROKEN. */
  labels: string[] = [];
  operands: i32[] = [];

  constructor(
    private readonly rule: MetricRule,
    /** The bit of its condition; 0 when it has none. */
    readonly condition: u32,
    operands: Operands,
  ) {
    for (let i = 0; i < rule.dimensions.length; i++) {
      const dimension = rule.dimensions[i];
      this.labels.push(dimension.label);
      this.operands.push(operands.add(dimension.path, dimension.source));
    }
  }

  concerns(row: Row): bool {
    return this.rule.name.length === 0 || this.rule.name === row.shortName;
  }

  applyTo(row: Row): void {
    const rule = this.rule;
    if (!this.concerns(row)) return;
    if (row.isStandard) {
      if (rule.isDropped && rule.name.length > 0) row.isDropped = true; // Istio: without a name it says nothing
      for (let i = 0; i < rule.removed.length; i++) row.remove(rule.removed[i]);
    }
    for (let i = 0; i < this.labels.length; i++) {
      if (this.operands[i] !== BROKEN) row.set(this.labels[i], this.operands[i]);
      else row.remove(this.labels[i]); // Istio: what cannot be evaluated is not told
    }
  }
}

/** In a plan's content a standard label is one character, from "A" on. */
const FIRST_LABEL = 0x41;

const STANDARD_CONTENT = contentOf(Subject.Request, standardRows(Subject.Request), []);
const serials = new Map<string, u32>();

/** The plans for streams in flight and for connections under a configuration that changes nothing. */
export const STANDARD_MESSAGES = planOf(standardRows(Subject.Messages), Subject.Messages);
export const STANDARD_CONNECTION = planOf(standardRows(Subject.Connection), Subject.Connection);

@final
export class Custom {
  readonly operands: Operands;
  private readonly rules: CompiledRule[] = [];
  /** The condition of each bit. */
  private readonly conditions: i32[] = [];
  private readonly definitions: Definition[] = [];
  /** The operand that gives the value of each definition. */
  private readonly values: i32[] = [];
  /** By the conditions that hold. */
  private readonly requestPlans: Map<u32, Plan> = new Map<u32, Plan>();
  private readonly connectionPlans: Map<u32, Plan> = new Map<u32, Plan>();
  /**
   * The plans for what is reported in a tick: null when its labels depend on an expression. Envoy evaluates those in a stream's own
   * callbacks only.
   */
  readonly messagesInTick: Plan | null;
  readonly connectionInTick: Plan | null;

  constructor(config: MetricsConfig) {
    this.operands = new Operands(config.classifiers);
    for (let i = 0; i < config.definitions.length; i++) this.addDefinition(config.definitions[i]);
    for (let i = 0; i < config.rules.length; i++) this.addRule(config.rules[i]);
    this.messagesInTick = this.planInTick(Subject.Messages);
    this.connectionInTick = this.planInTick(Subject.Connection);
  }

  /** The plan for the current request or connection. `operands` must have been evaluated. */
  plan(subject: Subject): Plan {
    let holding: u32 = 0;
    for (let i = 0; i < this.conditions.length; i++) {
      if (this.operands.holds(this.conditions[i])) holding |= (<u32>1) << i;
    }
    const plans = subject === Subject.Connection ? this.connectionPlans : this.requestPlans;
    if (plans.has(holding)) return plans.get(holding);
    noteColdWork();
    if (plans.size >= MAX_PLANS) plans.clear();
    const plan = this.makePlan(holding, subject);
    plans.set(holding, plan);
    return plan;
  }

  /** The value of the definition for the current request. */
  number(definition: i32): u64 {
    return this.operands.number(this.values[definition]);
  }

  private addRule(rule: MetricRule): void {
    let bit: u32 = 0;
    if (rule.match.length > 0) {
      const condition = this.operands.addCondition(rule.path + "match", rule.match);
      if (condition === BROKEN) return; // when it would apply nobody knows, so it never does
      const at = this.placeOf(condition);
      if (at >= MAX_CONDITIONS) {
        complain(rule.path + `match: expected at most ${MAX_CONDITIONS} conditions; it is left out`);
        return;
      }
      bit = (<u32>1) << at;
    }
    this.nameSlips(rule);
    this.rules.push(new CompiledRule(rule, bit, this.operands));
  }

  /** What Istio takes in silence and nobody can have meant. */
  private nameSlips(rule: MetricRule): void {
    if (rule.isDropped && rule.name.length === 0) warn(rule.path + "drop: has no effect without a name");
    const isKnown = rule.name.length === 0 || isStandardName(METRIC_PREFIX + rule.name) || this.isDefined(rule.name);
    if (!isKnown) warn(rule.path + "name: there is no metric " + rule.name.substring(0, 100));
    for (let i = 0; i < rule.removed.length; i++) {
      if (LABELS.includes(rule.removed[i])) continue;
      warn(rule.path + "tags_to_remove: " + rule.removed[i].substring(0, 100) + " is no standard label");
    }
  }

  /** The bit of a condition, which entries may share; MAX_CONDITIONS when it is one too many. */
  private placeOf(condition: i32): i32 {
    const known = this.conditions.indexOf(condition);
    if (known >= 0) return known;
    if (this.conditions.length >= MAX_CONDITIONS) return MAX_CONDITIONS;
    return this.conditions.push(condition) - 1;
  }

  private addDefinition(definition: Definition): void {
    if (isStandardName(METRIC_PREFIX + definition.name)) {
      complain(definition.path + "name: " + definition.name + " is a standard metric and stays what it is");
      return;
    }
    if (this.isDefined(definition.name)) {
      complain(definition.path + "name: " + definition.name + " is defined already; it is left out");
      return;
    }
    const value = this.operands.add(definition.path + "value", definition.source);
    if (value === BROKEN) return;
    this.definitions.push(definition);
    this.values.push(value);
  }

  private isDefined(name: string): bool {
    for (let i = 0; i < this.definitions.length; i++) {
      if (this.definitions[i].name === name) return true;
    }
    return false;
  }

  private planInTick(subject: Subject): Plan | null {
    const rows = this.rowsFor(subject);
    for (let i = 0; i < this.rules.length; i++) {
      const rule = this.rules[i];
      for (let row = 0; row < rows.length; row++) {
        if (rows[row].isDropped || !rule.concerns(rows[row])) continue;
        if (rule.condition !== 0 || rule.labels.length > 0) return null;
        rule.applyTo(rows[row]);
      }
    }
    return planOf(rows, subject);
  }

  private makePlan(holding: u32, subject: Subject): Plan {
    const rows = this.rowsFor(subject);
    for (let i = 0; i < this.rules.length; i++) {
      const rule = this.rules[i];
      if (rule.condition !== 0 && (rule.condition & holding) === 0) continue;
      for (let row = 0; row < rows.length; row++) rule.applyTo(rows[row]);
    }
    return planOf(rows, subject);
  }

  /** Messages in flight are counted for themselves: nothing is over yet. */
  private rowsFor(subject: Subject): Row[] {
    const rows = standardRows(subject);
    if (subject === Subject.Messages) return rows;
    for (let i = 0; i < this.definitions.length; i++) {
      const definition = this.definitions[i];
      rows.push(new Row(METRIC_PREFIX + definition.name, definition.kind, false, []));
    }
    return rows;
  }
}

function isStandardName(name: string): bool {
  const rows = STANDARD_PLAN.rows;
  for (let i = 0; i < rows.length; i++) {
    if (rows[i].name === name) return true;
  }
  return name === BUILD_METRIC;
}

/**
 * The plan with these rows. Equal content has an equal number, so that a configuration that is loaded again does not make its label
 * sets new ones; a number is never given twice.
 */
function planOf(rows: Row[], subject: Subject): Plan {
  const operands = operandsOf(rows);
  const content = contentOf(subject, rows, operands);
  if (content === STANDARD_CONTENT) return STANDARD_PLAN;
  if (!serials.has(content)) {
    if (serials.size >= MAX_SERIALS) return subject === Subject.Connection ? BEYOND_CONNECTION_PLAN : BEYOND_PLAN;
    serials.set(content, serials.size + 1);
  }
  return new Plan(serials.get(content), rows, operands, subject);
}

/**
 * What makes label sets of a plan: its subject, its metrics, their labels, and which of them share a value. Where a value comes from does not, since
 * it is itself in the label set. Names hold nothing but letters, digits and _.
 */
function contentOf(subject: Subject, rows: Row[], operands: i32[]): string {
  let content = `${<i32>subject}\n`;
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i];
    content += `${row.name} ${<i32>row.kind}${row.isDropped ? "-" : "+"}`;
    for (let t = 0; t < row.tags.length; t++) {
      const tag = row.tags[t];
      const isPlain = tag.operand === STANDARD_VALUE;
      content += isPlain
        ? String.fromCharCode(FIRST_LABEL + tag.label)
        : `,${tag.name}=${operands.indexOf(tag.operand)};`;
    }
    content += "\n";
  }
  return content;
}

/** The operands of all labels, each once, in the order of the rows: it depends on nothing but the plan's content. */
function operandsOf(rows: Row[]): i32[] {
  const operands: i32[] = [];
  for (let i = 0; i < rows.length; i++) {
    if (rows[i].isDropped) continue;
    const tags = rows[i].tags;
    for (let t = 0; t < tags.length; t++) {
      const operand = tags[t].operand;
      if (operand !== STANDARD_VALUE && !operands.includes(operand)) operands.push(operand);
    }
  }
  return operands;
}
