import { describe, expect, test } from "vitest";
import { AlsDecoder, type Sender } from "../../collector/record/from-als.ts";
import type { ConnectionRecord } from "../../collector/record/record.ts";
import type { DropReason } from "../../collector/self.ts";
import { packLabels } from "../../collector/series/key.ts";
import {
  LABELS,
  Label,
  OBSERVATION_CLOSED_OFFSET,
  OBSERVATION_KIND_OFFSET,
  OBSERVATION_KIND_TCP,
  OBSERVATION_LABEL_COUNT_OFFSET,
  OBSERVATION_PARTS_OFFSET,
  OBSERVATION_VERSION,
  TcpMetric,
} from "../../collector/vocabulary.ts";
import { bytesState, encodeEntry, encodeTcpEntry, type Fields, lengthDelimited } from "../fixtures/als.ts";
import {
  encodeObservation,
  encodeTcpObservation,
  type ObservedConnection,
  type ObservedPart,
  tcpLabels,
} from "../fixtures/observation.ts";
import { values } from "./labels.ts";

const STATE = "wasm.meshtally.observation";
const { Opened, Closed, SentBytes, ReceivedBytes } = TcpMetric;
const ALL = [Opened, Closed, SentBytes, ReceivedBytes];
const NOT_SET = 0;
const CONNECTED = 1;
const PERIODIC = 2;
const END = 3;

const CLIENT = values({ reporter: "source", source_app: "é" });
const KNOWN = values({ reporter: "source", destination_workload: "db" });
const PART: ObservedPart = { sentBytes: 2 ** 40 + 1, receivedBytes: 5, labels: CLIENT };
const CONNECTION: ObservedConnection = { startMs: 1_767_225_600_123, connectionId: 0, parts: [PART] };

const keyOf = (labels: readonly string[]) => packLabels(tcpLabels(labels));

const sender: Sender = new AlsDecoder().identify({
  nodeId: "sidecar~1",
  logName: "outbound",
  metadata: { texts: new Map(), labels: new Map() },
});

function decode(bytes: Buffer, refusal: DropReason | null = null) {
  const records: ConnectionRecord[] = [];
  const outcome = new AlsDecoder().decodeTcp(bytes, 0, bytes.length, sender, (record) => {
    records.push(record);
    return refusal;
  });
  return { outcome, records };
}

function entryWith(observation: Buffer, more: Fields = {}): Buffer {
  return encodeTcpEntry({ commonProperties: { filterStateObjects: { [STATE]: bytesState(observation) }, ...more } });
}

function patched(bytes: Buffer, at: number, value: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = value;
  return copy;
}

