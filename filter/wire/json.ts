// JSON text -> JsonValue. For the plugin configuration only: total, bounded in depth, and it says where the text is broken.
// https://www.rfc-editor.org/rfc/rfc8259

import { readText } from "./text.ts";

const MAX_DEPTH = 32;

const BACKSLASH = 0x5c;
const LETTER_U = 0x75;

export enum JsonKind {
  Null,
  Bool,
  Number,
  Text,
  List,
  Object,
}

export class JsonValue {
  text: string = "";
  number: f64 = 0;
  bool: bool = false;
  /** Members of a list, or the values of an object in the order of `keys`. */
  items: JsonValue[] = [];
  keys: string[] = [];

  constructor(readonly kind: JsonKind) {}

  /** The member of an object; null when it is absent or this is no object. A key that stands twice: the last one. */
  member(key: string): JsonValue | null {
    const at = this.keys.lastIndexOf(key);
    return at < 0 ? null : this.items[at];
  }
}

/** Parses one value and nothing after it; null when the text is broken, then `JsonReader.errorAt` is the byte offset. */
export class JsonReader {
  errorAt: i32 = -1;
  private at: usize = 0;
  private start: usize = 0;
  private end: usize = 0;

  parse(ptr: usize, size: usize): JsonValue | null {
    this.start = ptr;
    this.at = ptr;
    this.end = ptr + size;
    const value = this.value(0);
    if (value === null) return null;
    return this.peek() === 0 && this.at === this.end ? value : this.fail();
  }

  private fail(): JsonValue | null {
    if (this.errorAt < 0) this.errorAt = <i32>(this.at - this.start);
    return null;
  }

  /** The next byte that is no white space; 0 at the end. */
  private peek(): u8 {
    while (this.at < this.end) {
      const byte = load<u8>(this.at);
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return byte;
      this.at++;
    }
    return 0;
  }

  private value(depth: i32): JsonValue | null {
    if (depth > MAX_DEPTH) return this.fail();
    const first = this.peek();
    if (first === 0x7b) return this.object(depth);
    if (first === 0x5b) return this.list(depth);
    if (first === 0x22) return this.text();
    if (first === 0x2d || (first >= 0x30 && first <= 0x39)) return this.number();
    if (first === 0x74) return this.word("true", JsonKind.Bool);
    if (first === 0x66) return this.word("false", JsonKind.Bool);
    if (first === 0x6e) return this.word("null", JsonKind.Null);
    return this.fail();
  }

  private word(word: string, kind: JsonKind): JsonValue | null {
    for (let i = 0; i < word.length; i++) {
      if (this.at >= this.end || load<u8>(this.at) !== <u8>word.charCodeAt(i)) return this.fail();
      this.at++;
    }
    const value = new JsonValue(kind);
    value.text = word;
    value.bool = word === "true";
    return value;
  }

  private number(): JsonValue | null {
    const from = this.at;
    while (this.at < this.end && isNumberByte(load<u8>(this.at))) this.at++;
    const value = new JsonValue(JsonKind.Number);
    value.text = readText(from, this.at - from);
    value.number = parseFloat(value.text);
    return isNaN(value.number) ? this.fail() : value;
  }

  private text(): JsonValue | null {
    const from = ++this.at;
    let hasEscape = false;
    while (this.at < this.end && load<u8>(this.at) !== 0x22) {
      if (load<u8>(this.at) === 0x5c) {
        hasEscape = true;
        this.at++;
      }
      this.at++;
    }
    if (this.at >= this.end) return this.fail();
    const raw = readText(from, this.at - from);
    this.at++;
    const value = new JsonValue(JsonKind.Text);
    value.text = hasEscape ? resolveEscapes(raw) : raw;
    return value;
  }

  private list(depth: i32): JsonValue | null {
    const value = new JsonValue(JsonKind.List);
    this.at++;
    if (this.close(0x5d)) return value;
    do {
      const item = this.value(depth + 1);
      if (item === null) return null;
      value.items.push(item);
    } while (this.close(0x2c));
    return this.close(0x5d) ? value : this.fail();
  }

  private object(depth: i32): JsonValue | null {
    const value = new JsonValue(JsonKind.Object);
    this.at++;
    if (this.close(0x7d)) return value;
    do {
      if (this.peek() !== 0x22) return this.fail();
      const key = this.text();
      if (key === null || !this.close(0x3a)) return this.fail();
      const item = this.value(depth + 1);
      if (item === null) return null;
      value.keys.push(key.text);
      value.items.push(item);
    } while (this.close(0x2c));
    return this.close(0x7d) ? value : this.fail();
  }

  /** Takes the byte when it is next. */
  private close(byte: u8): bool {
    if (this.peek() !== byte) return false;
    this.at++;
    return true;
  }
}

function isNumberByte(byte: u8): bool {
  const isSign = byte === 0x2b || byte === 0x2d;
  return isSign || byte === 0x2e || byte === 0x45 || byte === 0x65 || (byte >= 0x30 && byte <= 0x39);
}

/** Resolves backslash escapes; an escape that JSON does not know stands for the character itself. */
function resolveEscapes(raw: string): string {
  const units = new StaticArray<u16>(raw.length); // never more than before
  let count = 0;
  for (let i = 0; i < raw.length; i++) {
    let unit = raw.charCodeAt(i);
    if (unit === BACKSLASH && i + 1 < raw.length) {
      unit = raw.charCodeAt(++i);
      if (unit === LETTER_U && i + 4 < raw.length) {
        unit = <i32>parseInt(raw.substr(i + 1, 4), 16);
        i += 4;
      } else {
        unit = escaped(unit);
      }
    }
    units[count++] = <u16>unit;
  }
  return String.UTF16.decodeUnsafe(changetype<usize>(units), count << 1);
}

/** The character that a letter behind a backslash stands for. */
function escaped(letter: i32): i32 {
  if (letter === 0x6e) return 0x0a; // n
  if (letter === 0x74) return 0x09; // t
  if (letter === 0x72) return 0x0d; // r
  if (letter === 0x62) return 0x08; // b
  return letter === 0x66 ? 0x0c : letter; // f
}
