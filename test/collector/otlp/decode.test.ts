import { describe, expect, test } from "vitest";
import { decodeLogsJson } from "../../../collector/proto/otlp-json.ts";
import { decodeLogs, MAX_RECORDS, type ResourceLogs } from "../../../collector/proto/otlp-logs.ts";
import { encodeLogs, type Fields, keyValues, logsOf, readLogs } from "../../fixtures/otlp.ts";
import { random } from "../../property/random.ts";

function plain(all: ResourceLogs[] | null): unknown {
  return all?.map(({ resource, records, malformed }) => ({
    resource: [...resource],
    records: records.map(({ timeNs, attributes }) => ({ time: String(timeNs), attributes: [...attributes] })),
    malformed,
  }));
}

/** What the oracle's reading comes to: attributes of one value each, of one name the last. */
function expected(bytes: Buffer): unknown {
  const list = (value: unknown) => (value ?? []) as Fields[];
  const attributes = (of: unknown) =>
    new Map(
      list(of).flatMap(({ key, value }) => (scalar(value) === null ? [] : [[key ?? "", scalar(value)] as const])),
    );
  return list(readLogs(bytes)["resourceLogs"]).map(({ resource, scopeLogs }) => ({
    resource: [...attributes((resource as Fields | undefined)?.["attributes"])],
    records: list(scopeLogs).flatMap(({ logRecords }) =>
      list(logRecords).map((record) => ({
        time: String(record["timeUnixNano"] ?? "0"),
        attributes: [...attributes(record["attributes"])],
      })),
    ),
    malformed: 0,
  }));
}

function scalar(value: unknown): string | number | boolean | null {
  const { stringValue, intValue, doubleValue, boolValue } = (value ?? {}) as Fields;
  if (stringValue !== undefined) return stringValue as string;
  if (intValue !== undefined) return Number(intValue);
  if (doubleValue !== undefined) return doubleValue as number;
  return boolValue === undefined ? null : (boolValue as boolean);
}

function randomRequest(next: () => number): Fields {
  const some = <T>(make: () => T, most: number) => Array.from({ length: Math.floor(next() * (most + 1)) }, make);
  const text = () => some(() => ["a", "ß", "€", "𝄞", "-", "\u0000"][Math.floor(next() * 6)], 200).join("");
  const kinds = [
    () => ({ stringValue: text() }),
    () => ({ intValue: Math.floor((next() - 0.5) * 2 ** 53) }),
    () => ({ doubleValue: next() * 1e9 }),
    () => ({ boolValue: next() < 0.5 }),
    () => ({ bytesValue: Buffer.from(text()) }),
    () => ({ arrayValue: { values: [{ stringValue: text() }] } }),
    () => ({ kvlistValue: { values: [{ key: text(), value: { intValue: 1 } }] } }),
    () => ({}),
  ];
  const attributes = () =>
    some(() => ({ key: "ab€"[Math.floor(next() * 3)], value: kinds[Math.floor(next() * kinds.length)]?.() }), 12);
  const record = () => ({
    timeUnixNano: String(BigInt(Math.floor(next() * 2 ** 53)) * 2000n),
    severityText: text(),
    body: { stringValue: text() },
    attributes: attributes(),
    traceId: Buffer.alloc(16, 7),
  });
  return {
    resourceLogs: some(
      () => ({
        resource: { attributes: attributes() },
        scopeLogs: some(() => ({ scope: { name: text() }, logRecords: some(record, 5) }), 3),
      }),
      3,
    ),
  };
}

describe("decodeLogs", () => {
  test("reads what OpenTelemetry's own descriptors read", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const bytes = encodeLogs(randomRequest(random(seed)));
      expect(plain(decodeLogs(bytes)), `seed ${seed}`).toEqual(expected(bytes));
    }
  });

  test("does not throw, whatever the bytes, and takes none of a request that is cut off", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const next = random(seed);
      const bytes = encodeLogs(randomRequest(next));
      const broken = Buffer.from(bytes);
      for (let i = 0; i < 8 && broken.length > 0; i++) broken[Math.floor(next() * broken.length)] = next() * 256;
      decodeLogs(broken);
      if (bytes.length > 0) expect(decodeLogs(bytes.subarray(0, bytes.length - 1)), `seed ${seed}`).toBeNull();
    }
  });

  test("counts a record that is broken in itself, and reads the others", () => {
    const record = Buffer.from([0x32, 0x03, 0x0a, 0x05, 0x41]); // an attribute whose key ends behind the record
    const field = (number: number, bytes: Buffer) =>
      Buffer.concat([Buffer.from([number * 8 + 2, bytes.length]), bytes]);
    const scope = Buffer.concat([field(2, record), field(2, Buffer.alloc(0))]);
    const all = decodeLogs(field(1, field(2, scope)));
    expect(plain(all)).toEqual([{ resource: [], records: [{ time: "0", attributes: [] }], malformed: 1 }]);
  });

  test("takes no request of more records than one may have, and no record of more attributes", () => {
    const scopeLogs = [{ logRecords: Array.from({ length: MAX_RECORDS + 1 }, () => ({})) }];
    expect(decodeLogs(encodeLogs({ resourceLogs: [{ scopeLogs }] }))).toBeNull();
    const many = Object.fromEntries(Array.from({ length: 600 }, (_, i) => [`a${i}`, "x"]));
    expect(decodeLogs(encodeLogs(logsOf([many, { a: "x" }])))?.[0]).toMatchObject({ malformed: 1, records: [{}] });
    expect(decodeLogs(encodeLogs(logsOf([{}], many)))).toBeNull();
  });
});

describe("decodeLogsJson", () => {
  test("reads from JSON what decodeLogs reads from protobuf", () => {
    const request = logsOf([{ a: "text", b: -3, c: 1.5, d: true, e: { arrayValue: { values: [] } } }, {}]);
    expect(plain(decodeLogsJson(JSON.stringify(request)))).toEqual(plain(decodeLogs(encodeLogs(request))));
  });

  test("reads 64-bit integers as text and as numbers", () => {
    const record = { timeUnixNano: "18446744073709551", attributes: [{ key: "n", value: { intValue: "-42" } }] };
    const [logs] = decodeLogsJson(JSON.stringify({ resourceLogs: [{ scopeLogs: [{ logRecords: [record] }] }] })) ?? [];
    expect(logs?.records).toEqual([{ timeNs: 18446744073709551n, attributes: new Map([["n", -42]]) }]);
  });

  test.each([
    "",
    "null",
    "[]",
    "3",
    '{"resourceLogs":3}',
    '{"resourceLogs":[3]}',
    '{"resourceLogs":[{"scopeLogs":{}}]}',
    "[".repeat(100_000),
  ])("takes nothing of %.40s", (text) => {
    expect(decodeLogsJson(text)).toBeNull();
  });

  test("counts records that are none", () => {
    const logRecords = [
      3,
      null,
      { timeUnixNano: "soon" },
      { attributes: [{ key: 3 }] },
      { attributes: keyValues({ a: "b" }) },
    ];
    const [logs] = decodeLogsJson(JSON.stringify({ resourceLogs: [{ scopeLogs: [{ logRecords }] }] })) ?? [];
    expect(logs).toMatchObject({ malformed: 4, records: [{ timeNs: 0n }] });
  });
});
