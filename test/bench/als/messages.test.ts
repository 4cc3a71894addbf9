// What the load generator sends, read by protobufjs and by the collector's own receiver.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { silentLog } from "../../../collector/log.ts";
import { AlsReceiver } from "../../../collector/receiver/als.ts";
import { SelfMetrics } from "../../../collector/self.ts";
import { unpackLabels } from "../../../collector/series/key.ts";
import { LABELS } from "../../../collector/vocabulary.ts";
import { type Fields, readEntry, readMessage } from "../../fixtures/als.ts";
import { KINDS, type Kind } from "./entry.ts";
import { ENTRIES_PER_MESSAGE, StreamLoad } from "./messages.ts";

const STREAMS = 4;
const SIZE = { messages: 20, labelSets: 100 };
const SMALL = { messages: STREAMS, labelSets: STREAMS };
const NOW_SECONDS = 1_790_000_000;
const GRPC_PREFIX_BYTES = 5;

interface Entry {
  readonly commonProperties: Fields & {
    readonly startTime: { readonly seconds: number };
    readonly duration: { readonly seconds?: number; readonly nanos: number };
    readonly streamId: string;
  };
  readonly request: { readonly path: string; readonly requestId: string };
  readonly response: { readonly responseCode: { readonly value: number } };
}

/** Each once, or as many times as said; copies, since a load writes the next over it. */
function* messagesOf(loads: readonly StreamLoad[], times = 1): Generator<Buffer> {
  for (let i = 0; i < (SIZE.messages / STREAMS) * times; i++) {
    for (const load of loads) yield Buffer.from(load.take(NOW_SECONDS).subarray(GRPC_PREFIX_BYTES));
  }
}

function entriesOf(message: Buffer): Entry[] {
  const { httpLogs } = readMessage(message) as unknown as { httpLogs: { logEntry: Entry[] } };
  return httpLogs.logEntry;
}

const TIMES = 3;

describe.each(KINDS)("messages of kind %s", (kind) => {
  const loads = StreamLoad.encode(kind, STREAMS, SIZE);
  const entries = [...messagesOf(loads, TIMES)].flatMap(entriesOf);

  test("have the prefix of gRPC", () => {
    for (const load of loads) {
      for (const message of [load.first, load.take(NOW_SECONDS)]) {
        expect(message[0]).toBe(0);
        expect(message.readUInt32BE(1)).toBe(message.length - GRPC_PREFIX_BYTES);
      }
    }
  });

  test("have 20 entries, began in the second before, and no id comes twice however often they are sent", () => {
    expect(entries).toHaveLength(TIMES * SIZE.messages * ENTRIES_PER_MESSAGE);
    for (const { commonProperties, request } of entries) {
      expect(commonProperties.startTime.seconds).toBe(NOW_SECONDS - 1);
      expect(request.requestId).toBe(commonProperties.streamId);
    }
    expect(new Set(entries.map(({ commonProperties }) => commonProperties.streamId)).size).toBe(entries.length);
  });

  test("have many paths of few endpoints, all their digits drawn anew", () => {
    const paths = entries.map(({ request }) => request.path);
    expect(paths.filter((path) => path.includes("#"))).toEqual([]);
    expect(new Set(paths).size).toBeGreaterThan(paths.length * 0.6);
    const endpoints = new Set(paths.map((path) => path.replace(/\d{2,}/g, "#")));
    expect(endpoints.size).toBeGreaterThan(20);
    expect(endpoints.size).toBeLessThanOrEqual(200);
  });

  test("are of errors to a hundredth, and mostly of code 200", () => {
    const codes = entries.map(({ response }) => response.responseCode.value);
    const share = (of: (code: number) => boolean) => codes.filter(of).length / codes.length;
    expect(share((code) => code >= 400)).toBeCloseTo(0.01, 2);
    expect(share((code) => code === 200)).toBeGreaterThan(0.8);
  });

  test("have latencies around 12 ms, a few of them much longer", () => {
    const milliseconds = entries
      .map(({ commonProperties: { duration } }) => (duration.seconds ?? 0) * 1000 + duration.nanos / 1e6)
      .sort((a, b) => a - b);
    const at = (share: number) => milliseconds[Math.floor(milliseconds.length * share)] as number;
    expect(at(0.5)).toBeGreaterThan(10);
    expect(at(0.5)).toBeLessThan(14);
    expect(at(0.99)).toBeGreaterThan(100);
    expect(at(0.99)).toBeLessThan(300);
  });

  test("are the same in each run", () => {
    const bytes = () => Buffer.concat([...messagesOf(StreamLoad.encode(kind, STREAMS, SMALL))]);
    expect(bytes().equals(bytes())).toBe(true);
  });
});

