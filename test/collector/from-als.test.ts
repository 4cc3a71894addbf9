import { describe, expect, test } from "vitest";
import { AlsDecoder, type AlsRecord, type Sender } from "../../collector/record/from-als.ts";
import type { DropReason } from "../../collector/self.ts";
import {
  LABELS,
  OBSERVATION_KIND_OFFSET,
  OBSERVATION_LABEL_COUNT_OFFSET,
  OBSERVATION_VERSION,
} from "../../collector/vocabulary.ts";
import { bytesState, encodeEntry, type Fields, lengthDelimited } from "../fixtures/als.ts";
import { encodeObservation, NEVER_FINISHED, type ObservationFacts } from "../fixtures/observation.ts";
import { key, values } from "./labels.ts";

const STATE = "wasm.meshtally.observation";
const FACTS: ObservationFacts = {
  startMs: 1_767_225_600_123,
  durationMs: 12,
  requestBytes: 2 ** 40 + 1,
  responseBytes: 5,
  labels: values({ reporter: "destination", source_app: "é" }),
};

const DC = { downstreamConnectionTermination: true };

const sender: Sender = new AlsDecoder().identify({
  nodeId: "sidecar~1",
  logName: "inbound",
  metadata: { texts: new Map(), labels: new Map() },
});

function decode(bytes: Buffer): AlsRecord | DropReason {
  return new AlsDecoder().decode(bytes, 0, bytes.length, sender);
}

function decodeObserved(observation: Buffer, more: Fields = {}): AlsRecord | DropReason {
  return decode(
    encodeEntry({ commonProperties: { filterStateObjects: { [STATE]: bytesState(observation) }, ...more } }),
  );
}

describe("an entry with an observation", () => {
  test("is what the filter counted, label set and numbers", () => {
    expect(decodeObserved(encodeObservation(FACTS))).toEqual({
      proxy: "sidecar~1",
      lifeMs: 1_767_225_600_123,
      labelKey: key({ reporter: "destination", source_app: "é" }),
      durationMs: 12,
      requestBytes: 2 ** 40 + 1,
      responseBytes: 5,
      labels: "observation",
    });
  });

  test("of a request that never finished has the duration -1", () => {
    expect(decodeObserved(encodeObservation({ ...FACTS, durationMs: NEVER_FINISHED }))).toMatchObject({
      durationMs: -1,
    });
    expect(decodeObserved(encodeObservation({ ...FACTS, durationMs: 0xffffffffn }))).toMatchObject({
      durationMs: 0xffffffff,
    });
  });

  test("owes nothing to its other fields, not even to broken ones", () => {
    const state = { filterStateObjects: { [STATE]: bytesState(encodeObservation(FACTS)) }, duration: { seconds: 9 } };
    const entry = encodeEntry({ commonProperties: state, request: { requestHeadersBytes: 7 } });
    expect(decode(entry)).toMatchObject({ durationMs: 12, requestBytes: 2 ** 40 + 1 });
    expect(decode(Buffer.concat([entry, lengthDelimited(4, Buffer.from([0xff]))]))).toMatchObject({ durationMs: 12 });
  });

  test.each([
    ["nothing at all", () => Buffer.alloc(0)],
    ["no labels", (bytes: Buffer) => bytes.subarray(0, 40)],
    ["the head cut short", (bytes: Buffer) => bytes.subarray(0, 39)],
    ["a label too few", (bytes: Buffer) => bytes.subarray(0, bytes.length - 8)],
    ["a label cut short", (bytes: Buffer) => bytes.subarray(0, bytes.length - 1)],
    ["a byte too many", (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(1)])],
    ["a value that is no UTF-8", (bytes: Buffer) => patched(bytes, bytes.length - 1, 0xff)],
    ["an older version", (bytes: Buffer) => patched(bytes, 0, OBSERVATION_VERSION - 1)],
    ["another kind", (bytes: Buffer) => patched(bytes, OBSERVATION_KIND_OFFSET, 1)],
    ["another number of labels", (bytes: Buffer) => patched(bytes, OBSERVATION_LABEL_COUNT_OFFSET, LABELS.length - 1)],
  ])("that has %s is malformed", (_name, change) => {
    expect(decodeObserved(change(encodeObservation(FACTS)))).toBe("entry_malformed");
  });
});

