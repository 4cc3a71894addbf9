import { describe, expect, it } from "vitest";
import { Fingerprint } from "../../collector/proto/fingerprint.ts";
import { FingerprintCache } from "../../collector/proto/fingerprint-cache.ts";
import { randomNumbers } from "../host/random.ts";

/** Of these parts, each behind a byte of its own, so that none is aligned. */
function fingerprintOf(parts: readonly (string | number)[], maxWords = 64): Fingerprint {
  const fingerprint = new Fingerprint(maxWords);
  const bytes = Buffer.from(parts.map((part) => `.${part}`).join(""));
  fingerprint.open(bytes);
  let at = 0;
  for (const [index, part] of parts.entries()) {
    const stop = at + 1 + Buffer.byteLength(String(part));
    if (typeof part === "number") fingerprint.addNumber(index + 1, part);
    else fingerprint.add(index + 1, at + 1, stop);
    at = stop;
  }
  return fingerprint;
}

/** A fingerprint of `count` words that differ by that number. */
function numbered(number: number, count = 1): Fingerprint {
  return fingerprintOf(
    Array.from({ length: count }, () => number),
    2 * count,
  );
}

describe("Fingerprint", () => {
  it.each([
    ["equal parts", ["a", "bc"], ["a", "bc"], true],
    ["another byte", ["a", "bcdefgh"], ["a", "bcdefgx"], false],
    ["a byte of another part", ["ab", "c"], ["a", "bc"], false],
    ["zeros behind", ["ab"], ["ab\0"], false],
    ["zeros before", ["ab"], ["\0ab"], false],
    ["no part and an empty one", [], [""], false],
    ["a number and its bytes", [0x61626364], ["abcd"], false],
    ["numbers", [1, 2], [1, 3], false],
    ["numbers of any sign", [-1], [0xffffffff | 0], true],
  ])("%s", (_, one, other, isEqual) => {
    const cache = new FingerprintCache<string>(16);
    cache.set(fingerprintOf(one), "known");
    expect(cache.get(fingerprintOf(other))).toBe(isEqual ? "known" : undefined);
  });

  it("says of parts that do not fit that it is not whole, and holds none beyond its room", () => {
    expect(fingerprintOf(["abcdefg"], 3).isWhole).toBe(true);
    expect(fingerprintOf(["abcdefghi"], 3).isWhole).toBe(false);
    expect(fingerprintOf(["abcd", 1], 3).isWhole).toBe(false);
    const tooLong = new Fingerprint(100_000);
    tooLong.open(Buffer.alloc(70_000));
    tooLong.add(1, 0, 70_000);
    expect(tooLong.isWhole).toBe(false); // its length would not fit into a head
  });

  it("starts over whole", () => {
    const fingerprint = fingerprintOf(["abcdefghi"], 3);
    fingerprint.open(Buffer.from("xy"));
    fingerprint.add(1, 0, 2);
    expect(fingerprint).toMatchObject({ isWhole: true, length: 2 });
  });

  it("tells apart parts of random bytes wherever they stand", () => {
    const random = randomNumbers(7);
    const bytes = Buffer.from(Array.from({ length: 300 }, () => random(256)));
    const one = new Fingerprint(256);
    const other = new Fingerprint(256);
    for (let round = 0; round < 2000; round++) {
      const start = random(100);
      const stop = start + random(100);
      const shifted = Buffer.concat([Buffer.alloc(random(9)), bytes.subarray(start, stop)]);
      one.open(bytes);
      one.add(1, start, stop);
      other.open(shifted);
      other.add(1, shifted.length - (stop - start), shifted.length);
      expect(Buffer.from(other.words.buffer, 0, other.length * 4)).toEqual(
        Buffer.from(one.words.buffer, 0, one.length * 4),
      );
      expect(other.hash()).toBe(one.hash());
    }
  });
});

describe("FingerprintCache", () => {
  it("finds what was set, and a key set twice reads as the later value", () => {
    const cache = new FingerprintCache<number>(100);
    cache.set(numbered(1), 1);
    cache.set(numbered(2), 2);
    cache.set(numbered(1), 3);
    expect([1, 2, 3].map((number) => cache.get(numbered(number)))).toEqual([3, 2, undefined]);
    cache.clear();
    expect(cache.get(numbered(2))).toBeUndefined();
  });

  it("forgets what nobody asks for, keeps the rest, and never finds anything wrong", () => {
    const cache = new FingerprintCache<number>(1000);
    let missed = 0;
    for (let number = 0; number < 20_000; number++) {
      cache.set(numbered(number, 300), number); // several chunks
      expect(cache.get(numbered(number, 300))).toBe(number);
      for (const asked of [5, number >> 1]) {
        const found = cache.get(numbered(asked, 300));
        if (asked === 5 && number > 5 && found === undefined) missed++;
        if (found !== undefined) expect(found).toBe(asked);
      }
    }
    expect(missed).toBe(0);
    expect(cache.get(numbered(100, 300))).toBeUndefined();
  });

  it("holds on where hashes collide: a key that finds no place takes another's", () => {
    class Colliding extends Fingerprint {
      override hash(): number {
        return 42;
      }
    }
    const cache = new FingerprintCache<number>(200);
    const of = (number: number) => {
      const fingerprint = new Colliding(8);
      fingerprint.open(Buffer.alloc(0));
      fingerprint.addNumber(1, number);
      return fingerprint;
    };
    for (let number = 0; number < 150; number++) {
      cache.set(of(number), number);
      expect(cache.get(of(number))).toBe(number);
    }
    const found = Array.from({ length: 150 }, (_, number) => cache.get(of(number)));
    for (const [number, value] of found.entries()) expect([number, undefined]).toContain(value);
  });
});
