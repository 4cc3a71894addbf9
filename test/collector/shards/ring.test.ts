import { expect, it } from "vitest";
import { RingReader, RingWriter, ringMemory, SLOT_BYTES } from "../../../collector/shards/ring.ts";

function setUp() {
  const memory = ringMemory();
  return { writer: new RingWriter(memory), reader: new RingReader(memory) };
}

function fill(writer: RingWriter): number[] {
  const slots: number[] = [];
  for (let batch = writer.begin(); batch !== null; batch = writer.begin()) slots.push(batch.slot);
  return slots;
}

it("gives slot after slot until all are under way, and each again once it was taken", () => {
  const { writer, reader } = setUp();
  const slots = fill(writer);
  expect(slots).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  reader.taken();
  reader.taken();
  expect(fill(writer)).toEqual([0, 1]);
});

it("shows the reader the bytes that were written", () => {
  const { writer, reader } = setUp();
  writer.begin();
  const batch = writer.begin();
  batch?.bytes.write("hello");
  expect(batch?.bytes).toHaveLength(SLOT_BYTES);
  expect(reader.slot(1).toString("utf8", 0, 5)).toBe("hello");
});

it("does not wait where there is room, and gives up where there is none", () => {
  const { writer, reader } = setUp();
  fill(writer);
  expect(writer.waitForRoom(1)).toBe(false);
  for (let batch = 0; batch < 4; batch++) reader.taken();
  expect(writer.waitForRoom(60_000)).toBe(true);
});

it("tells once that there is room, when half of it is, if the writer waited in vain", () => {
  const { writer, reader } = setUp();
  fill(writer);
  expect(writer.waitForRoom(1)).toBe(false);
  expect(Array.from({ length: 8 }, () => reader.taken())).toEqual([
    false,
    false,
    false,
    true,
    false,
    false,
    false,
    false,
  ]);
});