test("an observation of a newer version is passed over: the entry is derived, of a process life that it does not tell", () => {
  const newer = patched(encodeObservation(FACTS), 0, OBSERVATION_VERSION + 1);
  const derived = { lifeMs: 0, durationMs: 2000, labels: "derived" };
  expect(decodeObserved(newer, { duration: { seconds: 2 } })).toMatchObject(derived);
  expect(decodeObserved(newer.subarray(0, 1), { duration: { seconds: 2 } })).toMatchObject(derived);
});

describe("an entry without one", () => {
  test("is derived from its fields, of a process life that it does not tell", () => {
    const entry = encodeEntry({
      commonProperties: { duration: { seconds: 2, nanos: 345_999_999 }, timeToLastDownstreamTxByte: { seconds: 1 } },
      request: { requestHeadersBytes: 100, requestBodyBytes: 20 },
      response: { responseCode: { value: 200 }, responseHeadersBytes: 2 ** 33, responseBodyBytes: 1 },
    });
    expect(decode(entry)).toMatchObject({
      proxy: "sidecar~1",
      lifeMs: 0,
      durationMs: 2345,
      requestBytes: 120,
      responseBytes: 2 ** 33 + 1,
      labels: "derived",
    });
  });

  test("takes the time to the last byte where the duration is absent, and has -1 without either", () => {
    const entry = (commonProperties: Fields) => decode(encodeEntry({ commonProperties, request: { path: "/" } }));
    expect(entry({ timeToLastDownstreamTxByte: { nanos: 7_000_000 } })).toMatchObject({ durationMs: 7 });
    expect(entry({})).toMatchObject({ durationMs: -1, requestBytes: 0, responseBytes: 0 });
  });

  test.each<[string, Fields]>([
    ["nothing", {}],
    [
      "empty messages",
      { request: { authority: "", path: "", requestHeadersBytes: 0 }, response: { responseCode: {} } },
    ],
    [
      "the flag DC and a duration",
      { commonProperties: { responseFlags: DC, duration: { nanos: 5 }, accessLogType: 6 } },
    ],
    ["bytes on the wire", { request: { downstreamHeaderBytesReceived: 40 }, response: { responseCode: { value: 0 } } }],
  ])("that has %s is of no request", (_name, fields) => {
    expect(decode(encodeEntry(fields))).toBe("no_request");
  });

  test.each<[string, Fields]>([
    ["header bytes", { request: { requestHeadersBytes: 1 } }],
    ["an authority", { request: { authority: "a" } }],
    ["a path", { request: { path: "/" } }],
    ["a response code", { response: { responseCode: { value: 400 } } }],
  ])("that has %s is of a request, also if the client went away", (_name, fields) => {
    expect(decode(encodeEntry({ commonProperties: { responseFlags: DC }, ...fields }))).toMatchObject({
      labels: "derived",
    });
  });

  test("of which a field is broken is malformed", () => {
    expect(decode(lengthDelimited(3, Buffer.from([0xff])))).toBe("entry_malformed");
    expect(decode(Buffer.from([0xff]))).toBe("entry_malformed");
  });
});

describe("what counts is the end of a request", () => {
  test.each([
    [0, true],
    [1, false],
    [2, false],
    [3, false],
    [4, false],
    [5, false],
    [6, true],
    [7, false],
    [8, false],
    [9, false],
    [10, false],
    [77, false],
  ])("an entry of access_log_type %i: %s", (accessLogType, isCounted) => {
    const observed = decodeObserved(encodeObservation(FACTS), { accessLogType });
    const derived = decode(encodeEntry({ commonProperties: { accessLogType }, request: { path: "/" } }));
    expect(typeof observed).toBe(isCounted ? "object" : "string");
    expect(typeof derived).toBe(isCounted ? "object" : "string");
    if (!isCounted) expect([observed, derived]).toEqual(["not_final", "not_final"]);
  });
});

test("an entry reads the same again, and wherever in a message it lies", () => {
  const decoder = new AlsDecoder();
  const bytes = encodeEntry({
    commonProperties: { filterStateObjects: { [STATE]: bytesState(encodeObservation(FACTS)) } },
  });
  const first = decoder.decode(bytes, 0, bytes.length, sender);
  const again = decoder.decode(Buffer.concat([Buffer.alloc(3), bytes]), 3, 3 + bytes.length, sender);
  expect(again).toEqual(first);
});

function patched(bytes: Buffer, at: number, value: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = value;
  return copy;
}
