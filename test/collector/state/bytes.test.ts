// Rows, numbers and texts as they are saved.

import { describe, expect, it } from "vitest";
import { TCP_SHAPE } from "../../../collector/series/shape.ts";
import { ByteReader, ByteWriter } from "../../../collector/state/bytes.ts";
import { HTTP_SHAPE } from "../../fixtures/counts.ts";

const READER = (bytes: Buffer) => new ByteReader(bytes, 0, bytes.length);

function there(
  row: Float64Array,
  metrics = HTTP_SHAPE.metrics,
): { readonly row: Float64Array; readonly length: number } {
  const writer = new ByteWriter();
  writer.row(row, 0, metrics);
  const bytes = writer.take();
  const read = new Float64Array(row.length).fill(7);
  READER(bytes).row(read, metrics);
  return { row: read, length: bytes.length };
}

function http(fill: (row: Float64Array) => void): Float64Array {
  const row = new Float64Array(HTTP_SHAPE.width);
  fill(row);
  return row;
}

describe("a row", () => {
  it.each<[string, Float64Array]>([
    ["of nothing", http(() => {})],
    ["of cumulative buckets and a sum", http((row) => row.fill(3, 0, 21).fill(12.25, 21, 22))],
    ["whose buckets fall, as no proxy's should", http((row) => row.set([9, 5, 1, 0, 2], 3))],
    ["of counts that only a float holds", http((row) => row.fill(2 ** 53 + 2))],
    ["of counts just below", http((row) => row.fill(2 ** 52 - 1))],
    ["of fractions, negative and endless numbers", http((row) => row.set([0.5, -1, Number.POSITIVE_INFINITY], 0))],
  ])("%s comes back as it was", (_what, row) => {
    expect(there(row).row).toEqual(row);
  });

  it("of connections comes back as it was", () => {
    const row = Float64Array.from([5, 4, 2 ** 40, 2 ** 33 + 1]);
    expect(there(row, TCP_SHAPE.metrics).row).toEqual(row);
  });

  it("takes a fifth of its numbers or less", () => {
    const row = http((each) => {
      for (let metric = 0; metric < 3; metric++) {
        for (let bucket = 0; bucket < 20; bucket++) each[1 + metric * 21 + bucket] = 1000 * bucket;
      }
    });
    expect(there(row).length).toBeLessThan((row.length * 8) / 3);
    expect(there(http(() => {})).length).toBeLessThan(10);
  });
});

describe("numbers and texts", () => {
  it.each([0, 1, 127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 32 + 5, 2 ** 53])("%d comes back", (value) => {
    const writer = new ByteWriter();
    writer.count(value);
    expect(READER(writer.take()).count()).toBe(value);
  });

  it("come back in order, whatever is in them", () => {
    const writer = new ByteWriter();
    writer.text("größe \u0000\n");
    writer.labelKey("\u0003abc\u00ff");
    writer.float(-0.125);
    const reader = READER(writer.take());
    expect([reader.text(), reader.labelKey(), reader.float(), reader.isDone]).toEqual([
      "größe \u0000\n",
      "\u0003abc\u00ff",
      -0.125,
      true,
    ]);
  });

  it("that are cut short are no numbers", () => {
    for (const bytes of [
      Buffer.alloc(0),
      Buffer.from([0x80]),
      Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ]) {
      expect(() => READER(bytes).count()).toThrow(/saved state/);
    }
    expect(() => READER(Buffer.from([200, 1, 2])).text()).toThrow(/cut short/);
    expect(() => READER(Buffer.from([9])).row(new Float64Array(HTTP_SHAPE.width), HTTP_SHAPE.metrics)).toThrow(
      /no known kind/,
    );
  });
});
