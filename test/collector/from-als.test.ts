import { describe, expect, test } from "vitest";
import { AlsDecoder, type Sender } from "../../collector/record/from-als.ts";
import type { AccessRecord } from "../../collector/record/record.ts";
import type { DropReason } from "../../collector/self.ts";
import {
  HttpMetric,
  LABELS,
  OBSERVATION_KIND_HTTP_SPLIT,
  OBSERVATION_KIND_OFFSET,
  OBSERVATION_LABEL_COUNT_OFFSET,
  OBSERVATION_VERSION,
} from "../../collector/vocabulary.ts";
import { bytesState, encodeEntry, type Fields, lengthDelimited } from "../fixtures/als.ts";
import {
  encodeObservation,
  encodeSplitObservation,
  NEVER_FINISHED,
  type ObservationFacts,
  type ObservedLabels,
} from "../fixtures/observation.ts";
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

type Decoded = AccessRecord & { readonly labels: string };

/** The one record of an entry and where its labels came from; why there is none. */
function decode(bytes: Buffer): Decoded | string {
  const { outcome, records } = decodeAll(bytes);
  const [record] = records;
  expect(records.length).toBeLessThan(2);
  return record ? { ...record, labels: outcome } : outcome;
}

function decodeAll(bytes: Buffer, refusals: readonly (DropReason | null)[] = []) {
  const records: AccessRecord[] = [];
  const sink = (record: AccessRecord) => {
    records.push(record);
    return refusals[records.length - 1] ?? null;
  };
  return { outcome: new AlsDecoder().decode(bytes, 0, bytes.length, sender, sink), records };
}

function entryWith(observation: Buffer, more: Fields = {}): Buffer {
  return encodeEntry({ commonProperties: { filterStateObjects: { [STATE]: bytesState(observation) }, ...more } });
}

function decodeObserved(observation: Buffer, more: Fields = {}): Decoded | string {
  return decode(entryWith(observation, more));
}

