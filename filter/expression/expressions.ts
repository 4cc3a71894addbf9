// The CEL expressions of one plugin configuration, evaluated together: one host call per request for all of them.
//
//   source --translate--> stock Envoy's names --text form--> result is text --expr_create--> token, alone and in one list
//
// An expression that fails fails the whole list. Then all are evaluated alone, and those that failed are left out of the list from
// then on ("fragile"): whoever writes one that may fail pays for a call of its own, the others do not.

import { noteColdWork } from "../garbage.ts";
import {
  countFault,
  createExpression,
  deleteExpression,
  evaluateExpression,
  LogLevel,
  log,
  NO_EXPRESSION,
  utf8,
  valuePtr,
  valueSize,
} from "../host.ts";
import { Fault } from "../vocabulary/metrics.ts";
import { UNKNOWN } from "../vocabulary/values.ts";
import { textForm } from "./text-form.ts";
import { translate } from "./translate.ts";

/** Expressions of one configuration, and bytes of one source, at most. */
const MAX_EXPRESSIONS = 64;
const MAX_SOURCE_BYTES = 4096;

/** Longer results are cut here: no label value is longer than 255 bytes, and cleaning looks no further than this. */
const MAX_TEXT: usize = 512;

/** What add() answers for an expression that is not taken: Envoy does not compile it, or a limit was hit. */
const REFUSED: i32 = -1;
export const TOO_MANY: i32 = -2;
export const TOO_LONG: i32 = -3;

const UNKNOWN_TEXT = utf8(UNKNOWN);
const TRUE_TEXT = utf8("true");

@final
export class Expressions {
  /** Whether an expression reads a peer, whose Struct must then be set before evaluate() (peer-state.ts). */
  needsPeers: bool = false;

  private readonly sources: string[] = [];
  private readonly textForms: string[] = [];
  private readonly tokens: StaticArray<u32> = new StaticArray<u32>(MAX_EXPRESSIONS);
  private readonly fragile: StaticArray<bool> = new StaticArray<bool>(MAX_EXPRESSIONS);
  private list: u32 = NO_EXPRESSION;
  private listed: u32 = 0;
  private isListMade: bool = false;
  // Results of the last evaluate().
  private readonly ptrs: StaticArray<usize> = new StaticArray<usize>(MAX_EXPRESSIONS);
  private readonly sizes: StaticArray<usize> = new StaticArray<usize>(MAX_EXPRESSIONS);
  private readonly failures: StaticArray<bool> = new StaticArray<bool>(MAX_EXPRESSIONS);

  /**
   * Takes an expression in; its index for the results, the same for the same source. REFUSED, TOO_LONG or TOO_MANY when it
   * is not taken. Call while the plugin is configured: tokens belong to a root context.
   */
  add(source: string): i32 {
    const known = this.sources.indexOf(source);
    if (known >= 0) return known;
    const index = this.sources.length;
    if (index >= MAX_EXPRESSIONS) return TOO_MANY;
    if (String.UTF8.byteLength(source) > MAX_SOURCE_BYTES) return TOO_LONG;
    noteColdWork();
    const translation = translate(source);
    const form = textForm(translation.source);
    const token = createExpression(utf8(form));
    if (token === NO_EXPRESSION) return REFUSED;
    this.sources.push(source);
    this.textForms.push(form);
    this.tokens[index] = token;
    this.fragile[index] = false;
    if (translation.needsPeers) this.needsPeers = true;
    this.dropList();
    return index;
  }

  /** How many there are. */
  get count(): i32 {
    return this.sources.length;
  }

  has(source: string): bool {
    return this.sources.includes(source);
  }

  /**
   * Evaluates all for the stream whose callback is running; the results hold until the callback ends. Of no use in a tick: Envoy
   * does not evaluate for the effective context.
   */
  evaluate(): void {
    const count = this.sources.length;
    if (count === 0) return;
    if (!this.isListMade) this.makeList();
    const hasList = this.list !== NO_EXPRESSION;
    const isListRead = hasList && evaluateExpression(this.list) && this.readList();
    for (let i = 0; i < count; i++) {
      if (!isListRead || this.fragile[i]) this.evaluateAlone(i); // slow path
    }
    if (hasList && !isListRead) this.leaveOutFailed();
  }

