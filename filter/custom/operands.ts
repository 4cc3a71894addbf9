// Operands: what the configuration asks of each request. An operand is an expression, or what a classifier decided.
//
//   first:  classifiers' conditions, and every expression that needs no classifier      one evaluation
//           classifiers decide, their attributes become filter state
//   second: expressions that use such an attribute inside a larger one                  one more, and usually there are none

import { Classifier } from "../config/metrics.ts";
import { complain } from "../config/reading.ts";
import { Expressions, TOO_LONG, TOO_MANY } from "../expression/expressions.ts";
import { countFault, setFilterState, utf8 } from "../host.ts";
import { declareText } from "../state-type.ts";
import { Fault } from "../vocabulary/metrics.ts";
import { WASM_STATE_PREFIX } from "../vocabulary/peer-metadata.ts";
import { cleanValue, MAX_VALUE_BYTES } from "../vocabulary/stat-name.ts";
import { UNKNOWN } from "../vocabulary/values.ts";
import { bytesOf } from "../wire/bytes.ts";
import { readText } from "../wire/text.ts";

/** No operand: the expression does not parse. */
export const BROKEN = -1;

/** Expressions of a configuration, conditions included: with the attributes they are what keys of facts have room for (request.ts). */
const MAX_EXPRESSIONS = 64;

/** Where an operand's value comes from; the rest of it is the index there. The bound on expressions is far below. */
const SECOND = 0x10000;
const ATTRIBUTE = 0x20000;
const INDEX = 0xffff;

/** Condition of an entry without one. */
const ALWAYS = -2;
const UNDECIDED = -1;
const NONE = -1;

const UNKNOWN_TEXT = utf8(UNKNOWN);

/** A classifier whose conditions are compiled. */
@final
class Attribute {
  readonly state: ArrayBuffer;
  /** Indexes of expressions, or ALWAYS. */
  conditions: i32[] = [];
  values: StaticArray<u8>[] = [];
  /** Index of the value that the current request has, or UNDECIDED. */
  decided: i32 = UNDECIDED;

  constructor(
    readonly name: string,
    /** Index of the one of the same name before it, which counts where this one decides nothing; or NONE. */
    readonly earlier: i32,
  ) {
    this.state = utf8(name);
  }

  /** The first condition that holds decides. One that cannot be evaluated ends the search, as in Istio, and is counted. */
  decide(expressions: Expressions): void {
    this.decided = UNDECIDED;
    for (let i = 0; i < this.conditions.length; i++) {
      const condition = this.conditions[i];
      if (condition !== ALWAYS && expressions.failed(condition)) {
        countFault(Fault.Expression);
        return;
      }
      if (condition !== ALWAYS && !expressions.isTrue(condition)) continue;
      this.decided = i;
      setFilterState(this.state, this.values[i]);
      return;
    }
  }
}

@final
export class Operands {
  private first: Expressions = new Expressions();
  private second: Expressions = new Expressions();
  private attributes: Attribute[] = [];

  constructor(classifiers: Classifier[]) {
    for (let i = 0; i < classifiers.length; i++) this.addAttribute(classifiers[i]);
  }

  /** Whether an expression speaks of a peer: then the peers must be filter state when `evaluate` is called. */
  get needsPeers(): bool {
    return this.first.needsPeers || this.second.needsPeers;
  }

  /** Compiles an expression; BROKEN, and complained about, when it does not parse. */
  add(path: string, source: string): i32 {
    const whole = source.trim();
    for (let i = this.attributes.length - 1; i >= 0; i--) {
      const name = this.attributes[i].name;
      const state = WASM_STATE_PREFIX + name;
      if (whole === name || whole === `filter_state['${state}']` || whole === `filter_state["${state}"]`) {
        return ATTRIBUTE | i;
      }
    }
    return this.compile(path, source, source, this.mentionsAttribute(source));
  }

  /** Compiles a condition: an expression that must be a bool. */
  addCondition(path: string, source: string): i32 {
    return this.compile(path, source, conditionOf(source), this.mentionsAttribute(source));
  }

  private mentionsAttribute(source: string): bool {
    for (let i = 0; i < this.attributes.length; i++) {
      if (source.includes(this.attributes[i].name)) return true;
    }
    return false;
  }

