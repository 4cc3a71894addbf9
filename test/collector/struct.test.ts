import { expect, test } from "vitest";
import { decodeMetadata } from "../../collector/proto/struct.ts";
import { encodeStruct, lengthDelimited } from "../fixtures/als.ts";

function decode(bytes: Buffer) {
  return decodeMetadata(bytes, 0, bytes.length);
}

test("text fields are kept by lower-case key, and LABELS is a level of its own", () => {
  const bytes = encodeStruct({ NAME: "a", Namespace: "ns", LABELS: { app: "a", "Some/Label": "é" } });
  expect(decode(bytes)).toEqual({
    texts: new Map([
      ["name", "a"],
      ["namespace", "ns"],
    ]),
    labels: new Map([
      ["app", "a"],
      ["Some/Label", "é"],
    ]),
  });
});

test("fields of other kinds are left out, on both levels", () => {
  const others = { number: 1, yes: true, nothing: null, list: ["a"], struct: { a: "b" } };
  expect(decode(encodeStruct({ ...others, LABELS: others }))).toEqual({ texts: new Map(), labels: new Map() });
});

test("of a key that stands twice the last value counts, whatever its kind", () => {
  const twice = (first: unknown, last: unknown) =>
    decode(Buffer.concat([encodeStruct({ NAME: first }), encodeStruct({ NAME: last })]));
  expect(twice("a", "b")?.texts).toEqual(new Map([["name", "b"]]));
  expect(twice("a", 5)?.texts).toEqual(new Map());
  expect(twice({ a: "b" }, "c")?.texts).toEqual(new Map([["name", "c"]]));
});

test("LABELS that stand twice are the last ones", () => {
  const bytes = Buffer.concat([encodeStruct({ LABELS: { a: "1", b: "1" } }), encodeStruct({ LABELS: { a: "2" } })]);
  expect(decode(bytes)?.labels).toEqual(new Map([["a", "2"]]));
});

test("of a Value with several members the last counts", () => {
  const value = Buffer.concat([lengthDelimited(5, encodeStruct({ a: "b" })), lengthDelimited(3, Buffer.from("text"))]);
  const entry = Buffer.concat([lengthDelimited(1, Buffer.from("LABELS")), lengthDelimited(2, value)]);
  expect(decode(lengthDelimited(1, entry))).toEqual({ texts: new Map([["labels", "text"]]), labels: new Map() });
});

test("a key without a value is no text", () => {
  const entry = lengthDelimited(1, lengthDelimited(1, Buffer.from("NAME")));
  expect(decode(entry)?.texts).toEqual(new Map());
});

test("nesting of any depth costs no stack: what lies deeper than LABELS is not walked", () => {
  let bytes = encodeStruct({ a: "b" });
  for (let depth = 0; depth < 1000; depth++) bytes = lengthDelimited(1, lengthDelimited(2, lengthDelimited(5, bytes)));
  const entry = Buffer.concat([
    lengthDelimited(1, Buffer.from("LABELS")),
    lengthDelimited(2, lengthDelimited(5, bytes)),
  ]);
  expect(decode(lengthDelimited(1, entry))?.labels.size).toBe(0);
});

test.each([
  ["a field", lengthDelimited(1, Buffer.from([0x0a, 5, 1]))],
  ["a value", lengthDelimited(1, lengthDelimited(2, Buffer.from([0x1a, 5, 1])))],
  ["the fields", Buffer.from([0x0a, 5, 1])],
  [
    "a label",
    lengthDelimited(
      1,
      Buffer.concat([
        lengthDelimited(1, Buffer.from("labels")),
        lengthDelimited(2, lengthDelimited(5, Buffer.from([0x0a, 9, 9]))),
      ]),
    ),
  ],
])("with %s broken it is no Struct", (_name, bytes) => {
  expect(decode(bytes)).toBeNull();
});