  /** The result of an expression as UTF-8 text, cut at 512 bytes; `unknown` when it failed. */
  ptr(index: i32): usize {
    return this.ptrs[index];
  }

  size(index: i32): usize {
    return this.sizes[index];
  }

  failed(index: i32): bool {
    return this.failures[index];
  }

  /** Whether the result is the bool true, or its text. */
  isTrue(index: i32): bool {
    const length = <usize>TRUE_TEXT.byteLength;
    return this.sizes[index] === length && memory.compare(this.ptrs[index], changetype<usize>(TRUE_TEXT), length) === 0;
  }

  /** The result as an unsigned number; 0 for anything else, the largest for one beyond. */
  number(index: i32): u64 {
    const ptr = this.ptrs[index];
    const size = this.sizes[index];
    let value: u64 = 0;
    let isBeyond = false;
    for (let i: usize = 0; i < size; i++) {
      const digit = <u64>load<u8>(ptr + i) - 0x30;
      if (digit > 9) return 0; // below 0 it wraps
      if (value > (u64.MAX_VALUE - digit) / 10) isBeyond = true;
      else value = value * 10 + digit;
    }
    return isBeyond ? u64.MAX_VALUE : value;
  }

  /**
   * Gives all back to the host: the configuration was replaced. Nothing is left to evaluate. Call in a callback of the same plugin:
   * another one's expressions have the same tokens.
   */
  release(): void {
    this.dropList();
    for (let i = 0; i < this.sources.length; i++) deleteExpression(this.tokens[i]);
    this.sources.length = 0;
    this.textForms.length = 0;
    this.needsPeers = false;
    noteColdWork();
  }

  private makeList(): void {
    const forms: string[] = [];
    for (let i = 0; i < this.textForms.length; i++) {
      if (!this.fragile[i]) forms.push(this.textForms[i]);
    }
    this.isListMade = true;
    this.listed = forms.length;
    // Envoy may refuse the list for its length, 100,000 characters: then each is evaluated alone for good.
    if (forms.length > 0) this.list = createExpression(utf8("[" + forms.join(", ") + "]"));
    noteColdWork();
  }

  private dropList(): void {
    if (this.list !== NO_EXPRESSION) deleteExpression(this.list);
    this.list = NO_EXPRESSION;
    this.isListMade = false;
  }

  /**
   * Takes the list's values from the bytes just read; false, and counted, when they are none.
   *
   *   u32 count | count x (u32 size, u32 0) | count x (bytes, NUL, NUL)
   */
  private readList(): bool {
    const end = valuePtr + valueSize;
    let sizeAt = valuePtr + 4;
    let text = sizeAt + 8 * this.listed;
    let isWhole = text <= end && load<u32>(valuePtr) === this.listed;
    for (let i = 0; isWhole && i < this.sources.length; i++) {
      if (this.fragile[i]) continue;
      const size = <usize>load<u32>(sizeAt);
      isWhole = size + 2 <= end - text && size < end - text;
      if (!isWhole) break;
      this.keep(i, text, size, false);
      sizeAt += 8;
      text += size + 2;
    }
    if (!isWhole) countFault(Fault.HostCall);
    return isWhole;
  }

  private evaluateAlone(index: i32): void {
    if (evaluateExpression(this.tokens[index])) this.keep(index, valuePtr, valueSize, false);
    else this.keep(index, changetype<usize>(UNKNOWN_TEXT), UNKNOWN_TEXT.byteLength, true);
  }

  private keep(index: i32, ptr: usize, size: usize, hasFailed: bool): void {
    this.ptrs[index] = ptr;
    this.sizes[index] = min(size, MAX_TEXT);
    this.failures[index] = hasFailed;
  }

  /** The list failed: it is made again without those that failed alone, too. If none did, it stays. */
  private leaveOutFailed(): void {
    let isChanged = false;
    for (let i = 0; i < this.sources.length; i++) {
      if (this.fragile[i] || !this.failures[i]) continue;
      this.fragile[i] = true;
      isChanged = true;
      const source = this.sources[i].substring(0, 100);
      log(
        LogLevel.Warn,
        `meshtally: configuration: "${source}" could not be evaluated for a request; it is evaluated alone now`,
      );
    }
    if (isChanged) this.dropList();
  }
}
