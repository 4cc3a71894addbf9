// Bytes of a saved state: whole numbers as varints, texts, and rows of numbers (series/slab.ts) packed by what they are.

import { CollectorError } from "../error.ts";
import type { MetricFields } from "../series/shape.ts";

const FIRST_SIZE = 256;
/** Whole numbers up to here are written as varints: twice as much still is exact, for the sign. */
const MAX_PACKED = 2 ** 52;
const RAW = 0;
const PACKED = 1;

/** Appends to bytes that grow. */
export class ByteWriter {
  private bytes = Buffer.allocUnsafe(FIRST_SIZE);
  private end = 0;

  get length(): number {
    return this.end;
  }

  /** What was written since the last call, as a copy. */
  take(): Buffer {
    const taken = Buffer.from(this.bytes.subarray(0, this.end));
    this.end = 0;
    return taken;
  }

  byte(value: number): void {
    this.reserve(1);
    this.bytes[this.end++] = value;
  }

  /** A whole number from 0 to 2^53. */
  count(value: number): void {
    this.reserve(10);
    this.end = writeVarint(this.bytes, this.end, value);
  }

  float(value: number): void {
    this.reserve(8);
    this.end = this.bytes.writeDoubleLE(value, this.end);
  }

  /** UTF-8. */
  text(value: string): void {
    this.raw(value, "utf8");
  }

  /** A packed label set: one byte per character. */
  labelKey(value: string): void {
    this.raw(value, "latin1");
  }

  /**
   * One row, of which `metrics` say what the fields are. Buckets are cumulative, so they are written as differences: a row of 512 bytes
   * takes some 90, or a few of each metric that counted nothing.
   */
  row(chunk: Float64Array, at: number, metrics: readonly MetricFields[]): void {
    if (!isPackable(chunk, at, metrics)) {
      this.rawRow(chunk, at, metrics);
      return;
    }
    this.reserve(2 + metrics.length * 8 + 10 * (metrics.at(-1) as MetricFields).to);
    this.bytes[this.end++] = PACKED;
    for (const { from, sum, to } of metrics) {
      let before = 0;
      let isEmpty = true;
      for (let field = from; field < to && isEmpty; field++) isEmpty = chunk[at + field] === 0;
      this.bytes[this.end++] = isEmpty ? 0 : 1;
      if (isEmpty) continue;
      for (let field = from; field < sum; field++) {
        const value = chunk[at + field] as number;
        const gain = value - before;
        this.end = writeVarint(this.bytes, this.end, gain < 0 ? -2 * gain - 1 : 2 * gain);
        before = value;
      }
      for (let field = sum; field < to; field++) {
        this.end = this.bytes.writeDoubleLE(chunk[at + field] as number, this.end);
      }
    }
  }

  /** Numbers of any kind. */
  numbers(values: Float64Array): void {
    const isPacked = values.every((value) => value >= 0 && value < MAX_PACKED && Number.isInteger(value));
    this.count(values.length);
    this.byte(isPacked ? PACKED : RAW);
    for (const value of values) {
      if (isPacked) this.count(value);
      else this.float(value);
    }
  }

  /** A whole number of either sign. */
  signed(value: number): void {
    this.count(value < 0 ? -2 * value - 1 : 2 * value);
  }

  private rawRow(chunk: Float64Array, at: number, metrics: readonly MetricFields[]): void {
    this.byte(RAW);
    for (const { from, to } of metrics)
      for (let field = from; field < to; field++) this.float(chunk[at + field] as number);
  }

  private raw(value: string, encoding: "utf8" | "latin1"): void {
    const length = Buffer.byteLength(value, encoding);
    this.count(length);
    this.reserve(length);
    this.end += this.bytes.write(value, this.end, encoding);
  }

  private reserve(length: number): void {
    if (this.end + length <= this.bytes.length) return;
    const larger = Buffer.allocUnsafe(2 * (this.end + length));
    this.bytes.copy(larger, 0, 0, this.end);
    this.bytes = larger;
  }
}

/** Reads what a ByteWriter wrote. Throws CollectorError `message_malformed` where that is cut short. */
export class ByteReader {
  private at: number;

  constructor(
    private readonly bytes: Buffer,
    start: number,
    private readonly stop: number,
  ) {
    this.at = start;
  }

  get isDone(): boolean {
    return this.at >= this.stop;
  }

  byte(): number {
    return this.bytes[this.skip(1)] as number;
  }

  count(): number {
    let value = 0;
    let unit = 1;
    for (let length = 0; length < 9; length++) {
      const byte = this.byte();
      value += (byte & 0x7f) * unit;
      if (byte < 0x80) return value;
      unit *= 128;
    }
    throw malformed("a number is too long");
  }

  float(): number {
    return this.bytes.readDoubleLE(this.skip(8));
  }

  text(): string {
    return this.raw("utf8");
  }

  labelKey(): string {
    return this.raw("latin1");
  }

  row(row: Float64Array, metrics: readonly MetricFields[]): void {
    const how = this.byte();
    if (how !== RAW && how !== PACKED) throw malformed("a row is of no known kind");
    for (const { from, sum, to } of metrics) {
      if (how === PACKED && this.byte() === 0) {
        row.fill(0, from, to);
        continue;
      }
      let before = 0;
      for (let field = from; field < to; field++) {
        if (how === RAW || field >= sum) {
          row[field] = this.float();
          continue;
        }
        const gain = this.count();
        before += gain % 2 === 0 ? gain / 2 : -(gain + 1) / 2;
        row[field] = before;
      }
    }
  }

  numbers(): Float64Array {
    const length = this.count();
    if (length > this.stop - this.at) throw malformed("it is cut short"); // each takes a byte at least
    const values = new Float64Array(length);
    const how = this.byte();
    if (how !== RAW && how !== PACKED) throw malformed("numbers are of no known kind");
    for (let i = 0; i < length; i++) values[i] = how === RAW ? this.float() : this.count();
    return values;
  }

  signed(): number {
    const packed = this.count();
    return packed % 2 === 0 ? packed / 2 : -(packed + 1) / 2;
  }

  private raw(encoding: "utf8" | "latin1"): string {
    const length = this.count();
    const at = this.skip(length);
    return this.bytes.toString(encoding, at, at + length);
  }

  private skip(length: number): number {
    const { at } = this;
    if (at + length > this.stop) throw malformed("it is cut short");
    this.at += length;
    return at;
  }
}

function isPackable(chunk: Float64Array, at: number, metrics: readonly MetricFields[]): boolean {
  for (const { from, sum } of metrics) {
    for (let field = from; field < sum; field++) {
      const value = chunk[at + field] as number;
      if (!(value >= 0 && value < MAX_PACKED && Number.isInteger(value))) return false;
    }
  }
  return true;
}

function writeVarint(bytes: Buffer, start: number, value: number): number {
  let at = start;
  let rest = value;
  while (rest >= 2 ** 31) {
    bytes[at++] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  while (rest >= 0x80) {
    bytes[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  bytes[at++] = rest;
  return at;
}

export function malformed(what: string): CollectorError {
  return new CollectorError("message_malformed", `saved state: ${what}`);
}
