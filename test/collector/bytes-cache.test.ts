import { expect, test } from "vitest";
import { BytesCache } from "../../collector/proto/bytes-cache.ts";

function read(bytes: Buffer, start: number, stop: number): string {
  return bytes.toString("latin1", start, stop);
}

/** A reader that counts how often it is asked. */
function counting() {
  const calls: string[] = [];
  const make = (bytes: Buffer, start: number, stop: number) => {
    calls.push(read(bytes, start, stop));
    return calls.length;
  };
  return { calls, make };
}

test("the same bytes are made something of once, wherever they lie", () => {
  const cache = new BytesCache<number>(10, 100);
  const { calls, make } = counting();
  expect(cache.resolve(Buffer.from("..reviews"), 2, 9, make)).toBe(1);
  expect(cache.resolve(Buffer.from("reviews."), 0, 7, make)).toBe(1);
  expect(calls).toEqual(["reviews"]);
});

test("other bytes are told apart, whichever byte it is that differs", () => {
  const cache = new BytesCache<string>(10_000, 100);
  for (let length = 0; length < 12; length++) {
    const bytes = Buffer.alloc(length, 0x61);
    expect(cache.resolve(bytes, 0, length, read)).toBe("a".repeat(length));
    for (let at = 0; at < length; at++) {
      const other = Buffer.from(bytes);
      other[at] = 0x62;
      expect(cache.resolve(other, 0, length, read)).toBe(other.toString("latin1"));
    }
  }
});

test("the bytes may change afterwards: the key is a copy", () => {
  const cache = new BytesCache<string>(10, 100);
  const bytes = Buffer.from("aaaa");
  cache.resolve(bytes, 0, 4, read);
  bytes.fill("b");
  expect(cache.resolve(bytes, 0, 4, read)).toBe("bbbb");
  expect(cache.resolve(Buffer.from("aaaa"), 0, 4, read)).toBe("aaaa");
});

test("a key keeps no more memory than its bytes: it is not cut out of a larger buffer", () => {
  const cache = new BytesCache<string>(10, 100);
  cache.resolve(Buffer.from("a short key"), 0, 11, read);
  const known = Reflect.get(cache, "young") as ReadonlyMap<number, { readonly key: Buffer }>;
  expect([...known.values()].map(({ key }) => key.buffer.byteLength)).toEqual([11]);
});

test("a full cache forgets, and goes on to give right answers", () => {
  const cache = new BytesCache<string>(3, 100);
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 10; i++) expect(cache.resolve(Buffer.from(`key${i}`), 0, 4, read)).toBe(`key${i}`);
  }
});

test("a key beyond the limit is made anew each time and not held", () => {
  const cache = new BytesCache<number>(10, 4);
  const { calls, make } = counting();
  cache.resolve(Buffer.from("12345"), 0, 5, make);
  cache.resolve(Buffer.from("12345"), 0, 5, make);
  expect(calls).toHaveLength(2);
});

test("an empty key and a value of null are held like any other", () => {
  const cache = new BytesCache<null>(10, 4);
  let calls = 0;
  const make = () => {
    calls++;
    return null;
  };
  expect(cache.resolve(Buffer.alloc(0), 0, 0, make)).toBeNull();
  expect(cache.resolve(Buffer.alloc(0), 0, 0, make)).toBeNull();
  expect(calls).toBe(1);
});
