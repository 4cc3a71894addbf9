import { deflateSync, gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { type FrameFault, FrameReader } from "../../collector/receiver/frames.ts";

const MAX_BYTES = 100;

function frame(message: Buffer, isPacked = false, length = message.length): Buffer {
  const header = Buffer.from([isPacked ? 1 : 0, 0, 0, 0, 0]);
  header.writeUInt32BE(length, 1);
  return Buffer.concat([header, message]);
}

function read(chunks: readonly Buffer[], encoding = "identity"): { messages: string[]; fault: FrameFault | null } {
  const messages: string[] = [];
  const reader = new FrameReader(MAX_BYTES, encoding, (bytes) => messages.push(bytes.toString()));
  let fault: FrameFault | null = null;
  for (const chunk of chunks) fault ??= reader.read(chunk);
  return { messages, fault };
}

const TEXTS = ["one", "", "x".repeat(MAX_BYTES), "four"];
const STREAM = Buffer.concat(TEXTS.map((text) => frame(Buffer.from(text))));

test.each([1, 2, 4, 5, 6, 7, 13, STREAM.length - 1, STREAM.length])(
  "messages come whole out of chunks of %i bytes",
  (size) => {
    const count = Math.ceil(STREAM.length / size);
    const chunks = Array.from({ length: count }, (_, index) => STREAM.subarray(index * size, (index + 1) * size));
    expect(read(chunks)).toEqual({ messages: TEXTS, fault: null });
  },
);

test("a message that has not come to its end is none", () => {
  expect(read([STREAM.subarray(0, 8), STREAM.subarray(8, 20)])).toEqual({ messages: ["one", ""], fault: null });
});

test.each<[string, Buffer, string, string[], FrameFault | null]>([
  ["with gzip", frame(gzipSync("packed"), true), "gzip", ["packed"], null],
  ["with deflate", frame(deflateSync("packed"), true), "deflate", ["packed"], null],
  ["with what is not known", frame(Buffer.from("packed"), true), "zstd", [], "encoding_unknown"],
  ["with nothing, it says", frame(Buffer.from("packed"), true), "identity", [], "encoding_unknown"],
  ["with the name of what every object has", frame(Buffer.from("packed"), true), "constructor", [], "encoding_unknown"],
  ["badly", frame(Buffer.from("no gzip"), true), "gzip", [], "malformed"],
  [
    "to less than the limit and more than that when unpacked",
    frame(gzipSync(Buffer.alloc(MAX_BYTES + 1)), true),
    "gzip",
    [],
    "too_large",
  ],
])("a message packed %s", (_name, bytes, encoding, messages, fault) => {
  expect(read([bytes], encoding)).toEqual({ messages, fault });
});

test("a message beyond the limit is refused before it has come", () => {
  const large = frame(Buffer.alloc(0), false, MAX_BYTES + 1);
  expect(read([frame(Buffer.from("a")), large])).toEqual({ messages: ["a"], fault: "too_large" });
});

test("what takes a message may fail for reasons of its own", () => {
  const reader = new FrameReader(MAX_BYTES, "gzip", () => {
    throw new Error("its own");
  });
  expect(() => reader.read(frame(Buffer.from("a")))).toThrow("its own");
});