describe("an entry with an observation", () => {
  test("is what the filter counted, label set and numbers", () => {
    expect(decodeObserved(encodeObservation(FACTS))).toEqual({
      proxy: "sidecar~1",
      lifeMs: 1_767_225_600_123,
      labelKey: key({ reporter: "destination", source_app: "é" }),
      requests: 1,
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
    ["the other kind", (bytes: Buffer) => patched(bytes, OBSERVATION_KIND_OFFSET, OBSERVATION_KIND_HTTP_SPLIT)],
    ["another number of labels", (bytes: Buffer) => patched(bytes, OBSERVATION_LABEL_COUNT_OFFSET, LABELS.length - 1)],
  ])("that has %s is malformed", (_name, change) => {
    expect(decodeObserved(change(encodeObservation(FACTS)))).toBe("entry_malformed");
  });
});

describe("an entry of which some metrics were not recorded", () => {
  const omitting = (...omitted: HttpMetric[]) => decodeObserved(encodeObservation({ ...FACTS, omitted }));

  test.each<[HttpMetric[], object]>([
    [[HttpMetric.Requests], { requests: 0, durationMs: 12, requestBytes: 2 ** 40 + 1, responseBytes: 5 }],
    [[HttpMetric.Duration], { requests: 1, durationMs: -1, requestBytes: 2 ** 40 + 1, responseBytes: 5 }],
    [[HttpMetric.RequestBytes], { requests: 1, durationMs: 12, requestBytes: -1, responseBytes: 5 }],
    [[HttpMetric.ResponseBytes], { requests: 1, durationMs: 12, requestBytes: 2 ** 40 + 1, responseBytes: -1 }],
    [
      [HttpMetric.Requests, HttpMetric.ResponseBytes],
      { requests: 0, durationMs: 12, requestBytes: 2 ** 40 + 1, responseBytes: -1 },
    ],
  ])("tells nothing of those: %j", (omitted, numbers) => {
    expect(omitting(...omitted)).toMatchObject(numbers);
  });

  test("is counted and gives no record where none was", () => {
    const { Requests, Duration, RequestBytes, ResponseBytes } = HttpMetric;
    expect(omitting(Requests, Duration, RequestBytes, ResponseBytes)).toBe("observation");
    const omitted = [Requests, RequestBytes, ResponseBytes];
    expect(decodeObserved(encodeObservation({ ...FACTS, durationMs: NEVER_FINISHED, omitted }))).toBe("observation");
  });

  test("may omit metrics that are not known here", () => {
    const bytes = encodeObservation(FACTS);
    expect(decodeObserved(patched(bytes, 3, 0xf0))).toEqual(decodeObserved(bytes));
  });
});

describe("an entry whose metrics carry different label sets", () => {
  const { Requests, Duration, RequestBytes, ResponseBytes } = HttpMetric;
  const COUNTED = values({ reporter: "source", response_code: "200" });
  const SIZED = values({ reporter: "source", response_code: "" });
  const SETS: readonly ObservedLabels[] = [
    { metrics: [Requests, Duration], labels: COUNTED },
    { metrics: [RequestBytes, ResponseBytes], labels: SIZED },
  ];
  const split = (sets: readonly ObservedLabels[] = SETS, omitted: HttpMetric[] = []) =>
    encodeSplitObservation({ ...FACTS, omitted }, sets);

  test("gives a record for each, with its metrics alone", () => {
    const { outcome, records } = decodeAll(entryWith(split()));
    const common = { proxy: "sidecar~1", lifeMs: FACTS.startMs };
    expect(outcome).toBe("observation");
    expect(records).toEqual([
      {
        ...common,
        labelKey: key({ reporter: "source", response_code: "200" }),
        requests: 1,
        durationMs: 12,
        requestBytes: -1,
        responseBytes: -1,
      },
      {
        ...common,
        labelKey: key({ reporter: "source", response_code: "" }),
        requests: 0,
        durationMs: -1,
        requestBytes: 2 ** 40 + 1,
        responseBytes: 5,
      },
    ]);
  });

  test("may omit a metric, and gives none for a label set of a duration that there is not", () => {
    const sets: ObservedLabels[] = [
      { metrics: [Duration], labels: COUNTED },
      { metrics: [Requests, ResponseBytes], labels: SIZED },
    ];
    expect(decodeAll(entryWith(split(sets, [RequestBytes]))).records).toMatchObject([
      { requests: 0, durationMs: 12, requestBytes: -1, responseBytes: -1 },
      { requests: 1, durationMs: -1, requestBytes: -1, responseBytes: 5 },
    ]);
    const unfinished = encodeSplitObservation({ ...FACTS, durationMs: NEVER_FINISHED, omitted: [RequestBytes] }, sets);
    expect(decodeAll(entryWith(unfinished)).records).toMatchObject([{ requests: 1, responseBytes: 5 }]);
  });

  test("is dropped for the sink's reason though another of its records was taken", () => {
    const { outcome, records } = decodeAll(entryWith(split()), ["cells_full", null]);
    expect(outcome).toBe("cells_full");
    expect(records).toHaveLength(2);
  });

  const FIRST_SET = 40 + 1;
  test.each<[string, Buffer]>([
    ["no count", split().subarray(0, 40)],
    ["no label set", split([])],
    ["a label set too few", patched(split(), 40, 3)],
    ["a label set too many", patched(split(), 40, 1)],
    ["no metrics for a label set", patched(split(), FIRST_SET, 0)],
    ["a metric in two label sets", patched(split(), FIRST_SET, 0b0111)],
    ["a metric both omitted and there", split(SETS, [Duration])],
    ["a metric neither omitted nor there", patched(split(), FIRST_SET, 0b0001)],
    ["a label cut short", split().subarray(0, -1)],
    ["a byte too many", Buffer.concat([split(), Buffer.alloc(1)])],
    ["a value that is no UTF-8", patched(split(), split().length - 1, 0xff)],
    ["another number of labels", patched(split(), OBSERVATION_LABEL_COUNT_OFFSET, LABELS.length - 1)],
    ["an older version", patched(split(), 0, OBSERVATION_VERSION - 1)],
  ])("that has %s is malformed, and none of it is taken", (_name, bytes) => {
    expect(decodeAll(entryWith(bytes))).toEqual({ outcome: "entry_malformed", records: [] });
  });
});

test("an observation of a kind that is not known here is no malformed one, and not derived: stats count the request", () => {
  const newer = patched(encodeObservation(FACTS), OBSERVATION_KIND_OFFSET, OBSERVATION_KIND_HTTP_SPLIT + 1);
  expect(decodeObserved(newer, { duration: { seconds: 2 } })).toBe("kind_unknown");
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
  const bytes = entryWith(encodeObservation(FACTS));
  const shifted = Buffer.concat([Buffer.alloc(3), bytes]);
  const records: AccessRecord[] = [];
  const sink = (record: AccessRecord) => {
    records.push(record);
    return null;
  };
  decoder.decode(bytes, 0, bytes.length, sender, sink);
  decoder.decode(shifted, 3, shifted.length, sender, sink);
  expect(records).toHaveLength(2);
  expect(records[1]).toEqual(records[0]);
});

function patched(bytes: Buffer, at: number, value: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = value;
  return copy;
}

test("a sender is told from one whose labels are its metadata", () => {
  const decoder = new AlsDecoder();
  const identifier = { nodeId: "envoy", logName: "" };
  const facts = new Map([["app", "web"]]);
  const labelled = decoder.identify({ ...identifier, metadata: { texts: new Map(), labels: facts } });
  const named = decoder.identify({ ...identifier, metadata: { texts: facts, labels: new Map() } });
  expect([labelled.own.app, named.own.app]).toEqual(["web", ""]);
  expect(decoder.identify({ ...identifier, metadata: { texts: facts, labels: new Map() } })).toBe(named);
});