test("an entry has 1 KB, and what the filter observed comes on top", () => {
  const mean = (kind: Kind) => {
    const messages = [...messagesOf(StreamLoad.encode(kind, STREAMS, SIZE))];
    return messages.reduce((sum, { length }) => sum + length, 0) / messages.length / ENTRIES_PER_MESSAGE;
  };
  const derived = mean("derived");
  expect(derived).toBeGreaterThan(820);
  expect(derived).toBeLessThan(1230);
  expect(mean("observation") - derived).toBeGreaterThan(200);
  expect(mean("observation") - derived).toBeLessThan(400);
});

test("each stream begins with another node or another listener of it", () => {
  const names = StreamLoad.encode("derived", STREAMS, SMALL).map(({ first }) => {
    const { identifier } = readMessage(first.subarray(GRPC_PREFIX_BYTES)) as {
      identifier: { node: { id: string }; logName: string };
    };
    return `${identifier.logName} of ${identifier.node.id}`;
  });
  expect(new Set(names).size).toBe(STREAMS);
  expect(names[0]).toMatch(/^inbound of sidecar~10\.244\.\d+\.\d+~cart-api-v1-a-\w+-\w+\.cart~/);
});

test("an entry has the fields that a real Envoy's has", () => {
  // The certificates of the captured mesh have names besides their URIs, as Istio's have not; its requests no bodies.
  const elsewhere = /CertificateProperties\.(subject|issuer)$/;
  for (const [stream, name] of ["inbound-200", "outbound-200"].entries()) {
    const file = join(import.meta.dirname, "..", "..", "fixtures", "envoy-als", `${name}.bin`);
    const captured = fieldNames(readEntry(readFileSync(file))).filter((field) => !elsewhere.test(field));
    const message = StreamLoad.encode("observation", STREAMS, SIZE)[stream]?.take(NOW_SECONDS) as Buffer;
    const made = new Set(entriesOf(message.subarray(GRPC_PREFIX_BYTES)).flatMap((entry) => fieldNames({ ...entry })));
    expect(captured.filter((field) => !made.has(field) && !field.includes("customTags"))).toEqual([]);
  }
});

/** `request.path` and so on; those of maps and lists by the name of the map or list. */
function fieldNames(fields: Fields, prefix = ""): string[] {
  return Object.entries(fields).flatMap(([name, value]) => {
    const path = prefix + name;
    const isLeaf = typeof value !== "object" || value === null || Array.isArray(value) || name === "filterStateObjects";
    return isLeaf ? [path] : fieldNames(value as Fields, `${path}.`);
  });
}

test("both kinds lead to the same label sets, as many as wanted", () => {
  const [observed, derived] = KINDS.map(labelSetsOf) as [Set<string>, Set<string>];
  expect([...derived].filter((set) => !observed.has(set)).slice(0, 1)).toEqual([]);
  expect([...observed].filter((set) => !derived.has(set)).slice(0, 1)).toEqual([]);
  expect(observed.size).toBeGreaterThanOrEqual(SIZE.labelSets);
  expect(observed.size).toBeLessThan(SIZE.labelSets * 1.1);
});

/** Readable, for a difference to be seen. */
function labelSetsOf(kind: Kind): Set<string> {
  const keys = new Set<string>();
  const sink = ({ labelKey }: { labelKey: string }) => {
    keys.add(labelKey);
    return null;
  };
  const receiver = new AlsReceiver({ sink, connectionSink: () => null, self: new SelfMetrics("test"), log: silentLog });
  const loads = StreamLoad.encode(kind, STREAMS, SIZE);
  const streams = loads.map(({ first }) => {
    const stream = receiver.open();
    stream?.message(first.subarray(GRPC_PREFIX_BYTES));
    return stream;
  });
  let i = 0;
  for (const message of messagesOf(loads)) streams[i++ % STREAMS]?.message(message);
  return new Set([...keys].map(readable));
}

function readable(key: string): string {
  const values = unpackLabels(key) ?? [];
  return LABELS.map((name, at) => `${name}=${values[at]}`).join(" ");
}
