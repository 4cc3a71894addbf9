// Snappy piece by piece is what another reader of the format unpacks to the same bytes.

import snappy from "snappyjs";
import { expect, it } from "vitest";
import { SNAPPY_BLOCK_BYTES, SnappyBlocks } from "../../../collector/out/snappy.ts";
import { random } from "../../property/random.ts";

it.each([0, 1, SNAPPY_BLOCK_BYTES - 1, SNAPPY_BLOCK_BYTES, SNAPPY_BLOCK_BYTES + 1, 5 * SNAPPY_BLOCK_BYTES + 77])(
  "%i bytes in blocks unpack to what they were, one request after the other",
  (length) => {
    const next = random(length);
    const blocks = new SnappyBlocks();
    for (const kinds of [1, 3, 256]) {
      const bytes = Buffer.from(Array.from({ length }, () => Math.floor(next() * kinds)));
      for (let at = 0; at < length; at += SNAPPY_BLOCK_BYTES) blocks.add(bytes.subarray(at, at + SNAPPY_BLOCK_BYTES));
      expect(blocks.bytes).toBe(length);
      expect(snappy.uncompress(blocks.take()).equals(bytes)).toBe(true);
      expect(blocks.bytes).toBe(0);
    }
  },
);
