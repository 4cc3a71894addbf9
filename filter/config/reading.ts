// Reads the fields of a plugin configuration. A field that is not what was expected is logged with its path, counted and left at
// its default: one broken field never disables the rest.

import { countFault, LogLevel, log } from "../host.ts";
import { Fault } from "../vocabulary/metrics.ts";
import { JsonKind, JsonValue } from "../wire/json.ts";

/** Logs and counts what is wrong in the configuration, and what becomes of it: "metrics[2].match: ...; it is left out". */
export function complain(what: string): void {
  log(LogLevel.Error, "meshtally: configuration: " + what);
  countFault(Fault.Configuration);
}

/** Logs what is allowed, but hardly meant. */
export function warn(what: string): void {
  log(LogLevel.Warn, "meshtally: configuration: " + what);
}

/** Fields that nobody reads are named, so many at most. */
const MAX_UNKNOWN = 20;

/** All sections of the configuration that is being read. */
let sections: Section[] = [];

/** Call before a configuration is read. */
export function beginReading(): void {
  sections = [];
}

/** Call when all is read: names the fields that were there and that nobody asked for. A slip of the pen is found by it. */
export function endReading(): void {
  let named = 0;
  for (let i = 0; i < sections.length && named < MAX_UNKNOWN; i++)
    named += sections[i].nameUnknown(MAX_UNKNOWN - named);
  sections = [];
}

/** An object of the configuration and where it stands: "metadata_exchange." or "". */
@final
export class Section {
  private readonly known: string[] = [];

  constructor(
    private readonly value: JsonValue | null,
    readonly path: string,
  ) {
    sections.push(this);
  }

  /** Says that fields are known, although they have no effect here. */
  ignore(keys: readonly string[]): void {
    for (let i = 0; i < keys.length; i++) this.known.push(keys[i]);
  }

  /** Says that the section is left out, whatever it holds. */
  leaveOut(): void {
    const value = this.value;
    if (value !== null) this.ignore(value.keys);
  }

  /** Names the fields that are there and that nobody knows, at most so many; answers how many it named. */
  nameUnknown(most: i32): i32 {
    const value = this.value;
    if (value === null) return 0;
    let named = 0;
    for (let i = 0; i < value.keys.length && named < most; i++) {
      if (this.known.includes(value.keys[i])) continue;
      warn(this.path + value.keys[i].substring(0, 100) + ": no such field; it is ignored");
      named++;
    }
    return named;
  }

  /** Whether the configuration has this object. */
  get isThere(): bool {
    return this.value !== null;
  }

  /** The field as it is; null when it is absent. */
  field(key: string): JsonValue | null {
    this.known.push(key);
    const value = this.value;
    return value === null ? null : value.member(key);
  }

  /** An object in this object; an empty one when it is absent or something else. */
  section(key: string): Section {
    const value = this.field(key);
    if (value === null || value.kind === JsonKind.Object) return new Section(value, this.path + key + ".");
    this.complain(key, "an object", value);
    return new Section(null, this.path + key + ".");
  }

  /** The objects of a list; members that are none are left out. */
  sections(key: string): Section[] {
    const sections: Section[] = [];
    const value = this.field(key);
    if (value === null) return sections;
    if (value.kind !== JsonKind.List) {
      this.complain(key, "a list of objects", value);
      return sections;
    }
    for (let i = 0; i < value.items.length; i++) {
      const at = `${key}[${i}]`;
      if (value.items[i].kind === JsonKind.Object) sections.push(new Section(value.items[i], this.path + at + "."));
      else this.complain(at, "an object", value.items[i]);
    }
    return sections;
  }

  /** A bool, or the strings "true" and "false", which Istio's configuration may hold. */
  bool(key: string, absent: bool): bool {
    const value = this.field(key);
    if (value === null) return absent;
    if (value.kind === JsonKind.Bool) return value.bool;
    if (value.kind === JsonKind.Text && value.text === "true") return true;
    if (value.kind === JsonKind.Text && value.text === "false") return false;
    this.complain(key, "true or false", value);
    return absent;
  }

  text(key: string, absent: string): string {
    const value = this.field(key);
    if (value === null) return absent;
    if (value.kind === JsonKind.Text) return value.text;
    this.complain(key, "a string", value);
    return absent;
  }

  /** A whole number in [least, most]. */
  whole(key: string, absent: i32, least: i32, most: i32): i32 {
    const value = this.field(key);
    if (value === null) return absent;
    const isInRange =
      value.kind === JsonKind.Number &&
      value.number >= least &&
      value.number <= most &&
      Math.floor(value.number) === value.number;
    if (isInRange) return <i32>value.number;
    this.complain(key, `a whole number from ${least} to ${most}`, value);
    return absent;
  }

  /** A duration like "15s", "0.5s", "250ms", "5m" or "12h", in milliseconds. */
  durationMs(key: string, absent: u64): u64 {
    const value = this.field(key);
    if (value === null) return absent;
    const milliseconds = value.kind === JsonKind.Text ? parseDuration(value.text) : NaN;
    if (milliseconds >= 0 && milliseconds <= MAX_DURATION_MS) return <u64>milliseconds;
    this.complain(key, 'a duration like "15s", "250ms" or "12h"', value);
    return absent;
  }

  /** The index of a word in `words`. */
  choice(key: string, words: readonly string[], absent: i32): i32 {
    const value = this.field(key);
    if (value === null) return absent;
    const at = value.kind === JsonKind.Text ? words.indexOf(value.text) : -1;
    if (at >= 0) return at;
    this.complain(key, "one of " + words.join(", "), value);
    return absent;
  }

  /** The strings of a list; null when it is absent, or, as a whole, when one of them is no string. */
  texts(key: string): string[] | null {
    const value = this.field(key);
    if (value === null) return null;
    const texts: string[] = [];
    let odd: JsonValue | null = value.kind === JsonKind.List ? null : value;
    for (let i = 0; i < value.items.length; i++) {
      if (value.items[i].kind === JsonKind.Text) texts.push(value.items[i].text);
      else odd = value.items[i];
    }
    if (odd === null) return texts;
    this.complain(key, "a list of nothing but strings", odd);
    return null;
  }

  complain(key: string, expected: string, found: JsonValue): void {
    complain(this.path + key + ": expected " + expected + ", found " + quote(found) + "; it is left out");
  }
}

/** A year: longer means "never" and is a slip of the unit. */
const MAX_DURATION_MS: f64 = 365.0 * 86400000.0;

/** Milliseconds of "1.5s"; NaN when it is none. */
function parseDuration(text: string): f64 {
  let digits = 0;
  while (digits < text.length && isDecimal(text.charCodeAt(digits))) digits++;
  if (digits === 0 || text.indexOf(".") !== text.lastIndexOf(".")) return NaN;
  const unit = text.substring(digits);
  const number = parseFloat(text.substring(0, digits));
  if (unit === "ms") return number;
  if (unit === "s") return number * 1000.0;
  if (unit === "m") return number * 60000.0;
  return unit === "h" ? number * 3600000.0 : NaN;
}

function isDecimal(code: i32): bool {
  return code === 0x2e || (code >= 0x30 && code <= 0x39);
}

function quote(value: JsonValue): string {
  if (value.kind === JsonKind.List) return "a list";
  if (value.kind === JsonKind.Object) return "an object";
  if (value.kind !== JsonKind.Text) return value.text.substring(0, 100);
  return '"' + value.text.substring(0, 100) + '"';
}
