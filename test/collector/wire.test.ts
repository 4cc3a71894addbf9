import { describe, expect, test } from "vitest";
import { bytesTag, varintTag, WireReader } from "../../collector/proto/wire.ts";

function open(...bytes: number[]): WireReader {
  const reader = new WireReader();
  reader.open(Buffer.from(bytes), 0, bytes.length);
  return reader;
}

test("an empty message has no fields and is well formed", () => {
  const reader = open();
  expect(reader.next()).toBe(false);
  expect(reader.isMalformed).toBe(false);
});

test.each([
  ["one byte", [0x08, 0x05], 5],
  ["two bytes", [0x08, 0xac, 0x02], 300],
  ["28 bits and more", [0x08, 0xff, 0xff, 0xff, 0xff, 0x0f], 2 ** 32 - 1],
  ["33 bits", [0x08, 0x80, 0x80, 0x80, 0x80, 0x10], 2 ** 32],
  ["53 bits", [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f], Number.MAX_SAFE_INTEGER],
  ["64 bits", [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], 2 ** 64],
  ["more zeros than needed", [0x08, 0x85, 0x80, 0x80, 0x00], 5],
])("a varint of %s is read as uint64", (_name, bytes, value) => {
  const reader = open(...bytes);
  expect(reader.next()).toBe(true);
  expect(reader.tag).toBe(varintTag(1));
  expect(reader.uint64()).toBe(value);
  expect(reader.next()).toBe(false);
  expect(reader.isMalformed).toBe(false);
});

test("a negative number comes as ten bytes and is read as int64", () => {
  const reader = open(0x08, 0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01);
  expect(reader.next()).toBe(true);
  expect(reader.int64()).toBe(-5);
});

test("a bool is set by any bit, also one of the upper half", () => {
  const reader = open(0x08, 0x80, 0x80, 0x80, 0x80, 0x10, 0x08, 0x00);
  expect([reader.next(), reader.bool()]).toEqual([true, true]);
  expect([reader.next(), reader.bool()]).toEqual([true, false]);
});

test("bytes, and fixed 32 and 64 bit values, are given as the place where they lie", () => {
  const reader = open(0x0a, 2, 0x68, 0x69, 0x15, 1, 2, 3, 4, 0x19, 1, 2, 3, 4, 5, 6, 7, 8, 0x22, 0);
  const places = [];
  while (reader.next()) places.push([reader.tag >>> 3, reader.start, reader.stop]);
  expect(places).toEqual([
    [1, 2, 4],
    [2, 5, 9],
    [3, 10, 18],
    [4, 20, 20],
  ]);
  expect(reader.isMalformed).toBe(false);
});

test("text is UTF-8, and what is not reads U+FFFD", () => {
  const reader = open(0x0a, 2, 0xc3, 0xa9, 0x0a, 1, 0xff, 0x0a, 0);
  const texts = [];
  while (reader.next()) texts.push(reader.text());
  expect(texts).toEqual(["é", "\ufffd", ""]);
});

test("field numbers up to the largest are told apart", () => {
  const reader = open(0xfa, 0xff, 0xff, 0xff, 0x0f, 0, 0x82, 0x01, 0);
  expect([reader.next(), reader.tag]).toEqual([true, bytesTag(2 ** 29 - 1)]);
  expect([reader.next(), reader.tag]).toEqual([true, bytesTag(16)]);
});

describe("malformed is", () => {
  test.each([
    ["a tag without a value", [0x08]],
    ["a tag that is cut short", [0x80]],
    ["a varint that is cut short", [0x08, 0x80]],
    ["a varint of eleven bytes", [0x08, ...new Array(10).fill(0x80), 0x01]],
    ["a field number 0", [0x02, 0]],
    ["a field number beyond 29 bits", [0xfa, 0xff, 0xff, 0xff, 0x1f, 0]],
    ["a length beyond the end", [0x0a, 3, 1, 2]],
    ["a length beyond 32 bits", [0x0a, 0x80, 0x80, 0x80, 0x80, 0x10]],
    ["four bytes that are three", [0x0d, 1, 2, 3]],
    ["eight bytes that are seven", [0x09, 1, 2, 3, 4, 5, 6, 7]],
    ["the start of a group", [0x0b, 0x0c]],
    ["the end of a group", [0x0c]],
    ["wire type 6", [0x0e, 0]],
    ["wire type 7", [0x0f, 0]],
  ])("%s, and the walk ends there", (_name, bytes) => {
    const reader = open(...bytes);
    expect(reader.next()).toBe(false);
    expect(reader.isMalformed).toBe(true);
    expect(reader.next()).toBe(false);
  });
});

test("a walk stays within its bounds: bytes behind them are not looked at", () => {
  const reader = new WireReader();
  reader.open(Buffer.from([0xff, 0x08, 0x01, 0x0a, 0x05, 0xff]), 1, 3);
  expect([reader.next(), reader.low]).toEqual([true, 1]);
  expect(reader.next()).toBe(false);
  expect(reader.isMalformed).toBe(false);
});

test("a reader that has failed starts over on the next message", () => {
  const reader = open(0x80);
  reader.next();
  reader.open(Buffer.from([0x08, 0x01]), 0, 2);
  expect(reader.isMalformed).toBe(false);
  expect(reader.next()).toBe(true);
});

test.each([
  [[0x00], 0],
  [[0x01], -1],
  [[0x02], 1],
  [[0xff, 0xff, 0xff, 0xff, 0x0f], -(2 ** 31)],
  [[0xfe, 0xff, 0xff, 0xff, 0x0f], 2 ** 31 - 1],
  [[0x80, 0x80, 0x80, 0x80, 0x20], 2 ** 32],
  [[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], -(2 ** 63)],
])("the varint %j is read as sint64 %d", (bytes, value) => {
  const reader = open(0x08, ...bytes);
  expect(reader.next()).toBe(true);
  expect(reader.sint64()).toBe(value);
});

test("eight bytes are read as a double", () => {
  const reader = open(0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0xbf);
  expect([reader.next(), reader.double()]).toEqual([true, -1.5]);
});

test("a packed list is walked number by number, and one that breaks off is malformed", () => {
  const reader = open(0x05, 0xac, 0x02, 0x00);
  const numbers = [];
  while (reader.nextPacked()) numbers.push(reader.uint64());
  expect([numbers, reader.isMalformed]).toEqual([[5, 300, 0], false]);
  const broken = open(0x05, 0xac);
  expect([broken.nextPacked(), broken.nextPacked(), broken.isMalformed]).toEqual([true, false, true]);
});

test("the place of the next field is where its tag begins", () => {
  const reader = open(0x0a, 2, 0x68, 0x69, 0x08, 1);
  const places = [reader.position];
  while (reader.next()) places.push(reader.position);
  expect(places).toEqual([0, 4, 6]);
});
