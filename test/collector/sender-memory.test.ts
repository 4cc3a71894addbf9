// What is kept of a proxy for as long as its stream lives must not be what it sent, but what was taken of that.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { decodeAlsMessage } from "../../collector/proto/als.ts";
import { identifySender, type Sender } from "../../collector/resolver/attribution.ts";
import { MAX_VALUE_BYTES } from "../../collector/vocabulary.ts";
import { encodeMessage, structFields } from "../fixtures/als.ts";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

const SENDERS = 20;
const TEXT_BYTES = 1_000_000;

function heldBytes(): number {
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

test("a text of a megabyte in node metadata is held as the label that it becomes", () => {
  const metadata = structFields({ WORKLOAD_NAME: "w".repeat(TEXT_BYTES), LABELS: { app: "a".repeat(TEXT_BYTES) } });
  const bytes = encodeMessage({ identifier: { node: { id: "sidecar~1~a.b~b", metadata } } });
  const senders: Sender[] = [];
  const before = heldBytes();
  for (let i = 0; i < SENDERS; i++) {
    const identifier = decodeAlsMessage(bytes)?.identifier;
    if (identifier) senders.push(identifySender(identifier));
  }
  const grown = heldBytes() - before;
  expect(senders.map(({ own }) => own.workload.length)).toEqual(Array.from({ length: SENDERS }, () => MAX_VALUE_BYTES));
  expect(grown).toBeLessThan(SENDERS * TEXT_BYTES * 0.1);
});
