// Injuries of protobuf messages: of their bytes anywhere, and of one field at any depth with all lengths around it put right, since
// what breaks a message's outermost framing reaches no decoder behind it.

import { pick, type Random } from "../fixtures/als-random.ts";

/** One to four injuries, mostly one. `others`: messages that parts may come from. */
export function mutate(draw: Random, bytes: Buffer, others: readonly Buffer[] = [bytes]): Buffer {
  let mutant: Buffer = bytes;
  for (let i = Math.floor(draw() ** 3 * 4); i >= 0; i--) {
    mutant = draw() < 0.25 ? injure(draw, mutant, others) : injureField(draw, mutant, others, 0);
  }
  return mutant;
}

// === bytes ===

/** Flips a bit, replaces a byte, cuts the end off, cuts out, repeats, puts in, or goes on as another message. */
function injure(draw: Random, bytes: Buffer, others: readonly Buffer[]): Buffer {
  const at = Math.floor(draw() * bytes.length);
  const end = Math.min(bytes.length, at + 1 + Math.floor(draw() * 16));
  const copy = Buffer.from(bytes);
  switch (Math.floor(draw() * 7)) {
    case 0:
      copy[at] = (copy[at] ?? 0) ^ (1 << Math.floor(draw() * 8));
      return copy;
    case 1:
      copy[at] = pick(draw, [0, 1, 0x7f, 0x80, 0xff, Math.floor(draw() * 256)]);
      return copy;
    case 2:
      return bytes.subarray(0, at);
    case 3:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]);
    case 4:
      return Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)]);
    case 5:
      return Buffer.concat([bytes.subarray(0, at), noise(draw), bytes.subarray(at)]);
    default: {
      const other = pick(draw, others);
      return Buffer.concat([bytes.subarray(0, at), other.subarray(Math.floor(draw() * other.length))]);
    }
  }
}

export function noise(draw: Random): Buffer {
  return Buffer.from(Array.from({ length: Math.floor(draw() * 12) }, () => Math.floor(draw() * 256)));
}

// === fields ===

const VARINT = 0;
const LENGTH_DELIMITED = 2;
const WIRE_TYPES = [0, 1, 2, 3, 4, 5, 6, 7];
const MAX_DEPTH = 12;
const HUGE: readonly Buffer[] = [
  Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), // 2^64 - 1
  Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), // 2^63 - 1
  Buffer.from([0xff, 0xff, 0xff, 0xff, 0x0f]), // 2^32 - 1
  Buffer.from([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), // longer than a varint may be
];
/** UTF-8 that is none: a lone surrogate, an overlong NUL, a cut-off character, beyond U+10FFFF, a continuation alone. */
const INVALID_UTF8: readonly Buffer[] = [
  [0xed, 0xa0, 0x80],
  [0xc0, 0x80],
  [0xe2, 0x82],
  [0xf4, 0x90, 0x80, 0x80],
  [0xbf],
].map((bytes) => Buffer.from(bytes));
/** Keys that mean something to JavaScript's objects. */
const PROTOTYPE_KEYS = ["__proto__", "constructor", "prototype", "toString", "hasOwnProperty"];

/** A field of a message: bytes[start, stop), whose value begins at `value`. */
interface Field {
  readonly number: number;
  readonly wireType: number;
  readonly start: number;
  readonly value: number;
  readonly stop: number;
}

/** Injures one field, or one of the message that it may be. Bytes that have no field are injured as such. */
function injureField(draw: Random, bytes: Buffer, others: readonly Buffer[], depth: number): Buffer {
  const fields = fieldsOf(bytes);
  const field = fields[Math.floor(draw() * fields.length)];
  if (field === undefined) return injure(draw, bytes, others);
  const before = bytes.subarray(0, field.start);
  const after = bytes.subarray(field.stop);
  const mayHold = field.wireType === LENGTH_DELIMITED && field.stop - field.value > 1 && depth < MAX_DEPTH;
  if (mayHold && draw() < 0.85) {
    const value = injureField(draw, bytes.subarray(field.value, field.stop), others, depth + 1);
    return Buffer.concat([before, lengthDelimited(field.number, value), after]);
  }
  return Buffer.concat([before, injured(draw, bytes, field, others), after]);
}