describe("an entry with an observation", () => {
  test("is what the filter counted so far", () => {
    const more = { accessLogType: PERIODIC, streamId: "a-b" };
    expect(decode(entryWith(encodeTcpObservation(CONNECTION), more))).toEqual({
      outcome: "observation",
      records: [
        {
          proxy: "sidecar~1",
          lifeMs: 1_767_225_600_123,
          connectionId: 0,
          streamId: "a-b",
          isOver: false,
          parts: [{ labelKey: keyOf(CLIENT), counts: [1, 0, 2 ** 40 + 1, 5] }],
        },
      ],
    });
  });

  test("has several parts where the peer became known late, each with its metrics alone", () => {
    const late = { sentBytes: 9, receivedBytes: 8, labels: KNOWN, metrics: [SentBytes, ReceivedBytes] };
    const observation = encodeTcpObservation({ ...CONNECTION, isClosed: true, parts: [PART, late] });
    expect(decode(entryWith(observation)).records[0]?.parts).toEqual([
      { labelKey: keyOf(CLIENT), counts: [1, 1, 2 ** 40 + 1, 5] },
      { labelKey: keyOf(KNOWN), counts: [0, 0, 9, 8] },
    ]);
  });

  test.each<[string, TcpMetric, readonly number[]]>([
    ["opened", Opened, [0, 1, 7, 6]],
    ["closed", Closed, [1, 0, 7, 6]],
    ["sent bytes", SentBytes, [1, 1, 0, 6]],
    ["received bytes", ReceivedBytes, [1, 1, 7, 0]],
  ])("tells nothing of a metric that was omitted: %s", (_name, omitted, counts) => {
    const metrics = ALL.filter((metric) => metric !== omitted);
    const parts = [{ metrics, sentBytes: 7, receivedBytes: 6, labels: CLIENT }];
    const observation = encodeTcpObservation({ ...CONNECTION, isClosed: true, omitted: [omitted], parts });
    expect(decode(entryWith(observation)).records[0]?.parts[0]?.counts).toEqual(counts);
  });

  test("may have no part at all", () => {
    const { outcome, records } = decode(entryWith(encodeTcpObservation({ ...CONNECTION, omitted: ALL, parts: [] })));
    expect([outcome, records[0]?.parts]).toEqual(["observation", []]);
  });

  test.each([
    [NOT_SET, false, false],
    [NOT_SET, true, true],
    [CONNECTED, false, false],
    [PERIODIC, false, false],
    [PERIODIC, true, true],
    [END, false, true],
    [END, true, true],
  ])("of access_log_type %i, closed %s: the connection is over: %s", (accessLogType, isClosed, isOver) => {
    const observation = encodeTcpObservation({ ...CONNECTION, isClosed });
    expect(decode(entryWith(observation, { accessLogType })).records[0]?.isOver).toBe(isOver);
  });

  test("is dropped for the sink's reason", () => {
    expect(decode(entryWith(encodeTcpObservation(CONNECTION)), "connections_full").outcome).toBe("connections_full");
  });

  const WHOLE = encodeTcpObservation({
    ...CONNECTION,
    parts: [
      { ...PART, metrics: [Opened, SentBytes, ReceivedBytes] },
      { ...PART, labels: KNOWN, metrics: [Closed, SentBytes, ReceivedBytes] },
    ],
  });
  const withParts = (...parts: ObservedPart[]) => encodeTcpObservation({ ...CONNECTION, parts });
  const withLabel = (label: Label) => {
    const labels = packLabels(LABELS.map((_, index) => (index === label ? "0" : "")));
    return Buffer.concat([withParts(PART).subarray(0, OBSERVATION_PARTS_OFFSET + 1 + 17), Buffer.from(labels)]);
  };

  test.each<[string, Buffer]>([
    ["a part too few", patched(WHOLE, OBSERVATION_PARTS_OFFSET, 3)],
    ["a part too many", patched(WHOLE, OBSERVATION_PARTS_OFFSET, 1)],
    ["no part, though there are some", patched(WHOLE, OBSERVATION_PARTS_OFFSET, 0)],
    ["more parts than a filter can have", withParts(...new Array(17).fill({ ...PART, metrics: [] }))],
    ["opened twice", withParts(PART, { ...PART, metrics: [Opened] })],
    ["closed twice", withParts(PART, { ...PART, metrics: [Closed] })],
    ["a metric both omitted and there", encodeTcpObservation({ ...CONNECTION, omitted: [SentBytes] })],
    ["a closed that is neither 0 nor 1", patched(WHOLE, OBSERVATION_CLOSED_OFFSET, 2)],
    ["a byte too many", Buffer.concat([WHOLE, Buffer.alloc(1)])],
    ["a value that is no UTF-8", patched(WHOLE, WHOLE.length - 1, 0xff)],
    ["a response code", withLabel(Label.ResponseCode)],
    ["a gRPC status", withLabel(Label.GrpcResponseStatus)],
    ["another number of labels", patched(WHOLE, OBSERVATION_LABEL_COUNT_OFFSET, LABELS.length - 1)],
    ["an older version", patched(WHOLE, 0, OBSERVATION_VERSION - 1)],
  ])("that has %s is malformed, and none of it is taken", (_name, bytes) => {
    expect(decode(entryWith(bytes))).toEqual({ outcome: "entry_malformed", records: [] });
  });

  test("that is cut short anywhere is malformed, and none of it is taken", () => {
    expect(decode(entryWith(WHOLE)).outcome).toBe("observation");
    expect(decode(entryWith(withLabel(Label.SourceApp))).outcome).toBe("observation");
    const taken = [...WHOLE.keys()].filter((length) => {
      const { outcome, records } = decode(entryWith(WHOLE.subarray(0, length)));
      return outcome !== "entry_malformed" || records.length > 0;
    });
    expect(taken).toEqual([]);
  });

  test("of another kind is none of a connection, nor that of a connection one of a request: stats count what it says", () => {
    const numbers = { startMs: 1, durationMs: 1, requestBytes: 1, responseBytes: 1 };
    const ofRequest = encodeObservation({ ...numbers, labels: CLIENT });
    const newer = patched(WHOLE, OBSERVATION_KIND_OFFSET, OBSERVATION_KIND_TCP + 1);
    for (const bytes of [ofRequest, newer]) {
      expect(decode(entryWith(bytes))).toEqual({ outcome: "kind_unknown", records: [] });
    }
    const entry = encodeEntry({ commonProperties: { filterStateObjects: { [STATE]: bytesState(WHOLE) } } });
    expect(new AlsDecoder().decode(entry, 0, entry.length, sender, () => null)).toBe("kind_unknown");
  });
});

describe("an entry without one", () => {
  const connectionProperties = { sentBytes: 7, receivedBytes: 5 };
  const derive = (commonProperties: Fields) => decode(encodeTcpEntry({ commonProperties, connectionProperties }));

  test.each([
    [NOT_SET, true],
    [PERIODIC, false],
    [END, true],
  ])("of access_log_type %i is what its fields say, and its connection over: %s", (accessLogType, isOver) => {
    const { outcome, records } = derive({ accessLogType, streamId: "a" });
    expect(outcome).toBe("derived");
    const parts = [{ counts: [1, isOver ? 1 : 0, 7, 5] }];
    expect(records).toMatchObject([{ proxy: "sidecar~1", lifeMs: 0, streamId: "a", isOver, parts }]);
  });

  test.each([CONNECTED, 4, 5, 6, 12, 77])("of access_log_type %i is neither a period nor an end", (accessLogType) => {
    expect(derive({ accessLogType, streamId: "a" })).toEqual({ outcome: "not_final", records: [] });
  });

  test("is what is left where the observation is of a newer version", () => {
    const newer = patched(encodeTcpObservation(CONNECTION), 0, OBSERVATION_VERSION + 1);
    expect(decode(entryWith(newer))).toMatchObject({ outcome: "derived", records: [{ lifeMs: 0 }] });
  });

  const broken = Buffer.from([0xff]);
  test.each<[string, Buffer]>([
    ["the entry", broken],
    ["the common properties", lengthDelimited(1, broken)],
    ["the connection properties", lengthDelimited(2, broken)],
    ["an address", lengthDelimited(1, lengthDelimited(3, broken))],
    ["a socket address", lengthDelimited(1, lengthDelimited(3, lengthDelimited(1, broken)))],
  ])("of which %s is broken is malformed", (_name, bytes) => {
    expect(decode(bytes)).toEqual({ outcome: "entry_malformed", records: [] });
  });

  test("has no stream id if that is longer than any", () => {
    expect(derive({ streamId: "x".repeat(128) }).records[0]?.streamId).toHaveLength(128);
    expect(derive({ streamId: "x".repeat(129) }).records[0]?.streamId).toBe("");
  });
});
