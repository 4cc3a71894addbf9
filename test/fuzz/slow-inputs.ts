// Messages of one thing again and again, as large as wanted: what would take quadratic time, if anything does.

import { bytesState, encodeMessage, encodeStruct, type Fields, lengthDelimited, textState } from "../fixtures/als.ts";

const TIMES = 3;

/** CPU time of the fastest run, ms: what else the machine does is not counted. */
export function timeOf(run: () => void, times = TIMES): number {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < times; i++) {
    const before = process.cpuUsage();
    run();
    const { user, system } = process.cpuUsage(before);
    best = Math.min(best, (user + system) / 1000);
  }
  return best;
}

const IDENTIFIER = encodeMessage({ identifier: { node: { id: "sidecar~10.0.0.7~a.ns~ns" }, logName: "outbound" } });

const HTTP_LOGS = 2;
const TCP_LOGS = 3;
const ENTRY = 1;
const COMMON = 1;
const REQUEST = 3;
const RESPONSE = 4;

/** The part as often as there is room. */
function again(part: Buffer, size: number): Buffer {
  return Buffer.concat(Array.from({ length: Math.ceil(size / part.length) }, () => part));
}

function entries(logs: number, content: Buffer): Buffer {
  return Buffer.concat([IDENTIFIER, lengthDelimited(logs, content)]);
}

function entry(...sections: Buffer[]): Buffer {
  return entries(HTTP_LOGS, lengthDelimited(ENTRY, Buffer.concat(sections)));
}

function common(content: Buffer): Buffer {
  return entry(lengthDelimited(COMMON, content), lengthDelimited(REQUEST, lengthDelimited(3, Buffer.from("b"))));
}

function state(value: Fields): Buffer {
  return common(Buffer.concat([filterState(value)]));
}

/** An entry's `filter_state_objects`, cut out of what the encoder makes of it. */
function filterState(value: Fields): Buffer {
  const any = Buffer.concat([
    lengthDelimited(1, Buffer.from(value["type_url"] as string)),
    lengthDelimited(2, value["value"] as Buffer),
  ]);
  return lengthDelimited(
    21,
    Buffer.concat([lengthDelimited(1, Buffer.from("upstream_peer")), lengthDelimited(2, any)]),
  );
}

function path(text: string): Buffer {
  return entry(lengthDelimited(REQUEST, lengthDelimited(5, Buffer.from(text))));
}

function labels(size: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: Math.ceil(size / 20) }, (_, i) => [String(i).padStart(3, "A"), "x"]));
}

function nested(number: number, size: number): Buffer {
  let bytes: Buffer = Buffer.alloc(size);
  for (let depth = 0; depth < 100; depth++) bytes = lengthDelimited(number, bytes);
  return bytes;
}

const FLAGS = Buffer.concat(Array.from({ length: 30 }, (_, i) => varintField(30 - i, i % 2)));

function varintField(number: number, value: number): Buffer {
  const tag = number * 8;
  return Buffer.from(tag < 0x80 ? [tag, value] : [(tag & 0x7f) | 0x80, tag >> 7, value]);
}

/** By name: a message of about so many bytes. */
export const SLOW_INPUTS: ReadonlyMap<string, (size: number) => Buffer> = new Map([
  ["empty entries", (size: number) => entries(HTTP_LOGS, again(Buffer.from([0x0a, 0]), Math.min(size, 120_000)))],
  ["empty TCP entries", (size: number) => entries(TCP_LOGS, again(Buffer.from([0x0a, 0]), Math.min(size, 120_000)))],
  ["broken entries", (size: number) => entries(HTTP_LOGS, again(Buffer.from([0x0a, 1, 0]), Math.min(size, 180_000)))],
  ["log sections", (size: number) => Buffer.concat([IDENTIFIER, again(Buffer.from([0x12, 0]), size)])],
  ["identifiers", (size: number) => again(IDENTIFIER, size)],
  ["sections of an entry", (size: number) => entry(again(Buffer.from([0x0a, 0, 0x1a, 0, 0x22, 0]), size))],
  ["response flags", (size: number) => common(lengthDelimited(16, again(FLAGS, size)))],
  ["sections of response flags", (size: number) => common(again(lengthDelimited(16, FLAGS), size))],
  [
    "alternative names",
    (size: number) => common(lengthDelimited(4, lengthDelimited(5, again(Buffer.from([0x0a, 0]), size)))),
  ],
  ["filter states", (size: number) => common(again(filterState(textState("QUJD")), size))],
  [
    "custom tags",
    (size: number) => common(again(lengthDelimited(22, Buffer.from([0x0a, 1, 0x61, 0x12, 1, 0x62])), size)),
  ],
  ["labels of a peer", (size: number) => state({ ...bytesState(encodeStruct({ LABELS: labels(size) })) })],
  ["LABELS of a peer", (size: number) => state(bytesState(again(encodeStruct({ LABELS: { a: "b" } }), size)))],
  [
    "base64 of labels",
    (size: number) => state(textState(encodeStruct({ LABELS: labels(size * 0.75) }).toString("base64"))),
  ],
  ["base64 of nothing", (size: number) => state(textState("A".repeat(size)))],
  ["zeroes as a peer", (size: number) => state(bytesState(Buffer.alloc(size)))],
  ["a Struct in a Struct", (size: number) => state(bytesState(nested(1, size)))],
  ["a long path", (size: number) => path(`/${"a".repeat(size)}`)],
  ["a path of slashes", (size: number) => path("/".repeat(size))],
  ["a path of digits", (size: number) => path(`/${"1-".repeat(size / 2)}`)],
  ["a path of escapes", (size: number) => path("/%2".repeat(size / 3))],
  ["a path of dots and semicolons", (size: number) => path(`/${".;".repeat(size / 2)}`)],
  [
    "a long authority",
    (size: number) => entry(lengthDelimited(REQUEST, lengthDelimited(3, Buffer.alloc(size, "a;.;")))),
  ],
  ["a long cluster", (size: number) => common(lengthDelimited(15, Buffer.alloc(size, "outbound|80||b.ns.")))],
  [
    "headers",
    (size: number) =>
      entry(lengthDelimited(RESPONSE, again(lengthDelimited(4, Buffer.from([0x0a, 0, 0x12, 0])), size))),
  ],
  ["bytes that are no UTF-8", (size: number) => path(`/${"\ufffd".repeat(size / 3)}`)],
]);