  private compile(path: string, source: string, compiled: string, isSecond: bool): i32 {
    const expressions = isSecond ? this.second : this.first;
    const isFull = this.first.count + this.second.count >= MAX_EXPRESSIONS;
    const index = isFull && !expressions.has(compiled) ? TOO_MANY : expressions.add(compiled);
    if (index >= 0) return isSecond ? SECOND | index : index;
    complain(path + ': "' + source.substring(0, 100) + '" ' + refusal(index) + "; it is left out");
    return BROKEN;
  }

  /** Evaluates everything for the current stream; the results hold until the callback ends. */
  evaluate(): void {
    this.first.evaluate();
    for (let i = 0; i < this.attributes.length; i++) this.attributes[i].decide(this.first);
    this.second.evaluate();
  }

  ptr(operand: i32): usize {
    if (operand & ATTRIBUTE) {
      const attribute = this.decidedOf(operand & INDEX);
      if (attribute === null) return changetype<usize>(UNKNOWN_TEXT);
      return changetype<usize>(attribute.values[attribute.decided]);
    }
    return this.expressionsOf(operand).ptr(operand & INDEX);
  }

  /** At most MAX_VALUE_BYTES: nothing behind matters to a label. */
  size(operand: i32): usize {
    let size: usize;
    if (operand & ATTRIBUTE) {
      const attribute = this.decidedOf(operand & INDEX);
      size = attribute === null ? UNKNOWN_TEXT.byteLength : attribute.values[attribute.decided].length;
    } else {
      size = this.expressionsOf(operand).size(operand & INDEX);
    }
    return wholeCharacters(this.ptr(operand), size);
  }

  /** The label value that the operand gives. Cold path. */
  label(operand: i32): string {
    return cleanValue(readText(this.ptr(operand), this.size(operand)));
  }

  /** Whether a condition holds; one that cannot be evaluated does not, and is counted. */
  holds(operand: i32): bool {
    const expressions = this.expressionsOf(operand);
    if (!expressions.failed(operand & INDEX)) return expressions.isTrue(operand & INDEX);
    countFault(Fault.Expression);
    return false;
  }

  /** The unsigned number that the operand gives; 0 when it is none. */
  number(operand: i32): u64 {
    return operand & ATTRIBUTE ? 0 : this.expressionsOf(operand).number(operand & INDEX);
  }

  /** Gives the compiled expressions back to the host. */
  release(): void {
    this.first.release();
    this.second.release();
  }

  private expressionsOf(operand: i32): Expressions {
    return operand & SECOND ? this.second : this.first;
  }

  /** The attribute of that name which decided last; null when none did. */
  private decidedOf(index: i32): Attribute | null {
    let at = index;
    while (at !== NONE) {
      const attribute = this.attributes[at];
      if (attribute.decided !== UNDECIDED) return attribute;
      at = attribute.earlier;
    }
    return null;
  }

  private addAttribute(classifier: Classifier): void {
    let earlier = NONE;
    for (let i = 0; i < this.attributes.length; i++) {
      if (this.attributes[i].name === classifier.attribute) earlier = i;
    }
    const attribute = new Attribute(classifier.attribute, earlier);
    for (let i = 0; i < classifier.conditions.length; i++) {
      const source = classifier.conditions[i];
      const path = classifier.path + `match[${i}].condition`;
      // Always one of the first: conditions see no attribute of this list.
      const condition = source.length === 0 ? ALWAYS : this.compile(path, source, conditionOf(source), false);
      if (condition === BROKEN) continue;
      attribute.conditions.push(condition);
      attribute.values.push(bytesOf(classifier.values[i]));
    }
    this.attributes.push(attribute);
    declareText(attribute.name);
  }
}

function refusal(index: i32): string {
  if (index === TOO_MANY) return "is one expression too many";
  return index === TOO_LONG
    ? "is too long"
    : "is no expression that this Envoy compiles (its log says why at level info)";
}

/** What is no bool is no condition: it fails. On a line of its own, since the source may end in a comment. */
function conditionOf(source: string): string {
  return "(" + source + "\n) == true";
}

/** How many of the bytes make whole characters of UTF-8 within MAX_VALUE_BYTES. */
function wholeCharacters(ptr: usize, size: usize): usize {
  let end: usize = MAX_VALUE_BYTES;
  if (size <= end) return size;
  while (end > 0 && (load<u8>(ptr + end) & 0xc0) === 0x80) end--;
  return end;
}
