import { expect, test } from "vitest";
import { decodeAlsMessage } from "../../collector/proto/als.ts";
import {
  encodeEntry,
  encodeMessage,
  encodeTcpEntry,
  type Fields,
  lengthDelimited,
  readMessage,
  structFields,
} from "../fixtures/als.ts";
import { randomMessage } from "../fixtures/als-random.ts";
import { random } from "../property/random.ts";

const HTTP_LOGS = 2;
const TCP_LOGS = 3;
const LOG_ENTRY = 1;

test("200 random messages read as the oracle reads them: sender, log name, metadata, entries", () => {
  const draw = random(1);
  for (let i = 0; i < 200; i++) {
    const bytes = encodeMessage(randomMessage(draw));
    const expected = readMessage(bytes) as { identifier?: Fields; httpLogs?: Fields; tcpLogs?: Fields };
    const message = decodeAlsMessage(bytes);
    expect(message?.identifier ?? null).toEqual(expectedIdentifier(expected.identifier));
    expect(message?.tcpEntries.length).toBe(2 * entriesOf(expected.tcpLogs).length);
    const spans = message?.httpEntries ?? [];
    const entries = entriesOf(expected.httpLogs);
    expect(spans.length).toBe(2 * entries.length);
    entries.forEach((entry, j) => {
      // protobuf has many forms, but one writer has one: the same entry, written again, is the same bytes.
      expect(bytes.subarray(spans[2 * j], spans[2 * j + 1])).toEqual(encodeEntry(entry));
    });
    entriesOf(expected.tcpLogs).forEach((entry, j) => {
      const [start, stop] = message?.tcpEntries.slice(2 * j) ?? [];
      expect(bytes.subarray(start, stop)).toEqual(encodeTcpEntry(entry));
    });
  }
});

test("an empty message is legal: no sender, no entries", () => {
  expect(decodeAlsMessage(Buffer.alloc(0))).toEqual({ identifier: null, httpEntries: [], tcpEntries: [] });
});

test("an identifier in pieces is put together, also behind the entries", () => {
  const bytes = Buffer.concat([
    encodeMessage({ identifier: { node: { id: "old", metadata: structFields({ NAME: "a" }) }, logName: "log" } }),
    encodeMessage({ httpLogs: { logEntry: [{}] } }),
    encodeMessage({ identifier: { node: { id: "new", metadata: structFields({ NAMESPACE: "ns" }) } } }),
  ]);
  const message = decodeAlsMessage(bytes);
  expect(message?.identifier).toMatchObject({ nodeId: "new", logName: "log" });
  expect(message?.identifier?.metadata.texts).toEqual(
    new Map([
      ["name", "a"],
      ["namespace", "ns"],
    ]),
  );
  expect(message?.httpEntries.length).toBe(2);
});

test("entries in several batches, of either kind, are all there", () => {
  const bytes = Buffer.concat([
    encodeMessage({ httpLogs: { logEntry: [{}, {}] } }),
    encodeMessage({ tcpLogs: { logEntry: [{}] } }),
    encodeMessage({ httpLogs: { logEntry: [{}] } }),
  ]);
  expect(decodeAlsMessage(bytes)).toMatchObject({ tcpEntries: { length: 2 }, httpEntries: { length: 6 } });
});

test("an entry's own bytes are not looked at: broken ones leave the message whole", () => {
  const broken = lengthDelimited(HTTP_LOGS, lengthDelimited(LOG_ENTRY, Buffer.from([0xff, 0xff])));
  expect(decodeAlsMessage(broken)?.httpEntries).toEqual([4, 6]);
});

test("a message of more entries than can be real ones, or a node id beyond 1 KiB, is refused", () => {
  const entries = (count: number) => lengthDelimited(HTTP_LOGS, Buffer.alloc(count * 2, Buffer.from([0x0a, 0])));
  expect(decodeAlsMessage(entries(65_536))?.httpEntries.length).toBe(2 * 65_536);
  expect(decodeAlsMessage(entries(65_537))).toBeNull();
  const tcp = lengthDelimited(TCP_LOGS, Buffer.from([0x0a, 0]));
  expect(decodeAlsMessage(Buffer.concat([entries(65_535), tcp]))?.tcpEntries.length).toBe(2);
  expect(decodeAlsMessage(Buffer.concat([entries(65_536), tcp]))).toBeNull();
  const named = (length: number) => encodeMessage({ identifier: { node: { id: "x".repeat(length) } } });
  expect(decodeAlsMessage(named(1024))?.identifier?.nodeId.length).toBe(1024);
  expect(decodeAlsMessage(named(1025))).toBeNull();
});

test.each([
  ["the message", Buffer.from([0x0a, 200])],
  ["the batch of HTTP entries", lengthDelimited(HTTP_LOGS, Buffer.from([0x0a, 5, 0]))],
  ["the batch of TCP entries", lengthDelimited(TCP_LOGS, Buffer.from([0x0a, 5, 0]))],
  ["the identifier", lengthDelimited(1, Buffer.from([0x0a, 5, 0]))],
  ["the node", lengthDelimited(1, lengthDelimited(1, Buffer.from([0x0a, 5, 0])))],
  ["the metadata", lengthDelimited(1, lengthDelimited(1, lengthDelimited(3, Buffer.from([0x0a, 5, 0]))))],
])("with %s broken no entry is taken, not even one before the break", (_name, broken) => {
  expect(decodeAlsMessage(Buffer.concat([encodeMessage({ httpLogs: { logEntry: [{}] } }), broken]))).toBeNull();
});

function entriesOf(logs: Fields | undefined): Fields[] {
  return (logs?.["logEntry"] as Fields[] | undefined) ?? [];
}

interface OracleStruct {
  readonly fields?: Readonly<Record<string, { stringValue?: string; structValue?: OracleStruct }>>;
}

function expectedIdentifier(identifier: Fields | undefined) {
  if (identifier === undefined) return null;
  const node = identifier["node"] as { id?: string; metadata?: OracleStruct };
  const texts = new Map<string, string>();
  const labels = new Map<string, string>();
  for (const [key, value] of Object.entries(node.metadata?.fields ?? {})) {
    if (value.stringValue !== undefined) texts.set(key.toLowerCase(), value.stringValue);
    if (key !== "LABELS") continue;
    for (const [label, { stringValue }] of Object.entries(value.structValue?.fields ?? {})) {
      if (stringValue !== undefined) labels.set(label, stringValue);
    }
  }
  return { nodeId: node.id ?? "", logName: identifier["logName"] ?? "", metadata: { texts, labels } };
}
