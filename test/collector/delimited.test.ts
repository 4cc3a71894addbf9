import { expect, test } from "vitest";
import { DelimitedReader } from "../../collector/proto/delimited.ts";
import { encodeDelimited } from "../fixtures/metric-family.ts";
import { random } from "../property/random.ts";

const MAX_BYTES = 1000;

function read(chunks: readonly Buffer[], maxBytes = MAX_BYTES) {
  const messages: string[] = [];
  const reader = new DelimitedReader(maxBytes, (bytes, start, stop) =>
    messages.push(bytes.toString("hex", start, stop)),
  );
  for (const chunk of chunks) if (!reader.write(chunk)) break;
  reader.end();
  return { messages, fault: reader.fault };
}

test("messages of any length come out whole, however the stream is cut", () => {
  const draw = random(1);
  for (let i = 0; i < 300; i++) {
    const messages = Array.from({ length: Math.floor(draw() * 6) }, () =>
      Buffer.alloc(Math.floor(draw() * (draw() < 0.5 ? 4 : 400)), i),
    );
    const stream = encodeDelimited(messages);
    const chunks = [];
    for (let at = 0; at < stream.length; ) {
      const stop = at + 1 + Math.floor(draw() * (draw() < 0.5 ? 3 : 300));
      chunks.push(stream.subarray(at, stop));
      at = stop;
    }
    expect(read(chunks)).toEqual({ messages: messages.map((bytes) => bytes.toString("hex")), fault: null });
  }
});

test.each([
  ["an empty stream", [], [], null],
  ["an empty chunk", [Buffer.alloc(0)], [], null],
  ["a message of no bytes", [Buffer.from([0])], [""], null],
  ["a length over two chunks", [Buffer.from([0x82]), Buffer.from([0x00, 1, 2])], ["0102"], null],
  ["an end within a length", [Buffer.from([1, 7, 0x80])], ["07"], "truncated"],
  ["an end within a message", [Buffer.from([1, 7, 2, 7])], ["07"], "truncated"],
  ["an end behind a length", [Buffer.from([1, 7, 2])], ["07"], "truncated"],
  ["a length beyond the bound", [Buffer.from([1, 7, 0xe9, 0x07])], ["07"], "too_large"],
  ["a length of six bytes", [Buffer.from([1, 7, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00])], ["07"], "malformed"],
])("%s", (_name, chunks, messages, fault) => {
  expect(read(chunks)).toEqual({ messages, fault });
});

test("after a fault nothing is read", () => {
  expect(read([Buffer.from([0xe9, 0x07]), Buffer.from([1, 7])])).toEqual({ messages: [], fault: "too_large" });
});

test("a message of many chunks is joined once", () => {
  const message = Buffer.alloc(8 * 1024 * 1024, 1);
  const stream = encodeDelimited([message]);
  const chunks = Array.from({ length: stream.length / 64 }, (_, i) => stream.subarray(i * 64, (i + 1) * 64));
  chunks.push(stream.subarray(chunks.length * 64));
  const began = performance.now();
  expect(read(chunks, message.length).messages[0]?.length).toBe(message.length * 2);
  expect(performance.now() - began).toBeLessThan(5000); // 131,072 joins of megabytes would take hours
});