/** What stands for the field after that. */
function injured(draw: Random, bytes: Buffer, field: Field, others: readonly Buffer[]): Buffer {
  const { number, start, value, stop } = field;
  const whole = bytes.subarray(start, stop);
  const content = bytes.subarray(value, stop);
  switch (Math.floor(draw() * 11)) {
    case 0: // left out
      return Buffer.alloc(0);
    case 1: // given twice, and more often
      return Buffer.concat(Array.from({ length: pick(draw, [2, 2, 2, 3, 50]) }, () => whole));
    case 2: // another wire type
      return Buffer.concat([varint(number * 8 + pick(draw, WIRE_TYPES)), bytes.subarray(value, stop)]);
    case 3: // another number
      return Buffer.concat([varint((1 + Math.floor(draw() * 40)) * 8 + field.wireType), bytes.subarray(value, stop)]);
    case 4: // a length that lies
      return Buffer.concat([varint(number * 8 + LENGTH_DELIMITED), lie(draw, content.length), content]);
    case 5: // a huge varint
      return Buffer.concat([varint(number * 8 + VARINT), pick(draw, HUGE)]);
    case 6: // a text that is no UTF-8
      return lengthDelimited(
        number,
        Buffer.concat([content.subarray(0, 3), pick(draw, INVALID_UTF8), content.subarray(3)]),
      );
    case 7: // deep nesting
      return nested(draw, number, content);
    case 8: // a part of another message
      return lengthDelimited(number, partOf(draw, pick(draw, others)));
    case 9: // a name of JavaScript's own
      return lengthDelimited(number, Buffer.from(pick(draw, PROTOTYPE_KEYS)));
    default:
      return lengthDelimited(number, noise(draw));
  }
}

function lie(draw: Random, length: number): Buffer {
  return draw() < 0.3 ? pick(draw, HUGE) : varint(Math.max(0, length + pick(draw, [-2, -1, 1, 2, 100, 100_000])));
}

/** A message in a message, again and again. */
function nested(draw: Random, number: number, content: Buffer): Buffer {
  let bytes: Buffer = content;
  for (let depth = pick(draw, [2, 10, 100]); depth >= 0; depth--) bytes = lengthDelimited(number, bytes);
  return bytes;
}

function partOf(draw: Random, bytes: Buffer): Buffer {
  const fields = fieldsOf(bytes);
  const field = fields[Math.floor(draw() * fields.length)];
  return field === undefined ? bytes : bytes.subarray(field.value, field.stop);
}

/** The fields of bytes that are a message; none if they are not. Written anew here: the decoder under test is no judge of itself. */
function fieldsOf(bytes: Buffer): Field[] {
  const fields: Field[] = [];
  for (let at = 0; at < bytes.length; ) {
    const tag = readVarint(bytes, at);
    if (tag === null || tag.value < 8) return [];
    const field = readField(bytes, at, tag);
    if (field === null || field.stop > bytes.length) return [];
    fields.push(field);
    at = field.stop;
  }
  return fields;
}

function readField(bytes: Buffer, start: number, tag: Varint): Field | null {
  const number = Math.floor(tag.value / 8);
  const wireType = tag.value % 8;
  const fixed = wireType === 1 ? 8 : wireType === 5 ? 4 : 0;
  if (fixed > 0) return { number, wireType, start, value: tag.stop, stop: tag.stop + fixed };
  const next = wireType === VARINT || wireType === LENGTH_DELIMITED ? readVarint(bytes, tag.stop) : null;
  if (next === null) return null;
  if (wireType === VARINT) return { number, wireType, start, value: tag.stop, stop: next.stop };
  return { number, wireType, start, value: next.stop, stop: next.stop + next.value };
}

interface Varint {
  readonly value: number;
  readonly stop: number;
}

function readVarint(bytes: Buffer, start: number): Varint | null {
  let value = 0;
  for (let at = start; at < Math.min(bytes.length, start + 10); at++) {
    const byte = bytes[at] as number;
    value += (byte & 0x7f) * 2 ** (7 * (at - start));
    if (byte < 0x80) return { value, stop: at + 1 };
  }
  return null;
}

function lengthDelimited(number: number, value: Buffer): Buffer {
  return Buffer.concat([varint(number * 8 + LENGTH_DELIMITED), varint(value.length), value]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  bytes.push(rest);
  return Buffer.from(bytes);
}
